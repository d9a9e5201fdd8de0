"""The ``Authorization`` header, as far as bearer tokens go (RFC 6750, section 2.1).

Two verifiers share the scheme. What tells their tokens apart is the dot: every JSON Web Token has
one (RFC 7515, section 3.1), and no static token may.
"""

from __future__ import annotations

from purista.verifying.port import Incoming


def bearer_token(incoming: Incoming) -> str | None:
    """Return what stands behind ``Bearer``, well-formed or not; None where nothing does.

    Raises ``VerificationError`` when the header is there twice.
    """
    value = incoming.header("authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None


def is_json_web_token(token: str) -> bool:
    """Whether a token is for the verifier of OIDC, right or wrong."""
    return "." in token

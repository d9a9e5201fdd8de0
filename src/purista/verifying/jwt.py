"""Signed JSON Web Tokens, read strictly: nothing that a token says about itself is believed.

Held to RFC 8725, the best current practices: an allow list of algorithms, keys only of the issuer's set,
and no header that names another key or changes what is signed.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from purista.errors import MissingExtraError, VerificationError
from purista.jsonvalue import NotJsonError, read_document

if TYPE_CHECKING:
    from joserfc.jwk import Key

SIGNING: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
)
"""What may be allowed: asymmetric algorithms. ``none`` and ``HS*`` (RFC 8725, section 2.1) never are."""

MAX_LENGTH: Final = 8192
"""Characters of a token; those of Google have about 1,000."""

TYPES: Final = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})
"""Values of ``typ``: ID tokens and access tokens (RFC 9068), no others (RFC 8725, section 3.11)."""

REFUSED: Final = frozenset({"b64", "crit", "cty", "enc", "jku", "jwk", "x5c", "x5u", "zip"})
"""Headers that bring or name a key, nest a token, or change how it is to be read."""

MIN_RSA_BITS: Final = 2048
"""RFC 7518, section 3.3."""

_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")

_MEMBERS: Final = {
    "RSA": ("kty", "n", "e", "use", "key_ops", "alg"),
    "EC": ("kty", "crv", "x", "y", "use", "key_ops", "alg"),
}


@dataclass(frozen=True, slots=True)
class Header:
    """What is asked of a token before its signature is checked."""

    algorithm: str
    key_id: str


def header_of(token: str, algorithms: Collection[str]) -> Header:
    """Return the header of a token.

    Raises ``VerificationError``: ``token_too_large``, ``malformed_token``, ``algorithm_refused``,
    ``header_refused``, ``type_refused``.
    """
    if len(token) > MAX_LENGTH:
        raise VerificationError("token_too_large", f"the token is longer than {MAX_LENGTH}")
    if not _FORM.fullmatch(token):
        raise _malformed("it does not have three parts in base64url")
    header = _object(_decoded(token.partition(".")[0]), "its header")
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        raise VerificationError("algorithm_refused", "the token's algorithm is not allowed")
    if refused := sorted(REFUSED & header.keys()):
        raise VerificationError("header_refused", f"the token has the header '{refused[0]}'")
    if not _is_type(header.get("typ", "JWT")):
        raise VerificationError("type_refused", "the token is of another type")
    if not isinstance(key_id, str):
        raise _malformed("it names no key")
    return Header(algorithm, key_id)


def claims_of(token: str, header: Header, keys: Sequence[Key]) -> dict[str, Any]:
    """Return the claims of a token that one of the keys signed.

    Raises ``VerificationError``: ``malformed_token``, ``wrong_signature``.
    """
    from joserfc import errors, jws

    registry = jws.JWSRegistry(algorithms=[header.algorithm], strict_check_header=False)
    for key in keys:
        try:
            signed = jws.deserialize_compact(token, key, registry=registry)
        except (errors.JoseError, ValueError, TypeError):
            continue  # Another key of the same id, or of another kind than the algorithm.
        return _object(signed.payload or b"", "its payload")
    raise VerificationError("wrong_signature", "the token's signature is not its issuer's")


def key_set(document: bytes) -> dict[str, list[Key]]:
    """Return the keys of a JWK Set (RFC 7517, section 5) that can verify, by their ids.

    Keys of other kinds, without an id, too short or broken are left out. Raises ``ValueError`` when
    it is no JWK Set or when none is left.
    """
    listed = _mapping(read_document(document)).get("keys")
    if not isinstance(listed, list):
        raise ValueError("it is no JWK Set")
    found: dict[str, list[Key]] = {}
    for each in listed:
        if isinstance(each, dict) and isinstance(each.get("kid"), str) and (key := _key(each)):
            found.setdefault(each["kid"], []).append(key)
    if not found:
        raise ValueError("it has no key that can be used")
    return found


def need_joserfc() -> None:
    """Raise ``MissingExtraError`` where the library is not installed."""
    try:
        import joserfc.jws  # noqa: F401
    except ImportError:
        raise MissingExtraError("OIDC tokens", "oidc") from None


def _key(document: Mapping[str, Any]) -> Key | None:
    """Import the public half of a key, without what else a set may say of it."""
    from joserfc import errors, jwk

    members = _MEMBERS.get(str(document.get("kty")), ())
    if not members or document.get("use", "sig") != "sig" or _is_short(document):
        return None
    public = {name: document[name] for name in members if name in document}
    try:
        return jwk.import_key(public)
    except (errors.JoseError, ValueError, TypeError, KeyError):
        return None


def _is_short(document: Mapping[str, Any]) -> bool:
    if document.get("kty") != "RSA":
        return False
    modulus = document.get("n")
    if not isinstance(modulus, str):
        return True
    try:
        return int.from_bytes(_decoded(modulus)).bit_length() < MIN_RSA_BITS
    except VerificationError:
        return True


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in TYPES


def _object(text: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object in which no name is there twice (RFC 8725, section 2.4, in spirit)."""
    try:
        value = read_document(text)
    except NotJsonError:
        value = None
    if not isinstance(value, dict):
        raise _malformed(f"{what} is no JSON object, or has a name twice")
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        pass
    raise _malformed("a part of it is no base64url")


def _malformed(what: str) -> VerificationError:
    return VerificationError("malformed_token", f"the token is malformed: {what}")

"""Static bearer tokens, for small installations: one, or two while it is rotated."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from purista.errors import Problem, SettingsError, VerificationError
from purista.verifying.authorization import bearer_token, is_json_web_token
from purista.verifying.port import Caller, Incoming
from purista.verifying.secret import Secret, current, is_monotonous, readings

MIN_LENGTH: Final = 22
"""Characters: 16 random bytes in base64, as a guess is to succeed with a chance of at most 2^-128
(RFC 6749, section 10.10)."""

_FORM: Final = re.compile(r"[A-Za-z0-9_~+/-]+=*")
"""RFC 6750, section 2.1, without the dot."""


class BearerVerifier:
    """Takes ``Authorization: Bearer`` with one of some static ``tokens``.

    Each is a ``Secret`` or its reference (``env:NAME``, ``file:PATH``) of at least 22 characters,
    without a dot: what has one is a JSON Web Token and not this verifier's. Raises ``SettingsError`` for
    no token, and for one that is missing, empty or too short.

    A token is not bound to a request: whoever sees it can send anything until it is replaced.
    """

    scheme: Final = "Bearer"

    def __init__(self, tokens: Sequence[Secret | str] | Secret | str) -> None:
        self._tokens = readings("bearer tokens", tokens, _token)

    def concerns(self, incoming: Incoming) -> bool:
        """Whether the request brings a bearer token that is no JSON Web Token."""
        token = bearer_token(incoming)
        return token is not None and not is_json_web_token(token)

    async def verify(self, incoming: Incoming) -> Caller:
        """Return who sent the request, named by the beginning of the token's SHA-256.

        Raises ``VerificationError``: ``malformed_token``, ``unknown_token``, ``keys_unavailable``.
        """
        token = bearer_token(incoming) or ""
        if not _FORM.fullmatch(token):
            raise VerificationError("malformed_token", "the bearer token is malformed")
        given = hashlib.sha256(token.encode()).digest()
        tokens, problems = current(self._tokens)
        # Each is compared, so that the time tells neither which it is nor how much of it is right.
        matches = [each.name for each in tokens if hmac.compare_digest(each.digest, given)]
        if matches:
            return Caller("bearer", matches[0])
        if problems:
            raise VerificationError("keys_unavailable", f"a token cannot be read: {problems[0]}")
        raise VerificationError("unknown_token", "the bearer token is none of ours")

    async def undo(self, caller: Caller) -> None:
        """Do nothing: a token may be used again anyway."""

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


@dataclass(frozen=True, slots=True)
class _Token:
    name: str
    digest: bytes


def _token(value: str) -> _Token:
    if problem := _problem(value):
        raise SettingsError([problem])
    digest = hashlib.sha256(value.encode())
    return _Token(f"token-{digest.hexdigest()[:8]}", digest.digest())


def _problem(value: str) -> Problem | None:
    if not _FORM.fullmatch(value):
        return Problem("", "it has characters that no token may have", f"use {_RANDOM}")
    if len(value) < MIN_LENGTH:
        return Problem("", f"it is shorter than {MIN_LENGTH} characters", f"use {_RANDOM}")
    if is_monotonous(value):
        return Problem("", "it repeats a few characters", f"use {_RANDOM}")
    return None


_RANDOM: Final = "what 'openssl rand -hex 32' prints"

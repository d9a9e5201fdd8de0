"""The keys of Standard Webhooks: ``whsec_`` for HMAC-SHA256, ``whpk_`` and ``whsk_`` for ed25519.

As in "Signature scheme" of https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md.
The prefix says which algorithm a key is for, so that a public key is never taken for a shared secret.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final, Protocol

from purista.errors import MissingExtraError, Problem, SettingsError
from purista.verifying.secret import is_monotonous

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HMAC_SIZES: Final = range(24, 65)
"""Bytes of a shared secret: at least 192 bits, at most 512."""

ED25519_SIZE: Final = 32
"""Bytes of a public key, and of the seed that a private key is."""


class VerifyingKey(Protocol):
    """Tells whether a signature is right."""

    @property
    def version(self) -> str:
        """The identifier in front of its signatures."""

    @property
    def name(self) -> str:
        """The beginning of the SHA-256 of the key, of the public half where there is one."""

    def signed(self, content: bytes, signatures: list[bytes]) -> bool:
        """Whether one of the signatures is this key's under the content."""


class SigningKey(Protocol):
    """Signs."""

    @property
    def version(self) -> str:
        """The identifier in front of its signatures."""

    def sign(self, content: bytes) -> bytes:
        """Return the signature."""


class HmacKey:
    """A shared secret; signs and verifies."""

    __slots__ = ("_mac", "name")

    version: Final = "v1"

    def __init__(self, secret: bytes) -> None:
        self.name = _name(secret)
        # A state of the hash in place of the secret: it is neither shown nor pickled.
        self._mac = hmac.new(secret, digestmod=hashlib.sha256)

    def sign(self, content: bytes) -> bytes:
        """Return the HMAC-SHA256 of the content."""
        mac = self._mac.copy()
        mac.update(content)
        return mac.digest()

    def signed(self, content: bytes, signatures: list[bytes]) -> bool:
        """Whether one of the signatures is right; compared in constant time."""
        right = self.sign(content)
        matches = [hmac.compare_digest(right, each) for each in signatures]
        return any(matches)


class PublicKey:
    """The public half of an ed25519 pair; verifies."""

    __slots__ = ("_key", "_wrong", "name")

    version: Final = "v1a"

    def __init__(self, raw: bytes) -> None:
        ed25519, self._wrong = _cryptography()
        self.name = _name(raw)
        self._key = ed25519.Ed25519PublicKey.from_public_bytes(raw)

    def signed(self, content: bytes, signatures: list[bytes]) -> bool:
        """Whether one of the signatures is right."""
        return any(self._is_right(content, each) for each in signatures)

    def _is_right(self, content: bytes, signature: bytes) -> bool:
        try:
            self._key.verify(signature, content)
        except self._wrong:
            return False
        return True


class PrivateKey:
    """The private half of an ed25519 pair; signs."""

    __slots__ = ("_key", "name")

    version: Final = "v1a"

    def __init__(self, seed: bytes) -> None:
        ed25519, _ = _cryptography()
        self._key: Ed25519PrivateKey = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
        self.name = _name(self._key.public_key().public_bytes_raw())

    def sign(self, content: bytes) -> bytes:
        """Return the signature."""
        return self._key.sign(content)


def verifying_key(text: str) -> VerifyingKey:
    """Return the key of a ``whsec_`` or ``whpk_`` text.

    Raises ``SettingsError``; for ``whpk_`` without cryptography ``MissingExtraError``.
    """
    prefix, _, encoded = text.partition("_")
    match prefix:
        case "whsec":
            return HmacKey(_shared(encoded))
        case "whpk":
            return PublicKey(_checked(_decoded(encoded), ED25519_SIZE, "a public ed25519 key"))
        case "whsk":
            raise _refusal("it is a private key", "give its public half, whpk_...")
    raise _refusal("it is no key of Standard Webhooks", "write whsec_... or whpk_...")


def signing_key(text: str) -> SigningKey:
    """Return the key of a ``whsec_`` or ``whsk_`` text.

    Raises ``SettingsError``; for ``whsk_`` without cryptography ``MissingExtraError``.
    """
    prefix, _, encoded = text.partition("_")
    match prefix:
        case "whsec":
            return HmacKey(_shared(encoded))
        case "whsk":
            # Some write the public half behind the seed, 64 bytes in all.
            raw = _decoded(encoded)
            seed = raw[:ED25519_SIZE] if len(raw) == 2 * ED25519_SIZE else raw
            return PrivateKey(_checked(seed, ED25519_SIZE, "a private ed25519 key"))
        case "whpk":
            raise _refusal("it is a public key", "give its private half, whsk_...")
    raise _refusal("it is no key of Standard Webhooks", "write whsec_... or whsk_...")


def _shared(encoded: str) -> bytes:
    secret = _decoded(encoded)
    if len(secret) not in HMAC_SIZES:
        size = f"{HMAC_SIZES[0]} to {HMAC_SIZES[-1]} bytes"
        raise _refusal(f"it has {len(secret)} bytes, not {size}", f"use {_RANDOM}")
    return _checked(secret, len(secret), "a shared secret")


def _checked(raw: bytes, size: int, what: str) -> bytes:
    if len(raw) != size:
        raise _refusal(f"it has {len(raw)} bytes; {what} has {size}", "")
    if is_monotonous(raw):
        raise _refusal("it repeats a few bytes", "make a random one")
    return raw


def _decoded(encoded: str) -> bytes:
    """Decode base64, padded or not, as the reference libraries write it both ways."""
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        pass
    raise _refusal("it is no base64 behind its prefix", "copy it again")


def _refusal(message: str, remedy: str) -> SettingsError:
    return SettingsError([Problem("", message, remedy)])


def _name(key: bytes) -> str:
    return f"key-{hashlib.sha256(key).hexdigest()[:8]}"


def _cryptography() -> tuple[Any, type[Exception]]:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("an ed25519 key", "signatures") from None
    return ed25519, InvalidSignature


_RANDOM: Final = "whsec_ and what 'openssl rand -base64 32' prints"

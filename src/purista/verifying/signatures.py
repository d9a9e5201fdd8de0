"""Signed requests, by Standard Webhooks (https://www.standardwebhooks.com).

A signature covers the message id, the time of signing and the body; it covers neither the address nor
any other header. What it is to vouch for has to be in the body.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from purista.clock import Clock, SystemClock
from purista.errors import LedgerError, Problem, SettingsError, VerificationError
from purista.verifying.port import Caller, Incoming
from purista.verifying.secret import Secret, current, readings
from purista.verifying.webhookkeys import signing_key, verifying_key

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

TOLERANCE: Final = timedelta(minutes=5)
"""How far the time of signing may be from now, both ways; what the reference libraries allow."""

MAX_SIGNATURES: Final = 10
"""More signatures in one request are refused: each costs work."""

SKEW: Final = timedelta(minutes=1)
"""How much longer than needed a used signature is remembered: clocks of processes differ."""

_log = logging.getLogger("purista.verifying")

_ID_FORM: Final = re.compile(r"[!-\-/-~]{1,256}")
"""Visible ASCII without a dot: a dot could shift text between id, time and body, as the specification warns."""

_SECONDS_FORM: Final = re.compile(r"[1-9][0-9]{0,11}")


class Nonces(Protocol):
    """Remembers what may be used once, for all processes that verify; every ledger of this package does."""

    async def use_nonce(self, nonce: str, *, now: datetime, kept_until: datetime) -> bool:
        """Return True, and remember it until ``kept_until``; False when it is remembered already."""

    async def drop_nonce(self, nonce: str) -> None:
        """Forget a nonce. Harmless when it is not known."""


class SignatureVerifier:
    """Takes requests that are signed with one of some ``keys``, each signed message once.

    Each key is a ``Secret`` or its reference, of a ``whsec_`` (HMAC-SHA256) or ``whpk_`` (ed25519) text.
    While keys are rotated there are two; a request may bring several signatures. ``tolerance``: how
    far the time of signing may be from now, both ways; how late a trigger is, by its nominal time, is
    not judged here. ``nonces``: where used signatures are remembered, a ledger.

    A message is its id and its time of signing: a sender that tries again signs anew, under the same id,
    and is let in, so that the ledger can tell it that the trigger is a duplicate; an exact copy is not.

    Raises ``SettingsError`` for no key, a wrong one, and a tolerance that is not positive.
    """

    scheme: Final = "StandardWebhooks"

    def __init__(
        self,
        keys: Sequence[Secret | str] | Secret | str,
        *,
        nonces: Nonces,
        tolerance: timedelta = TOLERANCE,
        clock: Clock | None = None,
    ) -> None:
        if tolerance <= timedelta(0):
            raise SettingsError([Problem("tolerance", "it is not positive", "use 5 minutes")])
        self._keys = readings("signature keys", keys, verifying_key)
        self._nonces = nonces
        self._tolerance = tolerance
        self._clock: Clock = clock or SystemClock()

    def concerns(self, incoming: Incoming) -> bool:
        """Whether the request has one of the three headers."""
        return any(name in (ID, TIMESTAMP, SIGNATURE) for name, _ in incoming.headers)

    async def verify(self, incoming: Incoming) -> Caller:
        """Return who signed the request, named by the beginning of the key's SHA-256.

        Raises ``VerificationError``: ``missing_header``, ``duplicate_header``, ``malformed_header``,
        ``stale_signature``, ``early_signature``, ``wrong_signature``, ``replayed``,
        ``keys_unavailable`` (of the store of nonces as well: nothing can be told without it).
        """
        message = _message(incoming)
        now = self._clock.now()
        self._check_time(message, now)
        name = self._signer(message)
        nonce = f"signature:{message.seconds}:{message.id}"
        await self._use(nonce, message.signed_at + self._tolerance + SKEW, now)
        return Caller("signature", name, nonce)

    async def undo(self, caller: Caller) -> None:
        """Let the very same message in again. A store that is away is logged, and nothing else."""
        if caller.nonce is None:
            return
        try:
            await self._nonces.drop_nonce(caller.nonce)
        except LedgerError:
            _log.warning("a used signature could not be given back", extra={"caller": caller.name})

    async def close(self) -> None:
        """Do nothing: the store of nonces is its owner's."""

    def _check_time(self, message: _Message, now: datetime) -> None:
        age = now.timestamp() - int(message.seconds)
        tolerance = self._tolerance.total_seconds()
        if age > tolerance:
            raise VerificationError("stale_signature", f"it was signed {age:.0f} seconds ago")
        if -age > tolerance:
            raise VerificationError("early_signature", f"it was signed {-age:.0f} seconds ahead")

    def _signer(self, message: _Message) -> str:
        keys, problems = current(self._keys)
        for key in keys:
            if key.signed(message.content, message.signatures.get(key.version, [])):
                return key.name
        if problems:
            raise VerificationError("keys_unavailable", f"a key cannot be read: {problems[0]}")
        raise VerificationError("wrong_signature", "no signature is one of a key of ours")

    async def _use(self, nonce: str, kept_until: datetime, now: datetime) -> None:
        try:
            is_new = await self._nonces.use_nonce(nonce, now=now, kept_until=kept_until)
        except LedgerError as error:
            raise VerificationError(
                "keys_unavailable", f"whether it is a replay cannot be told: {error}"
            ) from None
        if not is_new:
            raise VerificationError("replayed", "the very same message was taken before")


class Signer:
    """Signs requests with one or more ``keys``: ``whsec_`` or ``whsk_`` texts by reference.

    With two keys both sign, so that either side can rotate first. Raises ``SettingsError``.
    """

    def __init__(self, keys: Sequence[Secret | str] | Secret | str) -> None:
        self._keys = readings("signing keys", keys, signing_key)

    def sign(self, body: bytes, message_id: str, at: datetime) -> dict[str, str]:
        """Return the headers of a request that is signed at an instant.

        ``message_id`` is new for each message and kept when it is sent again: visible ASCII without a
        dot, at most 256 characters. Raises ``ValueError`` for another, ``SettingsError`` when a key
        cannot be read any more.
        """
        if not _ID_FORM.fullmatch(message_id):
            raise ValueError("a message id is visible ASCII without a dot, 256 characters at most")
        seconds = str(int(at.timestamp()))
        content = _content(message_id, seconds, body)
        signatures = [
            f"{key.version},{base64.b64encode(key.sign(content)).decode()}"
            for key in (reading.current() for reading in self._keys)
        ]
        return {ID: message_id, TIMESTAMP: seconds, SIGNATURE: " ".join(signatures)}


@dataclass(frozen=True, slots=True)
class _Message:
    id: str
    seconds: str
    content: bytes
    signatures: dict[str, list[bytes]]

    @property
    def signed_at(self) -> datetime:
        return datetime.fromtimestamp(int(self.seconds), UTC)


def _message(incoming: Incoming) -> _Message:
    message_id = _header(incoming, ID)
    seconds = _header(incoming, TIMESTAMP)
    listed = _header(incoming, SIGNATURE).split(" ")
    if not _ID_FORM.fullmatch(message_id):
        raise _malformed(ID, "is no visible ASCII without a dot, or too long")
    if not _SECONDS_FORM.fullmatch(seconds):
        raise _malformed(TIMESTAMP, "is no whole number of seconds since 1970")
    if len(listed) > MAX_SIGNATURES:
        raise _malformed(SIGNATURE, f"has more than {MAX_SIGNATURES} signatures")
    signatures: dict[str, list[bytes]] = {}
    for version, signature in _signatures(listed):
        signatures.setdefault(version, []).append(signature)
    return _Message(message_id, seconds, _content(message_id, seconds, incoming.body), signatures)


def _header(incoming: Incoming, name: str) -> str:
    value = incoming.header(name)
    if value is None:
        raise VerificationError("missing_header", f"header '{name}' is missing")
    return value


def _signatures(listed: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Yield what is a signature; the others may be of a version to come."""
    for each in listed:
        version, _, encoded = each.partition(",")
        try:
            yield version, base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue


def _content(message_id: str, seconds: str, body: bytes) -> bytes:
    return f"{message_id}.{seconds}.".encode() + body


def _malformed(name: str, what: str) -> VerificationError:
    return VerificationError("malformed_header", f"header '{name}' {what}")

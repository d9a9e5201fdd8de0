"""The public keys of an OIDC issuer: fetched, kept, and fetched again without hammering the issuer."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from purista.clock import Clock
from purista.errors import MissingExtraError, VerificationError
from purista.jsonvalue import read_document
from purista.verifying.jwt import key_set

if TYPE_CHECKING:
    import httpx
    from joserfc.jwk import Key

MAX_AGE: Final = timedelta(hours=1)
"""How long fetched keys are believed without asking again."""

MAX_STALE: Final = timedelta(hours=24)
"""How long they are believed while the issuer cannot be asked."""

UNKNOWN_KEY_PAUSE: Final = timedelta(minutes=1)
"""How often at most a key id that is not known leads to a fetch."""

FAILURE_PAUSE: Final = timedelta(seconds=10)
"""How long nothing is fetched after a fetch that failed."""

TIMEOUT: Final = timedelta(seconds=5)
"""How long a fetch may take, from its beginning to its end."""

MAX_SIZE: Final = 262_144
"""Bytes: how long a document of the issuer may be."""

DISCOVERY: Final = "/.well-known/openid-configuration"
"""OpenID Connect Discovery 1.0, section 4."""

_log = logging.getLogger("purista.verifying")


class IssuerKeys:
    """The keys of ``issuer``: of its JWK Set at ``jwks_url``, or where its discovery document says.

    Keys are kept for an hour, and for up to 24 while the issuer cannot be asked. A key id that is not known
    leads to a fetch at most once a minute, so that bad tokens do not. Who asks while a fetch is under way
    waits for that one. ``client`` is closed by whoever made it.
    """

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        *,
        clock: Clock,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        _need_httpx()
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._clock = clock
        self._client = client
        self._own_client: httpx.AsyncClient | None = None
        self._lock = asyncio.Lock()
        self._keys: dict[str, list[Key]] = {}
        self._has_failed = False
        self._fetched_at = self._not_before = self._unknown_at = float("-inf")

    async def find(self, key_id: str) -> Sequence[Key]:
        """Return the keys of an id; none when the issuer has no such key.

        Raises ``VerificationError``, ``keys_unavailable``, when that cannot be told.
        """
        if self._has_to_wait(key_id):
            async with self._lock:
                if self._is_wanting(key_id):
                    await self._refresh(key_id)
        found = self._usable().get(key_id, [])
        if not found and (self._has_failed or not self._usable()):
            raise VerificationError(
                "keys_unavailable", f"the keys of issuer {self._issuer} cannot be fetched"
            )
        return found

    async def close(self) -> None:
        """Close the connections that it opened itself. May be repeated."""
        client, self._own_client = self._own_client, None
        if client is not None:
            await client.aclose()

    def _has_to_wait(self, key_id: str) -> bool:
        if self._lock.locked():
            # What is known does not wait for a fetch; what is not may be in what it brings.
            return key_id not in self._usable()
        return self._is_wanting(key_id)

    def _is_wanting(self, key_id: str) -> bool:
        """Whether it is time to fetch."""
        now = self._clock.monotonic()
        if now < self._not_before:
            return False
        if now - self._fetched_at >= MAX_AGE.total_seconds():
            return True
        is_rested = now - self._unknown_at >= UNKNOWN_KEY_PAUSE.total_seconds()
        return key_id not in self._keys and is_rested

    def _usable(self) -> dict[str, list[Key]]:
        age = self._clock.monotonic() - self._fetched_at
        return self._keys if age < MAX_STALE.total_seconds() else {}

    async def _refresh(self, key_id: str) -> None:
        if self._usable() and key_id not in self._keys:
            self._unknown_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(TIMEOUT.total_seconds()):
                keys = key_set(await self._fetch(await self._address()))
        except Exception as error:  # Whatever went wrong, there are no new keys.
            self._has_failed = True
            self._not_before = self._clock.monotonic() + FAILURE_PAUSE.total_seconds()
            _log.warning(
                "the keys of issuer %s cannot be fetched: %s", self._issuer, type(error).__name__
            )
        else:
            self._has_failed = False
            self._keys, self._fetched_at = keys, self._clock.monotonic()

    async def _address(self) -> str:
        """Return where the JWK Set is. The discovery document has to be of this very issuer."""
        if self._jwks_url is not None:
            return self._jwks_url
        document = read_document(await self._fetch(self._issuer.rstrip("/") + DISCOVERY))
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise ValueError("the discovery document is another issuer's")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or address_problem(address, like=self._issuer):
            raise ValueError("the discovery document has no usable jwks_uri")
        return address

    async def _fetch(self, address: str) -> bytes:
        """Return a document: redirects are not followed, and nothing is unpacked that could grow."""
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        body = bytearray()
        async with self._connected().stream("GET", address, headers=headers) as response:
            if response.status_code != 200:
                raise ValueError(f"status {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("the document is packed")
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_SIZE:
                    raise ValueError("the document is too large")
        return bytes(body)

    def _connected(self) -> httpx.AsyncClient:
        import httpx

        if self._client is not None:
            return self._client
        if self._own_client is None:
            self._own_client = httpx.AsyncClient(timeout=TIMEOUT.total_seconds())
        return self._own_client


def address_problem(address: str, *, like: str | None = None) -> str | None:
    """Say what is wrong with an address from which keys are fetched; None: nothing.

    It is ``https``, or ``http`` on this machine itself - but not where ``like`` is ``https``. It has no
    user, so that no password is in it.
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is no address"
    if not address.isprintable() or " " in address or not host:
        return "it is no address"
    if parts.username is not None or parts.fragment:
        return "it has a user or a fragment"
    if parts.scheme == "https" or (_is_local(parts) and not (like or "").startswith("https:")):
        return None
    return "it is not https"


def _is_local(parts: SplitResult) -> bool:
    if parts.scheme != "http":
        return False
    if parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _need_httpx() -> None:
    try:
        import httpx  # noqa: F401
    except ImportError:
        raise MissingExtraError("OIDC tokens", "oidc") from None

"""The server of a Redis ledger: its keys, its version, and what is wrong with it in words."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from purista.errors import LedgerError
from purista.ledgers.redis_script import KEYS, SCHEMA_VERSION
from purista.redisstore.address import Address
from purista.redisstore.script import Script
from purista.redisstore.server import Server, Value
from purista.redisstore.weaknesses import Ask, weaknesses

logger = logging.getLogger("purista.ledgers")

_NEWER = "it answers: VERSION "
"""How it is told that a script found rows of a newer version."""


class RedisServer:
    """A server, as one ledger uses it; it is connected by the first call.

    Raises ``LedgerError``, which never tells a password.
    """

    def __init__(self, url: str, *, prefix: str, timeout: timedelta, connections: int) -> None:
        try:
            address = Address.of(url)
        except ValueError as error:
            raise LedgerError(f"ledger in Redis: {error}") from None
        self.name = str(address)
        self._keys = {key: f"{{{prefix}}}:{key}".encode() for key in KEYS}
        self._server = Server(
            address,
            timeout=timeout,
            connections=connections,
            check=self._check,
            refusal=self._refusal,
            what="this ledger",
            rights="+hget +evalsha +eval +zadd +zrem +zrangebylex +zrevrangebylex +hset +hdel "
            f"+info on ~{{{prefix}}}:*",
        )

    def encoded(self, value: Value) -> bytes:
        """Return what is sent; raises when a text is no Unicode."""
        return self._server.encoded(value)

    async def run(self, script: Script, *values: Value) -> Any:
        """Run a step; when the caller is cancelled, it is done or not begun."""
        return await self._server.run(script, [*self._keys.values()], *values)

    async def field(self, key: str, name: str) -> str | None:
        """Return a field of one of the ledger's hashes, or None."""
        found = await self._server.ask("HGET", self._keys[key], self.encoded(name))
        return None if found is None else str(found, "utf-8")

    async def close(self) -> None:
        """Let what was begun finish, and close the connections. May be repeated."""
        await self._server.close()

    async def _check(self, ask: Ask) -> None:
        """Refuse a ledger of a newer version; warn once when the server can forget."""
        found = await ask("HGET", self._keys["meta"], "version")
        version = SCHEMA_VERSION if found is None else str(found, "utf-8")
        if version != SCHEMA_VERSION:
            raise self._refusal(_newer(version))
        weak = await weaknesses(ask)
        if weak:
            logger.warning("ledger '%s' can forget what ran: %s", self.name, "; ".join(weak))

    def _refusal(self, text: str) -> LedgerError:
        if text.startswith(_NEWER):
            text = _newer(text.removeprefix(_NEWER))
        return LedgerError(f"ledger '{self.name}': {text}")


def _newer(version: str) -> str:
    return (
        f"its schema has version {version}, this purista knows {SCHEMA_VERSION}; "
        "use the purista that wrote it, or a newer one"
    )

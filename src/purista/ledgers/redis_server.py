"""The server of a Redis ledger: its address, and what is wrong with it in words."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any, NoReturn
from urllib.parse import parse_qs, urlsplit

from purista.errors import LedgerError, MissingExtraError
from purista.ledgers.redis_script import KEYS, SCHEMA_VERSION, Script

try:
    from redis import exceptions
    from redis.asyncio import ConnectionPool
    from redis.asyncio.connection import parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    from purista.ledgers.redis_link import Link
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a ledger in Redis or Valkey", "redis") from None

logger = logging.getLogger("purista.ledgers")

Value = str | bytes | int

_FORM = "write redis://[user:password@]host[:port][/database], percent-encoded where it is odd"


class RedisServer:
    """A server, as one ledger uses it; it is connected by the first call.

    Raises ``LedgerError``, which never tells a password.
    """

    def __init__(self, url: str, *, prefix: str, timeout: timedelta, connections: int) -> None:
        self.name = _name(url)
        self._keys = {key: f"{{{prefix}}}:{key}".encode() for key in KEYS}
        self._prefix = prefix
        self._timeout = timeout
        self._options = _options(url, self.name) | {
            "decode_responses": False,
            "health_check_interval": 0,
            "max_connections": connections,
            "protocol": 2,
            # Whoever sends a decision again would be told that it is a duplicate of itself.
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": timeout.total_seconds(),
            "socket_timeout": timeout.total_seconds(),
        }
        if not url.startswith("unix:"):
            self._options["socket_keepalive"] = True
        self._pool()
        self._link: Link | None = None
        self._checking = asyncio.Lock()
        self._is_checked = False
        self._is_closed = False

    def encoded(self, value: Value) -> bytes:
        """Return what is sent; raises when a text is no Unicode."""
        try:
            return value if isinstance(value, bytes) else str(value).encode()
        except UnicodeError as error:
            raise LedgerError(f"ledger '{self.name}': {error}") from error

    async def run(self, script: Script, *values: Value) -> Any:
        """Run a step; when the caller is cancelled, it is done or not begun."""
        encoded = [self.encoded(value) for value in values]
        arguments: list[Value] = [len(KEYS), *self._keys.values(), *encoded]
        try:
            return await self._ask("EVALSHA", script.digest, *arguments)
        except exceptions.NoScriptError:
            return await self._ask("EVAL", script.text, *arguments)

    async def field(self, key: str, name: str) -> str | None:
        """Return a field of one of the ledger's hashes, or None."""
        found = await self._ask("HGET", self._keys[key], self.encoded(name))
        return None if found is None else str(found, "utf-8")

    async def close(self) -> None:
        """Let what was begun finish, and close the connections. May be repeated."""
        self._is_closed = True
        link, self._link = self._link, None
        if link is not None and link.loop is asyncio.get_running_loop():
            await link.close()

    async def _ask(self, *command: Value) -> Any:
        """Send a command; only that the server does not know a script is raised as it is."""
        link = self._linked()
        try:
            if not self._is_checked:
                await self._check(link)
            return await link.ask(command)
        except exceptions.NoScriptError:
            raise
        except (exceptions.RedisError, OSError) as error:
            raise LedgerError(f"ledger '{self.name}': {self._explanation(error)}") from error

    def _linked(self) -> Link:
        """Return the connections of the running event loop."""
        if self._is_closed:
            self._refuse("it is closed; make a new one")
        loop = asyncio.get_running_loop()
        if self._link is None or self._link.loop is not loop:
            self._link = Link(loop, self._pool())
            self._checking = asyncio.Lock()
        return self._link

    def _pool(self) -> ConnectionPool:
        """Return a pool, not connected; refuses options that its connections do not have."""
        try:
            pool = ConnectionPool(**self._options)
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, exceptions.RedisError):
            self._refuse("an option of its URL has no meaning; mend it")
        return pool

    async def _check(self, link: Link) -> None:
        """Refuse a ledger of a newer version; warn once when the server can forget."""
        async with self._checking:
            if self._is_checked:
                return
            found = await link.ask(("HGET", self._keys["meta"], "version"))
            version = SCHEMA_VERSION if found is None else str(found, "utf-8")
            if version != SCHEMA_VERSION:
                self._refuse(_newer(version))
            weak = await _weaknesses(link)
            if weak:
                logger.warning("ledger '%s' can forget what ran: %s", self.name, "; ".join(weak))
            self._is_checked = True

    def _refuse(self, text: str) -> NoReturn:
        raise LedgerError(f"ledger '{self.name}': {text}")

    def _explanation(self, error: Exception) -> str:
        text = str(error)
        match error:
            case exceptions.AuthenticationError():
                return "it wants another user name or password; give them in the URL"
            case exceptions.NoPermissionError():
                return (
                    "its user may not do that; allow +hget +evalsha +eval +zadd +zrem "
                    f"+zrangebylex +zrevrangebylex +hset +hdel +info on ~{{{self._prefix}}}:*"
                )
            case exceptions.BusyLoadingError():
                return "it is still loading its data; try again"
            case exceptions.MovedError():
                return (
                    f"it is a cluster, and this ledger is on its node {error.host}:{error.port}; "
                    "name that one"
                )
            case exceptions.ClusterDownError():
                return "it is a cluster that is not whole; look at its CLUSTER INFO"
            case exceptions.ReadOnlyError():
                return "it is a replica that may only be read; name the primary"
            case exceptions.OutOfMemoryError():
                return "it is out of memory; raise its maxmemory or make room"
            case exceptions.InvalidResponse():
                return "what answers there is no Redis and no Valkey; name another address"
            case exceptions.ResponseError() if text.startswith("VERSION "):
                return _newer(text.removeprefix("VERSION "))
            case exceptions.TimeoutError() | exceptions.ConnectionError() | OSError():
                return self._unreached(text)
            case _:
                return f"it answers: {text[:200]}"

    def _unreached(self, text: str) -> str:
        if "connecting to" in text:
            return f"it cannot be reached: {text.rstrip('.')}; start it, or name another address"
        if text.startswith("Timeout"):
            return (
                f"it did not answer within {self._timeout}; whether it took the step is not "
                "known, try again"
            )
        return "the connection broke; whether it took the step is not known, try again"


async def _weaknesses(link: Link) -> list[str]:
    """Return why the server can forget; a server that does not tell has none."""
    try:
        persistence = await link.ask(("INFO", "persistence"))
        memory = await link.ask(("INFO", "memory"))
    except exceptions.ResponseError:
        return []
    found: list[str] = []
    if not persistence.get("aof_enabled", 1):
        found.append("it keeps no append-only file; set 'appendonly yes'")
    elif await _fsync(link) == "no":
        found.append("it leaves writing to the kernel; set 'appendfsync always'")
    policy = str(memory.get("maxmemory_policy", ""))
    if policy.startswith("allkeys") and memory.get("maxmemory", 1):
        found.append(
            f"it evicts keys when it is full ({policy}); set 'maxmemory-policy noeviction'"
        )
    return found


async def _fsync(link: Link) -> str:
    """Return ``appendfsync``; managed services may refuse to tell."""
    try:
        found = await link.ask(("CONFIG GET", "appendfsync"))
    except exceptions.ResponseError:
        return ""
    return str(found.get("appendfsync", ""))


def _newer(version: str) -> str:
    return (
        f"its schema has version {version}, this purista knows {SCHEMA_VERSION}; "
        "use the purista that wrote it, or a newer one"
    )


def _name(url: str) -> str:
    """Return the URL without user, password and options."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise LedgerError(f"ledger in Redis: its URL is none; {_FORM}") from None
    if parts.scheme == "unix" and parts.path:
        return f"unix://{parts.path}"
    database = parts.path.strip("/") or "0"
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not database.isdecimal():
        raise LedgerError(f"ledger in Redis: its URL is none; {_FORM}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or 6379}/{database}"


def _options(url: str, name: str) -> dict[str, Any]:
    """Return what the URL says about connections; what this module decides cannot be in it."""
    for option in parse_qs(urlsplit(url).query, keep_blank_values=True):
        if option != "db" and not option.startswith("ssl_"):
            raise LedgerError(
                f"ledger '{name}': its URL has the option '{option}'; only 'db' and 'ssl_...' can be there"
            )
    try:
        return dict(parse_url(url))
    except ValueError:
        raise LedgerError(
            f"ledger '{name}': an option of its URL has no meaning; mend it"
        ) from None

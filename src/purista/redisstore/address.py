"""Where a Redis or Valkey server is: what its URL says of connections, and what of it may be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis import exceptions
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

_FORM = "write redis://[user:password@]host[:port][/database], percent-encoded where it is odd"


@dataclass(frozen=True, slots=True)
class Address:
    """``redis://[user:password@]host[:port][/database]``, ``rediss://`` for TLS, or ``unix://path``.

    As text it is the URL without user, password and options. ``options`` are redis-py's.
    """

    name: str
    options: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a URL; it can have the options ``db`` and ``ssl_...``.

        Raises ``ValueError`` for what is none, with a text that shows nothing of it.
        """
        return cls(_name(url), _options(url))

    def __str__(self) -> str:
        return self.name

    def pool(self, *, most: int, timeout: timedelta) -> ConnectionPool:
        """Return a pool of at most so many connections, not connected yet.

        ``timeout``: how long connecting may take, and an answer. Nothing is sent a second time.
        Raises ``ValueError`` when an option of the URL has no meaning.
        """
        options = dict(self.options) | {
            "decode_responses": False,
            "health_check_interval": 0,
            "max_connections": most,
            "protocol": 2,
            # Whoever sends a step again would be told that it is a duplicate of itself.
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": timeout.total_seconds(),
            "socket_timeout": timeout.total_seconds(),
        }
        if not self.name.startswith("unix:"):
            options["socket_keepalive"] = True
        try:
            pool = ConnectionPool(**options)
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, exceptions.RedisError):
            raise ValueError("an option of its URL has no meaning; mend it") from None
        return pool


def _name(url: str) -> str:
    """Return the URL without user, password and options."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(f"its URL is none; {_FORM}") from None
    if parts.scheme == "unix" and parts.path:
        return f"unix://{parts.path}"
    database = parts.path.strip("/") or "0"
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not database.isdecimal():
        raise ValueError(f"its URL is none; {_FORM}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or 6379}/{database}"


def _options(url: str) -> dict[str, Any]:
    """Return what the URL says about connections; what their user decides cannot be in it."""
    for option in parse_qs(urlsplit(url).query, keep_blank_values=True):
        if option != "db" and not option.startswith("ssl_"):
            raise ValueError(
                f"its URL has the option '{option}'; only 'db' and 'ssl_...' can be there"
            )
    try:
        return dict(parse_url(url))
    except ValueError:
        raise ValueError("an option of its URL has no meaning; mend it") from None

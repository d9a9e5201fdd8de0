"""Ledgers by their address, so that a deployment's settings can say which one it is."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Protocol

from purista.contract import near
from purista.errors import LedgerError, MissingExtraError
from purista.ledgers.book import RETENTION
from purista.ledgers.port import History, Ledger
from purista.storeaddress import rest_of, scheme_of, sqlite_path

SCHEMES: Final = ("memory", "postgresql", "redis", "rediss", "sqlite")


class OpenedLedger(Ledger, History, Protocol):
    """A ledger that remembers, as all of this package do."""


def open_ledger(url: str, *, retention: timedelta = RETENTION) -> OpenedLedger:
    """Return the ledger at an address; it connects with its first call.

    - ``memory://``: in this process
    - ``sqlite:///runs.sqlite``, ``sqlite:////var/lib/purista/runs.sqlite``: a file, relative with three
      slashes and absolute with four, as SQLAlchemy writes it; the path stands as it is
      (https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#connect-strings)
    - ``postgresql://user:password@host/database``: needs the extra ``postgres``
    - ``redis://host``, ``rediss://host``: Redis or Valkey, needs the extra ``redis``

    Raises ``LedgerError`` for another address, which shows nothing of it but its scheme, and
    ``MissingExtraError``.
    """
    match scheme_of(url):
        case "memory":
            return _memory(url, retention)
        case "sqlite":
            return _sqlite(url, retention)
        case "postgresql" | "postgres":
            return _postgres(url, retention)
        case "redis" | "rediss":
            return _redis(url, retention)
        case "":
            raise LedgerError("ledger: its address has no scheme; write sqlite:///runs.sqlite")
        case scheme:
            raise LedgerError(f"ledger: there is no ledger '{scheme}://'; {near(scheme, SCHEMES)}")


def _memory(url: str, retention: timedelta) -> OpenedLedger:
    from purista.ledgers.memory import MemoryLedger

    if rest_of(url):
        raise LedgerError("ledger: memory:// takes nothing behind it")
    return MemoryLedger(retention=retention)


def _sqlite(url: str, retention: timedelta) -> OpenedLedger:
    from purista.ledgers.sqlite import SQLiteLedger

    try:
        return SQLiteLedger(sqlite_path(url), retention=retention)
    except ValueError as error:
        raise LedgerError(f"ledger: {error}") from None


def _postgres(url: str, retention: timedelta) -> OpenedLedger:
    try:
        from purista.ledgers.postgres import PostgresLedger
    except ImportError:
        raise MissingExtraError("the PostgreSQL ledger", "postgres") from None
    return PostgresLedger(url, retention=retention)


def _redis(url: str, retention: timedelta) -> OpenedLedger:
    try:
        from purista.ledgers.redis import RedisLedger
    except ImportError:
        raise MissingExtraError("the Redis ledger", "redis") from None
    return RedisLedger(url, retention=retention)

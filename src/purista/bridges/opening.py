"""Queue bridges by their address, so that a deployment's settings can say which one it is."""

from __future__ import annotations

from typing import Final

from purista.bridges.port import QueueBridge
from purista.contract import near
from purista.errors import BridgeError, MissingExtraError
from purista.storeaddress import rest_of, scheme_of, sqlite_path

SCHEMES: Final = ("memory", "postgresql", "sqlite")


def open_queues(url: str) -> QueueBridge:
    """Return the queue bridge at an address; it connects with its first call.

    ``memory://``, ``sqlite:///FILE`` (``sqlite:////FOLDER/FILE`` is absolute) or
    ``postgresql://user:password@host/database``, which needs the extra ``postgres``. At the address of
    the ledger, an accepted trigger is decided and enqueued in one transaction.

    Raises ``BridgeError`` for another address, which shows nothing of it but its scheme, and
    ``MissingExtraError``.
    """
    match scheme_of(url):
        case "memory":
            return _memory(url)
        case "sqlite":
            return _sqlite(url)
        case "postgresql" | "postgres":
            return _postgres(url)
        case "":
            raise BridgeError("queues: their address has no scheme; write one such as memory://")
        case scheme:
            raise BridgeError(f"queues: there are none at '{scheme}://'; {near(scheme, SCHEMES)}")


def _memory(url: str) -> QueueBridge:
    from purista.bridges.memory_queues import MemoryQueueBridge

    if rest_of(url):
        raise BridgeError("queues: memory:// takes nothing behind it")
    return MemoryQueueBridge()


def _sqlite(url: str) -> QueueBridge:
    from purista.bridges.sqlite_queues import SQLiteQueueBridge

    try:
        return SQLiteQueueBridge(sqlite_path(url))
    except ValueError as error:
        raise BridgeError(f"queues: {error}") from None


def _postgres(url: str) -> QueueBridge:
    try:
        from purista.bridges.postgres_queues import PostgresQueueBridge
    except ImportError:
        raise MissingExtraError("queues in PostgreSQL", "postgres") from None
    return PostgresQueueBridge(url)

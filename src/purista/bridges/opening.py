"""Bridges by their address, so that a deployment's settings can say which ones they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from purista.bridges.port import EventBridge, QueueBridge
from purista.clock import Clock
from purista.contract import near
from purista.errors import BridgeError, MissingExtraError
from purista.storeaddress import rest_of, scheme_of, sqlite_path

B = TypeVar("B", EventBridge, QueueBridge)

PREFIX: Final = "purista"
"""What the names of streams, keys, queues and schemas begin with, if nothing else is said."""


def open_events(url: str, *, prefix: str = PREFIX, clock: Clock | None = None) -> EventBridge:
    """Return the event bridge at an address; it connects with its first call.

    ``memory://``; ``sqlite:///FILE`` (``sqlite:////FOLDER/FILE`` is absolute); ``nats://host``
    (``tls://``), with the extra ``nats``; ``amqp://host`` (``amqps://``), with ``rabbitmq``;
    ``redis://host`` (``rediss://``, ``unix://PATH``), with ``redis``; ``postgresql://user:password@host/database``, with
    ``postgres``, where ``prefix`` is the schema. ``prefix`` begins the names of what it makes in a broker.

    Raises ``BridgeError`` for another address, which shows nothing of it but its scheme, and
    ``MissingExtraError``.
    """
    return _opened("events", _EVENTS, url, prefix, clock)


def open_queues(
    url: str,
    *,
    prefix: str = PREFIX,
    clock: Clock | None = None,
    streams: Mapping[str, tuple[str, str]] | None = None,
) -> QueueBridge:
    """Return the queue bridge at an address; it connects with its first call.

    ``memory://``; ``sqlite:///FILE`` (``sqlite:////FOLDER/FILE`` is absolute); ``nats://host``
    (``tls://``), with the extra ``nats``; ``redis://host`` (``rediss://``, ``unix://PATH``), with ``redis``;
    ``postgresql://user:password@host/database``, with the extra ``postgres``, where ``prefix`` is
    the schema. At the address of the ledger, an accepted trigger is decided and enqueued in one
    transaction. ``streams`` are for NATS: stream and subject of queues whose jobs lie elsewhere.

    Raises ``BridgeError`` for another address, which shows nothing of it but its scheme, and
    ``MissingExtraError``.
    """
    if streams and scheme_of(url) in ("nats", "tls"):
        return _nats_queues(url, prefix, clock, streams)
    return _opened("queues", _QUEUES, url, prefix, clock)


def _opened(
    what: str,
    known: Mapping[str, Callable[[str, str, Clock | None], B]],
    url: str,
    prefix: str,
    clock: Clock | None,
) -> B:
    scheme = scheme_of(url)
    if not scheme:
        raise BridgeError(f"{what}: their address has no scheme; write one such as memory://")
    if scheme not in known:
        remedy = near(scheme, sorted(set(known) - _OTHER_SPELLINGS))
        raise BridgeError(f"{what}: there are none at '{scheme}://'; {remedy}")
    return known[scheme](url, prefix, clock)


def _nothing_behind(what: str, url: str) -> None:
    if rest_of(url):
        raise BridgeError(f"{what}: memory:// takes nothing behind it")


def _path(what: str, url: str) -> Path:
    try:
        return sqlite_path(url)
    except ValueError as error:
        raise BridgeError(f"{what}: {error}") from None


def _memory_events(url: str, prefix: str, clock: Clock | None) -> EventBridge:
    from purista.bridges.memory_events import MemoryEventBridge

    _nothing_behind("events", url)
    return MemoryEventBridge(clock=clock)


def _nats_events(url: str, prefix: str, clock: Clock | None) -> EventBridge:
    try:
        from purista.bridges.nats_events import NatsEventBridge
    except ImportError:
        raise MissingExtraError("an event bridge to NATS", "nats") from None
    return NatsEventBridge(url, prefix=prefix, clock=clock)


def _rabbitmq_events(url: str, prefix: str, clock: Clock | None) -> EventBridge:
    try:
        from purista.bridges.rabbitmq_events import RabbitMQEventBridge
    except ImportError:
        raise MissingExtraError("an event bridge to RabbitMQ", "rabbitmq") from None
    return RabbitMQEventBridge(url, prefix=prefix, clock=clock)


def _redis_events(url: str, prefix: str, clock: Clock | None) -> EventBridge:
    try:
        from purista.bridges.redis_events import RedisEventBridge
    except ImportError:
        raise MissingExtraError("an event bridge to Redis or Valkey", "redis") from None
    return RedisEventBridge(url, prefix=prefix, clock=clock)


def _sqlite_events(url: str, prefix: str, clock: Clock | None) -> EventBridge:
    from purista.bridges.sqlite_events import SQLiteEventBridge

    return SQLiteEventBridge(_path("events", url), clock=clock)


def _postgres_events(url: str, prefix: str, clock: Clock | None) -> EventBridge:
    try:
        from purista.bridges.postgres_events import PostgresEventBridge
    except ImportError:
        raise MissingExtraError("an event bridge in PostgreSQL", "postgres") from None
    return PostgresEventBridge(url, schema=prefix, clock=clock)


def _memory_queues(url: str, prefix: str, clock: Clock | None) -> QueueBridge:
    from purista.bridges.memory_queues import MemoryQueueBridge

    _nothing_behind("queues", url)
    return MemoryQueueBridge(clock=clock)


def _nats_queues(
    url: str,
    prefix: str,
    clock: Clock | None,
    streams: Mapping[str, tuple[str, str]] | None = None,
) -> QueueBridge:
    try:
        from purista.bridges.nats_jobs import Source
        from purista.bridges.nats_queues import NatsQueueBridge
    except ImportError:
        raise MissingExtraError("a queue bridge to NATS", "nats") from None
    sources = {queue: Source(*place) for queue, place in (streams or {}).items()}
    return NatsQueueBridge(url, prefix=prefix, sources=sources, clock=clock)


def _redis_queues(url: str, prefix: str, clock: Clock | None) -> QueueBridge:
    try:
        from purista.bridges.redis_queues import RedisQueueBridge
    except ImportError:
        raise MissingExtraError("a queue bridge to Redis or Valkey", "redis") from None
    return RedisQueueBridge(url, prefix=prefix, clock=clock)


def _sqlite_queues(url: str, prefix: str, clock: Clock | None) -> QueueBridge:
    from purista.bridges.sqlite_queues import SQLiteQueueBridge

    return SQLiteQueueBridge(_path("queues", url), clock=clock)


def _postgres_queues(url: str, prefix: str, clock: Clock | None) -> QueueBridge:
    try:
        from purista.bridges.postgres_queues import PostgresQueueBridge
    except ImportError:
        raise MissingExtraError("a queue bridge in PostgreSQL", "postgres") from None
    return PostgresQueueBridge(url, schema=prefix, clock=clock)


_OTHER_SPELLINGS: Final = frozenset({"amqps", "postgres", "rediss", "tls", "unix"})

_EVENTS: Final[Mapping[str, Callable[[str, str, Clock | None], EventBridge]]] = {
    "memory": _memory_events,
    "nats": _nats_events,
    "tls": _nats_events,
    "amqp": _rabbitmq_events,
    "amqps": _rabbitmq_events,
    "redis": _redis_events,
    "rediss": _redis_events,
    "unix": _redis_events,
    "sqlite": _sqlite_events,
    "postgresql": _postgres_events,
    "postgres": _postgres_events,
}

_QUEUES: Final[Mapping[str, Callable[[str, str, Clock | None], QueueBridge]]] = {
    "memory": _memory_queues,
    "nats": _nats_queues,
    "tls": _nats_queues,
    "redis": _redis_queues,
    "rediss": _redis_queues,
    "unix": _redis_queues,
    "sqlite": _sqlite_queues,
    "postgresql": _postgres_queues,
    "postgres": _postgres_queues,
}

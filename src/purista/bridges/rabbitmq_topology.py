"""What the RabbitMQ event bridge makes in the broker; what is there already stays as it is.

Events that wait for their next attempt go down a ladder of queues. Level ``n`` holds an event for
``STEP`` times two to the power of ``n``, and passes it to the exchange of the level below. An event's
routing key says, one word for each level from the lowest, whether it waits there, and at last to whom it
goes. So the events of one queue all wait equally long, and none is behind one that waits longer.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiormq
from aiormq import Channel
from aiormq.abc import AbstractConnection

from purista.bridges.rabbitmq_connection import (
    PARTING,
    Failure,
    Lost,
    RabbitMQConnection,
    own_channel,
    step,
)
from purista.bridges.rabbitmq_names import Names, routing_key, token
from purista.errors import BridgeError
from purista.message import new_message_id

logger = logging.getLogger("purista.bridges")

STEP: Final = 0.032
"""Seconds that an event waits on the lowest level."""

BITS: Final = 5
"""On how many levels next to each other an event waits at most: that is exact to one part in 32."""

HIGHEST: Final = 26
"""The highest level: a server counts milliseconds up to two to the power of 32."""

LONGEST_TTL: Final = 2**32 - 1
MANY: Final = 1_000_000_000
"""The server gives no event up: this bridge counts attempts."""

QUEUE_EXPIRES: Final = 60_000
"""Milliseconds after which a queue of requests is gone that nobody serves."""


class Topology:
    """Declares exchanges, queues and bindings, on a connection that is given."""

    def __init__(self, names: Names, *, keep: timedelta) -> None:
        self._names = names
        self._keep = int(keep.total_seconds() * 1000)
        self._levels: WeakKeyDictionary[aiormq.Connection, int] = WeakKeyDictionary()
        self._lock = asyncio.Lock()

    async def subscriber(
        self, connection: aiormq.Connection, event: str, subscriber: str, *, longest: float
    ) -> str:
        """Make the queue of a subscriber, bound to its event; return its name.

        ``longest``: seconds that one of its events may have to wait for an attempt.
        """
        top = top_of(longest)
        async with self._lock:
            if self._levels.get(connection, -1) < top:
                await self.ladder(connection, top)
                self._levels[connection] = top
        name = self._names.queue(event, subscriber)
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": MANY}
        if self._keep <= LONGEST_TTL:
            arguments["x-message-ttl"] = max(self._keep, 1)
        if await make_queue(connection, name, arguments):
            await keep_queues(connection, self._names.prefix)
        async with own_channel(connection) as channel:
            await self._events(channel)
            await step(channel.queue_bind(name, self._names.events, routing_key(event)))
            await step(channel.queue_bind(name, self._names.retries, f"#.{token(name)}"))
        return name

    async def instance(self, connection: aiormq.Connection, event: str, name: str) -> str:
        """Make a queue that is gone with its connection, bound to an event; return its name."""
        arguments: dict[str, Any] = {"x-queue-type": "classic"}
        async with own_channel(connection) as channel:
            await self._events(channel)
            await step(
                channel.queue_declare(name, exclusive=True, auto_delete=True, arguments=arguments)
            )
            await step(channel.queue_bind(name, self._names.events, routing_key(event)))
        return name

    async def requests(self, connection: aiormq.Connection, name: str) -> str:
        """Make a queue of requests, which goes with the last who serves it; return its name."""
        arguments: dict[str, Any] = {"x-queue-type": "classic", "x-expires": QUEUE_EXPIRES}
        async with own_channel(connection) as channel:
            await step(
                channel.queue_declare(name, durable=True, auto_delete=True, arguments=arguments)
            )
        return name

    async def unserved(self, connection: RabbitMQConnection, name: str) -> None:
        """Return once a queue of requests is gone, if nobody serves it any more."""
        if connection.health.state != "up":
            return
        try:
            async with asyncio.timeout(PARTING), own_channel(await connection.live()) as channel:
                await step(channel.queue_delete(name, if_unused=True))
        except (*Failure, Lost, TimeoutError, BridgeError):
            logger.debug("queue %s: somebody serves it, or it goes by itself", name)

    async def _events(self, channel: Channel) -> None:
        await step(
            channel.exchange_declare(self._names.events, exchange_type="topic", durable=True)
        )

    async def ladder(self, connection: AbstractConnection, top: int) -> None:
        """Make the levels up to ``top``."""
        is_new = not await is_there(connection, self._names.wait(top))
        async with own_channel(connection) as channel:
            await self._landing(channel)
            for level in range(top + 1):
                await self._level(channel, level)
        if is_new:
            await keep_queues(connection, self._names.prefix)

    async def _landing(self, channel: Channel) -> None:
        """Make the exchange from which events go back to subscribers, and what takes the others."""
        names = self._names
        await step(channel.exchange_declare(names.unclaimed, exchange_type="fanout", durable=True))
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": MANY}
        await step(channel.queue_declare(names.unclaimed, durable=True, arguments=arguments))
        await step(channel.queue_bind(names.unclaimed, names.unclaimed))
        await step(
            channel.exchange_declare(
                names.retries,
                exchange_type="topic",
                durable=True,
                arguments={"alternate-exchange": names.unclaimed},
            )
        )

    async def _level(self, channel: Channel, level: int) -> None:
        name = self._names.wait(level)
        below = self._names.wait(level - 1) if level else self._names.retries
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-message-ttl": int(STEP * 1000) << level,
            "x-dead-letter-exchange": below,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
            "x-delivery-limit": MANY,
        }
        await step(channel.exchange_declare(name, exchange_type="topic", durable=True))
        await step(channel.queue_declare(name, durable=True, arguments=arguments))
        await step(channel.queue_bind(name, name, f"{'*.' * level}1.#"))
        await step(channel.exchange_bind(below, name, f"{'*.' * level}0.#"))


def steps_of(seconds: float) -> int:
    """Return for how many steps an event waits, with few enough bits.

    >>> [steps_of(seconds) for seconds in (0.5, 1.0, 300.0)]
    [16, 31, 9216]
    """
    count = max(round(seconds / STEP), 1)
    spare = max(count.bit_length() - BITS, 0)
    rounded = (count + ((1 << spare) >> 1)) >> spare << spare
    return min(rounded, (1 << (HIGHEST + 1)) - 1)


def top_of(seconds: float) -> int:
    """Return the level at which an event begins that waits so long."""
    return steps_of(seconds).bit_length() - 1


def way_of(seconds: float, queue: str) -> tuple[int, str]:
    """Return the level at which an event enters the ladder, and its routing key.

    >>> way_of(0.2, "q")[0]
    2
    """
    steps = steps_of(seconds)
    top = steps.bit_length() - 1
    words = [str(steps >> level & 1) for level in range(top + 1)]
    return top, ".".join([*words, token(queue)])


async def is_there(connection: AbstractConnection, queue: str) -> bool:
    """Whether there is a queue of that name."""
    try:
        async with own_channel(connection) as channel:
            await step(channel.queue_declare(queue, passive=True))
    except aiormq.ChannelNotFoundEntity:
        return False
    return True


async def make_queue(connection: AbstractConnection, name: str, arguments: dict[str, Any]) -> bool:
    """Make a durable queue, unless there is one of its name; return whether it is new."""
    if await is_there(connection, name):
        return False
    async with own_channel(connection) as channel:
        await step(channel.queue_declare(name, durable=True, arguments=arguments))
    return True


async def keep_queues(connection: AbstractConnection, prefix: str) -> None:
    """Let the server write down the quorum queues that were just made.

    RabbitMQ 3.10 keeps the latest entry of their register in memory for three seconds. One that is killed
    by then does not find what it confirmed for that queue, which has no leader and answers nothing any
    more (as in https://github.com/rabbitmq/rabbitmq-server/issues/15725). The next entry sends the one
    before it to the file.
    """
    name = f"{prefix}.passing:{new_message_id()}"
    arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-expires": QUEUE_EXPIRES}
    async with own_channel(connection) as channel:
        await step(channel.queue_declare(name, durable=True, arguments=arguments))
        await step(channel.queue_delete(name))

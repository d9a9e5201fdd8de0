"""A subscription of ``every_instance``: a queue that is gone with its connection.

What failed is tried again from memory, and is logged when it is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import aiormq
from aiormq import Channel
from aiormq.abc import DeliveredMessage

from purista.bridges.deliveries import Deliveries
from purista.bridges.port import Receiver
from purista.bridges.rabbitmq_connection import Failure, Lost, step
from purista.bridges.rabbitmq_consumer import RabbitMQConsumer
from purista.bridges.rabbitmq_message import message_from
from purista.bridges.rabbitmq_names import Names
from purista.bridges.rabbitmq_subscription import MOST
from purista.bridges.rabbitmq_topology import Topology
from purista.clock import Clock
from purista.errors import BridgeError
from purista.message import Message, new_message_id
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")


class RabbitMQInstance:
    """A receiver that gets every event while it is there."""

    def __init__(
        self,
        consumer_of: Callable[..., RabbitMQConsumer],
        topology: Topology,
        names: Names,
        *,
        event: str,
        subscriber: str,
        receive: Receiver,
        options: SubscriptionOptions,
        clock: Clock,
        gone: Callable[[RabbitMQInstance], None],
    ) -> None:
        self._event = event
        self._names = names
        self._topology = topology
        self._subscriber = subscriber
        self._gone = gone
        self._is_stopping = False
        self._due: deque[InstanceDelivery] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._settling: set[asyncio.Task[None]] = set()
        self._deliveries = Deliveries(
            event, subscriber, receive, options=options, clock=clock, freed=self._take_due
        )
        self._consumer = consumer_of(
            place=f"event {event}: instance of {subscriber}",
            prepare=self._prepare,
            arrived=self._arrived,
            lost=_nothing,
            prefetch=min(options.concurrency, MOST),
        )

    async def start(self) -> None:
        """Make the queue and begin to consume. Raises ``BridgeError``."""
        await self._consumer.start()

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated."""
        self._is_stopping = True
        for timer in self._timers:
            timer.cancel()
        self._due.clear()
        await self._consumer.stop()
        await self._deliveries.drained()
        await asyncio.gather(*self._settling)
        await self._finish()

    async def abandon(self) -> None:
        """Stop without a word; for one that could not start."""
        self._is_stopping = True
        await self._finish()

    def take_later(self, delivery: InstanceDelivery, after: float) -> None:
        """Let the receiver have it after so many seconds, when there is room."""
        if self._is_stopping:
            return

        def is_due() -> None:
            self._timers.discard(timer)
            self._due.append(delivery)
            self._take_due()

        timer = asyncio.get_running_loop().call_later(after, is_due)
        self._timers.add(timer)

    async def settle(self, channel: Channel, tag: int) -> None:
        """Let the server send another one; where the queue is gone there is nobody to tell."""
        if self._consumer.has(channel):
            try:
                await step(channel.basic_ack(tag, wait=False))
            except (*Failure, Lost):
                logger.debug("event %s: an instance lost its queue", self._event)

    async def _finish(self) -> None:
        await self._consumer.close()
        self._deliveries.close()
        self._gone(self)

    async def _prepare(self, connection: aiormq.Connection) -> str:
        name = self._names.instance(self._event, self._subscriber, new_message_id())
        return await self._topology.instance(connection, self._event, name)

    def _arrived(self, channel: Channel, delivered: DeliveredMessage) -> None:
        if self._is_stopping:
            return
        tag = delivered.delivery_tag or 0
        fallback = delivered.header.properties.message_id or new_message_id()
        try:
            message = message_from(self._event, delivered, fallback_id=fallback)
        except BridgeError as error:
            logger.error("event %s: message %s: %s", self._event, fallback, error)
            task = asyncio.create_task(self.settle(channel, tag))
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)
        else:
            self._deliveries.take(InstanceDelivery(self, channel, tag, message, 1))

    def _take_due(self) -> None:
        while self._due and self._deliveries.free > 0 and not self._is_stopping:
            self._deliveries.take(self._due.popleft())


class InstanceDelivery:
    """One event in the hands of an instance; only the instance knows of it."""

    __slots__ = ("_channel", "_instance", "_tag", "attempt", "message")

    def __init__(
        self,
        instance: RabbitMQInstance,
        channel: Channel,
        tag: int,
        message: Message,
        attempt: int,
    ) -> None:
        self._instance = instance
        self._channel = channel
        self._tag = tag
        self.message = message
        self.attempt = attempt

    async def done(self) -> None:
        """Let the server send another one."""
        if self._tag:
            await self._instance.settle(self._channel, self._tag)

    async def again(self, after: float) -> None:
        """Keep it until its next attempt is due; the server has forgotten it by then."""
        again = InstanceDelivery(self._instance, self._channel, 0, self.message, self.attempt + 1)
        self._instance.take_later(again, after)
        await self.done()

    async def bury(self, reason: str) -> None:
        """It is given up; the log says so."""
        await self.done()

    async def give_back(self) -> None:
        """Nothing is kept for an instance that goes."""

    async def prolong(self) -> None:
        """Nobody else waits for it."""


def _nothing() -> None:
    """What an instance has in hand is nobody else's."""

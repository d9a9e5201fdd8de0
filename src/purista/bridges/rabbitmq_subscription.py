"""A subscription on RabbitMQ: a consumer of its subscriber's queue, and what settling means there.

A lease is the connection: who gives no sign of life loses it, and with it every event in hand, which the
server gives to others. Those that are at work then are cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Final

import aiormq
from aiormq import Channel
from aiormq.abc import DeliveredMessage

from purista.bridges.deliveries import Deliveries
from purista.bridges.envelope import why_unread
from purista.bridges.port import Receiver
from purista.bridges.rabbitmq_connection import LONGEST_PAUSE, Failure, Lost, step
from purista.bridges.rabbitmq_consumer import RabbitMQConsumer
from purista.bridges.rabbitmq_deadletters import RabbitMQDeadEvents, unread
from purista.bridges.rabbitmq_message import (
    ATTEMPT,
    message_from,
    number,
    properties_of,
    raw_headers,
)
from purista.bridges.rabbitmq_names import Names
from purista.bridges.rabbitmq_sender import RabbitMQSender, UnroutableError
from purista.bridges.rabbitmq_topology import Topology, way_of
from purista.clock import Clock
from purista.errors import BridgeError, LeaseLostError
from purista.message import Message, new_message_id
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")

HELD: Final = 0.5
"""Seconds up to which an event waits for its next attempt in this process; longer waits are the server's."""

MOST: Final = 65_535
"""How many events a channel can have in hand."""

RAN_OUT: Final = "its receivers did not come to an end in any attempt"


class RabbitMQSubscription:
    """A receiver at work: the server sends it as many events as it has room for."""

    def __init__(
        self,
        consumer_of: Callable[..., RabbitMQConsumer],
        sender: RabbitMQSender,
        topology: Topology,
        letters: RabbitMQDeadEvents,
        names: Names,
        *,
        event: str,
        subscriber: str,
        receive: Receiver,
        options: SubscriptionOptions,
        clock: Clock,
        gone: Callable[[RabbitMQSubscription], None],
    ) -> None:
        self.event = event
        self.subscriber = subscriber
        self.sender = sender
        self.letters = letters
        self.queue = names.queue(event, subscriber)
        self._names = names
        self._topology = topology
        self._options = options
        self._gone = gone
        self._is_stopping = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._finishing: asyncio.Task[None] | None = None
        self._deliveries = Deliveries(event, subscriber, receive, options=options, clock=clock)
        self.consumer = consumer_of(
            place=f"event {event}: subscriber {subscriber}",
            prepare=self._prepare,
            arrived=self._arrived,
            lost=self._deliveries.lose_all,
            prefetch=min(options.concurrency, MOST),
        )

    async def start(self) -> None:
        """Make the queue and begin to consume. Raises ``BridgeError``."""
        await self.consumer.start()

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated."""
        self._is_stopping = True
        await self.consumer.stop()
        await self._deliveries.drained()
        if self._deliveries.free < self._options.concurrency:  # this is called by a receiver
            self._finishing = asyncio.create_task(self._drained_and_finished())
        else:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._finish()

    async def abandon(self) -> None:
        """Stop without a word; for one that could not start."""
        self._is_stopping = True
        await self._finish()

    async def retry(self, message: Message, attempt: int, after: float) -> None:
        """Let the server deliver a copy as the next attempt; return once it has it."""
        if after <= HELD:
            await self._copy(message, attempt, "", self.queue)
            return
        level, key = way_of(after, self.queue)
        try:
            await self._copy(message, attempt, self._names.wait(level), key)
        except UnroutableError:  # somebody deleted a part of the way
            await self.sender.do(lambda channel: self._topology.ladder(channel.connection, level))
            await self._copy(message, attempt, self._names.wait(level), key)

    async def _copy(self, message: Message, attempt: int, exchange: str, key: str) -> None:
        properties = properties_of(message, {ATTEMPT: attempt})
        await self.sender.send(exchange, key, message.body, properties, mandatory=True)

    async def _drained_and_finished(self) -> None:
        await self._deliveries.drained()
        await self._finish()

    async def _finish(self) -> None:
        await self.consumer.close()
        self._deliveries.close()
        self._gone(self)

    async def _prepare(self, connection: aiormq.Connection) -> str:
        backoff = self._options.backoff
        longest = backoff.maximum * (1 + backoff.jitter)
        return await self._topology.subscriber(
            connection, self.event, self.subscriber, longest=longest.total_seconds()
        )

    def _arrived(self, channel: Channel, delivered: DeliveredMessage) -> None:
        if not self.consumer.has(channel):
            return  # sent before an outage or a standstill: it comes again, to whomever
        attempt = _attempt(delivered)
        given_id = delivered.header.properties.message_id or ""
        try:
            message = message_from(self.event, delivered, fallback_id=given_id)
        except Exception as error:
            message, reason = unread(self.event, delivered), why_unread(error)
            logger.error(
                "event %s: subscriber %s: a dead letter, message %s: %s",
                self.event,
                self.subscriber,
                message.id,
                reason,
                exc_info=None if isinstance(error, BridgeError) else error,
            )
            self._do(RabbitMQDelivery(self, channel, delivered, message, attempt).bury(reason))
            return
        delivery = RabbitMQDelivery(self, channel, delivered, message, attempt)
        if self._is_stopping:
            self._do(delivery.give_back())
        elif not message.id:
            self._do(delivery.replace(message._replace(id=new_message_id())))
        elif attempt > self._options.max_attempts:
            logger.error("event %s: a dead letter, message %s: %s", self.event, message.id, RAN_OUT)
            self._do(delivery.bury(RAN_OUT))
        else:
            self._deliveries.take(delivery)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._done(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _done(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BridgeError as error:
            logger.warning("event %s: subscriber %s: %s", self.event, self.subscriber, error)
        except Exception:
            logger.exception("event %s: subscriber %s: it goes on", self.event, self.subscriber)


class RabbitMQDelivery:
    """One event that the server delivered on a channel; as long as that is open it is this receiver's."""

    __slots__ = ("_channel", "_subscription", "_tag", "attempt", "message")

    def __init__(
        self,
        subscription: RabbitMQSubscription,
        channel: Channel,
        delivered: DeliveredMessage,
        message: Message,
        attempt: int,
    ) -> None:
        self._subscription = subscription
        self._channel = channel
        self._tag = delivered.delivery_tag or 0
        self.message = message
        self.attempt = attempt

    async def done(self) -> None:
        """Acknowledge it; AMQP has no answer to that."""
        self._check()
        try:
            await step(self._channel.basic_ack(self._tag, wait=False))
        except (*Failure, Lost):
            raise self._lost() from None

    async def again(self, after: float) -> None:
        """Let the server keep a copy for the next attempt, then acknowledge this one."""
        if 0 < after <= HELD:
            await asyncio.sleep(after)
        self._check()
        await self._settle(self._subscription.retry(self.message, self.attempt + 1, after))

    async def bury(self, reason: str) -> None:
        """Store the dead letter, then acknowledge the event."""
        self._check()
        one = self._subscription
        await self._settle(
            one.letters.bury(one.event, one.subscriber, self.message, self.attempt, reason)
        )

    async def replace(self, message: Message) -> None:
        """Put a message in its place that has an id, which stays the same from then on."""
        await self._settle(self._subscription.retry(message, self.attempt, 0))

    async def give_back(self) -> None:
        """Let the server deliver it again at once; it may count as an attempt."""
        self._check()
        try:
            await step(self._channel.basic_nack(self._tag, requeue=True, wait=False))
        except (*Failure, Lost):
            raise self._lost() from None

    async def prolong(self) -> None:
        """The connection's signs of life are those of its receivers."""
        self._check()

    async def _settle(self, stored: Coroutine[Any, Any, None]) -> None:
        """Acknowledge it once something else is stored; give it back, a little later, if nothing is."""
        try:
            await stored
        except Exception:
            await asyncio.sleep(LONGEST_PAUSE)
            await self.give_back()
            raise
        await self.done()

    def _check(self) -> None:
        if not self._subscription.consumer.has(self._channel):
            raise self._lost()

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"event '{self._subscription.event}': subscriber '{self._subscription.subscriber}': its "
            "connection was lost; the event comes again"
        )


def _attempt(delivered: DeliveredMessage) -> int:
    """Return which delivery it is: what its last sender says, and how often it came back since.

    Queues count that themselves; since RabbitMQ 4 not every return is a failed delivery.
    """
    headers = raw_headers(delivered)
    first = max(number(headers, ATTEMPT, 1), 1)
    if not getattr(delivered.delivery, "redelivered", False):
        return first
    returned = number(headers, "x-delivery-count", 0) or number(headers, "x-acquired-count", 0)
    return first + max(returned, 1)


MOST_HEARTBEAT: Final = 65_534
"""Seconds: aiormq takes no longer one."""


def heartbeat_of(lease: timedelta) -> int:
    """Return the heartbeat of a connection whose silence ends a lease, never before it is over.

    After two to three of them without a sign of life the server gives a connection up.

    >>> [heartbeat_of(timedelta(seconds=lease)) for lease in (30, 5, 1)]
    [15, 3, 1]
    """
    return min(math.ceil(lease.total_seconds() / 2), MOST_HEARTBEAT)

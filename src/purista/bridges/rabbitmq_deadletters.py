"""The dead letters of subscribers on RabbitMQ: a queue for each event and subscriber that has any.

They are looked through by taking all of them in hand and giving them back, which only one can do at a
time: whoever does so has a queue for itself that stands for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import aiormq
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from purista.bridges.port import DeadEvent
from purista.bridges.rabbitmq_connection import opened, part, step
from purista.bridges.rabbitmq_message import (
    ATTEMPTS,
    DIED,
    LETTER,
    REASON,
    message_from,
    number,
    properties_of,
    raw_headers,
    text,
)
from purista.bridges.rabbitmq_names import Names
from purista.bridges.rabbitmq_sender import RabbitMQSender, UnroutableError
from purista.bridges.rabbitmq_topology import MANY, is_there, keep_queues, make_queue
from purista.clock import Clock
from purista.errors import BridgeError
from purista.message import Message, new_message_id

logger = logging.getLogger("purista.bridges")

LOCK_PAUSE: Final = 0.05
"""Seconds before it is tried again to be the only one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Letter(NamedTuple):
    """A dead letter in hand; ``key`` is its own id, whichever copy of it this is."""

    key: str
    tag: int
    event: DeadEvent


class RabbitMQDeadEvents:
    """Keeps, lists, redrives and purges dead letters."""

    def __init__(self, sender: RabbitMQSender, names: Names, *, clock: Clock) -> None:
        self._sender = sender
        self._names = names
        self._clock = clock
        self._locks: dict[str, asyncio.Lock] = {}

    async def bury(
        self, event: str, subscriber: str, message: Message, attempts: int, reason: str
    ) -> None:
        """Store a dead letter; return once the server has it."""
        extra: dict[str, str | int] = {
            ATTEMPTS: attempts,
            REASON: reason[:1000],
            DIED: (self._clock.now() - _EPOCH) // _MICROSECOND,
            LETTER: new_message_id(),
        }
        name, properties = self._names.letters(event, subscriber), _properties(message, extra)
        try:
            await self._sender.send("", name, message.body, properties, mandatory=True)
        except UnroutableError:
            await self._sender.do(lambda channel: self._make(channel, name))
            await self._sender.send("", name, message.body, properties, mandatory=True)

    async def of(self, event: str, subscriber: str) -> list[DeadEvent]:
        """Return those of a subscriber, oldest first."""

        async def listed(channel: Channel) -> list[DeadEvent]:
            async with self._alone(channel, event, subscriber):
                found = await self._all(channel, event, subscriber)
                return list({letter.key: letter.event for letter in found}.values())

        return await self._sender.do(listed)

    async def redrive(self, event: str, subscriber: str, message_id: str | None) -> int:
        """Deliver them again to the subscriber alone; none while it has never been there."""
        queue, done = self._names.queue(event, subscriber), set[str]()

        async def redriven(channel: Channel) -> int:
            async with self._alone(channel, event, subscriber):
                for letter in await self._all(channel, event, subscriber):
                    message = letter.event.message
                    if message_id not in (None, message.id):
                        continue
                    if letter.key not in done:
                        properties = properties_of(message)
                        try:
                            await self._sender.send(
                                "", queue, message.body, properties, mandatory=True
                            )
                        except UnroutableError:
                            return len(done)
                        done.add(letter.key)
                    await step(channel.basic_ack(letter.tag))
                return len(done)

        return await self._sender.do(redriven)

    async def purge(self, event: str, subscriber: str, message_id: str | None) -> int:
        """Delete them; return how many."""
        done = set[str]()

        async def purged(channel: Channel) -> int:
            async with self._alone(channel, event, subscriber):
                for letter in await self._all(channel, event, subscriber):
                    if message_id in (None, letter.event.message.id):
                        await step(channel.basic_ack(letter.tag))
                        done.add(letter.key)
                return len(done)

        return await self._sender.do(purged)

    @contextlib.asynccontextmanager
    async def _alone(self, channel: Channel, event: str, subscriber: str) -> AsyncIterator[None]:
        """Be the only one who has these dead letters in hand, in this process and in others."""
        name = self._names.lock(event, subscriber)
        async with self._locks.setdefault(name, asyncio.Lock()):
            held = await self._locked(channel.connection, name)
            try:
                yield
            finally:
                await part(channel)  # gives back what was not settled, before others look
                await part(held)

    async def _locked(self, connection: Any, name: str) -> Channel:
        """Return the channel that consumes from the queue for one; it goes with its consumer."""
        arguments: dict[str, Any] = {"x-queue-type": "classic"}
        while True:
            channel: Channel = await opened(connection)
            try:
                await step(
                    channel.queue_declare(
                        name, exclusive=True, auto_delete=True, arguments=arguments
                    )
                )
                await step(channel.basic_consume(name, _ignored, no_ack=True))
            except aiormq.ChannelLockedResource:
                await part(channel)
                await asyncio.sleep(LOCK_PAUSE)
            except BaseException:
                await part(channel)
                raise
            else:
                return channel

    async def _make(self, channel: Channel, name: str) -> None:
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": MANY}
        if await make_queue(channel.connection, name, arguments):
            await keep_queues(channel.connection, self._names.prefix)

    async def _all(self, channel: Channel, event: str, subscriber: str) -> list[Letter]:
        """Take all of them in hand, oldest first; none where there is no queue."""
        name, found = self._names.letters(event, subscriber), list[Letter]()
        if not await is_there(channel.connection, name):
            return found
        while True:
            got = await step(channel.basic_get(name))
            if isinstance(got.delivery, Basic.GetEmpty):
                break
            found.append(_letter(event, subscriber, got))
        return sorted(found, key=lambda letter: letter.event.died_at)


def _properties(message: Message, extra: dict[str, str | int]) -> Basic.Properties:
    """Return the properties of a dead letter; without what its sender gave it where no frame takes that."""
    try:
        return properties_of(message, extra)
    except BridgeError as error:
        logger.warning("RabbitMQ: a dead letter loses its headers: %s", error)
        short = Message(message.name, message.body, message.id[:200])
        return properties_of(short, extra)


def unread(event: str, delivered: DeliveredMessage) -> Message:
    """Return what cannot be read as a message, as one that can be a dead letter."""
    message_id = delivered.header.properties.message_id or new_message_id()
    return Message(event, delivered.body, message_id, None, {"purista-unread": "true"})


def _letter(event: str, subscriber: str, got: DeliveredMessage) -> Letter:
    headers = raw_headers(got)
    fallback = got.header.properties.message_id or "unknown"
    try:
        message = message_from(event, got, fallback_id=fallback)
    except BridgeError:
        message = unread(event, got)
    died_at = _EPOCH + number(headers, DIED, 0) * _MICROSECOND
    attempts, reason = number(headers, ATTEMPTS, 0), text(headers.get(REASON, "unknown"))
    letter = DeadEvent(event, subscriber, message, attempts, reason, died_at)
    tag = got.delivery_tag or 0
    return Letter(text(headers.get(LETTER, f"{fallback}:{tag}")), tag, letter)


async def _ignored(_: DeliveredMessage) -> None:
    """Nothing is sent to a queue that only says who is there."""

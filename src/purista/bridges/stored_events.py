"""An event bridge in a database that has work queues: each subscriber of an event is a queue.

A published event is put into the queue of every subscriber in one transaction. From there on it is a
job: leased, tried again, buried as jobs are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Final, Protocol

from purista.bridges.port import (
    DeadEvent,
    DeadLetters,
    EventBridgeCapabilities,
    QueueBridge,
    Receiver,
    Reply,
    Responder,
    Subscription,
)
from purista.bridges.stored_commands import StoredCommands
from purista.bridges.stored_members import Members
from purista.bridges.stored_subscription import StoredSubscription, event_of
from purista.clock import Clock
from purista.errors import BridgeClosedError, BridgeError
from purista.message import Message
from purista.subscribing import DEFAULT, SubscriptionOptions

KEEP: Final = timedelta(days=30)
"""How long events are kept for a subscriber name that nobody uses."""


class Queues(QueueBridge, DeadLetters, Protocol):
    """Queues with dead letters."""


class StoredEventBridge:
    """Implements ``EventBridge`` and ``EventDeadLetters`` over queues and members of one database.

    Owns both. ``keep``: after so long without a receiver a subscriber name is forgotten.
    """

    def __init__(
        self,
        queues: Queues,
        members: Members,
        *,
        capabilities: EventBridgeCapabilities,
        place: str,
        clock: Clock,
        keep: timedelta = KEEP,
    ) -> None:
        self._queues = queues
        self._members = members
        self._capabilities = capabilities
        self._place = place
        self._clock = clock
        self._keep = keep
        self._commands = StoredCommands(queues, members, clock=clock, place=place)
        self._subscriptions: set[StoredSubscription] = set()
        self._closing = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    @property
    def capabilities(self) -> EventBridgeCapabilities:
        """What this bridge really does."""
        return self._capabilities

    async def publish(self, message: Message) -> None:
        """Put an event into the queue of every subscriber, in one transaction."""
        self._refuse_if_closing(f"event '{message.name}'")
        await self._members.post(("subscriber", "instance"), message.name, message)

    async def subscribe(
        self,
        event: str,
        subscriber: str,
        receive: Receiver,
        *,
        options: SubscriptionOptions = DEFAULT,
    ) -> Subscription:
        """Receive an event; see ``EventBridge``. What was published before the name was first used is past.

        Raises ``BridgeError`` for ``ordered``: an event that waits for its next attempt does not hold
        up those behind it.
        """
        place = f"event '{event}'"
        self._refuse_if_closing(place)
        if options.ordered:
            raise BridgeError(
                f"{place}: subscriber '{subscriber}': queues keep no order when an event is tried "
                "again; subscribe without ordered=True, or use a bridge that is ordered"
            )
        subscription = StoredSubscription(
            self._queues,
            self._members,
            event=event,
            subscriber=subscriber,
            receive=receive,
            options=options,
            clock=self._clock,
            keep=self._keep,
            gone=self._subscriptions.discard,
        )
        await subscription.start()
        if self._closing:
            await subscription.cancel()
            self._refuse_if_closing(place)
        self._subscriptions.add(subscription)
        return subscription

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; what is returned can be awaited for the reply, more than once.

        A request whose time is over is not begun. Raises ``BridgeError`` when it could not be sent.
        """
        self._refuse_if_closing(f"command '{message.name}'")
        return await self._commands.request(message, timeout=timeout)

    async def serve(self, command: str, answer: Responder) -> Subscription:
        """Answer a command; its responders, in whatever process, share its requests."""
        self._refuse_if_closing(f"command '{command}'")
        return await self._commands.serve(command, answer)

    async def dead_letters(self, event: str, subscriber: str) -> Sequence[DeadEvent]:
        """Return the dead letters of a subscriber, oldest first; they stay until somebody acts."""
        queue = event_of(event, subscriber)
        return [
            DeadEvent(
                event,
                subscriber,
                one.job.message._replace(name=event),
                one.attempts,
                one.reason,
                one.died_at,
            )
            for one in await self._queues.dead_letters(queue)
        ]

    async def redrive(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Deliver dead letters again; also to a subscriber that is away, when it is back."""
        self._refuse_if_closing(f"event '{event}'")
        return await self._queues.redrive(event_of(event, subscriber), message_id=message_id)

    async def purge(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many."""
        return await self._queues.purge(event_of(event, subscriber), message_id=message_id)

    async def close(self) -> None:
        """Take nothing new, let what is at work finish, and close the database. May be repeated.

        Cancel the call to cut off what is still at work; its events come again at once.
        """
        self._closing = True
        try:
            await asyncio.gather(*(one.cancel() for one in tuple(self._subscriptions)))
            await self._commands.drained()
        finally:
            await self._commands.close()
            await self._queues.close()
            await self._members.close()

    def _refuse_if_closing(self, place: str) -> None:
        if self._closing:
            raise BridgeClosedError(
                f"{place}: the bridge to {self._place} is closed; it takes nothing new"
            )

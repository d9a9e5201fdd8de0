"""The Redis event bridge: events in streams, commands in lists, in one Redis or Valkey server.

Each event has a stream, each subscriber of it a consumer group. What every subscriber has handled is
trimmed away, what a subscriber missed is kept for it, up to ``keep``.
https://valkey.io/topics/streams-intro/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Final

from purista.bridges.port import (
    DeadEvent,
    EventBridgeCapabilities,
    Health,
    Receiver,
    Reply,
    Responder,
    Subscription,
)
from purista.clock import Clock, SystemClock
from purista.errors import BridgeError, MissingExtraError
from purista.message import Message, new_message_id
from purista.subscribing import DEFAULT, SubscriptionOptions

try:
    from purista.bridges.redis_event_commands import RedisCommands
    from purista.bridges.redis_event_deadletters import RedisDeadEvents
    from purista.bridges.redis_event_entry import fields_of
    from purista.bridges.redis_event_instance import RedisInstance
    from purista.bridges.redis_event_names import Names
    from purista.bridges.redis_event_responders import RedisResponder
    from purista.bridges.redis_event_scripts import PUBLISH
    from purista.bridges.redis_event_subscription import RedisSubscription
    from purista.bridges.redis_sent import SENT_KEPT, Sent
    from purista.bridges.redis_server import RedisServer
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("an event bridge to Redis or Valkey", "redis") from None

TIMEOUT: Final = timedelta(seconds=10)
"""How long a call may take while the server is away or does not answer."""

KEEP: Final = timedelta(days=30)
"""How long an event is kept for a subscriber that is away."""

LINGER: Final = timedelta(minutes=1)
"""How long an event is kept that every subscriber has handled, or that has none."""

LARGEST: Final = 500_000_000
"""Bytes of a body; a server takes 512 MB in one piece (``proto-max-bulk-len``)."""

_CAPABILITIES = EventBridgeCapabilities(
    name="redis",
    durable=True,
    delivery="at-least-once",
    redelivers=True,
    dead_letters=True,
    across_processes=True,
    commands=True,
    every_instance=True,
    ordered=False,
    largest=LARGEST,
)


class RedisEventBridge:
    """Implements ``EventBridge``, ``EventDeadLetters`` and ``Connects``; needs the extra ``redis``.

    ``url``: ``redis://[user:password@]host[:port][/database]``, ``rediss://`` for TLS, ``unix://path``;
    one server (Redis 6.2 or later, Valkey), no cluster. ``prefix`` begins every key and channel, so
    that deployments can share a server. ``timeout`` bounds a call. ``keep``: so long an event waits for a
    subscriber that is away. What survives is what the server keeps: ``appendonly yes`` with
    ``appendfsync always`` loses nothing that was confirmed. For one event loop.

    It opens one connection, one more for each subscription, and two for commands.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "purista",
        timeout: timedelta = TIMEOUT,
        keep: timedelta = KEEP,
        clock: Clock | None = None,
    ) -> None:
        self._names = Names(prefix)
        self._clock = clock or SystemClock()
        self._keep = keep
        self._bounds = (_ms(keep), _ms(min(LINGER, keep)))
        self._instance = new_message_id()
        self._server = RedisServer(url, timeout=timeout)
        self._sent = Sent(self._names, self._instance)
        self._letters = RedisDeadEvents(self._server, self._names)
        self._commands: RedisCommands | None = None
        self._subscriptions: set[RedisSubscription | RedisInstance | RedisResponder] = set()
        self._subscribed = 0
        self._closing = False

    def __repr__(self) -> str:
        return f"RedisEventBridge({self._server.name!r})"

    @property
    def capabilities(self) -> EventBridgeCapabilities:
        """What this bridge really does; how durable the server is, its settings say."""
        return _CAPABILITIES

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._server.health

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the server answers. Raises ``BridgeError``."""
        self._refuse_if_closing("connection")
        await self._server.connect(patience=patience)

    async def publish(self, message: Message) -> None:
        """Store an event, once; return once the server has confirmed it."""
        place = f"event '{message.name}'"
        self._refuse_if_closing(place)
        self._refuse_if_too_large(place, message)
        block, bit = self._sent.next()
        keys = (self._names.stream(message.name), block)
        await self._server.run(PUBLISH, keys, bit, SENT_KEPT, *self._bounds, *fields_of(message))

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
                f"{place}: subscriber '{subscriber}': Redis keeps no order when an event is tried "
                "again; subscribe without ordered=True, or use a bridge that is ordered"
            )
        subscription: RedisSubscription | RedisInstance
        if options.every_instance:
            subscription = RedisInstance(
                self._server,
                self._names,
                event=event,
                subscriber=subscriber,
                receive=receive,
                options=options,
                clock=self._clock,
                gone=self._subscriptions.discard,
            )
        else:
            self._subscribed += 1
            subscription = RedisSubscription(
                self._server,
                self._names,
                event=event,
                subscriber=subscriber,
                receive=receive,
                options=options,
                clock=self._clock,
                consumer=f"{self._instance}.{self._subscribed}",
                linger=min(LINGER, self._keep),
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
        place = f"command '{message.name}'"
        self._refuse_if_closing(place)
        self._refuse_if_too_large(place, message)
        return await self._commanding().request(message, timeout=timeout)

    async def serve(self, command: str, answer: Responder) -> Subscription:
        """Answer a command; its responders, in whatever process, share its requests."""
        self._refuse_if_closing(f"command '{command}'")
        responder = await self._commanding().serve(command, answer)
        self._subscriptions.add(responder)
        return responder

    async def dead_letters(self, event: str, subscriber: str) -> Sequence[DeadEvent]:
        """Return the dead letters of a subscriber, oldest first; they stay until somebody acts."""
        return await self._letters.of(event, subscriber)

    async def redrive(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Deliver dead letters again; also to a subscriber that is away, when it is back."""
        self._refuse_if_closing(f"event '{event}'")
        return await self._letters.redrive(event, subscriber, message_id)

    async def purge(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many."""
        return await self._letters.purge(event, subscriber, message_id)

    async def close(self) -> None:
        """Take nothing new, let what is at work finish, and close the connections. May be repeated.

        Cancel the call to cut off what is still at work; its events come again at once.
        """
        self._closing = True
        try:
            await asyncio.gather(*(one.cancel() for one in tuple(self._subscriptions)))
        finally:
            if self._commands is not None:
                await self._commands.close()
            await self._server.close()

    def _commanding(self) -> RedisCommands:
        if self._commands is None:
            self._commands = RedisCommands(
                self._server, self._names, self._sent, instance=self._instance, clock=self._clock
            )
        return self._commands

    def _refuse_if_closing(self, place: str) -> None:
        if self._closing:
            raise self._server.closed_error(place)

    def _refuse_if_too_large(self, place: str, message: Message) -> None:
        if len(message.body) > LARGEST:
            raise self._server.refusal(
                f"{place}: a body of {len(message.body)} bytes is more than the server takes "
                f"({LARGEST}); send a reference"
            )


def _ms(duration: timedelta) -> int:
    return max(int(duration.total_seconds() * 1000), 1)

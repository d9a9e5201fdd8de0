"""The RabbitMQ event bridge: events in quorum queues, commands in queues of requests.

All events go to one topic exchange, under their names. Each (event, subscriber) has a queue, bound to the
event, so that what a subscriber missed is kept for it, up to ``keep``.
https://www.rabbitmq.com/docs/quorum-queues
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
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
from purista.message import Message
from purista.subscribing import DEFAULT, SubscriptionOptions

try:
    from purista.bridges.rabbitmq_commands import RabbitMQCommands, RabbitMQResponder
    from purista.bridges.rabbitmq_connection import FIRST_PAUSE, Address, RabbitMQConnection
    from purista.bridges.rabbitmq_consumer import RabbitMQConsumer
    from purista.bridges.rabbitmq_deadletters import RabbitMQDeadEvents
    from purista.bridges.rabbitmq_instance import RabbitMQInstance
    from purista.bridges.rabbitmq_message import properties_of
    from purista.bridges.rabbitmq_names import Names, routing_key
    from purista.bridges.rabbitmq_sender import LARGEST, RabbitMQSender
    from purista.bridges.rabbitmq_subscription import RabbitMQSubscription, heartbeat_of
    from purista.bridges.rabbitmq_topology import Topology
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("an event bridge to RabbitMQ", "rabbitmq") from None

TIMEOUT: Final = timedelta(seconds=10)
"""How long a call may take while the server is away or does not answer."""

KEEP: Final = timedelta(days=30)
"""How long an event is kept for a subscriber that is away."""

SENDING_HEARTBEAT: Final = 5
"""Seconds between two signs of life on the connection that sends."""

_CAPABILITIES = EventBridgeCapabilities(
    name="rabbitmq",
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


class RabbitMQEventBridge:
    """Implements ``EventBridge``, ``EventDeadLetters`` and ``Connects``; needs the extra ``rabbitmq``.

    ``url``: ``amqp://[user:password@]host[:port][,host...][/vhost]``, ``amqps://`` for TLS, with
    ``?cafile=FILE`` for a certificate authority of your own; RabbitMQ 3.10 or later. ``prefix`` begins the
    names of exchanges and queues, so that deployments can share a virtual host. ``timeout`` bounds a call.
    ``keep``: so long an event waits for a subscriber that is away; for queues that are not there yet: one
    that is stays as it is. For one event loop.

    It opens one connection that sends and one that receives; one more for each other length of lease.
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
        self._address = Address.of(url)
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._connection = self._connected("sends", SENDING_HEARTBEAT, probes=False)
        self._receiving: dict[int, RabbitMQConnection] = {}
        self._sender = RabbitMQSender(self._connection, self._names, timeout=timeout)
        self._topology = Topology(self._names, keep=keep)
        self._letters = RabbitMQDeadEvents(self._sender, self._names, clock=self._clock)
        self._commands = RabbitMQCommands(
            self._sender, self._topology, self._names, timeout=timeout, clock=self._clock
        )
        self._subscriptions: set[RabbitMQSubscription | RabbitMQInstance | RabbitMQResponder] = (
            set()
        )
        self._closing = False

    def __repr__(self) -> str:
        return f"RabbitMQEventBridge({self._address.name!r})"

    @property
    def capabilities(self) -> EventBridgeCapabilities:
        """What this bridge really does."""
        return _CAPABILITIES

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of, on the connection that is worst off."""
        states = [self._connection.health, *(one.health for one in self._receiving.values())]
        for state in ("closed", "down", "up"):
            for health in states:
                if health.state == state:
                    return health
        return states[0]

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the server answers. Raises ``BridgeError``, at once when it refuses the user."""
        self._refuse_if_closing("connection")
        now = asyncio.get_running_loop().time
        end = None if patience is None else now() + patience.total_seconds()
        if end is not None and end - now() < FIRST_PAUSE:
            await self._connection.tried()
        else:
            await self._connection.live(until=end)

    async def publish(self, message: Message) -> None:
        """Store an event; return once the server has confirmed it.

        One whose confirmation was lost with the connection is sent again, and can come twice.
        """
        self._refuse_if_closing(f"event '{message.name}'")
        key = routing_key(message.name)
        await self._sender.send(self._names.events, key, message.body, properties_of(message))

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
                f"{place}: subscriber '{subscriber}': RabbitMQ keeps no order when an event is tried "
                "again; subscribe without ordered=True, or use a bridge that is ordered"
            )
        subscription = self._subscription(event, subscriber, receive, options)
        self._subscriptions.add(subscription)
        try:
            await subscription.start()
            self._refuse_if_closing(place)
        except BaseException:
            await subscription.abandon()
            raise
        return subscription

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; what is returned can be awaited for the reply, more than once.

        It is sent once: when the connection is lost meanwhile, ``BridgeError`` says that it may be run. A
        request that is not taken before its time is over is not begun.
        """
        self._refuse_if_closing(f"command '{message.name}'")
        return await self._commands.request(message, timeout=timeout)

    async def serve(self, command: str, answer: Responder) -> Subscription:
        """Answer a command; its responders, in whatever process, share its requests."""
        self._refuse_if_closing(f"command '{command}'")
        responder = await self._commands.serve(command, answer, self._consumers(DEFAULT.lease))
        self._subscriptions.add(responder)
        return responder

    async def dead_letters(self, event: str, subscriber: str) -> Sequence[DeadEvent]:
        """Return the dead letters of a subscriber, oldest first; they stay until somebody acts."""
        return await self._letters.of(event, subscriber)

    async def redrive(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Deliver dead letters again; none while the subscriber has never been there.

        One that is cut off between the two steps is delivered and stays a dead letter.
        """
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
            await asyncio.sleep(0)
        finally:
            await self._commands.close()
            connections = (self._connection, *self._receiving.values())
            await asyncio.gather(*(one.close() for one in connections))

    def _subscription(
        self, event: str, subscriber: str, receive: Receiver, options: SubscriptionOptions
    ) -> RabbitMQSubscription | RabbitMQInstance:
        consumer_of = self._consumers(options.lease)
        if options.every_instance:
            return RabbitMQInstance(
                consumer_of,
                self._topology,
                self._names,
                event=event,
                subscriber=subscriber,
                receive=receive,
                options=options,
                clock=self._clock,
                gone=self._subscriptions.discard,
            )
        return RabbitMQSubscription(
            consumer_of,
            self._sender,
            self._topology,
            self._letters,
            self._names,
            event=event,
            subscriber=subscriber,
            receive=receive,
            options=options,
            clock=self._clock,
            gone=self._subscriptions.discard,
        )

    def _consumers(self, lease: timedelta) -> Callable[..., RabbitMQConsumer]:
        """Return what makes consumers on the connection for leases of this length."""
        heartbeat = heartbeat_of(lease)
        connection = self._receiving.get(heartbeat)
        if connection is None:
            connection = self._connected("receives", heartbeat, probes=True)
            self._receiving[heartbeat] = connection
        return partial(RabbitMQConsumer, connection, timeout=self._timeout)

    def _connected(self, what: str, heartbeat: int, *, probes: bool) -> RabbitMQConnection:
        name = f"{self._names.prefix} {what}"
        return RabbitMQConnection(self._address, name=name, heartbeat=heartbeat, probes=probes)

    def _refuse_if_closing(self, place: str) -> None:
        if self._closing:
            raise self._connection.closed_error(place)

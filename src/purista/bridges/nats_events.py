"""The NATS event bridge: events in JetStream, commands over core request/reply.

Events wait in the stream ``{prefix}-events`` until every subscriber has acknowledged them (interest
retention): what nobody subscribes to is not kept, and what a subscriber missed is kept for it, up to
``keep``. Each (event, subscriber) is one durable pull consumer.
https://docs.nats.io/nats-concepts/jetstream/streams
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

from purista.bridges import nats_names as names
from purista.bridges.cancelling import cancellable
from purista.bridges.envelope import headers_of, message_of, reply_body, reply_headers, reply_of
from purista.bridges.nats_connection import (
    Client,
    Msg,
    NatsConnection,
    NatsError,
    NoRespondersError,
)
from purista.bridges.nats_deadletters import RESERVE, NatsDeadEvents
from purista.bridges.nats_streams import Streams, message_headers
from purista.bridges.nats_subscription import NatsSubscription
from purista.bridges.port import (
    DeadEvent,
    ErrorReply,
    EventBridgeCapabilities,
    Health,
    Receiver,
    Reply,
    Responder,
    Subscription,
)
from purista.clock import Clock, SystemClock
from purista.errors import BridgeError, CommandTimeoutError
from purista.message import Message
from purista.subscribing import DEFAULT, SubscriptionOptions

logger = logging.getLogger("purista.bridges")

TIMEOUT: Final = timedelta(seconds=10)
"""How long a call may take while the server is away or does not answer."""

KEEP: Final = timedelta(days=30)
"""How long an event is kept for a subscriber that is away."""

SERVED_TIME: Final = 5
"""Seconds within which the server has to know who answers a command."""

SENT_TIME: Final = 2
"""Seconds that requests have to leave a bridge which closes."""

_CAPABILITIES = EventBridgeCapabilities(
    name="nats",
    durable=True,
    delivery="at-least-once",
    redelivers=True,
    dead_letters=True,
    across_processes=True,
    commands=True,
    every_instance=True,
    ordered=True,
    largest=1_000_000,
)


class NatsEventBridge:
    """Implements ``EventBridge``, ``EventDeadLetters`` and ``Connects``; needs the extra ``nats``.

    ``url``: see ``NatsConnection``; the server runs with JetStream (2.12 or later). ``prefix`` begins
    the names of streams and subjects, so that deployments can share a server. ``timeout`` bounds a
    call. ``keep``: so long events wait for a subscriber that is away; dead letters wait until somebody acts.
    ``replicas``: in a cluster, on how many servers; if not said, as the address says, or on one. Both are for
    streams that are not there yet: one that is stays as it is. For one event loop.

    An event is stored once for each message id within the stream's duplicate window (2 minutes), so that
    publishing again what was not confirmed does not double it.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "purista",
        timeout: timedelta = TIMEOUT,
        keep: timedelta = KEEP,
        replicas: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._prefix = names.checked_prefix(prefix)
        self._clock = clock or SystemClock()
        self._timeout = timeout
        self._connection = NatsConnection(url, name=f"{prefix} events", timeout=timeout)
        self._streams = Streams(self._connection, prefix, keep=keep, replicas=replicas)
        self._letters = NatsDeadEvents(self._connection, self._streams, prefix)
        self._subscriptions: set[NatsSubscription | _Responding] = set()
        self._requests: set[asyncio.Task[Reply]] = set()
        self._closing = False

    def __repr__(self) -> str:
        return f"NatsEventBridge({str(self._connection)!r})"

    @property
    def capabilities(self) -> EventBridgeCapabilities:
        """What this bridge really does; a server's ``max_payload`` can allow larger bodies."""
        return _CAPABILITIES

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._connection.health

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the server answers and has the streams. Raises ``BridgeError``."""
        await self._connection.connect(patience=patience)
        await self._streams.ensure()

    async def publish(self, message: Message) -> None:
        """Store an event; return once the server has confirmed it."""
        self._refuse_if_closing(f"event '{message.name}'")
        await self._streams.ensured()
        await self._connection.published(
            f"{self._prefix}.events.{names.subject(message.name)}",
            message.body,
            message_headers(message),
            missing=self._streams.ensure,
            reserve=RESERVE,
        )

    async def subscribe(
        self,
        event: str,
        subscriber: str,
        receive: Receiver,
        *,
        options: SubscriptionOptions = DEFAULT,
    ) -> Subscription:
        """Receive an event; see ``EventBridge``. What was published before the name was first used is past."""
        self._refuse_if_closing(f"event '{event}'")
        await self._streams.ensured()
        subscription = NatsSubscription(
            self._connection,
            self._streams,
            self._letters,
            prefix=self._prefix,
            event=event,
            subscriber=subscriber,
            receive=receive,
            options=options,
            clock=self._clock,
            gone=self._subscriptions.discard,
        )
        self._subscriptions.add(subscription)
        try:
            await subscription.start()
        except BaseException:
            await subscription.abandon()
            raise
        return subscription

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; what is returned can be awaited for the reply, more than once."""
        self._refuse_if_closing(f"command '{message.name}'")
        client = await self._connection.client()
        self._connection.refuse_if_too_large(client, message.body, headers_of(message))
        task = asyncio.create_task(self._asked(client, message, timeout))
        self._requests.add(task)
        task.add_done_callback(self._request_done)
        return _Pending(task)

    async def serve(self, command: str, answer: Responder) -> Subscription:
        """Answer a command; its responders, in whatever process, share its requests."""
        self._refuse_if_closing(f"command '{command}'")
        responding = _Responding(
            self._connection,
            self._command(command),
            command=command,
            answer=answer,
            gone=self._subscriptions.discard,
        )
        self._subscriptions.add(responding)
        try:
            await responding.start()
        except BaseException:
            await responding.abandon()
            raise
        return responding

    async def dead_letters(self, event: str, subscriber: str) -> Sequence[DeadEvent]:
        """Return the dead letters of a subscriber, oldest first."""
        await self._streams.ensured()
        return await self._letters.of(event, subscriber)

    async def redrive(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Deliver dead letters again; none while the subscriber has never been there.

        One that is cut off between the two steps is delivered and stays a dead letter.
        """
        self._refuse_if_closing(f"event '{event}'")
        await self._streams.ensured()
        return await self._letters.redrive(event, subscriber, message_id)

    async def purge(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many."""
        await self._streams.ensured()
        return await self._letters.purge(event, subscriber, message_id)

    async def close(self) -> None:
        """Take nothing new, let what is at work finish, and close the connection. May be repeated."""
        self._closing = True
        try:
            await asyncio.gather(*(one.cancel() for one in tuple(self._subscriptions)))
            if self._requests:
                await self._connection.flushed(SENT_TIME)
        finally:
            requests = tuple(self._requests)
            await asyncio.sleep(0)
            for task in requests:
                if not task.done():
                    task.cancel()
            await asyncio.gather(*requests, return_exceptions=True)
            await self._connection.close()

    def _command(self, command: str) -> str:
        return f"{self._prefix}.commands.{names.subject(command)}"

    async def _asked(self, client: Client, message: Message, timeout: timedelta) -> Reply:
        subject, headers = self._command(message.name), headers_of(message)
        try:
            answer = await cancellable(
                client.request(
                    subject, message.body, timeout=timeout.total_seconds(), headers=headers
                )
            )
        except NoRespondersError:
            return Reply(error=_unknown(message.name, self._known()))
        except TimeoutError:
            text = f"command '{message.name}' gave no answer within {timeout}"
            raise CommandTimeoutError("timeout", text) from None
        except asyncio.CancelledError:
            if self._closing:
                raise self._connection.closed_error(f"command '{message.name}'") from None
            raise
        except NatsError as error:
            text = f"command '{message.name}' could not be sent ({type(error).__name__})"
            raise self._connection.refusal(text) from None
        return reply_of(answer.headers or {}, answer.data)

    def _known(self) -> Sequence[str]:
        return [one.command for one in self._subscriptions if isinstance(one, _Responding)]

    def _request_done(self, task: asyncio.Task[Reply]) -> None:
        self._requests.discard(task)
        if not task.cancelled():
            task.exception()  # nobody has to wait for it

    def _refuse_if_closing(self, place: str) -> None:
        if self._closing:
            raise self._connection.closed_error(place)


class _Pending:
    """The reply to a command; whoever stops waiting stops nothing."""

    def __init__(self, task: asyncio.Task[Reply]) -> None:
        self._task = task

    def __await__(self) -> Any:
        return asyncio.shield(self._task).__await__()


class _Responding:
    """A responder at work; each request in a task of its own."""

    def __init__(
        self,
        connection: NatsConnection,
        subject: str,
        *,
        command: str,
        answer: Responder,
        gone: Callable[[_Responding], None],
    ) -> None:
        self.command = command
        self._connection = connection
        self._subject = subject
        self._answer = answer
        self._gone = gone
        self._client: Client | None = None
        self._subscription: Any = None
        self._at_work: set[asyncio.Task[None]] = set()
        self._stopped = False

    async def start(self) -> None:
        """Subscribe; return once the server knows."""
        self._connection.join(self._connected)
        await self._connected(await self._connection.client())

    async def abandon(self) -> None:
        """Stop without a word; for one that could not start."""
        self._stopped = True
        self._connection.leave(self._connected)
        if self._subscription is not None:
            with suppress(NatsError):
                await self._subscription.unsubscribe()
        self._gone(self)

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being answered is. May be repeated."""
        if not self._stopped:
            self._stopped = True
            self._connection.leave(self._connected)
            subscription = self._subscription
            if subscription is not None and self._connection.is_up:
                try:
                    await subscription.drain()
                except (NatsError, TimeoutError):
                    logger.warning("command %s: its responder left in haste", self.command)
        own = asyncio.current_task()
        try:
            while left := [task for task in self._at_work if task is not own]:
                await asyncio.wait(left)
        except asyncio.CancelledError:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            raise
        self._gone(self)

    async def _connected(self, client: Client) -> None:
        if client is not self._client:
            self._subscription = await client.subscribe(
                self._subject, queue="responders", cb=self._take
            )
            self._client = client
        if not await self._connection.flushed(SERVED_TIME):
            raise self._connection.refusal(f"command '{self.command}' is not served yet")

    async def _take(self, request: Msg) -> None:
        task = asyncio.create_task(self._respond(request))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _respond(self, request: Msg) -> None:
        headers = request.headers or {}
        try:
            message = message_of(self.command, headers, request.data, fallback_id=request.reply)
            reply = await self._answer(message)
        except Exception:
            logger.exception("command %s: its responder failed", self.command)
            text = f"command '{self.command}' failed; its log has the details"
            reply = Reply(error=ErrorReply("unhandled", "internal", text))
        client = self._client
        if client is not None and request.reply:
            body, headers = self._fitting(client, reply)
            try:
                await client.publish(request.reply, body, headers=headers)
            except NatsError as error:
                logger.warning(
                    "command %s: its answer could not be sent (%s)",
                    self.command,
                    type(error).__name__,
                )

    def _fitting(self, client: Client, reply: Reply) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a reply; of one that is too large, those of an error."""
        body, headers = reply_body(reply), reply_headers(reply)
        try:
            self._connection.refuse_if_too_large(client, body, headers)
        except BridgeError as error:
            logger.error("command %s: its answer cannot be sent: %s", self.command, error)
            text = (
                f"command '{self.command}': its answer of {len(body)} bytes is too large to be sent"
            )
            reply = Reply(error=ErrorReply("unhandled", "too_large", text))
            body, headers = reply_body(reply), reply_headers(reply)
        return body, headers


def _unknown(command: str, known: Sequence[str]) -> ErrorReply:
    near = difflib.get_close_matches(command, known, n=1)
    remedy = f"did you mean '{near[0]}'?" if near else "start a service that does"
    return ErrorReply("unknown", "unknown_command", f"nobody handles command '{command}'; {remedy}")

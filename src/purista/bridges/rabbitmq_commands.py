"""Commands over RabbitMQ: a queue of requests for each, replies straight to the channel that asked.

https://www.rabbitmq.com/docs/direct-reply-to
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final

import aiormq
from aiormq import Channel
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from purista.bridges.envelope import CONTENT_TYPE, reply_body, reply_headers, reply_of
from purista.bridges.port import ErrorReply, Reply, Responder
from purista.bridges.rabbitmq_connection import (
    Failure,
    Lost,
    RabbitMQConnection,
    opened,
    part,
    step,
)
from purista.bridges.rabbitmq_consumer import RabbitMQConsumer
from purista.bridges.rabbitmq_message import (
    TRANSIENT,
    message_from,
    properties_of,
    raw_headers,
    text,
)
from purista.bridges.rabbitmq_names import Names
from purista.bridges.rabbitmq_sender import RabbitMQSender
from purista.bridges.rabbitmq_topology import LONGEST_TTL, Topology
from purista.clock import Clock, Timer
from purista.errors import BridgeError, CommandTimeoutError
from purista.message import Message, new_message_id

logger = logging.getLogger("purista.bridges")

REPLIES: Final = "amq.rabbitmq.reply-to"
"""The server's own name for replies to the channel that sends."""


class RabbitMQCommands:
    """The requests and the responders of one bridge."""

    def __init__(
        self,
        sender: RabbitMQSender,
        topology: Topology,
        names: Names,
        *,
        timeout: timedelta,
        clock: Clock,
    ) -> None:
        self._sender = sender
        self._connection: RabbitMQConnection = sender.connection
        self._topology = topology
        self._names = names
        self._timeout = timeout
        self._clock = clock
        self._numbers = itertools.count(1)
        self._pending: dict[str, _Pending] = {}
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()
        self._responders: set[RabbitMQResponder] = set()

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; what is returned can be awaited for the reply."""
        self._sender.refuse_if_too_large(message.body)
        number = str(next(self._numbers))
        pending = _Pending(message.name, timeout)
        pending.add_done_callback(lambda _: self._forget(number))
        self._pending[number] = pending
        pending.timer = self._clock.call_later(timeout, pending.expire)
        try:
            await self._send(message, number, pending, timeout)
        except BaseException:
            pending.cancel()
            raise
        return pending

    async def serve(
        self, command: str, answer: Responder, consumer_of: Callable[..., RabbitMQConsumer]
    ) -> RabbitMQResponder:
        """Answer a command."""
        responder = RabbitMQResponder(
            consumer_of,
            self._sender,
            self._topology,
            self._names.requests(command),
            command=command,
            answer=answer,
            gone=self._responders.discard,
        )
        await responder.start()
        self._responders.add(responder)
        return responder

    async def close(self) -> None:
        """End what still waits for a reply."""
        for pending in tuple(self._pending.values()):
            pending.fail(self._connection.closed_error(f"command '{pending.command}'"))
        channel, self._channel = self._channel, None
        if channel is not None:
            await part(channel)

    async def _send(
        self, message: Message, number: str, pending: _Pending, timeout: timedelta
    ) -> None:
        place = f"command '{message.name}'"
        properties = properties_of(message, mode=TRANSIENT)
        properties.reply_to = REPLIES
        properties.correlation_id = number
        milliseconds = int(timeout.total_seconds() * 1000)
        properties.expiration = str(min(max(milliseconds, 1), LONGEST_TTL))
        try:
            async with asyncio.timeout(min(timeout, self._timeout).total_seconds()):
                channel = await self._asking()
                pending.is_sent = True
                await step(
                    channel.basic_publish(
                        message.body,
                        routing_key=self._names.requests(message.name),
                        properties=properties,
                        mandatory=True,
                        wait=False,
                    )
                )
        except aiormq.PublishError:
            pending.resolve(Reply(error=_unknown(message.name, self._known())))
        except TimeoutError:
            if timeout > self._timeout:
                raise self._connection.refusal(f"{place}: it did not confirm in time") from None
            pending.expire()
        except (*Failure, Lost):
            if not pending.done() or pending.cancelled():
                text = f"{place}: the connection was lost; whether it is run is not known"
                raise self._connection.refusal(text) from None

    async def _asking(self) -> Channel:
        """Return the channel that asks and is answered; make it where there is none."""
        if self._channel is not None and not self._channel.is_closed:
            return self._channel
        async with self._opening:
            channel = self._channel
            if channel is None or channel.is_closed:
                connection = await self._connection.live()
                channel = await opened(connection, confirms=True)
                await step(channel.basic_consume(REPLIES, self._replied, no_ack=True))
                channel.closing.add_done_callback(self._unanswered)
                self._channel = channel
        return channel

    def _unanswered(self, _: object) -> None:
        """Replies went to a channel that is lost."""
        for pending in tuple(self._pending.values()):
            if pending.is_sent:
                pending.fail(
                    self._connection.refusal(
                        f"command '{pending.command}': the connection was lost before the reply came; "
                        "it may have run"
                    )
                )

    async def _replied(self, delivered: DeliveredMessage) -> None:
        """Take a reply; one that nobody waits for any more is dropped."""
        pending = self._pending.get(delivered.header.properties.correlation_id or "")
        if pending is None:
            return
        headers = {key: text(value) for key, value in raw_headers(delivered).items()}
        try:
            pending.resolve(reply_of(headers, delivered.body))
        except BridgeError as error:
            pending.fail(error)

    def _forget(self, number: str) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None and pending.timer is not None:
            pending.timer.cancel()

    def _known(self) -> Sequence[str]:
        return [responder.command for responder in self._responders]


class RabbitMQResponder:
    """A responder at work; each request in a task of its own."""

    def __init__(
        self,
        consumer_of: Callable[..., RabbitMQConsumer],
        sender: RabbitMQSender,
        topology: Topology,
        queue: str,
        *,
        command: str,
        answer: Responder,
        gone: Callable[[RabbitMQResponder], None],
    ) -> None:
        self.command = command
        self._sender = sender
        self._topology = topology
        self._queue = queue
        self._answer = answer
        self._gone = gone
        self._at_work: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None
        self._consumer = consumer_of(
            place=f"command {command}",
            prepare=self._prepare,
            arrived=self._take,
            lost=_nothing,
            no_ack=True,
        )

    async def start(self) -> None:
        """Make the queue and begin to consume. Raises ``BridgeError``."""
        await self._consumer.start()

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being answered is. May be repeated."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        own = asyncio.current_task()
        left: list[asyncio.Task[None]] = []
        try:
            await asyncio.shield(self._stopping)
            while left := [task for task in self._at_work if task is not own]:
                await asyncio.wait(left)
        except asyncio.CancelledError:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            raise
        finally:
            self._gone(self)

    async def _stop(self) -> None:
        await self._consumer.stop()
        await self._consumer.close()
        await self._topology.unserved(self._consumer.connection, self._queue)

    async def _prepare(self, connection: aiormq.Connection) -> str:
        return await self._topology.requests(connection, self._queue)

    def _take(self, _: Channel, delivered: DeliveredMessage) -> None:
        task = asyncio.create_task(self._respond(delivered))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _respond(self, delivered: DeliveredMessage) -> None:
        reply = self._fitting(await self._reply(delivered))
        headers = reply_headers(reply)
        properties = Basic.Properties(
            content_type=headers.pop(CONTENT_TYPE),
            headers=dict(headers),
            correlation_id=delivered.header.properties.correlation_id,
            delivery_mode=TRANSIENT,
        )
        to = delivered.header.properties.reply_to
        if not to:
            return
        try:
            await self._sender.send("", to, reply_body(reply), properties)
        except BridgeError as error:
            logger.warning("command %s: its answer could not be sent: %s", self.command, error)

    def _fitting(self, reply: Reply) -> Reply:
        """Return a reply, or an error where it is too large to be sent."""
        body = reply_body(reply)
        try:
            self._sender.refuse_if_too_large(body)
        except BridgeError as error:
            logger.error("command %s: its answer cannot be sent: %s", self.command, error)
            said = (
                f"command '{self.command}': its answer of {len(body)} bytes is too large to be sent"
            )
            return Reply(error=ErrorReply("unhandled", "too_large", said))
        return reply

    async def _reply(self, delivered: DeliveredMessage) -> Reply:
        fallback = delivered.header.properties.message_id or new_message_id()
        try:
            message = message_from(self.command, delivered, fallback_id=fallback)
            return await self._answer(message)
        except Exception:
            logger.exception("command %s: its responder failed", self.command)
            said = f"command '{self.command}' failed; its log has the details"
            return Reply(error=ErrorReply("unhandled", "internal", said))


class _Pending(asyncio.Future[Reply]):
    """The reply to a command."""

    def __init__(self, command: str, timeout: timedelta) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.command = command
        self.is_sent = False
        self.timer: Timer | None = None
        self._timeout = timeout

    def resolve(self, reply: Reply) -> None:
        """The reply is there."""
        if not self.done():
            self.set_result(reply)

    def expire(self) -> None:
        """The time is over."""
        said = f"command '{self.command}' gave no answer within {self._timeout}"
        self.fail(CommandTimeoutError("timeout", said))

    def fail(self, error: Exception) -> None:
        """There will be no reply."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # nobody has to wait for it


def _nothing() -> None:
    """Requests count as settled when they are sent: none of them comes again."""


def _unknown(command: str, known: Sequence[str]) -> ErrorReply:
    near = difflib.get_close_matches(command, known, n=1)
    remedy = f"did you mean '{near[0]}'?" if near else "start a service that does"
    return ErrorReply("unknown", "unknown_command", f"nobody handles command '{command}'; {remedy}")

"""Commands over Redis: requests in a list that those who serve the command share, replies in a channel.

Whoever serves a command listens to its channel, so that the server itself knows whether somebody
does: a request that nobody serves is answered at once, and a process that died serves nothing.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import json
import logging
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Final

from purista.bridges.envelope import headers_of, reply_of
from purista.bridges.port import ErrorReply, Reply, Responder
from purista.bridges.redis_event_names import Names
from purista.bridges.redis_event_responders import RedisResponder, RequestTaker
from purista.bridges.redis_event_scripts import REQUEST
from purista.bridges.redis_listener import RedisListener
from purista.bridges.redis_sent import SENT_KEPT, Sent
from purista.bridges.redis_server import RedisServer
from purista.clock import Clock, Timer
from purista.errors import BridgeError, CommandTimeoutError
from purista.message import Message

logger = logging.getLogger("purista.bridges")

AGAIN: Final = 0.1
"""Seconds until a command is asked for again whose servers may be on their way back."""


class RedisCommands:
    """The requests and the responders of one bridge.

    Two connections more: one that listens, from the first request or responder on, and one on which
    responders wait for requests.
    """

    def __init__(
        self, server: RedisServer, names: Names, sent: Sent, *, instance: str, clock: Clock
    ) -> None:
        self._server = server
        self._names = names
        self._sent = sent
        self._clock = clock
        self._channel = names.replies(instance)
        self._listener = RedisListener(server, self._collect)
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._taker = RequestTaker(server, names)
        self._collecting: set[asyncio.Task[None]] = set()

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; what is returned can be awaited for the reply."""
        number = next(self._numbers)
        pending = _Pending(message.name, timeout)
        self._pending[number] = pending
        pending.add_done_callback(lambda _: self._forget(number))
        pending.timer = self._clock.call_later(timeout, pending.expire)
        try:
            await self._listener.listen(self._channel, self._replied)
            await self._send(message, number, pending, timeout)
        except BaseException:
            pending.cancel()
            raise
        return pending

    async def serve(self, command: str, answer: Responder) -> RedisResponder:
        """Answer a command."""
        responder = RedisResponder(self._server, command, answer, self.leave)
        self._taker.add(responder)
        try:
            await self._listener.listen(self._names.serving(command), _nothing)
        except BaseException:
            await self._taker.remove(responder)
            raise
        return responder

    async def leave(self, responder: RedisResponder) -> None:
        """Give a responder no more requests."""
        if self._taker.is_last(responder):
            try:
                await self._listener.leave(self._names.serving(responder.command))
            except BridgeError:
                logger.warning("command %s: its responder left in haste", responder.command)
        await self._taker.remove(responder)

    async def close(self) -> None:
        """Wait for the replies that are on their way, and end what is left."""
        if self._pending:
            try:
                await self._listener.flush()
            except BridgeError:
                logger.debug("Redis at %s: replies were not waited for", self._server.name)
        for pending in tuple(self._pending.values()):
            if not pending.done():
                pending.fail(self._server.closed_error(f"command '{pending.command}'"))
        await self._taker.close()
        await self._listener.close()
        await asyncio.gather(*self._collecting, return_exceptions=True)

    async def _send(
        self, message: Message, number: int, pending: _Pending, timeout: timedelta
    ) -> None:
        head = {"reply": self._channel.decode(), "number": number, **headers_of(message)}
        request = json.dumps(head).encode() + b"\n" + message.body
        block, bit = self._sent.next()
        keys = (self._names.requests(message.name), block)
        values = (bit, SENT_KEPT, self._names.serving(message.name))
        seconds = timeout.total_seconds()
        while not pending.done():
            left = min(seconds, self._server.timeout)
            answer = await self._server.run(
                REQUEST, keys, *values, max(int(seconds * 1000), 1), request, within=left
            )
            if answer.value or not self._server.is_just_back:
                if not answer.value:
                    pending.resolve(Reply(error=_unknown(message.name, self._taker.commands)))
                return
            await asyncio.sleep(AGAIN)

    def _forget(self, number: int) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None and pending.timer is not None:
            pending.timer.cancel()

    def _replied(self, body: bytes) -> None:
        """Take a reply; one that nobody waits for any more is dropped."""
        head, _, rest = body.partition(b"\n")
        try:
            headers = json.loads(head)
            pending = self._pending.get(int(headers.pop("number")))
        except (ValueError, KeyError, AttributeError):
            logger.warning("Redis at %s: a reply that is none came", self._server.name)
            return
        if pending is None:
            return
        try:
            pending.resolve(reply_of(headers, rest))
        except BridgeError as error:
            pending.fail(error)

    async def _collect(self) -> None:
        """Fetch the replies that came while nobody listened."""
        if self._channel in self._listener.channels:
            task = asyncio.create_task(self._fetch())
            self._collecting.add(task)
            task.add_done_callback(self._collecting.discard)

    async def _fetch(self) -> None:
        try:
            for reply in await self._server.ask("LPOP", self._channel, 1000) or ():
                self._replied(reply)
        except BridgeError as error:
            logger.warning("replies may have been lost: %s", error)


class _Pending(asyncio.Future[Reply]):
    """The reply to a command."""

    def __init__(self, command: str, timeout: timedelta) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self.command = command
        self.timer: Timer | None = None
        self._timeout = timeout

    def resolve(self, reply: Reply) -> None:
        """The reply is there."""
        if not self.done():
            self.set_result(reply)

    def expire(self) -> None:
        """The time is over."""
        text = f"command '{self.command}' gave no answer within {self._timeout}"
        self.fail(CommandTimeoutError("timeout", text))

    def fail(self, error: Exception) -> None:
        """There will be no reply."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # nobody has to wait for it


def _nothing(_: bytes) -> None:
    """Listening says that the command is served; nothing is published there."""


def _unknown(command: str, known: Sequence[str]) -> ErrorReply:
    near = difflib.get_close_matches(command, known, n=1)
    remedy = f"did you mean '{near[0]}'?" if near else "start a service that does"
    return ErrorReply("unknown", "unknown_command", f"nobody handles command '{command}'; {remedy}")

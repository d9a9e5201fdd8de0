"""Commands over queues in a database: a queue of requests for each command, one of replies for each caller.

A request is taken from its queue before it is begun, so that it is begun once at most.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import logging
from collections.abc import Awaitable, Callable, Generator
from datetime import datetime, timedelta
from typing import Any, Final

from purista.bridges.envelope import reply_body, reply_headers, reply_of
from purista.bridges.port import ErrorReply, QueueBridge, Reply, Responder
from purista.bridges.stored_members import Members
from purista.bridges.stored_subscription import ALIVE, PAUSE, Membership
from purista.clock import Clock, Timer
from purista.errors import BridgeClosedError, BridgeError, CommandTimeoutError
from purista.message import Message, new_message_id

logger = logging.getLogger("purista.bridges")

SENT: Final = "purista-request"
"""The header of a request: who waits for the reply, until when, and the command's own headers."""

ANSWERED: Final = "purista-answer"
"""The header of a reply: the request that it is for."""

TAKEN: Final = timedelta(seconds=30)
"""The lease of a request or a reply, until it is taken from its queue."""


class StoredCommands:
    """The requests and the responders of one bridge."""

    def __init__(self, queues: QueueBridge, members: Members, *, clock: Clock, place: str) -> None:
        self._queues = queues
        self._members = members
        self._clock = clock
        self._place = place
        self._replies = f"replies/{new_message_id()}"
        self._pending: dict[str, _Pending] = {}
        self._responders: set[StoredResponder] = set()
        self._membership: Membership | None = None
        self._collecting: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Put a request into the command's queue; awaiting what is returned brings the reply."""
        async with self._starting:
            await self._listen()
        call = new_message_id()
        pending = _Pending(message.name, timeout, self._clock)
        self._pending[call] = pending
        pending.future.add_done_callback(lambda _: self._pending.pop(call, None))
        until = self._clock.now() + timeout
        kept = None if message.headers is None else dict(message.headers)
        sent = json.dumps([self._replies, call, until.isoformat(), kept])
        request = message._replace(headers={SENT: sent})
        queue = _requests(message.name)
        try:
            taken = await self._members.post(("responder",), message.name, request, to=queue)
            if not taken:
                pending.answer(Reply(error=await self._unknown(message.name)))
        except BaseException:
            pending.give_up()
            raise
        return pending

    async def serve(self, command: str, answer: Responder) -> StoredResponder:
        """Begin to answer a command."""
        responder = StoredResponder(
            self._queues, self._members, command, answer, self._clock, self._responders.discard
        )
        await responder.start()
        self._responders.add(responder)
        return responder

    async def drained(self) -> None:
        """Return once the responders have answered what they took, and the callers have their replies."""
        await asyncio.gather(*(one.cancel() for one in tuple(self._responders)))
        waiting = [one.future for one in self._pending.values()]
        if waiting:
            await asyncio.wait(waiting)

    async def close(self) -> None:
        """Wait for no reply any more. May be repeated."""
        for one in tuple(self._pending.values()):
            one.fail(BridgeClosedError(f"command '{one.command}': the bridge was closed"))
        if self._collecting is not None:
            self._collecting.cancel()
            await asyncio.gather(self._collecting, return_exceptions=True)
        if self._membership is not None:
            await self._membership.end(leaves=True)

    async def _listen(self) -> None:
        if self._membership is None:
            membership = Membership(
                self._members, "caller", self._replies, self._replies, lasts=ALIVE
            )
            await membership.start()
            self._membership = membership
            self._collecting = asyncio.create_task(self._collect(), name="purista replies")

    async def _collect(self) -> None:
        while True:
            try:
                leased = await self._queues.lease(self._replies, duration=TAKEN)
                if leased is None:
                    continue
                await self._queues.ack(leased)
            except BridgeClosedError:
                return
            except BridgeError as error:
                logger.warning("replies wait: %s", error)
                await asyncio.sleep(PAUSE)
                continue
            except Exception:
                logger.exception("replies wait")
                await asyncio.sleep(PAUSE)
                continue
            headers = dict(leased.job.message.headers or {})
            pending = self._pending.get(headers.pop(ANSWERED, ""))
            if pending is None:
                continue
            try:
                pending.answer(reply_of(headers, leased.job.message.body))
            except BridgeError as error:
                pending.fail(error)

    async def _unknown(self, command: str) -> ErrorReply:
        known = await self._members.names("responder")
        close = difflib.get_close_matches(command, known, n=1)
        remedy = f"did you mean '{close[0]}'?" if close else "start a service that does"
        text = f"nobody handles command '{command}'; {remedy}"
        return ErrorReply("unknown", "unknown_command", text)


class StoredResponder:
    """A responder at work."""

    def __init__(
        self,
        queues: QueueBridge,
        members: Members,
        command: str,
        answer: Responder,
        clock: Clock,
        gone: Callable[[StoredResponder], None],
    ) -> None:
        self._queues = queues
        self._members = members
        self._command = command
        self._answer = answer
        self._clock = clock
        self._gone = gone
        self._membership = Membership(
            members, "responder", command, f"{_requests(command)}/{new_message_id()}", lasts=ALIVE
        )
        self._at_work: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join the responders, and begin to ask for requests."""
        await self._membership.start()
        self._task = asyncio.create_task(self._run(), name=f"purista command {self._command}")

    async def cancel(self) -> None:
        """Take nothing new, then wait until what was taken is answered. May be repeated."""
        self._gone(self)
        await self._membership.end(leaves=True)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        own = asyncio.current_task()
        left = [one for one in self._at_work if one is not own]
        try:
            if left:
                await asyncio.wait(left)
        except asyncio.CancelledError:
            for one in left:
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            raise

    async def _run(self) -> None:
        while True:
            try:
                leased = await self._queues.lease(_requests(self._command), duration=TAKEN)
                if leased is None:
                    continue
                await self._queues.ack(leased)
            except BridgeClosedError:
                return
            except BridgeError as error:
                logger.warning("command %s: requests wait: %s", self._command, error)
                await asyncio.sleep(PAUSE)
                continue
            except Exception:
                logger.exception("command %s: requests wait", self._command)
                await asyncio.sleep(PAUSE)
                continue
            task = asyncio.create_task(self._respond(leased.job.message))
            self._at_work.add(task)
            task.add_done_callback(self._at_work.discard)

    async def _respond(self, message: Message) -> None:
        replies, call, until, headers = json.loads((message.headers or {})[SENT])
        if datetime.fromisoformat(until) <= self._clock.now():
            logger.warning("command %s: a request came too late and was dropped", self._command)
            return
        reply = await self._answered(message._replace(name=self._command, headers=headers))
        headers = {ANSWERED: call, **reply_headers(reply)}
        told = Message(replies, reply_body(reply), new_message_id(), None, headers)
        try:
            if not await self._members.post(("caller",), replies, told):
                logger.info("command %s: nobody waits for a reply any more", self._command)
        except BridgeError as error:
            logger.warning("command %s: a reply could not be sent: %s", self._command, error)

    async def _answered(self, message: Message) -> Reply:
        try:
            return await self._answer(message)
        except Exception:
            logger.exception("command %s: its responder raised", self._command)
            return Reply(
                error=ErrorReply(
                    "unhandled",
                    "internal",
                    f"command '{self._command}' failed; its log has the details",
                )
            )


class _Pending(Awaitable[Reply]):
    """A reply that is waited for."""

    def __init__(self, command: str, timeout: timedelta, clock: Clock) -> None:
        self.command = command
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._timeout = timeout
        self._timer: Timer = clock.call_later(timeout, self._expire)

    def __await__(self) -> Generator[Any, None, Reply]:
        return asyncio.shield(self.future).__await__()

    def answer(self, reply: Reply) -> None:
        """Take the reply."""
        self._timer.cancel()
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: Exception) -> None:
        """Let whoever waits raise."""
        self._timer.cancel()
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # nobody has to wait for it

    def give_up(self) -> None:
        """Nobody waits: it was not sent."""
        self._timer.cancel()
        self.future.cancel()

    def _expire(self) -> None:
        if not self.future.done():
            text = f"command '{self.command}' gave no answer within {self._timeout}"
            self.fail(CommandTimeoutError("timeout", text))


def _requests(command: str) -> str:
    return f"command/{command}"

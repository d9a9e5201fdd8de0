"""Those who answer commands over Redis: they wait for requests together, and take turns."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis import exceptions

from purista.bridges.envelope import message_of, reply_body, reply_headers
from purista.bridges.port import ErrorReply, Reply, Responder
from purista.bridges.redis_event_names import Names
from purista.bridges.redis_event_reader import RedisEventReader
from purista.bridges.redis_event_scripts import REPLY
from purista.bridges.redis_server import Failure, RedisServer
from purista.errors import BridgeError

logger = logging.getLogger("purista.bridges")

BLOCK: Final = 5
"""Seconds that one read waits for a request at most."""

PROMPT: Final = 0.1
"""Seconds within which a request was taken for sure, by clocks that were compared."""

REPLY_KEPT: Final = 60_000
"""Milliseconds for which a reply waits for a caller that has lost its connection."""


class RedisResponder:
    """A responder at work; each request in a task of its own."""

    def __init__(
        self,
        server: RedisServer,
        command: str,
        answer: Responder,
        leave: Callable[[RedisResponder], Awaitable[None]],
    ) -> None:
        self.command = command
        self._server = server
        self._answer = answer
        self._leave = leave
        self._at_work: set[asyncio.Task[None]] = set()
        self._leaving: asyncio.Future[None] | None = None

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being answered is. May be repeated."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._leave(self))
        own = asyncio.current_task()
        left: list[asyncio.Task[None]] = []
        try:
            await asyncio.shield(self._leaving)
            while left := [task for task in self._at_work if task is not own]:
                await asyncio.wait(left)
        except asyncio.CancelledError:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            raise

    def take(self, request: bytes) -> None:
        """Answer a request."""
        task = asyncio.create_task(self._respond(request))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _respond(self, request: bytes) -> None:
        head, _, body = request.partition(b"\n")
        try:
            headers: dict[str, Any] = json.loads(head)
            channel, number = str(headers.pop("reply")), int(headers.pop("number"))
        except (ValueError, KeyError, AttributeError):
            logger.warning("command %s: a request that is none came", self.command)
            return
        reply = await self._reply(headers, body, f"{channel}:{number}")
        text = json.dumps({"number": number, **reply_headers(reply)})
        answer = text.encode() + b"\n" + reply_body(reply)
        try:
            if not await self._server.ask("PUBLISH", channel, answer):
                await self._server.run(REPLY, (channel.encode(),), channel, answer, REPLY_KEPT)
        except BridgeError as error:
            logger.warning("command %s: its answer could not be sent: %s", self.command, error)

    async def _reply(self, headers: dict[str, str], body: bytes, fallback: str) -> Reply:
        try:
            message = message_of(self.command, headers, body, fallback_id=fallback)
            return await self._answer(message)
        except Exception:
            logger.exception("command %s: its responder failed", self.command)
            text = f"command '{self.command}' failed; its log has the details"
            return Reply(error=ErrorReply("unhandled", "internal", text))


class RequestTaker:
    """Waits for requests of all commands that are served here, and hands them to responders in turns."""

    def __init__(self, server: RedisServer, names: Names) -> None:
        self._server = server
        self._names = names
        self._reader = RedisEventReader(server)
        self._responders: dict[str, list[RedisResponder]] = {}
        self._keys: dict[bytes, str] = {}
        self._turned: set[asyncio.Future[None]] = set()
        self._wanted = asyncio.Event()
        self._offset: float | None = None
        self._late: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def commands(self) -> Sequence[str]:
        """The commands that are served here."""
        return list(self._responders)

    def add(self, responder: RedisResponder) -> None:
        """Let a responder have requests."""
        self._responders.setdefault(responder.command, []).append(responder)
        self._keys[self._names.requests(responder.command)] = responder.command
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="purista redis requests")
        self._wanted.set()
        self._reader.interrupt()

    def is_last(self, responder: RedisResponder) -> bool:
        """Whether nobody else here serves its command."""
        return self._responders.get(responder.command) == [responder]

    async def remove(self, responder: RedisResponder) -> None:
        """Return once a responder gets nothing any more."""
        if self.is_last(responder):
            self._keys.pop(self._names.requests(responder.command), None)
            await self._turn_over()
            if not self.is_last(responder):
                return
            del self._responders[responder.command]
        else:
            self._responders[responder.command].remove(responder)

    async def close(self) -> None:
        """Wait for nothing any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._late, return_exceptions=True)
        await self._reader.close()

    async def _turn_over(self) -> None:
        """Return once what is waited for is what is wanted now."""
        self._reader.interrupt()
        if self._reader.is_reading:
            turned = asyncio.get_running_loop().create_future()
            self._turned.add(turned)
            await turned

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except (BridgeError, *Failure) as error:
                self._end_turn()
                await self._mend(error)
            except Exception:
                logger.exception("requests wait")
                self._end_turn()
                await asyncio.sleep(1)

    async def _turn(self) -> None:
        if not self._keys:
            self._wanted.clear()
            await self._wanted.wait()
            return
        if self._offset is None:
            await self._compare_clocks()
        found = await self._reader.read(("BLPOP", *self._keys, BLOCK), block=BLOCK)
        if found is not None:
            key, request = found
            command = self._keys.pop(key, None)
            if command is not None:
                self._keys[key] = command  # the others come first the next time
            self._took(request, command or self._name(key))
        self._end_turn()

    def _name(self, key: bytes) -> str:
        return next(name for name in self._responders if self._names.requests(name) == key)

    def _took(self, request: bytes, command: str) -> None:
        sent, until, rest = request.split(b" ", 2)
        since = self._server_time() - int(sent) / 1000
        left = int(until) / 1000 - self._server_time()
        if abs(since) < PROMPT and left > PROMPT:
            self._give(command, rest)
        else:
            task = asyncio.create_task(self._give_if_in_time(command, rest, int(until) / 1000))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _give_if_in_time(self, command: str, request: bytes, until: float) -> None:
        try:
            await self._compare_clocks()
        except BridgeError as error:
            logger.warning("command %s: a request was dropped: %s", command, error)
            return
        if self._server_time() < until:
            self._give(command, request)
        else:
            logger.warning("command %s: a request came too late and was dropped", command)

    def _give(self, command: str, request: bytes) -> None:
        responders = self._responders.get(command)
        if responders:
            responders.append(responders.pop(0))
            responders[-1].take(request)

    def _server_time(self) -> float:
        return asyncio.get_running_loop().time() + (self._offset or 0)

    async def _compare_clocks(self) -> None:
        seconds, microseconds = await self._server.ask("TIME")
        now = asyncio.get_running_loop().time()
        self._offset = int(seconds) + int(microseconds) / 1e6 - now

    def _end_turn(self) -> None:
        while self._turned:
            turned = self._turned.pop()
            if not turned.done():
                turned.set_result(None)

    async def _mend(self, error: Exception) -> None:
        await self._reader.drop()
        self._offset = None
        if isinstance(error, exceptions.ResponseError | BridgeError):
            logger.warning("requests wait: %s", error)
            await asyncio.sleep(1)
        else:
            self._server.lost(error)
        await self._server.back()

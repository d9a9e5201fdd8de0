"""The one connection on which a Redis bridge takes its steps: sent as they come, answered in order.

Nothing is ever sent twice. A caller that is cancelled leaves its answer to be dropped: no connection
is broken by it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis import exceptions
from redis.asyncio.connection import AbstractConnection

Value = str | bytes | int

SMALL: Final = 16_384
"""Bytes that a connection takes without a wait."""

Open = Callable[[], Awaitable[AbstractConnection]]


class RedisLine:
    """Made by the first step, and again by the next one after it broke.

    It is given up when an answer does not come and nothing else does for ``silence`` seconds. Raises
    what redis-py raises.
    """

    def __init__(self, open_: Open, *, silence: float) -> None:
        self.silence = silence
        self._open = open_
        self._loop = asyncio.get_running_loop()
        self._connection: AbstractConnection | None = None
        self._waiting: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._sent: deque[asyncio.Future[Any]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._moved = 0.0
        self._dropping: set[asyncio.Task[None]] = set()

    async def ask(self, command: Sequence[Value]) -> Any:
        """Send a command and return its answer."""
        try:
            piece = packed(command)
        except UnicodeError:
            raise exceptions.DataError("a text is no Unicode") from None
        answer = self._loop.create_future()
        connection = self._connection
        is_alone = not self._sent and self._sender is None and len(piece) < SMALL
        if connection is not None and connection.is_connected and is_alone:
            await self._send_alone(connection, piece, answer)
        else:
            self._waiting.append((piece, answer))
            if self._sender is None:
                self._sender = self._loop.create_task(self._send())
        return await answer

    async def close(self) -> None:
        """Close the connection; what waits for an answer gets an error."""
        tasks = [task for task in (self._sender, self._reader) if task is not None]
        self._break(exceptions.ConnectionError("closed"))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._dropping, return_exceptions=True)

    async def _send_alone(
        self, connection: AbstractConnection, piece: bytes, answer: asyncio.Future[Any]
    ) -> None:
        """Send what is small while nothing else is on its way; that needs no task."""
        self._expect([answer])
        try:
            await connection.send_packed_command(piece, check_health=False)
        except BaseException as error:
            self._break(error)
            raise

    async def _send(self) -> None:
        """Send what waits, until nothing does."""
        try:
            connection = self._connection or await self._opened()
            while self._waiting:
                if not connection.is_connected:
                    raise exceptions.ConnectionError("the connection was lost")
                taken = [(piece, answer) for piece, answer in self._waiting if not answer.done()]
                self._waiting.clear()
                self._expect([answer for _, answer in taken])
                pieces = [piece for piece, _ in taken]
                await connection.send_packed_command(pieces, check_health=False)
                self._moved = self._loop.time()
            self._sender = None
        except BaseException as error:
            self._sender = None
            self._break(error)
            if not isinstance(error, Exception):
                raise

    def _expect(self, answers: Sequence[asyncio.Future[Any]]) -> None:
        """The next answers are for these."""
        self._sent.extend(answers)
        self._moved = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(self.silence, self._look)

    async def _opened(self) -> AbstractConnection:
        connection = self._connection = await self._open()
        self._reader = self._loop.create_task(self._read(connection))
        return connection

    async def _read(self, connection: AbstractConnection) -> None:
        try:
            while True:
                try:
                    got: Any = await connection.read_response()
                except exceptions.ResponseError as error:
                    got = error
                self._moved = self._loop.time()
                answer = self._sent.popleft()
                if answer.done():
                    continue
                if isinstance(got, Exception):
                    answer.set_exception(got)
                else:
                    answer.set_result(got)
        except Exception as error:
            if connection is self._connection:
                self._break(error)

    def _look(self) -> None:
        self._watch = None
        if not self._sent:
            return
        left = self._moved + self.silence - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._look)
        else:
            self._break(exceptions.TimeoutError("no answer"))

    def _break(self, error: BaseException) -> None:
        """Give the connection up; nobody gets an answer on it any more."""
        connection, self._connection = self._connection, None
        reader, self._reader = self._reader, None
        sender, self._sender = self._sender, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        current = asyncio.current_task()
        for task in (reader, sender):
            if task is not None and task is not current:
                task.cancel()
        waiting, self._waiting = self._waiting, []
        for answer in (*self._sent, *(answer for _, answer in waiting)):
            if not answer.done():
                answer.set_exception(_shown(error))
        self._sent.clear()
        if connection is not None:
            task = self._loop.create_task(connection.disconnect(nowait=True))
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)


def packed(command: Sequence[Value]) -> bytes:
    r"""Return a command on the wire (https://valkey.io/topics/protocol/). Raises ``UnicodeError``.

    >>> packed(("ECHO", b"a", 12))
    b'*3\r\n$4\r\nECHO\r\n$1\r\na\r\n$2\r\n12\r\n'
    """
    pieces = [b"*%d\r\n" % len(command)]
    for value in command:
        data = value if isinstance(value, bytes) else str(value).encode()
        pieces += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(pieces)


def _shown(error: BaseException) -> Exception:
    if isinstance(error, Exception):
        return error
    return exceptions.ConnectionError("cancelled")

"""Connections to one server in one event loop: commands that wait together travel together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from redis.asyncio import ConnectionPool, Redis

Command = tuple[str | bytes | int, ...]

TOGETHER = 8
"""How many commands share a round trip at most, and what befalls its connection."""


class Link:
    """Sends commands over the connections of a pool; nothing is ever sent twice.

    A caller that is cancelled leaves its command unsent, or its answer to be read and dropped: no
    connection is broken by it. Raises what redis-py raises.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pool: ConnectionPool) -> None:
        self.loop = loop
        self._client = Redis.from_pool(pool)
        self._most = pool.max_connections
        self._waiting: deque[tuple[Command, asyncio.Future[Any]]] = deque()
        self._senders: set[asyncio.Task[Any]] = set()

    async def ask(self, command: Command) -> Any:
        """Send a command and return its answer."""
        answer = self.loop.create_future()
        self._waiting.append((command, answer))
        if len(self._senders) < self._most:
            self._senders.add(self.loop.create_task(self._work()))
        return await answer

    async def close(self) -> None:
        """Wait until everything is answered, and close the connections."""
        try:
            while self._senders:
                await asyncio.wait(self._senders)
        finally:
            await self._client.aclose()

    async def _work(self) -> None:
        """Send what waits, until nothing does.

        The sender is gone in the same moment: what comes then finds that it needs another one.
        """
        sender = asyncio.current_task()
        assert sender is not None
        try:
            while self._waiting:
                count = min(len(self._waiting), TOGETHER)
                taken = [self._waiting.popleft() for _ in range(count)]
                await self._send([(command, to) for command, to in taken if not to.done()])
        finally:
            self._senders.discard(sender)

    async def _send(self, wanted: Sequence[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            answers = await self._exchange([command for command, _ in wanted])
        except BaseException:
            for _, answer in wanted:
                answer.cancel()
            raise
        for (_, answer), got in zip(wanted, answers, strict=True):
            _resolve(answer, got)

    async def _exchange(self, commands: Sequence[Command]) -> Sequence[Any]:
        """Return an answer or an error for each command."""
        try:
            if len(commands) == 1:
                return [await self._client.execute_command(*commands[0])]  # type: ignore[no-untyped-call]
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute(raise_on_error=False)
        except Exception as error:
            return [error] * len(commands)


def _resolve(answer: asyncio.Future[Any], got: Any) -> None:
    if answer.done():
        return
    if isinstance(got, Exception):
        answer.set_exception(got)
    else:
        answer.set_result(got)

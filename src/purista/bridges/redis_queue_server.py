"""The server of a Redis queue bridge: closing lets steps finish, and leased jobs are settled after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from purista.bridges.redis_line import Value
from purista.bridges.redis_server import RedisServer
from purista.errors import BridgeClosedError
from purista.redisstore.script import Script

T = TypeVar("T")


class RedisQueueServer:
    """Steps on the server that ``shared`` looks for; see there.

    A step that is settled after that was closed has a connection of its own.
    """

    def __init__(self, url: str, *, timeout: timedelta) -> None:
        self._url = url
        self._timeout = timeout
        self.shared = self._new()
        self._at_work = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def run(self, script: Script, keys: Sequence[bytes], *values: Value) -> Any:
        """Run a script, as long as the bridge is open; return its answer."""
        self._begin()
        try:
            return (await self.shared.run(script, keys, *values)).value
        finally:
            self._end()

    async def settle(self, script: Script, keys: Sequence[bytes], *values: Value) -> Any:
        """Run a script, whether the bridge is open or was closed."""

        async def settled(server: RedisServer) -> Any:
            return (await server.run(script, keys, *values)).value

        return await self._whenever(settled)

    async def ask(self, *command: Value) -> Any:
        """Send one command, whether the bridge is open or was closed."""
        return await self._whenever(lambda server: server.ask(*command))

    async def idle(self) -> None:
        """Return once every step was answered, or cannot be soon."""
        try:
            async with asyncio.timeout(self.shared.parting):
                await self._is_idle.wait()
        except TimeoutError:
            return

    async def _whenever(self, step: Callable[[RedisServer], Awaitable[T]]) -> T:
        self._begin()
        try:
            return await step(self.shared)
        except BridgeClosedError:
            server = self._new()
            try:
                return await step(server)
            finally:
                await server.close()
        finally:
            self._end()

    def _new(self) -> RedisServer:
        return RedisServer(self._url, timeout=self._timeout)

    def _begin(self) -> None:
        self._at_work += 1
        self._is_idle.clear()

    def _end(self) -> None:
        self._at_work -= 1
        if not self._at_work:
            self._is_idle.set()

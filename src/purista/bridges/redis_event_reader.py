"""A connection on which somebody waits for what comes; it can be told to wait no longer."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from redis.asyncio.connection import AbstractConnection

from purista.bridges.redis_line import Value, packed
from purista.bridges.redis_server import Failure, RedisServer
from purista.errors import BridgeError

logger = logging.getLogger("purista.bridges")

SLACK: Final = 2.0
"""Seconds by which an answer may be late before the connection is given up."""

INSIST: Final = 0.01
"""Seconds until a server is told again that a read is to end: it may not have had it yet."""

PATIENCE: Final = 1.0
"""Seconds after which the connection is given up when the server does not end a read."""


class RedisEventReader:
    """Sends commands that block. One at a time; made again after it broke.

    What the server has handed over is never lost by ``interrupt``: the read returns it.
    """

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._connection: AbstractConnection | None = None
        self._client_id = 0
        self._reads = 0
        self._is_reading = False
        self._is_interrupted = False
        self._interrupting: asyncio.Task[None] | None = None

    @property
    def is_reading(self) -> bool:
        """Whether the server may hand something over now."""
        return self._is_reading

    async def read(self, command: tuple[Value, ...], *, block: float) -> Any:
        """Send a command that blocks for so many seconds and return its answer, None when there is none.

        Raises what redis-py raises, after which the connection is another one.
        """
        try:
            connection = self._connection or await self._opened()
            if self._is_interrupted:
                return None
            self._is_reading = True
            async with asyncio.timeout(block + SLACK):
                await connection.send_packed_command(packed(command), check_health=False)
                return await connection.read_response()
        except asyncio.CancelledError:
            await self.drop()
            raise
        except Failure:
            await self.drop()
            raise
        finally:
            self._reads += 1
            self._is_reading = False
            self._is_interrupted = False

    def interrupt(self) -> None:
        """Let the read that blocks now return, or else the next one."""
        self._is_interrupted = True
        if self._is_reading and (self._interrupting is None or self._interrupting.done()):
            self._interrupting = asyncio.create_task(self._interrupt(self._reads))

    async def drop(self) -> None:
        """Close the connection; the next read makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close for good."""
        if self._interrupting is not None:
            self._interrupting.cancel()
            await asyncio.gather(self._interrupting, return_exceptions=True)
        await self.drop()

    async def _opened(self) -> AbstractConnection:
        connection = await self._server.open()
        try:
            async with asyncio.timeout(SLACK):
                await connection.send_command("CLIENT", "ID")
                self._client_id = int(await connection.read_response())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._connection = connection
        return connection

    async def _interrupt(self, read: int) -> None:
        now = asyncio.get_running_loop().time
        end = now() + PATIENCE
        while self._is_reading and self._reads == read and now() < end:
            if self._connection is not None:
                try:
                    await self._server.ask("CLIENT", "UNBLOCK", self._client_id, within=PATIENCE)
                except BridgeError:
                    break
            await asyncio.sleep(INSIST)
        if self._is_reading and self._reads == read:
            await self.drop()

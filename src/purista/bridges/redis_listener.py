"""The connection on which a Redis bridge listens to channels: made again, with all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from redis.asyncio.connection import AbstractConnection

from purista.bridges.redis_server import Failure, RedisServer
from purista.errors import BridgeError

logger = logging.getLogger("purista.bridges")

PING_EVERY: Final = 5.0
"""Seconds of silence after which the server is asked for a sign of life; it is given up after one more."""

Heard = Callable[[bytes], None]


class RedisListener:
    """Listens to channels from the first ``listen`` on. ``returned`` is awaited after each reconnect."""

    def __init__(self, server: RedisServer, returned: Callable[[], Awaitable[None]]) -> None:
        self._server = server
        self._returned = returned
        self._channels: dict[bytes, Heard] = {}
        self._listening: set[bytes] = set()
        self._connection: AbstractConnection | None = None
        self._changed = asyncio.Condition()
        self._pongs = 0
        self._silences = 0
        self._watch: asyncio.TimerHandle | None = None
        self._words: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def channels(self) -> Collection[bytes]:
        """What is listened to."""
        return self._channels

    async def listen(self, channel: bytes, heard: Heard) -> None:
        """Return once the server hands over what is published in a channel. Raises ``BridgeError``."""
        self._channels[channel] = heard
        if channel in self._listening:
            return
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="purista redis listener")
        else:
            await self._send("SUBSCRIBE", channel)
        try:
            await self._wait_until(lambda: channel in self._listening)
        except BridgeError:
            self._channels.pop(channel, None)
            raise

    async def leave(self, channel: bytes) -> None:
        """Return once the server hands over no more of a channel, or is away."""
        self._channels.pop(channel, None)
        if channel in self._listening:
            await self._send("UNSUBSCRIBE", channel)
            await self._wait_until(
                lambda: channel not in self._listening or self._connection is None
            )

    async def flush(self) -> None:
        """Return once everything is heard that was published before."""
        if self._connection is None:
            return
        pongs = self._pongs
        await self._send("PING")
        await self._wait_until(lambda: self._pongs > pongs or self._connection is None)

    async def close(self) -> None:
        """Listen no more. May be repeated."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, *self._words, return_exceptions=True)
        await self._drop()

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(self._server.timeout), self._changed:
                await self._changed.wait_for(condition)
        except TimeoutError:
            raise self._server.refusal("its channels cannot be listened to") from None

    async def _send(self, *command: str | bytes) -> None:
        """Send a command; when the connection breaks, all of it is made again anyway."""
        if self._connection is not None:
            try:
                await self._connection.send_command(*command)
            except Failure:
                logger.debug("Redis at %s: a channel's connection was lost", self._server.name)

    async def _run(self) -> None:
        while True:
            try:
                await self._server.back()
                await self._hear()
            except Failure as error:
                await self._drop()
                self._server.lost(error)
            except Exception:
                await self._drop()
                logger.exception(
                    "Redis at %s: its channels are listened to anew", self._server.name
                )
                await asyncio.sleep(1)

    async def _hear(self) -> None:
        connection = await self._server.open()
        self._connection = connection
        if self._channels:  # none is left when nobody could wait for the first one
            await connection.send_command("SUBSCRIBE", *self._channels)
        self._silences = 0
        self._watch = asyncio.get_running_loop().call_later(PING_EVERY, self._look)
        is_complete = False
        while True:
            if not is_complete and self._listening >= self._channels.keys():
                is_complete = True
                await self._returned()
            said = await connection.read_response()
            self._silences = 0
            if said[0] == b"message":
                heard = self._channels.get(said[1])
                if heard is not None:
                    heard(said[2])
            else:
                await self._told(*said[:2])

    def _look(self) -> None:
        """Ask a server that was silent for a sign of life; give the connection up that gives none."""
        self._silences += 1
        loop, connection = asyncio.get_running_loop(), self._connection
        if connection is not None:
            word = self._send("PING") if self._silences < 2 else connection.disconnect(nowait=True)
            task = loop.create_task(word)
            self._words.add(task)
            task.add_done_callback(self._words.discard)
            self._watch = loop.call_later(PING_EVERY, self._look)

    async def _told(self, kind: bytes, channel: bytes) -> None:
        async with self._changed:
            if kind == b"subscribe":
                self._listening.add(channel)
            elif kind == b"unsubscribe":
                self._listening.discard(channel)
            else:
                self._pongs += 1
            self._changed.notify_all()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._listening.clear()
        if self._watch is not None:
            self._watch.cancel()
        if connection is not None:
            await connection.disconnect(nowait=True)
        async with self._changed:
            self._changed.notify_all()

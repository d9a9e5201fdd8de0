"""Calls that wait for a job of a PostgreSQL queue bridge, and what wakes them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import timedelta

import psycopg

from purista.bridges.port import LeasedJob
from purista.bridges.postgres_schema import CHANNEL
from purista.clock import Clock, Timer
from purista.postgres.connections import Connection, Connections

logger = logging.getLogger("purista.bridges")

AT_ONCE = 50
"""How many jobs a look asks for at most."""

_ZERO = timedelta(0)


class Waiter:
    """A call of ``lease`` that waits for a job; it gets at least one look into the queue."""

    __slots__ = ("_timer", "duration", "future", "is_last_look", "was_looked_for")

    def __init__(self, duration: timedelta, wait: timedelta | None, clock: Clock) -> None:
        self.duration = duration
        self.future: asyncio.Future[LeasedJob | None] = asyncio.get_running_loop().create_future()
        self.was_looked_for = False
        self.is_last_look = wait is not None and wait <= _ZERO
        self._timer: Timer | None = None
        if wait is not None and wait > _ZERO:
            self._timer = clock.call_later(wait, self._expire)

    def give(self, leased: LeasedJob) -> bool:
        """Give it a job; False when it does not wait any more."""
        if self.future.done():
            return False
        self.future.set_result(leased)
        return True

    def looked_in_vain(self) -> None:
        """Note that there was no job for it."""
        self.was_looked_for = True
        if self.is_last_look and not self.future.done():
            self.future.set_result(None)

    def fail(self, error: Exception) -> None:
        """Let it raise."""
        if not self.future.done():
            self.future.set_exception(error)

    def leave(self) -> LeasedJob | None:
        """Stop waiting; return the job that it was given, whether its caller saw that or not."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.future.done() or self.future.cancelled() or self.future.exception():
            return None
        return self.future.result()

    def _expire(self) -> None:
        self.is_last_look = True
        if self.was_looked_for:
            self.looked_in_vain()


class Line:
    """The calls that wait for a job of one queue, and the task that looks for jobs for them."""

    __slots__ = ("changed", "name", "task", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiters: dict[Waiter, None] = {}
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def add(self, waiter: Waiter) -> None:
        """Let a call wait, and look for a job for it."""
        self.waiters[waiter] = None
        self.changed.set()

    def remove(self, waiter: Waiter) -> None:
        """Forget a call that is over; nobody looks for jobs when it was the last."""
        self.waiters.pop(waiter, None)
        if not self.waiters:
            self.changed.set()

    def next_waiters(self) -> list[Waiter]:
        """Return the calls that wait longest, without those that do not wait any more."""
        for waiter in [one for one in self.waiters if one.future.done()]:
            del self.waiters[waiter]
        return [waiter for waiter, _ in zip(self.waiters, range(AT_ONCE), strict=False)]

    def fail(self, error: Exception) -> None:
        """Let every call that waits raise."""
        for waiter in self.waiters:
            waiter.fail(error)
        self.waiters.clear()
        self.changed.set()


class Listener:
    """Hears on a connection of its own what is new, for as long as that connection lives."""

    def __init__(self, connections: Connections, heard: Callable[[str], None]) -> None:
        self._connections = connections
        self._heard = heard
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Return once it listens. What was told before may have been missed: look after this."""
        if self._task is None:
            async with self._starting:
                if self._task is None:
                    connection = await self._connections.listening(CHANNEL)
                    self._task = asyncio.create_task(
                        self._listen(connection), name="purista postgres listener"
                    )

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self, connection: Connection) -> None:
        try:
            async for notification in connection.notifies():
                self._heard(notification.payload)
        except psycopg.Error as error:
            logger.warning("queue bridge: %s", self._connections.explained(error))
        finally:
            self._task = None
            await connection.close()
            self._heard("")

"""Calls that wait for a job of a queue bridge that looks for jobs on behalf of all of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from purista.bridges.port import LeasedJob
from purista.clock import Clock, Timer

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

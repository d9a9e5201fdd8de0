"""What the in-memory queue bridge keeps: jobs, the line they wait in, and calls that wait for them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple

from purista.bridges.deadlines import Lane
from purista.bridges.port import DeadLetter, Job, LeasedJob

Due = tuple[Job, int]
"""A job that waits in line, and how often it was tried."""

Lease = tuple["Line", Job, int, Lane[int]]
"""The line that a leased job is from, the job, which attempt it is, and the lane of its deadline.

Plain tuples: making an object for each job would be the better part of the bridge's work.
"""


class Line:
    """One queue. Either jobs wait in ``ready`` or calls wait in ``waiters``, never both."""

    __slots__ = ("_dead", "name", "ready", "served", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[Due] = deque()
        self.waiters: OrderedDict[Waiter, None] = OrderedDict()
        self.served = False
        """Whether somebody works on it, so that its jobs will be done."""
        self._dead: dict[str, list[_Buried]] = {}

    def longest_waiter(self) -> Waiter | None:
        """Take out the call that waits longest, passing over those that were cancelled."""
        while self.waiters:
            waiter, _ = self.waiters.popitem(last=False)
            if not waiter.future.done():
                return waiter
        return None

    def bury(self, letter: DeadLetter, number: int) -> None:
        """Keep a dead letter; the ``number`` tells which came first."""
        self._dead.setdefault(letter.job.message.id, []).append(_Buried(number, letter))

    def letters(self, message_id: str | None) -> list[DeadLetter]:
        """Return the dead letters, of one message or of all, oldest first."""
        if message_id is not None:
            return [each.letter for each in self._dead.get(message_id, ())]
        every = [each for some in self._dead.values() for each in some]
        return [each.letter for each in sorted(every, key=lambda each: each.number)]

    def take_letters(self, message_id: str | None) -> list[DeadLetter]:
        """Return them and keep them no longer."""
        letters = self.letters(message_id)
        if message_id is None:
            self._dead.clear()
        else:
            self._dead.pop(message_id, None)
        return letters


class Delayed:
    """A job that is due later; then ``put`` is called with it."""

    __slots__ = ("_due", "_line", "_put", "ticket")

    def __init__(self, line: Line, due: Due, put: Callable[[Line, Due], None]) -> None:
        self._line = line
        self._due = due
        self._put = put
        self.ticket = 0

    def expire(self) -> None:
        """The delay is over."""
        self._put(self._line, self._due)


class Waiter:
    """A call of ``lease`` that waits for a job."""

    __slots__ = ("duration", "future", "line", "ticket")

    def __init__(self, line: Line, duration: timedelta) -> None:
        self.line = line
        self.duration = duration
        self.future: asyncio.Future[LeasedJob | None] = asyncio.get_running_loop().create_future()
        self.ticket = 0
        line.waiters[self] = None

    def expire(self) -> None:
        """No job came as long as it was willing to wait."""
        self.line.waiters.pop(self, None)
        if not self.future.done():
            self.future.set_result(None)

    def handed(self) -> LeasedJob | None:
        """Return the job that it was given, whether its caller saw that or not."""
        future = self.future
        if not future.done() or future.cancelled() or future.exception() is not None:
            return None
        return future.result()


class _Buried(NamedTuple):
    number: int
    letter: DeadLetter

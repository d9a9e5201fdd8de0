"""A line of calls that wait for a job of one SQLite queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from purista.bridges.port import LeasedJob
from purista.bridges.sqlite_rows import Lent, Taken
from purista.bridges.sqlite_schema import moment
from purista.clock import Clock, Timer

ASKED_AT_ONCE = 100
"""For how many calls one look at the file takes jobs at most."""

_MICROSECOND = timedelta(microseconds=1)


class Waiter:
    """A call of ``lease``. ``is_brief``: it takes what the next look brings, or nothing."""

    __slots__ = ("duration", "future", "is_brief", "lent", "timer")

    def __init__(self, duration: timedelta, *, is_brief: bool) -> None:
        self.duration = duration
        self.is_brief = is_brief
        self.future: asyncio.Future[LeasedJob | None] = asyncio.get_running_loop().create_future()
        self.lent: Lent | None = None
        self.timer: Timer | None = None


class Line:
    """The calls that wait, served in the order in which they came, and when to look for jobs.

    ``look`` begins to lease jobs for the durations it is given; then ``looked`` or
    ``looked_in_vain`` is called.
    ``give_back`` undoes leases whose callers have gone.
    """

    def __init__(
        self,
        queue: str,
        clock: Clock,
        *,
        look: Callable[[Line, Sequence[timedelta]], None],
        give_back: Callable[[Sequence[Lent]], None],
    ) -> None:
        self.queue = queue
        self._clock = clock
        self._look = look
        self._give_back = give_back
        self._waiters: dict[Waiter, None] = {}
        self._present: Sequence[Waiter] | None = None
        self._is_stale = False
        self._timer: Timer | None = None
        self._due = 0

    @property
    def is_waiting(self) -> bool:
        """Whether a call waits for a job."""
        return bool(self._waiters)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nothing is on its way."""
        return not self._waiters and self._present is None

    def join(self, duration: timedelta, wait: timedelta | None) -> Waiter:
        """Let a call wait for a job, for ``wait`` or without end."""
        is_brief = wait is not None and wait <= timedelta(0)
        waiter = Waiter(duration, is_brief=is_brief)
        self._waiters[waiter] = None
        if wait is not None and not is_brief:
            waiter.timer = self._clock.call_later(wait, lambda: self._give_up(waiter))
        self.look()
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """A call was cancelled: it keeps no job."""
        self._drop(waiter)
        if waiter.lent is not None:
            self._give_back([waiter.lent])
            self.look()

    def expect(self, due: int | None) -> None:
        """A job is due at this moment, now or later; None is never."""
        if due is None or not self._waiters:
            return
        delay = due - moment(self._clock)
        if delay <= 0:
            self.look()
        elif self._timer is None or due < self._due:
            self._stop()
            self._due = due
            self._timer = self._clock.call_later(delay * _MICROSECOND, self._is_due)

    def look(self) -> None:
        """Look for jobs now, or once more when a look is on its way."""
        self._is_stale = self._present is not None
        if self._waiters and not self._is_stale:
            self._stop()
            self._present = tuple(self._waiters)
            self._look(self, [one.duration for one in self._present[:ASKED_AT_ONCE]])

    def looked(self, taken: Taken) -> None:
        """Hand out what a look brought; what nobody wants any more goes back."""
        present, self._present = self._present or (), None
        unwanted = []
        for waiter, lent in zip(present, taken.lent, strict=False):
            if not self._settle(waiter, lent):
                unwanted.append(lent)
        if unwanted:
            self._give_back(unwanted)
        if taken.is_all:
            for waiter in present:
                if waiter.is_brief:
                    self._settle(waiter, None)
        if self._is_stale or unwanted or not taken.is_all:
            self.look()
        else:
            self.expect(taken.next_due)

    def looked_in_vain(self, error: BaseException) -> None:
        """A look failed: so does every call that waits."""
        self._present = None
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Let every call that waits raise the error."""
        for waiter in tuple(self._waiters):
            self._drop(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(_copy(error))

    def _settle(self, waiter: Waiter, lent: Lent | None) -> bool:
        """Give a call what it waits for; False when it waits no more."""
        self._drop(waiter)
        if waiter.future.done():
            return False
        waiter.lent = lent
        waiter.future.set_result(None if lent is None else lent.leased)
        return True

    def _drop(self, waiter: Waiter) -> None:
        self._waiters.pop(waiter, None)
        if waiter.timer is not None:
            waiter.timer.cancel()
        if not self._waiters:
            self._stop()

    def _give_up(self, waiter: Waiter) -> None:
        """No job came as long as a call was willing to wait, unless one is on its way."""
        if self._present is not None and waiter in self._present:
            waiter.is_brief = True
        else:
            self._settle(waiter, None)

    def _is_due(self) -> None:
        self._timer = None
        self.look()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _copy(error: BaseException) -> BaseException:
    """Return the error for one of several callers: each adds its own traceback."""
    copy = type(error)(*error.args)
    copy.__cause__ = error
    return copy

"""Deadlines: any number of them on one timer of the clock."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Hashable
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from purista.clock import Clock, Timer

Key = TypeVar("Key", bound=Hashable)

BATCH = 1_000
"""How many deadlines pass in one go; then the event loop gets a turn."""

TOLERANCE = 1e-6
"""Timers are exact to the microsecond: what is due within one is due."""

_SWEEP = 64
_LONGEST = 365 * 86_400.0
"""The longest that a timer waits, in seconds: ``timedelta.max`` is more than some clocks can count."""


class Target(Protocol):
    """What a deadline is for. It has one at any time; ``ticket`` is 0 while it has none."""

    ticket: int

    def expire(self) -> None:
        """Take the news that the deadline has passed."""


class Deadlines:
    """Tells each target once when its deadline has passed.

    Instants are those of the clock's ``monotonic``. However many there are, one timer waits for the
    earliest. Deadlines that were cleared are swept out before they are the larger part.
    """

    __slots__ = ("_clock", "_heap", "_numbers", "_stale", "_timer", "earliest")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Target]] = []
        self._numbers = itertools.count(1)
        self._stale = 0
        self._timer: Timer | None = None
        self.earliest = math.inf
        """The instant that the timer waits for: no deadline is before it."""

    def __len__(self) -> int:
        """Return how many are kept, those included that were cleared and are not yet swept out."""
        return len(self._heap)

    def set(self, target: Target, due: float) -> None:
        """Let ``target`` expire at ``due``, in place of its earlier deadline."""
        if target.ticket:
            self.clear(target)
        target.ticket = number = next(self._numbers)
        heapq.heappush(self._heap, (due, number, target))
        if due < self.earliest:
            self._arm(due)

    def clear(self, target: Target) -> None:
        """Forget the deadline of ``target``, if it has one."""
        if target.ticket:
            target.ticket = 0
            self._stale = stale = self._stale + 1
            if stale > _SWEEP and stale * 2 > len(self._heap):
                self._sweep()

    def expire(self) -> None:
        """Expire what is due, at most about ``BATCH``; the timer sees to the rest."""
        self._disarm()
        limit = self.limit()
        for _ in range(BATCH):
            if not self._heap or self._heap[0][0] > limit:
                break
            _, number, target = heapq.heappop(self._heap)
            if target.ticket == number:
                target.ticket = 0
                target.expire()
            else:
                self._stale -= 1
        if self._heap and self._heap[0][0] < self.earliest:
            self._arm(self._heap[0][0])

    def limit(self) -> float:
        """Return the instant up to which deadlines have passed."""
        return self._clock.monotonic() + TOLERANCE

    def close(self) -> None:
        """Forget every deadline."""
        for _, number, target in self._heap:
            if target.ticket == number:
                target.ticket = 0
        self._heap.clear()
        self._stale = 0
        self._disarm()

    def _arm(self, due: float) -> None:
        self._disarm()
        self.earliest = due
        delay = timedelta(seconds=min(due - self._clock.monotonic(), _LONGEST))
        self._timer = self._clock.call_later(delay, self.expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self.earliest = math.inf

    def _sweep(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2].ticket == entry[1]]
        heapq.heapify(self._heap)
        self._stale = 0


class Lanes(dict[timedelta, "Lane[Key]"]):
    """Deadlines by how far away they are when they are set: one lane for each such duration.

    Made for leases and time-outs: there are few durations, and most deadlines never pass. ``passed``
    is called with the key of each that does. ``lanes[duration]`` is there to set a deadline in.
    """

    __slots__ = ("_deadlines", "_passed")

    def __init__(self, deadlines: Deadlines, passed: Callable[[Key], None]) -> None:
        super().__init__()
        self._deadlines = deadlines
        self._passed = passed

    def __missing__(self, duration: timedelta) -> Lane[Key]:
        lane = self[duration] = Lane(self._deadlines, duration, self._passed, self)
        return lane


class Lane(Generic[Key]):
    """Deadlines that pass in the order in which they are set, as all are equally far away then.

    ``keys`` holds those that are set; to clear one, take its key out.
    """

    __slots__ = ("_deadlines", "_home", "_passed", "duration", "keys", "seconds", "ticket")

    def __init__(
        self,
        deadlines: Deadlines,
        duration: timedelta,
        passed: Callable[[Key], None],
        home: dict[timedelta, Lane[Key]],
    ) -> None:
        self._deadlines = deadlines
        self._home = home
        self._passed = passed
        self.duration = duration
        self.seconds = duration.total_seconds()
        self.keys: dict[Key, float] = {}
        self.ticket = 0

    def set(self, key: Key, now: float) -> None:
        """Let the deadline for ``key``, which has none here, pass ``duration`` after ``now``."""
        self.keys[key] = now + self.seconds
        if not self.ticket:
            self.watch()

    def watch(self) -> None:
        """Wait for the first of the deadlines."""
        self._deadlines.set(self, next(iter(self.keys.values())))

    def expire(self) -> None:
        """Tell which deadlines passed, at most ``BATCH``; then wait for the next."""
        limit = self._deadlines.limit()
        for key, end in tuple(itertools.islice(self.keys.items(), BATCH)):
            if end > limit:
                break
            if self.keys.pop(key, None) is not None:
                self._passed(key)
        if self.keys:
            self.watch()
        else:
            del self._home[self.duration]

"""Deadlines: any number of them on one timer of the clock."""

from __future__ import annotations

import heapq
import itertools
import math
from datetime import timedelta
from typing import Protocol

from purista.clock import Clock, Timer

BATCH = 1_000
"""How many deadlines expire in one go; then the event loop gets a turn."""

_SWEEP = 64
_TOLERANCE = 1e-6
"""Timers are exact to the microsecond: what is due within one is due."""


class Expiring(Protocol):
    """What a deadline is for. ``ticket`` belongs to ``Deadlines``; it is 0 while there is none."""

    ticket: int

    def expire(self) -> None:
        """Take the news that the deadline has passed."""


class Deadlines:
    """Tells each target once when its deadline has passed; a target has one deadline at a time.

    Instants are those of the clock's ``monotonic``. Setting and clearing cost no task and, but for
    the earliest, no timer. Cleared deadlines are swept out before they are the larger part.
    """

    __slots__ = ("_clock", "_heap", "_numbers", "_stale", "_timer", "earliest")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Expiring]] = []
        self._numbers = itertools.count(1)
        self._stale = 0
        self._timer: Timer | None = None
        self.earliest = math.inf
        """The instant that the timer waits for: no deadline is before it."""

    def __len__(self) -> int:
        return len(self._heap) - self._stale

    def set(self, target: Expiring, due: float) -> None:
        """Let ``target`` expire at ``due``, in place of its earlier deadline."""
        if target.ticket:
            self.clear(target)
        target.ticket = number = next(self._numbers)
        heapq.heappush(self._heap, (due, number, target))
        if due < self.earliest:
            self._arm(due)

    def clear(self, target: Expiring) -> None:
        """Forget the deadline of ``target``, if it has one."""
        if target.ticket:
            target.ticket = 0
            self._stale = stale = self._stale + 1
            if stale > _SWEEP and stale * 2 > len(self._heap):
                self._sweep()

    def expire(self) -> None:
        """Expire what is due, at most ``BATCH``; the timer sees to the rest."""
        self._disarm()
        limit = self._clock.monotonic() + _TOLERANCE
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
        delay = timedelta(seconds=due - self._clock.monotonic())
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

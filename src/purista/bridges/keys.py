"""Idempotency keys: which were seen, each for its own window."""

from __future__ import annotations

import heapq

from purista.bridges.deadlines import TOLERANCE

_DROPPED = 16
"""How many keys at most are dropped when one comes in: more than come, and never many at once."""


class Keys:
    """The keys that were taken and whose window is not over; seconds are a clock's ``monotonic``."""

    __slots__ = ("_ends", "_until")

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}
        self._ends: list[tuple[float, tuple[str, str]]] = []

    def __len__(self) -> int:
        return len(self._until)

    def take(self, queue: str, key: str, *, now: float, window: float) -> bool:
        """Keep a queue's key for ``window`` seconds; False, and nothing changes, if it is kept."""
        limit = now + TOLERANCE
        self._drop(limit)
        known = (queue, key)
        if self._until.get(known, now) > limit:
            return False
        if window > 0:
            self._until[known] = end = now + window
            heapq.heappush(self._ends, (end, known))
        return True

    def _drop(self, limit: float) -> None:
        for _ in range(_DROPPED):
            if not self._ends or self._ends[0][0] > limit:
                return
            end, known = heapq.heappop(self._ends)
            if self._until.get(known) == end:
                del self._until[known]

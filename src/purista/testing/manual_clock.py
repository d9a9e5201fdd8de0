"""The manual clock: time that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable, Sized
from datetime import UTC, datetime, timedelta

from purista.clock import Timer

START = datetime(2027, 1, 1, tzinfo=UTC)
"""Where a manual clock starts when nothing else is said."""

ROUNDS = 10_000
"""How often ``settle`` lets the event loop go round; then gives up on a task that never waits."""

BLIND_ROUNDS = 100
"""How often, on an event loop that does not show whether anything is ready."""

_SWEEP = 64
_ZERO = timedelta(0)
_END = datetime.max.replace(tzinfo=UTC)


class ManualClock:
    """Implements ``Clock``: starts at 2027-01-01T00:00Z and moves only when it is told to.

    ``await clock.advance(timedelta(hours=1))`` runs everything that falls due within the hour, in
    order and each at its own time, and lets tasks go on in between. A clock is for one event loop.
    Only what waits on this clock is moved: ``asyncio.sleep`` and ``asyncio.timeout`` are real time.
    """

    __slots__ = (
        "_advancing",
        "_cancelled",
        "_elapsed",
        "_heap",
        "_numbers",
        "_origin",
        "_sleepers",
    )

    def __init__(self, start: datetime | None = None) -> None:
        self._origin = START if start is None else _aware(start)
        self._elapsed = _ZERO
        self._heap: list[tuple[timedelta, int, _ManualTimer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._sleepers = 0
        self._advancing = False

    @property
    def next_timer(self) -> datetime | None:
        """When the earliest timer is due, as the wall clock now tells it; None without timers."""
        due = self._earliest()
        if due is None:
            return None
        return self._origin + due if due <= _END - self._origin else _END

    @property
    def sleepers(self) -> int:
        """How many tasks wait in ``sleep``."""
        return self._sleepers

    def now(self) -> datetime:
        """Return the clock's instant in UTC."""
        return self._origin + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds that the clock was advanced since it was made."""
        return self._elapsed.total_seconds()

    def call_later(self, delay: timedelta, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` once the clock was advanced by ``delay``; at once if not positive."""
        if delay <= _ZERO:
            return asyncio.get_running_loop().call_soon(callback)
        timer = _ManualTimer(self, callback)
        due = self._elapsed + min(delay, timedelta.max - self._elapsed)
        heapq.heappush(self._heap, (due, next(self._numbers), timer))
        return timer

    async def sleep(self, delay: timedelta) -> None:
        """Return once the clock was advanced by ``delay``."""
        if delay <= _ZERO:
            await asyncio.sleep(0)
            return
        waiting = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay, lambda: _wake(waiting))
        self._sleepers += 1
        try:
            await waiting
        finally:
            self._sleepers -= 1
            timer.cancel()

    async def advance(self, duration: timedelta) -> None:
        """Move time on by ``duration``, running what falls due. Raises ``ValueError`` if negative.

        Tasks are let go on until they wait, first at the present instant, then at each instant at
        which something was due, last at the end. A callback that raises ends the advance at its
        instant and raises here.
        """
        if duration < _ZERO:
            raise ValueError(
                f"advance by {duration}: time does not go back; jump sets the wall clock"
            )
        if self._advancing:
            raise RuntimeError("the clock is being advanced already; await one advance at a time")
        self._advancing = True
        try:
            await self._advance(self._elapsed + duration)
        finally:
            self._advancing = False

    async def advance_to(self, instant: datetime) -> None:
        """Move time on until the wall clock says ``instant``; otherwise as ``advance``.

        Raises ``ValueError`` for an instant that is past or naive.
        """
        duration = _aware(instant) - self.now()
        if duration < _ZERO:
            raise ValueError(
                f"advance to {instant.isoformat()}: it is {self.now().isoformat()} already; "
                "use jump to set the wall clock back"
            )
        await self.advance(duration)

    def jump(self, by: timedelta) -> None:
        """Set the wall clock by ``by``, forward or back, as an operator does; no time passes.

        ``monotonic`` and all timers stay as they are.
        """
        self._origin += by

    async def settle(self) -> None:
        """Let the tasks that are ready run until all wait; no time passes.

        The event loop is let go round (``asyncio.sleep(0)``) until it has nothing ready twice in a
        row, so that timers and sockets that are due get their turn too. What waits for a thread, a
        process or a slow socket is not waited for. For a task that never waits it gives up.
        """
        ready = _ready(asyncio.get_running_loop())
        idle = 0
        for _ in range(_rounds(ready)):
            await asyncio.sleep(0)
            idle = idle + 1 if ready is not None and not ready else 0
            if idle == 2:
                return

    async def _advance(self, target: timedelta) -> None:
        await self.settle()
        while (due := self._earliest()) is not None and due <= target:
            self._elapsed = due
            self._run_due()
            await self.settle()
        self._elapsed = target
        await self.settle()

    def _run_due(self) -> None:
        """Run what is due now, oldest first; what that starts anew for now is left for later."""
        last = next(self._numbers)
        while self._earliest() == self._elapsed and self._heap[0][1] < last:
            heapq.heappop(self._heap)[2].run()

    def _earliest(self) -> timedelta | None:
        while self._heap:
            due, _, timer = self._heap[0]
            if timer.is_pending:
                return due
            heapq.heappop(self._heap)
            self._cancelled -= 1
        return None

    def _forget_one(self) -> None:
        """Count a cancelled timer; drop them all when they are the larger part."""
        self._cancelled += 1
        if self._cancelled > _SWEEP and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].is_pending]
            heapq.heapify(self._heap)
            self._cancelled = 0


class _ManualTimer:
    __slots__ = ("_callback", "_clock", "_context")

    def __init__(self, clock: ManualClock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback: Callable[[], None] | None = callback
        self._context = contextvars.copy_context()

    @property
    def is_pending(self) -> bool:
        return self._callback is not None

    def run(self) -> None:
        callback, self._callback = self._callback, None
        assert callback is not None
        self._context.run(callback)

    def cancel(self) -> None:
        if self._callback is not None:
            self._callback = None
            self._clock._forget_one()


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise ValueError(f"{instant.isoformat()} is naive; give it a zone, such as tzinfo=UTC")
    return instant.astimezone(UTC)


def _ready(loop: object) -> Sized | None:
    """Return the loop's queue of what is ready, or None: it is no public part of asyncio."""
    ready = getattr(loop, "_ready", None)
    return ready if isinstance(ready, Sized) else None


def _rounds(ready: Sized | None) -> int:
    return BLIND_ROUNDS if ready is None else ROUNDS

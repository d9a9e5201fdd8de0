"""By when requests are to be answered: one timer of the event loop for all of them.

A timer for each, as ``asyncio.timeout`` has it, would be a twentieth of what a trigger costs.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

SHARE: Final = 10
"""How often it is looked, within the shortest time that a request may take; that late it can be."""

LONGEST: Final = 1.0
"""Seconds: at least that often it is looked."""


class Deadlines:
    """Cancels what is overdue. ``shortest``: seconds that something may take at least."""

    def __init__(self, shortest: float) -> None:
        self._pause = min(shortest / SHARE, LONGEST)
        self._open: set[Deadline] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def within(self, seconds: float) -> Deadline:
        """Return a context that ends with ``TimeoutError`` when its block takes longer."""
        return Deadline(self, seconds)

    def begin(self, deadline: Deadline) -> None:
        """Look at a deadline until it is dropped."""
        self._open.add(deadline)
        if self._loop is not deadline.loop:
            self._loop = deadline.loop
            self._loop.call_later(self._pause, self._look, self._loop)

    def drop(self, deadline: Deadline) -> None:
        """Look at it no longer."""
        self._open.discard(deadline)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        now = loop.time()
        for deadline in [one for one in self._open if one.at <= now]:
            self._open.discard(deadline)
            deadline.pass_by()
        if self._open:
            loop.call_later(self._pause, self._look, loop)
        else:
            self._loop = None


class Deadline:
    """The deadline of one block of a task; ``at`` is in the event loop's time."""

    __slots__ = ("_cancelling", "_deadlines", "_seconds", "_task", "at", "has_passed", "loop")

    loop: asyncio.AbstractEventLoop
    at: float

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self.has_passed = False

    def __enter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self.loop)
        assert self._task is not None
        self._cancelling = self._task.cancelling()
        self.extend(self._seconds)
        self._deadlines.begin(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._deadlines.drop(self)
        if self.has_passed and self._task is not None:
            is_ours = self._task.uncancel() <= self._cancelling
            if is_ours and exc_type is asyncio.CancelledError:
                raise TimeoutError from exc

    def extend(self, seconds: float) -> None:
        """Let the block go on for so many seconds from now."""
        self.at = self.loop.time() + seconds

    def pass_by(self) -> None:
        """Cancel the task."""
        self.has_passed = True
        if self._task is not None:
            self._task.cancel()

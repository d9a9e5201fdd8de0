"""The end of a process on a signal: gently at the first, within a deadline, and at once at the second."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Final, Self

logger = logging.getLogger("purista.serve")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

SLACK: Final = timedelta(seconds=10)
"""How much longer than its grace the end may take before the process is ended at once."""


class Shutdown:
    """Takes the signals of this process while it is open. For the main thread, with an event loop.

    ``gently`` is called once, in the event loop, at the first signal. Whatever is not finished when
    the process ends at once is taken over by another one, as after a crash.
    """

    def __init__(self, grace: timedelta, gently: Callable[[], None]) -> None:
        self._grace = grace
        self._gently = gently
        self._since: float | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        # Not the event loop's own handlers: a handler that blocks the loop must not block the second
        # signal.
        self._before = {each: signal.signal(each, self._signalled) for each in SIGNALS}
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
        if self._deadline is not None:
            self._deadline.cancel()

    @property
    def is_wanted(self) -> bool:
        """Whether a signal has come."""
        return self._since is not None

    def left(self) -> timedelta:
        """Return how much of the grace is left."""
        if self._since is None:
            return self._grace
        spent = timedelta(seconds=time.monotonic() - self._since)
        return max(self._grace - spent, timedelta(0))

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._since is not None:
            _end_at_once(128 + number)
        self._since = time.monotonic()
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        logger.info("ending: nothing new is taken, what is at work has %s", self._grace)
        longest = (self._grace + SLACK).total_seconds()
        self._deadline = self._loop.call_later(longest, self._late)
        self._gently()

    def _late(self) -> None:
        logger.error("not everything was finished in time; another process takes it over")
        _end_at_once(1)


def _end_at_once(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

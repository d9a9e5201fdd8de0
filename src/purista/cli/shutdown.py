"""The end of a process on a signal: gently at the first, within a deadline, and at once at the second."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, Self

logger = logging.getLogger("purista.serve")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

SLACK: Final = timedelta(seconds=10)
"""How much longer than its grace the end may take before the process is ended at once."""

LAST_WORD: Final = 1.0
"""Seconds that the last line of the log may take."""


class Shutdown:
    """Takes the signals of this process while it is open. For the main thread, with an event loop.

    ``gently`` is called once, in the event loop, at the first signal. Whatever is not finished when
    the process ends at once is taken over by another one, as after a crash. From the first signal on
    the process has until its deadline to end, whatever blocks it: the event loop or a thread.
    """

    def __init__(self, grace: timedelta, gently: Callable[[], None] | None = None) -> None:
        self._grace = grace
        self._gently = gently
        self._wanted = asyncio.Event()
        self._since: float | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._loop = asyncio.get_running_loop()

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

    @property
    def is_wanted(self) -> bool:
        """Whether a signal has come."""
        return self._since is not None

    async def wanted(self) -> None:
        """Return at the first signal."""
        await self._wanted.wait()

    async def comes_before(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do some work; return whether it was cut off by a signal. Raises what the work raises."""
        tasks = [asyncio.create_task(work), asyncio.create_task(self.wanted())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
            return not tasks[0].done()
        finally:
            for each in tasks:
                each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)

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
        # Not a timer of the event loop: a handler that blocks the loop must not block the deadline.
        _at_the_latest((self._grace + SLACK).total_seconds())
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        logger.info("ending: nothing new is taken, what is at work has %s", self._grace)
        self._wanted.set()
        if self._gently is not None:
            self._gently()


def _at_the_latest(seconds: float) -> None:
    """End the process after so long; a moment later even if nobody takes what it has to say."""
    for after, end in ((seconds, _late), (seconds + LAST_WORD, partial(os._exit, 1))):
        timer = threading.Timer(after, end)
        timer.daemon = True
        timer.start()


def _late() -> None:
    try:
        logger.error("not everything was finished in time; another process takes it over")
    finally:
        _end_at_once(1)


def _end_at_once(code: int) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)

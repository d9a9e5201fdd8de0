"""The one way to ask for the time, or to wait, in everything that runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Timer(Protocol):
    """A callback that is due later."""

    def cancel(self) -> None:
        """Forget the callback; harmless when it already ran."""


class Clock(Protocol):
    """The time of day, a time that never goes back, and waiting.

    Durations such as leases and time-outs are measured on ``monotonic``, so that a wall clock that
    is set does not end or prolong them; what a contract says in instants is compared with ``now``.
    """

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never decreases."""

    def call_later(self, delay: timedelta, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` once in the event loop after ``delay``; at once if it is not positive."""

    async def sleep(self, delay: timedelta) -> None:
        """Return after ``delay`` has passed."""


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def now(self) -> datetime:
        """Return the current instant in UTC."""
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)

    def call_later(self, delay: timedelta, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` in the running event loop after ``delay``."""
        return asyncio.get_running_loop().call_later(delay.total_seconds(), callback)

    async def sleep(self, delay: timedelta) -> None:
        """Sleep in the running event loop."""
        await asyncio.sleep(delay.total_seconds())

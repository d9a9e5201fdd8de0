"""The runs that an ingress started and that are not over: time-outs, leases, and who waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

from purista.clock import Clock, Timer


class OpenRuns:
    """Ends runs whose time-out has passed and renews the leases of those that live in this process.

    ``expire`` is called with a run's id, ``renew`` for all leases; ``own`` runs what they return.
    """

    def __init__(
        self,
        clock: Clock,
        lease: timedelta,
        *,
        expire: Callable[[str], Coroutine[Any, Any, None]],
        renew: Callable[[], Awaitable[None]],
        own: Callable[[Any], None],
    ) -> None:
        self._clock = clock
        self._lease = lease
        self._expire = expire
        self._renew_all = renew
        self._own = own
        self._timers: dict[str, Timer] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self._leased: set[str] = set()
        self._renewal: Timer | None = None
        self._closed = False

    def watch(self, run_id: str, timeout: timedelta) -> None:
        """End the run when its time-out has passed."""
        self._timers[run_id] = self._clock.call_later(
            timeout, lambda: self._own(self._expire(run_id))
        )

    def watches(self, run_id: str) -> bool:
        """Whether the run is watched: it began here and is not over."""
        return run_id in self._timers

    def keep(self, run_id: str) -> None:
        """Renew the run's lease until it is forgotten; does nothing for one that is over already."""
        if run_id in self._timers:
            self._leased.add(run_id)
            self._go_on()

    def forget(self, run_id: str) -> None:
        """The run is over."""
        timer = self._timers.pop(run_id, None)
        if timer is not None:
            timer.cancel()
        self._leased.discard(run_id)
        awaited = self._awaited.pop(run_id, None)
        if awaited is not None:
            awaited.set()

    async def ended(self, run_id: str) -> None:
        """Wait until the run is forgotten; return at once for one that is not watched."""
        if run_id in self._timers:
            await self._awaited.setdefault(run_id, asyncio.Event()).wait()

    def close(self) -> None:
        """Stop all timers."""
        self._closed = True
        for timer in [*self._timers.values(), *([self._renewal] if self._renewal else [])]:
            timer.cancel()
        self._timers.clear()

    def _go_on(self) -> None:
        if self._renewal is None and self._leased and not self._closed:
            self._renewal = self._clock.call_later(self._lease / 3, self._renew)

    def _renew(self) -> None:
        self._renewal = None
        if self._leased:
            self._own(self._renew_all())
            self._go_on()

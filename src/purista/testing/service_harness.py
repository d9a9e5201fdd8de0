"""The harness: services on embedded parts and a clock that the test moves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

from purista.contract import Event
from purista.ingress import Decision
from purista.ingress.ingress import RunStore
from purista.ledgers import Run, RunStatus, Verdict
from purista.local import LocalRunner
from purista.message import Message
from purista.service import Service, check
from purista.testing.manual_clock import ManualClock
from purista.trigger import UNSET, Trigger

PATIENCE = timedelta(seconds=1)
"""How long, in real time, the harness waits for handlers that wait for something real."""

GRACE = timedelta(milliseconds=50)
"""How long, in real time, handlers have when the harness is left; then they are cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessRun:
    """One trigger and what became of it.

    ``schedule`` is the schedule's name, ``decided_at`` the harness's time of the decision, ``status``
    where an accepted run stood when it was asked for (None for a trigger that was not accepted), and
    ``outcome`` how it ended (``acked``, ``answered``, ``published``, ``run_timeout`` ...).
    """

    schedule: str
    nominal_time: datetime | None
    decided_at: datetime
    decision: Decision
    status: RunStatus | None
    outcome: str

    @property
    def verdict(self) -> Verdict:
        """The decision in one word."""
        return self.decision.verdict

    @property
    def accepted(self) -> bool:
        """Whether a run was started."""
        return self.decision.accepted


@dataclass(frozen=True, slots=True)
class _Told:
    decision: Decision
    decided_at: datetime


class Harness:
    """Runs services as the local runner does, on a manual clock.

    ::

        async with harness(billing, start=datetime(2027, 2, 1, tzinfo=UTC)) as h:
            await h.advance_to(datetime(2027, 4, 2, tzinfo=UTC))
            assert [run.verdict for run in h.runs("monthlyBillingCycle")] == ["accepted", "accepted"]

    Time stands still while handlers work. A handler that takes time waits on ``h.clock.sleep``; one
    that waits for something real holds the clock for at most a second. What is still at work when
    the harness is left is cancelled.
    """

    def __init__(
        self,
        *services: Service,
        start: datetime | None = None,
        ledger: RunStore | None = None,
    ) -> None:
        check(*services)
        self.clock = ManualClock() if start is None else ManualClock(start)
        self.services = services
        self.runner = LocalRunner(
            *services, clock=self.clock, ledger=ledger, on_decision=self._record, grace=GRACE
        )
        self._told: list[_Told] = []
        self._messages: dict[str, list[Message]] = {}
        self._schemas: dict[str, Event[Any]] = {}
        self._known: dict[str, Run] = {}
        self._unfinished: set[str] = set()
        self._stuck: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        for name, event in self._events().items():
            self._messages[name] = []
            self._schemas[name] = event
            await self.runner.event_bridge.subscribe(name, "purista-harness", self._see)
        await self.runner.__aenter__()
        await self.settle()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.settle()
        await self.runner.__aexit__(exc_type, exc, traceback)

    @property
    def now(self) -> datetime:
        """The harness's time, UTC."""
        return self.clock.now()

    async def advance_to(self, instant: datetime) -> list[HarnessRun]:
        """Move time to ``instant``, stopping at everything that is due; return the runs on the way."""
        seen = len(self._told)
        while (due := self.clock.next_timer) is not None and due <= instant:
            await self.clock.advance_to(due)
            await self.settle()
        await self.clock.advance_to(instant)
        await self.settle()
        return [self._run(told) for told in self._told[seen:]]

    async def advance(self, duration: timedelta) -> list[HarnessRun]:
        """Move time on by ``duration``; return the runs on the way."""
        return await self.advance_to(self.clock.now() + duration)

    async def trigger(
        self, schedule: str, *, nominal_time: datetime | None = None, data: Any = UNSET
    ) -> Decision:
        """Send a manual trigger, as ``purista trigger`` does."""
        decision = await self.runner.trigger(schedule, nominal_time=nominal_time, data=data)
        await self.settle()
        return decision

    async def deliver(self, schedule: str, nominal_time: datetime) -> Decision:
        """Send what a scheduler would send for ``nominal_time``: a duplicate, or a late one."""
        trigger = Trigger(
            schedule_id=self.runner.schedule(schedule).id,
            nominal_time=nominal_time,
            source="purista/harness",
        )
        decision = await self.runner.ingress.accept(trigger)
        self._record(trigger, decision)
        await self.settle()
        return decision

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """The scheduler is down inside this block; afterwards it sends what it missed."""
        self.runner.pause()
        try:
            yield
        finally:
            await self.runner.resume()
            await self.settle()

    def runs(self, schedule: str | None = None) -> list[HarnessRun]:
        """Return the runs so far, of one schedule (by name or id) or of all, in order of decision."""
        known = self.runner.schedule(schedule).id if schedule is not None else None
        return [
            self._run(told)
            for told in self._told
            if known is None or told.decision.schedule_id == known
        ]

    def events(self, event: Event[Any] | str) -> list[Any]:
        """Return the payloads of an event so far, validated, in order of publication."""
        name = event if isinstance(event, str) else event.name
        schema = self._schemas[name].schema
        return [schema.load(message.body) for message in self._messages[name]]

    async def settle(self) -> None:
        """Let everything that can go on without more time go on; then note where each run stands."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE.total_seconds()
        while True:
            await self.clock.settle()
            if not self._is_working():
                break
            if loop.time() > deadline:
                self._stuck = set(self.runner.host.tasks)
                break
            await asyncio.sleep(0.0005)
        await self._note()

    def _is_working(self) -> bool:
        """Whether anything is at work that does not wait for this clock, nor did so for too long."""
        if self.runner.is_busy:
            return True
        return len(self.runner.host.tasks - self._stuck) > self.clock.sleepers

    async def _note(self) -> None:
        for run_id in tuple(self._unfinished):
            run = await self.runner.ledger.run(run_id)
            if run is not None:
                self._known[run_id] = run
                if run.status not in (RunStatus.CLAIMED, RunStatus.ACTIVE, RunStatus.FAILED):
                    self._unfinished.discard(run_id)

    async def _see(self, message: Message) -> None:
        self._messages[message.name].append(message)

    def _record(self, trigger: Trigger, decision: Decision) -> None:
        self._told.append(_Told(decision, self.clock.now()))
        if decision.accepted and decision.run_id is not None:
            self._unfinished.add(decision.run_id)

    def _run(self, told: _Told) -> HarnessRun:
        decision = told.decision
        run = self._known.get(decision.run_id or "") if decision.accepted else None
        return HarnessRun(
            schedule=self.runner.schedule(decision.schedule_id).name,
            nominal_time=decision.nominal_time,
            decided_at=told.decided_at,
            decision=decision,
            status=run.status if run else None,
            outcome=run.outcome if run else "",
        )

    def _events(self) -> dict[str, Event[Any]]:
        found: dict[str, Event[Any]] = {}
        for service in self.services:
            found |= service.events
            found |= {one.event.name: one.event for one in service.subscriptions.values()}
            targets = [one.target for one in service.schedules.values()]
            found |= {one.name: one for one in targets if isinstance(one, Event)}
        return found


def harness(
    *services: Service, start: datetime | None = None, ledger: RunStore | None = None
) -> Harness:
    """Return a harness for services; open it with ``async with``. Raises ``ContractError``."""
    return Harness(*services, start=start, ledger=ledger)

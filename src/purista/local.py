"""The local runner: nominal times and a clock, sent to an embedded ingress. For development only.

It keeps no promise that a scheduler keeps: one process, no leader, no supervision. What it does keep
is the meaning: the same ingress decides as behind any scheduler.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import heapq
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from purista.bridges import EventBridge, QueueBridge
from purista.bridges.memory_events import MemoryEventBridge
from purista.bridges.memory_queues import MemoryQueueBridge
from purista.clock import Clock, SystemClock, Timer
from purista.contract import ConcurrencyPolicy, Schedule, near
from purista.errors import LedgerError, LoadError
from purista.host import Host
from purista.ingress import Decision, Ingress
from purista.ingress.ingress import RunStore
from purista.ingress.timing import INSTANT, missed_times
from purista.ledgers.memory import MemoryLedger
from purista.ledgers.sqlite import SQLiteLedger
from purista.service import Service
from purista.trigger import UNSET, Trigger, run_id_of

logger = logging.getLogger("purista.local")

SOURCE = "purista/local"
LONGEST_SLEEP = timedelta(minutes=1)
"""On the machine's clock the runner looks at the time at least this often: clocks are set, laptops
sleep."""
LONGEST_RETRY = timedelta(minutes=1)
UNFINISHED = 100_000


class AcceleratedClock:
    """The machine's clock, started at ``start`` and running ``speed`` times as fast."""

    def __init__(self, start: datetime | None = None, *, speed: float = 60.0) -> None:
        if not speed > 0:
            raise ValueError(f"speed {speed} is not positive; use 1 for real time")
        self._origin = start.astimezone(UTC) if start is not None else datetime.now(UTC)
        self._began = time.monotonic()
        self._speed = speed

    def now(self) -> datetime:
        """Return the accelerated instant."""
        return self._origin + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the accelerated seconds since the start."""
        return (time.monotonic() - self._began) * self._speed

    def call_later(self, delay: timedelta, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` after an accelerated ``delay``."""
        seconds = delay.total_seconds() / self._speed
        return asyncio.get_running_loop().call_later(seconds, callback)

    async def sleep(self, delay: timedelta) -> None:
        """Sleep for an accelerated ``delay``."""
        await asyncio.sleep(delay.total_seconds() / self._speed)


class Due(NamedTuple):
    """One trigger that is to be sent.

    ``recurring``: the schedule's next one follows it. ``missed``: the next one of its backlog does.
    """

    at: datetime
    number: int
    schedule_id: str
    nominal_time: datetime
    attempt: int
    recurring: bool
    manual: bool = False
    missed: bool = False


class LocalRunner:
    """Runs services in this process: embedded bridges, ledger, ingress, handlers, and a clock.

    ``state`` is a SQLite file that survives restarts: what was missed in between is then decided by
    each schedule's policy. ``on_decision`` sees every trigger and its decision. A ``paused`` one sends nothing by itself until
    ``resume``. Open it with
    ``async with``; leaving it drains. Raises ``ContractError`` for services that do not hold together.
    """

    def __init__(
        self,
        *services: Service,
        clock: Clock | None = None,
        state: str | Path | None = None,
        ledger: RunStore | None = None,
        event_bridge: EventBridge | None = None,
        queue_bridge: QueueBridge | None = None,
        on_decision: Callable[[Trigger, Decision], None] | None = None,
        grace: timedelta | None = None,
        paused: bool = False,
    ) -> None:
        self.services = services
        self.clock: Clock = clock or SystemClock()
        self.event_bridge = event_bridge or MemoryEventBridge(clock=self.clock)
        self.queue_bridge = queue_bridge or MemoryQueueBridge(clock=self.clock)
        self.ledger: RunStore = ledger or (SQLiteLedger(state) if state else MemoryLedger())
        self.ingress = Ingress(
            services,
            event_bridge=self.event_bridge,
            queue_bridge=self.queue_bridge,
            ledger=self.ledger,
            clock=self.clock,
        )
        self.host = Host(
            *services,
            event_bridge=self.event_bridge,
            queue_bridge=self.queue_bridge,
            clock=self.clock,
            ledger=self.ledger,
            grace=grace,
        )
        self._on_decision = on_decision
        self._watches_clock = isinstance(self.clock, SystemClock)
        self._heap: list[Due] = []
        self._backlog: dict[str, deque[datetime]] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count()
        self._timer: Timer | None = None
        self._woken = asyncio.Event()
        self._paused = paused
        self._sending = False
        self._pump: asyncio.Task[None] | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.ledger.close)
            stack.push_async_callback(self.event_bridge.close)
            stack.push_async_callback(self.queue_bridge.close)
            await stack.enter_async_context(self.ingress)
            await stack.enter_async_context(self.host)
            await self._resume_state()
            self._pump = asyncio.create_task(self._run(), name="purista local runner")
            stack.push_async_callback(self._stop_pump)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def is_busy(self) -> bool:
        """Whether triggers are being sent or runs settled; handlers at work do not count."""
        waking = self._woken.is_set() and not self._paused
        return self._sending or waking or self.ingress.is_busy or self.host.is_busy

    async def run(self) -> None:
        """Open the runner and fire until this is cancelled."""
        async with self:
            assert self._pump is not None
            await self._pump

    async def trigger(
        self, schedule: str, *, nominal_time: datetime | None = None, data: Any = UNSET
    ) -> Decision:
        """Send a manual trigger, now or for ``nominal_time``; ``data`` overrides the payload template.

        ``schedule`` is a name or an id. Raises ``LoadError`` for one that is not known.
        """
        trigger = Trigger(
            schedule_id=self.schedule(schedule).id,
            nominal_time=nominal_time or self.clock.now(),
            source=f"{SOURCE}/manual",
            data=data,
            manual=True,
        )
        return self._told(trigger, await self.ingress.accept(trigger))

    async def ended(self, decision: Decision) -> str:
        """Wait until the run of an accepted decision is over; return its outcome."""
        run_id = decision.run_id or ""
        await self.ingress.ended(run_id)
        run = await self.ledger.run(run_id)
        return "" if run is None else run.outcome or str(run.status)

    def schedule(self, name: str) -> Schedule:
        """Return a schedule by name or id. Raises ``LoadError``."""
        return find_schedule(self.services, name)

    def pause(self) -> None:
        """Send nothing, as a scheduler that is down."""
        self._paused = True

    async def resume(self) -> None:
        """Send what was missed since ``pause``, oldest first and late, then go on."""
        self._paused = False
        self._woken.set()

    async def _resume_state(self) -> None:
        now = self.clock.now()
        logger.info("the local runner is for development; it is no scheduler")
        for schedule in self.ingress.schedules.values():
            last = await self.ledger.latest(schedule.id)
            self._plan(schedule, now if last is None else last, now)
        for run in await self.ledger.runs(unfinished=True, limit=UNFINISHED):
            schedule_or_none = self.ingress.schedules.get(run.schedule_id)
            if schedule_or_none is None or run.run_id != run_id_of(
                run.schedule_id, run.nominal_time
            ):
                logger.warning("run %s was not finished and cannot be sent again", run.run_id)
                continue
            at = max(now, run.lease_until or now)
            manual = not schedule_or_none.contains(run.nominal_time)
            self._push(at, run.schedule_id, run.nominal_time, recurring=False, manual=manual)
        self._arm()

    def _plan(self, schedule: Schedule, since: datetime, now: datetime) -> None:
        """Queue what was missed after ``since``, and the next nominal time after ``now``."""
        if since < now:
            self._backlog[schedule.id] = deque(missed_times(schedule, since, now + INSTANT))
            self._advance(schedule.id)
        following = schedule.next_after(max(since, now))
        if following is not None:
            self._push(fire_time(schedule, following), schedule.id, following, recurring=True)

    def _advance(self, schedule_id: str) -> None:
        """Queue the oldest missed nominal time of a schedule."""
        backlog = self._backlog.get(schedule_id)
        if backlog:
            missed = backlog.popleft()
            self._push(missed, schedule_id, missed, recurring=False, missed=True)
        else:
            self._backlog.pop(schedule_id, None)

    def _push(
        self,
        at: datetime,
        schedule_id: str,
        nominal: datetime,
        *,
        recurring: bool,
        attempt: int = 0,
        manual: bool = False,
        missed: bool = False,
    ) -> None:
        due = Due(at, next(self._numbers), schedule_id, nominal, attempt, recurring, manual, missed)
        heapq.heappush(self._heap, due)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay = self._heap[0].at - self.clock.now() if self._heap else None
        if self._watches_clock:
            delay = LONGEST_SLEEP if delay is None else min(delay, LONGEST_SLEEP)
        if delay is not None:
            self._timer = self.clock.call_later(max(delay, timedelta(0)), self._woken.set)

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            if not self._paused:
                self._sending = True
                await self._fire_due()
                self._arm()
                self._sending = False

    async def _fire_due(self) -> None:
        now = self.clock.now()
        if self._heap and now - self._heap[0].at > 2 * LONGEST_SLEEP:
            self._replan(now)
        for due in self._due():
            await self._send(due)

    def _due(self) -> Iterator[Due]:
        while self._heap and self._heap[0].at <= self.clock.now():
            yield heapq.heappop(self._heap)

    def _replan(self, now: datetime) -> None:
        """After a long silence, bound what is sent for each schedule by its own policy."""
        overdue = [due for due in self._heap if due.recurring and due.at <= now]
        self._heap = [due for due in self._heap if not (due.recurring and due.at <= now)]
        heapq.heapify(self._heap)
        for due in overdue:
            self._plan(self.ingress.schedules[due.schedule_id], due.nominal_time - INSTANT, now)

    async def _send(self, due: Due) -> None:
        schedule = self.ingress.schedules[due.schedule_id]
        if due.recurring:
            following = schedule.next_after(due.nominal_time)
            if following is not None:
                self._push(fire_time(schedule, following), schedule.id, following, recurring=True)
        trigger = Trigger(
            schedule_id=schedule.id,
            nominal_time=due.nominal_time,
            source=SOURCE,
            manual=due.manual,
        )
        try:
            decision = self._told(trigger, await self.ingress.accept(trigger))
        except LedgerError:
            logger.exception(
                "schedule %s: the ledger failed, the trigger is sent again", schedule.id
            )
            self._retry(due, timedelta(0))
        else:
            if decision.retry_after is not None:
                self._retry(due, decision.retry_after)
            elif due.missed:
                self._go_on(schedule, decision)

    def _go_on(self, schedule: Schedule, decision: Decision) -> None:
        """Send the next missed trigger; where runs must not overlap, once this one's run is over."""
        if not decision.accepted or schedule.concurrency_policy != ConcurrencyPolicy.FORBID:
            self._advance(schedule.id)
            return
        task = asyncio.create_task(self._advance_after(schedule.id, decision.run_id or ""))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _advance_after(self, schedule_id: str, run_id: str) -> None:
        await self.ingress.ended(run_id)
        self._advance(schedule_id)
        self._woken.set()

    def _retry(self, due: Due, after: timedelta) -> None:
        attempt = due.attempt + 1
        wait = max(after, min(timedelta(seconds=2 ** min(attempt, 10)), LONGEST_RETRY))
        self._push(
            self.clock.now() + wait,
            due.schedule_id,
            due.nominal_time,
            recurring=False,
            attempt=attempt,
            manual=due.manual,
            missed=due.missed,
        )

    def _told(self, trigger: Trigger, decision: Decision) -> Decision:
        if self._on_decision is not None:
            self._on_decision(trigger, decision)
        return decision

    async def _stop_pump(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pump is not None:
            self._pump.cancel()
            for task in self._waiting:
                task.cancel()
            await asyncio.gather(self._pump, *self._waiting, return_exceptions=True)


def fire_time(schedule: Schedule, nominal: datetime) -> datetime:
    """Return the nominal time plus jitter: the same for the same slot, and before the next one."""
    if not schedule.jitter:
        return nominal
    following = schedule.next_after(nominal)
    room = schedule.jitter if following is None else min(schedule.jitter, following - nominal)
    digest = hashlib.sha256(f"{schedule.id} {nominal.isoformat()}".encode()).digest()
    return nominal + room * (int.from_bytes(digest[:6]) / 2**48)


def find_schedule(services: tuple[Service, ...], name: str) -> Schedule:
    """Return a schedule by its id, or by its name where only one has it. Raises ``LoadError``."""
    every = [one for service in services for one in service.schedules.values()]
    found = [one for one in every if name in (one.id, one.name)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(one.id for one in found)
        raise LoadError(f"schedule '{name}' is declared by several services; use one of: {ids}")
    hint = near(name, [one.name for one in every]) if every else "the service declares none"
    raise LoadError(f"no schedule '{name}'; {hint}")

"""The ingress: takes triggers, decides, dispatches. The clock and the state stay with the scheduler."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import json
import logging
import os
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Literal, Protocol, Self

from purista.bridges import Connects, EnlistedQueues, EventBridge, QueueBridge, Subscription
from purista.clock import Clock, SystemClock
from purista.contract import Event, Queue, Schedule
from purista.errors import BridgeError, LedgerError, PuristaError
from purista.ingress.contractcheck import ContractCheck, UnknownContract
from purista.ingress.decision import Cause, Decision
from purista.ingress.dispatch import Dispatcher
from purista.ingress.openruns import OpenRuns
from purista.ingress.preparing import Preparation, Prepared, nominal_time
from purista.ingress.timing import EARLY, INSTANT, missed_times
from purista.ledgers import (
    EnlistingLedger,
    Enlistment,
    History,
    Ledger,
    Ruling,
    Run,
    RunStatus,
    Verdict,
)
from purista.manifest import Manifest, fingerprint
from purista.message import CANCELLED, RUN_CANCELLED, RUN_ENDED, Message, new_message_id
from purista.service import Service
from purista.subscribing import EVERY_INSTANCE
from purista.telemetry import RUN, SCHEDULE, VERDICT, failed, telemetry
from purista.trigger import Trigger, run_id_of

logger = logging.getLogger("purista.ingress")

HINTED = 1000
"""Among so many schedules a misspelt one is looked for: it takes time in which nothing else is done."""

SETTLE_PAUSE = timedelta(milliseconds=200)
LONGEST_PAUSE = timedelta(seconds=5)
"""How long it waits, at first and at most, before it tells a ledger again that a run is over."""

CLAIM_LEASE = timedelta(seconds=30)
"""How long a claim is this process's before a redelivery may take it over."""


class RunStore(Ledger, History, Protocol):
    """A ledger that remembers, as all of this package do."""


def own_subscriber(service: str) -> str:
    """Return the name under which the ingresses of a service hear that runs ended."""
    return f"{service}.purista-ingress"


class Ingress:
    """Takes triggers for the schedules of some services, or of a manifest alone.

    Every trigger gets a decision by the contract's policies, held in the ledger; an accepted one is
    dispatched before ``accept`` returns. ``recovery="ingress"`` is for schedulers that never send
    what they missed: the next trigger of a schedule then also decides about the nominal times since
    the last one. A trigger that names a version of its contract is taken for the current and for the
    previous one - that of ``previous``, and the one that the ledger remembers - and for another only with
    ``unknown_contract="accept"``. Open it with ``async with`` so that it learns when runs end.
    """

    def __init__(
        self,
        services: Iterable[Service] | Manifest,
        *,
        event_bridge: EventBridge,
        queue_bridge: QueueBridge,
        ledger: RunStore,
        clock: Clock | None = None,
        recovery: Literal["scheduler", "ingress"] = "scheduler",
        claim_lease: timedelta = CLAIM_LEASE,
        previous: Iterable[Service] | Manifest = (),
        unknown_contract: UnknownContract = "refuse",
    ) -> None:
        known = _services(services)
        self.schedules = _schedules(known)
        self._services = sorted({one.id for one in known})
        self.ledger = ledger
        self.clock: Clock = clock or SystemClock()
        self.owner = os.urandom(8).hex()
        self._telemetry = telemetry()
        before = {name: fingerprint(one) for name, one in _schedules(_services(previous)).items()}
        self._contracts = ContractCheck(ledger, before, unknown_contract)
        self._preparation = Preparation(self._contracts, owner=self.owner, lease=claim_lease)
        self._dispatcher = Dispatcher(event_bridge, queue_bridge, self._telemetry)
        self._event_bridge = event_bridge
        self._enlists = _enlists(ledger, queue_bridge)
        self._recovers = recovery == "ingress"
        self._lease = claim_lease
        self._subscriptions: list[Subscription] = []
        self._open = OpenRuns(
            self.clock, claim_lease, expire=self._expire, renew=self._renew, own=self._own
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._pauses: set[asyncio.Event] = set()
        self._settling: set[str] = set()
        self._answers: set[asyncio.Task[str]] = set()
        self._accepting = 0
        self._ending = 0
        self._closing = False

    async def __aenter__(self) -> Self:
        await self._contracts.note(self.schedules, self.clock.now())
        for service in self._services:
            await self._listen(service)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        for over in tuple(self._pauses):
            over.set()
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.cancel()
        self._open.close()
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, *self._tasks, return_exceptions=True)

    @property
    def is_open(self) -> bool:
        """Whether triggers are decided; not any more once it is closing."""
        return not self._closing

    def away(self) -> list[str]:
        """Return what is wrong with the bridges whose brokers are away, as they were last heard of."""
        bridges = self._dispatcher.event_bridge, self._dispatcher.queue_bridge
        health = [one.health for one in bridges if isinstance(one, Connects)]
        return [one.reason or "it is away" for one in health if one.state == "down"]

    @property
    def is_busy(self) -> bool:
        """Whether a decision or a run's end is being written down."""
        return self._accepting + self._ending > 0 or len(self._tasks) > len(self._pauses)

    async def accept(self, trigger: Trigger) -> Decision:
        """Decide about a trigger; dispatch it when it is accepted.

        Everything that can be wrong with a trigger is a decision, not an exception. Raises
        ``LedgerError`` when the ledger fails: nothing was decided then, send the trigger again.
        """
        if self._telemetry is None:
            return await self._accept(trigger)
        with self._telemetry.span(f"accept {trigger.schedule_id}", _attributes(trigger)) as span:
            decision = await self._accept(trigger)
            span.set_attribute(VERDICT, decision.verdict)
            if decision.run_id is not None:
                span.set_attribute(RUN, decision.run_id)
            if decision.cause is not None:
                failed(span, decision.cause)
            return decision

    async def ended(self, run_id: str) -> None:
        """Wait until a run that this ingress started is over; return at once for any other."""
        await self._open.ended(run_id)

    async def run(self, run_id: str) -> Run | None:
        """Return a run as the ledger knows it, or None. Raises ``LedgerError``."""
        return await self.ledger.run(run_id)

    async def cancel(self, run_id: str) -> bool:
        """Cancel an active run; False when it is not active (any more).

        Its handlers are cancelled, its job is not begun any more, and what they complete later is
        ignored. Raises ``LedgerError``.
        """
        if not await self.ledger.end(run_id, outcome=CANCELLED, now=self.clock.now()):
            return False
        await self._cancel((run_id,), CANCELLED)
        run = await self.ledger.run(run_id)
        if run is not None:
            self._count_active(run.schedule_id, -1)
        return True

    async def _accept(self, trigger: Trigger) -> Decision:
        schedule = self.schedules.get(trigger.schedule_id)
        if self._closing:
            return _rejected(trigger, "the ingress is closing", "closing", retry_after=self._lease)
        if schedule is None:
            hint = _hint(trigger.schedule_id, self.schedules)
            return _rejected(trigger, f"no such schedule; {hint}", "unknown_schedule")
        recovered: list[Decision] = []
        self._accepting += 1
        try:
            if self._recovers and not trigger.manual:
                recovered = await self._recover(schedule, trigger)
            if recovered and recovered[-1].retry_after is not None:
                return _held_up(trigger, recovered)
            decision = await self._decide(schedule, trigger)
        finally:
            self._accepting -= 1
        self._note(decision, trigger)
        if recovered:
            return decision._replace(recovered=tuple(recovered))
        return decision

    async def _decide(self, schedule: Schedule, trigger: Trigger) -> Decision:
        now = self.clock.now()
        nominal = nominal_time(schedule, trigger, now)
        if nominal is None:
            return Decision(
                verdict=Verdict.UNEXPECTED,
                reason="no nominal time of the contract has come yet",
                schedule_id=schedule.id,
                nominal_time=None,
                cause=None if trigger.fingerprint else "unexpected_time",
            )
        prepared = await self._preparation.prepare(schedule, trigger, nominal, now)
        if self._enlists is not None and isinstance(schedule.target, Queue):
            return await self._enlist(prepared, *self._enlists)
        ruling = await self.ledger.decide(prepared.proposal)
        if ruling.verdict is not Verdict.ACCEPTED:
            return _decision(prepared, ruling)
        try:
            return await self._start(prepared, ruling)
        except asyncio.CancelledError:
            self._own(self._release(ruling))
            raise

    async def _enlist(
        self, prepared: Prepared, ledger: EnlistingLedger, queues: EnlistedQueues
    ) -> Decision:
        """Decide and enqueue in one transaction."""
        schedule, target = prepared.schedule, prepared.schedule.target
        assert isinstance(target, Queue)

        def work(ruling: Ruling) -> Enlistment:
            run = prepared.run(ruling)
            return queues.enlisted(self._dispatcher.job(schedule, target, prepared.body, run))

        ruling = await ledger.decide_and_enlist(prepared.proposal, work)
        if ruling.verdict is Verdict.ACCEPTED:
            queues.wake(target.name)
            self._open.watch(ruling.run_id, schedule.run_timeout)
            self._count_active(schedule.id, 1 - int(ruling.taken_over))
            await self._cancel_others(schedule, ruling)
        return _decision(prepared, ruling)

    async def _start(self, prepared: Prepared, ruling: Ruling) -> Decision:
        schedule = prepared.schedule
        if ruling.cancelled:
            await self._cancel_others(schedule, ruling)
        is_brief = isinstance(schedule.target, Event) and schedule.completed_by is None
        if not is_brief:
            self._open.watch(ruling.run_id, schedule.run_timeout)
        try:
            run = prepared.run(ruling)
            answer = await self._dispatcher.send(schedule, prepared.body, run)
        except BridgeError as error:
            await self._release(ruling)
            reason = f"dispatch failed: {error}"
            refused = ruling._replace(verdict=Verdict.REJECTED, reason=reason)
            return _decision(prepared, refused, cause="dispatch_failed", retry_after=timedelta(0))
        self._count_active(schedule.id, 1 - int(ruling.taken_over))
        if is_brief:
            await self._end(schedule.id, ruling.run_id, "published")
        else:
            await self._dispatched(schedule, ruling, answer)
        return _decision(prepared, ruling)

    async def _cancel_others(self, schedule: Schedule, ruling: Ruling) -> None:
        """Cancel the handlers of the runs that an accepted one replaced, or that ran out of time."""
        self._count_active(schedule.id, -len(ruling.cancelled))
        await self._cancel(ruling.cancelled, _cancel_reason(schedule))

    async def _dispatched(
        self, schedule: Schedule, ruling: Ruling, answer: asyncio.Task[str] | None
    ) -> None:
        """Record that the run is active."""
        lease_until = None
        if not self._dispatcher.is_durable(schedule):
            lease_until = self.clock.now() + self._lease
            self._open.keep(ruling.run_id)
        await self.ledger.dispatched(ruling.run_id, ruling.token, lease_until=lease_until)
        if answer is not None:
            self._answers.add(answer)
            answer.add_done_callback(lambda done: self._answered(schedule, ruling.run_id, done))

    def _answered(self, schedule: Schedule, run_id: str, answer: asyncio.Task[str]) -> None:
        self._answers.discard(answer)
        if not answer.cancelled():
            self._own(self._settle(schedule.id, run_id, answer.result()))

    async def _release(self, ruling: Ruling) -> None:
        await self.ledger.release(ruling.run_id, ruling.token)
        self._open.forget(ruling.run_id)

    async def _recover(self, schedule: Schedule, trigger: Trigger) -> list[Decision]:
        """Decide about what was missed since the last trigger, oldest first.

        Ends with the first one that has to be tried again: those after it wait for it.
        """
        now = self.clock.now()
        nominal, last = nominal_time(schedule, trigger, now), None
        if nominal is not None and nominal <= now + EARLY:
            last = await self.ledger.latest(schedule.id)
        is_taken, _ = await self._contracts.judge(trigger, schedule)
        if nominal is None or last is None or not is_taken:
            return []
        if last < nominal and await self._is_undone(schedule, last):
            last -= INSTANT
        decisions: list[Decision] = []
        for missed in missed_times(schedule, last, nominal):
            gap = Trigger(
                schedule_id=schedule.id, nominal_time=missed, source=f"{trigger.source}+recovery"
            )
            decision = await self._decide(schedule, gap)
            self._note(decision, gap)
            decisions.append(decision)
            if decision.retry_after is not None:
                break
        return decisions

    async def _is_undone(self, schedule: Schedule, nominal: datetime) -> bool:
        """Whether the run of a nominal time is not known to have been dispatched."""
        run = await self.ledger.run(run_id_of(schedule.id, nominal))
        return run is not None and run.status in (RunStatus.CLAIMED, RunStatus.FAILED)

    async def _listen(self, service: str) -> None:
        """Hear of the ends of a service's runs.

        The ingresses of a service share that, so that an end is not lost while none of them is there.
        Each also hears of every end, for the runs that it watches itself.
        """
        subscribe, own = self._event_bridge.subscribe, own_subscriber(service)
        enders = {
            one.completed_by
            for one in self.schedules.values()
            if one.completed_by and _service_of(one.id) == service
        }
        end, hear = partial(self._run_ended, service), partial(self._run_heard_of, service)
        for event in sorted({RUN_ENDED, *enders}):
            self._subscriptions += [
                await subscribe(event, own, end),
                await subscribe(event, f"{own}-each", hear, options=EVERY_INSTANCE),
            ]

    async def _run_ended(self, service: str, message: Message) -> None:
        """Take the news that a run's target is done; for another service's run it has no effect."""
        run = message.run
        outcome = self._outcome(service, message)
        if run is None or outcome is None:
            return
        self._settling.add(run.run_id)
        try:
            await self._settle(run.schedule_id, run.run_id, outcome)
        finally:
            self._settling.discard(run.run_id)

    async def _run_heard_of(self, service: str, message: Message) -> None:
        """Take the same news for a run that this ingress watches, whoever else takes it."""
        run = message.run
        if run is None or run.run_id in self._settling or not self._open.watches(run.run_id):
            return
        outcome = self._outcome(service, message)
        if outcome is not None:
            await self._settle(run.schedule_id, run.run_id, outcome)

    def _outcome(self, service: str, message: Message) -> str | None:
        """Return how the run of a service ended by a message; None: it did not."""
        run = message.run
        if run is None or _service_of(run.schedule_id) != service:
            return None
        if message.name == RUN_ENDED:
            return str(json.loads(message.body).get("outcome", ""))
        schedule = self.schedules.get(run.schedule_id)
        ends = schedule is not None and schedule.completed_by == message.name
        return "completed" if ends else None

    async def _settle(self, schedule_id: str, run_id: str, outcome: str) -> None:
        """End a run that is over; a ledger that is away is asked again, until the ingress closes."""
        pause = SETTLE_PAUSE
        while True:
            try:
                return await self._end(schedule_id, run_id, outcome)
            except LedgerError as error:
                if self._closing:
                    raise
                logger.warning("run %s: its end has to be written down again: %s", run_id, error)
            await self._pause(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _pause(self, delay: timedelta) -> None:
        """Wait, but not longer than the ingress is open."""
        over = asyncio.Event()
        self._pauses.add(over)
        timer = self.clock.call_later(delay, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()
            self._pauses.discard(over)

    async def _end(self, schedule_id: str, run_id: str, outcome: str) -> None:
        self._ending += 1
        try:
            if await self.ledger.end(run_id, outcome=outcome, now=self.clock.now()):
                self._count_active(schedule_id, -1)
            else:
                logger.info("run %s: its end is ignored, it was not active any more", run_id)
            self._open.forget(run_id)
        finally:
            self._ending -= 1

    async def _expire(self, run_id: str) -> None:
        await self._end("", run_id, "run_timeout")
        run = await self.ledger.run(run_id)
        if run is not None and run.status is RunStatus.EXPIRED:
            logger.warning("run %s: its run time-out has passed", run_id)
            self._count_active(run.schedule_id, -1)
            await self._cancel((run_id,), "run_timeout")

    async def _renew(self) -> None:
        await self.ledger.renew(self.owner, lease_until=self.clock.now() + self._lease)

    def _note(self, decision: Decision, trigger: Trigger) -> None:
        """Log and count a decision."""
        _log(decision, trigger)
        if self._telemetry is not None:
            nominal = None if trigger.manual else decision.nominal_time
            late = None if nominal is None else (self.clock.now() - nominal).total_seconds()
            is_sensible = decision.verdict not in (Verdict.UNEXPECTED, Verdict.REJECTED)
            self._telemetry.decided(
                decision.schedule_id, decision.verdict, late if is_sensible else None
            )

    def _count_active(self, schedule_id: str, change: int) -> None:
        if self._telemetry is not None and change:
            self._telemetry.active_runs(schedule_id, change)

    async def _cancel(self, run_ids: tuple[str, ...], reason: str) -> None:
        for run_id in run_ids:
            self._open.forget(run_id)
            body = json.dumps({"runId": run_id, "reason": reason}).encode()
            try:
                await self._event_bridge.publish(Message(RUN_CANCELLED, body, new_message_id()))
            except BridgeError:
                logger.exception("run %s: its handlers could not be told to stop", run_id)

    def _own(self, work: object) -> None:
        """Run ``work`` as a task that this ingress waits for when it closes."""
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._owned_done)

    def _owned_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            known = isinstance(error, PuristaError)
            logger.error("the ingress could not settle a run", exc_info=None if known else error)


def _service_of(schedule_id: str) -> str:
    """Return the id of a schedule's service; only the schedule's own name can have more dots."""
    return ".".join(schedule_id.split(".", 2)[:2])


def _cancel_reason(schedule: Schedule) -> str:
    policy = schedule.concurrency_policy
    return {"replace": "replaced", "forbid": "superseded"}.get(policy, "run_timeout")


def _services(services: Iterable[Service] | Manifest) -> tuple[Service, ...]:
    return services.services() if isinstance(services, Manifest) else tuple(services)


def _schedules(services: Iterable[Service]) -> dict[str, Schedule]:
    return {one.id: one for each in services for one in each.schedules.values()}


def _hint(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, itertools.islice(known, HINTED), n=1)
    return f"did you mean '{found[0]}'?" if found else "'purista list' shows those that there are"


def _enlists(ledger: object, queues: object) -> tuple[EnlistingLedger, EnlistedQueues] | None:
    """Return ledger and queues where they are one database."""
    if isinstance(ledger, EnlistingLedger) and isinstance(queues, EnlistedQueues):
        return (ledger, queues) if ledger.store == queues.store else None
    return None


def _attributes(trigger: Trigger) -> dict[str, str]:
    return {SCHEDULE: trigger.schedule_id, "purista.source": trigger.source}


def _decision(
    prepared: Prepared,
    ruling: Ruling,
    *,
    cause: Cause | None = None,
    retry_after: timedelta | None = None,
) -> Decision:
    is_refused = ruling.verdict in (Verdict.REJECTED, Verdict.UNEXPECTED)
    return Decision(
        verdict=ruling.verdict,
        reason=ruling.reason,
        schedule_id=prepared.proposal.schedule_id,
        nominal_time=prepared.proposal.nominal_time,
        run_id=ruling.run_id,
        retry_after=ruling.retry_after if retry_after is None else retry_after,
        taken_over=ruling.taken_over,
        cause=cause or (prepared.cause if is_refused else None),
    )


def _rejected(
    trigger: Trigger, reason: str, cause: Cause, *, retry_after: timedelta | None = None
) -> Decision:
    decision = Decision(
        verdict=Verdict.REJECTED,
        reason=reason,
        schedule_id=trigger.schedule_id,
        nominal_time=trigger.nominal_time,
        retry_after=retry_after,
        cause=cause,
    )
    _log(decision, trigger)
    return decision


def _held_up(trigger: Trigger, recovered: list[Decision]) -> Decision:
    """Return that a trigger waits for an earlier nominal time, which has to be tried again."""
    earlier = recovered[-1]
    reason = f"{earlier.nominal_time} was missed, and has to be tried again: {earlier.reason}"
    decision = _rejected(
        trigger, reason, "recovery_failed", retry_after=earlier.retry_after or timedelta(0)
    )
    return decision._replace(recovered=tuple(recovered))


def _log(decision: Decision, trigger: Trigger) -> None:
    logger.info(
        "schedule %s at %s from %s: %s (%s), run %s",
        decision.schedule_id,
        decision.nominal_time,
        trigger.source,
        decision.verdict,
        decision.reason,
        decision.run_id,
    )

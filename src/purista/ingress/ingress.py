"""The ingress: takes triggers, decides, dispatches. The clock and the state stay with the scheduler."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Literal, Protocol, Self

from purista.bridges import EventBridge, QueueBridge, Subscription
from purista.clock import Clock, SystemClock, Timer
from purista.contract import ConcurrencyPolicy, Event, Schedule, near
from purista.errors import BridgeError, PayloadError, PuristaError
from purista.ingress.decision import Decision
from purista.ingress.dispatch import Dispatcher
from purista.ingress.timing import INSTANT, missed_times, time_verdict
from purista.ledgers import History, Ledger, Proposal, Ruling, RunStatus, Verdict
from purista.manifest import Manifest, fingerprint
from purista.message import RUN_CANCELLED, RUN_ENDED, Message, RunInfo, new_message_id
from purista.payload import key_of, render
from purista.service import Service
from purista.trigger import Trigger, run_id_of

logger = logging.getLogger("purista.ingress")

CLAIM_LEASE = timedelta(seconds=30)
"""How long a claim is this process's before a redelivery may take it over."""


class RunStore(Ledger, History, Protocol):
    """A ledger that remembers, as all of this package do."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A trigger that fits the contract: its payload and the proposal about it."""

    schedule: Schedule
    body: bytes
    proposal: Proposal


class Ingress:
    """Takes triggers for the schedules of some services, or of a manifest alone.

    Every trigger gets a decision by the contract's policies, held in the ledger; an accepted one is
    dispatched before ``accept`` returns. ``recovery="ingress"`` is for schedulers that never send
    what they missed: the next trigger of a schedule then also decides about the nominal times since
    the last one. Open it with ``async with`` so that it learns when runs end.
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
    ) -> None:
        known = services.services() if isinstance(services, Manifest) else services
        self.schedules = {one.id: one for each in known for one in each.schedules.values()}
        self.ledger = ledger
        self.clock: Clock = clock or SystemClock()
        self.owner = os.urandom(8).hex()
        self._fingerprints: dict[str, str] = {}
        self._dispatcher = Dispatcher(event_bridge, queue_bridge)
        self._event_bridge = event_bridge
        self._recovers = recovery == "ingress"
        self._lease = claim_lease
        self._subscriptions: list[Subscription] = []
        self._open: dict[str, Timer] = {}
        self._awaited: dict[str, asyncio.Event] = {}
        self._leased: set[str] = set()
        self._renewal: Timer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: set[asyncio.Task[str]] = set()
        self._accepting = 0
        self._ending = 0
        self._closing = False

    async def __aenter__(self) -> Self:
        bridge, own = self._event_bridge, f"ingress-{self.owner}"
        enders = {one.completed_by for one in self.schedules.values() if one.completed_by}
        for event in sorted({RUN_ENDED, *enders}):
            self._subscriptions.append(await bridge.subscribe(event, own, self._run_ended))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            await subscription.cancel()
        for timer in [*self._open.values(), *([self._renewal] if self._renewal else [])]:
            timer.cancel()
        self._open.clear()
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, *self._tasks, return_exceptions=True)

    @property
    def is_busy(self) -> bool:
        """Whether a decision or a run's end is being written down."""
        return self._accepting + self._ending > 0 or bool(self._tasks)

    async def accept(self, trigger: Trigger) -> Decision:
        """Decide about a trigger; dispatch it when it is accepted.

        Everything that can be wrong with a trigger is a decision, not an exception. Raises
        ``LedgerError`` when the ledger fails: nothing was decided then, send the trigger again.
        """
        schedule = self.schedules.get(trigger.schedule_id)
        if self._closing:
            return _rejected(trigger, "the ingress is closing", retry_after=self._lease)
        if schedule is None:
            hint = near(trigger.schedule_id, self.schedules) if self.schedules else "none is known"
            return _rejected(trigger, f"no such schedule; {hint}")
        recovered: list[Decision] = []
        self._accepting += 1
        try:
            if self._recovers and not trigger.manual:
                recovered = await self._recover(schedule, trigger)
            decision = await self._decide(schedule, trigger)
        finally:
            self._accepting -= 1
        _log(decision, trigger)
        return dataclasses.replace(decision, recovered=tuple(recovered))

    async def ended(self, run_id: str) -> None:
        """Wait until a run that this ingress started is over; return at once for any other."""
        if run_id in self._open:
            await self._awaited.setdefault(run_id, asyncio.Event()).wait()

    async def _decide(self, schedule: Schedule, trigger: Trigger) -> Decision:
        now = self.clock.now()
        nominal = self._nominal_time(schedule, trigger, now)
        if nominal is None:
            return Decision(
                verdict=Verdict.UNEXPECTED,
                reason="no nominal time of the contract has come yet",
                schedule_id=schedule.id,
                nominal_time=None,
            )
        prepared = self._prepare(schedule, trigger, nominal, now)
        ruling = await self.ledger.decide(prepared.proposal)
        if ruling.verdict is not Verdict.ACCEPTED:
            return _decision(prepared.proposal, ruling)
        try:
            return await self._start(prepared, ruling)
        except asyncio.CancelledError:
            await self._release(ruling)
            raise

    def _nominal_time(self, schedule: Schedule, trigger: Trigger, now: datetime) -> datetime | None:
        """Return the trigger's own time, else the latest nominal time that has come."""
        if trigger.nominal_time is not None:
            return trigger.nominal_time.astimezone(UTC)
        return now if trigger.manual else schedule.previous_before(now + INSTANT)

    def _prepare(
        self, schedule: Schedule, trigger: Trigger, nominal: datetime, now: datetime
    ) -> _Prepared:
        verdict, reason = self._verdict(schedule, trigger, nominal, now)
        if self._is_stale(trigger, schedule):
            reason = f"{reason}; the scheduler runs another version of the contract"
        run_id = run_id_of(schedule.id, nominal, *([trigger.data] if trigger.has_data else []))
        body, key = b"", nominal.isoformat()
        if verdict is not Verdict.UNEXPECTED:
            try:
                template = trigger.data if trigger.has_data else schedule.payload
                schema, slot = schedule.target.schema, schedule.slot(nominal, run_id)
                payload = template if trigger.has_data else render(template, slot, schema)
                body = schema.check(payload)
                if schedule.idempotency_key is not None:
                    key = key_of(schedule.idempotency_key, body)
            except PayloadError as error:
                verdict, reason = Verdict.REJECTED, str(error)
        return _Prepared(
            schedule,
            body,
            Proposal(
                schedule_id=schedule.id,
                nominal_time=nominal,
                key=key,
                run_id=run_id,
                source=trigger.source,
                owner=self.owner,
                now=now,
                verdict=verdict,
                reason=reason,
                concurrency_policy=ConcurrencyPolicy(schedule.concurrency_policy).value,
                dedupe_window=schedule.dedupe_window,
                run_timeout=schedule.run_timeout,
                lease=self._lease,
                manual=trigger.manual,
            ),
        )

    def _verdict(
        self, schedule: Schedule, trigger: Trigger, nominal: datetime, now: datetime
    ) -> tuple[Verdict, str]:
        if trigger.manual:
            return Verdict.ACCEPTED, "sent by a person"
        if not schedule.enabled:
            return Verdict.DISABLED, "the schedule is disabled"
        return time_verdict(schedule, nominal, now)

    def _is_stale(self, trigger: Trigger, schedule: Schedule) -> bool:
        """Whether the scheduler says that it was compiled from another version of the contract."""
        if trigger.fingerprint is None:
            return False
        known = self._fingerprints.get(schedule.id)
        if known is None:
            known = self._fingerprints[schedule.id] = fingerprint(schedule)
        return trigger.fingerprint != known

    async def _start(self, prepared: _Prepared, ruling: Ruling) -> Decision:
        schedule, proposal = prepared.schedule, prepared.proposal
        await self._cancel(ruling.cancelled, _cancel_reason(schedule))
        run = RunInfo(
            ruling.run_id, schedule.id, proposal.nominal_time, schedule.timezone, is_target=True
        )
        self._watch(ruling.run_id, schedule)
        try:
            answer = await self._dispatcher.send(schedule, prepared.body, run)
        except BridgeError as error:
            await self._release(ruling)
            reason = f"dispatch failed: {error}"
            failed = dataclasses.replace(ruling, verdict=Verdict.REJECTED, reason=reason)
            return _decision(proposal, failed, retry_after=timedelta(0))
        await self._dispatched(schedule, ruling, answer)
        return _decision(proposal, ruling)

    async def _dispatched(
        self, schedule: Schedule, ruling: Ruling, answer: asyncio.Task[str] | None
    ) -> None:
        """Record that the run is active; end it where nothing will say that it is done."""
        lease_until = None
        if not self._dispatcher.is_durable(schedule):
            lease_until = self.clock.now() + self._lease
            if ruling.run_id in self._open:
                self._leased.add(ruling.run_id)
                self._keep()
        await self.ledger.dispatched(ruling.run_id, ruling.token, lease_until=lease_until)
        if answer is not None:
            self._answers.add(answer)
            answer.add_done_callback(lambda done: self._answered(ruling.run_id, done))
        elif isinstance(schedule.target, Event) and schedule.completed_by is None:
            await self._end(ruling.run_id, "published")

    def _answered(self, run_id: str, answer: asyncio.Task[str]) -> None:
        self._answers.discard(answer)
        if not answer.cancelled():
            self._own(self._end(run_id, answer.result()))

    async def _release(self, ruling: Ruling) -> None:
        await self.ledger.release(ruling.run_id, ruling.token)
        self._forget(ruling.run_id)

    async def _recover(self, schedule: Schedule, trigger: Trigger) -> list[Decision]:
        """Decide about what was missed since the last trigger, oldest first."""
        last = await self.ledger.latest(schedule.id)
        nominal = self._nominal_time(schedule, trigger, self.clock.now())
        if last is None or nominal is None:
            return []
        decisions = []
        for missed in missed_times(schedule, last, nominal):
            gap = Trigger(
                schedule_id=schedule.id, nominal_time=missed, source=f"{trigger.source}+recovery"
            )
            decision = await self._decide(schedule, gap)
            _log(decision, gap)
            decisions.append(decision)
        return decisions

    async def _run_ended(self, message: Message) -> None:
        """Take the news that a run's target is done; for another's run it has no effect."""
        run = message.run
        if run is None:
            return
        schedule = self.schedules.get(run.schedule_id)
        if message.name == RUN_ENDED:
            await self._end(run.run_id, str(json.loads(message.body).get("outcome", "")))
        elif schedule is not None and schedule.completed_by == message.name:
            await self._end(run.run_id, "completed")

    async def _end(self, run_id: str, outcome: str) -> None:
        self._ending += 1
        try:
            if not await self.ledger.end(run_id, outcome=outcome, now=self.clock.now()):
                logger.info("run %s: its end is ignored, it was not active any more", run_id)
        finally:
            self._ending -= 1
            self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        timer = self._open.pop(run_id, None)
        if timer is not None:
            timer.cancel()
        self._leased.discard(run_id)
        awaited = self._awaited.pop(run_id, None)
        if awaited is not None:
            awaited.set()

    def _watch(self, run_id: str, schedule: Schedule) -> None:
        """End the run when its time-out has passed."""
        self._open[run_id] = self.clock.call_later(
            schedule.run_timeout, lambda: self._own(self._expire(run_id))
        )

    async def _expire(self, run_id: str) -> None:
        await self._end(run_id, "run_timeout")
        run = await self.ledger.run(run_id)
        if run is not None and run.status is RunStatus.EXPIRED:
            logger.warning("run %s: its run time-out has passed", run_id)
            await self._cancel((run_id,), "run_timeout")

    async def _cancel(self, run_ids: tuple[str, ...], reason: str) -> None:
        for run_id in run_ids:
            self._forget(run_id)
            body = json.dumps({"runId": run_id, "reason": reason}).encode()
            try:
                await self._event_bridge.publish(Message(RUN_CANCELLED, body, new_message_id()))
            except BridgeError:
                logger.exception("run %s: its handlers could not be told to stop", run_id)

    def _keep(self) -> None:
        """Renew the leases of runs whose messages live in this process, while there are any."""
        if self._renewal is None and self._leased and not self._closing:
            self._renewal = self.clock.call_later(self._lease / 3, self._renew)

    def _renew(self) -> None:
        self._renewal = None
        if self._leased:
            until = self.clock.now() + self._lease
            self._own(self.ledger.renew(self.owner, lease_until=until))
            self._keep()

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


def _cancel_reason(schedule: Schedule) -> str:
    policy = schedule.concurrency_policy
    return {"replace": "replaced", "forbid": "superseded"}.get(policy, "run_timeout")


def _decision(
    proposal: Proposal, ruling: Ruling, *, retry_after: timedelta | None = None
) -> Decision:
    return Decision(
        verdict=ruling.verdict,
        reason=ruling.reason,
        schedule_id=proposal.schedule_id,
        nominal_time=proposal.nominal_time,
        run_id=ruling.run_id,
        retry_after=ruling.retry_after if retry_after is None else retry_after,
        taken_over=ruling.taken_over,
    )


def _rejected(trigger: Trigger, reason: str, *, retry_after: timedelta | None = None) -> Decision:
    decision = Decision(
        verdict=Verdict.REJECTED,
        reason=reason,
        schedule_id=trigger.schedule_id,
        nominal_time=trigger.nominal_time,
        retry_after=retry_after,
    )
    _log(decision, trigger)
    return decision


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

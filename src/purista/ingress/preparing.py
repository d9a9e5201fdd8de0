"""What a trigger proposes, by the contract alone: its nominal time, its payload, its key, its verdict."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from purista.contract import ConcurrencyPolicy, Schedule
from purista.errors import PayloadError
from purista.ingress.contractcheck import ContractCheck
from purista.ingress.decision import Cause
from purista.ingress.timing import EARLY, INSTANT, time_verdict
from purista.ledgers import Proposal, Ruling, Verdict
from purista.message import RunInfo
from purista.payload import constant_text, key_of, render
from purista.trigger import Trigger, run_id_of


class Prepared(NamedTuple):
    """A trigger that fits the contract: its payload and the proposal about it."""

    schedule: Schedule
    body: bytes
    proposal: Proposal
    cause: Cause | None = None

    def run(self, ruling: Ruling) -> RunInfo:
        """Return the run that a ruling accepted."""
        proposal, zone = self.proposal, self.schedule.timezone
        return RunInfo(
            ruling.run_id, proposal.schedule_id, proposal.nominal_time, zone, is_target=True
        )


class Preparation:
    """Prepares triggers for the ledger of an ingress; ``owner`` and ``lease`` are those of its claims."""

    def __init__(self, contracts: ContractCheck, *, owner: str, lease: timedelta) -> None:
        self._contracts = contracts
        self._owner = owner
        self._lease = lease
        self._constants: dict[str, bytes | None] = {}

    async def prepare(
        self, schedule: Schedule, trigger: Trigger, nominal: datetime, now: datetime
    ) -> Prepared:
        """Return what a trigger proposes. Raises ``LedgerError``."""
        verdict, reason = _verdict(schedule, trigger, nominal, now)
        is_taken, note = True, ""
        if trigger.fingerprint is not None:
            is_taken, note = await self._contracts.judge(trigger, schedule)
        cause: Cause | None = None
        if not is_taken:
            verdict, reason, cause = Verdict.REJECTED, note, "unknown_contract"
        elif note:
            reason = f"{reason}; {note}"
        if verdict is Verdict.UNEXPECTED and (nominal > now + EARLY or not trigger.fingerprint):
            cause = "unexpected_time"
        run_id = run_id_of(trigger.schedule_id, nominal, trigger.data)
        body, key = b"", nominal.isoformat()
        if verdict is not Verdict.UNEXPECTED and cause is None:
            try:
                body = self._body(schedule, trigger, nominal, run_id)
                if schedule.idempotency_key is not None:
                    key = key_of(schedule.idempotency_key, body)
            except PayloadError as error:
                verdict, reason, cause = Verdict.REJECTED, str(error), "invalid_payload"
        return Prepared(
            schedule,
            body,
            Proposal(
                schedule_id=trigger.schedule_id,
                nominal_time=nominal,
                key=key,
                run_id=run_id,
                source=_source(trigger),
                owner=self._owner,
                now=now,
                verdict=verdict,
                reason=reason,
                concurrency_policy=ConcurrencyPolicy(schedule.concurrency_policy).value,
                dedupe_window=schedule.dedupe_window,
                run_timeout=schedule.run_timeout,
                lease=self._lease,
                manual=trigger.manual,
            ),
            cause,
        )

    def _body(self, schedule: Schedule, trigger: Trigger, nominal: datetime, run_id: str) -> bytes:
        """Return the payload, checked. Raises ``PayloadError``.

        A template without placeholders is written once; what it gives is checked each time, as a
        schema may fill in something new.
        """
        schema = schedule.target.schema
        if trigger.has_data:
            return schema.check(trigger.data)
        name = trigger.schedule_id
        if name not in self._constants:
            slot = schedule.slot(nominal, run_id)
            self._constants[name] = constant_text(schedule.payload, slot, schema)
        text = self._constants[name]
        if text is not None:
            return schema.check_text(text)
        return schema.check(render(schedule.payload, schedule.slot(nominal, run_id), schema))


def nominal_time(schedule: Schedule, trigger: Trigger, now: datetime) -> datetime | None:
    """Return the trigger's own time, else the latest nominal time that has come."""
    if trigger.nominal_time is not None:
        return trigger.nominal_time.astimezone(UTC)
    return now if trigger.manual else schedule.previous_before(now + INSTANT)


def _verdict(
    schedule: Schedule, trigger: Trigger, nominal: datetime, now: datetime
) -> tuple[Verdict, str]:
    if not 1970 <= nominal.year <= 2200:
        return Verdict.UNEXPECTED, "its time is not in the years 1970 to 2200"
    if trigger.manual:
        return Verdict.ACCEPTED, "sent by a person"
    if not schedule.enabled:
        return Verdict.DISABLED, "the schedule is disabled"
    return time_verdict(schedule, nominal, now)


def _source(trigger: Trigger) -> str:
    """Return who sent a trigger, for the records; a person's says so."""
    source = trigger.source
    return f"{source}/manual" if trigger.manual and not source.endswith("/manual") else source

"""The audit finds what was dropped, late or doubled: exactly that, whatever the policy."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from purista import (
    Cron,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Schedule,
    Service,
    Trigger,
)
from purista.audit import ARRIVALS, Finding, Kind, ScheduleAudit, audit, evidence
from purista.ingress import Decision
from purista.testing import ManualClock

START = datetime(2027, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SHOP = "Shop.v1.hourly"


class Day(BaseModel):
    day: str


def hour(number: int) -> datetime:
    return START + number * HOUR


class World:
    """One hourly schedule behind an ingress, on a manual clock."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock(START - MINUTE)
        self.ledger = MemoryLedger()
        self.events = MemoryEventBridge(clock=self.clock)
        self.queues = MemoryQueueBridge(clock=self.clock)
        self.schedule = self.made(**options)

    def made(self, **options: Any) -> Schedule:
        self.service = Service("Shop", version="1")
        builder = self.service.schedule("hourly")
        given = {"expression": Cron("0 * * * *"), "payload": {"day": "{nominal_time:%d}"}}
        if options.pop("lasts", False):  # nobody works on the queue, so that its runs stay active
            return builder.enqueue(self.service.queue("jobs", Day), **(given | options))
        return builder.emit_event(self.service.event("due", Day), **(given | options))

    @asynccontextmanager
    async def ingress(self) -> AsyncIterator[Ingress]:
        async with Ingress(
            [self.service],
            ledger=self.ledger,
            clock=self.clock,
            event_bridge=self.events,
            queue_bridge=self.queues,
        ) as ingress:
            yield ingress

    async def send(self, *sent: tuple[datetime, datetime], **options: Any) -> list[Decision]:
        """Send triggers: when, and for which nominal time."""
        decisions = []
        async with self.ingress() as ingress:
            for at, nominal in sorted(sent):
                await self.clock.advance_to(max(at, self.clock.now()))
                trigger = {"schedule_id": SHOP, "nominal_time": nominal, "source": "test"}
                decisions.append(await ingress.accept(Trigger(**(trigger | options))))
        return decisions

    async def audit(self, **options: Any) -> ScheduleAudit:
        window: dict[str, Any] = {"now": hour(40), "since": START, "until": hour(6)}
        return await audit(self.schedule, self.ledger, **(window | options))


def told(result: ScheduleAudit) -> list[tuple[str, int]]:
    return [(str(one.kind), (one.nominal_time - START) // HOUR) for one in result.findings]


def only(result: ScheduleAudit) -> Finding:
    [finding] = result.findings
    return finding


def on_time(*numbers: int) -> list[tuple[datetime, datetime]]:
    return [(hour(number), hour(number)) for number in numbers]


async def test_a_schedule_whose_triggers_all_came_has_nothing_to_be_told():
    world = World()
    await world.send(*on_time(*range(6)))
    result = await world.audit(now=hour(6))
    assert result.is_fine
    assert (result.expected, result.on_time, result.lost) == (6, 6, 0)


async def test_a_time_without_a_trigger_was_missed():
    world = World()
    await world.send(*on_time(0, 1, 3, 4, 5))
    result = await world.audit()
    assert told(result) == [("missed", 2)]
    assert result.lost == 1


async def test_a_time_whose_grace_and_jitter_are_not_over_is_pending():
    world = World(jitter=timedelta(minutes=5))
    await world.send(*on_time(*range(5)))
    result = await world.audit(now=hour(5) + timedelta(minutes=15))
    assert (told(result), result.pending) == ([], 1)
    result = await world.audit(now=hour(5) + timedelta(minutes=15, microseconds=1))
    assert told(result) == [("missed", 5)]


async def test_a_disabled_schedule_expects_nothing_and_tells_what_came():
    world = World(enabled=False)
    await world.send(*on_time(2))
    result = await world.audit()
    assert (result.expected, told(result)) == (0, [("disabled", 2)])


async def test_a_late_trigger_that_was_skipped_is_late_and_its_run_did_not_happen():
    world = World(missed_run_policy="skip")
    await world.send(*on_time(0, 1, 3, 4, 5), (hour(2) + 20 * MINUTE, hour(2)))
    finding = only(await world.audit(now=hour(6)))
    assert (finding.kind, finding.lateness) == (Kind.LATE, 20 * MINUTE)
    assert finding.reason.startswith("not run: 0:20:00 late")


async def test_a_late_trigger_that_was_run_is_late():
    world = World(missed_run_policy="catchUp")
    await world.send(*on_time(0, 1, 3, 4, 5), (hour(2) + 20 * MINUTE, hour(2)))
    assert only(await world.audit(now=hour(6))).reason == "run 0:20:00 late"


async def test_missed_times_for_which_a_late_run_stands_are_coalesced():
    world = World(missed_run_policy="runOnce")
    await world.send(*on_time(0, 4, 5), (hour(3) + 20 * MINUTE, hour(3)))
    result = await world.audit(now=hour(6))
    assert told(result) == [("coalesced", 1), ("coalesced", 2), ("late", 3)]
    assert result.lost == 0


async def test_a_punctual_run_stands_for_nothing_that_was_missed_before():
    world = World(missed_run_policy="runOnce")
    await world.send(*on_time(0, 1, 4, 5))
    assert told(await world.audit(now=hour(6))) == [("missed", 2), ("missed", 3)]


async def test_what_stands_for_missed_times_may_lie_behind_the_window():
    world = World(missed_run_policy="runOnce")
    await world.send(*on_time(*range(4)), (hour(8) + 20 * MINUTE, hour(8)))
    assert told(await world.audit(now=hour(9))) == [("coalesced", 4), ("coalesced", 5)]


async def test_what_the_scheduler_may_still_send_of_the_missed_is_told():
    world = World(missed_run_policy="catchUp", catch_up_window=timedelta(hours=3))
    await world.send(*on_time(0))
    result = await world.audit(now=hour(6))
    assert told(result) == [("missed", number) for number in range(1, 6)]
    assert result.still_taken == hour(3)


async def test_what_is_skipped_when_late_is_not_waited_for():
    result = await World(missed_run_policy="skip").audit(now=hour(6))
    assert (result.counts[Kind.MISSED], result.still_taken) == (6, None)


async def test_a_trigger_that_came_again_is_a_duplicate():
    world = World()
    await world.send(*on_time(*range(6), 2, 2, 4))
    findings = (await world.audit(now=hour(6))).findings
    assert [(one.kind, one.nominal_time, one.count) for one in findings] == [
        (Kind.DUPLICATE, hour(2), 2),
        (Kind.DUPLICATE, hour(4), 1),
    ]


async def test_a_trigger_for_no_time_of_the_contract_is_unexpected():
    world = World()
    await world.send(*on_time(*range(6)), (hour(2), hour(2) + MINUTE))
    finding = only(await world.audit(now=hour(6)))
    assert (finding.kind, finding.nominal_time) == (Kind.UNEXPECTED, hour(2) + MINUTE)


async def test_a_trigger_that_came_too_early_is_unexpected_and_the_time_missed():
    world = World()
    await world.send(*on_time(0, 1, 3, 4, 5), (hour(1), hour(2)))
    assert told(await world.audit(now=hour(6))) == [("missed", 2), ("unexpected", 2)]


async def test_a_person_who_runs_a_missed_time_recovers_it():
    world = World()
    await world.send(*on_time(0, 1, 3, 4, 5))
    await world.send((hour(7), hour(2)), manual=True, source="somewhere")
    finding = only(await world.audit(now=hour(8)))
    assert (finding.kind, finding.is_lost) == (Kind.RECOVERED, False)
    assert finding.reason == "no trigger came; run by a person at 2027-03-01T07:00:00Z"


async def test_a_person_who_runs_a_skipped_time_recovers_it():
    world = World(missed_run_policy="skip")
    await world.send(*on_time(0, 1, 3, 4, 5), (hour(2) + 20 * MINUTE, hour(2)))
    await world.send((hour(7), hour(2)), manual=True)
    assert told(await world.audit(now=hour(8))) == [("recovered", 2)]


async def test_what_a_person_tried_in_vain_is_no_trigger():
    world = World(lasts=True, concurrency_policy="forbid", run_timeout=timedelta(days=2))
    await world.send(*on_time(0))
    await world.send((hour(1), hour(1)), manual=True, source="purista/cli/manual")
    result = await world.audit(since=hour(1), until=hour(2), now=hour(3))
    assert told(result) == [("missed", 1)]


async def test_a_persons_run_before_the_schedulers_trigger_makes_that_no_duplicate():
    world = World()
    await world.send((START - MINUTE, hour(0)), manual=True)
    await world.send(*on_time(*range(6)))
    assert (await world.audit(now=hour(6))).is_fine


async def test_a_trigger_with_the_key_of_another_times_run_is_not_missed():
    world = World(idempotency_key="payload.day")
    await world.send(*on_time(0, 1, 2, 2))
    result = await world.audit(until=hour(4), now=hour(4))
    assert told(result) == [("same-key", 1), ("duplicate", 2), ("same-key", 2), ("missed", 3)]


async def test_a_trigger_that_was_rejected_had_no_effect():
    world = World()
    await world.send(*on_time(*range(6)))
    world.ledger = MemoryLedger()
    world.clock = ManualClock(START)
    await world.send(*on_time(*range(6)), data=5)
    result = await world.audit(until=hour(1), now=hour(2))
    assert (told(result), result.lost) == ([("rejected", 0)], 1)


async def test_a_run_whose_dispatch_failed_had_no_effect():
    world = World(lasts=True)
    await world.queues.close()
    await world.send(*on_time(0))
    finding = only(await world.audit(until=hour(1), now=hour(1)))
    assert (finding.kind, finding.is_lost) == (Kind.FAILED, True)


async def test_a_run_whose_dispatch_failed_and_was_sent_again_is_fine():
    world = World(lasts=True)
    bridge, world.queues = world.queues, MemoryQueueBridge(clock=world.clock)
    await world.queues.close()
    await world.send(*on_time(0))
    world.queues = bridge
    await world.send((hour(0) + MINUTE, hour(0)))
    assert (await world.audit(until=hour(1), now=hour(0) + MINUTE)).is_fine


async def test_a_run_that_failed_and_overlapped_when_it_was_sent_again_is_an_overlap():
    world = World(lasts=True, concurrency_policy="forbid", run_timeout=timedelta(days=2))
    bridge, world.queues = world.queues, MemoryQueueBridge(clock=world.clock)
    await world.queues.close()
    await world.send(*on_time(0))
    world.queues = bridge
    await world.send(*on_time(1), (hour(1) + MINUTE, hour(0)))
    assert told(await world.audit(until=hour(2), now=hour(1) + MINUTE)) == [("overlap", 0)]


async def test_a_run_that_overlapped_is_told():
    world = World(lasts=True, concurrency_policy="forbid", run_timeout=timedelta(days=2))
    await world.send(*on_time(0, 1))
    result = await world.audit(since=hour(1), until=hour(2), now=hour(2))
    assert (told(result), result.lost) == ([("overlap", 1)], 0)


async def test_a_run_whose_process_died_had_no_effect():
    world = World(lasts=True)
    await world.send(*on_time(0))
    result = await world.audit(until=hour(1), now=hour(0) + MINUTE)
    assert (told(result), result.lost) == ([("failed", 0)], 1)


async def test_a_run_that_took_too_long_is_expired():
    world = World(lasts=True)
    [decision] = await world.send(*on_time(0))
    await world.ledger.dispatched(decision.run_id or "", 1, lease_until=None)
    finding = only(await world.audit(until=hour(1), now=hour(2)))
    assert (finding.kind, finding.run_id) == (Kind.EXPIRED, decision.run_id)


@pytest.mark.parametrize("outcome", ["failed: no", "dead_lettered"])
async def test_a_run_that_ended_without_success_is_told(outcome: str):
    world = World(lasts=True)
    [decision] = await world.send(*on_time(0))
    await world.ledger.end(decision.run_id or "", outcome=outcome, now=hour(0))
    result = await world.audit(until=hour(1), now=hour(2))
    assert only(result).reason == f"run without success: {outcome}"
    assert result.lost == 0


async def test_a_window_that_nobody_named_begins_when_the_schedule_was_first_run():
    world = World()
    await world.clock.advance_to(hour(3) + MINUTE)
    await world.send(*on_time(4, 5))
    result = await world.audit(since=None, until=None, now=hour(6))
    assert (result.since, told(result)) == (hour(3) + MINUTE, [])


async def test_a_window_that_somebody_named_is_taken_as_it_is():
    world = World()
    await world.clock.advance_to(hour(3) + MINUTE)
    await world.send(*on_time(4, 5))
    result = await world.audit(since=hour(2), now=hour(6))
    assert told(result) == [("missed", 2), ("missed", 3)]


async def test_the_window_is_the_last_day():
    world = World()
    await world.send(*on_time(0))
    result = await world.audit(since=None, until=None)
    assert (result.since, result.until, result.expected) == (hour(16), hour(40), 24)


async def test_a_ledger_that_does_not_know_the_schedule_is_told_of():
    result = await World().audit()
    assert result.counts[Kind.MISSED] == 6
    assert result.notes[0].startswith("the ledger does not know it")


async def test_a_contract_that_changed_within_the_window_is_told_of():
    world = World()
    await world.send(*on_time(0, 1))
    world.schedule = world.made(expression=Cron("0 */2 * * *"))
    await world.send(*on_time(2, 4))
    result = await world.audit()
    assert (told(result), len(result.notes)) == ([], 1)
    assert result.notes[0].startswith("its contract changed at 2027-03-01T01:00:00Z")


async def test_what_the_ledger_may_have_forgotten_was_not_missed():
    world = World(dedupe_window=HOUR)
    await world.send(*on_time(0))
    result = await world.audit(now=hour(10), retention=timedelta(hours=7))
    assert told(result) == [("forgotten", 1), ("forgotten", 2), *[("missed", n) for n in (3, 4, 5)]]
    assert result.notes == ("the ledger need not know what is older than 2027-03-01T03:00:00Z",)


async def test_all_findings_are_counted_and_the_first_ones_listed():
    result = await World().audit(most=2)
    assert told(result) == [("missed", 0), ("missed", 1)]
    assert (result.counts[Kind.MISSED], result.lost, result.left_off) == (6, 6, 4)


async def test_nothing_is_cut_off_where_more_came_than_one_reading_holds(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(evidence, "ROWS", 3)
    world = World()
    await world.send(*on_time(*range(6), *[2] * 20))
    assert only(await world.audit(now=hour(6))).count == 20


# What happens to a trigger: it is dropped, or comes so much later; perhaps twice.
FATES = {
    "dropped": (),
    "punctual": (timedelta(0),),
    "late": (20 * MINUTE,),
    "very late": (210 * MINUTE,),
    "twice": (timedelta(0), MINUTE),
}
POLICIES = ["skip", "runOnce", "catchUp"]


def expected_findings(policy: str, fates: Sequence[str]) -> Iterator[tuple[str, int]]:
    """What the table in docs/audit.md says, written down in another way."""
    for number, fate in enumerate(fates):
        if fate == "twice":
            yield "duplicate", number
        elif fate == "very late":
            yield ("coalesced" if policy == "runOnce" else "late"), number
        elif fate == "late":
            yield "late", number
        elif fate == "dropped":
            later = (one for one in fates[number:] if one not in ("dropped", "very late"))
            stands = policy == "runOnce" and next(later, "") == "late"
            yield ("coalesced" if stands else "missed"), number


@pytest.mark.parametrize("policy", POLICIES)
@given(
    fates=st.lists(st.sampled_from(list(FATES)), min_size=1, max_size=12),
    last=st.integers(0, 12),
    times=st.integers(1, 4),
    rows=st.integers(1, 5),
)
def test_whatever_is_dropped_doubled_or_late_is_found_exactly(
    policy: str, fates: list[str], last: int, times: int, rows: int
):
    end = min(last, len(fates))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "TIMES", times)
        patch.setattr(evidence, "ROWS", rows)
        result = asyncio.run(played(policy, fates, end))
    assert told(result) == [one for one in expected_findings(policy, fates) if one[1] < end]
    arrivals = sum(count for kind, count in result.counts.items() if kind in ARRIVALS)
    assert result.expected == end == result.on_time + result.pending + arrivals
    assert result.lost == result.counts.get(Kind.MISSED, 0)


async def played(policy: str, fates: Iterable[str], end: int) -> ScheduleAudit:
    world = World(missed_run_policy=policy, catch_up_window=timedelta(hours=2))
    sent: list[tuple[datetime, datetime]] = []
    for number, fate in enumerate(fates):
        for delay in FATES[fate]:
            heapq.heappush(sent, (hour(number) + delay, hour(number)))
    await world.send(*sent)
    return await world.audit(until=hour(end))


async def test_the_first_trigger_counts_though_its_ingress_began_with_it():
    world = World()
    await world.clock.advance_to(hour(3) + MINUTE)
    await world.send((hour(3) + MINUTE, hour(3)))
    result = await world.audit(since=None, until=None, now=hour(4))
    assert (result.since, result.expected, result.on_time) == (hour(3), 1, 1)


async def test_a_first_trigger_that_was_lost_is_told():
    world = World()
    await world.clock.advance_to(hour(3) + MINUTE)
    await world.send((hour(3) + MINUTE, hour(3)), data={"wrong": 1})
    result = await world.audit(since=None, until=None, now=hour(4))
    assert (told(result), result.lost) == ([("rejected", 3)], 1)


async def test_what_a_person_ran_before_the_first_trigger_begins_no_window():
    world = World()
    await world.clock.advance_to(hour(3) + MINUTE)
    await world.send((hour(3) + MINUTE, hour(1)), manual=True)
    result = await world.audit(since=None, until=None, now=hour(4))
    assert (result.since, result.expected) == (hour(3) + MINUTE, 0)

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from purista import (
    Context,
    Cron,
    Every,
    Ingress,
    Manifest,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Once,
    Service,
    SQLiteLedger,
    Trigger,
    export_manifest,
    fingerprint,
)
from purista.bridges import Job
from purista.errors import BridgeError, LedgerError
from purista.host import Host
from purista.ingress import Decision
from purista.ingress.ingress import RunStore
from purista.ingress.timing import missed_times, time_verdict
from purista.ledgers import RunStatus
from purista.message import RUN_CANCELLED, Message, RunInfo
from purista.testing import ManualClock

START = datetime(2027, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Day(BaseModel):
    day: str


class World:
    """A service with one hourly schedule, and everything that runs it, on a manual clock."""

    def __init__(self, ledger: RunStore, clock: ManualClock) -> None:
        self.clock = clock
        self.ledger = ledger
        self.events = MemoryEventBridge(clock=clock)
        self.queues = MemoryQueueBridge(clock=clock)
        self.service = Service("Shop", version="1")
        self.due = self.service.event("due", Day)
        self.jobs = self.service.queue("jobs", Day, max_attempts=2)
        self.command = self.service.command("command", Day, returns=int)
        self.handled: list[str] = []
        self.cancelled: list[str] = []
        self.work = timedelta(0)
        self.parts: list[Ingress | Host] = []

        @self.service.subscription(self.due)
        async def on_due(day: Day, ctx: Context) -> None:
            self.handled.append(day.day)

        @self.service.worker(self.jobs, concurrency=8)
        async def on_job(day: Day, ctx: Context) -> None:
            await self.clock.sleep(self.work)
            self.handled.append(day.day)

        @self.service.handles(self.command)
        async def on_command(day: Day, ctx: Context) -> int:
            await self.clock.sleep(self.work)
            self.handled.append(day.day)
            return 1

    def schedule(self, kind: Literal["event", "queue", "command"] = "event", **options: Any) -> str:
        builder = self.service.schedule(f"hourly-{kind}")
        defaults: dict[str, Any] = {
            "expression": Cron("0 * * * *"),
            "payload": {"day": "{nominal_time:%d %H}"},
        }
        target: Any = {"event": self.due, "queue": self.jobs, "command": self.command}[kind]
        build: Any = {
            "event": builder.emit_event,
            "queue": builder.enqueue,
            "command": builder.invoke_command,
        }[kind]
        return str(build(target, **(defaults | options)).id)

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Ingress]:
        parts: dict[str, Any] = {"event_bridge": self.events, "queue_bridge": self.queues}
        async with (
            Ingress([self.service], ledger=self.ledger, clock=self.clock, **parts, **options) as i,
            Host(self.service, clock=self.clock, ledger=self.ledger, **parts) as host,
        ):
            self.parts = [i, host]
            yield i
            await self.pass_time(timedelta(days=2))

    async def pass_time(self, duration: timedelta) -> None:
        """Move the clock, stopping at every timer until all is settled."""
        end = self.clock.now() + duration
        while (due := self.clock.next_timer) is not None and due <= end:
            await self.clock.advance_to(due)
            await self.settle()
        await self.clock.advance_to(end)
        await self.settle()

    async def send(
        self, ingress: Ingress, schedule_id: str, nominal: datetime | None, **options: Any
    ) -> Decision:
        trigger = Trigger(schedule_id=schedule_id, nominal_time=nominal, source="test", **options)
        decision = await ingress.accept(trigger)
        await self.settle()
        return decision

    async def settle(self) -> None:
        """Let everything go on that needs no more time, also what a store's thread does."""
        async with asyncio.timeout(20):
            await self.clock.settle()
            while any(part.is_busy for part in self.parts):
                await asyncio.sleep(0.0005)
                await self.clock.settle()


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    memory = request.param == "memory"
    ledger: RunStore = MemoryLedger() if memory else SQLiteLedger(tmp_path / "runs.sqlite")
    made = World(ledger, ManualClock(START))
    yield made
    await made.events.close()
    await made.queues.close()
    await ledger.close()


def verdicts(decisions: list[Decision]) -> list[str]:
    return [str(one.verdict) for one in decisions]


async def test_a_trigger_in_time_reaches_its_target(world: World):
    one = world.schedule()
    async with world.open() as ingress:
        decision = await world.send(ingress, one, START)
    assert (decision.verdict, decision.retry) == ("accepted", False)
    assert decision.accepted
    assert world.handled == ["01 00"]


async def test_a_second_trigger_of_the_same_time_is_a_duplicate(world: World):
    one = world.schedule()
    async with world.open() as ingress:
        first = await world.send(ingress, one, START)
        second = await world.send(ingress, one, START)
    assert (second.verdict, second.run_id, second.retry) == ("duplicate", first.run_id, False)
    assert world.handled == ["01 00"]


async def test_an_idempotency_key_is_a_duplicate_within_its_window_only(world: World):
    one = world.schedule(
        payload={"day": "same"}, idempotency_key="payload.day", dedupe_window=2 * HOUR
    )
    found = []
    async with world.open() as ingress:
        for hour in range(4):
            found.append(await world.send(ingress, one, START + hour * HOUR))
            await world.pass_time(HOUR)
    assert verdicts(found) == ["accepted", "duplicate", "accepted", "duplicate"]


async def test_the_nominal_time_is_derived_when_the_scheduler_does_not_say_it(world: World):
    one = world.schedule()
    await world.pass_time(timedelta(minutes=3))
    async with world.open() as ingress:
        decision = await world.send(ingress, one, None)
    assert decision.nominal_time == START
    assert world.handled == ["01 00"]


async def test_a_time_of_no_nominal_time_is_unexpected(world: World):
    one = world.schedule()
    async with world.open() as ingress:
        wrong = await world.send(ingress, one, START + timedelta(minutes=30))
        early = await world.send(ingress, one, START + HOUR)
    assert verdicts([wrong, early]) == ["unexpected", "unexpected"]
    assert "in the future" in early.reason
    assert world.handled == []


async def test_a_scheduler_whose_clock_is_a_little_ahead_is_believed(world: World):
    one = world.schedule()
    world.clock.jump(timedelta(seconds=-20))
    async with world.open() as ingress:
        assert (await world.send(ingress, one, START)).accepted


async def test_nothing_is_derived_before_the_first_nominal_time(world: World):
    one = world.schedule(expression=Once(START + HOUR))
    async with world.open() as ingress:
        decision = await world.send(ingress, one, None)
    assert (decision.verdict, decision.nominal_time) == ("unexpected", None)


async def test_a_disabled_schedule_runs_for_a_person_only(world: World):
    one = world.schedule(enabled=False)
    async with world.open() as ingress:
        scheduler = await world.send(ingress, one, START)
        person = await world.send(ingress, one, START, manual=True)
    assert verdicts([scheduler, person]) == ["disabled", "accepted"]


async def test_a_person_may_run_any_time_and_what_was_skipped(world: World):
    one = world.schedule()
    await world.pass_time(5 * HOUR)
    async with world.open() as ingress:
        skipped = await world.send(ingress, one, START)
        again = await world.send(ingress, one, START)
        person = await world.send(ingress, one, START, manual=True)
        twice = await world.send(ingress, one, START, manual=True)
        odd = await world.send(ingress, one, START + timedelta(seconds=5), manual=True)
        now = await world.send(ingress, one, None, manual=True)
    found = verdicts([skipped, again, person, twice, odd, now])
    assert found == ["late", "duplicate", "accepted", "duplicate", "accepted", "accepted"]
    assert now.nominal_time == START + 5 * HOUR


@pytest.mark.parametrize("year", [1, 1969, 2201, 9999])
async def test_no_time_out_of_the_years_of_contracts_is_taken(world: World, year: int):
    one = world.schedule(timezone="Europe/Berlin", payload={"day": "{nominal_time:%Y-%m}"})
    at = datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC)
    async with world.open() as ingress:
        decision = await world.send(ingress, one, at, manual=True)
    assert (decision.verdict, decision.reason) == (
        "unexpected",
        "its time is not in the years 1970 to 2200",
    )


async def test_an_unknown_schedule_is_rejected_with_a_near_match(world: World):
    world.schedule()
    async with world.open() as ingress:
        decision = await world.send(ingress, "Shop.v1.hourly-evnt", START)
    assert decision.verdict == "rejected"
    assert "did you mean 'Shop.v1.hourly-event'?" in decision.reason
    assert not decision.retry


async def test_data_overrides_the_template_and_must_fit_the_schema(world: World):
    one = world.schedule()
    async with world.open() as ingress:
        wrong = await world.send(ingress, one, START, data={"day": {"secret": "4711"}})
        right = await world.send(ingress, one, START, data={"day": "mine"})
    assert verdicts([wrong, right]) == ["rejected", "accepted"]
    assert "4711" not in wrong.reason
    assert "day" in wrong.reason
    assert world.handled == ["mine"]


async def test_an_unknown_version_of_the_contract_is_refused_and_leaves_the_time_free(world: World):
    one = world.schedule()
    schedule = world.service.schedules["hourly-event"]
    async with world.open() as ingress:
        unknown = await world.send(ingress, one, START, fingerprint="0" * 16)
        current = await world.send(ingress, one, START, fingerprint=fingerprint(schedule))
    assert (unknown.verdict, unknown.cause, unknown.retry) == (
        "rejected",
        "unknown_contract",
        False,
    )
    assert "compile and apply the current one" in unknown.reason
    assert (current.verdict, current.reason) == ("accepted", "on time")


async def test_a_time_that_a_compiled_contract_fires_besides_is_no_mistake(world: World):
    one = world.schedule()
    sent = fingerprint(world.service.schedules["hourly-event"])
    between, ahead = START + HOUR / 2, START + 5 * HOUR
    async with world.open() as ingress:
        await world.pass_time(HOUR)
        besides = await world.send(ingress, one, between, fingerprint=sent)
        foreign = await world.send(ingress, one, between)
        early = await world.send(ingress, one, ahead, fingerprint=sent)
    assert verdicts([besides, foreign, early]) == ["unexpected"] * 3
    causes = [each.cause for each in (besides, foreign, early)]
    assert causes == [None, "unexpected_time", "unexpected_time"]


async def test_an_unknown_version_is_taken_where_the_deployment_says_so(world: World):
    one = world.schedule()
    async with world.open(unknown_contract="accept") as ingress:
        taken = await world.send(ingress, one, START, fingerprint="0" * 16)
    assert taken.accepted
    assert taken.reason == "on time; the scheduler runs an unknown version of the contract"


def with_schedule(world: World, **options: Any) -> str:
    """Declare the schedule anew, in a new version of the service."""
    world.service = Service("Shop", version="1")
    return world.schedule(**options)


async def test_the_version_before_this_one_is_remembered_and_taken(world: World):
    one = world.schedule()
    versions = [fingerprint(world.service.schedules["hourly-event"])]
    async with world.open():
        pass
    for minute in (1, 2):
        with_schedule(world, expression=Cron(f"0,{minute} * * * *"))
        versions.append(fingerprint(world.service.schedules["hourly-event"]))
        async with world.open():
            pass
    async with world.open() as ingress:
        now = world.clock.now()
        oldest, before, current = [
            await world.send(ingress, one, now + number * timedelta(0), fingerprint=version)
            for number, version in enumerate(versions)
        ]
    assert verdicts([oldest, before, current]) == ["rejected", "accepted", "duplicate"]
    assert "another version" in before.reason


async def test_the_version_of_a_newer_process_on_the_same_ledger_is_taken(world: World):
    one = world.schedule()
    old = world.service
    with_schedule(world, expression=Cron("0,1 * * * *"))
    newer, world.service = world.service, old
    parts: dict[str, Any] = {"event_bridge": world.events, "queue_bridge": world.queues}
    async with world.open() as ingress:
        async with Ingress([newer], ledger=world.ledger, clock=world.clock, **parts):
            pass
        sent = fingerprint(newer.schedules["hourly-event"])
        taken = await world.send(ingress, one, START, fingerprint=sent)
    assert taken.accepted


async def test_the_previous_manifest_is_taken(world: World):
    one = world.schedule()
    before = export_manifest(world.service)
    sent = fingerprint(world.service.schedules["hourly-event"])
    with_schedule(world, expression=Cron("0,1 * * * *"))
    async with world.open(previous=before) as ingress:
        taken = await world.send(ingress, one, START, fingerprint=sent)
    assert taken.accepted


async def test_a_cancelled_run_stops_its_handler_and_is_over(world: World):
    one = world.schedule("queue", concurrency_policy="forbid")
    world.work = timedelta(minutes=30)
    async with world.open() as ingress:
        first = await world.send(ingress, one, START)
        assert await ingress.cancel(first.run_id or "")
        assert not await ingress.cancel(first.run_id or "")
        await world.settle()
        run = await ingress.run(first.run_id or "")
        await world.pass_time(HOUR)
        second = await world.send(ingress, one, START + HOUR)
    assert run is not None
    assert (run.status, run.outcome) == (RunStatus.ENDED, "cancelled")
    assert world.handled == ["01 01"]
    assert second.accepted
    assert list(await world.queues.dead_letters("jobs")) == []


async def test_a_cancelled_run_whose_job_waits_is_not_begun(world: World):
    one = world.schedule("queue")
    parts: dict[str, Any] = {"event_bridge": world.events, "queue_bridge": world.queues}
    async with Ingress([world.service], ledger=world.ledger, clock=world.clock, **parts) as ingress:
        world.parts = [ingress]
        decision = await world.send(ingress, one, START)
        assert await ingress.cancel(decision.run_id or "")
    async with world.open():
        await world.settle()
    assert world.handled == []
    assert list(await world.queues.dead_letters("jobs")) == []


async def test_a_run_that_nobody_knows_cannot_be_cancelled(world: World):
    world.schedule()
    async with world.open() as ingress:
        assert not await ingress.cancel("unknown")
        assert await ingress.run("unknown") is None


async def test_what_is_rejected_says_why_in_a_word(world: World):
    one = world.schedule()
    async with world.open() as ingress:
        nowhere = await world.send(ingress, "shop.v1.hourly", START)
        unfit = await world.send(ingress, one, START, data=1)
    closing = await world.send(ingress, one, START)
    causes = [each.cause for each in (nowhere, unfit, closing)]
    assert causes == ["unknown_schedule", "invalid_payload", "closing"]


async def test_skip_is_late_after_the_grace(world: World):
    one = world.schedule(misfire_grace=timedelta(minutes=10))
    await world.pass_time(timedelta(minutes=10))
    async with world.open() as ingress:
        in_time = await world.send(ingress, one, START)
        await world.pass_time(timedelta(minutes=60, microseconds=1))
        late = await world.send(ingress, one, START + HOUR)
    assert verdicts([in_time, late]) == ["accepted", "late"]


async def test_jitter_counts_as_punctual(world: World):
    one = world.schedule(jitter=timedelta(minutes=20))
    await world.pass_time(timedelta(minutes=30))
    async with world.open() as ingress:
        assert (await world.send(ingress, one, START)).accepted


@pytest.mark.parametrize("order", [1, -1])
async def test_run_once_runs_the_latest_missed_in_any_order_of_delivery(world: World, order: int):
    one = world.schedule(missed_run_policy="runOnce")
    await world.pass_time(5 * HOUR + timedelta(minutes=30))
    times = [START + hour * HOUR for hour in range(6)]
    async with world.open() as ingress:
        found = [await world.send(ingress, one, at) for at in times[::order]]
    assert verdicts(found[::order]) == ["coalesced"] * 5 + ["accepted"]
    assert world.handled == ["01 05"]


async def test_run_once_runs_what_was_missed_long_ago_if_nothing_followed(world: World):
    one = world.schedule(missed_run_policy="runOnce", expression=Cron("0 0 1 * *"))
    await world.pass_time(timedelta(days=20))
    async with world.open() as ingress:
        assert (await world.send(ingress, one, START)).accepted


async def test_a_later_time_within_its_grace_does_not_coalesce_an_earlier_one(world: World):
    one = world.schedule(missed_run_policy="runOnce")
    await world.pass_time(HOUR + timedelta(minutes=5))
    async with world.open() as ingress:
        found = [await world.send(ingress, one, START + hour * HOUR) for hour in (0, 1)]
    assert verdicts(found) == ["accepted", "accepted"]


async def test_catch_up_runs_every_missed_time_in_its_window(world: World):
    one = world.schedule(missed_run_policy="catchUp", catch_up_window=3 * HOUR)
    await world.pass_time(5 * HOUR)
    async with world.open() as ingress:
        found = [await world.send(ingress, one, START + hour * HOUR) for hour in range(6)]
    assert verdicts(found) == ["late", "late", "accepted", "accepted", "accepted", "accepted"]
    assert world.handled == ["01 02", "01 03", "01 04", "01 05"]


async def test_catch_up_runs_at_most_the_latest_max_catch_up(world: World):
    one = world.schedule(missed_run_policy="catchUp", max_catch_up=2)
    await world.pass_time(5 * HOUR + timedelta(minutes=30))
    async with world.open() as ingress:
        found = [await world.send(ingress, one, START + hour * HOUR) for hour in range(6)]
    assert verdicts(found) == ["late"] * 4 + ["accepted"] * 2


@pytest.mark.parametrize("kind", ["queue", "command"])
async def test_forbid_skips_while_a_run_is_active(world: World, kind: Literal["queue", "command"]):
    one = world.schedule(kind, concurrency_policy="forbid", run_timeout=10 * HOUR)
    world.work = timedelta(minutes=90)
    found = []
    async with world.open() as ingress:
        for hour in range(4):
            found.append(await world.send(ingress, one, START + hour * HOUR))
            await world.pass_time(HOUR)
        again = await world.send(ingress, one, START + HOUR)
    assert verdicts(found) == ["accepted", "overlap", "accepted", "overlap"]
    assert again.verdict == "duplicate"
    assert world.handled == ["01 00", "01 02"]


@pytest.mark.parametrize("kind", ["queue", "command"])
async def test_allow_runs_side_by_side(world: World, kind: Literal["queue", "command"]):
    one = world.schedule(kind, run_timeout=10 * HOUR)
    world.work = timedelta(minutes=90)
    async with world.open() as ingress:
        assert (await world.send(ingress, one, START)).accepted
        await world.pass_time(HOUR)
        assert (await world.send(ingress, one, START + HOUR)).accepted
    assert world.handled == ["01 00", "01 01"]


@pytest.mark.parametrize("kind", ["queue", "command"])
async def test_replace_cancels_the_active_run_and_ignores_its_end(
    world: World, kind: Literal["queue", "command"]
):
    one = world.schedule(kind, concurrency_policy="replace", run_timeout=10 * HOUR)
    world.work = timedelta(minutes=90)
    async with world.open() as ingress:
        first = await world.send(ingress, one, START)
        await world.pass_time(HOUR)
        second = await world.send(ingress, one, START + HOUR)
        await world.pass_time(2 * HOUR)
        await world.settle()
        replaced = await world.ledger.run(first.run_id or "")
        ended = await world.ledger.run(second.run_id or "")
    assert world.handled == ["01 01"]
    assert replaced is not None
    assert replaced.status == RunStatus.REPLACED
    assert ended is not None
    assert ended.status == RunStatus.ENDED


@pytest.mark.parametrize(
    ("policy", "minutes", "handled"),
    [
        ("replace", 90, ["01 01"]),
        ("replace", 50, ["01 01"]),
        ("forbid", 50, ["01 01"]),
        ("allow", 50, ["01 00", "01 01"]),
    ],
)
async def test_a_waiting_job_of_a_run_that_another_took_the_place_of_is_never_begun(
    world: World, policy: str, minutes: int, handled: list[str]
):
    timeout = timedelta(minutes=minutes)
    one = world.schedule("queue", concurrency_policy=policy, run_timeout=timeout)
    parts: dict[str, Any] = {"event_bridge": world.events, "queue_bridge": world.queues}
    async with Ingress([world.service], ledger=world.ledger, clock=world.clock, **parts) as ingress:
        await world.send(ingress, one, START)
        await world.pass_time(HOUR)
        await world.send(ingress, one, START + HOUR)
        async with Host(world.service, clock=world.clock, ledger=world.ledger, **parts):
            await world.settle()
    assert world.handled == handled


async def test_an_event_is_active_until_its_completion_comes_with_its_run_id(world: World):
    done = world.service.event("done", Day)
    release: list[Context] = []

    @world.service.subscription(world.due, name="finisher")
    async def finish(day: Day, ctx: Context) -> None:
        release.append(ctx)

    one = world.schedule(
        concurrency_policy="forbid", completed_by=done, run_timeout=timedelta(hours=9)
    )
    found = []
    async with world.open() as ingress:
        found.append(await world.send(ingress, one, START))
        await world.pass_time(HOUR)
        found.append(await world.send(ingress, one, START + HOUR))
        await release[0].emit(done, Day(day="x"))
        await world.pass_time(HOUR)
        found.append(await world.send(ingress, one, START + 2 * HOUR))
        run = await world.ledger.run(found[0].run_id or "")
    assert verdicts(found) == ["accepted", "overlap", "accepted"]
    assert run is not None
    assert run.outcome == "completed"


async def test_an_event_without_completion_is_over_once_it_is_published(world: World):
    one = world.schedule(concurrency_policy="forbid")
    async with world.open() as ingress:
        decision = await world.send(ingress, one, START)
        run = await world.ledger.run(decision.run_id or "")
    assert run is not None
    assert (run.status, run.outcome) == (RunStatus.ENDED, "published")


async def test_a_run_that_takes_too_long_expires_and_frees_its_schedule(world: World):
    one = world.schedule("queue", concurrency_policy="forbid", run_timeout=timedelta(minutes=50))
    world.work = timedelta(hours=20)
    async with world.open() as ingress:
        first = await world.send(ingress, one, START)
        await world.pass_time(HOUR)
        await world.settle()
        world.work = timedelta(0)
        second = await world.send(ingress, one, START + HOUR)
        run = await world.ledger.run(first.run_id or "")
        dead = await world.queues.dead_letters("jobs")
    assert second.accepted
    assert run is not None
    assert run.status == RunStatus.EXPIRED
    assert world.handled == ["01 01"]
    assert [letter.reason for letter in dead] == ["the run was cancelled: run_timeout"]


async def test_a_job_that_becomes_a_dead_letter_ends_its_run(world: World):
    broken = world.service.queue("broken", Day, max_attempts=1)

    @world.service.worker(broken)
    async def fail(day: Day, ctx: Context) -> None:
        raise RuntimeError("broken")

    one = world.service.schedule("breaks").enqueue(
        broken, expression=Cron("0 * * * *"), payload={"day": "x"}
    )
    async with world.open() as ingress:
        decision = await world.send(ingress, one.id, START)
        await world.settle()
        run = await world.ledger.run(decision.run_id or "")
    assert run is not None
    assert (run.status, run.outcome) == (RunStatus.ENDED, "dead_lettered")


async def test_what_a_handler_sends_on_carries_the_run_but_does_not_end_it(world: World):
    seen: list[tuple[str, str | None]] = []
    more = world.service.queue("more", Day)

    @world.service.worker(more)
    async def on_more(day: Day, ctx: Context) -> None:
        seen.append((ctx.run_id, ctx.schedule_id))

    first = world.service.queue("first", Day)

    @world.service.worker(first)
    async def on_first(day: Day, ctx: Context) -> None:
        await ctx.enqueue(more, day)
        await world.clock.sleep(timedelta(minutes=10))

    one = world.service.schedule("chain").enqueue(
        first, expression=Cron("0 * * * *"), payload={"day": "x"}
    )
    async with world.open() as ingress:
        decision = await world.send(ingress, one.id, START)
        await world.settle()
        run = await world.ledger.run(decision.run_id or "")
        assert seen == [(decision.run_id, one.id)]
        assert run is not None
        assert run.status == RunStatus.ACTIVE


@dataclass
class FailingQueues:
    """A real queue bridge whose broker is away for the first few enqueues."""

    inner: MemoryQueueBridge
    failures: int = 1
    seen: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def enqueue(self, job: Job) -> bool:
        self.seen.append(job.message.run.run_id if job.message.run else "")
        if self.failures:
            self.failures -= 1
            raise BridgeError("the broker is away")
        return await self.inner.enqueue(job)


async def test_a_failed_dispatch_is_worth_a_retry_that_runs_once_with_the_same_run_id(
    world: World,
):
    one = world.schedule("queue", concurrency_policy="forbid")
    world.queues = FailingQueues(world.queues)  # type: ignore[assignment]
    async with world.open() as ingress:
        failed = await world.send(ingress, one, START)
        await world.pass_time(timedelta(minutes=40))
        retried = await world.send(ingress, one, START)
        again = await world.send(ingress, one, START)
    assert (failed.verdict, failed.retry) == ("rejected", True)
    assert "the broker is away" in failed.reason
    assert (retried.verdict, retried.taken_over, retried.run_id) == (
        "accepted",
        True,
        failed.run_id,
    )
    assert again.verdict == "duplicate"
    assert world.handled == ["01 00"]


async def test_a_failed_dispatch_does_not_block_its_schedule(world: World):
    one = world.schedule("queue", concurrency_policy="forbid")
    world.queues = FailingQueues(world.queues)  # type: ignore[assignment]
    async with world.open() as ingress:
        await world.send(ingress, one, START)
        await world.pass_time(HOUR)
        assert (await world.send(ingress, one, START + HOUR)).accepted


async def test_a_command_that_nobody_handles_is_a_failed_dispatch(world: World):
    del world.service.handlers["command"]
    one = world.schedule("command")
    async with world.open() as ingress:
        decision = await world.send(ingress, one, START)
    assert (decision.verdict, decision.retry) == ("rejected", True)


async def test_a_command_that_fails_ends_its_run_with_the_code(world: World):
    failing = world.service.command("failing", Day, returns=int)

    @world.service.handles(failing)
    async def fail(day: Day, ctx: Context) -> int:
        raise RuntimeError(day.day)

    one = world.service.schedule("fails").invoke_command(
        failing, expression=Cron("0 * * * *"), payload={"day": "x"}
    )
    async with world.open() as ingress:
        decision = await world.send(ingress, one.id, START)
        await world.settle()
        run = await world.ledger.run(decision.run_id or "")
    assert run is not None
    assert (run.status, run.outcome) == (RunStatus.ENDED, "failed: internal")


async def test_a_command_that_does_not_answer_in_time_ends_its_run_as_expired(world: World):
    one = world.schedule("command", run_timeout=timedelta(minutes=5))
    world.work = timedelta(hours=3)
    async with world.open() as ingress:
        decision = await world.send(ingress, one, START)
        await world.pass_time(timedelta(minutes=6))
        run = await world.ledger.run(decision.run_id or "")
    assert run is not None
    assert run.status == RunStatus.EXPIRED
    assert world.handled == []


async def test_a_cancelled_accept_leaves_a_run_that_can_be_taken_over(world: World):
    one = world.schedule("queue")
    queues, reached = world.queues, asyncio.Event()

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(queues, name)

        async def enqueue(self, job: Job) -> bool:
            reached.set()
            await asyncio.Event().wait()
            return True

    world.queues = Slow()  # type: ignore[assignment]
    async with world.open() as ingress:
        trigger = Trigger(schedule_id=one, nominal_time=START, source="test")
        accepting = asyncio.create_task(ingress.accept(trigger))
        await reached.wait()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)
        runs = await world.ledger.runs()
        ingress._dispatcher.queue_bridge = queues
        again = await world.send(ingress, one, START)
    assert [run.status for run in runs] == [RunStatus.FAILED]
    assert (again.verdict, again.taken_over) == ("accepted", True)
    world.queues = queues


async def test_a_replaced_run_whose_handlers_cannot_be_told_is_fenced_all_the_same(
    world: World, caplog: pytest.LogCaptureFixture
):
    one = world.schedule("queue", concurrency_policy="replace", run_timeout=9 * HOUR)
    publish = world.events.publish

    async def failing(message: Message) -> None:
        if message.name == RUN_CANCELLED:
            raise BridgeError("the broker is away")
        await publish(message)

    world.events.publish = failing  # type: ignore[method-assign]
    world.work = timedelta(minutes=90)
    async with world.open() as ingress:
        first = await world.send(ingress, one, START)
        await world.pass_time(HOUR)
        await world.send(ingress, one, START + HOUR)
        await world.pass_time(HOUR)
        run = await world.ledger.run(first.run_id or "")
    assert "could not be told to stop" in caplog.text
    assert run is not None
    assert run.status == RunStatus.REPLACED


class EndFails:
    """Stands for a ledger's ``end`` while the ledger is away."""

    def __init__(self, ledger: RunStore) -> None:
        self.ledger, self.end, self.times = ledger, ledger.end, 0
        ledger.end = self  # type: ignore[assignment]

    async def __call__(self, *args: Any, **options: Any) -> bool:
        self.times += 1
        raise LedgerError("the disk is full")

    def mend(self) -> None:
        self.ledger.end = self.end  # type: ignore[method-assign]


async def test_a_ledger_that_is_away_while_a_run_ends_is_told_again(
    world: World, caplog: pytest.LogCaptureFixture
):
    one = world.schedule("command", concurrency_policy="forbid")
    async with world.open() as ingress:
        away = EndFails(world.ledger)
        decision = await world.send(ingress, one, START)
        await world.pass_time(timedelta(seconds=30))
        away.mend()
        await world.pass_time(timedelta(seconds=6))
        run = await ingress.run(decision.run_id or "")
    assert run is not None
    assert (run.status, run.outcome) == (RunStatus.ENDED, "answered")
    assert 5 < away.times < 20
    assert "the disk is full" in caplog.text


async def test_closing_does_not_wait_for_a_ledger_that_is_away(
    world: World, caplog: pytest.LogCaptureFixture
):
    one = world.schedule("command")
    parts: dict[str, Any] = {"event_bridge": world.events, "queue_bridge": world.queues}
    async with Host(world.service, clock=world.clock, **parts):
        async with Ingress([world.service], ledger=world.ledger, clock=world.clock, **parts) as i:
            world.parts = [i]
            away = EndFails(world.ledger)
            await world.send(i, one, START)
        assert away.times == 2
        away.mend()
    assert "could not settle a run" in caplog.text


async def test_waiting_for_a_run_ends_with_it(world: World):
    one = world.schedule("queue")
    world.work = timedelta(minutes=10)
    async with world.open() as ingress:
        decision = await world.send(ingress, one, START)
        waiting = asyncio.create_task(ingress.ended(decision.run_id or ""))
        await world.pass_time(timedelta(minutes=9))
        assert not waiting.done()
        await world.pass_time(timedelta(minutes=2))
        assert waiting.done()
        await ingress.ended("another's run")


async def test_leaving_the_ingress_does_not_wait_for_answers(world: World):
    one = world.schedule("command", run_timeout=timedelta(days=9))
    world.work = timedelta(days=5)
    parts: dict[str, Any] = {"event_bridge": world.events, "queue_bridge": world.queues}
    async with (
        Host(world.service, clock=world.clock, grace=timedelta(0), **parts),
        Ingress([world.service], ledger=world.ledger, clock=world.clock, **parts) as ingress,
    ):
        await world.send(ingress, one, START)
    run = (await world.ledger.runs())[0]
    assert run.status in (RunStatus.ACTIVE, RunStatus.CLAIMED)


async def test_a_closing_ingress_asks_for_the_trigger_again(world: World):
    one = world.schedule()
    async with world.open() as ingress:
        pass
    decision = await world.send(ingress, one, START)
    assert (decision.verdict, decision.retry) == ("rejected", True)


async def test_a_new_process_takes_over_what_a_dead_one_had_in_memory(world: World):
    one = world.schedule("queue", concurrency_policy="forbid")
    parts: dict[str, Any] = {"ledger": world.ledger, "clock": world.clock}
    dead = Ingress(
        [world.service],
        event_bridge=MemoryEventBridge(clock=world.clock),
        queue_bridge=MemoryQueueBridge(clock=world.clock),
        **parts,
    )
    trigger = Trigger(schedule_id=one, nominal_time=START, source="test")
    first = await dead.accept(trigger)
    await dead.__aexit__(None, None, None)
    async with world.open() as ingress:
        early = await world.send(ingress, one, START)
        await world.pass_time(timedelta(seconds=31))
        late = await world.send(ingress, one, START)
    assert (early.verdict, early.retry) == ("duplicate", True)
    assert (late.verdict, late.taken_over, late.run_id) == ("accepted", True, first.run_id)
    assert world.handled == ["01 00"]


async def test_a_live_process_keeps_its_runs_from_being_taken_over(world: World):
    one = world.schedule("queue")
    world.work = timedelta(minutes=30)
    async with world.open() as ingress:
        await world.send(ingress, one, START)
        for _ in range(20):
            await world.pass_time(timedelta(seconds=30))
            await world.settle()
        other = Ingress(
            [world.service],
            event_bridge=world.events,
            queue_bridge=world.queues,
            ledger=world.ledger,
            clock=world.clock,
        )
        decision = await other.accept(Trigger(schedule_id=one, nominal_time=START, source="test"))
        assert (decision.verdict, decision.retry) == ("duplicate", True)
        await other.__aexit__(None, None, None)


async def test_recovery_by_the_ingress_fills_the_gap_on_the_next_trigger(world: World):
    one = world.schedule(missed_run_policy="catchUp")
    async with world.open(recovery="ingress") as ingress:
        first = await world.send(ingress, one, START)
        await world.pass_time(4 * HOUR)
        next_ = await world.send(ingress, one, None)
    assert first.recovered == ()
    assert verdicts(list(next_.recovered)) == ["accepted"] * 3
    assert world.handled == ["01 00", "01 01", "01 02", "01 03", "01 04"]


async def test_a_gap_whose_dispatch_fails_is_tried_again_before_anything_later(world: World):
    failing = FailingQueues(world.queues, failures=0)
    world.queues = failing  # type: ignore[assignment]
    one = world.schedule("queue", missed_run_policy="catchUp")
    async with world.open(recovery="ingress") as ingress:
        await world.send(ingress, one, START)
        await world.pass_time(3 * HOUR)
        failing.failures = 2
        held_up = await world.send(ingress, one, START + 3 * HOUR)
        again = await world.send(ingress, one, START + 3 * HOUR)
        done = await world.send(ingress, one, START + 3 * HOUR)
    assert [each.cause for each in (held_up, again, done)] == ["recovery_failed"] * 2 + [None]
    assert held_up.retry
    assert verdicts(list(held_up.recovered)) == ["rejected"]
    assert verdicts(list(done.recovered)) == ["accepted"] * 2
    assert world.handled == ["01 00", "01 01", "01 02", "01 03"]


async def test_a_trigger_of_an_unknown_contract_recovers_nothing(world: World):
    one = world.schedule(missed_run_policy="catchUp")
    async with world.open(recovery="ingress") as ingress:
        await world.send(ingress, one, START)
        await world.pass_time(4 * HOUR)
        refused = await world.send(ingress, one, None, fingerprint="0" * 16)
        ahead = await world.send(ingress, one, START + 90 * HOUR)
    assert verdicts([refused, ahead]) == ["rejected", "unexpected"]
    assert (refused.recovered, ahead.recovered) == ((), ())


async def test_a_persons_trigger_says_so_in_the_records(world: World):
    one = world.schedule()
    async with world.open() as ingress:
        await world.send(ingress, one, START, manual=True)
    assert [record.source for record in await world.ledger.records()] == ["test/manual"]


async def test_recovery_by_the_ingress_obeys_run_once(world: World):
    one = world.schedule(missed_run_policy="runOnce")
    async with world.open(recovery="ingress") as ingress:
        await world.send(ingress, one, START)
        await world.pass_time(4 * HOUR)
        decision = await world.send(ingress, one, None)
    assert verdicts(list(decision.recovered)) == ["coalesced", "coalesced", "accepted"]


async def test_an_ingress_runs_from_a_manifest_alone(world: World):
    one = world.schedule("queue", idempotency_key="payload.day")
    manifest = Manifest.from_json(export_manifest(world.service).to_json())
    parts: dict[str, Any] = {"event_bridge": world.events, "queue_bridge": world.queues}
    async with (
        Ingress(manifest, ledger=world.ledger, clock=world.clock, **parts) as ingress,
        Host(world.service, clock=world.clock, **parts),
    ):
        right = await world.send(ingress, one, START)
        wrong = await world.send(ingress, one, START, data={"day": 5})
        await world.settle()
    assert verdicts([right, wrong]) == ["accepted", "rejected"]
    assert world.handled == ["01 00"]


async def test_a_message_that_ends_another_ingress_run_is_harmless(world: World):
    world.schedule()
    async with world.open():
        ended = Message("dev.purista.run.ended", b"{}", "id")
        await world.events.publish(ended)
        other = RunInfo("run-1", "Other.v1.s", START, "UTC", True)
        await world.events.publish(ended._replace(run=other))
        await world.events.publish(
            Message(RUN_CANCELLED, b'{"runId": "x", "reason": "replaced"}', "id")
        )
        await world.settle()


def test_the_latest_missed_times_are_found_oldest_first():
    service = Service("S")
    one = service.schedule("s").emit_event(
        service.event("e", int), expression=Every(HOUR), payload=1, max_catch_up=2
    )
    found = missed_times(one, START, START + 5 * HOUR)
    assert found == [START + 3 * HOUR, START + 4 * HOUR]
    assert missed_times(one, START, START + HOUR) == []


def test_the_reason_of_a_punctual_trigger_says_so():
    service = Service("S")
    one = service.schedule("s").emit_event(
        service.event("e", int), expression=Every(HOUR), payload=1
    )
    assert time_verdict(one, START, START) == ("accepted", "on time")
    later = time_verdict(one, START, START + timedelta(minutes=5))
    assert later == ("accepted", "0:05:00 late, within its grace")

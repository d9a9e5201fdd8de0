import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from purista import Context, Cron, Every, LocalRunner, MemoryLedger, Once, Service, Trigger
from purista.errors import BridgeError, LedgerError, LoadError
from purista.ingress import Decision
from purista.local import AcceleratedClock, find_schedule, fire_time
from purista.testing import ManualClock

START = datetime(2027, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Hour(BaseModel):
    hour: str


class Desk:
    """A service with an hourly queue schedule, and what its worker saw."""

    def __init__(self, **options: Any) -> None:
        self.seen: list[str] = []
        self.work = timedelta(0)
        self.clock = ManualClock(START - timedelta(minutes=30))
        self.decisions: list[tuple[datetime | None, str]] = []
        self.service = Service("Desk", version="1")
        jobs = self.service.queue("jobs", Hour)

        @self.service.worker(jobs, concurrency=8)
        async def work(hour: Hour, ctx: Context) -> None:
            await self.clock.sleep(self.work)
            self.seen.append(hour.hour)

        defaults: dict[str, Any] = {
            "expression": Cron("0 * * * *"),
            "payload": {"hour": "{nominal_time:%H}"},
        }
        self.schedule = self.service.schedule("hourly").enqueue(jobs, **(defaults | options))

    def runner(self, **options: Any) -> LocalRunner:
        return LocalRunner(self.service, clock=self.clock, on_decision=self.record, **options)

    def record(self, trigger: Trigger, decision: Decision) -> None:
        self.decisions.append((decision.nominal_time, str(decision.verdict)))

    async def until(self, runner: LocalRunner, instant: datetime) -> None:
        while (due := self.clock.next_timer) is not None and due <= instant:
            await self.clock.advance_to(due)
            await settled(runner, self.clock)
        await self.clock.advance_to(instant)
        await settled(runner, self.clock)

    @property
    def verdicts(self) -> list[str]:
        return [verdict for _, verdict in self.decisions]


async def settled(runner: LocalRunner, clock: ManualClock) -> None:
    async with asyncio.timeout(10):
        await clock.settle()
        while runner.is_busy:
            await asyncio.sleep(0.001)
            await clock.settle()


async def test_schedules_fire_at_their_nominal_times():
    desk = Desk()
    async with desk.runner() as runner:
        await desk.until(runner, START + 2 * HOUR)
    assert desk.seen == ["00", "01", "02"]
    assert desk.decisions == [(START + hour * HOUR, "accepted") for hour in range(3)]


async def test_a_schedule_that_never_fires_again_ends():
    desk = Desk(expression=Once(START))
    async with desk.runner() as runner:
        await desk.until(runner, START + timedelta(days=400))
    assert desk.seen == ["00"]


async def test_what_was_missed_while_the_runner_was_off_is_decided_by_policy(tmp_path: Path):
    for policy, expected in {
        "skip": ["late", "late", "late"],
        "runOnce": ["coalesced", "coalesced", "accepted"],
        "catchUp": ["accepted", "accepted", "accepted"],
    }.items():
        desk = Desk(missed_run_policy=policy)
        state = tmp_path / f"{policy}.sqlite"
        async with desk.runner(state=state) as runner:
            await desk.until(runner, START)
        await desk.clock.advance_to(START + 3 * HOUR + timedelta(minutes=30))
        desk.decisions.clear()
        async with desk.runner(state=state) as runner:
            await settled(runner, desk.clock)
            await desk.until(runner, START + 4 * HOUR)
        assert desk.verdicts == [*expected, "accepted"]


async def test_a_first_start_misses_nothing():
    desk = Desk(missed_run_policy="catchUp")
    async with desk.runner() as runner:
        await settled(runner, desk.clock)
    assert desk.decisions == []


async def test_missed_runs_that_must_not_overlap_come_one_after_another(tmp_path: Path):
    desk = Desk(missed_run_policy="catchUp", concurrency_policy="forbid")
    desk.work = timedelta(minutes=5)
    async with desk.runner() as runner:
        await desk.until(runner, START)
        runner.pause()
        await desk.until(runner, START + 3 * HOUR + timedelta(minutes=30))
        await runner.resume()
        await desk.until(runner, START + 3 * HOUR + timedelta(minutes=50))
    assert desk.seen == ["00", "01", "02", "03"]
    assert desk.verdicts == ["accepted"] * 4


async def test_after_a_long_silence_only_what_a_policy_can_use_is_sent():
    desk = Desk(missed_run_policy="catchUp", max_catch_up=3, catch_up_window=timedelta(days=400))
    async with desk.runner() as runner:
        await desk.until(runner, START)
        runner.pause()
        await desk.until(runner, START + timedelta(days=300))
        await runner.resume()
        await settled(runner, desk.clock)
    assert desk.verdicts == ["accepted"] * 4
    assert desk.seen == ["00", "22", "23", "00"]


async def test_a_run_that_a_crash_cut_off_is_sent_again_once_its_lease_is_out(tmp_path: Path):
    desk, state = Desk(), tmp_path / "state.sqlite"
    desk.work = timedelta(days=1)
    crashed = desk.runner(state=state)
    await crashed.__aenter__()
    await desk.until(crashed, START)
    assert desk.verdicts == ["accepted"]
    await crash(crashed)

    desk.work = timedelta(0)
    async with desk.runner(state=state) as runner:
        await settled(runner, desk.clock)
        assert desk.seen == []
        await desk.until(runner, START + timedelta(minutes=1))
    assert desk.seen == ["00"]


async def crash(runner: LocalRunner) -> None:
    """End a runner as a kill does: nothing is drained and nothing is written any more."""
    await runner._stop_pump()
    runner.ingress._open.close()
    for worker in runner.host._workers:
        for task in worker._loops:
            task.cancel()
        await asyncio.gather(*worker._loops, return_exceptions=True)
        assert worker._keeper is not None
        worker._keeper.cancel()
    await runner.ledger.close()


async def test_an_unfinished_run_that_cannot_be_made_again_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    desk, state = Desk(), tmp_path / "state.sqlite"
    desk.work = timedelta(days=1)
    crashed = desk.runner(state=state, paused=True)
    await crashed.__aenter__()
    await crashed.trigger("hourly", data={"hour": "mine"})
    await settled(crashed, desk.clock)
    await crash(crashed)
    desk.work = timedelta(0)
    async with desk.runner(state=state) as runner:
        await desk.until(runner, START - timedelta(minutes=20))
    assert desk.seen == []
    assert "cannot be sent again" in caplog.text


async def test_a_runner_that_cannot_open_closes_what_it_opened(tmp_path: Path):
    desk = Desk()
    runner = desk.runner(state=tmp_path / "no" / "folder" / "state.sqlite")
    with pytest.raises(LedgerError):
        await runner.__aenter__()


async def test_a_failed_dispatch_is_sent_again():
    desk = Desk()
    runner = desk.runner()
    enqueue, failures = runner.queue_bridge.enqueue, [1, 2]

    async def failing(job: Any) -> bool:
        if failures:
            failures.pop()
            raise BridgeError("the broker is away")
        return await enqueue(job)

    runner.queue_bridge.enqueue = failing  # type: ignore[method-assign]
    async with runner:
        await desk.until(runner, START + timedelta(minutes=1))
    assert desk.verdicts == ["rejected", "rejected", "accepted"]
    assert desk.seen == ["00"]


async def test_a_failing_ledger_does_not_lose_the_trigger(caplog: pytest.LogCaptureFixture):
    class Flaky(MemoryLedger):
        failures = 2

        async def decide(self, proposal: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise LedgerError("the disk is full")
            return await super().decide(proposal)

    desk = Desk()
    async with desk.runner(ledger=Flaky()) as runner:
        await desk.until(runner, START + timedelta(minutes=1))
    assert desk.seen == ["00"]


async def test_a_manual_trigger_is_known_by_name_or_id():
    desk = Desk()
    async with desk.runner(paused=True) as runner:
        decision = await runner.trigger("hourly", nominal_time=START + 5 * HOUR)
        assert await runner.ended(decision) == "acked"
        other = await runner.trigger("Desk.v1.hourly", data={"hour": "mine"})
        await runner.ended(other)
        with pytest.raises(LoadError, match="did you mean 'hourly'"):
            await runner.trigger("hourli")
        await desk.until(runner, START + HOUR)
    assert desk.seen == ["05", "mine"]


async def test_run_fires_until_it_is_cancelled():
    desk = Desk()
    running = asyncio.create_task(desk.runner().run())
    await desk.clock.settle()
    await desk.clock.advance_to(START)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert running.cancelled()
    assert desk.seen == ["00"]


def test_jitter_is_the_same_for_a_slot_and_ends_before_the_next():
    service = Service("S")
    event = service.event("e", int)
    many = service.schedule("s").emit_event(
        event, expression=Every(HOUR), payload=1, jitter=timedelta(hours=5)
    )
    moved = [fire_time(many, START + hour * HOUR) for hour in range(50)]
    assert moved == [fire_time(many, START + hour * HOUR) for hour in range(50)]
    for hour, at in enumerate(moved):
        assert START + hour * HOUR <= at < START + (hour + 1) * HOUR
    assert len({at - START - hour * HOUR for hour, at in enumerate(moved)}) == 50
    once = service.schedule("o").emit_event(
        event, expression=Once(START), payload=1, jitter=timedelta(hours=5)
    )
    assert START <= fire_time(once, START) <= START + timedelta(hours=5)


def test_a_schedule_name_of_two_services_needs_its_id():
    services = []
    for name in ("A", "B"):
        service = Service(name)
        service.schedule("s").emit_event(service.event("e", int), expression=Every(HOUR), payload=1)
        services.append(service)
    with pytest.raises(LoadError, match=r"A\.v1\.s, B\.v1\.s"):
        find_schedule(tuple(services), "s")
    assert find_schedule(tuple(services), "B.v1.s").service_name == "B"
    with pytest.raises(LoadError, match="declares none"):
        find_schedule((Service("C"),), "s")


async def test_an_accelerated_clock_runs_faster():
    clock = AcceleratedClock(START, speed=36_000)
    reached = asyncio.Event()
    clock.call_later(timedelta(hours=1), reached.set)
    async with asyncio.timeout(10):
        await reached.wait()
        await clock.sleep(timedelta(minutes=10))
    assert clock.now() >= START + timedelta(minutes=70)
    with pytest.raises(ValueError, match="not positive"):
        AcceleratedClock(speed=0)

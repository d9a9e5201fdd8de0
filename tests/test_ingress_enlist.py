"""Where the ledger and the queues are one database, a decision and its job are one transaction."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from purista import (
    Context,
    Decision,
    Every,
    Host,
    Ingress,
    LedgerError,
    MemoryEventBridge,
    Service,
    SQLiteLedger,
    SQLiteQueueBridge,
    Trigger,
)
from purista.bridges import Job
from purista.ledgers import RunStatus

SLOT = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
HOUR = timedelta(hours=1)


class World:
    """A service with an hourly job; ledger and queues in one file, or in two."""

    def __init__(self, folder: Path, *, one_file: bool, policy: Any = "forbid") -> None:
        queues = folder / ("ledger.sqlite" if one_file else "queues.sqlite")
        self.ledger = SQLiteLedger(folder / "ledger.sqlite", synchronous="normal")
        self.queues = SQLiteQueueBridge(queues, synchronous="normal")
        self.events = MemoryEventBridge()
        self.service = Service("Shop", version="1")
        self.jobs = self.service.queue("jobs", str, max_attempts=2)
        self.service.schedule("hourly").enqueue(
            self.jobs,
            expression=Every(HOUR),
            payload="{nominal_time:%H}",
            concurrency_policy=policy,
            misfire_grace=timedelta(days=1),
        )
        self.done: list[tuple[str, str]] = []

        @self.service.worker(self.jobs)
        async def work(hour: str, ctx: Context) -> None:
            self.done.append((hour, ctx.run_id))

    @property
    def parts(self) -> dict[str, Any]:
        return {"event_bridge": self.events, "queue_bridge": self.queues}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ingress]:
        async with Ingress([self.service], ledger=self.ledger, **self.parts) as ingress:
            yield ingress
        await self.queues.close()
        await self.ledger.close()

    async def send(self, ingress: Ingress, slot: datetime = SLOT) -> Decision:
        return await ingress.accept(
            Trigger(schedule_id="Shop.v1.hourly", nominal_time=slot, source="test")
        )


@pytest.mark.parametrize("one_file", [True, False])
async def test_an_accepted_run_is_active_and_its_job_is_worked_on(tmp_path: Path, one_file: bool):
    world = World(tmp_path, one_file=one_file)
    async with world.open() as ingress:
        decision = await world.send(ingress)
        run = await ingress.run(decision.run_id or "")
        async with Host(world.service, ledger=world.ledger, **world.parts):
            await ingress.ended(decision.run_id or "")
        over = await ingress.run(decision.run_id or "")
    assert run is not None
    assert over is not None
    assert (decision.verdict, run.status, run.lease_until) == ("accepted", "active", None)
    assert (over.status, over.outcome) == (RunStatus.ENDED, "acked")
    assert world.done == [(f"{SLOT:%H}", decision.run_id)]


async def test_a_job_that_cannot_be_stored_leaves_nothing_decided(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    world = World(tmp_path, one_file=True)
    enlisted = world.queues.enlisted

    def breaking(job: Job) -> Any:
        work = enlisted(job)

        def fail(connection: Any) -> None:
            work(connection)
            connection.execute("INSERT INTO nowhere VALUES (1)")

        return fail

    async with world.open() as ingress:
        monkeypatch.setattr(world.queues, "enlisted", breaking)
        with pytest.raises(LedgerError):
            await world.send(ingress)
        assert list(await world.ledger.records()) == []
        assert await world.queues.lease("jobs", duration=HOUR, wait=timedelta(0)) is None
        monkeypatch.undo()
        assert (await world.send(ingress)).verdict == "accepted"


async def test_a_duplicate_and_an_overlap_enqueue_nothing(tmp_path: Path):
    world = World(tmp_path, one_file=True)
    async with world.open() as ingress:
        first = await world.send(ingress)
        again = await world.send(ingress)
        other = await world.send(ingress, SLOT - HOUR)
        assert await world.queues.lease("jobs", duration=HOUR, wait=timedelta(0)) is not None
        assert await world.queues.lease("jobs", duration=HOUR, wait=timedelta(0)) is None
    verdicts = [each.verdict for each in (first, again, other)]
    assert verdicts == ["accepted", "duplicate", "overlap"]


async def test_a_run_that_replaces_another_cancels_its_job(tmp_path: Path):
    world = World(tmp_path, one_file=True, policy="replace")
    async with world.open() as ingress:
        await world.send(ingress, SLOT - HOUR)
        second = await world.send(ingress)
        async with Host(world.service, ledger=world.ledger, **world.parts):
            await ingress.ended(second.run_id or "")
    assert world.done == [(f"{SLOT:%H}", second.run_id)]

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel

from purista import Context, ContractError, Cron, Every, Service
from purista.ledgers import RunStatus
from purista.testing import harness

START = datetime(2027, 2, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Cycle(BaseModel):
    cycle_id: str


class Shop:
    def __init__(self) -> None:
        self.service = Service("Shop")
        self.due = self.service.event("due", Cycle)
        self.seen: list[str] = []
        self.schedule = self.service.schedule("monthly").emit_event(
            self.due,
            expression=Cron("0 2 1 * *"),
            timezone="Europe/Berlin",
            missed_run_policy="runOnce",
            payload={"cycle_id": "{nominal_time:%Y-%m}"},
        )

        @self.service.subscription(self.due)
        async def bill(cycle: Cycle, ctx: Context) -> None:
            self.seen.append(cycle.cycle_id)


async def test_the_billing_example_fires_and_reaches_its_subscription(billing_example):
    async with harness(billing_example.billing, start=datetime(2027, 2, 2, tzinfo=UTC)) as h:
        await h.advance_to(datetime(2027, 4, 2, tzinfo=UTC))
        runs = h.runs("monthlyBillingCycle")
        events = h.events(billing_example.monthly_cycle_due)
    assert [run.nominal_time for run in runs] == [
        datetime(2027, 3, 1, 1, tzinfo=UTC),
        datetime(2027, 4, 1, tzinfo=UTC),
    ]
    assert [run.verdict for run in runs] == ["accepted", "accepted"]
    assert [event.model_dump() for event in events] == [
        {"cycle_id": "2027-03"},
        {"cycle_id": "2027-04"},
    ]


async def test_advancing_returns_the_runs_on_the_way():
    shop = Shop()
    async with harness(shop.service, start=START) as h:
        first = await h.advance_to(datetime(2027, 2, 2, tzinfo=UTC))
        second = await h.advance(timedelta(days=60))
        assert h.now == datetime(2027, 4, 3, tzinfo=UTC)
    assert [run.nominal_time for run in first] == [datetime(2027, 2, 1, 1, tzinfo=UTC)]
    assert [run.schedule for run in second] == ["monthly", "monthly"]
    assert second[0].accepted
    assert second[0].status == RunStatus.ENDED
    assert second[0].outcome == "published"
    assert second[0].decided_at == datetime(2027, 3, 1, 1, tzinfo=UTC)
    assert shop.seen == ["2027-02", "2027-03", "2027-04"]


async def test_a_duplicate_can_be_delivered_and_a_person_can_trigger():
    shop = Shop()
    async with harness(shop.service, start=START) as h:
        await h.advance(2 * HOUR)
        await h.deliver("monthly", datetime(2027, 2, 1, 1, tzinfo=UTC))
        await h.trigger("monthly", data={"cycle_id": "mine"})
        assert [run.verdict for run in h.runs()] == ["accepted", "duplicate", "accepted"]
        assert [run.status for run in h.runs("Shop.v1.monthly")][1] is None
        assert [event.cycle_id for event in h.events("due")] == ["2027-02", "mine"]


async def test_after_an_outage_the_scheduler_sends_what_it_missed():
    shop = Shop()
    async with harness(shop.service, start=START) as h:
        async with h.outage():
            runs = await h.advance(timedelta(days=60))
            assert runs == []
        assert [run.verdict for run in h.runs()] == ["coalesced", "coalesced", "accepted"]


async def test_a_handler_that_takes_harness_time_stays_active():
    service = Service("Slow")
    queue = service.queue("jobs", int)

    @service.worker(queue)
    async def work(number: int, ctx: Context) -> None:
        await h.clock.sleep(timedelta(minutes=90))

    service.schedule("hourly").enqueue(
        queue,
        expression=Every(HOUR),
        payload=1,
        concurrency_policy="forbid",
        run_timeout=timedelta(hours=2),
    )
    async with harness(service, start=START) as h:
        await h.advance(4 * HOUR + timedelta(minutes=45))
        found = [(str(run.verdict), run.outcome) for run in h.runs()]
    assert found == [("accepted", "acked"), ("overlap", ""), ("accepted", "acked"), ("overlap", "")]


async def test_time_waits_for_a_handler_that_waits_for_something_real():
    service = Service("Real")
    queue = service.queue("jobs", int)
    done = []

    @service.worker(queue)
    async def work(number: int, ctx: Context) -> None:
        await asyncio.sleep(0.05)
        done.append(number)

    service.schedule("hourly").enqueue(
        queue, expression=Every(HOUR), payload=1, concurrency_policy="forbid"
    )
    async with harness(service, start=START) as h:
        runs = await h.advance(3 * HOUR)
    assert [run.outcome for run in runs] == ["acked"] * 3
    assert done == [1, 1, 1]


async def test_a_handler_that_never_ends_holds_the_clock_only_once():
    service = Service("Stuck")
    queue = service.queue("jobs", int)

    @service.worker(queue)
    async def work(number: int, ctx: Context) -> None:
        await asyncio.Event().wait()

    service.schedule("hourly").enqueue(
        queue,
        expression=Every(HOUR),
        payload=1,
        concurrency_policy="forbid",
        run_timeout=timedelta(hours=10),
    )
    async with harness(service, start=START) as h:
        runs = await h.advance(5 * HOUR)
        assert [str(run.verdict) for run in runs] == ["accepted"] + ["overlap"] * 4
        assert runs[0].status == RunStatus.ACTIVE


def test_a_harness_checks_its_services():
    service = Service("Shop")
    service.schedule("s").emit_event("nobody", expression=Every(HOUR))
    with pytest.raises(ContractError, match="no handler serves"):
        harness(service)

"""Behind the ingress an extra trigger does no harm: the superset rule, all the way to the handlers."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

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
from purista.compiling import Placed, default_horizon, place_one, request_for
from purista.report import fires
from purista.schedulers import scheduler_named
from purista.slotgrid import grid_of
from purista.testing import ManualClock
from purista.turnover import Horizon

START = datetime(2027, 3, 20, tzinfo=UTC)
END = datetime(2027, 11, 10, tzinfo=UTC)
HORIZON = default_horizon(START)
KUBERNETES = scheduler_named("kubernetes")
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("30 2 * * *", "Europe/Berlin", {}),
    ("30 2 * * *", "Europe/Berlin", {"dst_gap": "shift", "dst_overlap": "last"}),
    ("30 2 * * *", "Australia/Lord_Howe", {"dst_gap": "next"}),
    ("0 9 L * *", "UTC", {"missed_run_policy": "runOnce"}),
    ("0 9 * * FRI#3", "America/New_York", {"concurrency_policy": "replace"}),
    ("0 9 LW * *", "UTC", {"missed_run_policy": "catchUp", "concurrency_policy": "forbid"}),
]


def compiled(text: str, timezone: str, options: dict[str, Any]) -> tuple[Service, Placed]:
    service = Service("Billing", version="1")
    due = service.event("billing.due", str)
    service.schedule("due").emit_event(
        due, expression=Cron(text), timezone=timezone, payload="due", **options
    )
    (schedule,) = service.schedules.values()
    document = {"kubernetes": KUBERNETES.sample, "ingress": {"recovery": "ingress"}}
    request = request_for(KUBERNETES, document, HORIZON)
    placed, _ = place_one(KUBERNETES, schedule, request)
    assert placed is not None
    assert placed.sends_extra
    return service, placed


async def decisions(
    service: Service, slots: list[datetime], recovery: Any = "scheduler"
) -> list[tuple[str, datetime | None]]:
    clock = ManualClock(slots[0])
    ingress = Ingress(
        [service],
        event_bridge=MemoryEventBridge(clock=clock),
        queue_bridge=MemoryQueueBridge(clock=clock),
        ledger=MemoryLedger(),
        clock=clock,
        recovery=recovery,
    )
    made = []
    async with ingress:
        for slot in slots:
            await clock.advance_to(max(slot, clock.now()))
            trigger = Trigger(schedule_id="Billing.v1.due", nominal_time=slot, source="test")
            decision = await ingress.accept(trigger)
            assert not decision.recovered
            made.append((str(decision.verdict), decision.nominal_time))
    return made


def slots_of(placed: Placed) -> list[datetime]:
    return sorted(fires(placed.cover.lines, KUBERNETES.dialect, Horizon(START, END)))


def due(schedule: Schedule) -> list[datetime]:
    return list(schedule.between(START, END))


@pytest.mark.parametrize(("text", "timezone", "options"), CASES)
@pytest.mark.parametrize("recovery", ["scheduler", "ingress"])
async def test_exactly_the_nominal_times_are_accepted(
    text: str, timezone: str, options: dict[str, Any], recovery: str
):
    service, placed = compiled(text, timezone, options)
    slots = slots_of(placed)
    made = await decisions(service, slots, recovery)
    assert [at for verdict, at in made if verdict == "accepted"] == due(placed.schedule)
    dropped = {verdict for verdict, _ in made} - {"accepted"}
    assert dropped == {"unexpected"}


@pytest.mark.parametrize(("text", "timezone", "options"), CASES)
def test_a_sender_that_starts_late_finds_its_slot_on_the_grid(
    text: str, timezone: str, options: dict[str, Any]
):
    _, placed = compiled(text, timezone, options)
    grid = grid_of(placed.cover.lines, HORIZON)
    late = timedelta(seconds=grid.period - 1)
    slots = slots_of(placed)
    assert [grid.slot(slot + late) for slot in slots] == slots

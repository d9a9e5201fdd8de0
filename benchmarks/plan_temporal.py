"""Planning for a fleet in Temporal: the time of a plan, and of applying one change, by the size of the fleet.

The yardstick is a bare client that lists the schedules and describes each, so many at a time. Applying one
changed contract takes as long as the plan that finds it, and a few calls more. Run with
``python benchmarks/plan_temporal.py``.
"""

import asyncio
import sys
import time
import tracemalloc
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).parents[1]))

from temporalio.api.workflowservice.v1 import DescribeScheduleRequest, ListSchedulesRequest
from temporalio.client import Client
from tests.engines.temporal import NAMESPACE, temporal_server

from purista import Cron, Service
from purista.compiling import Placed, Request, compile_schedules, default_horizon, request_for
from purista.plan import Plan, Planner
from purista.schedulers.temporal import SCHEDULER
from purista.sync import apply_plan
from purista.sync.temporal import AT_ONCE, PAGE, TemporalSchedules

SIZES = (1_000, 5_000)

T = TypeVar("T")


def compiled(count: int, hour: int) -> tuple[tuple[Placed, ...], Request]:
    """Compile so many schedules, the first of them at this hour."""
    service = Service("Fleet", version="1")
    event = service.event("due", str, external=True)
    for number in range(count):
        at = hour if number == 0 else number % 24
        service.schedule(f"s{number}").emit_event(
            event,
            expression=Cron(f"{number % 60} {at} * * *"),
            payload="x",
            missed_run_policy="skip",
        )
    request = request_for(SCHEDULER, {}, default_horizon(datetime(2027, 1, 1, tzinfo=UTC)))
    return compile_schedules(SCHEDULER, service.schedules.values(), request).placed, request


async def planned(live: TemporalSchedules, placed: tuple[Placed, ...], request: Request) -> Plan:
    desired = live.desired(placed, request, "default")
    planner = Planner("temporal", "default", desired)
    async for each in live.observed("default", {one.name for one in desired}):
        planner.see(each)
    return planner.plan()


async def bare(client: Client) -> int:
    """List all schedules and describe each."""
    names, token = [], b""
    while True:
        request = ListSchedulesRequest(
            namespace=NAMESPACE, maximum_page_size=PAGE, next_page_token=token
        )
        page = await client.workflow_service.list_schedules(request)
        names += [each.schedule_id for each in page.schedules]
        token = page.next_page_token
        if not token:
            break
    places = asyncio.Semaphore(AT_ONCE)

    async def look(name: str) -> None:
        async with places:
            await client.workflow_service.describe_schedule(
                DescribeScheduleRequest(namespace=NAMESPACE, schedule_id=name)
            )

    await asyncio.gather(*map(look, names))
    return len(names)


async def timed(work: Awaitable[T]) -> tuple[float, T]:
    began = time.perf_counter()
    found = await work
    return time.perf_counter() - began, found


async def main() -> None:
    async with temporal_server() as client:
        live = TemporalSchedules(client, NAMESPACE)
        for size in SIZES:
            placed, request = compiled(size, 0)
            took, _ = await timed(apply_plan(await planned(live, placed, request), live))
            while await bare(client) < size:  # noqa: ASYNC110 - the list is behind
                await asyncio.sleep(1)
            theirs, _ = await timed(bare(client))
            ours, found = await timed(planned(live, placed, request))
            assert found.is_empty
            tracemalloc.start()
            await planned(live, placed, request)
            peak = tracemalloc.get_traced_memory()[1] / 2**20
            tracemalloc.stop()
            placed, request = compiled(size, 5)
            found = await planned(live, placed, request)
            assert len(found.changes) == 1
            change, _ = await timed(apply_plan(found, live))
            print(
                f"{size} schedules: made in {took:.1f} s; a plan {ours:.1f} s, {theirs / ours:.2f} of bare, "
                f"{peak:.0f} MB; one change applied in {change * 1000:.0f} ms"
            )


if __name__ == "__main__":
    asyncio.run(main())

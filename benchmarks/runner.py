"""The local runner with 10,000 schedules, their fire times spread evenly over each minute.

Prints the 99th percentile of lateness (at most 50 ms on an otherwise idle machine), and the
processor time of a runner whose schedules are not due.
"""

import asyncio
import time
from datetime import UTC, datetime, timedelta

from purista import Context, Every, LocalRunner, Service

SCHEDULES = 10_000
MINUTES = 2
IDLE_SECONDS = 10


def service(count: int, interval: timedelta, lateness: list[float]) -> Service:
    made = Service("Bench")
    event = made.event("due", int)
    began = datetime(2027, 1, 1, tzinfo=UTC)
    for number in range(count):
        made.schedule(f"schedule{number}").emit_event(
            event,
            expression=Every(interval, anchor=began + interval * number / count),
            payload=number,
        )

    @made.subscription(event)
    async def on_due(number: int, ctx: Context) -> None:
        assert ctx.nominal_time is not None
        lateness.append((datetime.now(UTC) - ctx.nominal_time).total_seconds())

    return made


async def busy() -> None:
    lateness: list[float] = []
    made = service(SCHEDULES, timedelta(minutes=1), lateness)
    began = time.process_time()
    async with LocalRunner(made):
        started = time.process_time() - began
        await asyncio.sleep(2)
        lateness.clear()
        await asyncio.sleep(60 * MINUTES)
        found = sorted(lateness)
    used = time.process_time() - began - started
    late = found[int(len(found) * 0.99)]
    print(
        f"{SCHEDULES} schedules, {len(found)} fires in {MINUTES} minutes: 99th percentile of lateness "
        f"{late * 1e3:.1f} ms (at most 50), median {found[len(found) // 2] * 1e3:.1f} ms, "
        f"{used / len(found) * 1e6:.0f} microseconds of processor time a fire, "
        f"start {started:.1f} s"
    )


async def idle() -> None:
    async with LocalRunner(service(SCHEDULES, timedelta(days=365), [])):
        await asyncio.sleep(1)
        began = time.process_time()
        await asyncio.sleep(IDLE_SECONDS)
        used = time.process_time() - began
    print(f"idle for {IDLE_SECONDS} s: {used * 1e3:.1f} ms of processor time")


if __name__ == "__main__":
    asyncio.run(idle())
    asyncio.run(busy())

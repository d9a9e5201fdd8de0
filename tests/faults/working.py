"""What workers of the fault suites do, in the test's own process and in others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from tests.faults.effects import Effects
from tests.faults.waiting import ASK_AGAIN

from purista import Service
from purista.bridges import LeasedJob, QueueBridge
from purista.contract import Backoff
from purista.errors import BridgeClosedError, BridgeError, LeaseLostError


async def work(
    bridge: QueueBridge, queue: str, effects: Effects, who: str, *, lease: float, seconds: float
) -> None:
    """Work on jobs, as long as nobody stops it, each so many seconds; prolong the lease half-way."""
    duration = timedelta(seconds=lease)
    while True:
        try:
            leased = await bridge.lease(queue, duration=duration)
        except BridgeClosedError:
            return
        except BridgeError:
            await asyncio.sleep(ASK_AGAIN)
            continue
        if leased is not None:
            await _handle(bridge, leased, effects, who, duration, seconds)


async def _handle(
    bridge: QueueBridge,
    leased: LeasedJob,
    effects: Effects,
    who: str,
    duration: timedelta,
    seconds: float,
) -> None:
    one = leased.job.message.id, leased.attempt, who
    effects.note("begun", *one)
    try:
        await asyncio.sleep(seconds / 2)
        await bridge.extend(leased, duration=duration)
        effects.note("extended", *one)
        await asyncio.sleep(seconds / 2)
        effects.note("ended", *one)
        await bridge.ack(leased)
        effects.note("settled", *one)
    except LeaseLostError:
        effects.note("lost", *one)
    except BridgeError:
        effects.note("failed", *one)


def service_of(
    queue: str, effects: Effects, who: str, *, lease: float, concurrency: int = 3
) -> tuple[Service, Any]:
    """Return a service that works on a queue, and the queue; a payload says how many seconds to take."""
    service = Service("Faults", version="1")
    jobs = service.queue(
        queue,
        float,
        lease=timedelta(seconds=lease),
        max_attempts=50,
        backoff=Backoff(timedelta(milliseconds=50)),
    )

    @service.worker(jobs, concurrency=concurrency)
    async def handle(seconds, ctx):  # type: ignore[no-untyped-def]
        one = ctx.message_id, ctx.attempt, who
        effects.note("begun", *one)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            effects.note("cancelled", *one)
            raise
        effects.note("ended", *one)

    return service, jobs

"""What the soak declares: schedules of six kinds, and what each kind promises.

Every kind has one way to be wrong that only it would show:

- `each`: every nominal time has an effect (event target that says when it is done, catchUp)
- `job`: the same for a queue
- `alone`: runs must not overlap (forbid, queue); sent one after another, every nominal time has an effect
- `burst`: runs must not overlap (forbid, command); sent all at once, so that most are skipped
- `latest`: of all missed nominal times the latest has an effect, and no other (runOnce, event)
- `keyed`: nominal times of one minute share a key; each minute has one effect (idempotency key, event)
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.soak.effects import Effects
from pydantic import BaseModel

from purista import Context, Every, Schedule, Service

KINDS = ("each", "job", "alone", "burst", "latest", "keyed")
DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMEOUT = timedelta(seconds=20)
"""How long a run can block the next one of its schedule after a kill. A run that was cut off and has expired is
not run again by a redelivery, so the others have a day."""


@dataclass(frozen=True)
class Plan:
    """How large a soak is; every process builds the same contract from it."""

    base: datetime
    schedules: int
    times: int

    @property
    def span(self) -> timedelta:
        """All nominal times lie within so long after the base."""
        return self.times * timedelta(seconds=10)


class Minute(BaseModel):
    """The payload of all."""

    minute: str


def kind_of(schedule: Schedule) -> str:
    """Return the kind of a schedule."""
    return schedule.name.partition("-")[0]


def due(plan: Plan, schedule: Schedule) -> list[datetime]:
    """Return the nominal times that are sent."""
    return list(schedule.between(plan.base, plan.base + plan.span - timedelta(microseconds=1)))


def build(plan: Plan, effects: Effects) -> Service:
    """Declare the service; its handlers note what they do in `effects`."""
    soak = Service("soak", version="1")
    event, done = soak.event("due", Minute), soak.event("done", Minute)
    queue = soak.queue("jobs", Minute, max_attempts=50, lease=timedelta(seconds=3))
    command = soak.command("work", Minute, returns=str)
    targets: dict[str, Any] = {"job": queue, "alone": queue, "burst": command}
    for number in range(plan.schedules):
        kind = KINDS[number % len(KINDS)]
        builder = soak.schedule(f"{kind}-{number}")
        add: Any = {"job": builder.enqueue, "alone": builder.enqueue}.get(kind, builder.emit_event)
        add = builder.invoke_command if kind == "burst" else add
        add(targets.get(kind, event), **_options(plan, kind, number))

    async def work(ctx: Context) -> None:
        assert ctx.schedule_id is not None
        assert ctx.nominal_time is not None
        slot = ctx.nominal_time.astimezone(UTC)
        effects.begin(ctx.schedule_id, slot, ctx.run_id)
        await asyncio.sleep(random.random() * 0.01)
        effects.end(ctx.schedule_id, slot, ctx.run_id)

    @soak.subscription(event)
    async def on_due(payload: Minute, ctx: Context) -> None:
        await work(ctx)
        await ctx.emit(done, payload)

    @soak.worker(queue, concurrency=8)
    async def on_job(payload: Minute, ctx: Context) -> None:
        await work(ctx)

    @soak.handles(command)
    async def on_command(payload: Minute, ctx: Context) -> str:
        await work(ctx)
        return "done"

    return soak


def _options(plan: Plan, kind: str, number: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "expression": Every(timedelta(seconds=10), EPOCH + timedelta(seconds=number % 10)),
        "end_at": plan.base + plan.span - timedelta(microseconds=1),
        "missed_run_policy": "catchUp",
        "catch_up_window": DAY,
        "max_catch_up": 10_000,
        "misfire_grace": timedelta(seconds=30),
        "run_timeout": TIMEOUT if kind in ("alone", "burst") else DAY,
        "payload": {"minute": "{nominal_time:%Y-%m-%dT%H:%M}"},
    }
    if kind in ("each", "latest", "keyed"):
        options["completed_by"] = "done"
    if kind in ("alone", "burst"):
        options["concurrency_policy"] = "forbid"
    if kind == "latest":
        options["missed_run_policy"] = "runOnce"
    if kind == "keyed":
        options["idempotency_key"] = "payload.minute"
    return options

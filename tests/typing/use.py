"""What must type-check: the public face, and what the types say about it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, TypedDict, assert_type

from pydantic import BaseModel, Field, TypeAdapter

from purista import Command, Context, Cron, Event, Every, Queue, Schedule, Service


class Cycle(BaseModel):
    cycle_id: str


@dataclass
class Purge:
    older_than_days: int = 30


class Row(TypedDict):
    name: str


billing = Service("Billing", version="1")
due = billing.event("due", Cycle)
assert_type(due, Event[Cycle])
reports = billing.queue("reports", Cycle, max_attempts=3)
assert_type(reports, Queue[Cycle])
purge = billing.command("purge", Purge, returns=int)
assert_type(purge, Command[Purge, int])
silent = billing.command("silent", Purge)
assert_type(silent, Command[Purge, None])
rows = billing.event("rows", list[int])
assert_type(rows, Event[list[int]])
typed = billing.event("typed", Row)
adapted = billing.event("adapted", TypeAdapter(Cycle))
assert_type(adapted, Event[Cycle])
limited = billing.event("limited", Annotated[int, Field(gt=0)])

schedule = billing.schedule("a", "every six hours").emit_event(
    due,
    expression=Every(timedelta(hours=6)),
    concurrency_policy="forbid",
    missed_run_policy="runOnce",
    payload={"cycle_id": "{nominal_time:%Y-%m}"},
)
assert_type(schedule, Schedule)
billing.schedule("b").enqueue("other.queue", payload_schema=Cycle, expression=Cron("0 2 * * *"))
billing.add_schedule(schedule)


@billing.subscription(due)
async def on_due(cycle: Cycle, ctx: Context) -> None:
    await ctx.emit(due, cycle)
    await ctx.enqueue(reports, cycle, delay=timedelta(seconds=5))
    assert_type(await ctx.invoke(purge, Purge()), int)
    assert_type(ctx.run_id, str)


@billing.worker(reports, concurrency=4)
async def render(cycle: Cycle, ctx: Context) -> None:
    await ctx.heartbeat()


@billing.handles(purge)
async def on_purge(request: Purge, ctx: Context) -> int:
    return request.older_than_days


billing.bind(due, reports, idempotency_key="payload.cycle_id")
billing.bind(due, billing.queue("purges", Purge), map=lambda cycle: Purge(), name="purge-all")


async def a_test_calls_the_handler_directly(ctx: Context) -> None:
    assert_type(await on_purge(Purge(), ctx), int)

"""What must not type-check. Each line that ends in ``# E: code`` must give that mypy error."""

from datetime import timedelta

from pydantic import BaseModel

from purista import Context, Cron, Every, Service


class Cycle(BaseModel):
    cycle_id: str


class Purge(BaseModel):
    older_than_days: int = 30


billing = Service("Billing", version="1")
due = billing.event("due", Cycle)
reports = billing.queue("reports", Cycle)
purge = billing.command("purge", Purge, returns=int)

billing.schedule("a").enqueue(due, expression=Cron("0 2 * * *"))  # E: call-overload
billing.schedule("b").emit_event(reports, expression=Cron("0 2 * * *"))  # E: call-overload
billing.schedule("c").invoke_command(due, expression=Cron("0 2 * * *"))  # E: call-overload
billing.schedule("d").emit_event(
    due, expression=Cron("0 2 * * *"), time_zone="UTC"
)  # E: call-overload
billing.schedule("e").emit_event(due)  # E: call-overload
billing.schedule("f").emit_event(due, expression="0 2 * * *")  # E: call-overload
billing.schedule("g").emit_event(due, expression=Every(3600))  # E: arg-type
billing.schedule("h").emit_event(due, expression=Cron("0 2 * * *"), jitter=30)  # E: call-overload
billing.schedule("i").emit_event(
    due,
    expression=Cron("0 2 * * *"),
    missed_run_policy="catchup",  # E: arg-type
)
billing.schedule("j").emit_event(
    due,
    expression=Cron("0 2 * * *"),
    concurrency_policy="skip",  # E: arg-type
)
billing.schedule("k").emit_event(
    due, expression=Cron("0 2 * * *"), completed_by=reports
)  # E: call-overload


@billing.subscription(due)  # E: arg-type
async def wrong_payload(payload: Purge, ctx: Context) -> None: ...


@billing.subscription(reports)  # E: arg-type
async def a_queue_is_no_event(payload: Cycle, ctx: Context) -> None: ...


@billing.worker(due)  # E: arg-type
async def an_event_is_no_queue(payload: Cycle, ctx: Context) -> None: ...


@billing.worker(reports)  # E: arg-type
def not_async(payload: Cycle, ctx: Context) -> None: ...


@billing.worker(reports, concurency=4)  # E: call-arg
async def misspelt(payload: Cycle, ctx: Context) -> None: ...


@billing.handles(purge)  # E: arg-type
async def wrong_answer(request: Purge, ctx: Context) -> str:
    return ""


@billing.subscription(due)
async def sends_the_wrong_things(payload: Cycle, ctx: Context) -> None:
    await ctx.emit(due, Purge())  # E: arg-type
    await ctx.emit(reports, payload)  # E: arg-type
    await ctx.enqueue(due, payload)  # E: arg-type
    await ctx.enqueue(reports, "2027-03")  # E: arg-type
    await ctx.invoke(purge, payload)  # E: arg-type
    await ctx.enqueue(reports, payload, delay=5)  # E: arg-type
    answer: str = await ctx.invoke(purge, Purge())  # E: assignment
    print(answer, ctx.runid)  # E: attr-defined


billing.bind(due, purge)  # E: call-overload
billing.bind(due, billing.queue("purges", Purge))  # E: misc
billing.queue("x", Cycle, lease=30)  # E: call-overload
billing.add_schedule(billing.schedule("l"))  # E: arg-type
timedelta("1")  # E: arg-type

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
CRON = Cron("0 2 * * *")

billing.schedule("a").enqueue(due, expression=CRON)  # E: call-overload
billing.schedule("b").emit_event(reports, expression=CRON)  # E: call-overload
billing.schedule("c").invoke_command(due, expression=CRON)  # E: call-overload
billing.schedule("d").emit_event(due, expression=CRON, time_zone="UTC")  # E: call-overload
billing.schedule("e").emit_event(due)  # E: call-overload
billing.schedule("f").emit_event(due, expression="0 2 * * *")  # E: call-overload
billing.schedule("g").emit_event(due, expression=Every(3600))  # E: arg-type
billing.schedule("h").emit_event(due, expression=CRON, jitter=30)  # E: call-overload
billing.schedule("i").enqueue(reports, expression=CRON, max_catch_up="3")  # E: call-overload
billing.schedule("m").emit_event(due, expression=CRON, dst_gap="jump")  # E: call-overload
MISSED = "catchup"
billing.schedule("n").emit_event(due, expression=CRON, missed_run_policy=MISSED)  # E: call-overload
billing.schedule("j").emit_event(due, expression=CRON, concurrency_policy="x")  # E: call-overload
billing.schedule("k").emit_event(due, expression=CRON, completed_by=reports)  # E: call-overload


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
    await ctx.emit(due, Purge())  # E: misc
    await ctx.emit(reports, payload)  # E: arg-type
    await ctx.enqueue(due, payload)  # E: arg-type
    await ctx.enqueue(reports, "2027-03")  # E: misc
    await ctx.invoke(purge, payload)  # E: misc
    await ctx.enqueue(reports, payload, delay=5)  # E: arg-type
    answer: str = await ctx.invoke(purge, Purge())  # E: arg-type
    assert answer == ctx.runid  # E: attr-defined


billing.bind(due, purge)  # E: call-overload
billing.bind(due, billing.queue("purges", Purge))  # E: misc
billing.queue("x", Cycle, lease=30)  # E: call-overload
billing.add_schedule(billing.schedule("l"))  # E: arg-type
timedelta("1")  # E: arg-type

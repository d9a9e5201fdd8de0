"""Monthly billing: an event, a queue and a command, each with its schedule."""

from datetime import timedelta

from pydantic import BaseModel

from purista import Context, Cron, Every, Service


class MonthlyCycle(BaseModel):
    cycle_id: str


class Purge(BaseModel):
    older_than_days: int = 30


billing = Service("Billing", version="1", description="Invoices and billing cycles")
monthly_cycle_due = billing.event("billing.monthlyCycleDue", MonthlyCycle)
monthly_reports = billing.queue("monthlyReports", MonthlyCycle, max_attempts=5)
purge_drafts = billing.command("purgeDrafts", Purge, returns=int)

monthly_billing = billing.schedule(
    "monthlyBillingCycle", "Trigger monthly billing on the 1st"
).emit_event(
    monthly_cycle_due,
    expression=Cron("0 2 1 * *"),
    timezone="Europe/Berlin",
    concurrency_policy="forbid",
    missed_run_policy="runOnce",
    payload={"cycle_id": "{nominal_time:%Y-%m}"},
    idempotency_key="payload.cycle_id",
)
billing.schedule("monthlyReports", "Render last month's reports").enqueue(
    monthly_reports,
    expression=Cron("0 4 1 * *"),
    timezone="Europe/Berlin",
    missed_run_policy="catchUp",
    catch_up_window=timedelta(days=3),
    payload={"cycle_id": "{previous_nominal_time:%Y-%m}"},
)
billing.schedule("purgeDrafts", "Delete abandoned drafts").invoke_command(
    purge_drafts, expression=Every(timedelta(hours=6)), payload={"older_than_days": 30}
)


@billing.subscription(monthly_cycle_due)
async def request_reports(cycle: MonthlyCycle, ctx: Context) -> None:
    await ctx.enqueue(monthly_reports, cycle)


@billing.worker(monthly_reports, concurrency=4)  # returning acks, raising nacks
async def render(cycle: MonthlyCycle, ctx: Context) -> None: ...


@billing.handles(purge_drafts)
async def purge(request: Purge, ctx: Context) -> int:
    return 0

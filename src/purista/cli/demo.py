"""The demo: a month of three schedules in Berlin, with everything that goes wrong in a month."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from rich.text import Text

from purista.cli.output import (
    decision_json,
    expression_text,
    local_text,
    out,
    print_json,
    table,
    target_text,
    verdict_text,
)
from purista.context import Context
from purista.expression import Cron, Every
from purista.service import Service
from purista.testing.service_harness import Harness, HarnessRun, harness

ZONE = "Europe/Berlin"


class Day(BaseModel):
    """A day of invoices."""

    day: str


class Report(BaseModel):
    """The day that a report is about."""

    day: str


class Purge(BaseModel):
    """What to delete."""

    older_than_days: int = 30


class Scene:
    """The demo's service, and what it has done so far."""

    def __init__(self) -> None:
        self.slow_day = ""
        self.effects: Counter[str] = Counter()
        self.harness: Harness | None = None
        self.service = self._declare()

    def _declare(self) -> Service:
        shop = Service("Shop", version="1", description="A shop that bills every night")
        invoices_due = shop.event("shop.invoicesDue", Day)
        reports = shop.queue("nightlyReports", Report, max_attempts=3)
        purge = shop.command("purgeDrafts", Purge, returns=int)

        shop.schedule("invoices", "Bill yesterday's orders").emit_event(
            invoices_due,
            expression=Cron("0 2 * * *"),
            timezone=ZONE,
            missed_run_policy="runOnce",
            payload={"day": "{nominal_time:%Y-%m-%d}"},
            idempotency_key="payload.day",
        )
        shop.schedule("reports", "Render the night's report").enqueue(
            reports,
            expression=Cron("30 2 * * *"),
            timezone=ZONE,
            concurrency_policy="forbid",
            missed_run_policy="catchUp",
            catch_up_window=timedelta(days=3),
            run_timeout=timedelta(days=2),
            dst_gap="next",
            payload={"day": "{nominal_time:%Y-%m-%d}"},
        )
        shop.schedule("purge", "Delete abandoned drafts").invoke_command(
            purge,
            expression=Every(timedelta(hours=6)),
            missed_run_policy="skip",
            payload={"older_than_days": 30},
        )

        @shop.subscription(invoices_due)
        async def bill(day: Day, ctx: Context) -> None:
            self.effects["days billed"] += 1

        @shop.worker(reports)
        async def render(report: Report, ctx: Context) -> None:
            if report.day == self.slow_day and self.harness is not None:
                await self.harness.clock.sleep(timedelta(hours=30))
            self.effects["reports rendered"] += 1

        @shop.handles(purge)
        async def delete(request: Purge, ctx: Context) -> int:
            self.effects["purges done"] += 1
            return 0

        return shop


async def play(*, as_json: bool = False) -> int:
    """Play the month; print what was decided and why. Returns the exit code."""
    scene = Scene()
    teller = _Teller(silent=as_json)
    teller.introduce(scene.service)
    async with harness(scene.service, start=_berlin(2027, 3, 1)) as h:
        scene.harness = h
        await _quiet_days(h, teller)
        await _duplicate(h, teller)
        await _overlap(h, teller, scene)
        await _outage(h, teller)
        await _clock_change(h, teller)
        await h.advance_to(_berlin(2027, 4, 1))
    runs = h.runs()
    if as_json:
        print_json([decision_json(run.decision) for run in runs])
    else:
        teller.sum_up(runs, scene.effects)
    return 0


async def _quiet_days(h: Harness, teller: _Teller) -> None:
    runs = await h.advance_to(_berlin(2027, 3, 2))
    teller.tell("1 March: a plain day", "Everything comes on time and runs.", runs)


async def _duplicate(h: Harness, teller: _Teller) -> None:
    await h.advance_to(_berlin(2027, 3, 4, 2, 1))
    seen = len(h.runs())
    await h.deliver("invoices", _berlin(2027, 3, 4, 2))
    teller.tell(
        "4 March: the scheduler sends a trigger twice",
        "The key payload.day was seen within dedupe_window: no second bill.",
        h.runs()[seen:],
    )


async def _overlap(h: Harness, teller: _Teller, scene: Scene) -> None:
    scene.slow_day = "2027-03-06"
    await h.advance_to(_berlin(2027, 3, 6))
    runs = await h.advance_to(_berlin(2027, 3, 8, 3))
    teller.tell(
        "6 March: a report takes 30 hours",
        "concurrency_policy='forbid': the next night is skipped, not queued; the one after runs.",
        [run for run in runs if run.schedule == "reports"],
    )


async def _outage(h: Harness, teller: _Teller) -> None:
    await h.advance_to(_berlin(2027, 3, 15, 12))
    seen = len(h.runs())
    async with h.outage():
        await h.advance_to(_berlin(2027, 3, 18, 12))
    runs = h.runs()[seen:]
    for name, policy in (
        ("invoices", "missed_run_policy='runOnce': only the latest missed night runs."),
        ("purge", "missed_run_policy='skip': what is later than 10 minutes is dropped."),
    ):
        _tell_outage(teller, name, policy, runs)
    await h.advance_to(_berlin(2027, 3, 18, 13))
    policy = (
        "missed_run_policy='catchUp': every missed night runs, oldest first, one after another."
    )
    _tell_outage(teller, "reports", policy, h.runs()[seen:])


def _tell_outage(teller: _Teller, name: str, policy: str, runs: Iterable[HarnessRun]) -> None:
    mine = [run for run in runs if run.schedule == name]
    teller.tell(f"15 to 18 March: the scheduler is down for three days - {name}", policy, mine)


async def _clock_change(h: Harness, teller: _Teller) -> None:
    await h.advance_to(_berlin(2027, 3, 27))
    runs = await h.advance_to(_berlin(2027, 3, 30))
    teller.tell(
        "28 March: the clock jumps from 02:00 to 03:00",
        "Neither 02:00 nor 02:30 exists. reports says dst_gap='next' and runs at 03:00; invoices has "
        "the default, 'skip'.",
        [run for run in runs if run.schedule != "purge"],
    )


class _Teller:
    def __init__(self, *, silent: bool) -> None:
        self._silent = silent

    def introduce(self, service: Service) -> None:
        if self._silent:
            return
        out.print(Text("purista demo: March 2027 in Berlin, on an accelerated clock", style="bold"))
        rows = table("schedule", "when", "target", "overlap", "missed")
        for one in service.schedules.values():
            when = f"{expression_text(one.expression)} ({one.timezone})"
            words = (str(one.concurrency_policy), str(one.missed_run_policy))
            rows.add_row(one.name, when, target_text(one), *words)
        out.print(rows)

    def tell(self, title: str, why: str, runs: Iterable[HarnessRun]) -> None:
        if self._silent:
            return
        out.print()
        out.print(Text(title, style="bold"))
        out.print(Text(why))
        rows = table("schedule", "nominal time in Berlin", "decision", "why")
        for run in runs:
            rows.add_row(
                run.schedule,
                local_text(run.nominal_time, ZONE) if run.nominal_time else "-",
                verdict_text(str(run.verdict)),
                run.decision.reason,
            )
        out.print(rows)

    def sum_up(self, runs: list[HarnessRun], effects: Counter[str]) -> None:
        out.print()
        out.print(Text("The month", style="bold"))
        counts = Counter(str(run.verdict) for run in runs)
        words = ", ".join(f"{count} {word}" for word, count in counts.most_common())
        out.print(f"{len(runs)} triggers: {words}")
        out.print(", ".join(f"{count} {name}" for name, count in sorted(effects.items())))


def _berlin(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)

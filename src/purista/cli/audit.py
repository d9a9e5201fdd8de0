"""``purista audit``: the contract's nominal times compared with the ledger."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from purista.audit import Finding, Kind, ScheduleAudit
from purista.audit import audit as audited
from purista.audit.auditing import LENGTH
from purista.cli.exitcode import DONE, REFUSED
from purista.cli.loading import load_services
from purista.cli.output import local_text, out, print_json, say, table, utc_text
from purista.cli.pastwindow import PastWindow, Since, Until, read_past
from purista.cli.settingsfile import SettingsFile, ingress_settings
from purista.cli.wiring import LedgerUrl, known_ledger
from purista.clock import SystemClock
from purista.contract import Schedule
from purista.ingress.ingress import RunStore
from purista.local import find_schedule

SHOWN: Final = 10
"""How many findings of one kind of a schedule a person is shown; all are counted."""

COLOURS: Final = {Kind.MISSED: "red", Kind.REJECTED: "red", Kind.FAILED: "red", Kind.LATE: "yellow"}


def audit(
    services: Annotated[
        list[str],
        typer.Argument(
            metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
        ),
    ],
    schedule: Annotated[
        list[str] | None,
        typer.Option("--schedule", "-s", help="One schedule, by name or id; repeat it for more."),
    ] = None,
    since: Since = None,
    until: Until = None,
    ledger: LedgerUrl = None,
    settings: SettingsFile = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 for any finding, not only what was lost.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare nominal times with the ledger; exit code 1 when one was missed or had no effect.

    Looks at the last day, if nothing else is said.

    Example: purista audit billing.app:billing --ledger sqlite:///runs.sqlite --since 7d
    """
    window = read_past(since, until)
    loaded = load_services(services)
    chosen = [find_schedule(loaded, name) for name in schedule or ()]
    known = ingress_settings(settings)
    store = known_ledger(known, ledger)
    asked = Asked(
        chosen or [one for service in loaded for one in service.schedules.values()],
        window,
        SystemClock().now(),
        timedelta(days=known.retention_days),
    )
    summary = asyncio.run(_show(asked, store, as_json=as_json))
    if as_json:
        print_json(summary.document(asked))
    else:
        summary.print()
    return REFUSED if summary.lost or (strict and summary.counts) else DONE


@dataclass(frozen=True, slots=True)
class Asked:
    """Which schedules, when, as of when."""

    schedules: Sequence[Schedule]
    window: PastWindow
    now: datetime
    retention: timedelta

    async def audits(self, ledger: RunStore) -> AsyncIterator[tuple[Schedule, ScheduleAudit]]:
        """Yield the audit of each schedule, and close the ledger at the end."""
        try:
            for schedule in sorted(self.schedules, key=lambda one: one.id):
                yield (
                    schedule,
                    await audited(
                        schedule,
                        ledger,
                        now=self.now,
                        since=self.window.since,
                        until=self.window.until,
                        length=self.window.length or LENGTH,
                        retention=self.retention,
                    ),
                )
        finally:
            await ledger.close()


@dataclass(slots=True)
class _Summary:
    schedules: int = 0
    expected: int = 0
    on_time: int = 0
    pending: int = 0
    lost: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    told: list[tuple[Schedule, ScheduleAudit]] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)

    def add(self, schedule: Schedule, result: ScheduleAudit, *, as_json: bool) -> None:
        self.schedules += 1
        self.expected += result.expected
        self.on_time += result.on_time
        self.pending += result.pending
        self.lost += result.lost
        self.counts.update(result.counts)
        if as_json:
            self.documents.append(audit_json(result))
        elif not result.is_fine:
            self.told.append((schedule, _shortened(result)))

    def print(self) -> None:
        if self.told:
            kinds = [kind for kind in Kind if self.counts[kind]]
            rows = table("schedule", "expected", "on time", *map(str, kinds))
            for _, one in self.told:
                counts = (str(one.counts.get(kind, "")) for kind in kinds)
                rows.add_row(one.schedule_id, str(one.expected), str(one.on_time), *counts)
            out.print(rows)
        for schedule, one in self.told:
            _print_findings(schedule, one)
        words = [f"{count} {kind}" for kind, count in sorted(self.counts.items())]
        waiting = f", {self.pending} pending" if self.pending else ""
        out.print(
            f"{self.schedules} schedules, {self.expected} nominal times: {self.on_time} on time"
            f"{waiting}{''.join(f', {word}' for word in words)}"
        )

    def document(self, asked: Asked) -> dict[str, Any]:
        return {
            "now": utc_text(asked.now),
            "expected": self.expected,
            "onTime": self.on_time,
            "pending": self.pending,
            "lost": self.lost,
            "counts": _counts(self.counts),
            "schedules": self.documents,
        }


def audit_json(result: ScheduleAudit) -> dict[str, Any]:
    """Return an audit as JSON."""
    return {
        "scheduleId": result.schedule_id,
        "since": utc_text(result.since),
        "until": utc_text(result.until),
        "expected": result.expected,
        "onTime": result.on_time,
        "pending": result.pending,
        "lost": result.lost,
        "counts": _counts(result.counts),
        "findings": [_finding_json(each) for each in result.findings],
        "leftOff": result.left_off,
        "stillTakenSince": utc_text(result.still_taken) if result.still_taken else None,
        "notes": list(result.notes),
    }


async def _show(asked: Asked, ledger: RunStore, *, as_json: bool) -> _Summary:
    summary = _Summary()
    async for schedule, result in asked.audits(ledger):
        summary.add(schedule, result, as_json=as_json)
    return summary


def _finding_json(finding: Finding) -> dict[str, Any]:
    late = finding.lateness
    return {
        "finding": str(finding.kind),
        "nominalTime": utc_text(finding.nominal_time),
        "reason": finding.reason,
        "lost": finding.is_lost,
        "count": finding.count,
        "latenessMs": None if late is None else round(late / timedelta(milliseconds=1)),
        "source": finding.source,
        "runId": finding.run_id,
    }


def _counts(counts: Any) -> dict[str, int]:
    return {str(kind): count for kind, count in counts.items()}


def _shortened(result: ScheduleAudit) -> ScheduleAudit:
    """Keep what a person is shown, so that ten thousand schedules do not fill the memory."""
    kept: list[Finding] = []
    seen: Counter[Kind] = Counter()
    for each in result.findings:
        seen[each.kind] += 1
        if seen[each.kind] <= SHOWN:
            kept.append(each)
    left_off = sum(result.counts.values()) - sum(each.count for each in kept)
    return replace(result, findings=tuple(kept), left_off=left_off)


def _print_findings(schedule: Schedule, result: ScheduleAudit) -> None:
    out.print(f"\n{result.schedule_id}, {utc_text(result.since)} to {utc_text(result.until)}")
    for note in result.notes:
        say(f"{result.schedule_id}: {note}", "yellow")
    for each in result.findings:
        line = Text("  ")
        line.append(f"{each.kind:<10}", style=COLOURS.get(each.kind, ""))
        line.append(f"  {utc_text(each.nominal_time)}  ")
        line.append(f"{local_text(each.nominal_time, schedule.timezone)}  ", style="dim")
        line.append(each.reason)
        out.print(line)
    if result.left_off:
        out.print(f"  and {result.left_off} more; --json lists them")
    if result.still_taken is not None:
        out.print(f"  still run if its scheduler sends it: since {utc_text(result.still_taken)}")

"""``purista runs``: what the ledger remembers, runs and decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from purista.cli.exitcode import DONE
from purista.cli.output import out, print_json, say, table, utc_text, verdict_text
from purista.cli.pastwindow import Since, Until, read_past
from purista.cli.settingsfile import SettingsFile, ingress_settings
from purista.cli.wiring import LedgerUrl, known_ledger
from purista.clock import SystemClock
from purista.errors import LoadError
from purista.ingress.answer import run_document
from purista.ingress.ingress import RunStore
from purista.ledgers import Record, Run

ROWS: Final = 50


def runs(
    schedule: Annotated[
        str | None,
        typer.Option("--schedule", "-s", metavar="ID", help="Of one schedule, by its id."),
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only claimed, active and failed ones.")
    ] = False,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many at most.")] = ROWS,
    decisions: Annotated[
        bool, typer.Option("--decisions", help="Every decision, duplicates and skips too.")
    ] = False,
    ledger: LedgerUrl = None,
    settings: SettingsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Show runs, newest nominal time first; with --decisions what was decided, newest first.

    --since and --until bound nominal times.

    Example: purista runs --ledger sqlite:///runs.sqlite -s billing.v1.monthlyBillingCycle
    """
    if decisions and unfinished:
        raise LoadError("a decision is never unfinished; leave out --decisions or --unfinished")
    window = read_past(since, until)
    store = known_ledger(ingress_settings(settings), ledger)
    bounds: dict[str, Any] = {
        "schedule_id": schedule,
        "since": window.start(SystemClock().now()),
        "until": window.until,
        "limit": limit + 1,
    }
    if decisions:
        records = asyncio.run(_records(store, bounds))
        _tell_more(records, limit)
        _print_records(records[:limit], as_json=as_json)
    else:
        found = asyncio.run(_runs(store, bounds | {"unfinished": unfinished}))
        _tell_more(found, limit)
        _print_runs(found[:limit], as_json=as_json)
    return DONE


async def _runs(ledger: RunStore, bounds: dict[str, Any]) -> Sequence[Run]:
    try:
        return await ledger.runs(**bounds)
    finally:
        await ledger.close()


async def _records(ledger: RunStore, bounds: dict[str, Any]) -> Sequence[Record]:
    try:
        return await ledger.records(**bounds)
    finally:
        await ledger.close()


def _tell_more(found: Sequence[object], limit: int) -> None:
    if len(found) > limit:
        say(f"there are more than {limit}; raise --limit, or name a window", "yellow")


def _print_runs(found: Sequence[Run], *, as_json: bool) -> None:
    if as_json:
        print_json([run_document(run) for run in found])
        return
    rows = table("nominal time", "schedule", "status", "outcome", "claimed", "ended", "run")
    for run in found:
        rows.add_row(
            utc_text(run.nominal_time),
            run.schedule_id,
            str(run.status),
            run.outcome,
            _second(run.claimed_at),
            _second(run.ended_at),
            run.run_id,
        )
    out.print(rows) if found else say("no runs")


def _print_records(found: Sequence[Record], *, as_json: bool) -> None:
    if as_json:
        print_json([_record_document(record) for record in found])
        return
    rows = table("decided", "nominal time", "schedule", "decision", "reason", "source", "run")
    for record in found:
        rows.add_row(
            _second(record.decided_at),
            utc_text(record.nominal_time),
            record.schedule_id,
            verdict_text(str(record.verdict)),
            record.reason,
            record.source,
            record.run_id,
        )
    out.print(rows) if found else say("no decisions")


def _record_document(record: Record) -> dict[str, Any]:
    """Return a decision as JSON, without its key: that can be part of a payload."""
    return {
        "decidedAt": utc_text(record.decided_at),
        "nominalTime": utc_text(record.nominal_time),
        "scheduleId": record.schedule_id,
        "decision": str(record.verdict),
        "reason": record.reason,
        "source": record.source,
        "runId": record.run_id,
    }


def _second(instant: datetime | None) -> str:
    return "" if instant is None else utc_text(instant.replace(microsecond=0))

"""One schedule's audit: which window, what the ledger says, what is to be known about both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from purista.audit.evidence import is_manual, rows, slices
from purista.audit.finding import ScheduleAudit
from purista.audit.judge import Judge
from purista.contract import Schedule
from purista.ledgers import Contracts, History, KnownContract, Verdict
from purista.ledgers.book import RETENTION, before

LENGTH: Final = timedelta(days=1)
"""How long the window is where nobody says when it begins."""

MOST: Final = 10_000
"""How many findings of a schedule are listed; all are counted."""


async def audit(
    schedule: Schedule,
    ledger: History,
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
    length: timedelta = LENGTH,
    retention: timedelta = RETENTION,
    most: int = MOST,
) -> ScheduleAudit:
    """Compare a schedule's nominal times with the ledger.

    Without ``since`` the window is ``length`` long and begins no earlier than the ledger knows the
    schedule, or the first nominal time of which a scheduler told it; one that is given is taken as it
    is. It never goes beyond ``now``. ``retention`` is the
    ledger's. Whatever the ledger holds of the window is read, in pages. Raises ``LedgerError``.
    """
    known = await ledger.contract(schedule.id) if isinstance(ledger, Contracts) else None
    end = now if until is None else min(until, now)
    start = before(end, length) if since is None else min(since, end)
    if since is None and known is not None and start < known.known_since:
        start = await _first(schedule, ledger, start, min(known.known_since, end))
    remembered = before(now, max(retention, schedule.dedupe_window))
    judge = Judge(schedule, now=now, remembered=remembered, most=most)
    await _judge(judge, ledger, start, end, now)
    return ScheduleAudit(
        schedule_id=schedule.id,
        since=start,
        until=end,
        expected=judge.expected,
        on_time=judge.on_time,
        pending=judge.pending,
        lost=judge.lost,
        counts=dict(judge.counts),
        findings=tuple(judge.findings),
        left_off=judge.counts.total() - sum(one.count for one in judge.findings),
        still_taken=judge.still_taken(),
        notes=tuple(_notes(known, start, end, remembered)),
    )


async def _judge(
    judge: Judge, ledger: History, start: datetime, end: datetime, now: datetime
) -> None:
    """Judge the window; what lies behind it is read as long as it can matter."""
    async for each in slices(judge.schedule, ledger, start, end):
        judge.take(each)
    if judge.is_open:
        async for each in slices(judge.schedule, ledger, end, now):
            if judge.look_ahead(each):
                break
    judge.close()


async def _first(
    schedule: Schedule, ledger: History, start: datetime, known_since: datetime
) -> datetime:
    """Return the first nominal time since ``start`` of which a scheduler told, or ``known_since``.

    An ingress that begins with a trigger knows its schedule only from then on, which is later.
    """
    first = known_since
    async for record in rows(ledger.records, schedule.id, start, known_since):
        if record.verdict is not Verdict.UNEXPECTED and not is_manual(record):
            first = min(first, record.nominal_time)
    return first


def _notes(
    known: KnownContract | None, start: datetime, end: datetime, remembered: datetime
) -> Iterator[str]:
    if known is None:
        yield "the ledger does not know it; no ingress has run it, or this is another one's ledger"
    elif known.previous is not None and start < known.since < end:
        since = known.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        yield f"its contract changed at {since}; what was due before is judged by the new one"
    if start < remembered:
        since = remembered.isoformat(timespec="seconds").replace("+00:00", "Z")
        yield f"the ledger need not know what is older than {since}"

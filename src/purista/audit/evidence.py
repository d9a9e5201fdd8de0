"""What the ledger knows of a schedule's nominal times, read in pages, oldest first."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final, NamedTuple, Protocol, TypeVar

from purista.contract import Schedule
from purista.ingress.timing import INSTANT
from purista.ledgers import History, Record, Run, RunStatus, Verdict
from purista.ledgers.book import OVERLAP

MANUAL: Final = "/manual"
"""What the source of a person's trigger ends with, so that one that was in vain is known as such."""

TIMES: Final = 500
"""How many nominal times make a slice; bounds the memory."""

ROWS: Final = 2000
"""How many rows are read at once."""


@dataclass(slots=True)
class Evidence:
    """The decisions about one nominal time, and its runs.

    Of each sort the oldest is kept. ``by_hand`` is what a person ran; what a person tried in vain
    is no evidence of a trigger.
    """

    accepted: Record | None = None
    by_hand: Record | None = None
    skipped: Record | None = None
    rejected: Record | None = None
    duplicate: Record | None = None
    duplicates: int = 0
    unexpected: Record | None = None
    unexpected_count: int = 0
    runs: list[Run] = field(default_factory=list)

    def add(self, record: Record) -> None:
        """Take a record; they come newest first."""
        if is_manual(record):
            if record.verdict is Verdict.ACCEPTED:
                self.by_hand = record
            return
        match record.verdict:
            case Verdict.ACCEPTED:
                self.accepted = record
            case Verdict.DUPLICATE:
                self.duplicate, self.duplicates = record, self.duplicates + 1
            case Verdict.UNEXPECTED:
                self.unexpected, self.unexpected_count = record, self.unexpected_count + 1
            case Verdict.REJECTED:
                self.rejected = record
            case _:
                self.skipped = record

    @property
    def came_at(self) -> datetime | None:
        """When a trigger for it first came, or was first run by a person; None: neither happened."""
        found = self.accepted or self.skipped or self.duplicate or self.by_hand
        if found is None and self.runs:
            return min(run.claimed_at for run in self.runs)
        found = found or self.rejected
        return None if found is None else found.decided_at

    @property
    def has_run(self) -> bool:
        """Whether it was run, or its key was."""
        if self.skipped is not None and self.accepted is None:
            return self.by_hand is not None
        return bool(self.accepted or self.by_hand or self.duplicate or self.runs)

    @property
    def is_given_up(self) -> bool:
        """Whether its run was never dispatched, and overlapped when it was to be taken over."""
        return any(run.status is RunStatus.FAILED and run.outcome == OVERLAP for run in self.runs)

    @property
    def again(self) -> int:
        """How many triggers came once more."""
        is_arrival = self.accepted is None and self.skipped is None
        return self.duplicates - int(is_arrival and self.duplicates > 0)


class Slice(NamedTuple):
    """Some nominal times in a row, and the evidence from the first up to that of the next slice."""

    times: Sequence[datetime]
    evidence: Mapping[datetime, Evidence]


def is_manual(record: Record) -> bool:
    """Whether a decision was about a person's trigger."""
    return record.source.endswith(MANUAL) or "sent by a person" in record.reason


async def slices(
    schedule: Schedule, ledger: History, start: datetime, end: datetime
) -> AsyncIterator[Slice]:
    """Yield the window from ``start``, inclusive, to ``end``, exclusive. Raises ``LedgerError``."""
    expected = schedule.between(start, end - INSTANT) if schedule.enabled else iter(())
    while start < end:
        times = list(islice(expected, TIMES))
        last = times[-1] + INSTANT if len(times) == TIMES else end
        found: dict[datetime, Evidence] = {}
        async for record in rows(ledger.records, schedule.id, start, last):
            found.setdefault(record.nominal_time, Evidence()).add(record)
        async for run in rows(ledger.runs, schedule.id, start, last):
            found.setdefault(run.nominal_time, Evidence()).runs.append(run)
        yield Slice(times, found)
        start = last


T = TypeVar("T", covariant=True)


class _Read(Protocol[T]):
    def __call__(
        self, *, schedule_id: str, since: datetime, until: datetime, limit: int
    ) -> Awaitable[Sequence[T]]: ...


async def rows(
    read: _Read[T], schedule_id: str, start: datetime, end: datetime
) -> AsyncIterator[T]:
    """Yield all rows of a window; where one reading does not hold them, its halves are read."""
    limit = ROWS
    windows = [(start, end)]
    while windows:
        since, until = windows.pop()
        found = await read(schedule_id=schedule_id, since=since, until=until, limit=limit)
        if len(found) < limit:
            for row in found:
                yield row
        elif until - since <= INSTANT:
            limit *= 2
            windows.append((since, until))
        else:
            middle = since + (until - since) // 2
            windows += [(middle, until), (since, middle)]

"""The portability report: one contract on several schedulers, what holds and what differs.

A value; ``reportmarkdown``, ``reportpage`` and ``reportjson`` show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from purista import firetimes
from purista.clockchange import Timing
from purista.compiling import (
    Placed,
    Request,
    Scheduler,
    is_accepted,
    number_findings,
    place_one,
    timing_of,
)
from purista.contract import Schedule
from purista.copying import Copied, copied
from purista.cover import Line, first_deviation
from purista.dialect import Dialect
from purista.expression import Cron
from purista.portability import Capability, Finding, Note, Support, used_options, utc_text
from purista.turnover import Horizon, only_in


@dataclass(frozen=True, slots=True)
class Cell:
    """One schedule on one scheduler.

    ``support`` is the weakest of what its options get there: ``none`` where there is a finding.
    ``lines`` are the native lines as texts, ``copied`` says what a naive export would do.
    """

    scheduler: str
    support: Support
    lines: tuple[str, ...]
    findings: tuple[Finding, ...]
    accepted: tuple[Finding, ...]
    notes: tuple[Note, ...]
    copied: Copied | None
    options: Mapping[str, Capability]


@dataclass(frozen=True, slots=True)
class Row:
    """One schedule on every scheduler, in the report's order."""

    schedule: Schedule
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """Schedules on schedulers; ``titles`` are the schedulers' names for people, by name.

    ``limits`` are the findings about all schedules together that nobody has accepted, by scheduler.
    """

    titles: Mapping[str, str]
    rows: tuple[Row, ...]
    horizon: Horizon
    limits: Mapping[str, tuple[Finding, ...]]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every finding that nobody has accepted."""
        of_cells = (each for row in self.rows for cell in row.cells for each in cell.findings)
        return (*of_cells, *(each for found in self.limits.values() for each in found))


def report(
    schedules: Iterable[Schedule],
    schedulers: Sequence[Scheduler],
    requests: Mapping[str, Request],
    horizon: Horizon,
) -> Report:
    """Return how each schedule fares on each scheduler; ``requests`` are by a scheduler's name."""
    ordered = sorted(schedules, key=lambda schedule: schedule.id)
    columns = [[_cell(each, one, requests[each.name]) for one in ordered] for each in schedulers]
    cells = zip(*columns, strict=True) if columns else iter([()] * len(ordered))
    limits = {each.name: _limits(each, ordered, requests[each.name]) for each in schedulers}
    return Report(
        {each.name: each.title for each in schedulers},
        tuple(Row(one, tuple(its)) for one, its in zip(ordered, cells, strict=True)),
        horizon,
        {name: found for name, found in limits.items() if found},
    )


def notes(placed: Placed, dialect: Dialect, request: Request) -> Iterator[Note]:
    """Yield what is worth knowing about lines that hold: how many are dropped, until when exact."""
    schedule, cover = placed.schedule, placed.cover
    if not cover.lines:
        return
    if placed.sends_extra:
        yield _superset_note(placed, dialect, request.horizon)
    elif isinstance(schedule.expression, Cron) and len(cover.lines) == 1:
        line = cover.lines[0]
        if line.timezone != schedule.timezone:
            return
        until = first_deviation(timing_of(schedule), line, dialect, request.horizon.end)
        if until is not None:
            yield Note(
                code="exact-until",
                schedule_id=schedule.id,
                message=f"its native line is exact until the clock change of {utc_text(until.instant)}",
                until=until.instant,
            )


def fires(lines: Iterable[Line], dialect: Dialect, within: Horizon) -> Iterator[datetime]:
    """Yield when lines fire, one after the other, by what is known of the scheduler.

    Where clock changes are not known, a line is taken to fire as often as it might.
    """
    for line in lines:
        yield from _native(line, dialect).between(within.start, within.end)


_BY_SCHEDULERS: Final = (
    "expression=every",
    "expression=once",
    "start_at",
    "end_at",
    "jitter",
    "concurrency_policy",
    "missed_run_policy",
)
"""Options that some schedulers honour by themselves; what a cron expression gets, its lines say."""

_FOUR_YEARS: Final = timedelta(days=1461)
"""Dropped triggers are counted over so long, so that a leap year is among them."""


_MOST_MERGED: Final = 500_000
"""Of more triggers it is not looked at which coincide."""


def _cell(scheduler: Scheduler, schedule: Schedule, request: Request) -> Cell:
    placed, found = place_one(scheduler, schedule, request)
    options = {each: scheduler.capabilities[each] for each in used_options(schedule)}
    accepted = tuple(each for each in found if is_accepted(each, request.accepted))
    lines = placed.cover.lines if placed else ()
    return Cell(
        scheduler.name,
        _support(placed, found, options),
        tuple(f"{line.cron.canonical} {line.timezone}" for line in lines),
        tuple(each for each in found if each not in accepted),
        accepted,
        tuple(notes(placed, scheduler.dialect, request)) if placed else (),
        copied(schedule, scheduler.reading, scheduler.title, request.horizon),
        options,
    )


def _limits(
    scheduler: Scheduler, schedules: Iterable[Schedule], request: Request
) -> tuple[Finding, ...]:
    """Return what nobody has accepted of the findings about all schedules together."""
    if scheduler.most is None:
        return ()
    placed = [one for each in schedules if (one := place_one(scheduler, each, request)[0])]
    found = number_findings(scheduler, placed, request)
    return tuple(each for each in found if not is_accepted(each, request.accepted))


def _support(
    placed: Placed | None, found: Sequence[Finding], options: Mapping[str, Capability]
) -> Support:
    if placed is None or found:
        return Support.NONE
    if placed.sends_extra or any(_is_ingress(name, cell) for name, cell in options.items()):
        return Support.INGRESS
    return Support.NATIVE


def _is_ingress(option: str, cell: Capability) -> bool:
    """Whether the ingress makes an option exact that a scheduler could honour by itself."""
    return cell.support is Support.INGRESS and option.startswith(_BY_SCHEDULERS)


def _superset_note(placed: Placed, dialect: Dialect, horizon: Horizon) -> Note:
    schedule = placed.schedule
    end = min(horizon.end, horizon.start + _FOUR_YEARS)
    within = Horizon(horizon.start, end - timedelta(microseconds=1))
    sent = _count(placed.cover.lines, dialect, within)
    due = schedule.count_between(within.start, within.end)
    years = (end - horizon.start) / timedelta(days=365.25)
    dropped = max(sent - due, 0) / years
    reasons = [placed.cover.reason] if placed.cover.reason else []
    reasons += ["excluded days"] if schedule.exclude else []
    first = _first_dropped(placed, dialect, within)
    example = f", first at {utc_text(first)}" if first else ""
    return Note(
        code="superset",
        schedule_id=schedule.id,
        message=f"{_triggers(dropped)} sent only to be dropped{example}: {'; '.join(reasons)}",
        dropped_per_year=dropped,
    )


def _count(lines: Sequence[Line], dialect: Dialect, within: Horizon) -> int:
    """Return how many triggers lines send; those that coincide are one where an object has them all."""
    counts = [_count_of(_native(line, dialect), within) for line in lines]
    if dialect.many_lines and len(lines) > 1 and sum(counts) < _MOST_MERGED:
        return len(set(fires(lines, dialect, within)))
    return sum(counts)


def _count_of(native: Timing, within: Horizon) -> int:
    return firetimes.count_between(
        native.expression,
        native.timezone,
        within.start,
        within.end,
        dst_gap=native.dst_gap,
        dst_overlap=native.dst_overlap,
    )


def _first_dropped(placed: Placed, dialect: Dialect, within: Horizon) -> datetime | None:
    """Return the first trigger that is sent and not due."""
    found = (
        next(
            only_in(
                _native(line, dialect).between(within.start, within.end),
                placed.schedule.between(within.start, within.end),
            ),
            None,
        )
        for line in placed.cover.lines
    )
    return min((each for each in found if each is not None), default=None)


def _native(line: Line, dialect: Dialect) -> Timing:
    return Timing(
        line.cron, line.timezone, dialect.dst_gap or "skip", dialect.dst_overlap or "both"
    )


def _triggers(count: float) -> str:
    number = _number(count)
    return f"{number} trigger a year is" if number == "1" else f"{number} triggers a year are"


def _number(count: float) -> str:
    """Return a count a person can read: whole where it is large.

    >>> _number(365.2), _number(0.25)
    ('365', '0.25')
    """
    return f"{count:,.0f}" if count >= 10 else f"{count:.2f}".rstrip("0").rstrip(".")

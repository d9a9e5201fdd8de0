"""The nominal times of a whole schedule: those of its expression, within bounds, without exclusions.

The same five pure functions as in ``purista.firetimes``; ``Schedule`` has them as methods.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, TypedDict

from purista import firetimes
from purista.exclusion import first_excluded, last_excluded
from purista.zone import zone_of

if TYPE_CHECKING:
    from purista.contract import Schedule

_TICK = timedelta(microseconds=1)
_MARGIN = timedelta(days=2)
"""A local date begins and ends less than this from the same date's midnight in UTC."""


class _ClockChanges(TypedDict):
    dst_gap: str
    dst_overlap: str


def between(schedule: Schedule, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the nominal times from ``start`` to ``end``, both inclusive, as UTC, lazily."""
    first, last = _bounded(schedule, start, end)
    if schedule.exclude:
        return _kept(schedule, first, last)
    return firetimes.between(
        schedule.expression, schedule.timezone, first, last, **_rules(schedule)
    )


def next_after(schedule: Schedule, instant: datetime) -> datetime | None:
    """Return the first nominal time after ``instant``, or None when there is none."""
    if schedule.start_at and instant < schedule.start_at:
        found = between(schedule, schedule.start_at, schedule.end_at or firetimes.LATEST)
        return next(found, None)
    if schedule.exclude:
        later = instant + _TICK
        return next(between(schedule, later, schedule.end_at or firetimes.LATEST), None)
    at = firetimes.next_after(schedule.expression, schedule.timezone, instant, **_rules(schedule))
    return None if at and schedule.end_at and at > schedule.end_at else at


def previous_before(schedule: Schedule, instant: datetime) -> datetime | None:
    """Return the last nominal time before ``instant``, or None when there is none."""
    if schedule.end_at and instant > schedule.end_at:
        if contains(schedule, schedule.end_at):
            return schedule.end_at.astimezone(UTC)
        instant = schedule.end_at
    at = previous_slot(schedule, instant)
    return None if at and schedule.start_at and at < schedule.start_at else at


def previous_slot(schedule: Schedule, instant: datetime) -> datetime | None:
    """Return the nominal time that would come last before ``instant`` if there was no ``start_at``.

    For "last month": the first run of a schedule has a month before it as any other.
    """
    at = _unbounded_before(schedule, instant)
    while at is not None and (excluded := _first_of_row(schedule, at)) is not None:
        at = _unbounded_before(schedule, min(at, _midnight(excluded) + _MARGIN))
    return at


def contains(schedule: Schedule, instant: datetime) -> bool:
    """Whether ``instant`` is one of the nominal times."""
    if schedule.start_at and instant < schedule.start_at:
        return False
    if schedule.end_at and instant > schedule.end_at:
        return False
    known = firetimes.contains(schedule.expression, schedule.timezone, instant, **_rules(schedule))
    return known and _last_of_row(schedule, instant) is None


def count_between(schedule: Schedule, start: datetime, end: datetime) -> int:
    """Return how many nominal times lie from ``start`` to ``end``, both inclusive."""
    first, last = _bounded(schedule, start, end)
    if schedule.exclude:
        return sum(1 for _ in _kept(schedule, first, last))
    return firetimes.count_between(
        schedule.expression, schedule.timezone, first, last, **_rules(schedule)
    )


def _kept(schedule: Schedule, first: datetime, last: datetime) -> Iterator[datetime]:
    """Yield what is not excluded; a long row of excluded days is jumped over."""
    rules = _rules(schedule)
    resume: datetime | None = first
    while resume is not None:
        found = firetimes.between(schedule.expression, schedule.timezone, resume, last, **rules)
        resume = None
        for at in found:
            excluded = _last_of_row(schedule, at)
            if excluded is None:
                yield at
            elif _midnight(excluded) - at > 2 * _MARGIN:
                resume = _midnight(excluded) - _MARGIN
                break


def _unbounded_before(schedule: Schedule, instant: datetime) -> datetime | None:
    return firetimes.previous_before(
        schedule.expression, schedule.timezone, instant, **_rules(schedule)
    )


def _last_of_row(schedule: Schedule, at: datetime) -> date | None:
    return last_excluded(schedule.exclude, _local_date(schedule, at)) if schedule.exclude else None


def _first_of_row(schedule: Schedule, at: datetime) -> date | None:
    return first_excluded(schedule.exclude, _local_date(schedule, at)) if schedule.exclude else None


def _local_date(schedule: Schedule, at: datetime) -> date:
    return at.astimezone(zone_of(schedule.timezone)).date()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _bounded(schedule: Schedule, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    first = max(start, schedule.start_at) if schedule.start_at else start
    last = min(end, schedule.end_at) if schedule.end_at else end
    return first, last


def _rules(schedule: Schedule) -> _ClockChanges:
    return {"dst_gap": schedule.dst_gap, "dst_overlap": schedule.dst_overlap}

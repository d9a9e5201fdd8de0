"""Nominal times of an expression in a time zone: the reference for what a contract's time means.

Five pure functions. Instants go in as aware datetimes and come out in UTC. The rules - clock
changes above all - are in ``docs/time.md``. Beyond the years 1970 to 2200 nothing is found.

In each of them ``timezone`` is an IANA name or a ``ZoneInfo``; only a ``Cron`` needs it. ``dst_gap``
says what a fixed-time cron expression does at a local time that a clock change leaves out:
``skip`` it, fire at the ``next`` instant that exists, or ``shift`` it by the length of the gap.
``dst_overlap`` says which of two passes counts where a clock change repeats a local time: ``first``,
``last`` or ``both``. All raise ``ContractError`` for a naive instant, an unknown zone or word.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from purista.batches import Batch
from purista.crontimes import CronTimes
from purista.errors import ContractError, Problem
from purista.expression import EARLIEST, LATEST, Cron, Every, Expression, Once
from purista.zone import (
    Transition,
    offsets_of,
    transitions_between,
    zone_names,
    zone_of,
    zone_problems,
)

__all__ = [
    "DST_GAPS",
    "DST_OVERLAPS",
    "EARLIEST",
    "LATEST",
    "DstGap",
    "DstOverlap",
    "Transition",
    "between",
    "contains",
    "count_between",
    "next_after",
    "offset_at",
    "previous_before",
    "transitions",
    "zone_names",
    "zone_problems",
]

DstGap: TypeAlias = Literal["skip", "next", "shift"]
DstOverlap: TypeAlias = Literal["first", "last", "both"]

DST_GAPS: Final[tuple[str, ...]] = get_args(DstGap)
"""The words of ``dst_gap``; the first is the default."""

DST_OVERLAPS: Final[tuple[str, ...]] = get_args(DstOverlap)
"""The words of ``dst_overlap``; the first is the default."""


def between(
    expression: Expression,
    timezone: str | ZoneInfo,
    start: datetime,
    end: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> Iterator[datetime]:
    """Yield the nominal times from ``start`` to ``end``, both inclusive, ascending and lazily.

    >>> day = datetime(2027, 3, 28, tzinfo=UTC)
    >>> hours = between(Cron("0 2-4 * * *"), "Europe/Berlin", day, day + timedelta(days=1))
    >>> [str(hour) for hour in hours]
    ['2027-03-28 01:00:00+00:00', '2027-03-28 02:00:00+00:00', '2027-03-29 00:00:00+00:00']
    """
    found = _batches(expression, timezone, start, end, dst_gap, dst_overlap)
    return chain.from_iterable(map(base.__add__, distances) for base, distances in found)


def next_after(
    expression: Expression,
    timezone: str | ZoneInfo,
    instant: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> datetime | None:
    """Return the first nominal time after ``instant``, or None when there is none."""
    at = _utc("instant", instant)
    zone = _check(expression, timezone, dst_gap, dst_overlap)
    if isinstance(expression, Cron):
        times = _cron_times(expression, zone, dst_gap, dst_overlap)
        return times.first_from(at.replace(microsecond=0) + _SECOND)
    if isinstance(expression, Every):
        return _every_from(expression, max(at + _TICK, EARLIEST))
    return expression.at if at < expression.at else None


def previous_before(
    expression: Expression,
    timezone: str | ZoneInfo,
    instant: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> datetime | None:
    """Return the last nominal time before ``instant``, or None when there is none."""
    at = _utc("instant", instant)
    zone = _check(expression, timezone, dst_gap, dst_overlap)
    if isinstance(expression, Cron):
        times = _cron_times(expression, zone, dst_gap, dst_overlap)
        return times.last_to((at - _TICK).replace(microsecond=0))
    if isinstance(expression, Every):
        return _every_to(expression, min(at - _TICK, LATEST))
    return expression.at if expression.at < at else None


def contains(
    expression: Expression,
    timezone: str | ZoneInfo,
    instant: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> bool:
    """Whether ``instant`` is a nominal time, exactly."""
    at = _utc("instant", instant)
    if isinstance(expression, Every) and EARLIEST <= at <= LATEST:
        _check(expression, timezone, dst_gap, dst_overlap)
        return not (at - expression.anchor) % expression.interval
    before = at - _TICK
    found = next_after(expression, timezone, before, dst_gap=dst_gap, dst_overlap=dst_overlap)
    return found == at


def count_between(
    expression: Expression,
    timezone: str | ZoneInfo,
    start: datetime,
    end: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> int:
    """Return how many nominal times lie from ``start`` to ``end``, both inclusive."""
    if isinstance(expression, Every):
        _check(expression, timezone, dst_gap, dst_overlap)
        first, last = _window(start, end)
        at = _every_from(expression, first)
        return 0 if at is None or at > last else (last - at) // expression.interval + 1
    found = _batches(expression, timezone, start, end, dst_gap, dst_overlap)
    return sum(len(distances) for _, distances in found)


def transitions(timezone: str | ZoneInfo, start: datetime, end: datetime) -> Iterator[Transition]:
    """Yield the zone's changes of offset from ``start`` to ``end``, both inclusive, lazily."""
    first, last = _window(start, end)
    return transitions_between(zone_of(timezone), first, last)


def offset_at(timezone: str | ZoneInfo, instant: datetime) -> timedelta:
    """Return how far the zone is ahead of UTC at ``instant``."""
    return offsets_of(zone_of(timezone)).span(_utc("instant", instant)).offset


_EXPRESSIONS: Final = (Cron, Every, Once)
_ZERO: Final = timedelta(0)
_TICK: Final = timedelta(microseconds=1)
_SECOND: Final = timedelta(seconds=1)
_BATCH_LENGTH: Final = 1024
_BEFORE: Final = EARLIEST - timedelta(days=9)
_AFTER: Final = LATEST + timedelta(days=9)


def _batches(
    expression: Expression,
    timezone: str | ZoneInfo,
    start: datetime,
    end: datetime,
    dst_gap: str,
    dst_overlap: str,
) -> Iterator[Batch]:
    first, last = _window(start, end)
    zone = _check(expression, timezone, dst_gap, dst_overlap)
    if isinstance(expression, Cron):
        times = _cron_times(expression, zone, dst_gap, dst_overlap)
        return times.batches(_whole_from(first), last.replace(microsecond=0))
    if isinstance(expression, Every):
        return _every_batches(expression, first, last)
    return iter([(expression.at, (_ZERO,))] if first <= expression.at <= last else [])


def _cron_times(cron: Cron, zone: ZoneInfo, dst_gap: str, dst_overlap: str) -> CronTimes:
    if cron.is_fixed_time:
        return CronTimes(cron, offsets_of(zone), dst_gap, dst_overlap)
    return CronTimes(cron, offsets_of(zone), "skip", "both")


def _whole_from(instant: datetime) -> datetime:
    whole = instant.replace(microsecond=0)
    return whole if whole == instant else whole + _SECOND


def _every_from(every: Every, first: datetime) -> datetime | None:
    ahead = (every.anchor - first) % every.interval
    return first + ahead if ahead <= LATEST - first else None


def _every_to(every: Every, last: datetime) -> datetime | None:
    back = (last - every.anchor) % every.interval
    return last - back if back <= last - EARLIEST else None


def _every_batches(every: Every, first: datetime, last: datetime) -> Iterator[Batch]:
    at = _every_from(every, first)
    while at is not None and at <= last:
        count = min((last - at) // every.interval + 1, _BATCH_LENGTH)
        yield at, tuple([every.interval * step for step in range(count)])
        at = _every_from(every, at + every.interval * (count - 1) + _TICK)


def _window(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    return max(_utc("start", start), EARLIEST), min(_utc("end", end), LATEST)


def _utc(place: str, instant: object) -> datetime:
    """Return an instant in UTC; one out of bounds becomes another out of bounds."""
    if not isinstance(instant, datetime):
        found = f"{type(instant).__name__} is no instant"
        raise ContractError([Problem(place, found, "use an aware datetime")])
    if instant.tzinfo is UTC and _BEFORE <= instant <= _AFTER:
        return instant
    offset = instant.utcoffset()
    if offset is None:
        remedy = "give it a zone, such as tzinfo=datetime.UTC"
        raise ContractError([Problem(place, f"{instant} is naive", remedy)])
    if instant.year < _BEFORE.year:
        return _BEFORE
    return instant.astimezone(UTC) if instant.year <= _AFTER.year else _AFTER


def _check(
    expression: object, timezone: str | ZoneInfo, dst_gap: object, dst_overlap: object
) -> ZoneInfo:
    problems = []
    if not isinstance(expression, _EXPRESSIONS):
        found = f"{type(expression).__name__} is no expression"
        remedy = "use Cron('0 2 1 * *'), Every(timedelta(...)) or Once(datetime(...))"
        problems.append(Problem("expression", found, remedy))
    if dst_gap not in DST_GAPS:
        problems.append(Problem("dst_gap", f"unknown word {dst_gap!r}", _one_of(DST_GAPS)))
    if dst_overlap not in DST_OVERLAPS:
        found = f"unknown word {dst_overlap!r}"
        problems.append(Problem("dst_overlap", found, _one_of(DST_OVERLAPS)))
    if not problems:
        return zone_of(timezone)
    raise ContractError([*problems, *([] if _is_zone(timezone) else zone_problems(timezone))])


def _is_zone(timezone: object) -> bool:
    return isinstance(timezone, ZoneInfo)


def _one_of(words: tuple[str, ...]) -> str:
    return f"use one of: {', '.join(words)}"

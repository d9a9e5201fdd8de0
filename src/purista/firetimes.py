"""Nominal times of an expression in a time zone: the reference for what a contract's time means.

Five pure functions. Instants go in as aware datetimes and come out in UTC. The rules - clock
changes above all - are in ``docs/time.md``. Beyond the years 1970 to 2200 nothing is found.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

from purista.errors import ContractError, Problem
from purista.expression import EARLIEST, EPOCH, LATEST, Cron, Every, Expression, Once
from purista.zone import Transition, transitions, zone_names, zone_of, zone_problems

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
    "previous_before",
    "transitions",
    "zone_names",
    "zone_of",
    "zone_problems",
]

DstGap: TypeAlias = Literal["skip", "next", "shift"]
DstOverlap: TypeAlias = Literal["first", "last", "both"]

DST_GAPS: Final = ("skip", "next", "shift")
"""What a fixed time does that falls into a gap."""

DST_OVERLAPS: Final = ("first", "last", "both")
"""What a fixed time does that an overlap repeats."""


def between(
    expression: Expression,
    timezone: str | ZoneInfo,
    start: datetime,
    end: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> Iterator[datetime]:
    """Yield the nominal times from ``start`` to ``end``, both inclusive, in UTC, lazily."""
    zone = zone_of(timezone)
    first, last = max(_utc("start", start), EARLIEST), min(_utc("end", end), LATEST)
    _check_words(dst_gap, dst_overlap)
    match expression:
        case Once(at=at):
            return iter([at] if first <= at <= last else [])
        case Every():
            return _every(expression, first, last)
        case Cron():
            return _cron(expression, zone, first, last, dst_gap, dst_overlap)


def next_after(
    expression: Expression,
    timezone: str | ZoneInfo,
    instant: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> datetime | None:
    """Return the first nominal time after ``instant``, or None when there is none."""
    after = max(_utc("instant", instant), EARLIEST - _TICK)
    if after >= LATEST:
        return None
    found = between(
        expression, timezone, after + _TICK, LATEST, dst_gap=dst_gap, dst_overlap=dst_overlap
    )
    return next(found, None)


def previous_before(
    expression: Expression,
    timezone: str | ZoneInfo,
    instant: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> datetime | None:
    """Return the last nominal time before ``instant``, or None when there is none."""
    end = min(_utc("instant", instant) - _TICK, LATEST)
    days = 2
    while end >= EARLIEST:
        start = max(end - timedelta(days=days), EARLIEST)
        found = None
        for found in between(  # noqa: B007
            expression, timezone, start, end, dst_gap=dst_gap, dst_overlap=dst_overlap
        ):
            pass
        if found is not None or start == EARLIEST:
            return found
        end, days = start - _TICK, days * 4
    return None


def contains(
    expression: Expression,
    timezone: str | ZoneInfo,
    instant: datetime,
    *,
    dst_gap: str = "skip",
    dst_overlap: str = "first",
) -> bool:
    """Whether ``instant`` is a nominal time."""
    found = between(
        expression, timezone, instant, instant, dst_gap=dst_gap, dst_overlap=dst_overlap
    )
    return next(found, None) is not None


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
    found = between(expression, timezone, start, end, dst_gap=dst_gap, dst_overlap=dst_overlap)
    return sum(1 for _ in found)


_TICK: Final = timedelta(microseconds=1)
_DAY: Final = timedelta(days=1)


def _utc(place: str, instant: object) -> datetime:
    if not isinstance(instant, datetime):
        found = f"{type(instant).__name__} is no instant"
        raise ContractError([Problem(place, found, "use an aware datetime")])
    if instant.utcoffset() is None:
        remedy = "give it a zone, such as tzinfo=datetime.UTC"
        raise ContractError([Problem(place, f"{instant} is naive", remedy)])
    if instant - EPOCH < EARLIEST - EPOCH - _DAY:
        return EARLIEST - _DAY
    return min(instant, LATEST + _DAY).astimezone(UTC)


def _check_words(dst_gap: object, dst_overlap: object) -> None:
    problems = []
    if dst_gap not in DST_GAPS:
        problems.append(Problem("dst_gap", f"unknown word {dst_gap!r}", "use skip, next or shift"))
    if dst_overlap not in DST_OVERLAPS:
        problems.append(
            Problem("dst_overlap", f"unknown word {dst_overlap!r}", "use first, last or both")
        )
    if problems:
        raise ContractError(problems)


def _every(every: Every, first: datetime, last: datetime) -> Iterator[datetime]:
    at = first + (every.anchor - first) % every.interval
    while at <= last:
        yield at
        at += every.interval


def _cron(
    cron: Cron, zone: ZoneInfo, first: datetime, last: datetime, dst_gap: str, dst_overlap: str
) -> Iterator[datetime]:
    pending: list[datetime] = []
    given: datetime | None = None
    day, end = (first - 3 * _DAY).date(), (last + 3 * _DAY).date()
    while day <= end:
        for local in _local_times(cron, day):
            for instant in _instants(cron, zone, local, dst_gap, dst_overlap):
                heapq.heappush(pending, instant)
        day += _DAY
        safe = min(datetime.combine(day, time(), UTC) - 2 * _DAY, last)
        while pending and (pending[0] <= safe or day > end):
            instant = heapq.heappop(pending)
            if first <= instant <= last and instant != given:
                given = instant
                yield instant


def _local_times(cron: Cron, day: date) -> Iterator[datetime]:
    month_start = day.replace(day=1)
    length = ((month_start + 31 * _DAY).replace(day=1) - month_start).days
    days = cron.days(length, month_start.isoweekday() % 7)
    if cron.month.mask >> day.month & 1 and days >> day.day & 1:
        for hour in cron.hour.values:
            for minute in cron.minute.values:
                for second in cron.second.values:
                    yield datetime.combine(day, time(hour, minute, second))


def _instants(
    cron: Cron, zone: ZoneInfo, local: datetime, dst_gap: str, dst_overlap: str
) -> list[datetime]:
    early = local.replace(tzinfo=zone).astimezone(UTC)
    late = local.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if early == late:
        return [early]
    if early < late:
        if not cron.is_fixed_time or dst_overlap == "both":
            return [early, late]
        return [early if dst_overlap == "first" else late]
    if not cron.is_fixed_time or dst_gap == "skip":
        return []
    if dst_gap == "shift":
        return [early]
    return [change.instant for change in transitions(zone, late, early)]

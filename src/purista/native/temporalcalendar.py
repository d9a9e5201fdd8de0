"""Temporal's structured calendars: the dates and times of a line, of one instant, of excluded days.

A field of a calendar that is not said would match nothing, so all six are; a day and a weekday must both
match. What no calendar says is said by several: by the lengths of the months, and by leap years.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

from purista.contract import Schedule
from purista.cover import Line
from purista.exclusion import excluded_rows
from purista.expression import Cron

FIRST_YEAR, LAST_YEAR = 2000, 2100
"""The years that a calendar knows (``minCalendarYear``, ``calendar.go``, temporalio/temporal)."""


def once_calendar(at: datetime) -> dict[str, Any]:
    """Return the calendar of one instant, in UTC."""
    values = {"second": at.second, "minute": at.minute, "hour": at.hour}
    values |= {"dayOfMonth": at.day, "month": at.month, "year": at.year}
    return {name: [{"start": value}] for name, value in values.items()} | {"dayOfWeek": _WEEK}


class _Dates(NamedTuple):
    """Dates that one calendar says; no ``years`` are all of them."""

    days: Sequence[int]
    months: Sequence[int]
    weekdays: Sequence[int]
    years: Years = ()


class _Shape(NamedTuple):
    """The days of some months: for each day the weekdays on which it counts, as a mask."""

    table: tuple[int, ...]
    months: list[int]
    years: Years


def line_calendars(line: Line) -> Iterator[dict[str, Any]]:
    """Yield the calendars that say a line. A field that is not said would match nothing."""
    cron, text = line.cron, line.cron.canonical
    for dates in _dates(cron):
        calendar: dict[str, Any] = {
            "second": _ranges(cron.second.values),
            "minute": _ranges(cron.minute.values),
            "hour": _ranges(cron.hour.values),
            "dayOfMonth": _ranges(dates.days),
            "month": _ranges(dates.months),
            "dayOfWeek": _ranges(dates.weekdays),
        }
        if dates.years:
            calendar["year"] = [dict(each) for each in dates.years]
        yield calendar | ({"comment": text} if len(text) <= _LONGEST_COMMENT else {})


Years: TypeAlias = Sequence[Mapping[str, int]]
_LONGEST_COMMENT: Final = 200
_WEEK: Final = [{"start": 0, "end": 6}]
_LEAP: Final = ({"start": 2000, "end": 2096, "step": 4},)
_COMMON: Final = (
    *({"start": 2000 + each, "end": 2096 + each, "step": 4} for each in (1, 2, 3)),
    {"start": 2100},
)


@lru_cache(maxsize=4096)
def _dates(cron: Cron) -> tuple[_Dates, ...]:
    """Return the dates of an expression, whatever words say them: exactly, up to the year 2100.

    Months of one length have the same dates for the same weekday of their first day. A shorter month
    joins a longer one where it differs in nothing but its length.
    """
    shapes: list[_Shape] = []
    for length, among, years in _lengths(cron):
        table = _table(cron, length)
        months = [month for month in among if cron.month.mask >> month & 1]
        like = (each for each in shapes if each.table[:length] == table and not years)
        joined = next(like, None)
        if joined is not None:
            joined.months.extend(months)
        elif months:
            shapes.append(_Shape(table, months, years))
    return tuple(each for shape in shapes for each in _dates_of(shape))


def _lengths(cron: Cron) -> Iterator[tuple[int, Sequence[int], Years]]:
    """Yield the lengths of months, the longest first, the months, and the years for which it holds."""
    yield 31, (1, 3, 5, 7, 8, 10, 12), ()
    yield 30, (4, 6, 9, 11), ()
    if _table(cron, 29)[:28] == _table(cron, 28):
        yield 29, (2,), ()
    else:
        yield 29, (2,), _LEAP
        yield 28, (2,), _COMMON


def _table(cron: Cron, length: int) -> tuple[int, ...]:
    """Return for each day of a month on which weekdays, as a mask, it is one of the expression's."""
    table = [0] * length
    for first in range(7):
        mask = cron.days(length, first)
        for day in range(length):
            table[day] |= (mask >> day + 1 & 1) << (first + day) % 7
    return tuple(table)


def _dates_of(shape: _Shape) -> Iterator[_Dates]:
    by_weekdays: dict[int, list[int]] = defaultdict(list)
    for day, mask in enumerate(shape.table, 1):
        if mask:
            by_weekdays[mask].append(day)
    for mask, days in by_weekdays.items():
        weekdays = [each for each in range(7) if mask >> each & 1]
        yield _Dates(days, sorted(shape.months), weekdays, shape.years)


def _ranges(values: Sequence[int]) -> list[dict[str, int]]:
    """Return ascending values as ranges: one with a step where they are evenly spaced."""
    steps = {after - before for before, after in pairwise(values)}
    if len(values) > 2 and len(steps) == 1:
        found, step = {"start": values[0], "end": values[-1]}, steps.pop()
        return [found if step == 1 else found | {"step": step}]
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][-1] == value - 1:
            runs[-1][1:] = [value]
        else:
            runs.append([value])
    return [{"start": run[0], "end": run[1]} if run[1:] else {"start": run[0]} for run in runs]


def excluded_calendars(schedule: Schedule) -> Iterator[dict[str, Any]]:
    """Yield calendars of whole days: one for the excluded days of each month."""
    by_month: dict[tuple[int, int], list[int]] = defaultdict(list)
    for first, last in excluded_rows(schedule.exclude):
        for day in _each_day(first, last):
            by_month[day.year, day.month].append(day.day)
    for (year, month), days in sorted(by_month.items()):
        yield {
            "second": [{"start": 0, "end": 59}],
            "minute": [{"start": 0, "end": 59}],
            "hour": [{"start": 0, "end": 23}],
            "dayOfMonth": _ranges(days),
            "month": [{"start": month}],
            "dayOfWeek": _WEEK,
            "year": [{"start": year}],
        }


def _each_day(first: date, last: date) -> Iterable[date]:
    """Yield the days from ``first`` to ``last`` that a calendar knows."""
    least = max(first, date(FIRST_YEAR, 1, 1)).toordinal()
    most = min(last, date(LAST_YEAR, 12, 31)).toordinal()
    return (date.fromordinal(day) for day in range(least, most + 1))

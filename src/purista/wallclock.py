"""Where a cron expression matches on a wall clock that never changes its offset.

Wall times are datetimes labelled UTC, though no zone is meant: the zone, and what its clock changes
do, is ``crontimes``'. Jumps from match to match with bit masks; never walks over days or minutes.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import isleap
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from purista.expression import Cron

Run: TypeAlias = tuple[datetime, tuple[timedelta, ...]]
"""Many times at once: a base, and ascending distances from it."""

LAST_YEAR = 2201
"""In the east the year 2201 begins before 2200 has ended in UTC."""

FIRST_YEAR = 1969
"""In the west the year 1969 ends after 1970 has begun in UTC."""


def first_match(cron: Cron, wall: datetime) -> datetime | None:
    """Return the first match at or after a wall time of whole seconds, None when none comes."""
    year, month, day = wall.year, wall.month, wall.day
    if _days(cron, year, month) >> day & 1:
        time = _time_from(cron, wall.hour, wall.minute, wall.second)
        if time:
            return datetime(year, month, day, *time, tzinfo=UTC)
    found = _day_after(cron, year, month, day)
    if found is None:
        return None
    return datetime(
        *found, cron.hour.values[0], cron.minute.values[0], cron.second.values[0], tzinfo=UTC
    )


def last_match(cron: Cron, wall: datetime) -> datetime | None:
    """Return the last match at or before a wall time of whole seconds, None when there is none."""
    year, month, day = wall.year, wall.month, wall.day
    if _days(cron, year, month) >> day & 1:
        time = _time_to(cron, wall.hour, wall.minute, wall.second)
        if time:
            return datetime(year, month, day, *time, tzinfo=UTC)
    found = _day_before(cron, year, month, day)
    if found is None:
        return None
    return datetime(
        *found, cron.hour.values[-1], cron.minute.values[-1], cron.second.values[-1], tzinfo=UTC
    )


def cut(run: Run, start: datetime, end: datetime) -> Iterable[Run]:
    """Return what of a run lies from ``start`` to before ``end``: one run, or none."""
    base, distances = run
    first, last = 0, len(distances)
    if base + distances[0] < start:
        first = bisect_left(distances, start - base)
    if base + distances[-1] >= end:
        last = bisect_left(distances, end - base)
    if first >= last:
        return ()
    return (run if last - first == len(distances) else (base, distances[first:last]),)


class Runs:
    """The matches of one expression in bulk. Keeps what one year's dates have in common with others'."""

    __slots__ = ("_count", "_cron", "_years")

    def __init__(self, cron: Cron, length: timedelta) -> None:
        self._cron = cron
        self._count = _count_in_year(cron) if length > _LONG else _MANY_IN_YEAR
        self._years: dict[tuple[int, bool], tuple[timedelta, ...]] = {}

    @property
    def are_rare(self) -> bool:
        """Whether there are about as many in a year as there are months."""
        return self._count <= _FEW_IN_YEAR

    def between(self, start: datetime, end: datetime) -> Iterator[Run]:
        """Yield the matches from ``start`` to before ``end``, ascending, as runs that are not empty.

        A run is an hour to a year long, so that it holds neither one match nor thousands.
        """
        for run in self._whole_runs(start, end):
            if run[0] >= end:  # no base is after its first match
                return
            yield from cut(run, start, end)

    def _whole_runs(self, start: datetime, end: datetime) -> Iterator[Run]:
        if self._count <= _ONE_IN_YEAR:
            return self._single_runs(start)
        if self._count < _MANY_IN_YEAR:
            return self._year_runs(start.year, end.year)
        count = _count_in_day(self._cron)
        if count <= _FEW_IN_DAY:
            return self._month_runs(start, end)
        return self._day_runs(start, end) if count <= _MANY_IN_DAY else self._hour_runs(start, end)

    def _single_runs(self, start: datetime) -> Iterator[Run]:
        match = first_match(self._cron, start)
        while match is not None:
            yield match, _MIDNIGHT
            match = first_match(self._cron, match + _SECOND)

    def _year_runs(self, first: int, last: int) -> Iterator[Run]:
        for year in range(first, last + 1):
            kind = date(year, 1, 1).toordinal() % 7, isleap(year)
            distances = self._years.get(kind)
            if distances is None:
                distances = self._years[kind] = self._in_year(year)
            if distances:
                yield datetime(year, 1, 1, tzinfo=UTC), distances

    def _in_year(self, year: int) -> tuple[timedelta, ...]:
        start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, tzinfo=UTC)
        months = self._month_runs(start, end)
        return tuple([base - start + distance for base, found in months for distance in found])

    def _month_runs(self, start: datetime, end: datetime) -> Iterator[Run]:
        cron = self._cron
        times = _times(cron.hour.mask, cron.minute.mask, cron.second.mask)
        for base, days in _months(cron, start, end):
            yield base, _spread(days, times)

    def _day_runs(self, start: datetime, end: datetime) -> Iterator[Run]:
        cron = self._cron
        times = _times(cron.hour.mask, cron.minute.mask, cron.second.mask)
        for base, days in _months(cron, start, end):
            for distance in _spread(days, _MIDNIGHT):
                yield base + distance, times

    def _hour_runs(self, start: datetime, end: datetime) -> Iterator[Run]:
        cron = self._cron
        hours = _times(cron.hour.mask, 1, 1)
        times = _times(1, cron.minute.mask, cron.second.mask)
        for base, days in _months(cron, start, end):
            for distance in _spread(days, hours):
                yield base + distance, times


def _months(cron: Cron, start: datetime, end: datetime) -> Iterator[tuple[datetime, int]]:
    """Yield each month with matching days from ``start`` to ``end``: its beginning and its days."""
    year, month, days = start.year, start.month, _days(cron, start.year, start.month)
    days &= -1 << start.day
    last = end.year, end.month
    while True:
        if days:
            yield datetime(year, month, 1, tzinfo=UTC), days
        year, month = _month_after(cron, year, month)
        if (year, month) > last:
            return
        days = _days(cron, year, month)


@lru_cache(maxsize=512)
def _spread(days: int, times: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    """Return the distances from the beginning of the month of ``times`` on each of ``days``."""
    matching = [timedelta(days=day - 1) for day in range(1, 32) if days >> day & 1]
    return tuple([day + time for day in matching for time in times])


@lru_cache(maxsize=64)
def _times(hours: int, minutes: int, seconds: int) -> tuple[timedelta, ...]:
    """Return the distances from midnight of each time of day in the masks."""
    return tuple(
        [
            timedelta(hours=hour, minutes=minute, seconds=second)
            for hour in _bits(hours)
            for minute in _bits(minutes)
            for second in _bits(seconds)
        ]
    )


_SECOND = timedelta(seconds=1)
_LONG = timedelta(days=400)
_ONE_IN_YEAR = 2
_FEW_IN_YEAR = 16
_MANY_IN_YEAR = 100
_FEW_IN_DAY = 4
_MANY_IN_DAY = 1440
_MIDNIGHT = (timedelta(0),)
_MONTH_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _count_in_day(cron: Cron) -> int:
    return len(cron.hour.values) * len(cron.minute.values) * len(cron.second.values)


def _count_in_year(cron: Cron) -> int:
    """Return about how many matches a year has, or a few more."""
    return cron.days(31, 0).bit_count() * len(cron.month.values) * _count_in_day(cron)


def _days(cron: Cron, year: int, month: int) -> int:
    """Return the mask of the matching days of one month."""
    if not cron.month.mask >> month & 1:
        return 0
    length = _MONTH_LENGTHS[month]
    if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        length = 29
    if cron.steady_days:
        return cron.steady_days & (2 << length) - 1
    # Day 1 of the proleptic calendar is a Monday, so that Sundays are the multiples of seven.
    return cron.days(length, date(year, month, 1).toordinal() % 7)


def _day_after(cron: Cron, year: int, month: int, day: int) -> tuple[int, int, int] | None:
    days = _days(cron, year, month) & -2 << day
    while not days:
        year, month = _month_after(cron, year, month)
        if year > LAST_YEAR:
            return None
        days = _days(cron, year, month)
    return year, month, _lowest(days)


def _day_before(cron: Cron, year: int, month: int, day: int) -> tuple[int, int, int] | None:
    days = _days(cron, year, month) & (1 << day) - 1
    while not days:
        year, month = _month_before(cron, year, month)
        if year < FIRST_YEAR:
            return None
        days = _days(cron, year, month)
    return year, month, _highest(days)


def _month_after(cron: Cron, year: int, month: int) -> tuple[int, int]:
    later = cron.month.mask & -2 << month
    return (year, _lowest(later)) if later else (year + 1, cron.month.values[0])


def _month_before(cron: Cron, year: int, month: int) -> tuple[int, int]:
    earlier = cron.month.mask & (1 << month) - 1
    return (year, _highest(earlier)) if earlier else (year - 1, cron.month.values[-1])


def _time_from(cron: Cron, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
    if cron.hour.mask >> hour & 1:
        if cron.minute.mask >> minute & 1:
            seconds = cron.second.mask & -1 << second
            if seconds:
                return hour, minute, _lowest(seconds)
        minutes = cron.minute.mask & -2 << minute
        if minutes:
            return hour, _lowest(minutes), cron.second.values[0]
    hours = cron.hour.mask & -2 << hour
    return (_lowest(hours), cron.minute.values[0], cron.second.values[0]) if hours else None


def _time_to(cron: Cron, hour: int, minute: int, second: int) -> tuple[int, int, int] | None:
    if cron.hour.mask >> hour & 1:
        if cron.minute.mask >> minute & 1:
            seconds = cron.second.mask & (2 << second) - 1
            if seconds:
                return hour, minute, _highest(seconds)
        minutes = cron.minute.mask & (1 << minute) - 1
        if minutes:
            return hour, _highest(minutes), cron.second.values[-1]
    hours = cron.hour.mask & (1 << hour) - 1
    return (_highest(hours), cron.minute.values[-1], cron.second.values[-1]) if hours else None


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def _highest(mask: int) -> int:
    return mask.bit_length() - 1


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]

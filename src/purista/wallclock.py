"""Where a cron expression matches on a wall clock that never changes its offset.

Wall times are datetimes labelled UTC, though no zone is meant: the zone, and what its clock changes
do, is ``crontimes``'. Jumps from match to match with bit masks; never walks over days or minutes.
"""

from __future__ import annotations

from datetime import UTC, date, datetime

from purista.expression import Cron

LAST_YEAR = 2201
"""In the east the year 2201 begins before 2200 has ended in UTC."""

FIRST_YEAR = 1969
"""In the west the year 1969 ends after 1970 has begun in UTC."""


def first_match(cron: Cron, wall: datetime) -> datetime | None:
    """Return the first match at or after a wall time of whole seconds, None when none comes."""
    year, month, day = wall.year, wall.month, wall.day
    days = _days(cron, year, month) & -1 << day
    if days >> day & 1:
        time = _time_from(cron, wall.hour, wall.minute, wall.second)
        if time:
            return datetime(year, month, day, *time, tzinfo=UTC)
        days &= -2 << day
    while not days:
        year, month = _month_after(cron, year, month)
        if year > LAST_YEAR:
            return None
        days = _days(cron, year, month)
    hour, minute, second = cron.hour.values[0], cron.minute.values[0], cron.second.values[0]
    return datetime(year, month, _lowest(days), hour, minute, second, tzinfo=UTC)


def last_match(cron: Cron, wall: datetime) -> datetime | None:
    """Return the last match at or before a wall time of whole seconds, None when there is none."""
    year, month, day = wall.year, wall.month, wall.day
    days = _days(cron, year, month) & (2 << day) - 1
    if days >> day & 1:
        time = _time_to(cron, wall.hour, wall.minute, wall.second)
        if time:
            return datetime(year, month, day, *time, tzinfo=UTC)
        days &= (1 << day) - 1
    while not days:
        year, month = _month_before(cron, year, month)
        if year < FIRST_YEAR:
            return None
        days = _days(cron, year, month)
    hour, minute, second = cron.hour.values[-1], cron.minute.values[-1], cron.second.values[-1]
    return datetime(year, month, _highest(days), hour, minute, second, tzinfo=UTC)


def month_kind(year: int, month: int) -> tuple[int, int]:
    """Return the length of a month and the weekday of its first day; 0 is Sunday."""
    # Day 1 of the proleptic calendar is a Monday, so that Sundays are the multiples of seven.
    return _length(year, month), date(year, month, 1).toordinal() % 7


_MONTH_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _days(cron: Cron, year: int, month: int) -> int:
    """Return the mask of the matching days of one month."""
    if not cron.month.mask >> month & 1:
        return 0
    if cron.steady_days:
        return cron.steady_days & (2 << _length(year, month)) - 1
    return cron.days(*month_kind(year, month))


def _length(year: int, month: int) -> int:
    if month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0):
        return 29
    return _MONTH_LENGTHS[month]


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

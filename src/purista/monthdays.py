"""Which days of one month the day fields of a cron text name.

A month is its length and the weekday of its first day (0 is Sunday); its days are a mask in which bit
``d`` is day ``d``.
"""

from __future__ import annotations

from purista.cronfield import LAST, DayOfMonth, DayOfWeek


def all_days(length: int) -> int:
    """Return the mask of every day of a month of ``length`` days: bit ``d`` is day ``d``."""
    return (2 << length) - 2


def month_days(days: DayOfMonth, length: int, first_weekday: int) -> int:
    """Return the mask of the days that a day-of-month field names in one month.

    A day that the month does not have is none, and so is the weekday nearest to it; the weekday
    nearest to a day never lies in another month.
    """
    mask = days.mask & all_days(length)
    for offset in days.from_end:
        mask |= 1 << (length - offset) if offset < length else 0
    for day in days.near_weekday:
        mask |= 1 << _near_weekday(day, length, first_weekday) if day <= length else 0
    if days.last_weekday:
        mask |= 1 << _near_weekday(length, length, first_weekday)
    return mask


def week_days(days: DayOfWeek, length: int, first_weekday: int) -> int:
    """Return the mask of the days that a day-of-week field names in one month."""
    # Turn the week so that its first bit is the month's first weekday, and repeat it five times.
    week = (days.mask >> first_weekday | days.mask << 7 - first_weekday) & 0b1111111
    mask = week * _EVERY_SEVENTH
    for weekday, nth in days.nth:
        all_of_them = _EVERY_SEVENTH << (weekday - first_weekday) % 7 & all_days(length)
        first = (weekday - first_weekday) % 7 + 1
        day = all_of_them.bit_length() - 1 if nth == LAST else first + 7 * (nth - 1)
        mask |= 1 << day
    return mask & all_days(length)


_SUNDAY, _SATURDAY = 0, 6
_EVERY_SEVENTH = sum(1 << day for day in (1, 8, 15, 22, 29))


def _near_weekday(day: int, length: int, first_weekday: int) -> int:
    weekday = (first_weekday + day - 1) % 7
    if weekday == _SATURDAY:
        return day - 1 if day > 1 else day + 2
    if weekday == _SUNDAY:
        return day + 1 if day < length else day - 2
    return day

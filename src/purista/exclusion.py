"""Days on which a schedule is not due: single dates, ranges of dates, holiday calendars.

A nominal time is left out when its date on the wall clock of the schedule's zone is excluded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeAlias

from purista.errors import ContractError, Problem

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class DateRange:
    """Every day from ``first`` to ``last``, both included. Raises ``ContractError``."""

    first: date
    last: date

    def __post_init__(self) -> None:
        problems = [*_date_problems("first", self.first), *_date_problems("last", self.last)]
        if not problems and self.last < self.first:
            problems = [Problem("last", f"{self.last} is before {self.first}", "swap the two")]
        if problems:
            raise ContractError(each.within("date range") for each in problems)

    @property
    def ranges(self) -> tuple[DateRange, ...]:
        """The days as ranges."""
        return (self,)


@dataclass(frozen=True, slots=True)
class HolidayCalendar:
    """The holidays of a calendar, pinned as ``dates``; it knows nothing outside ``first`` to ``last``.

    Pinned, so that a newer version of a library, or a machine without it, does not move a run.
    """

    name: str
    first: date
    last: date
    dates: tuple[date, ...]

    @property
    def ranges(self) -> tuple[DateRange, ...]:
        """The days as ranges."""
        return tuple(DateRange(day, day) for day in self.dates)


Exclusion: TypeAlias = DateRange | HolidayCalendar


def exclusions(given: Any) -> tuple[tuple[Exclusion, ...], list[Problem]]:
    """Return the normal form of what an author gave, and what is wrong with it.

    Taken are a ``date``, a ``DateRange``, a calendar of the ``holidays`` library that names its years
    (``holidays.country_holidays("DE", years=range(2027, 2030))``), or an iterable of those.
    """
    found: set[Exclusion] = set()
    problems: list[Problem] = []
    several = isinstance(given, Iterable) and not isinstance(given, str | Mapping)
    for index, item in enumerate(given if several else [given]):
        place = f"exclude[{index}]" if several else "exclude"
        one = _exclusion(item, place)
        if isinstance(one, Problem):
            problems.append(one)
        else:
            found.add(one)
    return tuple(sorted(found, key=_order)), problems


def excluded_rows(excluded: tuple[Exclusion, ...]) -> list[tuple[date, date]]:
    """Return first and last day of each row of excluded days, in order: what exclusions mean."""
    return list(zip(*_merged(excluded), strict=True))


def last_excluded(excluded: tuple[Exclusion, ...], day: date) -> date | None:
    """Return the last of the excluded days in a row that ``day`` is one of; None when it is none."""
    firsts, lasts = _merged(excluded)
    place = bisect_right(firsts, day) - 1
    return lasts[place] if place >= 0 and day <= lasts[place] else None


def first_excluded(excluded: tuple[Exclusion, ...], day: date) -> date | None:
    """Return the first of the excluded days in a row that ``day`` is one of; None when it is none."""
    firsts, lasts = _merged(excluded)
    place = bisect_right(firsts, day) - 1
    return firsts[place] if place >= 0 and day <= lasts[place] else None


@lru_cache(maxsize=1024)
def _merged(excluded: tuple[Exclusion, ...]) -> tuple[list[date], list[date]]:
    """Return first and last days of the excluded stretches, in order, none touching another."""
    firsts: list[date] = []
    lasts: list[date] = []
    for one in sorted(each for exclusion in excluded for each in exclusion.ranges):
        if lasts and (lasts[-1] == date.max or one.first <= lasts[-1] + _DAY):
            lasts[-1] = max(lasts[-1], one.last)
        else:
            firsts.append(one.first)
            lasts.append(one.last)
    return firsts, lasts


def _exclusion(item: object, place: str) -> Exclusion | Problem:
    if isinstance(item, DateRange | HolidayCalendar):
        return item
    if isinstance(item, date) and not isinstance(item, datetime):
        return DateRange(item, item)
    if isinstance(item, Mapping) and hasattr(item, "years"):
        return _pinned(item, place)
    remedy = "use datetime.date, DateRange(first, last) or a calendar of the holidays library"
    return Problem(place, f"{type(item).__name__} is no date", remedy)


def _pinned(calendar: Mapping[Any, Any], place: str) -> HolidayCalendar | Problem:
    """Pin a calendar of the ``holidays`` library: a mapping of dates that knows its years."""
    years = sorted(getattr(calendar, "years", ()))
    if not years:
        remedy = "such as country_holidays('DE', years=range(2027, 2030))"
        return Problem(place, "the calendar names no years", remedy)
    country = getattr(calendar, "country", None) or getattr(calendar, "market", None)
    parts = [str(country or "holidays"), getattr(calendar, "subdiv", None)]
    return HolidayCalendar(
        "-".join(part for part in parts if part),
        date(years[0], 1, 1),
        date(years[-1], 12, 31),
        tuple(sorted(calendar)),
    )


def _order(exclusion: Exclusion) -> tuple[date, date, str]:
    return exclusion.first, exclusion.last, getattr(exclusion, "name", "")


def _date_problems(place: str, value: object) -> Iterator[Problem]:
    if not isinstance(value, date) or isinstance(value, datetime):
        yield Problem(place, f"{type(value).__name__} is no date", "use datetime.date")

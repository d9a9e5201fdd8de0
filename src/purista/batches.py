"""Many matches of a cron expression at once, on a wall clock that never changes its offset.

What ``wallclock`` finds one by one comes here an hour, a day, a month or a year at a time, so that a
time costs little more than the addition that makes it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, TypeAlias

from purista.expression import Cron
from purista.wallclock import first_match, month_kind

Batch: TypeAlias = tuple[datetime, tuple[timedelta, ...]]
"""A base that is not after its first time, and the ascending distances of its times."""


class Batches:
    """The matches of one expression, for a question about a period of some ``length``."""

    __slots__ = ("_count", "_cron", "_years")

    def __init__(self, cron: Cron, length: timedelta) -> None:
        self._cron = cron
        # In a short period the preparation of whole years does not pay.
        self._count = _count_in_year(cron) if length > _LONG else _MANY_IN_YEAR
        self._years: dict[tuple[int, int], tuple[timedelta, ...]] = {}

    @property
    def pace(self) -> Literal["single", "rare", "dense"]:
        """How often there is a match: about once a year, once a month, or more often."""
        if self._count <= _ONE_IN_YEAR:
            return "single"
        return "rare" if self._count <= _FEW_IN_YEAR else "dense"

    def between(self, start: datetime, end: datetime) -> Iterator[Batch]:
        """Yield the matches from ``start`` to before ``end``, ascending, in batches of one or more."""
        if self._count <= _ONE_IN_YEAR:
            yield from self._singles(start, end)
            return
        for batch in self._whole(start, end):
            if batch[0] >= end:
                return
            yield from cut(batch, start, end)

    def _whole(self, start: datetime, end: datetime) -> Iterator[Batch]:
        cron = self._cron
        hours, minutes, seconds = cron.hour.mask, cron.minute.mask, cron.second.mask
        if self._count < _MANY_IN_YEAR:
            return self._in_years(start, end, _times(hours, minutes, seconds))
        count = _count_in_day(cron)
        if count <= _FEW_IN_DAY:
            return self._in_months(start, end, _times(hours, minutes, seconds))
        if count <= _MANY_IN_DAY:
            return self._in_parts(start, end, _MIDNIGHT, _times(hours, minutes, seconds))
        return self._in_parts(start, end, _times(hours, 1, 1), _times(1, minutes, seconds))

    def _singles(self, start: datetime, end: datetime) -> Iterator[Batch]:
        match = first_match(self._cron, start)
        while match is not None and match < end:
            yield match, _MIDNIGHT
            match = first_match(self._cron, match + _SECOND)

    def _in_years(
        self, start: datetime, end: datetime, times: tuple[timedelta, ...]
    ) -> Iterator[Batch]:
        for year in range(start.year, end.year + 1):
            months = _calendar(year)
            new_year, kind, february = months[0][0], months[0][1], months[1][1]
            distances = self._years.get((kind[1], february[0]))
            if distances is None:
                found = [
                    month - new_year + distance
                    for month, month_distances in self._in_months(new_year, months[-1][0], times)
                    for distance in month_distances
                ]
                distances = self._years[kind[1], february[0]] = tuple(found)
            if distances:
                yield new_year, distances

    def _in_parts(
        self,
        start: datetime,
        end: datetime,
        parts: tuple[timedelta, ...],
        times: tuple[timedelta, ...],
    ) -> Iterator[Batch]:
        """Yield the ``times`` of each part of each day: of the whole day, or of each hour."""
        for base, distances in self._in_months(start, end, parts):
            first = max(bisect_right(distances, start - base) - 1, 0)
            for distance in distances[first:]:
                yield base + distance, times

    def _in_months(
        self, start: datetime, end: datetime, times: tuple[timedelta, ...]
    ) -> Iterator[Batch]:
        for year in range(start.year, end.year + 1):
            months = _calendar(year)
            for month in self._cron.month.values:
                base, kind = months[month - 1]
                days = self._cron.days(*kind)
                if days and (year > start.year or month >= start.month):
                    yield base, _spread(days, times)


def cut(batch: Batch, start: datetime, end: datetime) -> Iterable[Batch]:
    """Return what of a batch lies from ``start`` to before ``end``: one batch, or none."""
    base, distances = batch
    first, last = 0, len(distances)
    if base + distances[0] < start:
        first = bisect_left(distances, start - base)
    if base + distances[-1] >= end:
        last = bisect_left(distances, end - base)
    if first >= last:
        return ()
    return (batch if last - first == len(distances) else (base, distances[first:last]),)


_SECOND = timedelta(seconds=1)
_LONG = timedelta(days=400)
_ONE_IN_YEAR = 2
_FEW_IN_YEAR = 16
_MANY_IN_YEAR = 100
_FEW_IN_DAY = 4
_MANY_IN_DAY = 1440
_MIDNIGHT = (timedelta(0),)


def _count_in_day(cron: Cron) -> int:
    return len(cron.hour.values) * len(cron.minute.values) * len(cron.second.values)


def _count_in_year(cron: Cron) -> int:
    """Return about how many matches a year has."""
    return cron.days(31, 0).bit_count() * len(cron.month.values) * _count_in_day(cron)


@lru_cache(maxsize=256)
def _calendar(year: int) -> tuple[tuple[datetime, tuple[int, int]], ...]:
    """Return each month's beginning, with its length and the weekday of its first day."""
    return tuple(
        [(datetime(year, month, 1, tzinfo=UTC), month_kind(year, month)) for month in range(1, 13)]
    )


@lru_cache(maxsize=512)
def _spread(days: int, times: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    """Return the distances from the beginning of the month of ``times`` on each of ``days``."""
    matching = [timedelta(days=day - 1) for day in _bits(days)]
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


def _bits(mask: int) -> list[int]:
    return [bit for bit in range(mask.bit_length()) if mask >> bit & 1]

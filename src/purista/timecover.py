"""The time fields of lines that cover times of day: products of hours and minutes.

Times of day are a mask in which bit ``60 * hour + minute`` is a minute of the day.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from purista.cronfield import HOUR, MINUTE, star_text

DAY: Final = 1440
"""Minutes of a day."""

_HOUR_MASK: Final = (1 << 60) - 1
_DAY_MASK: Final = (1 << DAY) - 1


class Times(NamedTuple):
    """The two time fields of a line."""

    minute: str
    hour: str


class TimeCover(NamedTuple):
    """The time fields of several lines, and whether they name the times and no others."""

    lines: tuple[Times, ...]
    exact: bool


def times_mask(hours: Iterable[int], minute_mask: int) -> int:
    """Return the times of day at which one of the hours and one of the minutes match."""
    mask = 0
    for hour in hours:
        mask |= minute_mask << 60 * hour
    return mask


def moved(mask: int, minutes: int) -> dict[int, int]:
    """Return times of day moved by less than a day: by -1, 0 or 1 for the day on which they fall.

    >>> moved(1 << 90, -120) == {-1: 1 << 1410}
    True
    """
    whole = mask << DAY + minutes
    parts = {-1: whole & _DAY_MASK, 0: whole >> DAY & _DAY_MASK, 1: whole >> 2 * DAY}
    return {delta: part for delta, part in parts.items() if part}


@lru_cache(maxsize=4096)
def time_cover(mask: int, *, most: int) -> TimeCover:
    """Return at most ``most`` lines that cover the times of day.

    Hours with the same minutes share a line. Where that takes too many lines, one line with all hours
    and all minutes takes their place.
    """
    by_minutes: dict[int, list[int]] = {}
    for hour in range(24):
        minutes = mask >> 60 * hour & _HOUR_MASK
        if minutes:
            by_minutes.setdefault(minutes, []).append(hour)
    exact = len(by_minutes) <= most
    if not exact:
        every = 0
        for minutes in by_minutes:
            every |= minutes
        by_minutes = {every: sorted(hour for hours in by_minutes.values() for hour in hours)}
    lines = [
        Times(star_text(MINUTE, _values(minutes)), star_text(HOUR, tuple(hours)))
        for minutes, hours in by_minutes.items()
    ]
    return TimeCover(tuple(lines), exact)


def _values(minutes: int) -> tuple[int, ...]:
    return tuple(minute for minute in range(60) if minutes >> minute & 1)

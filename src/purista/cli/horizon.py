"""From when to when nominal times are compared, as a person says it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from purista.cli.instant import read_instant
from purista.clock import Clock
from purista.errors import LoadError
from purista.expression import EARLIEST, LATEST
from purista.turnover import Horizon


def read_horizon(start: str | None, length: str | None, end: str | None, clock: Clock) -> Horizon:
    """Return the horizon: a year from now, unless the options say otherwise. Raises ``LoadError``."""
    if length is not None and end is not None:
        raise LoadError("--horizon and --until both say the end; give one of them")
    first = read_instant("--from", start) or clock.now().replace(microsecond=0)
    last = read_instant("--until", end) or _after(first, length or "1y")
    if last < first:
        raise LoadError(f"--until {last.isoformat()} is before {first.isoformat()}")
    return Horizon(max(first, EARLIEST), min(last, LATEST))


_LENGTH = re.compile(r"([1-9][0-9]{0,5})([hdwy])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def _after(start: datetime, length: str) -> datetime:
    match = _LENGTH.fullmatch(length)
    if match is None:
        raise LoadError(f"--horizon '{length}' is no length; write it as 12h, 90d, 8w or 1y")
    count, unit = int(match[1]), match[2]
    try:
        return _years_after(start, count) if unit == "y" else start + count * _UNITS[unit]
    except (OverflowError, ValueError):
        return LATEST


def _years_after(start: datetime, years: int) -> datetime:
    """Return the same day of a later year; after 29 February comes 1 March."""
    year = start.year + years
    try:
        return start.replace(year=year)
    except ValueError:
        return start.replace(year=year, month=3, day=1)

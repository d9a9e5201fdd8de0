"""Time zones: from an IANA name to its offsets, and when they change.

The rules come from ``zoneinfo``: the system's database or the ``tzdata`` package, whichever there
is. Any change of offset counts, whatever its size or reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from purista.errors import ContractError, Problem
from purista.expression import EARLIEST, LATEST

NOT_PLACES = frozenset({"localtime", "posixrules", "Factory"})
"""Names in time-zone databases that stand for no zone: what they mean depends on the machine."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a zone's offset: from ``instant`` on, ``offset_after`` holds."""

    instant: datetime
    offset_before: timedelta
    offset_after: timedelta

    @property
    def change(self) -> timedelta:
        """How far the clock jumps: positive leaves local times out, negative repeats them."""
        return self.offset_after - self.offset_before


def zone_of(timezone: str | ZoneInfo) -> ZoneInfo:
    """Return the zone of an IANA name; raises ``ContractError`` for a name that is none."""
    if isinstance(timezone, ZoneInfo):
        return timezone
    problems = zone_problems(timezone)
    if problems:
        raise ContractError(problems)
    return ZoneInfo(timezone)


def zone_problems(name: object) -> list[Problem]:
    """Say what is wrong with a time zone's name, with a near match; an empty list if nothing is."""
    if not isinstance(name, str):
        found = f"{type(name).__name__} is no time zone"
        return [Problem("timezone", found, "use an IANA name such as 'Europe/Berlin'")]
    if name in zone_names():
        return []
    return [Problem("timezone", f"unknown time zone {_shown(name)}", _remedy(name))]


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Return every name of the time-zone database."""
    return frozenset(available_timezones()) - NOT_PLACES


def transitions(timezone: str | ZoneInfo, start: datetime, end: datetime) -> Iterator[Transition]:
    """Yield the zone's changes of offset from ``start`` to ``end``, both inclusive, lazily."""
    zone = zone_of(timezone)
    day = timedelta(days=1)
    at = max(start.astimezone(UTC), EARLIEST + day) - timedelta(microseconds=1)
    last = min(end.astimezone(UTC), LATEST - day)
    while at < last:
        after = min(at + day, last)
        if _offset(zone, at) != _offset(zone, after):
            yield _transition(zone, at, after)
        at = after


def _transition(zone: ZoneInfo, before: datetime, after: datetime) -> Transition:
    second = timedelta(seconds=1)
    low, high = before.replace(microsecond=0), after.replace(microsecond=0) + second
    while high - low > second:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if _offset(zone, middle) == _offset(zone, before):
            low = middle
        else:
            high = middle
    return Transition(high, _offset(zone, before), _offset(zone, after))


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None, "ZoneInfo always has an offset"
    return offset


def _remedy(name: str) -> str:
    import difflib

    known = {known.lower(): known for known in zone_names()}
    near = difflib.get_close_matches(name.lower()[:100], known, n=1)
    return (
        f"did you mean '{known[near[0]]}'?" if near else "use an IANA name such as 'Europe/Berlin'"
    )


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:57]}...")

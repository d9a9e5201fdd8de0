"""Time zones: from an IANA name to its spans of constant offset.

The rules come from ``zoneinfo``: the system's database or the ``tzdata`` package, whichever there
is. Any change of offset counts, whatever its size or reason; a change of name or of the
daylight-saving flag alone is none.
"""

from __future__ import annotations

import pkgutil
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, cast
from zoneinfo import ZoneInfo

from purista.errors import ContractError, Problem

NOT_ZONES = frozenset({"localtime", "posixrules", "Factory"})
"""Entries of time-zone databases that name no zone: what they mean depends on the machine."""


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a zone's offset: from ``instant`` on, ``offset_after`` holds."""

    instant: datetime
    offset_before: timedelta
    offset_after: timedelta

    @property
    def change(self) -> timedelta:
        """How far the clock jumps: a positive change leaves local times out, a negative repeats."""
        return self.offset_after - self.offset_before


class Span(NamedTuple):
    """A stretch of constant offset: from ``start`` to before ``end``, both in UTC.

    ``change_in`` is how far the clock jumps at ``start``, ``change_out`` how far at ``end``; zero
    where the span is cut for convenience, which is never within two days of a change.
    """

    start: datetime
    end: datetime
    offset: timedelta
    change_in: timedelta
    change_out: timedelta


def zone_of(timezone: str | ZoneInfo) -> ZoneInfo:
    """Return the zone of an IANA name; raises ``ContractError`` for a name that is none."""
    if isinstance(timezone, ZoneInfo):
        return timezone
    if timezone in _packaged_names():
        return ZoneInfo(timezone)
    problems = zone_problems(timezone)
    if problems:
        raise ContractError(problems)
    return ZoneInfo(timezone)


def zone_problems(name: object) -> list[Problem]:
    """Say what is wrong with a time zone's name, with a near match; an empty list if nothing is."""
    if not isinstance(name, str):
        found = f"{type(name).__name__} is no time zone"
        return [Problem("timezone", found, _ADVICE)]
    if name in _packaged_names() or name in zone_names():
        return []
    return [Problem("timezone", f"unknown time zone {_shown(name)}", _remedy(name))]


def zone_names() -> frozenset[str]:
    """Return every name of the time-zone databases at hand, the system's and ``tzdata``'s."""
    return _names_on(zoneinfo.TZPATH)


def transitions_between(zone: ZoneInfo, start: datetime, end: datetime) -> Iterator[Transition]:
    """Yield the changes of offset from ``start`` to ``end``, both inclusive and in UTC, lazily."""
    offsets = offsets_of(zone)
    span = offsets.span(start)
    while span.start <= end:
        if span.change_in and span.start >= start:
            yield Transition(span.start, span.offset - span.change_in, span.offset)
        if span.end >= _END:
            return
        span = offsets.span(span.end)


class Offsets:
    """The spans of one zone, found year by year as they are asked for, and kept.

    ``zoneinfo`` tells offsets, not when they change. They are probed every five days and each
    change is then found to the second. No two changes of a zone since 1970 are closer than six days.
    """

    __slots__ = ("_fixed", "_offset_at", "_spans")

    def __init__(self, zone: ZoneInfo) -> None:
        self._fixed = zone.utcoffset(None)
        # Of a wall time; a ZoneInfo always has an answer, which its type does not say.
        self._offset_at = cast("Callable[[datetime], timedelta]", zone.utcoffset)
        self._spans: dict[int, tuple[Span, ...]] = {}

    def span(self, instant: datetime) -> Span:
        """Return the span that holds ``instant``, which is in UTC."""
        year = instant.year
        spans = self._spans.get(year) or self._find_spans(year)
        if instant < spans[0].start:
            spans = self._spans.get(year - 1) or self._find_spans(year - 1)
        at = 0
        while instant >= spans[at].end:
            at += 1
        return spans[at]

    @property
    def are_fixed(self) -> bool:
        """Whether the zone never changes its offset."""
        return self._fixed is not None

    def calm_offsets(
        self, base: datetime, distances: tuple[timedelta, ...]
    ) -> list[timedelta] | None:
        """Return the offset at each of many wall times, None if a change is within a day of one."""
        before = list(map(self._offset_at, map((base - _NEAR).__add__, distances)))
        after = list(map(self._offset_at, map((base + _NEAR).__add__, distances)))
        return before if before == after else None

    def passes(self, wall: datetime) -> tuple[timedelta, timedelta]:
        """Return the offsets of the first and the second time that a clock shows a wall time.

        The first is the smaller one where a gap leaves the time out, and both are the same where
        the time comes once.
        """
        return self._offset_at(wall), self._offset_at(wall.replace(fold=1))

    def _find_spans(self, year: int) -> tuple[Span, ...]:
        if self._fixed is None:
            spans = self._spans_of_year(year)
        else:
            spans = (Span(_START, _END, self._fixed, _ZERO, _ZERO),)
        self._spans[year] = spans
        return spans

    def _spans_of_year(self, year: int) -> tuple[Span, ...]:
        new_year, next_new_year = (
            datetime(year, 1, 1, tzinfo=UTC),
            datetime(year + 1, 1, 1, tzinfo=UTC),
        )
        changes = list(self._changes(new_year - 4 * _DAY, next_new_year + 4 * _DAY))
        start, end = _cut(changes, new_year), _cut(changes, next_new_year)
        inside = [change for change in changes if start < change.instant < end]
        # No change is near the start, so that there the wall time may stand for the instant.
        offset = inside[0].offset_before if inside else self._offset_at(start)
        edges = [start, *(change.instant for change in inside), end]
        offsets = [offset, *(change.offset_after for change in inside)]
        jumps = [_ZERO, *(change.change for change in inside), _ZERO]
        return tuple(
            Span(edges[at], edges[at + 1], offset, jumps[at], jumps[at + 1])
            for at, offset in enumerate(offsets)
        )

    def _changes(self, start: datetime, end: datetime) -> Iterator[Transition]:
        count = (end - start) // _PROBE + 2
        probes = list(map(start.replace(tzinfo=None).__add__, _PROBES[:count]))
        known = list(map(self._offset_at, probes))
        for at, (before, after) in enumerate(pairwise(known)):
            if before != after:
                wall = self._first_wall(probes[at], probes[at + 1], before)
                instant = (wall - max(before, after)).replace(tzinfo=UTC)
                yield Transition(instant, before, after)

    def _first_wall(self, low: datetime, high: datetime, before: timedelta) -> datetime:
        """Return the first wall time without the offset ``before``: where a gap or an overlap ends.

        Without ``fold`` a wall time inside a gap or an overlap has the offset of before the change.
        Nearly every change is at a quarter of an hour; for the others the seconds are searched.
        """
        wall = self._search(low, high, before, _QUARTER)
        if self._offset_at(wall - _SECOND) == before:
            return wall
        return self._search(wall - _QUARTER, wall, before, _SECOND)

    def _search(
        self, low: datetime, high: datetime, before: timedelta, step: timedelta
    ) -> datetime:
        """Return the first of ``low``, ``low + step``, ... that has another offset."""
        known, unknown = 0, -((low - high) // step)
        while unknown - known > 1:
            middle = (known + unknown) // 2
            if self._offset_at(low + middle * step) == before:
                known = middle
            else:
                unknown = middle
        return low + unknown * step


@lru_cache(maxsize=1024)
def offsets_of(zone: ZoneInfo) -> Offsets:
    """Return the spans of a zone, shared by all who ask."""
    return Offsets(zone)


_ADVICE = "use an IANA name such as 'Europe/Berlin'"
_ZERO = timedelta(0)
_SECOND = timedelta(seconds=1)
_QUARTER = timedelta(minutes=15)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_NEAR = timedelta(hours=25)
_PROBE = timedelta(days=5)
_PROBES = tuple([step * _PROBE for step in range(80)])
_START = datetime(1960, 1, 1, tzinfo=UTC)
_END = datetime(2210, 1, 1, tzinfo=UTC)


def _cut(changes: list[Transition], new_year: datetime) -> datetime:
    """Return where to end one year's spans and begin the next: away from every change."""
    near = [change.instant for change in changes if abs(change.instant - new_year) < 3 * _DAY]
    return near[-1] + 3 * _DAY if near else new_year


@lru_cache(maxsize=1)
def _packaged_names() -> frozenset[str]:
    """Return the names in the ``tzdata`` package: quicker to get than to search all databases."""
    try:
        listed = pkgutil.get_data("tzdata", "zones")
    except OSError:
        listed = None
    return frozenset((listed or b"").decode().split()) - NOT_ZONES


@lru_cache(maxsize=8)
def _names_on(path: tuple[str, ...]) -> frozenset[str]:
    del path  # the answer depends on it
    return frozenset(zoneinfo.available_timezones()) - NOT_ZONES


def _remedy(name: str) -> str:
    import difflib  # only for a wrong name

    known = {known.lower(): known for known in sorted(zone_names())}
    cities = {known.lower().rpartition("/")[2]: known for known in sorted(zone_names())}
    asked = name.strip().lower().replace(" ", "_")[:100]
    for names in (known, cities):
        # Short names are alike without being near: CEST is not meant to be EST.
        cutoff = 0.8 if len(asked) > 5 else 1.0
        near = difflib.get_close_matches(asked, names, n=1, cutoff=cutoff)
        if near:
            return f"did you mean '{names[near[0]]}'?"
    return _ADVICE


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else f"{name[:57]}...")

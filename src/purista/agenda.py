"""The agenda of many schedules: what is due, in order, and what clock changes leave out.

Streams: keeps a few values per schedule, however long the window is. Pure: the window is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heapreplace
from typing import Final, NamedTuple, TypeAlias

from purista import firetimes
from purista.clockchange import Effect, clock_change, mark
from purista.contract import Schedule
from purista.expression import Cron
from purista.zone import Transition


class Due(NamedTuple):
    """A nominal time of a schedule, in UTC; ``mark`` says what a clock change did to it, if any."""

    at: datetime
    schedule: Schedule
    mark: str = ""


class Skipped(NamedTuple):
    """A local time that does not exist in the schedule's zone, so that nothing is due.

    ``at`` is the instant, in UTC, at which the clock jumps over it; ``local_time`` is naive.
    """

    at: datetime
    schedule: Schedule
    local_time: datetime


Row: TypeAlias = Due | Skipped


def agenda(schedules: Iterable[Schedule], start: datetime, end: datetime) -> Iterator[Row]:
    """Yield what the enabled ones of ``schedules`` do from ``start`` to ``end``, both inclusive.

    Ascending and lazily, at one instant in the order of their ids. What the clock jumps over comes
    where it jumps, before what is due at that instant.

    >>> from purista import Service
    >>> shop = Service("Shop")
    >>> nightly = shop.schedule("nightly").emit_event(
    ...     shop.event("night", dict),
    ...     expression=Cron("30 2 * * *"),
    ...     timezone="Europe/Berlin",
    ...     payload={},
    ... )
    >>> day = datetime(2027, 3, 27, tzinfo=UTC)
    >>> for row in agenda([nightly], day, day + timedelta(days=3)):
    ...     print(type(row).__name__, row.at)
    Due 2027-03-27 01:30:00+00:00
    Skipped 2027-03-28 01:00:00+00:00
    Due 2027-03-29 00:30:00+00:00
    """
    enabled = sorted((one for one in schedules if one.enabled), key=lambda one: one.id)
    streams = _streams(enabled, start, end)
    coming = [next(stream, None) for stream in streams]
    count = len(streams)
    # A heap of whole numbers is several times as fast as one of dates and schedules.
    heap = [_key(row, count) + order for order, row in enumerate(coming) if row is not None]
    heapify(heap)
    while heap:
        order = heap[0] % count
        row = coming[order]
        assert row is not None
        yield row
        row = coming[order] = next(streams[order], None)
        if row is None:
            heappop(heap)
        else:
            heapreplace(heap, _key(row, count) + order)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)
_LONGEST: Final = timedelta(hours=25)
"""No clock change is longer, so that none has an effect from further away."""


def _key(row: Row, count: int) -> int:
    return ((row[0] - _EPOCH) // _TICK * 2 + (type(row) is Due)) * count


def _streams(schedules: list[Schedule], start: datetime, end: datetime) -> list[Iterator[Row]]:
    zones = {
        zone: _Transitions(zone, start - _LONGEST, end + _LONGEST)
        for zone in {one.timezone for one in schedules}
    }
    return [_rows(one, zones[one.timezone], start, end) for one in schedules]


def _rows(
    schedule: Schedule, transitions: Iterable[Transition], start: datetime, end: datetime
) -> Iterator[Row]:
    times = _Times(schedule, schedule.between(start, end))
    if isinstance(schedule.expression, Cron):
        last = min(end, schedule.end_at) if schedule.end_at else end
        yield from _rows_around(transitions, times, start, last)
    yield from times.before(_NEVER)


def _rows_around(
    transitions: Iterable[Transition], times: _Times, start: datetime, last: datetime
) -> Iterator[Row]:
    """Yield the rows up to the last transition, each looked at only when it is near."""
    schedule = times.schedule
    for transition in transitions:
        if transition.instant > last + _LONGEST:
            return
        yield from times.before(transition.instant - _LONGEST)
        change = clock_change(schedule, transition)
        if change.effect == Effect.SKIPPED and start <= transition.instant <= last:
            yield from times.before(transition.instant)
            for local_time in change.local_times:
                yield Skipped(transition.instant, schedule, local_time)
        for instant in change.instants:
            yield from times.before(instant)
            if times.coming == instant:
                yield Due(instant, schedule, mark(schedule, instant))
                times.take()


class _Times:
    """The nominal times of one schedule that are yet to come."""

    __slots__ = ("_instants", "coming", "schedule")

    def __init__(self, schedule: Schedule, instants: Iterator[datetime]) -> None:
        self.schedule = schedule
        self._instants = instants
        self.coming = next(instants, _NEVER)

    def before(self, instant: datetime) -> Iterator[Due]:
        """Take those before ``instant``, as rows."""
        schedule, instants = self.schedule, self._instants
        while self.coming < instant:
            yield Due(self.coming, schedule)
            self.coming = next(instants, _NEVER)

    def take(self) -> None:
        """Take the one that is coming."""
        self.coming = next(self._instants, _NEVER)


class _Transitions:
    """The changes of a zone's offset, found as they are asked for, and shared by its schedules."""

    __slots__ = ("_coming", "_known")

    def __init__(self, zone: str, start: datetime, end: datetime) -> None:
        self._coming = firetimes.transitions(zone, start, end)
        self._known: list[Transition] = []

    def __iter__(self) -> Iterator[Transition]:
        place = 0
        while place < len(self._known) or self._find():
            yield self._known[place]
            place += 1

    def _find(self) -> bool:
        found = next(self._coming, None)
        if found is not None:
            self._known.append(found)
        return found is not None

"""The load of many schedules: how many nominal times fall on each day, and on each time of day.

Counts only; the pictures of them are ``heatmap``'s and ``timeline``'s. Counting is by whole minutes
on the wall clock of one zone, in C wherever there is one step per nominal time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise, repeat
from operator import floordiv, sub
from typing import Final, NamedTuple

from purista import firetimes
from purista.clockchange import clock_text
from purista.contract import Schedule
from purista.expression import Cron
from purista.zone import zone_of

QUARTERS: Final = 96
"""A day has so many quarters of an hour."""

MOST_DAYS: Final = 371
"""The longest window: 53 weeks, so that a year fits in wherever it begins."""


@dataclass(frozen=True, slots=True)
class Days:
    """``count`` whole days from ``first`` on, on the wall clock of ``timezone``."""

    timezone: str
    first: date
    count: int

    @property
    def start(self) -> datetime:
        """The instant at which the first day begins, in UTC."""
        return self._midnight(0)

    @property
    def end(self) -> datetime:
        """The last instant of the last day, in UTC."""
        return self._midnight(self.count) - _TICK

    def day(self, index: int) -> date:
        """Return one of the days."""
        return self.first + timedelta(days=index)

    def local(self, instant: datetime) -> datetime:
        """Return an instant on the wall clock of the zone."""
        return instant.astimezone(zone_of(self.timezone))

    def _midnight(self, index: int) -> datetime:
        """Return when a day begins; where the clock jumps over midnight, when it jumps."""
        return datetime.combine(self.day(index), time(), zone_of(self.timezone)).astimezone(UTC)


def days_between(timezone: str, start: datetime, end: datetime) -> Days:
    """Return the days of a zone that have a part in the time from ``start`` to before ``end``."""
    zone = zone_of(timezone)
    first, last = start.astimezone(zone).date(), (end - _TICK).astimezone(zone).date()
    return Days(timezone, first, max((last - first).days, 0) + 1)


@dataclass(frozen=True, slots=True)
class Peak:
    """A minute, in UTC, and how many nominal times fall into it."""

    at: datetime
    count: int


@dataclass(frozen=True, slots=True)
class ScheduleLoad:
    """How many nominal times a schedule has on each day, and in each quarter of an hour of the day."""

    schedule: Schedule
    by_day: tuple[int, ...]
    by_quarter: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many nominal times it has in all."""
        return sum(self.by_quarter)


@dataclass(frozen=True, slots=True)
class Load:
    """What many schedules do on some days.

    ``schedules`` are in the order of their ids. ``peaks`` has the busiest minute of any day for each
    quarter of an hour, None where nothing is due. ``changes`` says whose clocks change, by the number of the day.
    """

    days: Days
    schedules: tuple[ScheduleLoad, ...]
    by_day: tuple[int, ...]
    by_quarter: tuple[int, ...]
    peaks: tuple[Peak | None, ...]
    changes: Mapping[int, tuple[str, ...]]

    @property
    def count(self) -> int:
        """How many nominal times there are in all."""
        return sum(self.by_day)

    @property
    def busiest(self) -> Peak | None:
        """The busiest minute of all, the earliest where several are."""
        found = [peak for peak in self.peaks if peak]
        return min(found, key=lambda peak: (-peak.count, peak.at), default=None)

    def due_at(self, peak: Peak) -> Iterator[Schedule]:
        """Yield the schedules that are due within the minute of a peak."""
        end = peak.at + _MINUTE - _TICK
        for one in self.schedules:
            if next(one.schedule.between(peak.at, end), None) is not None:
                yield one.schedule


def load(schedules: Iterable[Schedule], days: Days) -> Load:
    """Count the nominal times of the enabled ones of ``schedules`` on ``days``.

    Schedules that are due at the same times are counted once and share their numbers.
    """
    enabled = sorted((one for one in schedules if one.enabled), key=lambda one: one.id)
    counting = _Counting(days)
    alike: dict[Hashable, list[Schedule]] = defaultdict(list)
    for one in enabled:
        alike[_timing(one)].append(one)
    counted = {timing: counting.add(ones[0], len(ones)) for timing, ones in alike.items()}
    found = tuple(ScheduleLoad(one, *counted[_timing(one)]) for one in enabled)
    return Load(
        days,
        found,
        _sums([one.by_day for one in found], days.count),
        _sums([one.by_quarter for one in found], QUARTERS),
        counting.peaks(),
        _changes(enabled, days),
    )


class Jump(NamedTuple):
    """A change of a zone's clock, on the zone's own wall clock: naive times, and the day of the first.

    ``after`` is the later one where local times are left out, the earlier one where they come twice.
    """

    day: int
    before: datetime
    after: datetime


def jumps(timezone: str, days: Days) -> Iterator[Jump]:
    """Yield the changes of a zone's clock that leave out or repeat a time of one of the days."""
    for change in firetimes.transitions(timezone, days.start - _WIDE, days.end + _WIDE):
        before = change.instant.replace(tzinfo=None) + change.offset_before
        after = before + change.change
        day = (min(before, after).date() - days.first).days
        if 0 <= day < days.count:
            yield Jump(day, before, after)


_TICK: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)
_WIDE: Final = timedelta(days=2)
_MINUTES_OF_QUARTER: Final = 15
_MANY_ZONES: Final = 4


class _Span(NamedTuple):
    """A stretch of constant offset; ``origin`` is the first day's midnight by that offset."""

    start: datetime
    end: datetime
    origin: datetime
    minutes: Counter[int]


class _Counting:
    """Counts minutes since the first midnight, apart for each offset of the clock.

    Apart, because where the clock goes back two minutes have the same local time.
    """

    def __init__(self, days: Days) -> None:
        self._days = days
        changes = firetimes.transitions(days.timezone, days.start + _TICK, days.end)
        edges = [days.start, *(change.instant for change in changes), days.end + _TICK]
        self._spans = [
            _Span(start, end - _TICK, self._origin(start), Counter())
            for start, end in pairwise(edges)
        ]

    def add(self, schedule: Schedule, times: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Count a schedule that occurs so many times; return its numbers by day and by quarter."""
        by_day, by_quarter = [0] * self._days.count, [0] * QUARTERS
        for span in self._spans:
            since = map(sub, schedule.between(span.start, span.end), repeat(span.origin))
            minutes = list(map(floordiv, since, repeat(_MINUTE)))
            _count(span.minutes, minutes, times)
            quarters = Counter(map(floordiv, minutes, repeat(_MINUTES_OF_QUARTER)))
            for quarter, count in quarters.items():
                by_day[quarter // QUARTERS] += count
                by_quarter[quarter % QUARTERS] += count
        return tuple(by_day), tuple(by_quarter)

    def peaks(self) -> tuple[Peak | None, ...]:
        """Return the busiest minute for each quarter of an hour, the earliest where several are."""
        found: list[Peak | None] = [None] * QUARTERS
        for span in self._spans:
            best: dict[int, tuple[int, int]] = {}
            for minute, count in span.minutes.items():
                quarter = minute // _MINUTES_OF_QUARTER % QUARTERS
                best[quarter] = max(best.get(quarter, (0, 0)), (count, -minute))
            for quarter, (count, minute) in best.items():
                known = found[quarter]
                if known is None or known.count < count:
                    found[quarter] = Peak(span.origin - minute * _MINUTE, count)
        return tuple(found)

    def _origin(self, instant: datetime) -> datetime:
        offset = self._days.local(instant).utcoffset()
        assert offset is not None
        return datetime.combine(self._days.first, time(), UTC) - offset


def _count(found: Counter[int], minutes: list[int], times: int) -> None:
    if times == 1:
        found.update(minutes)
        return
    for minute, count in Counter(minutes).items():
        found[minute] += count * times


def _timing(schedule: Schedule) -> Hashable:
    """Return what is equal for schedules that are due at the same times."""
    rules = (schedule.timezone, schedule.dst_gap, schedule.dst_overlap)
    return schedule.expression, rules, schedule.start_at, schedule.end_at, schedule.exclude


def _sums(rows: Iterable[tuple[int, ...]], length: int) -> tuple[int, ...]:
    return tuple(map(sum, zip([0] * length, *rows, strict=True)))


def _changes(schedules: Iterable[Schedule], days: Days) -> dict[int, tuple[str, ...]]:
    zones = {one.timezone for one in schedules if isinstance(one.expression, Cron)}
    found: dict[int, list[str]] = defaultdict(list)
    for zone in sorted(zones | {days.timezone}):
        for jump in jumps(zone, days):
            words = f"{clock_text(jump.before)} becomes {clock_text(jump.after)}"
            found[jump.day].append(f"{zone}: {words}")
    return {index: tuple(_few(texts)) for index, texts in sorted(found.items())}


def _few(texts: list[str]) -> Iterator[str]:
    yield from islice(texts, _MANY_ZONES)
    if len(texts) > _MANY_ZONES:
        yield f"and {len(texts) - _MANY_ZONES} more zones"

"""Pile-ups: the minute in which most schedules are due.

Counts nominal times. What jitter spreads over a minute or more piles up nowhere, and what is
disabled is not due.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from purista.contract import Schedule
from purista.expression import Cron, Every

MOST_TIMES: Final = 500_000
"""So many nominal times are counted at most; with more to come, the window becomes shorter."""


@dataclass(frozen=True, slots=True)
class PileUp:
    """The busiest minute: when it begins, in UTC, and the schedules that are due in it, by id.

    ``others`` says how many other minutes are as busy as was asked for, up to ``end``.
    """

    minute: datetime
    schedules: tuple[Schedule, ...]
    others: int
    end: datetime


def busiest_minute(
    schedules: Iterable[Schedule], start: datetime, end: datetime, *, least: int
) -> PileUp | None:
    """Return the first of the busiest minutes from ``start`` to ``end``, or None.

    None means that fewer than ``least`` schedules are due in each. Where there are more nominal
    times than ``MOST_TIMES`` only the beginning is looked at.
    """
    groups = _groups(schedules)
    if sum(map(len, groups)) < least:
        return None
    first = start.replace(second=0, microsecond=0)
    first += _MINUTE if first < start else timedelta(0)
    last = min(end, first + _window(groups))
    counts: Counter[int] = Counter()
    for group in groups:
        weight = len(group)
        for minute in {(at - first) // _MINUTE for at in group[0].between(first, last)}:
            counts[minute] += weight
    busy = {minute: count for minute, count in counts.items() if count >= least}
    if not busy:
        return None
    busiest = max(busy, key=lambda minute: (busy[minute], -minute))
    at = first + busiest * _MINUTE
    return PileUp(at, _due(groups, at), len(busy) - 1, last)


_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
_TICK: Final = timedelta(microseconds=1)


def _groups(schedules: Iterable[Schedule]) -> list[list[Schedule]]:
    """Put together the schedules that are due in the same minutes."""
    groups: defaultdict[Hashable, list[Schedule]] = defaultdict(list)
    for schedule in schedules:
        if schedule.enabled and schedule.jitter < _MINUTE:
            groups[_times_key(schedule)].append(schedule)
    return list(groups.values())


def _times_key(schedule: Schedule) -> Hashable:
    bounds = schedule.start_at, schedule.end_at, schedule.exclude
    zone = schedule.timezone, schedule.dst_gap, schedule.dst_overlap
    expression = schedule.expression
    if isinstance(expression, Every):
        whole = expression.interval % _MINUTE == timedelta(0) and bounds == (None, None, ())
        phase = expression.phase // _MINUTE if whole else expression.phase
        return expression.interval, phase, zone[0] if schedule.exclude else "", bounds
    return expression.meaning, zone, bounds


def _window(groups: Sequence[Sequence[Schedule]]) -> timedelta:
    in_a_day = sum(_count_in_day(group[0]) for group in groups)
    return _DAY * (MOST_TIMES / max(in_a_day, 1))


def _count_in_day(schedule: Schedule) -> float:
    match schedule.expression:
        case Cron() as cron:
            return len(cron.hour.values) * len(cron.minute.values) * len(cron.second.values)
        case Every() as every:
            return _DAY / every.interval
    return 0


def _due(groups: Sequence[Sequence[Schedule]], minute: datetime) -> tuple[Schedule, ...]:
    end = minute + _MINUTE - _TICK
    found = [
        schedule
        for group in groups
        if next(iter(group[0].between(minute, end)), None) is not None
        for schedule in group
    ]
    return tuple(sorted(found, key=lambda schedule: schedule.id))

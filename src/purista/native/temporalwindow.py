"""How far back Temporal sends what it missed, and how many slots that can be."""

from __future__ import annotations

from bisect import bisect_left
from datetime import date, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Final

from purista.compiling import Placed
from purista.contract import Schedule
from purista.dialect import clock_windows, windows_met
from purista.exclusion import excluded_rows
from purista.expression import Cron, Every, Expression, Once
from purista.timecover import times_mask
from purista.turnover import Horizon

LEAST_WINDOW: Final = timedelta(seconds=10)
"""``MinCatchupWindow``,
https://github.com/temporalio/temporal/blob/main/service/worker/scheduler/workflow.go
"""

_DAY: Final = timedelta(days=1)
_CLOCK_CHANGES: Final = timedelta(hours=3)
"""No zone puts its clock back or forward by more."""


def most_slots(placed: Placed, window: timedelta, horizon: Horizon) -> int:
    """Return how many slots there can be in a stretch of time, at most."""
    expression = placed.schedule.expression
    if isinstance(expression, Every):
        return window // expression.interval + 1
    slots = 1
    for cron, _ in placed.cover.lines:
        an_hour = len(cron.second.values) * len(cron.minute.values)
        days = _most_days(cron, horizon, window // _DAY + 2)
        hours = min(days * len(cron.hour.values), window // timedelta(hours=1) + 2)
        slots += an_hour * hours
    return slots


def catchup_window(schedule: Schedule, horizon: Horizon) -> timedelta:
    """Return how long after a slot Temporal still sends its trigger.

    For ``runOnce`` so long that the latest slot is always in it, and no longer: every slot in it is
    sent, and only the latest of them runs.
    """
    if schedule.missed_run_policy == "skip":
        return max(schedule.misfire_grace, LEAST_WINDOW)
    if schedule.missed_run_policy == "catchUp":
        return max(schedule.catch_up_window, LEAST_WINDOW)
    rows = (last - first + _DAY for first, last in excluded_rows(schedule.exclude))
    gap = _longest_gap(schedule.expression, schedule.timezone, horizon)
    return gap + max(rows, default=timedelta(0))


@lru_cache(maxsize=4096)
def _longest_gap(expression: Expression, timezone: str, horizon: Horizon) -> timedelta:
    """Return a time that two nominal times in a row are never further apart than.

    A date whose time a clock change leaves out may be no date at all, so that two distances are one.
    """
    if isinstance(expression, Every):
        return max(expression.interval, LEAST_WINDOW)
    if isinstance(expression, Once):
        return horizon.end - horizon.start
    mask = times_mask(expression.hour.values, expression.minute.mask)
    times = [minute for minute in range(mask.bit_length()) if mask >> minute & 1]
    within = max((after - before for before, after in pairwise(times)), default=0)
    over_night = 1440 - times[-1] + times[0]
    windows = clock_windows(timezone, horizon.start, horizon.end)
    days = _longest_days(expression, horizon) * (2 if windows_met(expression, windows) else 1)
    gap = max(timedelta(minutes=within), (days - 1) * _DAY + timedelta(minutes=over_night))
    return gap + _CLOCK_CHANGES


def _longest_days(cron: Cron, horizon: Horizon) -> int:
    """Return the longest distance in days between two dates of an expression that follow each other."""
    if cron.deciding_days == "none" and cron.month.is_all:
        return 1
    whole = (horizon.end - horizon.start).days
    return max(
        (after - before for before, after in pairwise(_due_days(cron, horizon))), default=whole
    )


@lru_cache(maxsize=4096)
def _most_days(cron: Cron, horizon: Horizon, days: int) -> int:
    """Return on how many of some days in a row an expression is due at most."""
    if cron.deciding_days == "none" and cron.month.is_all:
        return days
    due = _due_days(cron, horizon)
    return max((bisect_left(due, day + days) - at for at, day in enumerate(due)), default=1)


@lru_cache(maxsize=256)
def _due_days(cron: Cron, horizon: Horizon) -> tuple[int, ...]:
    """Return the ordinals of the dates of an expression within the horizon's years."""
    found: list[int] = []
    first = date(horizon.start.year, 1, 1)
    while first.year <= horizon.end.year:
        after = date(first.year + first.month // 12, first.month % 12 + 1, 1)
        if cron.month.mask >> first.month & 1:
            mask = cron.days((after - first).days, first.isoweekday() % 7)
            found += [first.toordinal() + day - 1 for day in range(1, 32) if mask >> day & 1]
        first = after
    return tuple(found)

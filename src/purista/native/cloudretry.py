"""How Google Cloud Scheduler retries a trigger: while it is worth something, and before the next one.

https://cloud.google.com/scheduler/docs/configuring/retry-jobs - "the next scheduled execution time
might be skipped if the retries continue through that time". Whether retries end when one of the two
limits (count and duration) is reached or both are is said both ways; here either ends in time.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Final, NamedTuple

from purista.contract import Schedule
from purista.cover import Line
from purista.dialect import clock_windows
from purista.timecover import DAY, times_mask
from purista.turnover import Horizon

MOST_RETRIES: Final = 5
DOUBLINGS: Final = 5
DEADLINE: Final = (15, 180)
"""Seconds of one attempt: the least that is allowed, and Google's default."""

BACKOFF: Final = (5, 60)
"""Seconds before the first retry: Google's default, and the most here."""


class Retry(NamedTuple):
    """Settings in seconds. Without ``retries`` the other settings of retries say nothing."""

    deadline: int
    retries: int
    backoff: int
    duration: int


def retry_of(schedule: Schedule, room: timedelta) -> Retry:
    """Return how the triggers of a schedule are tried; all attempts end within ``room``.

    >>> from purista import Cron, Event
    >>> due = Event("due", str, service_name="Billing", service_version="1")
    >>> schedule = Schedule(name="x", service_name="Billing", service_version="1", target=due,
    ...     expression=Cron("0 2 * * *"), payload="x")
    >>> retry_of(schedule, timedelta(hours=24))
    Retry(deadline=59, retries=4, backoff=9, duration=540)
    """
    useful = schedule.misfire_grace
    if schedule.missed_run_policy != "skip":
        useful = schedule.catch_up_window
    budget = int(min(useful, room).total_seconds()) - 1
    deadline = _within(budget // 10, DEADLINE)
    backoff = _within(budget // 62, BACKOFF)
    fitting = (n for n in range(MOST_RETRIES, 0, -1) if _longest(n, deadline, backoff) <= budget)
    return Retry(deadline, next(fitting, 0), backoff, budget - deadline)


def line_gap(line: Line, horizon: Horizon) -> timedelta:
    """Return a time that is never longer than that between two fires of a line."""
    mask = times_mask(line.cron.hour.values, line.cron.minute.mask)
    times = [minute for minute in range(DAY) if mask >> minute & 1]
    gap = _MINUTE * min(after - before for before, after in pairwise([*times, times[0] + DAY]))
    windows = clock_windows(line.timezone, horizon.start, horizon.end)
    forward = max((window.transition.change for window in windows), default=timedelta(0))
    return max(gap - max(forward, timedelta(0)), _MINUTE)


_MINUTE: Final = timedelta(minutes=1)


def _longest(retries: int, deadline: int, backoff: int) -> int:
    """Return for how long all attempts go on at most."""
    return backoff * ((1 << retries) - 1) + deadline * (retries + 1)


def _within(seconds: int, limits: tuple[int, int]) -> int:
    return min(max(seconds, limits[0]), limits[1])

"""How far apart the nominal times of a schedule are."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice, pairwise
from typing import Final

from purista.contract import Schedule
from purista.dialect import clock_windows, has_odd_change, windows_met
from purista.expression import Cron, Every
from purista.timecover import DAY, times_mask
from purista.turnover import Horizon

SAMPLE: Final = 500
"""So many nominal times are looked at."""


def shortest_gap(schedule: Schedule, horizon: Horizon) -> timedelta | None:
    """Return the shortest time between two of the next nominal times; None where there is but one."""
    if isinstance(schedule.expression, Every):
        return schedule.expression.interval
    times = islice(schedule.between(horizon.start, horizon.end), SAMPLE)
    return min((after - before for before, after in pairwise(times)), default=None)


def least_gap(schedule: Schedule, horizon: Horizon) -> timedelta:
    """Return a time that no two nominal times are closer than; quicker than ``shortest_gap``.

    Zero where little is known: for seconds, and where a clock change moves times to others.
    """
    expression = schedule.expression
    if isinstance(expression, Every):
        return expression.interval
    if not isinstance(expression, Cron):
        return horizon.end - horizon.start
    if expression.second.values != (0,):
        return timedelta(0)
    windows = clock_windows(schedule.timezone, horizon.start, horizon.end)
    if windows_met(expression, windows):
        return timedelta(0)
    mask = times_mask(expression.hour.values, expression.minute.mask)
    times = [minute for minute in range(DAY) if mask >> minute & 1]
    over_night = DAY - times[-1] + times[0]
    gap = min((after - before for before, after in pairwise(times)), default=over_night)
    if len(times) == 1:
        over_night += (_days_between(expression) - 1) * DAY
        gap = over_night
    change = max((abs(each.transition.change) for each in windows), default=timedelta(0))
    return max(timedelta(minutes=min(gap, over_night)) - change, timedelta(0))


def _days_between(cron: Cron) -> int:
    """Return how many days lie at least between two dates of an expression; 1 where not much is known."""
    month, week = cron.day_of_month, cron.day_of_week
    if cron.deciding_days == "week" and len(week.values) == 1 and not week.nth:
        return 7
    special = month.from_end or month.near_weekday or month.last_weekday
    if cron.deciding_days == "month" and len(month.values) == 1 and not special:
        return 28
    return 1


def is_even(schedule: Schedule, horizon: Horizon) -> bool:
    """Whether any two nominal times that follow each other are equally far apart.

    Said of what is certain: an interval, and a cron expression for times of every day, or of one day
    of the week, in a zone without clock changes or, where these are by whole hours, with the same
    minutes in every hour.
    """
    cron = schedule.expression
    if schedule.exclude or not isinstance(cron, Cron):
        return isinstance(cron, Every) and not schedule.exclude
    if not cron.month.is_all or cron.second.values != (0,):
        return False
    times = times_mask(cron.hour.values, cron.minute.mask)
    windows = clock_windows(schedule.timezone, horizon.start, horizon.end)
    every_hour = cron.hour.is_all and not cron.is_fixed_time and not has_odd_change(windows)
    if windows and not every_hour:
        return False
    if cron.deciding_days == "week":
        return not cron.day_of_week.nth and len(cron.day_of_week.values) == times.bit_count() == 1
    return cron.deciding_days == "none" and _is_evenly_spread(times)


def _is_evenly_spread(times: int) -> bool:
    """Whether times of day are equally far apart, over midnight too."""
    count = times.bit_count()
    if DAY % count:
        return False
    step = DAY // count
    first = (times & -times).bit_length() - 1
    return times == sum(1 << first + step * each for each in range(count))

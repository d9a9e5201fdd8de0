"""Cron texts in UTC that cover an interval: the times of day at which it is due on some day."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from functools import lru_cache
from math import gcd
from typing import Final, NamedTuple

from purista.cronfield import SECOND, list_text
from purista.expression import EPOCH, Every
from purista.timecover import time_cover


class EveryCover(NamedTuple):
    """Cron texts, and whether they fire at the times of the interval and at no others."""

    texts: tuple[str, ...]
    exact: bool


@lru_cache(maxsize=4096)
def every_lines(every: Every, *, seconds: bool, most: int) -> EveryCover | None:
    """Return at most ``most`` texts that cover an interval; None where it is due between two lines.

    With ``seconds`` the texts have a field of seconds. Where more texts would be needed to be exact,
    there is one that fires more often.

    >>> every_lines(Every(timedelta(minutes=90)), seconds=False, most=2).texts
    ('0 */3 * * *', '30 1,4,7,10,13,16,19,22 * * *')
    >>> every_lines(Every(timedelta(minutes=90)), seconds=False, most=1).texts
    ('*/30 0,1,3,4,6,7,9,10,12,13,15,16,18,19,21,22 * * *',)
    """
    finest = 1 if seconds else 60
    interval, phase = every.interval // _TICK, every.phase // _TICK
    if interval % (finest * _SECOND) or phase % (finest * _SECOND):
        return None
    interval, phase = interval // _SECOND, phase // _SECOND
    if interval % _WEEK == 0:
        return _weekly(EPOCH + timedelta(seconds=phase), interval, seconds=seconds)
    step = gcd(interval, _DAY)
    by_second: dict[int, int] = defaultdict(int)
    for second in range(phase % step, _DAY, step):
        by_second[second % 60] |= 1 << second // 60
    return _texts(by_second, seconds=seconds, most=most, exact=step == interval)


_TICK: Final = timedelta(microseconds=1)
_SECOND: Final = 1_000_000
_DAY: Final = 86_400
_WEEK: Final = 7 * _DAY


def _weekly(first: datetime, interval: int, *, seconds: bool) -> EveryCover:
    text = f"{first.minute} {first.hour} * * {first.isoweekday() % 7}"
    return EveryCover((f"{first.second} {text}" if seconds else text,), interval == _WEEK)


def _texts(by_second: dict[int, int], *, seconds: bool, most: int, exact: bool) -> EveryCover:
    """Return a text for each second and minute pattern; one for all where these are too many."""
    by_times: dict[int, list[int]] = defaultdict(list)
    for second, times in by_second.items():
        by_times[times].append(second)
    made: list[str] = []
    for times, at in by_times.items():
        found = time_cover(times, most=most)
        exact = exact and found.exact
        prefix = f"{list_text(SECOND, tuple(sorted(at)))} " if seconds else ""
        made += [f"{prefix}{line.minute} {line.hour} * * *" for line in found.lines]
    if len(made) <= most:
        return EveryCover(tuple(made), exact)
    union = 0
    for times in by_times:
        union |= times
    line = time_cover(union, most=1).lines[0]
    prefix = f"{list_text(SECOND, tuple(sorted(by_second)))} " if seconds else ""
    return EveryCover((f"{prefix}{line.minute} {line.hour} * * *",), exact=False)

"""How a scheduler reads the cron lines that it is given: what one line can say, and what clock changes do.

A dialect is a fact about an engine, established by its vendor's page or by an experiment; what is not
known is None, and nothing is then built on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeAlias

from purista import cronfield, firetimes
from purista.crontext import DayRule
from purista.expression import Cron
from purista.firetimes import DstGap, DstOverlap
from purista.zone import Transition

Special: TypeAlias = Literal["L", "L-n", "W", "LW", "#", "#L"]
"""Day words beyond plain numbers: last day, days before it, nearest weekday, nth and last weekday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one native line of a scheduler can say.

    ``day_rule`` is how a line is read that restricts both day fields; None: no line may. ``specials``
    are the day words that a line can have, each alone in its field. ``seconds``: whether a line names
    seconds. ``zones`` are the zones in which a line can be read; None: in any.

    ``dst_gap`` and ``dst_overlap`` are what a line with fixed times does where the clock changes,
    ``wildcard`` how often any other line fires where an hour comes twice. ``odd_changes`` says
    whether that holds for changes by other than whole hours.

    ``many_lines``: one object of the scheduler takes any number of lines, and fires once where they
    coincide. Where it does not, every line is an object of its own.
    """

    day_rule: DayRule | None
    specials: frozenset[Special] = frozenset()
    seconds: bool = False
    zones: frozenset[str] | None = None
    dst_gap: DstGap | None = None
    dst_overlap: DstOverlap | None = None
    wildcard: Literal["both", "first"] | None = None
    odd_changes: bool = True
    many_lines: bool = False

    def can_be_in(self, timezone: str) -> bool:
        """Whether a line can be read on the wall clock of a zone."""
        return self.zones is None or timezone in self.zones


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a scheduler makes of a cron text that someone copies into it as it stands.

    ``day_rule`` is how it reads two restricted day fields, None where it refuses them; with
    ``star_rule`` a field that begins with a star makes it *and*. ``refused`` and ``misread`` are the
    day words that it takes for mistakes, and for something else (``#`` for the start of a comment).
    ``dst_gap``, ``dst_overlap`` and ``wildcard`` are as for ``Dialect``; None where nobody knows.
    ``zone`` is the zone in which it is read, None for the schedule's own. ``dst_overlap_west`` is for
    zones west of Greenwich, where that differs. ``sunday`` is the number of Sunday, ``put_in`` what a
    person has to put in before the text is taken at all.
    """

    day_rule: DayRule | None
    star_rule: bool = False
    refused: frozenset[Special] = frozenset()
    misread: frozenset[Special] = frozenset()
    dst_gap: DstGap | None = None
    dst_overlap: DstOverlap | None = None
    dst_overlap_west: DstOverlap | None = None
    wildcard: Literal["both", "first"] | None = None
    zone: str | None = None
    sunday: Literal[0, 1] = 0
    put_in: str = ""

    def overlap_in(self, offset: timedelta) -> DstOverlap | None:
        """Return what it does where an hour comes twice, in a zone so far ahead of UTC."""
        west = self.dst_overlap_west if offset < timedelta(0) else None
        return west or self.dst_overlap


class ClockWindow(NamedTuple):
    """A clock change, and the stretch of local times that it leaves out or repeats (end excluded)."""

    transition: Transition
    first: datetime
    end: datetime


@lru_cache(maxsize=1024)
def clock_windows(timezone: str, since: datetime, until: datetime) -> tuple[ClockWindow, ...]:
    """Return the clock changes of a zone from ``since`` to ``until``."""
    return tuple(map(_window, firetimes.transitions(timezone, since, until)))


def windows_met(cron: Cron, windows: tuple[ClockWindow, ...]) -> list[ClockWindow]:
    """Return the clock changes whose stretch of local times holds one of the expression's."""
    if not cron.hour.mask & _hours_of(windows):
        return []
    return [window for window in windows if _is_met(cron, window)]


def touches_midnight(windows: tuple[ClockWindow, ...]) -> bool:
    """Whether one of the changes begins or ends at midnight on the wall clock, or reaches over it."""
    return any(
        window.first.date() != window.end.date()
        or time() in {window.first.time(), window.end.time()}
        for window in windows
    )


def begins_within_an_hour(windows: tuple[ClockWindow, ...]) -> bool:
    """Whether one of the changes begins or ends at other than a full hour, as that of Chatham."""
    return any(window.first.minute or window.end.minute for window in windows)


def has_odd_change(windows: tuple[ClockWindow, ...]) -> bool:
    """Whether one of the changes is by other than whole hours."""
    return any(window.transition.change % _HOUR for window in windows)


def plain_text(cron: Cron) -> str:
    """Return a cron text of lists, without stars in the time of day.

    >>> plain_text(Cron("*/30 */12 * * *"))
    '0,30 0,12 * * *'
    """
    minute, hour, *days = cron.canonical.split()[-5:]
    minute = cronfield.list_text(cronfield.MINUTE, cron.minute.values)
    hour = cronfield.list_text(cronfield.HOUR, cron.hour.values)
    second = [cronfield.list_text(cronfield.SECOND, cron.second.values)] if cron.seconds else []
    return " ".join([*second, minute, hour, *days])


_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


def _window(transition: Transition) -> ClockWindow:
    at = transition.instant.replace(tzinfo=None)
    walls = at + transition.offset_before, at + transition.offset_after
    return ClockWindow(transition, min(walls), max(walls))


@lru_cache(maxsize=1024)
def _hours_of(windows: tuple[ClockWindow, ...]) -> int:
    """Return the hours of day, as a mask, that the windows touch."""
    mask = 0
    for window in windows:
        at = window.first.replace(minute=0, second=0)
        while at < window.end:
            mask |= 1 << at.hour
            at += _HOUR
    return mask


def _is_met(cron: Cron, window: ClockWindow) -> bool:
    first, end = window.first, window.end
    days = {first.date(), (end - timedelta(microseconds=1)).date()}
    if not any(matches_date(cron, day.year, day.month, day.day) for day in days):
        return False
    last = end.replace(tzinfo=UTC) - timedelta(seconds=1)
    return next(firetimes.between(cron, "UTC", first.replace(tzinfo=UTC), last), None) is not None


def matches_date(cron: Cron, year: int, month: int, day: int) -> bool:
    """Whether a date is one of the expression's."""
    if not cron.month.mask >> month & 1:
        return False
    length, first_weekday = _month(year, month)
    return bool(cron.days(length, first_weekday) >> day & 1)


@lru_cache(maxsize=4096)
def _month(year: int, month: int) -> tuple[int, int]:
    """Return how many days a month has, and its first weekday (0 is Sunday)."""
    first = datetime(year, month, 1)  # noqa: DTZ001 - a date on no clock
    after = first.replace(year=year + month // 12, month=month % 12 + 1)
    return (after - first) // _DAY, first.isoweekday() % 7

"""Turnover: which nominal times a change takes away, and which it brings.

Two ascending streams are walked side by side, so that neither is ever held: a schedule may be due
every second of a hundred years.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from purista.timetable import Timetable

FIRST = 3
"""How many instants a tally keeps, besides the last one."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """From when to when nominal times are compared, both inclusive."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Tally:
    """How many instants there are, the first few of them, and the last."""

    count: int = 0
    first: tuple[datetime, ...] = ()
    last: datetime | None = None

    def __bool__(self) -> bool:
        return self.count > 0


@dataclass(frozen=True, slots=True)
class Turnover:
    """What a change does to the nominal times within a horizon; false when it does nothing.

    ``old`` and ``new`` are None where nothing is due at all: before a schedule was added, after it
    was removed, while it is disabled.
    """

    old: Timetable | None
    new: Timetable | None
    horizon: Horizon
    disappear: Tally
    appear: Tally

    def __bool__(self) -> bool:
        return bool(self.disappear or self.appear)

    def disappearing(self) -> Iterator[datetime]:
        """Yield each nominal time that is no more, ascending and lazily."""
        return only_in(_times(self.old, self.horizon), _times(self.new, self.horizon))

    def appearing(self) -> Iterator[datetime]:
        """Yield each nominal time that was not, ascending and lazily."""
        return only_in(_times(self.new, self.horizon), _times(self.old, self.horizon))


def turnover(old: Timetable | None, new: Timetable | None, horizon: Horizon) -> Turnover:
    """Return what becomes of the nominal times when ``new`` takes the place of ``old``."""
    if old == new:
        return Turnover(old, new, horizon, Tally(), Tally())
    disappear, appear = _Counting(), _Counting()
    for is_new, instant in _walk(_times(old, horizon), _times(new, horizon)):
        (appear if is_new else disappear).add(instant)
    return Turnover(old, new, horizon, disappear.tally(), appear.tally())


def only_in(these: Iterable[datetime], those: Iterable[datetime]) -> Iterator[datetime]:
    """Yield what is in the first of two ascending streams and not in the second.

    >>> from datetime import UTC
    >>> days = [datetime(2027, 1, day, tzinfo=UTC) for day in range(1, 5)]
    >>> [at.day for at in only_in(days, days[1:3])]
    [1, 4]
    """
    return (instant for is_new, instant in _walk(iter(these), iter(those)) if not is_new)


def _walk(old: Iterator[datetime], new: Iterator[datetime]) -> Iterator[tuple[bool, datetime]]:
    """Yield what only one of two ascending streams has, and whether that is the new one."""
    before, after = next(old, None), next(new, None)
    while before is not None and after is not None:
        if before == after:
            before, after = next(old, None), next(new, None)
        elif before < after:
            yield False, before
            before = next(old, None)
        else:
            yield True, after
            after = next(new, None)
    while before is not None:
        yield False, before
        before = next(old, None)
    while after is not None:
        yield True, after
        after = next(new, None)


def _times(timetable: Timetable | None, horizon: Horizon) -> Iterator[datetime]:
    return iter(()) if timetable is None else timetable.between(horizon.start, horizon.end)


class _Counting:
    """A tally in the making."""

    __slots__ = ("_count", "_first", "_last")

    def __init__(self) -> None:
        self._count = 0
        self._first: list[datetime] = []
        self._last: datetime | None = None

    def add(self, instant: datetime) -> None:
        """Count one more instant, later than those before."""
        self._count += 1
        if self._count <= FIRST:
            self._first.append(instant)
        self._last = instant

    def tally(self) -> Tally:
        """Return what was counted."""
        return Tally(self._count, tuple(self._first), self._last)

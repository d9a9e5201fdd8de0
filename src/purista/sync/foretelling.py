"""Which fire times a plan takes away, and which it brings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from heapq import merge
from itertools import groupby, islice
from typing import Any, Final, NamedTuple

from purista.plan import PAUSED, Change, merged
from purista.sync.port import FireTimes, LiveScheduler

SHOWN: Final = 3
"""So many times of either kind are shown."""

AHEAD: Final = timedelta(days=400)
"""So far ahead is looked."""

MOST: Final = 2000
"""No more times than that are compared, so that a plan for thousands of schedules takes seconds."""


class Foretold(NamedTuple):
    """The first fire times that disappear and appear; ``more`` of them may follow."""

    disappear: tuple[datetime, ...] = ()
    appear: tuple[datetime, ...] = ()
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.disappear or self.appear)


def foretold(change: Change, live: LiveScheduler, now: datetime) -> Foretold | None:
    """Return what becomes of the fire times after ``now``; None where the scheduler cannot tell."""
    if not isinstance(live, FireTimes):
        return None
    end = now + AHEAD
    before = _times(live, None if change.observed is None else change.observed.fields, now, end)
    after = _times(live, None if change.desired is None else merged(change), now, end)
    return None if before is None or after is None else _difference(before, after)


def kept_from_contract(change: Change, live: LiveScheduler, now: datetime) -> Foretold | None:
    """Return which of the contract's times an object leaves out as a person changed it, and which it adds.

    None where the scheduler cannot tell, and for a paused one, which fires at none.
    """
    assert change.observed is not None
    assert change.desired is not None
    if not isinstance(live, FireTimes) or change.observed.fields.get(PAUSED):
        return None
    end = now + AHEAD
    due = _times(live, change.desired.fields, now, end)
    fired = _times(live, change.observed.fields, now, end)
    return None if due is None or fired is None else _difference(due, fired)


def _times(
    live: FireTimes, fields: Mapping[str, Any] | None, start: datetime, end: datetime
) -> Iterable[datetime] | None:
    return () if fields is None else live.fire_times(fields, start, end)


def _difference(before: Iterable[datetime], after: Iterable[datetime]) -> Foretold:
    found: dict[bool, list[datetime]] = {False: [], True: []}
    sides = [is_new for is_new, times in ((False, before), (True, after)) if times != ()]
    more = False
    for at, is_new in _in_one_only(before, after):
        if len(found[is_new]) < SHOWN:
            found[is_new].append(at)
            continue
        more = True
        if all(len(found[side]) == SHOWN for side in sides):
            break
    return Foretold(tuple(found[False]), tuple(found[True]), more)


def _in_one_only(
    before: Iterable[datetime], after: Iterable[datetime]
) -> Iterator[tuple[datetime, bool]]:
    """Yield the times of either stream that the other has not, and whether they are new."""
    both = merge(((at, False) for at in before), ((at, True) for at in after))
    for at, found in islice(groupby(both, key=lambda each: each[0]), MOST):
        kinds = {is_new for _, is_new in found}
        if len(kinds) == 1:
            yield at, kinds.pop()

"""The coarsest grid that holds all slots of a scheduler's lines.

A process that cron or systemd starts is told nothing of the slot for which it was started, and may
start a little late. Every slot of its lines lies on a grid of whole periods since the Unix epoch, so
that the slot is the latest point of the grid that has come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from math import gcd
from typing import Final

from purista.cover import Line
from purista.dialect import clock_windows
from purista.firetimes import offset_at
from purista.slot import SlotGrid
from purista.turnover import Horizon


def grid_of(lines: Iterable[Line], horizon: Horizon) -> SlotGrid:
    """Return the coarsest grid that holds every slot of some lines, at every offset of their zones.

    What a scheduler moves to the end of a gap is no slot of theirs: give it a line of its own.
    """
    times = sorted({time for line in lines for time in _times(line, horizon)})
    period = _DAY
    for time in times:
        period = gcd(period, time - times[0])
    return SlotGrid(period, times[0] % period)


_SECOND: Final = timedelta(seconds=1)
_DAY: Final = 86_400


def _times(line: Line, horizon: Horizon) -> Iterator[int]:
    """Yield the times of day in UTC, in seconds, at which a line can fire."""
    windows = clock_windows(line.timezone, horizon.start, horizon.end)
    offsets = {offset_at(line.timezone, horizon.start)}
    offsets |= {window.transition.offset_after for window in windows}
    cron = line.cron
    for offset in offsets:
        shift = offset // _SECOND
        for hour in cron.hour.values:
            for minute in cron.minute.values:
                for second in cron.second.values:
                    yield (3600 * hour + 60 * minute + second - shift) % _DAY

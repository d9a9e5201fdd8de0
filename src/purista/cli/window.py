"""From when to when a person wants to see what is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from purista.cli.instant import read_instant
from purista.clock import Clock
from purista.errors import LoadError
from purista.expression import EARLIEST, LATEST

MOST_DAYS = 100_000
"""More than the years 1970 to 2200 have."""


@dataclass(frozen=True, slots=True)
class Window:
    """From ``start`` to ``end``, both inclusive; ``end`` is None where nobody said one."""

    start: datetime
    end: datetime | None

    def until(self, default: timedelta | None = None) -> datetime:
        """Return the end, or else what comes ``default`` after the start, or else the last instant."""
        if self.end is not None:
            return self.end
        return LATEST if default is None else min(self.start + default, LATEST)


def read_window(from_: str | None, until: str | None, days: int | None, clock: Clock) -> Window:
    """Return the window that the options name, from now on if none does. Raises ``LoadError``."""
    if until is not None and days is not None:
        raise LoadError("--until and --days both say the end; give one of them")
    start = _inside("--from", read_instant("--from", from_)) or clock.now()
    end = _inside("--until", read_instant("--until", until))
    if days is not None:
        end = min(start + timedelta(days=days), LATEST)
    if end is not None and end < start:
        where = "--from" if from_ is not None else "now"
        raise LoadError(f"--until '{until}' is before {where}; give a later one")
    return Window(start, end)


def _inside(option: str, instant: datetime | None) -> datetime | None:
    if instant is not None and not EARLIEST <= instant <= LATEST:
        raise LoadError(f"{option} is out of bounds; use the years 1970 to 2200")
    return instant

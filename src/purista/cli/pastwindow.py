"""Which of what has happened a person wants to look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from purista.cli.duration import is_duration, read_duration
from purista.cli.instant import read_instant
from purista.errors import LoadError

Since = Annotated[
    str | None,
    typer.Option(metavar="INSTANT|DURATION", help="From here, inclusive; or so long, such as 7d."),
]
Until = Annotated[
    str | None, typer.Option(metavar="INSTANT", help="Up to here, exclusive; now if not said.")
]


@dataclass(frozen=True, slots=True)
class PastWindow:
    """From ``since`` to ``until``, where they are named; ``length`` where a duration was."""

    since: datetime | None
    until: datetime | None
    length: timedelta | None = None

    def start(self, now: datetime) -> datetime | None:
        """Return when it begins, or None where nobody said so."""
        return self.since if self.length is None else (self.until or now) - self.length


def read_past(since: str | None, until: str | None) -> PastWindow:
    """Return the window that the options name. Raises ``LoadError``."""
    end = read_instant("--until", until)
    if since is not None and is_duration(since):
        return PastWindow(None, end, read_duration("--since", since))
    start = read_instant("--since", since)
    if start is not None and end is not None and end < start:
        raise LoadError(f"--until '{until}' is before --since '{since}'; give a later one")
    return PastWindow(start, end)

"""An agenda for a person's eyes, and the same as JSON.

Each row is printed as soon as it is known: a year of ten thousand schedules takes no more memory
than a day of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from rich.text import Text

from purista.agenda import Row, Skipped
from purista.cli.output import distance_text, local_text, out, utc_text
from purista.cli.outputfile import reader_may_leave
from purista.clockchange import clock_text
from purista.contract import Schedule

SKIPPED: Final = "skipped by the clock change"


def print_table(rows: Iterable[Row], schedules: Sequence[Schedule], start: datetime) -> bool:
    """Print rows as a table; return whether there was one."""
    widths = _widths(schedules)
    found = False
    with reader_may_leave():
        for row in rows:
            if not found:
                found = True
                _print(_TITLES.line(widths), "bold")
            _print(_cells(row, start).line(widths), _style(row))
    return found


def print_json_rows(rows: Iterable[Row], start: datetime) -> bool:
    """Print rows as one JSON list, a row on each line; return whether there was one."""
    found = False
    with reader_may_leave():
        for row in rows:
            text = json.dumps(row_json(row, start), sort_keys=True, ensure_ascii=False)
            out.file.write(f",\n{text}" if found else f"[\n{text}")
            found = True
        out.file.write("\n]\n" if found else "[]\n")
    return found


def row_json(row: Row, start: datetime) -> dict[str, Any]:
    """Return a row as JSON; ``utc`` is null where the clock skips the local time."""
    cells = _cells(row, start)
    skipped = isinstance(row, Skipped)
    return {
        "away": cells.away,
        "awayMs": (row.at - start) // timedelta(milliseconds=1),
        "clockChange": cells.mark or None,
        "id": cells.schedule,
        "local": cells.local,
        "skipped": skipped,
        "timezone": cells.zone,
        "utc": None if skipped else cells.utc,
    }


class _Cells(NamedTuple):
    local: str
    utc: str
    away: str
    schedule: str
    zone: str
    mark: str

    def line(self, widths: Sequence[int]) -> str:
        padded = [cell.ljust(width) for cell, width in zip(self, widths, strict=True)]
        return "  ".join(padded).rstrip()


_TITLES: Final = _Cells("local", "UTC", "away", "schedule", "zone", "clock change")


def _widths(schedules: Sequence[Schedule]) -> list[int]:
    """Return the columns' widths, known before the first row is."""
    ids = max([len(one.id) for one in schedules], default=0)
    zones = max([len(one.timezone) for one in schedules], default=0)
    usual = _Cells(
        "Mon 2027-03-01 02:00 +01:00", "2027-03-01T01:00:00Z", "in 364 d 23 h", "", "", ""
    )
    found = [len(cell) for cell in usual[:3]]
    return [*found, max(ids, len("schedule")), max(zones, len("zone")), 0]


def _cells(row: Row, start: datetime) -> _Cells:
    schedule, away = row.schedule, distance_text(row.at, start)
    if isinstance(row, Skipped):
        local = f"{row.local_time:%a %Y-%m-%d} {clock_text(row.local_time)}"
        return _Cells(local, "-", away, schedule.id, schedule.timezone, SKIPPED)
    local = local_text(row.at, schedule.timezone)
    return _Cells(local, utc_text(row.at), away, schedule.id, schedule.timezone, row.mark)


def _style(row: Row) -> str:
    if isinstance(row, Skipped):
        return "dim"
    return "yellow" if row.mark else ""


def _print(line: str, style: str) -> None:
    """Print a line; for a program without what costs time and only people see."""
    if out.is_terminal:
        out.print(Text(line, style=style))
    else:
        out.file.write(f"{line}\n")

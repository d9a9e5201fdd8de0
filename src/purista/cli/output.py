"""How values look on a terminal. Data goes to stdout, talk to stderr."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from purista.caption import expression_text as expression_text
from purista.caption import target_text as target_text
from purista.ingress import Decision

PIPE_WIDTH = 240
"""Columns of a table that no person reads on a terminal: nothing is folded for a program."""

_TERMINAL = sys.stdout is not None and sys.stdout.isatty()  # it is None where a shell closed it
_PLAIN: Final[dict[str, Any]] = {
    "soft_wrap": True,
    "highlight": False,
    "markup": False,
    "emoji": False,
}
out = Console(**_PLAIN, width=None if _TERMINAL else PIPE_WIDTH)
talk = Console(**_PLAIN, stderr=True)

COLOURS = {
    "accepted": "green",
    "duplicate": "cyan",
    "overlap": "yellow",
    "late": "yellow",
    "coalesced": "yellow",
    "unexpected": "red",
    "disabled": "dim",
    "rejected": "red",
}


def print_json(value: Any) -> None:
    """Print one JSON document."""
    out.out(json_text(value, indent=2))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON as people read it; what is no text, such as a byte of a file, is escaped."""
    text = json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False)
    return text.encode(errors="backslashreplace").decode()


def say(text: str, style: str = "") -> None:
    """Tell a person something, on stderr."""
    talk.print(Text(text, style=style))


def table(*columns: str, title: str = "") -> Table:
    """Return an empty table in the house's look."""
    made = Table(
        title=title or None, box=None, pad_edge=False, header_style="bold", title_justify="left"
    )
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def verdict_text(word: str) -> Text:
    """Return a decision's word in its colour."""
    return Text(word, style=COLOURS.get(word, ""))


def local_text(instant: datetime, timezone: str) -> str:
    """Return an instant on the wall clock of a zone, with its offset.

    >>> local_text(datetime.fromisoformat("2027-03-01T01:00:00+00:00"), "Europe/Berlin")
    'Mon 2027-03-01 02:00 +01:00'
    """
    local = instant.astimezone(ZoneInfo(timezone))
    clock = "%H:%M:%S" if local.second or local.microsecond else "%H:%M"
    return f"{local:%a %Y-%m-%d {clock}} {local.isoformat()[-6:]}"


def utc_text(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return instant.isoformat().replace("+00:00", "Z")


def duration_text(duration: timedelta) -> str:
    """Return a duration in its largest whole units, at most two of them.

    >>> duration_text(timedelta(hours=30, minutes=5))
    '1 d 6 h'
    """
    seconds = int(abs(duration.total_seconds()))
    if seconds == 0:
        return "0 s"
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def distance_text(instant: datetime, now: datetime) -> str:
    """Return how far away an instant is: ``in 3 d 4 h`` or ``2 h ago``."""
    apart = duration_text(instant - now)
    return f"in {apart}" if instant >= now else f"{apart} ago"


def decision_json(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON."""
    return {
        "decision": str(decision.verdict),
        "nominalTime": utc_text(decision.nominal_time) if decision.nominal_time else None,
        "reason": decision.reason,
        "retryAfterMs": _milliseconds(decision.retry_after),
        "runId": decision.run_id,
        "schedule": decision.schedule_id,
    }


def _milliseconds(duration: timedelta | None) -> int | None:
    return None if duration is None else round(duration / timedelta(milliseconds=1))

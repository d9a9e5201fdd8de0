"""Nominal times as a calendar file: iCalendar, RFC 5545.

Text out, and nothing else: the same agenda gives the same bytes, whenever it is asked for. What a
clock change skips is not in it, for nothing is due then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Final

from purista.agenda import Due, Row
from purista.caption import expression_text, target_text
from purista.contract import Schedule

LINE_OCTETS: Final = 75
"""Longest line without its end, in octets of UTF-8 (RFC 5545, section 3.1)."""


def calendar(rows: Iterable[Row], *, name: str = "") -> Iterator[str]:
    """Yield the calendar of an agenda, chunk by chunk, lazily; each ends with CR LF.

    Each nominal time is an event without a length, in UTC, that leaves its reader free. Its ``UID``
    is made of the schedule's id and the nominal time, so that a calendar that is imported again
    has it once. ``name`` is what most programs show as the calendar's name.
    """
    yield _lines("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//purista//purista//EN")
    yield _lines("CALSCALE:GREGORIAN", *([f"X-WR-CALNAME:{_text(name)}"] if name else []))
    fixed: dict[str, str] = {}
    for row in rows:
        if isinstance(row, Due):
            same = fixed.get(row.schedule.id)
            if same is None:
                same = fixed[row.schedule.id] = _same_for_all(row.schedule)
            yield _event(row, same)
    yield _lines("END:VCALENDAR")


def folded(line: str) -> str:
    r"""Return a content line with its end, folded so that no part is longer than it may be.

    A character of several octets is never cut in two (RFC 5545, section 3.1, only says that it
    should not be).

    >>> folded("X" * 76)[74:]
    'X\r\n X\r\n'
    """
    if len(line) * 4 <= LINE_OCTETS or len(line.encode()) <= LINE_OCTETS:
        return f"{line}\r\n"
    return "\r\n ".join(_parts(line)) + "\r\n"


_LINE_ENDS: Final = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
"""What programs take for the end of a line."""

_FORBIDDEN: Final = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f\ud800-\udfff]")
"""What a text may not hold: controls (RFC 5545, section 3.1), and halves of a character."""

_SIGNS: Final = str.maketrans({"\\": "\\\\", ";": "\\;", ",": "\\,", "\n": "\\n"})


def _same_for_all(schedule: Schedule) -> str:
    """Return the lines that all events of a schedule have in common."""
    service = f"{schedule.service_name}.v{schedule.service_version}"
    return _lines(
        f"SUMMARY:{_text(f'{schedule.name} ({service})')}",
        f"CATEGORIES:{_text(service)},{_text(schedule.target_kind)}",
        "TRANSP:TRANSPARENT",
    )


def _event(due: Due, same: str) -> str:
    at, schedule = due.at, due.schedule
    stamp = _stamp(at)
    about = [
        f"schedule: {schedule.id}",
        f"target: {target_text(schedule)}",
        f"expression: {expression_text(schedule.expression)}",
        f"zone: {schedule.timezone}",
        *([f"clock change: {due.mark}"] if due.mark else []),
        *([f"description: {schedule.description}"] if schedule.description else []),
    ]
    head = _lines("BEGIN:VEVENT", f"UID:{_text(schedule.id)}-{stamp}@purista")
    # The stamp is not the time of writing, so that the same contract gives the same bytes.
    times = _lines(f"DTSTAMP:{stamp}", f"DTSTART:{stamp}")
    tail = _lines(f"DESCRIPTION:{_text(chr(10).join(about))}", "END:VEVENT")
    return f"{head}{times}{same}{tail}"


def _stamp(at: datetime) -> str:
    """Return an instant in UTC as DATE-TIME, which knows whole seconds only."""
    return f"{at:%Y%m%dT%H%M%SZ}"


def _text(text: str) -> str:
    """Return a value of type TEXT (RFC 5545, section 3.3.11)."""
    return _FORBIDDEN.sub("\ufffd", _LINE_ENDS.sub("\n", text)).translate(_SIGNS)


def _lines(*lines: str) -> str:
    return "".join(map(folded, lines))


def _parts(line: str) -> Iterator[str]:
    start, octets, most = 0, 0, LINE_OCTETS
    for place, character in enumerate(line):
        length = len(character.encode())
        if octets + length > most:
            yield line[start:place]
            # The space before a continuation counts.
            start, octets, most = place, 0, LINE_OCTETS - 1
        octets += length
    yield line[start:]

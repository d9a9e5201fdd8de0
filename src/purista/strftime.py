"""Dates and times as text by ``strftime`` directives, the same on every platform, in every locale.

``datetime.strftime`` hands most directives to the C library, which knows others on each platform
and writes names in the process's language (``strftime(3)``). Here a fixed set means what Python
documents for the C locale: https://docs.python.org/3/library/datetime.html#format-codes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

DIRECTIVES: dict[str, Callable[[datetime], str]] = {
    "Y": lambda at: f"{at.year:04}",
    "y": lambda at: f"{at.year % 100:02}",
    "m": lambda at: f"{at.month:02}",
    "d": lambda at: f"{at.day:02}",
    "H": lambda at: f"{at.hour:02}",
    "I": lambda at: f"{at.hour % 12 or 12:02}",
    "M": lambda at: f"{at.minute:02}",
    "S": lambda at: f"{at.second:02}",
    "f": lambda at: f"{at.microsecond:06}",
    "p": lambda at: "AM" if at.hour < 12 else "PM",
    "j": lambda at: f"{_day_of_year(at):03}",
    "U": lambda at: f"{(_day_of_year(at) + 6 - at.isoweekday() % 7) // 7:02}",
    "W": lambda at: f"{(_day_of_year(at) + 6 - at.weekday()) // 7:02}",
    "G": lambda at: f"{at.isocalendar().year:04}",
    "V": lambda at: f"{at.isocalendar().week:02}",
    "u": lambda at: str(at.isoweekday()),
    "w": lambda at: str(at.isoweekday() % 7),
    "a": lambda at: _DAYS[at.weekday()][:3],
    "A": lambda at: _DAYS[at.weekday()],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "B": lambda at: _MONTHS[at.month - 1],
    "z": lambda at: _offset(at),
    "Z": lambda at: at.tzname() or "",
    "%": lambda _: "%",
}
"""Each directive and what it writes for an aware datetime."""

_DIRECTIVE = re.compile(r"%(-?.?)", re.DOTALL)

_INSTEAD = {
    "s": "use the placeholder without a format, or %Y-%m-%dT%H:%M:%S%z",
    "c": "use %a %b %d %H:%M:%S %Y",
    "x": "use %m/%d/%y",
    "X": "use %H:%M:%S",
    "D": "use %m/%d/%y",
    "F": "use %Y-%m-%d",
    "T": "use %H:%M:%S",
    "R": "use %H:%M",
    "e": "use %d",
    "h": "use %b",
    "": "write %% for a percent sign",
}


def problems(form: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a format, and the remedy.

    >>> list(problems("%Y-%-d"))
    [("'%-d' differs between platforms", 'use %d')]
    """
    found = _DIRECTIVE.findall(form)
    if not found:
        yield f"the format '{form}' has no directive", "write it as in %Y-%m-%d"
    if "{" in form or "}" in form:
        yield "a brace inside a format", "put it outside of the placeholder"
    for name in found:
        if name in DIRECTIVES:
            continue
        plain = name.lstrip("-")
        if name != plain and plain in DIRECTIVES:
            yield f"'%{name}' differs between platforms", f"use %{plain}"
        elif plain in _INSTEAD:
            yield f"'%{name}' differs between platforms", _INSTEAD[plain]
        else:
            yield f"unknown directive '%{name}'", f"use one of %{', %'.join(sorted(DIRECTIVES))}"


def written(at: datetime, form: str) -> str:
    """Return an aware datetime in a format that has no problems.

    >>> from datetime import UTC
    >>> written(datetime(2027, 3, 1, tzinfo=UTC), "%G-W%V-%u")
    '2027-W09-1'
    """
    return _DIRECTIVE.sub(lambda found: DIRECTIVES[found[1]](at), form)


def _day_of_year(at: datetime) -> int:
    return at.timetuple().tm_yday


def _offset(at: datetime) -> str:
    # Python writes seconds of an offset too, where there are any, and so do we.
    return at.strftime("%z")

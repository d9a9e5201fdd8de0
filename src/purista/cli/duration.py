"""Durations as a person types them on the command line."""

from __future__ import annotations

import re
from datetime import timedelta

from purista.errors import LoadError

_LENGTH = re.compile(r"([1-9][0-9]{0,5})([smhdw])")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def is_duration(text: str) -> bool:
    """Whether a text is a duration, such as 90s or 7d."""
    return _LENGTH.fullmatch(text) is not None


def read_duration(option: str, text: str) -> timedelta:
    """Return the duration that an option names. Raises ``LoadError``.

    >>> read_duration("--retry-for", "90s")
    datetime.timedelta(seconds=90)
    """
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise LoadError(f"{option} '{text}' is no duration; write it as 90s, 10m, 12h, 7d or 2w")
    return int(match[1]) * _UNITS[match[2]]

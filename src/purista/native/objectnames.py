"""Names of a schedule's objects where it needs several, and names of objects inside of files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from purista.compiling import Placed

ROOM: Final = 6
"""So many characters a scheduler's ``NameRule`` keeps free for what is put behind a name here."""


def line_names(placed: Sequence[Placed]) -> Iterator[tuple[Placed, tuple[str, ...]]]:
    """Yield each schedule with the names of its objects: its own name, then that with -2, -3.

    No two are the same: where a schedule is itself called ``x-2``, the second line of ``x`` gets one
    more hyphen.
    """
    taken = {each.name for each in placed}
    for each in placed:
        names = tuple(_names(each, taken))
        taken.update(names)
        yield each, names


def key_of(kind: str, text: str) -> str:
    """Return a name for files: letters and digits, of ``text`` alone, and for no other text.

    >>> key_of("Schedule", "Billing.v1.monthly-cycle")
    'ScheduleBillingv1monthlycycle6d7fa41d'
    """
    return f"{kind}{re.sub(r'[^A-Za-z0-9]', '', text)[:200]}{digits_of(text)}"


def line_key(kind: str, schedule_id: str, number: int) -> str:
    """Return a name in files for the object of a schedule's line; lines are counted from 0."""
    return key_of(kind, f"{schedule_id} {number + 1}" if number else schedule_id)


def digits_of(text: str) -> str:
    """Return eight hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _names(placed: Placed, taken: Iterable[str]) -> Iterator[str]:
    yield placed.name
    for number in range(2, len(placed.cover.lines) + 1):
        hyphens = "-"
        while (name := f"{placed.name}{hyphens}{number}") in taken:
            hyphens += "-"
        yield name

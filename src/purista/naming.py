"""Names of schedules in schedulers that cannot carry their ids: short, unique, and the same each time."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

SUFFIX_LENGTH = 8
"""Hexadecimal digits of the suffix: it only has to tell apart ids that are alike up to there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRule:
    """What a scheduler takes as a name.

    ``others`` is a pattern of one character that it does not take; each becomes ``filler``. ``room``
    is kept free at the end, for what is put behind the name.
    """

    longest: int
    others: re.Pattern[str]
    filler: str = "-"
    lower: bool = False
    room: int = 0

    def plain(self, schedule_id: str) -> str:
        """Return an id with nothing in it that the scheduler does not take, however long."""
        text = schedule_id.lower() if self.lower else schedule_id
        return self.others.sub(self.filler, text)


def names_of(ids: Iterable[str], rule: NameRule) -> dict[str, str]:
    """Return a name for each id: the id where it can be, else with a suffix that only it has.

    A suffix is put where a name would be too long, or where two would be the same; it is made of the
    id alone, and longer where two suffixes are the same.

    >>> rule = NameRule(longest=20, others=re.compile(r"[^a-z0-9-]"), lower=True)
    >>> names_of(["A.v1.x", "a.v1.x", "b.v1.y"], rule)
    {'A.v1.x': 'a-v1-x-b5d5ed8d', 'a.v1.x': 'a-v1-x-b373f9e1', 'b.v1.y': 'b-v1-y'}
    """
    longest = rule.longest - rule.room
    names = {each: rule.plain(each) for each in sorted(set(ids))}
    digits = dict.fromkeys(names, 0)
    while wrong := _wrong(names, digits, longest):
        for each in wrong:
            digits[each] += SUFFIX_LENGTH
            names[each] = _with_suffix(each, rule.plain(each), longest, digits[each])
    return names


def _wrong(names: dict[str, str], digits: dict[str, int], longest: int) -> list[str]:
    """Return the ids whose name cannot stay: it is too long, or not the only one.

    Of those with the same name, the ones that have a suffix already keep it if they can.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for each, name in names.items():
        by_name[name].append(each)
    wrong: list[str] = []
    for name, those in by_name.items():
        if len(those) > 1 or len(name) > longest:
            wrong += [each for each in those if not digits[each]] or those
    return wrong


def _with_suffix(schedule_id: str, name: str, longest: int, digits: int) -> str:
    suffix = hashlib.sha256(schedule_id.encode()).hexdigest()[:digits]
    return f"{name[: longest - digits - 1].rstrip('-._')}-{suffix}"

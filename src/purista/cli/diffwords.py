"""The words in which a comparison is told, whatever it is written on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

from purista.cli.output import expression_text, utc_text
from purista.comparison import Changed, Comparison
from purista.difference import FieldChange, same
from purista.jsonvalue import joined
from purista.timetable import Timetable
from purista.turnover import Tally
from purista.wire import expression


@dataclass(frozen=True, slots=True)
class Report:
    """A comparison with what a person has to know beside it.

    ``sides`` are the names of what was compared, ``versions`` those of their time-zone databases,
    ``remarks`` whole sentences.
    """

    comparison: Comparison
    sides: tuple[str, str]
    versions: tuple[str | None, str | None]
    remarks: tuple[str, ...] = ()


def counts_text(comparison: Comparison) -> str:
    """Return how many schedules became what."""
    counts = [
        (len(comparison.added), "added"),
        (len(comparison.removed), "removed"),
        (len(comparison.renamed), "renamed"),
        (len(comparison.changed), "changed"),
        (len(comparison.unknown), "unknown"),
        (comparison.unchanged, "unchanged"),
    ]
    return ", ".join(f"{count} {word}" for count, word in counts if count) or "no schedules"


def times_text(comparison: Comparison) -> str:
    """Return how many nominal times disappear and appear in all."""
    if comparison.disappear or comparison.appear:
        return f"nominal times: {moved_text(comparison.disappear, comparison.appear)}"
    return "no nominal time is known to change" if comparison.unknown else "no nominal time changes"


def moved_text(disappear: int, appear: int) -> str:
    """Return how many nominal times disappear and appear."""
    return f"{verb_text(disappear, 'disappear')}, {verb_text(appear, 'appear')}"


def verb_text(count: int, verb: str) -> str:
    """Return how many there are of those that do something.

    >>> verb_text(1, "appear"), verb_text(2, "appear")
    ('1 appears', '2 appear')
    """
    return f"{count} {verb}{'s' if count == 1 else ''}"


def horizon_text(comparison: Comparison) -> str:
    """Return the horizon in UTC."""
    return f"{utc_text(comparison.horizon.start)} to {utc_text(comparison.horizon.end)}"


def meaning_text(change: Changed) -> str:
    """Return what a change comes to where no nominal time moves."""
    if change.changes_meaning:
        return "its nominal times stay"
    return "its meaning stays"


def entry_text(entry: Mapping[str, Any]) -> str:
    """Return when a schedule is due and what it triggers."""
    when = expression_text(expression(entry["expression"]))
    return f"{when} {entry['timezone']}, {entry['targetKind']} {entry['targetName']}"


def leaves(change: FieldChange) -> Iterator[tuple[str, str, str]]:
    """Yield path, old and new text of each value that is not the same, however deep it is."""
    if isinstance(change.old, dict) and isinstance(change.new, dict):
        yield from _leaves(change.field, change.old, change.new)
        return
    old, new = (_NOTHING if each is None else _shown(each) for each in (change.old, change.new))
    yield plain(change.field), *cut(old, new)


def cut(old: str, new: str) -> tuple[str, str]:
    """Return two texts so short that a line holds them, and still with what is not the same."""
    start = 0
    if max(len(old), len(new)) > _LIMIT:
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))
        start = max(sum(1 for _ in alike) - _BEFORE, 0)
    before = "..." if start else ""
    texts = [f"{before}{text[start:]}" for text in (old, new)]
    first, second = (text if len(text) <= _LIMIT else f"{text[:_LIMIT]}..." for text in texts)
    return first, second


def plain(text: str) -> str:
    r"""Return a text in which every character that cannot be seen is written as its number.

    >>> print(plain("red" + chr(27)))
    red\u001b
    """
    return "".join(each if each.isprintable() else _number(each) for each in text)


def zone_of_times(timetable: Timetable | None) -> ZoneInfo:
    """Return the zone on whose clock the times of a schedule are told, if there are any."""
    return timetable.zone if timetable else ZoneInfo("UTC")


def local_text(instant: datetime, zone: ZoneInfo) -> str:
    """Return an instant on a zone's wall clock, with its offset."""
    local = instant.astimezone(zone)
    clock = "%H:%M:%S" if local.second or local.microsecond else "%H:%M"
    return f"{local:%a %Y-%m-%d {clock}} {local.isoformat(timespec='seconds')[19:]}"


def some_of(tally: Tally) -> tuple[tuple[datetime, ...], int, datetime | None]:
    """Return the first few instants, how many more there are, and the last of those."""
    if tally.count <= len(tally.first):
        return tally.first, 0, None
    return tally.first, tally.count - len(tally.first) - 1, tally.last


_NOTHING = "(none)"
_LIMIT = 160
_BEFORE = 20


def _leaves(path: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in sorted(old.keys() | new.keys()):
        inner = joined(path, name)
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _leaves(inner, before, after)
            continue
        texts = [_shown(each[name]) if name in each else _NOTHING for each in (old, new)]
        if name not in old or name not in new or not same(before, after):
            yield plain(inner), *cut(*texts)


def _shown(value: Any) -> str:
    return plain(json.dumps(value, ensure_ascii=False))


def _number(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"

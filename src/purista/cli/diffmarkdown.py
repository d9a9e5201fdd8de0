"""A comparison as Markdown for a pull request (GitHub Flavored Markdown).

What a manifest or a person says is written so that it stays text: a table cell, a tag, a mention or
an end of the folded part cannot be smuggled in.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias
from zoneinfo import ZoneInfo

from purista.cli.diffwords import (
    Report,
    counts_text,
    entry_text,
    horizon_text,
    leaves,
    local_text,
    meaning_text,
    moved_text,
    plain,
    some_of,
    times_text,
    zone_of_times,
)
from purista.cli.output import utc_text
from purista.comparison import Added, Changed, Removed
from purista.turnover import Tally, Turnover

_WithTimes: TypeAlias = Added | Removed | Changed

MOST_IN_TABLE = 20_000
MOST_IN_ALL = 60_000
"""Characters: a pull request takes 65,536 of them."""


def markdown_text(report: Report) -> str:
    """Return a report as Markdown: a summary, a table, and the details folded."""
    return "\n".join(_lines(report)) + "\n"


def code(text: str) -> str:
    """Return a text as code that stays code, whatever is in it.

    >>> print(code("a`b"), code("0 2 * * *"))
    `` a`b `` `0 2 * * *`
    """
    visible = plain(text) or " "
    longest = max(map(len, re.findall("`+", visible)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {visible} {fence}" if longest else f"{fence}{visible}{fence}"


def cell(text: str) -> str:
    """Return a text as code for a table, in which nothing ends the cell.

    >>> print(cell("Shop.v1.daily"), cell("a|b"))
    `Shop.v1.daily` <code>a&#124;b</code>
    """
    if _SAFE.fullmatch(text):
        return f"`{text}`"
    return f"<code>{''.join(map(_character, plain(text)))}</code>"


def prose(text: str) -> str:
    """Return a sentence that stays text: no tag, mention or table cell can be smuggled in.

    >>> print(prose("fires at 02:30, not <b>"))
    fires at 02:30, not &#60;b&#62;
    """
    return "".join(each if each in _PROSE else _character(each) for each in plain(text))


_PROSE = frozenset(" :;/()+='-")
"""Signs that are text wherever they stand in a sentence."""
_SAFE = re.compile(r"[A-Za-z0-9_.:/*,#?+=-](?:[A-Za-z0-9_.:/*,#?+= -]*[A-Za-z0-9_.:/*,#?+=-])?")
_ORDINARY = re.compile(r"[A-Za-z0-9 .,]")


def _lines(report: Report) -> Iterator[str]:
    comparison = report.comparison
    sides = f"{code(report.sides[0])} to {code(report.sides[1])}"
    yield f"**Schedules: {counts_text(comparison)}; {times_text(comparison)}**"
    yield ""
    yield f"{sides}, nominal times from {horizon_text(comparison)}."
    for remark in report.remarks:
        yield ""
        yield "".join(map(_character, plain(remark)))
    rows = list(_rows(report))
    if rows:
        yield from _table_and_details(report, rows)


def _table_and_details(report: Report, rows: list[str]) -> Iterator[str]:
    comparison = report.comparison
    shown_rows = _up_to(MOST_IN_TABLE, rows)
    schedules: list[_WithTimes] = [*comparison.added, *comparison.removed, *comparison.changed]
    shown_details = _up_to(MOST_IN_ALL - MOST_IN_TABLE, map(_details, schedules))
    yield ""
    yield "| | schedule | fields | disappear | appear |"
    yield "|---|---|---|--:|--:|"
    yield from shown_rows
    yield from shown_details
    left = len(rows) - len(shown_rows), len(schedules) - len(shown_details)
    if any(left):
        yield ""
        yield f"Too long for here: {left[0]} rows and {left[1]} details. The JSON has them all."


def _up_to(most: int, texts: Iterable[str]) -> list[str]:
    """Return the first texts, as many as have so many characters together."""
    shown = []
    for text in texts:
        most -= len(text)
        if most < 0:
            break
        shown.append(text)
    return shown


def _rows(report: Report) -> Iterator[str]:
    comparison = report.comparison
    for added in comparison.added:
        yield _row("added", cell(added.id), "", added.turnover)
    for removed in comparison.removed:
        yield _row("removed", cell(removed.id), "", removed.turnover)
    for renamed in comparison.renamed:
        yield f"| renamed | {cell(renamed.old_id)} to {cell(renamed.id)} | | 0 | 0 |"
    for changed in comparison.changed:
        fields = ", ".join(cell(each.field) for each in changed.fields)
        yield _row("changed", cell(changed.id), fields, changed.turnover)
    for unknown in comparison.unknown:
        yield f"| unknown | {cell(unknown)} | | ? | ? |"


def _row(word: str, name: str, fields: str, turnover: Turnover) -> str:
    counts = f"{turnover.disappear.count} | {turnover.appear.count}"
    return f"| {word} | {name} | {fields} | {counts} |"


def _details(schedule: _WithTimes) -> str:
    return "\n".join(["", *_detail_lines(schedule)])


def _detail_lines(schedule: _WithTimes) -> Iterator[str]:
    turnover = schedule.turnover
    yield "<details>"
    yield f"<summary>{html.escape(schedule.id)}: {_summary(schedule)}</summary>"
    yield ""
    if isinstance(schedule, Changed):
        for field in schedule.fields:
            for path, old, new in leaves(field):
                yield f"- {code(path)}: {code(old)} to {code(new)}"
    else:
        yield f"- {code(entry_text(schedule.entry))}"
    if turnover:
        yield ""
        yield "| | local | zone | UTC |"
        yield "|---|---|---|---|"
        yield from _times("disappears", turnover.disappear, zone_of_times(turnover.old))
        yield from _times("appears", turnover.appear, zone_of_times(turnover.new))
    yield ""
    yield "</details>"


def _summary(schedule: _WithTimes) -> str:
    turnover = schedule.turnover
    if turnover:
        return moved_text(turnover.disappear.count, turnover.appear.count)
    return meaning_text(schedule) if isinstance(schedule, Changed) else "nothing is due"


def _times(word: str, tally: Tally, zone: ZoneInfo) -> Iterator[str]:
    first, more, last = some_of(tally)
    for instant in first:
        yield f"| {word} | {local_text(instant, zone)} | {zone.key} | {utc_text(instant)} |"
    if more:
        yield f"| | ... {more} more | | |"
    if last:
        yield f"| {word} | {local_text(last, zone)} | {zone.key} | {utc_text(last)} |"


def _character(character: str) -> str:
    return character if _ORDINARY.fullmatch(character) else f"&#{ord(character)};"

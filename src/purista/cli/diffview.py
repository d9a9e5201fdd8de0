"""How a comparison looks on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from rich.text import Text

from purista.cli.diffwords import (
    Report,
    counts_text,
    entry_text,
    horizon_text,
    leaves,
    local_text,
    meaning_text,
    plain,
    some_of,
    times_text,
    verb_text,
    zone_of_times,
)
from purista.cli.output import out, utc_text
from purista.comparison import Changed
from purista.turnover import Tally, Turnover


def print_terminal(report: Report) -> None:
    """Print a report for a person; into a pipe as it is, which is far faster."""
    for line in _lines(report):
        if out.is_terminal:
            out.print(line)
        else:
            out.file.write(f"{line.plain}\n")


def _lines(report: Report) -> Iterator[Text]:
    comparison = report.comparison
    yield Text(f"{plain(report.sides[0])} -> {plain(report.sides[1])}", style="bold")
    yield Text(f"{counts_text(comparison)}; {times_text(comparison)}")
    yield Text(f"from {horizon_text(comparison)}", style="dim")
    for remark in report.remarks:
        yield Text(plain(remark), style="yellow")
    for added in comparison.added:
        title = f"{added.id} added: {plain(entry_text(added.entry))}"
        yield from _schedule("+", "green", title, added.turnover)
    for removed in comparison.removed:
        title = f"{removed.id} removed: {plain(entry_text(removed.entry))}"
        yield from _schedule("-", "red", title, removed.turnover)
    for renamed in comparison.renamed:
        yield Text("")
        yield Text(
            f"= {renamed.old_id} renamed to {renamed.id}, nothing else changed", style="cyan"
        )
    for changed in comparison.changed:
        yield from _changed(changed)
    for unknown in comparison.unknown:
        yield Text("")
        yield Text(f"? {unknown} is in a zone that the other database does not have", style="red")


def _changed(changed: Changed) -> Iterator[Text]:
    said = "" if changed.turnover else f", {meaning_text(changed)}"
    lines = _schedule("~", "yellow", f"{changed.id} changed{said}", changed.turnover)
    yield next(lines)
    yield next(lines)
    for field in changed.fields:
        for path, old, new in leaves(field):
            line = Text(f"    {path}: ")
            line.append(old, style="red").append(" -> ").append(new, style="green")
            yield line
    yield from lines


def _schedule(sign: str, style: str, title: str, turnover: Turnover) -> Iterator[Text]:
    yield Text("")
    yield Text(f"{sign} {title}", style=f"bold {style}")
    old, new = zone_of_times(turnover.old), zone_of_times(turnover.new)
    yield from _times("-", "red", "disappear", turnover.disappear, old)
    yield from _times("+", "green", "appear", turnover.appear, new)
    if not turnover and sign != "~":
        reason = "in this time" if turnover.old or turnover.new else "while it is disabled"
        yield Text(f"    nothing is due {reason}", style="dim")


def _times(sign: str, style: str, word: str, tally: Tally, zone: ZoneInfo) -> Iterator[Text]:
    if not tally:
        return
    first, more, last = some_of(tally)
    yield Text(f"    {verb_text(tally.count, word)}", style=style)
    for instant in first:
        yield _time(sign, style, instant, zone)
    if more:
        yield Text(f"        ... {more} more", style="dim")
    if last:
        yield _time(sign, style, last, zone)


def _time(sign: str, style: str, instant: datetime, zone: ZoneInfo) -> Text:
    line = Text(f"      {sign} {local_text(instant, zone)}", style=style)
    return line.append(f"  {utc_text(instant)}  {zone.key}", style="dim")

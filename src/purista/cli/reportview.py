"""A portability report on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.text import Text

from purista.caption import expression_text
from purista.cli.output import out, table
from purista.report import Cell, Report, Row

COLOURS: Final = {"native": "green", "ingress": "cyan", "none": "red"}


def print_report(report: Report, *, details: bool) -> None:
    """Print a table of schedules and schedulers; with ``details`` all that there is to say besides."""
    rows = table("schedule", "when", "zone", *report.titles)
    for row in report.rows:
        when = expression_text(row.schedule.expression)
        rows.add_row(row.schedule.id, when, row.schedule.timezone, *map(_word, row.cells))
    out.print(rows)
    for name, found in report.limits.items():
        for each in found:
            out.print(Text(f"{report.titles[name]}: {each}", "red"))
    for row in report.rows:
        lines = list(_details(report, row, everything=details))
        if lines:
            out.print()
            out.print(Text(row.schedule.id, style="bold"))
            for line in lines:
                out.print(line)


def _word(cell: Cell) -> Text:
    if cell.findings:
        return Text(f"{len(cell.findings)} differ" if len(cell.findings) > 1 else "differs", "red")
    if cell.accepted:
        return Text("accepted", "yellow")
    return Text(str(cell.support), COLOURS[cell.support])


def _details(report: Report, row: Row, *, everything: bool) -> Iterator[Text]:
    for cell in row.cells:
        title = report.titles[cell.scheduler]
        for style, findings in (("red", cell.findings), ("yellow", cell.accepted)):
            for each in findings:
                yield Text.assemble(f"  {title}: ", (each.code, style), f": {each.message}")
                yield from (
                    Text(f"      {line}", "dim") for line in (each.example, each.remedy) if line
                )
        if everything:
            for note in cell.notes:
                yield Text(f"  {title}: {note.message}")
            if cell.copied:
                yield Text(f"  {title}, copied as it stands: {cell.copied.text}", "dim")

"""A portability report as Markdown: a table of schedules and schedulers, and what differs in each."""

from __future__ import annotations

from collections.abc import Iterator

from purista.caption import expression_text
from purista.cli.diffmarkdown import cell as cell_text
from purista.cli.diffmarkdown import code, prose
from purista.report import Cell, Report, Row


def report_markdown(report: Report) -> str:
    """Return a report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    titles = " | ".join(report.titles.values())
    yield f"| schedule | when | zone | {titles} |"
    yield f"|{'---|' * (3 + len(report.titles))}"
    for row in report.rows:
        when = cell_text(expression_text(row.schedule.expression))
        cells = " | ".join(_word(cell) for cell in row.cells)
        yield f"| {cell_text(row.schedule.id)} | {when} | {row.schedule.timezone} | {cells} |"
    for name, found in report.limits.items():
        yield ""
        yield from (f"- {report.titles[name]}: {prose(str(each))}" for each in found)
    for row in report.rows:
        details = list(_details(report, row))
        if details:
            yield ""
            yield f"**{code(row.schedule.id)}** {code(expression_text(row.schedule.expression))}"
            yield ""
            yield from details


def _word(cell: Cell) -> str:
    if cell.findings:
        return f"**{', '.join(sorted({each.code for each in cell.findings}))}**"
    return f"{cell.support} (accepted)" if cell.accepted else str(cell.support)


def _details(report: Report, row: Row) -> Iterator[str]:
    for cell in row.cells:
        title = report.titles[cell.scheduler]
        for finding in cell.findings:
            text = f"{finding.message} ({finding.example})" if finding.example else finding.message
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            yield f"- {title}: {code(finding.code)}: {prose(text + remedy)}"
        for finding in cell.accepted:
            yield f"- {title}: accepted {code(finding.code)}: {prose(finding.message)}"
        for note in cell.notes:
            yield f"- {title}: {prose(note.message)}"
        if cell.copied:
            yield f"- {title}, copied as it stands: {prose(cell.copied.text)}"

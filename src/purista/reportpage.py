"""The portability report as a page: one HTML file without script, to be read in a review."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from purista.caption import expression_text, target_text
from purista.portability import Finding, Note, Support, utc_text
from purista.report import Cell, Report, Row
from purista.sentence import sentence
from purista.svg import Markup, counted, element, html_page


def report_page(report: Report, *, title: str) -> str:
    """Return an HTML file; ``title`` is its heading, such as the services' names."""
    body = element(
        "body",
        element("h1", text=title),
        element("p", text=_summary(report), class_="soft"),
        _overview(report),
        *_limits(report),
        *(_section(report, row) for row in report.rows),
    )
    return html_page(title, _STYLE, body)


def anchor(row: Row) -> str:
    """Return the name by which the page's own links find a schedule."""
    return f"schedule-{row.schedule.id}"


_WORDS: Final = {
    Support.NATIVE: "exact natively",
    Support.INGRESS: "exact behind the ingress",
    Support.NONE: "differs",
}
_STYLE: Final = """
:root { --ground: #fff; --ink: #1d2329; --soft: #5b6670; --grid: #d9dfe4; --card: #f6f8f9;
  --native: #1c7c3f; --ingress: #1f5fa8; --none: #b3261e; --accepted: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181c; --ink: #e6eaed; --soft: #9aa5ae;
  --grid: #333b42; --card: #1c2227; --native: #6fcf8f; --ingress: #7fb3ee; --none: #ff8a80;
  --accepted: #e5b45a; } }
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif;
  box-sizing: border-box; margin: 0 auto; max-width: 1320px; padding: 24px 32px 64px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 40px 0 4px; }
h3 { font-size: 15px; margin: 0; display: flex; gap: 10px; align-items: baseline; flex-wrap: wrap; }
a { color: inherit; } p { margin: 4px 0; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 16px 0; }
th, td { border-bottom: 1px solid var(--grid); padding: 5px 14px 5px 0; text-align: left;
  vertical-align: top; white-space: nowrap; }
thead th { color: var(--soft); font-size: 13px; font-weight: 600; vertical-align: bottom;
  white-space: normal; }
tbody th { font-weight: 400; }
.native { color: var(--native); } .ingress { color: var(--ingress); }
.none { color: var(--none); font-weight: 600; } .accepted { color: var(--accepted); }
.cards { align-items: start; display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr));
  margin-top: 12px; }
.card { background: var(--card); border-left: 3px solid var(--grid); border-radius: 4px;
  padding: 10px 14px; } .card.isnone { border-color: var(--none); }
.card.isnative { border-color: var(--native); } .card.isingress { border-color: var(--ingress); }
ul { margin: 6px 0 0; padding-left: 18px; } li { margin: 4px 0; overflow-wrap: anywhere; }
code { font: 13px ui-monospace, monospace; } .word { font-size: 12px; font-weight: 600; }
.example { color: var(--soft); display: block; }
"""


def _summary(report: Report) -> str:
    on = counted(len(report.titles), "scheduler")
    span = f"{report.horizon.start:%Y-%m-%d} to {report.horizon.end:%Y-%m-%d}"
    found = counted(len(report.findings), "finding")
    return f"{counted(len(report.rows), 'schedule')} on {on}, clock changes from {span}: {found}"


def _limits(report: Report) -> Iterator[Markup]:
    for name, found in report.limits.items():
        for each in found:
            yield element("p", text=f"{report.titles[name]}: {each}", class_="none")


def _overview(report: Report) -> Markup:
    titles = ["schedule", "when", "zone", *report.titles.values()]
    head = element("thead", element("tr", *(element("th", text=each) for each in titles)))
    body = element("tbody", *(_overview_row(row) for row in report.rows))
    return element("div", element("table", head, body), class_="scroll")


def _overview_row(row: Row) -> Markup:
    schedule = row.schedule
    link = element("a", text=schedule.id, href=f"#{anchor(row)}")
    return element(
        "tr",
        element("th", link, scope="row"),
        element("td", element("code", text=expression_text(schedule.expression))),
        element("td", text=schedule.timezone),
        *(element("td", text=_word(cell), class_=_class(cell)) for cell in row.cells),
    )


def _word(cell: Cell) -> str:
    if cell.findings:
        return counted(len(cell.findings), "finding")
    return "accepted" if cell.accepted else str(cell.support)


def _class(cell: Cell) -> str:
    if cell.accepted and not cell.findings:
        return "accepted"
    return str(cell.support)


def _section(report: Report, row: Row) -> Markup:
    schedule = row.schedule
    policies = f"overlap {schedule.concurrency_policy}, missed runs {schedule.missed_run_policy}"
    return element(
        "section",
        element("h2", text=schedule.id, id=anchor(row)),
        *([element("p", text=schedule.description)] if schedule.description else []),
        element("p", text=sentence(schedule.expression, schedule.timezone)),
        element("p", text=f"{target_text(schedule)}; {policies}", class_="soft"),
        element("div", *(_card(report, cell) for cell in row.cells), class_="cards"),
    )


def _card(report: Report, cell: Cell) -> Markup:
    heading = element(
        "h3",
        element("span", text=report.titles[cell.scheduler]),
        element("span", text=_WORDS[cell.support], class_=f"word {_class(cell)}"),
    )
    lines = [element("p", element("code", text=each)) for each in cell.lines]
    items = "".join(_items(cell))
    return element(
        "div",
        heading,
        *lines,
        element("ul", items) if items else "",
        class_=f"card is{cell.support}",
    )


def _items(cell: Cell) -> Iterator[Markup]:
    yield from _findings(cell.findings, "none")
    yield from _findings(cell.accepted, "accepted")
    for note in cell.notes:
        yield element("li", text=_note(note))
    if cell.copied:
        yield element("li", text=f"Copied as it stands: {cell.copied.text}", class_="soft")


def _findings(findings: Iterable[Finding], class_: str) -> Iterator[Markup]:
    for each in findings:
        example = [element("span", text=each.example, class_="example")] if each.example else []
        remedy = [element("span", text=f"Remedy: {each.remedy}", class_="example")]
        yield element(
            "li",
            element("code", text=each.code, class_=class_),
            f" {element('span', text=each.message)}",
            *example,
            *(remedy if each.remedy else []),
        )


def _note(note: Note) -> str:
    if note.until is not None:
        return f"Exact until {utc_text(note.until)}: {note.message}"
    return note.message[:1].upper() + note.message[1:]

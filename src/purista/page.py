"""The page of a service: its picture, and the same numbers as tables.

One HTML file without script and without anything from elsewhere. The tables say what the picture
shows, for those who do not see it and for those who want to copy a number.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from purista.caption import expression_text, target_text
from purista.load import Load, Peak, ScheduleLoad
from purista.picture import drawing
from purista.sentence import sentence
from purista.svg import Markup, element, html_page, number
from purista.timeline import local_text

MOST_LISTED: Final = 1000
"""Of more schedules the least busy ones are left out of the table, which says so."""


def page(load: Load, *, title: str) -> str:
    """Return an HTML file; ``title`` is its heading, such as the services' names."""
    body = element(
        "body",
        element("h1", text=title, class_="unseen"),
        element("figure", drawing(load, title=title)),
        *_sections(load),
        class_="purista",
    )
    return html_page(title, _STYLE, body)


_BUSIEST: Final = 5
_NAMES: Final = 5
_STYLE: Final = """
body.purista { background: var(--ground); color: var(--ink); margin: 0 auto; max-width: 1200px;
  padding-bottom: 40px; font-size: 14px; line-height: 1.45; }
figure { margin: 0; overflow-x: auto; }
figure svg { display: block; height: auto; min-width: 880px; width: 100%; }
section { margin: 24px 40px; overflow-x: auto; }
h2, summary { font-size: 16px; font-weight: 600; margin: 0 0 8px; }
summary { cursor: pointer; }
table { border-collapse: collapse; }
caption { color: var(--soft); padding: 0 0 8px; text-align: left; }
th, td { border-bottom: 1px solid var(--grid); padding: 4px 16px 4px 0; text-align: left;
  vertical-align: top; }
th { font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 400; }
.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.unseen { clip-path: inset(50%); height: 1px; overflow: hidden; position: absolute; width: 1px; }
@media (max-width: 700px) { section { margin: 24px 16px; } }
"""


def _sections(load: Load) -> Iterator[Markup]:
    yield _section("Busiest minutes", _busiest(load))
    yield _section("Schedules", _schedules(load))
    yield _folded("Hours", _hours(load))
    yield _folded("Days", _days(load))


def _section(heading: str, *content: Markup) -> Markup:
    return element("section", element("h2", text=heading), *content)


def _folded(heading: str, *content: Markup) -> Markup:
    return element("section", element("details", element("summary", text=heading), *content))


def _busiest(load: Load) -> Markup:
    """Return the minutes with more than one nominal time, each of another quarter of an hour."""
    peaks = [peak for peak in load.peaks if peak and peak.count > 1]
    if not peaks:
        return element("p", text="No two nominal times fall on the same minute.")
    rows = [
        [local_text(load, peak), number(peak.count), _names(load, peak)]
        for peak in sorted(peaks, key=lambda peak: (-peak.count, peak.at))[:_BUSIEST]
    ]
    caption = "Of each quarter of an hour the busiest minute of any day."
    return _table(caption, ["local time", "#nominal times", "schedules"], rows)


def _names(load: Load, peak: Peak) -> str:
    due = load.due_at(peak)
    names = [one.id for one in islice(due, _NAMES)]
    more = sum(1 for _ in due)
    return ", ".join([*names, *([f"and {number(more)} more"] if more else [])])


def _schedules(load: Load) -> Markup:
    ranked = sorted(load.schedules, key=lambda one: (-one.count, one.schedule.id))
    kept = sorted(ranked[:MOST_LISTED], key=lambda one: one.schedule.id)
    left_out = len(ranked) - len(kept)
    caption = f"{number(left_out)} less busy schedules are left out." if left_out else ""
    columns = ["schedule", "expression", "meaning", "target", "#nominal times"]
    return _table(caption, columns, (_schedule(one) for one in kept))


def _schedule(one: ScheduleLoad) -> list[str]:
    schedule = one.schedule
    meaning = sentence(schedule.expression, schedule.timezone)
    when = expression_text(schedule.expression)
    return [schedule.id, when, meaning, target_text(schedule), number(one.count)]


def _hours(load: Load) -> Markup:
    columns = ["hour", "#nominal times", "#most in one minute", "which minute"]
    rows = (_hour(load, hour) for hour in range(24))
    return _table(f"Of all days together, {load.days.timezone}.", columns, rows)


def _hour(load: Load, hour: int) -> list[str]:
    quarters = slice(hour * 4, hour * 4 + 4)
    count = sum(load.by_quarter[quarters])
    peaks = [peak for peak in load.peaks[quarters] if peak]
    busiest = min(peaks, key=lambda peak: (-peak.count, peak.at), default=None)
    most = [number(busiest.count), local_text(load, busiest)] if busiest else ["0", ""]
    return [f"{hour:02}:00-{hour + 1:02}:00", number(count), *most]


def _days(load: Load) -> Markup:
    rows = (
        [
            f"{load.days.day(index):%a %Y-%m-%d}",
            number(count),
            "; ".join(load.changes.get(index, ())),
        ]
        for index, count in enumerate(load.by_day)
    )
    return _table(
        f"Days of {load.days.timezone}.", ["day", "#nominal times", "clock changes"], rows
    )


def _table(caption: str, columns: list[str], rows: Iterable[list[str]]) -> Markup:
    """Return a table; a column whose title begins with ``#`` has numbers."""
    classes = [{"class_": "number"} if title.startswith("#") else {} for title in columns]
    titles = [
        element("th", text=title.removeprefix("#"), scope="col", **more)
        for title, more in zip(columns, classes, strict=True)
    ]
    return element(
        "table",
        *([element("caption", text=caption)] if caption else []),
        element("thead", element("tr", *titles)),
        element("tbody", *(_row(row, classes) for row in rows)),
    )


def _row(row: list[str], classes: list[dict[str, str]]) -> Markup:
    first, *others = row
    cells = [
        element("td", text=text, **more) if text else element("td", " ")
        for text, more in zip(others, classes[1:], strict=True)
    ]
    return element("tr", element("th", text=first, scope="row"), *cells)

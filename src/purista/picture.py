"""The picture of a service: the heat map of its year above the timeline of its day, as one SVG file.

Drawn here and now: no script, nothing from elsewhere, the same bytes for the same load. It follows
the reader's light or dark mode.
"""

from __future__ import annotations

from typing import Final

from purista.heatmap import HEIGHT as HEATMAP_HEIGHT
from purista.heatmap import heatmap
from purista.load import Load
from purista.svg import Markup, box, counted, element, number, words
from purista.timeline import height_of, lines, local_text, timeline

WIDTH: Final = 1200


def picture(load: Load, *, title: str) -> str:
    """Return an SVG file; ``title`` is its heading, such as the services' names."""
    drawn = drawing(load, title=title)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{drawn}\n'


def drawing(load: Load, *, title: str) -> Markup:
    """Return the SVG element, to stand in a file or in a page."""
    shown = lines(load)
    height = _TIMELINE + height_of(shown) + _MARGIN
    return element(
        "svg",
        element("title", text=title, id="purista-title"),
        element("desc", text=summary(load), id="purista-desc"),
        element("style", _STYLE),
        box(0, 0, WIDTH, height, "ground"),
        words(_MARGIN, 44, title, "title"),
        words(_MARGIN, 68, summary(load), "soft"),
        _moved(heatmap(load, width=_INNER), _HEATMAP),
        _moved(timeline(load, shown, width=_INNER), _TIMELINE),
        xmlns="http://www.w3.org/2000/svg",
        class_="purista",
        role="img",
        aria_labelledby="purista-title purista-desc",
        viewBox=f"0 0 {WIDTH} {height:g}",
        width=WIDTH,
        height=height,
    )


def summary(load: Load) -> str:
    """Return what there is to see, in words."""
    days = f"{load.days.first} to {load.days.day(load.days.count - 1)}, {load.days.timezone}"
    of = f"{counted(load.count, 'nominal time')} of {counted(len(load.schedules), 'schedule')}"
    if load.busiest is None:
        return f"{days}: {of}"
    at_once = f"{number(load.busiest.count)} at {local_text(load, load.busiest)}"
    return f"{days}: {of}; most in one minute: {at_once}"


_MARGIN: Final = 40
_INNER: Final = WIDTH - 2 * _MARGIN
_HEATMAP: Final = 104
_TIMELINE: Final = _HEATMAP + HEATMAP_HEIGHT + 28


def _moved(group: Markup, y: float) -> Markup:
    return element("g", group, transform=f"translate({_MARGIN} {y:g})")


_STYLE: Final = """
.purista { --ground: #ffffff; --ink: #1b2330; --soft: #566173; --grid: #e1e6ed; --change: #d9660b;
  --stripe: #f6f8fa; --s0: #edf0f4; --s1: #bddaf4; --s2: #8abbe8; --s3: #5296d6; --s4: #2469b0; --s5: #0e386f;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-size: 12px; fill: var(--ink); }
@media (prefers-color-scheme: dark) {
  .purista { --ground: #10151c; --ink: #e4eaf2; --soft: #9aa7b8; --grid: #28313d; --change: #ff9d4d;
    --stripe: #161d26; --s0: #1c242f; --s1: #1f4a77; --s2: #2b6cb0; --s3: #559be0; --s4: #90c5f6; --s5: #def0ff; }
}
.purista .ground { fill: var(--ground); }
.purista .title { font-size: 22px; font-weight: 600; }
.purista .heading { font-size: 14px; font-weight: 600; }
.purista .soft { font-size: 13px; fill: var(--soft); }
.purista .small { font-size: 11px; fill: var(--soft); }
.purista .label { font-variant-numeric: tabular-nums; }
.purista .stripe { fill: var(--stripe); }
.purista .grid { stroke: var(--grid); }
.purista .axis { stroke: var(--soft); }
.purista .bar { fill: var(--s4); }
.purista .band { fill: var(--change); fill-opacity: 0.16; }
.purista .s0 { fill: var(--s0); }
.purista .s1 { fill: var(--s1); }
.purista .s2 { fill: var(--s2); }
.purista .s3 { fill: var(--s3); }
.purista .s4 { fill: var(--s4); }
.purista .s5 { fill: var(--s5); }
.purista .change { stroke: var(--change); stroke-width: 2; }
"""

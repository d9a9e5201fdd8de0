"""The timeline of a day: one row a schedule, a column each quarter of an hour, the load on top.

The rows are of all days together. The bars above them are not sums but the busiest minute that any
day has at that time: many schedules that are due once a month at midnight are seen all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import groupby
from typing import Final

from purista.caption import expression_text, target_text
from purista.clockchange import clock_text
from purista.load import QUARTERS, Days, Load, Peak, ScheduleLoad, jumps
from purista.svg import Markup, box, counted, element, number, words

MOST_ROWS: Final = 40
"""Of more schedules the least busy ones share a row."""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the timeline: one schedule, or several that share it."""

    label: str
    title: str
    by_day: Sequence[int]
    by_quarter: Sequence[int]

    @property
    def count(self) -> int:
        """How many nominal times it has."""
        return sum(self.by_quarter)


def lines(load: Load, *, most: int = MOST_ROWS) -> list[Line]:
    """Return at most ``most`` rows: the busiest schedules by id, then all others in one."""
    ranked = sorted(load.schedules, key=lambda one: (-one.count, one.schedule.id))
    kept = ranked if len(ranked) <= most else ranked[: most - 1]
    rest = ranked[len(kept) :]
    found = [_line(one) for one in sorted(kept, key=lambda one: one.schedule.id)]
    return [*found, _shared(rest)] if rest else found


def timeline(load: Load, shown: Sequence[Line], *, width: float) -> Markup:
    """Return the timeline as a group that is ``width`` wide and ``height_of`` it high."""
    height = height_of(shown)
    return element(
        "g",
        words(0, 14, f"Times of day, {load.days.timezone}", "heading"),
        *_legend(width, marked=bool(_bands(load))),
        *_stripes(shown, width),
        *_band_boxes(load, height),
        *_clock(height),
        *_bars(load),
        *_titles(width),
        *(_row(line, place, load.days, width) for place, line in enumerate(shown)),
        class_="timeline",
    )


def height_of(shown: Sequence[Line]) -> float:
    """Return how high the timeline of some lines is."""
    return _ROWS + len(shown) * _PITCH


def quarter_text(quarter: int, length: int = 1) -> str:
    """Return from when to when some quarters of an hour are.

    >>> quarter_text(95)
    '23:45-24:00'
    """
    return f"{_time(quarter)}-{_time(quarter + length)}"


def peak_text(load: Load, quarter: int) -> str:
    """Return what there is to say of a quarter of an hour; empty where nothing is due."""
    peak = load.peaks[quarter]
    if peak is None:
        return ""
    all_days = counted(load.by_quarter[quarter], "nominal time")
    return f"{all_days}, at most {number(peak.count)} in one minute, {local_text(load, peak)}"


def local_text(load: Load, peak: Peak) -> str:
    """Return the minute of a peak on the wall clock: a date and a time."""
    return f"{load.days.local(peak.at):%a %Y-%m-%d %H:%M}"


_CLOCK: Final = 224
_QUARTER: Final = 6.4
_DAY: Final = QUARTERS * _QUARTER
_WEEKS: Final = _CLOCK + _DAY + 36
_WEEK: Final = 3.4
_WEEK_SHADES: Final = 4
_BARS: Final = 44
_BASE: Final = 128
_ROWS: Final = 156
_PITCH: Final = 20
_SIZE: Final = 14
_LABEL: Final = 30
"""Longest label in characters; of a longer one the middle is left out."""


def _line(one: ScheduleLoad) -> Line:
    schedule = one.schedule
    when = f"{expression_text(schedule.expression)}, {schedule.timezone}"
    count = counted(one.count, "nominal time")
    title = f"{schedule.id}: {when}; {target_text(schedule)}; {count}"
    return Line(schedule.id, title, one.by_day, one.by_quarter)


def _shared(rest: Sequence[ScheduleLoad]) -> Line:
    by_day = tuple(map(sum, zip(*(one.by_day for one in rest), strict=True)))
    by_quarter = tuple(map(sum, zip(*(one.by_quarter for one in rest), strict=True)))
    label = f"{number(len(rest))} less busy schedules"
    return Line(label, f"{label}: {counted(sum(by_quarter), 'nominal time')}", by_day, by_quarter)


def _time(quarter: int) -> str:
    return f"{quarter // 4:02}:{quarter % 4 * 15:02}"


def _x(quarter: float) -> float:
    return _CLOCK + quarter * _QUARTER


_OFTEN: Final = (
    ("s1", "less than weekly"),
    ("s2", "weekly or more"),
    ("s4", "daily"),
    ("s5", "more often"),
)


def _often(count: int, days: int) -> str:
    """Return the class for so many nominal times on so many days.

    A tenth more or less does not matter: clock changes skip and double, and a year is no whole weeks.
    """
    if count * 70 < days * 9:
        return _OFTEN[0][0]
    if count * 10 < days * 9:
        return _OFTEN[1][0]
    return _OFTEN[2][0] if count * 10 <= days * 11 else _OFTEN[3][0]


def _legend(width: float, *, marked: bool) -> Iterator[Markup]:
    x = width
    for class_, text in reversed([*_OFTEN, *([("band", "clock change")] if marked else [])]):
        x -= 6 * len(text)
        yield words(x, 13, text, "small")
        x -= 20
        yield box(x, 1, 14, 14, class_, radius=3)
        x -= 14


def _clock(height: float) -> Iterator[Markup]:
    for hour in range(0, 25, 3):
        x = _x(hour * 4)
        yield element("path", d=f"M{x:g} {_BARS}V{height:g}", class_="grid")
        yield words(x, _BASE + 18, f"{hour:02}:00", "small", "middle")


def _bars(load: Load) -> Iterator[Markup]:
    busiest = load.busiest
    yield words(0, _BASE - 16, "In the busiest minute", "label")
    yield words(0, _BASE, "of any day", "label")
    yield element("path", d=f"M{_CLOCK} {_BASE}H{_x(QUARTERS):g}", class_="axis")
    if busiest is None:
        yield words(_x(QUARTERS / 2), _BASE - 30, "nothing is due", "soft", "middle")
        return
    for quarter, peak in enumerate(load.peaks):
        if peak is not None:
            height = max(2.0, (_BASE - _BARS) * peak.count / busiest.count)
            title = f"{quarter_text(quarter)}: {peak_text(load, quarter)}"
            x, y = _x(quarter) + 0.5, _BASE - height
            yield box(x, y, _QUARTER - 1, height, "bar", title)
    yield _busiest(load, busiest)


def _busiest(load: Load, busiest: Peak) -> Markup:
    local = load.days.local(busiest.at)
    quarter = local.hour * 4 + local.minute // 15
    text = f"{number(busiest.count)} at {local:%H:%M}"
    return words(_x(quarter + 0.5), _BARS - 6, text, "small", _anchor(quarter))


def _anchor(quarter: int) -> str:
    if quarter < 4:
        return "start"
    return "end" if quarter >= QUARTERS - 4 else "middle"


def _titles(width: float) -> Iterator[Markup]:
    yield words(_WEEKS, _BASE + 18, "weeks", "small")
    yield words(width, _BASE + 18, "nominal times", "small", "end")


def _stripes(shown: Sequence[Line], width: float) -> Iterator[Markup]:
    for place in range(0, len(shown), 2):
        yield box(-8, _ROWS + place * _PITCH - 3, width + 16, _PITCH, "stripe", radius=3)


def _row(line: Line, place: int, days: Days, width: float) -> Markup:
    y = _ROWS + place * _PITCH
    return element(
        "g",
        element("title", text=line.title),
        words(0, y + 11, _shortened(line.label), "label"),
        *_cells(line, y, days.count),
        *_week_cells(line, y, days.first.weekday()),
        words(width, y + 11, number(line.count), "label", "end"),
        class_="row",
    )


def _cells(line: Line, y: float, days: int) -> Iterator[Markup]:
    """Yield the row's boxes; neighbours with the same count are one."""
    for start, length, count in _stretches(line.by_quarter):
        title = f"{quarter_text(start, length)}: {counted(count * length, 'nominal time')}"
        width = length * _QUARTER - 0.5
        yield box(_x(start), y, width, _SIZE, f"cell {_often(count, days)}", title, radius=1)


def _week_cells(line: Line, y: float, weekday: int) -> Iterator[Markup]:
    """Yield the row's weeks, from Monday on: the darker, the closer to its busiest one."""
    weeks = [
        sum(line.by_day[max(day, 0) : day + 7]) for day in range(-weekday, len(line.by_day), 7)
    ]
    most = max(weeks) or 1
    shades = [-(-_WEEK_SHADES * count // most) for count in weeks]
    for start, length, shade in _stretches(shades):
        x, width = _WEEKS + start * _WEEK, length * _WEEK - 0.4
        yield box(x, y, width, _SIZE, f"week s{shade}")


def _stretches(counts: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    """Yield start, length and number of each stretch of equal numbers that are not zero."""
    start = 0
    for count, equal in groupby(counts):
        length = len(list(equal))
        if count:
            yield start, length, count
        start += length


def _shortened(label: str) -> str:
    if len(label) <= _LABEL:
        return label
    head = _LABEL // 3
    return f"{label[:head]}\N{HORIZONTAL ELLIPSIS}{label[head + 1 - _LABEL :]}"


def _band_boxes(load: Load, height: float) -> Iterator[Markup]:
    for (start, end), texts in sorted(_bands(load).items()):
        x, width = _x(start * 4), (end - start) * 4 * _QUARTER
        yield box(x, _BARS, width, height - _BARS, "band", "; ".join(texts))


def _bands(load: Load) -> dict[tuple[float, float], list[str]]:
    """Return the hours of the day that a clock change of the zone leaves out or repeats."""
    found: dict[tuple[float, float], list[str]] = {}
    for jump in jumps(load.days.timezone, load.days):
        low, high = sorted((jump.before, jump.after))
        word = "leaves out" if low == jump.before else "repeats"
        text = f"{low:%a %Y-%m-%d}: the clock {word} {clock_text(low)} to {clock_text(high)}"
        start = (low - datetime.combine(low, time())) / _HOUR
        for part in _within_day(start, start + (high - low) / _HOUR):
            found.setdefault(part, []).append(text)
    return found


_HOUR: Final = timedelta(hours=1)


def _within_day(start: float, end: float) -> list[tuple[float, float]]:
    return [(start, end)] if end <= 24 else [(start, 24), (0, end - 24)]

"""The heat map of a year: one square a day, a column a week, darker where more is due."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from purista.load import Days, Load
from purista.shade import Scale, scale
from purista.svg import Markup, box, counted, element, words

HEIGHT: Final = 208
_LEFT: Final = 40
_TOP: Final = 56
_PITCH: Final = 20
_SIZE: Final = 17
_WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def heatmap(load: Load, *, width: float) -> Markup:
    """Return the heat map as a group that is ``width`` wide and ``HEIGHT`` high, from 0, 0 on."""
    steps = scale(load.by_day)
    return element(
        "g",
        words(0, 14, "Nominal times per day", "heading"),
        *_legend(steps, width, marked=bool(load.changes)),
        *_months(load.days),
        *(
            words(0, _TOP + row * _PITCH + 13, _WEEKDAYS[row], "small")
            for row in range(0, len(_WEEKDAYS), 2)
        ),
        *(_square(load, index, steps) for index in range(load.days.count)),
        class_="heatmap",
    )


def day_text(load: Load, index: int) -> str:
    """Return what there is to say of a day: its date, its count, its clock changes."""
    day = f"{load.days.day(index):%a %Y-%m-%d}"
    parts = [f"{day}: {counted(load.by_day[index], 'nominal time')}"]
    return "; ".join([*parts, *load.changes.get(index, ())])


def _square(load: Load, index: int, steps: Scale) -> Markup:
    column, row = _place(load.days, index)
    shade = steps.shade(load.by_day[index])
    mark = " change" if index in load.changes else ""
    x, y = _LEFT + column * _PITCH, _TOP + row * _PITCH
    return box(x, y, _SIZE, _SIZE, f"day s{shade}{mark}", day_text(load, index), radius=3)


def _place(days: Days, index: int) -> tuple[int, int]:
    """Return the column and the row of a day: weeks begin on Monday."""
    return divmod(days.first.weekday() + index, len(_WEEKDAYS))


def _months(days: Days) -> Iterator[Markup]:
    """Yield each month's name over the column of its first day; none where two would touch."""
    free = 0
    for index in range(days.count):
        day = days.day(index)
        column, _ = _place(days, index)
        if (day.day == 1 or index == 0) and column >= free:
            text = f"{day:%b %Y}" if day.month == 1 or index == 0 else f"{day:%b}"
            yield words(_LEFT + column * _PITCH, _TOP - 8, text, "small")
            free = column + (4 if len(text) > 3 else 2)


def _legend(steps: Scale, width: float, *, marked: bool) -> Iterator[Markup]:
    entries = [("s0", "none"), *((f"s{step.shade}", step.text) for step in steps.steps)]
    if marked:
        entries.append(("s0 change", "clock change"))
    x = width
    for class_, text in reversed(entries):
        x -= 6 * len(text)
        yield words(x, 13, text, "small")
        x -= 20
        yield box(x, 1, 14, 14, class_, radius=3)
        x -= 14

"""How Airflow reads cron lines: croniter's dialect, its text, and what it does where clocks change.

Airflow asks croniter on the naive wall clock for the next slot after the last run, and then makes it
aware; only lines for every hour count the time that has passed instead (``airflow/timetables/_cron.py``
of 3.3.2). So the hours and days of a line decide what a clock change does to it. All of it was seen
on the engine, see tests/test_schedulers_airflow.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Final

from purista.clockchange import Timing
from purista.cover import Cover, Line, Uncovered, cover
from purista.dialect import (
    ClockWindow,
    Dialect,
    Reading,
    clock_windows,
    has_odd_change,
    windows_met,
)
from purista.errors import ExpressionError, Problem
from purista.expression import Cron
from purista.turnover import Horizon

DIALECT: Final = Dialect(
    day_rule="or",
    specials=frozenset({"L", "W", "#", "#L"}),
    seconds=True,
    dst_gap="shift",
    dst_overlap="last",
    wildcard="both",
    odd_changes=False,
    many_lines=True,
)
"""CronTriggerTimetable and MultipleCronTriggerTimetable of 3.3.2, at their best: see ``dialect_of``."""

READING: Final = Reading(
    day_rule="or",
    refused=frozenset({"L-n", "LW", "#L"}),
    dst_gap="shift",
    dst_overlap="last",
)
"""What CronTriggerTimetable makes of a text as it stands; a wildcard's both passes are not certain."""

PRESETS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@quarterly": "0 0 1 */3 *",
    "@yearly": "0 0 1 1 *",
}
"""The words that Airflow takes for lines (``airflow/utils/dates.py`` of 3.3.2)."""

LONGEST_DESCRIPTION: Final = 1000
"""Characters of ``DagModel.timetable_description``; PostgreSQL refuses the DAG with more."""


def airflow_cover(timing: Timing, horizon: Horizon, *, exact_native: bool) -> Cover | Uncovered:
    """Return lines for one timetable: several of them only where they do not disturb each other.

    Of several lines each is asked for its next slot after the last run of any of them, so that a slot
    that a clock change moves behind it is lost. Such lines are said in UTC.
    """
    dialect = dialect_of(timing, horizon)
    found = cover(timing, dialect, horizon, exact_native=exact_native)
    if isinstance(found, Cover) and _disturb(found.lines, horizon):
        return cover(timing, replace(dialect, zones=_UTC), horizon, exact_native=exact_native)
    return found


def dialect_of(timing: Timing, horizon: Horizon) -> Dialect:
    """Return what a line for an expression can say, and what the zone's clock changes do to it."""
    cron = timing.expression
    if not isinstance(cron, Cron):
        return DIALECT
    dialect = DIALECT
    if any(day > _SHORTEST_MONTH for day in cron.day_of_month.near_weekday):
        dialect = replace(dialect, specials=dialect.specials - {"W"})
    windows = clock_windows(timing.timezone, horizon.start, horizon.end)
    if not windows:
        return dialect
    if cron.hour.is_all:
        if cron.deciding_days == "none" and cron.month.is_all:
            return replace(dialect, dst_gap="skip", dst_overlap="both")
        return replace(dialect, zones=_UTC)
    met = windows_met(cron, windows)
    if met and not cron.is_fixed_time:
        return replace(dialect, zones=_UTC)
    if any(_is_order_lost(cron, window) for window in met):
        return replace(dialect, dst_gap=None)
    return dialect


def cron_text(line: Line, *, with_seconds: bool = False) -> str:
    """Return a line as croniter reads it: seconds last, the last Friday of a month as ``L5``.

    >>> cron_text(Line(Cron("30 15 4 * * FRI#L", seconds=True), "UTC"))
    '15 4 * * L5 30'
    """
    fields = line.cron.canonical.split()
    second = fields.pop(0) if len(fields) > _FIELDS else "0"
    fields[-1] = ",".join(_weekday_text(each) for each in fields[-1].split(","))
    if with_seconds or second != "0":
        fields.append(second)
    return " ".join(fields)


def read_cron(text: str) -> Cron:
    """Return what croniter takes a text for. Raises ``ExpressionError`` where no contract can say it.

    >>> read_cron("15 4 * * L5 30").text
    '30 15 4 * * 5#L'
    """
    text = PRESETS.get(text, text)
    if "LW" in text or "L-" in text:
        raise ExpressionError([Problem(f"cron '{text}'", "Airflow refuses it", "name other days")])
    fields = text.split()
    days = ",".join(_weekday_word(each) for each in "".join(fields[4:5]).split(","))
    ordered = [*fields[_FIELDS:], *fields[:4], days]
    return Cron(" ".join(ordered), day_rule="or", seconds=len(fields) > _FIELDS)


def timings_of(lines: Sequence[Line], horizon: Horizon) -> list[Timing] | None:
    """Return when the lines of one timetable fire; None where a clock change makes that uncertain."""
    if lines and _disturb(lines, horizon):
        return None
    found = []
    for cron, zone in lines:
        dialect = dialect_of(Timing(cron, zone), horizon)
        met = tuple(windows_met(cron, clock_windows(zone, horizon.start, horizon.end)))
        if met and (not dialect.can_be_in(zone) or has_odd_change(met)):
            return None
        if dialect.dst_gap is None or dialect.dst_overlap is None:
            return None
        found.append(Timing(cron, zone, dialect.dst_gap, dialect.dst_overlap))
    return found


def cron_texts(lines: Sequence[Line]) -> list[str]:
    """Return the lines of one timetable; all with seconds where Airflow would describe too much.

    Airflow describes lines of five fields in words, and keeps at most ``LONGEST_DESCRIPTION``
    characters; it describes no others.
    """
    length = sum(2 + longest_description(line.cron) for line in lines)
    return [cron_text(line, with_seconds=length > LONGEST_DESCRIPTION) for line in lines]


def longest_description(cron: Cron) -> int:
    """Return at least as many characters as Airflow needs to describe a line in words."""
    sizes = (
        (cron.minute, len("00, ")),
        (cron.hour, len("00:00, ")),
        (cron.day_of_month, len("31, ")),
        (cron.month, len("September, ")),
        (cron.day_of_week, len("Wednesday, ")),
    )
    length = 120 + sum(0 if found.is_all else len(found.values) * size for found, size in sizes)
    return length * 2 if cron.restricts_both_days else length


def shortest_gap_of_lines(lines: Iterable[Line]) -> timedelta:
    """Return the shortest time between two slots of some lines of one zone, whatever their days."""
    times = sorted({time for line in lines for time in _times_of_day(line.cron)})
    gaps = (after - before for before, after in pairwise([*times, times[0] + _DAY]))
    return timedelta(seconds=min(gaps))


_UTC: Final = frozenset({"UTC"})
_SHORTEST_MONTH: Final = 28
_FIELDS: Final = 5
_DAY: Final = 86_400
_SECOND: Final = timedelta(seconds=1)


def _disturb(lines: Sequence[Line], horizon: Horizon) -> bool:
    if len(lines) == 1:
        return False
    return any(
        windows_met(line.cron, clock_windows(line.timezone, horizon.start, horizon.end))
        for line in lines
    )


def _is_order_lost(cron: Cron, window: ClockWindow) -> bool:
    """Whether a slot is lost since another, moved out of a gap, comes to lie behind it."""
    if window.transition.change < timedelta(0):
        return False
    first = (window.first - window.first.replace(hour=0, minute=0, second=0)) // _SECOND
    gap = (window.end - window.first) // _SECOND
    since = sorted((time - first) % _DAY for time in _times_of_day(cron))
    in_gap = [time for time in since if time < gap]
    behind = [time for time in since if gap <= time < in_gap[0] + gap] if in_gap else []
    return len(in_gap) > 1 or bool(behind)


def _times_of_day(cron: Cron) -> Iterator[int]:
    """Yield the times of day of an expression, in seconds."""
    for hour in cron.hour.values:
        for minute in cron.minute.values:
            for second in cron.second.values:
                yield 3600 * hour + 60 * minute + second


def _weekday_word(text: str) -> str:
    return f"{text[1:]}#L" if text[:1] == "L" else text


def _weekday_text(text: str) -> str:
    return f"L{text.removesuffix('#L')}" if text.endswith("#L") else text

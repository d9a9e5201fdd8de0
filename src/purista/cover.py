"""Native lines that cover the nominal times of an expression: all of them, and as few others as may be.

A scheduler need not fire exactly at the nominal times as long as it fires at least then and says which
time it means: the ingress drops the rest. Lines in the schedule's own zone are taken where the
scheduler's clock changes are the contract's, or differ only by triggers too many; else lines in UTC,
in which no clock change takes part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache, reduce
from operator import or_
from typing import Final, NamedTuple

from purista import firetimes
from purista.clockchange import Timing, clock_change
from purista.cronfield import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    MINUTE,
    MONTH,
    SECOND,
    DayOfMonth,
    DayOfWeek,
    Field,
    Unit,
    list_text,
)
from purista.daycover import day_cover, says_days
from purista.dialect import ClockWindow, Dialect, clock_windows, has_odd_change, windows_met
from purista.everycover import every_lines
from purista.expression import Cron, Every, Expression
from purista.timecover import moved, time_cover, times_mask
from purista.turnover import Horizon
from purista.zone import Transition, zone_of

MOST_LINES: Final = 24
"""An object that takes many lines gets no more than that for one expression and one day."""


MOST_OBJECTS: Final = 4
"""Where each line is an object of its own, more lines than that become one that fires more often."""


class Line(NamedTuple):
    """A cron expression on the wall clock of a zone, as a scheduler is to read it."""

    cron: Cron
    timezone: str


class Fit(StrEnum):
    """How well lines say an expression."""

    EXACT = "exact"
    """They fire at the nominal times and at no others, as far as the horizon."""

    SUPERSET = "superset"
    """They fire at the nominal times and at others, which the ingress drops."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Lines for an expression; ``reason`` says why they are more than it, for people."""

    lines: tuple[Line, ...]
    fit: Fit
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Why no lines of a scheduler fire at all nominal times; ``code`` is a stable word."""

    code: str
    message: str


def cover(
    timing: Timing, dialect: Dialect, horizon: Horizon, *, exact_native: bool = False
) -> Cover | Uncovered:
    """Return lines of a dialect that cover the nominal times of ``timing``.

    Clock changes are looked at within the horizon. With ``exact_native`` lines that fire at other
    times as well are none.
    """
    expression = timing.expression
    found = _cover(
        expression,
        timing.timezone,
        (timing.dst_gap, timing.dst_overlap),
        dialect,
        horizon,
        exact_native,
    )
    if exact_native and isinstance(found, Cover) and found.fit is not Fit.EXACT:
        return Uncovered("exact-native", f"no native lines are exact: {found.reason}")
    return found


def first_deviation(
    timing: Timing, line: Line, dialect: Dialect, since: datetime
) -> Transition | None:
    """Return the first clock change from ``since`` on at which a line deviates from the contract.

    None: it never does, as far as the rules of its zone are known. For a line that says the whole
    expression in the zone of the contract.
    """
    windows = clock_windows(timing.timezone, since, firetimes.LATEST)
    if not dialect.odd_changes:
        odd = (window for window in windows if has_odd_change((window,)))
        known = next(odd, None)
        if known is not None:
            return known.transition
    met = (window for window in windows if windows_met(line.cron, (window,)))
    if not line.cron.is_fixed_time:
        first = next(met, None) if dialect.wildcard != "both" else None
        return first.transition if first else None
    for window in met:
        if _deviation(timing, dialect, window) is not None:
            return window.transition
    return None


_MINUTE: Final = timedelta(minutes=1)
_DAYS: Final = "no line says its days"


@lru_cache(maxsize=65536)
def _cover(
    expression: Expression,
    timezone: str,
    words: tuple[str, str],
    dialect: Dialect,
    horizon: Horizon,
    exact_native: bool,
) -> Cover | Uncovered:
    if isinstance(expression, Cron):
        if expression.second.values != (0,) and not dialect.seconds:
            return Uncovered("seconds", "its lines name minutes, not seconds")
        timing = Timing(expression, timezone, *words)
        return _cron_cover(expression, timing, dialect, horizon)
    if not dialect.can_be_in("UTC"):
        return Uncovered("host-zone", _utc_needed(dialect))
    if isinstance(expression, Every):
        return _every_cover(expression, dialect, exact=exact_native or dialect.many_lines)
    return _once_cover(expression.at, dialect)


def _every_cover(every: Every, dialect: Dialect, *, exact: bool) -> Cover | Uncovered:
    found = every_lines(every, seconds=dialect.seconds, most=MOST_LINES if exact else 1)
    if found is None:
        finest = "second" if dialect.seconds else "minute"
        return Uncovered("interval", f"its lines fire on whole {finest}s, the interval does not")
    lines = tuple(Line(Cron(text, seconds=dialect.seconds), "UTC") for text in found.texts)
    if found.exact:
        return Cover(lines, Fit.EXACT)
    return Cover(lines, Fit.SUPERSET, "no cron line says the interval")


def _once_cover(at: datetime, dialect: Dialect) -> Cover | Uncovered:
    if at.microsecond or (at.second and not dialect.seconds):
        finest = "second" if dialect.seconds else "minute"
        return Uncovered("one-shot", f"its lines fire on whole {finest}s, the one-shot does not")
    second = f"{at.second} " if dialect.seconds else ""
    text = f"{second}{at.minute} {at.hour} {at.day} {at.month} *"
    line = Line(Cron(text, seconds=dialect.seconds), "UTC")
    return Cover((line,), Fit.SUPERSET, "a line names no year, so it fires every year")


def _cron_cover(
    cron: Cron, timing: Timing, dialect: Dialect, horizon: Horizon
) -> Cover | Uncovered:
    windows = clock_windows(timing.timezone, horizon.start, horizon.end)
    if dialect.can_be_in(timing.timezone):
        found = _local_cover(cron, timing, dialect, windows)
        if found is not None:
            return found
    if not dialect.can_be_in("UTC"):
        return Uncovered("host-zone", _utc_needed(dialect))
    return _utc_cover(cron, timing, dialect, horizon, windows)


def _local_cover(
    cron: Cron, timing: Timing, dialect: Dialect, windows: tuple[ClockWindow, ...]
) -> Cover | None:
    """Return lines in the contract's zone; None where a clock change would make them miss a time."""
    if windows and not dialect.odd_changes and has_odd_change(windows):
        return None
    if not cron.is_fixed_time and dialect.wildcard != "both" and windows_met(cron, windows):
        return None
    deviations = list(_deviations(cron, timing, dialect, windows))
    if None in deviations:
        return None
    missing = sorted({at for each in deviations if each for at in each.missing})
    lines, exact = _local_lines(cron, timing.timezone, dialect)
    dated = tuple(_dated_lines(missing, timing.timezone, seconds=cron.seconds))
    reasons = [] if exact else [_DAYS]
    if missing:
        reasons.append("where the clock is put forward, a further line fires at the moved time")
    elif deviations:
        reasons.append("the scheduler fires more often where the clock changes")
    return Cover((*lines, *dated), Fit.SUPERSET if reasons else Fit.EXACT, "; ".join(reasons))


def _local_lines(cron: Cron, timezone: str, dialect: Dialect) -> tuple[list[Line], bool]:
    if says_days(cron, dialect):
        return [Line(cron, timezone)], True
    minute, hour, *_ = cron.canonical.split()[-5:]
    times = f"{_second_text(cron)}{minute} {hour}"
    days = day_cover(cron, 0, dialect)
    texts = [f"{times} {' '.join(each)}" for each in days.lines]
    lines = [Line(_line_cron(text, cron.seconds), timezone) for text in texts]
    return _at_most(lines, dialect, times, exact=days.exact), days.exact


def _utc_cover(
    cron: Cron,
    timing: Timing,
    dialect: Dialect,
    horizon: Horizon,
    windows: tuple[ClockWindow, ...],
) -> Cover | Uncovered:
    """Return lines in UTC for every offset that the zone has within the horizon."""
    offsets = {firetimes.offset_at(timing.timezone, horizon.start)}
    offsets |= {window.transition.offset_after for window in windows}
    if any(offset % _MINUTE for offset in offsets):
        return Uncovered("zone-offset", "its zone is no whole number of minutes away from UTC")
    mask = times_mask(cron.hour.values, cron.minute.mask)
    shifts = [moved(mask, -(offset // _MINUTE)) for offset in sorted(offsets)]
    follows = not cron.is_fixed_time or not windows_met(cron, windows)
    exact = follows and all(shift == shifts[0] for shift in shifts)
    by_delta: dict[int, int] = {}
    for shift in shifts:
        for delta, times in shift.items():
            by_delta[delta] = by_delta.get(delta, 0) | times
    if cron.deciding_days == "none" and cron.month.is_all:
        masks = {_any_of(shift.values()) for shift in shifts}
        by_delta, exact = {0: _any_of(masks)}, follows and len(masks) == 1
    lines: list[Line] = []
    most = MOST_LINES if dialect.many_lines else 2
    second = _second_text(cron)
    for delta, times in sorted(by_delta.items()):
        clock, days = time_cover(times, most=most), day_cover(cron, delta, dialect)
        exact = exact and clock.exact and days.exact
        for time in clock.lines:
            for day in days.lines:
                text = f"{second}{' '.join(time)} {' '.join(day)}"
                lines.append(Line(_line_cron(text, cron.seconds), "UTC"))
    every = time_cover(_any_of(by_delta.values()), most=1).lines[0]
    lines = _at_most(lines, dialect, f"{second}{' '.join(every)}", exact=exact)
    lines += _lines_of_moved_times(cron, timing, windows, lines)
    reason = "" if exact else _utc_reason(len(offsets))
    return Cover(tuple(dict.fromkeys(lines)), Fit.EXACT if exact else Fit.SUPERSET, reason)


def _utc_reason(offsets: int) -> str:
    if offsets == 1:
        return "no line in UTC says its days"
    return "lines in UTC cover its times before and after every clock change"


def _at_most(lines: list[Line], dialect: Dialect, times: str, *, exact: bool) -> list[Line]:
    """Return one line for all of several that are not exact, where each would be an object.

    ``times`` are its time fields: they cover those of each line. Both day fields stay restricted only
    where they are in every line, so that the dialect wants both to match.
    """
    if exact or dialect.many_lines or len(lines) <= MOST_OBJECTS:
        return lines
    crons = [line.cron for line in lines]
    days = _union(DAY_OF_MONTH, [cron.day_of_month for cron in crons])
    months = _union(MONTH, [cron.month for cron in crons])
    weekdays = _union(DAY_OF_WEEK, [cron.day_of_week for cron in crons])
    text = f"{times} {days} {months} {weekdays}"
    return [Line(_line_cron(text, crons[0].seconds), lines[0].timezone)]


def _union(unit: Unit, fields: Sequence[Field | DayOfMonth | DayOfWeek]) -> str:
    """Return a text for all values of some fields; a star where one of them says more than values."""
    values = {value for field in fields for value in field.values}
    if len(values) == unit.cycle or any(not field.values for field in fields):
        return "*"
    return list_text(unit, tuple(sorted(values)))


def _lines_of_moved_times(
    cron: Cron, timing: Timing, windows: tuple[ClockWindow, ...], lines: list[Line]
) -> Iterator[Line]:
    """Yield lines for what a clock change moves to a time of UTC at which no other line fires."""
    if timing.dst_gap != "next" or not cron.is_fixed_time:
        return
    moved_to = set()
    for window in windows_met(cron, windows):
        if window.transition.change > timedelta(0):
            moved_to |= set(clock_change(timing, window.transition).instants)
    missing = [
        at
        for at in sorted(moved_to)
        if not any(firetimes.contains(line.cron, "UTC", at) for line in lines)
    ]
    yield from _dated_lines(missing, "UTC", seconds=cron.seconds)


class _Deviation(NamedTuple):
    """What a line misses at a clock change, and whether it fires then at other times as well."""

    missing: tuple[datetime, ...]
    has_more: bool


def _deviations(
    cron: Cron, timing: Timing, dialect: Dialect, windows: tuple[ClockWindow, ...]
) -> Iterator[_Deviation | None]:
    """Yield each deviation of a local line; None where no further line can mend it."""
    if cron.is_fixed_time:
        for window in windows_met(cron, windows):
            found = _deviation(timing, dialect, window)
            is_gap = window.transition.change > timedelta(0)
            if found is _UNKNOWN or (found is not None and found.missing and not is_gap):
                yield None
            elif found is not None:
                yield found


_UNKNOWN: Final = _Deviation((), has_more=True)


def _deviation(timing: Timing, dialect: Dialect, window: ClockWindow) -> _Deviation | None:
    """Return in what a line deviates at one clock change: None for nothing, ``_UNKNOWN``."""
    transition = window.transition
    is_gap = transition.change > timedelta(0)
    ours, theirs = (
        (timing.dst_gap, dialect.dst_gap) if is_gap else (timing.dst_overlap, dialect.dst_overlap)
    )
    if theirs is None:
        return _UNKNOWN
    if ours == theirs:
        return None
    native = Timing(
        timing.expression,
        timing.timezone,
        dialect.dst_gap or timing.dst_gap,
        dialect.dst_overlap or timing.dst_overlap,
    )
    due = set(clock_change(timing, transition).instants)
    fired = set(clock_change(native, transition).instants)
    around = (
        transition.instant - abs(transition.change),
        transition.instant + abs(transition.change),
    )
    all_due, all_fired = set(timing.between(*around)), set(native.between(*around))
    missing, more = (due | all_due) - (fired | all_fired), (fired | all_fired) - (due | all_due)
    return _Deviation(tuple(sorted(missing)), bool(more)) if missing or more else None


def _dated_lines(instants: Iterable[datetime], timezone: str, *, seconds: bool) -> Iterator[Line]:
    """Yield lines that fire at some instants, and on few other days of the year."""
    zone = zone_of(timezone)
    by_hour: dict[int, list[datetime]] = {}
    for at in instants:
        local = at.astimezone(zone)
        by_hour.setdefault(local.hour, []).append(local)
    for hour, found in sorted(by_hour.items()):
        weekdays = _ascending(each.isoweekday() % 7 for each in found)
        dates = _ascending(each.day for each in found)
        minutes = list_text(MINUTE, _ascending(each.minute for each in found))
        months = list_text(MONTH, _ascending(each.month for each in found))
        text = f"{minutes} {hour} {list_text(DAY_OF_MONTH, dates)} {months} *"
        if len(weekdays) * 4.4 < len(dates) or len(weekdays) == 1:
            text = f"{minutes} {hour} * {months} {list_text(DAY_OF_WEEK, weekdays)}"
        if seconds:
            text = f"{list_text(SECOND, _ascending(each.second for each in found))} {text}"
        yield Line(_line_cron(text, seconds), timezone)


def _ascending(values: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(set(values)))


def _line_cron(text: str, seconds: bool) -> Cron:
    """Return a line; where it restricts both day fields, both must match."""
    fields = text.split()
    both = fields[-3] != "*" and fields[-1] != "*"
    return Cron(text, day_rule="and" if both else None, seconds=seconds)


def _second_text(cron: Cron) -> str:
    return f"{cron.canonical.split()[0]} " if cron.seconds else ""


def _any_of(masks: Iterable[int]) -> int:
    return reduce(or_, masks, 0)


def _utc_needed(dialect: Dialect) -> str:
    zones = ", ".join(sorted(dialect.zones or ()))
    return f"its lines are read in {zones} alone, and lines in UTC are needed"

"""What becomes of a cron text that someone copies into a scheduler as it stands: the naive export."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from purista.clockchange import Timing
from purista.compiling import timing_of
from purista.contract import Schedule
from purista.cronfield import LAST
from purista.dialect import (
    ClockWindow,
    Reading,
    Special,
    clock_windows,
    plain_text,
    windows_met,
)
from purista.errors import ExpressionError
from purista.explanation import change_text
from purista.expression import Cron
from purista.firetimes import offset_at
from purista.portability import utc_text
from purista.turnover import Horizon, only_in


@dataclass(frozen=True, slots=True)
class Copied:
    """In what a copied text differs from the contract: first in what, with its date.

    ``missing`` is the first nominal time at which the scheduler would not fire, ``extra`` the first
    instant at which it would and nothing is due. ``text`` says it for people.
    """

    text: str
    missing: datetime | None = None
    extra: datetime | None = None


def copied(schedule: Schedule, reading: Reading, title: str, horizon: Horizon) -> Copied | None:
    """Return in what the cron text of a schedule, copied into a scheduler, differs; None: in nothing.

    Looked at are all nominal times of two years from the start of the horizon, and the clock changes
    within it.
    """
    cron = schedule.expression
    if not isinstance(cron, Cron):
        return None
    title = f"{title}, with {reading.put_in} put in," if reading.put_in else title
    words = _words(cron)
    refused = sorted(words & reading.refused)
    if refused:
        return Copied(f"{title} refuses '{cron.text}': it does not know {', '.join(refused)}")
    if _gives_both_days(cron) and reading.day_rule is None:
        return Copied(f"{title} refuses '{cron.text}': only one of the two day fields may restrict")
    try:
        read = _as_read(cron, reading, words)
    except ExpressionError:
        missing = next(schedule.between(horizon.start, horizon.end), None)
        return Copied(f"{title} takes '{cron.text}' for days that never come", missing)
    zone = reading.zone or schedule.timezone
    if read == cron and zone == schedule.timezone:
        return _of_clock_changes(schedule, cron, reading, title, horizon)
    native = _native(schedule, read, zone, reading, horizon.start)
    near = Horizon(horizon.start, min(horizon.end, horizon.start + _TWO_YEARS))
    return _difference(schedule, native, title, near)


_TWO_YEARS: Final = timedelta(days=731)
_DAY: Final = timedelta(days=1)


def _words(cron: Cron) -> set[Special]:
    days, found = cron.day_of_month, set[Special]()
    if days.last_weekday:
        found.add("LW")
    if days.near_weekday:
        found.add("W")
    found |= {"L-n" if each else "L" for each in days.from_end}
    found |= {"#L" if nth == LAST else "#" for _, nth in cron.day_of_week.nth}
    return found


def _gives_both_days(cron: Cron) -> bool:
    return not (cron.day_of_month.unrestricted or cron.day_of_week.unrestricted)


def _as_read(cron: Cron, reading: Reading, words: set[Special]) -> Cron:
    """Return what a scheduler takes a text for. Raises ``ExpressionError`` if that never comes."""
    text, rule = cron.text, reading.day_rule
    if words & reading.misread:
        weekdays = sorted({each for each, _ in cron.day_of_week.nth} | {*cron.day_of_week.values})
        text = " ".join([*text.split()[:-1], ",".join(map(str, weekdays))])
    if reading.sunday == 1 and text.split()[-1].replace(",", "").replace("-", "").isdigit():
        shifted = sorted((each - 1) % 7 for each in cron.day_of_week.values)
        text = " ".join([*text.split()[:-1], ",".join(map(str, shifted))])
    if reading.star_rule and (cron.day_of_month.starred or cron.day_of_week.starred):
        rule = "and"
    return Cron(text, day_rule=rule if _gives_both_days(cron) else None, seconds=cron.seconds)


def _native(schedule: Schedule, read: Cron, zone: str, reading: Reading, since: datetime) -> Timing:
    """Return when a scheduler fires; where that is not known, as the schedule says."""
    offset = offset_at(zone, since)
    gap, overlap = reading.dst_gap or schedule.dst_gap, reading.overlap_in(offset)
    return Timing(read, zone, gap, overlap or schedule.dst_overlap)


def _of_clock_changes(
    schedule: Schedule, cron: Cron, reading: Reading, title: str, horizon: Horizon
) -> Copied | None:
    """Return in what a text that is read as it is meant differs, at the first clock change."""
    native = _native(schedule, cron, schedule.timezone, reading, horizon.start)
    if not cron.is_fixed_time:
        if reading.wildcard == "both":
            return None
        read = Cron(plain_text(cron), day_rule=cron.day_rule, seconds=cron.seconds)
        native = Timing(read, schedule.timezone, "skip", "first")
    for window in windows_met(cron, clock_windows(schedule.timezone, horizon.start, horizon.end)):
        if not _is_known(cron, reading, window):
            change = change_text(window.transition)
            return Copied(f"nothing {title} does at the clock change of {change} can be relied on")
        at = window.transition.instant
        around = Horizon(max(at - _DAY, horizon.start), min(at + _DAY, horizon.end))
        found = _difference(schedule, native, title, around)
        if found is not None:
            return found
    return None


def _is_known(cron: Cron, reading: Reading, window: ClockWindow) -> bool:
    """Whether it is known what a scheduler makes of a text at a clock change."""
    if not cron.is_fixed_time:
        return reading.wildcard is not None
    is_gap = window.transition.change > timedelta(0)
    overlap = reading.overlap_in(window.transition.offset_after)
    return (reading.dst_gap if is_gap else overlap) is not None


def _difference(schedule: Schedule, native: Timing, title: str, within: Horizon) -> Copied | None:
    """Return the first instants that only one of the two has; bounds and exclusions are no matter."""
    window = within.start, within.end
    missing = next(only_in(schedule.between(*window), native.between(*window)), None)
    extra = next(only_in(native.between(*window), timing_of(schedule).between(*window)), None)
    parts = []
    if missing is not None:
        parts.append(f"at {utc_text(missing)} it is due, and {title} does not fire")
    if extra is not None:
        parts.append(f"at {utc_text(extra)} {title} fires, and nothing is due")
    return Copied("; ".join(parts), missing, extra) if parts else None

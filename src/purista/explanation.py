"""A schedule explained to a person: its sentence, its policies in words, its next clock changes.

Texts are built from values that are there as well, for programs. No clock: the caller says from
when on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Final, NamedTuple

from purista import firetimes
from purista.clockchange import (
    ClockChange,
    Effect,
    Timing,
    clock_change,
    clock_changes,
    offset_text,
    times_text,
)
from purista.contract import Schedule
from purista.exclusion import Exclusion, HolidayCalendar
from purista.expression import LATEST, Cron, Every
from purista.payload import rfc3339
from purista.sentence import DAY_NAMES, duration_words, sentence
from purista.zone import Transition

__all__ = ["Explanation", "Rule", "change_text", "effect_text", "explain", "sentence"]


class Rule(NamedTuple):
    """One thing that a schedule holds to: what it is about, and a sentence without a full stop."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a schedule means.

    ``sentence`` says when it is due, ``rules`` what holds then. ``changes`` are the next clock
    changes of its zone, whether it meets them or not. ``first_met`` is the first one that it meets,
    one of them or a later one; None where it meets none until the year 2200.
    """

    sentence: str
    rules: tuple[Rule, ...]
    changes: tuple[ClockChange, ...]
    first_met: ClockChange | None


def explain(schedule: Schedule | Timing, start: datetime, *, changes: int = 4) -> Explanation:
    """Explain a schedule, with the next ``changes`` clock changes of its zone from ``start`` on.

    A ``Timing`` is an expression by itself: it has no policies but those for clock changes.
    """
    coming = islice(firetimes.transitions(schedule.timezone, start, LATEST), changes)
    return Explanation(
        sentence(schedule.expression, schedule.timezone),
        tuple(_rules(schedule)),
        tuple(clock_change(schedule, transition) for transition in coming),
        next(clock_changes(schedule, start, LATEST), None),
    )


@lru_cache(maxsize=256)
def change_text(transition: Transition) -> str:
    """Return the local date of a clock change, and how the clock jumps.

    >>> from datetime import UTC, timedelta
    >>> hour = timedelta(hours=1)
    >>> change_text(Transition(datetime(2027, 3, 28, 1, tzinfo=UTC), hour, 2 * hour))
    'Sunday 2027-03-28: 02:00 becomes 03:00 (+01:00 to +02:00)'
    """
    before = transition.instant.replace(tzinfo=None) + transition.offset_before
    after = before + transition.change
    jump = [times_text([local], before.date()) for local in (before, after)]
    offsets = [offset_text(one) for one in (transition.offset_before, transition.offset_after)]
    day = f"{DAY_NAMES[before.isoweekday() % 7]} {before.date()}"
    return f"{day}: {jump[0]} becomes {jump[1]} ({offsets[0]} to {offsets[1]})"


def effect_text(change: ClockChange) -> str:
    """Return what a schedule does at a clock change.

    >>> from datetime import UTC, timedelta
    >>> from purista.clockchange import Timing, clock_change
    >>> hour = timedelta(hours=1)
    >>> gap = Transition(datetime(2027, 3, 28, 1, tzinfo=UTC), hour, 2 * hour)
    >>> effect_text(clock_change(Timing(Cron("30 2 * * *"), "Europe/Berlin"), gap))
    '02:30 does not exist and is skipped'
    """
    transition = change.transition
    before, after = transition.offset_before, transition.offset_after
    if change.effect == Effect.UNAFFECTED:
        return "nothing is left out or repeated"
    day = (transition.instant.replace(tzinfo=None) + before).date()
    times = times_text(change.local_times, day)
    several = len(change.local_times) > 1
    is_due = "are due" if several else "is due"
    if change.effect == Effect.FIRST:
        return f"{times} {'come' if several else 'comes'} twice and {is_due} the first time"
    if change.effect == Effect.LAST:
        return f"{times} {'come' if several else 'comes'} twice and {is_due} the second time"
    if change.effect == Effect.DOUBLED:
        return f"{times} {'come' if several else 'comes'} twice and {is_due} both times"
    missing = f"{times} {'do' if several else 'does'} not exist and"
    if change.effect == Effect.SKIPPED:
        return f"{missing} {'are' if several else 'is'} skipped"
    moved = [instant.replace(tzinfo=None) + after for instant in change.instants]
    once = ", once" if several and len(moved) == 1 else ""
    return f"{missing} {'move' if several else 'moves'} to {times_text(moved, day)}{once}"


_OVERLAP: Final = {
    "allow": "a run that is due while another is active runs beside it",
    "forbid": "a run that is due while another is active is skipped",
    "replace": "a run that is due while another is active takes its place: that one is cancelled",
}
_GAP: Final = {
    "skip": "a time that a clock change leaves out is skipped",
    "next": "times that a clock change leaves out are due once, when the clock has jumped",
    "shift": "a time that a clock change leaves out is due later by as much as the clock jumps",
}
_REPEAT: Final = {
    "first": "of a time that comes twice, the first counts",
    "last": "of a time that comes twice, the second counts",
    "both": "a time that comes twice is due both times",
}


def _rules(schedule: Schedule | Timing) -> Iterator[Rule]:
    yield Rule("clock changes", _clock_rule(schedule))
    if isinstance(schedule, Timing):
        return
    yield from _bounds_rules(schedule)
    yield Rule("overlap", _OVERLAP[schedule.concurrency_policy])
    yield Rule("missed runs", _missed_rule(schedule))
    yield Rule("duplicates", _duplicates_rule(schedule))
    if schedule.jitter:
        longest = duration_words(schedule.jitter)
        yield Rule("jitter", f"each run is fired up to {longest} late, at random")


def _clock_rule(schedule: Schedule | Timing) -> str:
    expression = schedule.expression
    if isinstance(expression, Cron):
        if expression.is_fixed_time:
            return f"{_GAP[schedule.dst_gap]}; {_REPEAT[schedule.dst_overlap]}"
        return (
            "it follows the wall clock: what is left out is not due, what comes twice is due twice"
        )
    if isinstance(expression, Every):
        return "it counts elapsed time, so they move nothing"
    return "it is one instant, so they move nothing"


def _bounds_rules(schedule: Schedule) -> Iterator[Rule]:
    if not schedule.enabled:
        yield Rule("disabled", "its triggers start nothing")
    if schedule.start_at:
        yield Rule("start", f"not before {rfc3339(schedule.start_at)}")
    if schedule.end_at:
        yield Rule("end", f"not after {rfc3339(schedule.end_at)}")
    for one in schedule.exclude:
        yield Rule("excluded", _exclusion_text(one))


def _exclusion_text(exclusion: Exclusion) -> str:
    first, last = exclusion.first, exclusion.last
    if isinstance(exclusion, HolidayCalendar):
        count = len(exclusion.dates)
        holidays = f"{count} holiday{'' if count == 1 else 's'}"
        return f"not on the {holidays} of {exclusion.name}, known from {first} to {last}"
    return f"not on {first}" if first == last else f"not from {first} to {last}"


def _missed_rule(schedule: Schedule) -> str:
    grace = duration_words(schedule.misfire_grace)
    match schedule.missed_run_policy:
        case "skip":
            return f"a trigger that is more than {grace} late is skipped"
        case "runOnce":
            return f"of all times that are more than {grace} late, the latest runs, once"
    window = duration_words(schedule.catch_up_window)
    most = schedule.max_catch_up
    return f"each time of the last {window} runs, oldest first, the latest {most} at most"


def _duplicates_rule(schedule: Schedule) -> str:
    key = schedule.idempotency_key or "nominal time"
    return f"one run for each {key} within {duration_words(schedule.dedupe_window)}"

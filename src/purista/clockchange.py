"""Clock changes: what a schedule does where its zone changes its offset.

Says in values and short words what ``firetimes`` does, by the same rules: which local times a
change leaves out or repeats, and the instants that come of them. Any change of offset counts,
whatever its size or reason. Intervals and one-shots follow no wall clock, so nothing happens to
them. The rules are in ``docs/time.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from purista import firetimes
from purista.errors import ContractError, Problem
from purista.exclusion import Exclusion, last_excluded
from purista.expression import Cron, Expression
from purista.zone import Transition


class Effect(StrEnum):
    """What becomes of the local times that a clock change leaves out or repeats."""

    SKIPPED = "skipped"
    """They do not exist that day, and nothing stands in for them."""

    MOVED = "moved"
    """They do not exist that day, and later instants stand in for them."""

    FIRST = "first"
    """They come twice, and the first pass counts."""

    LAST = "last"
    """They come twice, and the second pass counts."""

    DOUBLED = "doubled"
    """They come twice, and both passes count."""

    UNAFFECTED = "unaffected"
    """There are none."""


class Timed(Protocol):
    """What has nominal times: a ``Schedule``, or a ``Timing``."""

    @property
    def expression(self) -> Expression: ...  # noqa: D102
    @property
    def timezone(self) -> str: ...  # noqa: D102
    @property
    def dst_gap(self) -> str: ...  # noqa: D102
    @property
    def dst_overlap(self) -> str: ...  # noqa: D102
    @property
    def start_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def end_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def exclude(self) -> tuple[Exclusion, ...]: ...  # noqa: D102

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the nominal times from ``start`` to ``end``, both inclusive."""


@dataclass(frozen=True, slots=True)
class Timing:
    """An expression in a zone, by itself: when something is due, without what is due.

    Raises ``ContractError`` for an unknown zone or word.

    >>> nightly = Timing(Cron("0 2 * * *"), "Europe/Berlin")
    >>> day = datetime(2027, 1, 1, tzinfo=UTC)
    >>> [str(at) for at in nightly.between(day, day + timedelta(days=1))]
    ['2027-01-01 01:00:00+00:00']
    """

    expression: Expression
    timezone: str = "UTC"
    dst_gap: str = firetimes.DST_GAPS[0]
    dst_overlap: str = firetimes.DST_OVERLAPS[0]
    start_at: datetime | None = None
    end_at: datetime | None = None

    def __post_init__(self) -> None:
        problems = firetimes.zone_problems(self.timezone)
        for place, word, words in (
            ("dst_gap", self.dst_gap, firetimes.DST_GAPS),
            ("dst_overlap", self.dst_overlap, firetimes.DST_OVERLAPS),
        ):
            if word not in words:
                problems.append(
                    Problem(place, f"unknown word {word!r}", f"use one of: {', '.join(words)}")
                )
        if problems:
            raise ContractError(problems)

    @property
    def exclude(self) -> tuple[Exclusion, ...]:
        """None: that is for a schedule."""
        return ()

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the nominal times from ``start`` to ``end``, both inclusive, as UTC, lazily."""
        return firetimes.between(
            self.expression,
            self.timezone,
            max(start, self.start_at) if self.start_at else start,
            min(end, self.end_at) if self.end_at else end,
            dst_gap=self.dst_gap,
            dst_overlap=self.dst_overlap,
        )


@dataclass(frozen=True, slots=True)
class ClockChange:
    """A change of a zone's offset, and what a schedule does there.

    ``local_times`` are the times of the expression that the change leaves out or repeats, naive and
    ascending, each once. ``instants`` are the nominal times that come of them, in UTC and ascending:
    none where they are skipped, one where all of them move to the end of the gap, twice as many
    where both passes count. At all other local times nothing out of the ordinary happens.
    """

    transition: Transition
    effect: Effect
    local_times: tuple[datetime, ...] = ()
    instants: tuple[datetime, ...] = ()


def clock_changes(schedule: Timed, start: datetime, end: datetime) -> Iterator[ClockChange]:
    """Yield the clock changes that the schedule meets, ascending and lazily.

    Those are the changes from ``start`` to ``end``, both inclusive, at which it is not unaffected.
    """
    if isinstance(schedule.expression, Cron):
        for transition in firetimes.transitions(schedule.timezone, start, end):
            found = clock_change(schedule, transition)
            if found.effect != Effect.UNAFFECTED:
                yield found


def clock_change(schedule: Timed, transition: Transition) -> ClockChange:
    """Return what the schedule does at one change of its zone's offset, maybe nothing."""
    cron = schedule.expression
    if not isinstance(cron, Cron):
        return ClockChange(transition, Effect.UNAFFECTED)
    if transition.change < _ZERO:
        return _overlap(schedule, transition)
    return _gap(schedule, cron, transition)


def mark(schedule: Timed, instant: datetime) -> str:
    """Return short words for what a clock change did to one nominal time; empty for nothing.

    >>> nightly = Timing(Cron("30 2 * * *"), "Europe/Berlin", dst_gap="next")
    >>> mark(nightly, datetime(2027, 3, 28, 1, tzinfo=UTC))
    'moved from 02:30 by the clock change'
    >>> mark(nightly, datetime(2027, 10, 31, 0, 30, tzinfo=UTC))
    'first of two 02:30'
    """
    cron = schedule.expression
    if not isinstance(cron, Cron):
        return ""
    near = instant - _LONGEST, instant + _LONGEST
    for transition in firetimes.transitions(schedule.timezone, *near):
        if transition.change < _ZERO:
            return _pass_mark(instant, transition)
        return _moved_mark(schedule, cron, instant, transition)
    return ""


def times_text(local_times: Sequence[datetime], day: date) -> str:
    """Return local times as a list, or from first to last where they are more than three.

    Each says its date where that is another than the one before it, or than ``day`` at first.

    >>> hours = [datetime(2027, 3, 28, hour) for hour in (22, 23)]
    >>> times_text([*hours, datetime(2027, 3, 29)], date(2027, 3, 28))
    '22:00, 23:00 and 2027-03-29 00:00'
    """
    shown = local_times if len(local_times) <= _MANY else (local_times[0], local_times[-1])
    days = [day, *(local.date() for local in shown)]
    texts = [
        clock_text(local) if local.date() == before else f"{local:%Y-%m-%d} {clock_text(local)}"
        for local, before in zip(shown, days, strict=False)
    ]
    if len(local_times) > _MANY:
        return f"{texts[0]} to {texts[1]} ({len(local_times)} times)"
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def clock_text(local: datetime) -> str:
    """Return the time of day of a local time, with seconds only where there are some."""
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"


def offset_text(offset: timedelta) -> str:
    """Return an offset as RFC 3339 writes it, with seconds only where there are some.

    >>> offset_text(timedelta(hours=-3, minutes=-30))
    '-03:30'
    """
    hours, rest = divmod(abs(offset) // timedelta(seconds=1), 3600)
    minutes, seconds = divmod(rest, 60)
    sign = "-" if offset < _ZERO else "+"
    return f"{sign}{hours:02}:{minutes:02}" + (f":{seconds:02}" if seconds else "")


_ZERO: Final = timedelta(0)
_TICK: Final = timedelta(microseconds=1)
_MANY: Final = 3
_LONGEST: Final = timedelta(hours=25)
"""No change of offset is longer; no two are closer than six days."""


def _overlap(schedule: Timed, transition: Transition) -> ClockChange:
    at, length = transition.instant, -transition.change
    instants = tuple(schedule.between(at - length, at + length - _TICK))
    before = {_wall(instant, transition.offset_before) for instant in instants if instant < at}
    after = {_wall(instant, transition.offset_after) for instant in instants if instant >= at}
    if before & after:
        effect = Effect.DOUBLED
    elif before:
        effect = Effect.FIRST
    else:
        effect = Effect.LAST if after else Effect.UNAFFECTED
    return ClockChange(transition, effect, tuple(sorted(before | after)), instants)


def _gap(schedule: Timed, cron: Cron, transition: Transition) -> ClockChange:
    local_times = list(_left_out(cron, transition))
    if not local_times:
        return ClockChange(transition, Effect.UNAFFECTED)
    if _rule(schedule, cron) == "skip":
        inside = [local for local in local_times if _is_open(schedule, local, transition)]
        return ClockChange(
            transition, Effect.SKIPPED if inside else Effect.UNAFFECTED, tuple(inside)
        )
    at = transition.instant
    kept = set(schedule.between(at, at + transition.change - _TICK))
    moved = {local: _stand_in(schedule, local, transition) for local in local_times}
    inside = [local for local in local_times if moved[local] in kept]
    instants = sorted({moved[local] for local in inside})
    effect = Effect.MOVED if inside else Effect.UNAFFECTED
    return ClockChange(transition, effect, tuple(inside), tuple(instants))


def _left_out(cron: Cron, transition: Transition) -> Iterator[datetime]:
    """Yield the matches inside a gap: on a wall clock without changes, such as that of UTC."""
    start = transition.instant + transition.offset_before
    end = transition.instant + transition.offset_after - _TICK
    return (wall.replace(tzinfo=None) for wall in firetimes.between(cron, "UTC", start, end))


def _rule(schedule: Timed, cron: Cron) -> str:
    return schedule.dst_gap if cron.is_fixed_time else "skip"


def _stand_in(schedule: Timed, local: datetime, transition: Transition) -> datetime:
    """Return the instant that stands in for a local time inside a gap, if any does."""
    if schedule.dst_gap == "next":
        return transition.instant
    return local.replace(tzinfo=UTC) - transition.offset_before


def _is_open(schedule: Timed, local: datetime, transition: Transition) -> bool:
    """Whether a local time that does not exist would count: by its instant, but for the change."""
    at = local.replace(tzinfo=UTC) - transition.offset_before
    started = schedule.start_at is None or schedule.start_at <= at
    ended = schedule.end_at is not None and schedule.end_at < at
    return started and not ended and last_excluded(schedule.exclude, local.date()) is None


def _pass_mark(instant: datetime, transition: Transition) -> str:
    at, length = transition.instant, -transition.change
    if not at - length <= instant < at + length:
        return ""
    if instant < at:
        return f"first of two {clock_text(instant + transition.offset_before)}"
    return f"second of two {clock_text(instant + transition.offset_after)}"


def _moved_mark(schedule: Timed, cron: Cron, instant: datetime, transition: Transition) -> str:
    inside = transition.instant <= instant < transition.instant + transition.change
    if not inside or _rule(schedule, cron) == "skip":
        return ""
    local_times = [
        local
        for local in _left_out(cron, transition)
        if _stand_in(schedule, local, transition) == instant
    ]
    if not local_times:
        return ""
    wall = instant + transition.offset_after
    text = times_text(local_times, wall.date())
    if firetimes.contains(cron, "UTC", wall):
        return f"also {text}, moved by the clock change"
    return f"moved from {text} by the clock change"


def _wall(instant: datetime, offset: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + offset

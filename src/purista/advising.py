"""Advice: what is legal in a contract and yet rarely meant. Nothing here refuses one.

No clock: what depends on the date is looked at only when the caller says from when on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from purista.clockchange import ClockChange, Effect, clock_changes, times_text
from purista.contract import MissedRunPolicy, Schedule
from purista.errors import Problem
from purista.exclusion import HolidayCalendar
from purista.explanation import change_text, effect_text
from purista.expression import EPOCH, Cron, Every
from purista.pileup import PileUp, busiest_minute
from purista.rarity import rarely_meant
from purista.sentence import joined
from purista.service import Service
from purista.zone import zone_of

PILE_UP: Final = 10
"""So many schedules due in the same minute are worth a piece of advice."""

PILE_UP_WINDOW: Final = timedelta(days=35)
"""How far ahead pile-ups are looked for: it holds every day of a month and of a week."""

LEAST_GRACE: Final = timedelta(minutes=1)
"""With ``skip``, less grace than this is worth a piece of advice."""

_SHOWN: Final = 3
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Advice(Problem):
    """One thing that is legal and rarely meant.

    ``code`` is a stable word for programs: ``missed-run-policy``, ``misfire-grace``,
    ``dedupe-window``, ``concurrency-policy``, ``dst-gap``, ``dst-overlap``, ``day-rule``,
    ``every-one``, ``uneven-step``, ``short-month``, ``interval-zone``, ``nothing-due``,
    ``holidays-end`` or ``pile-up``.
    """

    code: str = ""

    def within(self, place: str) -> Advice:
        """Return the same advice, seen from an outer ``place``."""
        return dataclasses.replace(self, place=f"{place}: {self.place}" if self.place else place)


def advice(
    *services: Service,
    since: datetime | None = None,
    horizon: timedelta = timedelta(days=366),
) -> tuple[Advice, ...]:
    """Return what is legal and yet rarely meant; nothing here refuses a contract.

    With ``since`` it looks at what is due from then on: for schedules that are due no more, and for
    the ``horizon`` for clock changes that leave out or
    repeat a fixed time (unless ``dst_gap`` or ``dst_overlap`` is a word other than the default),
    for holidays that are not known any more, and, at most ``PILE_UP_WINDOW`` ahead, for ``PILE_UP``
    or more schedules of all services in the same minute. Without it these are left out.
    """
    schedules = [one for service in services for one in service.schedules.values()]
    found = [
        one.within(f"schedule '{schedule.id}'")
        for schedule in schedules
        for one in _of_schedule(schedule, since, horizon)
    ]
    if since is not None:
        window = min(horizon, PILE_UP_WINDOW)
        found += _of_pile_up(busiest_minute(schedules, since, since + window, least=PILE_UP))
    return tuple(found)


def _of_schedule(
    schedule: Schedule, since: datetime | None, horizon: timedelta
) -> Iterator[Advice]:
    yield from _of_policies(schedule)
    if isinstance(schedule.expression, Cron):
        for code, problem in rarely_meant(schedule.expression):
            yield Advice(f"expression: {problem.place}", problem.message, problem.remedy, code)
    yield from _of_interval(schedule)
    if since is not None:
        yield from _of_end(schedule, since)
        yield from _of_clock_changes(schedule, clock_changes(schedule, since, since + horizon))
        yield from _of_holidays(schedule, since + horizon)


def _of_policies(schedule: Schedule) -> Iterator[Advice]:
    if "missed_run_policy" not in schedule.stated:
        yield Advice(
            "missed_run_policy",
            "not said, so a trigger that comes late is skipped",
            "write missed_run_policy='skip', 'runOnce' or 'catchUp'",
            "missed-run-policy",
        )
    punctual = schedule.misfire_grace + schedule.jitter
    if schedule.missed_run_policy == MissedRunPolicy.SKIP and punctual < LEAST_GRACE:
        yield Advice(
            "misfire_grace",
            "'skip' runs nothing that comes later than this, and a trigger is seconds on its way",
            "use a minute or more",
            "misfire-grace",
        )
    catches_up = schedule.missed_run_policy == MissedRunPolicy.CATCH_UP
    if catches_up and schedule.catch_up_window > schedule.dedupe_window:
        yield Advice(
            "dedupe_window",
            "shorter than catch_up_window, so a redelivered trigger could run twice",
            f"use at least {schedule.catch_up_window}",
            "dedupe-window",
        )
    if catches_up and schedule.concurrency_policy == "forbid":
        yield Advice(
            "concurrency_policy",
            "'forbid' skips a missed run that is due while another is active",
            "use 'allow' where every missed run must happen",
            "concurrency-policy",
        )


def _of_interval(schedule: Schedule) -> Iterator[Advice]:
    """Days are counted from midnight in UTC, where an author who names a zone means its midnight."""
    every = schedule.expression
    if not isinstance(every, Every) or every.anchor != EPOCH or every.interval % _DAY:
        return
    if zone_of(schedule.timezone).utcoffset(None) == timedelta(0):
        return
    yield Advice(
        "expression",
        f"due at 00:00 UTC, not at 00:00 in {schedule.timezone}: intervals know no time zone",
        "write a Cron such as Cron('0 0 * * *'), or give the interval an anchor",
        "interval-zone",
    )


def _of_end(schedule: Schedule, since: datetime) -> Iterator[Advice]:
    if schedule.next_after(since) is None:
        last = schedule.previous_before(since)
        text = "" if last is None else f"; the last nominal time was {last:%Y-%m-%d %H:%M} UTC"
        yield Advice(
            "expression",
            f"nothing is due any more{text}",
            "name a later time or end_at, or remove the schedule",
            "nothing-due",
        )


def _of_clock_changes(schedule: Schedule, changes: Iterable[ClockChange]) -> Iterator[Advice]:
    """Name the first gap and the first overlap that fixed times meet with a default word."""
    if not isinstance(schedule.expression, Cron) or not schedule.expression.is_fixed_time:
        return
    wanted = {
        Effect.SKIPPED: schedule.dst_gap == "skip",
        Effect.FIRST: schedule.dst_overlap == "first",
    }
    for change in changes:
        if wanted.pop(change.effect, False):
            yield _of_clock_change(schedule, change)
        if not any(wanted.values()):
            return


def _of_clock_change(schedule: Schedule, change: ClockChange) -> Advice:
    when = f"{change_text(change.transition)} in {schedule.timezone}"
    message = f"{effect_text(change)} on {when}"
    remedy = "take a time of day that no change touches"
    if change.effect == Effect.FIRST:
        remedy = f"say dst_overlap='last' or 'both', or {remedy}"
        return Advice("dst_overlap", message, remedy, "dst-overlap")
    local, transition = change.local_times[0], change.transition
    end = transition.instant.replace(tzinfo=None) + transition.offset_after
    due = [times_text([one], local.date()) for one in (end, local + transition.change)]
    remedy = f"say dst_gap='next' (due at {due[0]}) or 'shift' (due at {due[1]}), or {remedy}"
    return Advice("dst_gap", message, remedy, "dst-gap")


def _of_holidays(schedule: Schedule, end: datetime) -> Iterator[Advice]:
    for one in schedule.exclude:
        if isinstance(one, HolidayCalendar) and one.last < end.date():
            yield Advice(
                "exclude",
                f"the holidays of {one.name} are known until {one.last} only",
                "name more years",
                "holidays-end",
            )


def _of_pile_up(found: PileUp | None) -> Iterator[Advice]:
    if found is None:
        return
    count = len(found.schedules)
    message = f"{count} schedules are due in the same minute, {_minute_text(found)}"
    if found.others:
        message += (
            f", and {PILE_UP} or more in {found.others} other minutes until {found.end:%Y-%m-%d}"
        )
    names = [f"'{one.id}'" for one in found.schedules[:_SHOWN]]
    names += [f"{count - _SHOWN} more"] if count > _SHOWN else []
    remedy = "spread them over other minutes, or give them a jitter of minutes"
    yield Advice(f"schedules {joined(names)}", message, remedy, "pile-up")


def _minute_text(found: PileUp) -> str:
    """Return the minute on the wall clock of the zone that all schedules share, else in UTC."""
    zones = {one.timezone for one in found.schedules}
    zone = zones.pop() if len(zones) == 1 else "UTC"
    return f"{found.minute.astimezone(zone_of(zone)):%Y-%m-%d %H:%M} in {zone}"

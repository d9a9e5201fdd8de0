"""What the contract's times alone say about a trigger. Pure: the order of delivery does not matter."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from purista.contract import MissedRunPolicy, Schedule
from purista.ledgers import Verdict

EARLY = timedelta(minutes=1)
"""How far a scheduler's clock may be ahead of ours. Some send the *next* slot's time with a manual
run; accepting it would make the real trigger a duplicate."""

INSTANT = timedelta(microseconds=1)


def time_verdict(schedule: Schedule, nominal: datetime, now: datetime) -> tuple[Verdict, str]:
    """Decide about a scheduler's trigger for ``nominal`` that arrives at ``now``."""
    if not schedule.contains(nominal):
        return Verdict.UNEXPECTED, "its time is none of the contract's nominal times"
    if nominal > now + EARLY:
        return Verdict.UNEXPECTED, f"its nominal time is {nominal - now} in the future"
    late = now - nominal
    if not is_missed(schedule, nominal, now):
        return Verdict.ACCEPTED, "on time" if late < EARLY else f"{late} late, within its grace"
    match schedule.missed_run_policy:
        case MissedRunPolicy.RUN_ONCE:
            return _run_once(schedule, nominal, now)
        case MissedRunPolicy.CATCH_UP:
            return _catch_up(schedule, nominal, now)
        case _:
            grace = schedule.misfire_grace
            return Verdict.LATE, f"{late} late, longer than the grace of {grace}"


def is_missed(schedule: Schedule, nominal: datetime, now: datetime) -> bool:
    """Whether a trigger for ``nominal`` is past its grace at ``now``; jitter counts as punctual."""
    return now - nominal > schedule.misfire_grace + schedule.jitter


def missed_times(schedule: Schedule, after: datetime, before: datetime) -> list[datetime]:
    """Return the nominal times between two instants, both exclusive, oldest first.

    At most ``max_catch_up`` of them, the latest ones: no policy runs more.
    """
    found: list[datetime] = []
    earlier = schedule.previous_before(before)
    while earlier is not None and earlier > after and len(found) < schedule.max_catch_up:
        found.append(earlier)
        earlier = schedule.previous_before(earlier)
    return found[::-1]


def _run_once(schedule: Schedule, nominal: datetime, now: datetime) -> tuple[Verdict, str]:
    later = schedule.next_after(nominal)
    if later is not None and is_missed(schedule, later, now):
        return Verdict.COALESCED, "a later nominal time was missed as well; the latest one runs"
    return Verdict.ACCEPTED, f"{now - nominal} late; the latest missed nominal time"


def _catch_up(schedule: Schedule, nominal: datetime, now: datetime) -> tuple[Verdict, str]:
    late = now - nominal
    if late > schedule.catch_up_window:
        window = schedule.catch_up_window
        return Verdict.LATE, f"{late} late, longer than the catch-up window of {window}"
    most = schedule.max_catch_up
    end = now - schedule.misfire_grace - schedule.jitter - INSTANT
    if len(list(islice(schedule.between(nominal, end), most + 1))) > most:
        return Verdict.LATE, f"more than {most} later nominal times were missed as well"
    return Verdict.ACCEPTED, f"{late} late; caught up"

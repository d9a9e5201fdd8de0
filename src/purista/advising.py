"""Advice: what is legal in a contract and yet rarely meant. Nothing here refuses one."""

from __future__ import annotations

from collections.abc import Iterator

from purista.contract import MissedRunPolicy, Schedule
from purista.errors import Problem
from purista.service import Service


def advice(*services: Service) -> tuple[Problem, ...]:
    """Return what is legal and yet rarely meant; nothing here refuses a contract."""
    return tuple(
        one.within(f"schedule '{schedule.id}'")
        for service in services
        for schedule in service.schedules.values()
        for one in _schedule_advice(schedule)
    )


def _schedule_advice(schedule: Schedule) -> Iterator[Problem]:
    if "missed_run_policy" not in schedule.stated:
        yield Problem(
            "missed_run_policy",
            "not said, so a trigger that comes late is skipped",
            "write missed_run_policy='skip', 'runOnce' or 'catchUp'",
        )
    catches_up = schedule.missed_run_policy == MissedRunPolicy.CATCH_UP
    if catches_up and schedule.catch_up_window > schedule.dedupe_window:
        yield Problem(
            "dedupe_window",
            "shorter than catch_up_window, so a redelivered trigger could run twice",
            f"use at least {schedule.catch_up_window}",
        )
    if catches_up and schedule.concurrency_policy == "forbid":
        yield Problem(
            "concurrency_policy",
            "'forbid' skips a missed run that is due while another is active",
            "use 'allow' where every missed run must happen",
        )

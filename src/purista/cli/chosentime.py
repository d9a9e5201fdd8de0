"""A nominal time that a person chose: what speaks against it, before anything is sent."""

from __future__ import annotations

from datetime import datetime

from purista.cli.output import utc_text
from purista.contract import Schedule


def mistake(schedule: Schedule, instant: datetime) -> str:
    """Return that an instant is no nominal time of a schedule; nothing if it is one."""
    if schedule.contains(instant):
        return ""
    near = (schedule.previous_before(instant), schedule.next_after(instant))
    found = " and ".join(utc_text(each) for each in near if each is not None)
    hint = f"; the nearest are {found}" if found else ""
    return f"{utc_text(instant)} is no nominal time of schedule '{schedule.id}'{hint}"

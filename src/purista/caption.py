"""Captions: a schedule's expression and target in a few words, for lists, pictures and calendars."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from purista.contract import Command, Schedule
from purista.expression import Cron, Every, Expression


def expression_text(expression: Expression) -> str:
    """Return an expression as its author wrote it, an interval to the microsecond.

    >>> expression_text(Cron("0 2 1 * *")), expression_text(Every(timedelta(minutes=90)))
    ('0 2 1 * *', 'every 1 h 30 min')
    """
    if isinstance(expression, Cron):
        return expression.text
    if isinstance(expression, Every):
        return f"every {_exact(expression.interval)}"
    return f"once {expression.at.isoformat()}"


def target_text(schedule: Schedule) -> str:
    """Return ``kind name`` of a schedule's target; a command's name is its address."""
    target = schedule.target
    name = target.address if isinstance(target, Command) else target.name
    return f"{schedule.target_kind} {name}"


_UNITS: Final = (
    (timedelta(days=1), "d"),
    (timedelta(hours=1), "h"),
    (timedelta(minutes=1), "min"),
    (timedelta(seconds=1), "s"),
    (timedelta(microseconds=1), "us"),
)


def _exact(duration: timedelta) -> str:
    parts = []
    for size, unit in _UNITS:
        count, duration = divmod(duration, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts)

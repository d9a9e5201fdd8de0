"""The expressions of AWS: ``cron(...)`` and ``at(...)``, in the forms that AWS's pages describe.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html - Sunday is 1, exactly one of
the two day fields is ``?``, and the year, which one page calls optional, is always written. Left out is
what no page describes: wrapping ranges, ``a-b/n``, ``L-3``, ``LW``, ``1,L``, names with ``L``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from purista.cronfield import DAY_OF_MONTH, DAY_OF_WEEK, HOUR, LAST, MINUTE, MONTH
from purista.dialect import Special
from purista.expression import Cron
from purista.native.fieldtext import field_text, ranges_text

SPECIALS: Final[frozenset[Special]] = frozenset({"L", "W", "#", "#L"})
"""The day words that a line can have, each alone in its field."""

LONGEST: Final = 256
"""Characters of an expression; numbers and ranges of all fields take fewer."""


def cron_text(cron: Cron) -> str:
    """Return a line that restricts at most one day field, and names whole minutes.

    >>> cron_text(Cron("30 2 * * MON-FRI")), cron_text(Cron("0 9 * * FRI#L"))
    ('cron(30 2 ? * 2-6 *)', 'cron(0 9 ? * 6L *)')
    """
    minute = field_text(MINUTE, cron.minute.values)
    hour = field_text(HOUR, cron.hour.values)
    month = field_text(MONTH, cron.month.values)
    day, weekday = "*", "?"
    if cron.deciding_days == "month":
        day = _day_text(cron)
    elif cron.deciding_days == "week":
        day, weekday = "?", _weekday_text(cron)
    return f"cron({minute} {hour} {day} {month} {weekday} *)"


def at_text(instant: datetime) -> str:
    """Return the one-time expression of an instant in UTC, in whole seconds."""
    return f"at({instant:%Y-%m-%dT%H:%M:%S})"


def is_near_an_edge(cron: Cron) -> bool:
    """Whether a nearest weekday may lie beyond its month: what AWS does there no page says."""
    return any(not 1 < day < 28 for day in cron.day_of_month.near_weekday)


def _day_text(cron: Cron) -> str:
    days = cron.day_of_month
    if days.from_end:
        return "L"
    if days.near_weekday:
        return f"{days.near_weekday[0]}W"
    return field_text(DAY_OF_MONTH, days.values)


def _weekday_text(cron: Cron) -> str:
    weekdays = cron.day_of_week
    if weekdays.nth:
        day, number = weekdays.nth[0]
        return f"{day + 1}L" if number == LAST else f"{day + 1}#{number}"
    if len(weekdays.values) == DAY_OF_WEEK.cycle:
        return "*"
    return ranges_text(tuple(value + 1 for value in weekdays.values))

"""Schedules of Google Cloud Scheduler's jobs, read: unix-cron, and the English-like ones of App Engine.

https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules and, for the English-like ones,
https://cloud.google.com/appengine/docs/standard/scheduling-jobs-with-cron-yaml. What the pages leave
open is not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from purista.clockchange import Timing
from purista.dialect import clock_windows, windows_met
from purista.errors import ContractError, ExpressionError, Problem
from purista.expression import Cron, Every, Expression


def read_schedule(text: str) -> Expression:
    """Return what a job's schedule says. Raises ``ContractError`` for what no contract can say.

    >>> read_schedule("*/10 9-17 * * MON")
    Cron('*/10 9-17 * * MON')
    >>> read_schedule("1st,3rd monday of month 09:00")
    Cron('0 9 * * MON#1,MON#3')
    """
    if _CRON.fullmatch(text) and not _wraps(text):
        return Cron(text, day_rule="or")
    words = text.lower()
    if found := _INTERVAL.fullmatch(words):
        return _interval(int(found["count"]), found["unit"], found["synchronized"])
    if found := _WEEKLY.fullmatch(words):
        return Cron(f"{_time(found)} * {_months(found)} {_weekdays(found['days'])}")
    if found := _NTH.fullmatch(words):
        return Cron(f"{_time(found)} * {_months(found)} {','.join(_nths(found))}")
    if found := _DATES.fullmatch(words):
        return Cron(f"{_time(found)} {found['dates']} {_months(found)} *")
    raise _unread(text)


def known_timing(text: str, timezone: str, start: datetime, end: datetime) -> Timing | None:
    """Return when a job runs from ``start`` to ``end``; None where the pages leave that open.

    They promise nothing of a time of day that a clock change leaves out or repeats.
    """
    try:
        expression = read_schedule(text)
        timing = Timing(expression, timezone)
    except ContractError:
        return None
    is_met = isinstance(expression, Cron) and meets_change(expression, timezone, start, end)
    return None if is_met or isinstance(expression, Every) else timing


def meets_change(cron: Cron, timezone: str, start: datetime, end: datetime) -> bool:
    """Whether a clock change leaves out or repeats one of the times."""
    return bool(windows_met(cron, clock_windows(timezone, start, end)))


_ITEM: Final = r"(?:\d+(?:-\d+(?:/\d+)?)?|[A-Z]{3})"
_FIELD: Final = rf"(?:\*|{_ITEM}(?:,{_ITEM})*)"
_STEPPED: Final = rf"(?:\*(?:/\d+)?|{_ITEM}(?:,{_ITEM})*)"
_CRON: Final = re.compile(
    rf"{_STEPPED} {_STEPPED} (?:{_FIELD} {_STEPPED} {_FIELD}|\*/\d+ {_STEPPED} \*|\* {_STEPPED} \*/\d+)"
)
"""What the page describes. It leaves open whether ``*/2`` restricts one day field beside another."""

_ORDINALS: Final = dict(
    zip(
        ("1st", "2nd", "3rd", "4th", "5th", "first", "second", "third", "fourth", "fifth"),
        (1, 2, 3, 4, 5) * 2,
        strict=True,
    )
)
_DAY: Final = r"(?:sun(?:day)?|mon(?:day)?|tue(?:sday)?|wed(?:nesday)?|thu(?:rsday)?|fri(?:day)?|sat(?:urday)?)"
_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sep(?:tember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_NUMBER: Final = rf"(?:{'|'.join(_ORDINALS)})"
_OF: Final = rf" of (?P<months>month|{_MONTH}(?:,{_MONTH})*)"
_AT: Final = r" (?P<hour>\d\d?):(?P<minute>\d\d)"
_INTERVAL: Final = re.compile(
    r"every (?P<count>\d+) (?P<unit>min(?:ute)?s?|hours?)(?P<synchronized> synchronized)?"
)
_WEEKLY: Final = re.compile(rf"every (?P<days>day|{_DAY}(?:,{_DAY})*)(?:{_OF})?{_AT}")
_NTH: Final = re.compile(
    rf"(?P<ordinals>{_NUMBER}(?:,{_NUMBER})*) (?P<days>{_DAY}(?:,{_DAY})*){_OF}{_AT}"
)
_DATES: Final = re.compile(rf"(?P<dates>\d\d?(?:,\d\d?)*){_OF}{_AT}")


def _wraps(text: str) -> bool:
    return any(int(first) > int(last) for first, last in re.findall(r"(\d+)-(\d+)", text))


def _interval(count: int, unit: str, synchronized: str | None) -> Expression:
    """Return an interval; a synchronized one is counted from midnight, so it has to divide the day."""
    length = timedelta(hours=count) if unit.startswith("hour") else timedelta(minutes=count)
    if not synchronized:
        return Every(length)
    minutes = length // timedelta(minutes=1)
    if minutes and 60 % minutes == 0:
        return Cron(f"*/{minutes} * * * *")
    if minutes and minutes % 60 == 0 and 1440 % minutes == 0:
        return Cron(f"0 */{minutes // 60} * * *")
    raise _unread(f"every {count} {unit} synchronized")


def _time(found: re.Match[str]) -> str:
    return f"{int(found['minute'])} {int(found['hour'])}"


def _months(found: re.Match[str]) -> str:
    names = found["months"]
    return "*" if names in (None, "month") else _short(names)


def _weekdays(names: str) -> str:
    return "*" if names == "day" else _short(names)


def _short(names: str) -> str:
    return ",".join(name[:3].upper() for name in names.split(","))


def _nths(found: re.Match[str]) -> Iterator[str]:
    for day in _weekdays(found["days"]).split(","):
        for ordinal in found["ordinals"].split(","):
            yield f"{day}#{_ORDINALS[ordinal]}"


def _unread(text: str) -> ExpressionError:
    return ExpressionError(
        [Problem(f"schedule '{text}'", "Google's page leaves open what it means")]
    )

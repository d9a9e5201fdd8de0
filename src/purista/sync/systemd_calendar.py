"""Lines of ``OnCalendar=`` as expressions, where they are plain (systemd.time(7)).

A line never elapses in the second pass of an hour that comes twice, nor for a time that does not exist;
so hours and minutes are written as lists in zones whose clock changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from purista import firetimes
from purista.clockchange import Timing
from purista.errors import ExpressionError
from purista.expression import Cron, Expression, Once

SHORT: Final = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
    "semi-annually": "*-01,07-01 00:00:00",
    "bi-annually": "*-01,07-01 00:00:00",
    "biannually": "*-01,07-01 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
}
"""The words for whole lines."""


def read_calendar(text: str, host_timezone: str) -> Timing | None:
    """Return when a line elapses; None where it is not plain. A line without a zone is in the host's."""
    words = text.split()
    zone = host_timezone
    if len(words) > 1 and not firetimes.zone_problems(words[-1]):
        zone = words.pop()
    if len(words) == 1:
        words = SHORT.get(words[0].lower(), words[0]).split()
    try:
        return Timing(_expression(words, zone), zone, "skip", "first")
    except (ValueError, ExpressionError):
        return None


def _expression(words: Sequence[str], zone: str) -> Expression:
    """Raises ``ValueError`` or ``ExpressionError``."""
    weekdays, rest = "*", list(words)
    if rest and rest[0][0].isalpha():
        weekdays = _weekdays(rest.pop(0))
    date = rest.pop(0) if rest and _DATE.fullmatch(rest[0]) else "*-*-*"
    time = rest.pop(0) if rest and _TIME.fullmatch(rest[0]) else "00:00:00"
    if rest or not words:
        raise ValueError(words)
    year, month, mark, day = _parts(date)
    hour, minute, second = [*time.split(":"), "00"][:3]
    if year != "*":
        if (weekdays, mark) != ("*", "-"):
            raise ValueError(words)
        return _once([int(each) for each in (year, month, day, hour, minute, second)], zone)
    keeps_stars = zone == "UTC"
    clock = [(second, 0, 59), (minute, 0, 59), (hour, 0, 23)]
    fields = [_list(each, low, high, keeps_stars) for each, low, high in clock]
    days = _list(day, 1, 31) if mark == "-" else _from_end(day)
    text = " ".join([*fields, days, _list(month, 1, 12), weekdays])
    return Cron(text, day_rule="and", seconds=True)


def _parts(date: str) -> tuple[str, str, str, str]:
    found = _DATE.fullmatch(date)
    assert found is not None
    return found["year"] or "*", found["month"], found["mark"], found["day"]


def _once(parts: Sequence[int], zone: str) -> Once:
    """Return the instant of a local time; raises ``ValueError`` where there is none."""
    near = datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
    _, month, day, hour, minute, second = parts
    cron = Cron(f"{second} {minute} {hour} {day} {month} *", seconds=True)
    around = (near - timedelta(days=2), near + timedelta(days=2))
    for at in firetimes.between(cron, zone, *around, dst_gap="skip", dst_overlap="first"):
        return Once(at)
    raise ValueError(parts)


def _list(text: str, low: int, high: int, keeps_stars: bool = True) -> str:
    """Return a part of a line as a field of a cron text."""
    values = sorted({value for each in text.split(",") for value in _values(each, low, high)})
    if keeps_stars and values == [*range(low, high + 1)]:
        return "*"
    return ",".join(map(str, values))


def _from_end(text: str) -> str:
    """Return days from the end of the month: ``~01`` is the last, ``~07/1`` each of the last seven."""
    found = _LAST_DAYS.fullmatch(text)
    if found is None:
        raise ValueError(text)
    first = int(found["first"])
    days = range(first) if found["all"] else [first - 1]
    return ",".join("L" if not day else f"L-{day}" for day in days)


def _values(text: str, low: int, high: int) -> Sequence[int]:
    found = _RANGE.fullmatch(text)
    if found is None:
        raise ValueError(text)
    step = int(found["step"] or 0)
    if found["star"]:
        return range(low, high + 1, step or 1)
    first = int(found["first"])
    last = int(found["last"] or (high if step else first))
    if not low <= first <= last <= high:
        raise ValueError(text)
    return range(first, last + 1, step or 1)


def _weekdays(text: str) -> str:
    found: set[int] = set()
    for each in text.rstrip(",").lower().split(","):
        first, _, last = each.replace("..", "-").partition("-")
        start, end = _weekday(first), _weekday(last or first)
        if end < start:
            raise ValueError(text)
        found |= {day % 7 for day in range(start, end + 1)}
    return ",".join(map(str, sorted(found)))


def _weekday(text: str) -> int:
    if text not in _NAMES:
        raise ValueError(text)
    return _NAMES[text]


_DATE: Final = re.compile(
    r"(?:(?P<year>\*|\d{4})-)?(?P<month>[\d*,./]+)(?P<mark>[-~])(?P<day>[\d*,./]+)"
)
_TIME: Final = re.compile(r"[\d*,./]+:[\d*,./]+(?::[\d*,./]+)?")
_RANGE: Final = re.compile(
    r"(?:(?P<star>\*)|(?P<first>\d+)(?:\.\.(?P<last>\d+))?)(?:/(?P<step>[1-9]\d*))?"
)
_LAST_DAYS: Final = re.compile(r"(?P<first>0?[1-9]|[12]\d|3[01])(?P<all>/1)?")
_NAMES: Final = {
    name: number
    for number, day in enumerate(
        ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"), 1
    )
    for name in (day, day[:3])
}

"""The `cron(...)` grammar of EventBridge Scheduler and of classic rules, from the vendor's pages.

Fields and dates only: no time zones, no clock, and nothing of purista. TYPES and RULES are the pages
named in `eventbridge.py`; both carry the same table of values and wildcards.
"""

import re
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache


class ValidationException(ValueError):
    """The service refuses the expression or the request."""


class UndocumentedError(ValidationException):
    """No page says what this means; whether the service takes it is not known."""


_YEAR = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEK = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = {name: number for number, name in enumerate(_YEAR, 1)}
_DAYS = {name: number for number, name in enumerate(_WEEK, 1)}


@dataclass(frozen=True, slots=True)
class Cron:
    texts: tuple[str, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    years: frozenset[int]

    def follows(self, wildcards: str) -> bool:
        minute, hour = self.texts[0].startswith("*"), self.texts[1].startswith("*")
        return (wildcards == "hours" and hour) or (wildcards == "any" and (hour or minute))


@lru_cache(maxsize=256)
def parse(expression: str, years_optional: bool) -> Cron:
    """The fields of an expression; raises `ValidationException` where the service would."""
    if not (expression.startswith("cron(") and expression.endswith(")")):
        raise ValidationException(f"Invalid Schedule Expression {expression}.")
    texts = tuple(expression[5:-1].split())
    if len(texts) == 5 and years_optional:
        # TYPES: the year is "one optional field"; API: "six fields". So it is written out.
        raise UndocumentedError(f"{expression}: whether the year is optional is said both ways")
    if len(texts) != 6:
        raise ValidationException(f"Invalid Schedule Expression {expression}.")
    minute, hour, day, month, weekday, year = texts
    # RULES: "If you specify a value or a * in one of the fields, you must use a ? in the other."
    if day != "?" and weekday != "?":
        raise ValidationException(f"{expression}: day-of-month or day-of-week must be ?")
    if day == weekday == "?":
        raise UndocumentedError(f"{expression}: ? in both day fields")
    _days_of_month(2024, 2, day, "stay"), _days_of_week(2024, 2, weekday)
    return Cron(
        texts,
        tuple(sorted(_values(minute, 0, 59))),
        tuple(sorted(_values(hour, 0, 23))),
        _values(month, 1, 12, _MONTHS),
        _values(year, 1970, 2199),
    )


def _values(
    text: str, low: int, high: int, names: Mapping[str, int] | None = None, *, slash: bool = True
) -> frozenset[int]:
    if text == "*":
        return frozenset(range(low, high + 1))
    found: set[int] = set()
    for item in text.split(","):
        if "/" in item and not slash:
            raise ValidationException(f"{text}: / is not a wildcard of this field")
        body, _, step = item.partition("/")
        head, dash, tail = body.partition("-")
        if "/" in item:
            # "1/10 to specify every tenth minute, starting from the first minute of the hour".
            if dash or not re.fullmatch(r"[1-9]\d*", step):
                raise UndocumentedError(f"{text}: only value/increment is described")
            begin = low if head == "*" else _value(head, low, high, names)
            found.update(range(begin, high + 1, int(step)))
        elif dash:
            begin, stop = _value(head, low, high, names), _value(tail, low, high, names)
            if begin > stop:
                # RULES has the example `20-2 ... MON-FRI`, "to 2:00 am on the following day", and
                # calls 20 "10:00 pm": what day its small hours belong to is not clear.
                raise UndocumentedError(f"{text}: a range that wraps")
            found.update(range(begin, stop + 1))
        else:
            found.add(_value(item, low, high, names))
    return frozenset(found)


def _value(text: str, low: int, high: int, names: Mapping[str, int] | None) -> int:
    if names and text in names:
        return names[text]
    if names and text.upper() in names:
        raise UndocumentedError(f"{text}: names are shown in capitals only")
    if not text.isdecimal():
        raise ValidationException(f"{text!r}: not a value of this field")
    if not low <= int(text) <= high:
        raise ValidationException(f"{text}: not within {low}-{high}")
    return int(text)


def dates(cron: Cron, first: date, last: date, edge: str) -> list[date]:
    """The days that the expression names, `edge` being `Reading.month_edge`."""
    _, _, day, _, weekday, _ = cron.texts
    found: set[date] = set()
    for count in range(first.year * 12 + first.month - 2, last.year * 12 + last.month + 1):
        year, month = divmod(count, 12)
        if year in cron.years and month + 1 in cron.months:
            by_week = day == "?"
            found |= (
                _days_of_week(year, month + 1, weekday)
                if by_week
                else _days_of_month(year, month + 1, day, edge)
            )
    return sorted(day for day in found if first <= day <= last)


def _days_of_month(year: int, month: int, text: str, edge: str) -> set[date]:
    if text == "?":
        return set()
    length = monthrange(year, month)[1]
    if text == "L":  # "specifies the last day of the month"
        return {date(year, month, length)}
    if nearest := re.fullmatch(r"(\d+)W", text):
        day = _value(nearest[1], 1, 31, None)
        return {_nearest_weekday(date(year, month, day), edge)} if day <= length else set()
    if "L" in text or "W" in text or "?" in text:
        raise UndocumentedError(f"{text}: L, W and ? are described only on their own")
    return {date(year, month, day) for day in _values(text, 1, 31) if day <= length}


def _nearest_weekday(day: date, edge: str) -> date:
    # "3W specifies the weekday closest to the third day of the month".
    shift = {5: -1, 6: 1}.get(day.weekday(), 0)
    moved = day + timedelta(days=shift)
    if moved.month != day.month and edge == "stay":
        return day - timedelta(days=2 * shift)
    return moved


def _days_of_week(year: int, month: int, text: str) -> set[date]:
    if text == "?":
        return set()
    days = [date(year, month, day + 1) for day in range(monthrange(year, month)[1])]
    if text == "L":  # "the last day of the ... week": SAT, for weeks count 1-7 from SUN
        return {day for day in days if _weekday(day) == 7}
    if last := re.fullmatch(r"(\d)L", text):  # TYPES: `6L` is "the last Friday of each month"
        wanted = _value(last[1], 1, 7, None)
        return {[day for day in days if _weekday(day) == wanted][-1]}
    if instance := re.fullmatch(r"(\d)#(\d)", text):  # "3#2 would be the second Tuesday"
        wanted, number = _value(instance[1], 1, 7, None), _value(instance[2], 1, 5, None)
        return set([day for day in days if _weekday(day) == wanted][number - 1 : number])
    if "#" in text and "," in text:
        raise ValidationException(f'{text}: "you can define only one expression" with #')
    if "L" in text or "#" in text or "?" in text:
        raise UndocumentedError(f"{text}: L, # and ? are described with one number only")
    wanted_days = _values(text, 1, 7, _DAYS, slash=False)
    return {day for day in days if _weekday(day) in wanted_days}


def _weekday(day: date) -> int:
    return day.isoweekday() % 7 + 1

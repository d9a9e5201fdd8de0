"""The day fields of the lines that cover the days of a cron expression, as a dialect can say them.

Days that a line cannot name exactly are covered: by days of the month, or by days of the week, whatever
fires less often. ``delta`` is for lines in another zone: they run on the day before (-1), or after (1).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, reduce
from itertools import product, starmap
from operator import or_
from typing import Final, NamedTuple

from purista.cronfield import (
    DAY_OF_MONTH,
    DAY_OF_WEEK,
    LAST,
    MONTH,
    DayOfMonth,
    DayOfWeek,
    list_text,
)
from purista.dialect import Dialect, Special
from purista.expression import Cron
from purista.monthdays import all_days, month_days, week_days


class Days(NamedTuple):
    """The three day fields of a line; where both restrict, ``both`` must match."""

    day_of_month: str
    month: str
    day_of_week: str

    @property
    def both(self) -> bool:
        """Whether day of month and day of week restrict together."""
        return self.day_of_month != "*" and self.day_of_week != "*"


class DayCover(NamedTuple):
    """The day fields of several lines, and whether they name the days and no others."""

    lines: tuple[Days, ...]
    exact: bool


def says_days(cron: Cron, dialect: Dialect) -> bool:
    """Whether one line of the dialect can say the days of the expression as they are."""
    if cron.restricts_both_days:
        plain = not (_specials(cron.day_of_month) or cron.day_of_week.nth)
        return plain and dialect.day_rule == cron.day_rule
    words = _deciding_specials(cron)
    return not words or (len(words) == 1 and _is_alone(cron) and words <= dialect.specials)


def day_cover(cron: Cron, delta: int, dialect: Dialect) -> DayCover:
    """Return the day fields of lines that cover the days of an expression."""
    parts = [_part_cover(part, delta, dialect) for part in _parts(cron) if _ever_comes(part)]
    lines = tuple(dict.fromkeys(line for part in parts for line in part.lines))
    return DayCover(lines, all(part.exact for part in parts))


class _Month(NamedTuple):
    """A month of some year: which one, whether the year is a leap year, and its first weekday."""

    number: int
    leap: bool
    first_weekday: int

    @property
    def length(self) -> int:
        """How many days it has."""
        return _length(self.number, leap=self.leap)

    @property
    def before(self) -> _Month:
        """The month before it."""
        number = (self.number - 2) % 12 + 1
        first = (self.first_weekday - _length(number, leap=self.leap)) % 7
        return _Month(number, self.leap, first)

    @property
    def after(self) -> _Month:
        """The month after it."""
        first = (self.first_weekday + self.length) % 7
        return _Month(self.number % 12 + 1, self.leap, first)


class _Part(NamedTuple):
    """Days that match all that is given: plain days, and at most one special word of each field."""

    months: tuple[int, ...]
    days: tuple[int, ...] = ()
    month_special: DayOfMonth | None = None
    weekdays: tuple[int, ...] = ()
    nth: tuple[int, int] | None = None

    @property
    def is_plain(self) -> bool:
        return self.month_special is None and self.nth is None

    @property
    def weekdays_that_can_be(self) -> tuple[int, ...]:
        """The days of week on which it can fall; all of them where it is not tied to some."""
        if self.nth:
            return (self.nth[0],)
        if self.weekdays:
            return self.weekdays
        special = self.month_special
        near = special is not None and (special.last_weekday or special.near_weekday)
        return (1, 2, 3, 4, 5) if near else _WEEK

    def days_of(self, month: _Month) -> int:
        """Return its days in a month, as a mask."""
        if month.number not in self.months:
            return 0
        length, first_weekday = month.length, month.first_weekday
        mask = all_days(length)
        if self.days:
            mask &= sum(1 << day for day in self.days)
        if self.month_special:
            mask &= month_days(self.month_special, length, first_weekday)
        if self.weekdays or self.nth:
            mask &= week_days(_weekdays(self.weekdays, self.nth), length, first_weekday)
        return mask


_WEEK: Final = tuple(range(7))
_YEAR: Final = tuple(range(1, 13))
_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_MONTHS: Final = tuple(starmap(_Month, product(_YEAR, (False, True), _WEEK)))
_MOST_GROUPS: Final = 2
"""So many lines may stand for different days in different months where each line is an object."""


def _parts(cron: Cron) -> list[_Part]:
    months = cron.month.values
    by_month = [part._replace(months=months) for part in _month_parts(cron.day_of_month)]
    by_week = [part._replace(months=months) for part in _week_parts(cron.day_of_week)]
    match cron.deciding_days:
        case "none":
            return [_Part(months)]
        case "month":
            return by_month
        case "week":
            return by_week
        case "or":
            return by_month + by_week
    return [
        one._replace(weekdays=other.weekdays, nth=other.nth)
        for one in by_month
        for other in by_week
    ]


def _month_parts(field: DayOfMonth) -> Iterator[_Part]:
    if field.values:
        yield _Part((), days=field.values)
    for special in _specials(field):
        yield _Part((), month_special=special)


def _week_parts(field: DayOfWeek) -> Iterator[_Part]:
    if field.values:
        yield _Part((), weekdays=field.values)
    for nth in field.nth:
        yield _Part((), nth=nth)


def _specials(field: DayOfMonth) -> list[DayOfMonth]:
    found = [_special(from_end=(each,)) for each in field.from_end]
    found += [_special(near_weekday=(each,)) for each in field.near_weekday]
    return [*found, _special(last_weekday=True)] if field.last_weekday else found


def _special(
    *,
    from_end: tuple[int, ...] = (),
    near_weekday: tuple[int, ...] = (),
    last_weekday: bool = False,
) -> DayOfMonth:
    return DayOfMonth((), from_end, near_weekday, last_weekday, starred=False, unrestricted=False)


def _weekdays(values: tuple[int, ...], nth: tuple[int, int] | None) -> DayOfWeek:
    return DayOfWeek(values, (nth,) if nth else (), starred=False, unrestricted=False)


def _word(special: DayOfMonth) -> Special:
    if special.last_weekday:
        return "LW"
    if special.near_weekday:
        return "W"
    return "L-n" if special.from_end[0] else "L"


def _nth_word(nth: tuple[int, int]) -> Special:
    return "#L" if nth[1] == LAST else "#"


def _deciding_specials(cron: Cron) -> set[Special]:
    if cron.deciding_days == "month":
        return {_word(each) for each in _specials(cron.day_of_month)}
    if cron.deciding_days == "week":
        return {_nth_word(each) for each in cron.day_of_week.nth}
    return set()


def _is_alone(cron: Cron) -> bool:
    """Whether the deciding field has one special word and nothing else."""
    if cron.deciding_days == "month":
        return not cron.day_of_month.values and len(_specials(cron.day_of_month)) == 1
    return not cron.day_of_week.values and len(cron.day_of_week.nth) == 1


@lru_cache(maxsize=4096)
def _ever_comes(part: _Part) -> bool:
    """Whether there is such a day: 30 February is none, though ``0 0 30 2 MON`` has its Mondays."""
    return any(part.days_of(month) for month in _MONTHS)


@lru_cache(maxsize=4096)
def _part_cover(part: _Part, delta: int, dialect: Dialect) -> DayCover:
    said = _said(part, dialect) if not delta else _said_on_another_day(part, delta)
    if said is not None:
        return DayCover((said,), exact=True)
    found = {month: _moved_days(part, delta, month) for month in _MONTHS}
    days = _days_by_month(found)
    weekdays = tuple(sorted((each + delta) % 7 for each in part.weekdays_that_can_be))
    if dialect.day_rule != "and" or len(weekdays) == 7:
        fewer = _is_fewer(weekdays, days)
        days = dict.fromkeys(days, all_days(31)) if fewer else days
        weekdays = weekdays if fewer else _WEEK
    days = _joined(days, most=len(_YEAR) if dialect.many_lines else _MOST_GROUPS)
    groups: dict[int, list[int]] = defaultdict(list)
    for number, mask in days.items():
        groups[mask].append(number)
    lines = [
        Days(_days_text(mask), _months_text(numbers), _weekdays_text(weekdays))
        for mask, numbers in groups.items()
    ]
    return DayCover(tuple(lines), _is_exact(found, days, weekdays))


def _said(part: _Part, dialect: Dialect) -> Days | None:
    """Return the fields of a line that says the part as it is, if the dialect has one."""
    month = _months_text(part.months)
    day, weekday = "*", "*"
    if part.month_special:
        if _word(part.month_special) not in dialect.specials:
            return None
        day = _special_text(part.month_special)
    elif part.days:
        day = list_text(DAY_OF_MONTH, part.days)
    if part.nth:
        if _nth_word(part.nth) not in dialect.specials:
            return None
        weekday = f"{part.nth[0]}#{'L' if part.nth[1] == LAST else part.nth[1]}"
    elif part.weekdays:
        weekday = list_text(DAY_OF_WEEK, part.weekdays)
    made = Days(day, month, weekday)
    if not made.both:
        return made
    if part.is_plain and dialect.day_rule == "and":
        return made
    nth = _as_nth(part) if "#" in dialect.specials else None
    return made._replace(day_of_month="*", day_of_week=nth) if nth else None


def _said_on_another_day(part: _Part, delta: int) -> Days | None:
    """Return the fields for the day before or after, where no month's end matters."""
    if part.days or not part.is_plain or part.months != _YEAR:
        return None
    shifted = tuple(sorted((each + delta) % 7 for each in part.weekdays))
    return Days("*", "*", list_text(DAY_OF_WEEK, shifted) if shifted else "*")


def _as_nth(part: _Part) -> str | None:
    """Return a weekday within one week of the month as an nth weekday: 1-7 and Monday is 1#1."""
    block = part.is_plain and len(part.weekdays) == 1 and _block_of(part.days)
    return f"{part.weekdays[0]}#{block}" if block else None


def _block_of(days: tuple[int, ...]) -> int:
    week = days[0] // 7 + 1 if days else 0
    return week if days == tuple(range(7 * week - 6, 7 * week + 1)) else 0


def _moved_days(part: _Part, delta: int, month: _Month) -> int:
    """Return the days of a month, as a mask, on which the part falls when moved by ``delta``."""
    mask = part.days_of(month)
    if delta < 0:
        spilt = part.days_of(month.after) >> 1 & 1
        return mask >> 1 & all_days(month.length) | spilt << month.length
    if delta > 0:
        spilt = part.days_of(month.before) >> month.before.length & 1
        return mask << 1 & all_days(month.length) | spilt << 1
    return mask


def _days_by_month(found: Mapping[_Month, int]) -> dict[int, int]:
    """Return the days of each month on which something falls in some year."""
    days: dict[int, int] = defaultdict(int)
    for month, mask in found.items():
        days[month.number] |= mask
    return {number: _whole(number, mask) for number, mask in days.items() if mask}


def _whole(number: int, mask: int) -> int:
    """Return the mask, and the same one for every month of which it has all days."""
    return all_days(31) if mask == all_days(_length(number, leap=True)) else mask


def _joined(days: dict[int, int], *, most: int) -> dict[int, int]:
    """Return the same days for all months where these are too many, or no day is one too many."""
    every = reduce(or_, days.values())
    lengths = {number: all_days(_length(number, leap=True)) for number in days}
    same = all(every & lengths[number] == mask & lengths[number] for number, mask in days.items())
    return dict.fromkeys(days, every) if same or len(set(days.values())) > most else days


def _is_exact(
    found: Mapping[_Month, int], days: Mapping[int, int], weekdays: tuple[int, ...]
) -> bool:
    """Whether the days of lines, where they are some of the weekdays, are what was found."""
    field = _weekdays(weekdays, None)
    return all(
        week_days(field, month.length, month.first_weekday) & days.get(month.number, 0) == mask
        for month, mask in found.items()
    )


def _length(month: int, *, leap: bool) -> int:
    return 29 if leap and month == 2 else _LENGTHS[month - 1]


def _is_fewer(weekdays: tuple[int, ...], days: Mapping[int, int]) -> bool:
    """Whether the weekdays of the months are fewer than the days."""
    if len(weekdays) == 7:
        return False
    return len(weekdays) * 30.4 / 7 * len(days) < sum(mask.bit_count() for mask in days.values())


def _special_text(special: DayOfMonth) -> str:
    if special.last_weekday:
        return "LW"
    if special.near_weekday:
        return f"{special.near_weekday[0]}W"
    return f"L-{special.from_end[0]}" if special.from_end[0] else "L"


def _days_text(mask: int) -> str:
    days = tuple(day for day in range(1, 32) if mask >> day & 1)
    return "*" if len(days) == 31 else list_text(DAY_OF_MONTH, days)


def _months_text(months: Iterable[int]) -> str:
    given = tuple(months)
    return "*" if len(given) == 12 else list_text(MONTH, given)


def _weekdays_text(weekdays: tuple[int, ...]) -> str:
    return "*" if len(weekdays) == 7 else list_text(DAY_OF_WEEK, weekdays)

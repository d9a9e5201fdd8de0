"""Expressions: when a schedule is due. ``Cron``, ``Every`` and ``Once`` are frozen values.

A value that exists is right: each constructor collects all of its mistakes and raises one
``ExpressionError``. Nothing here knows a time zone; ``firetimes`` turns an expression and a zone
into instants. What cron texts mean, and where schedulers disagree, is in ``docs/time.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

from purista import cronfield
from purista.cronfield import DayOfMonth, DayOfWeek, Field
from purista.crontext import (
    ALIASES,
    DAY_RULES,
    DayRule,
    needs_rule,
    read_fields,
    shown_value,
    time_texts,
)
from purista.errors import ExpressionError, Problem
from purista.monthdays import all_days, month_days, week_days

__all__ = [
    "ALIASES",
    "DAY_RULES",
    "EARLIEST",
    "EPOCH",
    "LATEST",
    "Cron",
    "DayRule",
    "DecidingDays",
    "Every",
    "Expression",
    "Once",
]

DecidingDays: TypeAlias = Literal["none", "month", "week", "or", "and"]
"""Which day fields decide: neither, the day of month, the day of week, or both by a day rule."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The Unix epoch: the anchor of an interval that names none."""

EARLIEST: Final = EPOCH
"""The first instant that purista reckons with."""

LATEST: Final = datetime(2200, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""The last instant that purista reckons with."""


@dataclass(frozen=True, slots=True, init=False, eq=False, repr=False)
class Cron:
    """Due when the wall clock matches five fields: minute, hour, day of month, month, day of week.

    ``text`` is kept as written; ``canonical`` says the same in plain form. ``day_rule`` says what
    two restricted day fields mean together: ``"or"``, either one (the default), or ``"and"``, both
    at once. Where schedulers disagree about which is meant it must be given. ``seconds=True`` adds
    a leading field for seconds.

    ``deciding_days`` says which day fields restrict anything; ``steady_days`` is the mask of the
    matching days where neither the weekday nor the length of the month matters, else 0.

    Two values are equal when they mean the same, however they are written.

    >>> Cron("0 9 * * MON-FRI") == Cron("00 9 * * 1,2,3,4,5")
    True
    >>> Cron("0 22-2 * * 7").canonical
    '0 0,1,2,22,23 * * 0'

    Raises ``ExpressionError`` with every mistake at once, and for dates that never come.
    """

    text: str
    day_rule: DayRule
    seconds: bool
    second: Field
    minute: Field
    hour: Field
    day_of_month: DayOfMonth
    month: Field
    day_of_week: DayOfWeek
    deciding_days: DecidingDays
    steady_days: int

    def __init__(self, text: str, day_rule: DayRule | None = None, seconds: bool = False) -> None:
        fields = read_fields(text, day_rule, seconds)
        put = object.__setattr__
        put(self, "text", text)
        put(self, "day_rule", day_rule or "or")
        put(self, "seconds", seconds)
        put(self, "second", fields[0])
        put(self, "minute", fields[1])
        put(self, "hour", fields[2])
        put(self, "day_of_month", fields[3])
        put(self, "month", fields[4])
        put(self, "day_of_week", fields[5])
        put(self, "deciding_days", _deciding_days(fields[3], fields[5], self.day_rule))
        put(self, "steady_days", _steady_days(fields[3], self.deciding_days))
        if not _ever_comes(self):
            raise ExpressionError([_never_problem(self)])

    @property
    def is_fixed_time(self) -> bool:
        """Whether neither the minute nor the hour field begins with ``*``.

        Such an expression names times of day, and ``dst_gap`` and ``dst_overlap`` apply to it;
        every other follows the wall clock through a change. The rule is that of Debian's cron(8).
        """
        return not (self.minute.starred or self.hour.starred)

    @property
    def restricts_both_days(self) -> bool:
        """Whether day of month and day of week both restrict, so that ``day_rule`` matters."""
        return self.deciding_days in DAY_RULES

    def days(self, length: int, first_weekday: int) -> int:
        """Return the matching days of a month as a mask with bit ``d`` set for day ``d``.

        The month has ``length`` days and begins on ``first_weekday`` (0 is Sunday). Whether the
        month itself matches is not looked at.
        """
        if self.steady_days:
            return self.steady_days & all_days(length)
        if self.deciding_days == "month":
            return month_days(self.day_of_month, length, first_weekday)
        if self.deciding_days == "week":
            return week_days(self.day_of_week, length, first_weekday)
        by_month = month_days(self.day_of_month, length, first_weekday)
        by_week = week_days(self.day_of_week, length, first_weekday)
        return by_month | by_week if self.deciding_days == "or" else by_month & by_week

    @property
    def canonical(self) -> str:
        """The plain text with the same meaning: numbers only, ascending.

        ``Cron(c.canonical, c.day_rule, c.seconds) == c`` for every ``c``. Minute and hour are
        written with ``*`` exactly where the expression is not ``is_fixed_time``.
        """
        return " ".join(self._texts(seconds=self.seconds))

    @property
    def meaning(self) -> str:
        """A text that is equal for two expressions exactly when they are equal.

        >>> Cron("0 0 13 * FRI").meaning, Cron("0 0 13 * 5", day_rule="and").meaning
        ('0 0 13 * 5 or', '0 0 13 * 5 and')
        """
        texts = self._texts(seconds=self.second.values != (0,))
        return " ".join([*texts, self.day_rule] if self.restricts_both_days else texts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cron):
            return NotImplemented
        return self.meaning == other.meaning

    def __hash__(self) -> int:
        return hash(self.meaning)

    def __str__(self) -> str:
        return self.canonical

    def __repr__(self) -> str:
        needed = self.restricts_both_days or needs_rule(self.day_of_month, self.day_of_week)
        rule = f", day_rule={self.day_rule!r}" if needed else ""
        seconds = ", seconds=True" if self.seconds else ""
        return f"Cron({self.text!r}{rule}{seconds})"

    def _texts(self, *, seconds: bool) -> list[str]:
        days, months = self.deciding_days, self.month
        second = [cronfield.star_text(cronfield.SECOND, self.second.values)] if seconds else []
        return [
            *second,
            *time_texts(self.minute, self.hour),
            "*" if days in ("none", "week") else cronfield.day_of_month_text(self.day_of_month),
            "*" if months.is_all else cronfield.list_text(months.unit, months.values),
            "*" if days in ("none", "month") else cronfield.day_of_week_text(self.day_of_week),
        ]


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Every:
    """Due each ``interval`` of absolute time: at ``anchor`` plus or minus any number of intervals.

    ``interval`` is a second or more, exact to the microsecond. The anchor is the Unix epoch unless
    given; it is an aware datetime, kept in UTC. Clock changes move nothing. Two values are equal
    when they name the same instants.

    >>> Every(timedelta(hours=1)) == Every(timedelta(minutes=60), anchor=EPOCH + timedelta(days=1))
    True
    """

    interval: timedelta
    anchor: datetime

    def __init__(self, interval: timedelta, anchor: datetime | None = None) -> None:
        place = f"every {shown_value(interval)}"
        problems = [
            *_interval_problems(place, interval),
            *_instant_problems(f"{place}: anchor", EPOCH if anchor is None else anchor),
        ]
        if problems:
            raise ExpressionError(problems)
        object.__setattr__(self, "interval", interval)
        object.__setattr__(self, "anchor", (anchor or EPOCH).astimezone(UTC))

    @property
    def phase(self) -> timedelta:
        """How long after the Unix epoch the first instant comes; shorter than the interval."""
        return (self.anchor - EPOCH) % self.interval

    @property
    def meaning(self) -> str:
        """A text that is equal for two expressions exactly when they are equal."""
        microsecond = timedelta(microseconds=1)
        return f"every {self.interval // microsecond} us from {self.phase // microsecond} us"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Every):
            return NotImplemented
        return (self.interval, self.phase) == (other.interval, other.phase)

    def __hash__(self) -> int:
        return hash((self.interval, self.phase))


@dataclass(frozen=True, slots=True, init=False)
class Once:
    """Due at one instant: an aware datetime from 1970 to 2200, kept in UTC."""

    at: datetime

    def __init__(self, at: datetime) -> None:
        place = f"once {shown_value(at)}"
        problems = [*_instant_problems(place, at)]
        if not problems and not EARLIEST <= at <= LATEST:
            problems.append(Problem(place, "out of bounds", "use the years 1970 to 2200"))
        if problems:
            raise ExpressionError(problems)
        object.__setattr__(self, "at", at.astimezone(UTC))

    @property
    def meaning(self) -> str:
        """A text that is equal for two expressions exactly when they are equal."""
        return f"once {self.at.isoformat()}"


Expression: TypeAlias = Cron | Every | Once

_MONTH_LENGTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def _deciding_days(month: DayOfMonth, week: DayOfWeek, rule: DayRule) -> DecidingDays:
    """Return which day fields decide, given that a field with every day decides nothing."""
    by_month, by_week = not month.is_all, not week.is_all
    if rule == "or" and not (month.unrestricted or week.unrestricted):
        by_month = by_week = by_month and by_week
    if by_month and by_week:
        return rule
    return "month" if by_month else "week" if by_week else "none"


def _steady_days(month: DayOfMonth, deciding: DecidingDays) -> int:
    """Return the mask of the matching days where it is the same for every month, else 0."""
    if deciding == "none":
        return all_days(31)
    varies = month.from_end or month.near_weekday or month.last_weekday
    return month.mask if deciding == "month" and not varies else 0


def _ever_comes(cron: Cron) -> bool:
    if cron.deciding_days in ("none", "week"):
        return True
    earliest = cron.day_of_month.values[:1]
    if cron.deciding_days != "and" and earliest and earliest[0] <= 28:
        return True
    lengths = {_MONTH_LENGTHS[month - 1] for month in cron.month.values}
    lengths |= {28} if 29 in lengths else set()
    return any(cron.days(length, first) for length in lengths for first in range(7))


def _never_problem(cron: Cron) -> Problem:
    text = cron.text
    return Problem(
        f"cron {shown_value(text)}: day of month",
        "no month of the month field ever has such a day",
        "write another day, or L for the last day of the month",
    )


def _interval_problems(place: str, interval: object) -> Iterator[Problem]:
    if not isinstance(interval, timedelta):
        found = f"{type(interval).__name__} is no duration"
        yield Problem(place, found, "use datetime.timedelta, such as Every(timedelta(minutes=5))")
    elif interval < timedelta(seconds=1):
        yield Problem(place, "the interval is too short", "use a second or more")


def _instant_problems(place: str, instant: object) -> Iterator[Problem]:
    if not isinstance(instant, datetime):
        found = f"{type(instant).__name__} is no instant"
        yield Problem(place, found, "use an aware datetime, such as datetime(..., tzinfo=UTC)")
    elif instant.utcoffset() is None:
        found = f"{instant} is naive: it has no time zone"
        yield Problem(place, found, "give it one, such as tzinfo=ZoneInfo('Europe/Berlin')")
    else:
        try:
            instant.astimezone(UTC)
        except OverflowError:
            yield Problem(place, f"{instant} is out of bounds", "use the years 1970 to 2200")

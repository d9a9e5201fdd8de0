"""Expressions: when a schedule is due. ``Cron``, ``Every`` and ``Once`` are frozen values.

A value that exists is right: each constructor collects all of its mistakes and raises one
``ExpressionError``. Nothing here knows a time zone; ``firetimes`` turns an expression and a zone
into instants. What cron texts mean, and where schedulers disagree, is in ``docs/time.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

from purista import cronfield
from purista.cronfield import DayOfMonth, DayOfWeek, Field, Mistake
from purista.errors import ExpressionError, Problem

DayRule: TypeAlias = Literal["or", "and"]

DecidingDays: TypeAlias = Literal["none", "month", "week", "or", "and"]
"""Which day fields decide: neither, the day of month, the day of week, or both by a day rule."""

DAY_RULES: Final = ("or", "and")
"""The words of ``day_rule``."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The Unix epoch: the anchor of an interval that names none."""

EARLIEST: Final = EPOCH
"""The first instant that purista reckons with."""

LATEST: Final = datetime(2200, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""The last instant that purista reckons with."""

ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Short words for cron texts, in any case."""

MAX_TEXT_LENGTH: Final = 2000
"""Longer than any cron text that says each value once."""


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
        fields = _fields(text, day_rule, seconds)
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
            return self.steady_days & cronfield.all_days(length)
        if self.deciding_days == "month":
            return cronfield.month_days(self.day_of_month, length, first_weekday)
        if self.deciding_days == "week":
            return cronfield.week_days(self.day_of_week, length, first_weekday)
        by_month = cronfield.month_days(self.day_of_month, length, first_weekday)
        by_week = cronfield.week_days(self.day_of_week, length, first_weekday)
        return by_month | by_week if self.deciding_days == "or" else by_month & by_week

    @property
    def canonical(self) -> str:
        """The plain text with the same meaning: numbers only, ascending.

        ``Cron(c.canonical, c.day_rule, c.seconds) == c`` for every ``c``. Minute and hour are
        written with ``*`` exactly where the expression is not ``is_fixed_time``.
        """
        texts = [*self._time_texts(), *self._day_texts()]
        if self.seconds:
            texts.insert(0, cronfield.star_text(cronfield.SECOND, self.second.values))
        return " ".join(texts)

    @property
    def meaning(self) -> str:
        """A text that is equal for two expressions exactly when they are equal.

        >>> Cron("0 0 13 * FRI").meaning, Cron("0 0 13 * 5", day_rule="and").meaning
        ('0 0 13 * 5 or', '0 0 13 * 5 and')
        """
        texts = [*self._time_texts(), *self._day_texts()]
        if self.second.values != (0,):
            texts.insert(0, cronfield.star_text(cronfield.SECOND, self.second.values))
        if self.restricts_both_days:
            texts.append(self.day_rule)
        return " ".join(texts)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cron):
            return NotImplemented
        return self.meaning == other.meaning

    def __hash__(self) -> int:
        return hash(self.meaning)

    def __str__(self) -> str:
        return self.canonical

    def __repr__(self) -> str:
        needed = self.restricts_both_days or _needs_rule(self.day_of_month, self.day_of_week)
        rule = f", day_rule={self.day_rule!r}" if needed else ""
        seconds = ", seconds=True" if self.seconds else ""
        return f"Cron({self.text!r}{rule}{seconds})"

    def _time_texts(self) -> list[str]:
        minute, hour = self.minute, self.hour
        if self.is_fixed_time:
            return [cronfield.list_text(field.unit, field.values) for field in (minute, hour)]
        texts = [cronfield.star_text(field.unit, field.values) for field in (minute, hour)]
        if not any(text.startswith("*") for text in texts):
            at = 0 if minute.values[0] == 0 else 1
            field = (minute, hour)[at]
            texts[at] = cronfield.starred_text(field.unit, field.values)
        return texts

    def _day_texts(self) -> list[str]:
        days, months = self.deciding_days, self.month
        return [
            cronfield.day_of_month_text(self.day_of_month) if days not in ("none", "week") else "*",
            "*" if months.is_all else cronfield.list_text(months.unit, months.values),
            cronfield.day_of_week_text(self.day_of_week) if days not in ("none", "month") else "*",
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
        place = f"every {_shown(interval)}"
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
        place = f"once {_shown(at)}"
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

_FIVE: Final = "minute, hour, day of month, month, day of week"
_MONTH_LENGTHS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_Fields: TypeAlias = tuple[Field, Field, Field, DayOfMonth, Field, DayOfWeek]


def _fields(text: str, day_rule: DayRule | None, seconds: bool) -> _Fields:
    tokens = _tokens(text, day_rule, seconds)
    second, second_mistakes = cronfield.parse_field(cronfield.SECOND, tokens[0])
    minute, minute_mistakes = cronfield.parse_field(cronfield.MINUTE, tokens[1])
    hour, hour_mistakes = cronfield.parse_field(cronfield.HOUR, tokens[2])
    day_of_month, day_of_month_mistakes = cronfield.parse_day_of_month(tokens[3])
    month, month_mistakes = cronfield.parse_field(cronfield.MONTH, tokens[4])
    day_of_week, day_of_week_mistakes = cronfield.parse_day_of_week(tokens[5])
    if second and minute and hour and day_of_month and month and day_of_week:
        if day_rule is None and _needs_rule(day_of_month, day_of_week):
            raise ExpressionError([_rule_problem(text, day_of_month, day_of_week)])
        return second, minute, hour, day_of_month, month, day_of_week
    mistakes = (
        second_mistakes,
        minute_mistakes,
        hour_mistakes,
        day_of_month_mistakes,
        month_mistakes,
        day_of_week_mistakes,
    )
    raise ExpressionError(_field_problems(text, mistakes if seconds else mistakes[1:]))


def _tokens(text: str, day_rule: DayRule | None, seconds: bool) -> list[str]:
    """Return the texts of the six fields."""
    if type(text) is str and len(text) <= MAX_TEXT_LENGTH and text.isprintable():  # nearly always
        tokens = text.split()
        known = day_rule is None or day_rule in DAY_RULES
        if len(tokens) == 5 and seconds is False and known and text.isascii():
            return ["0", *tokens]
    problems = [
        *_argument_problems(day_rule, seconds),
        *(_text_problems(text) or _count_problems(text, seconds=seconds is True)),
    ]
    if problems:
        raise ExpressionError(problem.within(f"cron {_shown(text)}") for problem in problems)
    tokens = text.split()
    if len(tokens) == 1:
        tokens = ALIASES[tokens[0].lower()].split()
    return tokens if len(tokens) == 6 else ["0", *tokens]


def _argument_problems(day_rule: object, seconds: object) -> list[Problem]:
    problems = []
    if day_rule is not None and day_rule not in DAY_RULES:
        problems.append(
            Problem("day_rule", f"unknown word {_shown(day_rule)}", "use 'or' or 'and'")
        )
    if not isinstance(seconds, bool):
        problems.append(Problem("seconds", f"{_shown(seconds)} is neither True nor False"))
    return problems


def _text_problems(text: object) -> list[Problem]:
    if not isinstance(text, str):
        return [Problem("", f"{type(text).__name__} is no text", "write Cron('0 2 * * *')")]
    if len(text) > MAX_TEXT_LENGTH:
        return [Problem("", f"{len(text)} characters are too many", f"use {MAX_TEXT_LENGTH}")]
    if not (text.isascii() and text.isprintable()):
        for position, character in enumerate(text, 1):
            if not " " <= character <= "~" and character not in "\t\r\n":
                found = f"character {position} is {character!a}"
                return [Problem("", found, "use ASCII letters, digits, signs and spaces")]
    return []


def _count_problems(text: str, *, seconds: bool) -> list[Problem]:
    tokens = text.split()
    count = len(tokens)
    expected = 6 if seconds else 5
    if count == expected:
        return []
    if tokens and ("=" in tokens[0] or tokens[0].startswith("@")):
        return _word_problems(tokens)
    expected_text = f"expected {expected} fields, got {count}"
    if count == 6:
        remedy = "say seconds=True if the first is for seconds; for a year use start_at and end_at"
    elif count == 7:
        remedy = "there is no year field: use start_at and end_at; seconds=True allows six fields"
    elif seconds:
        remedy = f"write second, {_FIVE}"
    else:
        remedy = f"write {_FIVE}"
    return [Problem("", expected_text, remedy)]


def _word_problems(tokens: list[str]) -> list[Problem]:
    word = tokens[0].lower()
    if word in ALIASES and len(tokens) == 1:
        return []
    shown = _shown(tokens[0])
    if word in ALIASES:
        return [Problem("", f"{shown} stands alone, got {len(tokens)} words")]
    if word == "@every":
        return [Problem("", f"{shown} is an interval", "use Every(timedelta(minutes=5))")]
    if word == "@reboot":
        return [Problem("", f"{shown} is no time", "run it when the service starts")]
    if "=" in word:
        return [Problem("", f"{shown} sets a variable", "say timezone='Europe/Berlin' instead")]
    return [Problem("", f"unknown word {shown}", f"use one of: {', '.join(ALIASES)}")]


def _field_problems(text: str, mistakes: Iterable[tuple[Mistake, ...]]) -> Iterator[Problem]:
    place = f"cron {_shown(text)}"
    units = cronfield.UNITS[-len(text.split()) :]
    position = 0
    for unit, token, found in zip(units, text.split(), mistakes, strict=True):
        position = text.index(token, position)
        for mistake in found:
            message = f"{mistake.message} (character {position + mistake.offset + 1})"
            yield Problem(f"{place}: {unit.name}", message, mistake.remedy)
        position += len(token)


def _needs_rule(month: DayOfMonth, week: DayOfWeek) -> bool:
    """Whether one is a star step or a full range beside a partner: there schedulers disagree."""
    if month.unrestricted or week.unrestricted:
        return False
    return month.starred or week.starred or month.is_all or week.is_all


def _rule_problem(text: str, month: DayOfMonth, week: DayOfWeek) -> Problem:
    odd = "day of month" if month.starred or month.is_all else "day of week"
    partner = "day of week" if odd == "day of month" else "day of month"
    return Problem(
        f"cron {_shown(text)}: {odd}",
        f"a star step or a full range beside a restricted {partner} means 'and' to some schedulers"
        " and 'or' to others",
        "say day_rule='and' (both must match) or day_rule='or' (either), or write '*'",
    )


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
        return cronfield.all_days(31)
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
        f"cron {_shown(text)}: day of month",
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


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, timedelta | datetime) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

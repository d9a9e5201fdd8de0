"""Every minute of two years, in twelve zones, against 300 generated expressions.

The matcher is written apart from the implementation: it knows no spans, no jumps and no masks of
months, only one minute after the other and what the zone's clock shows at it (``zoneinfo`` with its
``fold``). The generator gives each text together with what it means, so that nothing here parses.
A set of minutes is one big integer, which makes the comparison quick.
"""

from __future__ import annotations

import calendar
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache, reduce
from itertools import groupby, pairwise, product
from operator import lt, or_
from zoneinfo import ZoneInfo

import pytest

from purista import firetimes
from purista.expression import Cron

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
EXPRESSIONS = 300
ONE = ord("1")

ZONES = {
    "Europe/Berlin": 2027,  # an hour, at 01:00 UTC
    "America/New_York": 2027,  # an hour, at 02:00 local
    "Australia/Lord_Howe": 2027,  # half an hour
    "Antarctica/Troll": 2027,  # two hours
    "Africa/Cairo": 2026,  # a gap at midnight, an overlap before midnight
    "America/Asuncion": 2023,  # midnight, and no more changes from 2024 on
    "America/Havana": 2027,  # a gap at midnight, an overlap at one o'clock
    "America/Caracas": 2007,  # half an hour back in 2007, for good
    "Pacific/Apia": 2010,  # 30 December 2011 did not exist
    "Pacific/Kwajalein": 1992,  # 21 August 1993 did not exist
    "Africa/Casablanca": 2023,  # an hour back for Ramadan
    "Pacific/Kiritimati": 1994,  # 31 December 1994 did not exist
}
"""The first of the two years in which each zone is looked at."""


@pytest.mark.parametrize("zone", ZONES)
def test_two_years_of_minutes_agree_with_a_plain_scan(zone: str) -> None:
    clock = clock_of(zone)
    rules = list(product(firetimes.DST_GAPS, firetimes.DST_OVERLAPS))
    for number, expected in enumerate(generated(EXPRESSIONS)):
        gap, overlap = rules[number % len(rules)]
        fired = firetimes.between(
            expected.cron, zone, clock.start, clock.end, dst_gap=gap, dst_overlap=overlap
        )
        minutes = [(instant - clock.start) // MINUTE for instant in fired]
        agrees = clock.bits(minutes) == clock.scan(expected, gap, overlap)
        assert agrees, (expected.cron, gap, overlap)
        assert all(map(lt, minutes, minutes[1:])), (expected.cron, gap, overlap)


@dataclass(frozen=True)
class Expected:
    """An expression, and what it means: told by the generator, not by the parser."""

    cron: Cron
    minutes: frozenset[int]
    hours: frozenset[int]
    names_a_time: bool
    matches_day: Callable[[date], bool]


@dataclass
class Clock:
    """What a zone's clock shows at each minute of two years."""

    start: datetime
    end: datetime
    by_minute: dict[int, int] = field(default_factory=dict)
    by_hour: dict[int, int] = field(default_factory=dict)
    by_date: list[tuple[date, int, int]] = field(default_factory=list)
    first_pass: int = 0
    second_pass: int = 0
    gaps: list[tuple[int, list[datetime]]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return (self.end - self.start) // MINUTE + 1

    def bits(self, minutes: Iterable[int]) -> int:
        digits = bytearray(b"0" * self.count)
        for minute in minutes:
            assert minute >= 0
            digits[minute] = ONE
        return int(digits, 2)

    def scan(self, expected: Expected, gap: str, overlap: str) -> int:
        found = self.day_bits(expected)
        found &= reduce(or_, (self.by_minute.get(minute, 0) for minute in expected.minutes))
        found &= reduce(or_, (self.by_hour.get(hour, 0) for hour in expected.hours))
        if not expected.names_a_time:
            return found
        if overlap == "first":
            found &= ~self.second_pass
        if overlap == "last":
            found &= ~self.first_pass
        moved = list(self.moved(expected, gap))
        return found | self.bits(moved) if moved else found

    def day_bits(self, expected: Expected) -> int:
        digits = bytearray(b"0" * self.count)
        for day, begin, end in self.by_date:
            if expected.matches_day(day):
                digits[begin:end] = b"1" * (end - begin)
        return int(digits, 2)

    def moved(self, expected: Expected, gap: str) -> Iterator[int]:
        for at, missing in self.gaps:
            for later, wall in enumerate(missing):
                matches = wall.minute in expected.minutes and wall.hour in expected.hours
                if matches and expected.matches_day(wall.date()) and gap != "skip":
                    yield at if gap == "next" else at + later


@cache
def clock_of(zone: str) -> Clock:
    year = ZONES[zone]
    clock = Clock(datetime(year, 1, 1, tzinfo=UTC), datetime(year + 2, 1, 1, tzinfo=UTC) - MINUTE)
    info = ZoneInfo(zone)
    walls = [(clock.start + at * MINUTE).astimezone(info) for at in range(clock.count)]
    minutes = bytes([wall.minute for wall in walls])
    hours = bytes([wall.hour for wall in walls])
    clock.by_minute = {minute: _where(minutes, minute) for minute in range(60)}
    clock.by_hour = {hour: _where(hours, hour) for hour in range(24)}
    for day, group in groupby(range(clock.count), key=lambda at: walls[at].date()):
        minutes_of_day = list(group)
        clock.by_date.append((day, minutes_of_day[0], minutes_of_day[-1] + 1))
    second = [at for at, wall in enumerate(walls) if wall.fold]
    repeated = {walls[at].replace(fold=0, tzinfo=None) for at in second}
    days = {wall.date() for wall in repeated}
    clock.second_pass = clock.bits(second)
    clock.first_pass = clock.bits(
        at
        for at, wall in enumerate(walls)
        if not wall.fold and wall.date() in days and wall.replace(tzinfo=None) in repeated
    )
    for at, (before, after) in enumerate(pairwise(walls)):
        if after - before > MINUTE:  # one zone on both sides: the difference on the clock
            skipped = (after - before) // MINUTE
            wall = before.replace(tzinfo=None)
            clock.gaps.append((at + 1, [wall + step * MINUTE for step in range(1, skipped)]))
    return clock


def _where(values: bytes, value: int) -> int:
    table = bytearray(b"0" * 256)
    table[value] = ONE
    return int(values.translate(bytes(table)), 2)


Matches = Callable[[date], bool]
SHORT_DAYS = ("SUN", "mon", "Tue", "WED", "thu", "Fri", "SAT")
LONG_DAYS = ("sunday", "Monday", "TUESDAY", "wednesday", "Thursday", "friday", "Saturday")
SHORT_MONTHS = (
    "jan feb Mar APR may Jun JUL aug sep Oct nov DEC".split()  # noqa: SIM905
)


@cache
def generated(count: int) -> list[Expected]:
    """Return expressions with their meaning; always the same ones."""
    chance = random.Random(20271031)
    return [_expression(chance) for _ in range(count)]


def _expression(chance: random.Random) -> Expected:
    dense = chance.random()
    minute_text, minutes = _some(chance, 0, 59, star=0.15, most=4 if dense < 0.8 else 30)
    hour_text, hours = _some(chance, 0, 23, star=0.25 if len(minutes) < 10 else 0.05, most=6)
    if chance.random() < 0.5:  # many at the hours in which clocks change
        minute_text, minutes = "0,30", {0, 30}
        hour_text, hours = chance.choice(
            [("2", {2}), ("0-3", {0, 1, 2, 3}), ("23-1", {23, 0, 1}), ("*", set(range(24)))]
        )
    month_text, months = _months(chance)
    day_text, by_month = _days_of_month(chance)
    week_text, by_week = _days_of_week(chance)
    rule = chance.choice(("or", "and"))
    either = rule == "or" and day_text != "*" and week_text != "*"
    text = f"{minute_text} {hour_text} {day_text} {month_text} {week_text}"

    def matches(day: date) -> bool:
        found = (by_month(day), by_week(day))
        return day.month in months and (any(found) if either else all(found))

    if not any(matches(date(2000, 1, 1) + at * DAY) for at in range(28 * 366)):
        return _expression(chance)
    return Expected(
        Cron(text, day_rule=rule),
        frozenset(minutes),
        frozenset(hours),
        not (minute_text.startswith("*") or hour_text.startswith("*")),
        matches,
    )


def _some(
    chance: random.Random, low: int, high: int, *, star: float, most: int
) -> tuple[str, set[int]]:
    everything = list(range(low, high + 1))
    kind = chance.random()
    if kind < star:
        step = chance.choice([1, 1, 2, 3, 7, 15, 25, 90])
        return ("*" if step == 1 else f"*/{step}"), set(everything[::step])
    if kind < star + 0.1:
        first, step = chance.choice(everything), chance.choice([5, 7, 20, 70])
        return f"{first}/{step}", set(everything[first - low :: step])
    if kind < star + 0.25:
        first, length = chance.choice(everything), chance.randrange(1, most + 1)
        around = [low + (first - low + at) % len(everything) for at in range(length)]
        step = chance.choice([1, 1, 2, 5])
        tail = f"/{step}" if step > 1 else ""
        return f"{around[0]}-{around[-1]}{tail}", set(around[::step])
    values = [chance.choice(everything) for _ in range(chance.randrange(1, most + 1))]
    return ",".join(f"{value:0{chance.choice([1, 2])}}" for value in values), set(values)


def _months(chance: random.Random) -> tuple[str, set[int]]:
    if chance.random() < 0.6:
        return "*", set(range(1, 13))
    if chance.random() < 0.4:
        first, last = chance.randrange(1, 13), chance.randrange(1, 13)
        span = (last - first) % 12 + 1
        months = {(first - 1 + at) % 12 + 1 for at in range(span)}
        return f"{SHORT_MONTHS[first - 1]}-{SHORT_MONTHS[last - 1]}", months
    return _some(chance, 1, 12, star=0.2, most=5)


def _days_of_month(chance: random.Random) -> tuple[str, Matches]:
    if chance.random() < 0.5:
        return "*", lambda day: True
    if chance.random() < 0.5:
        text, values = _some(chance, 1, 31, star=0.2, most=8)
        return text, lambda day: day.day in values
    number = chance.randrange(1, 32)
    texts: list[tuple[str, Matches]] = [
        ("L", lambda day: (day + DAY).day == 1),
        (f"L-{min(number, 30)}", lambda day: _length(day) - day.day == min(number, 30)),
        ("lw", lambda day: day == max(d for d in _month(day) if d.isoweekday() <= 5)),
        (f"{number}W", lambda day: day == _nearest_weekday(day, number)),
        (f"{number},L", lambda day: day.day in {number, _length(day)}),
    ]
    return chance.choice(texts)


def _days_of_week(chance: random.Random) -> tuple[str, Matches]:
    if chance.random() < 0.5:
        return "*", lambda day: True
    weekday, nth = chance.randrange(7), chance.randrange(1, 6)
    first, last = chance.randrange(7), chance.randrange(7)
    around = {(first + at) % 7 for at in range((last - first) % 7 + 1)}
    name = chance.choice([str(weekday), SHORT_DAYS[weekday], LONG_DAYS[weekday]])
    texts: list[tuple[str, Matches]] = [
        (name, lambda day: day.isoweekday() % 7 == weekday),
        ("7", lambda day: day.isoweekday() == 7),
        (f"{first}-{last}", lambda day: day.isoweekday() % 7 in around),
        (f"{SHORT_DAYS[first]}-{LONG_DAYS[last]}", lambda day: day.isoweekday() % 7 in around),
        (f"{name}#{nth}", lambda day: _nth_weekday(day) == (weekday, nth)),
        (f"{name}#L", lambda day: day.isoweekday() % 7 == weekday and day.day + 7 > _length(day)),
        (f"{weekday}L", lambda day: day.isoweekday() % 7 == weekday and day.day + 7 > _length(day)),
        ("*/2", lambda day: day.isoweekday() in {2, 4, 6, 7}),
    ]
    return chance.choice(texts)


@cache
def _length(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


@cache
def _month(day: date) -> list[date]:
    return [day.replace(day=number) for number in range(1, _length(day) + 1)]


@cache
def _nth_weekday(day: date) -> tuple[int, int]:
    return day.isoweekday() % 7, sum(1 for d in _month(day)[: day.day] if _same_weekday(d, day))


def _same_weekday(day: date, other: date) -> bool:
    return day.isoweekday() == other.isoweekday()


@cache
def _nearest_weekday(day: date, number: int) -> date | None:
    if number > _length(day):
        return None
    weekdays = [d for d in _month(day) if d.isoweekday() <= 5]
    return min(weekdays, key=lambda d: abs(d.day - number))

from __future__ import annotations

from datetime import date, timedelta

import pytest

from purista.cronfield import parse_day_of_month, parse_day_of_week
from purista.monthdays import all_days, month_days, week_days

SATURDAY, SUNDAY, WEDNESDAY = 6, 0, 3


def days(mask: int) -> list[int]:
    return [day for day in range(32) if mask >> day & 1]


def in_month(text: str, length: int, first_weekday: int) -> list[int]:
    field, mistakes = parse_day_of_month(text)
    assert field is not None, mistakes
    return days(month_days(field, length, first_weekday))


def in_weeks(text: str, length: int, first_weekday: int) -> list[int]:
    field, mistakes = parse_day_of_week(text)
    assert field is not None, mistakes
    return days(week_days(field, length, first_weekday))


def test_a_day_is_only_in_months_that_have_it() -> None:
    assert in_month("28-31", 28, SUNDAY) == [28]
    assert in_month("31", 30, SUNDAY) == []
    assert days(all_days(30)) == list(range(1, 31))


def test_days_are_counted_from_the_end() -> None:
    assert in_month("L", 28, SUNDAY) == [28]
    assert in_month("L-3,L", 30, SUNDAY) == [27, 30]
    assert in_month("L-30", 31, SUNDAY) == [1]
    assert in_month("L-30", 30, SUNDAY) == []


@pytest.mark.parametrize(
    ("text", "length", "first_weekday", "day"),
    [
        ("15W", 31, WEDNESDAY, [15]),  # a Wednesday
        ("15W", 31, SATURDAY, [14]),  # a Saturday: the Friday before
        ("15W", 31, SUNDAY, [16]),  # a Sunday: the Monday after
        ("1W", 31, SATURDAY, [3]),  # not into the month before
        ("31W", 31, 5, [29]),  # a Sunday at the end: not into the month after
        ("31W", 31, 4, [30]),  # a Saturday
        ("31W", 30, WEDNESDAY, []),  # there is no 31st
    ],
)
def test_a_nearest_weekday_stays_in_its_month(
    text: str, length: int, first_weekday: int, day: list[int]
) -> None:
    assert in_month(text, length, first_weekday) == day


@pytest.mark.parametrize("length", [28, 29, 30, 31])
@pytest.mark.parametrize("first_weekday", range(7))
def test_the_last_weekday_is_the_last_that_is_no_weekend(length: int, first_weekday: int) -> None:
    weekdays = [d for d in range(1, length + 1) if (first_weekday + d - 1) % 7 not in {0, 6}]
    assert in_month("LW", length, first_weekday) == weekdays[-1:]


@pytest.mark.parametrize("length", [28, 29, 30, 31])
@pytest.mark.parametrize("first_weekday", range(7))
def test_weekdays_fall_where_the_calendar_puts_them(length: int, first_weekday: int) -> None:
    fridays = [d for d in range(1, length + 1) if (first_weekday + d - 1) % 7 == 5]
    assert in_weeks("FRI", length, first_weekday) == fridays
    assert in_weeks("FRI#2", length, first_weekday) == fridays[1:2]
    assert in_weeks("FRI#5", length, first_weekday) == fridays[4:5]
    assert in_weeks("FRI#L", length, first_weekday) == fridays[-1:]
    assert in_weeks("5L,MON", length, first_weekday) == sorted(
        [*fridays[-1:], *in_weeks("1", length, first_weekday)]
    )


def test_a_month_begins_on_the_weekday_that_is_said() -> None:
    first = date(2027, 8, 1)  # a Sunday
    mondays = [d for d in range(1, 32) if (first + timedelta(days=d - 1)).weekday() == 0]
    assert in_weeks("MON", 31, SUNDAY) == mondays

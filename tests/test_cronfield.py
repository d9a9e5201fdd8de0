from __future__ import annotations

from datetime import date, timedelta

import pytest

from purista.cronfield import (
    DAY_OF_WEEK,
    HOUR,
    LAST,
    MINUTE,
    all_days,
    day_of_month_text,
    day_of_week_text,
    list_text,
    month_days,
    parse_day_of_month,
    parse_day_of_week,
    parse_field,
    shown,
    star_text,
    starred_text,
    week_days,
)

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


def test_a_field_is_its_values_and_how_it_begins() -> None:
    field, mistakes = parse_field(MINUTE, "*/20,5")
    assert (field and field.values, field and field.starred, mistakes) == ((0, 5, 20, 40), True, ())


def test_every_mistake_of_a_field_is_found_with_its_offset() -> None:
    field, mistakes = parse_field(HOUR, "24,1,x")
    assert field is None
    assert [mistake.offset for mistake in mistakes] == [0, 5]


def test_only_a_star_of_its_own_restricts_nothing() -> None:
    unrestricted = [
        text
        for text in ("*", "*,1", "1,*", "*/1", "*/2", "1-31", "1/1")
        if (field := parse_day_of_month(text)[0]) and field.unrestricted
    ]
    assert unrestricted == ["*", "*,1"]


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


def test_the_last_is_told_from_the_counted() -> None:
    field, _ = parse_day_of_week("FRI#L,FRI#1,MON#2")
    assert field is not None
    assert field.nth == ((1, 2), (5, 1), (5, LAST))


def test_values_become_text() -> None:
    assert list_text(HOUR, (2,)) == "2"
    assert list_text(HOUR, (2, 3)) == "2,3"
    assert list_text(HOUR, (2, 3, 4)) == "2-4"
    assert list_text(HOUR, (2, 3, 4, 9)) == "2,3,4,9"
    assert star_text(HOUR, tuple(range(24))) == "*"
    assert star_text(HOUR, (0, 12)) == "*/12"
    assert star_text(HOUR, (0,)) == "0"
    assert star_text(MINUTE, (0, 7, 14)) == "0,7,14"
    assert star_text(DAY_OF_WEEK, tuple(range(7))) == "*"
    assert starred_text(MINUTE, (0, 20, 40)) == "*/20"
    assert starred_text(MINUTE, tuple(range(60))) == "*"


def test_every_day_is_a_star() -> None:
    month, week = parse_day_of_month("1-31,L")[0], parse_day_of_week("0-6,FRI#2")[0]
    assert month is not None
    assert week is not None
    assert (day_of_month_text(month), day_of_week_text(week)) == ("*", "*")


def test_a_long_token_is_cut_in_a_message() -> None:
    assert shown("x" * 100) == repr("x" * 37 + "...")

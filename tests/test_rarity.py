from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista import Cron, ExpressionError
from purista.rarity import rarely_meant


def told(text: str, **options: Any) -> list[tuple[str, str]]:
    return [(code, problem.place) for code, problem in rarely_meant(Cron(text, **options))]


def message(text: str, **options: Any) -> str:
    ((_, problem),) = rarely_meant(Cron(text, **options))
    return str(problem)


@pytest.mark.parametrize(
    ("text", "field", "step"),
    [
        ("*/7 * * * *", "minute", "minute 56 is followed by minute 0"),
        ("*/7 9-17 * * *", "minute", "minute 56 is followed by minute 0"),
        ("*/7 0,23 * * *", "minute", "minute 56 is followed by minute 0"),
        ("1,3/7 * * * *", "minute", "minute 59 is followed by minute 3"),
        ("0 */5 * * *", "hour", "hour 20 is followed by hour 0"),
        ("0 */5 * * MON-FRI", "hour", "hour 20 is followed by hour 0"),
        ("0 0 */2 * *", "day of month", "day of month 31 is followed by day of month 1"),
        ("0 0 1 */5 *", "month", "month 11 is followed by month 1"),
        ("0 0 * * */2", "day of week", "day of week 6 is followed by day of week 0"),
    ],
)
def test_an_uneven_step_is_told_with_the_place_where_it_is_shorter(
    text: str, field: str, step: str
):
    assert told(text) == [("uneven-step", field)]
    assert f"is uneven: {step}" in message(text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("*/7 * * * *", "such as 6 or 10, or Every(timedelta(minutes=7))"),
        ("*/45 * * * *", "such as 30 or 60, or Every(timedelta(minutes=45))"),
        ("0 */9 * * *", "such as 8 or 12, or Every(timedelta(hours=9))"),
        ("0 0 1 */5 *", "such as 4 or 6"),
        ("0 0 */3 * *", "name the days, or use Every(timedelta(days=3)) with an anchor"),
    ],
)
def test_an_uneven_step_comes_with_what_to_write(text: str, remedy: str):
    assert message(text).endswith(remedy)


def test_seconds_have_steps_too():
    assert told("*/7 * * * * *", seconds=True) == [("uneven-step", "second")]
    assert told("*/7 30 2 * * *", seconds=True) == []


def test_a_step_over_the_end_leaves_one_value():
    assert message("*/90 2 * * *") == (
        "minute: '*/90' steps over the end, so that only minute 0 matches; write 0"
    )
    assert told("30/45 * * * *") == [("uneven-step", "minute")]


@pytest.mark.parametrize(
    "text",
    [
        "*/15 * * * *",
        "*/60 * * * *",
        "5/15 * * * *",
        "0-50/7 * * * *",
        "*/7 2 * * *",
        "*/7 2,4 * * *",
        "0 */5 1 * *",
        "0 */5 * * 1,3",
        "0 */6 * * *",
        "0 2 * * *",
        "@hourly",
        "@MONTHLY",
    ],
)
def test_an_even_step_or_one_that_nothing_follows_is_fine(text: str):
    assert told(text) == []


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("0 0 31 * *", "day 31 is skipped where a month is too short: February, April, June"),
        ("0 0 30,31 * *", "days 30 and 31 are skipped where a month is too short: February, April"),
        ("0 0 29 * *", "day 29 is skipped where a month is too short: February, except in leap"),
        ("0 0 29 2 *", "day 29 is skipped where a month is too short: February, except in leap"),
        ("0 0 1,29 * *", "day 29 is skipped"),
        ("0 0 31 3-5 *", "day 31 is skipped where a month is too short: April;"),
        ("0 0 31W * *", "day 31 is skipped"),
        ("0 0 L-30 * *", "day 31 is skipped"),
    ],
)
def test_days_that_short_months_do_not_have_are_told(text: str, part: str):
    assert told(text) == [("short-month", "day of month")]
    assert part in message(text)
    assert message(text).endswith("write L for the last day of the month")


@pytest.mark.parametrize(
    "text",
    ["0 0 25-31 * *", "0 0 31 1,3,12 *", "0 0 30 4-6 *", "0 0 L * *", "0 0 LW * *", "0 0 28 * *"],
)
def test_days_that_every_month_has_or_the_end_of_a_range_are_fine(text: str):
    assert told(text) == []


def test_a_fifth_weekday_is_told():
    assert message("0 0 * * FRI#5") == (
        "day of week: the fifth Friday is skipped in months that have four;"
        " write FRI#L for the last one"
    )
    assert told("0 0 * * FRI#4,MON#L") == []


def test_two_day_fields_are_told_unless_both_have_to_match():
    assert told("0 0 13 * 5") == [("day-rule", "day of month and day of week")]
    assert "At 00:00 on day 13 of the month or on a Friday" in message("0 0 13 * 5")
    assert told("0 0 13 * 5", day_rule="and") == []
    assert told("0 0 1-31 * 5", day_rule="and") == []


@given(
    st.lists(st.sampled_from(["*", "*/7", "5", "0/9", "1-5/2", "29", "L", "3#5"]), min_size=5),
    st.sampled_from(["or", "and"]),
)
def test_whatever_can_be_written_can_be_looked_at(fields: list[str], rule: Any):
    try:
        cron = Cron(" ".join(fields[:5]), day_rule=rule)
    except ExpressionError:
        return
    for code, problem in rarely_meant(cron):
        assert code in ("day-rule", "every-one", "uneven-step", "short-month")
        assert problem.place
        assert problem.remedy

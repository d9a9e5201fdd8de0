"""The model of EventBridge against the vendor's examples and against recorded instants."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.engines.awscron import UndocumentedError, ValidationException
from tests.engines.eventbridge import (
    DOCUMENTED_READINGS,
    READINGS,
    Reading,
    fires,
    readings,
    rule_fires,
    window,
)

ORACLES = json.loads((Path(__file__).parent / "oracles" / "cron_cases.json").read_text())
CASES = [
    case
    for case in ORACLES["cases"]
    if case["timezone"] == "UTC" and (case.get("translations") or {}).get("aws_cron")
]
PLAIN = Reading()
# Recorded engines whose day rule and steps are those that the translation means.
WITNESSES = ("systemd_257.13_translated", "robfig_cron_v3.0.1_as_kubernetes")


def request(expression: str, zone: str = "UTC", **more: Any) -> dict[str, Any]:
    return {
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": zone,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        **more,
    }


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days(expression: str, first: str, last: str, reading: Reading = PLAIN) -> list[str]:
    found = fires(request(expression), start=at(first), end=at(last), reading=reading)
    return [f"{instant:%m-%d}" for instant in found]


def times(schedule: Mapping[str, Any], first: str, last: str, reading: Reading) -> list[str]:
    found = fires(schedule, start=at(first), end=at(last), reading=reading)
    return [f"{instant:%d %H:%M}" for instant in found]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_translated_utc_cases_fire_as_a_recorded_engine_did(case: dict[str, Any]):
    start, end = (datetime.fromisoformat(case[name]) for name in ("start", "end"))
    found = sorted(
        {
            instant
            for expression in case["translations"]["aws_cron"]
            for instant in fires(request(f"cron({expression})"), start=start, end=end)
        }
    )[: case["n"]]
    recorded = [case["engines"][name] for name in WITNESSES]
    told = [
        [datetime.fromisoformat(instant) for instant in answer]
        for answer in recorded
        if isinstance(answer, list)
    ]
    assert found in told


@pytest.mark.parametrize(
    ("expression", "first", "last", "expected"),
    [
        ("cron(0 10 * * ? *)", "2027-01-30", "2027-02-02", ["01-30", "01-31", "02-01"]),
        ("cron(0 18 ? * MON-FRI *)", "2027-01-01", "2027-01-06", ["01-01", "01-04", "01-05"]),
        ("cron(0 8 1 * ? *)", "2027-01-15", "2027-03-15", ["02-01", "03-01"]),
        ("cron(15 10 ? * 6L 2022-2023)", "2023-10-01", "2024-06-01", ["10-27", "11-24", "12-29"]),
        ("cron(0 0 ? * 3#2 *)", "2027-01-01", "2027-03-01", ["01-12", "02-09"]),
        ("cron(0 0 3W * ? *)", "2027-01-01", "2027-04-30", ["01-04", "02-03", "03-03", "04-02"]),
        ("cron(0 0 L * ? *)", "2027-01-01", "2027-03-01", ["01-31", "02-28"]),
        ("cron(0 0 ? * L *)", "2027-01-01", "2027-01-10", ["01-02", "01-09"]),
        ("cron(0 0 1 JAN,FEB,MAR ? *)", "2027-01-01", "2027-12-01", ["01-01", "02-01", "03-01"]),
    ],
)
def test_examples_of_the_user_guide(expression: str, first: str, last: str, expected: list[str]):
    assert days(expression, first, last) == expected


def test_a_slash_starts_from_the_value_before_it():
    found = fires(
        request("cron(1/10 5 * * ? *)"), start=at("2027-01-01"), end=at("2027-01-01T23:00")
    )
    assert [instant.minute for instant in found] == [1, 11, 21, 31, 41, 51]


def test_the_first_weekday_stays_in_its_month_or_leaves_it():
    stays, leaves = Reading(), Reading(month_edge="leave")
    # 1 May 2027 is a Saturday, 31 July 2027 too, 31 October 2027 is a Sunday.
    assert days("cron(0 0 1W * ? *)", "2027-04-15", "2027-05-15", stays) == ["05-03"]
    assert days("cron(0 0 1W * ? *)", "2027-04-15", "2027-05-15", leaves) == ["04-30"]
    assert days("cron(0 0 31W 10 ? *)", "2027-10-15", "2027-11-15", stays) == ["10-29"]
    assert days("cron(0 0 31W 10 ? *)", "2027-10-15", "2027-11-15", leaves) == ["11-01"]


@pytest.mark.parametrize(
    "expression",
    [
        "cron(0 0 * * * *)",
        "cron(0 0 1 * 2 *)",
        "cron(60 0 * * ? *)",
        "cron(0 24 * * ? *)",
        "cron(0 0 32 * ? *)",
        "cron(0 0 ? * 0 *)",
        "cron(0 0 ? * 8 *)",
        "cron(0 0 ? * MON/2 *)",
        "cron(0 0 ? * 3#1,6#3 *)",
        "cron(0 0 ? * 3#6 *)",
        "cron(0 0 * * ? 1969)",
        "cron(0 0 * * ? 2200)",
        "cron(0 0 1 FOO ? *)",
        "cron(0 0 * *)",
        "0 0 * * ? *",
        "rate(0 minutes)",
        "rate(5 weeks)",
        "rate(5)",
        "at(2027-01-01)",
        "at(2027-02-30T00:00:00)",
        "at(2027-01-01T00:00:00Z)",
        "every day",
    ],
)
def test_a_wrong_expression_is_refused(expression: str):
    with pytest.raises(ValidationException):
        fires(
            request(expression),
            start=at("2027-01-01"),
            end=at("2027-01-02"),
            created=at("2027-01-01"),
        )


@pytest.mark.parametrize(
    "expression",
    [
        "cron(0 0 ? * ? *)",
        "cron(0 0 * * ?)",
        "cron(0 22-2 * * ? *)",
        "cron(0-30/10 0 * * ? *)",
        "cron(0 0 L-3 * ? *)",
        "cron(0 0 LW * ? *)",
        "cron(0 0 1,L * ? *)",
        "cron(0 0 ? * FRIL *)",
        "cron(0 0 ? * mon *)",
    ],
)
def test_what_no_page_explains_is_refused_as_undocumented(expression: str):
    with pytest.raises(UndocumentedError):
        fires(request(expression), start=at("2027-01-01"), end=at("2027-01-02"))


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(ValidationException, match="Timezone"):
        fires(
            request("cron(0 0 * * ? *)", "Europe/Nowhere"),
            start=at("2027-01-01"),
            end=at("2028-01-01"),
        )


@pytest.mark.parametrize("reading", DOCUMENTED_READINGS)
def test_the_daylight_saving_example_of_the_user_guide(reading: Reading):
    # America/Los_Angeles skips 02:00-03:00 on 14 March 2027 and repeats 01:00-02:00 on 7 November.
    daily = request("cron(30 2 * * ? *)", "America/Los_Angeles")
    assert times(daily, "2027-03-13", "2027-03-16", reading) == ["13 10:30", "15 09:30"]
    repeated = request("cron(30 1 * * ? *)", "America/Los_Angeles")
    assert times(repeated, "2027-11-07", "2027-11-08", reading) == ["07 08:30"]


def test_the_pass_of_an_overlap_follows_the_reading():
    daily = request("cron(30 2 * * ? *)", "Europe/Berlin")
    found = {
        tuple(times(daily, "2027-10-31", "2027-11-01", reading)) for reading in readings(daily)
    }
    assert found == {("31 00:30",), ("31 01:30",)}


def test_a_wildcard_in_an_overlap_follows_the_reading():
    hourly = request("cron(30 * * * ? *)", "Europe/Berlin")
    found = {
        tuple(times(hourly, "2027-10-31", "2027-10-31T02:00", reading))
        for reading in readings(hourly)
    }
    assert found == {("31 00:30",), ("31 01:30",), ("31 00:30", "31 01:30")}


def test_a_one_time_schedule_in_a_gap_has_three_readings():
    once = request("at(2027-03-28T02:30:00)", "Europe/Berlin")
    found = {tuple(times(once, "2027-03-27", "2027-03-29", reading)) for reading in readings(once)}
    assert found == {(), ("28 01:00",), ("28 01:30",)}


def test_the_one_time_example_of_the_user_guide():
    once = request("at(2022-11-20T13:00:00)", "America/Los_Angeles")
    for reading in READINGS:
        assert times(once, "2022-11-19", "2022-11-22", reading) == ["20 21:00"]


def test_a_one_time_schedule_ignores_start_and_end_date():
    once = request("at(2027-01-01T00:00:00)", StartDate=at("2028-01-01"), EndDate=at("2029-01-01"))
    assert len(fires(once, start=at("2027-01-01"), end=at("2027-01-02"))) == 1


def test_start_and_end_date_have_an_inclusive_and_an_exclusive_reading():
    daily = request(
        "cron(0 0 * * ? *)", StartDate="2027-01-01T00:00:00Z", EndDate=at("2027-01-03T00:00")
    )
    found = {
        tuple(times(daily, "2026-12-01", "2027-02-01", reading)) for reading in readings(daily)
    }
    middle = ("02 00:00",)
    first, last = ("01 00:00",), ("03 00:00",)
    assert found == {middle, first + middle, middle + last, first + middle + last}


def test_a_rate_starts_at_its_start_date_and_ignores_clock_changes():
    daily = request("rate(1 days)", "Europe/Berlin", StartDate=at("2027-03-26T09:00"))
    assert times(daily, "2027-03-27", "2027-03-30", Reading()) == [
        "27 09:00",
        "28 09:00",
        "29 09:00",
    ]


def test_a_rate_without_a_start_date_starts_when_it_is_created():
    five = request("rate(5 minutes)")
    created = at("2027-01-01T00:02:30")
    found = fires(five, start=created, end=created + timedelta(minutes=9), created=created)
    assert found == [created, created + timedelta(minutes=5)]
    with pytest.raises(UndocumentedError):
        fires(five, start=created, end=created)


def test_a_disabled_schedule_does_not_fire():
    daily = request("cron(0 0 * * ? *)", State="DISABLED")
    assert fires(daily, start=at("2027-01-01"), end=at("2027-02-01")) == []


def test_the_window_is_a_minute_or_the_flexible_one():
    fire = at("2027-01-01T01:00")
    assert window(request("rate(1 hour)"), fire)[1] == fire + timedelta(seconds=59)
    flexible = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 15}
    assert window(request("rate(1 hour)", FlexibleTimeWindow=flexible), fire)[1] == (
        fire + timedelta(minutes=15)
    )
    for wrong in ({"Mode": "FLEXIBLE"}, {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": 1441}):
        with pytest.raises(ValidationException):
            window(request("rate(1 hour)", FlexibleTimeWindow=wrong), fire)


def test_the_pruned_readings_find_every_answer_that_all_readings_find():
    for expression in (
        "cron(0/30 0-3 * * ? *)",
        "cron(*/30 * 1W * ? *)",
        "at(2027-10-31T02:30:00)",
    ):
        schedule = request(expression, "Europe/Berlin", EndDate=at("2027-11-01T01:00"))
        answers = [
            {tuple(times(schedule, "2027-10-30", "2027-11-02", reading)) for reading in asked}
            for asked in (READINGS, readings(schedule))
        ]
        assert answers[0] == answers[1]


def test_a_classic_rule_is_in_utc_and_wants_six_fields():
    rule = {"Name": "r", "ScheduleExpression": "cron(0 12 * * ? *)"}
    found = rule_fires(rule, start=at("2027-03-27"), end=at("2027-03-29"))
    assert [instant.hour for instant in found] == [12, 12]
    for wrong in ("cron(0 12 * * ?)", "at(2027-01-01T00:00:00)"):
        with pytest.raises(ValidationException):
            rule_fires({"ScheduleExpression": wrong}, start=at("2027-01-01"), end=at("2027-01-02"))


@pytest.mark.parametrize("expression", ["rate(1 hours)", "rate(5 hour)"])
def test_a_classic_rule_wants_the_unit_in_the_right_number(expression: str):
    with pytest.raises(ValidationException):
        rule_fires({"ScheduleExpression": expression}, start=at("2027-01-01"), end=at("2027-01-02"))


def test_a_scheduled_rule_is_refused_on_another_bus():
    rule = {"ScheduleExpression": "rate(1 hour)", "EventBusName": "mine"}
    with pytest.raises(ValidationException, match="default event bus"):
        rule_fires(rule, start=at("2027-01-01"), end=at("2027-01-02"), created=at("2027-01-01"))

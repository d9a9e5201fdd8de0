"""The model of Cloud Scheduler against the vendor's examples and against recorded instants."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.engines.cloud_scheduler import (
    READINGS,
    InvalidArgumentError,
    Reading,
    UndocumentedError,
    fires,
    readings,
)

ORACLES = json.loads((Path(__file__).parent / "oracles" / "cron_cases.json").read_text())
CASES = [case for case in ORACLES["cases"] if case["timezone"] == "UTC"]
CRON = "debian_cron_3.0pl1-197"


def job(schedule: str, zone: str = "Etc/UTC", **more: Any) -> dict[str, Any]:
    return {"schedule": schedule, "timeZone": zone, **more}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(one: dict[str, Any], first: str, last: str, reading: Reading) -> tuple[str, ...]:
    found = fires(one, start=at(first), end=at(last), reading=reading)
    return tuple(f"{instant:%d %H:%M}" for instant in found)


def answers(one: dict[str, Any], first: str, last: str) -> set[tuple[str, ...]]:
    return {times(one, first, last, reading) for reading in readings(one)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_utc_cases_that_the_pages_describe_fire_as_debian_cron_did(case: dict[str, Any]):
    start, end = (datetime.fromisoformat(case[name]) for name in ("start", "end"))
    recorded = case["engines"][CRON]
    for reading in (Reading(), Reading(star="leading")):
        try:
            found = fires(job(case["expr"]), start=start, end=end, reading=reading)
        except InvalidArgumentError:
            return
        told = [datetime.fromisoformat(instant) for instant in recorded]
        if found[: case["n"]] == sorted(set(told)):
            return
    pytest.fail("no reading of the page gives what Debian's cron did")


def test_most_utc_cases_are_described():
    described = 0
    for case in CASES:
        try:
            fires(job(case["expr"]), start=at("2027-01-01"), end=at("2027-01-02"))
        except InvalidArgumentError:
            continue
        described += 1
    assert described >= 20


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("45 23 * * 6", ("02 23:45", "09 23:45")),
        ("0 9 * * 1", ("04 09:00",)),
        ("0 0 1 * SAT", ("01 00:00", "02 00:00", "09 00:00")),
        ("0 0 1 * *", ("01 00:00",)),
        ("0 0 * * 7", ("03 00:00", "10 00:00")),
        ("0 0 1,2,5,6 JAN *", ("01 00:00", "02 00:00", "05 00:00", "06 00:00")),
    ],
)
def test_examples_of_the_format_page(schedule: str, expected: tuple[str, ...]):
    assert answers(job(schedule), "2027-01-01", "2027-01-10T23:59") == {expected}


@pytest.mark.parametrize("schedule", ["0 0-23/2 * * *", "0 */2 * * *"])
def test_a_step_of_two_in_the_hours_is_every_two_hours(schedule: str):
    found = fires(job(schedule), start=at("2027-01-01"), end=at("2027-01-01T23:59"))
    assert [instant.hour for instant in found] == list(range(0, 24, 2))


def test_a_stepped_asterisk_beside_a_day_of_the_week_has_two_readings():
    found = answers(job("0 0 */2 * 1"), "2027-01-01", "2027-01-12")
    either = ("01 00:00", "03 00:00", "04 00:00", "05 00:00", "07 00:00", "09 00:00", "11 00:00")
    assert found == {either, ("11 00:00",)}


@pytest.mark.parametrize(
    "schedule",
    [
        "0 0 * *",
        "0 0 * * * *",
        "60 0 * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 32 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "0 0 L * *",
        "0 0 ? * *",
        "*/0 * * * *",
        "@daily",
        "every 5 minutes",
    ],
)
def test_a_wrong_schedule_is_refused(schedule: str):
    with pytest.raises(InvalidArgumentError):
        fires(job(schedule), start=at("2027-01-01"), end=at("2027-01-02"))


@pytest.mark.parametrize(
    "schedule",
    ["5/15 * * * *", "0 22-2 * * *", "0 0 * * MON-FRI", "0 0 * * mon", "0 0 *,15 * 1"],
)
def test_what_the_page_does_not_explain_is_refused_as_undocumented(schedule: str):
    with pytest.raises(UndocumentedError):
        fires(job(schedule), start=at("2027-01-01"), end=at("2027-01-02"))


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(InvalidArgumentError, match="tz database"):
        fires(job("0 0 * * *", "Europe/Nowhere"), start=at("2027-01-01"), end=at("2027-01-02"))


@pytest.mark.parametrize("name", ["utc", "UTC", "Etc/UTC", ""])
def test_utc_has_several_names_and_is_the_default(name: str):
    one = job("0 9 * * *", name)
    assert len(readings(one)) == 1
    assert answers(one, "2027-03-28", "2027-03-29") == {("28 09:00",)}


def test_a_time_in_a_gap_has_three_readings():
    found = answers(job("30 2 * * *", "Europe/Berlin"), "2027-03-28", "2027-03-28T12:00")
    assert found == {(), ("28 01:00",), ("28 01:30",)}


def test_a_time_in_an_overlap_has_three_readings():
    found = answers(job("30 2 * * *", "Europe/Berlin"), "2027-10-31", "2027-10-31T12:00")
    assert found == {("31 00:30",), ("31 01:30",), ("31 00:30", "31 01:30")}


def test_a_wildcard_may_follow_the_clock_or_the_same_rule():
    hourly = job("30 * * * *", "Europe/Berlin")
    found = answers(hourly, "2027-03-28T00:00", "2027-03-28T02:00")
    assert ("28 00:30", "28 01:30") in found
    assert ("28 00:30", "28 01:00", "28 01:30") in found


def test_no_reading_moves_a_time_that_no_clock_change_touches():
    assert len(answers(job("30 9 * * 1-5", "Europe/Berlin"), "2027-01-01", "2027-12-31")) == 1


def test_the_pruned_readings_find_every_answer_that_all_readings_find():
    for schedule in ("30 2 * * *", "*/30 * */2 * 0", "15 */2 * * *"):
        one = job(schedule, "Europe/Berlin")
        every = {times(one, "2027-10-30", "2027-11-01", reading) for reading in READINGS}
        assert answers(one, "2027-10-30", "2027-11-01") == every


def test_a_paused_job_does_not_start():
    assert (
        fires(job("* * * * *", state="PAUSED"), start=at("2027-01-01"), end=at("2028-01-01")) == []
    )

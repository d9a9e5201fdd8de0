"""The harness for Temporal's server answers as the server did when its instants were recorded.

And the facts about schedule specs on which compiling relies, each asked of the real server.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio.api.schedule.v1 import IntervalSpec, ScheduleSpec
from temporalio.client import Client, ScheduleIntervalSpec
from temporalio.client import ScheduleSpec as ClientSpec
from temporalio.service import RPCError
from tests.engines import temporal
from tests.engines.temporal import fires

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in json.loads((Path(__file__).parent / "oracles/cron_cases.json").read_text())["cases"]
    if "temporal_server_1.32.0" in case["engines"]
}
NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MIDNIGHT: dict[str, Any] = {
    "second": [{"start": 0}],
    "minute": [{"start": 0}],
    "hour": [{"start": 0}],
    "dayOfMonth": [{"start": 1, "end": 31}],
    "month": [{"start": 1, "end": 12}],
    "dayOfWeek": [{"start": 0, "end": 6}],
}
"""A calendar in which every field is said; a year that is not said is every year."""

HOURS = MIDNIGHT | {"hour": [{"start": 0, "end": 23}]}
ALL_DAY = HOURS | {
    "minute": [{"start": 0, "end": 59}],
    "second": [{"start": 0, "end": 59}],
}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client() -> AsyncIterator[Client]:
    async with temporal.temporal_server() as client:
        yield client


@pytest.mark.parametrize("case", CASES)
async def test_a_cron_text_is_due_or_refused_as_recorded(client: Client, case: str) -> None:
    assert await answer(client, CASES[case]) == CASES[case]["engines"]["temporal_server_1.32.0"]


async def test_a_document_a_message_and_the_client_s_value_say_the_same(client: Client) -> None:
    message = ScheduleSpec(interval=[IntervalSpec()])
    message.interval[0].interval.FromTimedelta(timedelta(hours=6))
    value = ClientSpec(intervals=[ScheduleIntervalSpec(every=timedelta(hours=6))])
    document = {"interval": [{"interval": "21600s"}]}
    answers = [
        await fires(client, spec, start=NEW_YEAR, end=NEW_YEAR + DAY)
        for spec in (message, value, document)
    ]
    assert answers == [[NEW_YEAR + timedelta(hours=hours) for hours in range(0, 25, 6)]] * 3


async def test_both_ends_of_the_window_count(client: Client) -> None:
    hours = {"structuredCalendar": [HOURS]}
    assert await fires(client, hours, start=NEW_YEAR, end=NEW_YEAR) == [NEW_YEAR]


async def test_two_years_of_half_hours_are_complete(client: Client) -> None:
    half_hours = {"interval": [{"interval": "1800s"}]}
    found = await fires(client, half_hours, start=NEW_YEAR, end=NEW_YEAR + 731 * DAY)
    assert found == [NEW_YEAR + timedelta(minutes=30 * i) for i in range(731 * 48 + 1)]


async def test_thirty_schedules_over_two_years_take_seconds(client: Client) -> None:
    daily = {"structuredCalendar": [MIDNIGHT], "timezoneName": "Europe/Berlin"}
    async with asyncio.timeout(12):
        answers = await asyncio.gather(
            *(fires(client, daily, start=NEW_YEAR, end=NEW_YEAR + 731 * DAY) for _ in range(30))
        )
    assert {len(found) for found in answers} == {731}


@pytest.mark.parametrize("field", MIDNIGHT)
async def test_a_calendar_field_that_is_not_said_matches_nothing(
    client: Client, field: str
) -> None:
    calendar = {name: ranges for name, ranges in MIDNIGHT.items() if name != field}
    assert await fires_in_days(client, 14, structuredCalendar=[calendar]) == []


@pytest.mark.parametrize(
    ("field", "start", "end"),
    [
        ("second", 0, 60),
        ("minute", 0, 60),
        ("hour", 0, 24),
        ("dayOfMonth", 1, 32),
        ("month", 1, 13),
        ("dayOfWeek", 0, 7),
        ("year", 2000, 2101),
        ("hour", 5, 2),
    ],
)
async def test_a_range_past_its_field_or_backwards_is_refused(
    client: Client, field: str, start: int, end: int
) -> None:
    calendar = MIDNIGHT | {field: [{"start": start, "end": end}]}
    with pytest.raises(RPCError, match="End is before Start or not in range"):
        await fires_in_days(client, 1, structuredCalendar=[calendar])


async def test_a_week_begins_with_sunday_as_zero(client: Client) -> None:
    sundays = MIDNIGHT | {"dayOfWeek": [{"start": 0}]}
    found = await fires_in_days(client, 14, structuredCalendar=[sundays])
    assert {instant.isoweekday() for instant in found} == {7}


async def test_both_day_fields_must_match(client: Client) -> None:
    calendar = MIDNIGHT | {"dayOfMonth": [{"start": 13}], "dayOfWeek": [{"start": 5}]}
    found = await fires_in_days(client, 365, structuredCalendar=[calendar])
    assert found == [datetime(2027, 8, 13, tzinfo=UTC)]


async def test_a_step_counts_from_the_start_to_the_said_end_only(client: Client) -> None:
    to_the_end = HOURS | {"hour": [{"start": 6, "end": 23, "step": 6}]}
    alone = HOURS | {"hour": [{"start": 6, "step": 6}]}
    assert len(await fires_in_days(client, 1, structuredCalendar=[to_the_end])) == 3
    assert len(await fires_in_days(client, 1, structuredCalendar=[alone])) == 1


async def test_an_instant_of_several_calendars_and_intervals_is_due_once(client: Client) -> None:
    spec = {"structuredCalendar": [MIDNIGHT, HOURS], "interval": [{"interval": "7200s"}]}
    found = await fires_in_days(client, 1, **spec)
    assert found == [NEW_YEAR + timedelta(hours=hour) for hour in range(25)]


async def test_an_excluded_calendar_takes_away_single_seconds(client: Client) -> None:
    found = await fires_in_days(
        client, 0.25, structuredCalendar=[HOURS], excludeStructuredCalendar=[MIDNIGHT]
    )
    assert found == [NEW_YEAR + timedelta(hours=hour) for hour in range(1, 7)]


async def test_an_excluded_date_is_one_of_the_schedule_s_zone_for_intervals_too(
    client: Client,
) -> None:
    second = {"year": [{"start": 2027}], "month": [{"start": 1}], "dayOfMonth": [{"start": 2}]}
    found = await fires_in_days(
        client,
        2,
        interval=[{"interval": "3600s"}],
        excludeStructuredCalendar=[ALL_DAY | second],
        timezoneName="Europe/Berlin",
    )
    assert [hour for hour in range(49) if NEW_YEAR + timedelta(hours=hour) not in found] == list(
        range(23, 47)
    )


async def test_the_bounds_of_a_spec_count_and_its_intervals_start_at_the_epoch(
    client: Client,
) -> None:
    found = await fires_in_days(
        client,
        1,
        interval=[{"interval": "25200s", "phase": "3600s"}],
        startTime="2027-01-01T05:00:00Z",
        endTime="2027-01-01T12:00:00Z",
    )
    assert found == [NEW_YEAR + timedelta(hours=hour) for hour in (5, 12)]
    assert {int(instant.timestamp()) % 25200 for instant in found} == {3600}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"interval": [{"interval": "0.999s"}]}, "interval is too small"),
        ({"interval": [{"interval": "60s", "phase": "60s"}]}, "phase cannot be greater"),
        ({"structuredCalendar": [MIDNIGHT | {"comment": "x" * 201}]}, "comment is too long"),
        ({"timezoneName": "europe/berlin"}, "unknown time zone europe/berlin"),
        ({"timezoneName": "+02:00"}, "unknown time zone"),
        ({"cronString": ["TZ=UTC 0 0 * * *", "0 1 * * *"]}, "conflicting timezone names"),
    ],
)
async def test_what_cannot_be_is_refused_in_words(
    client: Client, spec: dict[str, Any], words: str
) -> None:
    with pytest.raises(RPCError, match=words):
        await fires_in_days(client, 1, **spec)


async def test_a_fraction_of_a_second_in_an_interval_is_dropped_without_a_word(
    client: Client,
) -> None:
    found = await fires_in_days(client, 1 / 1440, interval=[{"interval": "1.5s"}])
    assert len(found) == 61


@pytest.mark.parametrize(
    ("zone", "first", "due"),
    [
        ("Europe/Berlin", datetime(2027, 10, 30, 22, tzinfo=UTC), 23),
        ("America/New_York", datetime(2027, 11, 7, 4, tzinfo=UTC), 24),
    ],
)
async def test_an_hourly_calendar_loses_the_second_pass_east_of_greenwich(
    client: Client, zone: str, first: datetime, due: int
) -> None:
    calendar = HOURS | {"minute": [{"start": 30}]}
    spec = {"structuredCalendar": [calendar], "timezoneName": zone}
    assert len(await fires(client, spec, start=first, end=first + DAY)) == due


async def answer(client: Client, case: dict[str, Any]) -> list[str] | dict[str, str]:
    """Answer a case in the form in which it was recorded."""
    spec = {"cronString": [case["expr"]], "timezoneName": case["timezone"]}
    start, end = (datetime.fromisoformat(case[name]) for name in ("start", "end"))
    try:
        found = await fires(client, spec, start=start, end=end)
    except RPCError as refused:
        return {"error": f"RPCError: {refused.message}"}
    return [instant.strftime("%Y-%m-%dT%H:%M:%SZ") for instant in found[: case["n"]]]


async def fires_in_days(client: Client, days: float, **spec: Any) -> list[datetime]:
    return await fires(client, spec, start=NEW_YEAR, end=NEW_YEAR + timedelta(days=days))

import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista import (
    ContractError,
    Cron,
    DateRange,
    Every,
    Manifest,
    Schedule,
    Service,
    export_manifest,
    fingerprint,
)
from purista.exclusion import HolidayCalendar, excluded_rows, exclusions
from purista.zone import zone_of

CHRISTMAS = DateRange(date(2027, 12, 24), date(2027, 12, 26))


def schedule(**options: Any) -> Schedule:
    service = Service("Shop")
    defaults: dict[str, Any] = {"expression": Cron("0 2 * * *"), "timezone": "Europe/Berlin"}
    return service.schedule("nightly").emit_event(
        service.event("due", int), payload=1, **(defaults | options)
    )


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_excluded_days_are_those_of_the_zones_wall_clock():
    one = schedule(exclude=date(2027, 12, 25), expression=Cron("30 0 * * *"))
    found = list(one.between(utc(2027, 12, 24), utc(2027, 12, 26)))
    assert found == [utc(2027, 12, 25, 23, 30)]
    assert not one.contains(utc(2027, 12, 24, 23, 30))
    assert one.contains(utc(2027, 12, 25, 23, 30))


def test_ranges_single_dates_and_calendars_go_together():
    one = schedule(
        exclude=[
            CHRISTMAS,
            date(2027, 12, 31),
            holidays.country_holidays("DE", years=range(2027, 2029)),
        ]
    )
    days = [
        at.astimezone(zone_of("Europe/Berlin")).day
        for at in one.between(utc(2027, 12, 22), utc(2028, 1, 3))
    ]
    assert days == [22, 23, 27, 28, 29, 30, 2]


def test_a_holiday_calendar_is_pinned_with_its_span():
    found, problems = exclusions(holidays.country_holidays("DE", subdiv="BE", years=[2027, 2028]))
    assert problems == []
    (calendar,) = found
    assert isinstance(calendar, HolidayCalendar)
    assert (calendar.name, calendar.first, calendar.last) == (
        "DE-BE",
        date(2027, 1, 1),
        date(2028, 12, 31),
    )
    assert date(2027, 3, 8) in calendar.dates
    assert len(calendar.dates) == len(set(calendar.dates))


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ("2027-12-24", "exclude: str is no date"),
        ([utc(2027, 12, 24)], "exclude[0]: datetime is no date"),
        ([CHRISTMAS, 5], "exclude[1]: int is no date"),
        (holidays.country_holidays("DE"), "the calendar names no years"),
        (None, "exclude: NoneType is no date"),
        (
            DateRange(date(1960, 1, 1), date(2210, 1, 1)),
            "no nominal time is left between start_at, end_at and exclude",
        ),
    ],
)
def test_what_is_no_day_is_refused_in_its_place(wrong: Any, part: str):
    with pytest.raises(ContractError) as caught:
        schedule(exclude=wrong)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("first", "last", "part"),
    [
        (date(2027, 1, 2), date(2027, 1, 1), "is before"),
        ("2027-01-01", utc(2027, 1, 1), "first: str is no date"),
    ],
)
def test_a_wrong_range_is_refused(first: Any, last: Any, part: str):
    with pytest.raises(ContractError, match=part):
        DateRange(first, last)


def test_long_rows_of_excluded_days_are_jumped_over_in_both_directions():
    one = schedule(
        expression=Cron("* * * * *"),
        exclude=[
            DateRange(date(2027, 1, 1), date(2150, 12, 31)),
            DateRange(date.min, date(1999, 1, 1)),
        ],
    )
    berlin = zone_of("Europe/Berlin")
    after = datetime(2151, 1, 1, tzinfo=berlin).astimezone(UTC)
    before = datetime(2026, 12, 31, 23, 59, tzinfo=berlin).astimezone(UTC)
    assert one.next_after(utc(2030, 1, 1)) == after
    assert one.previous_before(utc(2100, 1, 1)) == before
    assert one.count_between(utc(2026, 12, 31, 22), utc(2151, 1, 1)) == 60 + 61
    assert one.previous_before(utc(1980, 1, 1)) is None


def test_rows_up_to_the_last_date_end_the_schedule():
    one = schedule(exclude=DateRange(date(2027, 1, 5), date.max))
    assert one.next_after(utc(2027, 1, 4, 12)) is None
    assert one.previous_before(utc(2199, 1, 1)) == utc(2027, 1, 4, 1)


def test_bounds_and_exclusions_hold_together():
    one = schedule(start_at=utc(2027, 12, 23), end_at=utc(2027, 12, 28, 1), exclude=[CHRISTMAS])
    expected = [utc(2027, 12, 23, 1), utc(2027, 12, 27, 1), utc(2027, 12, 28, 1)]
    assert list(one.between(utc(2020, 1, 1), utc(2030, 1, 1))) == expected
    assert one.next_after(utc(2020, 1, 1)) == expected[0]
    assert one.next_after(expected[2]) is None
    assert one.previous_before(utc(2030, 1, 1)) == expected[2]
    assert one.previous_before(expected[0]) is None


days = st.dates(date(2027, 1, 1), date(2027, 3, 1))


@given(
    st.lists(st.tuples(days, days), max_size=5),
    st.sampled_from(["UTC", "Pacific/Apia", "America/Havana", "Africa/Cairo"]),
    st.sampled_from([Cron("0 */7 * * *"), Every(timedelta(hours=5)), Cron("30 0 * * *")]),
)
def test_exclusions_leave_out_exactly_their_days(
    pairs: list[tuple[date, date]], zone: str, expression: Any
):
    ranges = [DateRange(min(pair), max(pair)) for pair in pairs]
    plain = schedule(expression=expression, timezone=zone)
    one = schedule(expression=expression, timezone=zone, exclude=ranges)
    start, end = utc(2026, 12, 25), utc(2027, 3, 10)
    expected = [
        at
        for at in plain.between(start, end)
        if not any(r.first <= at.astimezone(zone_of(zone)).date() <= r.last for r in ranges)
    ]
    assert list(one.between(start, end)) == expected
    assert one.count_between(start, end) == len(expected)
    for at, later in pairwise(expected):
        assert one.next_after(at) == later
        assert one.previous_before(later) == at
        assert one.contains(at)


def test_exclusions_survive_the_manifest_and_mean_the_same():
    service = Service("Shop")
    one = service.schedule("nightly").emit_event(
        service.event("due", int),
        payload=1,
        expression=Cron("0 2 * * *"),
        exclude=[CHRISTMAS, holidays.country_holidays("AT", years=2027)],
    )
    text = export_manifest(service).to_json()
    (again,) = Manifest.from_json(text).services()
    assert again.schedules["nightly"].exclude == one.exclude
    assert export_manifest(again).to_json() == text
    assert fingerprint(again.schedules["nightly"]) == fingerprint(one)


def test_a_fingerprint_follows_the_days_not_their_spelling():
    apart = schedule(
        exclude=[date(2027, 12, 24), DateRange(date(2027, 12, 25), date(2027, 12, 26))]
    )
    assert fingerprint(apart) == fingerprint(schedule(exclude=CHRISTMAS))
    assert fingerprint(apart) != fingerprint(schedule())
    assert fingerprint(schedule(exclude=[])) == fingerprint(schedule())
    assert excluded_rows(apart.exclude) == [(date(2027, 12, 24), date(2027, 12, 26))]


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (5, "is no list"),
        ([5], "is no object"),
        ([{"from": "2027-12-24"}], "missing"),
        ([{"from": "2027-12-24", "to": "2027-02-30"}], "there is no such day"),
        ([{"from": "2027-12-24", "to": "2027-12-23"}], "is before"),
        ([{"from": "2027-12-24", "to": "2027-12-24", "dates": 5}], "is no list"),
        ([{"from": "24.12.2027", "to": "2027-12-24"}], "is no date"),
    ],
)
def test_wrong_exclusions_in_a_manifest_are_refused_with_their_place(wrong: Any, part: str):
    service = Service("Shop")
    service.schedule("nightly").emit_event(
        service.event("due", int), payload=1, expression=Cron("0 2 * * *")
    )
    document = json.loads(export_manifest(service).to_json())
    document["schedules"][0]["exclusions"] = wrong
    with pytest.raises(ContractError) as caught:
        Manifest.from_json(json.dumps(document))
    assert part in str(caught.value)
    assert "schedules[0].exclusions" in str(caught.value)

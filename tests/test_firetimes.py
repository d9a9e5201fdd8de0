from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from purista import firetimes
from purista.errors import ContractError
from purista.expression import EPOCH, Cron, Every, Expression, Once
from purista.firetimes import (
    DST_GAPS,
    DST_OVERLAPS,
    EARLIEST,
    LATEST,
    between,
    contains,
    count_between,
    next_after,
    previous_before,
    transitions,
)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
BERLIN = ZoneInfo("Europe/Berlin")

MONTHLY = Cron("0 2 1 * *")
SIX_HOURS = Every(6 * HOUR)
NOON = Once(datetime(2027, 6, 1, 12, tzinfo=UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_monthly_time_follows_the_zone() -> None:
    found = list(between(MONTHLY, "Europe/Berlin", at("2027-03-01"), at("2027-04-30")))
    assert found == [at("2027-03-01T01:00"), at("2027-04-01T00:00")]
    assert all(instant.tzinfo is UTC for instant in found)


def test_both_ends_are_inclusive() -> None:
    for expression, first, last in (
        (Cron("0 * * * *"), at("2027-01-01T01:00"), at("2027-01-01T03:00")),
        (Every(HOUR), at("2027-01-01T01:00"), at("2027-01-01T03:00")),
        (NOON, NOON.at, NOON.at),
    ):
        found = list(between(expression, "UTC", first, last))
        assert (found[0], found[-1]) == (first, last)
        assert count_between(expression, "UTC", first, last) == len(found)


def test_parts_of_a_second_at_the_ends_count() -> None:
    tick = timedelta(microseconds=1)
    hour = at("2027-01-01T01:00")
    assert list(between(Cron("0 * * * *"), "UTC", hour + tick, hour + HOUR - tick)) == []
    assert list(between(Cron("0 * * * *"), "UTC", hour - tick, hour + tick)) == [hour]
    assert next_after(Cron("0 * * * *"), "UTC", hour - tick) == hour
    assert previous_before(Cron("0 * * * *"), "UTC", hour + tick) == hour
    assert not contains(Cron("0 * * * *"), "UTC", hour + tick)


def test_before_and_after_are_strict() -> None:
    for expression in (Cron("0 */6 * * *"), SIX_HOURS):
        noon = at("2027-06-01T12:00")
        assert next_after(expression, "UTC", noon) == noon + 6 * HOUR
        assert previous_before(expression, "UTC", noon) == noon - 6 * HOUR
    assert next_after(NOON, "UTC", NOON.at) is None
    assert previous_before(NOON, "UTC", NOON.at) is None
    assert next_after(NOON, "UTC", NOON.at - SECOND) == NOON.at
    assert previous_before(NOON, "UTC", NOON.at + SECOND) == NOON.at


def test_an_instant_in_any_zone_will_do() -> None:
    local = datetime(2027, 4, 1, 2, tzinfo=BERLIN)
    assert contains(MONTHLY, "Europe/Berlin", local)
    assert contains(MONTHLY, BERLIN, local.astimezone(timezone(-5 * HOUR)))
    assert next_after(MONTHLY, "Europe/Berlin", local) == at("2027-05-01")


def test_a_repeated_local_time_is_told_apart_by_its_fold() -> None:
    first = datetime(2027, 10, 31, 2, 30, tzinfo=BERLIN)
    half_past_two = Cron("30 2 * * *")
    assert contains(half_past_two, BERLIN, first)
    assert not contains(half_past_two, BERLIN, first.replace(fold=1))
    assert contains(half_past_two, BERLIN, first.replace(fold=1), dst_overlap="last")


def test_the_options_apply_to_every_function() -> None:
    half_past_two = Cron("30 2 * * *")
    day, moved = at("2027-03-28"), at("2027-03-28T01:30")
    shift: dict[str, Any] = {"dst_gap": "shift"}
    assert next(between(half_past_two, BERLIN, day, day + DAY, **shift)) == moved
    assert next_after(half_past_two, BERLIN, day + HOUR, **shift) == moved
    assert previous_before(half_past_two, BERLIN, day + 2 * HOUR, **shift) == moved
    assert contains(half_past_two, BERLIN, moved, **shift)
    assert count_between(half_past_two, BERLIN, moved, moved, **shift) == 1
    assert count_between(half_past_two, BERLIN, moved, moved) == 0


def test_an_expression_that_begins_with_a_star_ignores_the_options() -> None:
    day = at("2027-10-31")
    for gap, overlap in itertools.product(DST_GAPS, DST_OVERLAPS):
        found = between(
            Cron("*/30 2 * * *"), BERLIN, day, day + 3 * HOUR, dst_gap=gap, dst_overlap=overlap
        )
        assert [f"{instant:%H:%M}" for instant in found] == ["00:00", "00:30", "01:00", "01:30"]


def test_intervals_are_counted_from_their_anchor() -> None:
    week = Every(7 * DAY, anchor=datetime(2027, 1, 4, 9, tzinfo=BERLIN))
    found = list(between(week, "Europe/Berlin", at("2027-03-20"), at("2027-04-06")))
    assert found == [at("2027-03-22T08:00"), at("2027-03-29T08:00"), at("2027-04-05T08:00")]
    assert contains(week, "UTC", at("1999-01-04T08:00"))  # the anchor is not the beginning


def test_an_interval_is_exact_to_the_microsecond() -> None:
    odd = Every(timedelta(seconds=1, microseconds=3))
    start = at("2027-01-01")
    found = list(between(odd, "UTC", start, start + 60 * SECOND))
    assert all((instant - EPOCH) % odd.interval == timedelta(0) for instant in found)
    assert len(found) == count_between(odd, "UTC", start, start + 60 * SECOND) == 60


def test_a_long_list_of_intervals_has_no_seams() -> None:
    start = at("2027-01-01")
    found = list(between(Every(SECOND), "UTC", start, start + 5000 * SECOND))
    assert found == [start + step * SECOND for step in range(5001)]


def test_an_interval_longer_than_all_years_has_one_instant_or_none() -> None:
    once = Every(timedelta.max, anchor=at("2027-01-01"))
    assert list(between(once, "UTC", EARLIEST, LATEST)) == [at("2027-01-01")]
    assert next_after(once, "UTC", at("2027-01-01")) is None
    assert previous_before(once, "UTC", at("2027-01-01")) is None
    never = Every(timedelta.max, anchor=at("1900-01-01"))
    assert list(between(never, "UTC", EARLIEST, LATEST)) == []
    assert count_between(never, "UTC", EARLIEST, LATEST) == 0


@pytest.mark.parametrize("expression", [MONTHLY, SIX_HOURS, NOON])
def test_nothing_comes_before_1970_or_after_2200(expression: Expression) -> None:
    far_past, far_future = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    first = next_after(expression, "Asia/Tokyo", far_past)
    last = previous_before(expression, "Asia/Tokyo", far_future)
    assert first is not None
    assert last is not None
    assert EARLIEST <= first <= last <= LATEST
    assert next_after(expression, "Asia/Tokyo", last) is None
    assert previous_before(expression, "Asia/Tokyo", first) is None
    assert next_after(expression, "Asia/Tokyo", far_future) is None
    assert previous_before(expression, "Asia/Tokyo", far_past) is None
    everything = between(expression, "Asia/Tokyo", far_past, far_future)
    assert next(everything) == first
    assert count_between(expression, "Asia/Tokyo", far_past, far_future) > 0
    assert not contains(expression, "Asia/Tokyo", far_past)


def test_instants_that_no_utc_time_has_are_out_of_bounds_and_no_error() -> None:
    east, west = timezone(14 * HOUR), timezone(-12 * HOUR)
    first, last = datetime.min.replace(tzinfo=east), datetime.max.replace(tzinfo=west)
    assert next_after(MONTHLY, "UTC", first) == at("1970-01-01T02:00")
    assert next_after(MONTHLY, "UTC", last) is None
    assert previous_before(MONTHLY, "UTC", last) == at("2200-12-01T02:00")
    assert previous_before(MONTHLY, "UTC", first) is None


def test_an_end_before_its_start_finds_nothing() -> None:
    for expression in (MONTHLY, SIX_HOURS, NOON):
        assert list(between(expression, "UTC", at("2028-01-01"), at("2027-01-01"))) == []
        assert count_between(expression, "UTC", at("2028-01-01"), at("2027-01-01")) == 0


def test_what_never_comes_again_ends() -> None:
    leap_day_on_a_monday = Cron("0 0 29 2 MON", day_rule="and")
    last = previous_before(leap_day_on_a_monday, "Europe/Berlin", LATEST)
    assert last == at("2196-02-28T23:00")
    assert next_after(leap_day_on_a_monday, "Europe/Berlin", last) is None
    assert list(between(leap_day_on_a_monday, "Europe/Berlin", last + SECOND, LATEST)) == []


def test_fire_times_are_found_lazily() -> None:
    every_second = Cron("* * * * * *", seconds=True)
    found = islice(between(every_second, "Europe/Berlin", EARLIEST, LATEST), 3)
    assert list(found) == [EARLIEST, EARLIEST + SECOND, EARLIEST + 2 * SECOND]
    assert next(between(Every(SECOND), "UTC", EARLIEST, LATEST)) == EARLIEST


def test_a_century_of_minutes_needs_little_memory() -> None:
    found = between(Cron("* * * * *"), "Europe/Berlin", at("2000-01-01"), at("2100-01-01"))
    for _ in islice(found, 100_000):  # the lists that are kept are made
        pass
    tracemalloc.start()
    for _ in islice(found, 500_000):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000


def test_minutes_of_a_year_are_counted() -> None:
    start, end = at("2027-01-01"), at("2028-01-01") - SECOND
    assert count_between(Cron("* * * * *"), "Europe/Berlin", start, end) == 365 * 1440
    assert count_between(Cron("30 2 * * *"), "Europe/Berlin", start, end) == 364
    assert count_between(Cron("30 2 * * *"), BERLIN, start, end, dst_overlap="both") == 365
    assert count_between(Every(timedelta(minutes=1)), "UTC", start, end) == 365 * 1440


Call = Callable[..., Any]
CALLS: dict[str, Call] = {
    "between": lambda e, z, t, **o: between(e, z, t, t, **o),
    "next_after": next_after,
    "previous_before": previous_before,
    "contains": contains,
    "count_between": lambda e, z, t, **o: count_between(e, z, t, t, **o),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("expression", [MONTHLY, SIX_HOURS, NOON])
def test_what_is_asked_is_checked_at_once(name: str, expression: Expression) -> None:
    call, now = CALLS[name], at("2027-01-01")
    with pytest.raises(ContractError, match="2027-01-01 00:00:00 is naive; give it a zone"):
        call(expression, "UTC", datetime(2027, 1, 1))
    with pytest.raises(ContractError, match="date is no instant; use an aware datetime"):
        call(expression, "UTC", date(2027, 1, 1))
    with pytest.raises(ContractError, match=r"'Europe/Berln'; did you mean 'Europe/Berlin'\?"):
        call(expression, "Europe/Berln", now)
    with pytest.raises(ContractError, match="NoneType is no time zone"):
        call(expression, None, now)
    with pytest.raises(ContractError, match="dst_gap: unknown word 'jump'; use one of: skip, next"):
        call(expression, "UTC", now, dst_gap="jump")
    with pytest.raises(ContractError, match="dst_overlap: unknown word None; use one of: first"):
        call(expression, "UTC", now, dst_overlap=None)


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_expression_is_refused(name: str) -> None:
    for wrong in ("0 2 * * *", None, HOUR):
        with pytest.raises(ContractError, match=r"is no expression; use Cron\('0 2 1 \* \*'\)"):
            CALLS[name](wrong, "UTC", at("2027-01-01"))


def test_all_mistakes_of_a_question_are_told() -> None:
    with pytest.raises(ContractError) as caught:
        next_after(MONTHLY, "Mars", at("2027-01-01"), dst_gap="x", dst_overlap="y")
    places = [problem.place for problem in caught.value.problems]
    assert places == ["dst_gap", "dst_overlap", "timezone"]
    with pytest.raises(ContractError, match="dst_gap"):
        next_after(MONTHLY, BERLIN, at("2027-01-01"), dst_gap="x")


def test_a_zone_without_a_name_will_do() -> None:
    from importlib import resources

    source = resources.files("tzdata.zoneinfo").joinpath("Europe", "Berlin")
    with source.open("rb") as file:
        nameless = ZoneInfo.from_file(file)
    assert next_after(MONTHLY, nameless, at("2027-03-31")) == at("2027-04-01")
    with pytest.raises(ContractError, match="dst_gap"):
        next_after(MONTHLY, nameless, at("2027-03-31"), dst_gap="x")


def test_changes_of_a_zone_are_listed() -> None:
    found = list(transitions("Europe/Berlin", at("2027-01-01"), at("2028-01-01")))
    assert [(change.instant, change.change) for change in found] == [
        (at("2027-03-28T01:00"), HOUR),
        (at("2027-10-31T01:00"), -HOUR),
    ]
    assert (found[0].offset_before, found[0].offset_after) == (HOUR, 2 * HOUR)
    assert list(transitions("UTC", EARLIEST, LATEST)) == []
    with pytest.raises(ContractError, match="naive"):
        transitions("UTC", datetime(2027, 1, 1), LATEST)


def test_the_words_are_named_once() -> None:
    assert DST_GAPS == ("skip", "next", "shift")
    assert DST_OVERLAPS == ("first", "last", "both")
    assert set(firetimes.__all__) <= set(dir(firetimes))

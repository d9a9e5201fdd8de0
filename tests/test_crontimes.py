"""What clock changes do, one by one. The transitions are quoted from the time-zone database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest

from purista.crontimes import CronTimes
from purista.expression import EARLIEST, LATEST, Cron
from purista.firetimes import DST_GAPS, DST_OVERLAPS
from purista.zone import offsets_of, transitions_between

SECOND = timedelta(seconds=1)
BERLIN = ZoneInfo("Europe/Berlin")


def fired(
    text: str, zone: str, start: str, end: str, gap: str = "skip", overlap: str = "first"
) -> list[str]:
    """Return when a fixed time fires, in the zone's own time with its offset."""
    times = CronTimes(Cron(text), offsets_of(ZoneInfo(zone)), gap, overlap)
    found = [
        base + distance
        for base, distances in times.batches(at(start), at(end))
        for distance in distances
    ]
    return [f"{instant.astimezone(ZoneInfo(zone)):%d %H:%M%z}" for instant in found]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        ("skip", ["27 02:30+0100", "29 02:30+0200"]),
        ("next", ["27 02:30+0100", "28 03:00+0200", "29 02:30+0200"]),
        ("shift", ["27 02:30+0100", "28 03:30+0200", "29 02:30+0200"]),
    ],
)
def test_a_gap_of_an_hour(gap: str, expected: list[str]) -> None:
    """Europe/Berlin, 2027-03-28: 02:00+01 becomes 03:00+02."""
    assert fired("30 2 * * *", "Europe/Berlin", "2027-03-27", "2027-03-29T12:00", gap) == expected


def test_many_times_in_a_gap_are_one_instant_under_next() -> None:
    found = fired("0,15,30 2,3 * * *", "Europe/Berlin", "2027-03-28", "2027-03-28T12:00", "next")
    assert found == ["28 03:00+0200", "28 03:15+0200", "28 03:30+0200"]


def test_a_shifted_time_that_meets_another_is_one_instant() -> None:
    found = fired("0,15,30 2,3 * * *", "Europe/Berlin", "2027-03-28", "2027-03-28T12:00", "shift")
    assert found == ["28 03:00+0200", "28 03:15+0200", "28 03:30+0200"]


def test_shifted_times_come_in_order_among_the_others() -> None:
    found = fired("10,50 2,3 * * *", "Europe/Berlin", "2027-03-28", "2027-03-28T12:00", "shift")
    assert found == ["28 03:10+0200", "28 03:50+0200"]
    found = fired("20 2-3 * * *", "Antarctica/Troll", "2027-03-28", "2027-03-28T12:00", "shift")
    assert found == ["28 03:20+0200", "28 04:20+0200"]


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("first", ["30 02:30+0200", "31 02:30+0200", "01 02:30+0100"]),
        ("last", ["30 02:30+0200", "31 02:30+0100", "01 02:30+0100"]),
        ("both", ["30 02:30+0200", "31 02:30+0200", "31 02:30+0100", "01 02:30+0100"]),
    ],
)
def test_an_overlap_of_an_hour(overlap: str, expected: list[str]) -> None:
    """Europe/Berlin, 2027-10-31: 03:00+02 becomes 02:00+01."""
    found = fired("30 2 * * *", "Europe/Berlin", "2027-10-30", "2027-11-01T12:00", overlap=overlap)
    assert found == expected


def test_the_edges_of_gap_and_overlap_belong_to_one_side() -> None:
    for gap, expected in (("skip", []), ("next", ["28 03:00+0200"]), ("shift", ["28 03:00+0200"])):
        assert fired("0 2 28 3 *", "Europe/Berlin", "2027-03-01", "2027-04-01", gap) == expected
        assert fired("0 3 28 3 *", "Europe/Berlin", "2027-03-01", "2027-04-01", gap) == [
            "28 03:00+0200"
        ]
    both = fired("0 2,3 31 10 *", "Europe/Berlin", "2027-10-01", "2027-12-01", overlap="both")
    assert both == ["31 02:00+0200", "31 02:00+0100", "31 03:00+0100"]


@pytest.mark.parametrize(
    ("gap", "expected"),
    [("skip", []), ("next", ["03 02:30+1100"]), ("shift", ["03 02:45+1100"])],
)
def test_a_gap_of_half_an_hour(gap: str, expected: list[str]) -> None:
    """Australia/Lord_Howe, 2027-10-03: 02:00+10:30 becomes 02:30+11."""
    found = fired("15 2 3 10 *", "Australia/Lord_Howe", "2027-10-01", "2027-10-10", gap)
    assert found == expected


def test_an_overlap_of_half_an_hour() -> None:
    """Australia/Lord_Howe, 2027-04-04: 02:00+11 becomes 01:30+10:30."""
    both = fired("15,45 1 4 4 *", "Australia/Lord_Howe", "2027-04-01", "2027-04-10", overlap="both")
    assert both == ["04 01:15+1100", "04 01:45+1100", "04 01:45+1030"]


@pytest.mark.parametrize(
    ("gap", "between"),
    [("skip", []), ("next", ["31 00:00+1400"]), ("shift", ["31 06:00+1400"])],
)
def test_a_gap_of_a_whole_day(gap: str, between: list[str]) -> None:
    """Pacific/Apia, 2011-12-30 did not exist: 24:00-10 on the 29th is 00:00+14 on the 31st."""
    found = fired("0 6 29-30 * *", "Pacific/Apia", "2011-12-29T11:00", "2012-01-01T11:00", gap)
    assert found == ["29 06:00-1000", *between]


@pytest.mark.parametrize(
    ("gap", "between"),
    [("skip", []), ("next", ["22 00:00+1200"]), ("shift", [])],
)
def test_a_shift_by_a_day_can_meet_the_next_day(gap: str, between: list[str]) -> None:
    """Pacific/Kwajalein, 1993-08-21 did not exist: 24:00-12 on the 20th is 00:00+12 on the 22nd."""
    found = fired("0 12 * * *", "Pacific/Kwajalein", "1993-08-20T12:00", "1993-08-23", gap)
    assert found == ["20 12:00-1200", *between, "22 12:00+1200", "23 12:00+1200"]


def test_a_gap_of_a_day_that_ends_a_year_reaches_into_the_next() -> None:
    """Pacific/Kiritimati, 1994-12-31 did not exist: 24:00-10 on the 30th is 00:00+14 in January."""
    shifted = fired("0 6,18 * * *", "Pacific/Kiritimati", "1994-12-31", "1995-01-01T12:00", "shift")
    assert shifted == ["30 18:00-1000", "01 06:00+1400", "01 18:00+1400"]
    found = fired("0 6 31 12 *", "Pacific/Kiritimati", "1994-12-30", "1995-01-02", "shift")
    assert found == ["01 06:00+1400"]


@pytest.mark.parametrize(
    ("zone", "text", "start", "end", "gap", "expected"),
    [
        # 2026-04-24 00:00+02 becomes 01:00+03
        ("Africa/Cairo", "0 0 24 4 *", "2026-04-20", "2026-04-28", "skip", []),
        ("Africa/Cairo", "0 0 24 4 *", "2026-04-20", "2026-04-28", "next", ["24 01:00+0300"]),
        ("Africa/Cairo", "30 0 24 4 *", "2026-04-20", "2026-04-28", "shift", ["24 01:30+0300"]),
        # 2023-10-01 00:00-04 becomes 01:00-03
        ("America/Asuncion", "@monthly", "2023-09-20", "2023-10-10", "skip", []),
        ("America/Asuncion", "@monthly", "2023-09-20", "2023-10-10", "shift", ["01 01:00-0300"]),
        # 2025-03-09 00:00-05 becomes 01:00-04
        ("America/Havana", "0 0 9 3 *", "2025-03-01", "2025-03-20", "next", ["09 01:00-0400"]),
    ],
)
def test_a_gap_at_midnight(
    zone: str, text: str, start: str, end: str, gap: str, expected: list[str]
) -> None:
    assert fired(text, zone, start, end, gap) == expected


def test_an_overlap_before_midnight() -> None:
    """Africa/Cairo, 2026-10-29 24:00+03 becomes 23:00+02 of the same day."""
    both = fired("30 23 29 10 *", "Africa/Cairo", "2026-10-28", "2026-11-02", overlap="both")
    assert both == ["29 23:30+0300", "29 23:30+0200"]
    assert fired("30 23 29 10 *", "Africa/Cairo", "2026-10-28", "2026-11-02") == both[:1]


def test_a_change_of_standard_time_counts_like_any_other() -> None:
    """America/Caracas, 2016-05-01: 02:30-04:30 becomes 03:00-04; no daylight saving."""
    assert fired("45 2 1 5 *", "America/Caracas", "2016-04-30", "2016-05-03", "shift") == [
        "01 03:15-0400"
    ]
    assert fired("0 12 * * *", "America/Caracas", "2016-04-30", "2016-05-02T20:00") == [
        "30 12:00-0430",
        "01 12:00-0400",
        "02 12:00-0400",
    ]


@pytest.mark.parametrize("text", ["30 2 * * *", "0 3 1 * *", "30 2 28 3 *", "*/20 1-4 * * *"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Apia", "America/New_York", "UTC"])
def test_the_start_of_the_search_changes_nothing(zone: str, text: str) -> None:
    for gap, overlap in product(DST_GAPS, DST_OVERLAPS):
        times = CronTimes(Cron(text), offsets_of(ZoneInfo(zone)), gap, overlap)
        known = _from(times, at("2011-01-01"), at("2012-03-01"))
        for instant in known[:40] + known[-40:]:
            assert times.first_from(instant) == times.last_to(instant) == instant
            assert _from(times, instant + SECOND, known[-1]) == known[known.index(instant) + 1 :]


def test_times_a_year_apart_are_found_across_every_change() -> None:
    """Jumping to the next match must not jump over the second pass of an overlap."""
    for text, first_pass, second_pass in (
        ("30 2 31 10 *", "2027-10-31T00:30", "2027-10-31T01:30"),
        ("*/40 2 31 10 *", "2027-10-31T00:40", "2027-10-31T01:00"),
    ):
        times = CronTimes(Cron(text), offsets_of(ZoneInfo("Europe/Berlin")), "skip", "both")
        assert times.first_from(at(first_pass) + SECOND) == at(second_pass)
        assert times.last_to(at(second_pass) - SECOND) == at(first_pass)


@pytest.mark.parametrize(("gap", "moved"), [("next", "01:00"), ("shift", "01:30")])
def test_a_moved_time_is_one_among_the_others(gap: str, moved: str) -> None:
    times = CronTimes(Cron("30 0,2,5 * * *"), offsets_of(BERLIN), gap, "first")
    before, moved_to, after = (
        at(f"2027-03-{day}") for day in ("27T23:30", f"28T{moved}", "28T03:30")
    )
    assert times.first_from(before + SECOND) == times.last_to(after - SECOND) == moved_to
    assert times.first_from(moved_to + SECOND) == times.last_to(at("2027-03-28T12:00")) == after
    assert times.last_to(moved_to - SECOND) == before


def test_nothing_lies_beyond_the_bounds() -> None:
    times = CronTimes(Cron("0 0 1 1 *"), offsets_of(ZoneInfo("Asia/Tokyo")), "skip", "first")
    assert times.first_from(at("1900-01-01")) == at("1970-12-31T15:00")
    assert times.last_to(at("1970-12-31T14:00")) is None
    assert times.first_from(at("2200-12-31T15:00:01")) is None
    assert times.last_to(at("2300-01-01")) == at("2200-12-31T15:00")
    assert times.first_from(LATEST + SECOND) is None
    assert times.last_to(EARLIEST - SECOND) is None
    new_years_eve = CronTimes(Cron("0 0 31 12 *"), offsets_of(ZoneInfo("UTC")), "skip", "first")
    assert new_years_eve.last_to(at("1970-12-30")) is None
    in_berlin = CronTimes(Cron("0 0 31 12 *"), offsets_of(BERLIN), "skip", "first")
    assert in_berlin.last_to(at("1970-01-05")) is None
    leap_day = CronTimes(Cron("0 0 29 2 *"), offsets_of(BERLIN), "skip", "first")
    assert leap_day.last_to(at("1972-02-28")) is None


@pytest.mark.parametrize("zone", ["Europe/Berlin", "Pacific/Apia", "Pacific/Kiritimati"])
@pytest.mark.parametrize("hour", ["2", "0,12", "*/12"])
def test_rare_times_near_a_change_are_found_once_and_in_order(zone: str, hour: str) -> None:
    """Over many years rare matches are looked at one by one, and those near a change anew."""
    for change in transitions_between(ZoneInfo(zone), at("1994-01-01"), at("2012-01-01")):
        days = sorted({(change.instant + step * timedelta(days=1)).day for step in range(-4, 5, 2)})
        text = f"30 {hour} {','.join(map(str, days))} {change.instant.month} *"
        for gap, overlap in product(DST_GAPS, DST_OVERLAPS):
            options = ("skip", "both") if "*" in hour else (gap, overlap)
            times = CronTimes(Cron(text), offsets_of(ZoneInfo(zone)), *options)
            first, last = change.instant - timedelta(days=300), change.instant + timedelta(days=500)
            assert _from(times, first, last) == _steps(times, first, last)


def _steps(times: CronTimes, first: datetime, last: datetime) -> list[datetime]:
    found = []
    at = times.first_from(first)
    while at is not None and at <= last:
        found.append(at)
        at = times.first_from(at + SECOND)
    return found


def _from(times: CronTimes, first: datetime, last: datetime) -> list[datetime]:
    found = times.batches(first, last)
    return [base + distance for base, distances in found for distance in distances]

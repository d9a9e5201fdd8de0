"""What meets a clock change, and texts without stars."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.dialects import CRON_IN_BERLIN, HORIZON, KUBERNETES, ZONES, crons

from purista import Cron, firetimes
from purista.dialect import (
    clock_windows,
    has_odd_change,
    matches_date,
    plain_text,
    touches_midnight,
    windows_met,
)

SECOND = timedelta(seconds=1)


def met(text: str, zone: str = "Europe/Berlin") -> list[str]:
    windows = clock_windows(zone, HORIZON.start, HORIZON.end)
    return [f"{one.first:%Y-%m-%d}" for one in windows_met(Cron(text), windows)]


def test_a_dialect_can_be_in_any_zone_or_in_those_that_it_names():
    assert KUBERNETES.can_be_in("Asia/Tokyo")
    assert CRON_IN_BERLIN.can_be_in("Europe/Berlin")
    assert not CRON_IN_BERLIN.can_be_in("UTC")


@pytest.mark.parametrize(
    ("zone", "index", "first", "end"),
    [
        ("Europe/Berlin", 0, "2026-03-29 02:00:00", "2026-03-29 03:00:00"),
        ("Europe/Berlin", 1, "2026-10-25 02:00:00", "2026-10-25 03:00:00"),
        ("Australia/Lord_Howe", 0, "2026-04-05 01:30:00", "2026-04-05 02:00:00"),
        ("Africa/Cairo", 0, "2026-04-24 00:00:00", "2026-04-24 01:00:00"),
        ("Africa/Cairo", 1, "2026-10-29 23:00:00", "2026-10-30 00:00:00"),
    ],
)
def test_a_window_is_what_a_change_leaves_out_or_repeats(
    zone: str, index: int, first: str, end: str
):
    window = clock_windows(zone, HORIZON.start, HORIZON.end)[index]
    assert (str(window.first), str(window.end)) == (first, end)


def test_a_window_may_be_a_whole_day():
    """Samoa left out 30 December 2011."""
    year = datetime(2011, 12, 1, tzinfo=UTC), datetime(2012, 1, 31, tzinfo=UTC)
    windows = clock_windows("Pacific/Apia", *year)
    assert [str(window.first) for window in windows] == ["2011-12-30 00:00:00"]
    assert windows_met(Cron("59 23 30 12 *"), windows) == list(windows)
    assert windows_met(Cron("0 0 31 12 *"), windows) == []


def test_zones_without_clock_changes_have_no_windows():
    assert clock_windows("UTC", HORIZON.start, HORIZON.end) == ()
    assert clock_windows("Asia/Tokyo", HORIZON.start, HORIZON.end) == ()


def test_what_is_met_depends_on_hours_minutes_and_days():
    assert len(met("30 2 * * *")) == len(met("59 2 * * *")) == len(met("* * * * *")) == 20
    assert met("0 3 * * *") == met("59 1 * * *") == met("30 2 * 1,7 *") == met("0 2 * * 1-6") == []
    assert met("30 2 28 3 *") == ["2027-03-28", "2032-03-28"]
    assert met("45 1 * * *", "Australia/Lord_Howe")[:1] == ["2026-04-05"]
    assert met("15 1 * * *", "Australia/Lord_Howe") == []


@given(crons(), st.sampled_from(ZONES))
@example(Cron("0 2-0 * * *"), "America/New_York")
def test_a_change_is_met_by_a_local_time_within_and_else_all_words_have_the_same_times(
    cron: Cron, zone: str
):
    """A time that is met may have the same times, too: where one that is moved falls upon another."""
    start, end = HORIZON.start, HORIZON.start + timedelta(days=1000)
    windows = clock_windows(zone, start, end)
    plain = Cron(plain_text(cron), cron.day_rule)

    def holds_a_time(first: datetime, end: datetime) -> bool:
        stretch = first.replace(tzinfo=UTC), end.replace(tzinfo=UTC) - SECOND
        return any(True for _ in firetimes.between(plain, "UTC", *stretch))

    found = windows_met(cron, windows)
    assert found == [each for each in windows if holds_a_time(each.first, each.end)]
    if not found:
        whole = [
            set(firetimes.between(plain, zone, start, end, dst_gap=gap, dst_overlap=overlap))
            for gap, overlap in [("skip", "first"), ("next", "last"), ("shift", "both")]
        ]
        assert all(one == whole[0] for one in whole)


def test_odd_changes_are_those_by_other_than_whole_hours():
    def is_odd(zone: str) -> bool:
        return has_odd_change(clock_windows(zone, HORIZON.start, HORIZON.end))

    assert is_odd("Australia/Lord_Howe")
    assert [zone for zone in ZONES if is_odd(zone)] == ["Australia/Lord_Howe"]


@settings(deadline=None)
@given(crons())
def test_a_plain_text_means_the_same_without_a_star_in_the_time_of_day(cron: Cron):
    plain = Cron(plain_text(cron), cron.day_rule)
    assert plain.is_fixed_time
    assert (plain.minute.values, plain.hour.values) == (cron.minute.values, cron.hour.values)
    start = datetime(2027, 1, 1, tzinfo=UTC)
    two_months = start, start + timedelta(days=59)
    assert list(firetimes.between(plain, "UTC", *two_months)) == list(
        firetimes.between(cron, "UTC", *two_months)
    )


def test_a_plain_text_keeps_seconds():
    assert plain_text(Cron("*/30 0 2 * * *", seconds=True)) == "0,30 0 2 * * *"


@settings(deadline=None)
@given(crons(), st.dates(date(2027, 1, 1), date(2034, 12, 31)))
def test_a_date_matches_where_something_is_due_on_it(cron: Cron, day: date):
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    due = next(firetimes.between(cron, "UTC", start, start + timedelta(days=1) - SECOND), None)
    assert matches_date(cron, day.year, day.month, day.day) == (due is not None)


@pytest.mark.parametrize(
    ("zone", "touched"),
    [("Europe/Berlin", False), ("Africa/Cairo", True), ("America/Santiago", True), ("UTC", False)],
)
def test_which_zones_change_their_clocks_at_midnight(zone: str, touched: bool):
    assert touches_midnight(clock_windows(zone, HORIZON.start, HORIZON.end)) == touched

"""Native lines cover what is due; where they are called exact they fire at nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.dialects import (
    AIRFLOW,
    BOTH_DAYS,
    CRON,
    CRON_IN_BERLIN,
    CRON_IN_UTC,
    DIALECTS,
    EVENTBRIDGE,
    HORIZON,
    KUBERNETES,
    SYSTEMD,
    TEMPORAL,
    possible,
    sure,
    timings,
)

from purista import Cron, Every, Once
from purista.clockchange import Timing
from purista.cover import MOST_OBJECTS, Cover, Fit, Uncovered, cover, first_deviation
from purista.daycover import says_days
from purista.dialect import Dialect, clock_windows, has_odd_change
from purista.turnover import Horizon

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
untimed = settings(deadline=None, max_examples=60)


def nightly(text: str = "30 2 * * *", zone: str = "Europe/Berlin", **words: Any) -> Timing:
    return Timing(Cron(text), zone, **words)


def covered(timing: Timing, dialect: Dialect, **options: Any) -> Cover:
    found = cover(timing, dialect, HORIZON, **options)
    assert isinstance(found, Cover), found
    return found


def texts(found: Cover) -> list[str]:
    return [f"{line.cron.canonical} {line.timezone}" for line in found.lines]


def holds(timing: Timing, dialect: Dialect, start: datetime, end: datetime) -> None:
    """Fail where lines miss what is due, or fire at more although they are called exact."""
    found = cover(timing, dialect, HORIZON)
    if isinstance(found, Uncovered):
        assert found.code == "host-zone"
        return
    due = set(timing.between(start, end))
    fired = sure(found.lines, dialect, start, end)
    assert due - fired == set(), texts(found)
    if found.fit is Fit.EXACT:
        assert possible(found.lines, dialect, start, end) == due, texts(found)
    assert (found.reason == "") == (found.fit is Fit.EXACT)


def can_be_said(timing: Timing, dialect: Dialect) -> None:
    """Fail where a line is none that the dialect has."""
    found = cover(timing, dialect, HORIZON)
    for line in found.lines if isinstance(found, Cover) else ():
        assert dialect.can_be_in(line.timezone)
        assert says_days(line.cron, dialect), line
        assert not line.cron.seconds or dialect.seconds
        assert line.timezone in {"UTC", timing.timezone}
        windows = clock_windows(line.timezone, HORIZON.start, HORIZON.end)
        assert dialect.odd_changes or not has_odd_change(windows)
    if isinstance(found, Cover) and not dialect.many_lines and found.fit is Fit.SUPERSET:
        assert len(found.lines) <= MOST_OBJECTS + 2  # dated lines


YEARS = st.integers(2026, 2033).map(lambda year: datetime(year, 1, 1, tzinfo=UTC))


@untimed
@given(timings(), st.sampled_from(sorted(DIALECTS)), YEARS)
def test_lines_fire_at_least_when_something_is_due(timing: Timing, name: str, start: datetime):
    holds(timing, DIALECTS[name], start, start + 2 * 366 * DAY)


@untimed
@given(timings(["Europe/Berlin"]), YEARS)
def test_lines_in_the_zone_of_a_host_fire_at_least_when_something_is_due(
    timing: Timing, start: datetime
):
    holds(timing, CRON_IN_BERLIN, start, start + 2 * 366 * DAY)


@untimed
@given(timings(), st.sampled_from(sorted(DIALECTS)))
def test_every_line_is_one_that_the_dialect_can_say(timing: Timing, name: str):
    can_be_said(timing, DIALECTS[name])


HARD_ZONES = {
    "Australia/Lord_Howe": "half an hour",
    "Africa/Casablanca": "Ramadan, another date each year",
    "Africa/Cairo": "a gap at midnight, an overlap before midnight",
    "America/Santiago": "the same in the south",
    "Asia/Beirut": "a gap at midnight",
    "Pacific/Chatham": "12:45 and 13:45 ahead",
    "America/St_Johns": "two and a half hours behind",
    "Antarctica/Troll": "two hours",
}
HARD_TEXTS = (
    "30 2 * * *",
    "0 0 * * *",
    "0,30 23 L * *",
    "30 0 1 3,4,10,11 *",
    "*/30 * * * SUN",
    "0 0-23 1,L * FRI#L",
    "15 0,2,3 29-31 * SAT,SUN",
)


@pytest.mark.parametrize("zone", HARD_ZONES)
@pytest.mark.parametrize("text", HARD_TEXTS)
def test_odd_clock_changes_are_covered_on_every_dialect(zone: str, text: str):
    for gap, overlap in (("skip", "first"), ("next", "last"), ("shift", "both")):
        timing = nightly(text, zone, dst_gap=gap, dst_overlap=overlap)
        for dialect in DIALECTS.values():
            holds(timing, dialect, HORIZON.start, HORIZON.start + 2 * 366 * DAY)
            can_be_said(timing, dialect)


@pytest.mark.parametrize("text", ["30 0 1 3 *", "30 0 1 * *", "30 0 31 12 *", "30 1 L 2 *"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Auckland"])
def test_days_that_are_others_in_utc_are_covered_in_leap_years_too(text: str, zone: str):
    holds(nightly(text, zone), CRON_IN_UTC, HORIZON.start, HORIZON.end)


def test_the_day_before_the_first_of_march_is_the_28th_or_the_29th():
    assert texts(covered(nightly("30 0 1 3 *"), CRON_IN_UTC)) == ["30 22,23 28,29 2 * UTC"]


@pytest.mark.parametrize(
    ("dialect", "lines", "fit"),
    [
        (SYSTEMD, ["30 2 * * * Europe/Berlin"], "exact"),
        (KUBERNETES, ["30 2 * * * Europe/Berlin"], "superset"),
        (CRON_IN_BERLIN, ["30 2 * * * Europe/Berlin"], "superset"),
        (CRON_IN_UTC, ["30 0,1 * * * UTC"], "superset"),
        (AIRFLOW, ["30 0,1 * * * UTC"], "superset"),
        (EVENTBRIDGE, ["30 0,1 * * * UTC"], "superset"),
        (TEMPORAL, ["30 0,1 * * * UTC"], "superset"),
    ],
)
def test_a_nightly_run_in_berlin(dialect: Dialect, lines: list[str], fit: str):
    found = covered(nightly(), dialect)
    assert (texts(found), found.fit) == (lines, fit)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ({"dst_gap": "next"}, ["30 2 * * * Europe/Berlin", "0 3 * 3 0 Europe/Berlin"]),
        ({"dst_gap": "shift"}, ["30 2 * * * Europe/Berlin", "30 3 * 3 0 Europe/Berlin"]),
        ({"dst_overlap": "both"}, ["30 2 * * * Europe/Berlin"]),
    ],
)
def test_what_a_gap_moves_gets_a_further_line(words: dict[str, str], lines: list[str]):
    assert texts(covered(nightly(**words), KUBERNETES)) == lines


def test_times_that_a_gap_moves_share_a_line():
    found = covered(nightly("0-59 2 * * *", dst_gap="shift"), KUBERNETES)
    assert len(found.lines) == 2
    assert found.lines[1].cron == Cron("0-59 3 * 3 SUN")


def test_moved_times_get_a_line_in_utc_as_well():
    timing = nightly("15 1 * * *", "Antarctica/Troll", dst_gap="next", dst_overlap="last")
    assert texts(covered(timing, CRON_IN_UTC)) == ["15 1,23 * * * UTC", "0 1 * 3 0 UTC"]


def test_seconds_of_moved_times_are_kept():
    cron = Cron("10,20 30,40 2 * * *", seconds=True)
    found = covered(Timing(cron, "Europe/Berlin", "shift"), SYSTEMD)
    assert texts(found)[1] == "10,20 30,40 3 * 3 0 Europe/Berlin"
    holds(Timing(cron, "Europe/Berlin", "shift"), SYSTEMD, HORIZON.start, HORIZON.end)


def test_lines_that_are_joined_stay_times_of_day():
    """With a star in its minutes cron would take it for a line that follows the clock."""
    timing = nightly("0,30 2 1W,8W,15W,22W,L * *", dst_gap="next")
    (line,) = covered(timing, CRON_IN_BERLIN).lines
    assert line.cron.is_fixed_time
    gap = datetime(2030, 3, 31, 1, tzinfo=UTC)
    assert list(timing.between(gap - 3 * 60 * timedelta(seconds=60), gap)) == [gap]
    assert gap in sure([line], CRON_IN_BERLIN, gap, gap)


def test_a_date_that_never_comes_gets_no_line():
    assert texts(covered(nightly("0 0 30 2 MON", "UTC"), SYSTEMD)) == ["0 0 * 2 1 UTC"]
    assert texts(covered(nightly("0 0 31 2 MON", "Asia/Tokyo"), CRON_IN_UTC)) == [
        "0 15 * 1,2 0 UTC"
    ]


@pytest.mark.parametrize(
    "dialect", [SYSTEMD, TEMPORAL, EVENTBRIDGE], ids=["systemd", "temporal", "eventbridge"]
)
def test_a_line_that_meets_no_clock_change_is_exact_whatever_happens_there(dialect: Dialect):
    found = covered(nightly("*/15 9-17 * * MON-FRI"), dialect)
    assert texts(found) == ["*/15 9-17 * * 1-5 Europe/Berlin"]
    assert found.fit is Fit.EXACT


def test_a_zone_that_a_dialect_cannot_say_is_covered_in_utc_or_not_at_all():
    assert texts(covered(nightly("0 12 * * *", "Asia/Tokyo"), CRON_IN_UTC)) == ["0 3 * * * UTC"]
    for timing in (nightly("0 12 * * *", "Asia/Tokyo"), Timing(Every(DAY)), Timing(Once(FIRST))):
        found = cover(timing, CRON_IN_BERLIN, HORIZON)
        assert isinstance(found, Uncovered)
        assert (found.code, found.message) == (
            "host-zone",
            "its lines are read in Europe/Berlin alone, and lines in UTC are needed",
        )


def test_an_overlap_that_a_local_line_would_miss_is_covered_in_utc():
    assert texts(covered(nightly(dst_overlap="both"), CRON)) == ["30 0,1 * * * UTC"]
    found = cover(nightly(dst_overlap="both"), CRON_IN_BERLIN, HORIZON)
    assert isinstance(found, Uncovered)


def test_a_zone_of_odd_seconds_has_no_lines_in_utc():
    old = Horizon(datetime(1971, 1, 1, tzinfo=UTC), datetime(1971, 12, 31, tzinfo=UTC))
    found = cover(nightly("0 12 * * *", "Africa/Monrovia"), CRON_IN_UTC, old)
    assert isinstance(found, Uncovered)
    assert found.code == "zone-offset"


FIRST = datetime(2027, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "dialect", "code"),
    [
        (Cron("30 0 2 * * *", seconds=True), KUBERNETES, "seconds"),
        (Every(timedelta(seconds=90)), KUBERNETES, "interval"),
        (Every(timedelta(seconds=1.5)), SYSTEMD, "interval"),
        (Once(FIRST), KUBERNETES, "one-shot"),
        (Once(FIRST + timedelta(microseconds=1)), SYSTEMD, "one-shot"),
    ],
)
def test_what_is_due_between_two_lines_has_none(expression: Any, dialect: Dialect, code: str):
    found = cover(Timing(expression), dialect, HORIZON)
    assert isinstance(found, Uncovered)
    assert found.code == code
    assert ("second" if dialect.seconds else "minute") in found.message


def test_a_one_shot_is_a_dated_line_of_every_year():
    assert texts(covered(Timing(Once(FIRST)), SYSTEMD)) == ["1 2 3 4 5 * UTC"]
    found = covered(Timing(Once(FIRST.replace(second=0))), KUBERNETES)
    assert (texts(found), found.fit) == (["2 3 4 5 * UTC"], "superset")


def test_an_interval_is_exact_in_several_lines_where_these_are_one_object():
    every = Timing(Every(timedelta(minutes=90)))
    assert len(covered(every, SYSTEMD).lines) == 2
    (line,) = covered(every, KUBERNETES).lines
    assert (line.cron.minute.values, len(line.cron.hour.values)) == ((0, 30), 16)
    assert len(covered(every, KUBERNETES, exact_native=True).lines) == 2


def test_every_hour_of_the_day_is_exact_in_utc_only_where_it_follows_the_clock():
    """``0 0-23`` names times of day, of which the second pass of an overlap is none."""
    found = covered(nightly("0 0-23 * * *"), CRON_IN_UTC)
    assert (texts(found), found.fit) == (["0 * * * * UTC"], "superset")
    assert covered(nightly("0 * * * *"), CRON_IN_UTC).fit is Fit.EXACT


def test_minutes_that_another_zone_spreads_over_hours_are_joined_and_not_exact():
    found = covered(nightly("0,20,40 9,10 * * *", "Asia/Kolkata"), CRON_IN_UTC)
    assert (texts(found), found.fit) == (["10,30,50 3-5 * * * UTC"], "superset")
    assert covered(nightly("0,30 9 * * *", "Asia/Kolkata"), CRON_IN_UTC).fit is Fit.EXACT


def test_exact_native_refuses_lines_that_fire_more_often_and_says_why():
    found = cover(nightly(), KUBERNETES, HORIZON, exact_native=True)
    assert found == Uncovered(
        "exact-native",
        "no native lines are exact: the scheduler fires more often where the clock changes",
    )
    assert covered(nightly(), SYSTEMD, exact_native=True).fit is Fit.EXACT
    refused = cover(nightly(), CRON_IN_BERLIN, HORIZON, exact_native=True)
    assert isinstance(refused, Uncovered)


def test_the_reason_names_days_and_clock_changes():
    found = covered(nightly("30 2 L * *", dst_gap="next"), KUBERNETES)
    assert found.reason == (
        "no line says its days; where the clock is put forward, a further line fires at the moved time"
    )
    assert covered(nightly("30 2 LW * *", "Asia/Tokyo"), CRON_IN_UTC).reason == (
        "no line in UTC says its days"
    )


KNOWN = ("kubernetes", "airflow", "systemd", "cron")


@settings(deadline=None, max_examples=80)
@given(timings(["Europe/Berlin", "America/New_York", "Africa/Cairo"]), st.sampled_from(KNOWN))
@example(nightly("30 2 25 3 *", dst_gap="next"), "kubernetes")
@example(nightly("*/15 2 * * *"), "systemd")
def test_the_first_deviation_is_the_first_that_a_search_finds(timing: Timing, name: str):
    dialect, since = DIALECTS[name], HORIZON.start
    (line, *others) = covered(timing, dialect).lines
    if others or line.timezone != timing.timezone or line.cron != timing.expression:
        return
    end = since + 9 * 366 * DAY
    due = set(timing.between(since, end))
    different = min(due ^ possible([line], dialect, since, end), default=None)
    found = first_deviation(timing, line, dialect, since)
    if different is None:
        assert found is None or found.instant > end - DAY
    else:
        assert found is not None
        assert abs(found.instant - different) <= timedelta(hours=2)


def test_a_line_may_be_exact_up_to_the_end_of_the_horizon_and_no_longer():
    timing = nightly("30 2 25 3 *", dst_gap="next")
    near = Horizon(datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 12, 31, tzinfo=UTC))
    found = cover(timing, KUBERNETES, near)
    assert isinstance(found, Cover)
    assert found.fit is Fit.EXACT
    deviation = first_deviation(timing, found.lines[0], KUBERNETES, near.end)
    assert deviation is not None
    assert deviation.instant == datetime(2029, 3, 25, 1, tzinfo=UTC)


def test_what_is_not_known_of_a_clock_change_is_a_deviation():
    (line,) = covered(nightly("0 12 * * *", "Australia/Lord_Howe"), SYSTEMD).lines
    timing = nightly("0 12 * * *", "Australia/Lord_Howe")
    assert first_deviation(timing, line, SYSTEMD, HORIZON.start) is None
    found = first_deviation(timing, line, KUBERNETES, HORIZON.start)
    assert found is not None
    assert found.change == timedelta(minutes=-30)
    overlap = first_deviation(nightly(), nightly_line(), EVENTBRIDGE, HORIZON.start)
    assert overlap is not None
    assert overlap.change == timedelta(hours=-1)


def nightly_line() -> Any:
    return covered(nightly(), SYSTEMD).lines[0]


def test_moved_times_are_dated_where_their_weekdays_differ():
    """Until 2022 Iran put its clocks forward on 21 or 22 March, whatever day that was."""
    years = Horizon(datetime(2017, 1, 1, tzinfo=UTC), datetime(2022, 12, 31, tzinfo=UTC))
    timing = nightly("30 0 * * *", "Asia/Tehran", dst_gap="next")
    found = cover(timing, KUBERNETES, years)
    assert isinstance(found, Cover)
    assert texts(found)[1] == "0 1 21,22 3 * Asia/Tehran"
    due = set(timing.between(years.start, years.end))
    assert due <= sure(found.lines, KUBERNETES, years.start, years.end)


def test_many_lines_that_each_name_both_days_become_one_that_does():
    cron = Cron("0,7 1,5,7 1W,10W,20W,L,LW * FRI", day_rule="and")
    timing = Timing(cron, "Asia/Beirut")
    (line,) = covered(timing, BOTH_DAYS).lines
    assert line.cron.canonical.split()[4] == "5"
    assert line.cron.restricts_both_days
    holds(timing, BOTH_DAYS, HORIZON.start, HORIZON.end)

import dataclasses
import pickle
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from purista import Cron, Every, Expression, Once, Problem, Schedule, Service, advice
from purista.advising import PILE_UP, Advice
from purista.exclusion import HolidayCalendar

YEAR = datetime(2027, 1, 1, tzinfo=UTC)
NIGHTLY = Cron("30 2 * * *")


def shop(*expressions: Expression, **options: Any) -> Service:
    service = Service("Shop")
    given = {"missed_run_policy": "skip", **options}
    for number, expression in enumerate(expressions):
        service.schedule(f"s{number}").emit_event("due", expression=expression, **given)
    return service


def codes(*services: Service, **options: Any) -> list[str]:
    return [one.code for one in advice(*services, **options)]


def test_a_plain_contract_needs_no_advice():
    assert advice(shop(Cron("0 4 * * *"), timezone="Europe/Berlin"), since=YEAR) == ()


def test_advice_is_a_problem_with_a_code():
    (one,) = advice(shop(NIGHTLY, missed_run_policy="catchUp", concurrency_policy="forbid"))
    assert isinstance(one, Problem)
    assert one.code == "concurrency-policy"
    assert one.place == "schedule 'Shop.v1.s0': concurrency_policy"
    assert pickle.loads(pickle.dumps(one)) == one
    assert Advice("", "odd", "", "x").within("here") == Advice("here", "odd", "", "x")


def test_the_missed_run_policy_is_better_said():
    service = Service("Shop")
    service.schedule("silent").emit_event("due", expression=NIGHTLY)
    assert [(one.code, one.place) for one in advice(service)] == [
        ("missed-run-policy", "schedule 'Shop.v1.silent': missed_run_policy")
    ]


def test_windows_that_work_against_each_other_are_told():
    long = timedelta(days=8)
    service = shop(NIGHTLY, missed_run_policy="catchUp", catch_up_window=long)
    (found,) = advice(service)
    assert (found.code, found.remedy) == ("dedupe-window", "use at least 8 days, 0:00:00")


def test_a_fixed_time_in_a_gap_and_an_overlap_is_told_with_date_and_alternatives():
    gap, overlap = advice(shop(NIGHTLY, timezone="Europe/Berlin"), since=YEAR)
    assert str(gap) == (
        "schedule 'Shop.v1.s0': dst_gap: 02:30 does not exist and is skipped on Sunday 2027-03-28:"
        " 02:00 becomes 03:00 (+01:00 to +02:00) in Europe/Berlin; say dst_gap='next' (due at 03:00)"
        " or 'shift' (due at 03:30), or take a time of day that no change touches"
    )
    assert str(overlap) == (
        "schedule 'Shop.v1.s0': dst_overlap: 02:30 comes twice and is due the first time on Sunday"
        " 2027-10-31: 03:00 becomes 02:00 (+02:00 to +01:00) in Europe/Berlin; say"
        " dst_overlap='last' or 'both', or take a time of day that no change touches"
    )
    assert (gap.code, overlap.code) == ("dst-gap", "dst-overlap")


def test_a_word_other_than_the_default_is_meant():
    service = shop(NIGHTLY, timezone="Europe/Berlin", dst_gap="next", dst_overlap="both")
    assert codes(service, since=YEAR) == []
    service = shop(NIGHTLY, timezone="Europe/Berlin", dst_gap="shift")
    assert codes(service, since=YEAR) == ["dst-overlap"]
    service = shop(NIGHTLY, timezone="Europe/Berlin", dst_overlap="last")
    assert codes(service, since=YEAR) == ["dst-gap"]


def test_clock_changes_are_looked_for_within_the_horizon_only():
    service = shop(NIGHTLY, timezone="Europe/Berlin")
    assert codes(service) == []
    assert codes(service, since=YEAR, horizon=timedelta(days=80)) == []
    assert codes(service, since=YEAR, horizon=timedelta(days=100)) == ["dst-gap"]


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("*/30 * * * *", "Europe/Berlin"),
        ("30 * * * *", "Europe/Berlin"),
        ("30 2 1 * *", "Europe/Berlin"),
        ("30 2 * * *", "UTC"),
        ("30 2 * * *", "Asia/Tokyo"),
        ("30 1 * * *", "Africa/Cairo"),
    ],
)
def test_wildcards_and_times_that_meet_no_change_are_fine(text: str, zone: str):
    assert codes(shop(Cron(text), timezone=zone), since=YEAR) == []


@pytest.mark.parametrize(
    ("text", "zone", "part"),
    [
        ("30 0 * * *", "Africa/Cairo", "00:30 does not exist and is skipped on Friday 2027-04-30"),
        ("15 2 * * *", "Australia/Lord_Howe", "'next' (due at 02:30) or 'shift' (due at 02:45)"),
    ],
)
def test_gaps_of_every_kind_are_told(text: str, zone: str, part: str):
    found = advice(shop(Cron(text), timezone=zone), since=YEAR)
    assert part in str(next(one for one in found if one.code == "dst-gap"))


def test_a_gap_of_a_whole_day_is_told_with_both_dates():
    service = shop(Cron("0 12 * * *"), timezone="Pacific/Apia")
    (gap,) = advice(service, since=datetime(2011, 12, 1, tzinfo=UTC), horizon=timedelta(days=60))
    assert "'next' (due at 2011-12-31 00:00) or 'shift' (due at 2011-12-31 12:00)" in gap.remedy


def test_what_is_odd_in_an_expression_is_told_without_a_date():
    service = shop(Cron("*/7 * * * *"), Cron("0 0 13 * 5"), Cron("0 0 31 * *"))
    assert [(one.code, one.place) for one in advice(service)] == [
        ("uneven-step", "schedule 'Shop.v1.s0': expression: minute"),
        ("day-rule", "schedule 'Shop.v1.s1': expression: day of month and day of week"),
        ("short-month", "schedule 'Shop.v1.s2': expression: day of month"),
    ]


def test_many_schedules_in_the_same_minute_are_counted_over_all_services():
    one = shop(*[Cron("0 0 * * *")] * (PILE_UP - 4), timezone="Europe/Berlin")
    other = Service("Other")
    for number in range(4):
        other.add_schedule(renamed(one, f"o{number}"))
    assert codes(one, since=YEAR) == []
    (found,) = advice(one, other, since=YEAR)
    assert found.code == "pile-up"
    assert found.place == "schedules 'Other.v1.o0', 'Other.v1.o1', 'Other.v1.o2' and 7 more"
    assert found.message == (
        "10 schedules are due in the same minute, 2027-01-02 00:00 in Europe/Berlin,"
        " and 10 or more in 34 other minutes until 2027-02-05"
    )
    assert codes(one, other) == []


def renamed(service: Service, name: str) -> Schedule:
    return dataclasses.replace(service.schedules["s0"], name=name)


def test_a_single_pile_up_says_its_minute_in_utc_where_zones_differ():
    berlin = shop(*[Cron("0 1 9 1 *")] * 5, timezone="Europe/Berlin")
    utc = Service("Utc")
    for number in range(5):
        utc.schedule(f"u{number}").emit_event(
            "due", expression=Cron("0 0 9 1 *"), missed_run_policy="skip"
        )
    (found,) = advice(berlin, utc, since=YEAR)
    assert found.message == "10 schedules are due in the same minute, 2027-01-09 00:00 in UTC"


def test_holidays_that_run_out_within_the_horizon_are_told():
    known = HolidayCalendar("DE", date(2027, 1, 1), date(2027, 12, 31), (date(2027, 5, 1),))
    service = shop(Every(timedelta(hours=1)), exclude=[known, date(2027, 12, 24)])
    assert codes(service, since=YEAR, horizon=timedelta(days=364)) == []
    (found,) = advice(service, since=YEAR)
    assert str(found) == (
        "schedule 'Shop.v1.s0': exclude: the holidays of DE are known until 2027-12-31 only;"
        " name more years"
    )


@pytest.mark.parametrize(
    ("options", "is_told"),
    [
        ({"misfire_grace": timedelta(0)}, True),
        ({"misfire_grace": timedelta(seconds=59)}, True),
        ({"misfire_grace": timedelta(minutes=1)}, False),
        ({"misfire_grace": timedelta(0), "jitter": timedelta(minutes=1)}, False),
        ({"misfire_grace": timedelta(0), "missed_run_policy": "runOnce"}, False),
    ],
)
def test_a_grace_that_no_trigger_keeps_is_told(options: dict[str, Any], is_told: bool):
    assert codes(shop(Cron("0 4 * * *"), **options)) == ["misfire-grace"] * is_told


def test_a_schedule_that_is_due_no_more_is_told():
    past = datetime(2026, 12, 31, 23, tzinfo=UTC)
    (once,) = advice(shop(Once(past)), since=YEAR)
    (ended,) = advice(shop(Cron("0 4 * * *"), end_at=past), since=YEAR)
    assert {once.code, ended.code} == {"nothing-due"}
    assert once.message == "nothing is due any more; the last nominal time was 2026-12-31 23:00 UTC"
    assert codes(shop(Once(past))) == []
    assert codes(shop(Once(YEAR + timedelta(days=1))), since=YEAR) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("* 2 1 * *", "'*' is each minute of hour 2"),
        ("*/1 2,14 * * *", "'*/1' is each minute of hour 2 and 14"),
        ("* 9-17 * * 1-5", None),
        ("* * 1 * *", None),
        ("* */2 * * *", None),
        ("0 2 1 * *", None),
    ],
)
def test_a_star_before_fixed_times_is_told(text: str, message: str | None):
    found = advice(shop(Cron(text)))
    assert [(one.code, one.message) for one in found] == (
        [("every-one", message)] if message else []
    )


def test_a_star_of_seconds_before_fixed_minutes_is_told():
    (found,) = advice(shop(Cron("* 0 2 * * *", seconds=True)))
    assert found.place.endswith("expression: second")
    assert found.remedy == "write 0 to be due once, or 0-59 if that is meant"


@pytest.mark.parametrize(
    ("every", "zone", "is_told"),
    [
        (Every(timedelta(days=1)), "Europe/Berlin", True),
        (Every(timedelta(days=7)), "Europe/London", True),
        (Every(timedelta(days=1)), "Etc/UTC", False),
        (Every(timedelta(hours=6)), "Europe/Berlin", False),
        (Every(timedelta(days=1), anchor=YEAR), "Europe/Berlin", False),
    ],
)
def test_days_that_are_counted_in_utc_are_told(every: Every, zone: str, is_told: bool):
    assert codes(shop(every, timezone=zone)) == ["interval-zone"] * is_told

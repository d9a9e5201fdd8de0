from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from purista import ContractError, Cron, Every, Expression, Once, Service
from purista.clockchange import (
    ClockChange,
    Effect,
    Timing,
    clock_change,
    clock_changes,
    mark,
    offset_text,
    times_text,
)
from purista.firetimes import LATEST, transitions

YEAR = datetime(2027, 1, 1, tzinfo=UTC)
NEXT_YEAR = datetime(2028, 1, 1, tzinfo=UTC)

CHANGES = {
    "an hour": ("Europe/Berlin", 2027),
    "an hour, west": ("America/New_York", 2027),
    "thirty minutes": ("Australia/Lord_Howe", 2027),
    "a whole day left out": ("Pacific/Apia", 2011),
    "a whole day left out, from west to east": ("Pacific/Kwajalein", 1993),
    "at midnight, by the end of the day": ("Africa/Cairo", 2027),
    "at midnight, in the south": ("America/Asuncion", 2023),
    "at midnight, back over it": ("America/Havana", 2027),
    "the standard offset, half an hour on": ("America/Caracas", 2016),
    "the standard offset, half an hour back": ("Asia/Pyongyang", 2015),
    "the standard offset, an hour back": ("Europe/Moscow", 2014),
    "forty-four and a half minutes": ("Africa/Monrovia", 1972),
    "around Ramadan": ("Africa/Casablanca", 2025),
    "two hours": ("Antarctica/Troll", 2027),
}
AROUND = timedelta(hours=36)
TEXTS = [
    "30 2 * * *",
    "0 0 * * *",
    "0,30 0-4 * * *",
    "7 0-23 * * *",
    "0 12 30 12 *",
    "15 23 * * 5",
    "15 * * * *",
    "*/20 1-3 * * *",
    "* * * * *",
]
WORDS = [
    (gap, overlap) for gap in ("skip", "next", "shift") for overlap in ("first", "last", "both")
]


def walk(cron: Cron, start: datetime, end: datetime) -> Iterator[datetime]:
    """Yield the local times that match, day by day and minute by minute, as if no clock changed."""
    days = (end - start).days
    for day in (start.date() + timedelta(days=number) for number in range(days)):
        weekday = day.isoweekday() % 7
        fits = day.month in cron.month.values and day.day in cron.day_of_month.values
        if fits and weekday in cron.day_of_week.values:
            for hour in cron.hour.values:
                for minute in cron.minute.values:
                    yield datetime(day.year, day.month, day.day, hour, minute)


def passes(local: datetime, zone: ZoneInfo) -> list[datetime]:
    """Return the instants at which a zone's clock shows a local time: none, one or two."""
    found = {local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(at for at in found if at.astimezone(zone).replace(tzinfo=None) == local)


def account(cron: Cron, zone: ZoneInfo, at: datetime) -> tuple[list[datetime], set[datetime]]:
    """Return the odd local times around an instant and the instants of the others, by the walk."""
    odd, plain = [], set()
    for local in walk(cron, at - timedelta(days=3), at + timedelta(days=4)):
        found = passes(local, zone)
        if len(found) == 1:
            plain |= {one for one in found if abs(one - at) <= AROUND}
        else:
            odd.append(local)
    return odd, plain


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("change", CHANGES)
def test_the_effects_account_for_what_differs_from_a_plain_walk_over_the_wall_clock(
    change: str, text: str
):
    zone, year = CHANGES[change]
    cron, start = Cron(text), datetime(year, 1, 1, tzinfo=UTC)
    for transition in transitions(zone, start, start + timedelta(days=365)):
        at = transition.instant
        odd, plain = account(cron, ZoneInfo(zone), at)
        for gap, overlap in WORDS:
            timing = Timing(cron, zone, gap, overlap)
            found = clock_change(timing, transition)
            assert list(found.local_times) == odd
            assert list(found.instants) == sorted(found.instants)
            assert plain | {*found.instants} == {*timing.between(at - AROUND, at + AROUND)}
            assert (found.effect == Effect.UNAFFECTED) == (not odd)
            assert list(clock_changes(timing, at, at)) == ([found] if odd else [])


@pytest.mark.parametrize(
    ("gap", "overlap", "spring", "autumn"),
    [
        ("skip", "first", ("skipped", []), ("first", ["2027-10-31T00:30:00"])),
        (
            "next",
            "last",
            ("moved", ["2027-03-28T01:00:00"]),
            ("last", ["2027-10-31T01:30:00"]),
        ),
        (
            "shift",
            "both",
            ("moved", ["2027-03-28T01:30:00"]),
            ("doubled", ["2027-10-31T00:30:00", "2027-10-31T01:30:00"]),
        ),
    ],
)
def test_a_fixed_time_does_what_its_words_say(
    gap: str, overlap: str, spring: tuple[str, list[str]], autumn: tuple[str, list[str]]
):
    timing = Timing(Cron("30 2 * * *"), "Europe/Berlin", gap, overlap)
    found = list(clock_changes(timing, YEAR, NEXT_YEAR))
    assert [one.local_times for one in found] == [
        (datetime(2027, 3, 28, 2, 30),),
        (datetime(2027, 10, 31, 2, 30),),
    ]
    shown = [(str(one.effect), [at.isoformat()[:-6] for at in one.instants]) for one in found]
    assert shown == [spring, autumn]


def test_a_wildcard_follows_the_wall_clock_whatever_the_words_say():
    for gap, overlap in WORDS:
        timing = Timing(Cron("*/30 * * * *"), "Europe/Berlin", gap, overlap)
        spring, autumn = clock_changes(timing, YEAR, NEXT_YEAR)
        assert (spring.effect, len(spring.local_times), spring.instants) == ("skipped", 2, ())
        assert (autumn.effect, len(autumn.local_times), len(autumn.instants)) == ("doubled", 2, 4)


def test_times_that_move_to_one_instant_are_one():
    timing = Timing(Cron("0,15,30 2,3 * * *"), "Europe/Berlin", "next")
    spring = next(clock_changes(timing, YEAR, NEXT_YEAR))
    assert len(spring.local_times) == 3
    assert spring.instants == (datetime(2027, 3, 28, 1, tzinfo=UTC),)


def test_a_day_that_is_left_out_moves_its_times_to_the_next_day():
    timing = Timing(Cron("0 12 * * *"), "Pacific/Apia", "shift")
    start = datetime(2011, 12, 1, tzinfo=UTC)
    (change,) = clock_changes(timing, start, start + timedelta(days=31))
    assert change.local_times == (datetime(2011, 12, 30, 12),)
    assert change.instants == (datetime(2011, 12, 30, 22, tzinfo=UTC),)
    assert mark(timing, change.instants[0]) == ("also 2011-12-30 12:00, moved by the clock change")


def test_changes_come_lazily_in_order_with_both_ends_inclusive():
    timing = Timing(Cron("* * * * *"), "Europe/Berlin")
    first, second = islice(clock_changes(timing, YEAR, LATEST), 2)
    assert first.transition.instant == datetime(2027, 3, 28, 1, tzinfo=UTC)
    again = clock_changes(timing, first.transition.instant, second.transition.instant)
    assert list(again) == [first, second]


@pytest.mark.parametrize("expression", [Every(timedelta(minutes=30)), Once(NEXT_YEAR)])
def test_intervals_and_one_shots_meet_no_clock_change(expression: Expression):
    timing = Timing(expression, "Europe/Berlin", "shift", "both")
    assert list(clock_changes(timing, YEAR, LATEST)) == []
    for transition in transitions("Europe/Berlin", YEAR, NEXT_YEAR):
        assert clock_change(timing, transition) == ClockChange(transition, Effect.UNAFFECTED)
        assert mark(timing, transition.instant) == ""


@pytest.mark.parametrize("gap", ["skip", "next", "shift"])
@pytest.mark.parametrize(
    "bounds",
    [
        {"start_at": datetime(2027, 10, 31, 2, tzinfo=UTC)},
        {"end_at": datetime(2027, 3, 28, 0, 59, tzinfo=UTC)},
        {"start_at": datetime(2027, 4, 1, tzinfo=UTC), "end_at": datetime(2027, 10, 1, tzinfo=UTC)},
    ],
)
def test_what_lies_outside_the_bounds_is_not_met(gap: str, bounds: dict[str, datetime]):
    timing = Timing(Cron("30 2 * * *"), "Europe/Berlin", gap, "both", **bounds)
    assert list(clock_changes(timing, YEAR, NEXT_YEAR)) == []


def test_bounds_inside_an_overlap_leave_one_pass():
    at = datetime(2027, 10, 31, 1, tzinfo=UTC)
    early = Timing(Cron("30 * * * *"), "Europe/Berlin", end_at=at)
    late = Timing(Cron("30 * * * *"), "Europe/Berlin", start_at=at)
    assert [one.effect for one in clock_changes(early, at, at)] == ["first"]
    assert [one.effect for one in clock_changes(late, at, at)] == ["last"]


def test_a_schedule_of_a_service_is_taken_as_well():
    service = Service("Nightly")
    schedule = service.schedule("purge").emit_event(
        "due", expression=Cron("30 2 * * *"), timezone="Europe/Berlin", dst_gap="next"
    )
    found = list(clock_changes(schedule, YEAR, NEXT_YEAR))
    assert [one.effect for one in found] == [Effect.MOVED, Effect.FIRST]
    assert [mark(schedule, at) for one in found for at in one.instants] == [
        "moved from 02:30 by the clock change",
        "first of two 02:30",
    ]


@pytest.mark.parametrize("gap", ["skip", "next", "shift"])
def test_what_an_excluded_day_would_have_done_is_not_met(gap: Any):
    schedule = (
        Service("Nightly")
        .schedule("purge")
        .emit_event(
            "due",
            expression=Cron("30 2 * * *"),
            timezone="Europe/Berlin",
            dst_gap=gap,
            exclude=[date(2027, 3, 28), date(2027, 10, 31)],
        )
    )
    assert list(clock_changes(schedule, YEAR, NEXT_YEAR)) == []


def test_a_timing_refuses_unknown_words_and_zones_all_at_once():
    with pytest.raises(ContractError) as caught:
        Timing(Cron("0 2 * * *"), "Berlin", "jump", "twice")
    assert [problem.place for problem in caught.value.problems] == [
        "timezone",
        "dst_gap",
        "dst_overlap",
    ]


def marks(timing: Timing, *day: Any) -> list[str]:
    start = datetime(*day, tzinfo=UTC)
    return [
        found
        for at in timing.between(start, start + timedelta(days=1))
        if (found := mark(timing, at))
    ]


def test_a_mark_says_what_moved_and_what_is_due_anyway():
    berlin, day = "Europe/Berlin", (2027, 3, 28)
    assert marks(Timing(Cron("30 2 * * *"), berlin, "shift"), *day) == [
        "moved from 02:30 by the clock change"
    ]
    assert marks(Timing(Cron("0,15,30,45 2,3 * * *"), berlin, "next"), *day) == [
        "also 02:00 to 02:45 (4 times), moved by the clock change"
    ]
    assert marks(Timing(Cron("30 0-6 * * *"), berlin, "skip"), *day) == []
    assert marks(Timing(Cron("30 0-6 * * *"), berlin, "shift"), *day) == [
        "also 02:30, moved by the clock change"
    ]
    assert marks(Timing(Cron("30 1,5 * * *"), berlin, "next"), *day) == []
    assert marks(Timing(Cron("30 1,5 * * *"), berlin, "shift"), *day) == []


def test_a_mark_tells_the_two_passes_apart():
    timing = Timing(Cron("*/30 * * * *"), "Europe/Berlin")
    assert marks(timing, 2027, 10, 31) == [
        "first of two 02:00",
        "first of two 02:30",
        "second of two 02:00",
        "second of two 02:30",
    ]


@pytest.mark.parametrize("change", CHANGES)
def test_exactly_the_instants_of_a_clock_change_are_marked(change: str):
    zone, year = CHANGES[change]
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    for gap, overlap in WORDS:
        timing = Timing(Cron("10,40 0-23 * * *"), zone, gap, overlap)
        odd = {at for one in clock_changes(timing, start, end) for at in one.instants}
        for transition in transitions(zone, start, end):
            near = timing.between(
                transition.instant - timedelta(days=2), transition.instant + timedelta(days=2)
            )
            assert all((mark(timing, at) != "") == (at in odd) for at in near)


def test_times_say_their_date_only_where_it_is_another():
    times = [datetime(2027, 3, 28, 23, minute) for minute in range(0, 60, 20)]
    midnight = datetime(2027, 3, 29)
    assert times_text(times, date(2027, 3, 28)) == "23:00, 23:20 and 23:40"
    assert times_text(times[:2], date(2027, 3, 1)) == "2027-03-28 23:00 and 23:20"
    assert (
        times_text([*times, midnight], date(2027, 3, 28)) == "23:00 to 2027-03-29 00:00 (4 times)"
    )
    assert times_text([midnight.replace(second=5)], midnight.date()) == "00:00:05"


def test_an_offset_is_written_with_its_sign():
    shown = [offset_text(timedelta(seconds=seconds)) for seconds in (0, 3600, -12600, 49500, -2670)]
    assert shown == ["+00:00", "+01:00", "-03:30", "+13:45", "-00:44:30"]

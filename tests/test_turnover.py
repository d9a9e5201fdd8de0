from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.expression import Cron, Every, Once
from purista.timetable import Timetable
from purista.turnover import FIRST, Horizon, Tally, only_in, turnover

YEAR = Horizon(datetime(2027, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC))
EPOCH = datetime(2027, 1, 1, tzinfo=UTC)
INSTANTS = st.sets(st.integers(0, 60)).map(
    lambda found: [EPOCH + timedelta(minutes=each) for each in sorted(found)]
)


def at_two(timezone: str) -> Timetable:
    return Timetable(Cron("0 2 1 * *"), timezone)


@given(INSTANTS, INSTANTS)
def test_the_walk_finds_what_sets_find(these: list[datetime], those: list[datetime]):
    assert list(only_in(these, those)) == sorted(set(these) - set(those))


def test_a_later_hour_moves_every_time():
    moved = turnover(at_two("UTC"), Timetable(Cron("0 3 1 * *")), YEAR)
    assert moved
    assert (moved.disappear.count, moved.appear.count) == (12, 12)
    assert moved.disappear.first == tuple(
        datetime(2027, month, 1, 2, tzinfo=UTC) for month in (1, 2, 3)
    )
    assert moved.appear.last == datetime(2027, 12, 1, 3, tzinfo=UTC)


def test_only_what_differs_moves():
    half = turnover(
        Timetable(Every(timedelta(hours=2))), Timetable(Every(timedelta(hours=1))), YEAR
    )
    assert not half.disappear
    assert half.appear.count == 365 * 12
    assert half.appear.first[0] == datetime(2027, 1, 1, 1, tzinfo=UTC)


def test_another_zone_moves_by_its_offset_at_each_date():
    moved = turnover(at_two("UTC"), at_two("Europe/Berlin"), YEAR)
    hours = {at.month: at.hour for at in moved.appearing()}
    assert (hours[7], hours[11]) == (0, 1)
    assert moved.disappear.count == moved.appear.count == 12


def test_what_comes_or_goes_moves_all_its_times():
    came = turnover(None, at_two("UTC"), YEAR)
    went = turnover(at_two("UTC"), None, YEAR)
    assert (came.disappear, came.appear.count) == (Tally(), 12)
    assert (went.disappear, went.appear) == (came.appear, Tally())


@pytest.mark.parametrize("same", [None, at_two("Europe/Berlin")])
def test_what_stays_moves_nothing(same: Timetable | None):
    moved = turnover(same, same, YEAR)
    assert not moved
    assert (moved.disappear, moved.appear) == (Tally(), Tally())
    assert list(moved.appearing()) == list(moved.disappearing()) == []


def test_another_name_of_the_same_clock_moves_nothing():
    assert not turnover(at_two("UTC"), at_two("Etc/UTC"), YEAR)


def test_both_ends_of_the_horizon_count():
    moment = Horizon(YEAR.start, YEAR.start)
    assert turnover(None, Timetable(Once(YEAR.start)), moment).appear.count == 1
    assert not turnover(None, Timetable(Once(YEAR.start + timedelta(seconds=1))), moment)


def test_a_tally_holds_the_first_few_and_the_last():
    few = turnover(None, Timetable(Every(timedelta(days=200), YEAR.start)), YEAR).appear
    assert (few.count, len(few.first), few.last) == (2, 2, few.first[-1])
    many = turnover(None, Timetable(Every(timedelta(days=1))), YEAR).appear
    assert (many.count, len(many.first), many.last) == (366, FIRST, YEAR.end)


def test_lists_are_lazy_however_long_the_horizon_is():
    two_centuries = Horizon(datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
    once, each_second = Timetable(Once(YEAR.start)), Timetable(Every(timedelta(seconds=1)))
    moved = turnover(once, Timetable(Once(YEAR.end)), two_centuries)
    endless = type(moved)(once, each_second, two_centuries, moved.disappear, moved.appear)
    assert len(list(islice(endless.appearing(), 5))) == 5


def test_the_lists_are_as_long_as_the_tallies_say():
    moved = turnover(
        Timetable(Cron("*/7 * * * *"), "Europe/Berlin"), Timetable(Cron("*/5 3 * * *")), YEAR
    )
    assert len(list(moved.disappearing())) == moved.disappear.count
    assert len(list(moved.appearing())) == moved.appear.count

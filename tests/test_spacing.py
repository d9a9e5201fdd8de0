"""How far apart nominal times are, and whether that is always the same."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dialects import HORIZON, ZONES, crons

from purista import Cron, Every, Expression, Once, Schedule, Service
from purista.exclusion import DateRange
from purista.spacing import SAMPLE, is_even, least_gap, shortest_gap

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
HOLIDAY = DateRange(date(2027, 12, 24), date(2027, 12, 26))


def due(expression: Expression, **options: Any) -> Schedule:
    return Service("Shop").schedule("s").emit_event("due", expression=expression, **options)


@pytest.mark.parametrize(
    ("expression", "gap"),
    [
        (Cron("*/5 * * * *"), 5 * MINUTE),
        (Cron("*/7 * * * *"), 4 * MINUTE),
        (Cron("0 2 * * *"), 24 * HOUR),
        (Cron("0 8,9,20 * * *"), HOUR),
        (Cron("0 0 1 * *"), 28 * 24 * HOUR),
        (Every(timedelta(seconds=90)), 1.5 * MINUTE),
        (Once(datetime(2027, 1, 1, tzinfo=UTC)), None),
        (Once(datetime(2020, 1, 1, tzinfo=UTC)), None),
    ],
)
def test_the_shortest_gap_is_found(expression: Expression, gap: timedelta | None):
    assert shortest_gap(due(expression), HORIZON) == gap


def test_a_clock_change_shortens_a_gap():
    assert shortest_gap(due(Cron("0 12 * * *"), timezone="Europe/Berlin"), HORIZON) == 23 * HOUR


def test_only_so_many_times_are_looked_at():
    rarely = due(Cron("0,1 0 1 1 *"), start_at=datetime(2035, 1, 1, tzinfo=UTC))
    assert shortest_gap(rarely, HORIZON) == MINUTE
    assert SAMPLE < 1000


@settings(deadline=None)
@given(crons(), st.sampled_from(ZONES))
def test_times_that_are_called_even_are_equally_far_apart(cron: Cron, zone: str):
    schedule = due(cron, timezone=zone)
    if is_even(schedule, HORIZON):
        times = schedule.between(HORIZON.start, HORIZON.start + timedelta(days=800))
        assert len({after - before for before, after in pairwise(times)}) == 1


@pytest.mark.parametrize(
    ("text", "zone", "even"),
    [
        ("0 2 * * *", "UTC", True),
        ("0 2 * * *", "Asia/Tokyo", True),
        ("0 2 * * *", "Europe/Berlin", False),
        ("0 2 * * MON", "UTC", True),
        ("0 2 * * MON,TUE", "UTC", False),
        ("0 2,14 * * MON", "UTC", False),
        ("0 2 * * MON#1", "UTC", False),
        ("0 2 1 * *", "UTC", False),
        ("0 2 * 1-11 *", "UTC", False),
        ("30 5,17 * * *", "UTC", True),
        ("0 12,23 * * *", "UTC", False),
        ("0 13,23 * * *", "UTC", False),
        ("0 8,9,20 * * *", "UTC", False),
        ("30 6-16/4 * * *", "UTC", False),
        ("*/7 * * * *", "UTC", False),
        ("*/5 * * * *", "Europe/Berlin", True),
        ("30 * * * *", "Europe/Berlin", True),
        ("30 0-23 * * *", "Europe/Berlin", False),
        ("0 * * * *", "Australia/Lord_Howe", False),
        ("*/50 * * * *", "UTC", False),
    ],
)
def test_which_cron_expressions_are_even(text: str, zone: str, even: bool):
    assert is_even(due(Cron(text), timezone=zone), HORIZON) == even


def test_seconds_and_excluded_days_are_not_even_and_intervals_are():
    assert not is_even(due(Cron("30 0 2 * * *", seconds=True)), HORIZON)
    assert is_even(due(Every(7 * MINUTE)), HORIZON)
    assert not is_even(due(Every(7 * MINUTE), exclude=[HOLIDAY]), HORIZON)
    assert not is_even(due(Cron("0 2 * * *"), exclude=[HOLIDAY]), HORIZON)
    assert not is_even(due(Once(datetime(2027, 1, 1, tzinfo=UTC))), HORIZON)


@settings(deadline=None)
@given(crons(), st.sampled_from(ZONES))
def test_no_two_times_are_closer_than_the_least_gap(cron: Cron, zone: str):
    schedule = due(cron, timezone=zone)
    least = least_gap(schedule, HORIZON)
    times = islice(schedule.between(HORIZON.start, HORIZON.start + timedelta(days=800)), 3000)
    assert all(after - before >= least for before, after in pairwise(times))


@pytest.mark.parametrize(
    ("expression", "zone", "least"),
    [
        (Cron("0 2 * * *"), "UTC", 24 * HOUR),
        (Cron("0 4 * * *"), "Europe/Berlin", 23 * HOUR),
        (Cron("30 2 * * *"), "Europe/Berlin", timedelta(0)),
        (Cron("0 2 1 * *"), "UTC", 28 * 24 * HOUR),
        (Cron("0 2 * * MON"), "UTC", 7 * 24 * HOUR),
        (Cron("0 8,9,20 * * *"), "UTC", HOUR),
        (Cron("30 0 2 * * *", seconds=True), "UTC", timedelta(0)),
        (Every(7 * MINUTE), "UTC", 7 * MINUTE),
    ],
)
def test_the_least_gap_is_what_is_certain(expression: Expression, zone: str, least: timedelta):
    assert least_gap(due(expression, timezone=zone), HORIZON) == least


def test_a_one_shot_has_nothing_beside_it():
    once = due(Once(datetime(2027, 1, 1, tzinfo=UTC)))
    assert least_gap(once, HORIZON) == HORIZON.end - HORIZON.start

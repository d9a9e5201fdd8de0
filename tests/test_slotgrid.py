"""A sender that is told only the time of day finds its slot."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dialects import DIALECTS, HORIZON, ZONES, crons, possible

from purista import Cron
from purista.cover import Line
from purista.expression import EPOCH
from purista.slot import SlotGrid
from purista.slotgrid import grid_of

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def grid(text: str, zone: str = "UTC") -> SlotGrid:
    seconds = len(text.split()) == 6
    return grid_of([Line(Cron(text, seconds=seconds), zone)], HORIZON)


STILL = [name for name, one in sorted(DIALECTS.items()) if one.dst_gap in {"skip", "shift"}]
LINES = st.lists(st.builds(Line, crons(), st.sampled_from(ZONES)), min_size=1, max_size=3)


@settings(deadline=None)
@given(LINES, st.sampled_from(STILL), st.integers(0, 3300))
def test_every_fire_of_the_lines_is_its_own_slot(lines: list[Line], name: str, day: int):
    dialect = DIALECTS[name]
    found = grid_of(lines, HORIZON)
    start = HORIZON.start + day * DAY
    for at in possible(lines, dialect, start, start + 200 * DAY):
        assert found.slot(at) == at


@settings(deadline=None)
@given(LINES)
def test_the_grid_divides_a_day_and_is_the_coarsest_that_holds_all_times(lines: list[Line]):
    """In a zone without clock changes: the fires of four years are all there are."""
    fixed = [Line(line.cron, "Asia/Tokyo") for line in lines]
    found = grid_of(fixed, HORIZON)
    assert 86_400 % found.period == 0
    assert 0 <= found.phase < found.period
    times = {
        (3600 * (hour - 9) + 60 * minute) % 86_400
        for line in fixed
        for hour in line.cron.hour.values
        for minute in line.cron.minute.values
    }
    (first, *others) = sorted(times)
    assert found.period == gcd(86_400, *(other - first for other in others))
    assert found.phase == first % found.period


@given(
    st.sampled_from([60, 300, 1800, 3600, 43_200, 86_400]),
    st.integers(0, 59),
    st.datetimes(datetime(2026, 1, 1), datetime(2035, 1, 1)),
    st.floats(0, 1, exclude_max=True),
)
def test_a_start_that_is_late_by_less_than_a_period_finds_its_slot(
    period: int, phase: int, near: datetime, late: float
):
    found = SlotGrid(period, phase)
    slot = found.slot(near.replace(tzinfo=UTC))
    assert ((slot - EPOCH) // SECOND - phase) % period == 0
    assert slot <= near.replace(tzinfo=UTC) < slot + period * SECOND
    assert found.slot(slot + late * (period * SECOND - SECOND)) == slot
    assert found.slot(slot - SECOND) < slot


@pytest.mark.parametrize(
    ("text", "zone", "period", "phase"),
    [
        ("0 2 * * *", "UTC", 86_400, 7200),
        ("30 */6 * * *", "UTC", 21_600, 1800),
        ("*/7 * * * *", "UTC", 60, 0),
        ("*/15 9-17 * * *", "UTC", 900, 0),
        ("0 9 * * *", "Asia/Kolkata", 86_400, 12_600),
        ("0 12 * * *", "Europe/Berlin", 3600, 0),
        ("0 12 * * *", "Australia/Lord_Howe", 1800, 0),
        ("10 0 4 * * *", "UTC", 86_400, 14_410),
        ("59 23 * * *", "UTC", 86_400, 86_340),
    ],
)
def test_a_grid_is_as_coarse_as_can_be(text: str, zone: str, period: int, phase: int):
    assert grid(text, zone) == SlotGrid(period, phase)


def test_lines_share_a_grid():
    lines = [Line(Cron("0 2 * * *"), "UTC"), Line(Cron("0 3 * 3 SUN"), "UTC")]
    assert grid_of(lines, HORIZON) == SlotGrid(3600, 0)


def test_what_a_gap_moves_to_its_end_is_on_the_grid_of_a_further_line():
    """Debian's cron runs 02:30 at 03:00 where the clock is put forward."""
    gap = datetime(2027, 3, 28, 1, tzinfo=UTC)
    line = Line(Cron("30 2 * * *"), "Europe/Berlin")
    assert grid_of([line], HORIZON) == SlotGrid(3600, 1800)
    found = grid_of([line, Line(Cron("0 1 28 3 *"), "UTC")], HORIZON)
    assert found == SlotGrid(1800, 0)
    assert found.slot(gap + 7 * SECOND) == gap

"""Times of day and the hour and minute fields that name them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from purista import Cron
from purista.timecover import DAY, TimeCover, moved, time_cover, times_mask

MASKS = st.sets(st.integers(0, DAY - 1), min_size=1, max_size=8).map(
    lambda times: sum(1 << time for time in times)
)
PRODUCTS = st.builds(
    times_mask,
    st.sets(st.integers(0, 23), min_size=1),
    st.integers(1, (1 << 60) - 1),
)


def said(found: TimeCover) -> list[int]:
    """Return the times of day of each line, as a mask."""
    crons = [Cron(f"{line.minute} {line.hour} * * *") for line in found.lines]
    return [times_mask(cron.hour.values, cron.minute.mask) for cron in crons]


def test_a_mask_has_every_hour_with_every_minute():
    assert times_mask([1, 3], 0b101) == 0b101 << 60 | 0b101 << 180
    assert times_mask([], 0b101) == 0


@given(MASKS | PRODUCTS, st.integers(1, 24))
def test_lines_cover_the_times_and_exact_ones_are_they(mask: int, most: int):
    found = time_cover(mask, most=most)
    lines = said(found)
    union = sum(lines) if found.exact else lines[0]
    assert mask & ~union == 0
    assert len(lines) <= most
    assert found.exact == (union == mask)


@given(PRODUCTS)
def test_hours_with_the_same_minutes_share_a_line(mask: int):
    found = time_cover(mask, most=1)
    assert len(found.lines) == 1
    assert found.exact


@given(MASKS, st.integers(1 - DAY, DAY - 1))
def test_times_move_over_midnight_to_the_day_before_or_after(mask: int, minutes: int):
    there = moved(mask, minutes)
    times = {time for time in range(DAY) if mask >> time & 1}
    assert {
        delta * DAY + time
        for delta, part in there.items()
        for time in range(DAY)
        if part >> time & 1
    } == {time + minutes for time in times}
    assert set(there) <= {-1, 0, 1}
    assert all(0 < part < 1 << DAY for part in there.values())


def test_lines_have_stars_where_these_say_it():
    every_half_hour = times_mask(range(24), 1 | 1 << 30)
    assert time_cover(every_half_hour, most=1).lines == (("*/30", "*"),)
    assert time_cover(times_mask([2, 14], 1), most=1).lines == (("0", "2,14"),)

from datetime import timedelta

import pytest

from purista.bridges.deadlines import BATCH, Deadlines, Lanes
from purista.testing import ManualClock

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Target:
    def __init__(self, seen, name=""):
        self.seen = seen
        self.name = name
        self.ticket = 0

    def expire(self):
        self.seen.append(self.name)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def deadlines(clock):
    return Deadlines(clock)


async def test_targets_expire_in_the_order_of_their_deadlines(clock, deadlines):
    seen = []
    for name in (3, 1, 2):
        deadlines.set(Target(seen, name), name)
    await clock.advance(2 * SECOND)
    assert seen == [1, 2]
    await clock.advance(SECOND)
    assert seen == [1, 2, 3]


async def test_one_timer_waits_for_the_earliest(clock, deadlines):
    for seconds in (30, 20, 10, 40):
        deadlines.set(Target([]), seconds)
    assert clock.next_timer == clock.now() + 10 * SECOND
    assert sum(timer.is_pending for _, _, timer in clock._heap) == 1


async def test_a_cleared_deadline_does_not_pass(clock, deadlines):
    seen = []
    target = Target(seen)
    deadlines.set(target, 1)
    deadlines.clear(target)
    deadlines.clear(target)
    await clock.advance(HOUR)
    assert seen == []


async def test_a_later_deadline_takes_the_place_of_the_earlier(clock, deadlines):
    seen = []
    target = Target(seen)
    for seconds in (5, 1, 10):
        deadlines.set(target, seconds)
    await clock.advance(9 * SECOND)
    assert seen == []
    await clock.advance(SECOND)
    assert len(seen) == 1


async def test_a_target_can_be_set_anew_as_it_expires(clock, deadlines):
    class Recurring(Target):
        def expire(self):
            self.seen.append(clock.monotonic())
            deadlines.set(self, clock.monotonic() + 1)

    target = Recurring([])
    deadlines.set(target, 1)
    await clock.advance(3 * SECOND)
    assert target.seen == [1, 2, 3]


async def test_cleared_deadlines_do_not_pile_up(deadlines):
    kept = [Target([]) for _ in range(10)]
    for each in kept:
        deadlines.set(each, 3600)
    target = Target([])
    for _ in range(10_000):
        deadlines.set(target, 3600)
    deadlines.clear(target)
    assert len(deadlines) < 200
    assert all(each.ticket for each in kept)


async def test_very_many_expire_with_turns_for_the_event_loop_in_between(clock, deadlines):
    seen = []
    for _ in range(2 * BATCH + 1):
        deadlines.set(Target(seen), 1)
    clock._elapsed = SECOND
    deadlines.expire()
    assert len(seen) == BATCH
    await clock.settle()
    assert len(seen) == 2 * BATCH + 1


async def test_a_deadline_further_away_than_clocks_count_is_kept(clock, deadlines):
    seen = []
    deadlines.set(Target(seen), timedelta.max.total_seconds())
    await clock.advance(timedelta(days=3660))
    assert seen == []


async def test_nothing_passes_after_close(clock, deadlines):
    seen = []
    cleared, target = Target(seen), Target(seen)
    deadlines.set(cleared, 1)
    deadlines.clear(cleared)
    deadlines.set(target, 1)
    deadlines.close()
    await clock.advance(HOUR)
    assert (seen, target.ticket, len(deadlines), clock.next_timer) == ([], 0, 0, None)


async def test_a_float_that_is_a_little_late_is_not_waited_for_again(clock, deadlines):
    """A tenth of a second has no float: 0.1 + 0.2 is later than three tenths."""
    seen = []
    deadlines.set(Target(seen), 0.1 + 0.2)
    await clock.advance(timedelta(seconds=0.3))
    assert len(seen) == 1


async def test_deadlines_of_a_lane_pass_in_the_order_in_which_they_were_set(clock, deadlines):
    seen = []
    lanes = Lanes(deadlines, lambda key: seen.append((key, clock.monotonic())))
    for key in ("a", "b", "c"):
        lanes[SECOND].set(key, clock.monotonic())
        await clock.advance(SECOND / 4)
    del lanes[SECOND].keys["b"]
    await clock.advance(HOUR)
    assert seen == [("a", 1), ("c", 1.5)]


async def test_a_lane_that_is_empty_when_its_deadline_comes_is_forgotten(clock, deadlines):
    lanes = Lanes(deadlines, print)
    for seconds in range(1, 100):
        lane = lanes[seconds * SECOND]
        lane.set("key", clock.monotonic())
        del lane.keys["key"]
    assert len(lanes) == 99
    await clock.advance(100 * SECOND)
    assert (len(lanes), clock.next_timer) == (0, None)


async def test_a_deadline_that_is_cleared_by_another_that_passes_does_not_pass(clock, deadlines):
    seen = []

    def passed(key):
        seen.append(key)
        lanes[SECOND].keys.pop("b", None)

    lanes = Lanes(deadlines, passed)
    for key in ("a", "b"):
        lanes[SECOND].set(key, 0.0)
    await clock.advance(SECOND)
    assert seen == ["a"]


async def test_a_deadline_set_in_a_lane_as_another_passes_holds_up_none(clock, deadlines):
    seen = []

    def passed(key):
        seen.append((key, clock.monotonic()))
        if key == "a":
            lanes[SECOND].set("new", clock.monotonic())

    lanes = Lanes(deadlines, passed)
    lanes[SECOND].set("a", 0.0)
    await clock.advance(SECOND / 2)
    lanes[SECOND].set("b", 0.5)
    await clock.advance(HOUR)
    assert seen == [("a", 1), ("b", 1.5), ("new", 2)]


async def test_very_many_in_one_lane_pass_in_order(clock, deadlines):
    seen = []
    lanes = Lanes(deadlines, seen.append)
    for key in range(3 * BATCH):
        lanes[SECOND].set(key, 0.0)
    await clock.advance(SECOND)
    assert seen == list(range(3 * BATCH))

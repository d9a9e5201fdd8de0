import asyncio
import contextvars
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from purista.clock import Clock
from purista.testing import ManualClock, manual_clock

START = datetime(2027, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


def noting(clock: ManualClock, seen: list[datetime]) -> Callable[[], None]:
    return lambda: seen.append(clock.now())


def test_it_starts_at_a_fixed_instant_in_utc():
    clock: Clock = ManualClock()
    assert clock.now() == START
    assert clock.now().tzinfo is UTC
    assert clock.monotonic() == 0


def test_it_starts_where_it_is_told_to_in_utc():
    berlin = datetime(2027, 3, 28, 3, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    now = ManualClock(berlin).now()
    assert now.isoformat() == "2027-03-28T01:00:00+00:00"


def test_a_naive_start_is_refused():
    with pytest.raises(ValueError, match="2027-03-28T03:00:00 is naive; give it a zone"):
        ManualClock(datetime(2027, 3, 28, 3, 0))


async def test_time_stands_still_while_nobody_moves_it():
    clock = ManualClock()
    await clock.settle()
    assert (clock.now(), clock.monotonic()) == (START, 0)


async def test_advance_moves_both_kinds_of_time():
    clock = ManualClock()
    await clock.advance(timedelta(microseconds=1))
    await clock.advance(HOUR)
    assert clock.now() == START + HOUR + timedelta(microseconds=1)
    assert clock.monotonic() == 3600.000001


async def test_advance_to_an_instant_in_any_zone():
    clock = ManualClock()
    await clock.advance_to(datetime(2027, 1, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")))
    assert clock.now() == START + HOUR


async def test_advance_to_now_is_no_mistake():
    clock = ManualClock()
    await clock.advance_to(START)
    assert clock.now() == START


async def test_callbacks_run_in_the_order_of_their_times_and_each_at_its_own():
    clock, seen = ManualClock(), []
    for seconds in (3, 1, 2):
        clock.call_later(seconds * SECOND, noting(clock, seen))
    await clock.advance(10 * SECOND)
    assert seen == [START + seconds * SECOND for seconds in (1, 2, 3)]


async def test_callbacks_of_one_instant_run_in_the_order_in_which_they_were_set():
    clock, seen = ManualClock(), []
    for number in range(20):
        clock.call_later(SECOND, lambda number=number: seen.append(number))
    await clock.advance(SECOND)
    assert seen == list(range(20))


async def test_a_callback_runs_when_its_time_has_come_and_no_earlier():
    clock, seen = ManualClock(), []
    clock.call_later(SECOND, noting(clock, seen))
    await clock.advance(SECOND - timedelta(microseconds=1))
    assert seen == []
    await clock.advance(timedelta(microseconds=1))
    assert len(seen) == 1
    await clock.advance(HOUR)
    assert len(seen) == 1


async def test_what_a_callback_sets_runs_in_the_same_advance():
    clock, seen = ManualClock(), []

    def again() -> None:
        seen.append(clock.now())
        clock.call_later(SECOND, again)

    clock.call_later(SECOND, again)
    await clock.advance(3 * SECOND)
    assert seen == [START + seconds * SECOND for seconds in (1, 2, 3)]


async def test_tasks_go_on_between_two_instants():
    clock, seen = ManualClock(), []

    async def work() -> None:
        for _ in range(3):
            await clock.sleep(SECOND)
            for _ in range(50):
                await asyncio.sleep(0)
            seen.append(clock.now())

    task = asyncio.create_task(work())
    await clock.advance(HOUR)
    assert seen == [START + seconds * SECOND for seconds in (1, 2, 3)]
    await task


@pytest.mark.parametrize("delay", [timedelta(0), -SECOND])
async def test_a_delay_that_is_not_positive_needs_no_advance(delay: timedelta):
    clock, seen = ManualClock(), []
    clock.call_later(delay, noting(clock, seen))
    cancelled = clock.call_later(delay, noting(clock, seen))
    cancelled.cancel()
    await clock.sleep(delay)
    await clock.settle()
    assert seen == [START]


async def test_a_cancelled_callback_does_not_run():
    clock, seen = ManualClock(), []
    timer = clock.call_later(SECOND, noting(clock, seen))
    timer.cancel()
    timer.cancel()
    await clock.advance(HOUR)
    assert seen == []


async def test_cancelling_a_timer_that_ran_is_harmless():
    clock, seen = ManualClock(), []
    timer = clock.call_later(SECOND, noting(clock, seen))
    await clock.advance(SECOND)
    timer.cancel()
    assert (len(seen), clock.next_timer) == (1, None)


async def test_a_callback_can_cancel_another_of_its_instant():
    clock, seen = ManualClock(), []
    timers = [clock.call_later(SECOND, lambda: timers[1].cancel())]
    timers.append(clock.call_later(SECOND, noting(clock, seen)))
    await clock.advance(SECOND)
    assert seen == []


async def test_cancelled_timers_do_not_pile_up():
    clock = ManualClock()
    clock.call_later(2 * HOUR, lambda: None)
    for _ in range(10_000):
        clock.call_later(HOUR, lambda: None).cancel()
    assert len(clock._heap) < 200
    assert clock.next_timer == START + 2 * HOUR


async def test_a_callback_that_raises_ends_the_advance_at_its_instant_and_loses_no_other():
    clock, seen = ManualClock(), []
    clock.call_later(SECOND, lambda: 1 // 0)
    clock.call_later(SECOND, noting(clock, seen))
    with pytest.raises(ZeroDivisionError):
        await clock.advance(HOUR)
    assert clock.now() == START + SECOND
    await clock.advance(SECOND)
    assert seen == [START + SECOND]


async def test_a_callback_sees_the_context_in_which_it_was_set():
    clock, seen = ManualClock(), []
    variable = contextvars.ContextVar("variable", default="outer")
    context = contextvars.copy_context()
    context.run(variable.set, "inner")
    context.run(clock.call_later, SECOND, lambda: seen.append(variable.get()))
    await clock.advance(SECOND)
    assert seen == ["inner"]


async def test_the_next_timer_is_the_earliest_that_is_not_cancelled():
    clock = ManualClock()
    assert clock.next_timer is None
    clock.call_later(HOUR, lambda: None)
    clock.call_later(SECOND, lambda: None).cancel()
    assert clock.next_timer == START + HOUR
    await clock.advance_to(clock.next_timer)
    assert clock.next_timer is None


def test_a_timer_beyond_the_calendar_is_due_at_its_end():
    clock = ManualClock()
    for delay in (timedelta.max, timedelta.max - HOUR):
        clock.call_later(delay, lambda: None)
    assert clock.next_timer == datetime.max.replace(tzinfo=UTC)


async def test_sleepers_are_counted_until_they_wake_or_are_cancelled():
    clock = ManualClock()
    short, long, given_up = (
        asyncio.create_task(clock.sleep(seconds * SECOND)) for seconds in (1, 2, 3)
    )
    await clock.settle()
    assert clock.sleepers == 3
    given_up.cancel()
    await clock.advance(SECOND)
    assert (clock.sleepers, short.done(), given_up.cancelled()) == (1, True, True)
    assert clock.next_timer == START + 2 * SECOND, "the timer of a cancelled sleep is gone"
    await clock.advance(SECOND)
    assert (clock.sleepers, long.done(), clock.next_timer) == (0, True, None)


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_sleep_that_is_cancelled_as_it_ends_is_harmless(cancelled_first: bool):
    clock = ManualClock()
    if cancelled_first:
        clock.call_later(SECOND, lambda: cancel(sleeping))
    sleeping = asyncio.create_task(clock.sleep(SECOND))
    await clock.settle()
    if not cancelled_first:
        clock.call_later(SECOND, lambda: cancel(sleeping))
    await clock.advance(HOUR)
    assert sleeping.cancelled()
    assert (clock.sleepers, clock.next_timer) == (0, None)


async def test_going_back_is_refused():
    clock = ManualClock()
    with pytest.raises(ValueError, match="time does not go back; jump sets the wall clock"):
        await clock.advance(-SECOND)
    with pytest.raises(ValueError, match="it is 2027-01-01T00:00:00"):
        await clock.advance_to(START - SECOND)


async def test_advancing_to_a_naive_instant_is_refused():
    with pytest.raises(ValueError, match="naive"):
        await ManualClock().advance_to(datetime(2027, 2, 1))


async def test_two_advances_at_once_are_refused():
    clock = ManualClock()
    first = asyncio.create_task(clock.advance(HOUR))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="being advanced already"):
        await clock.advance(HOUR)
    await first
    await clock.advance(HOUR)
    assert clock.now() == START + 2 * HOUR


async def test_a_cancelled_advance_stops_where_it_is_and_can_go_on():
    clock, seen = ManualClock(), []
    advancing = asyncio.create_task(clock.advance(HOUR))
    clock.call_later(SECOND, lambda: cancel(advancing))
    clock.call_later(2 * SECOND, noting(clock, seen))
    await asyncio.wait([advancing])
    assert (clock.now(), seen) == (START + SECOND, [])
    await clock.advance(SECOND)
    assert seen == [START + 2 * SECOND]


@pytest.mark.parametrize("by", [timedelta(days=1), -timedelta(days=1)])
async def test_a_jump_sets_the_wall_clock_and_nothing_else(by: timedelta):
    clock, seen = ManualClock(), []
    clock.call_later(HOUR, noting(clock, seen))
    clock.jump(by)
    assert (clock.now(), clock.monotonic()) == (START + by, 0)
    assert clock.next_timer == START + by + HOUR
    await clock.advance(HOUR - SECOND)
    assert seen == []
    await clock.advance_to(clock.now() + SECOND)
    assert seen == [START + by + HOUR]


async def test_an_advance_goes_on_for_its_duration_when_the_wall_clock_is_set_meanwhile():
    clock, seen = ManualClock(), []
    clock.call_later(SECOND, lambda: clock.jump(-HOUR))
    clock.call_later(HOUR, noting(clock, seen))
    await clock.advance_to(START + HOUR)
    assert (seen, clock.monotonic()) == ([START], 3600)


async def test_settling_ends_when_a_task_never_waits(monkeypatch: pytest.MonkeyPatch):
    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    monkeypatch.setattr(manual_clock, "ROUNDS", 50)
    spinning = asyncio.create_task(spin())
    await ManualClock().settle()
    assert not spinning.done()
    spinning.cancel()


async def test_settling_lets_what_is_due_on_the_event_loop_run():
    seen: list[str] = []
    asyncio.get_running_loop().call_later(0, seen.append, "due")
    await ManualClock().settle()
    assert seen == ["due"]


async def test_settling_goes_round_often_enough_on_a_loop_that_shows_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    seen: list[int] = []

    async def work() -> None:
        for number in range(50):
            await asyncio.sleep(0)
            seen.append(number)

    monkeypatch.setattr(manual_clock, "_ready", lambda _: None)
    task = asyncio.create_task(work())
    await ManualClock().settle()
    assert len(seen) == 50
    await task


def test_what_is_ready_is_unknown_on_a_loop_that_is_not_asyncios():
    assert manual_clock._ready(object()) is None


async def test_ten_thousand_sleepers_wake_at_their_own_instants():
    clock, seen = ManualClock(), []

    async def sleep(seconds: int) -> None:
        await clock.sleep(seconds * SECOND)
        seen.append((clock.now() - START) / SECOND)

    async with asyncio.TaskGroup() as group:
        for number in range(10_000):
            group.create_task(sleep(number % 100 + 1))
        await clock.advance(100 * SECOND)
    assert seen == sorted(seen)
    assert len(seen) == 10_000

import asyncio
from datetime import UTC, datetime, timedelta

from purista.clock import Clock, SystemClock

SOON = timedelta(milliseconds=1)


def test_now_is_the_machines_time_in_utc():
    clock: Clock = SystemClock()
    before = datetime.now(UTC)
    now = clock.now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC


def test_monotonic_never_goes_back():
    seen = [SystemClock().monotonic() for _ in range(1000)]
    assert seen == sorted(seen)


async def test_a_callback_runs_once_after_its_delay():
    clock, called = SystemClock(), asyncio.get_running_loop().create_future()
    before = clock.monotonic()
    clock.call_later(SOON, lambda: called.set_result(clock.monotonic()))
    assert not called.done()
    assert await called - before > 0


async def test_a_callback_whose_delay_is_over_runs_at_once_but_not_before_the_caller_goes_on():
    called = asyncio.Event()
    SystemClock().call_later(-SOON, called.set)
    assert not called.is_set()
    await called.wait()


async def test_a_cancelled_callback_does_not_run():
    clock, seen = SystemClock(), []
    timer = clock.call_later(SOON, lambda: seen.append("cancelled"))
    later = asyncio.Event()
    clock.call_later(2 * SOON, later.set)
    timer.cancel()
    timer.cancel()
    await later.wait()
    assert seen == []


async def test_sleep_takes_as_long_as_it_says():
    clock = SystemClock()
    before = clock.monotonic()
    await clock.sleep(SOON)
    assert clock.monotonic() - before > 0.0009

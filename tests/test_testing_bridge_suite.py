import asyncio
from datetime import timedelta

import pytest

from purista.bridges.memory import MemoryEventBridge, MemoryQueueBridge
from purista.clock import SystemClock
from purista.message import Message
from purista.testing import EventBridgeSuite, ManualClock, QueueBridgeSuite
from purista.testing.bridge_suite import BridgeSuite, Gate, Inbox


class RealTime(BridgeSuite):
    unit = timedelta(milliseconds=2)
    patience = timedelta(milliseconds=2)

    def clock(self):
        return SystemClock()


async def test_time_passes_on_a_manual_clock_when_it_is_moved():
    suite = BridgeSuite()
    clock = suite.clock()
    before = clock.now()
    await suite.let_pass(clock, 2.5)
    assert clock.now() - before == 2.5 * suite.unit


async def test_silence_takes_no_time_on_a_manual_clock():
    suite = BridgeSuite()
    clock, seen = suite.clock(), []
    asyncio.get_running_loop().call_soon(seen.append, "arrived")
    await suite.silence(clock)
    assert (clock.monotonic(), seen) == (0, ["arrived"])


async def test_time_and_silence_are_waited_for_on_a_real_clock():
    suite = RealTime()
    clock = suite.clock()
    before = clock.monotonic()
    await suite.let_pass(clock, 2)
    assert clock.monotonic() - before > 0.0039
    await suite.silence(clock)
    assert clock.monotonic() - before > 0.0048


async def test_what_does_not_come_soon_fails():
    with pytest.raises(AssertionError, match="did not come within"):
        await RealTime().soon(asyncio.Event().wait())


async def test_what_comes_soon_is_returned():
    assert await RealTime().soon(asyncio.sleep(0, "result")) == "result"


def test_names_differ_so_that_no_test_sees_what_another_left_in_a_broker():
    suite = BridgeSuite()
    assert suite.name("queue") != suite.name("queue")
    assert suite.message("event").id != suite.message("event").id


async def test_an_inbox_holds_what_came_and_waits_for_more():
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.holds(2))
    for number in "12":
        await asyncio.sleep(0)
        assert not waiting.done()
        await inbox(Message("event", b"", number))
    await waiting
    await inbox.holds(0)
    assert inbox.ids == ["1", "2"]


async def test_a_gate_opens_at_the_latest_when_its_block_ends():
    with Gate() as gate:
        waiting = asyncio.create_task(gate.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
    await waiting


@pytest.mark.parametrize("suite", [EventBridgeSuite, QueueBridgeSuite])
def test_a_suite_is_not_collected_by_itself(suite):
    assert not suite.__name__.startswith("Test")


def test_a_suite_uses_a_manual_clock_unless_told_otherwise():
    assert isinstance(QueueBridgeSuite().clock(), ManualClock)


async def test_the_suites_run_in_real_time_too():
    class RealEvents(RealTime, EventBridgeSuite):
        patience = timedelta(seconds=10)

        def bridge(self, clock):
            return Closing(MemoryEventBridge(clock=clock))

    class RealQueues(RealTime, QueueBridgeSuite):
        patience = timedelta(seconds=10)

        def bridge(self, clock):
            return Closing(MemoryQueueBridge(clock=clock))

    await RealEvents().test_nobody_has_to_wait_for_a_reply()
    await RealQueues().test_a_waiting_lease_gets_the_job_whose_lease_runs_out()


class Closing:
    """Closes a bridge when its block ends."""

    def __init__(self, bridge):
        self._bridge = bridge

    async def __aenter__(self):
        return self._bridge

    async def __aexit__(self, *_):
        await self._bridge.close()

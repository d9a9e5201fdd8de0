"""What the in-memory queue bridge promises beyond the port."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest

from purista.bridges import DeadLetters, Drains, Job
from purista.bridges.memory import MemoryQueueBridge
from purista.errors import BridgeClosedError, LeaseLostError
from purista.message import Message, RunInfo
from purista.testing import ManualClock

NOW = timedelta(0)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
START = datetime(2027, 1, 1, tzinfo=UTC)
RUN = RunInfo("run-1", "billing.v1.monthly", START, "UTC", is_target=True)


class LateClock(ManualClock):
    """A clock whose timers come late, as those of an event loop that is kept busy."""

    __slots__ = ()

    async def fall_behind(self, duration):
        self._elapsed += duration


@pytest.fixture
def clock():
    return LateClock()


@pytest.fixture
def bridge(clock):
    return MemoryQueueBridge(clock=clock)


def job(word="1", queue="reports", **options):
    return Job(Message(queue, b'{"secret": "hunter2"}', f"id-{word}", RUN), **options)


def take(bridge, duration=DAY, queue="reports", wait=NOW):
    return bridge.lease(queue, duration=duration, wait=wait)


def begin(bridge, duration=DAY, queue="reports"):
    return asyncio.create_task(take(bridge, duration, queue, wait=None))


def ids(leased):
    return [each.job.message.id for each in leased]


async def test_waiting_leases_are_served_in_the_order_they_came(bridge, clock):
    waiting = [begin(bridge) for _ in range(5)]
    await clock.settle()
    waiting.pop(2).cancel()
    for word in "abcd":
        await bridge.enqueue(job(word))
    assert ids(await asyncio.gather(*waiting)) == ["id-a", "id-b", "id-c", "id-d"]


async def test_a_job_passes_over_a_lease_that_was_just_cancelled(bridge, clock):
    first, second = begin(bridge), begin(bridge)
    await clock.settle()
    first.cancel()
    await bridge.enqueue(job())
    assert (await second).attempt == 1
    assert first.cancelled()


async def test_the_job_of_a_cancelled_lease_goes_to_the_next_that_waits(bridge, clock):
    first, second = begin(bridge), begin(bridge)
    await clock.settle()
    await bridge.enqueue(job())
    first.cancel()
    assert (await second).attempt == 1


async def test_the_job_of_a_cancelled_lease_comes_before_those_behind_it(bridge, clock):
    waiting = begin(bridge)
    await clock.settle()
    for word in "ab":
        await bridge.enqueue(job(word))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert ids([await take(bridge), await take(bridge)]) == ["id-a", "id-b"]


@pytest.mark.parametrize("cancelled_first", [True, False])
async def test_a_lease_that_is_cancelled_as_its_wait_ends_keeps_nothing(
    bridge, clock, cancelled_first
):
    if cancelled_first:
        clock.call_later(SECOND, lambda: waiting.cancel() and None)
    waiting = asyncio.create_task(take(bridge, wait=SECOND))
    await clock.settle()
    if not cancelled_first:
        clock.call_later(SECOND, lambda: waiting.cancel() and None)
    await clock.advance(SECOND)
    assert waiting.cancelled()
    await bridge.enqueue(job())
    assert (await take(bridge)).attempt == 1


async def test_a_lease_that_is_cancelled_before_its_wait_ends_leaves_no_timer(bridge, clock):
    waiting = asyncio.create_task(take(bridge, wait=SECOND))
    await clock.settle()
    waiting.cancel()
    await clock.advance(SECOND)
    assert clock.next_timer is None


async def test_a_lease_that_is_cancelled_as_the_bridge_closes_is_cancelled(bridge, clock):
    waiting = begin(bridge)
    await clock.settle()
    await bridge.close()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_a_job_that_was_handed_over_and_settled_by_nobody_in_time_is_not_given_back_twice(
    bridge, clock
):
    waiting = begin(bridge, SECOND)
    await clock.settle()
    await bridge.enqueue(job())
    await clock.fall_behind(SECOND)
    bridge._deadlines.expire()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await take(bridge)).attempt == 2
    assert await take(bridge) is None


async def test_jobs_that_are_due_again_wait_behind_those_that_were_due_before(bridge, clock):
    for word in "abc":
        await bridge.enqueue(job(word))
    first, second = await take(bridge, 2 * SECOND), await take(bridge, SECOND)
    await clock.advance(SECOND)
    await bridge.enqueue(job("d"))
    await clock.advance(SECOND)
    assert ids([first, second]) == ["id-a", "id-b"]
    assert ids([await take(bridge) for _ in range(4)]) == ["id-c", "id-b", "id-d", "id-a"]


async def test_delayed_jobs_are_due_in_the_order_of_their_times(bridge, clock):
    for seconds in (3, 1, 2):
        await bridge.enqueue(job(str(seconds), delay=seconds * SECOND))
    await clock.advance(3 * SECOND)
    assert ids([await take(bridge) for _ in range(3)]) == ["id-1", "id-2", "id-3"]


async def test_a_lease_runs_out_at_its_instant(bridge, clock):
    await bridge.enqueue(job())
    await take(bridge, SECOND)
    await clock.advance(SECOND - timedelta(microseconds=1))
    assert await take(bridge) is None
    await clock.advance(timedelta(microseconds=1))
    assert (await take(bridge)).attempt == 2


async def test_a_lease_finds_what_is_due_before_a_late_timer_does(bridge, clock):
    await bridge.enqueue(job("leased"))
    await take(bridge, SECOND)
    await bridge.enqueue(job("delayed", delay=2 * SECOND))
    await clock.fall_behind(2 * SECOND)
    assert ids([await take(bridge), await take(bridge)]) == ["id-leased", "id-delayed"]


async def test_an_ack_that_comes_before_a_late_timer_counts(bridge, clock):
    await bridge.enqueue(job())
    leased = await take(bridge, SECOND)
    await clock.fall_behind(DAY)
    await bridge.ack(leased)
    await clock.advance(DAY)
    assert await take(bridge) is None


@pytest.mark.parametrize("by", [-DAY, DAY])
async def test_setting_the_wall_clock_ends_and_prolongs_nothing(bridge, clock, by):
    await bridge.enqueue(job("leased", key="a", dedupe_window=SECOND))
    await bridge.enqueue(job("delayed", delay=SECOND))
    await take(bridge, SECOND)
    clock.jump(by)
    assert await take(bridge) is None
    assert not await bridge.enqueue(job("again", key="a"))
    await clock.advance(SECOND)
    assert len([await take(bridge), await take(bridge)]) == 2
    assert await bridge.enqueue(job("again", key="a"))


async def test_a_dead_letter_tells_when_it_died(bridge, clock):
    await bridge.enqueue(job())
    leased = await take(bridge)
    await clock.advance(SECOND)
    await bridge.nack(leased, retry_in=None, reason="useless")
    (letter,) = await bridge.dead_letters("reports")
    assert letter.died_at == START + SECOND


async def test_a_dead_letter_of_a_lost_lease_says_so(bridge, clock):
    await bridge.enqueue(job(max_attempts=1))
    await take(bridge, SECOND)
    await clock.advance(SECOND)
    (letter,) = await bridge.dead_letters("reports")
    assert letter.reason == "the lease ran out in attempt 1, the last"


async def test_a_lease_that_runs_out_is_logged_with_its_run_and_without_the_body(
    bridge, clock, caplog
):
    await bridge.enqueue(job())
    await bridge.enqueue(Job(Message("reports", b"{}", "id-2"), max_attempts=1))
    await take(bridge, SECOND)
    await take(bridge, 2 * SECOND)
    await clock.advance(2 * SECOND)
    assert caplog.messages == [
        "queue reports: the lease of job id-1 ran out in attempt 1 of 5, run run-1",
        "queue reports: the lease of job id-2 ran out in attempt 1 of 1, run id-2",
    ]
    assert {(record.name, record.levelno) for record in caplog.records} == {
        ("purista.bridges", logging.WARNING)
    }


@pytest.mark.parametrize("duration", [NOW, -SECOND])
async def test_a_lease_of_no_length_is_refused(bridge, duration):
    await bridge.enqueue(job())
    with pytest.raises(ValueError, match="queue 'reports': a lease of"):
        await take(bridge, duration)
    leased = await take(bridge)
    with pytest.raises(ValueError, match="use a positive duration"):
        await bridge.extend(leased, duration=duration)
    await bridge.ack(leased)


async def test_the_longest_durations_never_pass(bridge, clock):
    await bridge.enqueue(job("leased"))
    await take(bridge, timedelta.max)
    await bridge.enqueue(job("delayed", delay=timedelta.max))
    waiting = asyncio.create_task(take(bridge, wait=timedelta.max))
    await clock.advance(3660 * DAY)
    assert not waiting.done()
    waiting.cancel()


async def test_a_lost_lease_is_named_but_not_what_is_in_it(bridge):
    await bridge.enqueue(job())
    leased = await take(bridge)
    await bridge.ack(leased)
    with pytest.raises(LeaseLostError, match="queue 'reports': job id-1, attempt 1") as raised:
        await bridge.ack(leased)
    assert "hunter2" not in str(raised.value)


async def test_a_lease_of_another_bridge_is_not_taken_for_ones_own(bridge):
    other = MemoryQueueBridge()
    for each in (bridge, other):
        await each.enqueue(job())
    leased = [await take(each) for each in (bridge, other)]
    with pytest.raises(LeaseLostError):
        await bridge.ack(leased[1])
    await bridge.ack(leased[0])


async def test_two_jobs_of_one_message_are_two_dead_letters(bridge):
    assert isinstance(bridge, DeadLetters)
    for word in "aba":
        await bridge.enqueue(job(word))
        await bridge.nack(await take(bridge), retry_in=None, reason="useless")
    letters = await bridge.dead_letters("reports")
    assert [letter.job.message.id for letter in letters] == ["id-a", "id-b", "id-a"]
    assert await bridge.redrive("reports", message_id="id-a") == 2
    assert await bridge.purge("reports") == 1


async def test_queues_that_nobody_heard_of_have_no_dead_letters(bridge):
    assert await bridge.dead_letters("unheard-of") == []
    assert await bridge.redrive("unheard-of") == 0
    assert await bridge.purge("unheard-of") == 0
    assert bridge._lines == {}


async def test_drained_waits_for_jobs_that_are_due_or_leased(bridge, clock):
    assert isinstance(bridge, Drains)
    for _ in range(3):
        await bridge.enqueue(job())
    leased = await take(bridge)
    draining = asyncio.create_task(bridge.drained())
    for _ in range(2):
        await bridge.ack(leased)
        leased = await take(bridge)
        await clock.settle()
        assert not draining.done()
    await bridge.nack(leased, retry_in=None, reason="useless")
    await draining


async def test_drained_returns_at_once_when_there_is_no_job(bridge):
    await bridge.drained()


async def test_drained_waits_for_jobs_that_come_meanwhile(bridge, clock):
    await bridge.enqueue(job())
    leased = await take(bridge)
    draining = asyncio.create_task(bridge.drained())
    await clock.settle()
    await bridge.enqueue(job())
    await bridge.ack(leased)
    await clock.settle()
    assert not draining.done()
    await bridge.ack(await take(bridge))
    await draining


async def test_drained_waits_for_a_job_whose_lease_runs_out(bridge, clock):
    await bridge.enqueue(job(max_attempts=2))
    await take(bridge, SECOND)
    draining = asyncio.create_task(bridge.drained())
    await clock.advance(SECOND)
    assert not draining.done()
    await take(bridge, SECOND)
    await clock.advance(SECOND)
    await draining


async def test_drained_does_not_wait_for_delays(bridge):
    await bridge.enqueue(job("later", delay=DAY))
    await bridge.enqueue(job("again"))
    leased = await take(bridge)
    draining = asyncio.create_task(bridge.drained())
    await bridge.nack(leased, retry_in=DAY, reason="not now")
    await draining


async def test_drained_does_not_wait_for_a_queue_that_nobody_works_on(bridge, clock):
    await bridge.enqueue(job(queue="unheeded"))
    await bridge.drained()
    leaving = begin(bridge)
    await clock.settle()
    leaving.cancel()
    await asyncio.wait([leaving])
    await bridge.enqueue(job())
    await bridge.drained()


async def test_drained_no_longer_waits_when_the_last_worker_leaves(bridge, clock):
    await bridge.enqueue(job(queue="busy"))
    busy = await take(bridge, queue="busy")
    leaving = begin(bridge)
    draining = asyncio.create_task(bridge.drained())
    await clock.settle()
    await bridge.enqueue(job())
    await bridge.ack(busy)
    assert not draining.done()
    leaving.cancel()
    await draining
    assert leaving.cancelled()


async def test_drained_waits_for_a_worker_that_is_busy_when_another_leaves(bridge, clock):
    staying, leaving = begin(bridge), begin(bridge)
    await clock.settle()
    await bridge.enqueue(job())
    leaving.cancel()
    await asyncio.wait([leaving])
    await bridge.enqueue(job())
    draining = asyncio.create_task(bridge.drained())
    await bridge.ack(await staying)
    await clock.settle()
    assert not draining.done()
    await bridge.ack(await take(bridge))
    await draining


async def test_drained_waits_for_a_queue_on_which_somebody_begins_to_work(bridge, clock):
    await bridge.enqueue(job(queue="busy"))
    busy = await take(bridge, queue="busy")
    for word in "ab":
        await bridge.enqueue(job(word))
    draining = asyncio.create_task(bridge.drained())
    await clock.settle()
    await bridge.ack(await take(bridge))
    await bridge.ack(busy)
    await clock.settle()
    assert not draining.done()
    await bridge.ack(await take(bridge))
    await draining


async def test_several_can_wait_until_the_bridge_is_drained_and_some_give_up(bridge, clock):
    await bridge.enqueue(job())
    leased = await take(bridge)
    draining = [asyncio.create_task(bridge.drained()) for _ in range(3)]
    await clock.settle()
    draining.pop().cancel()
    await bridge.ack(leased)
    await asyncio.gather(*draining)


async def test_a_closed_bridge_is_drained_once_nothing_is_leased(bridge, clock):
    for word in "ab":
        await bridge.enqueue(job(word))
    leased = await take(bridge)
    draining = asyncio.create_task(bridge.drained())
    await bridge.close()
    await clock.settle()
    assert not draining.done()
    await bridge.ack(leased)
    await draining


async def test_close_tells_how_many_jobs_are_lost(bridge, caplog):
    for word in "abcd":
        await bridge.enqueue(job(word))
    await bridge.enqueue(job(delay=DAY))
    await bridge.ack(await take(bridge))
    await bridge.nack(await take(bridge), retry_in=DAY, reason="not now")
    await take(bridge)
    await bridge.close()
    assert caplog.messages == ["memory queue bridge: closed with 3 jobs, which are lost"]


async def test_close_says_nothing_when_no_job_is_lost(bridge, caplog):
    await bridge.enqueue(job())
    await bridge.ack(await take(bridge))
    await bridge.enqueue(job(key="a"))
    await take(bridge)
    await bridge.close()
    assert caplog.messages == []


async def test_no_lease_runs_out_after_close(bridge, clock):
    for word in "abc":
        await bridge.enqueue(job(word))
    first, second, third = [await take(bridge, SECOND) for _ in range(3)]
    await bridge.close()
    await bridge.extend(second, duration=SECOND)
    await clock.advance(DAY)
    await bridge.ack(first)
    await bridge.nack(second, retry_in=NOW, reason="no")
    await bridge.nack(third, retry_in=DAY, reason="no")
    assert clock.next_timer is None


async def test_dead_letters_can_be_seen_and_purged_but_not_redriven_after_close(bridge):
    await bridge.enqueue(job())
    await bridge.nack(await take(bridge), retry_in=None, reason="useless")
    await bridge.close()
    with pytest.raises(BridgeClosedError, match="queue 'reports': the memory bridge is closed"):
        await bridge.redrive("reports")
    assert len(await bridge.dead_letters("reports")) == 1
    assert await bridge.purge("reports") == 1


async def test_no_job_has_a_timer_or_a_task_of_its_own(bridge, clock):
    for number in range(1000):
        await bridge.enqueue(job(str(number), delay=SECOND * (number % 7)))
        await take(bridge, SECOND * (1 + number % 5))
    assert sum(timer.is_pending for _, _, timer in clock._heap) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_settled_jobs_leave_nothing_behind(bridge, clock):
    for number in range(1000):
        await bridge.enqueue(job(str(number), queue=f"queue-{number % 10}"))
        leased = await take(bridge, queue=f"queue-{number % 10}")
        await bridge.extend(leased, duration=SECOND * (1 + number % 50))
        await bridge.ack(leased)
    assert len(bridge._deadlines) < 200
    await clock.advance(DAY)
    assert (len(bridge._leased), len(bridge._lanes), clock.next_timer) == (0, 0, None)


async def test_leases_that_wait_for_a_while_leave_nothing_behind(bridge, clock):
    for _ in range(500):
        waiting = asyncio.create_task(take(bridge, wait=SECOND))
        await clock.settle()
        await bridge.enqueue(job())
        await bridge.ack(await waiting)
    assert len(bridge._deadlines) < 200
    assert not bridge._lines["reports"].waiters


async def test_a_hundred_thousand_jobs_in_ten_thousand_queues_are_done_in_order(bridge):
    for number in range(100_000):
        await bridge.enqueue(job(str(number), queue=f"queue-{number % 10_000}"))
    for queue in range(10_000):
        for round_ in range(10):
            leased = await take(bridge, queue=f"queue-{queue}")
            assert leased.job.message.id == f"id-{round_ * 10_000 + queue}"
            await bridge.ack(leased)
    await bridge.drained()

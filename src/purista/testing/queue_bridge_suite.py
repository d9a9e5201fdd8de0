"""The conformance suite of queue bridges: what the port promises, one test for each promise."""
# ruff: noqa: D102 - the names of tests say what they test

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from purista.bridges.port import DeadLetter, DeadLetters, Job, LeasedJob, QueueBridge
from purista.clock import Clock
from purista.errors import BridgeClosedError, LeaseLostError
from purista.message import Message, RunInfo
from purista.testing.bridge_suite import BridgeSuite

NOW = timedelta(0)

HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x": "Zoë"}
RUN = RunInfo(
    run_id="run-1",
    schedule_id="billing.v1.monthlyReports",
    nominal_time=datetime(2027, 3, 1, 3, 0, 0, 250_000, tzinfo=UTC),
    timezone="Europe/Berlin",
    is_target=True,
)


class Opened(NamedTuple):
    """A bridge, its clock, and a queue of its own for the test."""

    bridge: QueueBridge
    clock: Clock
    queue: str


class QueueBridgeSuite(BridgeSuite):
    """Every queue bridge passes this; a subclass whose name begins with ``Test`` says how to open one.

    ::

        class TestMyQueueBridge(QueueBridgeSuite):
            @contextlib.asynccontextmanager
            async def bridge(self, clock):
                async with MyQueueBridge(URL, clock=clock) as bridge:
                    yield bridge

    The bridge has dead letters, too: it implements ``DeadLetters``. The tests are coroutines: set
    ``asyncio_mode = "auto"`` for pytest-asyncio, or mark the class with ``pytest.mark.asyncio``. For
    values in failures, call ``pytest.register_assert_rewrite("purista.testing")`` in
    ``conftest.py``. ``BridgeSuite`` tells how to run a broker that measures its own time.
    """

    def bridge(self, clock: Clock) -> AbstractAsyncContextManager[QueueBridge]:
        """Open a bridge to the broker, and close it in the end. Some tests open two.

        What is in the broker stays there: no two tests use one name.
        """
        raise NotImplementedError(f"{type(self).__name__}.bridge opens the bridge to be tested")

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Opened]:
        """Open a bridge and its clock, and name a queue."""
        clock = self.clock()
        async with self.bridge(clock) as bridge:
            yield Opened(bridge, clock, self.name("queue"))

    @property
    def long(self) -> timedelta:
        """A lease that does not run out in a test."""
        return self.unit * 1000

    def job(self, queue: str, *, max_attempts: int = 5, key: str | None = None) -> Job:
        """Return a new job."""
        return Job(self.message(queue), max_attempts, key=key)

    async def take(self, opened: Opened, duration: timedelta | None = None) -> LeasedJob:
        """Lease a job that is there or about to come."""
        leased = await self.soon(
            opened.bridge.lease(opened.queue, duration=duration or self.long, wait=self.patience)
        )
        assert leased is not None, "lease gave no job"
        return leased

    async def is_empty(self, opened: Opened) -> bool:
        """Whether no job can be leased now."""
        await self.silence(opened.clock)
        lease = opened.bridge.lease(opened.queue, duration=self.long, wait=NOW)
        return await self.soon(lease) is None

    async def dead(self, opened: Opened) -> list[DeadLetter]:
        """Return the queue's dead letters."""
        return list(await _dead_letters(opened).dead_letters(opened.queue))

    async def bury(self, opened: Opened, reason: str = "buried") -> Job:
        """Make a dead letter of a new job."""
        job = self.job(opened.queue)
        await opened.bridge.enqueue(job)
        await opened.bridge.nack(await self.take(opened), retry_in=None, reason=reason)
        return job

    # -- enqueue and lease ---------------------------------------------------------------------

    async def test_the_capabilities_have_a_name_and_do_not_change(self) -> None:
        async with self.opened() as (bridge, _, _):
            assert bridge.capabilities.name
            assert bridge.capabilities == bridge.capabilities

    async def test_a_job_is_leased_as_it_was_enqueued(self) -> None:
        async with self.opened() as opened:
            jobs = [
                Job(
                    Message(
                        opened.queue, '{"name": "Zoë \U0001f4e7"}'.encode(), "id-1", RUN, HEADERS
                    ),
                    3,
                ),
                Job(Message(opened.queue, b'"%s"' % (b"x" * 200_000), "id-2"), key="key"),
            ]
            for job in jobs:
                assert await opened.bridge.enqueue(job)
            for job in jobs:
                leased = await self.take(opened)
                assert (leased.queue, leased.job, leased.attempt) == (opened.queue, job, 1)

    async def test_the_job_that_waited_longest_comes_first(self) -> None:
        async with self.opened() as opened:
            jobs = [self.job(opened.queue) for _ in range(20)]
            for job in jobs:
                await opened.bridge.enqueue(job)
            assert [(await self.take(opened)).job for _ in jobs] == jobs

    async def test_queues_do_not_share_their_jobs(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue + ".more"))
            await opened.bridge.enqueue(self.job(opened.queue.upper()))
            assert await self.is_empty(opened)

    async def test_lease_returns_none_when_no_job_came_in_time(self) -> None:
        async with self.opened() as opened:
            assert await self.is_empty(opened)
            lease = opened.bridge.lease(opened.queue, duration=self.long, wait=self.unit * 2)
            waiting = asyncio.ensure_future(lease)
            await self.let_pass(opened.clock, 1)
            assert not waiting.done(), "lease did not wait as long as it was told to"
            await self.let_pass(opened.clock, 1)
            assert await self.soon(waiting) is None

    async def test_a_lease_that_gave_up_takes_no_job(self) -> None:
        async with self.opened() as opened:
            lease = opened.bridge.lease(opened.queue, duration=self.long, wait=self.unit)
            waiting = asyncio.ensure_future(lease)
            await self.let_pass(opened.clock, 1)
            await self.soon(waiting)
            await opened.bridge.enqueue(self.job(opened.queue))
            assert (await self.take(opened)).attempt == 1

    async def test_a_waiting_lease_gets_the_job_that_comes(self) -> None:
        async with self.opened() as opened:
            waiting = asyncio.ensure_future(opened.bridge.lease(opened.queue, duration=self.long))
            await self.silence(opened.clock)
            assert not waiting.done(), "lease gave something out of nothing"
            job = self.job(opened.queue)
            await opened.bridge.enqueue(job)
            leased = await self.soon(waiting)
            assert leased is not None
            assert leased.job == job

    async def test_each_job_goes_to_one_of_many_leases(self) -> None:
        async with self.opened() as opened:
            jobs = [self.job(opened.queue) for _ in range(40)]
            leases = [asyncio.ensure_future(self.take(opened)) for _ in jobs[:20]]
            await self.silence(opened.clock)
            for job in jobs:
                await opened.bridge.enqueue(job)
            taken = await self.soon(asyncio.gather(*leases))
            taken += [await self.take(opened) for _ in jobs[20:]]
            assert sorted(each.job.message.id for each in taken) == sorted(
                job.message.id for job in jobs
            )
            assert await self.is_empty(opened)

    async def test_a_cancelled_lease_keeps_no_job(self) -> None:
        async with self.opened() as opened:
            waiting = asyncio.ensure_future(opened.bridge.lease(opened.queue, duration=self.long))
            await self.silence(opened.clock)
            waiting.cancel()
            await self.soon(asyncio.wait([waiting]))
            await opened.bridge.enqueue(self.job(opened.queue))
            assert (await self.take(opened)).attempt == 1

    async def test_a_lease_that_is_cancelled_as_its_job_comes_keeps_no_job(self) -> None:
        for steps in range(4):
            async with self.opened() as opened:
                waiting = asyncio.ensure_future(
                    opened.bridge.lease(opened.queue, duration=self.long)
                )
                await self.silence(opened.clock)
                job = self.job(opened.queue)
                await opened.bridge.enqueue(job)
                for _ in range(steps):
                    await asyncio.sleep(0)
                waiting.cancel()
                await self.soon(asyncio.wait([waiting]))
                kept = None if waiting.cancelled() else waiting.result()
                leased = kept or await self.take(opened)
                assert (leased.job, leased.attempt) == (job, 1)

    # -- leases --------------------------------------------------------------------------------

    async def test_a_leased_job_is_nobody_elses(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue))
            await self.take(opened)
            assert await self.is_empty(opened)

    async def test_a_job_whose_lease_ran_out_is_due_again(self) -> None:
        async with self.opened() as opened:
            job = self.job(opened.queue)
            await opened.bridge.enqueue(job)
            first = await self.take(opened, self.unit * 2)
            await self.let_pass(opened.clock, 1)
            assert await self.is_empty(opened), "the lease ran out too early"
            await self.let_pass(opened.clock, 1)
            second = await self.take(opened)
            assert (second.job, second.attempt) == (job, 2)
            assert second.token != first.token

    async def test_a_waiting_lease_gets_the_job_whose_lease_runs_out(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue))
            await self.take(opened, self.unit)
            waiting = asyncio.ensure_future(opened.bridge.lease(opened.queue, duration=self.long))
            await self.let_pass(opened.clock, 1)
            leased = await self.soon(waiting)
            assert leased is not None
            assert leased.attempt == 2

    async def test_a_lease_that_runs_out_in_the_last_attempt_leaves_a_dead_letter(self) -> None:
        async with self.opened() as opened:
            job = self.job(opened.queue, max_attempts=2)
            await opened.bridge.enqueue(job)
            for _ in range(2):
                await self.take(opened, self.unit)
                await self.let_pass(opened.clock, 1)
            assert await self.is_empty(opened)
            (letter,) = await self.dead(opened)
            assert (letter.queue, letter.job, letter.attempts) == (opened.queue, job, 2)
            assert letter.reason, "a dead letter says why"

    async def test_an_extended_lease_runs_out_later(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue))
            leased = await self.take(opened, self.unit * 2)
            await self.let_pass(opened.clock, 1)
            await opened.bridge.extend(leased, duration=self.unit * 3)
            await self.let_pass(opened.clock, 2)
            assert await self.is_empty(opened), "the lease ran out when it would have at first"
            await self.let_pass(opened.clock, 1)
            assert (await self.take(opened)).attempt == 2

    async def test_a_lease_can_be_made_shorter(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue))
            await opened.bridge.extend(await self.take(opened), duration=self.unit)
            await self.let_pass(opened.clock, 1)
            assert (await self.take(opened)).attempt == 2

    async def test_a_lost_lease_can_do_nothing(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue))
            lost = await self.take(opened, self.unit)
            await self.let_pass(opened.clock, 1)
            leased = await self.take(opened)
            assert await self.soon(_is_lost(opened.bridge.ack(lost)))
            assert await self.soon(_is_lost(opened.bridge.extend(lost, duration=self.unit)))
            for retry_in in (None, NOW):
                nack = opened.bridge.nack(lost, retry_in=retry_in, reason="late")
                assert await self.soon(_is_lost(nack))
            assert await self.is_empty(opened), "the lost lease gave the job to others"
            await self.soon(opened.bridge.ack(leased))

    # -- ack and nack --------------------------------------------------------------------------

    async def test_an_acked_job_is_gone(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue))
            await opened.bridge.ack(await self.take(opened, self.unit))
            await self.let_pass(opened.clock, 2)
            assert await self.is_empty(opened)
            assert await self.dead(opened) == []

    async def test_a_job_is_settled_once(self) -> None:
        async with self.opened() as opened:
            for settle in (_ack, _nack, _bury):
                await opened.bridge.enqueue(self.job(opened.queue))
                leased = await self.take(opened)
                await settle(opened.bridge, leased)
                for again in (_ack, _nack, _bury):
                    assert await self.soon(_is_lost(again(opened.bridge, leased)))

    async def test_a_nacked_job_is_due_at_once_when_that_is_asked_for(self) -> None:
        async with self.opened() as opened:
            job = self.job(opened.queue)
            await opened.bridge.enqueue(job)
            for attempt in range(1, 5):
                leased = await self.take(opened)
                assert (leased.job, leased.attempt) == (job, attempt)
                assert await opened.bridge.nack(leased, retry_in=NOW, reason="no") is False

    async def test_a_nacked_job_waits_for_its_retry(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue))
            leased = await self.take(opened)
            await opened.bridge.nack(leased, retry_in=self.unit * 2, reason="not now")
            await self.let_pass(opened.clock, 1)
            assert await self.is_empty(opened), "the job was due too early"
            await self.let_pass(opened.clock, 1)
            assert (await self.take(opened)).attempt == 2

    async def test_a_job_without_attempts_left_becomes_a_dead_letter(self) -> None:
        async with self.opened() as opened:
            job = self.job(opened.queue, max_attempts=2)
            await opened.bridge.enqueue(job)
            buried = [
                await opened.bridge.nack(await self.take(opened), retry_in=NOW, reason=reason)
                for reason in ("first", "second")
            ]
            assert buried == [False, True]
            assert await self.is_empty(opened)
            (letter,) = await self.dead(opened)
            assert letter[:4] == (opened.queue, job, 2, "second")

    async def test_a_job_that_is_not_to_be_tried_again_becomes_a_dead_letter(self) -> None:
        async with self.opened() as opened:
            job = self.job(opened.queue)
            await opened.bridge.enqueue(job)
            leased = await self.take(opened)
            assert await opened.bridge.nack(leased, retry_in=None, reason="useless") is True
            assert await self.is_empty(opened)
            (letter,) = await self.dead(opened)
            assert letter[:4] == (opened.queue, job, 1, "useless")
            assert letter.died_at.utcoffset() == NOW, "died_at is an instant in UTC"

    # -- delays and keys -----------------------------------------------------------------------

    async def test_a_delayed_job_is_due_later_if_the_bridge_can_delay(self) -> None:
        async with self.opened() as opened:
            delay = self.unit * (2 if opened.bridge.capabilities.delayed else 0)
            job = self.job(opened.queue)._replace(delay=delay)
            await opened.bridge.enqueue(job)
            if delay:
                await self.let_pass(opened.clock, 1)
                assert await self.is_empty(opened), "the job was due too early"
                await self.let_pass(opened.clock, 1)
            assert (await self.take(opened)).job == job

    async def test_a_waiting_lease_gets_the_job_whose_delay_is_over(self) -> None:
        async with self.opened() as opened:
            delay = self.unit * (1 if opened.bridge.capabilities.delayed else 0)
            await opened.bridge.enqueue(self.job(opened.queue)._replace(delay=delay))
            waiting = asyncio.ensure_future(opened.bridge.lease(opened.queue, duration=self.long))
            await self.let_pass(opened.clock, 1)
            assert await self.soon(waiting) is not None

    async def test_a_key_is_enqueued_once_if_the_bridge_deduplicates(self) -> None:
        async with self.opened() as opened:
            first, second = (self.job(opened.queue, key="2027-03") for _ in range(2))
            assert await opened.bridge.enqueue(first) is True
            new = await opened.bridge.enqueue(second)
            assert new is not opened.bridge.capabilities.deduplicates
            await opened.bridge.ack(await self.take(opened))
            if opened.bridge.capabilities.deduplicates:
                assert await opened.bridge.enqueue(second) is False, "acked, the key still counts"
                assert await self.is_empty(opened)

    async def test_keys_belong_to_their_queue(self) -> None:
        async with self.opened() as opened:
            assert await opened.bridge.enqueue(self.job(opened.queue, key="a"))
            assert await opened.bridge.enqueue(self.job(opened.queue, key="b"))
            assert await opened.bridge.enqueue(self.job(opened.queue))
            assert await opened.bridge.enqueue(self.job(opened.queue))
            assert await opened.bridge.enqueue(self.job(opened.queue + ".more", key="a"))

    async def test_a_key_can_be_used_again_after_its_window(self) -> None:
        async with self.opened() as opened:
            job = self.job(opened.queue, key="a")._replace(dedupe_window=self.unit * 2)
            await opened.bridge.enqueue(job)
            await self.let_pass(opened.clock, 1)
            again = await opened.bridge.enqueue(job._replace(message=self.message(opened.queue)))
            assert again is not opened.bridge.capabilities.deduplicates
            await self.let_pass(opened.clock, 1)
            later = job._replace(message=self.message(opened.queue))
            assert await opened.bridge.enqueue(later), "a refused job does not prolong the window"

    # -- dead letters --------------------------------------------------------------------------

    async def test_dead_letters_are_listed_oldest_first(self) -> None:
        async with self.opened() as opened:
            jobs = [await self.bury(opened, reason) for reason in ("a", "b", "c")]
            letters = await self.dead(opened)
            assert [letter.job for letter in letters] == jobs
            assert [letter.reason for letter in letters] == ["a", "b", "c"]
            elsewhere = opened._replace(queue=self.name("other"))
            assert await self.dead(elsewhere) == []

    async def test_redriven_dead_letters_have_all_their_attempts_again(self) -> None:
        async with self.opened() as opened:
            jobs = [await self.bury(opened) for _ in range(2)]
            assert await _dead_letters(opened).redrive(opened.queue) == 2
            assert await self.dead(opened) == []
            leased = [await self.take(opened) for _ in jobs]
            assert [(each.job, each.attempt) for each in leased] == [(job, 1) for job in jobs]

    async def test_one_dead_letter_can_be_redriven(self) -> None:
        async with self.opened() as opened:
            first, second = [await self.bury(opened) for _ in range(2)]
            letters = _dead_letters(opened)
            assert await letters.redrive(opened.queue, message_id="no-such-id") == 0
            assert await letters.redrive(opened.queue, message_id=second.message.id) == 1
            assert (await self.take(opened)).job == second
            assert [letter.job for letter in await self.dead(opened)] == [first]

    async def test_a_waiting_lease_gets_a_redriven_job(self) -> None:
        async with self.opened() as opened:
            job = await self.bury(opened)
            waiting = asyncio.ensure_future(self.take(opened))
            await self.silence(opened.clock)
            await _dead_letters(opened).redrive(opened.queue)
            assert (await self.soon(waiting)).job == job

    async def test_a_redriven_job_is_not_held_to_be_a_duplicate(self) -> None:
        async with self.opened() as opened:
            await opened.bridge.enqueue(self.job(opened.queue, key="a"))
            await _bury(opened.bridge, await self.take(opened))
            assert await _dead_letters(opened).redrive(opened.queue) == 1
            assert (await self.take(opened)).attempt == 1

    async def test_purged_dead_letters_are_gone(self) -> None:
        async with self.opened() as opened:
            first, second, third = [await self.bury(opened) for _ in range(3)]
            letters = _dead_letters(opened)
            assert await letters.purge(opened.queue, message_id="no-such-id") == 0
            assert await letters.purge(opened.queue, message_id=second.message.id) == 1
            assert [letter.job for letter in await self.dead(opened)] == [first, third]
            assert await letters.purge(opened.queue) == 2
            assert await self.dead(opened) == []
            assert await letters.redrive(opened.queue) == 0
            assert await self.is_empty(opened)

    # -- close ---------------------------------------------------------------------------------

    async def test_a_closed_bridge_takes_nothing_new(self) -> None:
        async with self.opened() as (bridge, _, queue):
            await bridge.close()
            assert await self.soon(_is_refused(bridge.enqueue(self.job(queue))))
            for wait in (None, NOW):
                lease = bridge.lease(queue, duration=self.long, wait=wait)
                assert await self.soon(_is_refused(lease))

    async def test_close_wakes_every_waiting_lease(self) -> None:
        async with self.opened() as (bridge, clock, queue):
            waiting = [
                asyncio.ensure_future(
                    _is_refused(bridge.lease(queue, duration=self.long, wait=wait))
                )
                for wait in (None, self.long)
            ]
            await self.silence(clock)
            await self.soon(bridge.close())
            assert await self.soon(asyncio.gather(*waiting)) == [True, True]

    async def test_jobs_that_are_leased_can_be_settled_while_the_bridge_closes(self) -> None:
        async with self.opened() as opened:
            for _ in range(3):
                await opened.bridge.enqueue(self.job(opened.queue))
            leased = [await self.take(opened) for _ in range(3)]
            await self.soon(opened.bridge.close())
            await self.soon(opened.bridge.extend(leased[0], duration=self.long))
            for settle, each in zip((_ack, _nack, _bury), leased, strict=True):
                await self.soon(settle(opened.bridge, each))

    async def test_close_may_be_repeated(self) -> None:
        async with self.opened() as opened:
            await self.soon(opened.bridge.close())
            await self.soon(opened.bridge.close())

    # -- what the capabilities say -------------------------------------------------------------

    async def test_another_bridge_gets_the_jobs_if_the_bridge_says_so(self) -> None:
        clock, queue = self.clock(), self.name("queue")
        async with self.bridge(clock) as here, self.bridge(clock) as there:
            await here.enqueue(self.job(queue))
            reached = here.capabilities.across_processes
            opened = Opened(there if reached else here, clock, queue)
            if not reached:
                assert await self.is_empty(opened._replace(bridge=there))
            assert (await self.take(opened)).attempt == 1

    async def test_jobs_outlive_the_bridge_if_it_is_durable(self) -> None:
        clock, queue = self.clock(), self.name("queue")
        async with self.bridge(clock) as bridge:
            await bridge.enqueue(self.job(queue))
        async with self.bridge(clock) as bridge:
            survived = not await self.is_empty(Opened(bridge, clock, queue))
            assert survived is bridge.capabilities.durable


def _dead_letters(opened: Opened) -> DeadLetters:
    assert isinstance(opened.bridge, DeadLetters), "a queue bridge implements DeadLetters, too"
    return opened.bridge


async def _ack(bridge: QueueBridge, leased: LeasedJob) -> None:
    await bridge.ack(leased)


async def _nack(bridge: QueueBridge, leased: LeasedJob) -> None:
    await bridge.nack(leased, retry_in=timedelta(days=1), reason="not now")


async def _bury(bridge: QueueBridge, leased: LeasedJob) -> None:
    await bridge.nack(leased, retry_in=None, reason="useless")


async def _is_lost(call: Awaitable[object]) -> bool:
    try:
        await call
    except LeaseLostError:
        return True
    return False


async def _is_refused(call: Awaitable[object]) -> bool:
    try:
        await call
    except BridgeClosedError:
        return True
    return False

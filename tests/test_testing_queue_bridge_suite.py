"""The suite fails for bridges that break the port: each of its tests is shown to."""

import asyncio
import contextlib
import dataclasses
from datetime import timedelta

import pytest

from purista.bridges.keys import Keys
from purista.bridges.memory import MemoryQueueBridge
from purista.errors import LeaseLostError
from purista.testing import QueueBridgeSuite

NOW = timedelta(0)
LONG = timedelta(days=1)


class Boastful(MemoryQueueBridge):
    @property
    def capabilities(self):
        return dataclasses.replace(super().capabilities, durable=True, across_processes=True)


class Modest(MemoryQueueBridge):
    @property
    def capabilities(self):
        return dataclasses.replace(super().capabilities, deduplicates=False)


class Nameless(MemoryQueueBridge):
    @property
    def capabilities(self):
        return dataclasses.replace(super().capabilities, name="")


class ForgetsTheRun(MemoryQueueBridge):
    async def enqueue(self, job):
        return await super().enqueue(job._replace(message=job.message._replace(run=None)))


class LastComesFirst(MemoryQueueBridge):
    async def enqueue(self, job):
        await super().enqueue(job)
        self._lines[job.message.name].ready.rotate(1)


class IgnoresCase(MemoryQueueBridge):
    async def enqueue(self, job):
        name = job.message.name.lower()
        return await super().enqueue(job._replace(message=job.message._replace(name=name)))


class NeverWaits(MemoryQueueBridge):
    async def lease(self, queue, *, duration, wait=None):
        return await super().lease(queue, duration=duration, wait=NOW)


class LeasesOnAfterwards(MemoryQueueBridge):
    """The call ends, but what it began goes on and takes a job."""

    async def lease(self, queue, *, duration, wait=None):
        if wait == NOW:
            return await super().lease(queue, duration=duration, wait=NOW)
        leasing = asyncio.ensure_future(super().lease(queue, duration=duration))
        if wait is None:
            return await asyncio.shield(leasing)
        waiting = asyncio.ensure_future(self._clock.sleep(wait))
        await asyncio.wait([leasing, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return leasing.result() if leasing.done() else None


class LosesJobsOfCancelledLeases(MemoryQueueBridge):
    def _give_back(self, leased):
        pass


class LendsToEverybody(MemoryQueueBridge):
    def _lend(self, line, due, duration, now):
        line.ready.append(due)
        return super()._lend(line, due, duration, now)


class ForgetsTheLease(MemoryQueueBridge):
    def _ran_out(self, token):
        pass


class LosesTheJobWithItsLease(MemoryQueueBridge):
    def _ran_out(self, token):
        del self._leased[token]


class LeasesEndEarly(MemoryQueueBridge):
    async def lease(self, queue, *, duration, wait=None):
        return await super().lease(queue, duration=duration / 4, wait=wait)


class TriesForEver(MemoryQueueBridge):
    def _bury(self, line, job, attempts, reason):
        self._put(line, (job, attempts))


class DoesNotExtend(MemoryQueueBridge):
    async def extend(self, leased, *, duration):
        if leased.token not in self._leased:
            raise LeaseLostError("lost")


class ExtendsForEver(MemoryQueueBridge):
    async def extend(self, leased, *, duration):
        await super().extend(leased, duration=LONG)


class TakesLateAnswers(MemoryQueueBridge):
    async def ack(self, leased):
        with contextlib.suppress(LeaseLostError):
            await super().ack(leased)


class KeepsAckedJobs(MemoryQueueBridge):
    async def ack(self, leased):
        await super().nack(leased, retry_in=NOW, reason="acked")


class LosesNackedJobs(MemoryQueueBridge):
    async def nack(self, leased, *, retry_in, reason):
        await super().ack(leased)
        return False


class RetriesAtOnce(MemoryQueueBridge):
    async def nack(self, leased, *, retry_in, reason):
        retry_in = None if retry_in is None else NOW
        return await super().nack(leased, retry_in=retry_in, reason=reason)


class CountsNoAttempts(MemoryQueueBridge):
    def _lend(self, line, due, duration, now):
        return super()._lend(line, (due[0], 0), duration, now)


class DoesNotDelay(MemoryQueueBridge):
    async def enqueue(self, job):
        return await super().enqueue(job._replace(delay=NOW))


class LosesDelayedJobs(MemoryQueueBridge):
    def _put_delayed(self, line, due):
        pass


class IgnoresKeys(MemoryQueueBridge):
    async def enqueue(self, job):
        return await super().enqueue(job._replace(key=None))


class SharesKeys(MemoryQueueBridge):
    async def enqueue(self, job):
        if job.key is None:
            return await super().enqueue(job)
        return self._keys.take(
            "any", job.key, now=0.0, window=LONG.total_seconds()
        ) and await super().enqueue(job._replace(key=None))


class KeepsKeysForEver(MemoryQueueBridge):
    async def enqueue(self, job):
        return await super().enqueue(job._replace(dedupe_window=LONG))


class ListsNewestFirst(MemoryQueueBridge):
    async def dead_letters(self, queue):
        return list(reversed(await super().dead_letters(queue)))


class RedrivesWithoutAttempts(MemoryQueueBridge):
    async def redrive(self, queue, *, message_id=None):
        letters = self._lines[queue].take_letters(message_id)
        for letter in letters:
            self._put(self._lines[queue], (letter.job, letter.attempts))
        return len(letters)


class RedrivesAll(MemoryQueueBridge):
    async def redrive(self, queue, *, message_id=None):
        return await super().redrive(queue)


class RedrivesWithoutWaking(MemoryQueueBridge):
    async def redrive(self, queue, *, message_id=None):
        line = self._lines[queue]
        letters = line.take_letters(message_id)
        line.ready.extend((letter.job, 0) for letter in letters)
        return len(letters)


class RedrivesAsNew(MemoryQueueBridge):
    async def redrive(self, queue, *, message_id=None):
        letters = self._lines[queue].take_letters(message_id)
        return sum([await self.enqueue(letter.job) for letter in letters])


class DoesNotPurge(MemoryQueueBridge):
    async def purge(self, queue, *, message_id=None):
        return len(self._lines[queue].letters(message_id))


class IsAlwaysOpen(MemoryQueueBridge):
    async def close(self):
        pass


class LetsThemWait(MemoryQueueBridge):
    async def close(self):
        self._closed = True


class ClosesHard(MemoryQueueBridge):
    async def close(self):
        self._leased.clear()
        await super().close()


class ClosesOnce(MemoryQueueBridge):
    async def close(self):
        if self._closed:
            raise RuntimeError("closed already")
        await super().close()


BROKEN = {
    Boastful: [
        "another_bridge_gets_the_jobs_if_the_bridge_says_so",
        "jobs_outlive_the_bridge_if_it_is_durable",
    ],
    Modest: ["a_key_is_enqueued_once_if_the_bridge_deduplicates"],
    Nameless: ["the_capabilities_have_a_name_and_do_not_change"],
    ForgetsTheRun: ["a_job_is_leased_as_it_was_enqueued"],
    LastComesFirst: ["the_job_that_waited_longest_comes_first"],
    IgnoresCase: ["queues_do_not_share_their_jobs"],
    NeverWaits: [
        "lease_returns_none_when_no_job_came_in_time",
        "a_waiting_lease_gets_the_job_that_comes",
        "a_waiting_lease_gets_the_job_whose_lease_runs_out",
        "a_waiting_lease_gets_the_job_whose_delay_is_over",
        "a_waiting_lease_gets_a_redriven_job",
        "close_wakes_every_waiting_lease",
    ],
    LeasesOnAfterwards: [
        "a_lease_that_gave_up_takes_no_job",
        "a_cancelled_lease_keeps_no_job",
        "a_lease_that_is_cancelled_as_its_job_comes_keeps_no_job",
    ],
    LosesJobsOfCancelledLeases: ["a_lease_that_is_cancelled_as_its_job_comes_keeps_no_job"],
    LendsToEverybody: ["each_job_goes_to_one_of_many_leases", "a_leased_job_is_nobody_elses"],
    ForgetsTheLease: [
        "a_job_whose_lease_ran_out_is_due_again",
        "a_lease_that_runs_out_in_the_last_attempt_leaves_a_dead_letter",
        "an_extended_lease_runs_out_later",
        "a_lost_lease_can_do_nothing",
    ],
    LosesTheJobWithItsLease: [
        "a_job_whose_lease_ran_out_is_due_again",
        "a_waiting_lease_gets_the_job_whose_lease_runs_out",
        "a_lease_that_runs_out_in_the_last_attempt_leaves_a_dead_letter",
    ],
    LeasesEndEarly: ["a_job_whose_lease_ran_out_is_due_again"],
    TriesForEver: [
        "a_lease_that_runs_out_in_the_last_attempt_leaves_a_dead_letter",
        "a_job_without_attempts_left_becomes_a_dead_letter",
        "a_job_that_is_not_to_be_tried_again_becomes_a_dead_letter",
    ],
    DoesNotExtend: ["an_extended_lease_runs_out_later", "a_lease_can_be_made_shorter"],
    ExtendsForEver: ["an_extended_lease_runs_out_later", "a_lease_can_be_made_shorter"],
    TakesLateAnswers: ["a_lost_lease_can_do_nothing", "a_job_is_settled_once"],
    KeepsAckedJobs: ["an_acked_job_is_gone"],
    LosesNackedJobs: [
        "a_nacked_job_is_due_at_once_when_that_is_asked_for",
        "a_nacked_job_waits_for_its_retry",
        "a_job_without_attempts_left_becomes_a_dead_letter",
    ],
    RetriesAtOnce: ["a_nacked_job_waits_for_its_retry"],
    CountsNoAttempts: [
        "a_job_without_attempts_left_becomes_a_dead_letter",
        "a_job_whose_lease_ran_out_is_due_again",
    ],
    DoesNotDelay: ["a_delayed_job_is_due_later_if_the_bridge_can_delay"],
    LosesDelayedJobs: [
        "a_delayed_job_is_due_later_if_the_bridge_can_delay",
        "a_nacked_job_waits_for_its_retry",
    ],
    IgnoresKeys: [
        "a_key_is_enqueued_once_if_the_bridge_deduplicates",
        "a_key_can_be_used_again_after_its_window",
    ],
    SharesKeys: ["keys_belong_to_their_queue"],
    KeepsKeysForEver: ["a_key_can_be_used_again_after_its_window"],
    ListsNewestFirst: ["dead_letters_are_listed_oldest_first"],
    RedrivesWithoutAttempts: ["redriven_dead_letters_have_all_their_attempts_again"],
    RedrivesAll: ["one_dead_letter_can_be_redriven"],
    RedrivesWithoutWaking: ["a_waiting_lease_gets_a_redriven_job"],
    RedrivesAsNew: ["a_redriven_job_is_not_held_to_be_a_duplicate"],
    DoesNotPurge: ["purged_dead_letters_are_gone"],
    IsAlwaysOpen: ["a_closed_bridge_takes_nothing_new", "close_wakes_every_waiting_lease"],
    LetsThemWait: ["close_wakes_every_waiting_lease"],
    ClosesHard: ["jobs_that_are_leased_can_be_settled_while_the_bridge_closes"],
    ClosesOnce: ["close_may_be_repeated"],
}


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        pytest.param(broken, test, id=broken.__name__)
        for broken in BROKEN
        for test in BROKEN[broken]
    ],
)
async def test_the_suite_fails_for_a_bridge_that_breaks_the_port(broken, test):
    with pytest.raises((AssertionError, LookupError, LeaseLostError, RuntimeError, ValueError)):
        await getattr(suite_of(broken), f"test_{test}")()


def test_every_test_of_the_suite_is_shown_to_fail():
    tests = {
        name.removeprefix("test_") for name in dir(QueueBridgeSuite) if name.startswith("test_")
    }
    assert {test for broken in BROKEN.values() for test in broken} == tests


class Plain(MemoryQueueBridge):
    """Can do less than others, and says so."""

    @property
    def capabilities(self):
        return dataclasses.replace(super().capabilities, delayed=False, deduplicates=False)

    async def enqueue(self, job):
        assert not job.delay
        self._keys = Keys()
        return await super().enqueue(job)


@pytest.mark.parametrize("test", [name for name in dir(QueueBridgeSuite) if "test_" in name])
async def test_the_suite_asks_no_more_of_a_bridge_than_it_says(test):
    suite = suite_of(Plain)
    suite.patience = timedelta(seconds=10)
    await getattr(suite, test)()


async def test_a_bridge_without_dead_letters_is_told_that_it_needs_them():
    class WithoutDeadLetters(MemoryQueueBridge):
        redrive = None

    with pytest.raises(AssertionError, match="implements DeadLetters"):
        await suite_of(WithoutDeadLetters).test_purged_dead_letters_are_gone()


def test_a_suite_that_opens_no_bridge_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="NoBridge"):
        type("NoBridge", (QueueBridgeSuite,), {})().bridge(None)


def suite_of(broken):
    class Suite(QueueBridgeSuite):
        patience = timedelta(seconds=0.1)

        @contextlib.asynccontextmanager
        async def bridge(self, clock):
            bridge = broken(clock=clock)
            try:
                yield bridge
            finally:
                await MemoryQueueBridge.close(bridge)

    return Suite()

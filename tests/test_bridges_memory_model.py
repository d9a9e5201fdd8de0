"""The in-memory queue bridge against a model that is too simple to be wrong, on random walks."""

import asyncio
import random
from datetime import timedelta
from typing import NamedTuple

import pytest

from purista.bridges import Job
from purista.bridges.memory import MemoryQueueBridge
from purista.errors import LeaseLostError
from purista.message import Message
from purista.testing import ManualClock

QUEUE = "queue"
STEPS = 200


class State(NamedTuple):
    """Where a job stands: what it is, since or until when (seconds), and how often it was tried."""

    what: str
    at: int
    attempts: int


class Walk:
    """A bridge and what is to be expected of it; every step does one thing to both."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.clock = ManualClock()
        self.bridge = MemoryQueueBridge(clock=self.clock)
        self.now = 0
        self.jobs = {}
        self.states = {}
        self.leases = []
        self.keys = {}
        self.waiting = []

    async def step(self):
        steps = [self.enqueue, self.lease, self.wait, self.stop_waiting, self.let_time_pass]
        steps += [self.ack, self.nack, self.extend, self.enqueue, self.lease, self.redrive]
        await self.random.choice(steps)()
        await self.clock.settle()
        self.serve_waiting()
        await self.compare_dead_letters()

    async def enqueue(self):
        delay, window = self.random.randint(-3, 3), self.random.randint(0, 5)
        job = self.new_job()._replace(
            delay=seconds(delay),
            key=self.random.choice([None, None, "a", "b"]),
            dedupe_window=seconds(window),
        )
        known = job.key is not None and self.keys.get(job.key, 0) > self.now
        assert await self.bridge.enqueue(job) is not known
        if not known:
            what = "delayed" if delay > 0 else "due"
            self.expect(job, State(what, self.now + max(delay, 0), 0))
            self.keys[job.key] = self.now + window

    async def lease(self):
        duration = self.random.randint(1, 4)
        leased = await self.bridge.lease(QUEUE, duration=seconds(duration), wait=seconds(0))
        if leased is None:
            assert not self.due(), "there was a job that is due"
        else:
            self.note(leased, duration)

    async def wait(self):
        if len(self.waiting) < 3:
            duration = self.random.randint(1, 4)
            lease = self.bridge.lease(QUEUE, duration=seconds(duration))
            self.waiting.append((asyncio.ensure_future(lease), duration))

    async def stop_waiting(self):
        """Cancel a waiting lease, in the moment in which a job comes or in another."""
        if not self.waiting:
            return
        task, _ = self.waiting.pop(self.random.randrange(len(self.waiting)))
        if self.random.random() < 0.7:
            job = self.new_job()
            await self.bridge.enqueue(job)
            self.expect(job, State("due", self.now, 0))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    async def ack(self):
        lease = self.recent_lease()
        if lease and await self.settles(lease, self.bridge.ack(lease)):
            self.states[name_of(lease)] = State("done", self.now, lease.attempt)

    async def nack(self):
        lease, retry_in = self.recent_lease(), self.random.choice([None, -1, 0, 1, 2, 3])
        delay = None if retry_in is None else seconds(retry_in)
        if not lease or not await self.settles(
            lease, self.bridge.nack(lease, retry_in=delay, reason="no")
        ):
            return
        state = State("due", self.now, lease.attempt)
        if retry_in is None or lease.attempt >= lease.job.max_attempts:
            state = state._replace(what="dead")
        elif retry_in > 0:
            state = State("delayed", self.now + retry_in, lease.attempt)
        self.states[name_of(lease)] = state

    async def extend(self):
        lease, duration = self.recent_lease(), self.random.randint(1, 4)
        if lease and await self.settles(
            lease, self.bridge.extend(lease, duration=seconds(duration))
        ):
            name = name_of(lease)
            self.states[name] = self.states[name]._replace(at=self.now + duration)

    async def let_time_pass(self):
        await self.clock.advance(seconds(1))
        self.now += 1
        for name, state in self.states.items():
            self.states[name] = self.after(name, state)

    async def redrive(self):
        dead = [name for name, state in self.states.items() if state.what == "dead"]
        assert await self.bridge.redrive(QUEUE) == len(dead)
        for name in dead:
            self.states[name] = State("due", self.now, 0)

    async def compare_dead_letters(self):
        letters = await self.bridge.dead_letters(QUEUE)
        dead = {name: each.attempts for name, each in self.states.items() if each.what == "dead"}
        assert {letter.job.message.id: letter.attempts for letter in letters} == dead
        assert len(letters) == len(dead)

    async def finish(self):
        for task, _ in self.waiting:
            task.cancel()
        await self.clock.settle()
        await self.bridge.close()

    def new_job(self):
        message = Message(QUEUE, b"", f"job-{len(self.jobs)}")
        return Job(message, self.random.randint(1, 3))

    def expect(self, job, state):
        self.jobs[job.message.id] = job
        self.states[job.message.id] = state

    def recent_lease(self):
        """Return one of the last few leases, whether it is still held or not."""
        return self.random.choice(self.leases[-4:] or [None])

    def after(self, name, state):
        """Return where a job stands once its time has come."""
        if state.at > self.now or state.what not in ("delayed", "leased"):
            return state
        if state.what == "leased" and state.attempts >= self.jobs[name].max_attempts:
            return state._replace(what="dead")
        return state._replace(what="due")

    def due(self):
        return {name: state.at for name, state in self.states.items() if state.what == "due"}

    def note(self, leased, duration):
        """Check that the right job was leased, and note that it is."""
        name, due = name_of(leased), self.due()
        assert name in due, "a job was leased that is not due"
        assert due[name] == min(due.values()), "another job has waited longer"
        assert leased.job == self.jobs[name]
        assert leased.attempt == self.states[name].attempts + 1
        self.states[name] = State("leased", self.now + duration, leased.attempt)
        self.leases.append(leased)

    def serve_waiting(self):
        """Check that those that waited longest have got the jobs that are due, in their order."""
        while self.waiting and self.due():
            task, duration = self.waiting.pop(0)
            assert task.done(), "there is a job that is due, and this one still waits"
            self.note(task.result(), duration)
        assert not any(task.done() for task, _ in self.waiting)

    async def settles(self, lease, call):
        """Make the call; it fails if and only if the lease is lost."""
        state = self.states[name_of(lease)]
        latest = [each for each in self.leases if name_of(each) == name_of(lease)][-1]
        held = state.what == "leased" and latest == lease
        try:
            await call
        except LeaseLostError:
            assert not held, "the lease was not lost"
            return False
        assert held, "a lost lease settled the job"
        return True


def seconds(number):
    return timedelta(seconds=number)


def name_of(lease):
    return lease.job.message.id


@pytest.mark.parametrize("seed", range(40))
async def test_the_bridge_does_what_the_model_says(seed):
    walk = Walk(seed)
    try:
        for _ in range(STEPS):
            await walk.step()
    finally:
        await walk.finish()

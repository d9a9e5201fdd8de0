"""Bridges of this process for schedules that are run by hand: they know when all is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from purista.bridges import Job, LeasedJob, QueueBridge
from purista.bridges.memory_events import MemoryEventBridge
from purista.bridges.memory_queues import MemoryQueueBridge
from purista.clock import Clock
from purista.contract import Schedule, target_kind
from purista.errors import LoadError
from purista.service import Service, serves

POLL: Final = timedelta(milliseconds=20)


class LocalBridges:
    """Events in memory, and jobs where ``queues`` is no other place for them; with all that follows."""

    def __init__(self, services: Iterable[Service], queues: QueueBridge | None = None) -> None:
        self.events = MemoryEventBridge()
        self._counted = _CountingQueues()
        self.queues = queues or self._counted
        self._served = {name for service in services for name in service.workers}

    async def failure(self, most: timedelta, clock: Clock) -> str:
        """Wait until nothing is left to do or to retry, ``most`` at most; return what came to nothing."""
        end = clock.monotonic() + most.total_seconds()
        while self._is_busy(await self._counted.waiting()) and clock.monotonic() < end:
            await clock.sleep(POLL)
        waiting = await self._counted.waiting()
        dead = self.events.buried + self._counted.unacked.total() - waiting.total()
        left = self.events.left + waiting.total()
        found = []
        if dead:
            found.append(f"{dead} events or jobs that it set off failed for good, see the log")
        if left:
            found.append(f"{left} events or jobs that it set off were not done and are lost")
        return "; ".join(found)

    def _is_busy(self, waiting: Counter[str]) -> bool:
        return self.events.left > 0 or not self._served.isdisjoint(+waiting)


def refuse_unserved(services: Iterable[Service], schedule: Schedule) -> None:
    """Raise ``LoadError`` where no handler of this process takes what the schedule sends."""
    target = schedule.target
    if not serves(services, target):
        raise LoadError(
            f"schedule '{schedule.id}': no handler of {target_kind(target)} "
            f"'{target.name}' is in this process; name the service whose code has it, or "
            "send the trigger to its ingress with --url"
        )


class _CountingQueues(MemoryQueueBridge):
    """Counts the jobs of each queue that were not acked."""

    def __init__(self) -> None:
        super().__init__()
        self.unacked: Counter[str] = Counter()

    async def enqueue(self, job: Job) -> bool:
        is_new = await super().enqueue(job)
        self.unacked[job.message.name] += int(is_new)
        return is_new

    async def ack(self, leased: LeasedJob) -> None:
        await super().ack(leased)
        self.unacked[leased.queue] -= 1

    async def waiting(self) -> Counter[str]:
        """Return how many jobs of each queue are neither acked nor dead letters."""
        found = self.unacked.copy()
        for name in self.unacked:
            found[name] -= len(await self.dead_letters(name))
        return found

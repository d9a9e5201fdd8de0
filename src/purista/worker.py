"""The worker: lease a job, run its handler, then ack, nack or bury it."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from purista.bridges import LeasedJob
from purista.clock import Timer
from purista.errors import BridgeClosedError, BridgeError, LeaseLostError, PayloadError
from purista.handling import Handling
from purista.message import CANCELLED, RUN_ENDED, Message, RunInfo, new_message_id
from purista.service import WorkerDeclaration

if TYPE_CHECKING:
    from purista.host import Host

logger = logging.getLogger("purista.worker")

BRIDGE_PAUSE = timedelta(seconds=1)
"""How long a worker waits before it asks a broker again that failed."""

PARTING = 1.0
"""Seconds that a worker which stops has to give back a job."""


class Worker:
    """Works on one queue, ``concurrency`` jobs at a time.

    A lease is prolonged while its handler runs. Returning acks; raising nacks with the queue's
    backoff, until the attempts are used up and the job becomes a dead letter. A job that does not fit
    its schema becomes one at once, as trying again cannot help.
    """

    def __init__(self, declaration: WorkerDeclaration[Any], host: Host) -> None:
        self._declaration = declaration
        self._queue = declaration.queue
        self._host = host
        self._bridge = host.queue_bridge
        self._loops: dict[asyncio.Task[None], tuple[LeasedJob, Handling] | None] = {}
        self._keeper: Timer | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def is_busy(self) -> bool:
        """Whether a job is being begun or settled; handlers at work do not count."""
        return any(job and job[1] not in self._host.at_work for job in self._loops.values())

    def start(self) -> None:
        """Start one loop per concurrent job."""
        for number in range(self._declaration.concurrency):
            name = f"purista worker {self._queue.name} {number}"
            self._loops[asyncio.create_task(self._loop(), name=name)] = None

    async def stop(self) -> None:
        """Take no more jobs and wait until those at work are done."""
        self._stopping = True
        for task, job in self._loops.items():
            if job is None:
                task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def abandon(self) -> None:
        """Cancel what is still at work; its jobs are due again."""
        self._stopping = True
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        if self._keeper is not None:
            self._keeper.cancel()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _loop(self) -> None:
        while True:
            try:
                await self._work_on()
                return
            except BridgeClosedError:
                return
            except BridgeError:
                logger.exception("queue %s: the broker failed", self._queue.name)
                if self._stopping:
                    return
                await self._host.clock.sleep(BRIDGE_PAUSE)

    async def _work_on(self) -> None:
        """Lease and work, one job after another, as long as the broker answers.

        All that a job needs is in this one frame: a call more costs every job a twentieth.
        """
        task = asyncio.current_task()
        assert task is not None
        bridge, host, at_work = self._bridge, self._host, self._host.at_work
        handler, load = self._declaration.handler, self._queue.schema.load
        if host.telemetry is not None:
            handler = host.telemetry.traced("work on", handler)
        name, duration, heartbeat = self._queue.name, self._queue.lease, self._heartbeat
        while not self._stopping:
            leased = await bridge.lease(name, duration=duration)
            if leased is None:
                continue
            message = leased.job.message
            run = message.run
            handling = Handling(host, message, leased.attempt, heartbeat, task)
            self._loops[task] = leased, handling
            if self._keeper is None:
                self._keep()
            try:
                if run is not None and run.is_target and await self._is_dropped(leased, run):
                    continue
                try:
                    payload = load(message.body)
                except PayloadError as error:
                    await self._bury(leased, f"payload: {error}")
                    continue
                at_work.add(handling)
                host.begun += 1
                try:
                    await handler(payload, handling)
                except BaseException as error:
                    at_work.discard(handling)
                    await self._unfinished(leased, handling, error)
                    continue
                at_work.discard(handling)
                if handling.reason:
                    handling.absorb()
                await bridge.ack(leased)
                if run is not None and run.is_target:
                    await self._ended(run, handling.reason or "acked")
            except LeaseLostError:
                logger.warning("queue %s: a lease was lost; the job is tried again", name)
            finally:
                self._loops[task] = None

    async def _unfinished(
        self, leased: LeasedJob, handling: Handling, error: BaseException
    ) -> None:
        """Settle a job whose handler raised; raise what is not its own affair."""
        absorbed = handling.absorb()
        if isinstance(error, Exception):
            await self._fail(leased, error)
        elif absorbed and isinstance(error, asyncio.CancelledError):
            await self._drop(leased, handling.reason)
        else:
            await self._give_back(leased)
            raise error

    async def _give_back(self, leased: LeasedJob) -> None:
        """Let another have a job that was cut off; one that cannot be told is due when its lease is over."""
        try:
            async with asyncio.timeout(PARTING):
                await self._bridge.nack(leased, retry_in=timedelta(0), reason="the worker stopped")
        except (BridgeError, TimeoutError) as error:
            logger.warning(
                "queue %s: job %s comes again when its lease is over (%s)",
                leased.queue,
                leased.job.message.id,
                type(error).__name__,
            )

    async def _is_dropped(self, leased: LeasedJob, run: RunInfo) -> bool:
        """Settle a job whose run was cancelled before it began."""
        reason = await self._host.was_cancelled(run)
        if reason:
            await self._drop(leased, reason)
        return reason != ""

    async def _fail(self, leased: LeasedJob, error: Exception) -> None:
        message = leased.job.message
        logger.warning(
            "queue %s: attempt %d of job %s failed, run %s",
            leased.queue,
            leased.attempt,
            message.id,
            message.run.run_id if message.run else message.id,
            exc_info=error,
        )
        delay = self._queue.backoff.delay(leased.attempt, random.random())  # noqa: S311 - spread
        reason = f"{type(error).__name__} in the handler"
        if await self._bridge.nack(leased, retry_in=delay, reason=reason):
            await self._buried(message, reason)

    async def _bury(self, leased: LeasedJob, reason: str) -> None:
        await self._bridge.nack(leased, retry_in=None, reason=reason)
        await self._buried(leased.job.message, reason)

    async def _buried(self, message: Message, reason: str) -> None:
        logger.error("queue %s: job %s is a dead letter: %s", message.name, message.id, reason)
        if message.run is not None and message.run.is_target:
            await self._ended(message.run, "dead_lettered")

    async def _drop(self, leased: LeasedJob, reason: str) -> None:
        """End a job whose run is not wanted any more; one that ran out of time is a dead letter."""
        if reason in ("replaced", CANCELLED):
            await self._bridge.ack(leased)
        elif reason != "lease_lost":
            await self._bury(leased, f"the run was cancelled: {reason}")

    async def _ended(self, run: RunInfo, outcome: str) -> None:
        body = json.dumps({"outcome": outcome}).encode()
        await self._host.event_bridge.publish(Message(RUN_ENDED, body, new_message_id(), run))

    def _keep(self) -> None:
        """Prolong the leases at work when a third of them has passed, as long as there are any."""
        if any(self._loops.values()):
            if self._keeping is None or self._keeping.done():
                self._keeping = asyncio.create_task(self._prolong())
            self._keeper = self._host.clock.call_later(self._queue.lease / 3, self._keep)
        else:
            self._keeper = None

    async def _prolong(self) -> None:
        for job in tuple(self._loops.values()):
            if job is None or job[1] not in self._host.at_work:
                continue
            leased, handling = job
            try:
                await self._bridge.extend(leased, duration=self._queue.lease)
            except LeaseLostError:
                if handling in self._host.at_work:
                    logger.warning("queue %s: a lease was lost", leased.queue)
                    handling.cancel("lease_lost")
            except BridgeError:
                logger.exception("queue %s: a lease could not be prolonged", leased.queue)

    async def _heartbeat(self, handling: Handling, extend_by: timedelta | None) -> None:
        for leased, at_work in filter(None, self._loops.values()):
            if at_work is handling:
                await self._bridge.extend(leased, duration=extend_by or self._queue.lease)

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
from purista.errors import (
    BridgeClosedError,
    BridgeError,
    LeaseLostError,
    LedgerError,
    PayloadError,
)
from purista.handling import Handling
from purista.message import CANCELLED, RUN_ENDED, Message, RunInfo, new_message_id
from purista.service import WorkerDeclaration

if TYPE_CHECKING:
    from purista.host import Host

logger = logging.getLogger("purista.worker")

BRIDGE_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=5)
"""How long a worker waits, at first and at most, before it asks a broker or a ledger again that failed."""

PARTING = 1.0
"""Seconds that a worker which stops has to give back a job."""

_ENDS = (SystemExit, KeyboardInterrupt, GeneratorExit)
"""What ends the process, or the event loop: no matter of one handler."""


class Worker:
    """Works on one queue, ``concurrency`` jobs at a time.

    A lease is prolonged while its handler runs. Returning acks; raising nacks with the queue's
    backoff, until the attempts are used up and the job becomes a dead letter. A job that does not fit
    its schema becomes one at once, as trying again cannot help. While the ledger cannot say whether
    a job's run is still wanted, the job is neither begun nor used up: its lease is prolonged.
    """

    def __init__(self, declaration: WorkerDeclaration[Any], host: Host) -> None:
        self._declaration = declaration
        self._queue = declaration.queue
        self._host = host
        self._bridge = host.queue_bridge
        self._loops: dict[asyncio.Task[None], tuple[LeasedJob, Handling] | None] = {}
        self._keeper: Timer | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._asking: set[Handling] = set()
        self._is_refused = False
        self._is_unsure = False
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
        """Take no more jobs and wait until those at work are done, and it is told that they are."""
        self._stopping = True
        for task, job in self._loops.items():
            if job is None:
                task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def abandon(self) -> None:
        """Cancel what is still at work; its jobs are due again."""
        self._stopping = True
        left = [*self._loops, *self._ending]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._keeper is not None:
            self._keeper.cancel()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def _loop(self) -> None:
        pause = BRIDGE_PAUSE
        while True:
            try:
                await self._work_on()
                return
            except BridgeClosedError:
                return
            except BridgeError as error:
                pause = min(2 * pause, LONGEST_PAUSE) if self._is_refused else BRIDGE_PAUSE
                if not self._stopping:
                    self._refused(error)
            except asyncio.CancelledError:
                if is_cut_off():
                    raise
                logger.exception("queue %s: a worker was disturbed; it goes on", self._queue.name)
            except Exception:
                logger.exception("queue %s: a worker failed; it goes on", self._queue.name)
            if self._stopping:
                return
            await self._host.clock.sleep(pause)

    def _refused(self, error: BridgeError) -> None:
        """Say once that the broker fails, however many loops meet it."""
        if not self._is_refused:
            self._is_refused = True
            logger.error("queue %s: jobs wait, the broker failed: %s", self._queue.name, error)

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
            if self._is_refused:
                self._is_refused = False
                logger.warning("queue %s: the broker is back", name)
            if leased is None:
                continue
            message = leased.job.message
            run = message.run
            handling = Handling(host, message, leased.attempt, heartbeat, task)
            self._loops[task] = leased, handling
            if self._keeper is None:
                self._keep()
            try:
                if (
                    run is not None
                    and run.is_target
                    and await self._is_dropped(leased, handling, run)
                ):
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
        absorbed, is_cancelled = handling.absorb(), isinstance(error, asyncio.CancelledError)
        if absorbed and is_cancelled:
            await self._drop(leased, handling.reason)
        elif isinstance(error, _ENDS) or (is_cancelled and is_cut_off()):
            await self._give_back(leased)
            raise error
        else:  # also for a cancellation of something that the handler waited for
            await self._fail(leased, error)

    async def _give_back(self, leased: LeasedJob) -> None:
        """Let another have a job that was cut off; one that cannot be told is due when its lease is over."""
        try:
            async with asyncio.timeout(PARTING):
                reason = "the worker stopped"
                if await self._bridge.nack(leased, retry_in=timedelta(0), reason=reason):
                    await self._buried(leased.job.message, reason)
        except (BridgeError, TimeoutError) as error:
            logger.warning(
                "queue %s: job %s comes again when its lease is over (%s)",
                leased.queue,
                leased.job.message.id,
                type(error).__name__,
            )

    async def _is_dropped(self, leased: LeasedJob, handling: Handling, run: RunInfo) -> bool:
        """Settle a job that is not to be begun: its run was cancelled, or nobody can say so in time."""
        self._asking.add(handling)
        try:
            reason = await self._why_not(leased, run)
        finally:
            self._asking.discard(handling)
        if reason is None:
            await self._give_back(leased)
        elif reason:
            await self._drop(leased, reason)
        return reason != ""

    async def _why_not(self, leased: LeasedJob, run: RunInfo) -> str | None:
        """Return why a run is not wanted any more, or an empty text; None when the worker stops first.

        A ledger that fails is asked again while the job stays leased, so that no attempt is used up.
        """
        pause, is_late = BRIDGE_PAUSE, False
        while True:
            try:
                reason = await self._host.was_cancelled(run)
            except LedgerError as error:
                self._unsure(error)
            else:
                self._sure()
                if is_late and not reason:
                    await self._bridge.extend(leased, duration=self._queue.lease)
                return reason
            if self._stopping:
                return None
            is_late = True
            await self._host.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _unsure(self, error: LedgerError) -> None:
        """Say once that the ledger fails, however many jobs wait for it."""
        if not self._is_unsure:
            self._is_unsure = True
            logger.error(
                "queue %s: jobs of runs wait, the ledger failed: %s", self._queue.name, error
            )

    def _sure(self) -> None:
        if self._is_unsure:
            self._is_unsure = False
            logger.warning("queue %s: the ledger is back", self._queue.name)

    async def _fail(self, leased: LeasedJob, error: BaseException) -> None:
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
        """Tell that a run is over; when the broker fails, again and again beside the next jobs."""
        body = json.dumps({"outcome": outcome}).encode()
        message = Message(RUN_ENDED, body, new_message_id(), run)
        try:
            await self._host.event_bridge.publish(message)
        except BridgeClosedError:
            raise
        except Exception as error:
            logger.warning("run %s: its end has to be told again: %s", run.run_id, _said(error))
            task = asyncio.create_task(self._tell_again(message))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    async def _tell_again(self, message: Message) -> None:
        pause = BRIDGE_PAUSE
        while True:
            await self._host.clock.sleep(pause)
            try:
                return await self._host.event_bridge.publish(message)
            except BridgeClosedError:
                return None
            except Exception:
                pause = min(2 * pause, LONGEST_PAUSE)

    def _keep(self) -> None:
        """Prolong the leases at work when a third of them has passed, as long as there are any."""
        if any(self._loops.values()):
            if self._keeping is None or self._keeping.done():
                self._keeping = asyncio.create_task(self._prolong())
            self._keeper = self._host.clock.call_later(self._queue.lease / 3, self._keep)
        else:
            self._keeper = None

    async def _prolong(self) -> None:
        """Prolong them all at once: one that takes long keeps none waiting."""
        wanted = self._host.at_work | self._asking
        jobs = [job for job in self._loops.values() if job is not None and job[1] in wanted]
        await asyncio.gather(*(self._extend(*job) for job in jobs))

    async def _extend(self, leased: LeasedJob, handling: Handling) -> None:
        try:
            await self._bridge.extend(leased, duration=self._queue.lease)
        except LeaseLostError:
            if handling in self._host.at_work:
                logger.warning("queue %s: a lease was lost", leased.queue)
                handling.cancel("lease_lost")
        except Exception:
            logger.exception("queue %s: a lease could not be prolonged", leased.queue)

    async def _heartbeat(self, handling: Handling, extend_by: timedelta | None) -> None:
        for leased, at_work in filter(None, self._loops.values()):
            if at_work is handling:
                await self._bridge.extend(leased, duration=extend_by or self._queue.lease)


def is_cut_off() -> bool:
    """Whether this task was cancelled itself, and not just something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _said(error: Exception) -> str:
    """Return an error in words; of one that is not ours only the kind, as its text can hold anything."""
    return str(error) if isinstance(error, BridgeError) else type(error).__name__

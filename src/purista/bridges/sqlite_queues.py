"""The SQLite queue bridge: work queues with leases in one file, for the processes of one machine."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from purista.bridges.port import DeadLetter, Job, LeasedJob, QueueBridgeCapabilities
from purista.bridges.sqlite_lines import Line
from purista.bridges.sqlite_rows import Lent, QueueRows, RanOut, Taken
from purista.bridges.sqlite_schema import QueueTables, moment
from purista.clock import Clock, SystemClock, Timer
from purista.errors import BridgeClosedError, BridgeError
from purista.sqlitefile import BUSY_TIMEOUT, SQLiteFile, store
from purista.sqlitethread import SQLiteThread

logger = logging.getLogger("purista.bridges")

POLL_INTERVAL = timedelta(milliseconds=100)
"""How often a bridge whose callers wait for a job looks whether another process wrote to the file."""

_CAPABILITIES = QueueBridgeCapabilities(
    name="sqlite",
    durable=True,
    delayed=True,
    deduplicates=True,
    wakes=True,
    across_processes=True,
)
_ZERO = timedelta(0)

T = TypeVar("T")


class SQLiteQueueBridge:
    """Implements ``QueueBridge``, ``DeadLetters`` and ``EnlistedQueues`` in the file ``path``.

    The file is made by the first call when it is not there. It may be that of a ``SQLiteLedger``,
    which then decides and enqueues in one transaction. What returned survives the end of the process,
    with ``synchronous="full"`` a power failure too; ``busy_timeout`` is how long a call waits for other
    processes. A waiting ``lease`` is woken at once by what happens in this process and sees within
    ``poll_interval`` what happened in others. For one event loop and one thread.

    What is wrong with the file is raised as ``BridgeError``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock | None = None,
        busy_timeout: timedelta = BUSY_TIMEOUT,
        synchronous: Literal["full", "normal"] = "full",
        poll_interval: timedelta = POLL_INTERVAL,
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise BridgeError(f"queues '{path}': it is no file; use MemoryQueueBridge")
        self._path = Path(path).absolute()
        self._store = store(self._path)
        self._clock = clock or SystemClock()
        self._poll_interval = poll_interval
        tables = QueueTables(self._clock)
        self._rows = QueueRows(tables)
        self._thread = SQLiteThread(
            SQLiteFile(self._path, tables, busy_timeout=busy_timeout, synchronous=synchronous),
            name="purista-queues",
        )
        self._lines: dict[str, Line] = {}
        self._flights: set[asyncio.Future[Any]] = set()
        self._poller: Timer | None = None
        self._is_polling = False
        self._is_closed = False

    @property
    def capabilities(self) -> QueueBridgeCapabilities:
        """What this bridge really does."""
        return _CAPABILITIES

    @property
    def store(self) -> str:
        """Which file it is; a ledger with an equal ``store`` is in the same one."""
        return self._store

    async def enqueue(self, job: Job) -> bool:
        """Store a job; False when its key was seen within the window of the job that brought it."""
        queue, now = job.message.name, self._now()
        self._refuse_when_closed(queue)
        due = await self._thread.write(
            lambda file: self._rows.enqueue(file, job, now), partial(self._expect, queue)
        )
        return due is not None

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None = None
    ) -> LeasedJob | None:
        """Take the job that was due first; calls that wait get theirs in the order they came.

        Raises ``ValueError`` for a duration that is not positive.
        """
        self._refuse_when_closed(queue)
        if duration <= _ZERO:
            raise _no_lease(queue, duration)
        line = self._lines.get(queue) or self._line(queue)
        waiter = line.join(duration, wait)
        try:
            if not waiter.is_brief:
                self._watch()
            return await waiter.future
        except asyncio.CancelledError:
            line.leave(waiter)
            raise
        finally:
            if line.is_idle and self._lines.get(queue) is line:
                del self._lines[queue]

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now. Raises ``LeaseLostError``, ``ValueError``.

        A lease that ran out is lost when the job was taken by another, not before.
        """
        if duration <= _ZERO:
            raise _no_lease(leased.queue, duration)
        now = self._now()
        await self._thread.write(
            lambda file: self._rows.extend(file, leased, duration, now),
            partial(self._expect, leased.queue),
        )

    async def ack(self, leased: LeasedJob) -> None:
        """Forget the job. Raises ``LeaseLostError``."""
        await self._thread.write(lambda file: self._rows.ack(file, leased))

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """Let the job be due again, or bury it (True). Raises ``LeaseLostError``."""
        now = self._now()
        due = await self._thread.write(
            lambda file: self._rows.nack(file, leased, retry_in, reason, now),
            partial(self._expect, leased.queue),
        )
        return due is None

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first; also after ``close``."""
        await self._bury_used_up(queue)
        return await self._thread.read(lambda file: self._rows.dead_letters(file, queue))

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Let dead letters be due now, oldest first, with all their attempts; return how many."""
        self._refuse_when_closed(queue)
        await self._bury_used_up(queue)
        now = self._now()
        return await self._thread.write(
            lambda file: self._rows.redrive(file, queue, message_id, now),
            lambda _: self._expect(queue, now),
        )

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many. Also after ``close``."""
        await self._bury_used_up(queue)
        return await self._thread.write(lambda file: self._rows.purge(file, queue, message_id))

    def enlisted(self, job: Job) -> Callable[[sqlite3.Connection], bool]:
        """Return what enqueues a job in a transaction that is open on a connection to the file.

        It returns whether the job was stored, and may be called in another thread. The file has to be
        this bridge's own, or that of a ledger: ``store`` tells.
        """
        self._refuse_when_closed(job.message.name)
        now = self._now()
        return lambda file: self._rows.enqueue(file, job, now) is not None

    def wake(self, queue: str) -> None:
        """Wake what waits for a job of the queue in this process."""
        if queue in self._lines:
            self._lines[queue].look()

    async def close(self) -> None:
        """Refuse new jobs and leases, wake the calls that wait; close the file and end the thread.

        Jobs that are leased can still be settled: each such call opens the file for itself.
        """
        self._is_closed = True
        if self._poller is not None:
            self._poller.cancel()
        for line in self._lines.values():
            line.fail(_refusal(line.queue))
        try:
            while self._flights:
                await asyncio.wait(self._flights)
        finally:
            await self._thread.close()

    def _now(self) -> int:
        return moment(self._clock)

    def _line(self, queue: str) -> Line:
        line = Line(queue, self._clock, look=self._look, give_back=self._give_back)
        self._lines[queue] = line
        return line

    def _expect(self, queue: str, due: int | None) -> None:
        """Tell who waits when a job will be due."""
        line = self._lines.get(queue)
        if line is not None:
            line.expect(due)

    def _look(self, line: Line, durations: Sequence[timedelta]) -> None:
        now = self._now()
        step = self._thread.write(lambda file: self._rows.lease(file, line.queue, durations, now))
        self._fly(step, partial(self._looked, line))

    def _looked(self, line: Line, step: asyncio.Future[Taken]) -> None:
        error = step.exception()
        if error is not None:
            line.looked_in_vain(error)
        else:
            _warn(step.result().ran_out)
            line.looked(step.result())

    def _give_back(self, lent: Sequence[Lent]) -> None:
        self._fly(self._thread.write(lambda file: self._rows.give_back(file, lent)), _gave_back)

    def _watch(self) -> None:
        """Look for news from other processes from time to time, as long as a call waits."""
        if self._poller is None and not self._is_polling:
            self._poller = self._clock.call_later(self._poll_interval, self._poll)

    def _poll(self) -> None:
        self._poller = None
        queues = [line.queue for line in self._lines.values() if line.is_waiting]
        if queues:
            self._is_polling = True
            self._fly(self._thread.read(lambda file: self._rows.news(file, queues)), self._polled)

    def _polled(self, step: asyncio.Future[dict[str, int | None] | None]) -> None:
        self._is_polling = False
        error = step.exception()
        if self._is_closed:
            return
        news = None if error is not None else step.result()
        for line in tuple(self._lines.values()):
            if error is not None:
                line.fail(error)
            elif news is not None:  # who began to wait meanwhile looks again
                line.expect(news.get(line.queue, self._now()))
        self._watch()

    def _fly(self, step: asyncio.Future[T], landed: Callable[[asyncio.Future[T]], None]) -> None:
        """Begin a step of the bridge's own, which ``close`` waits for."""
        self._flights.add(step)
        step.add_done_callback(landed)
        step.add_done_callback(self._flights.discard)

    async def _bury_used_up(self, queue: str) -> None:
        now = self._now()
        while not await self._thread.write(lambda file: self._rows.bury_used_up(file, queue, now)):
            pass

    def _refuse_when_closed(self, queue: str) -> None:
        if self._is_closed:
            raise _refusal(queue)


def _gave_back(step: asyncio.Future[None]) -> None:
    error = step.exception()
    if error is not None:
        logger.warning(
            "queues: a lease that nobody saw could not be undone; it runs out: %s", error
        )


def _warn(ran_out: Sequence[RanOut]) -> None:
    for job, attempt in ran_out:
        logger.warning(
            "queue %s: the lease of job %s ran out in attempt %d of %d, run %s",
            job.message.name,
            job.message.id,
            attempt,
            job.max_attempts,
            job.message.run.run_id if job.message.run else job.message.id,
        )


def _no_lease(queue: str, duration: timedelta) -> ValueError:
    return ValueError(f"queue '{queue}': a lease of {duration} is none; use a positive duration")


def _refusal(queue: str) -> BridgeClosedError:
    return BridgeClosedError(f"queue '{queue}': the SQLite bridge is closed; it takes nothing new")

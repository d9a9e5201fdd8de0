"""The PostgreSQL queue bridge: durable work queues that any number of processes share.

Jobs are leased with ``FOR UPDATE SKIP LOCKED``; a call that waits for one is woken by ``NOTIFY``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any

from purista.bridges import postgres_jobs as rows
from purista.bridges.port import DeadLetter, Job, LeasedJob, QueueBridgeCapabilities
from purista.bridges.postgres_lines import Line, Listener, Waiter
from purista.bridges.postgres_schema import MIGRATIONS
from purista.clock import Clock, SystemClock
from purista.errors import BridgeClosedError, BridgeError, LeaseLostError
from purista.postgres.address import Address
from purista.postgres.connections import CONNECTIONS, TIMEOUT, Connection, Connections
from purista.postgres.rowtext import stored

logger = logging.getLogger("purista.bridges")

LOOK_EVERY = timedelta(seconds=30)
"""How often a queue is looked into although nothing was heard of it: a notification can be lost."""

_CAPABILITIES = QueueBridgeCapabilities(
    name="postgres",
    durable=True,
    delayed=True,
    deduplicates=True,
    wakes=True,
    across_processes=True,
)
_ZERO = timedelta(0)
_SLACK = timedelta(microseconds=500)
"""So much later than a job is due is looked for it, as the server's clock is not this machine's."""


def schema_sql(schema: str = "purista", *, since: int = 0) -> str:
    """Return the SQL that makes the bridge's tables and functions, for an administrator to apply.

    In one transaction: ``psql --single-transaction -f``. ``since``: the version that is there already
    (``SELECT version FROM <schema>.versions WHERE part = 'queues'``). Raises ``BridgeError`` for a
    schema whose name is no plain one.
    """
    try:
        return MIGRATIONS.sql(schema, since=since)
    except ValueError as error:
        raise BridgeError(str(error)) from None


class PostgresQueueBridge:
    """Implements ``QueueBridge``, ``DeadLetters`` and ``EnlistedQueues``; needs the extra ``postgres``.

    ``url``, ``schema``, ``connections`` and ``timeout`` are those of a ``PostgresLedger``; one more
    connection listens while a call waits for a job. Leases, delays and windows are measured on the
    server's clock, so that processes need not agree; ``clock`` takes its place in tests. For one event
    loop.

    A lease that ran out counts until somebody else has the job: whoever settles it sooner does.
    What is wrong with the database is raised as ``BridgeError``; the next call connects anew.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "purista",
        connections: int = CONNECTIONS,
        timeout: timedelta = TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        try:
            self._address = Address.of(url)
            self._sql = rows.Statements(schema)
        except ValueError as error:
            raise BridgeError(f"PostgreSQL queue bridge: {error}") from None
        self._schema = schema
        self._clock = clock or SystemClock()
        self._now: Callable[[], datetime | None] = (lambda: None) if clock is None else clock.now
        self._slack = _SLACK if clock is None else _ZERO
        self._connections = Connections(
            self._address,
            most=connections,
            timeout=timeout,
            prepare=lambda connection: MIGRATIONS.apply(connection, schema),
            refusal=self._refusal,
        )
        self._listener = Listener(self._connections, self._heard)
        self._lines: dict[str, Line] = {}
        self._topics: dict[str, Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def capabilities(self) -> QueueBridgeCapabilities:
        """What this bridge really does."""
        return _CAPABILITIES

    @property
    def store(self) -> str:
        """Which database it is: host, port and name; that of a ``PostgresLedger`` in the same is equal."""
        return str(self._address)

    async def enqueue(self, job: Job) -> bool:
        """Store a job; False when its key was seen within the window of the job that brought it."""
        self._refuse_if_closed(job.message.name)
        return await self._connections.do(lambda connection: self._enqueued(connection, job))

    def enlisted(self, job: Job) -> Callable[[Any], Awaitable[bool]]:
        """Return what enqueues a job in the transaction of a connection; awaiting it tells if it did.

        The connection's user must be allowed to use the bridge's tables.
        """

        async def enqueue(connection: Connection) -> bool:
            self._refuse_if_closed(job.message.name)
            await self._connections.prepared()
            return await self._enqueued(connection, job)

        return enqueue

    def wake(self, queue: str) -> None:
        """Let calls that wait for a job of the queue look for it now."""
        line = self._lines.get(queue)
        if line is not None:
            line.changed.set()

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None = None
    ) -> LeasedJob | None:
        """Take the job that was due first; calls that wait here get theirs in the order they came.

        Raises ``ValueError`` for a duration that is not positive.
        """
        self._refuse_if_closed(queue)
        if duration <= _ZERO:
            raise _no_lease(queue, duration)
        waiter = Waiter(duration, wait, self._clock)
        line = self._joined(queue, waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            leased = waiter.leave()
            if leased is not None:
                self._own(self._give_back(queue, [leased]))
            raise
        finally:
            waiter.leave()
            line.remove(waiter)

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now. Raises ``LeaseLostError``, ``ValueError``."""
        if duration <= _ZERO:
            raise _no_lease(leased.queue, duration)
        values = leased.token, rows.bounded(duration), self._now()
        if not await self._value(self._sql.extend, *values):
            raise _lost(leased)

    async def ack(self, leased: LeasedJob) -> None:
        """Forget the job. Raises ``LeaseLostError``."""
        if not await self._value(self._sql.ack, leased.token):
            raise _lost(leased)

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """Let the job be due again, or bury it (True). Raises ``LeaseLostError``."""
        delay = None if retry_in is None else rows.bounded(retry_in)
        values = leased.token, delay, stored(reason), self._now()
        buried = await self._value(self._sql.nack, *values)
        if buried is None:
            raise _lost(leased)
        return bool(buried)

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first; also after ``close``."""
        found = await self._rows(self._sql.letters, stored(queue), self._now())
        return [rows.letter(queue, row) for row in found]

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Let dead letters be due now, oldest first, with all their attempts; return how many."""
        self._refuse_if_closed(queue)
        values = stored(queue), _stored(message_id), self._now()
        return int(await self._value(self._sql.redrive, *values))

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many. Also after ``close``."""
        return int(await self._value(self._sql.purge, stored(queue), _stored(message_id)))

    async def close(self) -> None:
        """Refuse new jobs and leases, wake the calls that wait, and close the connections.

        Whoever settles a leased job after this does so over a connection of its own.
        """
        self._closed = True
        for line in self._lines.values():
            line.fail(self._closed_error(line.name))
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._listener.close()
        await self._connections.close()

    def _joined(self, queue: str, waiter: Waiter) -> Line:
        """Let a call wait in its line, which is looked after as long as somebody waits there."""
        line = self._lines.get(queue)
        if line is None:
            line = self._lines[queue] = Line(queue)
            self._topics[rows.topic(self._schema, queue)] = line
        line.add(waiter)
        if line.task is None:
            line.task = self._own(self._look_after(line))
        return line

    async def _look_after(self, line: Line) -> None:
        """Look for jobs for those who wait: now, and whenever there may be one."""
        try:
            while waiters := line.next_waiters():
                line.changed.clear()
                if not all(waiter.is_last_look for waiter in waiters):
                    await self._listener.start()
                began = self._clock.monotonic()
                look = await self._looked(line.name, waiters)
                unwanted = [
                    leased
                    for waiter, leased in zip(waiters, look.leased, strict=False)
                    if not waiter.give(leased)
                ]
                if unwanted:
                    await self._give_back(line.name, unwanted)
                for waiter in waiters[len(look.leased) :]:
                    waiter.looked_in_vain()
                if len(look.leased) < len(waiters):
                    await self._change(line, look.next_in, began)
        except BridgeError as error:
            line.fail(error)
        except Exception as error:
            logger.exception("queue %s: a look for jobs failed", line.name)
            line.fail(
                self._refusal(
                    f"what is in queue '{line.name}' cannot be read ({type(error).__name__})"
                )
            )
        finally:
            line.task = None

    async def _looked(self, queue: str, waiters: Sequence[Waiter]) -> rows.Look:
        durations = [rows.bounded(waiter.duration) for waiter in waiters]
        found = await self._rows(self._sql.lease, stored(queue), durations, self._now())
        look = rows.look(queue, found)
        for leased in look.ran_out:
            _tell_ran_out(queue, leased.job, leased.attempt - 1)
        for buried in look.buried:
            _tell_ran_out(queue, buried.job, buried.attempts)
        return look

    async def _change(self, line: Line, next_in: float | None, began: float) -> None:
        """Return once a job may be due: when it is told, when the next one is, or after a while."""
        if not line.next_waiters():
            return
        delay = LOOK_EVERY
        if next_in is not None and next_in < delay.total_seconds():
            left = next_in - (self._clock.monotonic() - began)
            delay = timedelta(seconds=left) + self._slack if left > 0 else _ZERO
        timer = self._clock.call_later(delay, line.changed.set)
        try:
            await line.changed.wait()
        finally:
            timer.cancel()

    def _heard(self, topic: str) -> None:
        """Take the news about one queue; an empty topic: news may have been missed."""
        known = self._topics.get(topic)
        for line in self._topics.values() if not topic else [known] if known else []:
            line.changed.set()

    async def _enqueued(self, connection: Connection, job: Job) -> bool:
        values = rows.enqueued(job, self._now())
        (row,) = await _fetched(connection, self._sql.enqueue, values)
        return bool(row[0])

    async def _give_back(self, queue: str, leased: Sequence[LeasedJob]) -> None:
        """Undo leases that no caller saw: the next one gets each job, as if for the first time."""
        try:
            tokens = [one.token for one in leased]
            await self._rows(self._sql.give_back, stored(queue), tokens)
        except BridgeError:
            logger.exception("queue %s: jobs come back only when their leases run out", queue)

    async def _value(self, statement: bytes, *values: object) -> Any:
        ((value,),) = await self._rows(statement, *values)
        return value

    async def _rows(self, statement: bytes, *values: object) -> list[Any]:
        return await self._connections.do(
            lambda connection: _fetched(connection, statement, values)
        )

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work as a task that ``close`` waits for."""
        task = asyncio.create_task(work, name="purista postgres queue")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _refuse_if_closed(self, queue: str) -> None:
        if self._closed:
            raise self._closed_error(queue)

    def _closed_error(self, queue: str) -> BridgeClosedError:
        return BridgeClosedError(
            f"queue '{queue}': the bridge to '{self._address}' is closed; it takes nothing new"
        )

    def _refusal(self, text: str) -> BridgeError:
        return BridgeError(f"queue bridge '{self._address}', schema '{self._schema}': {text}")


async def _fetched(connection: Connection, statement: bytes, values: Sequence[object]) -> list[Any]:
    """Return the rows of a statement, which the server keeps prepared."""
    cursor = await connection.execute(statement, values, prepare=True, binary=True)
    return await cursor.fetchall()


def _stored(text: str | None) -> str | None:
    return None if text is None else stored(text)


def _tell_ran_out(queue: str, job: Job, attempt: int) -> None:
    logger.warning(
        "queue %s: the lease of job %s ran out in attempt %d of %d, run %s",
        queue,
        job.message.id,
        attempt,
        job.max_attempts,
        job.message.run.run_id if job.message.run else job.message.id,
    )


def _no_lease(queue: str, duration: timedelta) -> ValueError:
    return ValueError(f"queue '{queue}': a lease of {duration} is none; use a positive duration")


def _lost(leased: LeasedJob) -> LeaseLostError:
    return LeaseLostError(
        f"queue '{leased.queue}': job {leased.job.message.id}, attempt {leased.attempt}: "
        "its lease ran out or it was settled already; extend a lease in time, settle it once"
    )

"""The PostgreSQL queue bridge: durable work queues that any number of processes share.

Jobs are leased with ``FOR UPDATE SKIP LOCKED``; a call that waits for one is woken by ``NOTIFY``. A call
has a name, which the server keeps with what it did: when its answer was lost, it is made again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from purista.bridges import postgres_jobs as rows
from purista.bridges.lines import Line, Waiter
from purista.bridges.port import DeadLetter, Health, Job, LeasedJob, QueueBridgeCapabilities
from purista.bridges.postgres_listener import Failure, Listener, Server, pause_after
from purista.bridges.postgres_schema import MIGRATIONS
from purista.clock import Clock, SystemClock
from purista.errors import BridgeClosedError, BridgeError, LeaseLostError
from purista.postgres.address import Address
from purista.postgres.connections import CONNECTIONS, TIMEOUT, Connection, Connections, Work
from purista.postgres.rowtext import stored

logger = logging.getLogger("purista.bridges")

T = TypeVar("T")

LOOK_EVERY = timedelta(seconds=30)
"""How often a queue is looked into although nothing was heard of it: a notification can be lost."""

TELL_EVERY = 1.0
"""Seconds, while the server is away, after which a call may be told that it was so for too long."""

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


class _Call(Waiter):
    """A call of ``lease``, and since when, on the event loop's clock."""

    __slots__ = ("since",)

    def __init__(self, duration: timedelta, wait: timedelta | None, clock: Clock) -> None:
        super().__init__(duration, wait, clock)
        self.since = asyncio.get_running_loop().time()


class _Place(Line):
    """A line, when the server last answered a look for it, and how often it did not since then."""

    __slots__ = ("answered_at", "failures")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.answered_at = 0.0
        self.failures = 0

    def answered(self) -> None:
        """Note that the server answered."""
        self.answered_at = asyncio.get_running_loop().time()
        self.failures = 0

    def fail_overdue(self, error: Exception, timeout: float) -> None:
        """Let those calls raise that had no answer for so long, or have no time to wait for it."""
        latest = asyncio.get_running_loop().time() - timeout
        for call in self.waiters:
            assert isinstance(call, _Call)
            is_heard = call.was_looked_for or call.since <= self.answered_at
            if call.since <= latest and (call.is_last_look or not is_heard):
                call.fail(error)


class PostgresQueueBridge:
    """Implements ``QueueBridge``, ``DeadLetters``, ``EnlistedQueues`` and ``Connects``.

    Needs the extra ``postgres``. ``url``, ``schema`` and ``connections`` are those of a
    ``PostgresLedger``; one more connection listens while a call waits for a job. ``timeout`` bounds a
    call with all the times that it is tried. Leases, delays and windows are measured on the server's
    clock, so that processes need not agree; ``clock`` takes its place in tests. For one event loop.

    A lease that ran out counts until somebody else has the job: whoever settles it sooner does.
    What is wrong with the database is raised as ``BridgeError``. What lost its connection is tried
    again until it is confirmed or ``timeout`` is over; whether it was done is not known then.
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
        self._place = f"queue bridge '{self._address}', schema '{schema}'"
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
        self._timeout = timeout.total_seconds()
        self._server = Server(
            self._connections, place=self._place, timeout=timeout, returned=lambda: self._heard("")
        )
        self._listener = Listener(self._connections, self._server, self._heard)
        self._callers = rows.Callers()
        self._lines: dict[str, _Place] = {}
        self._topics: dict[str, _Place] = {}
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

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._server.health

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the server answers and has the tables. Raises ``BridgeError``."""
        if self._closed:
            raise BridgeClosedError(f"the bridge to '{self._address}' is closed; open another one")
        await self._server.connect(patience=patience)

    async def enqueue(self, job: Job) -> bool:
        """Store a job, once; False when its key was seen within the window of the job that brought it."""
        check = partial(self._refuse_if_closed, job.message.name)
        return bool(await self._called(check, self._sql.enqueue, *rows.enqueued(job, self._now())))

    async def called(self, statement: bytes, *values: object) -> Any:
        """Return what a function gave that takes the name of a call first, which tells its repetition.

        For what keeps more in the same schema. Raises ``BridgeError``.
        """
        return await self._called(_always, statement, *values)

    async def done(self, work: Work[T]) -> T:
        """Do a piece of work in the database that may be repeated. Raises ``BridgeError``."""
        return await self._server.do(work, check=_always)

    def enlisted(self, job: Job) -> Callable[[Any], Awaitable[bool]]:
        """Return what enqueues a job in the transaction of a connection; awaiting it tells if it did.

        The connection's user must be allowed to use the bridge's tables.
        """

        async def enqueue(connection: Connection) -> bool:
            self._refuse_if_closed(job.message.name)
            await self._connections.prepared()
            values = rows.enqueued(job, self._now())
            cursor = await connection.execute(self._sql.enlist, values, prepare=True, binary=True)
            ((is_stored,),) = await cursor.fetchall()
            return bool(is_stored)

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

        A call that has to wait goes on waiting while the server is away; one that comes then raises
        ``BridgeError`` after the time-out. Raises ``ValueError`` for a duration that is not positive.
        """
        self._refuse_if_closed(queue)
        if duration <= _ZERO:
            raise _no_lease(queue, duration)
        waiter = _Call(duration, wait, self._clock)
        line = self._joined(queue, waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            leased = waiter.leave()
            if leased is not None:
                self._own(self._give_back(queue, [leased.token]))
            raise
        finally:
            waiter.leave()
            line.remove(waiter)

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now. Raises ``LeaseLostError``, ``ValueError``."""
        if duration <= _ZERO:
            raise _no_lease(leased.queue, duration)
        values = leased.token, rows.bounded(duration), self._now()
        ((is_extended,),) = await self._rows(self._sql.extend, *values)
        if not is_extended:
            raise _lost(leased)

    async def ack(self, leased: LeasedJob) -> None:
        """Forget the job. Raises ``LeaseLostError``."""
        if not await self._called(_always, self._sql.ack, leased.token):
            raise _lost(leased)

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """Let the job be due again, or bury it (True). Raises ``LeaseLostError``."""
        delay = None if retry_in is None else rows.bounded(retry_in)
        values = leased.token, delay, stored(reason), self._now()
        buried = await self._called(_always, self._sql.nack, *values)
        if buried is None:
            raise _lost(leased)
        return bool(buried)

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first; also after ``close``."""
        found = await self._rows(self._sql.letters, stored(queue), self._now())
        return [rows.letter(queue, row) for row in found]

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Let dead letters be due now, oldest first, with all their attempts; return how many."""
        check = partial(self._refuse_if_closed, queue)
        values = stored(queue), _stored(message_id), self._now()
        return int(await self._called(check, self._sql.redrive, *values))

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many. Also after ``close``."""
        values = stored(queue), _stored(message_id)
        return int(await self._called(_always, self._sql.purge, *values))

    async def close(self) -> None:
        """Refuse new jobs and leases, wake the calls that wait, and close the connections.

        What is at work may finish, for a moment, while the server answers. Whoever settles a leased
        job after this does so over a connection of its own.
        """
        self._closed = True
        patience = self._server.parting
        for line in self._lines.values():
            line.fail(self._closed_error(line.name))
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience.total_seconds())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.close()
        await self._server.close()
        await self._connections.close(patience=patience)

    def _joined(self, queue: str, waiter: Waiter) -> Line:
        """Let a call wait in its line, which is looked after as long as somebody waits there."""
        line = self._lines.get(queue)
        if line is None:
            line = self._lines[queue] = _Place(queue)
            self._topics[rows.topic(self._schema, queue)] = line
        line.add(waiter)
        if line.task is None:
            line.task = self._own(self._look_after(line))
        return line

    async def _look_after(self, line: _Place) -> None:
        """Look for jobs for those who wait: now, and whenever there may be one."""
        try:
            while waiters := line.next_waiters():
                line.changed.clear()
                if self._server.is_there:
                    await self._serve(line, waiters)
                else:
                    await self._outlast(line)
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

    async def _serve(self, line: _Place, waiters: Sequence[Waiter]) -> None:
        """Look once, and return when there is a reason to look again."""
        began = self._clock.monotonic()
        try:
            look = await self._looked(line.name, waiters)
            line.answered()
            await self._handed(line, waiters, look.leased)
            if len(look.leased) < len(waiters) and line.next_waiters():
                await self._change(line, look.next_in, began)
        except Failure as error:
            line.fail_overdue(self._server.explained(error), self._timeout)
            await asyncio.sleep(pause_after(line.failures))
            line.failures += 1

    async def _outlast(self, line: _Place) -> None:
        """Wait a while for the server; let those raise who never had an answer in their time."""
        line.fail_overdue(self._server.explained(), self._timeout)
        timer = asyncio.get_running_loop().call_later(TELL_EVERY, line.changed.set)
        try:
            await line.changed.wait()
        finally:
            timer.cancel()

    async def _looked(self, queue: str, waiters: Sequence[Waiter]) -> rows.Look:
        durations = [rows.microseconds(waiter.duration) for waiter in waiters]
        tokens = [rows.unique() for _ in waiters]
        values = stored(queue), rows.array(durations), rows.array(tokens), self._now()
        try:
            found = await self._server.attempt(self._sql.lease, values)
        except Failure:
            self._own(self._give_back(queue, tokens))
            raise
        look = rows.look(queue, found)
        for leased in look.ran_out:
            _tell_ran_out(queue, leased.job, leased.attempt - 1)
        for buried in look.buried:
            _tell_ran_out(queue, buried.job, buried.attempts)
        return look

    async def _handed(
        self, line: Line, waiters: Sequence[Waiter], leased: Sequence[LeasedJob]
    ) -> None:
        """Give each job to its call, and back to the server what nobody wants any more."""
        unwanted = [
            one.token for waiter, one in zip(waiters, leased, strict=False) if not waiter.give(one)
        ]
        if unwanted:
            await self._give_back(line.name, unwanted)
        for waiter in waiters[len(leased) :]:
            waiter.looked_in_vain()

    async def _change(self, line: Line, next_in: float | None, began: float) -> None:
        """Return once a job may be due: when it is told, when the next one is, or after a while.

        Before anything can be told, it is listened to; what came until then, another look will find.
        """
        if not self._listener.is_listening:
            await self._listener.start()
            return
        delay = LOOK_EVERY
        if next_in is not None and next_in < delay.total_seconds():
            left = next_in - (self._clock.monotonic() - began)
            delay = timedelta(seconds=left) + self._slack if left > 0 else _ZERO
        timer = self._clock.call_later(delay, line.changed.set)
        try:
            with self._listener.waiting():
                await line.changed.wait()
        finally:
            timer.cancel()

    def _heard(self, topic: str) -> None:
        """Take the news about one queue; an empty topic: news may have been missed."""
        known = self._topics.get(topic)
        for line in self._topics.values() if not topic else [known] if known else []:
            line.changed.set()

    async def _give_back(self, queue: str, tokens: Sequence[int]) -> None:
        """Undo leases that no caller saw: the next one gets each job, as if for the first time."""
        await self._server.back()
        try:
            await self._rows(self._sql.give_back, stored(queue), tokens)
        except BridgeError as error:
            logger.warning("queue %s: jobs come back when their leases run out: %s", queue, error)

    async def _called(self, check: Callable[[], None], statement: bytes, *values: object) -> Any:
        """Return what a statement gave that tells its repetition by the name of the call."""
        with self._callers.call() as name:
            ((value,),) = await self._server.run(statement, (*name, *values), check=check)
            return value

    async def _rows(self, statement: bytes, *values: object) -> list[Any]:
        """Return the rows of a statement that may be repeated."""
        return await self._server.run(statement, values, check=_always)

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
        return BridgeError(f"{self._place}: {text}")


def _always() -> None:
    """Refuse nothing: leased jobs are settled also after the bridge was closed."""


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

"""The Redis queue bridge: work queues that any number of processes share, in one Redis or Valkey server.

Each step is one Lua script. Jobs wait in a sorted set by the time when they are due, leases in
another by their end; a call that waits for a job is woken by a channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from purista.bridges.port import DeadLetter, Health, Job, LeasedJob, QueueBridgeCapabilities
from purista.clock import Clock, SystemClock
from purista.errors import BridgeClosedError, LeaseLostError, MissingExtraError
from purista.message import new_message_id

try:
    from purista.bridges import redis_queue_jobs as jobs
    from purista.bridges.redis_queue_deadletters import RedisDeadJobs
    from purista.bridges.redis_queue_lines import SLACK, RedisQueueLines
    from purista.bridges.redis_queue_names import QueueNames
    from purista.bridges.redis_queue_scripts import ACK, ENQUEUE, EXTEND, NACK
    from purista.bridges.redis_queue_server import RedisQueueServer
    from purista.bridges.redis_sent import SENT_KEPT, Sent
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a queue bridge to Redis or Valkey", "redis") from None

TIMEOUT: Final = timedelta(seconds=10)
"""How long a call may take while the server is away or does not answer."""

LARGEST: Final = 500_000_000
"""Bytes of a body; a server takes 512 MB in one piece (``proto-max-bulk-len``)."""

KEY_LINGER: Final = 60_000
"""Milliseconds for which a key is kept after its window, of which its value tells the end."""

_CAPABILITIES = QueueBridgeCapabilities(
    name="redis",
    durable=True,
    delayed=True,
    deduplicates=True,
    wakes=True,
    across_processes=True,
    largest=LARGEST,
)
_ZERO = timedelta(0)


class RedisQueueBridge:
    """Implements ``QueueBridge``, ``DeadLetters`` and ``Connects``; needs the extra ``redis``.

    ``url``, ``prefix`` and ``timeout`` are those of a ``RedisEventBridge``, which can have the same
    server and prefix; one server, no cluster. What survives is what the server keeps: ``appendonly
    yes`` with ``appendfsync always`` loses nothing that was confirmed. Leases, delays and windows are
    measured on the server's clock, so that processes need not agree; ``clock`` takes its place in
    tests. For one event loop.

    A lease that ran out counts until somebody else looks for a job: whoever settles it sooner does.
    It opens one connection, and one more on which it listens once a call has to wait for a job.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "purista",
        timeout: timedelta = TIMEOUT,
        clock: Clock | None = None,
    ) -> None:
        names, instance = QueueNames(prefix), new_message_id()
        now: Callable[[], str | int] = _server_time if clock is None else _time_of(clock)
        self._names = names
        self._now = now
        self._server = RedisQueueServer(url, timeout=timeout)
        self._sent = Sent(names, instance)
        self._letters = RedisDeadJobs(self._server, names, instance=instance, now=now)
        self._lines = RedisQueueLines(
            self._server,
            names,
            instance=instance,
            clock=clock or SystemClock(),
            now=now,
            slack=SLACK if clock is None else _ZERO,
        )
        self._closed = False

    def __repr__(self) -> str:
        return f"RedisQueueBridge({self._server.shared.name!r})"

    @property
    def capabilities(self) -> QueueBridgeCapabilities:
        """What this bridge really does; how durable the server is, its settings say."""
        return _CAPABILITIES

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._server.shared.health

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the server answers. Raises ``BridgeError``."""
        if self._closed:
            raise self._server.shared.closed_error("connection")
        await self._server.shared.connect(patience=patience)

    async def enqueue(self, job: Job) -> bool:
        """Store a job, once; False when its key was seen within the window of the job that brought it."""
        queue = job.message.name
        self._refuse_if_closed(queue)
        self._refuse_if_too_large(job)
        keys = self._names.of(queue)
        block, bit = self._sent.next()
        values = [bit, SENT_KEPT, self._now(), keys.news, jobs.stored(job), job.max_attempts]
        values.append(jobs.microseconds(job.delay))
        if job.key is None:
            return bool(await self._server.run(ENQUEUE, (*keys.all, block), *values))
        window = jobs.microseconds(job.dedupe_window)
        key = self._names.key(queue, job.key)
        kept = window // 1000 + KEY_LINGER
        return bool(await self._server.run(ENQUEUE, (*keys.all, block, key), *values, window, kept))

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None = None
    ) -> LeasedJob | None:
        """Take the job that was due first; calls that wait here get theirs in the order they came.

        A call that has to wait goes on waiting while the server is away; one that comes then raises
        ``BridgeError`` after the time-out. Raises ``ValueError`` for a duration that is not positive.
        """
        self._refuse_if_closed(queue)
        _refuse_no_lease(queue, duration)
        return await self._lines.lease(queue, duration=duration, wait=wait)

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now. Raises ``LeaseLostError``, ``ValueError``."""
        _refuse_no_lease(leased.queue, duration)
        keys = self._names.of(leased.queue)
        values = self._now(), keys.news, jobs.microseconds(duration)
        if not await self._server.settle(EXTEND, keys.all, jobs.token(leased), *values):
            raise _lost(leased)

    async def ack(self, leased: LeasedJob) -> None:
        """Forget the job. Raises ``LeaseLostError``."""
        keys = self._names.of(leased.queue)
        block, bit = self._sent.next()
        call = (*keys.leases, block), bit, SENT_KEPT
        if not await self._server.settle(ACK, *call, jobs.token(leased)):
            raise _lost(leased)

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """Let the job be due again, or bury it (True). Raises ``LeaseLostError``."""
        keys = self._names.of(leased.queue)
        block, bit = self._sent.next()
        buried = retry_in is None or leased.attempt >= leased.job.max_attempts
        delay = "" if retry_in is None or buried else jobs.microseconds(retry_in)
        call = (*keys.all, block), bit, SENT_KEPT, jobs.token(leased), self._now(), keys.news
        dead = jobs.quoted(leased.job.message.id), reason.encode("utf-8", "replace")
        if not await self._server.settle(NACK, *call, delay, *dead):
            raise _lost(leased)
        return buried

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first; also after ``close``."""
        return await self._letters.of(queue)

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Let dead letters be due now, oldest first, with all their attempts; return how many."""
        self._refuse_if_closed(queue)
        return await self._letters.move("redrive", queue, message_id)

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many. Also after ``close``."""
        return await self._letters.move("purge", queue, message_id)

    async def close(self) -> None:
        """Refuse new jobs and leases, wake the calls that wait, and close the connections.

        Whoever settles a leased job after this does so over a connection of its own.
        """
        self._closed = True
        self._lines.refuse(self._closed_error)
        try:
            await self._server.idle()
        finally:
            try:
                await self._lines.close()
            finally:
                await self._server.shared.close()

    def _refuse_if_too_large(self, job: Job) -> None:
        size = len(job.message.body)
        if size > LARGEST:
            raise self._server.shared.refusal(
                f"queue '{job.message.name}': a body of {size} bytes is more than the server takes "
                f"({LARGEST}); send a reference"
            )

    def _refuse_if_closed(self, queue: str) -> None:
        if self._closed:
            raise self._closed_error(queue)

    def _closed_error(self, queue: str) -> BridgeClosedError:
        return self._server.shared.closed_error(f"queue '{queue}'")


def _server_time() -> str:
    return ""


def _time_of(clock: Clock) -> Callable[[], int]:
    return lambda: jobs.instant(clock.now())


def _refuse_no_lease(queue: str, duration: timedelta) -> None:
    if duration <= _ZERO:
        raise ValueError(f"queue '{queue}': a lease of {duration} is none; use a positive duration")


def _lost(leased: LeasedJob) -> LeaseLostError:
    return LeaseLostError(
        f"queue '{leased.queue}': job {leased.job.message.id}, attempt {leased.attempt}: "
        "its lease ran out or it was settled already; extend a lease in time, settle it once"
    )

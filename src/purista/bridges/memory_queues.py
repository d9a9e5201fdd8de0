"""The in-memory queue bridge: work queues with leases, in one process and one event loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn

from purista.bridges.deadlines import Deadlines
from purista.bridges.port import (
    DeadLetter,
    Job,
    LeasedJob,
    QueueBridgeCapabilities,
)
from purista.clock import Clock, SystemClock
from purista.errors import BridgeClosedError, LeaseLostError

logger = logging.getLogger("purista.bridges")

_CAPABILITIES = QueueBridgeCapabilities(
    name="memory",
    durable=False,
    delayed=True,
    deduplicates=True,
    wakes=True,
    across_processes=False,
)
_ZERO = timedelta(0)
_FORGOTTEN = 16
_tokens = itertools.count(1)


class MemoryQueueBridge:
    """Implements ``QueueBridge``, ``DeadLetters`` and ``Drains`` in memory.

    For tests, development and work that may die with its process. Everything is kept until it is
    acked or purged: nothing bounds a queue but the machine's memory. Not for several threads.

    A job whose lease ran out is taken back as soon as the event loop runs; an ack that comes before
    that still counts. After ``close`` no lease runs out any more, as nobody could take the job.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._deadlines = Deadlines(self._clock)
        self._queues: dict[str, _Queue] = {}
        self._leased: dict[int, _Stored] = {}
        self._keys = _Keys()
        self._unsettled = 0
        self._delayed = 0
        self._drainers: list[asyncio.Future[None]] = []
        self._closed = False

    @property
    def capabilities(self) -> QueueBridgeCapabilities:
        """What this bridge really does."""
        return _CAPABILITIES

    async def enqueue(self, job: Job) -> bool:
        """Store a job; False when its key was seen within the window of the job that had it first."""
        if self._closed:
            _refuse(f"queue '{job.message.name}'")
        name = job.message.name
        if job.key is not None and not self._keys.take(
            name, job.key, self._clock.monotonic(), job.dedupe_window.total_seconds()
        ):
            return False
        stored = _Stored(self, self._queues.get(name) or self._queue(name), job)
        if job.delay > _ZERO:
            self._delay(stored, job.delay)
        else:
            self._put(stored)
        return True

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None = None
    ) -> LeasedJob | None:
        """Take the job that was due first; calls that wait get theirs in the order they came.

        Raises ``ValueError`` for a duration that is not positive.
        """
        if self._closed:
            _refuse(f"queue '{queue}'")
        seconds = _positive(queue, duration)
        line = self._queues.get(queue) or self._queue(queue)
        if not line.served:
            self._serve(line)
        now = self._clock.monotonic()
        if self._deadlines.earliest <= now:
            self._deadlines.expire()
        if line.ready:
            return self._lend(line.ready.popleft(), now + seconds)
        if wait is not None and wait <= _ZERO:
            return None
        return await self._wait(_Waiter(line, seconds), wait)

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now. Raises ``LeaseLostError``."""
        seconds = _positive(leased.queue, duration)
        stored = self._leased.get(leased.token)
        if stored is None:
            _lost(leased)
        if not self._closed:
            self._deadlines.set(stored, self._clock.monotonic() + seconds)

    async def ack(self, leased: LeasedJob) -> None:
        """Forget the job. Raises ``LeaseLostError``."""
        self._settled(self._take_back(leased).queue)

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """Let the job be due again, or bury it (True). Raises ``LeaseLostError``."""
        stored = self._take_back(leased)
        self._settled(stored.queue)
        if retry_in is None or stored.attempts >= stored.job.max_attempts:
            self._bury(stored, reason)
            return True
        if retry_in > _ZERO:
            self._delay(stored, retry_in)
        else:
            self._put(stored)
        return False

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first; also after ``close``."""
        line = self._queues.get(queue)
        return [] if line is None else [letter for _, letter in sorted(_letters(line, None))]

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Let dead letters be due now, oldest first, with all their attempts; return how many."""
        if self._closed:
            _refuse(f"queue '{queue}'")
        line = self._queues.get(queue)
        letters = [] if line is None else sorted(_pop_letters(line, message_id))
        for _, letter in letters:
            assert line is not None
            self._put(_Stored(self, line, letter.job))
        return len(letters)

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many. Also after ``close``."""
        line = self._queues.get(queue)
        return 0 if line is None else len(_pop_letters(line, message_id))

    async def drained(self) -> None:
        """Return once no job is due or leased.

        Not waited for: jobs that are delayed or wait for a retry, and queues that nobody works on
        (none leased from it yet, or those that waited for a job gave up).
        """
        while not self._is_drained():
            waiting = asyncio.get_running_loop().create_future()
            self._drainers.append(waiting)
            await waiting

    async def close(self) -> None:
        """Refuse new jobs and leases, wake every call that waits. Jobs not leased are lost then.

        Jobs that are leased can still be acked, nacked and extended.
        """
        if self._closed:
            return
        self._closed = True
        self._deadlines.close()
        for line in self._queues.values():
            while line.waiters:
                waiter, _ = line.waiters.popitem(last=False)
                waiter.refuse()
        self._tell_drainers()
        lost = sum(line.open for line in self._queues.values()) + self._delayed - len(self._leased)
        if lost:
            logger.warning("memory queues closed: %d jobs were not done and are lost", lost)

    def _queue(self, name: str) -> _Queue:
        line = self._queues[name] = _Queue(name)
        return line

    def _put(self, stored: _Stored, *, first: bool = False) -> None:
        """Let a job be due: the call that waits longest gets it, or it joins the queue."""
        line = stored.queue
        line.open += 1
        if line.served:
            self._unsettled += 1
        while line.waiters:
            waiter, _ = line.waiters.popitem(last=False)
            if not waiter.future.done():
                self._deadlines.clear(waiter)
                due = self._clock.monotonic() + waiter.seconds
                waiter.future.set_result(self._lend(stored, due))
                return
        if first:
            line.ready.appendleft(stored)
        else:
            line.ready.append(stored)

    def _delay(self, stored: _Stored, delay: timedelta) -> None:
        if not self._closed:
            self._deadlines.set(stored, self._clock.monotonic() + delay.total_seconds())
        self._delayed += 1

    def _lend(self, stored: _Stored, due: float) -> LeasedJob:
        stored.attempts = attempt = stored.attempts + 1
        stored.token = token = next(_tokens)
        self._leased[token] = stored
        self._deadlines.set(stored, due)
        return LeasedJob(stored.queue.name, stored.job, attempt, token)

    async def _wait(self, waiter: _Waiter, wait: timedelta | None) -> LeasedJob | None:
        waiter.queue.waiters[waiter] = None
        if wait is not None:
            self._deadlines.set(waiter, self._clock.monotonic() + wait.total_seconds())
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._deadlines.clear(waiter)
            waiter.queue.waiters.pop(waiter, None)
            if (leased := waiter.leased()) is not None and leased.token in self._leased:
                self._return(leased)
            self._unserve(waiter.queue)
            raise

    def _return(self, leased: LeasedJob) -> None:
        """Undo a lease that its caller never saw."""
        stored = self._take_back(leased)
        self._settled(stored.queue)
        stored.attempts -= 1
        self._put(stored, first=True)

    def _take_back(self, leased: LeasedJob) -> _Stored:
        stored = self._leased.pop(leased.token, None)
        if stored is None:
            _lost(leased)
        stored.token = 0
        self._deadlines.clear(stored)
        return stored

    def _expired(self, stored: _Stored) -> None:
        """A delay is over, or a lease ran out."""
        if not stored.token:
            self._delayed -= 1
            self._put(stored)
            return
        del self._leased[stored.token]
        stored.token = 0
        self._settled(stored.queue)
        if stored.attempts >= stored.job.max_attempts:
            self._bury(stored, f"the lease ran out in attempt {stored.attempts}, the last")
        else:
            _log_lease(stored)
            self._put(stored)

    def _bury(self, stored: _Stored, reason: str) -> None:
        line, message = stored.queue, stored.job.message
        letter = DeadLetter(line.name, stored.job, stored.attempts, reason, self._clock.now())
        line.dead.setdefault(message.id, []).append((next(_tokens), letter))

    def _serve(self, line: _Queue) -> None:
        line.served = True
        self._unsettled += line.open

    def _unserve(self, line: _Queue) -> None:
        """Nobody works on the queue any more, when no call waits and no job is leased."""
        if line.served and not line.waiters and line.open == len(line.ready):
            line.served = False
            self._unsettled -= line.open
            self._tell_drainers()

    def _settled(self, line: _Queue) -> None:
        line.open -= 1
        if line.served:
            self._unsettled -= 1
            if self._drainers:
                self._tell_drainers()

    def _is_drained(self) -> bool:
        return not (self._leased if self._closed else self._unsettled)

    def _tell_drainers(self) -> None:
        if self._is_drained():
            for waiting in self._drainers:
                if not waiting.done():
                    waiting.set_result(None)
            self._drainers.clear()


class _Queue:
    __slots__ = ("dead", "name", "open", "ready", "served", "waiters")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[_Stored] = deque()
        self.waiters: OrderedDict[_Waiter, None] = OrderedDict()
        self.dead: dict[str, list[tuple[int, DeadLetter]]] = {}
        self.open = 0
        """How many jobs are due or leased."""
        self.served = False
        """Whether somebody works on it."""


class _Stored:
    """A job and where it stands: due, delayed (a ticket), or leased (a ticket and a token)."""

    __slots__ = ("_bridge", "attempts", "job", "queue", "ticket", "token")

    def __init__(self, bridge: MemoryQueueBridge, queue: _Queue, job: Job) -> None:
        self._bridge = bridge
        self.queue = queue
        self.job = job
        self.attempts = self.ticket = self.token = 0

    def expire(self) -> None:
        self._bridge._expired(self)


class _Waiter:
    """A call of ``lease`` that waits."""

    __slots__ = ("future", "queue", "seconds", "ticket")

    def __init__(self, queue: _Queue, seconds: float) -> None:
        self.queue = queue
        self.seconds = seconds
        self.future: asyncio.Future[LeasedJob | None] = asyncio.get_running_loop().create_future()
        self.ticket = 0

    def expire(self) -> None:
        self.queue.waiters.pop(self, None)
        if not self.future.done():
            self.future.set_result(None)

    def refuse(self) -> None:
        if not self.future.done():
            self.future.set_exception(_closed(f"queue '{self.queue.name}'"))

    def leased(self) -> LeasedJob | None:
        """Return what was handed over, whether the call saw it or not."""
        future = self.future
        if not future.done() or future.cancelled() or future.exception() is not None:
            return None
        return future.result()


class _Keys:
    """The keys that were seen, each until its window is over."""

    __slots__ = ("_ends", "_until")

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}
        self._ends: list[tuple[float, tuple[str, str]]] = []

    def __len__(self) -> int:
        return len(self._until)

    def take(self, queue: str, key: str, now: float, window: float) -> bool:
        """Keep the key for ``window`` seconds; False when it is kept already."""
        self._drop(now)
        known = (queue, key)
        if self._until.get(known, now) > now:
            return False
        if window > 0:
            self._until[known] = now + window
            heapq.heappush(self._ends, (now + window, known))
        return True

    def _drop(self, now: float) -> None:
        """Forget keys whose window is over, more than come in, but not so many that it takes long."""
        for _ in range(_FORGOTTEN):
            if not self._ends or self._ends[0][0] > now:
                return
            end, known = heapq.heappop(self._ends)
            if self._until[known] == end:
                del self._until[known]


def _letters(line: _Queue, message_id: str | None) -> list[tuple[int, DeadLetter]]:
    if message_id is not None:
        return line.dead.get(message_id, [])
    return [letter for letters in line.dead.values() for letter in letters]


def _pop_letters(line: _Queue, message_id: str | None) -> list[tuple[int, DeadLetter]]:
    letters = _letters(line, message_id)
    if message_id is None:
        line.dead.clear()
    else:
        line.dead.pop(message_id, None)
    return letters


def _positive(queue: str, duration: timedelta) -> float:
    seconds = duration.total_seconds()
    if seconds <= 0:
        raise ValueError(
            f"queue '{queue}': a lease of {duration} has no length; use a positive one"
        )
    return seconds


def _closed(place: str) -> BridgeClosedError:
    return BridgeClosedError(f"{place}: the memory bridge is closed; nothing new is taken")


def _refuse(place: str) -> NoReturn:
    raise _closed(place)


def _lost(leased: LeasedJob) -> NoReturn:
    raise LeaseLostError(
        f"queue '{leased.queue}': the lease of job {leased.job.message.id} (attempt {leased.attempt}) "
        "ran out, or the job was settled already; extend leases while working"
    )


def _log_lease(stored: _Stored) -> None:
    message = stored.job.message
    logger.warning(
        "queue %s: the lease of job %s ran out in attempt %d of %d, run %s; it is due again",
        message.name,
        message.id,
        stored.attempts,
        stored.job.max_attempts,
        message.run.run_id if message.run else message.id,
    )

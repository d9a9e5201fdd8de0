"""The in-memory queue bridge: work queues with leases, in one process and one event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from datetime import timedelta

from purista.bridges.deadlines import Deadlines, Lanes
from purista.bridges.keys import Keys
from purista.bridges.memory_jobs import Delayed, Due, Lease, Line, Waiter
from purista.bridges.port import DeadLetter, Job, LeasedJob, QueueBridgeCapabilities
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
_new = tuple.__new__
"""Makes a named tuple in half the time."""

_tokens = itertools.count(1)
"""No two leases of a process share a token, so that a bridge never takes another's for its own."""


class MemoryQueueBridge:
    """Implements ``QueueBridge``, ``DeadLetters`` and ``Drains`` in memory.

    For tests, development and work that may die with its process. Jobs are kept until they are acked,
    dead letters until they are purged: nothing bounds them but the machine's memory. Not for
    several threads or event loops.

    A job whose lease ran out is taken back once the event loop runs; an ack that is quicker counts.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._deadlines = Deadlines(self._clock)
        self._lanes: Lanes[int] = Lanes(self._deadlines, self._ran_out)
        self._lines: dict[str, Line] = {}
        self._leased: dict[int, Lease] = {}
        self._keys = Keys()
        self._delayed = 0
        self._drainers: list[asyncio.Future[None]] = []
        self._undrained: set[Line] = set()
        self._closed = False

    @property
    def capabilities(self) -> QueueBridgeCapabilities:
        """What this bridge really does."""
        return _CAPABILITIES

    async def enqueue(self, job: Job) -> bool:
        """Store a job; False when its key was seen within the window of the job that brought it."""
        name = job.message.name
        if self._closed:
            raise _refusal(name)
        if job.key is not None and not self._keys.take(
            name,
            job.key,
            now=self._monotonic(),
            window=job.dedupe_window.total_seconds(),
        ):
            return False
        line = self._lines.get(name) or self._line(name)
        if job.delay > _ZERO:
            self._delay(line, (job, 0), job.delay)
        elif line.waiters or self._drainers:
            self._put(line, (job, 0))
        else:
            line.ready.append((job, 0))
        return True

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None = None
    ) -> LeasedJob | None:
        """Take the job that was due first; calls that wait get theirs in the order they came.

        Raises ``ValueError`` for a duration that is not positive.
        """
        if self._closed:
            raise _refusal(queue)
        if duration <= _ZERO:
            raise _no_lease(queue, duration)
        line = self._lines.get(queue) or self._line(queue)
        if not line.served:
            self._serve(line)
        now = self._monotonic()
        if self._deadlines.earliest <= now:
            self._deadlines.expire()
        if line.ready:
            return self._lend(line, line.ready.popleft(), duration, now)
        if wait is None or wait > _ZERO:
            return await self._wait(Waiter(line, duration), wait)
        return None

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now. Raises ``LeaseLostError``, ``ValueError``."""
        if duration <= _ZERO:
            raise _no_lease(leased.queue, duration)
        lease = self._leased.get(leased.token)
        if lease is None:
            raise _lost(leased)
        if not self._closed:
            line, job, attempt, lane = lease
            lane.keys.pop(leased.token, None)
            lane = self._lanes[duration]
            lane.set(leased.token, self._monotonic())
            self._leased[leased.token] = line, job, attempt, lane

    async def ack(self, leased: LeasedJob) -> None:
        """Forget the job. Raises ``LeaseLostError``."""
        self._take_back(leased)
        if self._drainers:
            self._tell_drainers()

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """Let the job be due again, or bury it (True). Raises ``LeaseLostError``."""
        line, job, attempt, _ = self._take_back(leased)
        buried = retry_in is None or attempt >= job.max_attempts
        if buried:
            self._bury(line, job, attempt, reason)
        elif retry_in is not None and retry_in > _ZERO:
            self._delay(line, (job, attempt), retry_in)
        else:
            self._put(line, (job, attempt))
        self._tell_drainers()
        return buried

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first; also after ``close``."""
        line = self._lines.get(queue)
        return [] if line is None else line.letters(None)

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Let dead letters be due now, oldest first, with all their attempts; return how many."""
        if self._closed:
            raise _refusal(queue)
        line = self._lines.get(queue)
        if line is None:
            return 0
        letters = line.take_letters(message_id)
        for letter in letters:
            self._put(line, (letter.job, 0))
        return len(letters)

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many. Also after ``close``."""
        line = self._lines.get(queue)
        return 0 if line is None else len(line.take_letters(message_id))

    async def drained(self) -> None:
        """Return once no job is due or leased.

        Not waited for: jobs that are delayed or wait for a retry, and queues that nobody works on
        (nobody leased from it yet, or who waited for a job there gave up).
        """
        while not self._is_drained(set(self._lines.values())):
            waiting = asyncio.get_running_loop().create_future()
            self._drainers.append(waiting)
            await waiting

    async def close(self) -> None:
        """Refuse new jobs and leases, wake the calls that wait. Jobs that are not leased are lost.

        Those that are can still be acked, nacked and extended; their leases do not run out any
        more, as nobody could take the jobs over.
        """
        if self._closed:
            return
        self._closed = True
        self._deadlines.close()
        lost = self._delayed
        for line in self._lines.values():
            lost += len(line.ready)
            while (waiter := line.longest_waiter()) is not None:
                waiter.future.set_exception(_refusal(line.name))
        self._tell_drainers()
        if lost:
            logger.warning("memory queue bridge: closed with %d jobs, which are lost", lost)

    def _line(self, name: str) -> Line:
        line = self._lines[name] = Line(name)
        return line

    def _put(self, line: Line, due: Due) -> None:
        """Let a job be due: the call that waits longest gets it, or it waits itself."""
        if line.waiters and self._hand(line, due):
            return
        line.ready.append(due)
        if self._drainers:
            self._undrained.add(line)

    def _hand(self, line: Line, due: Due) -> bool:
        waiter = line.longest_waiter()
        if waiter is None:
            return False
        self._deadlines.clear(waiter)
        leased = self._lend(line, due, waiter.duration, self._monotonic())
        waiter.future.set_result(leased)
        return True

    def _delay(self, line: Line, due: Due, delay: timedelta) -> None:
        self._delayed += 1
        if not self._closed:
            delayed = Delayed(line, due, self._put_delayed)
            self._deadlines.set(delayed, self._monotonic() + delay.total_seconds())

    def _put_delayed(self, line: Line, due: Due) -> None:
        self._delayed -= 1
        self._put(line, due)

    def _lend(self, line: Line, due: Due, duration: timedelta, now: float) -> LeasedJob:
        job, attempts = due
        token = next(_tokens)
        lane = self._lanes[duration]
        lane.keys[token] = now + lane.seconds
        if not lane.ticket:
            lane.watch()
        self._leased[token] = line, job, attempts + 1, lane
        return _new(LeasedJob, (line.name, job, attempts + 1, token))

    async def _wait(self, waiter: Waiter, wait: timedelta | None) -> LeasedJob | None:
        if wait is not None:
            self._deadlines.set(waiter, self._monotonic() + wait.total_seconds())
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._deadlines.clear(waiter)
            waiter.line.waiters.pop(waiter, None)
            leased = waiter.handed()
            if leased is not None and leased.token in self._leased:
                self._give_back(leased)
            self._unserve(waiter.line)
            raise

    def _give_back(self, leased: LeasedJob) -> None:
        """Undo a lease that its caller never saw: the next one gets the job, as if for the first."""
        line, job, attempt, _ = self._take_back(leased)
        if not self._hand(line, (job, attempt - 1)):
            line.ready.appendleft((job, attempt - 1))

    def _take_back(self, leased: LeasedJob) -> Lease:
        lease = self._leased.pop(leased.token, None)
        if lease is None:
            raise _lost(leased)
        lease[3].keys.pop(leased.token, None)
        return lease

    def _ran_out(self, token: int) -> None:
        """A lease ran out: the job is due again, or dead."""
        line, job, attempt, _ = self._leased.pop(token)
        logger.warning(
            "queue %s: the lease of job %s ran out in attempt %d of %d, run %s",
            line.name,
            job.message.id,
            attempt,
            job.max_attempts,
            job.message.run.run_id if job.message.run else job.message.id,
        )
        if attempt >= job.max_attempts:
            self._bury(line, job, attempt, f"the lease ran out in attempt {attempt}, the last")
        else:
            self._put(line, (job, attempt))
        self._tell_drainers()

    def _bury(self, line: Line, job: Job, attempts: int, reason: str) -> None:
        letter = DeadLetter(line.name, job, attempts, reason, self._clock.now())
        line.bury(letter, next(_tokens))

    def _serve(self, line: Line) -> None:
        line.served = True
        if self._drainers:
            self._undrained.add(line)

    def _unserve(self, line: Line) -> None:
        """Note that nobody works on a queue: no call waits and no job is leased."""
        if not line.waiters and not any(lease[0] is line for lease in self._leased.values()):
            line.served = False
            self._tell_drainers()

    def _tell_drainers(self) -> None:
        if self._drainers and self._is_drained(self._undrained):
            for waiting in self._drainers:
                if not waiting.done():
                    waiting.set_result(None)
            self._drainers.clear()

    def _is_drained(self, lines: set[Line]) -> bool:
        """Whether nothing is left to do, in ``lines`` at most; those that are done leave the set."""
        self._undrained = lines
        if self._leased or self._closed:
            return not self._leased
        while lines:
            line = lines.pop()
            if line.ready and line.served:
                lines.add(line)
                return False
        return True


def _no_lease(queue: str, duration: timedelta) -> ValueError:
    return ValueError(f"queue '{queue}': a lease of {duration} is none; use a positive duration")


def _refusal(queue: str) -> BridgeClosedError:
    return BridgeClosedError(f"queue '{queue}': the memory bridge is closed; it takes nothing new")


def _lost(leased: LeasedJob) -> LeaseLostError:
    return LeaseLostError(
        f"queue '{leased.queue}': job {leased.job.message.id}, attempt {leased.attempt}: "
        "its lease ran out or it was settled already; extend a lease in time, settle it once"
    )

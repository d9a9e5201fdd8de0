"""The rows of SQLite queues: what each call of the bridge does in its transaction.

A leased job is due when its lease runs out, so that one index tells what can be taken. ``now``, and
what is returned, are moments of the clock's ``monotonic`` in microseconds; rows have the file's time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from purista.bridges import sqlite_statements as statements
from purista.bridges.job_values import job_of, values_of
from purista.bridges.port import DeadLetter, Job, LeasedJob
from purista.bridges.sqlite_schema import QueueTables, instant
from purista.errors import LeaseLostError

AT_ONCE = 100
"""How many used-up jobs a step buries, and how many keys it forgets: other processes wait for it."""

PRUNE_EVERY = 32
"""With every 32nd job, keys whose window is over are forgotten: more than came."""

_LEASES = 1 << 32
_LAST = (1 << 63) - 1
_MICROSECOND = timedelta(microseconds=1)


class Lent(NamedTuple):
    """A job that was leased, and when it was due, in the file's time."""

    leased: LeasedJob
    due: int


class RanOut(NamedTuple):
    """A lease that ran out, for the log."""

    job: Job
    attempt: int


class Taken(NamedTuple):
    """What a look at a queue brought; ``next_due`` is None when nothing will be due by itself.

    ``is_all``: no more was due. Otherwise there may be, and ``next_due`` is not known.
    """

    lent: Sequence[Lent]
    ran_out: Sequence[RanOut]
    is_all: bool
    next_due: int | None


class QueueRows:
    """Jobs, dead letters and keys, on the connection that each call is given."""

    def __init__(self, tables: QueueTables) -> None:
        self._tables = tables
        self._seen: tuple[sqlite3.Connection, int] | None = None

    def enqueue(self, file: sqlite3.Connection, job: Job, now: int) -> int | None:
        """Store a job; return when it is due, None when its key is known: then nothing changed."""
        shift = self._tables.shift(file)
        if job.key is not None and not _take_key(file, job, now + shift):
            return None
        due = _later(now + shift, job.delay)
        values = (job.message.name, due, now + shift, *values_of(job))
        number = file.execute(statements.ENQUEUE, values).lastrowid
        if (number or 0) % PRUNE_EVERY == 0:
            file.execute(statements.FORGET_KEYS, (now + shift, AT_ONCE))
        return due - shift

    def lease(
        self, file: sqlite3.Connection, queue: str, durations: Sequence[timedelta], now: int
    ) -> Taken:
        """Lease a job for each duration, as far as some are due; bury those without attempts left."""
        shift = self._tables.shift(file)
        lent: list[Lent] = []
        ran_out: list[RanOut] = []
        while len(lent) < len(durations) and len(ran_out) < AT_ONCE:
            rows = _due(file, queue, now + shift, len(durations) - len(lent))
            if not rows:
                return Taken(lent, ran_out, True, _next_due(file, queue, shift))
            for row in rows:
                if row.is_leased:
                    ran_out.append(RanOut(row.job, row.attempts))
                if row.is_used_up:
                    self._bury_used_up(file, row.number, row.attempts)
                else:
                    until = _later(now + shift, durations[len(lent)])
                    lent.append(_lend(file, queue, row, until))
        return Taken(lent, ran_out, False, None)

    def give_back(self, file: sqlite3.Connection, lent: Sequence[Lent]) -> None:
        """Undo leases that nobody saw: their jobs are where they were."""
        for leased, due in lent:
            file.execute(statements.GIVE_BACK, (due, *_lease(leased)))

    def news(self, file: sqlite3.Connection, queues: Sequence[str]) -> dict[str, int | None] | None:
        """Return when the first job of each queue is due.

        None when no other connection has written to the file since the last call.
        """
        (version,) = file.execute("PRAGMA data_version").fetchone()
        if self._seen == (file, version):
            return None
        self._seen = (file, version)
        shift = self._tables.shift(file)
        return {queue: _next_due(file, queue, shift) for queue in queues}

    def extend(
        self, file: sqlite3.Connection, leased: LeasedJob, duration: timedelta, now: int
    ) -> int:
        """Let a lease run out ``duration`` from now; return when."""
        shift = self._tables.shift(file)
        due = _later(now + shift, duration)
        if file.execute(statements.EXTEND, (due, *_lease(leased))).rowcount != 1:
            raise _lost(leased)
        return due - shift

    def ack(self, file: sqlite3.Connection, leased: LeasedJob) -> None:
        """Forget a job that is leased."""
        if file.execute(statements.ACK, _lease(leased)).rowcount != 1:
            raise _lost(leased)

    def nack(
        self,
        file: sqlite3.Connection,
        leased: LeasedJob,
        retry_in: timedelta | None,
        reason: str,
        now: int,
    ) -> int | None:
        """Let a job that is leased be due later and return when; or bury it and return None."""
        held = file.execute(statements.HELD, _lease(leased)).fetchone()
        if held is None:
            raise _lost(leased)
        number, attempts, max_attempts = held
        if retry_in is None or attempts >= max_attempts:
            self._bury(file, number, reason)
            return None
        shift = self._tables.shift(file)
        due = _later(now + shift, retry_in)
        file.execute(statements.RETRY, (due, number))
        return due - shift

    def bury_used_up(self, file: sqlite3.Connection, queue: str, now: int) -> bool:
        """Bury jobs whose last lease ran out; return whether those were all."""
        values = (queue, now + self._tables.shift(file), AT_ONCE)
        rows = file.execute(statements.USED_UP, values).fetchall()
        for number, attempts in rows:
            self._bury_used_up(file, number, attempts)
        return len(rows) < AT_ONCE

    def dead_letters(self, file: sqlite3.Connection, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first."""
        return [
            DeadLetter(queue, job_of(queue, row[3:]), row[0], row[1], instant(row[2]))
            for row in file.execute(statements.LETTERS, (queue,))
        ]

    def redrive(
        self, file: sqlite3.Connection, queue: str, message_id: str | None, now: int
    ) -> int:
        """Enqueue dead letters again; return how many."""
        at = now + self._tables.shift(file)
        if message_id is None:
            file.execute(statements.REDRIVE, (at, at, queue))
        else:
            file.execute(statements.REDRIVE_ONE, (at, at, queue, message_id))
        return self.purge(file, queue, message_id)

    def purge(self, file: sqlite3.Connection, queue: str, message_id: str | None) -> int:
        """Delete dead letters; return how many."""
        if message_id is None:
            return file.execute(statements.PURGE, (queue,)).rowcount
        return file.execute(statements.PURGE_ONE, (queue, message_id)).rowcount

    def _bury_used_up(self, file: sqlite3.Connection, number: int, attempts: int) -> None:
        self._bury(file, number, f"the lease ran out in attempt {attempts}, the last")

    def _bury(self, file: sqlite3.Connection, number: int, reason: str) -> None:
        file.execute(statements.BURY, (reason, self._tables.time_of_day(), number))
        file.execute(statements.FORGET, (number,))


class _Due(NamedTuple):
    """A job that can be taken, with its columns."""

    number: int
    due: int
    is_leased: int
    leases: int
    attempts: int
    job: Job

    @property
    def is_used_up(self) -> bool:
        return self.is_leased == 1 and self.attempts >= self.job.max_attempts


def _due(file: sqlite3.Connection, queue: str, until: int, most: int) -> Sequence[_Due]:
    return [
        _Due(row[0], row[1], row[2], row[3], row[4], job_of(queue, row[5:]))
        for row in file.execute(statements.DUE, (queue, until, most)).fetchall()
    ]


def _lend(file: sqlite3.Connection, queue: str, row: _Due, until: int) -> Lent:
    file.execute(statements.LEND, (until, row.number))
    token = row.number * _LEASES + row.leases + 1
    return Lent(LeasedJob(queue, row.job, row.attempts + 1, token), row.due)


def _lease(leased: LeasedJob) -> tuple[int, int]:
    """Return which row a lease is of, and which of its leases it is."""
    return divmod(leased.token, _LEASES)


def _next_due(file: sqlite3.Connection, queue: str, shift: int) -> int | None:
    (due,) = file.execute(statements.NEXT_DUE, (queue,)).fetchone()
    return None if due is None else due - shift


def _take_key(file: sqlite3.Connection, job: Job, at: int) -> bool:
    """Keep a job's key for its window; False when it is kept already."""
    names = (job.message.name, job.key)
    known = file.execute(statements.KEY, names).fetchone()
    if known is not None and known[0] > at:
        return False
    until = _later(at, job.dedupe_window)
    file.execute(statements.KEEP_KEY, (*names, until))
    return True


def _later(at: int, duration: timedelta) -> int:
    """Return the instant after a duration, which never goes back and may be longer than a row can tell."""
    return min(at + max(duration // _MICROSECOND, 0), _LAST)


def _lost(leased: LeasedJob) -> LeaseLostError:
    return LeaseLostError(
        f"queue '{leased.queue}': job {leased.job.message.id}, attempt {leased.attempt}: "
        "its lease ran out or it was settled already; extend a lease in time, settle it once"
    )

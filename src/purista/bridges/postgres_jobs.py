"""Jobs of a PostgreSQL queue bridge as rows, and back."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from purista.bridges.port import DeadLetter, Job, LeasedJob
from purista.message import Message, RunInfo
from purista.postgres.address import quoted_schema
from purista.postgres.rowtext import instant, restored, stored

_MICROSECOND = timedelta(microseconds=1)
_LONGEST = timedelta(days=365_000)
"""As good as for ever, and what the server can still add to an instant."""


CALLS: Final = 1_000
CALLER_LASTS: Final = 3600.0
"""How many calls a caller makes at most, and for how many seconds.

Its row in the server is not updated so often that a long transaction of another makes it slow, and used
no longer than it is kept for sure.
"""


class Statements:
    """The text of each statement, for one schema."""

    def __init__(self, schema: str) -> None:
        self._schema = quoted_schema(schema)
        self.enlist = self._enlist()
        self.enqueue = self._call("enqueue_2", 11)
        self.lease = self._lease()
        self.give_back = self._call("give_back_1", 2)
        self.extend = self._call("extend_1", 3)
        self.ack = self._call("ack_2", 3)
        self.nack = self._call("nack_2", 6)
        self.letters = self._call("letters_1", 2)
        self.redrive = self._call("redrive_2", 5)
        self.purge = self._call("purge_letters_2", 4)

    def _lease(self) -> bytes:
        """With its arrays as text, see ``array``."""
        arrays = "$2::text::bigint[], $3::text::bigint[]"
        return f"SELECT * FROM {self._schema}.lease_2($1, {arrays}, $4)".encode()  # noqa: S608 - a plain name

    def _enlist(self) -> bytes:
        """For a connection of somebody else."""
        microsecond = "interval '1 microsecond'"
        return (
            f"SELECT {self._schema}.enqueue_1("
            f"%s, %s, %s, %s, %s, %s * {microsecond}, %s, %s * {microsecond}, %s)"
        ).encode()

    def _call(self, function: str, count: int) -> bytes:
        places = ", ".join(f"${number}" for number in range(1, count + 1))
        return f"SELECT * FROM {self._schema}.{function}({places})".encode()  # noqa: S608 - a plain name


class Caller:
    """One who makes a call after another; the server knows the latest one, and what it answered."""

    __slots__ = ("_began", "calls", "name")

    def __init__(self) -> None:
        self.name = unique()
        self.calls = 0
        self._began = time.monotonic()

    @property
    def is_spent(self) -> bool:
        """Whether another one has to make the next call."""
        return self.calls >= CALLS or time.monotonic() - self._began > CALLER_LASTS


class Callers:
    """As many callers as calls are made at once."""

    def __init__(self) -> None:
        self._idle: list[Caller] = []

    @contextlib.contextmanager
    def call(self) -> Iterator[tuple[int, int]]:
        """Name a call, by its caller and number, however often it has to be tried."""
        caller = self._idle.pop() if self._idle else Caller()
        if caller.is_spent:
            caller = Caller()
        caller.calls += 1
        try:
            yield caller.name, caller.calls
        finally:
            self._idle.append(caller)


def unique() -> int:
    """Return a number that no other process comes upon."""
    return secrets.randbits(62) + 1


class Buried(NamedTuple):
    """A job that became a dead letter as its last lease ran out."""

    job: Job
    attempts: int


class Look(NamedTuple):
    """What one look into a queue gave.

    ``ran_out``: those of ``leased`` that had a lease before, which ran out. ``next_in``: in how many
    seconds a look may give more; None when that is not known.
    """

    leased: list[LeasedJob]
    ran_out: list[LeasedJob]
    buried: list[Buried]
    next_in: float | None


def topic(schema: str, queue: str) -> str:
    """Return what is told when there is something new in a queue."""
    digest = hashlib.sha256(queue.encode(errors="surrogatepass")).hexdigest()
    return f"{schema}/{digest}"


def bounded(duration: timedelta) -> timedelta:
    """Return a duration that the server can add to an instant; none that is negative."""
    return min(max(duration, timedelta(0)), _LONGEST)


def microseconds(duration: timedelta) -> int:
    """Return the same as a number."""
    if not duration:
        return 0
    return bounded(duration) // _MICROSECOND


def enqueued(job: Job, now: datetime | None) -> tuple[object, ...]:
    """Return the values of a job, in the order of ``enqueue``'s parameters."""
    message = job.message
    return (
        stored(message.name),
        stored(message.id),
        _envelope(job),
        message.body,
        job.max_attempts,
        microseconds(job.delay),
        None if job.key is None else stored(job.key),
        microseconds(job.dedupe_window),
        now,
    )


def array(numbers: Iterable[int]) -> str:
    """Return numbers as an array of the server, which psycopg itself makes more slowly."""
    return f"{{{','.join(map(str, numbers))}}}"


def look(queue: str, found: Sequence[Sequence[Any]]) -> Look:
    """Return what ``lease`` gave."""
    result = Look([], [], [], found[-1][7] if found and found[-1][0] is None else None)
    for token, attempt, message_id, envelope, body, most, ran_out, _ in found:
        if token is None:
            continue
        job = _job(queue, message_id, envelope, body, most)
        if token == 0:
            result.buried.append(Buried(job, attempt))
            continue
        leased = LeasedJob(queue, job, attempt, token)
        result.leased.append(leased)
        if ran_out:
            result.ran_out.append(leased)
    return result


def letter(queue: str, row: Sequence[Any]) -> DeadLetter:
    """Return a dead letter from its row."""
    message_id, envelope, body, most, attempts, reason, died_at = row
    job = _job(queue, message_id, envelope, body, most)
    return DeadLetter(queue, job, attempts, restored(reason), instant(died_at))


def _job(queue: str, message_id: str, envelope: str, body: bytes, most: int) -> Job:
    known = json.loads(envelope)
    run = None
    if known["run"] is not None:
        run_id, schedule_id, nominal_time, timezone, is_target = known["run"]
        run = RunInfo(
            run_id, schedule_id, datetime.fromisoformat(nominal_time), timezone, is_target
        )
    message = Message(queue, body, restored(message_id), run, known["headers"])
    return Job(
        message,
        most,
        delay=timedelta(*known["delay"]),
        key=known["key"],
        dedupe_window=timedelta(*known["dedupe_window"]),
    )


def _envelope(job: Job) -> str:
    """Return what of a job the server need not understand. What is added later is added by name."""
    run, headers = job.message.run, job.message.headers
    return json.dumps(
        {
            "run": None
            if run is None
            else [
                run.run_id,
                run.schedule_id,
                run.nominal_time.isoformat(),
                run.timezone,
                run.is_target,
            ],
            "headers": None if headers is None else dict(headers),
            "delay": _parts(job.delay),
            "key": job.key,
            "dedupe_window": _parts(job.dedupe_window),
        }
    )


def _parts(duration: timedelta) -> list[int]:
    return [duration.days, duration.seconds, duration.microseconds]

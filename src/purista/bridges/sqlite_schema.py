"""The tables of SQLite queues, and the time that all who use a file agree on."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from purista.clock import Clock, SystemClock
from purista.errors import BridgeError

SCHEMA_VERSION = 1
"""What ``queue_file.version`` says in the files that this module makes."""

SCHEMA = """
CREATE TABLE queue_file (
    version INTEGER NOT NULL,
    boot TEXT NOT NULL,
    shift INTEGER NOT NULL
);
INSERT INTO queue_file VALUES (0, '', 0);
CREATE TABLE queue_jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    due INTEGER NOT NULL,
    is_leased INTEGER NOT NULL,
    leases INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    enqueued_at INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    body BLOB NOT NULL,
    details TEXT NOT NULL
);
CREATE INDEX queue_jobs_due ON queue_jobs (queue, due);
CREATE TABLE queue_dead (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    message_id TEXT NOT NULL,
    body BLOB NOT NULL,
    details TEXT NOT NULL,
    reason TEXT NOT NULL,
    died_at INTEGER NOT NULL
);
CREATE INDEX queue_dead_of_queue ON queue_dead (queue, message_id);
CREATE TABLE queue_keys (
    queue TEXT NOT NULL,
    key TEXT NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) WITHOUT ROWID;
CREATE INDEX queue_keys_until ON queue_keys (until)
"""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class QueueTables:
    """Implements ``Tables`` for queues, and tells the time in them.

    Their time is in microseconds, close to that of the day, and does not follow a clock that is set:
    it is ``clock.monotonic``, which all processes of a machine share until it starts again, and a
    shift that the file keeps for them. Where the system does not tell one start from the next (all
    but Linux) it is the time of the day.
    """

    subject = "queues"
    error = BridgeError

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_system = isinstance(clock, SystemClock)
        self._boot = boot_id() if self._is_system else ""
        self._own_shift = self._difference()

    def problem(self, connection: sqlite3.Connection) -> str:
        """Return that the queues are of a newer version, or nothing."""
        mark = _mark(connection)
        if mark is None or mark.version <= SCHEMA_VERSION:
            return ""
        return (
            f"its queues have version {mark.version}, this purista knows {SCHEMA_VERSION}; "
            "use the purista that wrote them, or a newer one"
        )

    def is_made(self, connection: sqlite3.Connection) -> bool:
        """Whether the tables are there and their time goes on from this start of the machine."""
        mark = _mark(connection)
        return mark is not None and self._is_current(mark)

    def make(self, connection: sqlite3.Connection) -> None:
        """Create the tables where they are not; let their time go on."""
        if _mark(connection) is None:
            for statement in SCHEMA.split(";"):
                connection.execute(statement.strip())
        connection.execute(
            "UPDATE queue_file SET version = ?, boot = ?, shift = ?",
            (SCHEMA_VERSION, self._boot, self._new_shift(connection)),
        )

    def shift(self, connection: sqlite3.Connection) -> int:
        """Return what to add to ``clock.monotonic`` for the time in the queues.

        The transaction has to be one that may write: where the tables are not there they are made.
        """
        mark = _mark(connection)
        if mark is None or not self._is_current(mark):
            self._check(connection)
            self.make(connection)
            mark = _mark(connection)
            assert mark is not None
        if self._boot:
            return mark.shift
        return self._difference() if self._is_system else self._own_shift

    def time_of_day(self) -> int:
        """Return the present as microseconds since 1970, as the clock on the wall has it."""
        return micros(self._clock.now())

    def _check(self, connection: sqlite3.Connection) -> None:
        problem = self.problem(connection)
        if problem:
            raise BridgeError(f"{self.subject}: {problem}")

    def _is_current(self, mark: _Mark) -> bool:
        return mark.version == SCHEMA_VERSION and self._boot in ("", mark.boot)

    def _new_shift(self, connection: sqlite3.Connection) -> int:
        """Return the shift since this start; time does not go back behind what is in the queues.

        A machine without a clock of its own begins in some past, until it has asked for the time.
        """
        (latest,) = connection.execute("SELECT max(enqueued_at) FROM queue_jobs").fetchone()
        now = moment(self._clock)
        return max(self._difference() + now, latest or 0) - now

    def _difference(self) -> int:
        return self.time_of_day() - moment(self._clock)


def moment(clock: Clock) -> int:
    """Return the clock's monotonic time in microseconds."""
    return round(clock.monotonic() * 1e6)


def micros(instant: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def instant(micros: int) -> datetime:
    """Return the instant, in UTC."""
    return _EPOCH + timedelta(0, 0, micros)


class _Mark(NamedTuple):
    version: int
    boot: str
    shift: int


def _mark(connection: sqlite3.Connection) -> _Mark | None:
    """Return what the file says about its queues, None when it has none."""
    try:
        row = connection.execute("SELECT version, boot, shift FROM queue_file").fetchone()
    except sqlite3.OperationalError:
        is_there = "SELECT count(*) FROM sqlite_master WHERE name = 'queue_file'"
        if connection.execute(is_there).fetchone() != (0,):
            raise
        return None
    return _Mark(*row)


def boot_id() -> str:
    """Return which start of the machine this is, where the system tells: proc(5)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""

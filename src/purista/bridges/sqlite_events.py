"""The SQLite event bridge: events and commands between the processes of one machine, in a file."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from purista.bridges.port import EventBridgeCapabilities
from purista.bridges.sqlite_queues import POLL_INTERVAL, SQLiteQueueBridge
from purista.bridges.sqlite_schema import boot_id
from purista.bridges.stored_events import KEEP, StoredEventBridge
from purista.bridges.stored_members import Kind, posted
from purista.clock import Clock, SystemClock
from purista.errors import BridgeError
from purista.message import Message
from purista.sqlitefile import BUSY_TIMEOUT, SQLiteFile
from purista.sqlitethread import SQLiteThread

SCHEMA_VERSION: Final = 1
"""What ``event_file.version`` says in the files that this module makes."""

_SCHEMA: Final = (
    "CREATE TABLE event_file (version INTEGER NOT NULL)",
    "INSERT INTO event_file VALUES (1)",
    """
    CREATE TABLE event_members (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        queue TEXT NOT NULL,
        boot TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (kind, name, queue)
    ) WITHOUT ROWID
    """,
)
_CAPABILITIES: Final = EventBridgeCapabilities(
    name="sqlite",
    durable=True,
    delivery="at-least-once",
    redelivers=True,
    dead_letters=True,
    across_processes=True,
    commands=True,
    every_instance=True,
    ordered=False,
)
_JOIN: Final = "INSERT OR REPLACE INTO event_members VALUES (?, ?, ?, ?, ?)"
_LEAVE: Final = "DELETE FROM event_members WHERE kind = ? AND name = ? AND queue = ?"
_PRESENT: Final = """
SELECT queue FROM event_members WHERE kind = ? AND name = ? AND until > CASE boot WHEN '' THEN ? WHEN ? THEN ? END
"""
_NAMES: Final = "SELECT DISTINCT name FROM event_members WHERE kind = ?"
_GONE: Final = """
SELECT kind, name, queue FROM event_members
WHERE coalesce(until <= CASE boot WHEN '' THEN ? WHEN ? THEN ? END, 1)
"""
_FORGET: Final = (
    "DELETE FROM queue_jobs WHERE queue = ?",
    "DELETE FROM queue_dead WHERE queue = ?",
)


class SQLiteEventBridge(StoredEventBridge):
    """Implements ``EventBridge`` and ``EventDeadLetters`` in the SQLite file ``path``, which is made if need be.

    Other processes of this machine share it, and the queues and the ledger may be in the same file.
    What returned survives the end of the process, with ``synchronous="full"`` a power failure too.
    Other processes hear of an event within ``poll_interval``. ``keep``: after so long without a
    receiver a subscriber name is forgotten, with what waits for it. For one event loop.

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
        keep: timedelta = KEEP,
    ) -> None:
        queues = SQLiteQueueBridge(
            path,
            clock=clock,
            busy_timeout=busy_timeout,
            synchronous=synchronous,
            poll_interval=poll_interval,
        )
        file = SQLiteFile(
            Path(path).absolute(), _Tables(), busy_timeout=busy_timeout, synchronous=synchronous
        )
        super().__init__(
            queues,
            _SQLiteMembers(queues, SQLiteThread(file, name="purista-events")),
            capabilities=_CAPABILITIES,
            place=f"'{path}'",
            clock=clock or SystemClock(),
            keep=keep,
        )


class _SQLiteMembers:
    """Implements ``Members``. A process that ended with its machine is gone when that starts again."""

    def __init__(self, queues: SQLiteQueueBridge, thread: SQLiteThread) -> None:
        self._queues = queues
        self._thread = thread
        self._boot = boot_id() or "unknown"

    async def join(self, kind: Kind, name: str, queue: str, *, lasts: timedelta) -> None:
        boot = "" if kind == "subscriber" else self._boot
        until = (_wall() if kind == "subscriber" else _running()) + _micros(lasts)

        def work(file: sqlite3.Connection) -> None:
            file.execute(_JOIN, (kind, name, queue, boot, until))
            for gone in file.execute(_GONE, self._now()).fetchall():
                self._forget(file, *gone)

        await self._thread.write(work)

    async def leave(self, kind: Kind, name: str, queue: str) -> None:
        await self._thread.write(lambda file: self._forget(file, kind, name, queue))

    async def post(
        self, kinds: Sequence[Kind], name: str, message: Message, *, to: str | None = None
    ) -> int:
        def work(file: sqlite3.Connection) -> Sequence[str]:
            queues = [queue for kind in kinds for queue in self._present(file, kind, name)]
            if to is not None and queues:
                queues = [to]
            for queue in queues:
                self._queues.enlisted(posted(message, queue))(file)
            return queues

        told = await self._thread.write(work)
        for queue in told:
            self._queues.wake(queue)
        return len(told)

    async def names(self, kind: Kind) -> Sequence[str]:
        return await self._thread.read(
            lambda file: [name for (name,) in file.execute(_NAMES, (kind,))]
        )

    async def close(self) -> None:
        await self._thread.close()

    def _present(self, file: sqlite3.Connection, kind: Kind, name: str) -> list[str]:
        return [queue for (queue,) in file.execute(_PRESENT, (kind, name, *self._now()))]

    def _forget(self, file: sqlite3.Connection, kind: str, name: str, queue: str) -> None:
        file.execute(_LEAVE, (kind, name, queue))
        has_queues = "SELECT 1 FROM sqlite_master WHERE name = 'queue_jobs'"
        if kind != "responder" and file.execute(has_queues).fetchone():
            for statement in _FORGET:
                file.execute(statement, (queue,))

    def _now(self) -> tuple[int, str, int]:
        return _wall(), self._boot, _running()


class _Tables:
    """Implements ``Tables`` for the members."""

    subject = "events"
    error = BridgeError

    def problem(self, connection: sqlite3.Connection) -> str:
        """Return that the events are of a newer version, or nothing."""
        version = _version(connection)
        if version is None or version <= SCHEMA_VERSION:
            return ""
        return (
            f"its events have version {version}, this purista knows {SCHEMA_VERSION}; "
            "use the purista that wrote them, or a newer one"
        )

    def is_made(self, connection: sqlite3.Connection) -> bool:
        """Whether the tables are there."""
        return _version(connection) == SCHEMA_VERSION

    def make(self, connection: sqlite3.Connection) -> None:
        """Create the tables."""
        for statement in _SCHEMA:
            connection.execute(statement)


def _version(connection: sqlite3.Connection) -> int | None:
    try:
        (version,) = connection.execute("SELECT version FROM event_file").fetchone()
    except sqlite3.OperationalError:
        is_there = "SELECT count(*) FROM sqlite_master WHERE name = 'event_file'"
        if connection.execute(is_there).fetchone() != (0,):
            raise
        return None
    return int(version)


def _wall() -> int:
    return time.time_ns() // 1000


def _running() -> int:
    """Return the time that all processes share until the machine starts again, in microseconds."""
    return time.monotonic_ns() // 1000


def _micros(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1e6)

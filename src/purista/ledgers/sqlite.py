"""The SQLite ledger: runs in one file that survives restarts and that several processes can share.

One thread of its own talks to the file; every step is one ``BEGIN IMMEDIATE`` transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

from purista.errors import LedgerError
from purista.ledgers import book
from purista.ledgers.book import RETENTION
from purista.ledgers.port import Proposal, Record, Ruling, Run
from purista.ledgers.sqlite_book import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, SQLiteBook

BUSY_TIMEOUT = timedelta(seconds=15)
"""How long a step waits for another process; shorter than a claim's lease."""

T = TypeVar("T")


class SQLiteLedger:
    """A ledger and its history in the file ``path``, which is made when it is not there.

    A step that returned survives the end of the process, however it ends. With ``synchronous="full"``
    it survives a power failure too; ``"normal"`` can lose the last steps to one, never their
    consistency, and is several times faster. ``retention``: finished runs, skips and records are
    deleted once they are older than that and than their schedule's dedupe window; the latest nominal
    time of a schedule never is. ``busy_timeout``: how long a step waits for other processes.

    The file is opened by the first call; what is wrong with it is raised as ``LedgerError`` then.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        retention: timedelta = RETENTION,
        busy_timeout: timedelta = BUSY_TIMEOUT,
        synchronous: Literal["full", "normal"] = "full",
    ) -> None:
        if str(path) in ("", ":memory:"):
            raise LedgerError(f"ledger '{path}': it is no file; use MemoryLedger")
        self._file = _File(Path(path).absolute(), busy_timeout, synchronous)
        self._retention = retention
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="purista-ledger")
        self._is_closed = False

    async def decide(self, proposal: Proposal) -> Ruling:
        """Decide about a trigger and record the decision."""
        return await self._step(lambda rows: book.decide(rows, proposal, retention=self._retention))

    async def dispatched(self, run_id: str, token: int, *, lease_until: datetime | None) -> bool:
        """The claim was dispatched: the run is active. False when it is fenced."""
        return await self._step(
            lambda rows: book.dispatched(rows, run_id, token, lease_until=lease_until)
        )

    async def release(self, run_id: str, token: int) -> bool:
        """The dispatch failed: a redelivery may take the run over at once."""
        return await self._step(lambda rows: book.release(rows, run_id, token))

    async def end(self, run_id: str, *, outcome: str, now: datetime) -> bool:
        """The run's target is done. False when the run was not active any more."""
        return await self._step(lambda rows: book.end(rows, run_id, outcome=outcome, now=now))

    async def renew(self, owner: str, *, lease_until: datetime) -> None:
        """Prolong every lease of this owner's claimed and active runs that have one."""
        await self._step(lambda rows: rows.renew(owner, lease_until))

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        entry = await self._read(lambda rows: rows.run(run_id))
        return None if entry is None else entry.run()

    async def runs(
        self, *, schedule_id: str | None = None, unfinished: bool = False, limit: int = 100
    ) -> Sequence[Run]:
        """Return runs, newest nominal time first; ``unfinished`` keeps claimed, active and failed ones."""
        found = await self._read(lambda rows: rows.entries(schedule_id, unfinished, limit))
        return [entry.run() for entry in found]

    async def records(
        self, *, schedule_id: str | None = None, limit: int = 100
    ) -> Sequence[Record]:
        """Return decisions, newest first."""
        return await self._read(lambda rows: rows.records(schedule_id, limit))

    async def latest(self, schedule_id: str) -> datetime | None:
        """Return the latest nominal time that was decided for a scheduler, or None."""
        return await self._read(lambda rows: rows.latest(schedule_id))

    async def close(self) -> None:
        """Finish what was begun, close the file and end the thread. May be repeated."""
        if self._is_closed:
            return
        self._is_closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
        self._thread.shutdown(wait=False)
        await closing

    async def _step(self, work: Callable[[SQLiteBook], T]) -> T:
        return await self._in_thread(lambda: self._file.write(work))

    async def _read(self, work: Callable[[SQLiteBook], T]) -> T:
        return await self._in_thread(lambda: self._file.read(work))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Await work in the ledger's thread. When the caller is cancelled, it is done or not begun."""
        if self._is_closed:
            raise LedgerError(f"ledger '{self._file.path}': it is closed; make a new one")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _File:
    """The database file and its one connection; used by one thread only."""

    def __init__(self, path: Path, busy_timeout: timedelta, synchronous: str) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None

    def write(self, work: Callable[[SQLiteBook], T]) -> T:
        return self._try("IMMEDIATE", work)

    def read(self, work: Callable[[SQLiteBook], T]) -> T:
        return self._try("DEFERRED", work)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _try(self, kind: str, work: Callable[[SQLiteBook], T]) -> T:
        """Do the work in one transaction; after an error the next call opens the file anew."""
        try:
            if self._connection is None:
                self._connection = self._opened()
            with _transaction(self._connection, kind):
                return work(SQLiteBook(self._connection))
        except (sqlite3.Error, UnicodeError) as error:
            self.close()
            raise LedgerError(f"ledger '{self.path}': {self._explained(error)}") from error

    def _opened(self) -> sqlite3.Connection:
        if not self.path.parent.is_dir():
            self._refuse(f"there is no directory '{self.path.parent}'; create it")
        if self.path.is_dir():
            self._refuse("it is a directory; name a file in it")
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout.total_seconds(), isolation_level=None
        )
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with _transaction(connection, "DEFERRED"):
            self._is_new(connection)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if self._journal_mode(connection) != "wal":  # pragma: no cover - needs such a file system
            self._refuse("its file system has no shared memory; put it on a local disk")
        with _transaction(connection, "IMMEDIATE"):
            self._create(connection)

    def _is_new(self, connection: sqlite3.Connection) -> bool:
        """Whether nobody has written to the file yet; refuses what is no ledger of this version.

        In one transaction, so that it does not see half of what another process creates.
        """
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == version == tables == 0:
            return True
        if application != APPLICATION_ID:
            self._refuse("it is the SQLite database of another program; name another file")
        if version != SCHEMA_VERSION:
            self._refuse(
                f"its schema has version {version}, this purista knows {SCHEMA_VERSION}; "
                "use the purista that wrote it, or a newer one"
            )
        return False

    def _journal_mode(self, connection: sqlite3.Connection) -> str:
        """Switch to WAL; while another process does the same, SQLite does not always wait."""
        deadline = time.monotonic() + self._busy_timeout.total_seconds()
        while True:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = wal").fetchone()
                return str(mode)
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _create(self, connection: sqlite3.Connection) -> None:
        if self._is_new(connection):
            for statement in SCHEMA.split(";"):
                connection.execute(statement)

    def _refuse(self, text: str) -> None:
        raise LedgerError(f"ledger '{self.path}': {text}")

    def _explained(self, error: Exception) -> str:
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return (
                f"another process kept it locked for {self._busy_timeout}; "
                "end that one, or raise busy_timeout"
            )
        return _EXPLANATIONS.get(_code(error), f"{error}; try again")


_WRITABLE = "make the file and its directory writable for this user"
_EXPLANATIONS: dict[int | None, str] = {
    sqlite3.SQLITE_READONLY: f"it cannot be written; {_WRITABLE}",
    sqlite3.SQLITE_CANTOPEN: f"it cannot be opened; {_WRITABLE}",
    sqlite3.SQLITE_PERM: f"it cannot be opened; {_WRITABLE}",
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_IOERR: "the disk could not read or write it; see the system's log",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database; name another file",
    sqlite3.SQLITE_CORRUPT: (
        "it is damaged; restore it, or move it away (with its -wal file) and start anew, "
        "which forgets what ran"
    ),
}


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


def _code(error: Exception) -> int | None:
    """Return the primary result code, https://sqlite.org/rescode.html."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

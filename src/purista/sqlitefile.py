"""One SQLite file: opening it, its transactions, and its errors in plain words.

A ledger and queues keep their tables by it, in one file or in two. It is used by one thread, which
is that of ``purista.sqlitethread``.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol
from weakref import WeakValueDictionary

from purista.errors import PuristaError

APPLICATION_ID = 0x50555249
"""``PRAGMA application_id`` of a file: "PURI". https://sqlite.org/fileformat2.html"""

BUSY_TIMEOUT = timedelta(seconds=15)
"""How long a step waits for another process; shorter than a claim's lease."""

HELD_AT_MOST = 0.1
"""After so many seconds a transaction takes up no further step: other processes wait for it."""

Synchronous = Literal["full", "normal"]
_Begun = contextlib.AbstractContextManager[sqlite3.Connection]


class Tables(Protocol):
    """The tables of one user of the file, in their present version."""

    @property
    def subject(self) -> str:
        """What messages call the file."""

    @property
    def error(self) -> type[PuristaError]:
        """What is raised for everything that is wrong with the file."""

    def problem(self, connection: sqlite3.Connection) -> str:
        """Return why the file cannot be used, or nothing."""

    def is_made(self, connection: sqlite3.Connection) -> bool:
        """Whether the tables are there, as they are to be."""

    def make(self, connection: sqlite3.Connection) -> None:
        """Create them, or bring those of an older version up to this one, in a transaction that is open."""


class Step(Protocol):
    """A piece of work that may share its transaction with others."""

    @property
    def is_wanted(self) -> bool:
        """Whether anybody still waits for it; asked before it is begun."""

    def work(self, connection: sqlite3.Connection) -> Any:
        """Do it. It may be done again when its transaction had to be undone."""

    def settle(self, value: Any, error: Exception | None) -> None:
        """Take what became of it. Called again if the transaction had to be undone after all."""


class SQLiteFile:
    """The file ``path`` and one connection to it; the first step opens it.

    Everything that is wrong is raised as the error of its tables, with the path and what to do.
    """

    def __init__(
        self, path: Path, tables: Tables, *, busy_timeout: timedelta, synchronous: Synchronous
    ) -> None:
        self.path = path
        self._tables = tables
        self._busy_timeout = busy_timeout
        self._synchronous = synchronous
        self._connection: sqlite3.Connection | None = None
        self._turn = _turn(path)

    def read(self, step: Step) -> None:
        """Do a step that only reads."""
        self._alone(step, self._reading)

    def write(self, steps: Sequence[Step]) -> int:
        """Do steps in one transaction, each as if alone: one that fails undoes only itself.

        Returns how many were taken up, those included that nobody wants: at least one, not always all.
        """
        if len(steps) > 1:
            try:
                return self._together(steps)
            except Exception:
                self.close()
        for step in steps:
            self._alone(step, self._writing)
        return len(steps)

    def close(self) -> None:
        """Close the connection; the next step opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _alone(self, step: Step, begun: Callable[[], _Begun]) -> None:
        """Do a step in a transaction of its own; after an error the next one opens the file anew."""
        if not step.is_wanted:
            return
        try:
            with begun() as connection:
                value = step.work(connection)
        except Exception as error:
            if isinstance(error, _OWN):
                self.close()
            step.settle(None, self._told(error))
        else:
            step.settle(value, None)

    def _together(self, steps: Sequence[Step]) -> int:
        """Do the steps, or some; raises when their transaction failed, so that none was done."""
        with contextlib.ExitStack() as stack:
            try:
                connection = stack.enter_context(self._writing())
            except Exception as error:
                self.close()
                for step in steps:
                    step.settle(None, self._told(error))
                return len(steps)
            return self._saved(connection, steps)

    def _saved(self, connection: sqlite3.Connection, steps: Sequence[Step]) -> int:
        end = time.monotonic() + HELD_AT_MOST
        for count, step in enumerate(steps, start=1):
            if step.is_wanted:
                self._save(connection, step)
                if time.monotonic() > end:
                    return count
        return len(steps)

    def _save(self, connection: sqlite3.Connection, step: Step) -> None:
        """Do a step in a savepoint; raises when its error ended the whole transaction."""
        connection.execute("SAVEPOINT step")
        try:
            value = step.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise
            connection.execute("ROLLBACK TO step")
            step.settle(None, self._told(error))
        else:
            step.settle(value, None)
        connection.execute("RELEASE step")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Hold a transaction that may write.

        Other threads of this process are waited for on a lock: SQLite looks only every few milliseconds.
        """
        if not self._turn.acquire(timeout=self._busy_timeout.total_seconds()):
            self._refuse(self._busy())
        try:
            connection = self._connection or self._opened()
            with transaction(connection, "IMMEDIATE"):
                yield connection
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection or self._opened()
        with transaction(connection, "DEFERRED"):
            yield connection

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
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with transaction(connection, "DEFERRED"):
            is_made = self._is_made(connection)
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        if self._journal_mode(connection) != "wal":  # pragma: no cover - needs such a file system
            self._refuse("its file system has no shared memory; put it on a local disk")
        if not is_made:
            with transaction(connection, "IMMEDIATE"):
                self._make(connection)

    def _make(self, connection: sqlite3.Connection) -> None:
        """Make the tables, unless another process just did."""
        if not self._is_made(connection):
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._tables.make(connection)

    def _is_made(self, connection: sqlite3.Connection) -> bool:
        """Whether the tables are there; refuses what is no file of theirs.

        In one transaction, so that it does not see half of what another process creates.
        """
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application == version == tables == 0:
            return False
        if application != APPLICATION_ID:
            self._refuse("it is the SQLite database of another program; name another file")
        problem = self._tables.problem(connection)
        if problem:
            self._refuse(problem)
        return self._tables.is_made(connection)

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

    def _refuse(self, text: str) -> NoReturn:
        raise self._tables.error(f"{self._tables.subject} '{self.path}': {text}")

    def _told(self, error: Exception) -> Exception:
        """Return what the caller gets: SQLite's errors as those of the tables, others as they are."""
        if not isinstance(error, _OWN):
            return error
        told = self._tables.error(f"{self._tables.subject} '{self.path}': {self._explained(error)}")
        told.__cause__ = error
        return told

    def _explained(self, error: Exception) -> str:
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return self._busy()
        return _EXPLANATIONS.get(_code(error), f"{error}; try again")

    def _busy(self) -> str:
        return (
            f"another process kept it locked for {self._busy_timeout}; "
            "end that one, or raise busy_timeout"
        )


def store(path: Path) -> str:
    """Return a name of the file that is equal for whoever uses the same one."""
    return f"sqlite:{path.resolve()}"


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str) -> Iterator[None]:
    """Begin a transaction; commit it in the end, or undo it when the block raises."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise


_OWN = (sqlite3.Error, UnicodeError, OverflowError)
"""What SQLite raises, for text that is no Unicode and for numbers that are too large too."""

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

_turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
_making = threading.Lock()


def _turn(path: Path) -> threading.Lock:
    """Return the lock of this process for writing to a file."""
    with _making:
        return _turns.setdefault(store(path), threading.Lock())


def _code(error: Exception) -> int | None:
    """Return the primary result code, https://sqlite.org/rescode.html."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF

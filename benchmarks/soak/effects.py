"""The handlers' own log of what they did: a SQLite file that knows nothing of ledgers.

A handler has an effect once per run id, as `docs/handlers.md` advises; each attempt is noted besides.
"""

from __future__ import annotations

import os
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple


class Attempt(NamedTuple):
    """One call of a handler; `ended` is None where its process died before that."""

    schedule_id: str
    nominal_time: datetime
    run_id: str
    pid: int
    began: float
    ended: float | None


class Effects:
    """The log, written by every process."""

    def __init__(self, path: Path) -> None:
        self._file = sqlite3.connect(path, isolation_level=None, timeout=60)
        self._file.execute("PRAGMA journal_mode = wal")
        self._file.execute("PRAGMA synchronous = off")
        self._file.executescript(
            "CREATE TABLE IF NOT EXISTS effects "
            "(run_id TEXT PRIMARY KEY, schedule_id TEXT, nominal_time TEXT);"
            "CREATE TABLE IF NOT EXISTS attempts "
            "(schedule_id TEXT, nominal_time TEXT, run_id TEXT, pid INT, began REAL, ended REAL);"
            "CREATE INDEX IF NOT EXISTS attempts_at_work ON attempts (run_id) WHERE ended IS NULL;"
        )

    def begin(self, schedule_id: str, nominal_time: datetime, run_id: str) -> None:
        """Note that a handler begins."""
        row = (schedule_id, nominal_time.isoformat(), run_id, os.getpid(), time.time())
        self._file.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, NULL)", row)

    def end(self, schedule_id: str, nominal_time: datetime, run_id: str) -> None:
        """Have the effect, unless the run had it before, and note that the handler is done."""
        self._file.execute("BEGIN IMMEDIATE")
        self._file.execute(
            "INSERT OR IGNORE INTO effects VALUES (?, ?, ?)",
            (run_id, schedule_id, nominal_time.isoformat()),
        )
        self._file.execute(
            "UPDATE attempts SET ended = ? WHERE run_id = ? AND pid = ? AND ended IS NULL",
            (time.time(), run_id, os.getpid()),
        )
        self._file.execute("COMMIT")

    def effects(self) -> dict[str, list[tuple[datetime, str]]]:
        """Return nominal times and run ids of all effects, by schedule."""
        found: dict[str, list[tuple[datetime, str]]] = {}
        for run_id, schedule_id, nominal_time in self._file.execute("SELECT * FROM effects"):
            one = (datetime.fromisoformat(nominal_time), str(run_id))
            found.setdefault(str(schedule_id), []).append(one)
        return found

    def attempts(self) -> list[Attempt]:
        """Return all calls of handlers, in the order in which they began."""
        rows = self._file.execute("SELECT * FROM attempts ORDER BY began")
        return [Attempt(row[0], datetime.fromisoformat(row[1]), *row[2:]) for row in rows]

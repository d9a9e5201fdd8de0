"""The SQLite ledger: runs in one file that survives restarts and that several processes can share.

One thread of its own talks to the file. Every step is atomic; steps that wait for the file together
share one ``BEGIN IMMEDIATE`` transaction, each in its savepoint.
"""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

from purista.errors import BridgeError, LedgerError
from purista.ledgers import book
from purista.ledgers.book import RETENTION
from purista.ledgers.port import Enlistment, KnownContract, Proposal, Record, Ruling, Run, Verdict
from purista.ledgers.sqlite_book import PURGED_AT_ONCE, SQLiteBook, Wanted
from purista.ledgers.sqlite_notes import SQLiteNotes
from purista.ledgers.sqlite_schema import LedgerTables
from purista.sqlitefile import BUSY_TIMEOUT, SQLiteFile, store
from purista.sqlitethread import SQLiteThread

PURGE_PAUSE = timedelta(milliseconds=10)
"""How long a purge leaves the file to others between two steps."""

T = TypeVar("T")


class SQLiteLedger:
    """A ledger and its history in the file ``path``, which is made when it is not there.

    Implements ``Ledger``, ``History``, ``Contracts``, ``Nonces`` and ``EnlistingLedger``. A step that
    returned survives the end of the process, however it ends. With ``synchronous="full"`` it survives
    a power failure too; ``"normal"`` can lose the last steps to one, never their consistency, and is
    faster. ``retention``: finished runs, skips and records are deleted once they are older than that
    and than their schedule's dedupe window; the latest nominal time of a schedule never is.
    ``busy_timeout``: how long a step waits for other processes.

    The file is opened by the first call, which brings one of an older version up to the present
    version; what is wrong with it is raised as ``LedgerError`` then.
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
        self._path = Path(path).absolute()
        self._store = store(self._path)
        self._retention = retention
        self._thread = SQLiteThread(
            SQLiteFile(
                self._path, LedgerTables(), busy_timeout=busy_timeout, synchronous=synchronous
            ),
            name="purista-ledger",
        )
        self._is_closed = False

    @property
    def store(self) -> str:
        """Which file it is; a queue bridge with an equal ``store`` keeps its jobs in the same one."""
        return self._store

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
        self,
        *,
        schedule_id: str | None = None,
        unfinished: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Return runs, newest nominal time first; ``unfinished`` keeps claimed, active and failed ones."""
        wanted = Wanted(schedule_id=schedule_id, since=since, until=until, limit=limit)
        found = await self._read(lambda rows: rows.entries(wanted, unfinished=unfinished))
        return [entry.run() for entry in found]

    async def records(
        self,
        *,
        schedule_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Record]:
        """Return decisions, newest first."""
        wanted = Wanted(schedule_id=schedule_id, since=since, until=until, limit=limit)
        return await self._read(lambda rows: rows.records(wanted))

    async def latest(self, schedule_id: str) -> datetime | None:
        """Return the latest nominal time that was decided for a scheduler, or None."""
        return await self._read(lambda rows: rows.latest(schedule_id))

    async def purge(self, now: datetime) -> int:
        """Forget everything that may be forgotten; return how many runs, skips and records.

        Step by step, with pauses: others go on meanwhile, and what was forgotten stays so when it is
        cancelled.
        """
        count, is_done = await self._step(lambda rows: _purged(rows, now))
        while not is_done:
            await asyncio.sleep(PURGE_PAUSE.total_seconds())
            more, is_done = await self._step(lambda rows: _purged(rows, now))
            count += more
        return count

    async def note_contracts(self, fingerprints: Mapping[str, str], *, now: datetime) -> None:
        """Note under which fingerprint each schedule id runs from now on."""
        known = dict(fingerprints)
        await self._write(lambda file: SQLiteNotes(file).note_contracts(known, now))

    async def contract(self, schedule_id: str) -> KnownContract | None:
        """Return what is known of a schedule, or None."""
        return await self._read(lambda rows: SQLiteNotes(rows.connection).contract(schedule_id))

    async def use_nonce(self, nonce: str, *, now: datetime, kept_until: datetime) -> bool:
        """Return True, and remember it until ``kept_until``; False when it is remembered already."""
        return await self._write(lambda file: SQLiteNotes(file).use_nonce(nonce, now, kept_until))

    async def drop_nonce(self, nonce: str) -> None:
        """Forget a nonce."""
        await self._write(lambda file: SQLiteNotes(file).drop_nonce(nonce))

    async def decide_and_enlist(
        self, proposal: Proposal, work: Callable[[Ruling], Enlistment]
    ) -> Ruling:
        """Decide; when it is accepted, do the work and note the run as dispatched, all in one step.

        ``work`` and what it returns are called in the ledger's thread, with the caller's context
        variables; once more when the transaction has to be repeated. When it fails nothing is decided,
        and ``LedgerError`` is raised.
        """
        context = contextvars.copy_context()
        return await self._step(
            lambda rows: context.run(self._decide_and_enlist, rows, proposal, work)
        )

    async def close(self) -> None:
        """Finish what was begun, close the file and end the thread. May be repeated."""
        self._is_closed = True
        await self._thread.close()

    def _decide_and_enlist(
        self, rows: SQLiteBook, proposal: Proposal, work: Callable[[Ruling], Enlistment]
    ) -> Ruling:
        ruling = book.decide(rows, proposal, retention=self._retention)
        if ruling.verdict is Verdict.ACCEPTED:
            self._enlist(rows.connection, work, ruling)
            book.dispatched(rows, ruling.run_id, ruling.token, lease_until=None)
        return ruling

    def _enlist(
        self, connection: sqlite3.Connection, work: Callable[[Ruling], Enlistment], ruling: Ruling
    ) -> None:
        """Do the work of another; its errors are told without what they may quote."""
        try:
            work(ruling)(connection)
        except sqlite3.Error:
            raise
        except Exception as error:
            known = isinstance(error, BridgeError)
            text = str(error) if known else f"{type(error).__name__} in what was enlisted"
            raise LedgerError(f"ledger '{self._path}': {text}; nothing was decided") from error

    async def _step(self, work: Callable[[SQLiteBook], T]) -> T:
        return await self._write(lambda connection: work(SQLiteBook(connection)))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self._refuse_when_closed()
        return await self._thread.write(work)

    async def _read(self, work: Callable[[SQLiteBook], T]) -> T:
        self._refuse_when_closed()
        return await self._thread.read(lambda connection: work(SQLiteBook(connection)))

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise LedgerError(f"ledger '{self._path}': it is closed; make a new one")


def _purged(rows: SQLiteBook, now: datetime) -> tuple[int, bool]:
    """Delete some of what is old; return how many runs, skips and records, and whether that was all."""
    nonces = SQLiteNotes(rows.connection).prune(now, PURGED_AT_ONCE)
    deleted = rows.prune(now, PURGED_AT_ONCE)
    return sum(deleted), max(nonces, *deleted) < PURGED_AT_ONCE

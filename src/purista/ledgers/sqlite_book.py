"""The rows of a SQLite ledger: its schema, and its book on one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from purista.ledgers.book import Entry
from purista.ledgers.port import Record, RunStatus, Verdict

SCHEMA_VERSION = 1
"""``PRAGMA user_version`` of the files that this module writes."""

APPLICATION_ID = 0x50555249
"""``PRAGMA application_id`` of a ledger: "PURI". https://sqlite.org/fileformat2.html"""

PRUNE_EVERY = 32
PRUNED_AT_ONCE = 100
"""With every 32nd record at most 100 old rows of each table are deleted: more than were added."""

SCHEMA = f"""
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    schedule_id TEXT NOT NULL,
    nominal_time INTEGER NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    token INTEGER NOT NULL,
    owner TEXT NOT NULL,
    claimed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    lease_until INTEGER,
    ended_at INTEGER,
    outcome TEXT NOT NULL,
    is_dispatched INTEGER NOT NULL,
    kept_until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_of_key ON runs (schedule_id, key, claimed_at);
CREATE INDEX runs_by_time ON runs (schedule_id, nominal_time);
CREATE INDEX runs_unfinished ON runs (schedule_id, status) WHERE ended_at IS NULL;
CREATE INDEX runs_leased ON runs (owner) WHERE lease_until IS NOT NULL;
CREATE INDEX runs_kept ON runs (kept_until);
CREATE TABLE skips (
    schedule_id TEXT NOT NULL,
    key TEXT NOT NULL,
    nominal_time INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    kept_until INTEGER NOT NULL,
    PRIMARY KEY (schedule_id, key, nominal_time)
) WITHOUT ROWID;
CREATE INDEX skips_kept ON skips (kept_until);
CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule_id TEXT NOT NULL,
    nominal_time INTEGER NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    verdict TEXT NOT NULL,
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    decided_at INTEGER NOT NULL,
    kept_until INTEGER NOT NULL
);
CREATE INDEX records_of_schedule ON records (schedule_id);
CREATE INDEX records_kept ON records (kept_until);
CREATE TABLE schedules (
    schedule_id TEXT PRIMARY KEY,
    latest INTEGER NOT NULL
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION}
"""


class SQLiteBook:
    """The rows of the file; instants are integer microseconds since 1970 in UTC."""

    __slots__ = ("connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def run(self, run_id: str) -> Entry | None:
        """Return the run with this id."""
        return self._one("WHERE run_id = ?", run_id)

    def newest(self, schedule_id: str, key: str, *, since: datetime) -> Entry | None:
        """Return the run of the key that was claimed last, after ``since``, and is not given up."""
        return self._one(
            "WHERE schedule_id = ? AND key = ? AND claimed_at > ? "
            "AND NOT (status = 'failed' AND ended_at IS NOT NULL) "
            "ORDER BY claimed_at DESC, token DESC LIMIT 1",
            schedule_id,
            key,
            _micros(since),
        )

    def active(self, schedule_id: str) -> Sequence[Entry]:
        """Return the schedule's claimed and active runs."""
        return self._all(
            "WHERE schedule_id = ? AND status IN ('claimed', 'active') AND ended_at IS NULL",
            schedule_id,
        )

    def insert(self, entry: Entry) -> None:
        """Store a claimed run; overwrite the one with its id."""
        self.connection.execute(
            _INSERT,
            (
                entry.run_id,
                entry.schedule_id,
                _micros(entry.nominal_time),
                entry.key,
                str(entry.status),
                entry.token,
                entry.owner,
                _micros(entry.claimed_at),
                _micros(entry.expires_at),
                None if entry.lease_until is None else _micros(entry.lease_until),
                None if entry.ended_at is None else _micros(entry.ended_at),
                entry.outcome,
                entry.is_dispatched,
                _micros(entry.kept_until),
            ),
        )

    def update(self, entry: Entry) -> None:
        """Store the status, lease, end, outcome and dispatch of a run that is there."""
        self.connection.execute(
            "UPDATE runs SET status = ?, lease_until = ?, ended_at = ?, outcome = ?, "
            "is_dispatched = ? WHERE run_id = ?",
            (
                str(entry.status),
                None if entry.lease_until is None else _micros(entry.lease_until),
                None if entry.ended_at is None else _micros(entry.ended_at),
                entry.outcome,
                entry.is_dispatched,
                entry.run_id,
            ),
        )

    def skipped(
        self, schedule_id: str, key: str, nominal_time: datetime, *, since: datetime
    ) -> str | None:
        """Return the run id of a skip that was seen after ``since``."""
        row = self.connection.execute(
            "SELECT run_id FROM skips "
            "WHERE schedule_id = ? AND key = ? AND nominal_time = ? AND seen_at > ?",
            (schedule_id, key, _micros(nominal_time), _micros(since)),
        ).fetchone()
        return None if row is None else str(row[0])

    def skip(self, record: Record, *, kept_until: datetime) -> None:
        """Remember that the trigger of this record was skipped."""
        self.connection.execute(
            "INSERT OR REPLACE INTO skips VALUES (?, ?, ?, ?, ?, ?)",
            (
                record.schedule_id,
                record.key,
                _micros(record.nominal_time),
                record.run_id,
                _micros(record.decided_at),
                _micros(kept_until),
            ),
        )

    def append(self, record: Record, *, kept_until: datetime, is_latest: bool) -> int:
        """Append a record; return its number. Now and then, delete what is old enough."""
        number = self.connection.execute(
            "INSERT INTO records VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.schedule_id,
                _micros(record.nominal_time),
                record.key,
                record.run_id,
                str(record.verdict),
                record.reason,
                record.source,
                _micros(record.decided_at),
                _micros(kept_until),
            ),
        ).lastrowid
        assert number is not None
        if is_latest:
            self._raise_latest(record)
        if number % PRUNE_EVERY == 0:
            self._prune(record.decided_at)
        return number

    def renew(self, owner: str, lease_until: datetime) -> None:
        """Prolong the leases of an owner's claimed and active runs."""
        self.connection.execute(
            "UPDATE runs SET lease_until = max(lease_until, ?) "
            "WHERE owner = ? AND lease_until IS NOT NULL AND status IN ('claimed', 'active')",
            (_micros(lease_until), owner),
        )

    def entries(self, schedule_id: str | None, unfinished: bool, limit: int) -> Sequence[Entry]:
        """Return runs, newest nominal time first."""
        wanted = ["schedule_id = ?"] if schedule_id is not None else []
        wanted += ["ended_at IS NULL"] if unfinished else []
        where = f"WHERE {' AND '.join(wanted)} " if wanted else ""
        values = () if schedule_id is None else (schedule_id,)
        return self._all(f"{where}ORDER BY nominal_time DESC, token DESC LIMIT ?", *values, limit)

    def records(self, schedule_id: str | None, limit: int) -> Sequence[Record]:
        """Return records, newest first."""
        if schedule_id is None:
            rows = self.connection.execute(_RECORDS, (limit,))
        else:
            rows = self.connection.execute(_RECORDS_OF_SCHEDULE, (schedule_id, limit))
        return [_record(row) for row in rows]

    def latest(self, schedule_id: str) -> datetime | None:
        """Return the schedule's latest nominal time."""
        row = self.connection.execute(
            "SELECT latest FROM schedules WHERE schedule_id = ?", (schedule_id,)
        ).fetchone()
        return None if row is None else _instant(row[0])

    def _raise_latest(self, record: Record) -> None:
        self.connection.execute(
            "INSERT INTO schedules VALUES (?, ?) ON CONFLICT (schedule_id) "
            "DO UPDATE SET latest = excluded.latest WHERE excluded.latest > latest",
            (record.schedule_id, _micros(record.nominal_time)),
        )

    def _prune(self, now: datetime) -> None:
        """Delete a few of the rows that are old enough."""
        for statement in _PRUNE:
            self.connection.execute(statement, (_micros(now), PRUNED_AT_ONCE))

    def _one(self, where: str, *values: object) -> Entry | None:
        row = self.connection.execute(_SELECT + where, values).fetchone()
        return None if row is None else _entry(row)

    def _all(self, where: str, *values: object) -> Sequence[Entry]:
        return [_entry(row) for row in self.connection.execute(_SELECT + where, values)]


_SELECT = (
    "SELECT run_id, schedule_id, nominal_time, key, status, token, owner, claimed_at, expires_at, "
    "lease_until, ended_at, outcome, is_dispatched, kept_until FROM runs "
)
_INSERT = "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_RECORDS = """
SELECT schedule_id, nominal_time, key, run_id, verdict, reason, source, decided_at
FROM records ORDER BY number DESC LIMIT ?
"""
_RECORDS_OF_SCHEDULE = """
SELECT schedule_id, nominal_time, key, run_id, verdict, reason, source, decided_at
FROM records WHERE schedule_id = ? ORDER BY number DESC LIMIT ?
"""
_PRUNE = (
    "DELETE FROM runs WHERE run_id IN "
    "(SELECT run_id FROM runs WHERE kept_until <= ? ORDER BY kept_until LIMIT ?)",
    "DELETE FROM skips WHERE (schedule_id, key, nominal_time) IN "
    "(SELECT schedule_id, key, nominal_time FROM skips "
    "WHERE kept_until <= ? ORDER BY kept_until LIMIT ?)",
    "DELETE FROM records WHERE number IN "
    "(SELECT number FROM records WHERE kept_until <= ? ORDER BY kept_until LIMIT ?)",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _micros(instant: datetime) -> int:
    return (instant - _EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(
        run_id=row[0],
        schedule_id=row[1],
        nominal_time=_instant(row[2]),
        key=row[3],
        status=RunStatus(row[4]),
        token=row[5],
        owner=row[6],
        claimed_at=_instant(row[7]),
        expires_at=_instant(row[8]),
        lease_until=None if row[9] is None else _instant(row[9]),
        ended_at=None if row[10] is None else _instant(row[10]),
        outcome=row[11],
        is_dispatched=bool(row[12]),
        kept_until=_instant(row[13]),
    )


def _record(row: Sequence[Any]) -> Record:
    return Record(
        schedule_id=row[0],
        nominal_time=_instant(row[1]),
        key=row[2],
        run_id=row[3],
        verdict=Verdict(row[4]),
        reason=row[5],
        source=row[6],
        decided_at=_instant(row[7]),
    )

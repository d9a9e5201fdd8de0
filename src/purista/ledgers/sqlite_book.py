"""The book of a SQLite ledger: its runs, skips and records on one connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from purista.ledgers.book import Entry
from purista.ledgers.port import Record, RunStatus, Verdict

PRUNE_EVERY = 32
PRUNED_AT_ONCE = 100
"""With every 32nd record at most 100 old rows of each table are deleted: more than were added."""

PURGED_AT_ONCE = 500
"""How many rows of each table a step of a purge deletes: other processes wait for each step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs or records are asked for: of one schedule or of all, by their nominal times."""

    schedule_id: str | None
    since: datetime | None
    until: datetime | None
    limit: int

    def where(self) -> tuple[str, tuple[object, ...]]:
        """Return it as a condition, and the values for its marks."""
        bounds = (
            ("schedule_id = ?", self.schedule_id),
            ("nominal_time >= ?", None if self.since is None else micros(self.since)),
            ("nominal_time < ?", None if self.until is None else micros(self.until)),
        )
        used = [(text, value) for text, value in bounds if value is not None]
        return " AND ".join(["1", *(text for text, _ in used)]), tuple(value for _, value in used)


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
            micros(since),
        )

    def active(self, schedule_id: str, *, expired_at: datetime | None) -> Sequence[Entry]:
        """Return the schedule's claimed and active runs; at an instant, those whose time-out has passed."""
        where = "WHERE schedule_id = ? AND status IN ('claimed', 'active') AND ended_at IS NULL"
        if expired_at is None:
            return self._all(where, schedule_id)
        return self._all(f"{where} AND expires_at <= ?", schedule_id, micros(expired_at))

    def insert(self, entry: Entry) -> None:
        """Store a claimed run; overwrite the one with its id."""
        self.connection.execute(
            _INSERT,
            (
                entry.run_id,
                entry.schedule_id,
                micros(entry.nominal_time),
                entry.key,
                str(entry.status),
                entry.token,
                entry.owner,
                micros(entry.claimed_at),
                micros(entry.expires_at),
                None if entry.lease_until is None else micros(entry.lease_until),
                None if entry.ended_at is None else micros(entry.ended_at),
                entry.outcome,
                entry.is_dispatched,
                micros(entry.kept_until),
            ),
        )

    def update(self, entry: Entry) -> None:
        """Store the status, lease, end, outcome and dispatch of a run that is there."""
        self.connection.execute(
            "UPDATE runs SET status = ?, lease_until = ?, ended_at = ?, outcome = ?, "
            "is_dispatched = ? WHERE run_id = ?",
            (
                str(entry.status),
                None if entry.lease_until is None else micros(entry.lease_until),
                None if entry.ended_at is None else micros(entry.ended_at),
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
            (schedule_id, key, micros(nominal_time), micros(since)),
        ).fetchone()
        return None if row is None else str(row[0])

    def skip(self, record: Record, *, kept_until: datetime) -> None:
        """Remember that the trigger of this record was skipped."""
        self.connection.execute(
            "INSERT OR REPLACE INTO skips VALUES (?, ?, ?, ?, ?, ?)",
            (
                record.schedule_id,
                record.key,
                micros(record.nominal_time),
                record.run_id,
                micros(record.decided_at),
                micros(kept_until),
            ),
        )

    def append(self, record: Record, *, kept_until: datetime, is_latest: bool) -> int:
        """Append a record; return its number. Now and then, delete what is old enough."""
        number = self.connection.execute(
            "INSERT INTO records VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.schedule_id,
                micros(record.nominal_time),
                record.key,
                record.run_id,
                str(record.verdict),
                record.reason,
                record.source,
                micros(record.decided_at),
                micros(kept_until),
            ),
        ).lastrowid
        assert number is not None
        if is_latest:
            self._raise_latest(record)
        if number % PRUNE_EVERY == 0:
            self.prune(record.decided_at, PRUNED_AT_ONCE)
        return number

    def renew(self, owner: str, lease_until: datetime) -> None:
        """Prolong the leases of an owner's claimed and active runs."""
        self.connection.execute(
            "UPDATE runs SET lease_until = max(lease_until, ?) "
            "WHERE owner = ? AND lease_until IS NOT NULL AND status IN ('claimed', 'active')",
            (micros(lease_until), owner),
        )

    def entries(self, wanted: Wanted, *, unfinished: bool) -> Sequence[Entry]:
        """Return runs, newest nominal time first."""
        where, values = wanted.where()
        where += " AND ended_at IS NULL" if unfinished else ""
        order = "ORDER BY nominal_time DESC, token DESC LIMIT ?"
        return self._all(f"WHERE {where} {order}", *values, wanted.limit)

    def records(self, wanted: Wanted) -> Sequence[Record]:
        """Return records, newest first."""
        where, values = wanted.where()
        statement = f"{_RECORDS} WHERE {where} ORDER BY number DESC LIMIT ?"
        return [_record(row) for row in self.connection.execute(statement, (*values, wanted.limit))]

    def latest(self, schedule_id: str) -> datetime | None:
        """Return the schedule's latest nominal time."""
        row = self.connection.execute(
            "SELECT latest FROM schedules WHERE schedule_id = ?", (schedule_id,)
        ).fetchone()
        return None if row is None else instant(row[0])

    def _raise_latest(self, record: Record) -> None:
        self.connection.execute(
            "INSERT INTO schedules VALUES (?, ?) ON CONFLICT (schedule_id) "
            "DO UPDATE SET latest = excluded.latest WHERE excluded.latest > latest",
            (record.schedule_id, micros(record.nominal_time)),
        )

    def prune(self, now: datetime, most: int) -> Sequence[int]:
        """Delete rows that are old enough, ``most`` of each table; return how many of each."""
        values = (micros(now), most)
        return [self.connection.execute(statement, values).rowcount for statement in _PRUNE]

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
_RECORDS = "SELECT schedule_id, nominal_time, key, run_id, verdict, reason, source, decided_at FROM records"
_PRUNE = (
    "DELETE FROM runs WHERE run_id IN "
    "(SELECT run_id FROM runs WHERE kept_until <= ? ORDER BY kept_until LIMIT ?)",
    "DELETE FROM skips WHERE (schedule_id, key, nominal_time) IN "
    "(SELECT schedule_id, key, nominal_time FROM skips "
    "WHERE kept_until <= ? ORDER BY kept_until LIMIT ?)",
    "DELETE FROM records WHERE number IN "
    "(SELECT number FROM records WHERE kept_until <= ? ORDER BY kept_until LIMIT ?)",
)
_STATUSES = {str(status): status for status in RunStatus}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(instant: datetime) -> int:
    """Return an aware instant as the file has it: microseconds since 1970 in UTC."""
    return (instant - _EPOCH) // _MICROSECOND


@lru_cache(4096)
def instant(micros: int) -> datetime:
    """Return what the file has as an instant in UTC; the same few are asked for again and again."""
    return _EPOCH + timedelta(0, 0, micros)


def _entry(row: Sequence[Any]) -> Entry:
    return Entry(
        run_id=row[0],
        schedule_id=row[1],
        nominal_time=instant(row[2]),
        key=row[3],
        status=_STATUSES[row[4]],
        token=row[5],
        owner=row[6],
        claimed_at=instant(row[7]),
        expires_at=instant(row[8]),
        lease_until=None if row[9] is None else instant(row[9]),
        ended_at=None if row[10] is None else instant(row[10]),
        outcome=row[11],
        is_dispatched=bool(row[12]),
        kept_until=instant(row[13]),
    )


def _record(row: Sequence[Any]) -> Record:
    return Record(
        schedule_id=row[0],
        nominal_time=instant(row[1]),
        key=row[2],
        run_id=row[3],
        verdict=Verdict(row[4]),
        reason=row[5],
        source=row[6],
        decided_at=instant(row[7]),
    )

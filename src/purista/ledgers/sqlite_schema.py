"""The schema of a SQLite ledger, and how files of an older version come to it."""

from __future__ import annotations

import sqlite3

from purista.errors import LedgerError

_VERSION_1 = """
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
) WITHOUT ROWID
"""

_VERSION_2 = """
CREATE INDEX records_by_time ON records (schedule_id, nominal_time);
CREATE TABLE contracts (
    schedule_id TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    previous TEXT,
    since INTEGER NOT NULL,
    known_since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE nonces (
    nonce TEXT PRIMARY KEY,
    kept_until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX nonces_kept ON nonces (kept_until)
"""

MIGRATIONS = (_VERSION_1, _VERSION_2)
"""What makes each version out of the one before; a new file goes through all of them.

Never change one that was released. Processes of the version before may have the file open: a step
that their statements do not survive has to move what they use out of their way.
"""

SCHEMA_VERSION = len(MIGRATIONS)
"""``PRAGMA user_version`` of the files that this module makes; 0 is a file without a ledger."""


class LedgerTables:
    """Implements ``Tables`` for the ledger."""

    subject = "ledger"
    error = LedgerError

    def problem(self, connection: sqlite3.Connection) -> str:
        """Return that the file is of a newer version, or nothing."""
        version = _version(connection)
        if version <= SCHEMA_VERSION:
            return ""
        return (
            f"its schema has version {version}, this purista knows {SCHEMA_VERSION}; "
            "use the purista that wrote it, or a newer one"
        )

    def is_made(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is of this version."""
        return _version(connection) == SCHEMA_VERSION

    def make(self, connection: sqlite3.Connection) -> None:
        """Bring the file to this version, whatever it has."""
        for migration in MIGRATIONS[_version(connection) :]:
            for statement in migration.split(";"):
                connection.execute(statement.strip())
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)

"""Use a ledger file as the first version did: `ledger_v1.py <path> <what> [<argument>...]`.

Recorded from that version: its schema, its check when it opens a file, and the statements of a
decision. Every line of stdout is one JSON value. Lines of stdin say when to go on.
"""

import json
import sqlite3
import sys

APPLICATION_ID = 0x50555249
SCHEMA_VERSION = 1
HOUR = 3_600_000_000
START = 1_803_862_800_000_000
"""2027-03-01T01:00Z in microseconds."""

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

SELECT = (
    "SELECT run_id, schedule_id, nominal_time, key, status, token, owner, claimed_at, expires_at, "
    "lease_until, ended_at, outcome, is_dispatched, kept_until FROM runs "
)


def tell(value):
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def opened(path):
    connection = sqlite3.connect(path, timeout=15, isolation_level=None)
    check(connection)
    connection.execute("PRAGMA synchronous = full")
    connection.execute("PRAGMA journal_mode = wal")
    connection.execute("BEGIN IMMEDIATE")
    if check(connection):
        for statement in SCHEMA.split(";"):
            connection.execute(statement)
    connection.execute("COMMIT")
    return connection


def check(connection):
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == version == tables == 0:
        return True
    assert application == APPLICATION_ID
    if version != SCHEMA_VERSION:
        sys.exit(
            f"its schema has version {version}, this purista knows {SCHEMA_VERSION}; "
            "use the purista that wrote it, or a newer one"
        )
    return False


def accept(connection, run_id, nominal_time):
    """Do what a decision did that accepts, and what noted the dispatch and the end; return its token."""
    schedule, at = "billing.v1.close", START
    forever = at + 30 * 24 * HOUR
    connection.execute("BEGIN IMMEDIATE")
    active = (
        f"{SELECT}WHERE schedule_id = ? AND status IN ('claimed', 'active') AND ended_at IS NULL"
    )
    connection.execute(active, (schedule,)).fetchall()
    newest = (
        f"{SELECT}WHERE schedule_id = ? AND key = ? AND claimed_at > ? "
        "AND NOT (status = 'failed' AND ended_at IS NOT NULL) "
        "ORDER BY claimed_at DESC, token DESC LIMIT 1"
    )
    connection.execute(newest, (schedule, run_id, 0)).fetchone()
    skipped = (
        "SELECT run_id FROM skips "
        "WHERE schedule_id = ? AND key = ? AND nominal_time = ? AND seen_at > ?"
    )
    connection.execute(skipped, (schedule, run_id, nominal_time, 0)).fetchone()
    token = connection.execute(
        "INSERT INTO records VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (schedule, nominal_time, run_id, run_id, "accepted", "on time", "v1", at, forever),
    ).lastrowid
    connection.execute(
        "INSERT INTO schedules VALUES (?, ?) ON CONFLICT (schedule_id) "
        "DO UPDATE SET latest = excluded.latest WHERE excluded.latest > latest",
        (schedule, nominal_time),
    )
    run = (run_id, schedule, nominal_time, run_id, "claimed", token, "v1", at, at + HOUR)
    connection.execute(
        "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*run, at + 30_000_000, None, "", False, forever),
    )
    for status, lease, ended, outcome in (("active", None, None, ""), ("ended", None, at, "acked")):
        connection.execute(
            "UPDATE runs SET status = ?, lease_until = ?, ended_at = ?, outcome = ?, "
            "is_dispatched = ? WHERE run_id = ?",
            (status, lease, ended, outcome, True, run_id),
        )
    connection.execute("COMMIT")
    return token


def write(path, count):
    """Decide some triggers."""
    connection = opened(path)
    tell([accept(connection, f"v1-{one}", START + one * HOUR) for one in range(int(count))])
    connection.close()


def keep_open(path):
    """Open the file, wait, then decide one trigger more."""
    connection = opened(path)
    tell("open")
    sys.stdin.readline()
    tell(accept(connection, "v1-late", START))
    connection.close()


def main():
    path, what, *arguments = sys.argv[1:]
    globals()[what](path, *arguments)


if __name__ == "__main__":
    main()

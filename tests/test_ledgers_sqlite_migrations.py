"""Files of an older version come to the present one, whatever happens meanwhile."""

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from purista.errors import LedgerError
from purista.ledgers.sqlite import SQLiteLedger
from purista.ledgers.sqlite_schema import SCHEMA_VERSION
from purista.testing.ledger_suite import LEASE, RUN_TIMEOUT, SECOND, START, proposal

RECORDED = Path(__file__).parent / "goldens" / "ledgers" / "sqlite_version_1.sql"
PROGRAMS = Path(__file__).parent / "programs"


@contextlib.asynccontextmanager
async def opened(path, **options):
    ledger = SQLiteLedger(path, **({"synchronous": "normal"} | options))
    try:
        yield ledger
    finally:
        await ledger.close()


@contextlib.contextmanager
def program(name, *arguments):
    """Run a program; it is killed when the block ends."""
    command = [sys.executable, str(PROGRAMS / name), *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process):
    return json.loads(process.stdout.readline())


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def asked(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def version(path):
    return asked(path, "PRAGMA user_version")[0][0]


def schema(path):
    return asked(path, "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name")


def rows(path):
    tables = ("runs", "skips", "records", "schedules", "sqlite_sequence")
    return {table: sorted(map(repr, asked(path, f"SELECT * FROM {table}"))) for table in tables}


@pytest.fixture
def path(tmp_path: Path):
    """A file of the first version, with runs in every state."""
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = wal")
        connection.executescript(RECORDED.read_text(encoding="utf-8"))
    return path


async def test_a_migrated_file_has_the_schema_of_a_new_one(path: Path, tmp_path: Path):
    for one in (path, tmp_path / "new.sqlite"):
        async with opened(one) as ledger:
            await ledger.runs()
    assert schema(path) == schema(tmp_path / "new.sqlite")
    assert version(path) == version(tmp_path / "new.sqlite") == SCHEMA_VERSION == 2


async def test_a_migration_keeps_every_row(path: Path):
    before = rows(path)
    async with opened(path) as ledger:
        await ledger.runs()
    assert rows(path) == before
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


async def test_decisions_go_on_where_the_first_version_left_off(path: Path):
    async with opened(path) as ledger:
        found = {}
        for number, name in enumerate(("claimed", "active", "leased", "failed", "ended")):
            again = proposal(
                schedule_id=f"billing.v1.{name}",
                nominal_time=START + number * timedelta(hours=1),
                owner="second",
                run_id=name,
                now=START + SECOND,
            )
            ruling = await ledger.decide(again)
            found[name] = (ruling.verdict, ruling.taken_over, ruling.retry_after)
        taken = await ledger.run("failed")
    assert found == {
        "claimed": ("duplicate", False, LEASE - SECOND),
        "active": ("duplicate", False, None),
        "leased": ("duplicate", False, 2 * LEASE - SECOND),
        "failed": ("accepted", True, None),
        "ended": ("duplicate", False, None),
    }
    assert taken.token > 11


async def test_a_migrated_file_is_listed_by_nominal_time(path: Path):
    async with opened(path) as ledger:
        bounds = {"since": START + RUN_TIMEOUT, "until": START + 3 * RUN_TIMEOUT}
        runs = await ledger.runs(**bounds)
        records = await ledger.records(**bounds)
    assert [run.run_id for run in runs] == ["leased", "active"]
    assert [record.run_id for record in records] == ["leased", "active"]


def test_several_processes_migrate_a_file_at_once(path: Path):
    keys = 5
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(program("ledger_user.py", path, "race", name, keys))
            for name in "abcd"
        ]
        assert [told(process) for process in processes] == ["ready"] * 4
        for process in processes:
            go_on(process)
        accepted = [key for process in processes for key in told(process)]
        assert [process.wait() for process in processes] == [0] * 4
    assert sorted(accepted) == sorted(f"key {number}" for number in range(keys))
    assert version(path) == SCHEMA_VERSION


async def test_many_may_open_an_old_file_at_once(path: Path):
    async with contextlib.AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(opened(path)) for _ in range(8)]
        found = await asyncio.gather(*(ledger.runs() for ledger in ledgers))
    assert [len(runs) for runs in found] == [9] * 8


@pytest.mark.parametrize(("step", "left"), [(2, 1), (5, 1), (7, 1), (8, 2)])
async def test_a_process_killed_at_any_step_of_a_migration_leaves_one_version(
    path: Path, step: int, left: int
):
    """The second statement creates the index, the seventh is COMMIT."""
    before = rows(path)
    with program("ledger_user.py", path, "migrate", step) as process:
        assert process.wait() == -9
    tables = asked(path, "SELECT name FROM sqlite_master WHERE name IN ('contracts', 'nonces')")
    assert (version(path), len(tables)) == (left, 0 if left == 1 else 2)
    async with opened(path) as ledger:
        await ledger.runs()
    assert (version(path), rows(path)) == (SCHEMA_VERSION, before)


async def test_a_migration_waits_for_who_writes(path: Path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with opened(path, busy_timeout=timedelta(milliseconds=20)) as ledger:
            with pytest.raises(LedgerError, match="another process kept it locked"):
                await ledger.runs()
            assert version(path) == 1
            other.execute("ROLLBACK")
            assert len(await ledger.runs()) == 9


def test_the_first_version_refuses_a_migrated_file(path: Path):
    asyncio.run(_migrate(path))
    before = path.read_bytes()
    with program("ledger_v1.py", path, "write", 1) as process:
        _, error = process.communicate()
    assert error.strip() == (
        "its schema has version 2, this purista knows 1; use the purista that wrote it, or a newer one"
    )
    assert path.read_bytes() == before


async def test_a_process_of_the_first_version_goes_on_with_the_file_it_has_open(path: Path):
    with program("ledger_v1.py", path, "keep_open") as process:
        assert told(process) == "open"
        async with opened(path) as ledger:
            assert len(await ledger.runs()) == 9
            go_on(process)
            assert told(process) == 12
            assert process.wait() == 0
            run = await ledger.run("v1-late")
            assert (run.status, run.outcome, run.token) == ("ended", "acked", 12)
            later = proposal(run_id="v1-late", key="v1-late")
            assert (await ledger.decide(later)).verdict == "duplicate"
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


async def test_what_the_first_version_wrote_in_another_process_is_taken_over(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with program("ledger_v1.py", path, "write", 5) as process:
        assert told(process) == [1, 2, 3, 4, 5]
        assert process.wait() == 0
    async with opened(path) as ledger:
        runs = await ledger.runs()
    assert [run.run_id for run in runs] == [f"v1-{number}" for number in (4, 3, 2, 1, 0)]


async def _migrate(path):
    async with opened(path) as ledger:
        await ledger.runs()

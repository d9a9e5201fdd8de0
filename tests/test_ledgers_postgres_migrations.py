import asyncio
import contextlib
import json
import os
import re
import secrets
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.engines.postgres import BINARIES, PASSWORD, postgres_server

from purista.bridges import Job
from purista.bridges.postgres_queues import PostgresQueueBridge
from purista.bridges.postgres_queues import schema_sql as queues_sql
from purista.errors import BridgeError, LedgerError
from purista.ledgers.postgres import PostgresLedger, schema_sql
from purista.message import Message
from purista.testing.ledger_suite import START, proposal

PROGRAM = Path(__file__).parent / "programs" / "postgres_user.py"
VERSION_1 = (Path(__file__).parent / "goldens/ledgers/postgres_version_1.sql").read_text()


@pytest.fixture(scope="module")
def server():
    with postgres_server() as server:
        yield server


@pytest.fixture
def schema():
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def version_1(server, schema):
    """A schema that version 1 made and wrote to."""
    server.execute(VERSION_1.replace("recorded", schema))
    return schema


@contextlib.asynccontextmanager
async def opened(url, schema):
    ledger = PostgresLedger(url, schema=schema)
    try:
        yield ledger
    finally:
        await ledger.close()


@contextlib.contextmanager
def another_process(server, schema, what):
    command = [sys.executable, str(PROGRAM), server.url, schema, what]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert told(process) == "ready"
            yield process
        finally:
            process.kill()


def told(process):
    return json.loads(process.stdout.readline())


def version(server, schema, part="ledger"):
    query = f"SELECT version FROM {schema}.versions WHERE part = %s"
    return server.execute(query, part)[0][0]


def dumped(server, schema):
    """Return all tables, indexes and functions of a schema, under one name and in one order."""
    command = [BINARIES / "pg_dump", "--schema-only", f"--schema={schema}", server.url]
    environment = os.environ | {"PGPASSWORD": PASSWORD}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    text = re.sub(r"^(--|\\).*\n", "", done.stdout.replace(schema, "s"), flags=re.MULTILINE)
    return sorted(part.strip() for part in re.split(r"\n\n+", text) if part.strip())


async def test_the_rows_of_version_1_survive(server, version_1):
    async with opened(server.url, version_1) as ledger:
        runs = {run.run_id: run for run in await ledger.runs()}
        records = [record.verdict for record in await ledger.records()]
        latest = await ledger.latest("billing.v1.close")
    assert {name: str(run.status) for name, run in runs.items()} == {
        "run one": "active",
        "C:\\": "ended",
        "run four": "claimed",
    }
    assert runs["run one"].nominal_time == datetime(2027, 3, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (runs["C:\\"].key, runs["C:\\"].outcome) == ("a\x00b", "acked")
    assert records == ["accepted", "duplicate", "overlap", "accepted", "accepted"]
    assert latest == START + timedelta(minutes=20)
    assert version(server, version_1) == 2


async def test_what_version_1_decided_counts_in_version_2(server, version_1):
    async with opened(server.url, version_1) as ledger:
        known = proposal(key="one", run_id="run one", now=START + timedelta(hours=2))
        skipped = proposal(key="three", run_id="run three", nominal_time=START + 20 * MINUTE)
        assert (await ledger.decide(known)).reason == "its run is expired"
        assert (await ledger.decide(skipped)).reason == "it was skipped before"
        await ledger.note_contracts({"a": "1"}, now=START)
        assert await ledger.use_nonce("n", now=START, kept_until=START + MINUTE)
        assert len(await ledger.records(since=START + MINUTE)) == 3


MINUTE = timedelta(minutes=1)


async def test_a_schema_that_was_raised_is_the_same_as_a_new_one(server, version_1, schema):
    new = f"n{schema[1:]}"
    for name in (version_1, new):
        async with opened(server.url, name) as ledger:
            await ledger.latest("x")
    assert dumped(server, version_1) == dumped(server, new)


async def test_the_functions_of_version_1_still_serve_a_process_that_knows_no_other(
    server, version_1
):
    async with opened(server.url, version_1) as ledger:
        await ledger.latest("x")
        old = VERSION_1[VERSION_1.index("-- What version 1 wrote") :]
        server.execute(old.replace("recorded", version_1).replace("run one", "run five"))
        assert [record.verdict for record in await ledger.records(limit=5)] == ["duplicate"] * 5


async def test_the_names_of_functions_end_in_the_version_that_brought_them(server, version_1):
    functions = (
        "SELECT proname FROM pg_proc WHERE pronamespace = %s::regnamespace AND prokind = 'f'"
    )
    old = set(server.execute(functions, version_1))
    async with opened(server.url, version_1) as ledger:
        await ledger.latest("x")
    new = set(server.execute(functions, version_1)) - old
    assert {name[-2:] for (name,) in old} == {"_1"}
    assert {name[-2:] for (name,) in new} == {"_2"}


@pytest.mark.parametrize("is_new", [True, False])
def test_two_processes_may_be_the_first_at_once(server, schema, is_new):
    if not is_new:
        server.execute(VERSION_1.replace("recorded", schema))
    with (
        another_process(server, schema, "first") as one,
        another_process(server, schema, "first") as other,
    ):
        for process in (one, other):
            process.stdin.write("\n")
            process.stdin.flush()
        assert sorted([told(one), told(other)]) == ["accepted", "duplicate"]
    assert version(server, schema) == 2


async def test_many_ledgers_and_bridges_may_be_the_first_at_once(server, schema):
    async with contextlib.AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(opened(server.url, schema)) for _ in range(5)]
        bridges = [PostgresQueueBridge(server.url, schema=schema) for _ in range(5)]
        for bridge in bridges:
            stack.push_async_callback(bridge.close)
        rulings, stored = await asyncio.gather(
            asyncio.gather(*(one.decide(proposal(run_id="r")) for one in ledgers)),
            asyncio.gather(*(one.enqueue(job()) for one in bridges)),
        )
    assert sorted(one.verdict for one in rulings) == ["accepted"] + ["duplicate"] * 4
    assert sorted(stored) == [False] * 4 + [True]


def job():
    return Job(Message("reports", b"{}", "id"), key="k")


async def test_a_newer_schema_is_refused_and_left_as_it_is(server, schema):
    async with opened(server.url, schema) as ledger:
        await ledger.decide(proposal())
        server.execute(f"UPDATE {schema}.versions SET version = 99")
        assert (await ledger.decide(proposal())).verdict == "duplicate", "it is at work already"
    before = dumped(server, schema)
    async with opened(server.url, schema) as ledger:
        with pytest.raises(LedgerError) as caught:
            await ledger.decide(proposal())
    assert (
        f"its schema '{schema}' has version 99 of the ledger, this purista knows 2; "
        "use the purista that made it, or a newer one"
    ) in str(caught.value)
    assert dumped(server, schema) == before


async def test_a_migration_that_fails_changes_nothing(server, version_1):
    server.execute(f"CREATE TABLE {version_1}.nonces (n integer)")
    before = dumped(server, version_1)
    async with opened(server.url, version_1) as ledger:
        with pytest.raises(LedgerError, match='relation "nonces" already exists'):
            await ledger.decide(proposal())
    assert (version(server, version_1), dumped(server, version_1)) == (1, before)


# Administrators


@pytest.fixture
def user(server, schema):
    """The address of a user who may create nothing."""
    server.execute(f"CREATE ROLE {schema} LOGIN PASSWORD '{PASSWORD}'")
    return server.url_of("postgres", schema)


GRANTS = """
GRANT USAGE ON SCHEMA {schema} TO {schema};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {schema};
"""


async def test_a_user_who_may_create_nothing_is_told_what_to_do(user, schema):
    async with opened(user, schema) as ledger:
        with pytest.raises(LedgerError) as caught:
            await ledger.decide(proposal())
    assert (
        "permission denied for database postgres; let an administrator apply "
        "purista.ledgers.postgres.schema_sql() and grant this user usage of schema"
    ) in str(caught.value)
    bridge = PostgresQueueBridge(user, schema=schema)
    with pytest.raises(BridgeError, match=r"apply purista.bridges.postgres_queues.schema_sql\(\)"):
        await bridge.enqueue(job())
    await bridge.close()


async def test_what_an_administrator_applied_serves_a_user_who_may_create_nothing(
    server, user, schema
):
    server.execute(schema_sql(schema) + queues_sql(schema) + GRANTS.format(schema=schema))
    async with opened(user, schema) as ledger:
        assert (await ledger.decide(proposal())).verdict == "accepted"
    bridge = PostgresQueueBridge(user, schema=schema)
    await bridge.enqueue(job())
    assert await bridge.lease("reports", duration=MINUTE) is not None
    await bridge.close()


async def test_an_administrator_can_raise_version_1(server, version_1, user):
    async with opened(user, version_1) as ledger:
        with pytest.raises(LedgerError, match="permission denied"):
            await ledger.decide(proposal())
    server.execute(schema_sql(version_1, since=1) + GRANTS.format(schema=version_1))
    async with opened(user, version_1) as ledger:
        assert len(await ledger.runs()) == 3
    assert version(server, version_1) == 2


async def test_a_user_who_may_create_in_the_schema_needs_no_more(server, user, schema):
    server.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {schema}")
    async with opened(user, schema) as ledger:
        assert (await ledger.decide(proposal())).verdict == "accepted"


def test_the_sql_is_for_plain_names_only():
    for sql in (schema_sql, queues_sql):
        assert 'CREATE SCHEMA IF NOT EXISTS "purista";' in sql()
        with pytest.raises((LedgerError, BridgeError), match="is no plain name"):
            sql('x"; DROP SCHEMA public; --')

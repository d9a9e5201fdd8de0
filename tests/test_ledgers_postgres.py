import asyncio
import contextlib
import json
import random
import secrets
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from tests.engines.postgres import ENCODED_PASSWORD, PASSWORD, postgres_server
from tests.test_ledgers_state_machine import LedgerMachine

from purista.bridges import EnlistedQueues, Job
from purista.bridges.postgres_queues import PostgresQueueBridge
from purista.errors import LedgerError
from purista.ledgers import EnlistingLedger, Verdict
from purista.ledgers.memory import MemoryLedger
from purista.ledgers.postgres import PostgresLedger
from purista.message import Message
from purista.testing import LedgerSuite
from purista.testing.ledger_suite import LEASE, RUN_TIMEOUT, SECOND, START, proposal

PROGRAM = Path(__file__).parent / "programs" / "postgres_user.py"
NOWHERE = "postgresql://me:hunter2@127.0.0.1:1/purista"
servers = []


@pytest.fixture(scope="module", autouse=True)
def server():
    with postgres_server() as started:
        servers.append(started)
        yield started


@pytest.fixture
def schema():
    return new_schema()


@pytest.fixture
async def ledger(server, schema):
    async with opened(server.url, schema=schema) as ledger:
        yield ledger


def new_schema():
    return f"t{secrets.token_hex(6)}"


@contextlib.asynccontextmanager
async def opened(url, **options):
    ledger = PostgresLedger(url, **options)
    try:
        yield ledger
    finally:
        await ledger.close()


@contextlib.contextmanager
def another_process(server, schema, what, *arguments):
    """Run the program; it is killed when the block ends."""
    command = [sys.executable, str(PROGRAM), server.url, schema, what, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def processes(server, schema, what, *arguments):
    """Run the program twice at once, and let them go on together."""
    with contextlib.ExitStack() as stack:
        every = [
            stack.enter_context(another_process(server, schema, what, name, *arguments))
            for name in "ab"
        ]
        assert [told(process) for process in every] == ["ready"] * 2
        for process in every:
            go_on(process)
        yield every
        assert [process.wait() for process in every] == [0] * 2


@contextlib.contextmanager
def held(server, table, condition="true"):
    """Hold the locks of some rows."""
    with contextlib.closing(psycopg.connect(server.url)) as other:
        other.execute(f"SELECT 1 FROM {table} WHERE {condition} FOR UPDATE".encode())
        yield


def told(process):
    return json.loads(process.stdout.readline())


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def counts(server, schema):
    tables = ("runs", "skips", "records")
    return [server.execute(f"SELECT count(*) FROM {schema}.{one}")[0][0] for one in tables]


async def refusal(ledger):
    """Return what a call says."""
    with pytest.raises(LedgerError) as caught:
        await ledger.decide(proposal())
    assert str(caught.value).startswith("ledger 'postgresql://")
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


async def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# The same meaning as every other ledger


class TestPostgresLedger(LedgerSuite):
    @contextlib.asynccontextmanager
    async def ledger(self):
        async with opened(servers[-1].url, schema=new_schema()) as ledger:
            yield ledger


class PostgresMachine(LedgerMachine):
    def make_ledger(self):
        return PostgresLedger(servers[-1].url, schema=new_schema(), retention=timedelta(0))


TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(
    max_examples=6,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

WORDS = ["a", "b", "it's", "C:\\", "a\x00b"]


def drawn(draw, now):
    """Return any proposal; run ids belong to any schedule."""
    return proposal(
        schedule_id=draw.choice(WORDS[:3]),
        key=draw.choice(WORDS),
        run_id=draw.choice(WORDS),
        owner=draw.choice("xy"),
        nominal_time=START + timedelta(seconds=draw.randrange(3)),
        now=now,
        verdict=draw.choice([Verdict.ACCEPTED] * 6 + list(Verdict)[3:]),
        concurrency_policy=draw.choice(["allow", "forbid", "replace"]),
        dedupe_window=timedelta(seconds=draw.choice([0, 5, 20])),
        run_timeout=timedelta(seconds=draw.choice([4, 15])),
        lease=timedelta(seconds=draw.choice([2, 6])),
        manual=draw.random() < 0.15,
    )


def without_tokens(runs):
    return sorted((replace(run, token=0) for run in runs), key=lambda run: run.run_id)


async def step(draw, now, ledger, known, claims):
    """Do any one thing with both ledgers; they answer the same."""
    kind = draw.random()
    run_id, token, known_token = draw.choice(claims)
    lease_until = draw.choice([None, now + 3 * SECOND])
    if kind < 0.5:
        trigger = drawn(draw, now)
        got, expected = await ledger.decide(trigger), await known.decide(trigger)
        claims += [(got.run_id, got.token, expected.token)] if got.token else []
        got = got._replace(token=int(got.token > 0))
        expected = expected._replace(token=int(expected.token > 0))
    elif kind < 0.65:
        got = await ledger.dispatched(run_id, token, lease_until=lease_until)
        expected = await known.dispatched(run_id, known_token, lease_until=lease_until)
    elif kind < 0.75:
        got, expected = (
            await ledger.release(run_id, token),
            await known.release(run_id, known_token),
        )
    elif kind < 0.9:
        run_id = draw.choice(WORDS)
        got, expected = [await one.end(run_id, outcome="a\\", now=now) for one in (ledger, known)]
    else:
        got, expected = [await one.renew("x", lease_until=now + LEASE) for one in (ledger, known)]
    assert got == expected


@pytest.mark.parametrize("seed", range(5))
async def test_it_decides_as_the_book_does_word_for_word(ledger, seed):
    draw, now = random.Random(seed), START
    known = MemoryLedger()
    claims = [("unknown", 1, 1)]
    for _ in range(100):
        now += timedelta(microseconds=draw.choice([-1_500_000, 0, 1, 500_000, 3_000_000]))
        await step(draw, now, ledger, known, claims)
        assert without_tokens(await ledger.runs()) == without_tokens(await known.runs())
    assert list(await ledger.records(limit=1000)) == list(await known.records(limit=1000))
    latest = [[await one.latest(word) for word in WORDS] for one in (ledger, known)]
    assert latest[0] == latest[1]


# Several processes


def test_of_several_processes_exactly_one_accepts_a_key(server, schema):
    with processes(server, schema, "race", 40) as every:
        accepted = [key for process in every for key in told(process)]
    assert sorted(accepted) == sorted(f"key {number}" for number in range(40))
    assert counts(server, schema) == [40, 0, 80]


def test_under_forbid_several_processes_never_run_at_once(server, schema, tmp_path):
    with processes(server, schema, "forbid", 100, tmp_path / "running") as every:
        results = [told(process) for process in every]
    assert [overlaps for _, overlaps in results] == [0] * 2
    assert counts(server, schema)[0] == sum(ran for ran, _ in results) > 0


async def test_a_decision_sees_what_was_committed_while_it_waited_for_its_schedule(
    server, schema, ledger
):
    """One statement with CTEs would not: its snapshot is older than the lock it waits for."""
    await ledger.decide(proposal(schedule_id="s", key="0", run_id="0"))
    await ledger.end("0", outcome="acked", now=START)
    with held(server, f"{schema}.schedules"):
        waiting = [
            asyncio.create_task(
                ledger.decide(
                    proposal(schedule_id="s", key=key, run_id=key, concurrency_policy="forbid")
                )
            )
            for key in "abcdef"
        ]
        await until(lambda: locks_waited_for(server, schema) == 6)
    verdicts = sorted([(await one).verdict for one in waiting])
    assert verdicts == ["accepted"] + ["overlap"] * 5


def locks_waited_for(server, schema):
    return server.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s",
        f"%{schema}%",
    )[0][0]


async def test_nothing_waits_in_a_circle(server, schema):
    """Schedules that fight for one another's run ids, while leases are renewed and rows pruned."""
    draw, retention = random.Random(1), timedelta(0)
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'"
    before = server.execute(deadlocks)
    async with (
        opened(server.url, schema=schema, retention=retention) as one,
        opened(server.url, schema=schema, retention=retention) as other,
    ):

        async def work(ledger):
            now = START
            for _ in range(60):
                now += draw.choice([0, 1, 4]) * SECOND
                ruling = await ledger.decide(drawn(draw, now))
                await ledger.dispatched(ruling.run_id, ruling.token, lease_until=now + LEASE)
                await ledger.renew(draw.choice("xy"), lease_until=now + LEASE)
                await ledger.end(draw.choice(WORDS), outcome="acked", now=now)

        await asyncio.gather(*(work(ledger) for ledger in (one, other) for _ in range(6)))
        for run in await one.runs(limit=1000):
            assert run.schedule_id in WORDS
    assert server.execute(deadlocks) == before


async def test_a_lease_is_renewed_although_another_holds_its_run(server, schema, ledger):
    for name in "ab":
        ruling = await ledger.decide(proposal(key=name, run_id=name))
        await ledger.dispatched(name, ruling.token, lease_until=START + LEASE)
    later = START + 3 * LEASE
    with held(server, f"{schema}.runs", "run_id = 'a'"):
        renewing = asyncio.create_task(ledger.renew("first", lease_until=later))
        await until(lambda: locks_waited_for(server, schema) == 1)
        assert (await ledger.run("b")).lease_until == later, "one that is held delays no other"
    await renewing
    assert (await ledger.run("a")).lease_until == later


@pytest.mark.parametrize(("reached", "status"), [("decided", "claimed"), ("dispatched", "active")])
async def test_a_redelivery_takes_over_from_a_process_that_was_killed(
    server, schema, ledger, reached, status
):
    with another_process(server, schema, "claim", reached) as process:
        token = told(process)
    run = await ledger.run("r")
    assert (run.status, run.token, run.owner) == (status, token, "killed")
    early = await ledger.decide(proposal(run_id="r", owner="next", now=START + SECOND))
    assert (early.verdict, early.retry_after) == ("duplicate", LEASE - SECOND)
    again = await ledger.decide(proposal(run_id="r", owner="next", now=START + LEASE))
    assert (again.verdict, again.run_id, again.taken_over) == ("accepted", "r", True)
    assert again.token > token


# A server that dies, stands still, or is away


async def test_no_claim_that_returned_is_lost_when_the_server_is_killed(server, schema, ledger):
    with another_process(server, schema, "claim_without_end") as process:
        returned = {told(process) for _ in range(100)}
        server.kill()
        returned |= {json.loads(line) for line in process.stdout}
        assert process.wait() == 1, "the ledger's error ends the program"
    server.start()
    known = {run.run_id for run in await ledger.runs(limit=100_000)}
    assert returned <= known


async def test_a_server_that_is_killed_is_an_error_and_the_next_call_connects_anew(server, ledger):
    claims = [ledger.decide(proposal(key=str(one), run_id=str(one))) for one in range(20)]
    await asyncio.gather(*claims)
    server.kill()
    assert "connection" in await refusal(ledger)
    server.start()
    again = [ledger.decide(proposal(key=str(one), run_id=str(one))) for one in range(20)]
    assert {ruling.verdict for ruling in await asyncio.gather(*again)} == {"duplicate"}


async def test_a_call_that_runs_as_the_server_is_killed_raises(server, schema, ledger):
    await ledger.decide(proposal())
    with held(server, f"{schema}.schedules"):
        running = asyncio.create_task(refusal(ledger))
        await until(lambda: locks_waited_for(server, schema) == 1)
        server.kill()
        assert "server closed the connection" in await running
    server.start()
    assert (await ledger.decide(proposal())).verdict == "duplicate"


async def test_a_server_that_stands_still_is_an_error_in_time(server, schema):
    async with opened(server.url, schema=schema, timeout=timedelta(seconds=1)) as ledger:
        await ledger.decide(proposal(run_id="r"))
        server.freeze()
        try:
            text = await refusal(ledger)
        finally:
            server.thaw()
        assert "did not answer for 0:00:01" in text
        assert (await ledger.decide(proposal(run_id="r"))).verdict == "duplicate"


async def test_a_row_that_is_locked_for_long_is_an_error_and_then_works(server, schema):
    async with opened(server.url, schema=schema, timeout=timedelta(seconds=1)) as ledger:
        await ledger.decide(proposal(run_id="r"))
        with held(server, f"{schema}.schedules"):
            assert "another transaction kept it waiting" in await refusal(ledger)
        assert (await ledger.decide(proposal(run_id="r"))).verdict == "duplicate"


async def test_a_call_waits_for_a_free_connection_only_so_long(server, schema):
    limits = {"connections": 1, "timeout": timedelta(seconds=1)}
    async with opened(server.url, schema=schema, **limits) as ledger:
        await ledger.decide(proposal())
        with held(server, f"{schema}.schedules"):
            calls = [ledger.decide(proposal(key=str(one))) for one in range(3)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
        assert "all 1 connections were at work" in str(errors[-1])
        assert (await ledger.decide(proposal())).verdict == "duplicate"


# Cancellation, closing, event loops


async def test_a_cancelled_caller_leaves_each_step_done_or_not_begun(server, schema):
    async with opened(server.url, schema=schema) as ledger:
        tasks = [
            asyncio.create_task(ledger.decide(proposal(key=str(one), run_id=str(one))))
            for one in range(60)
        ]
        for task in tasks:
            await asyncio.wait([tasks[0]], timeout=0)
            task.cancel()
        rulings = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in rulings} & {asyncio.CancelledError}
    async with opened(server.url, schema=schema) as ledger:
        runs = {run.run_id for run in await ledger.runs()}
        assert runs == {record.run_id for record in await ledger.records()}
        for one in range(60):
            ruling = await ledger.decide(proposal(key=str(one), run_id=str(one)))
            assert ruling.verdict == ("duplicate" if str(one) in runs else "accepted")


async def test_a_caller_that_is_cancelled_is_free_at_once_and_its_step_goes_on(
    server, schema, ledger
):
    await ledger.decide(proposal(key="0", run_id="0"))
    with held(server, f"{schema}.schedules"):
        waiting = asyncio.create_task(ledger.decide(proposal(run_id="r")))
        await until(lambda: locks_waited_for(server, schema) == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await ledger.run("r") is None
    assert (await ledger.decide(proposal(run_id="r"))).verdict == "duplicate"


async def test_closing_waits_for_what_was_begun_and_closes_every_connection(server, schema):
    ledger = PostgresLedger(f"{server.url}?application_name={schema}", schema=schema)
    pending = [asyncio.create_task(ledger.decide(proposal(key=str(one)))) for one in range(20)]
    await asyncio.sleep(0)
    await ledger.close()
    assert len(await asyncio.gather(*pending)) == 20
    await until(lambda: not connected(server, schema))


async def test_no_more_connections_are_open_than_allowed(server, schema):
    url = f"{server.url}?application_name={schema}"
    async with opened(url, schema=schema, connections=3) as ledger:
        await asyncio.gather(*(ledger.decide(proposal(key=str(one))) for one in range(30)))
        assert len(connected(server, schema)) == 3


async def test_a_closed_ledger_says_so(server, ledger):
    await ledger.close()
    assert "it is closed; make a new one" in await refusal(ledger)


def test_a_ledger_serves_one_event_loop_after_another(server, schema):
    ledger = PostgresLedger(server.url, schema=schema)
    assert asyncio.run(ledger.decide(proposal(run_id="r"))).verdict == "accepted"
    assert asyncio.run(ledger.decide(proposal(run_id="r"))).verdict == "duplicate"
    asyncio.run(ledger.close())


# What is wrong with a database


def test_nothing_happens_before_the_first_call():
    assert PostgresLedger(NOWHERE).store == "postgresql://127.0.0.1:1/purista"


async def test_a_server_that_is_not_there_is_named():
    async with opened(NOWHERE) as ledger:
        text = await refusal(ledger)
    assert text.startswith("ledger 'postgresql://127.0.0.1:1/purista', schema 'purista': ")
    assert "Connection refused" in text


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@local host/x",
        "postgresql://me:hunter2%zz@localhost/x",
        "postgresql://me:hunter2@hunter2@localhost/x",
        "postgresql://me:hunter2/hunter2@localhost/x",
        "https://me:hunter2@localhost/x",
        "hunter2",
        "host=localhost port=hunter2",
    ],
)
def test_an_address_that_cannot_be_read_is_refused_and_not_quoted(url):
    with pytest.raises(LedgerError) as caught:
        PostgresLedger(url)
    assert "its address cannot be read; write postgresql://user:password@" in str(caught.value)
    assert "hunter2" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "a$purista$b", "pg_toast", "Big", "x" * 64])
def test_a_schema_with_no_plain_name_is_refused(server, name):
    with pytest.raises(LedgerError, match="is no plain name"):
        PostgresLedger(server.url, schema=name)


async def test_a_wrong_password_is_an_error_that_does_not_show_it(server):
    url = server.url.replace(ENCODED_PASSWORD, "hunter2")
    async with opened(url) as ledger:
        text = await refusal(ledger)
    assert 'password authentication failed for user "postgres"' in text
    assert PASSWORD not in text


async def test_a_database_that_is_not_there_is_named(server):
    async with opened(server.url_of("nowhere")) as ledger:
        assert 'database "nowhere" does not exist' in await refusal(ledger)


async def test_a_database_that_takes_no_writes_is_an_error(server, schema, ledger):
    await ledger.decide(proposal())
    url = f"{server.url}?options=-c%20default_transaction_read_only%3Don"
    async with opened(url, schema=schema) as reader:
        assert "name the primary server, not a replica" in await refusal(reader)
        assert len(await reader.runs()) == 1


async def test_a_database_of_another_encoding_is_refused(server, schema):
    server.execute(f"CREATE DATABASE {schema} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    async with opened(server.url_of(schema)) as ledger:
        assert "its encoding is LATIN1; name a database that was created" in await refusal(ledger)


async def test_another_isolation_level_as_the_default_does_no_harm(server, schema):
    server.execute(f"CREATE ROLE {schema} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")
    server.execute(f"ALTER ROLE {schema} SET default_transaction_isolation = 'serializable'")
    url = server.url_of("postgres", schema)
    async with opened(url, schema=schema) as ledger:
        rulings = await asyncio.gather(*(ledger.decide(proposal(run_id="r")) for _ in range(20)))
    assert sorted(one.verdict for one in rulings) == ["accepted"] + ["duplicate"] * 19


async def test_a_schema_that_was_dropped_is_made_anew_after_an_error(server, schema, ledger):
    await ledger.decide(proposal())
    server.execute(f"DROP SCHEMA {schema} CASCADE")
    assert "does not exist" in await refusal(ledger)
    assert (await ledger.decide(proposal())).verdict == "accepted"


async def test_text_that_is_no_unicode_is_an_error_and_changes_nothing(ledger):
    with pytest.raises(LedgerError, match="surrogates not allowed"):
        await ledger.decide(proposal(source="\ud800"))
    assert await ledger.runs() == []
    assert (await ledger.decide(proposal())).verdict == "accepted"


# What is kept


async def test_texts_that_cannot_be_compressed_may_be_long(ledger):
    names = [secrets.token_hex(5_000) for _ in range(2)]
    for name in names:
        odd = proposal(schedule_id=name, key=name, run_id=name, source=name, owner=name)
        assert (await ledger.decide(odd)).verdict == "accepted"
        await ledger.decide(odd._replace(run_id=f"{name} late", key=f"{name} late", verdict="late"))
        assert await ledger.use_nonce(name, now=START, kept_until=START + SECOND)
        await ledger.note_contracts({name: name}, now=START)
    assert {run.key for run in await ledger.runs()} == set(names)


async def test_instants_may_be_the_first_and_the_last(ledger):
    for number, instant in enumerate((datetime.min, datetime.max)):
        at = instant.replace(tzinfo=UTC)
        await ledger.decide(proposal(run_id=str(number), nominal_time=at, now=at))
        run = await ledger.run(str(number))
        assert (run.nominal_time, run.claimed_at) == (at, at)


async def test_the_time_zone_of_the_session_does_not_matter(server, schema):
    url = f"{server.url}?options=-c%20TimeZone%3DPacific/Kiritimati%20-c%20DateStyle%3DGerman"
    async with opened(url, schema=schema) as ledger:
        await ledger.decide(proposal(run_id="r"))
        assert (await ledger.run("r")).nominal_time == START
        assert (await ledger.runs(since=START, until=START + SECOND))[0].run_id == "r"


async def test_a_ledger_does_not_grow_for_ever(server, schema):
    async with opened(server.url, schema=schema, retention=timedelta(days=1)) as ledger:
        for day in range(300):
            now = START + timedelta(days=day)
            verdict = Verdict.LATE if day % 2 else Verdict.ACCEPTED
            await ledger.decide(
                proposal(nominal_time=now, now=now, verdict=verdict, dedupe_window=SECOND)
            )
            await ledger.use_nonce(str(day), now=now, kept_until=now + SECOND)
    assert all(count <= 64 for count in counts(server, schema)), counts(server, schema)
    assert server.execute(f"SELECT count(*) FROM {schema}.nonces")[0][0] <= 4


MANY = """
INSERT INTO {s}.schedules (schedule_id) SELECT 's' || n FROM generate_series(1, 20) n;
INSERT INTO {s}.runs
SELECT n, 'run ' || n, n % 20 + 1, {t} - n * interval '1 second', 'key ' || n,
    CASE WHEN n <= {runs} - 100 THEN 'ended' ELSE 'active' END, 'owner ' || n % 20,
    {t} - n * interval '1 second', {t} + interval '1 hour',
    CASE WHEN n > {runs} - 100 THEN {t} END, CASE WHEN n <= {runs} - 100 THEN {t} END,
    'acked', true, {t} + interval '7 days'
FROM generate_series(1, {runs}) n;
INSERT INTO {s}.records (
    schedule, nominal_time, key, run_id, verdict, reason, source, decided_at, kept_until
) SELECT n % 20 + 1, {t} - n * interval '1 second', 'key ' || n, 'run ' || n, 'accepted',
    'on time', 'test', {t}, {t} + interval '7 days'
FROM generate_series(1, {runs}) n;
INSERT INTO {s}.skips
SELECT n % 20 + 1, 'skip ' || n, {t}, 'run', {t}, {t} + interval '7 days'
FROM generate_series(1, {runs}) n;
ANALYZE {s}.runs, {s}.records, {s}.skips, {s}.schedules;
"""


@pytest.fixture
async def full(server, schema):
    """The name of a schema with many rows, and the claim of one run in it."""
    async with opened(server.url, schema=schema) as ledger:
        await ledger.latest("s1")
        server.execute(MANY.format(s=schema, t=f"'{START}'::timestamptz", runs=MANY_RUNS))
        return schema, await ledger.decide(proposal(**RUN))


MANY_RUNS = 10_000
RUN = {"schedule_id": "s8", "run_id": "a run", "key": "a key"}
LATE = {"schedule_id": "s9", "run_id": "late", "key": "late", "verdict": Verdict.LATE}
BOUND = {"since": START - 90 * SECOND, "until": START - 80 * SECOND, "limit": 10}
STEPS = {
    "forbid": lambda ledger, _: ledger.decide(proposal(**RUN, concurrency_policy="forbid")),
    "replace": lambda ledger, _: ledger.decide(
        proposal(schedule_id="s9", concurrency_policy="replace")
    ),
    "late": lambda ledger, _: ledger.decide(proposal(**LATE)),
    "dispatched": lambda ledger, token: ledger.dispatched("a run", token, lease_until=START),
    "renew": lambda ledger, _: ledger.renew("owner 7", lease_until=START + LEASE),
    "end": lambda ledger, _: ledger.end("a run", outcome="acked", now=START),
    "run": lambda ledger, _: ledger.run("run 7"),
    "runs": lambda ledger, _: ledger.runs(limit=10),
    "runs of one": lambda ledger, _: ledger.runs(schedule_id="s7", limit=10),
    "runs within": lambda ledger, _: ledger.runs(**BOUND),
    "runs of one within": lambda ledger, _: ledger.runs(schedule_id="s7", **BOUND),
    "unfinished": lambda ledger, _: ledger.runs(unfinished=True, limit=10),
    "records": lambda ledger, _: ledger.records(limit=10),
    "records of one": lambda ledger, _: ledger.records(schedule_id="s7", limit=10),
    "records within": lambda ledger, _: ledger.records(**BOUND),
    "latest": lambda ledger, _: ledger.latest("s7"),
    "purge": lambda ledger, _: ledger.purge(START),
    "nonce": lambda ledger, _: ledger.use_nonce("n", now=START, kept_until=START + SECOND),
}


async def test_every_step_reads_few_rows_however_many_there_are(server, full):
    schema, ruling = full
    url = f"{server.url}?application_name={schema}"
    many, before = {}, rows_read(server, schema)
    for name, step in STEPS.items():
        async with opened(url, schema=schema) as ledger:
            await step(ledger, ruling.token)
        await until(lambda: not connected(server, schema))
        after = rows_read(server, schema)
        if after - before > 300:
            many[name] = after - before
        before = after
    assert many == {}


def connected(server, name):
    return server.execute("SELECT 1 FROM pg_stat_activity WHERE application_name = %s", name)


def rows_read(server, schema):
    """Return how many rows were read by connections that are closed: these have told."""
    return server.execute(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_user_tables "
        "WHERE schemaname = %s",
        schema,
    )[0][0]


# Enlisted work


@pytest.fixture
async def bridge(server, schema):
    bridge = PostgresQueueBridge(server.url, schema=schema)
    yield bridge
    await bridge.close()


def job(name, **options):
    return Job(Message("reports", b"{}", name), **options)


async def jobs(bridge):
    found = []
    while leased := await bridge.lease("reports", duration=LEASE, wait=timedelta(0)):
        found.append(leased.job.message.id)
        await bridge.ack(leased)
    return found


def test_ledger_and_bridge_in_one_database_know_it(server, ledger, bridge):
    assert isinstance(ledger, EnlistingLedger)
    assert isinstance(bridge, EnlistedQueues)
    assert ledger.store == bridge.store == f"postgresql://127.0.0.1:{server.port}/postgres"
    assert PASSWORD not in ledger.store


async def test_an_accepted_trigger_is_enqueued_and_dispatched_in_one_step(ledger, bridge):
    def work(ruling):
        return bridge.enlisted(job(ruling.run_id))

    first = await ledger.decide_and_enlist(proposal(run_id="r"), work)
    assert (first.verdict, first.run_id) == ("accepted", "r")
    run = await ledger.run("r")
    assert (run.status, run.token, run.lease_until) == ("active", first.token, None)
    again = await ledger.decide_and_enlist(proposal(run_id="r"), work)
    assert again.verdict == "duplicate"
    assert await jobs(bridge) == ["r"]


async def test_a_job_of_a_key_that_is_known_is_not_enqueued_but_its_run_is_decided(ledger, bridge):
    await bridge.enqueue(job("first", key="k"))
    await ledger.decide_and_enlist(
        proposal(run_id="r"), lambda _: bridge.enlisted(job("second", key="k"))
    )
    assert (await ledger.run("r")).status == "active"
    assert await jobs(bridge) == ["first"]


async def fail_with(connection, error):
    await connection.execute("SELECT 1")
    raise error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("hunter2"), "nothing was decided: ValueError"),
        (TimeoutError(), "nothing was decided: TimeoutError"),
        (LedgerError("no paper"), "nothing was decided: no paper"),
        (psycopg.errors.UniqueViolation("no room"), "no room"),
    ],
)
async def test_work_that_fails_undoes_the_decision(ledger, error, words):
    with pytest.raises(LedgerError) as caught:
        await ledger.decide_and_enlist(
            proposal(run_id="r"), lambda _: lambda connection: fail_with(connection, error)
        )
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert (await ledger.run("r"), await ledger.records()) == (None, [])
    assert (await ledger.decide(proposal(run_id="r"))).verdict == "accepted"


async def test_work_whose_caller_is_cancelled_is_done_whole(ledger, bridge):
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def work(connection):
        begun.set()
        await may_go_on.wait()
        await bridge.enlisted(job("r"))(connection)

    task = asyncio.create_task(ledger.decide_and_enlist(proposal(run_id="r"), lambda _: work))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_go_on.set()
    assert (await ledger.decide(proposal(run_id="r"))).reason == "its run is active"
    assert await jobs(bridge) == ["r"]


async def test_a_kill_at_any_step_leaves_both_or_nothing(server, schema, ledger, bridge):
    left = []
    with another_process(server, schema, "enlist_and_be_killed") as process:
        while True:
            number, was_killed = told(process)
            name = f"run {number}"
            await until(lambda: not others_at_work(server))
            run, enqueued = await ledger.run(name), await jobs(bridge)
            assert enqueued == ([name] if run else [])
            assert run is None or run.status == "active"
            left.append(bool(run))
            go_on(process)
            if not was_killed:
                break
    assert len(left) > 12
    assert left == sorted(left), "once it is committed it stays"
    assert {True, False} == set(left)


def others_at_work(server):
    """Whether a connection whose process was killed is still at something."""
    return server.execute(
        "SELECT 1 FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() "
        "AND backend_type = 'client backend'"
    )


async def test_a_run_past_its_time_out_is_told_as_anywhere(ledger):
    await ledger.decide(proposal(run_id="r"))
    assert not await ledger.end("r", outcome="acked", now=START + RUN_TIMEOUT)
    assert (await ledger.run("r")).ended_at == START + RUN_TIMEOUT

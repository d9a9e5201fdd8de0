import asyncio
import contextlib
import json
import logging
import secrets
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from tests.engines.postgres import PASSWORD, postgres_server

from purista.bridges import Connects, DeadLetters, EnlistedQueues, Job, postgres_jobs
from purista.bridges.postgres_queues import PostgresQueueBridge
from purista.bridges.postgres_schema import MIGRATIONS
from purista.errors import BridgeClosedError, BridgeError, LeaseLostError
from purista.message import Message, RunInfo
from purista.postgres.migration import Migrations
from purista.testing import ManualClock, QueueBridgeSuite

PROGRAM = Path(__file__).parent / "programs" / "postgres_user.py"
NOW = timedelta(0)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
RUN = RunInfo("run-1", "billing.v1.monthly", datetime(2027, 1, 1, tzinfo=UTC), "UTC", True)
servers = []


@pytest.fixture(scope="module", autouse=True)
def server():
    with postgres_server() as started:
        servers.append(started)
        yield started


@pytest.fixture
def schema():
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
async def bridge(server, schema):
    async with opened(server.url, schema=schema) as bridge:
        yield bridge


@contextlib.asynccontextmanager
async def opened(url, **options):
    bridge = PostgresQueueBridge(url, **options)
    try:
        yield bridge
    finally:
        await bridge.close()


class TestPostgresQueueBridge(QueueBridgeSuite):
    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        async with opened(servers[-1].url, clock=clock) as bridge:
            yield bridge


def job(name="1", queue="reports", **options):
    return Job(Message(queue, b'{"secret": "hunter2"}', f"{name}", RUN), **options)


def take(bridge, duration=DAY, queue="reports", wait=NOW):
    return bridge.lease(queue, duration=duration, wait=wait)


def begin(bridge, duration=DAY, queue="reports"):
    return asyncio.create_task(take(bridge, duration, queue, wait=None))


async def soon(awaitable):
    async with asyncio.timeout(20):
        return await awaitable


async def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def listeners(server, name):
    """Return how many of the named connections have nothing to do but to listen."""
    return server.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND query LIKE 'LISTEN%%'",
        name,
    )[0][0]


@contextlib.contextmanager
def away(server):
    """Kill the server, and start it again in the end."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextlib.contextmanager
def another_process(server, schema, *arguments):
    command = [sys.executable, str(PROGRAM), server.url, schema, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process):
    return json.loads(process.stdout.readline())


# Time, which outside of tests is the server's


async def test_delays_and_leases_are_measured_by_the_server(bridge):
    few = timedelta(milliseconds=150)
    began = time.monotonic()
    await bridge.enqueue(job(delay=few))
    first = await soon(take(bridge, few, wait=None))
    second = await soon(take(bridge, wait=None))
    assert (first.attempt, second.attempt, second.job) == (1, 2, first.job)
    assert time.monotonic() - began >= 2 * few.total_seconds()


async def test_a_nacked_job_comes_back_when_the_server_finds_its_retry_due(bridge):
    await bridge.enqueue(job())
    leased = await take(bridge)
    began = time.monotonic()
    await bridge.nack(leased, retry_in=timedelta(milliseconds=150), reason="not now")
    assert (await soon(take(bridge, wait=None))).attempt == 2
    assert time.monotonic() - began >= 0.15


async def test_a_window_is_measured_by_the_server(server, schema, bridge):
    assert await bridge.enqueue(job(key="k", dedupe_window=DAY))
    assert not await bridge.enqueue(job(key="k"))
    server.execute(f"UPDATE {schema}.job_keys SET kept_until = kept_until - interval '1 day'")
    assert await bridge.enqueue(job(key="k"))


async def test_a_wait_ends_in_time(bridge):
    began = time.monotonic()
    assert await soon(take(bridge, wait=timedelta(milliseconds=100))) is None
    assert time.monotonic() - began >= 0.1


# What is stored


async def test_a_job_comes_back_as_it_was_with_its_headers(bridge):
    run = RUN._replace(run_id="a\x00b\\", nominal_time=RUN.nominal_time + timedelta(microseconds=1))
    headers = {"traceparent": "00-1", "ü\x00": "\\"}
    every = [
        Job(Message("reports", b"\x00\xff", "a\x00b\\000", run, headers), 3),
        Job(Message("reports", b"", "", None, {})),
        Job(Message("reports", b"{}", "x" * 5000), key=secrets.token_hex(5000)),
        Job(Message("reports", b"{}", "id"), delay=NOW, dedupe_window=timedelta.max, key="k"),
    ]
    for one in every:
        assert await bridge.enqueue(one)
    assert [(await take(bridge)).job for _ in every] == every
    assert isinstance(bridge, DeadLetters)
    assert isinstance(bridge, EnlistedQueues)


async def test_a_large_body_is_stored_while_others_are_at_work(bridge):
    large = Job(Message("large", secrets.token_bytes(20_000_000), "x"))
    await asyncio.gather(*(bridge.enqueue(one) for one in (large, job(), large)))
    for _ in range(2):
        leased = await soon(take(bridge, queue="large"))
        assert leased.job == large
        await bridge.ack(leased)


async def test_a_text_that_is_no_unicode_is_refused_and_names_no_payload(bridge):
    with pytest.raises(BridgeError, match="surrogates not allowed"):
        await bridge.enqueue(job("\ud800"))
    assert await take(bridge) is None


async def test_an_enqueue_whose_caller_is_cancelled_stores_its_job_or_not(bridge):
    await bridge.enqueue(job("first"))
    for number in range(20):
        one = asyncio.create_task(bridge.enqueue(job(str(number))))
        await asyncio.sleep(number / 20_000)
        one.cancel()
    assert await soon(bridge.enqueue(job("last")))
    found = []
    while leased := await take(bridge):
        found.append(leased.job.message.id)
        await bridge.ack(leased)
    assert found[0] == "first"
    assert "last" in found
    assert len(found) == len(set(found))


async def test_a_schema_that_is_gone_is_made_again_by_the_call_after_the_next(
    server, schema, bridge
):
    await bridge.enqueue(job())
    server.execute(f"DROP SCHEMA {schema} CASCADE")
    with pytest.raises(BridgeError, match="does not exist"):
        await bridge.enqueue(job())
    assert await bridge.enqueue(job())


@pytest.mark.parametrize("name", ["it's", 'a "b"; --', "a\x00b", "Zürich 日本 🕐", "", "x" * 9000])
async def test_a_queue_may_have_any_name(bridge, name):
    waiting = begin(bridge, queue=name)
    await bridge.enqueue(job(queue=name))
    leased = await soon(waiting)
    assert (leased.queue, leased.job.message.name) == (name, name)
    await bridge.nack(leased, retry_in=None, reason=f"no {name}")
    (letter,) = await bridge.dead_letters(name)
    assert (letter.queue, letter.reason) == (name, f"no {name}")
    assert await bridge.redrive(name, message_id="1") == 1


async def test_the_longest_durations_are_taken(bridge):
    most = timedelta.max
    await bridge.enqueue(job("never", delay=most))
    await bridge.enqueue(job("now"))
    leased = await take(bridge, most)
    await bridge.extend(leased, duration=most)
    assert leased.job.message.id == "now"
    assert await bridge.nack(leased, retry_in=most, reason="later") is False
    assert await take(bridge) is None


async def test_a_job_whose_last_lease_ran_out_is_a_dead_letter_although_nobody_looked(
    server, schema
):
    clock = ManualClock()
    async with opened(server.url, schema=schema, clock=clock) as bridge:
        await bridge.enqueue(job(max_attempts=1))
        await take(bridge, SECOND)
        await clock.advance(SECOND)
        (letter,) = await bridge.dead_letters("reports")
    assert (letter.attempts, letter.reason) == (1, "the lease ran out in attempt 1, the last")
    assert letter.died_at == clock.now()


async def test_a_lease_that_ran_out_is_logged_with_its_run_and_without_its_body(
    server, schema, caplog
):
    clock = ManualClock()
    async with opened(server.url, schema=schema, clock=clock) as bridge:
        await bridge.enqueue(job(max_attempts=2))
        for _ in range(2):
            await take(bridge, SECOND)
            await clock.advance(SECOND)
        assert await take(bridge) is None
    messages = [record.getMessage() for record in caplog.records if record.levelno > logging.INFO]
    assert messages == [
        f"queue reports: the lease of job 1 ran out in attempt {attempt} of 2, run run-1"
        for attempt in (1, 2)
    ]


async def test_whoever_settles_a_job_sooner_than_the_next_takes_it_is_in_time(server, schema):
    clock = ManualClock()
    async with opened(server.url, schema=schema, clock=clock) as bridge:
        await bridge.enqueue(job())
        leased = await take(bridge, SECOND)
        await clock.advance(2 * SECOND)
        await bridge.ack(leased)
        with pytest.raises(LeaseLostError, match="queue 'reports': job 1, attempt 1"):
            await bridge.ack(leased)


async def test_keys_whose_window_is_over_are_deleted_in_time(server, schema):
    clock = ManualClock()
    async with opened(server.url, schema=schema, clock=clock) as bridge:
        for number in range(200):
            await bridge.enqueue(job(key=str(number), dedupe_window=SECOND))
            await clock.advance(SECOND)
    assert server.execute(f"SELECT count(*) FROM {schema}.job_keys")[0][0] <= 33


# Waiting


async def test_waiting_leases_are_served_in_the_order_they_came(bridge):
    waiting = [begin(bridge) for _ in range(5)]
    await asyncio.sleep(0)
    waiting.pop(2).cancel()
    for word in "abcd":
        await bridge.enqueue(job(word))
    leased = await soon(asyncio.gather(*waiting))
    assert [one.job.message.id for one in leased] == list("abcd")


async def test_a_job_of_another_process_is_picked_up_without_polling(server, schema):
    name = {"url": f"{server.url}?application_name={schema}", "schema": schema}
    async with opened(**name) as here, opened(server.url, schema=schema) as there:
        took = []
        for _ in range(5):
            waiting = begin(here)
            await until(lambda: listeners(server, schema))
            await there.enqueue(job())
            began = time.monotonic()
            await here.ack(await soon(waiting))
            took.append(time.monotonic() - began)
    assert min(took) < 1


async def test_each_of_many_jobs_goes_to_one_of_many_workers(server, schema):
    done = []

    async def work(bridge):
        while leased := await take(bridge):
            done.append(leased.job.message.id)
            await bridge.ack(leased)

    async with opened(server.url, schema=schema) as one, opened(server.url, schema=schema) as two:
        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(one.enqueue(job(str(number))))
        async with asyncio.TaskGroup() as group:
            for bridge in (one, two) * 5:
                group.create_task(work(bridge))
    assert sorted(done, key=int) == [str(number) for number in range(300)]


async def test_cancelled_leases_keep_no_job_however_late_they_are_cancelled(server, schema):
    async with opened(server.url, schema=schema) as bridge:
        for number in range(30):
            waiting = begin(bridge)
            await bridge.enqueue(job(str(number)))
            await asyncio.sleep(number / 10_000)
            waiting.cancel()
            await asyncio.wait([waiting])
            leased = None if waiting.cancelled() else waiting.result()
            leased = leased or await soon(take(bridge, wait=None))
            assert (leased.job.message.id, leased.attempt) == (str(number), 1)
            await bridge.ack(leased)


async def test_a_lease_that_is_made_shorter_wakes_who_waits(server, schema):
    async with opened(server.url, schema=schema) as one, opened(server.url, schema=schema) as two:
        await one.enqueue(job())
        leased = await take(one)
        waiting = begin(two)
        await asyncio.sleep(0.05)
        await one.extend(leased, duration=timedelta(milliseconds=1))
        assert (await soon(waiting)).attempt == 2


# Processes and servers that die


async def test_a_job_of_a_process_that_was_killed_is_due_again(server, schema):
    clock = ManualClock(datetime.now(UTC))
    with another_process(server, schema, "wait_for_job", "reports") as process:
        assert told(process) == "ready"
        async with opened(server.url, schema=schema) as bridge:
            await bridge.enqueue(job("x"))
            assert told(process) == ["x", 1]
            process.kill()
            assert await take(bridge) is None
    async with opened(server.url, schema=schema, clock=clock) as later:
        await clock.advance(timedelta(minutes=5))
        assert (await take(later)).attempt == 2


async def test_nothing_is_lost_when_the_server_is_killed(server, schema):
    async with opened(server.url, schema=schema, timeout=SECOND) as bridge:
        await bridge.enqueue(job("waiting"))
        await bridge.enqueue(job("leased"))
        leased = await take(bridge)
        with away(server), pytest.raises(BridgeError):
            await bridge.enqueue(job("refused"))
        await bridge.ack(leased)
        assert (await take(bridge)).job.message.id == "leased"
        assert await take(bridge) is None


async def test_a_lease_that_waits_goes_on_by_itself_when_the_server_is_back(server, schema):
    url = f"{server.url}?application_name={schema}"
    async with opened(url, schema=schema, timeout=SECOND) as bridge:
        waiting, brief = begin(bridge), asyncio.create_task(take(bridge, wait=SECOND))
        await until(lambda: listeners(server, schema))
        with away(server):
            await until(lambda: bridge.health.state == "down")
            assert await soon(brief) is None
            await asyncio.sleep(1)
            with pytest.raises(BridgeError, match="queue bridge 'postgresql://"):
                await soon(take(bridge, wait=None))
        await bridge.enqueue(job())
        assert (await soon(waiting)).attempt == 1


async def test_an_outage_is_logged_once_as_it_begins_and_once_as_it_ends(server, schema, caplog):
    caplog.set_level(logging.INFO, "purista")
    async with opened(server.url, schema=schema) as bridge:
        await bridge.connect()
        waiting = [begin(bridge, queue=f"q{number}") for number in range(5)]
        assert bridge.health.state == "up"
        with away(server):
            patient = asyncio.create_task(bridge.enqueue(job(queue="q0")))
            await until(lambda: bridge.health.state == "down")
            assert "see that it is reachable" in bridge.health.reason
            await asyncio.sleep(0.5)
        assert await soon(patient) is True
        await soon(waiting[0])
        for one in waiting:
            one.cancel()
        assert (bridge.health.state, bridge.health.reason) == ("up", "")
    assert bridge.health.state == "closed"
    down, up = (record.getMessage() for record in caplog.records)
    assert "see that it is reachable" in down
    assert f"', schema '{schema}': it is back after " in up
    assert PASSWORD not in down + up


async def test_a_call_outlasts_the_loss_of_every_connection_it_is_made_over(server, schema):
    mine = f"{server.url}?application_name={schema}"
    async with opened(mine, schema=schema) as bridge:
        await asyncio.gather(*(bridge.enqueue(job(str(number))) for number in range(20)))
        for _ in range(3):
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
                schema,
            )
            await bridge.ack(await take(bridge))
        assert bridge.health.state == "up"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda server: server.url.replace("open", "shut"), "password authentication failed"),
        (lambda server: server.url_of("nowhere"), 'database "nowhere" does not exist'),
    ],
)
async def test_what_waiting_cannot_mend_is_refused_at_once(server, wrong, said):
    async with opened(wrong(server)) as bridge:
        assert bridge.health.state == "idle"
        for call in (bridge.connect(), bridge.enqueue(job()), take(bridge, wait=None)):
            async with asyncio.timeout(3):
                with pytest.raises(BridgeError, match=said):
                    await call


async def test_connecting_waits_as_long_as_it_is_told_to(server, schema):
    async with opened(server.url, schema=schema) as bridge:
        with away(server):
            with pytest.raises(BridgeError, match="queue bridge 'postgresql://"):
                await soon(bridge.connect(patience=timedelta(milliseconds=200)))
            connecting = asyncio.create_task(bridge.connect())
            await until(lambda: bridge.health.state == "down")
        await soon(connecting)
        assert bridge.health.state == "up"
    with pytest.raises(BridgeClosedError):
        await bridge.connect()
    assert isinstance(bridge, Connects)


# Calls that are made again, as their answer was lost


def called(server, schema, function, *values):
    """Call one of the bridge's functions as the bridge does."""
    places = ", ".join(["%s"] * len(values))
    return server.execute(f"SELECT {schema}.{function}({places})", *values)[0][0]


def enqueue(server, schema, call, *, caller=7, key=None):
    job = "reports", f"{call}", '{"run": null}', b"{}", 5, 0, key, 10**9, None
    return called(server, schema, "enqueue_2", caller, call, *job)


@pytest.fixture
async def prepared(server, schema, bridge):
    await bridge.connect()
    return server, schema


def count(server, schema, table):
    return server.execute(f"SELECT count(*) FROM {schema}.{table}")[0][0]


@pytest.mark.parametrize("key", [None, "key"])
def test_an_enqueue_that_is_made_again_stores_nothing_and_answers_the_same(prepared, key):
    assert [enqueue(*prepared, 1, key=key) for _ in range(3)] == [True] * 3
    assert count(*prepared, "jobs") == 1
    assert enqueue(*prepared, 2, key=key) is (key is None)
    assert enqueue(*prepared, 2, key=key) is (key is None)


@pytest.mark.parametrize("key", [None, "key"])
def test_an_enqueue_that_arrives_after_its_caller_has_gone_on_stores_nothing(prepared, key):
    enqueue(*prepared, 2)
    assert enqueue(*prepared, 1, key=key) is False
    assert (count(*prepared, "jobs"), count(*prepared, "job_keys")) == (1, 0)


async def test_what_is_settled_again_by_the_same_call_is_no_lease_lost(prepared, bridge):
    for number in range(3):
        await bridge.enqueue(job(str(number)))
    first, second, third = [(await take(bridge)).token for _ in range(3)]
    ack = partial(called, *prepared, "ack_2")
    nack = partial(called, *prepared, "nack_2")
    assert [ack(7, 1, first), ack(7, 1, first), ack(7, 2, first)] == [True, True, False]
    again = None, "no", None
    assert [nack(7, call, second, *again) for call in (3, 3, 4)] == [True, True, None]
    later = timedelta(1), "no", None
    assert [nack(7, call, third, *later) for call in (5, 5, 6)] == [False, False, None]


async def test_dead_letters_that_are_moved_again_by_the_same_call_are_counted_once(
    prepared, bridge
):
    for function, rest in (("redrive_2", (None,)), ("purge_letters_2", ())):
        await bridge.enqueue(job())
        await bridge.nack(await take(bridge), retry_in=None, reason="no")
        call = partial(called, *prepared, function)
        numbers = (1, 1, 2) if rest else (3, 3, 4)
        assert [call(7, number, "reports", None, *rest) for number in numbers] == [1, 1, 0]
        await take(bridge)


async def test_callers_are_few_and_forgotten_in_time(prepared, bridge, monkeypatch):
    monkeypatch.setattr(postgres_jobs, "CALLS", 10)
    for number in range(35):
        await bridge.enqueue(job(str(number)))
    server, schema = prepared
    assert count(*prepared, "callers") == 4
    server.execute(f"UPDATE {schema}.callers SET began_at = began_at - interval '25 hours'")
    for number in range(10):
        await bridge.enqueue(job(str(number)))
    assert count(*prepared, "callers") == 1


# Older versions


VERSION_1 = Migrations("queues", MIGRATIONS.steps[:1], by_hand="x")


@pytest.fixture
def version_1(server, schema):
    server.execute(VERSION_1.sql(schema))
    server.execute(ENQUEUE_1.format(schema=schema), "old")
    return schema


ENQUEUE_1 = """
SELECT {schema}.enqueue_1('reports', %s, '{{"run": null, "headers": null, "delay": [0, 0, 0],
    "key": null, "dedupe_window": [7, 0, 0]}}', '{{}}', 5, interval '0', NULL, interval '0', NULL)
"""


async def test_the_jobs_of_version_1_are_worked_on(server, version_1):
    async with opened(server.url, schema=version_1) as bridge:
        leased = await take(bridge)
        await bridge.ack(leased)
    query = f"SELECT version FROM {version_1}.versions WHERE part = 'queues'"
    assert (leased.job.message.id, server.execute(query)) == ("old", [(2,)])


async def test_a_process_of_version_1_goes_on_beside_one_of_version_2(server, version_1):
    async with opened(server.url, schema=version_1) as bridge:
        waiting = [begin(bridge) for _ in range(2)]
        await soon(waiting[0])
        server.execute(ENQUEUE_1.format(schema=version_1), "new")
        await bridge.nack(await soon(waiting[1]), retry_in=NOW, reason="again")
        ((token, attempt),) = server.execute(
            f"SELECT lease, attempt FROM {version_1}.lease_1('reports', '{{1 day}}', NULL)"
        )
        assert attempt == 2
        assert server.execute(f"SELECT {version_1}.ack_1(%s)", token) == [(True,)]


async def test_a_listener_whose_connection_alone_is_lost_is_replaced(server, schema):
    async with opened(f"{server.url}?application_name={schema}", schema=schema) as bridge:
        waiting = begin(bridge)
        await until(lambda: listeners(server, schema))
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = %s AND query LIKE 'LISTEN%%'",
            schema,
        )
        await until(lambda: listeners(server, schema))
        await bridge.enqueue(job())
        assert (await soon(waiting)).attempt == 1


# Closing, errors


async def test_closing_leaves_no_connection_even_when_jobs_are_settled_after_it(server, schema):
    bridge = PostgresQueueBridge(f"{server.url}?application_name={schema}", schema=schema)
    await bridge.enqueue(job())
    leased, waiting = await take(bridge), begin(bridge)
    await until(lambda: listeners(server, schema))
    await bridge.close()
    with pytest.raises(BridgeClosedError, match="queue 'reports': the bridge to 'postgresql://"):
        await waiting
    await bridge.ack(leased)
    mine = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
    await until(lambda: server.execute(mine, schema) == [(0,)])


async def test_a_server_that_is_away_is_an_error_that_names_it_and_no_password():
    async with opened("postgresql://me:hunter2@127.0.0.1:1/purista", timeout=SECOND) as bridge:
        for call in (bridge.enqueue(job()), take(bridge), take(bridge, wait=None)):
            with pytest.raises(BridgeError) as caught:
                await soon(call)
            assert str(caught.value).startswith(
                "queue bridge 'postgresql://127.0.0.1:1/purista', schema 'purista': "
            )
            assert "hunter2" not in str(caught.value)


def test_an_address_or_a_schema_that_cannot_be_is_refused(server):
    with pytest.raises(BridgeError, match="its address cannot be read"):
        PostgresQueueBridge("hunter2")
    with pytest.raises(BridgeError, match="is no plain name"):
        PostgresQueueBridge(server.url, schema="A b")


async def test_a_row_that_cannot_be_read_is_an_error_and_not_a_wait_for_ever(
    server, schema, bridge
):
    await bridge.enqueue(job())
    server.execute(f"UPDATE {schema}.jobs SET envelope = 'no JSON'")
    with pytest.raises(BridgeError, match="cannot be read"):
        await soon(take(bridge, wait=None))


# Transactions of others


async def test_an_enlisted_job_is_enqueued_with_the_transaction_of_another(server, bridge):
    waiting = begin(bridge)
    async with await psycopg.AsyncConnection.connect(server.url) as connection:
        assert await bridge.enlisted(job("first", key="k"))(connection) is True
        assert await bridge.enlisted(job("second", key="k"))(connection) is False
        assert not waiting.done(), "it is not committed"
        await connection.commit()
        bridge.wake("reports")
        assert (await soon(waiting)).job == job("first", key="k")


async def test_an_enlisted_job_is_gone_with_the_transaction_of_another(server, bridge):
    async with await psycopg.AsyncConnection.connect(server.url) as connection:
        await bridge.enlisted(job(key="k"))(connection)
        await connection.rollback()
    assert await take(bridge) is None
    assert await bridge.enqueue(job(key="k"))


async def test_a_closed_bridge_enlists_nothing(server, bridge):
    await bridge.close()
    with pytest.raises(BridgeClosedError):
        await bridge.enlisted(job())(None)
    bridge.wake("reports")


def test_the_store_shows_no_password(server):
    store = PostgresQueueBridge(server.url).store
    assert store == f"postgresql://127.0.0.1:{server.port}/postgres"
    assert PASSWORD not in store

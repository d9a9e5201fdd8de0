"""What the SQLite queue bridge promises beyond the port."""

import asyncio
import contextlib
import json
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from purista.bridges import DeadLetters, EnlistedQueues, Job
from purista.bridges import sqlite_schema as schema
from purista.bridges.sqlite_queues import SQLiteQueueBridge
from purista.bridges.sqlite_rows import Lent
from purista.clock import SystemClock
from purista.errors import BridgeClosedError, BridgeError, LeaseLostError
from purista.ledgers.sqlite import SQLiteLedger
from purista.message import Message, RunInfo, new_message_id
from purista.testing import ManualClock, QueueBridgeSuite
from purista.testing.ledger_suite import proposal

PROGRAM = Path(__file__).parent / "programs" / "queue_user.py"
NOW = timedelta(0)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
START = datetime(2027, 1, 1, tzinfo=UTC)
RUN = RunInfo("run-1", "billing.v1.monthly", START, "UTC", is_target=True)
PATIENCE = 30


class TestSQLiteQueueBridge(QueueBridgeSuite):
    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        async with opened(self.path, clock=clock) as bridge:
            yield bridge

    def setup_method(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "queues.sqlite"

    def teardown_method(self):
        self.folder.cleanup()


@contextlib.asynccontextmanager
async def opened(path, **options):
    bridge = SQLiteQueueBridge(path, **({"synchronous": "normal"} | options))
    try:
        yield bridge
    finally:
        await bridge.close()


@pytest.fixture
def path(tmp_path: Path):
    return tmp_path / "queues.sqlite"


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
async def bridge(path, clock):
    async with opened(path, clock=clock) as bridge:
        yield bridge


@contextlib.contextmanager
def another_process(path, what, *arguments):
    """Run the program; it is killed when the block ends."""
    command = [sys.executable, str(PROGRAM), str(path), what, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process):
    return json.loads(process.stdout.readline())


def go_on(process):
    process.stdin.write("\n")
    process.stdin.flush()


def job(word="1", queue="reports", **options):
    return Job(Message(queue, b'{"secret": "hunter2"}', f"id-{word}", RUN), **options)


def take(bridge, duration=DAY, queue="reports", wait=NOW):
    return bridge.lease(queue, duration=duration, wait=wait)


def begin(bridge, duration=DAY, queue="reports"):
    return asyncio.create_task(take(bridge, duration, queue, wait=None))


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, PATIENCE)


async def leased_ids(bridge, queue="reports"):
    """Lease all jobs that are due; return the ids of their messages."""
    found = []
    while (leased := await take(bridge, queue=queue)) is not None:
        found.append(leased.job.message.id)
    return found


def count(path, table):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def is_intact(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def names(folder):
    return [one.name for one in folder.iterdir()]


async def refusal(path, **options):
    """Return what the first call says."""
    async with opened(path, **options) as bridge:
        with pytest.raises(BridgeError) as caught:
            await bridge.enqueue(job())
    text = str(caught.value)
    assert text.startswith(f"queues '{path}': ")
    assert "hunter2" not in text
    return text


# Jobs


async def test_it_has_dead_letters_and_can_be_enlisted(bridge):
    assert isinstance(bridge, DeadLetters)
    assert isinstance(bridge, EnlistedQueues)


async def test_a_job_comes_back_as_it_was_after_a_restart(path, clock):
    full = Job(
        Message("reports", b"", "id", RUN, {"traceparent": "00-1", "tracestate": ""}),
        max_attempts=7,
        delay=timedelta(days=999, microseconds=1),
        key="it's\x00",
        dedupe_window=timedelta.max,
    )
    bare = Job(Message("reports", b"\x00\xff", "", None, None), delay=-SECOND)
    async with opened(path, clock=clock) as bridge:
        await bridge.enqueue(full)
        await bridge.enqueue(bare)
    async with opened(path, clock=clock) as bridge:
        await clock.advance(timedelta(days=1000))
        assert [(await take(bridge)).job, (await take(bridge)).job] == [bare, full]


async def test_names_may_hold_anything(bridge):
    odd = ['it\'s "quoted"; --', "Zürich 日本 🕐", "a\x00b", "a", "%_?", "x" * 10_000, ""]
    for name in odd:
        message = Message(name, b"1", name, RUN._replace(run_id=name), {name: name})
        await bridge.enqueue(Job(message, key=name))
    for name in odd:
        leased = await take(bridge, queue=name)
        assert (leased.job.message.id, leased.job.key) == (name, name)
        assert await bridge.nack(leased, retry_in=None, reason=name)
        (letter,) = await bridge.dead_letters(name)
        assert letter.reason == name


async def test_text_that_is_no_unicode_is_an_error_and_changes_nothing(bridge):
    with pytest.raises(BridgeError, match="surrogates not allowed"):
        await bridge.enqueue(job("\ud800"))
    with pytest.raises(BridgeError, match="too large"):
        await bridge.enqueue(job(max_attempts=1 << 63))
    assert await take(bridge) is None


async def test_durations_may_be_as_long_as_they_can(bridge, clock):
    await bridge.enqueue(job("1", delay=timedelta.max))
    await bridge.enqueue(job("2"))
    leased = await take(bridge, duration=timedelta.max)
    await bridge.extend(leased, duration=timedelta.max)
    await bridge.nack(leased, retry_in=timedelta.max, reason="later")
    waiting = asyncio.create_task(bridge.lease("reports", duration=DAY, wait=timedelta.max))
    await clock.advance(timedelta(days=10_000))
    assert not waiting.done()
    await bridge.enqueue(job("3"))
    assert (await soon(waiting)).job == job("3")


async def test_jobs_that_become_due_line_up_behind_those_that_are(bridge, clock):
    await bridge.enqueue(job("delayed", delay=SECOND))
    await bridge.enqueue(job("first"))
    await bridge.enqueue(job("second"))
    first = await take(bridge)
    await clock.advance(SECOND / 2)
    await bridge.nack(first, retry_in=NOW, reason="again")
    await clock.advance(SECOND / 2)
    await bridge.enqueue(job("last"))
    assert await leased_ids(bridge) == ["id-second", "id-first", "id-delayed", "id-last"]


async def test_thousands_of_dead_letters_are_redriven_in_order(bridge):
    names = [str(number) for number in range(2_000)]
    await asyncio.gather(*(bridge.enqueue(job(name, max_attempts=1)) for name in names))
    leased = await asyncio.gather(*(take(bridge) for _ in names))
    nacks = (bridge.nack(one, retry_in=NOW, reason="no paper") for one in leased)
    assert all(await asyncio.gather(*nacks))
    assert await bridge.redrive("reports", message_id="id-7") == 1
    assert len(await bridge.dead_letters("reports")) == 1_999
    assert await bridge.redrive("reports") == 1_999
    leased = await asyncio.gather(*(take(bridge) for _ in names))
    assert [one.job.message.id for one in leased[:4]] == ["id-7", "id-0", "id-1", "id-2"]


async def test_more_leases_that_ran_out_than_a_step_buries_hide_no_job(bridge, clock):
    for number in range(250):
        await bridge.enqueue(job(str(number), max_attempts=1))
    await asyncio.gather(*(take(bridge, SECOND) for _ in range(250)))
    await clock.advance(SECOND)
    await bridge.enqueue(job("good"))
    assert (await take(bridge)).job == job("good")
    assert len(await bridge.dead_letters("reports")) == 250


async def test_leases_that_ran_out_are_seen_as_dead_letters_by_who_asks(bridge, clock):
    for number in range(150):
        await bridge.enqueue(job(str(number), max_attempts=1))
    await asyncio.gather(*(take(bridge, SECOND) for _ in range(150)))
    assert await bridge.dead_letters("reports") == []
    await clock.advance(SECOND)
    letters = await bridge.dead_letters("reports")
    assert len(letters) == 150
    assert (letters[0].attempts, letters[0].died_at) == (1, START + SECOND)
    assert letters[0].reason == "the lease ran out in attempt 1, the last"


async def test_a_lease_that_ran_out_is_warned_of_without_its_payload(bridge, clock, caplog):
    await bridge.enqueue(job())
    await take(bridge, SECOND)
    await clock.advance(SECOND)
    with caplog.at_level(logging.WARNING, "purista.bridges"):
        await take(bridge)
    assert [record.getMessage() for record in caplog.records] == [
        "queue reports: the lease of job id-1 ran out in attempt 1 of 5, run run-1"
    ]


async def test_what_ran_out_can_be_settled_until_somebody_takes_it(bridge, clock):
    for word in "12":
        await bridge.enqueue(job(word))
    first, second = await take(bridge, SECOND), await take(bridge, SECOND)
    await clock.advance(2 * SECOND)
    await bridge.ack(first)
    assert (await take(bridge)).job == second.job
    with pytest.raises(LeaseLostError, match="job id-2, attempt 1: its lease ran out or it was"):
        await bridge.ack(second)


# Keys


async def test_keys_are_forgotten_after_their_windows(bridge, path, clock):
    for number in range(640):
        await bridge.enqueue(job(str(number), key=str(number), dedupe_window=SECOND))
        await bridge.ack(await take(bridge))
        if number % 10 == 0:
            await clock.advance(SECOND)
    assert count(path, "queue_keys") <= 64
    assert count(path, "queue_jobs") == 0


async def test_a_key_outlives_the_process(path, clock):
    async with opened(path, clock=clock) as bridge:
        assert await bridge.enqueue(job("1", key="k"))
    async with opened(path, clock=clock) as bridge:
        assert not await bridge.enqueue(job("2", key="k"))


async def test_of_many_bridges_one_brings_a_key(path):
    async with contextlib.AsyncExitStack() as stack:
        bridges = [await stack.enter_async_context(opened(path)) for _ in range(8)]
        brought = [one.enqueue(job(str(number), key="k")) for number, one in enumerate(bridges)]
        assert sorted(await asyncio.gather(*brought)) == [False] * 7 + [True]


# Calls that wait


async def test_waiting_leases_are_served_in_the_order_they_came(bridge):
    waiting = [begin(bridge) for _ in range(120)]
    assert await bridge.dead_letters("reports") == []
    waiting.pop(2).cancel()
    for number in range(119):
        await bridge.enqueue(job(str(number)))
    leased = await soon(asyncio.gather(*waiting))
    assert [one.job.message.id for one in leased] == [f"id-{number}" for number in range(119)]


async def test_each_waiting_lease_gets_its_own_duration(bridge, clock):
    waiting = [begin(bridge, SECOND), begin(bridge, DAY)]
    for word in "12":
        await bridge.enqueue(job(word))
    await soon(asyncio.gather(*waiting))
    await clock.advance(SECOND)
    assert await leased_ids(bridge) == ["id-1"]


async def test_a_lease_made_shorter_wakes_who_waits(bridge, clock):
    await bridge.enqueue(job())
    leased, waiting = await take(bridge), begin(bridge)
    await bridge.extend(leased, duration=SECOND)
    await clock.advance(SECOND)
    assert (await soon(waiting)).attempt == 2


async def test_cancelled_leases_keep_no_job_whenever_it_is(path):
    async with opened(path) as bridge:
        for number in range(60):
            await bridge.enqueue(job(str(number)))
        kept = []
        for number in range(300):
            lease = begin(bridge)
            await asyncio.wait([lease], timeout=0 if number % 3 else 0.001)
            lease.cancel()
            await asyncio.wait([lease])
            if not lease.cancelled():
                kept.append(lease.result())
        rest = [await soon(begin(bridge)) for _ in range(60 - len(kept))]
        assert {one.attempt for one in [*kept, *rest]} == {1}
        found = [int(one.job.message.id.removeprefix("id-")) for one in [*kept, *rest]]
        assert sorted(found) == list(range(60))
        assert await take(bridge) is None


async def test_a_cancelled_enqueue_wakes_who_waits_if_it_was_done(bridge):
    waiting = begin(bridge)
    assert await bridge.dead_letters("reports") == []
    for number in range(50):
        enqueue = asyncio.create_task(bridge.enqueue(job(str(number))))
        await asyncio.sleep(0)
        enqueue.cancel()
        await asyncio.wait([enqueue])
    for _ in range(2):
        assert await bridge.dead_letters("reports") == []
    left = await take(bridge)
    assert waiting.done() or left is None


async def test_wake_makes_a_waiting_lease_look_at_once(path, clock):
    """The manual clock stands still: nobody polls."""
    async with opened(path, clock=clock) as bridge, opened(path, clock=clock) as other:
        waiting = begin(bridge)
        assert await bridge.dead_letters("reports") == []
        await other.enqueue(job())
        bridge.wake("another queue")
        bridge.wake("reports")
        assert (await soon(waiting)).job == job()


async def test_a_waiting_lease_sees_what_another_connection_did_at_the_next_poll(path, clock):
    async with opened(path, clock=clock) as bridge, opened(path, clock=clock) as other:
        waiting = begin(bridge)
        assert await bridge.dead_letters("reports") == []
        await other.enqueue(job(delay=SECOND))
        while not waiting.done():
            await clock.advance(timedelta(milliseconds=100))
            await bridge.dead_letters("another queue")
        assert START + SECOND <= clock.now() <= START + 2 * SECOND


async def test_no_poll_is_pending_when_nobody_waits(path, clock):
    async with opened(path, clock=clock) as bridge:
        waiting = begin(bridge)
        await clock.settle()
        waiting.cancel()
        await asyncio.wait([waiting])
        await clock.advance(SECOND)
        await bridge.dead_letters("reports")
        await clock.advance(SECOND)
        assert clock.next_timer is None


async def test_a_lease_that_cannot_look_raises(path):
    options = {"busy_timeout": timedelta(milliseconds=20), "poll_interval": DAY}
    async with opened(path, **options) as bridge:
        assert await take(bridge) is None
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = [begin(bridge), begin(bridge)]
            for error in await soon(asyncio.gather(*waiting, return_exceptions=True)):
                assert "another process kept it locked" in str(error)
            other.execute("ROLLBACK")
        await bridge.enqueue(job())
        assert (await take(bridge)).attempt == 1


async def test_a_lease_that_waits_raises_when_news_cannot_be_read(path, clock):
    async with opened(path, clock=clock) as bridge:
        waiting = begin(bridge)
        assert await bridge.dead_letters("reports") == []
        with contextlib.closing(sqlite3.connect(path)) as other, other:
            other.execute("UPDATE queue_file SET version = 99")
        while not waiting.done():
            await clock.advance(timedelta(milliseconds=100))
        with pytest.raises(BridgeError, match="its queues have version 99"):
            await waiting


async def test_a_lease_that_cannot_be_given_back_is_told_of_and_runs_out(path, clock, caplog):
    options = {"busy_timeout": timedelta(milliseconds=20), "clock": clock}
    async with opened(path, **options) as bridge:
        await bridge.enqueue(job())
        leased = await take(bridge, SECOND)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            bridge._give_back([Lent(leased, 0)])
            await bridge.close()
        assert "a lease that nobody saw could not be undone; it runs out" in caplog.text
    async with opened(path, clock=clock) as bridge:
        await clock.advance(SECOND)
        assert (await take(bridge)).attempt == 2


async def test_a_lease_must_last(bridge):
    await bridge.enqueue(job())
    leased = await take(bridge)
    for call in (take(bridge, NOW), bridge.extend(leased, duration=-SECOND)):
        with pytest.raises(ValueError, match="use a positive duration"):
            await call


# Time


class SetClock(SystemClock):
    """The machine's clock, as somebody set it."""

    __slots__ = ("offset",)

    def __init__(self, offset=NOW):
        self.offset = offset

    def now(self):
        return super().now() + self.offset


@pytest.fixture
def boot(tmp_path, monkeypatch):
    """The file in which the system tells one start from the next."""
    boot = tmp_path / "boot_id"
    boot.write_text("first\n")
    monkeypatch.setattr(schema, "_BOOT_ID", boot)
    return boot


@pytest.mark.parametrize("offset", [-DAY, DAY])
async def test_a_clock_that_is_set_moves_nothing_that_is_due(path, boot, offset):
    async with opened(path) as one:
        await one.enqueue(job("leased"))
        leased = await take(one, timedelta(hours=1))
        await one.enqueue(
            job("delayed", delay=timedelta(hours=1), key="k", dedupe_window=SECOND * 60)
        )
        await one.enqueue(job("due"))
        async with opened(path, clock=SetClock(offset)) as other:
            assert await leased_ids(other) == ["id-due"]
            assert not await other.enqueue(job("again", key="k"))
        await one.ack(leased)


async def test_time_goes_on_by_the_clock_when_the_machine_starts_again(path, boot):
    async with opened(path) as bridge:
        await bridge.enqueue(job("leased"))
        await take(bridge, timedelta(hours=1))
        await bridge.enqueue(job("delayed", delay=timedelta(hours=3)))
    boot.write_text("second\n")
    async with opened(path, clock=SetClock(timedelta(hours=2))) as bridge:
        assert await leased_ids(bridge) == ["id-leased"]
    boot.write_text("third\n")
    async with opened(path, clock=SetClock(timedelta(hours=4))) as bridge:
        assert await leased_ids(bridge) == ["id-delayed"]


async def test_a_machine_that_starts_in_the_past_still_finds_its_jobs(path, boot):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
    boot.write_text("second\n")
    async with opened(path, clock=SetClock(-3650 * DAY)) as bridge:
        assert (await soon(begin(bridge))).job == job()


async def test_without_a_sign_of_the_start_the_time_of_day_counts(path, boot):
    boot.unlink()
    async with opened(path) as bridge:
        await bridge.enqueue(job("due"))
        await bridge.enqueue(job("delayed", delay=timedelta(hours=1)))
        assert await leased_ids(bridge) == ["id-due"]
    async with opened(path, clock=SetClock(timedelta(hours=2))) as bridge:
        assert await leased_ids(bridge) == ["id-delayed"]


# Several processes


async def test_of_several_processes_each_job_goes_to_one(path):
    async with opened(path) as bridge:
        jobs = [job(str(number)) for number in range(200)]
        await asyncio.gather(*(bridge.enqueue(one) for one in jobs))
        with contextlib.ExitStack() as stack:
            processes = [stack.enter_context(another_process(path, "work")) for _ in range(3)]
            assert [told(process) for process in processes] == ["ready"] * 3
            for process in processes:
                go_on(process)
            done = [name for process in processes for name in told(process)]
        assert sorted(done) == sorted(one.message.id for one in jobs)
        assert count(path, "queue_jobs") == 0


async def test_a_waiting_lease_gets_the_job_of_another_process(path):
    async with opened(path) as bridge:
        waiting = begin(bridge)
        with another_process(path, "enqueue", "theirs") as process:
            assert await asyncio.to_thread(told, process) == "ready"
            go_on(process)
            assert (await soon(waiting)).job.message.id == "theirs"
            assert await asyncio.to_thread(told, process) is True


async def test_the_job_of_a_killed_process_comes_back(path):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
        with another_process(path, "lease", 0.5) as process:
            assert await asyncio.to_thread(told, process) == "id-1"
        assert process.returncode < 0
        leased = await soon(begin(bridge))
        assert (leased.job, leased.attempt) == (job(), 2)
    assert is_intact(path)


async def test_no_job_that_was_enqueued_is_lost_when_the_process_is_killed(path):
    with another_process(path, "enqueue_without_end") as process:
        returned = [told(process) for _ in range(100)]
    assert process.returncode < 0
    assert is_intact(path)
    async with opened(path) as bridge:
        assert (await leased_ids(bridge))[:100] == returned


async def test_many_may_open_a_new_file_at_once(tmp_path):
    for number in range(5):
        async with contextlib.AsyncExitStack() as stack:
            path = tmp_path / f"{number}.sqlite"
            users = [await stack.enter_async_context(opened(path)) for _ in range(4)]
            ledgers = [SQLiteLedger(path) for _ in range(4)]
            for ledger in ledgers:
                stack.push_async_callback(ledger.close)
            enqueues = [one.enqueue(job(new_message_id())) for one in users]
            decisions = [one.decide(proposal()) for one in ledgers]
            await asyncio.gather(*enqueues, *decisions)
            assert (count(path, "queue_jobs"), count(path, "runs")) == (4, 1)


# Closing


def threads():
    return [one for one in threading.enumerate() if one.name.startswith("purista-queues")]


async def test_closing_ends_the_thread_and_leaves_one_file(path):
    before = threads()
    async with opened(path) as bridge:
        await asyncio.gather(*(bridge.enqueue(job(str(one))) for one in range(20)))
        waiting = begin(bridge, queue="another")
        await asyncio.sleep(0)
        (thread,) = set(threads()) - set(before)
    with pytest.raises(BridgeClosedError, match="queue 'another': the SQLite bridge is closed"):
        await waiting
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert names(path.parent) == [path.name]


async def test_a_lease_that_comes_while_the_bridge_closes_is_given_back(path):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
        waiting = begin(bridge)
        await asyncio.sleep(0)
        await bridge.close()
        with pytest.raises(BridgeClosedError):
            await waiting
    async with opened(path) as bridge:
        assert (await take(bridge)).attempt == 1


async def test_what_is_settled_after_closing_closes_the_file_again(path):
    async with opened(path) as bridge:
        for word in "12":
            await bridge.enqueue(job(word))
        first, second = await take(bridge), await take(bridge)
        await bridge.close()
        await bridge.ack(first)
        assert await bridge.nack(second, retry_in=None, reason="stop")
        assert len(await bridge.dead_letters("reports")) == 1
        assert await bridge.purge("reports") == 1
        with pytest.raises(BridgeClosedError):
            await bridge.redrive("reports")
        with pytest.raises(BridgeClosedError):
            bridge.enlisted(job())
    for thread in threads():
        thread.join(PATIENCE)
    assert names(path.parent) == [path.name]


async def test_nothing_is_made_before_the_first_call(path):
    before = threads()
    async with opened(path):
        assert not path.exists()
        assert set(threads()) <= set(before)


# What is wrong with a file


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_queues_without_a_file_are_the_memory_bridge(path):
    with pytest.raises(BridgeError, match="use MemoryQueueBridge"):
        SQLiteQueueBridge(path)


async def test_a_directory_that_is_not_there_is_named(tmp_path):
    text = await refusal(tmp_path / "no" / "queues.sqlite")
    assert f"there is no directory '{tmp_path / 'no'}'; create it" in text


async def test_the_database_of_another_program_is_left_as_it_is(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()
    assert "it is the SQLite database of another program" in await refusal(path)
    assert path.read_bytes() == before


async def test_queues_of_a_newer_version_are_left_as_they_are(path):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE queue_file SET version = 99")
    assert "its queues have version 99, this purista knows 1; use" in await refusal(path)


async def test_queues_that_somebody_changed_are_an_error(path):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE queue_file RENAME COLUMN shift TO other")
    assert "no such column: shift; try again" in await refusal(path)


async def test_queues_of_a_newer_version_take_no_job_from_a_ledger(path):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE queue_file SET version = 99")
        enqueue = SQLiteQueueBridge(path).enlisted(job("2"))
        with pytest.raises(BridgeError, match="its queues have version 99"):
            enqueue(connection)
    assert count(path, "queue_jobs") == 1


async def test_a_ledger_of_a_newer_version_does_not_concern_its_queues(path):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    async with opened(path) as bridge:
        assert await leased_ids(bridge) == ["id-1"]


async def test_a_damaged_file_is_an_error_with_a_remedy(path):
    async with opened(path) as bridge:
        await bridge.enqueue(job())
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert "it is damaged; restore it, or move it away" in await refusal(path)


async def test_a_file_that_is_locked_for_long_is_an_error_and_then_works(path):
    async with opened(path, busy_timeout=timedelta(milliseconds=20)) as bridge:
        await bridge.enqueue(job("1"))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BridgeError, match="another process kept it locked"):
                await bridge.enqueue(job("2"))
            other.execute("ROLLBACK")
        assert await leased_ids(bridge) == ["id-1"]


def test_a_file_that_may_only_be_read_is_an_error_with_a_remedy():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "queues.sqlite"
        path.touch()
        with another_process(path, "write_to_read_only", path) as process:
            text = told(process)
    assert text.startswith(f"queues '{path}': it cannot be ")
    assert text.endswith("make the file and its directory writable for this user")


def test_a_full_disk_is_an_error_and_then_works():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queues.sqlite"
        with another_process(path, "write_to_full_disk") as process:
            errors, left = {told(process), told(process)}, [told(process), told(process)]
            assert process.wait() == 0
        assert errors == {
            f"queues '{path}': the disk could not read or write it; see the system's log"
        }
        assert left == ["before", "after"]
        assert is_intact(path)

import asyncio
import contextlib
import contextvars
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from purista.bridges import Job
from purista.bridges.sqlite_queues import SQLiteQueueBridge
from purista.errors import LedgerError
from purista.ledgers import EnlistingLedger, Verdict
from purista.ledgers.sqlite import SQLiteLedger
from purista.message import Message
from purista.testing import LedgerSuite
from purista.testing.ledger_suite import LEASE, SECOND, START, proposal

PROGRAM = Path(__file__).parent / "programs" / "ledger_user.py"


class TestSQLiteLedger(LedgerSuite):
    @contextlib.asynccontextmanager
    async def ledger(self):
        with tempfile.TemporaryDirectory() as folder:
            async with opened(Path(folder) / "ledger.sqlite") as ledger:
                yield ledger


@contextlib.asynccontextmanager
async def opened(path, **options):
    ledger = SQLiteLedger(path, **({"synchronous": "normal"} | options))
    try:
        yield ledger
    finally:
        await ledger.close()


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


def is_intact(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def names(folder):
    return [one.name for one in folder.iterdir()]


def counts(path):
    tables = ("runs", "skips", "records")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in tables]


async def refusal(path, **options):
    """Return what the first call says."""
    async with opened(path, **options) as ledger:
        with pytest.raises(LedgerError) as caught:
            await ledger.decide(proposal())
    assert str(caught.value).startswith(f"ledger '{path}': ")
    return str(caught.value)


# What survives


async def test_everything_survives_closing_and_opening(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path, synchronous="full") as ledger:
        first = await ledger.decide(proposal(run_id="r"))
        await ledger.decide(proposal(key="late", verdict=Verdict.LATE))
        before = (await ledger.runs(), await ledger.records(), await ledger.latest(first.run_id))
    async with opened(path, synchronous="full") as ledger:
        after = (await ledger.runs(), await ledger.records(), await ledger.latest(first.run_id))
        assert after == before
        again = await ledger.decide(proposal(run_id="r", now=START + LEASE))
        assert again.taken_over
        assert again.token > first.token


@pytest.mark.parametrize(("step", "status"), [("decided", "claimed"), ("dispatched", "active")])
async def test_a_redelivery_takes_over_from_a_process_that_was_killed(
    tmp_path: Path, step: str, status: str
):
    path = tmp_path / "ledger.sqlite"
    with another_process(path, "claim", step) as process:
        token = told(process)
    assert process.returncode < 0
    assert is_intact(path)
    async with opened(path) as ledger:
        run = await ledger.run("r")
        assert (run.status, run.token, run.owner) == (status, token, "killed")
        early = await ledger.decide(proposal(run_id="r", owner="next", now=START + SECOND))
        assert (early.verdict, early.retry_after) == ("duplicate", LEASE - SECOND)
        again = await ledger.decide(proposal(run_id="r", owner="next", now=START + LEASE))
        assert (again.verdict, again.run_id, again.taken_over) == ("accepted", "r", True)
        assert again.token > token


async def test_no_claim_that_returned_is_lost_when_the_process_is_killed(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with another_process(path, "claim_without_end") as process:
        returned = {told(process) for _ in range(100)}
    assert process.returncode < 0
    assert is_intact(path)
    async with opened(path) as ledger:
        known = {run.run_id for run in await ledger.runs(limit=100_000)}
    assert returned <= known


# Several processes


def test_of_several_processes_exactly_one_accepts_a_key(tmp_path: Path):
    path, keys = tmp_path / "ledger.sqlite", 60
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(another_process(path, "race", name, keys)) for name in "abcd"
        ]
        assert [told(process) for process in processes] == ["ready"] * 4
        for process in processes:
            go_on(process)
        accepted = [key for process in processes for key in told(process)]
        assert [process.wait() for process in processes] == [0] * 4
    assert sorted(accepted) == sorted(f"key {number}" for number in range(keys))
    assert counts(path) == [keys, 0, 4 * keys]
    assert is_intact(path)


async def test_many_may_open_a_new_file_at_once(tmp_path: Path):
    for number in range(10):
        async with contextlib.AsyncExitStack() as stack:
            path = tmp_path / f"{number}.sqlite"
            ledgers = [await stack.enter_async_context(opened(path)) for _ in range(8)]
            rulings = await asyncio.gather(*(one.decide(proposal(run_id="r")) for one in ledgers))
            assert sorted(one.verdict for one in rulings) == ["accepted"] + ["duplicate"] * 7


async def test_two_ledgers_on_one_file_see_each_other(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path) as one, opened(path) as other:
        first = await one.decide(proposal(run_id="r", owner="one"))
        assert (await other.decide(proposal(run_id="r", owner="other"))).verdict == "duplicate"
        again = await other.decide(proposal(run_id="r", owner="other", now=START + LEASE))
        assert again.taken_over
        assert not await one.dispatched("r", first.token, lease_until=None)
        assert (await one.run("r")).owner == "other"


async def test_a_file_that_is_locked_for_long_is_an_error_and_then_works(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path, busy_timeout=timedelta(milliseconds=20)) as ledger:
        await ledger.decide(proposal(run_id="r"))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(LedgerError, match="another process kept it locked"):
                await ledger.decide(proposal(run_id="r"))
            other.execute("ROLLBACK")
        assert (await ledger.decide(proposal(run_id="r"))).verdict == "duplicate"


async def test_a_new_file_that_is_locked_for_long_is_an_error(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        text = await refusal(path, busy_timeout=timedelta(milliseconds=20))
    assert "another process kept it locked" in text


@contextlib.contextmanager
def held(path, kind):
    """Hold the new file so that it can be read, but not be switched to WAL."""
    with contextlib.closing(
        sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute(f"BEGIN {kind}")
        other.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield other


@pytest.mark.parametrize("kind", ["DEFERRED", "IMMEDIATE"])
async def test_a_new_file_that_is_held_for_long_is_an_error(tmp_path: Path, kind: str):
    path = tmp_path / "ledger.sqlite"
    with held(path, kind):
        text = await refusal(path, busy_timeout=timedelta(milliseconds=20))
    assert "another process kept it locked" in text


@pytest.mark.parametrize("kind", ["DEFERRED", "IMMEDIATE"])
async def test_a_new_file_that_is_held_for_a_moment_is_waited_for(tmp_path: Path, kind: str):
    path = tmp_path / "ledger.sqlite"
    with held(path, kind) as other:
        threading.Timer(0.05, lambda: other.execute("ROLLBACK")).start()
        async with opened(path) as ledger:
            assert (await ledger.decide(proposal())).verdict == "accepted"


# One thread, cancellation, closing


def threads():
    return [one for one in threading.enumerate() if one.name.startswith("purista-ledger")]


async def test_closing_ends_the_thread_and_leaves_one_file(tmp_path: Path):
    path, before = tmp_path / "ledger.sqlite", threads()
    async with opened(path) as ledger:
        await asyncio.gather(*(ledger.decide(proposal(key=str(one))) for one in range(20)))
        (thread,) = set(threads()) - set(before)
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert names(tmp_path) == [path.name]


async def test_closing_waits_for_what_was_begun(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    ledger = SQLiteLedger(path)
    pending = [asyncio.create_task(ledger.decide(proposal(key=str(one)))) for one in range(20)]
    await asyncio.sleep(0)
    await ledger.close()
    assert len(await asyncio.gather(*pending)) == 20


async def test_a_closed_ledger_says_so(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path / "ledger.sqlite")
    await ledger.close()
    with pytest.raises(LedgerError, match="it is closed; make a new one"):
        await ledger.decide(proposal())


async def test_nothing_is_made_before_the_first_call(tmp_path: Path):
    before = threads()
    ledger = SQLiteLedger(tmp_path / "ledger.sqlite")
    assert names(tmp_path) == []
    assert set(threads()) <= set(before)
    await ledger.close()


async def test_a_cancelled_caller_leaves_each_step_done_or_not_begun(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path) as ledger:
        tasks = [
            asyncio.create_task(ledger.decide(proposal(key=str(one), run_id=str(one))))
            for one in range(60)
        ]
        for task in tasks:
            await asyncio.wait([tasks[0]], timeout=0)
            task.cancel()
        rulings = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in rulings} & {asyncio.CancelledError}
        runs = {run.run_id for run in await ledger.runs(limit=1000)}
        records = {record.run_id for record in await ledger.records(limit=1000)}
        assert runs == records
        for one in range(60):
            ruling = await ledger.decide(proposal(key=str(one), run_id=str(one)))
            assert ruling.verdict == ("duplicate" if str(one) in runs else "accepted")
    assert is_intact(path)


async def test_a_cancelled_close_still_ends_the_thread(tmp_path: Path):
    ledger, before = SQLiteLedger(tmp_path / "ledger.sqlite"), threads()
    await ledger.decide(proposal())
    (thread,) = set(threads()) - set(before)
    closing = asyncio.create_task(ledger.close())
    await asyncio.sleep(0)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


def test_a_ledger_serves_one_event_loop_after_another(tmp_path: Path):
    ledger = SQLiteLedger(tmp_path / "ledger.sqlite")
    assert asyncio.run(ledger.decide(proposal(run_id="r"))).verdict == "accepted"
    assert asyncio.run(ledger.decide(proposal(run_id="r"))).verdict == "duplicate"
    asyncio.run(ledger.close())


# Steps that share a transaction


async def test_a_step_that_fails_does_not_undo_those_it_shares_a_transaction_with(tmp_path: Path):
    async with opened(tmp_path / "ledger.sqlite") as ledger:
        names = [f"{one}\ud800" if one % 5 == 0 else str(one) for one in range(50)]
        calls = (ledger.decide(proposal(key=name, run_id=name)) for name in names)
        rulings = await asyncio.gather(*calls, return_exceptions=True)
        failed = [isinstance(ruling, LedgerError) for ruling in rulings]
        assert failed == [one % 5 == 0 for one in range(50)]
        assert len(await ledger.runs()) == len(await ledger.records()) == 40


async def test_decisions_that_share_a_transaction_see_each_other(tmp_path: Path):
    async with opened(tmp_path / "ledger.sqlite") as ledger:
        await ledger.decide(proposal(key="before"))
        calls = [
            ledger.decide(proposal(key=str(one), run_id=str(one), concurrency_policy="replace"))
            for one in range(20)
        ]
        rulings = await asyncio.gather(*calls)
        assert [ruling.token for ruling in rulings] == list(range(2, 22))
        cancelled = [run_id for ruling in rulings[1:] for run_id in ruling.cancelled]
        assert cancelled == [str(one) for one in range(19)]


# One transaction with a queue


REPORTS = Job(Message("reports", b"{}", "id-1", headers={"traceparent": "00-1"}), key="2027-03")


@contextlib.asynccontextmanager
async def shared(path):
    async with opened(path) as ledger:
        queues = SQLiteQueueBridge(path, synchronous="normal")
        try:
            yield ledger, queues
        finally:
            await queues.close()


async def leased_job(queues):
    leased = await queues.lease("reports", duration=LEASE, wait=timedelta(0))
    return None if leased is None else leased.job


async def test_a_ledger_that_enlists_says_which_file_it_is(tmp_path: Path):
    async with shared(tmp_path / "one.sqlite") as (ledger, queues):
        assert isinstance(ledger, EnlistingLedger)
        assert ledger.store == queues.store
        async with opened(tmp_path / "two.sqlite") as other:
            assert other.store != queues.store


@pytest.mark.parametrize("first", ["ledger", "queues", "neither"])
async def test_a_decision_and_its_job_are_one_step(tmp_path: Path, first: str):
    async with shared(tmp_path / "one.sqlite") as (ledger, queues):
        if first == "queues":
            assert await leased_job(queues) is None
        elif first == "ledger":
            await ledger.runs()
        ruling = await ledger.decide_and_enlist(
            proposal(run_id="r"), lambda _: queues.enlisted(REPORTS)
        )
        run = await ledger.run("r")
        assert (ruling.verdict, ruling.run_id, ruling.token) == ("accepted", "r", run.token)
        assert (run.status, run.lease_until) == ("active", None)
        assert await leased_job(queues) == REPORTS


async def test_work_is_told_the_ruling_and_not_called_for_a_refusal(tmp_path: Path):
    told = []
    async with shared(tmp_path / "one.sqlite") as (ledger, queues):

        def work(ruling):
            told.append(ruling)
            return queues.enlisted(REPORTS)

        first = await ledger.decide_and_enlist(proposal(run_id="r"), work)
        for verdict in (Verdict.ACCEPTED, Verdict.DISABLED):
            again = await ledger.decide_and_enlist(proposal(run_id="r", verdict=verdict), work)
            assert again.verdict == "duplicate"
        assert told == [first]


async def test_work_that_fails_leaves_nothing_decided(tmp_path: Path):
    async with shared(tmp_path / "one.sqlite") as (ledger, queues):

        def work(ruling):
            def enlisted(connection):
                queues.enlisted(REPORTS)(connection)
                raise ValueError("hunter2")

            return enlisted

        with pytest.raises(LedgerError) as caught:
            await ledger.decide_and_enlist(proposal(run_id="r"), work)
        assert str(caught.value).endswith("ValueError in what was enlisted; nothing was decided")
        assert (await ledger.run("r"), await ledger.records()) == (None, [])
        assert await leased_job(queues) is None


async def test_work_that_the_file_refuses_leaves_nothing_decided(tmp_path: Path):
    async with opened(tmp_path / "one.sqlite") as ledger:
        with pytest.raises(LedgerError, match="no such table: nowhere"):
            await ledger.decide_and_enlist(
                proposal(run_id="r"),
                lambda _: lambda connection: connection.execute("DELETE FROM nowhere"),
            )
        assert await ledger.run("r") is None


async def test_a_closed_queue_leaves_nothing_decided(tmp_path: Path):
    async with shared(tmp_path / "one.sqlite") as (ledger, queues):
        await queues.close()
        with pytest.raises(LedgerError, match="the SQLite bridge is closed"):
            await ledger.decide_and_enlist(proposal(run_id="r"), lambda _: queues.enlisted(REPORTS))
        assert await ledger.run("r") is None


async def test_a_job_that_is_known_is_not_enqueued_again_but_the_run_is_accepted(tmp_path: Path):
    async with shared(tmp_path / "one.sqlite") as (ledger, queues):
        await queues.enqueue(REPORTS)
        ruling = await ledger.decide_and_enlist(
            proposal(run_id="r"), lambda _: queues.enlisted(REPORTS)
        )
        assert ruling.verdict == "accepted"
        assert [await leased_job(queues), await leased_job(queues)] == [REPORTS, None]


async def test_work_has_the_context_of_its_caller(tmp_path: Path):
    word = contextvars.ContextVar("word", default="nothing")
    heard = []
    async with opened(tmp_path / "one.sqlite") as ledger:
        word.set("caller's")
        await ledger.decide_and_enlist(
            proposal(), lambda _: lambda connection: heard.append(word.get())
        )
    assert heard == ["caller's"]


@pytest.mark.parametrize("step", [1, 4, 5, 6, 7, 8])
async def test_a_kill_between_decision_job_and_dispatch_leaves_both_or_nothing(
    tmp_path: Path, step: int
):
    """From the first statement of the enqueue to COMMIT, which is the sixth, and beyond."""
    path = tmp_path / "one.sqlite"
    async with shared(path) as (_, queues):
        assert await leased_job(queues) is None
    with another_process(path, "enlist", step) as process:
        returned = process.stdout.readline()
        process.kill()
    async with shared(path) as (ledger, queues):
        run, job = await ledger.run("r"), await leased_job(queues)
    assert (run is not None, job is not None) in ((True, True), (False, False))
    assert (returned != "") <= (run is not None)
    assert run is None or run.status == "active"


# What is wrong with a file


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path):
    text = await refusal(tmp_path / "no" / "ledger.sqlite")
    assert f"there is no directory '{tmp_path / 'no'}'; create it" in text


async def test_a_directory_may_be_created_after_the_first_error(tmp_path: Path):
    async with opened(tmp_path / "new" / "ledger.sqlite") as ledger:
        with pytest.raises(LedgerError):
            await ledger.decide(proposal())
        (tmp_path / "new").mkdir()
        assert (await ledger.decide(proposal())).verdict == "accepted"


async def test_a_directory_is_no_ledger(tmp_path: Path):
    assert "it is a directory; name a file in it" in await refusal(tmp_path)


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_ledger_without_a_file_is_the_memory_ledger(path: str):
    with pytest.raises(LedgerError, match="use MemoryLedger"):
        SQLiteLedger(path)


async def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    async with opened("ledger.sqlite") as ledger:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        await ledger.decide(proposal())
    assert (tmp_path / "ledger.sqlite").is_file()


async def test_a_path_may_have_an_odd_name(tmp_path: Path):
    path = tmp_path / "file:ledger?mode=memory %20 é.sqlite"
    async with opened(path) as ledger:
        await ledger.decide(proposal())
    assert path.is_file()


async def test_an_empty_file_becomes_a_ledger(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    path.touch()
    async with opened(path) as ledger:
        assert (await ledger.decide(proposal())).verdict == "accepted"


async def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("no database at all " * 100)
    assert "it is not a SQLite database; name another file" in await refusal(path)
    assert path.read_text() == "no database at all " * 100


async def test_the_database_of_another_program_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()
    assert "it is the SQLite database of another program" in await refusal(path)
    assert path.read_bytes() == before


async def test_a_ledger_of_a_newer_version_is_left_as_it_is(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path) as ledger:
        await ledger.decide(proposal())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "its schema has version 99, this purista knows 2; use" in await refusal(path)


async def test_a_damaged_file_is_an_error_with_a_remedy(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path) as ledger:
        await ledger.decide(proposal())
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    assert "it is damaged; restore it, or move it away" in await refusal(path)


def test_a_file_that_may_only_be_read_is_an_error_with_a_remedy():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "ledger.sqlite"
        path.touch()
        with another_process(path, "write_to_read_only", path) as process:
            text = told(process)
    assert text.startswith(f"ledger '{path}': it cannot be ")
    assert text.endswith("make the file and its directory writable for this user")


def test_a_full_disk_is_an_error_and_then_works():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        with another_process(path, "write_to_full_disk") as process:
            text, accepted, again = [told(process) for _ in range(3)]
            assert process.wait() == 0
        assert text == f"ledger '{path}': the disk could not read or write it; see the system's log"
        assert (accepted, again) == (True, "accepted")
        assert is_intact(path)


async def test_text_that_is_no_unicode_is_an_error_and_changes_nothing(tmp_path: Path):
    async with opened(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(LedgerError, match="surrogates not allowed"):
            await ledger.decide(proposal(source="\ud800"))
        assert await ledger.runs() == []
        assert (await ledger.decide(proposal())).verdict == "accepted"


# What is kept


async def test_the_file_is_in_wal_mode_and_bears_its_marks(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path) as ledger:
        await ledger.decide(proposal())
    with contextlib.closing(sqlite3.connect(path)) as connection:
        names = ("journal_mode", "application_id", "user_version")
        marks = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]
    assert marks == ["wal", int.from_bytes(b"PURI"), 2]


async def test_instants_are_integer_microseconds_in_utc(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path) as ledger:
        await ledger.decide(proposal(now=START + timedelta(microseconds=1)))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (claimed_at,) = connection.execute("SELECT claimed_at FROM runs").fetchone()
    assert claimed_at == int(START.timestamp()) * 1_000_000 + 1


async def test_a_ledger_does_not_grow_for_ever(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path, retention=timedelta(days=1)) as ledger:
        for day in range(1000):
            now = START + timedelta(days=day)
            verdict = Verdict.LATE if day % 2 else Verdict.ACCEPTED
            await ledger.decide(
                proposal(nominal_time=now, now=now, verdict=verdict, dedupe_window=SECOND)
            )
    assert all(count <= 64 for count in counts(path)), counts(path)


async def test_a_purge_leaves_the_file_to_others_in_between(tmp_path: Path):
    path, later = tmp_path / "ledger.sqlite", START + timedelta(days=90)
    async with opened(path) as ledger, opened(path) as other:
        names = [str(one) for one in range(3000)]
        late = {"verdict": Verdict.LATE}
        await asyncio.gather(*(ledger.decide(proposal(key=one, **late)) for one in names))
        purging = asyncio.create_task(ledger.purge(later))
        decided = 0
        while not purging.done():
            await other.decide(proposal(key=f"other {decided}", run_id=f"other {decided}"))
            decided += 1
        assert decided >= 6
        assert await purging >= 6000


async def test_nonces_do_not_grow_for_ever(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    async with opened(path) as ledger:
        for number in range(300):
            now = START + number * SECOND
            await ledger.use_nonce(str(number), now=now, kept_until=now + 5 * SECOND)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            (count,) = connection.execute("SELECT count(*) FROM nonces").fetchone()
        assert count <= 6


async def test_tokens_grow_even_when_nothing_is_remembered(tmp_path: Path):
    nothing = timedelta(0)
    async with opened(tmp_path / "ledger.sqlite", retention=nothing) as ledger:
        tokens = []
        for number in range(70):
            short = {"dedupe_window": nothing, "run_timeout": nothing}
            ruling = await ledger.decide(proposal(key=str(number), run_id=str(number), **short))
            tokens.append(ruling.token)
    assert tokens == sorted(set(tokens))

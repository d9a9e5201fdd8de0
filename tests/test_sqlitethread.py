import asyncio
import contextlib
import sqlite3
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from purista.errors import LedgerError
from purista.sqlitefile import SQLiteFile
from purista.sqlitethread import SQLiteThread

PATIENCE = 10


class Numbers:
    subject = "numbers"
    error = LedgerError

    def problem(self, connection):
        return ""

    def is_made(self, connection):
        return connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,)

    def make(self, connection):
        connection.execute("CREATE TABLE numbers (number INTEGER)")


def made(path):
    file = SQLiteFile(path, Numbers(), busy_timeout=timedelta(seconds=15), synchronous="normal")
    return SQLiteThread(file, name=f"numbers {path}")


@pytest.fixture
def path(tmp_path: Path):
    return tmp_path / "numbers.sqlite"


@pytest.fixture
async def thread(path: Path):
    thread = made(path)
    yield thread
    await thread.close()


def add(number):
    return lambda connection: connection.execute("INSERT INTO numbers VALUES (?)", (number,))


def known(connection):
    return [number for (number,) in connection.execute("SELECT number FROM numbers")]


def seen(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return known(connection)


@contextlib.contextmanager
def held(thread):
    """Keep the thread at work on a step that is begun."""
    begun, go_on = threading.Event(), threading.Event()

    def work(connection):
        begun.set()
        assert go_on.wait(PATIENCE)

    step = thread.write(work)
    assert begun.wait(PATIENCE)
    try:
        yield step
    finally:
        go_on.set()


def has_ended(path):
    """Wait for the thread to end, if there is one."""
    for one in threading.enumerate():
        if one.name == f"numbers {path}":
            one.join(PATIENCE)
    return all(one.name != f"numbers {path}" for one in threading.enumerate())


async def test_steps_that_wait_share_the_next_transaction(thread, path):
    await thread.write(add(0))
    with held(thread):
        steps = [thread.write(lambda _: seen(path)) for _ in range(3)]
        steps.insert(1, thread.write(add(1)))
        steps.append(thread.write(lambda _: seen(path)))
    first, _, *others = await asyncio.gather(*steps)
    assert [first, *others] == [[0]] * 4
    assert seen(path) == [0, 1]


async def test_reads_see_what_was_written_before(thread):
    with held(thread):
        reading = thread.read(known)
        adding = thread.write(add(1))
    assert await reading == [1]
    await adding


async def test_a_step_that_is_cancelled_before_it_begins_is_never_done(thread, path):
    with held(thread) as holding:
        cancelled, kept = thread.write(add(1)), thread.write(add(2))
        reading = thread.read(known)
        cancelled.cancel()
        reading.cancel()
    await asyncio.gather(holding, kept)
    assert seen(path) == [2]


async def test_what_a_cancelled_step_did_is_told_in_the_event_loop(thread):
    landed, begun, go_on = asyncio.Event(), threading.Event(), threading.Event()

    def work(connection):
        begun.set()
        assert go_on.wait(PATIENCE)
        return "done"

    told = []
    step = thread.write(work, lambda value: (told.append(value), landed.set()))
    await asyncio.to_thread(begun.wait, PATIENCE)
    step.cancel()
    go_on.set()
    await asyncio.wait_for(landed.wait(), PATIENCE)
    assert told == ["done"]


async def test_nothing_is_told_of_a_step_that_failed(thread):
    def work(connection):
        raise KeyError("no")

    told = []
    with pytest.raises(KeyError):
        await thread.write(work, told.append)
    assert told == []


async def test_more_steps_than_share_a_transaction_are_all_done(thread, path):
    with held(thread):
        steps = [thread.write(add(number)) for number in range(1000)]
    await asyncio.gather(*steps)
    assert seen(path) == list(range(1000))


async def test_closing_finishes_what_was_begun_and_may_be_repeated(path):
    thread = made(path)
    steps = [thread.write(add(number)) for number in range(10)]
    await asyncio.gather(thread.close(), thread.close())
    assert seen(path) == list(range(10))
    assert all(step.done() for step in steps)
    await thread.close()
    assert [one.name for one in path.parent.iterdir()] == [path.name]


async def test_closing_what_was_never_used_makes_nothing(path):
    await made(path).close()
    assert not path.exists()
    assert has_ended(path)


async def test_a_step_after_closing_is_done_by_itself(path):
    thread = made(path)
    await thread.write(add(1))
    await thread.close()
    await thread.write(add(2))
    assert has_ended(path)
    assert seen(path) == [1, 2]
    assert [one.name for one in path.parent.iterdir()] == [path.name]


async def test_closing_after_an_error_does_not_open_the_file_anew(tmp_path):
    path = tmp_path / "no" / "numbers.sqlite"
    thread = made(path)
    with pytest.raises(LedgerError):
        await thread.write(add(1))
    await thread.close()
    assert has_ended(path)


def test_a_loop_that_is_gone_holds_up_nobody(path):
    thread = made(path)

    async def leave():
        thread.write(add(1))

    async def come():
        return await thread.read(known)

    asyncio.run(leave())
    assert asyncio.run(come()) == [1]
    asyncio.run(thread.close())


async def test_several_loops_use_one_thread(thread):
    def work():
        return asyncio.run(one_loop())

    async def one_loop():
        for number in range(50):
            await thread.write(add(number))

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(4)))
    assert sorted(await thread.read(known)) == sorted([*range(50)] * 4)

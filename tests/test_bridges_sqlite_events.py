"""The SQLite event bridge."""

import asyncio
import contextlib
import sqlite3
from datetime import timedelta

import pytest

from purista.bridges import EventDeadLetters, Reply
from purista.bridges.sqlite_events import SQLiteEventBridge
from purista.errors import BridgeError, PayloadError
from purista.message import Message, new_message_id
from purista.subscribing import SubscriptionOptions
from purista.testing import EventBridgeSuite
from purista.testing.bridge_suite import Inbox

EVERY = SubscriptionOptions(every_instance=True)


class TestSQLiteEventBridge(EventBridgeSuite):
    @pytest.fixture(autouse=True)
    def file(self, tmp_path):
        self.path = tmp_path / "events.sqlite"

    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        bridge = SQLiteEventBridge(self.path, clock=clock)
        try:
            yield bridge
        finally:
            await bridge.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.sqlite"


@contextlib.asynccontextmanager
async def opened(path, **options):
    bridge = SQLiteEventBridge(path, **options)
    try:
        yield bridge
    finally:
        await bridge.close()


def message(event="due"):
    return Message(event, b'{"secret": 1}', new_message_id())


async def soon(awaitable):
    async with asyncio.timeout(10):
        return await awaitable


def rows(path, query):
    with contextlib.closing(sqlite3.connect(path)) as file:
        return file.execute(query).fetchall()


def change(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as file:
        file.execute(statement)
        file.commit()


async def test_events_wait_for_a_subscriber_that_is_away_and_no_longer_than_that(path):
    inbox = Inbox()
    async with opened(path) as bridge:
        await (await bridge.subscribe("due", "one", inbox)).cancel()
        await bridge.publish(message())
    async with opened(path) as bridge:
        await bridge.subscribe("due", "one", inbox)
        await soon(inbox.holds(1))
    async with opened(path, keep=timedelta(0)) as bridge:
        await (await bridge.subscribe("due", "one", inbox)).cancel()
        await bridge.publish(message())
        await bridge.subscribe("other", "two", inbox)
    assert rows(path, "SELECT count(*) FROM queue_jobs") == [(0,)]


async def test_an_instance_that_was_killed_is_forgotten_with_what_waits_for_it(path):
    inbox = Inbox()
    async with opened(path) as bridge:
        await bridge.subscribe("due", "one", inbox, options=EVERY)
        change(
            path, "INSERT INTO event_members SELECT kind, name, 'x', boot, until FROM event_members"
        )
        await bridge.publish(message())
        await soon(inbox.holds(1))
        waiting = "SELECT count(*) FROM queue_jobs WHERE queue = 'x'"
        assert rows(path, waiting) == [(1,)]
        change(path, "UPDATE event_members SET until = 1 WHERE queue = 'x'")
        await bridge.publish(message())
        await soon(inbox.holds(2))
        assert rows(path, waiting) == [(1,)]
        await bridge.subscribe("due", "two", inbox, options=EVERY)
        assert rows(path, waiting) == [(0,)]
        assert rows(path, "SELECT count(*) FROM event_members") == [(2,)]


async def test_an_instance_that_left_leaves_nothing(path):
    inbox = Inbox()
    async with opened(path) as bridge:
        subscription = await bridge.subscribe("due", "one", inbox, options=EVERY)
        await bridge.publish(message())
        await soon(inbox.holds(1))
        await subscription.cancel()
        await bridge.publish(message())
    assert rows(path, "SELECT count(*) FROM event_members") == [(0,)]
    assert rows(path, "SELECT count(*) FROM queue_jobs") == [(0,)]


async def test_a_reply_to_a_caller_that_is_gone_is_not_kept(path):
    gate, asked = asyncio.Event(), asyncio.Event()

    async def answer(_):
        asked.set()
        await gate.wait()
        return Reply(b"1")

    async with opened(path) as bridge:
        await bridge.serve("sum", answer)
        async with opened(path) as caller:
            await caller.request(message("sum"), timeout=timedelta(seconds=0.2))
            await soon(asked.wait())
        gate.set()
    assert rows(path, "SELECT queue FROM queue_jobs") == []


async def test_a_file_of_a_newer_version_is_refused(path):
    async with opened(path) as bridge:
        await bridge.publish(message())
    change(path, "UPDATE event_file SET version = 99")
    async with opened(path) as bridge:
        with pytest.raises(BridgeError, match="its events have version 99, this purista knows 1"):
            await bridge.publish(message())


async def test_ten_thousand_events_reach_two_subscribers_once_each(path):
    inboxes = [Inbox(), Inbox()]
    sent = [message() for _ in range(10_000)]
    async with opened(path, synchronous="normal") as bridge:
        for number, inbox in enumerate(inboxes):
            await bridge.subscribe("due", f"subscriber {number}", inbox)
        await asyncio.gather(*(bridge.publish(one) for one in sent))
        async with asyncio.timeout(60):
            for inbox in inboxes:
                await inbox.holds(len(sent))
    for inbox in inboxes:
        assert sorted(inbox.ids) == sorted(one.id for one in sent)


async def test_dead_letters_of_odd_names_are_told_apart(path):
    async def fail(_):
        raise PayloadError([])

    names = [("a/b", "c"), ("a", "b/c"), ("a b", "*"), ("größe", "nul\0")]
    async with opened(path) as bridge:
        assert isinstance(bridge, EventDeadLetters)
        for event, subscriber in names:
            await bridge.subscribe(event, subscriber, fail)
            await bridge.publish(message(event))
        for event, subscriber in names:
            async with asyncio.timeout(10):
                while not await bridge.dead_letters(event, subscriber):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert len(await bridge.dead_letters(event, subscriber)) == 1

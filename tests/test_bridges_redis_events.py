"""The Redis event bridge on a real Valkey server."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from tests.engines.ports import HOST, free_port
from tests.engines.valkey import valkey_server

from purista.bridges.port import ATTEMPT, Reply
from purista.bridges.redis_event_deadletters import AT_ONCE
from purista.bridges.redis_event_names import Names, group
from purista.bridges.redis_event_scripts import PUBLISH, SWEEP
from purista.bridges.redis_events import RedisEventBridge
from purista.bridges.redis_server import RedisServer
from purista.clock import SystemClock
from purista.contract import Backoff
from purista.errors import BridgeError, PayloadError
from purista.message import Message, new_message_id
from purista.subscribing import SubscriptionOptions
from purista.testing import EventBridgeSuite
from purista.testing.bridge_suite import Inbox

SECOND = timedelta(seconds=1)
SHORT = timedelta(seconds=0.3)
EVERY = SubscriptionOptions(every_instance=True)
QUICK = Backoff(initial=timedelta(milliseconds=20), factor=1, jitter=0)
ODD = ["a b/c:d", "*", "..", "größe>", "%3A", "{x}", "A", "a", "a:b", "new\nline", "nul\0"]


@pytest.fixture(scope="module")
def server():
    with valkey_server(durable=True) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


@contextlib.asynccontextmanager
async def opened(url, **options):
    bridge = RedisEventBridge(url, **options)
    try:
        yield bridge
    finally:
        await bridge.close()


def name(word="event"):
    return f"{word}-{new_message_id()}"


def message(event, body=b"{}"):
    return Message(event, body, new_message_id())


def options(**changes):
    return SubscriptionOptions(**{"backoff": QUICK, **changes})


async def soon(awaitable, seconds=10):
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not (found := condition()):  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(0.01)
        return found


async def refused(call):
    with pytest.raises(BridgeError) as caught:
        await soon(call)
    return str(caught.value)


class TestRedisEventBridge(EventBridgeSuite):
    unit = timedelta(seconds=0.3)

    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.url = server.url

    def clock(self):
        return SystemClock()

    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        async with opened(self.url, clock=clock) as bridge:
            yield bridge


async def test_an_event_that_a_stranger_adds_is_received_at_once(server, client):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", inbox)
        fields = {"ce-specversion": "1.0", "ce-type": event, "ce-source": "cli", "ce-id": "4711"}
        client.xadd(f"purista:events:{event}", {**fields, "data": '{"a": 1}'})
        await soon(inbox.holds(1), seconds=5)
        assert inbox.messages == [Message(event, b'{"a": 1}', "4711", None, {"ce-source": "cli"})]


async def test_what_a_stranger_adds_without_an_id_keeps_one_through_its_attempts(server, client):
    event, inbox = name(), Inbox()

    async def fail(one):
        await inbox(one)
        if ATTEMPT.get() < 2:
            raise RuntimeError
        if len(inbox.ids) == 2:
            raise PayloadError("payload: wrong")

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", fail, options=options())
        entry = client.xadd(f"purista:events:{event}", {"data": "7"})
        await soon(inbox.holds(2))
        await until(lambda: client.xlen(f"purista:dead:{event}:one"))
        (letter,) = await bridge.dead_letters(event, "one")
        await bridge.redrive(event, "one")
        await soon(inbox.holds(3))
        assert {*inbox.ids, letter.message.id} == {f"{event}:{entry}"}


async def test_what_cannot_be_read_as_a_message_is_a_dead_letter(server, client):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", inbox)
        client.xadd(f"purista:events:{event}", {"ce-puristarun": "7", "data": "{}"})
        await until(lambda: client.xlen(f"purista:dead:{event}:one"))
        (letter,) = await bridge.dead_letters(event, "one")
        assert "run" in letter.reason
        assert inbox.ids == []


@pytest.mark.parametrize("headers", ["xx", "[1]"])
async def test_whatever_a_stranger_adds_the_next_event_is_received(server, client, headers):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", inbox)
        client.xadd(f"purista:events:{event}", {"purista-headers": headers, "data": "1"})
        client.xadd(f"purista:events:{event}", {"data": "2"})
        await soon(inbox.holds(1))
        await until(lambda: client.xlen(f"purista:dead:{event}:one"))
        (letter,) = await bridge.dead_letters(event, "one")
    assert [one.body for one in inbox.messages] == [b"2"]
    assert "cannot be read" in letter.reason


async def test_names_of_any_characters_are_kept_apart(server):
    inboxes, base = {}, name()
    async with opened(server.url) as bridge:
        for event in ODD:
            for subscriber in ODD[:3]:
                inbox = inboxes[event, subscriber] = Inbox()
                await bridge.subscribe(base + event, subscriber, inbox)
        for event in ODD:
            await bridge.publish(message(base + event))
        for inbox in inboxes.values():
            await soon(inbox.holds(1))
        await asyncio.sleep(0.1)
        found = {key: [one.name for one in inbox.messages] for key, inbox in inboxes.items()}
        assert found == {key: [base + key[0]] for key in inboxes}


async def test_dead_letters_of_odd_names_are_kept_apart(server, client):
    base = name()

    async def refuse(_):
        raise PayloadError("no")

    async with opened(server.url) as bridge:
        for event, subscriber in (("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")):
            await bridge.subscribe(base + event, subscriber, refuse)
            await bridge.publish(message(base + event))
        for event, subscriber in (("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c")):
            key = Names("purista").letters(base + event, subscriber)
            await until(lambda key=key: client.xlen(key))
            letters = await bridge.dead_letters(base + event, subscriber)
            assert [letter.event for letter in letters] == [base + event]


async def test_headers_that_are_called_like_fields_of_an_entry_arrive(server):
    event, inbox = name(), Inbox()
    sent = Message(event, b"1", "id", None, {"data": "x", "purista:id": "y", "purista:wake": "z"})
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", inbox)
        await bridge.publish(sent)
        await soon(inbox.holds(1))
        assert inbox.messages == [sent]


async def test_a_name_that_is_no_unicode_is_refused(server):
    async with opened(server.url) as bridge:
        assert "Unicode" in await refused(bridge.publish(message("\ud800")))


async def test_messages_of_several_megabytes_arrive(server):
    event, inbox = name(), Inbox()
    body = json.dumps("x" * 8_000_000).encode()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", inbox)
        for _ in range(3):
            await bridge.publish(message(event, body))
        await soon(inbox.holds(3))
        assert {one.body for one in inbox.messages} == {body}


async def test_ten_thousand_events_are_handled_once_each_by_two_processes_worth_of_bridges(
    server, client
):
    event, inbox = name(), Inbox()
    messages = [message(event) for _ in range(10_000)]
    async with opened(server.url) as here, opened(server.url) as there:
        await here.subscribe(event, "one", inbox)
        await there.subscribe(event, "one", inbox)
        left = iter(messages)

        async def publish():
            for one in left:
                await here.publish(one)

        await asyncio.gather(*(publish() for _ in range(50)))
        await soon(inbox.holds(10_000), 30)
    assert sorted(inbox.ids) == sorted(one.id for one in messages)
    assert client.xpending(f"purista:events:{event}", "one")["pending"] == 0


async def test_a_failing_event_is_not_tried_in_a_hot_loop(server, client):
    event, inbox = name(), Inbox()

    async def fail(one):
        await inbox(one)
        raise RuntimeError

    slow = Backoff(initial=timedelta(seconds=30), jitter=0)
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", fail, options=options(backoff=slow))
        await bridge.publish(message(event))
        await until(lambda: client.zcard(f"purista:retries:{event}:one"))
        client.config_resetstat()
        await asyncio.sleep(0.5)
        calls = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        assert (len(inbox.ids), calls < 5) == (1, True)


async def test_an_event_whose_receiver_is_gone_counts_as_tried_and_goes_to_another(server, client):
    event, attempts = name(), []

    async def receive(_):
        attempts.append(ATTEMPT.get())

    async with opened(server.url) as bridge:
        gone = await bridge.subscribe(event, "one", receive)
        await gone.cancel()
        await bridge.publish(message(event))
        client.xreadgroup("one", "ghost", {f"purista:events:{event}": ">"})
        await bridge.subscribe(event, "one", receive, options=options(lease=SHORT))
        await until(lambda: attempts)
        assert attempts == [2]


async def test_an_event_that_kills_its_receivers_becomes_a_dead_letter(server, client):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge:
        gone = await bridge.subscribe(event, "one", inbox)
        await gone.cancel()
        await bridge.publish(message(event))
        client.xreadgroup("one", "ghost", {f"purista:events:{event}": ">"})
        once = options(lease=SHORT, max_attempts=1)
        await bridge.subscribe(event, "one", inbox, options=once)
        await until(lambda: client.xlen(f"purista:dead:{event}:one"))
        (letter,) = await bridge.dead_letters(event, "one")
        assert (letter.attempts, "sign of life" in letter.reason) == (1, True)
        assert inbox.ids == []


async def test_a_receiver_whose_event_was_given_to_another_is_cancelled_and_settles_nothing(
    server, client
):
    event, told = name(), asyncio.Event()

    async def receive(_):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.set()
            raise

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", receive, options=options(lease=SHORT * 2))
        await bridge.publish(message(event))
        stream = f"purista:events:{event}"
        (entry,) = await until(lambda: client.xpending_range(stream, "one", "-", "+", 1))
        client.xclaim(stream, "one", "another", 0, [entry["message_id"]])
        await soon(told.wait())
        (entry,) = client.xpending_range(stream, "one", "-", "+", 1)
        assert (entry["consumer"], entry["times_delivered"]) == ("another", 2)


async def test_a_receiver_that_was_too_slow_settles_nothing(server, client):
    event, gate, done = name(), asyncio.Event(), Inbox()

    async def receive(one):
        await gate.wait()
        await done(one)

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", receive)
        await bridge.publish(message(event))
        stream = f"purista:events:{event}"
        (entry,) = await until(lambda: client.xpending_range(stream, "one", "-", "+", 1))
        # The same consumer, as if it had been given back to it: only the delivery's number differs.
        client.xclaim(stream, "one", entry["consumer"], 0, [entry["message_id"]])
        gate.set()
        await soon(done.holds(1))
        await asyncio.sleep(0.1)
        assert client.xpending(stream, "one")["pending"] == 1


async def test_what_was_handed_over_on_a_lost_connection_is_taken_up_at_once(server, client):
    event, attempts = name(), []

    async def receive(_):
        attempts.append(ATTEMPT.get())

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", receive)
        await bridge.publish(message(event))
        await until(lambda: attempts)
        stream = f"purista:events:{event}"
        (consumer,) = client.xinfo_consumers(stream, "one")
        with client.pipeline() as pipeline:  # the server hands it over, and the answer is lost
            pipeline.xadd(stream, {"data": "1"})
            pipeline.xreadgroup("one", consumer["name"], {stream: ">"})
            pipeline.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")
            pipeline.execute()
        await until(lambda: len(attempts) == 2)
        assert attempts == [1, 1]


async def test_events_that_are_cut_off_go_to_another_at_once_as_the_same_attempt(server):
    event, begun, attempts = name(), Inbox(), []

    async def hang(one):
        await begun(one)
        await asyncio.Event().wait()

    async def receive(_):
        attempts.append(ATTEMPT.get())

    async with opened(server.url) as here, opened(server.url) as there:
        await here.subscribe(event, "one", hang)
        for _ in range(3):
            await here.publish(message(event))
        await soon(begun.holds(3))
        await there.subscribe(event, "one", receive)
        closing = asyncio.ensure_future(here.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        await soon(asyncio.wait([closing]))
        await until(lambda: len(attempts) == 3, 2)
        assert attempts == [1, 1, 1]


async def test_more_dead_letters_than_are_moved_at_once_are_redriven(server, client):
    event, seen, dead = name(), Inbox(), AT_ONCE + 20
    mended = False

    async def refuse(one):
        if not mended:
            raise PayloadError("no")
        await seen(one)

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", refuse)
        await asyncio.gather(*(bridge.publish(message(event)) for _ in range(dead)))
        await until(lambda: client.xlen(f"purista:dead:{event}:one") == dead)
        assert len(await bridge.dead_letters(event, "one")) == dead
        mended = True
        assert await bridge.redrive(event, "one") == dead
        await soon(seen.holds(dead))
        assert client.keys(f"purista:dead*:{event}:one") == []
        await until(lambda: client.xlen(f"purista:redriven:{event}:one") == 0)


async def test_an_event_is_stored_once_however_often_it_is_sent(server, client):
    event, names = name(), Names("purista")
    store = RedisServer(server.url, timeout=SECOND)
    keys = (names.stream(event), names.sent(new_message_id(), 0))
    values = (7, 60_000, 60_000, 60_000, "ce-id", "1", "data", "{}")
    for _ in range(3):
        await store.run(PUBLISH, keys, *values)
    await store.close()
    assert client.xlen(f"purista:events:{event}") == 1


async def test_what_nobody_subscribes_to_is_soon_forgotten(server, client):
    event = name()
    async with opened(server.url) as bridge:
        await bridge.publish(message(event))
        assert 0 < client.pttl(f"purista:events:{event}") <= 60_000
        await bridge.subscribe(event, "one", Inbox())
        await bridge.publish(message(event))
        assert client.pttl(f"purista:events:{event}") == -1


async def test_what_every_subscriber_has_handled_is_trimmed_and_nothing_else(server, client):
    event, inbox, names = name(), Inbox(), Names("purista")
    stream = f"purista:events:{event}"
    async with opened(server.url) as bridge:
        await (await bridge.subscribe(event, "away", Inbox())).cancel()
        await bridge.subscribe(event, "here", inbox)
        await asyncio.gather(*(bridge.publish(message(event)) for _ in range(1000)))
        await soon(inbox.holds(1000))
        await until(lambda: client.xpending(stream, "here")["pending"] == 0)
    await asyncio.sleep(0.01)
    store = RedisServer(server.url, timeout=SECOND)
    keys = (stream.encode(), names.own_stream(event, "here"), names.retries(event, "here"))
    await store.run(SWEEP, keys, group("here"), 1, 600_000, 600_000)
    assert client.xlen(stream) == 1000, "one is away and has not had them"
    client.xreadgroup("away", "ghost", {stream: ">"}, count=500)
    client.xreadgroup("away", "ghost", {stream: ">"})
    client.xack(stream, "away", *(entry for entry, _ in client.xrange(stream, count=500)))
    await store.run(SWEEP, keys, group("here"), 1, 600_000, 600_000)
    assert 500 <= client.xlen(stream) <= 700, "what is pending stays, and what shares its node"
    await asyncio.sleep(0.01)
    await store.run(SWEEP, keys, group("here"), 1, 1, 600_000)
    assert client.xlen(stream) <= 100, "too old"
    await store.close()


async def test_consumers_that_are_gone_are_deleted_unless_they_have_something_in_hand(
    server, client
):
    event, names = name(), Names("purista")
    stream = f"purista:events:{event}"
    async with opened(server.url) as bridge:
        await (await bridge.subscribe(event, "one", Inbox())).cancel()
        assert client.xinfo_consumers(stream, "one") == [], "it left"
        await bridge.publish(message(event))
    for consumer in ("busy", "idle"):
        client.xreadgroup("one", consumer, {stream: ">"})
    await asyncio.sleep(0.01)
    store = RedisServer(server.url, timeout=SECOND)
    keys = (stream.encode(), names.own_stream(event, "one"), names.retries(event, "one"))
    await store.run(SWEEP, keys, group("one"), 60_000, 60_000, 1)
    await store.close()
    assert [one["name"] for one in client.xinfo_consumers(stream, "one")] == ["busy"]


async def test_an_instance_leaves_nothing_in_the_server(server, client):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "all", inbox, options=EVERY)
        await bridge.publish(message(event))
        await soon(inbox.holds(1))
        stream = f"purista:events:{event}"
        assert client.xinfo_groups(stream) == []
        assert client.pttl(stream) > 0
    assert client.keys(f"*{event}*") == [stream]


async def test_an_instance_tries_a_failed_event_again(server):
    event, attempts = name(), []

    async def fail(_):
        attempts.append(ATTEMPT.get())
        raise RuntimeError

    every = options(every_instance=True, max_attempts=3, concurrency=1)
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "all", fail, options=every)
        await bridge.publish(message(event))
        await until(lambda: len(attempts) == 3)
        await asyncio.sleep(0.1)
        assert attempts == [1, 2, 3]


async def test_a_bridge_opens_as_many_connections_as_it_says(server, client):
    async def answer(one):
        return Reply(one.body)

    before = len(client.client_list())
    async with opened(server.url) as bridge:
        for _ in range(3):
            await bridge.subscribe(name(), "one", Inbox())
        for _ in range(3):
            await bridge.serve(name("command"), answer)
        await asyncio.gather(*(bridge.publish(message(name())) for _ in range(100)))
        await until(lambda: len(client.client_list()) - before == 1 + 3 + 2)
    await until(lambda: len(client.client_list()) == before)


async def test_requests_whose_time_is_over_are_not_begun(server, client):
    command, inbox = name("command"), Inbox()

    async def answer(one):
        await inbox(one)
        return Reply(one.body)

    async with opened(server.url) as bridge:
        now = int(client.time()[0]) * 1000
        head = json.dumps({"reply": "nobody", "number": 1, "ce-id": "late", "ce-type": command})
        client.rpush(f"purista:requests:{command}", f"{now - 9000} {now - 1000} {head}\n1")
        await bridge.serve(command, answer)
        valid = message(command, b"2")
        reply = await soon(await bridge.request(valid, timeout=SECOND))
        assert (reply.body, inbox.ids) == (b"2", [valid.id])


async def test_a_command_whose_only_server_was_killed_is_unknown_at_once(server):
    command = name("command")
    code = (
        "import asyncio\n"
        "from purista.bridges.port import Reply\n"
        "from purista.bridges.redis_events import RedisEventBridge\n"
        "async def answer(one): return Reply(one.body)\n"
        "async def main():\n"
        f"    await RedisEventBridge({server.url!r}).serve({command!r}, answer)\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - quick
        [sys.executable, "-c", code], stdout=subprocess.PIPE
    ) as process:
        try:
            await asyncio.to_thread(process.stdout.readline)
            async with opened(server.url) as bridge:
                pending = await bridge.request(message(command, b"1"), timeout=SECOND * 5)
                assert await soon(pending) == Reply(b"1")
                process.kill()
                process.wait()
                pending = await bridge.request(message(command, b"1"), timeout=SECOND * 60)
                reply = await soon(pending)
                assert reply.error is not None
                assert reply.error.kind == "unknown"
        finally:
            process.kill()


async def test_a_reply_waits_for_a_caller_that_lost_its_connection(server, client):
    command, begun, gate = name("command"), Inbox(), asyncio.Event()

    async def answer(one):
        await begun(one)
        await gate.wait()
        return Reply(one.body)

    async with opened(server.url) as caller, opened(server.url) as responder:
        await responder.serve(command, answer)
        pending = await caller.request(message(command, b"7"), timeout=SECOND * 10)
        await soon(begun.holds(1))
        client.execute_command("CLIENT", "KILL", "TYPE", "PUBSUB")
        gate.set()
        assert await soon(pending) == Reply(b"7")


async def test_subscribers_are_made_again_in_a_server_that_lost_everything(server, client):
    event, inbox, every = name(), Inbox(), Inbox()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", inbox)
        await bridge.subscribe(event, "all", every, options=EVERY)
        client.flushall()
        await bridge.publish(message(event))
        await soon(inbox.holds(1))
        await soon(every.holds(1))


async def test_every_confirmed_event_is_handled_when_the_server_is_killed_under_load():
    event, inbox, confirmed = name(), Inbox(), []
    with valkey_server(durable=True) as server:
        async with opened(server.url) as bridge:
            await bridge.subscribe(event, "one", inbox, options=options(lease=SECOND))
            ending = asyncio.Event()

            async def publish():
                while not ending.is_set():
                    one = message(event)
                    await bridge.publish(one)
                    confirmed.append(one.id)

            publishers = [asyncio.create_task(publish()) for _ in range(8)]
            for _ in range(2):
                count = len(confirmed)
                await until(lambda count=count: len(confirmed) > count + 200)
                server.kill()
                assert await until(lambda: bridge.health.state == "down")
                await asyncio.to_thread(server.restart)
            count = len(confirmed)
            await until(lambda: len(confirmed) > count + 200)
            ending.set()
            await soon(asyncio.gather(*publishers))
            await until(lambda: set(confirmed) <= set(inbox.ids))
            assert bridge.health.state == "up"


async def test_an_event_is_stored_once_when_the_server_stands_still():
    event, inbox = name(), Inbox()
    with valkey_server() as server:
        async with opened(server.url, timeout=timedelta(seconds=8)) as bridge:
            await bridge.subscribe(event, "one", inbox)
            await bridge.publish(message(event))
            server.process.send_signal(signal.SIGSTOP)
            publishing = asyncio.gather(*(bridge.publish(message(event)) for _ in range(20)))
            await asyncio.sleep(5.6)  # longer than an answer may take: all are sent again
            assert bridge.health.state == "down"
            server.process.send_signal(signal.SIGCONT)
            await soon(publishing)
            await soon(inbox.holds(21))
            await asyncio.sleep(0.2)
            assert len(inbox.ids) == 21


async def test_a_wrong_password_is_told_at_once_and_never_shown():
    with valkey_server(password="right-one") as server:
        url = server.url.replace("redis://", "redis://:wrong-one@")
        async with opened(url) as bridge:
            for call in (bridge.connect(), bridge.publish(message("event"))):
                text = await refused(call)
                assert "password" in text
                assert "wrong-one" not in text
        async with opened(server.url.replace("redis://", "redis://:right-one@")) as bridge:
            await bridge.connect()
            assert bridge.health.state == "up"


@pytest.mark.parametrize("url", ["http://x", "redis://", "redis://:secret@h:port", "redis://h?a=1"])
def test_an_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(BridgeError) as caught:
        RedisEventBridge(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a:b", "a b", "{a}"])
def test_a_prefix_that_could_be_anothers_is_refused(prefix):
    with pytest.raises(BridgeError, match="prefix"):
        RedisEventBridge("redis://h", prefix=prefix)


async def test_deployments_with_other_prefixes_do_not_meet(server):
    event, inbox = name(), Inbox()
    async with opened(server.url, prefix="here") as here, opened(server.url) as there:
        await here.subscribe(event, "one", inbox)
        await there.publish(message(event))
        await asyncio.sleep(0.1)
        assert inbox.ids == []


async def test_a_server_that_is_away_at_the_start_is_waited_for_or_refused():
    port = free_port()
    url = f"redis://{HOST}:{port}/0"
    async with opened(url) as bridge:
        assert "cannot be reached" in await refused(bridge.connect(patience=timedelta(0)))
    async with opened(url, timeout=SHORT) as bridge:
        assert "cannot be reached" in await refused(bridge.publish(message("event")))
        assert bridge.health.state == "down"


async def test_a_server_that_is_full_refuses_and_what_it_has_is_still_handled():
    event, inbox, gate = name(), Inbox(), asyncio.Event()

    async def receive(one):
        await gate.wait()
        await inbox(one)

    with valkey_server() as server, server.client() as client:
        async with opened(server.url) as bridge:
            await bridge.subscribe(event, "one", receive)
            await bridge.publish(message(event))
            client.config_set("maxmemory", 1)
            assert "out of memory" in await refused(bridge.publish(message(event)))
            gate.set()
            await soon(inbox.holds(1))
            await until(lambda: not client.xpending(f"purista:events:{event}", "one")["pending"])
            client.config_set("maxmemory", 0)
            await bridge.publish(message(event))
            await soon(inbox.holds(2))


async def test_a_replica_refuses_until_it_is_the_primary():
    event, inbox = name(), Inbox()
    with valkey_server() as server, server.client() as client:
        async with opened(server.url, timeout=SECOND) as bridge:
            await bridge.subscribe(event, "one", inbox)
            client.replicaof(HOST, free_port())
            assert "replica" in await refused(bridge.publish(message(event)))
            client.execute_command("REPLICAOF", "NO", "ONE")
            await bridge.publish(message(event))
            await soon(inbox.holds(1))


async def test_a_receiver_can_cancel_its_own_subscription(server):
    event, inbox = name(), Inbox()

    async with opened(server.url) as bridge:

        async def once(one):
            await subscription.cancel()
            await inbox(one)

        subscription = await bridge.subscribe(event, "one", once)
        await bridge.publish(message(event))
        await soon(inbox.holds(1))
        await soon(subscription.cancel())


async def test_an_event_is_picked_up_within_milliseconds(server):
    event, taken, arrived = name(), [], asyncio.Event()

    async def receive(_):
        taken.append(time.perf_counter() - began)
        arrived.set()

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", receive)
        for _ in range(25):
            arrived.clear()
            await asyncio.sleep(0.005)
            began = time.perf_counter()
            await bridge.publish(message(event))
            await soon(arrived.wait())
    assert sorted(taken)[12] < 0.01


async def test_what_nobody_expected_while_it_is_looked_for_is_told_and_tried_again(
    server, monkeypatch, caplog
):
    really, failures = RedisServer._asking, iter([ValueError("odd"), KeyError("odd")])

    def asking(self):
        for failure in failures:
            raise failure
        return really(self)

    async with opened(server.url) as bridge:
        await bridge.connect()
        monkeypatch.setattr(RedisServer, "_asking", asking)
        bridge._server.lost(OSError("cut"))
        await soon(bridge.publish(message(name())))
        assert bridge.health.state == "up"
    assert caplog.text.count("looking for it failed") == 2

"""The Redis queue bridge on a real Valkey server."""

import asyncio
import contextlib
import logging
import random
import secrets
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from tests.engines.ports import HOST, free_port
from tests.engines.proxy import proxy
from tests.engines.valkey import valkey_server

from purista.bridges import Connects, DeadLetters, Job, redis_queues
from purista.bridges import redis_queue_deadletters as deadletters
from purista.bridges.redis_events import RedisEventBridge
from purista.bridges.redis_queue_names import QueueNames
from purista.bridges.redis_queue_scripts import LOOK
from purista.bridges.redis_queues import RedisQueueBridge
from purista.bridges.redis_sent import SENT_KEPT
from purista.errors import BridgeClosedError, BridgeError, LeaseLostError
from purista.message import Message, RunInfo
from purista.testing import ManualClock, QueueBridgeSuite

NOW = timedelta(0)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
RUN = RunInfo("run-1", "billing.v1.monthly", datetime(2027, 1, 1, tzinfo=UTC), "UTC", True)


@pytest.fixture(scope="module")
def server():
    with valkey_server(durable=True) as server:
        yield server


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture
def prefix():
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
async def bridge(server, prefix):
    async with opened(server.url, prefix=prefix) as bridge:
        yield bridge


@contextlib.asynccontextmanager
async def opened(url, **options):
    bridge = RedisQueueBridge(url, **options)
    try:
        yield bridge
    finally:
        await bridge.close()


def job(name="1", queue="reports", **options):
    return Job(Message(queue, b'{"secret": "hunter2"}', name, RUN), **options)


def take(bridge, duration=DAY, queue="reports", wait=NOW):
    return bridge.lease(queue, duration=duration, wait=wait)


def begin(bridge, duration=DAY, queue="reports"):
    return asyncio.create_task(take(bridge, duration, queue, wait=None))


async def bury(bridge, name="1", **options):
    await bridge.enqueue(job(name, **options))
    await bridge.nack(await take(bridge), retry_in=None, reason=f"no {name}")


async def soon(awaitable, seconds=10):
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition, seconds=10):
    async with asyncio.timeout(seconds):
        while not (found := condition()):  # noqa: ASYNC110 - another process sets it
            await asyncio.sleep(0.01)
        return found


async def refused(call, error=BridgeError):
    with pytest.raises(error) as caught:
        await soon(call)
    return str(caught.value)


def listens(client, prefix, queue="reports"):
    """Whether somebody waits for news of the queue."""
    channel = f"{prefix}:news:{queue}"
    return lambda: client.pubsub_numsub(channel)[0][1]


async def waiting(bridge, client, prefix):
    """Begin to wait for a job; return once nothing but news can bring one soon."""
    task = begin(bridge)
    await until(listens(client, prefix))
    await asyncio.sleep(0.05)
    return task


def calls(client, command):
    return client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


class TestRedisQueueBridge(QueueBridgeSuite):
    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.url = server.url

    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        async with opened(self.url, clock=clock) as bridge:
            yield bridge


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


async def test_a_window_is_measured_by_the_server(client, prefix, bridge):
    assert await bridge.enqueue(job(key="k", dedupe_window=DAY))
    assert not await bridge.enqueue(job(key="k"))
    assert 86_400 <= client.ttl(f"{prefix}:keys:reports:k") <= 86_460
    client.set(f"{prefix}:keys:reports:k", f"{time.time() * 1e6 - 1:.0f}")
    assert await bridge.enqueue(job(key="k"))


async def test_a_wait_ends_in_time(bridge):
    began = time.monotonic()
    assert await soon(take(bridge, wait=timedelta(milliseconds=100))) is None
    assert time.monotonic() - began >= 0.1


async def test_durations_may_be_as_long_as_they_can_be_written(bridge):
    await bridge.enqueue(job("later", delay=timedelta.max))
    await bridge.enqueue(job("now", key="k", dedupe_window=timedelta.max))
    leased = await take(bridge, timedelta.max)
    assert leased.job == job("now", key="k", dedupe_window=timedelta.max)
    await bridge.extend(leased, duration=timedelta.max)
    await bridge.nack(leased, retry_in=timedelta.max, reason="much later")
    assert await take(bridge) is None
    assert not await bridge.enqueue(job(key="k"))


# What is stored


async def test_a_job_comes_back_as_it_was_with_its_headers(bridge):
    run = RUN._replace(run_id="a\x00b\\", nominal_time=RUN.nominal_time + timedelta(microseconds=1))
    headers = {"traceparent": "00-1", "ü\x00": "\\\n"}
    every = [
        Job(Message("reports", b"\x00\xff\n\n", "a \x00b\n000", run, headers), 3),
        Job(Message("reports", b"", "", None, {})),
        Job(Message("reports", b"", "%20\ud800", None, {"a": "\udc00"})),
        Job(Message("reports", b"{}", "x" * 5000), key=secrets.token_hex(5000)),
        Job(Message("reports", b"{}", "id"), delay=-SECOND, dedupe_window=NOW, key="k"),
    ]
    for one in every:
        assert await bridge.enqueue(one)
    found = [await take(bridge) for _ in every]
    assert sorted(one.job.message.id for one in found) == sorted(one.message.id for one in every)
    assert all(one.job in every for one in found)
    for one in found:
        await bridge.nack(one, retry_in=None, reason="a \x00b\n")
    letters = await bridge.dead_letters("reports")
    assert [letter.job for letter in letters] == [one.job for one in found]
    assert {letter.reason for letter in letters} == {"a \x00b\n"}


@pytest.mark.parametrize("name", ["a b:c", "a\x00b", "Zürich 日本 🕐", "", "x" * 9000, "*{a}*"])
async def test_a_queue_may_have_any_name(bridge, name):
    waiting = begin(bridge, queue=name)
    await bridge.enqueue(job(queue=name))
    leased = await soon(waiting)
    await bridge.nack(leased, retry_in=None, reason="")
    assert [one.queue for one in await bridge.dead_letters(name)] == [name]
    assert await bridge.redrive(name, message_id="1") == 1


async def test_queues_and_keys_of_odd_names_are_kept_apart(bridge):
    pairs = [("a:b", "c"), ("a", "b:c"), ("a%3Ab", "c"), ("a", "b%3Ac")]
    for queue, key in pairs:
        assert await bridge.enqueue(job(queue=queue, key=key))
    for queue, key in pairs:
        assert not await bridge.enqueue(job(queue=queue, key=key))


async def test_deployments_and_an_event_bridge_share_a_server(server, prefix, bridge):
    events = RedisEventBridge(server.url, prefix=prefix)
    async with opened(server.url, prefix=f"{prefix}-other") as other:
        await bridge.enqueue(job(key="k"))
        await events.publish(Message("reports", b"{}", "1"))
        assert await take(other) is None
        assert await other.enqueue(job(key="k"))
        assert await take(bridge) is not None
    await events.close()


async def test_nothing_that_is_done_stays_in_the_server_for_ever(client, prefix, bridge):
    await bridge.enqueue(job(key="k"))
    await bridge.enqueue(job(delay=timedelta(milliseconds=1)))
    await bridge.ack(await take(bridge))
    await bridge.nack(await soon(take(bridge, wait=None)), retry_in=NOW, reason="")
    await bridge.ack(await take(bridge))
    await bury(bridge)
    assert await bridge.purge("reports") == 1
    stays = [key for key in client.scan_iter(f"{prefix}:*") if client.ttl(key) < 0]
    assert stays == [f"{prefix}:numbers"]


async def test_a_lease_that_ran_out_is_told_in_the_log_without_what_the_job_holds(
    server, prefix, caplog
):
    clock = ManualClock()
    async with opened(server.url, prefix=prefix, clock=clock) as bridge:
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


async def test_whoever_settles_a_job_sooner_than_others_look_is_in_time(server, prefix):
    clock = ManualClock()
    async with opened(server.url, prefix=prefix, clock=clock) as bridge:
        await bridge.enqueue(job())
        leased = await take(bridge, SECOND)
        await clock.advance(2 * SECOND)
        await bridge.ack(leased)
        text = await refused(bridge.ack(leased), LeaseLostError)
        assert text.startswith("queue 'reports': job 1, attempt 1: ")


async def test_a_delayed_job_waits_behind_those_that_were_due_before(server, prefix):
    clock = ManualClock()
    async with opened(server.url, prefix=prefix, clock=clock) as bridge:
        await bridge.enqueue(job("third", delay=3 * SECOND))
        await bridge.enqueue(job("first", delay=SECOND))
        await clock.advance(2 * SECOND)
        await bridge.enqueue(job("second"))
        await clock.advance(2 * SECOND)
        found = [(await take(bridge)).job.message.id for _ in range(3)]
        assert found == ["first", "second", "third"]


# Waiting


async def test_waiting_leases_are_served_in_the_order_they_came(bridge):
    tasks = [begin(bridge) for _ in range(5)]
    await asyncio.sleep(0)
    tasks.pop(2).cancel()
    for word in "abcd":
        await bridge.enqueue(job(word))
    leased = await soon(asyncio.gather(*tasks))
    assert [one.job.message.id for one in leased] == list("abcd")


async def test_more_calls_wait_than_one_look_serves(bridge):
    tasks = [begin(bridge) for _ in range(120)]
    for number in range(120):
        await bridge.enqueue(job(str(number)))
    leased = await soon(asyncio.gather(*tasks))
    assert len({one.job.message.id for one in leased}) == 120


async def test_a_job_of_another_bridge_is_picked_up_without_polling(server, client, prefix):
    async with (
        opened(server.url, prefix=prefix) as here,
        opened(server.url, prefix=prefix) as there,
    ):
        task = await waiting(here, client, prefix)
        looks = calls(client, "evalsha")
        await asyncio.sleep(0.3)
        assert calls(client, "evalsha") == looks, "it looks although nothing happened"
        await there.enqueue(job())
        await soon(task)


async def test_nobody_is_told_of_a_job_behind_others(client, bridge):
    await bridge.enqueue(job())
    told = calls(client, "publish")
    for _ in range(10):
        await bridge.enqueue(job())
    assert calls(client, "publish") == told


@pytest.mark.parametrize("way", ["retry", "shorter", "redrive", "delay", "given back"])
async def test_whoever_waits_is_told_of_what_is_due_sooner(server, client, prefix, way):
    soon_due = timedelta(milliseconds=1)
    async with opened(server.url, prefix=prefix) as one, opened(server.url, prefix=prefix) as two:
        if way == "redrive":
            await bury(one)
        elif way != "delay":
            await one.enqueue(job())
        leased = None if way in ("redrive", "delay") else await take(one)
        task = await waiting(two, client, prefix)
        if way == "retry":
            await one.nack(leased, retry_in=soon_due, reason="")
        elif way == "shorter":
            await one.extend(leased, duration=soon_due)
        elif way == "redrive":
            await one.redrive("reports")
        elif way == "delay":
            await one.enqueue(job(delay=soon_due))
        else:
            place = one._lines._places["reports"]
            await one._lines._give_back(place, [leased])
        found = await soon(task)
        assert found.attempt == (2 if way in ("retry", "shorter") else 1)


async def test_each_of_many_jobs_goes_to_one_of_many_workers(server, prefix):
    done = []

    async def work(bridge):
        while leased := await take(bridge, wait=SECOND):
            done.append(leased.job.message.id)
            await bridge.ack(leased)

    async with opened(server.url, prefix=prefix) as one, opened(server.url, prefix=prefix) as two:
        workers = [work(bridge) for bridge in (one, two) * 5]
        jobs = [one.enqueue(job(str(number))) for number in range(300)]
        await soon(asyncio.gather(*workers, *jobs))
    assert sorted(done, key=int) == [str(number) for number in range(300)]


async def test_no_job_is_left_although_some_who_wait_give_up(server, prefix):
    rng, done = random.Random(7), []

    async def work(bridge):
        while len(done) < 200:
            task = begin(bridge)
            await asyncio.wait([task], timeout=rng.random() / 100)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                assert task.result().attempt == 1
                done.append(task.result().job.message.id)
                await bridge.ack(task.result())

    async def produce(bridge):
        for number in range(200):
            await bridge.enqueue(job(str(number), delay=timedelta(seconds=rng.random() / 50)))
            await asyncio.sleep(rng.random() / 100)

    async with opened(server.url, prefix=prefix) as one, opened(server.url, prefix=prefix) as two:
        await soon(asyncio.gather(produce(one), *(work(each) for each in (one, one, two))), 30)
    assert sorted(done, key=int) == [str(number) for number in range(200)]


async def test_cancelled_leases_keep_no_job_however_late_they_are_cancelled(bridge):
    for number in range(40):
        task = begin(bridge)
        await bridge.enqueue(job(str(number)))
        await asyncio.sleep(number / 10_000)
        task.cancel()
        await asyncio.wait([task])
        leased = None if task.cancelled() else task.result()
        leased = leased or await soon(take(bridge, wait=None))
        assert (leased.job.message.id, leased.attempt) == (str(number), 1)
        await bridge.ack(leased)


async def test_a_job_whose_look_was_cut_off_is_due_again_although_nobody_looks_any_more(
    server, client, prefix
):
    """The first of those who wait looks for all; when it is cancelled, somebody else cleans up."""
    async with opened(server.url, prefix=prefix) as one, opened(server.url, prefix=prefix) as two:
        await one.enqueue(job())
        for steps in range(6):
            task = begin(one)
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await until(lambda: client.zcard(f"{prefix}:due:reports") == 1)
        assert (await take(two)).attempt == 1


async def test_those_behind_one_that_is_cancelled_or_served_go_on_waiting(bridge):
    first, second, third = (begin(bridge) for _ in range(3))
    await asyncio.sleep(0.05)
    first.cancel()
    await bridge.enqueue(job("a"))
    assert (await soon(second)).job.message.id == "a"
    await bridge.enqueue(job("b"))
    assert (await soon(third)).job.message.id == "b"


# Answers that are lost


def look(client, prefix, number, answered, count=1):
    """Look for jobs as a bridge does; return the tokens that it is given."""
    names = QueueNames(prefix)
    keys = (*names.of("reports").all, names.look("me", "reports"))
    values = "", number, answered, SENT_KEPT, 100, *[60_000_000] * count
    found = client.eval(LOOK.text, len(keys), *keys, *values)
    return found[0].split()[2::2]


async def test_a_look_that_is_sent_again_gives_the_same_jobs(client, prefix, bridge):
    for word in "abc":
        await bridge.enqueue(job(word))
    (first,) = look(client, prefix, 1, 0)
    assert look(client, prefix, 1, 0) == [first]
    assert look(client, prefix, 1, 0, count=3) == [first], "it takes what nobody waits for"


async def test_a_look_after_one_whose_answer_was_lost_gives_its_jobs_first(client, prefix, bridge):
    for word in "abc":
        await bridge.enqueue(job(word))
    (first,) = look(client, prefix, 1, 0)
    again, second = look(client, prefix, 2, 0, count=2)
    assert (again, second > first) == (first, True)
    (third,) = look(client, prefix, 3, 2)
    assert third > second
    assert client.hget(f"{prefix}:held:reports", first).split()[1] == "1", "it cost an attempt"


async def test_a_look_that_the_server_sees_when_nobody_waits_any_more_takes_nothing(
    client, prefix, bridge
):
    for word in "abc":
        await bridge.enqueue(job(word))
    (first,) = look(client, prefix, 2, 1)
    assert look(client, prefix, 1, 0) == []
    assert look(client, prefix, 2, 1) == [first]
    assert len(look(client, prefix, 3, 2, count=3)) == 2


async def test_an_empty_look_that_is_sent_again_takes_nothing(client, prefix, bridge):
    assert look(client, prefix, 1, 0) == []
    await bridge.enqueue(job())
    assert look(client, prefix, 1, 0) == []
    assert len(look(client, prefix, 2, 1)) == 1


async def test_a_lease_whose_answer_was_lost_costs_no_attempt(server, prefix):
    with proxy(server.port) as way:
        async with opened(way.through(server.url), prefix=prefix) as bridge:
            await bridge.enqueue(job())
            trap = way.drop_answer(b"hunter2")
            assert (await soon(take(bridge))).attempt == 1
            assert trap.sprung.is_set()


async def test_a_lease_that_was_given_up_while_the_server_stood_still_costs_no_attempt(
    server, prefix
):
    async with opened(server.url, prefix=prefix, timeout=SECOND / 2) as bridge:
        await bridge.enqueue(job())
        server.process.send_signal(signal.SIGSTOP)
        try:
            await refused(take(bridge, wait=None))
        finally:
            server.process.send_signal(signal.SIGCONT)
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(BridgeError):
                    leased = await take(bridge, wait=SECOND)
                    break
        assert (leased.job, leased.attempt) == (job(), 1)


@pytest.mark.parametrize("word", ["redrive", "purge"])
async def test_what_is_said_of_dead_letters_counts_although_an_answer_is_lost(
    server, prefix, word, monkeypatch
):
    monkeypatch.setattr(deadletters, "AT_ONCE", 2)
    with proxy(server.port) as way:
        async with opened(way.through(server.url), prefix=prefix) as bridge:
            for number in range(5):
                await bury(bridge, str(number))
            trap = way.drop_answer_to(word.encode())
            assert await soon(getattr(bridge, word)("reports")) == 5
            assert trap.sprung.is_set()
            assert await bridge.dead_letters("reports") == []


async def test_a_lost_lease_stays_lost_however_often_it_is_settled(server, prefix):
    clock = ManualClock()
    with proxy(server.port) as way:
        async with opened(way.through(server.url), prefix=prefix, clock=clock) as bridge:
            await bridge.enqueue(job())
            lost = await take(bridge, SECOND)
            await clock.advance(SECOND)
            await take(bridge)
            for settle in (
                bridge.ack(lost),
                bridge.nack(lost, retry_in=NOW, reason=""),
                bridge.extend(lost, duration=SECOND),
            ):
                trap = way.drop_answer_to()
                await refused(settle, LeaseLostError)
                assert trap.sprung.is_set()


# Dead letters


@pytest.mark.parametrize("size", [deadletters.BYTES_AT_ONCE, 50])
async def test_many_dead_letters_are_listed_moved_and_deleted_in_pieces(bridge, monkeypatch, size):
    monkeypatch.setattr(deadletters, "BYTES_AT_ONCE", size)
    names = [str(number) for number in range(2 * deadletters.AT_ONCE + 50)]
    for name in names:
        await bury(bridge, name)
    letters = await bridge.dead_letters("reports")
    assert [letter.job.message.id for letter in letters] == names
    assert [letter.reason for letter in letters] == [f"no {name}" for name in names]
    assert await bridge.redrive("reports") == len(names)
    for name in names:
        leased = await take(bridge)
        assert (leased.job.message.id, leased.attempt) == (name, 1)
        await bridge.nack(leased, retry_in=None, reason="")
    assert await bridge.purge("reports") == len(names)
    assert await bridge.dead_letters("reports") == []


async def test_dead_letters_of_one_message_id_are_moved_together_and_no_others(bridge):
    for name in ("a", "a", "a ", "a~", "ab", "", "a"):
        await bury(bridge, name)
    assert await bridge.redrive("reports", message_id="a") == 3
    assert await bridge.purge("reports", message_id="") == 1
    left = [letter.job.message.id for letter in await bridge.dead_letters("reports")]
    assert left == ["a ", "a~", "ab"]


async def test_leases_that_ran_out_for_the_last_time_are_listed_although_nobody_looked(
    server, prefix
):
    clock = ManualClock()
    async with opened(server.url, prefix=prefix, clock=clock) as bridge:
        for number in range(deadletters.AT_ONCE + 20):
            await bridge.enqueue(job(str(number), max_attempts=1))
            await take(bridge, SECOND)
        await clock.advance(SECOND)
        letters = await bridge.dead_letters("reports")
        assert len(letters) == deadletters.AT_ONCE + 20
        assert letters[0].reason == "the lease ran out in attempt 1, the last"
        assert letters[0].died_at == clock.now()


async def test_a_look_that_ends_many_leases_still_finds_the_job_behind_them(
    server, prefix, monkeypatch
):
    monkeypatch.setattr("purista.bridges.redis_queue_lines.ENDED_AT_ONCE", 10)
    clock = ManualClock()
    async with opened(server.url, prefix=prefix, clock=clock) as bridge:
        for number in range(35):
            await bridge.enqueue(job(str(number), max_attempts=1))
            await take(bridge, SECOND)
        await bridge.enqueue(job("last", delay=SECOND))
        await clock.advance(2 * SECOND)
        assert (await soon(take(bridge))).job.message.id == "last"


# Servers that lose something, are full, or are away


async def test_a_token_is_never_given_twice_although_the_server_lost_what_it_had(
    client, prefix, bridge
):
    await bridge.enqueue(job())
    lost = await take(bridge)
    for key in client.scan_iter(f"{prefix}:*"):
        client.delete(key)
    await bridge.enqueue(job())
    leased = await take(bridge)
    assert leased.token > lost.token
    await refused(bridge.ack(lost), LeaseLostError)
    await bridge.ack(leased)


async def test_a_full_server_takes_no_job_and_lets_those_be_done_that_it_has():
    with valkey_server("--maxmemory", "12mb") as full, full.client() as client:
        async with opened(full.url) as bridge:
            body = b"x" * 100_000
            await bury(bridge, "dead")
            tries = [
                bridge.enqueue(Job(Message("reports", body, str(number)))) for number in range(200)
            ]
            results = await asyncio.gather(*tries, return_exceptions=True)
            count = results.count(True)
            assert 10 < count < 200
            assert all("out of memory" in str(one) for one in results[count:])
            client.config_set("maxmemory", client.info("memory")["used_memory"] // 2)
            assert await soon(take(bridge, queue="empty")) is None
            assert await bridge.redrive("reports", message_id="dead") == 1
            done = []
            while leased := await soon(take(bridge)):
                await bridge.extend(leased, duration=DAY)
                if leased.attempt == 1:
                    await bridge.nack(leased, retry_in=NOW, reason="")
                else:
                    await bridge.ack(leased)
                    done.append(leased.job.message.id)
            assert sorted(done) == sorted(["dead", *map(str, range(count))])


async def test_a_job_that_the_server_lost_is_told_and_holds_up_nobody(
    client, prefix, bridge, caplog
):
    await bridge.enqueue(job("lost"))
    client.delete(f"{prefix}:jobs:reports")
    await bridge.enqueue(job("there"))
    leased = await soon(take(bridge, wait=None))
    assert leased.job.message.id == "there"
    assert "queue reports: 1 jobs are gone: the server lost them" in caplog.messages


async def test_a_job_that_cannot_be_read_holds_up_nobody_and_is_a_dead_letter_in_the_end(
    client, prefix, bridge, caplog
):
    await bridge.enqueue(job(max_attempts=2))
    (number,) = client.hkeys(f"{prefix}:jobs:reports")
    client.hset(f"{prefix}:jobs:reports", number, "hunter2")
    short = timedelta(milliseconds=1)
    for word in "ab":
        await bridge.enqueue(job(word))
        leased = await soon(take(bridge, short))
        assert leased.job.message.id == word
        await bridge.ack(leased)
        assert caplog.messages.pop() == (
            "queue reports: 1 jobs cannot be read; they will be dead letters"
        )
        await asyncio.sleep(0.005)
    (letter,) = await bridge.dead_letters("reports")
    assert "cannot be read" in letter.reason
    assert "hunter2" not in repr(letter)
    assert await bridge.purge("reports") == 1


async def test_nothing_is_lost_when_the_server_is_killed(server, bridge):
    await bridge.enqueue(job("waiting"))
    await bridge.enqueue(job("leased"))
    leased = await take(bridge)
    server.kill()
    server.restart()
    await bridge.ack(leased)
    assert (await take(bridge)).job.message.id == "leased"
    assert await take(bridge) is None


async def test_a_call_that_waits_is_served_after_the_server_was_killed(server, client, prefix):
    async with opened(server.url, prefix=prefix) as one, opened(server.url, prefix=prefix) as two:
        task = await waiting(one, client, prefix)
        server.kill()
        server.restart()
        await two.enqueue(job())
        assert (await soon(task)).attempt == 1


async def test_a_server_that_is_away_is_an_error_that_names_it_and_no_password():
    port = free_port()
    url = f"redis://me:hunter2@{HOST}:{port}/0"
    async with opened(url, timeout=SECOND / 5) as bridge:
        assert isinstance(bridge, Connects)
        assert isinstance(bridge, DeadLetters)
        assert bridge.health.state == "idle"
        for call in (bridge.enqueue(job()), take(bridge), take(bridge, wait=None)):
            text = await refused(call)
            assert text.startswith(f"Redis at redis://{HOST}:{port}/0: ")
            assert "hunter2" not in text + repr(bridge)
        assert bridge.health.state == "down"
        assert "hunter2" not in bridge.health.reason
    assert bridge.health.state == "closed"


async def test_a_wrong_password_is_an_error_at_once():
    with valkey_server(password="hunter2") as locked:
        async with opened(locked.url.replace("redis://", "redis://:other@")) as bridge:
            assert "password" in await refused(bridge.enqueue(job()))
            assert "password" in await refused(take(bridge, wait=None))
            assert "password" in await refused(bridge.connect())
        async with opened(locked.url.replace("redis://", "redis://:hunter2@")) as bridge:
            await bridge.connect(patience=NOW)
            assert bridge.health.state == "up"


async def test_a_user_needs_no_more_rights_than_the_error_names(prefix):
    rights = "+@read +@write +@scripting +@connection +@pubsub +info +time"
    with valkey_server() as guarded, guarded.client() as client:
        client.execute_command(
            "ACL",
            "SETUSER",
            "me",
            "on",
            ">hunter2",
            f"~{prefix}:*",
            f"&{prefix}:*",
            *rights.split(),
        )
        url = guarded.url.replace("redis://", "redis://me:hunter2@")
        async with opened(url, prefix=prefix) as bridge:
            task = begin(bridge)
            await bridge.enqueue(job(key="k"))
            leased = await soon(task)
            await bridge.extend(leased, duration=DAY)
            await bridge.nack(leased, retry_in=None, reason="")
            assert len(await bridge.dead_letters("reports")) == 1
            assert await bridge.redrive("reports") == 1
            await bridge.ack(await take(bridge))
        async with opened(url) as bridge:
            text = await refused(bridge.enqueue(job()))
            assert rights in text
            assert "hunter2" not in text


def test_a_url_or_a_prefix_that_cannot_be_is_refused(server):
    with pytest.raises(BridgeError, match="its URL is none"):
        RedisQueueBridge("hunter2")
    with pytest.raises(BridgeError, match="use at most 64 letters"):
        RedisQueueBridge(server.url, prefix="a b")


async def test_what_cannot_be_sent_is_refused(bridge, monkeypatch):
    assert "no Unicode" in await refused(bridge.enqueue(job(queue="\ud800")))
    assert "no Unicode" in await refused(bridge.enqueue(job(key="\ud800")))
    monkeypatch.setattr(redis_queues, "LARGEST", 10)
    assert "send a reference" in await refused(bridge.enqueue(job()))
    with pytest.raises(ValueError, match="use a positive duration"):
        await take(bridge, NOW)


async def test_a_look_that_fails_for_whatever_reason_is_an_error_and_not_a_wait_for_ever(
    bridge, monkeypatch, caplog
):
    async def fail(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(bridge._server, "run", fail)
        text = await refused(take(bridge, wait=None))
        assert text.endswith("queue 'reports': a look for jobs failed (ZeroDivisionError)")
        assert "queue reports: a look for jobs failed" in caplog.messages
    assert await take(bridge) is None


async def test_a_job_that_cannot_be_given_back_is_told(prefix, caplog):
    with valkey_server() as mortal:
        async with opened(mortal.url, prefix=prefix, timeout=SECOND / 5) as bridge:
            await bridge.enqueue(job())
            leased = await take(bridge)
            mortal.kill()
            await bridge._lines._give_back(bridge._lines._places["reports"], [leased])
            assert "queue reports: 1 jobs come back only when their leases run out" in caplog.text


# Closing


async def test_closing_leaves_no_connection_even_when_jobs_are_settled_after_it(
    server, client, prefix
):
    before = len(client.client_list())
    bridge = RedisQueueBridge(server.url, prefix=prefix)
    for _ in range(2):
        await bury(bridge)
    await bridge.enqueue(job())
    leased = await take(bridge)
    task = await waiting(bridge, client, prefix)
    await bridge.close()
    text = await refused(task, BridgeClosedError)
    assert text.startswith("queue 'reports': the bridge to Redis at redis://")
    await bridge.extend(leased, duration=DAY)
    await bridge.ack(leased)
    assert len(await bridge.dead_letters("reports")) == 2
    assert await bridge.purge("reports") == 2
    for call in (bridge.redrive("reports"), bridge.connect(), bridge.enqueue(job())):
        await refused(call, BridgeClosedError)
    await until(lambda: len(client.client_list()) == before)


async def test_what_is_under_way_is_finished_when_the_bridge_closes(server, prefix):
    for steps in range(8):
        bridge = RedisQueueBridge(server.url, prefix=prefix)
        await bridge.enqueue(job(f"leased {steps}"))
        leased = await take(bridge)
        enqueuing = asyncio.create_task(bridge.enqueue(job(f"new {steps}")))
        acking = asyncio.create_task(bridge.ack(leased))
        for _ in range(steps):
            await asyncio.sleep(0)
        await bridge.close()
        await soon(acking)
        async with opened(server.url, prefix=prefix) as other:
            try:
                assert await enqueuing is True
            except BridgeClosedError:
                assert steps == 0, "it was under way"
            else:
                await other.ack(await take(other))
            assert await take(other) is None


async def test_a_lease_that_is_closed_as_its_job_comes_keeps_no_job(server, prefix):
    async with opened(server.url, prefix=prefix) as other:
        await other.enqueue(job(max_attempts=100))
        for steps in range(6):
            bridge = RedisQueueBridge(server.url, prefix=prefix)
            task = begin(bridge)
            for _ in range(steps):
                await asyncio.sleep(0)
            await bridge.close()
            await asyncio.wait([task])
            if task.exception() is None:
                await bridge.nack(task.result(), retry_in=NOW, reason="")
            assert (await soon(take(other, SECOND / 1000, wait=None))) is not None


async def test_a_bridge_can_be_closed_while_the_server_stands_still(server, prefix):
    bridge = RedisQueueBridge(server.url, prefix=prefix)
    await bridge.enqueue(job(max_attempts=1))
    server.process.send_signal(signal.SIGSTOP)
    try:
        tasks = [begin(bridge) for _ in range(3)]
        tasks.append(asyncio.create_task(bridge.enqueue(job())))
        await asyncio.sleep(0.05)
        tasks.pop(0).cancel()
        await asyncio.sleep(0.05)
        await soon(bridge.close(), 5)
        for task in tasks:
            await refused(task, BridgeClosedError)
    finally:
        server.process.send_signal(signal.SIGCONT)


async def test_a_channel_that_could_not_be_listened_to_at_first_does_no_harm_later(server, prefix):
    with proxy(server.port) as way:
        async with opened(way.through(server.url), prefix=prefix, timeout=SECOND / 2) as bridge:
            await bridge.enqueue(job(queue="other"))
            way.refuse()
            await refused(take(bridge, wait=None))
            way.accept()
            await asyncio.sleep(3)
            await bridge.connect(patience=5 * SECOND)
            task = begin(bridge)
            await until(lambda: bridge.health.state == "up")
            await bridge.enqueue(job())
            assert (await soon(task)).attempt == 1

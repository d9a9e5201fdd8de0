"""The NATS bridges on a cluster of three servers, each of which is killed under load."""

import asyncio
import contextlib
from collections import Counter
from datetime import timedelta

import nats
import pytest
from tests.engines.nats_broker import nats_cluster
from tests.faults.receiving import subscription_options
from tests.faults.waiting import confirmed_by, message, until

from purista.bridges.nats_events import NatsEventBridge
from purista.bridges.nats_queues import NatsQueueBridge
from purista.bridges.port import Job
from purista.errors import BridgeError

LEASE = timedelta(seconds=5)
SECOND = timedelta(seconds=1)
AT_ONCE = 5
PACE = 0.01
"""Seconds between two of a sender, so that those who handle them keep up."""

BETWEEN = 300
"""So many events and jobs are confirmed between two kills, while a server is away and when it is back."""


@pytest.fixture(scope="module")
def servers():
    with nats_cluster() as started:
        yield started


@contextlib.asynccontextmanager
async def opened(servers, option="", **options):
    url = ",".join(server.url for server in servers) + option
    async with contextlib.AsyncExitStack() as end:
        bridges = NatsEventBridge(url, **options), NatsQueueBridge(url, **options)
        for bridge in bridges:
            end.push_async_callback(bridge.close)
            await bridge.connect(patience=30 * SECOND)
        yield bridges


async def replicas(servers, prefix):
    """Return on how many servers each stream is."""
    client = await nats.connect(servers[0].url)
    try:
        streams = await client.jetstream().streams_info()
    finally:
        await client.close()
    return [one.config.num_replicas for one in streams if one.config.name.startswith(prefix)]


async def test_what_is_stored_is_on_as_many_servers_as_is_said_and_stays_so(servers, caplog):
    async with opened(servers, prefix="plain"):
        assert await replicas(servers, "plain-") == [1] * 4
    async with opened(servers, "?replicas=3", prefix="wide"):
        assert await replicas(servers, "wide-") == [3] * 4
    async with opened(servers, "?replicas=3", prefix="wide", replicas=1):
        pass
    assert "as it was made" not in caplog.text
    async with opened(servers, "?replicas=3", prefix="plain"):
        assert await replicas(servers, "plain-") == [1] * 4
    assert "stream 'plain-events' has 1 of 3 replicas" in caplog.text


async def test_no_server_of_a_cluster_takes_an_event_or_a_job_with_it(servers):
    async with opened(servers, "?replicas=3") as bridges:
        await load(servers, *bridges)


async def load(servers, events, queues):
    published, enqueued = Counter(), Counter()
    received, done, at_work, twice = Counter(), Counter(), set(), []

    async def receive(event):
        if event.id in at_work:
            twice.append(event.id)
        at_work.add(event.id)
        await asyncio.sleep(0.005)
        at_work.discard(event.id)
        received[event.id] += 1

    async def publish():
        while True:
            event = message("cluster.event")
            await confirmed_by(events.publish, event)
            published[event.id] += 1
            await asyncio.sleep(PACE)

    async def enqueue():
        while True:
            job = message("cluster.queue")
            await confirmed_by(queues.enqueue, Job(job, key=job.id))
            enqueued[job.id] += 1
            await asyncio.sleep(PACE)

    async def work():
        while True:
            with contextlib.suppress(BridgeError):
                leased = await queues.lease("cluster.queue", duration=LEASE, wait=SECOND)
                if leased is not None:
                    done[leased.job.message.id] += 1
                    await queues.ack(leased)

    async def go_on():
        goal = len(published) + BETWEEN, len(enqueued) + BETWEEN
        await until(lambda: len(published) >= goal[0] and len(enqueued) >= goal[1], within=60)

    options = subscription_options(LEASE.total_seconds(), concurrency=20)
    await events.subscribe("cluster.event", "one", receive, options=options)
    senders = [asyncio.create_task(each()) for each in (publish, enqueue) for _ in range(AT_ONCE)]
    workers = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
    try:
        for server in servers:
            await go_on()
            await asyncio.to_thread(server.kill)
            await go_on()
            await asyncio.to_thread(server.restart)
        await go_on()
        await stopped(senders)
        await until(lambda: not published.keys() - received.keys(), within=30)
        await until(lambda: not enqueued.keys() - done.keys(), within=30)
    finally:
        await stopped([*senders, *workers])
    assert twice == []


async def stopped(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

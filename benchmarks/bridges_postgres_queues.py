"""The PostgreSQL queue bridge, as ratios to bare psycopg with as many transactions on the same server.

Floor: enqueue and complete 0.7. Both sides write the same bytes; a bare job is a row that is inserted,
leased (``UPDATE ... FOR UPDATE SKIP LOCKED ... RETURNING``) and deleted, as queues in PostgreSQL are
usually made, over as many connections. The server does not wait for the disk, which would hide what
either side costs. Run with ``python benchmarks/bridges_postgres_queues.py``.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection

sys.path.insert(0, str(Path(__file__).parents[1]))

from brokers import message, shared, timed
from tests.engines.postgres import postgres_server

from purista.bridges import Job, LeasedJob
from purista.bridges.postgres_jobs import enqueued
from purista.bridges.postgres_queues import PostgresQueueBridge
from purista.postgres.connections import CONNECTIONS

COUNT = 300
ROUNDS = 25
LEASE = timedelta(minutes=1)
TABLE = b"""
CREATE TABLE bare (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue text NOT NULL,
    envelope text NOT NULL,
    body bytea NOT NULL,
    attempts bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON bare (queue, due_at, number);
"""
INSERT = b"INSERT INTO bare (queue, envelope, body) VALUES (%s, %s, %s)"
TAKE = b"""
UPDATE bare SET attempts = attempts + 1, due_at = clock_timestamp() + %s WHERE number = (
    SELECT number FROM bare WHERE queue = %s AND due_at <= now()
    ORDER BY due_at, number LIMIT 1 FOR UPDATE SKIP LOCKED
) RETURNING number, envelope, body
"""
DELETE = b"DELETE FROM bare WHERE number = %s"

Step = Callable[[], Awaitable[object]]


def job(queue: str) -> Job:
    return Job(message(queue))


async def taken(lease: Awaitable[LeasedJob | None]) -> LeasedJob:
    leased = await lease
    assert leased is not None
    return leased


class Bare:
    """Some connections of psycopg, each used by one at a time."""

    def __init__(self) -> None:
        self.idle: asyncio.LifoQueue[AsyncConnection[Any]] = asyncio.LifoQueue()

    async def open(self, url: str, connections: int = CONNECTIONS) -> None:
        for _ in range(connections):
            self.idle.put_nowait(await AsyncConnection.connect(url, autocommit=True))
        await self.run(TABLE, ())

    async def run(self, statement: bytes, values: tuple[object, ...]) -> list[Any]:
        connection = await self.idle.get()
        cursor = await connection.execute(
            statement, values or None, prepare=bool(values), binary=bool(values)
        )
        found = await cursor.fetchall() if cursor.description else []
        self.idle.put_nowait(connection)
        return found

    async def enqueue(self) -> None:
        queue, _, envelope, body, *_ = enqueued(job("queue"), None)
        await self.run(INSERT, (queue, envelope, body))

    async def complete(self) -> None:
        ((number, envelope, body),) = await self.run(TAKE, (LEASE, "queue"))
        json.loads(envelope)
        json.loads(body)
        await self.run(DELETE, (number,))

    async def close(self) -> None:
        while not self.idle.empty():
            await self.idle.get_nowait().close()


class Bench:
    def __init__(self, url: str) -> None:
        self.bare = Bare()
        self.bridge = PostgresQueueBridge(url)
        self.url = url

    async def enqueue(self) -> None:
        await self.bridge.enqueue(job("queue"))

    async def complete(self) -> None:
        leased = await taken(self.bridge.lease("queue", duration=LEASE))
        json.loads(leased.job.message.body)
        await self.bridge.ack(leased)

    async def latency(self) -> list[float]:
        """Return milliseconds from enqueue to lease, for an idle worker of another bridge."""
        found: list[float] = []
        worker = PostgresQueueBridge(self.url)
        for _ in range(200):
            waiting = asyncio.create_task(taken(worker.lease("idle", duration=LEASE)))
            await asyncio.sleep(0.02)
            began = time.perf_counter()
            await self.bridge.enqueue(job("idle"))
            leased = await waiting
            found.append((time.perf_counter() - began) * 1000)
            await worker.ack(leased)
        await worker.close()
        return found

    async def idle(self) -> float:
        """Return the share of a core that ten idle workers on ten queues each take."""
        waiting = [
            asyncio.create_task(self.bridge.lease(f"idle-{number % 10}", duration=LEASE))
            for number in range(100)
        ]
        await asyncio.sleep(1)
        began, busy = time.perf_counter(), time.process_time()
        await asyncio.sleep(35)
        share = (time.process_time() - busy) / (time.perf_counter() - began)
        for one in waiting:
            one.cancel()
        await asyncio.wait(waiting)
        return share


async def compare(bench: Bench, at_once: int) -> None:
    """Take the four in turns, so that what else the machine does is everybody's."""
    steps = bench.bare.enqueue, bench.enqueue, bench.bare.complete, bench.complete
    rounds = [[await timed(shared(COUNT, step, at_once)) for step in steps] for _ in range(ROUNDS)]
    for title, pairs in (
        ("enqueue", [(one[0], one[1]) for one in rounds]),
        ("lease and ack", [(one[2], one[3]) for one in rounds]),
        ("enqueue and complete", [(one[0] + one[2], one[1] + one[3]) for one in rounds]),
    ):
        ratio = statistics.median(bare / ours for bare, ours in pairs)
        rate = COUNT / min(ours for _, ours in pairs)
        print(f"{f'{title}, {at_once} at once':34} {ratio:5.2f} of bare, {rate:8.0f}/s")


async def main() -> None:
    with postgres_server() as server:
        bench = Bench(server.url)
        await bench.bare.open(server.url)
        for at_once in (1, 32):
            await compare(bench, at_once)
        latency = await bench.latency()
        print(
            f"pick-up latency: median {statistics.median(latency):.2f} ms, worst {max(latency):.2f}"
        )
        print(f"idle, 100 workers on 10 queues: {await bench.idle():.2%} of a core")
        await bench.bridge.close()
        await bench.bare.close()


if __name__ == "__main__":
    asyncio.run(main())

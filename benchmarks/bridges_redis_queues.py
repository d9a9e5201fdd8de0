"""The Redis queue bridge, as ratios to bare redis-py with the same round trips on the same server.

Floor: enqueue and complete 0.7 on a server that writes everything down at once, as it should; the other
ratios show what the scripts themselves cost. Both sides write the same bytes; a bare job is pushed to a
list (``LPUSH``), moved to another (``BLMOVE``) and removed there (``LREM``), as reliable queues in Redis
are usually made. Run with ``python benchmarks/bridges_redis_queues.py``.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from brokers import message, shared, timed
from tests.engines.valkey import valkey_server

from purista.bridges import Job, LeasedJob
from purista.bridges.redis_queue_jobs import stored
from purista.bridges.redis_queues import RedisQueueBridge

COUNT = 500
MANY = 10_000
ROUNDS = 25
NOW = timedelta(0)
LEASE = timedelta(minutes=1)

Step = Callable[[], Awaitable[object]]


def job(queue: str) -> Job:
    return Job(message(queue))


async def taken(lease: Awaitable[LeasedJob | None]) -> LeasedJob:
    leased = await lease
    assert leased is not None
    return leased


class Bench:
    def __init__(self, url: str) -> None:
        self.bare = Redis.from_url(url, protocol=2)
        self.bridge = RedisQueueBridge(url)

    async def close(self) -> None:
        await self.bridge.close()
        await self.bare.aclose()

    async def bare_enqueue(self) -> None:
        await self.bare.lpush("waiting", stored(job("queue")))

    async def bare_complete(self) -> None:
        text = await self.bare.blmove("waiting", "working", 1, "RIGHT", "LEFT")
        assert isinstance(text, bytes)
        json.loads(text.partition(b"\n")[2])
        await self.bare.lrem("working", 1, text)  # type: ignore[arg-type] # it takes bytes, too

    async def enqueue(self) -> None:
        await self.bridge.enqueue(job("queue"))

    async def complete(self) -> None:
        leased = await taken(self.bridge.lease("queue", duration=LEASE))
        json.loads(leased.job.message.body)
        await self.bridge.ack(leased)

    async def latency(self) -> list[float]:
        """Return milliseconds from enqueue to lease, for an idle worker of another bridge."""
        found: list[float] = []
        worker = RedisQueueBridge(self.bridge._server.shared.name)
        for _ in range(200):
            waiting = asyncio.create_task(taken(worker.lease("idle", duration=LEASE)))
            await asyncio.sleep(0.01)
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

    async def many(self) -> None:
        """Print how long thousands of dead letters take, and for how long a step holds the server up."""
        await self.bare.config_set("slowlog-log-slower-than", 1000)
        await self.bare.config_set("slowlog-max-len", 10_000)
        await self.bare.slowlog_reset()
        took = [await timed(shared(MANY, lambda: self.bridge.enqueue(job("many")), 32))]

        async def bury() -> None:
            leased = await taken(self.bridge.lease("many", duration=LEASE))
            await self.bridge.nack(leased, retry_in=None, reason="no")

        took.append(await timed(shared(MANY, bury, 32)))
        took.append(await timed(self.bridge.dead_letters("many")))
        took.append(await timed(self.bridge.redrive("many")))
        await shared(MANY, bury, 32)
        took.append(await timed(self.bridge.purge("many")))
        slow = [one["duration"] / 1000 for one in await self.bare.slowlog_get(10_000)]
        shown = ", ".join(f"{one:.2f}" for one in took)
        print(f"{MANY} jobs: enqueued, buried, listed, redriven, purged in seconds: {shown}")
        print(
            f"steps that held the server up for over 1 ms: {len(slow)}, longest {max(slow, default=0):.1f} ms"
        )


async def compare(bench: Bench, at_once: int) -> None:
    """Take the four in turns, so that what else the machine does is everybody's."""
    steps = bench.bare_enqueue, bench.enqueue, bench.bare_complete, bench.complete
    rounds = [[await timed(shared(COUNT, step, at_once)) for step in steps] for _ in range(ROUNDS)]
    for title, pairs in (
        ("enqueue", [(one[0], one[1]) for one in rounds]),
        ("lease and ack", [(one[2], one[3]) for one in rounds]),
        ("enqueue and complete", [(one[0] + one[2], one[1] + one[3]) for one in rounds]),
    ):
        ratio = statistics.median(bare / ours for bare, ours in pairs)
        rate = COUNT / min(ours for _, ours in pairs)
        print(f"{f'{title}, {at_once} at once':34} {ratio:5.2f} of bare, {rate:8.0f}/s")


async def ratios(*, durable: bool) -> None:
    print("a server that writes everything down:" if durable else "a server that forgets:")
    with valkey_server(durable=durable) as server:
        bench = Bench(server.url)
        for at_once in (1, 32):
            await compare(bench, at_once)
        await bench.close()


async def main() -> None:
    await ratios(durable=True)
    await ratios(durable=False)
    with valkey_server(durable=False) as server:
        bench = Bench(server.url)
        await bench.many()
        latency = await bench.latency()
        print(
            f"pick-up latency: median {statistics.median(latency):.2f} ms, worst {max(latency):.2f}"
        )
        print(f"idle, 100 workers on 10 queues: {await bench.idle():.2%} of a core")
        await bench.close()


if __name__ == "__main__":
    asyncio.run(main())

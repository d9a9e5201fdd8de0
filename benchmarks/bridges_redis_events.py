"""The Redis event bridge, as ratios to bare redis-py with the same acknowledgements on the same server.

Floors: publish, consume with ack, request and reply 0.7 each. Both sides write the same fields; a bare
consumer acknowledges each event by itself, those of a batch in one pipeline; a bare request is pushed
to a list and answered by a list. Run with ``python benchmarks/bridges_redis_events.py``.
"""

import asyncio
import sys
from pathlib import Path

from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from brokers import (
    AT_ONCE,
    BODY,
    COUNT,
    compare,
    consuming,
    handle,
    message,
    print_event_latency,
    print_idle,
    publishing,
    requesting,
    shared,
    timed,
)
from tests.engines.valkey import valkey_server

from purista.bridges.envelope import headers_of
from purista.bridges.redis_events import RedisEventBridge

BATCH = 100


class Bench:
    def __init__(self, url: str) -> None:
        self.bare = Redis.from_url(url, protocol=2)
        self.bridge = RedisEventBridge(url)

    async def bare_publish(self, at_once: int) -> float:
        fields = {**headers_of(message("bare")), "data": BODY}

        async def step() -> None:
            await self.bare.xadd("bare", fields)

        took = await timed(shared(COUNT, step, at_once))
        await self.bare.delete("bare")
        return took

    async def bare_consume(self) -> float:
        await self.bare.xgroup_create("bare", "group", mkstream=True)
        for _ in range(COUNT):
            await self.bare.xadd("bare", {**headers_of(message("bare")), "data": BODY})

        async def consume() -> None:
            left = COUNT
            while left:
                found = await self.bare.xreadgroup(
                    "group", "one", {"bare": ">"}, count=BATCH, block=1000
                )
                pipeline = self.bare.pipeline(transaction=False)
                for entry_id, fields in found[0][1]:
                    await handle(fields[b"data"])
                    pipeline.xack("bare", "group", entry_id)
                await pipeline.execute()
                left -= len(found[0][1])

        took = await timed(consume())
        await self.bare.delete("bare")
        return took

    async def bare_request(self, at_once: int) -> float:
        async def answer() -> None:
            async with self.bare.client() as client:
                while True:
                    _, request = await client.blpop("requests", 0)
                    name, _, body = request.partition(b"\n")
                    await client.rpush(name, body)

        clients = asyncio.Queue[tuple[str, Redis]]()
        for number in range(at_once):
            clients.put_nowait((f"replies-{number}", self.bare.client()))

        async def step() -> None:
            name, client = clients.get_nowait()
            await client.rpush("requests", name.encode() + b"\n" + BODY)
            await client.blpop(name, 10)
            clients.put_nowait((name, client))

        responder = asyncio.create_task(answer())
        took = await timed(shared(COUNT, step, at_once))
        responder.cancel()
        await asyncio.gather(responder, return_exceptions=True)
        while not clients.empty():
            await clients.get_nowait()[1].aclose()
        return took


async def main() -> None:
    with valkey_server(durable=False) as server:
        bench = Bench(server.url)
        for at_once in (1, AT_ONCE):
            await compare(
                f"publish, {at_once} at once",
                lambda n=at_once: bench.bare_publish(n),
                lambda n=at_once: publishing(bench.bridge, "published", n),
            )
        await compare("consume with ack", bench.bare_consume, lambda: consuming(bench.bridge))
        for at_once in (1, AT_ONCE):
            await compare(
                f"request and reply, {at_once} at once",
                lambda n=at_once: bench.bare_request(n),
                lambda n=at_once: requesting(bench.bridge, n),
            )
        await print_event_latency(bench.bridge)
        await print_idle(bench.bridge)
        await bench.bridge.close()
        await bench.bare.aclose()


if __name__ == "__main__":
    asyncio.run(main())

"""The Redis event bridge, as ratios to bare redis-py with the same acknowledgements on the same server.

Floors: publish, consume with ack, request and reply 0.7 each. Both sides write the same fields; a bare
consumer acknowledges each event by itself, those of a batch in one pipeline; a bare request is pushed
to a list and answered by a list. Run with ``python benchmarks/bridges_redis_events.py``.
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

from tests.engines.valkey import valkey_server

from purista.bridges import Reply
from purista.bridges.envelope import headers_of
from purista.bridges.redis_events import RedisEventBridge
from purista.message import Message, new_message_id

COUNT = 4_000
AT_ONCE = 32
ROUNDS = 5
BATCH = 100
BODY = json.dumps({"order_id": "4711", "amount": 5, "lines": ["x" * 20] * 5}).encode()
SECOND = timedelta(seconds=10)

Measure = Callable[[], Awaitable[float]]


def message(name: str) -> Message:
    return Message(name, BODY, new_message_id())


async def timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def shared(count: int, step: Callable[[], Awaitable[object]], at_once: int) -> None:
    """Do so many steps, so many of them side by side."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await step()

    await asyncio.gather(*(work() for _ in range(at_once)))


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

    async def bridge_publish(self, at_once: int) -> float:
        async def step() -> None:
            await self.bridge.publish(message("bridge"))

        took = await timed(shared(COUNT, step, at_once))
        await self.bare.delete("purista:events:bridge")
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

    async def bridge_consume(self) -> float:
        left, done = COUNT, asyncio.Event()

        async def receive(one: Message) -> None:
            nonlocal left
            await handle(one.body)
            left -= 1
            if not left:
                done.set()

        name = new_message_id()
        gone = await self.bridge.subscribe(name, "group", receive)
        await gone.cancel()
        await shared(COUNT, lambda: self.bridge.publish(message(name)), AT_ONCE)

        async def consume() -> None:
            subscription = await self.bridge.subscribe(name, "group", receive)
            await done.wait()
            await subscription.cancel()

        return await timed(consume())

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

    async def bridge_request(self, at_once: int) -> float:
        async def answer(one: Message) -> Reply:
            return Reply(one.body)

        name = new_message_id()
        serving = await self.bridge.serve(name, answer)

        async def step() -> None:
            await (await self.bridge.request(message(name), timeout=SECOND))

        took = await timed(shared(COUNT, step, at_once))
        await serving.cancel()
        return took

    async def latency(self) -> list[float]:
        """Return milliseconds from publish to receive, for an idle subscriber."""
        found: list[float] = []
        arrived = asyncio.Event()

        async def receive(_: Message) -> None:
            found.append((time.perf_counter() - began) * 1000)
            arrived.set()

        name = new_message_id()
        subscription = await self.bridge.subscribe(name, "group", receive)
        for _ in range(100):
            await asyncio.sleep(0.01)
            arrived.clear()
            began = time.perf_counter()
            await self.bridge.publish(message(name))
            await arrived.wait()
        await subscription.cancel()
        return found

    async def idle(self) -> float:
        """Return the share of a core that ten idle subscriptions and a responder take."""

        async def receive(_: Message) -> None: ...

        async def answer(one: Message) -> Reply:
            return Reply(one.body)

        held = [await self.bridge.subscribe(new_message_id(), "group", receive) for _ in range(10)]
        serving = await self.bridge.serve(new_message_id(), answer)
        await asyncio.sleep(1)
        began, busy = time.perf_counter(), time.process_time()
        await asyncio.sleep(15)
        share = (time.process_time() - busy) / (time.perf_counter() - began)
        await asyncio.gather(serving.cancel(), *(one.cancel() for one in held))
        return share


async def handle(body: bytes) -> None:
    json.loads(body)


async def compare(title: str, bare: Measure, bridge: Measure) -> None:
    pairs = [(await bare(), await bridge()) for _ in range(ROUNDS)]
    ratio = statistics.median(theirs / ours for theirs, ours in pairs)
    rate = COUNT / min(ours for _, ours in pairs)
    print(f"{title:34} {ratio:5.2f} of bare, {rate:8.0f}/s")


async def main() -> None:
    with valkey_server(durable=False) as server:
        bench = Bench(server.url)
        for at_once in (1, AT_ONCE):
            await compare(
                f"publish, {at_once} at once",
                lambda n=at_once: bench.bare_publish(n),
                lambda n=at_once: bench.bridge_publish(n),
            )
        await compare("consume with ack", bench.bare_consume, bench.bridge_consume)
        for at_once in (1, AT_ONCE):
            await compare(
                f"request and reply, {at_once} at once",
                lambda n=at_once: bench.bare_request(n),
                lambda n=at_once: bench.bridge_request(n),
            )
        latency = await bench.latency()
        print(
            f"pick-up latency: median {statistics.median(latency):.2f} ms, worst {max(latency):.2f}"
        )
        print(f"idle, 10 subscriptions and a responder: {await bench.idle():.2%} of a core")
        await bench.bridge.close()
        await bench.bare.aclose()


if __name__ == "__main__":
    asyncio.run(main())

"""The NATS bridges, as ratios to bare nats-py with the same acknowledgements on the same server.

Floors: publish, consume with ack, request and reply, enqueue and complete 0.7 each. Both sides send the
same headers. A bare consumer pulls batches and acknowledges each event without waiting, as the bridge
does; a bare worker pulls one job at a time and waits until its acknowledgement is confirmed. Run with
``python benchmarks/bridges_nats.py``.
"""

import asyncio
import itertools
import sys
from pathlib import Path

import nats
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

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
    print_job_latency,
    publishing,
    requesting,
    shared,
    timed,
    working,
)
from tests.engines.nats_broker import nats_broker

from purista.bridges.nats_events import NatsEventBridge
from purista.bridges.nats_queues import NatsQueueBridge
from purista.bridges.nats_streams import message_headers

BATCH = 100
JOBS = 2_000


class Bare:
    def __init__(self, client: nats.NATS) -> None:
        self.client = client
        self.js = client.jetstream()
        self.numbers = itertools.count()

    async def publish(self, at_once: int) -> float:
        await self.js.add_stream(StreamConfig(name="bare", subjects=["bare"]))

        async def step() -> None:
            await self.js.publish("bare", BODY, headers=message_headers(message("bare")))

        took = await timed(shared(COUNT, step, at_once))
        await self.js.delete_stream("bare")
        return took

    async def consume(self) -> float:
        await self.js.add_stream(StreamConfig(name="bare", subjects=["bare"]))

        async def step() -> None:
            await self.js.publish("bare", BODY, headers=message_headers(message("bare")))

        await shared(COUNT, step, AT_ONCE)

        async def consume() -> None:
            config = ConsumerConfig(durable_name="one", max_ack_pending=-1)
            pull = await self.js.pull_subscribe("bare", "one", config=config)
            left = COUNT
            while left:
                for msg in await pull.fetch(BATCH, timeout=5):
                    await handle(msg.data)
                    await msg.ack()
                    left -= 1
            await self.client.flush()

        took = await timed(consume())
        await self.js.delete_stream("bare")
        return took

    async def request(self, at_once: int) -> float:
        async def answer(msg: nats.aio.msg.Msg) -> None:
            await msg.respond(msg.data)

        serving = await self.client.subscribe("asked", queue="group", cb=answer)
        headers = message_headers(message("asked"))

        async def step() -> None:
            await self.client.request("asked", BODY, timeout=10, headers=headers)

        took = await timed(shared(COUNT, step, at_once))
        await serving.unsubscribe()
        return took

    async def work(self, at_once: int) -> float:
        stream = StreamConfig(name="bare", subjects=["bare"], retention=RetentionPolicy.WORK_QUEUE)
        await self.js.add_stream(stream)
        config = ConsumerConfig(durable_name="one", max_ack_pending=-1)

        async def enqueue() -> None:
            await self.js.publish("bare", BODY, headers=message_headers(message("bare")))

        async def complete(pull: nats.js.JetStreamContext.PullSubscription) -> None:
            (msg,) = await pull.fetch(1, timeout=5)
            await handle(msg.data)
            await msg.ack_sync(timeout=5)

        async def work() -> None:
            await shared(JOBS, enqueue, at_once)
            pulls = [
                await self.js.pull_subscribe("bare", "one", config=config) for _ in range(at_once)
            ]
            turns = itertools.cycle(pulls)
            await shared(JOBS, lambda: complete(next(turns)), at_once)

        took = await timed(work())
        await self.js.delete_stream("bare")
        return took


async def main() -> None:
    with nats_broker() as server:
        client = await nats.connect(server.url)
        bare = Bare(client)
        events, queues = NatsEventBridge(server.url), NatsQueueBridge(server.url)
        await events.connect()
        for n in (1, AT_ONCE):
            await compare(
                f"publish, {n} at once",
                lambda n=n: bare.publish(n),
                lambda n=n: publishing(events, "published", n),
            )
        await compare("consume with ack", bare.consume, lambda: consuming(events))
        for n in (1, AT_ONCE):
            await compare(
                f"request and reply, {n} at once",
                lambda n=n: bare.request(n),
                lambda n=n: requesting(events, n),
            )
        for n in (1, AT_ONCE):
            await compare(
                f"enqueue and complete, {n} at once",
                lambda n=n: bare.work(n),
                lambda n=n: working(queues, JOBS, n),
                count=JOBS,
            )
        await print_event_latency(events)
        await print_job_latency(queues)
        await print_idle(events, queues)
        await queues.close()
        await events.close()
        await client.close()


if __name__ == "__main__":
    asyncio.run(main())

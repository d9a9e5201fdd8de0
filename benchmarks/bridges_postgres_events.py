"""The PostgreSQL event bridge, as ratios to bare psycopg: a row for the subscriber of each event.

Floors: publish and consume with ack 0.7 each. The bare side inserts a row for each event, and takes it
with ``FOR UPDATE SKIP LOCKED`` and a deletion, over as many connections. Run with
``python benchmarks/bridges_postgres_events.py``.
"""

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bridges_postgres_queues import Bare
from brokers import (
    AT_ONCE,
    compare,
    print_event_latency,
    print_idle,
    publishing,
    requesting,
    shared,
    timed,
)
from tests.engines.postgres import postgres_server

from purista.bridges.postgres_events import CONNECTIONS, PostgresEventBridge
from purista.message import Message, new_message_id

COUNT = 2_000


async def consuming(bridge: PostgresEventBridge) -> float:
    """Consume events that wait for their subscriber; return the seconds."""
    left, done = COUNT, asyncio.Event()

    async def receive(_: Message) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    name = new_message_id()
    await (await bridge.subscribe(name, "group", receive)).cancel()
    await publishing(bridge, name, AT_ONCE, count=COUNT)

    async def consume() -> None:
        subscription = await bridge.subscribe(name, "group", receive)
        await done.wait()
        await subscription.cancel()

    return await timed(consume())


async def main() -> None:
    with postgres_server() as server:
        bare, events = Bare(), PostgresEventBridge(server.url)
        await bare.open(server.url, CONNECTIONS)

        async def receive(_: Message) -> None: ...

        async def bare_consuming() -> float:
            await shared(COUNT, bare.enqueue, AT_ONCE)
            return await timed(shared(COUNT, bare.complete, AT_ONCE))

        await (await events.subscribe("published", "group", receive)).cancel()
        for n in (1, AT_ONCE):
            await compare(
                f"publish to a subscriber, {n} at once",
                lambda n=n: timed(shared(COUNT, bare.enqueue, n)),
                lambda n=n: publishing(events, "published", n, count=COUNT),
                count=COUNT,
            )
        await bare.run(b"DELETE FROM bare", ())
        await compare("consume with ack", bare_consuming, lambda: consuming(events), count=COUNT)
        took = await requesting(events, AT_ONCE, count=COUNT)
        print(f"request and reply, {AT_ONCE} at once: {COUNT / took:.0f}/s")
        await print_event_latency(events)
        await print_idle(events)
        await events.close()


if __name__ == "__main__":
    asyncio.run(main())

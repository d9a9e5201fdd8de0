"""What the benchmarks of bridges share: messages, rounds, ratios, and what an idle bridge costs."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from purista.bridges import EventBridge, Job, QueueBridge, Reply
from purista.message import Message, new_message_id

COUNT = 4_000
AT_ONCE = 32
ROUNDS = 5
BODY = json.dumps({"order_id": "4711", "amount": 5, "lines": ["x" * 20] * 5}).encode()
TIMEOUT = timedelta(seconds=10)
LEASE = timedelta(seconds=30)

Measure = Callable[[], Awaitable[float]]


def message(name: str) -> Message:
    """Return a message of its own."""
    return Message(name, BODY, new_message_id())


async def handle(body: bytes) -> None:
    """Do what a handler does at least: read the payload."""
    json.loads(body)


async def timed(work: Awaitable[object]) -> float:
    """Return the seconds that some work takes."""
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


async def compare(title: str, bare: Measure, bridge: Measure, *, count: int = COUNT) -> None:
    """Print the median ratio of rounds in which one follows the other."""
    pairs = [(await bare(), await bridge()) for _ in range(ROUNDS)]
    ratio = statistics.median(theirs / ours for theirs, ours in pairs)
    rate = count / min(ours for _, ours in pairs)
    print(f"{title:36} {ratio:5.2f} of bare, {rate:8.0f}/s")


async def publishing(bridge: EventBridge, name: str, at_once: int, *, count: int = COUNT) -> float:
    """Publish events; return the seconds."""
    return await timed(shared(count, lambda: bridge.publish(message(name)), at_once))


async def consuming(bridge: EventBridge) -> float:
    """Consume events that wait for their subscriber; return the seconds."""
    left, done = COUNT, asyncio.Event()

    async def receive(one: Message) -> None:
        nonlocal left
        await handle(one.body)
        left -= 1
        if not left:
            done.set()

    name = new_message_id()
    gone = await bridge.subscribe(name, "group", receive)
    await gone.cancel()
    await shared(COUNT, lambda: bridge.publish(message(name)), AT_ONCE)

    async def consume() -> None:
        subscription = await bridge.subscribe(name, "group", receive)
        await done.wait()
        await subscription.cancel()

    return await timed(consume())


async def requesting(bridge: EventBridge, at_once: int, *, count: int = COUNT) -> float:
    """Ask and get answers; return the seconds."""

    async def answer(one: Message) -> Reply:
        return Reply(one.body)

    name = new_message_id()
    serving = await bridge.serve(name, answer)

    async def step() -> None:
        await (await bridge.request(message(name), timeout=TIMEOUT))

    took = await timed(shared(count, step, at_once))
    await serving.cancel()
    return took


async def working(bridge: QueueBridge, count: int, at_once: int) -> float:
    """Enqueue jobs, then lease and complete them; return the seconds."""
    name = new_message_id()

    async def complete() -> None:
        leased = await bridge.lease(name, duration=LEASE)
        assert leased is not None
        await handle(leased.job.message.body)
        await bridge.ack(leased)

    async def work() -> None:
        await shared(count, lambda: bridge.enqueue(Job(message(name))), at_once)
        await shared(count, complete, at_once)

    return await timed(work())


async def print_event_latency(bridge: EventBridge) -> None:
    """Print how long an idle subscriber takes to hear of an event."""
    found: list[float] = []
    arrived = asyncio.Event()

    async def receive(_: Message) -> None:
        found.append((time.perf_counter() - began) * 1000)
        arrived.set()

    name = new_message_id()
    subscription = await bridge.subscribe(name, "group", receive)
    for _ in range(100):
        await asyncio.sleep(0.01)
        arrived.clear()
        began = time.perf_counter()
        await bridge.publish(message(name))
        await arrived.wait()
    await subscription.cancel()
    print(f"pick-up of an event: median {statistics.median(found):.2f} ms, worst {max(found):.2f}")


async def print_job_latency(bridge: QueueBridge) -> None:
    """Print how long an idle worker takes to get a job."""
    found: list[float] = []
    name = new_message_id()
    for _ in range(100):
        waiting = asyncio.create_task(bridge.lease(name, duration=LEASE))
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        await bridge.enqueue(Job(message(name)))
        leased = await waiting
        found.append((time.perf_counter() - began) * 1000)
        assert leased is not None
        await bridge.ack(leased)
    print(f"pick-up of a job: median {statistics.median(found):.2f} ms, worst {max(found):.2f}")


async def print_idle(events: EventBridge, queues: QueueBridge | None = None) -> None:
    """Print what share of a core ten idle subscriptions, a responder and ten idle workers take."""

    async def receive(_: Message) -> None: ...

    async def answer(one: Message) -> Reply:
        return Reply(one.body)

    held = [await events.subscribe(new_message_id(), "group", receive) for _ in range(10)]
    serving = await events.serve(new_message_id(), answer)
    waiting = [
        asyncio.create_task(queues.lease(new_message_id(), duration=LEASE))
        for _ in range(10)
        if queues is not None
    ]
    await asyncio.sleep(1)
    began, busy = time.perf_counter(), time.process_time()
    await asyncio.sleep(15)
    share = (time.process_time() - busy) / (time.perf_counter() - began)
    print(f"idle: {share:.2%} of a core")
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await asyncio.gather(serving.cancel(), *(one.cancel() for one in held))

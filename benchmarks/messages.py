"""Messages in memory, as ratios to plain asyncio that validates with the same TypeAdapter.

Floors: event to one subscription and command request/reply 0.4 of a task per message; queue from
enqueue to complete 0.3 of an asyncio.Queue. Run with `python benchmarks/messages.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from pydantic import BaseModel, TypeAdapter

from purista import Context, Host, MemoryEventBridge, MemoryQueueBridge, Service

COUNT = 20_000
ROUNDS = 9


class Order(BaseModel):
    order_id: str
    amount: int


ADAPTER = TypeAdapter(Order)
ORDER = Order(order_id="4711", amount=5)
PLAIN = {"order_id": "4711", "amount": 5}


async def yardstick_task() -> None:
    """Spawn a task per message that validates."""

    async def handle(message: dict[str, object]) -> None:
        ADAPTER.validate_python(message)

    tasks = [asyncio.create_task(handle(PLAIN)) for _ in range(COUNT)]
    await asyncio.gather(*tasks)


async def yardstick_request() -> None:
    """Spawn a task per message that validates, and wait for its answer before the next."""

    async def handle(message: dict[str, object]) -> int:
        return ADAPTER.validate_python(message).amount

    for _ in range(COUNT):
        await asyncio.create_task(handle(PLAIN))


async def yardstick_queue() -> None:
    """Put messages into an asyncio.Queue; one worker gets, validates and calls task_done."""
    queue: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def handle(order: Order) -> None: ...

    async def work() -> None:
        while True:
            await handle(ADAPTER.validate_python(await queue.get()))
            queue.task_done()

    worker = asyncio.create_task(work())
    for _ in range(COUNT):
        await queue.put(PLAIN)
    await queue.join()
    worker.cancel()


class Bench:
    def __init__(self) -> None:
        self.service = Service("Bench")
        self.event = self.service.event("event", Order)
        self.queue = self.service.queue("queue", Order)
        self.command = self.service.command("command", Order, returns=int)
        self.handled = 0
        self.done = asyncio.Event()

        @self.service.subscription(self.event)
        async def on_event(order: Order, ctx: Context) -> None:
            self.count()

        @self.service.worker(self.queue)
        async def on_job(order: Order, ctx: Context) -> None:
            self.count()

        @self.service.handles(self.command)
        async def on_command(order: Order, ctx: Context) -> int:
            return order.amount

    def count(self) -> None:
        self.handled += 1
        if self.handled == COUNT:
            self.done.set()

    def host(self) -> Host:
        self.handled = 0
        self.done = asyncio.Event()
        return Host(
            self.service, event_bridge=MemoryEventBridge(), queue_bridge=MemoryQueueBridge()
        )


async def timed(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def ours_event(bench: Bench) -> float:
    async def work() -> None:
        for _ in range(COUNT):
            await host.emit(bench.event, ORDER)
        await bench.done.wait()

    async with bench.host() as host:
        return await timed(work())


async def ours_command(bench: Bench) -> float:
    async def work() -> None:
        for _ in range(COUNT):
            await host.invoke(bench.command, ORDER)

    async with bench.host() as host:
        return await timed(work())


async def ours_queue(bench: Bench) -> float:
    async def work() -> None:
        for _ in range(COUNT):
            await host.enqueue(bench.queue, ORDER)
        await bench.done.wait()

    async with bench.host() as host:
        return await timed(work())


async def compare(
    name: str,
    floor: float,
    yardstick: Callable[[], Awaitable[None]],
    ours: Callable[[Bench], Awaitable[float]],
) -> None:
    bench = Bench()
    rounds = [(await timed(yardstick()), await ours(bench)) for _ in range(ROUNDS)]
    plain, mine = (min(times) for times in zip(*rounds, strict=True))
    each = 1e6 / COUNT
    print(
        f"{name:32} {plain / mine:5.2f} of the yardstick (floor {floor}); "
        f"{mine * each:6.1f} against {plain * each:.1f} microseconds a message"
    )


async def main() -> None:
    await compare("event -> one subscription", 0.4, yardstick_task, ours_event)
    await compare("command request/reply (task)", 0.4, yardstick_request, ours_command)
    await compare("queue enqueue -> complete", 0.3, yardstick_queue, ours_queue)


if __name__ == "__main__":
    asyncio.run(main())

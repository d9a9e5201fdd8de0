"""The RabbitMQ event bridge, as ratios to bare aio-pika with the same confirms and acks on the same server.

Floors: publish, consume with ack, request and reply 0.7 each. Both sides send the same headers to a
durable exchange and wait for the confirm, and acknowledge each event by itself from a quorum queue; a
bare request goes to a queue and is answered to ``amq.rabbitmq.reply-to``, both confirmed. Run with
``python benchmarks/bridges_rabbitmq_events.py``.
"""

import asyncio
import sys
from pathlib import Path

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

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
from tests.engines.rabbitmq import rabbitmq_server

from purista.bridges.envelope import headers_of
from purista.bridges.rabbitmq_events import RabbitMQEventBridge
from purista.message import new_message_id

PREFETCH = 100


def bare_message(name: str, **properties: object) -> aio_pika.Message:
    headers = headers_of(message(name), prefix="cloudEvents:")
    kind = headers.pop("content-type")
    return aio_pika.Message(BODY, headers=dict(headers), content_type=kind, **properties)  # type: ignore[arg-type]


class Bench:
    def __init__(self, url: str) -> None:
        self.url = url
        self.bridge = RabbitMQEventBridge(url)

    async def open(self) -> None:
        self.bare = await aio_pika.connect(self.url)
        self.channel = await self.bare.channel(publisher_confirms=True)
        self.exchange = await self.channel.declare_exchange(
            "bare", aio_pika.ExchangeType.TOPIC, durable=True
        )

    async def bare_publish(self, at_once: int) -> float:
        queue = await self.bare_queue()

        async def step() -> None:
            one = bare_message("bare", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await self.exchange.publish(one, "bare", mandatory=False)

        took = await timed(shared(COUNT, step, at_once))
        await queue.delete(if_unused=False, if_empty=False)
        return took

    async def bare_queue(self) -> aio_pika.abc.AbstractQueue:
        queue = await self.channel.declare_queue(
            new_message_id(), durable=True, arguments={"x-queue-type": "quorum"}
        )
        await queue.bind(self.exchange, "bare")
        return queue

    async def bare_consume(self) -> float:
        queue = await self.bare_queue()

        async def send() -> None:
            one = bare_message("bare", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await self.exchange.publish(one, "bare", mandatory=False)

        await shared(COUNT, send, AT_ONCE)
        left, done = COUNT, asyncio.Event()

        async def receive(one: AbstractIncomingMessage) -> None:
            nonlocal left
            await handle(one.body)
            await one.ack()
            left -= 1
            if not left:
                done.set()

        async def consume() -> None:
            async with self.bare.channel(publisher_confirms=False) as channel:
                await channel.set_qos(PREFETCH)
                again = await channel.get_queue(queue.name)
                tag = await again.consume(receive)
                await done.wait()
                await again.cancel(tag)

        took = await timed(consume())
        await queue.delete(if_unused=False, if_empty=False)
        return took

    async def bare_request(self, at_once: int) -> float:
        queue = await self.channel.declare_queue(new_message_id(), durable=True, auto_delete=True)
        answering = await self.bare.channel(publisher_confirms=True)
        asking = await self.bare.channel(publisher_confirms=True)
        waiting: dict[str, asyncio.Future[bytes]] = {}
        loop = asyncio.get_running_loop()

        async def answer(one: AbstractIncomingMessage) -> None:
            reply = aio_pika.Message(
                one.body, correlation_id=one.correlation_id, content_type="application/json"
            )
            await answering.default_exchange.publish(reply, one.reply_to or "", mandatory=False)

        async def answered(one: AbstractIncomingMessage) -> None:
            waiting.pop(one.correlation_id or "").set_result(one.body)

        served = await (await answering.get_queue(queue.name)).consume(answer, no_ack=True)
        replies = await asking.get_queue("amq.rabbitmq.reply-to", ensure=False)
        listening = await replies.consume(answered, no_ack=True)

        async def step() -> None:
            number = new_message_id()
            waiting[number] = reply = loop.create_future()
            one = bare_message(
                "bare", correlation_id=number, reply_to="amq.rabbitmq.reply-to", expiration=10
            )
            await asking.default_exchange.publish(one, queue.name, mandatory=True)
            await reply

        took = await timed(shared(COUNT, step, at_once))
        await replies.cancel(listening)
        await (await answering.get_queue(queue.name)).cancel(served)
        await answering.close()
        await asking.close()
        return took


async def main() -> None:
    with rabbitmq_server() as server:
        bench = Bench(server.url)
        await bench.open()
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
        await bench.bare.close()


if __name__ == "__main__":
    asyncio.run(main())

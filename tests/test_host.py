import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from purista import (
    Backoff,
    CommandTimeoutError,
    Context,
    HandledError,
    Host,
    MemoryEventBridge,
    MemoryQueueBridge,
    PayloadError,
    Service,
    UnhandledError,
    UnknownCommandError,
)
from purista.bridges import Job
from purista.errors import BridgeError, ContractError, LeaseLostError, LedgerError
from purista.ledgers import Run
from purista.ledgers.memory import MemoryLedger
from purista.message import RUN_CANCELLED, RUN_ENDED, Message, RunInfo
from purista.testing import ManualClock

START = datetime(2027, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RUN = RunInfo("run-1", "Shop.v1.nightly", START, "Europe/Berlin", is_target=True)


class Order(BaseModel):
    order_id: str


class Shop:
    """A service with one message of each kind; tests put the handlers in."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.events = MemoryEventBridge(clock=self.clock)
        self.queues = MemoryQueueBridge(clock=self.clock)
        self.service = Service("Shop", version="1")
        self.paid = self.service.event("paid", Order)
        self.invoices = self.service.queue(
            "invoices", Order, max_attempts=2, lease=30 * SECOND, backoff=Backoff(jitter=0)
        )
        self.ship = self.service.command("ship", Order, returns=str, timeout=5 * SECOND)
        self.seen: list[Any] = []

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[Host]:
        async with Host(
            self.service,
            event_bridge=self.events,
            queue_bridge=self.queues,
            clock=self.clock,
            **options,
        ) as host:
            yield host

    async def invoke(self, host: Host) -> str:
        return await host.invoke(self.ship, Order(order_id="1"))


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    made = Shop()
    yield made
    await made.events.close()
    await made.queues.close()


ORDER = Order(order_id="1")


async def test_every_subscription_gets_every_event(shop: Shop):
    @shop.service.subscription(shop.paid)
    async def one(order: Order, ctx: Context) -> None:
        shop.seen.append(("one", order.order_id))

    @shop.service.subscription(shop.paid)
    async def two(order: Order, ctx: Context) -> None:
        shop.seen.append(("two", order.order_id))

    async with shop.open() as host:
        await host.emit(shop.paid, ORDER)
    assert sorted(shop.seen) == [("one", "1"), ("two", "1")]


async def test_a_context_says_what_started_the_run(shop: Shop):
    @shop.service.subscription(shop.paid)
    async def on_paid(order: Order, ctx: Context) -> None:
        assert ctx.nominal_time is not None
        shop.seen.append((ctx.run_id, ctx.schedule_id, ctx.nominal_time.isoformat()))
        shop.seen.append((ctx.attempt, ctx.cancelled))
        await ctx.heartbeat()

    async with shop.open() as host:
        await host.emit(shop.paid, ORDER, run=RUN)
    assert shop.seen == [
        ("run-1", "Shop.v1.nightly", "2027-03-01T01:00:00+01:00"),
        (1, False),
    ]


async def test_a_context_without_a_run_has_the_messages_id(shop: Shop):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append((ctx.run_id == ctx.message_id, ctx.schedule_id, ctx.nominal_time))

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
    assert shop.seen == [(True, None, None)]


async def test_what_a_handler_sends_belongs_to_its_run(shop: Shop):
    @shop.service.subscription(shop.paid)
    async def on_paid(order: Order, ctx: Context) -> None:
        assert await ctx.enqueue(shop.invoices, order, key="k")
        assert not await ctx.enqueue(shop.invoices, order, key="k")
        shop.seen.append(await ctx.invoke(shop.ship, order))

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(ctx.run_id)

    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        return ctx.run_id

    async with shop.open() as host:
        await host.emit(shop.paid, ORDER, run=RUN)
    assert shop.seen == ["run-1", "run-1"]


async def test_a_command_answers(shop: Shop):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        return f"parcel {order.order_id}"

    async with shop.open() as host:
        assert await shop.invoke(host) == "parcel 1"


async def test_a_handled_error_reaches_the_caller_with_code_message_and_data(shop: Shop):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        raise HandledError("sold_out", "nothing left", {"left": 0})

    async with shop.open() as host:
        with pytest.raises(HandledError) as caught:
            await shop.invoke(host)
    error = caught.value
    assert (error.code, error.message, error.data) == ("sold_out", "nothing left", {"left": 0})


async def test_an_unexpected_error_reaches_the_caller_without_details(
    shop: Shop, caplog: pytest.LogCaptureFixture
):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        raise RuntimeError("the password is hunter2")

    async with shop.open() as host:
        with pytest.raises(UnhandledError) as caught:
            await host.invoke(shop.ship, ORDER, run=RUN)
    assert "hunter2" not in str(caught.value)
    assert caught.value.code == "internal"
    assert "run run-1" in caplog.text


async def test_error_data_that_is_no_json_is_left_out(shop: Shop):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        raise HandledError("odd", "odd data", {1, 2})

    async with shop.open() as host:
        with pytest.raises(HandledError) as caught:
            await shop.invoke(host)
    assert caught.value.data is None


async def test_an_answer_of_the_wrong_type_is_unexpected(shop: Shop):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> Any:
        return 5

    async with shop.open() as host:
        with pytest.raises(UnhandledError):
            await shop.invoke(host)


async def test_a_command_that_nobody_handles_is_a_clear_error(shop: Shop):
    async with shop.open() as host:
        with pytest.raises(UnknownCommandError, match=r"Shop\.v1\.ship"):
            await shop.invoke(host)


async def test_a_command_that_takes_too_long_times_out(shop: Shop):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        await shop.clock.sleep(60 * SECOND)
        return "late"

    async with shop.open() as host:
        call = asyncio.create_task(shop.invoke(host))
        await shop.clock.advance(60 * SECOND)
        with pytest.raises(CommandTimeoutError):
            await call


async def test_a_payload_that_does_not_fit_is_refused_by_the_handlers_side(shop: Shop):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        return "never"

    message = Message("Shop.v1.ship", b'{"order": "4711"}', "id")
    async with shop.open():
        reply = await (await shop.events.request(message, timeout=SECOND))
    assert reply.error is not None
    assert reply.error.kind == "invalid"
    assert "4711" not in reply.error.message


async def test_a_wrong_payload_is_refused_before_it_is_sent(shop: Shop):
    async with shop.open() as host:
        with pytest.raises(PayloadError):
            await host.emit(shop.paid, {"order": 1})  # type: ignore[arg-type]


async def test_a_failed_job_is_tried_again_after_its_backoff_then_buried(shop: Shop):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(ctx.attempt)
        raise RuntimeError("no paper")

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.settle()
        assert shop.seen == [1]
        await shop.clock.advance(SECOND)
        letters = await shop.queues.dead_letters("invoices")
    assert shop.seen == [1, 2]
    assert [letter.reason for letter in letters] == ["RuntimeError in the handler"]


async def test_a_job_that_does_not_fit_its_schema_is_buried_at_once(shop: Shop):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(order)

    from purista.bridges import Job

    async with shop.open():
        await shop.queues.enqueue(Job(Message("invoices", b'{"secret": "4711"}', "id")))
        await shop.clock.settle()
        letters = await shop.queues.dead_letters("invoices")
    assert shop.seen == []
    assert "order_id" in letters[0].reason
    assert "4711" not in letters[0].reason


async def test_a_worker_works_on_as_many_jobs_as_it_says(shop: Shop):
    at_once: list[int] = []
    running = 0

    @shop.service.worker(shop.invoices, concurrency=3)
    async def invoice(order: Order, ctx: Context) -> None:
        nonlocal running
        running += 1
        at_once.append(running)
        await shop.clock.sleep(SECOND)
        running -= 1

    async with shop.open() as host:
        for number in range(7):
            await host.enqueue(shop.invoices, Order(order_id=str(number)))
        for _ in range(3):
            await shop.clock.advance(SECOND)
    assert max(at_once) == 3
    assert len(at_once) == 7


async def test_a_long_handler_keeps_its_lease(shop: Shop):
    @shop.service.worker(shop.invoices, concurrency=2)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(ctx.attempt)
        await shop.clock.sleep(timedelta(hours=1))

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(timedelta(hours=2))
        assert await shop.queues.dead_letters("invoices") == []
    assert shop.seen == [1]


async def test_a_heartbeat_prolongs_the_lease_for_a_handler_that_blocks(shop: Shop):
    @shop.service.worker(shop.invoices, concurrency=2)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(ctx.attempt)
        await ctx.heartbeat(timedelta(hours=1))
        leased = await shop.queues.lease("invoices", duration=SECOND, wait=timedelta(minutes=50))
        shop.seen.append(leased)

    async with shop.open() as host:
        host._workers[0]._keep = lambda: None  # type: ignore[method-assign]
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(timedelta(minutes=51))
    assert shop.seen == [1, None]


async def test_a_heartbeat_of_a_lost_lease_fails(shop: Shop):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        await shop.clock.sleep(timedelta(minutes=1))
        with pytest.raises(LeaseLostError):
            await ctx.heartbeat()
        shop.seen.append(ctx.attempt)

    async with shop.open() as host:
        host._workers[0]._keep = lambda: None  # type: ignore[method-assign]
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(timedelta(minutes=1))
        assert shop.seen == [1]
        await shop.clock.advance(timedelta(minutes=1))


async def test_a_lost_lease_cancels_the_handler(shop: Shop, caplog: pytest.LogCaptureFixture):
    class Forgetful:
        def __getattr__(self, name: str) -> Any:
            return getattr(queues, name)

        async def extend(self, leased: Any, *, duration: timedelta) -> None:
            raise LeaseLostError("the lease is lost")

    queues = shop.queues
    shop.queues = Forgetful()  # type: ignore[assignment]

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        try:
            await shop.clock.sleep(timedelta(seconds=20))
            shop.seen.append("finished")
        finally:
            shop.seen.append(ctx.cancelled)

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(15 * SECOND)
        assert shop.seen == [True]
        await shop.clock.advance(60 * SECOND)
    shop.queues = queues


async def test_a_cancelled_run_cancels_its_handlers(shop: Shop):
    @shop.service.subscription(shop.paid)
    async def on_paid(order: Order, ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            shop.seen.append(ctx.cancelled)

    async with shop.open() as host:
        await host.emit(shop.paid, ORDER, run=RUN)
        await host.emit(shop.paid, ORDER, run=RUN._replace(run_id="run-2"))
        await shop.clock.settle()
        for run_id in ("run-1", "run-2"):
            body = f'{{"runId": "{run_id}", "reason": "replaced"}}'.encode()
            await shop.events.publish(Message(RUN_CANCELLED, body, "id"))
            await shop.clock.settle()
            assert len(host.tasks) == (1 if run_id == "run-1" else 0)
    assert shop.seen == [True, True]


async def test_a_cancelled_command_tells_its_caller(shop: Shop):
    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        await asyncio.Event().wait()
        return ""

    async with shop.open() as host:
        call = asyncio.create_task(host.invoke(shop.ship, ORDER, run=RUN))
        await shop.clock.settle()
        body = b'{"runId": "run-1", "reason": "replaced"}'
        await shop.events.publish(Message(RUN_CANCELLED, body, "id"))
        with pytest.raises(HandledError, match="the run was replaced"):
            await call


async def test_a_handler_that_ignores_its_cancellation_does_not_harm_its_worker(shop: Shop):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        try:
            await shop.clock.sleep(SECOND)
        except asyncio.CancelledError:
            shop.seen.append("ignored")
            return
        shop.seen.append(order.order_id)

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER, run=RUN)
        await shop.clock.settle()
        body = b'{"runId": "run-1", "reason": "replaced"}'
        await shop.events.publish(Message(RUN_CANCELLED, body, "id"))
        await shop.clock.settle()
        await host.enqueue(shop.invoices, Order(order_id="2"))
        await shop.clock.advance(SECOND)
    assert shop.seen == ["ignored", "2"]


async def test_a_binding_turns_events_into_jobs_once_per_key(shop: Shop):
    bills = shop.service.queue("bills", str)
    shop.service.bind(shop.paid, bills, map=lambda order: order.order_id, idempotency_key="payload")
    shop.service.bind(shop.paid, shop.invoices)

    @shop.service.worker(bills)
    async def bill(order_id: str, ctx: Context) -> None:
        shop.seen.append(("bill", order_id, ctx.run_id))

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(("invoice", order.order_id, ctx.run_id))

    async with shop.open() as host:
        await host.emit(shop.paid, ORDER, run=RUN)
        await host.emit(shop.paid, ORDER, run=RUN)
    assert sorted(shop.seen) == [
        ("bill", "1", "run-1"),
        ("invoice", "1", "run-1"),
        ("invoice", "1", "run-1"),
    ]


async def test_leaving_the_host_works_off_everything_that_was_accepted(shop: Shop):
    @shop.service.subscription(shop.paid)
    async def on_paid(order: Order, ctx: Context) -> None:
        await asyncio.sleep(0)
        await ctx.enqueue(shop.invoices, order)

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        await asyncio.sleep(0)
        shop.seen.append(await ctx.invoke(shop.ship, order))

    @shop.service.handles(shop.ship)
    async def ship(order: Order, ctx: Context) -> str:
        return order.order_id

    async with shop.open() as host:
        for number in range(50):
            await host.emit(shop.paid, Order(order_id=str(number)))
    assert sorted(map(int, shop.seen)) == list(range(50))


async def test_leaving_the_host_follows_a_chain_of_jobs_and_events_to_its_end(shop: Shop):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        await asyncio.sleep(0)
        shop.seen.append(order.order_id)
        if len(order.order_id) < 20:
            await ctx.emit(shop.paid, Order(order_id=order.order_id + "x"))

    @shop.service.subscription(shop.paid)
    async def on_paid(order: Order, ctx: Context) -> None:
        await asyncio.sleep(0)
        await ctx.enqueue(shop.invoices, order)

    async with shop.open() as host:
        await host.enqueue(shop.invoices, Order(order_id="x"))
    assert len(shop.seen) == 20


async def test_a_host_without_a_memory_bridge_finishes_only_what_is_at_work(shop: Shop):
    class Durable:
        def __init__(self, inner: Any) -> None:
            self.lease, self.ack, self.enqueue = inner.lease, inner.ack, inner.enqueue
            self.close, self.capabilities = inner.close, inner.capabilities

    shop.queues = Durable(shop.queues)  # type: ignore[assignment]

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        await asyncio.sleep(0.01)
        shop.seen.append(order.order_id)

    async with shop.open() as host:
        for number in range(5):
            await host.enqueue(shop.invoices, Order(order_id=str(number)))
        await shop.clock.settle()
    assert shop.seen == ["0"]


async def test_a_broker_that_fails_is_asked_again(shop: Shop, caplog: pytest.LogCaptureFixture):
    lease, failures = shop.queues.lease, [1, 2]

    async def failing(*args: Any, **options: Any) -> Any:
        if failures:
            failures.pop()
            raise BridgeError("the broker is away")
        return await lease(*args, **options)

    shop.queues.lease = failing  # type: ignore[method-assign]

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(order.order_id)

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(3 * SECOND)
    assert shop.seen == ["1"]
    assert caplog.text.count("the broker failed") == 1
    assert "the broker is back" in caplog.text


async def test_the_end_of_a_run_is_told_again_until_the_broker_has_it(
    shop: Shop, caplog: pytest.LogCaptureFixture
):
    publish, told = shop.events.publish, [0, 0]

    async def failing(message: Message) -> None:
        if message.name == RUN_ENDED and len(told) > 0:
            told.pop()
            raise BridgeError("the broker is away")
        await publish(message)

    ended: list[str] = []

    async def hear(message: Message) -> None:
        assert message.run is not None
        ended.append(message.run.run_id)

    shop.events.publish = failing  # type: ignore[method-assign]

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(order.order_id)

    await shop.events.subscribe(RUN_ENDED, "test", hear)
    async with shop.open():
        for number in ("1", "2"):
            message = Message(shop.invoices.name, ORDER.model_dump_json().encode(), number, RUN)
            await shop.queues.enqueue(Job(message))
        await shop.clock.advance(20 * SECOND)
    assert shop.seen == ["1", "1"]
    assert ended == ["run-1", "run-1"]
    assert caplog.text.count("its end has to be told again") == 2


async def test_what_a_bridge_cannot_do_is_refused_at_the_start_with_all_reasons(shop: Shop):
    able = shop.events.capabilities
    weak = dataclasses.replace(able, every_instance=False, ordered=False, commands=False)

    class Weak:
        capabilities = weak

    @shop.service.subscription(shop.paid, ordered=True, every_instance=True)
    async def hear(order: Order, ctx: Context) -> None: ...

    host = Host(shop.service, event_bridge=Weak(), queue_bridge=shop.queues)  # type: ignore[arg-type]
    with pytest.raises(ContractError) as caught:
        await host.start()
    assert "subscription 'hear'" in str(caught.value)
    assert "gives an event to one receiver" in str(caught.value)
    assert "keeps no order" in str(caught.value)


async def test_a_lease_that_cannot_be_prolonged_for_now_does_no_harm(
    shop: Shop, caplog: pytest.LogCaptureFixture
):
    async def failing(*args: Any, **options: Any) -> None:
        raise BridgeError("the broker is away")

    shop.queues.extend = failing  # type: ignore[method-assign]

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        await shop.clock.sleep(25 * SECOND)
        shop.seen.append(order.order_id)

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(26 * SECOND)
    assert shop.seen == ["1"]
    assert "could not be prolonged" in caplog.text


async def test_a_broker_that_takes_its_time_costs_none_of_many_jobs_its_lease(shop: Shop):
    extend = shop.queues.extend

    async def slowly(*args: Any, **options: Any) -> None:
        await shop.clock.sleep(4 * SECOND)
        await extend(*args, **options)

    shop.queues.extend = slowly  # type: ignore[method-assign]

    @shop.service.worker(shop.invoices, concurrency=20)
    async def invoice(order: Order, ctx: Context) -> None:
        await shop.clock.sleep(70 * SECOND)
        shop.seen.append(ctx.attempt)

    async with asyncio.timeout(30), shop.open() as host:
        for _ in range(20):
            await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(80 * SECOND)
    assert shop.seen == [1] * 20


async def test_a_job_whose_lease_ran_out_is_settled_by_nobody(
    shop: Shop, caplog: pytest.LogCaptureFixture
):
    async def lost(*args: Any, **options: Any) -> None:
        raise LeaseLostError("the lease is lost")

    ack = shop.queues.ack

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(ctx.attempt)
        shop.queues.ack = lost if ctx.attempt == 1 else ack  # type: ignore[method-assign]

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(31 * SECOND)
    assert shop.seen == [1, 2]
    assert "a lease was lost" in caplog.text


async def test_a_host_forgets_the_oldest_cancellations(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("purista.host.REMEMBERED_CANCELLATIONS", 3)
    async with shop.open() as host:
        for number in range(5):
            body = f'{{"runId": "run-{number}", "reason": "replaced"}}'.encode()
            await shop.events.publish(Message(RUN_CANCELLED, body, "id"))
        await shop.clock.settle()
        known = [await host.was_cancelled(RUN._replace(run_id=f"run-{n}")) for n in range(5)]
    assert known == ["", "", "replaced", "replaced", "replaced"]


async def test_an_event_handler_that_never_ends_is_cut_off_with_the_host(shop: Shop):
    @shop.service.subscription(shop.paid)
    async def on_paid(order: Order, ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            shop.seen.append(ctx.cancelled)

    async with shop.open(grace=timedelta(milliseconds=10)) as host:
        await host.emit(shop.paid, ORDER)
        await shop.clock.settle()
    await shop.clock.settle()
    assert shop.seen == [False], "cut off, but its run goes on: the event comes again"


async def test_a_handler_that_does_not_end_within_the_grace_is_cut_off_and_its_job_is_kept(
    shop: Shop, caplog: pytest.LogCaptureFixture
):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(ctx.attempt)
        await asyncio.Event().wait()

    with caplog.at_level(logging.WARNING):
        async with shop.open(grace=timedelta(milliseconds=20)) as host:
            await host.enqueue(shop.invoices, ORDER)
            await shop.clock.settle()
    assert "not everything finished" in caplog.text
    leased = await shop.queues.lease("invoices", duration=SECOND, wait=timedelta(0))
    assert leased is not None
    assert leased.attempt == 2


async def test_stopping_twice_is_harmless(shop: Shop):
    async with shop.open() as host:
        await host.stop()


async def cancelled_inside() -> None:
    """Wait for something that was cancelled, though nobody cancelled this task."""
    fetching = asyncio.create_task(asyncio.sleep(10))
    fetching.cancel()
    await fetching


async def test_a_job_that_waited_for_something_cancelled_is_tried_after_its_backoff_then_buried(
    shop: Shop,
):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append((order.order_id, ctx.attempt, shop.clock.now() - START))
        if order.order_id == "1":
            await cancelled_inside()

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await host.enqueue(shop.invoices, Order(order_id="2"))
        await shop.clock.advance(60 * SECOND)
        (letter,) = await shop.queues.dead_letters("invoices")
    assert letter.reason == "CancelledError in the handler"
    assert shop.seen == [
        ("1", 1, 0 * SECOND),
        ("2", 1, 0 * SECOND),
        ("1", 2, SECOND),
    ]


async def test_a_command_that_waited_for_something_cancelled_answers_that_it_failed(shop: Shop):
    @shop.service.handles(shop.ship)
    async def on_ship(order: Order, ctx: Context) -> str:
        await cancelled_inside()
        return ""

    async with shop.open() as host:
        with pytest.raises(UnhandledError, match="its log has the details"):
            await shop.invoke(host)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncio.CancelledError()])
async def test_whatever_a_bridge_raises_a_worker_goes_on(
    shop: Shop, caplog: pytest.LogCaptureFixture, error: BaseException
):
    lease, failures = shop.queues.lease, [error]

    async def failing(*args: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return await lease(*args, **options)

    shop.queues.lease = failing  # type: ignore[method-assign]

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(order.order_id)

    async with shop.open() as host:
        await host.enqueue(shop.invoices, ORDER)
        await shop.clock.advance(3 * SECOND)
    assert shop.seen == ["1"]
    assert "it goes on" in caplog.text


class FailingLedger(MemoryLedger):
    """A ledger that is away while ``away`` is true."""

    away = True

    async def run(self, run_id: str) -> Run | None:
        if self.away:
            raise LedgerError("the ledger is away")
        return await super().run(run_id)


def scheduled(queue: str, number: str) -> Job:
    return Job(Message(queue, ORDER.model_dump_json().encode(), number, RUN), 2)


async def test_a_job_waits_for_a_ledger_that_is_away_without_using_up_its_attempts(
    shop: Shop, caplog: pytest.LogCaptureFixture
):
    ledger = FailingLedger()

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append((ctx.message_id, ctx.attempt))

    async with shop.open(ledger=ledger):
        for number in ("1", "2"):
            await shop.queues.enqueue(scheduled(shop.invoices.name, number))
        await shop.clock.advance(timedelta(hours=1))
        assert shop.seen == []
        ledger.away = False
        await shop.clock.advance(10 * SECOND)
    assert shop.seen == [("1", 1), ("2", 1)]
    assert caplog.text.count("the ledger failed") == 1
    assert "the ledger is back" in caplog.text


async def test_a_worker_that_waits_for_its_ledger_can_stop_and_gives_back_the_job(shop: Shop):
    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        shop.seen.append(order.order_id)

    async with shop.open(ledger=FailingLedger()) as host:
        await shop.queues.enqueue(scheduled(shop.invoices.name, "1"))
        await shop.clock.settle()
        (worker,) = host._workers
        stopping = asyncio.create_task(worker.stop())
        await shop.clock.advance(10 * SECOND)
        await stopping
        leased = await shop.queues.lease("invoices", duration=SECOND, wait=timedelta(0))
        assert leased is not None
        await shop.queues.ack(leased)
    assert shop.seen == []


async def test_the_run_of_a_job_that_was_cut_off_in_its_last_attempt_ends(shop: Shop):
    ended: list[bytes] = []

    async def hear(message: Message) -> None:
        ended.append(message.body)

    @shop.service.worker(shop.invoices)
    async def invoice(order: Order, ctx: Context) -> None:
        await asyncio.Event().wait()

    await shop.events.subscribe(RUN_ENDED, "test", hear)
    async with shop.open(grace=timedelta(milliseconds=20)):
        await shop.queues.enqueue(scheduled(shop.invoices.name, "1")._replace(max_attempts=1))
        await shop.clock.settle()
    await shop.events.drained()
    assert ended == [b'{"outcome": "dead_lettered"}']

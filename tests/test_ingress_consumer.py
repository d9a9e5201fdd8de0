"""Triggers from an event or a queue of a broker, in front of a real ingress."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from purista import (
    Cron,
    Every,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Once,
    Service,
    SQLiteLedger,
)
from purista.bridges import DeadLetter, Job, LeasedJob
from purista.bridges.sqlite_queues import SQLiteQueueBridge
from purista.compiling import Request, compile_schedules, default_horizon
from purista.contract import Schedule
from purista.errors import BridgeError, IngressError, TriggerError
from purista.ingress.consumer import EventConsumer, QueueConsumer, message_trigger
from purista.ingress.ingress import RunStore
from purista.message import Message, new_message_id
from purista.schedulers.nats import SCHEDULER
from purista.settings import read_settings
from purista.testing import ManualClock

START = datetime(2027, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TRIGGERS = "purista.triggers"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class GatedQueues:
    """A queue bridge whose broker is away or slow, as a test says, for the jobs of one queue."""

    def __init__(self, inner: MemoryQueueBridge) -> None:
        self.inner = inner
        self.failures: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def enqueue(self, job: Job) -> bool:
        self.entered += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await self.inner.enqueue(job)


class World:
    """A service with an hourly schedule; its triggers come by the event bridge or the queue ``TRIGGERS``."""

    def __init__(self) -> None:
        self.clock = ManualClock(START + 4 * SECOND)
        self.events = MemoryEventBridge(clock=self.clock)
        self.queues: Any = MemoryQueueBridge(clock=self.clock)
        self.targets = GatedQueues(MemoryQueueBridge(clock=self.clock))
        self.ledger: RunStore = MemoryLedger()
        self.service = Service("Shop", version="1")
        self.hourly = self.schedule("hourly", Cron("0 * * * *"))

    def schedule(self, name: str, expression: Any, **options: Any) -> Schedule:
        queue = self.service.queue(f"{name}-jobs", str)
        builder = self.service.schedule(name)
        return builder.enqueue(queue, expression=expression, payload="x", **options)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ingress]:
        parts: dict[str, Any] = {"event_bridge": self.events, "queue_bridge": self.targets}
        parts |= {"ledger": self.ledger, "clock": self.clock}
        async with Ingress([self.service], **parts) as ingress:
            yield ingress

    @asynccontextmanager
    async def consuming(self, **options: Any) -> AsyncIterator[QueueConsumer]:
        async with (
            self.open() as ingress,
            QueueConsumer(ingress, self.queues, clock=self.clock, **options) as consumer,
        ):
            yield consumer
            self.targets.gate.set()

    async def enqueue(self, message: Message, **options: Any) -> None:
        await self.queues.enqueue(Job(message, **options))
        await self.clock.settle()

    async def runs(self) -> list[datetime]:
        return sorted(run.nominal_time for run in await self.ledger.runs())

    async def dead(self) -> list[DeadLetter]:
        return list(await self.queues.dead_letters(TRIGGERS))

    async def drain(self) -> None:
        async with asyncio.timeout(20):
            await self.queues.drained()


@pytest.fixture
def world() -> World:
    return World()


def event_of(schedule: Schedule, nominal: datetime = START, **more: Any) -> dict[str, Any]:
    time = f"{nominal:%Y-%m-%dT%H:%M:%SZ}"
    found = {"specversion": "1.0", "id": f"{schedule.id}/{time}", "source": "test"}
    found |= {"type": "dev.purista.schedule.trigger", "subject": schedule.id, "time": time}
    return found | more


def structured(event: object, **headers: str) -> Message:
    return Message(TRIGGERS, json.dumps(event).encode(), new_message_id(), None, headers or None)


def binary(event: dict[str, Any], body: bytes = b"", **headers: str) -> Message:
    found = {f"ce-{name}": value for name, value in event.items()}
    return Message(TRIGGERS, body, new_message_id(), None, found | headers)


# Reading


def test_a_trigger_is_the_body_or_in_the_headers_with_the_body_as_its_data(world: World):
    event = event_of(world.hourly)
    whole, _ = message_trigger(structured(event | {"data": {"a": 1}}))
    apart, _ = message_trigger(binary(event, b'{"a": 1}'))
    plain, _ = message_trigger(binary(event))
    assert whole == apart
    assert (whole.data, plain.has_data) == ({"a": 1}, False)


def test_headers_are_decoded_as_those_of_http_and_nats_are(world: World):
    """https://github.com/cloudevents/spec, nats-protocol-binding.md, 3.1.3.2; names in any case."""
    message = binary(event_of(world.hourly, source="caf%C3%A9"))
    headers = {name.title(): value for name, value in (message.headers or {}).items()}
    assert message_trigger(message._replace(headers=headers))[0].source == "café"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message(TRIGGERS, b"", "1"), "body: it is not JSON"),
        (Message(TRIGGERS, b"[]", "1"), "body: it is no JSON object"),
        (Message(TRIGGERS, b"\xff", "1"), "body: it is not JSON"),
        (Message(TRIGGERS, b"{}", "1", None, {"content-type": "text/plain"}), "specversion"),
        (Message(TRIGGERS, b"", "1", None, {"ce-id": "1"}), "specversion"),
        (
            Message(TRIGGERS, b"", "1", None, {"ce-puristaslots": "3600+0"}),
            "published is not known",
        ),
        (Message(TRIGGERS, b"{}", "1", None, {"nats-time-stamp": "x"}), "header 'nats-time-stamp'"),
    ],
)
def test_what_is_wrong_with_a_message_is_said_with_its_place(message: Message, words: str):
    with pytest.raises(TriggerError) as found:
        message_trigger(message)
    assert words in str(found.value)


def compiled_headers(schedule: Schedule) -> list[dict[str, str]]:
    """The headers of the messages that a schedule is compiled to for NATS."""
    found = read_settings({"nats": {}}, {"nats": SCHEDULER.settings})
    asked = Request(found["nats"], found["ingress"], default_horizon(START))  # type: ignore[arg-type]
    made = compile_schedules(SCHEDULER, [schedule], asked)
    text = next(one.text for one in made.artifacts if one.path.endswith("messages.jsonl"))
    return [json.loads(line)["headers"] for line in text.splitlines()]


def produced(headers: dict[str, str], stored: datetime) -> Message:
    """What JetStream makes of a schedule's message (tests/test_engines_nats.py), with its time."""
    own = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
    added = {
        "Nats-Scheduler": "purista.schedules.Shop.v1.x.1",
        "Nats-Schedule-Next": "2027-03-02T02:30:00+02:00",
        "Nats-Time-Stamp": f"{stored:%Y-%m-%dT%H:%M:%S.%fZ}",
    }
    return Message(TRIGGERS, b"", new_message_id(), None, own | added)


@pytest.mark.parametrize(
    ("expression", "options", "nominal"),
    [
        (Cron("0 * * * *"), {}, START),
        (
            Cron("15 30 2 * * *", seconds=True),
            {"timezone": "Europe/Berlin"},
            START.replace(hour=1, minute=30, second=15),
        ),
        (Every(timedelta(minutes=45)), {}, START.replace(hour=0, minute=45)),
        (
            Once(datetime(2027, 4, 1, 2, 3, 4, tzinfo=UTC)),
            {},
            datetime(2027, 4, 1, 2, 3, 4, tzinfo=UTC),
        ),
    ],
)
async def test_what_is_compiled_for_nats_is_accepted_at_its_nominal_time(
    world: World, expression: Any, options: dict[str, Any], nominal: datetime
):
    schedule = world.schedule("x", expression, **options)
    [headers] = compiled_headers(schedule)
    world.clock.jump(nominal + timedelta(minutes=9) - world.clock.now())
    async with world.consuming():
        for _ in range(2):
            await world.enqueue(produced(headers, nominal + timedelta(milliseconds=7)))
        await world.drain()
        assert await world.runs() == [nominal]
    assert await world.dead() == []


# From a queue


@pytest.fixture(params=["memory", "sqlite"])
async def everywhere(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = World()
    if request.param == "sqlite":
        made.queues = SQLiteQueueBridge(tmp_path / "queues.sqlite", clock=made.clock)
        made.ledger = SQLiteLedger(tmp_path / "runs.sqlite")
    yield made
    await made.queues.close()
    await made.ledger.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - a store works in another thread
            await asyncio.sleep(0.002)


async def test_triggers_of_a_queue_are_decided_and_the_malformed_ones_are_dead_letters(
    everywhere: World,
):
    world = everywhere
    times = [START - timedelta(minutes=5 * n) for n in range(2)]
    five = world.schedule("five", Every(timedelta(minutes=5)))
    async with world.consuming():
        for time in times:
            await world.enqueue(structured(event_of(five, time)))
            await world.enqueue(Message(TRIGGERS, b"{", new_message_id()))

        async def done() -> bool:
            return len(await world.dead()) == 2 and await world.runs() == sorted(times)

        await until(done)
    assert {letter.attempts for letter in await world.dead()} == {1}
    assert await world.queues.lease(TRIGGERS, duration=SECOND, wait=timedelta(0)) is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(TRIGGERS, b"secret", "1"), "invalid-trigger: trigger: body: it is not JSON"),
        (structured({"specversion": "1.0", "data": "secret"}), "invalid-trigger: "),
        (structured(event_of(World().hourly, subject="Shop.v1.other")), "unknown-schedule: "),
        (structured(event_of(World().hourly, data={"a": "secret"})), "invalid-payload: "),
        (structured(event_of(World().hourly, puristafingerprint="x")), "unknown-contract: "),
    ],
)
async def test_what_no_retry_can_mend_is_a_dead_letter_with_its_reason_and_nothing_else(
    world: World, message: Message, reason: str
):
    async with world.consuming():
        await world.enqueue(message)
        await world.drain()
    [letter] = await world.dead()
    assert letter.reason.startswith(reason)
    assert "secret" not in letter.reason
    assert "\n" not in letter.reason


@pytest.mark.parametrize("nominal", [START - timedelta(hours=2), START + SECOND])
async def test_a_trigger_that_is_late_or_unexpected_is_done(world: World, nominal: datetime):
    """Lines that fire more often than the contract says are meant to be dropped."""
    async with world.consuming():
        await world.enqueue(structured(event_of(world.hourly, nominal)))
        await world.drain()
    assert (await world.runs(), await world.dead()) == ([], [])


@pytest.mark.parametrize("attempts", [1, 2, 5])
async def test_a_trigger_that_is_to_be_sent_again_is_due_again_however_often(
    world: World, attempts: int
):
    world.targets.failures += [BridgeError("the broker is away")] * 12
    async with world.consuming():
        message = structured(event_of(world.hourly))
        await world.enqueue(message, max_attempts=attempts, key="k")
        await world.clock.advance(timedelta(minutes=5))
        assert await world.runs() == [START]
        assert world.targets.failures == []
        assert await world.queues.enqueue(Job(message, key="k")) is False
    assert await world.dead() == []


async def test_a_trigger_is_put_off_for_longer_each_time(world: World):
    world.targets.failures += [BridgeError("the broker is away")] * 4
    async with world.consuming():
        await world.enqueue(structured(event_of(world.hourly)), max_attempts=9)
        for tries, seconds in enumerate((1, 2, 4, 8), start=1):
            await world.clock.advance(timedelta(seconds=seconds - 0.1))
            assert world.targets.entered == tries
            await world.clock.advance(timedelta(seconds=0.1))
        assert await world.runs() == [START]


async def test_the_lease_is_kept_as_long_as_a_decision_takes(world: World):
    world.targets.gate.clear()
    async with world.consuming(lease=timedelta(seconds=30)):
        await world.enqueue(structured(event_of(world.hourly)), max_attempts=1)
        for _ in range(30):
            await world.clock.advance(timedelta(seconds=10))
        assert world.targets.entered == 1
        world.targets.gate.set()
        await world.drain()
        assert await world.runs() == [START]
    assert await world.dead() == []


async def test_a_bug_uses_up_attempts_and_stops_nothing(world: World):
    world.targets.failures += [RuntimeError("a bug")]
    other = world.schedule("other", Cron("0 * * * *"))
    async with world.consuming(concurrency=1):
        await world.enqueue(structured(event_of(world.hourly)), max_attempts=1)
        await world.enqueue(structured(event_of(other)))
        await world.drain()
    [letter] = await world.dead()
    assert letter.reason == "RuntimeError in the ingress"
    assert await world.runs() == [START, START]


async def test_stopping_waits_for_what_is_decided_and_leaves_the_rest(world: World):
    world.targets.gate.clear()
    five = world.schedule("five", Every(timedelta(minutes=5)))
    times = [START - timedelta(minutes=5 * n) for n in range(2)]
    async with world.consuming(concurrency=1) as consumer:
        for time in times:
            await world.enqueue(structured(event_of(five, time)))
        stopping = asyncio.create_task(consumer.stop())
        await world.clock.settle()
        assert not stopping.done()
        world.targets.gate.set()
        await stopping
        await consumer.stop()
        assert await world.runs() == [times[0]]
    leased = await world.queues.lease(TRIGGERS, duration=SECOND)
    assert (leased.attempt, json.loads(leased.job.message.body)["time"]) == (
        1,
        "2027-02-28T23:55:00Z",
    )


async def test_a_stop_that_is_cancelled_gives_back_what_is_at_work(world: World):
    world.targets.gate.clear()
    async with world.consuming() as consumer:
        await world.enqueue(structured(event_of(world.hourly)), max_attempts=1)
        stopping = asyncio.create_task(consumer.stop())
        await world.clock.settle()
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await consumer.stop()
    async with world.consuming():
        await world.drain()
        assert await world.runs() == [START]
    assert await world.dead() == []


class FailingQueues:
    """A queue bridge whose broker fails at times, in the calls that a test names."""

    def __init__(self, inner: MemoryQueueBridge, *calls: str) -> None:
        self.inner = inner
        self.calls = list(calls)

    def __getattr__(self, name: str) -> Any:
        if name not in self.calls:
            return getattr(self.inner, name)

        async def failing(*args: Any, **options: Any) -> Any:
            self.calls.remove(name)
            raise BridgeError(f"{name}: the broker is away")

        return failing


@pytest.mark.parametrize("call", ["lease", "ack", "extend"])
async def test_a_broker_that_fails_is_asked_again(world: World, call: str):
    world.queues = FailingQueues(world.queues, call)
    world.targets.gate.clear()
    async with world.consuming(concurrency=1):
        await world.enqueue(structured(event_of(world.hourly)))
        await world.clock.advance(timedelta(seconds=11))
        world.targets.gate.set()
        await world.clock.advance(timedelta(minutes=2))
        await world.drain()
        assert (world.queues.calls, await world.runs()) == ([], [START])
    assert await world.dead() == []


async def test_a_lease_that_is_lost_stops_nothing(world: World, caplog: pytest.LogCaptureFixture):
    class Forgetful(FailingQueues):
        async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
            await self.inner.ack(leased)
            await self.inner.extend(leased, duration=duration)

    world.queues = Forgetful(world.queues)
    world.targets.gate.clear()
    async with world.consuming(concurrency=1):
        await world.enqueue(structured(event_of(world.hourly)))
        await world.clock.advance(timedelta(seconds=11))
        world.targets.gate.set()
        await world.clock.settle()
        assert "a lease was lost" in caplog.text
        assert "could not be prolonged" not in caplog.text
        await world.enqueue(structured(event_of(world.hourly)))
        await world.drain()


async def test_a_consumer_ends_with_its_bridge(world: World):
    async with world.consuming() as consumer:
        await world.queues.close()
        await world.clock.settle()
        assert all(loop.done() for loop in consumer._loops)


async def test_two_consumers_share_a_thousand_triggers_each_decided_once(world: World):
    minutely = world.schedule("minutely", Every(timedelta(minutes=1)))
    times = [START - timedelta(minutes=n % 10) for n in range(1000)]
    async with (
        world.open() as ingress,
        QueueConsumer(ingress, world.queues, clock=world.clock),
        QueueConsumer(ingress, world.queues, clock=world.clock),
    ):
        await world.clock.settle()
        for time in times:
            await world.queues.enqueue(Job(structured(event_of(minutely, time))))
        await world.drain()
        assert await world.runs() == sorted(set(times))


# From an event


async def test_triggers_of_an_event_are_shared_by_the_consumers_of_a_name(world: World):
    async with (
        world.open() as ingress,
        EventConsumer(ingress, world.events),
        EventConsumer(ingress, world.events),
    ):
        await world.events.publish(binary(event_of(world.hourly)))
        await world.events.drained()
        records = await world.ledger.records()
    assert [record.verdict for record in records] == ["accepted"]


async def test_an_event_that_no_retry_can_mend_is_logged_and_stops_nothing(
    world: World, caplog: pytest.LogCaptureFixture
):
    async with world.open() as ingress, EventConsumer(ingress, world.events, "due"):
        await world.events.publish(Message("due", b"secret", "1"))
        await world.events.publish(structured(event_of(world.hourly))._replace(name="due"))
        await world.events.drained()
        assert await world.runs() == [START]
    assert "refused: trigger: body: it is not JSON" in caplog.text
    assert "secret" not in caplog.text


async def test_a_delivery_fails_when_its_trigger_is_to_be_sent_again(world: World):
    """So that a bridge that redelivers does."""
    world.targets.failures.append(BridgeError("the broker is away"))
    message = structured(event_of(world.hourly))
    async with world.open() as ingress:
        consumer = EventConsumer(ingress, world.events)
        with pytest.raises(IngressError, match="dispatch-failed") as found:
            await consumer._receive(message)
        await consumer._receive(message)
        await consumer.stop()
    assert found.value.retry_after == 1
    assert await world.runs() == [START]


async def test_stopping_waits_for_the_event_that_is_decided(world: World):
    world.targets.gate.clear()
    async with world.open() as ingress, EventConsumer(ingress, world.events) as consumer:
        await world.events.publish(structured(event_of(world.hourly)))
        stopping = asyncio.create_task(consumer.stop())
        await world.clock.settle()
        assert not stopping.done()
        world.targets.gate.set()
        await stopping
        await world.events.publish(structured(event_of(world.schedule("x", Cron("0 * * * *")))))
        assert await world.runs() == [START]


@pytest.mark.parametrize("carried", ["header", "attribute"])
async def test_the_trace_of_the_sender_reaches_the_job(world: World, carried: str):
    assert trace.get_tracer_provider() is not None
    event = event_of(world.hourly)
    message = structured(event, traceparent=CALLER)
    if carried == "attribute":
        message = structured(event | {"traceparent": CALLER})
    async with world.consuming():
        await world.enqueue(message)
        await world.drain()
        leased = await world.targets.inner.lease("hourly-jobs", duration=SECOND)
    assert leased is not None
    assert (leased.job.message.headers or {})["traceparent"].split("-")[1] == CALLER.split("-")[1]

"""Triggers in messages of Google Pub/Sub: pushed as Google documents it, and pulled with Google's SDK.

Pages: PUSH = https://cloud.google.com/pubsub/docs/push, UNWRAPPED =
https://cloud.google.com/pubsub/docs/payload-unwrapping, MESSAGE = https://cloud.google.com/pubsub/docs/
reference/rest/v1/PubsubMessage, BINDING = https://github.com/googleapis/google-cloudevents/blob/main/
docs/spec/pubsub.md.
"""

import asyncio
import base64
import json
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.engines.google_pubsub import NAME, Subscription, serve

from purista import (
    Cron,
    Every,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    Trigger,
)
from purista.bridges import Job
from purista.compiling import Request, compile_schedules, default_horizon
from purista.contract import Schedule
from purista.errors import BridgeError, MissingExtraError, TriggerError
from purista.ingress.pubsub import PubSubConsumer, pushed_trigger, unwrapped_trigger
from purista.schedulers.cloud_scheduler import SCHEDULER
from purista.settings import read_settings
from purista.testing import ManualClock

START = datetime(2027, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOON = timedelta(seconds=1.3)

# PUSH, "How push endpoints receive messages", as it stands there.
PUSHED: dict[str, Any] = {
    "deliveryAttempt": 5,
    "message": {
        "attributes": {"key": "value"},
        "data": "SGVsbG8gQ2xvdWQgUHViL1N1YiEgSGVyZSBpcyBteSBtZXNzYWdlIQ==",
        "messageId": "2070443601311540",
        "message_id": "2070443601311540",
        "orderingKey": "key",
        "publishTime": "2021-02-26T19:13:55.749Z",
        "publish_time": "2021-02-26T19:13:55.749Z",
    },
    "subscription": "projects/myproject/subscriptions/mysubscription",
}

EVENT = {
    "specversion": "1.0",
    "type": "dev.purista.schedule.trigger",
    "source": "s",
    "id": "1",
    "subject": "Shop.v1.hourly",
    "time": "2027-03-01T00:00:00Z",
}
ATTRIBUTES = {f"ce-{name}": value for name, value in EVENT.items()}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def pushed(attributes: dict[str, Any] | None = None, data: object = None, **more: Any) -> bytes:
    """The documented request, with other attributes and data."""
    message = PUSHED["message"] | {"attributes": attributes or {}}
    message["data"] = base64.b64encode(data if isinstance(data, bytes) else b"").decode()
    return json.dumps(PUSHED | {"message": message | more}).encode()


# Reading


def test_a_message_that_is_no_trigger_is_refused_naming_the_place():
    with pytest.raises(TriggerError, match="data: it is not JSON"):
        pushed_trigger(json.dumps(PUSHED).encode())


def test_a_trigger_in_binary_mode_is_in_the_attributes():
    trigger, carrier = pushed_trigger(pushed(ATTRIBUTES, b'{"a": [1]}'))
    assert trigger.to_cloudevent() == EVENT | {
        "data": {"a": [1]},
        "datacontenttype": "application/json",
    }
    assert carrier == {}


def test_a_trigger_without_data_leaves_the_template():
    trigger, _ = pushed_trigger(pushed(ATTRIBUTES))
    assert not trigger.has_data


def test_values_are_not_percent_encoded_as_they_are_in_headers():
    """BINDING, 3.1.3.2: values are the attributes' canonical text."""
    trigger, _ = pushed_trigger(pushed(ATTRIBUTES | {"ce-source": '"100%25"'}))
    assert trigger.source == '"100%25"'


@pytest.mark.parametrize(
    "attributes",
    [
        {"content-type": "application/cloudevents+json; charset=utf-8"},
        {"Content-Type": "application/cloudevents+json"},
        {},
        {"content-type": "application/json"},
        ATTRIBUTES | {"content-type": "application/cloudevents+json", "ce-id": "another"},
    ],
)
def test_a_trigger_in_structured_mode_is_in_the_data(attributes: dict[str, str]):
    trigger, _ = pushed_trigger(pushed(attributes, json.dumps(EVENT).encode()))
    assert trigger == Trigger.from_cloudevent(EVENT)


def test_the_older_names_of_an_envelope_are_read_as_well():
    message = {"attributes": slots_of(), "message_id": "1", "publish_time": "2027-03-01T00:59:59Z"}
    trigger, _ = pushed_trigger(json.dumps({"message": message}).encode())
    assert trigger.nominal_time == START


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "body: it is not JSON"),
        (b"\xff", "body: it is not JSON"),
        (b"[]", "body: it is missing or no JSON object"),
        (b"{}", "message: it is missing"),
        (b'{"message": {"attributes": 5}}', "message: attributes"),
        (b'{"message": {"attributes": {"ce-id": 5}}}', "message: attribute 'ce-id'"),
        (b'{"message": {"data": "%%"}}', "message: data: it is not base64"),
        (b'{"message": {"data": 5}}', "message: data: it is not base64"),
        (pushed(ATTRIBUTES, b"{"), "data: it is not JSON"),
        (pushed({}, b"[]"), "data: it is missing or no JSON object"),
        (pushed({}), "data: it is not JSON"),
        (pushed(ATTRIBUTES | {"content-type": "application/cloudevents+avro"}), "content-type"),
        (pushed(ATTRIBUTES | {"content-type": "text/plain"}, b"1"), "datacontenttype"),
        (pushed(ATTRIBUTES | {"ce-type": "other"}), "attribute 'type'"),
        (pushed(ATTRIBUTES, publishTime="soon"), "message: publishTime"),
        (pushed(ATTRIBUTES, publishTime=5), "message: publishTime"),
        (pushed(ATTRIBUTES, publishTime="2027-03-01T00:00:00"), "message: publishTime"),
    ],
)
def test_what_is_wrong_with_a_push_is_said_with_its_place(body: bytes, words: str):
    with pytest.raises(TriggerError) as found:
        pushed_trigger(body)
    assert words in str(found.value)


def slots_of(text: str = "3600+0", **more: str) -> dict[str, str]:
    found = {name: value for name, value in ATTRIBUTES.items() if name not in ("ce-time", "ce-id")}
    return found | {"ce-puristaslots": text} | more


@pytest.mark.parametrize(
    ("published", "slot"),
    [
        ("2027-03-01T00:00:00Z", "2027-03-01T00:00:00Z"),
        ("2027-03-01T00:59:59.999999999Z", "2027-03-01T00:00:00Z"),
        ("2027-03-01T02:00:00.000000001+01:00", "2027-03-01T01:00:00Z"),
    ],
)
def test_the_slot_is_the_latest_that_is_not_after_the_publishing(published: str, slot: str):
    trigger, _ = pushed_trigger(pushed(slots_of(), publishTime=published))
    assert trigger.nominal_time == datetime.fromisoformat(slot)
    assert trigger.id == f"Shop.v1.hourly/{slot}"


def test_a_time_that_is_said_goes_before_slots():
    attributes = slots_of(**{"ce-time": "2027-02-01T00:00:00Z", "ce-id": "1"})
    trigger, _ = pushed_trigger(pushed(attributes, publishTime="2027-03-01T00:00:00Z"))
    assert trigger.nominal_time == datetime(2027, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("attributes", "more", "words"),
    [
        (slots_of("hourly"), {}, "period+phase"),
        (slots_of("3600+0"), {"publishTime": None, "publish_time": None}, "published is not known"),
        (slots_of("86400+0"), {"publishTime": "0001-01-01T00:00:00+23:59"}, "puristaslots"),
    ],
)
def test_slots_that_cannot_be_told_are_refused(
    attributes: dict[str, str], more: dict[str, Any], words: str
):
    with pytest.raises(TriggerError, match="attribute 'puristaslots'") as found:
        pushed_trigger(pushed(attributes, **more))
    assert words in str(found.value)


@pytest.mark.parametrize(
    "attributes",
    [
        {"traceparent": CALLER},
        {"googclient_traceparent": CALLER},
        {"ce-traceparent": CALLER},
        {"ce-traceparent": CALLER.replace("0a", "0b"), "traceparent": CALLER},
    ],
)
def test_the_trace_is_that_of_the_publisher(attributes: dict[str, str]):
    _, carrier = pushed_trigger(pushed(ATTRIBUTES | attributes))
    assert carrier == {"traceparent": CALLER}


def test_an_unwrapped_push_has_its_metadata_in_headers():
    """UNWRAPPED, "Write metadata": x-goog-pubsub-publish-time, and the attributes as headers."""
    headers = {
        "x-goog-pubsub-subscription-name": "projects/p/subscriptions/s",
        "x-goog-pubsub-message-id": "2070443601311540",
        "X-Goog-Pubsub-Publish-Time": "2027-03-01T00:00:01Z",
        "content-length": "2",
        "googclient_traceparent": CALLER,
    }
    trigger, carrier = unwrapped_trigger([*headers.items(), *slots_of().items()], b"{}")
    assert (trigger.nominal_time, trigger.data) == (START, {})
    assert carrier == {"traceparent": CALLER}


# What Cloud Scheduler sends


class World:
    """A service with an hourly schedule, and an ingress for it on a manual clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(START + SOON)
        self.queues = MemoryQueueBridge(clock=self.clock)
        self.ledger = MemoryLedger()
        self.service = Service("Shop", version="1")
        self.hourly = self.schedule("hourly", Cron("0 * * * *"))

    def schedule(self, name: str, expression: Any, **options: Any) -> Schedule:
        queue = self.service.queue(f"{name}-jobs", str)
        builder = self.service.schedule(name)
        return builder.enqueue(queue, expression=expression, payload="x", **options)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ingress]:
        parts: dict[str, Any] = {"event_bridge": MemoryEventBridge(), "queue_bridge": self.queues}
        async with Ingress([self.service], ledger=self.ledger, clock=self.clock, **parts) as found:
            yield found

    async def runs(self) -> list[tuple[str, datetime | None]]:
        return [(run.schedule_id, run.nominal_time) for run in await self.ledger.runs()]


@pytest.fixture
def world() -> World:
    return World()


def compiled_attributes(schedule: Schedule) -> list[dict[str, str]]:
    """The attributes of the messages that a schedule's jobs publish, out of the artifact."""
    table = {"project": "shop-123456", "location": "europe-west3"}
    table |= {"target": {"kind": "pubsub", "topic": "triggers"}}  # type: ignore[dict-item]
    tables = {"cloud-scheduler": table, "ingress": {"url": "https://t.example.com"}}
    found = read_settings(tables, {"cloud-scheduler": SCHEDULER.settings})
    asked = Request(found["cloud-scheduler"], found["ingress"], default_horizon(START))  # type: ignore[arg-type]
    made = compile_schedules(SCHEDULER, [schedule], replace(asked, accepted=frozenset()))
    calls = json.loads(next(one.text for one in made.artifacts if one.path == "requests.json"))
    return [call["request"]["job"]["pubsubTarget"]["attributes"] for call in calls]


@pytest.mark.parametrize(
    ("expression", "options", "nominal"),
    [
        (Cron("0 * * * *"), {}, START),
        (Cron("30 9,17 * * *"), {}, START + timedelta(hours=9, minutes=30)),
        (Cron("30 4 * * *"), {"timezone": "Asia/Kolkata"}, START - timedelta(hours=1)),
        (Every(timedelta(minutes=90)), {}, datetime(2027, 3, 1, 1, 30, tzinfo=UTC)),
    ],
)
async def test_what_is_compiled_is_accepted_at_its_nominal_time_however_late_it_is_pushed(
    world: World, expression: Any, options: dict[str, Any], nominal: datetime
):
    schedule = world.schedule("compiled", expression, **options)
    [attributes] = compiled_attributes(schedule)
    world.clock = ManualClock(nominal + timedelta(minutes=9))
    body = pushed(attributes, publishTime=f"{nominal + SOON:%Y-%m-%dT%H:%M:%S.%fZ}")
    trigger, _ = pushed_trigger(body)
    async with world.open() as ingress:
        decision = await ingress.accept(trigger)
        again = await ingress.accept(trigger)
    assert (decision.verdict, decision.nominal_time) == ("accepted", nominal)
    assert (again.verdict, again.run_id) == ("duplicate", decision.run_id)


# Pulling


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the server is in other threads
            await asyncio.sleep(0.002)


@asynccontextmanager
async def pulling(
    world: World, subscription: Subscription, **options: Any
) -> AsyncIterator[PubSubConsumer]:
    async with (
        world.open() as ingress,
        PubSubConsumer(
            ingress, NAME, client=subscription.client, clock=world.clock, **options
        ) as consumer,
    ):
        yield consumer


async def test_what_is_compiled_is_pulled_accepted_and_acknowledged(world: World):
    [attributes] = compiled_attributes(world.hourly)
    with serve() as subscription:
        async with pulling(world, subscription):
            names = [subscription.publish(attributes, published=START + SOON) for _ in range(3)]
            await until(lambda: len(subscription.acked) == 3)
    assert sorted(subscription.acked) == names
    assert await world.runs() == [("Shop.v1.hourly", START)]


async def test_of_a_line_that_fires_more_often_the_rest_is_dropped(world: World):
    schedule = world.schedule("last", Cron("0 0 L * *"))
    world.clock = ManualClock(datetime(2027, 2, 28, 0, 0, 9, tzinfo=UTC))
    [attributes] = compiled_attributes(schedule)
    days = [datetime(2027, 1, day, tzinfo=UTC) for day in (28, 29, 30)]
    days.append(datetime(2027, 2, 28, tzinfo=UTC))
    with serve(max_attempts=5) as subscription:
        async with pulling(world, subscription):
            names = [subscription.publish(attributes, published=day + SOON) for day in days]
            await until(lambda: len(subscription.acked) == 4)
    assert (sorted(subscription.acked), subscription.dead) == (names, [])
    assert await world.runs() == [(schedule.id, days[-1])]


async def test_the_client_of_the_emulator_is_opened_and_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    with serve() as subscription:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", subscription.address)
        async with world.open() as ingress, PubSubConsumer(ingress, NAME):
            subscription.publish(slots_of(), published=START + SOON)
            await until(lambda: subscription.acked != [])
    assert await world.runs() == [("Shop.v1.hourly", START)]


class GatedQueues:
    """A queue bridge whose broker is away, slow or broken, as a test says."""

    def __init__(self, inner: MemoryQueueBridge) -> None:
        self.inner = inner
        self.failures: list[Exception] = []
        self.entered = 0
        self.gate = asyncio.Event()
        self.gate.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def enqueue(self, job: Job) -> bool:
        self.entered += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        return await self.inner.enqueue(job)


@pytest.mark.parametrize("failure", [BridgeError("the broker is away"), RuntimeError("a bug")])
async def test_a_trigger_that_is_to_be_sent_again_comes_after_its_deadline(
    world: World, failure: Exception
):
    world.queues = gated = GatedQueues(world.queues)  # type: ignore[assignment]
    gated.failures.append(failure)
    with serve() as subscription:
        async with pulling(world, subscription):
            name = subscription.publish(slots_of(), published=START + SOON)
            await until(lambda: gated.failures == [] and len(subscription.deadlines(name)) > 1)
            assert subscription.deadlines(name) == [10, 10]
            assert subscription.acked == []
            await world.clock.advance(
                timedelta(seconds=31)
            )  # what a bug leaves claimed is free then
            subscription.pass_deadline(name)
            await until(lambda: subscription.acked == [name])
    assert await world.runs() == [("Shop.v1.hourly", START)]


async def test_what_no_retry_can_mend_goes_to_the_dead_letter_topic(world: World):
    with serve(max_attempts=5) as subscription:
        async with pulling(world, subscription):
            name = subscription.publish({"ce-id": "1"})
            unknown = subscription.publish(ATTRIBUTES | {"ce-subject": "Shop.v1.other"})
            good = subscription.publish(ATTRIBUTES)
            await until(lambda: len(subscription.dead) == 2 and subscription.acked == [good])
    assert sorted(subscription.dead) == sorted([name, unknown])


async def test_without_a_dead_letter_topic_it_stays_and_comes_rarely(
    world: World, caplog: pytest.LogCaptureFixture
):
    with serve() as subscription:
        async with pulling(world, subscription):
            name = subscription.publish({"ce-id": "1"})
            await until(lambda: subscription.deadlines(name)[-1:] == [600])
    assert subscription.acked == []
    assert "ERROR" in {each.levelname for each in caplog.records if each.name == "purista.pubsub"}


async def test_messages_that_are_put_off_keep_no_other_waiting(world: World):
    with serve() as subscription:
        async with pulling(world, subscription, concurrency=1):
            bad = [subscription.publish({"ce-id": "1"}) for _ in range(3)]
            good = subscription.publish(ATTRIBUTES)
            await until(lambda: subscription.acked == [good])
            assert [subscription.deadlines(name)[-1] for name in bad] == [600] * 3


async def test_at_most_so_many_messages_are_decided_at_once(world: World):
    world.queues = gated = GatedQueues(world.queues)  # type: ignore[assignment]
    gated.gate.clear()
    times = [START - HOUR * n for n in range(5)]
    slow = world.schedule("slow", Cron("0 * * * *"), missed_run_policy="catchUp")
    with serve() as subscription:
        async with pulling(world, subscription, concurrency=2):
            for time in times:
                subscription.publish(slots_of(**{"ce-subject": slow.id}), published=time)
            await until(lambda: gated.entered == 2 and len(subscription.held) > 2)
            assert gated.entered == 2
            gated.gate.set()
            await until(lambda: len(subscription.acked) == 5)
    assert sorted(await world.runs()) == sorted((slow.id, time) for time in times)


async def test_stopping_waits_for_what_is_decided_and_leaves_the_rest(world: World):
    world.queues = gated = GatedQueues(world.queues)  # type: ignore[assignment]
    gated.gate.clear()
    with serve() as subscription:
        async with pulling(world, subscription, concurrency=1) as consumer:
            first = subscription.publish(slots_of(), published=START + SOON)
            second = subscription.publish(ATTRIBUTES)
            await until(lambda: gated.entered == 1)
            stopping = asyncio.create_task(consumer.stop())
            await until(lambda: not threads_of("Thread-ConsumeBidirectionalStream"))
            assert not stopping.done()
            gated.gate.set()
            await stopping
            assert subscription.acked == [first]
        if second in subscription.names_held():  # it was on its way
            subscription.pass_deadline(second)
        async with pulling(World(), subscription):
            await until(lambda: subscription.acked == [first, second])


def threads_of(name: str) -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith(name)]


async def test_a_stream_that_breaks_is_opened_again(world: World, caplog: pytest.LogCaptureFixture):
    with serve() as subscription:
        subscription.refusals += [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND]
        async with pulling(world, subscription):
            await until(lambda: world.clock.sleepers == 1)
            await world.clock.advance(timedelta(seconds=1))
            await until(lambda: len(subscription.streams) == 2 and world.clock.sleepers == 1)
            await world.clock.advance(timedelta(seconds=1.9))
            assert world.clock.sleepers == 1
            await world.clock.advance(timedelta(seconds=0.1))
            name = subscription.publish(slots_of(), published=START)
            await until(lambda: subscription.acked == [name])
    assert "the stream broke: PermissionDenied" in caplog.text


async def test_a_consumer_whose_stream_is_broken_stops_at_once(world: World):
    with serve() as subscription:
        subscription.refusals.append(grpc.StatusCode.PERMISSION_DENIED)
        async with pulling(world, subscription) as consumer:
            await until(lambda: world.clock.sleepers == 1)
            async with asyncio.timeout(10):
                await consumer.stop()
                await consumer.stop()


class LateClient:
    """A client that cannot subscribe at first, as a machine without threads to spare."""

    def __init__(self, inner: Any, failures: int) -> None:
        self.inner = inner
        self.failures = failures

    def subscribe(self, *args: Any, **options: Any) -> Any:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("can't start new thread")
        return self.inner.subscribe(*args, **options)


async def test_a_stream_that_cannot_be_opened_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
):
    with serve() as subscription:
        subscription.client = LateClient(subscription.client, 2)
        async with pulling(world, subscription):
            for seconds in (1, 2):
                await until(lambda: world.clock.sleepers == 1)
                await world.clock.advance(timedelta(seconds=seconds))
            name = subscription.publish(slots_of(), published=START)
            await until(lambda: subscription.acked == [name])
    assert caplog.text.count("no stream could be opened") == 2


async def test_after_a_long_time_a_stream_is_opened_again_at_once(world: World):
    with serve() as subscription:
        subscription.refusals += [grpc.StatusCode.PERMISSION_DENIED] * 3
        async with pulling(world, subscription):
            for seconds in (1, 2, 4):
                await until(lambda: world.clock.sleepers == 1)
                await world.clock.advance(timedelta(seconds=seconds))
            await until(lambda: len(subscription.streams) == 4)
            await world.clock.advance(timedelta(minutes=2))
            subscription.break_off()
            await until(lambda: world.clock.sleepers == 1)
            await world.clock.advance(timedelta(seconds=1))
            await until(lambda: len(subscription.streams) == 5)


async def test_a_consumer_that_was_never_open_can_be_stopped(world: World):
    async with world.open() as ingress:
        await PubSubConsumer(ingress, NAME).stop()


async def test_a_subscription_is_named_in_full(world: World):
    async with world.open() as ingress:
        with pytest.raises(ValueError, match="projects/PROJECT/subscriptions/NAME"):
            PubSubConsumer(ingress, "triggers")


async def test_without_credentials_it_is_said_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    key = tmp_path / "key.json"
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(key))
    async with world.open() as ingress:
        with pytest.raises(BridgeError, match="default credentials"):
            async with PubSubConsumer(ingress, NAME):
                pass


async def test_without_the_sdk_the_extra_is_named(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "google.cloud.pubsub_v1", None)
    async with world.open() as ingress:
        with pytest.raises(MissingExtraError, match=r"purista\[pubsub\]"):
            async with PubSubConsumer(ingress, NAME):
                pass


def test_a_push_is_read_without_the_sdk():
    code = "import sys, purista.ingress.pubsub; assert 'google.cloud.pubsub_v1' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The function that AWS calls, on the events that AWS documents, in front of a real ingress.

Pages (all under https://docs.aws.amazon.com): CONTEXT = scheduler/latest/UserGuide/
managing-schedule-context-attributes.html, TARGET = scheduler/latest/APIReference/API_Target.html,
EVENTS = lambda/latest/dg/services-cloudwatchevents.html, RULES = eventbridge/latest/userguide/
eb-create-rule-schedule.html, SQS = lambda/latest/dg/with-sqs.html, FAILURES = lambda/latest/dg/
services-sqs-errorhandling.html, HTTP = lambda/latest/dg/urls-invocation.html.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace

from purista import (
    Context,
    Cron,
    Every,
    Host,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    SQLiteLedger,
)
from purista.bridges import Job
from purista.compiling import Request, compile_schedules, default_horizon
from purista.contract import Schedule
from purista.errors import IngressError, LedgerError, TriggerError
from purista.ingress.aws_lambda import LambdaHandler, lambda_handler
from purista.ingress.ingress import RunStore
from purista.schedulers.eventbridge import SCHEDULER, SLOT
from purista.settings import read_settings
from purista.testing import ManualClock

START = datetime(2027, 3, 1, tzinfo=UTC)
PLACE = "eu-central-1:123456789012"


class AwsContext:
    """The context of an invocation with so much time left."""

    def __init__(self, milliseconds: int = 60_000) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds


class World:
    """A service, and everything that runs it, on a manual clock that stands a few seconds past ``now``."""

    def __init__(self, now: datetime = START) -> None:
        self.clock = ManualClock(now + timedelta(seconds=4))
        self.events = MemoryEventBridge(clock=self.clock)
        self.queues = MemoryQueueBridge(clock=self.clock)
        self.ledger: RunStore = MemoryLedger()
        self.service = Service("Shop", version="1")
        self.opened = 0
        self.handled: list[str] = []
        self.may_end = threading.Event()
        command = self.service.command("close", str, returns=int)
        hourly: dict[str, Any] = {"expression": Cron("0 * * * *")}
        self.hourly = self.service.schedule("hourly").enqueue(
            self.service.queue("jobs", str), payload="{nominal_time:%d %H}", **hourly
        )
        self.minutely = self.service.schedule("minutely").emit_event(
            self.service.event("tick", str), expression=Every(timedelta(minutes=1)), payload="x"
        )
        self.closing = self.service.schedule("closing").invoke_command(
            command, payload="x", **hourly
        )

    def handle(self) -> None:
        """Let the command be handled; it ends when it may."""

        @self.service.handles(self.service.commands["close"])
        async def on_close(payload: str, ctx: Context) -> int:
            await asyncio.to_thread(self.may_end.wait, 20)
            self.handled.append(payload)
            return 1

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ingress]:
        self.opened += 1
        parts: dict[str, Any] = {"event_bridge": self.events, "queue_bridge": self.queues}
        parts |= {"ledger": self.ledger, "clock": self.clock}
        host = Host(self.service, grace=timedelta(0), **parts)
        async with Ingress([self.service], **parts) as ingress, host:
            yield ingress

    @contextmanager
    def function(self, **options: Any) -> Iterator[LambdaHandler]:
        handler = lambda_handler(self.open, **options)
        try:
            yield handler
        finally:
            self.may_end.set()
            handler.close()


@pytest.fixture
def world() -> World:
    return World()


def event_of(schedule: Schedule, nominal: datetime = START, **more: Any) -> dict[str, Any]:
    time = f"{nominal:%Y-%m-%dT%H:%M:%SZ}"
    found = {"specversion": "1.0", "id": f"{schedule.id}/{time}", "source": "eventbridge/x/y"}
    found |= {"type": "dev.purista.schedule.trigger", "subject": schedule.id, "time": time}
    return {**found, **more}


def message(number: int, body: object, group: str | None = None, **more: Any) -> dict[str, Any]:
    """One record of a batch, as SQS shows it; a FIFO queue's has a group."""
    queue = "my-queue" if group is None else "fifo.fifo"
    attributes = {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"}
    return {
        "messageId": f"m{number}",
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": attributes | ({} if group is None else {"MessageGroupId": group}),
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-2:123456789012:{queue}",
        "awsRegion": "us-east-2",
        **more,
    }


def failures(answer: Mapping[str, Any]) -> list[str]:
    return [each["itemIdentifier"] for each in answer["batchItemFailures"]]


# What EventBridge Scheduler sends


def compiled_input(schedule: Schedule, target: Mapping[str, Any]) -> Mapping[str, Any]:
    """The target of the one CreateSchedule request that a schedule is compiled to."""
    table = {"role_arn": "arn:aws:iam::123456789012:role/x", "group": "shop", "target": target}
    ingress = {"url": "https://triggers.example.com", "recovery": "ingress"}
    found = read_settings(
        {"eventbridge": table, "ingress": ingress}, {"eventbridge": SCHEDULER.settings}
    )
    request = Request(found["eventbridge"], found["ingress"], default_horizon(START))  # type: ignore[arg-type]
    everything = replace(request, accepted=frozenset({"cover-superset", "misfire-grace"}))
    made = compile_schedules(SCHEDULER, [schedule], everything)
    calls = json.loads(next(one.text for one in made.artifacts if one.path == "requests.json"))
    found_target: Mapping[str, Any]
    [found_target] = [
        each["request"]["Target"] for each in calls if each["operation"] == "CreateSchedule"
    ]
    return found_target


def fired(target: Mapping[str, Any], nominal: datetime) -> Any:
    """What AWS makes of an input; CONTEXT: "for example, 2022-03-22T18:59:43Z"."""
    return json.loads(target["Input"].replace(SLOT, f"{nominal:%Y-%m-%dT%H:%M:%SZ}"))


def directly(event: Any, target: Mapping[str, Any]) -> Any:
    return event


def in_a_queue(event: Any, target: Mapping[str, Any]) -> Any:
    group = target.get("SqsParameters", {}).get("MessageGroupId")
    return {"Records": [message(1, event, group)]}


def on_a_bus(event: Any, target: Mapping[str, Any]) -> Any:
    """What a rule without an InputPath sends on: the detail is the schedule's input."""
    parameters = target["EventBridgeParameters"]
    envelope = {"version": "0", "id": "17793124-05d4-b198-2fde-7ededc63b103", "account": "1"}
    named = {"detail-type": parameters["DetailType"], "source": parameters["Source"]}
    rest = {"time": "2031-01-01T09:09:09Z", "region": "eu-central-1", "resources": []}
    return {**envelope, **named, **rest, "detail": event}


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ({"kind": "lambda", "function_arn": f"arn:aws:lambda:{PLACE}:function:f"}, directly),
        ({"kind": "sqs", "queue_arn": f"arn:aws:sqs:{PLACE}:triggers"}, in_a_queue),
        ({"kind": "sqs", "queue_arn": f"arn:aws:sqs:{PLACE}:triggers.fifo"}, in_a_queue),
        (
            {
                "kind": "api-destination",
                "event_bus_arn": f"arn:aws:events:{PLACE}:event-bus/triggers",
                "invoke_role_arn": "arn:aws:iam::123456789012:role/y",
                "connection_arn": f"arn:aws:events:{PLACE}:connection/c/0b0f5c1e-0000",
            },
            on_a_bus,
        ),
    ],
)
async def test_what_is_compiled_fires_and_is_accepted_at_its_nominal_time(
    world: World, target: dict[str, Any], sent: Callable[[Any, Mapping[str, Any]], Any]
):
    made = compiled_input(world.hourly, target)
    with world.function() as handler:
        await asyncio.to_thread(handler, sent(fired(made, START), made), AwsContext())
    [run] = await world.ledger.runs()
    assert (run.schedule_id, run.nominal_time) == ("Shop.v1.hourly", START)


def test_an_accepted_trigger_is_answered_with_its_decision(world: World):
    with world.function() as handler:
        answer = handler(event_of(world.hourly), AwsContext())
        again = handler(event_of(world.hourly), AwsContext())
    assert (answer["decision"], answer["nominalTime"]) == ("accepted", "2027-03-01T00:00:00Z")
    assert (again["decision"], again["runId"]) == ("duplicate", answer["runId"])
    assert json.loads(json.dumps(answer)) == answer


# TARGET: "If you do not specify anything for this field, EventBridge Scheduler delivers a default
# notification to the target." The page does not show it; this is what functions receive.
DEFAULT_NOTIFICATION = {
    "version": "0",
    "id": "37666ae6-48cf-4285-b4c6-a3320b38824a",
    "detail-type": "Scheduled Event",
    "source": "aws.scheduler",
    "account": "123456789012",
    "time": "2024-06-13T12:30:00Z",
    "region": "us-east-2",
    "resources": ["arn:aws:scheduler:us-east-2:123456789012:schedule/default/close-books"],
    "detail": "{}",
}

# EVENTS, "Example EventBridge (CloudWatch Events) message event".
RULE_EVENT = {
    "version": "0",
    "account": "123456789012",
    "region": "us-east-2",
    "detail": {},
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "time": "2019-03-01T01:23:45Z",
    "id": "cdc73f9d-aea9-11e3-9d5a-835b769c0d9c",
    "resources": ["arn:aws:events:us-east-2:123456789012:rule/my-schedule"],
}


@pytest.mark.parametrize(
    ("event", "name", "nominal"),
    [
        (RULE_EVENT, "my-schedule", "2019-03-01T01:23:00Z"),
        (RULE_EVENT, RULE_EVENT["resources"][0], "2019-03-01T01:23:00Z"),
        (DEFAULT_NOTIFICATION, "close-books", "2024-06-13T12:30:00Z"),
        (DEFAULT_NOTIFICATION, "default/close-books", "2024-06-13T12:30:00Z"),
    ],
)
def test_an_event_on_a_schedule_is_for_the_minute_of_its_time(
    event: dict[str, Any], name: str, nominal: str
):
    """RULES: "Your scheduled rule runs within that minute, but not on the precise 0th second"."""
    world = World(datetime.fromisoformat(event["time"]))
    with world.function(rules={name: world.minutely.id}) as handler:
        answer = handler(event, AwsContext())
    assert (answer["decision"], answer["nominalTime"]) == ("accepted", nominal)


def test_the_arn_of_a_rule_goes_before_its_name(world: World):
    rules = {"my-schedule": "Shop.v1.other", RULE_EVENT["resources"][0]: world.minutely.id}
    with world.function(rules=rules) as handler:
        assert handler(RULE_EVENT, AwsContext())["scheduleId"] == world.minutely.id


def test_a_minute_that_is_none_of_the_contract_s_is_unexpected_and_done(world: World):
    """As of a rate(), which counts from its creation, or of a line that fires more often."""
    with world.function(rules={"my-schedule": world.hourly.id}, refusals="raise") as handler:
        answer = handler(RULE_EVENT, AwsContext())
        records = [
            message(1, RULE_EVENT),
            message(2, event_of(world.hourly, START.replace(minute=1))),
        ]
        assert failures(handler({"Records": records}, AwsContext())) == []
    assert answer["decision"] == "unexpected"


def test_a_rule_that_is_not_known_is_named_with_what_to_do(world: World):
    with world.function(rules={"another": world.hourly.id}) as handler:
        answer = handler(RULE_EVENT, AwsContext())
    assert answer["status"] == 400
    assert "arn:aws:events:us-east-2:123456789012:rule/my-schedule" in answer["detail"]
    assert "rules" in answer["detail"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time": "yesterday"}, "event: time: it is no RFC 3339 time"),
        ({"time": None}, "event: time: it is missing"),
        ({"resources": []}, "event: resources"),
        ({"source": "mine"}, "event: source"),
        ({"detail-type": "Object Created"}, "event: detail: it is no CloudEvent"),
    ],
)
def test_an_event_of_eventbridge_that_is_no_trigger_is_refused_naming_the_place(
    world: World, change: dict[str, Any], words: str
):
    with world.function(rules={"my-schedule": world.minutely.id}) as handler:
        answer = handler(RULE_EVENT | change, AwsContext())
    assert answer["type"] == "urn:purista:problem:invalid-trigger"
    assert words in answer["detail"]


# HTTP, "Request payload format", shortened to what it has of its own.
URL_EVENT = {
    "version": "2.0",
    "routeKey": "$default",
    "rawPath": "/my/path",
    "headers": {"header1": "value1"},
    "requestContext": {"http": {"method": "POST", "path": "/my/path", "protocol": "HTTP/1.1"}},
    "body": "Hello from client!",
    "isBase64Encoded": False,
}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (URL_EVENT, "ASGI adapter"),
        ({"httpMethod": "POST", "path": "/", "body": "{}"}, "ASGI adapter"),
        ({"Records": [{"eventSource": "aws:s3", "s3": {}}]}, "not messages of SQS"),
        ({"Records": [message(1, "x", messageId="")]}, "not messages of SQS"),
        ({"hello": "world"}, "neither a CloudEvent"),
        ([], "no JSON object"),
    ],
)
def test_an_event_of_the_wrong_kind_raises_before_anything_is_opened(
    world: World, event: Any, words: str
):
    with world.function() as handler, pytest.raises(TriggerError, match=words):
        handler(event, AwsContext())
    assert world.opened == 0


# What is sent again, and what is not


def test_a_dispatch_that_failed_raises_so_that_aws_sends_the_event_again(world: World):
    with world.function() as handler, pytest.raises(IngressError, match="dispatch-failed") as found:
        handler(event_of(world.closing), AwsContext())
    assert found.value.retry_after == 1


def test_a_ledger_that_fails_raises_so_that_aws_sends_the_event_again(world: World, tmp_path: Path):
    world.ledger = SQLiteLedger(tmp_path / "runs.sqlite")
    with world.function() as handler:
        handler._opened().call(lambda ingress: world.ledger.close())
        with pytest.raises(IngressError, match="unavailable: the ledger failed"):
            handler(event_of(world.hourly), AwsContext())
        answer = handler({"Records": [message(1, event_of(world.hourly))]}, AwsContext())
    assert failures(answer) == ["m1"]


def test_a_ledger_that_is_away_raises_so_that_aws_sends_the_event_again(
    world: World, tmp_path: Path
):
    world.ledger = SQLiteLedger(tmp_path / "away" / "runs.sqlite")
    with world.function() as handler, pytest.raises(LedgerError):
        handler(event_of(world.hourly), AwsContext())
    (tmp_path / "away").mkdir()
    with world.function() as handler:
        assert handler(event_of(world.hourly), AwsContext())["decision"] == "accepted"


def test_what_no_retry_can_mend_returns_the_problem_and_is_logged(
    world: World, caplog: pytest.LogCaptureFixture
):
    with world.function() as handler:
        answer = handler(event_of(world.hourly, data=5), AwsContext())
    assert (answer["status"], answer["decision"]) == (422, "rejected")
    assert [each.levelname for each in caplog.records if each.name == "purista.lambda"] == ["ERROR"]


@pytest.mark.parametrize("more", [{"data": 5}, {"type": "another"}])
def test_what_no_retry_can_mend_raises_where_that_is_wanted(world: World, more: dict[str, Any]):
    with world.function(refusals="raise") as handler, pytest.raises(IngressError) as found:
        handler(event_of(world.hourly, **more), AwsContext())
    assert found.value.retry_after is None


def test_an_event_that_is_late_is_done(world: World):
    with world.function(refusals="raise") as handler:
        answer = handler(event_of(world.hourly, START - timedelta(hours=1)), AwsContext())
    assert answer["decision"] == "late"


# Batches

# SQS, "Example Amazon SQS message event (standard queue)", of which the bodies are "test".
SQS_EVENT = {
    "Records": [
        {
            "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
            "body": "test",
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1545082649183",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1545082649185",
            },
            "messageAttributes": {},
            "md5OfBody": "098f6bcd4621d373cade4e832627b4f6",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
            "awsRegion": "us-east-2",
        },
        {
            "messageId": "2e1424d4-f796-459a-8184-9c92662be6da",
            "receiptHandle": "AQEBzWwaftRI0KuVm4tP+/7q1rGgNqicHq...",
            "body": "test",
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1545082650636",
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "ApproximateFirstReceiveTimestamp": "1545082650649",
            },
            "messageAttributes": {},
            "md5OfBody": "098f6bcd4621d373cade4e832627b4f6",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
            "awsRegion": "us-east-2",
        },
    ]
}


def test_messages_that_no_retry_can_mend_stay_for_the_dead_letter_queue(world: World):
    with world.function() as handler:
        answer = handler(SQS_EVENT, AwsContext())
    assert answer == {
        "batchItemFailures": [
            {"itemIdentifier": "059f36b4-87a3-44ab-83d2-661975830a7d"},
            {"itemIdentifier": "2e1424d4-f796-459a-8184-9c92662be6da"},
        ]
    }


def test_of_a_batch_only_what_failed_stays_in_the_queue(world: World):
    rule = RULE_EVENT | {"time": "2027-03-01T00:00:03Z"}
    bodies = [
        event_of(world.hourly),
        "{",
        rule,
        "[]",
        event_of(world.closing),
        event_of(world.hourly),
        RULE_EVENT | {"detail": event_of(world.minutely)},
    ]
    records = [message(number, body) for number, body in enumerate(bodies)]
    with world.function(rules={"my-schedule": world.minutely.id}) as handler:
        answer = handler({"Records": records}, AwsContext())
    assert failures(answer) == ["m1", "m3", "m4"]


def test_a_message_that_is_to_be_sent_again_holds_up_its_group_alone(world: World):
    """FAILURES: with a FIFO queue, stop at the first failure and return all that come behind it."""
    records = [
        message(1, event_of(world.closing), "a"),
        message(2, event_of(world.hourly), "a"),
        message(3, event_of(world.hourly), "b"),
        message(4, "{", "a"),
    ]
    with world.function() as handler:
        answer = handler({"Records": records}, AwsContext())
    assert failures(answer) == ["m1", "m2", "m4"]


def test_a_message_that_no_retry_can_mend_holds_nothing_up(world: World):
    """Else good triggers behind it would use up their receives, and follow it as dead letters."""
    records = [message(1, "{", "a"), message(2, event_of(world.hourly), "a")]
    with world.function() as handler:
        assert failures(handler({"Records": records}, AwsContext())) == ["m1"]


def test_a_group_of_a_standard_queue_promises_no_order(world: World):
    records = [message(1, event_of(world.closing)), message(2, event_of(world.hourly))]
    for record in records:
        record["attributes"]["MessageGroupId"] = "tenant"
    with world.function() as handler:
        assert failures(handler({"Records": records}, AwsContext())) == ["m1"]


def test_a_message_that_meets_a_bug_stays_in_the_queue_alone(world: World):
    class Broken(StuckQueues):
        async def enqueue(self, job: Job) -> bool:
            raise RuntimeError("a bug")

    world.queues = Broken(world.queues)  # type: ignore[assignment]
    events = [event_of(world.minutely), event_of(world.hourly)]
    records = [message(number, event) for number, event in enumerate(events)]
    with world.function() as handler:
        assert failures(handler({"Records": records}, AwsContext())) == ["m1"]


def test_an_empty_batch_has_no_failures(world: World):
    with world.function() as handler:
        assert handler({"Records": []}, AwsContext()) == {"batchItemFailures": []}


def test_a_thousand_messages_are_decided_in_one_batch(world: World):
    world.clock = ManualClock(START + timedelta(seconds=4))
    times = [START - timedelta(minutes=number % 5) for number in range(1000)]
    records = [message(n, event_of(world.minutely, time)) for n, time in enumerate(times)]
    with world.function() as handler:
        assert failures(handler({"Records": records}, AwsContext())) == []
        runs = handler._opened().call(lambda ingress: world.ledger.runs())
    assert len(runs) == 5


# Time, waiting, and the life of the process


class StuckQueues:
    """A queue bridge whose broker does not answer any more."""

    def __init__(self, inner: MemoryQueueBridge) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def enqueue(self, job: Job) -> bool:
        await asyncio.Event().wait()
        return True


def test_what_cannot_be_decided_in_time_is_asked_for_again(world: World):
    world.queues = StuckQueues(world.queues)  # type: ignore[assignment]
    began, reserve = time.monotonic(), timedelta(seconds=29.98)
    in_time = pytest.raises(IngressError, match="in time")
    with world.function(reserve=reserve) as handler, in_time as found:
        handler(event_of(world.hourly), AwsContext(30_000))
    assert (found.value.status, found.value.retry_after) == (503, 5)
    assert time.monotonic() - began < 30


def test_of_a_batch_what_is_decided_in_time_is_done(world: World):
    world.queues = StuckQueues(world.queues)  # type: ignore[assignment]
    events = [event_of(world.minutely), event_of(world.hourly)]
    records = [message(number, event) for number, event in enumerate(events)]
    with world.function() as handler:
        assert failures(handler({"Records": records}, AwsContext(2050))) == ["m1"]


def test_with_wait_the_answer_comes_when_the_run_is_over(world: World):
    world.handle()
    threading.Timer(0.05, world.may_end.set).start()
    with world.function(wait=True) as handler:
        answer = handler(event_of(world.closing), AwsContext())
        assert (answer["decision"], world.handled) == ("accepted", ["x"])


def test_without_wait_the_answer_does_not_wait_for_the_run(world: World):
    world.handle()
    with world.function() as handler:
        assert handler(event_of(world.closing), AwsContext())["decision"] == "accepted"
        assert world.handled == []


def test_a_run_that_is_not_over_in_time_is_asked_for_again_and_runs_once(world: World):
    world.handle()
    with world.function(wait=True) as handler:
        with pytest.raises(IngressError, match="in-doubt: the run is not over") as found:
            handler(event_of(world.closing), AwsContext(2050))
        threading.Timer(0.05, world.may_end.set).start()
        answer = handler(event_of(world.closing), AwsContext())
        assert (answer["decision"], world.handled) == ("duplicate", ["x"])
    assert (found.value.status, found.value.retry_after) == (503, 30)


def test_an_ingress_elsewhere_is_not_waited_for(world: World):
    class Elsewhere:
        """What a client of an ingress behind an address is."""

        def __init__(self, inner: Ingress) -> None:
            self.accept, self.run, self.cancel = inner.accept, inner.run, inner.cancel

    @asynccontextmanager
    async def opening() -> AsyncIterator[Elsewhere]:
        async with world.open() as ingress:
            yield Elsewhere(ingress)

    world.handle()
    handler = lambda_handler(opening, wait=True)
    assert handler(event_of(world.closing), AwsContext())["decision"] == "accepted"
    world.may_end.set()
    handler.close()


def test_an_ingress_that_cannot_be_closed_is_logged(world: World, caplog: pytest.LogCaptureFixture):
    @asynccontextmanager
    async def opening() -> AsyncIterator[Ingress]:
        async with world.open() as ingress:
            yield ingress
        raise LedgerError("the store is away")

    handler = lambda_handler(opening)
    handler(event_of(world.hourly))
    handler.close()
    assert "the ingress could not be closed" in caplog.text


def test_the_ingress_is_opened_once_for_all_invocations_of_all_threads(world: World):
    with world.function() as handler:
        events = [event_of(world.minutely, START - timedelta(minutes=n)) for n in range(5)]
        answers: list[Any] = []
        threads = [
            threading.Thread(target=lambda each=each: answers.append(handler(each, AwsContext())))
            for each in events * 4
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert (world.opened, len(answers)) == (1, 20)
    assert sum(each["decision"] == "accepted" for each in answers) == 5


def test_an_ingress_that_could_not_be_opened_is_opened_by_the_next_invocation(world: World):
    @asynccontextmanager
    async def opening() -> AsyncIterator[Ingress]:
        if not world.opened:
            world.opened = 1
            raise LedgerError("the store is away")
        async with world.open() as ingress:
            yield ingress

    handler = lambda_handler(opening)
    with pytest.raises(LedgerError, match="the store is away"):
        handler(event_of(world.hourly), AwsContext())
    assert handler(event_of(world.hourly), AwsContext())["decision"] == "accepted"
    handler.close()
    handler.close()


def test_the_trace_of_the_caller_reaches_the_job(world: World):
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert trace.get_tracer_provider() is not None
    traced = message(2, event_of(world.hourly, START - timedelta(hours=0)))
    traced["messageAttributes"] = {"traceparent": {"stringValue": caller, "dataType": "String"}}
    for event in (event_of(world.hourly, traceparent=caller), {"Records": [traced]}):
        found = World()
        with found.function() as handler:
            handler(event, AwsContext())
            leased = handler._opened().call(
                lambda ingress, queues=found.queues: queues.lease(
                    "jobs", duration=timedelta(seconds=9)
                )
            )
        headers = leased.job.message.headers or {}
        assert headers["traceparent"].split("-")[1] == caller.split("-")[1]


PROGRAM = """
import asyncio, contextlib, os, signal, sys, time
from purista import *
from purista.ingress.aws_lambda import lambda_handler

service = Service("Shop", version="1")
service.schedule("s").emit_event(service.event("e", int), expression=Cron("0 0 1 1 *"), payload=1)

@contextlib.asynccontextmanager
async def opened():
    parts = {"event_bridge": MemoryEventBridge(), "queue_bridge": MemoryQueueBridge()}
    async with Ingress([service], ledger=MemoryLedger(), **parts) as ingress:
        yield ingress
    print("closed", flush=True)

before = lambda number, frame: print("told", flush=True)
if sys.argv[1] == "handled":
    signal.signal(signal.SIGTERM, before)
handler = lambda_handler(opened)
event = {"specversion": "1.0", "type": "dev.purista.schedule.trigger", "id": "1", "source": "s"}
handler(event | {"subject": "Shop.v1.s", "time": "2020-01-01T00:00:00Z"})
print("decided", flush=True)
if sys.argv[1] != "exit":
    os.kill(os.getpid(), signal.SIGTERM)
    print("went on", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("killed", -signal.SIGTERM, ["decided", "closed"]),
        ("handled", 0, ["decided", "closed", "told", "went on"]),
        ("exit", 0, ["decided", "closed"]),
    ],
)
def test_the_ingress_is_closed_when_the_process_ends(how: str, code: int, said: list[str]):
    environment = os.environ | {"PYTHONWARNINGS": "error"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert (ended.returncode, ended.stdout.split("\n")[:-1]) == (code, said), ended.stderr

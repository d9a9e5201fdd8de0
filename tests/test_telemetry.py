import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from opentelemetry import metrics, propagate, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from purista import (
    Context,
    Every,
    Host,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    Trigger,
)
from purista.errors import BridgeError
from purista.telemetry import carrier_of, telemetry
from purista.testing import ManualClock

START = datetime(2027, 3, 1, 1, tzinfo=UTC)
TRACE = 0x0AF7651916CD43DD8448EB211C80319C
CALLER = {"traceparent": f"00-{TRACE:032x}-b7ad6b7169203331-01"}


@pytest.fixture(scope="module")
def sdk() -> tuple[InMemorySpanExporter, InMemoryMetricReader]:
    """The process's own SDK: it can be set once only."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    return spans, reader


@pytest.fixture
def spans(sdk: tuple[InMemorySpanExporter, InMemoryMetricReader]) -> Iterator[InMemorySpanExporter]:
    sdk[0].clear()
    yield sdk[0]
    sdk[0].clear()


class World:
    """A service with a schedule for each kind of target; its handlers note the trace they run in."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.seen: list[tuple[str, int]] = []
        self.shop = Service("shop", version="1")
        due, jobs = self.shop.event("due", str), self.shop.queue("jobs", str, max_attempts=1)
        command = self.shop.command("close", str, returns=str)
        options: Any = {"expression": Every(timedelta(hours=1)), "payload": "secret"}
        self.shop.schedule("event").emit_event(due, **options)
        self.shop.schedule("queue").enqueue(jobs, **options, concurrency_policy="forbid")
        self.shop.schedule("command").invoke_command(command, **options)

        @self.shop.subscription(due)
        async def on_due(payload: str, ctx: Context) -> None:
            self.note("event")
            await ctx.enqueue(jobs, payload)

        @self.shop.worker(jobs)
        async def on_job(payload: str, ctx: Context) -> None:
            self.note("job")
            if payload == "fail":
                raise ValueError(payload)

        @self.shop.handles(command)
        async def on_command(payload: str, ctx: Context) -> str:
            self.note("command")
            return payload

    def note(self, what: str) -> None:
        self.seen.append((what, trace.get_current_span().get_span_context().trace_id))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ingress]:
        parts: Any = {
            "event_bridge": MemoryEventBridge(clock=self.clock),
            "queue_bridge": MemoryQueueBridge(clock=self.clock),
        }
        async with (
            Ingress([self.shop], ledger=MemoryLedger(), clock=self.clock, **parts) as ingress,
            Host(self.shop, clock=self.clock, **parts),
        ):
            yield ingress
            await self.clock.settle()

    async def send(self, ingress: Ingress, name: str, **options: Any) -> None:
        instruments = telemetry()
        assert instruments is not None
        with instruments.arrived(CALLER):
            await ingress.accept(
                Trigger(schedule_id=f"shop.v1.{name}", nominal_time=START, source="test", **options)
            )
        await self.clock.settle()


def measured(reader: InMemoryMetricReader, name: str) -> dict[tuple[str, ...], Any]:
    """Return the points of a metric by the values of their attributes."""
    data = reader.get_metrics_data()
    assert data is not None
    return {
        tuple(str(value) for _, value in sorted((point.attributes or {}).items())): getattr(
            point, "value", getattr(point, "count", None)
        )
        for each in data.resource_metrics
        for scope in each.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


@pytest.mark.parametrize(
    ("name", "handled"),
    [("event", ["event", "job"]), ("queue", ["job"]), ("command", ["command"])],
)
async def test_the_callers_trace_reaches_the_handlers_and_what_they_send(
    spans: InMemorySpanExporter, name: str, handled: list[str]
):
    world = World()
    async with world.open() as ingress:
        await world.send(ingress, name)
    assert world.seen == [(what, TRACE) for what in handled]
    assert {one.context.trace_id for one in spans.get_finished_spans()} == {TRACE}


async def test_each_span_is_the_child_of_what_caused_it(spans: InMemorySpanExporter):
    world = World()
    async with world.open() as ingress:
        await world.send(ingress, "queue")
    by_name = {one.name: one for one in spans.get_finished_spans()}
    accept, dispatch = by_name["accept shop.v1.queue"], by_name["dispatch jobs"]
    work = by_name["work on jobs"]
    assert work.parent.span_id == dispatch.context.span_id
    assert dispatch.parent.span_id == accept.context.span_id
    assert f"{accept.parent.span_id:016x}" == "b7ad6b7169203331"
    assert accept.attributes["purista.verdict"] == "accepted"
    assert work.attributes["purista.run.id"] == accept.attributes["purista.run.id"]


async def test_a_failure_names_its_type_and_never_the_payload(spans: InMemorySpanExporter):
    world = World()
    async with world.open() as ingress:
        await world.send(ingress, "queue", data="fail")
    work = next(one for one in spans.get_finished_spans() if one.name == "work on jobs")
    assert (work.status.is_ok, work.status.description) == (False, "ValueError")
    assert work.events == ()
    texts = " ".join(one.to_json() for one in spans.get_finished_spans())
    assert "secret" not in texts
    assert '"fail"' not in texts


async def test_decisions_lateness_runs_and_dispatches_are_measured(sdk: Any):
    _, reader = sdk
    name = "shop.v1.queue"
    before = measured(reader, "purista.decisions")
    lateness = measured(reader, "purista.trigger.lateness").get((name,), 0)
    dispatches = measured(reader, "purista.dispatch.duration").get((name,), 0)
    world = World()
    async with world.open() as ingress:
        await world.send(ingress, "queue", data=1)
        await world.send(ingress, "queue")
        await world.send(ingress, "queue")
    after = measured(reader, "purista.decisions")
    changes = {
        verdict: after.get((name, verdict), 0) - before.get((name, verdict), 0)
        for verdict in ("accepted", "duplicate", "rejected")
    }
    assert changes == {"accepted": 1, "duplicate": 1, "rejected": 1}
    assert measured(reader, "purista.trigger.lateness")[(name,)] - lateness == 2
    assert measured(reader, "purista.dispatch.duration")[(name,)] - dispatches == 1
    assert measured(reader, "purista.runs.active")[(name,)] == 0


async def test_an_active_run_is_counted_until_it_is_cancelled(sdk: Any):
    _, reader = sdk
    world = World()
    parts: Any = {"event_bridge": MemoryEventBridge(), "queue_bridge": MemoryQueueBridge()}
    async with Ingress([world.shop], ledger=MemoryLedger(), clock=world.clock, **parts) as ingress:
        decision = await ingress.accept(
            Trigger(schedule_id="shop.v1.queue", nominal_time=START, source="test")
        )
        assert measured(reader, "purista.runs.active")[("shop.v1.queue",)] == 1
        await ingress.cancel(decision.run_id or "")
        assert measured(reader, "purista.runs.active")[("shop.v1.queue",)] == 0


async def test_a_failed_dispatch_is_an_error_of_its_span(
    spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
):
    world = World()
    async with world.open() as ingress:

        async def away(*_: object) -> None:
            raise BridgeError("away")

        monkeypatch.setattr(MemoryQueueBridge, "enqueue", away)
        await world.send(ingress, "queue")
    by_name = {one.name: one for one in spans.get_finished_spans()}
    assert by_name["dispatch jobs"].attributes["error.type"] == "BridgeError"
    assert by_name["accept shop.v1.queue"].attributes["error.type"] == "dispatch_failed"


def test_refusals_are_counted_by_entry_and_reason(sdk: Any):
    _, reader = sdk
    instruments = telemetry()
    assert instruments is not None
    instruments.refused("http", "expired")
    assert measured(reader, "purista.refusals") == {("http", "expired"): 1}


def test_only_a_trace_context_is_carried():
    values = {"traceparent": "t", "tracestate": 5, "authorization": "secret", "baggage": "b"}
    assert carrier_of(values) == {"traceparent": "t", "baggage": "b"}


def test_nothing_is_carried_where_there_is_no_trace():
    instruments = telemetry()
    assert instruments is not None
    assert instruments.carry() is None
    assert propagate.get_global_textmap() is not None


def test_a_program_that_does_not_use_opentelemetry_pays_nothing_for_it():
    program = (
        "import sys, purista.ingress, purista.host; from purista.telemetry import telemetry;"
        "assert telemetry() is None; assert 'opentelemetry' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0

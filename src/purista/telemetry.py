"""Spans, metrics and the trace context, by the OpenTelemetry API; the SDK is the application's choice.

Nothing is measured, and nothing is paid for it, where the program has not imported OpenTelemetry
by the time an ingress or a host is made. Attributes hold ids and words of this package, never payloads;
a span of what failed names the exception's type alone.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from purista.message import Message

if TYPE_CHECKING:
    from opentelemetry.trace import Span, SpanKind

SCHEDULE = "purista.schedule.id"
RUN = "purista.run.id"
VERDICT = "purista.verdict"
REASON = "purista.reason"
ENTRY = "purista.entry"
NAME = "purista.message.name"

CARRIED = ("traceparent", "tracestate", "baggage")
"""The headers that hold a trace context (https://www.w3.org/TR/trace-context/)."""


class Handled(Protocol):
    """What a handler is given besides its payload, as far as spans ask."""

    @property
    def message(self) -> Message:
        """The message that is handled."""


class Telemetry:
    """The instruments of this package.

    Metrics:

    - ``purista.decisions``: decisions, by schedule and verdict
    - ``purista.trigger.lateness``: seconds from a nominal time to its decision, of schedulers' triggers
    - ``purista.runs.active``: runs that are active
    - ``purista.dispatch.duration``: seconds that a dispatch took
    - ``purista.refusals``: requests that were refused before a decision, by entry point and reason
    """

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        meter = metrics.get_meter("purista")
        self._tracer = trace.get_tracer("purista")
        self._decisions = meter.create_counter(
            "purista.decisions", unit="{decision}", description="Decisions about triggers"
        )
        self._lateness = meter.create_histogram(
            "purista.trigger.lateness", unit="s", description="From nominal time to decision"
        )
        self._active = meter.create_up_down_counter(
            "purista.runs.active", unit="{run}", description="Runs that are active"
        )
        self._dispatch = meter.create_histogram(
            "purista.dispatch.duration", unit="s", description="Duration of dispatches"
        )
        self._refusals = meter.create_counter(
            "purista.refusals", unit="{request}", description="Requests refused before a decision"
        )

    def decided(self, schedule_id: str, verdict: str, lateness: float | None) -> None:
        """Count a decision; ``lateness`` in seconds, None where it means nothing."""
        self._decisions.add(1, {SCHEDULE: schedule_id, VERDICT: verdict})
        if lateness is not None:
            self._lateness.record(lateness, {SCHEDULE: schedule_id})

    def active_runs(self, schedule_id: str, change: int) -> None:
        """Note that runs became active, or are not any more."""
        self._active.add(change, {SCHEDULE: schedule_id})

    def refused(self, entry: str, reason: str) -> None:
        """Count a request that was refused before anything was decided."""
        self._refusals.add(1, {ENTRY: entry, REASON: reason})

    @contextlib.contextmanager
    def span(
        self,
        name: str,
        attributes: Mapping[str, str],
        *,
        kind: str = "internal",
        carrier: Mapping[str, str] | None = None,
    ) -> Iterator[Span]:
        """Open a span: a child of the current one, or of what ``carrier`` holds."""
        from opentelemetry import propagate

        context = None if carrier is None else propagate.extract(carrier)
        with self._tracer.start_as_current_span(
            name,
            context=context,
            kind=_kind(kind),
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except BaseException as error:
                failed(span, type(error).__name__)
                raise

    @contextlib.contextmanager
    def dispatching(self, schedule_id: str, run_id: str, target: str) -> Iterator[Span]:
        """Open the span of a dispatch, and measure it."""
        began = time.perf_counter()
        attributes = {SCHEDULE: schedule_id, RUN: run_id, NAME: target}
        try:
            with self.span(f"dispatch {target}", attributes, kind="producer") as span:
                yield span
        finally:
            self._dispatch.record(time.perf_counter() - began, {SCHEDULE: schedule_id})

    def carry(self) -> Mapping[str, str] | None:
        """Return the headers that carry the current trace context; None where there is none."""
        from opentelemetry import propagate

        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return carrier or None

    @contextlib.contextmanager
    def arrived(self, carrier: Mapping[str, str]) -> Iterator[None]:
        """Make the trace context of a caller the current one."""
        from opentelemetry import context, propagate

        token = context.attach(propagate.extract(carrier))
        try:
            yield
        finally:
            context.detach(token)

    def traced(
        self,
        verb: str,
        handler: Callable[[Any, Any], Coroutine[Any, Any, Any]],
        *,
        kind: str = "consumer",
    ) -> Callable[[Any, Any], Coroutine[Any, Any, Any]]:
        """Return the handler in a span that continues the trace of its message."""

        async def handle(payload: Any, handling: Handled) -> Any:
            message = handling.message
            attributes = {NAME: message.name}
            if message.run is not None:
                attributes |= {RUN: message.run.run_id, SCHEDULE: message.run.schedule_id}
            with self.span(
                f"{verb} {message.name}", attributes, kind=kind, carrier=message.headers or {}
            ):
                return await handler(payload, handling)

        return handle


def failed(span: Span, what: str) -> None:
    """Say that what a span stands for failed."""
    from opentelemetry.trace import Status, StatusCode

    span.set_status(Status(StatusCode.ERROR, what))
    span.set_attribute("error.type", what)


def telemetry() -> Telemetry | None:
    """Return the instruments; None where the program has not imported OpenTelemetry."""
    return Telemetry() if "opentelemetry.trace" in sys.modules else None


def carrier_of(values: Mapping[str, Any]) -> Mapping[str, str]:
    """Return those of some headers, or of an event's attributes, that hold a trace context."""
    return {name: values[name] for name in CARRIED if isinstance(values.get(name), str)}


def _kind(name: str) -> SpanKind:
    from opentelemetry.trace import SpanKind

    return SpanKind[name.upper()]

"""The trigger in an event that AWS Lambda is invoked with: read, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn

from purista.cloudevent import read_text, refuse
from purista.errors import Problem
from purista.ingress.slotted import publish_time
from purista.telemetry import carrier_of
from purista.trigger import Trigger

SCHEDULED: Final = "Scheduled Event"
"""The ``detail-type`` of what a rule sends on a schedule, and EventBridge Scheduler without an input."""

Carried = tuple[Trigger, Mapping[str, str]]
"""A trigger, and the headers of its trace."""


def records_of(event: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """Return the messages of an SQS batch; None for another event.

    Raises ``TriggerError`` for what can hold no trigger: it was sent to the wrong function.
    """
    if not isinstance(event, Mapping):
        _misrouted("it is no JSON object", "let a scheduler or a queue invoke the function")
    if "requestContext" in event or "httpMethod" in event:
        remedy = "serve ingress_app(...) by an ASGI adapter for Lambda, which verifies its callers"
        _misrouted("it is an HTTP request (API Gateway, function URL, load balancer)", remedy)
    records = event.get("Records")
    if records is None:
        if not {"specversion", "detail-type"} & set(event):
            remedy = "let EventBridge Scheduler, an EventBridge rule or SQS invoke the function"
            _misrouted("it is neither a CloudEvent, nor from EventBridge, nor from SQS", remedy)
        return None
    if not isinstance(records, list) or not all(map(_is_from_sqs, records)):
        _misrouted("its records are not messages of SQS", "remove the other event source")
    return records


def trigger_of(event: Mapping[str, Any], rules: Mapping[str, str]) -> Carried:
    """Read a trigger: a CloudEvent, one as the detail of an event, or an event on a schedule.

    ``rules`` gives the schedule id of a rule, or of a schedule of EventBridge Scheduler without an input,
    by ARN, ``group/name`` or name. Raises ``TriggerError``.
    """
    if "specversion" in event:
        return Trigger.from_cloudevent(event), carrier_of(event)
    detail = event.get("detail")
    if isinstance(detail, Mapping) and "specversion" in detail:
        return Trigger.from_cloudevent(detail), carrier_of(detail)
    if event.get("detail-type") != SCHEDULED:
        remedy = "send one as the detail, or let the rule's target take '$.detail' alone"
        refuse([Problem("event: detail", "it is no CloudEvent", remedy)])
    return _scheduled(event, rules), {}


def message_trigger_of(record: Mapping[str, Any], rules: Mapping[str, str]) -> Carried:
    """Read the trigger in a message of SQS: its body is any event that ``trigger_of`` takes.

    Raises ``TriggerError``.
    """
    event = read_text(record["body"], "body")
    if not isinstance(event, Mapping):
        refuse([Problem("body", "it is no JSON object", "send a CloudEvent")])
    trigger, carrier = trigger_of(event, rules)
    return trigger, carrier or _message_carrier(record.get("messageAttributes"))


def group_of(record: Mapping[str, Any]) -> str:
    """Return what is to keep its order in a batch: a group of a FIFO queue, else the message alone.

    Groups of a standard queue share its messages fairly; they promise no order.
    """
    attributes = record.get("attributes")
    if str(record.get("eventSourceARN", "")).endswith(".fifo") and isinstance(attributes, Mapping):
        return f"group {attributes.get('MessageGroupId')}"
    return f"message {record['messageId']}"


def _scheduled(event: Mapping[str, Any], rules: Mapping[str, str]) -> Trigger:
    """Read an event of a schedule: its slot is the minute of its time.

    A rule "runs within that minute, but not on the precise 0th second"
    (https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html), a schedule
    without a flexible window likewise. The event keeps its time when it is delivered again. A minute that
    is none of the contract's - of a ``rate()``, which counts from its creation - is refused by the ingress.
    """
    resources = event.get("resources")
    arn = resources[0] if isinstance(resources, list) and len(resources) == 1 else None
    if event.get("source") not in ("aws.events", "aws.scheduler"):
        remedy = "leave it as AWS sent it"
        refuse([Problem("event: source", "it is neither aws.events nor aws.scheduler", remedy)])
    if not isinstance(arn, str):
        refuse([Problem("event: resources", "they are not one ARN", "leave them as AWS sent them")])
    return Trigger(
        schedule_id=_schedule_of(arn, rules),
        nominal_time=_minute(event.get("time")),
        source=arn,
    )


def _schedule_of(arn: str, rules: Mapping[str, str]) -> str:
    path = arn.rpartition(":")[2].partition("/")[2]
    for name in (arn, path, path.rpartition("/")[2]):
        if name in rules:
            return rules[name]
    remedy = "write its name and a schedule id into rules, or give it the input that was compiled"
    return refuse([Problem(f"event: resources: {arn!r}", "it is none of the rules", remedy)])


def _minute(text: object) -> datetime:
    instant = publish_time(text, "event: time")
    if instant is None:
        refuse([Problem("event: time", "it is missing", "leave it as AWS sent it")])
    return instant.replace(second=0, microsecond=0)


def _message_carrier(attributes: object) -> Mapping[str, str]:
    """Return the trace context in the attributes of a message."""
    if not isinstance(attributes, Mapping):
        return {}
    texts = {
        name: value.get("stringValue")
        for name, value in attributes.items()
        if isinstance(value, Mapping)
    }
    return carrier_of(texts)


def _is_from_sqs(record: object) -> bool:
    """Whether it is a message whose failure can be told."""
    if not isinstance(record, Mapping) or record.get("eventSource") != "aws:sqs":
        return False
    named = record.get("messageId")
    return isinstance(named, str) and named != "" and isinstance(record.get("body"), str)


def _misrouted(message: str, remedy: str) -> NoReturn:
    refuse([Problem("event", message, remedy)])

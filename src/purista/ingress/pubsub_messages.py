"""The trigger in a message of Google Pub/Sub: read, and nothing else.

CloudEvents in messages: https://github.com/googleapis/google-cloudevents/blob/main/docs/spec/pubsub.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from purista.cloudevent import read_text, refuse
from purista.errors import Problem
from purista.ingress.slotted import publish_time, slotted
from purista.jsonvalue import NotJsonError, read_document
from purista.telemetry import CARRIED, carrier_of
from purista.trigger import Trigger

Carried = tuple[Trigger, Mapping[str, str]]
"""A trigger, and the headers of its trace."""


def pushed_trigger(body: bytes) -> Carried:
    """Read the trigger that Pub/Sub pushes, wrapped as it does by default. Raises ``TriggerError``.

    https://cloud.google.com/pubsub/docs/push#receive_push
    """
    envelope = _object(_json(body), "body")
    message = _object(envelope.get("message"), "message")
    attributes = _object(message.get("attributes", {}), "message: attributes")
    for name, value in attributes.items():
        if not isinstance(value, str):
            remedy = "leave it as Pub/Sub sent it"
            refuse([Problem(f"message: attribute {name!r}", "it is no text", remedy)])
    place = "message: publishTime"
    published = publish_time(message.get("publishTime", message.get("publish_time")), place)
    return message_trigger(attributes, _data(message.get("data")), published)


def unwrapped_trigger(headers: Iterable[tuple[str, str]], body: bytes) -> Carried:
    """Read the trigger that Pub/Sub pushes without a wrapper, its metadata in headers.

    https://cloud.google.com/pubsub/docs/payload-unwrapping. Raises ``TriggerError``.
    """
    found = {name.lower(): value for name, value in headers}
    place = "x-goog-pubsub-publish-time"
    published = publish_time(found.get(place), f"header '{place}'")
    attributes = {name: found[name] for name in found if _is_attribute(name)}
    return message_trigger(attributes, body, published)


def message_trigger(
    attributes: Mapping[str, str], data: bytes, published: datetime | None
) -> Carried:
    """Read the trigger of a message. Raises ``TriggerError``.

    It is in the attributes, with the message's data as its data (binary mode), or all of it is in the
    data (structured mode).
    """
    found = {name.lower(): value for name, value in attributes.items()}
    kind = found.get("content-type", "").partition(";")[0].strip().lower()
    event: Mapping[str, Any]
    if kind == "application/cloudevents+json" or not any(map(_is_of_event, found)):
        event = _object(read_text(data, "data"), "data")
    elif kind.startswith("application/cloudevents"):
        remedy = "send one event as 'application/cloudevents+json'"
        refuse([Problem("attribute 'content-type'", "its format is not taken", remedy)])
    else:
        event = _binary(found, data)
    event = slotted(event, published)
    return Trigger.from_cloudevent(event), {**carrier_of(event), **_trace_of(found)}


def _binary(found: Mapping[str, str], data: bytes) -> dict[str, Any]:
    """Return the event of a message in binary mode: values are plain text, and not percent-encoded."""
    event: dict[str, Any] = {
        name.removeprefix("ce-"): value for name, value in found.items() if _is_of_event(name)
    }
    kind = found.get("content-type", event.get("datacontenttype"))
    event |= {"datacontenttype": kind}
    if data:
        event["data"] = read_text(data, "data")
    return event


def _trace_of(found: Mapping[str, str]) -> Mapping[str, str]:
    """Return the trace context of the publisher, as its library or the program wrote it."""
    names = {f"googclient_{name}": name for name in CARRIED}
    return {
        names.get(name, name): text for name, text in found.items() if name in (*names, *CARRIED)
    }


def _is_of_event(name: str) -> bool:
    return name.startswith("ce-")


def _is_attribute(name: str) -> bool:
    return (
        _is_of_event(name) or name in ("content-type", *CARRIED) or name.startswith("googclient_")
    )


def _json(body: bytes) -> Any:
    try:
        return read_document(body)
    except NotJsonError as error:
        remedy = "let a push subscription send it"
        return refuse([Problem("body", f"it is not JSON: {error}", remedy)])


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        refuse(
            [Problem(place, "it is missing or no JSON object", "let a push subscription send it")]
        )
    return value


def _data(text: object) -> bytes:
    """Decode the data of a message; none is as good as empty."""
    if text is None:
        return b""
    try:
        if isinstance(text, str):
            return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    return refuse([Problem("message: data", "it is not base64", "leave it as Pub/Sub sent it")])

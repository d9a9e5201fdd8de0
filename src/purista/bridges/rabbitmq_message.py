"""A message as RabbitMQ has it: CloudEvents in binary mode, attributes in the headers ``cloudEvents:…``.

The prefix is that of the AMQP binding for application properties; ``datacontenttype`` is the property
``content_type``.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from purista.bridges.envelope import CONTENT_TYPE, headers_of, message_of
from purista.errors import BridgeError
from purista.message import Message

PREFIX: Final = "cloudEvents:"

ATTEMPT: Final = "purista-attempt"
"""Which delivery the next one is; 1 where it is missing."""

ATTEMPTS: Final = "purista-attempts"
REASON: Final = "purista-reason"
DIED: Final = "purista-died"
LETTER: Final = "purista-letter"
"""What a dead letter has besides: how often it was tried, why and when it died, and its own id."""

PERSISTENT: Final = 2
TRANSIENT: Final = 1

MOST_HEADERS: Final = 100_000
"""Bytes of headers; they have to fit into one frame, which is 128 KiB unless a server says otherwise."""

_OWN = frozenset({ATTEMPT, ATTEMPTS, REASON, DIED, LETTER})
_BROKERS = frozenset({"CC", "BCC", "x-death", "x-delivery-count", "x-acquired-count"})
_BROKERS_PREFIXES = ("x-first-death-", "x-last-death-", "x-opt-")
_KEPT: Final = "purista-kept-"
"""What begins the name of a header that would mean something to the server, or to this bridge."""


def properties_of(
    message: Message, extra: Mapping[str, str | int] | None = None, *, mode: int = PERSISTENT
) -> Basic.Properties:
    """Return the properties of a message. Raises ``BridgeError`` for headers that no frame takes."""
    headers = {_guarded(key): value for key, value in _headers(message).items()}
    kind = headers.pop(CONTENT_TYPE, None)
    size = sum(len(key) + len(value) + 8 for key, value in headers.items())
    if size > MOST_HEADERS or any(len(key) > 255 for key in headers) or len(kind or "") > 255:
        raise BridgeError(
            f"RabbitMQ: message {message.id}: its headers are too long ({size} bytes; at most "
            f"{MOST_HEADERS}, and 255 for a name); put them into the body"
        )
    table: dict[str, Any] = {**headers, **(extra or {})}
    return Basic.Properties(content_type=kind, headers=table, delivery_mode=mode)


def message_from(name: str, delivered: DeliveredMessage, *, fallback_id: str) -> Message:
    """Return the message that the server delivered. Raises ``BridgeError``; see ``message_of``."""
    properties = delivered.header.properties
    headers = {
        _unguarded(key): text(value)
        for key, value in (properties.headers or {}).items()
        if key not in _OWN and not _is_brokers(key)
    }
    if properties.content_type:
        headers[CONTENT_TYPE] = properties.content_type
    return message_of(name, headers, delivered.body, fallback_id=fallback_id)


def raw_headers(delivered: DeliveredMessage) -> Mapping[str, Any]:
    """Return the headers as the server has them."""
    return delivered.header.properties.headers or {}


def number(headers: Mapping[str, Any], name: str, default: int) -> int:
    """Return a header that is a number, or the default."""
    value = headers.get(name)
    return value if isinstance(value, int) else default


def text(value: Any) -> str:
    """Return the value of a header, of whatever type a stranger gave it, as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return value.decode(errors="replace")
    if isinstance(value, datetime):
        return value.isoformat()
    return json.dumps(value, default=str)


def _headers(message: Message) -> dict[str, str]:
    return headers_of(message, prefix=PREFIX)


def _is_brokers(name: str) -> bool:
    return name in _BROKERS or name.startswith(_BROKERS_PREFIXES)


def _guarded(name: str) -> str:
    is_taken = name in _OWN or _is_brokers(name) or name.startswith(_KEPT)
    return f"{_KEPT}{name}" if is_taken else name


def _unguarded(name: str) -> str:
    return name.removeprefix(_KEPT)

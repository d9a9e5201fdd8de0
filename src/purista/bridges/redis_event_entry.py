"""An event as the fields of an entry in a stream: its headers, and the body in ``data``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from purista.bridges.envelope import headers_of, message_of
from purista.message import Message

DATA: Final = b"data"
"""The field of the body; the last one of this name, as a header may bear it, too."""

ATTEMPTS: Final = b"purista:attempts"
REASON: Final = b"purista:reason"
MESSAGE_ID: Final = b"purista:id"
WAKE: Final = b"purista:wake"
"""What the scripts add to an entry; no header of a message can be called like that."""


class Letter(NamedTuple):
    """What a dead letter says about the event."""

    message: Message
    attempts: int
    reason: str


def fields_of(message: Message) -> list[bytes | str]:
    """Return the fields of an entry, names and values in turns."""
    fields: list[bytes | str] = []
    for pair in headers_of(message).items():
        fields += pair
    fields += (DATA, message.body)
    return fields


def is_wake(fields: Sequence[bytes]) -> bool:
    """Whether an entry is no event, but says that something is due."""
    return fields[0] == WAKE


def message_from(event: str, fields: Sequence[bytes], *, fallback_id: str) -> Message:
    """Return the event in an entry, whoever wrote it. Raises ``BridgeError``."""
    headers: dict[str, str] = {}
    body: bytes | None = None
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == DATA:
            if body is not None:
                headers["data"] = _text(body)
            body = value
        elif not name.startswith(b"purista:"):
            headers[_text(name)] = _text(value)
        elif name == MESSAGE_ID:
            fallback_id = _text(value)
    return message_of(event, headers, b"null" if body is None else body, fallback_id=fallback_id)


def letter_from(event: str, fields: Sequence[bytes], *, fallback_id: str) -> Letter:
    """Return a dead letter. Raises ``BridgeError`` for an event that cannot be read."""
    known = dict(zip(fields[:6:2], fields[1:6:2], strict=True))
    message = message_from(event, fields, fallback_id=fallback_id)
    return Letter(message, int(known[ATTEMPTS]), _text(known[REASON]))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")

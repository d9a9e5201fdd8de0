"""The dead letters of subscribers on NATS: a stream, one subject for each event and subscriber."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from purista.bridges import nats_names as names
from purista.bridges.envelope import headers_of
from purista.bridges.nats_connection import ApiError, Client, NatsConnection, size_of
from purista.bridges.nats_streams import NOT_FOUND, Streams, message_headers, stored_message
from purista.bridges.port import DeadEvent
from purista.errors import BridgeError
from purista.message import Message

ATTEMPTS: Final = "purista-attempts"
REASON: Final = "purista-reason"

LONGEST_REASON: Final = 1000

RESERVE: Final = 2000
"""Bytes that an event or a job leaves free, for its dead letter, and for what a queue notes beside a job."""

_OWN_HEADERS: Final = frozenset(
    {ATTEMPTS, "nats-msg-id", "content-type", "purista-id", "purista-max-attempts"}
)
_CORE: Final = re.compile(r"ce-(specversion|type|source|id|purista\w+)\Z")


logger = logging.getLogger("purista.bridges")


class Stored(NamedTuple):
    """A message as it is in a stream."""

    sequence: int
    headers: Mapping[str, str]
    body: bytes
    time: datetime


class NatsDeadEvents:
    """Keeps, lists, redrives and purges dead letters."""

    def __init__(self, connection: NatsConnection, streams: Streams, prefix: str) -> None:
        self._connection = connection
        self._streams = streams
        self._prefix = prefix

    async def bury(
        self,
        event: str,
        subscriber: str,
        message: Message,
        attempts: int,
        reason: str,
        *,
        once: str,
    ) -> None:
        """Keep a dead letter; ``once`` is the same when this is tried again."""
        headers = {
            **headers_of(message),
            ATTEMPTS: str(attempts),
            REASON: one_line(reason),
            "Nats-Msg-Id": once,
        }
        await self._connection.published(
            self._subject(event, subscriber),
            message.body,
            fitting(headers, message.body, await self._connection.client()),
            missing=self._streams.ensure,
        )

    async def of(self, event: str, subscriber: str) -> list[DeadEvent]:
        """Return those of a subscriber, oldest first."""
        return [letter async for _, letter in self._each(event, subscriber)]

    async def redrive(self, event: str, subscriber: str, message_id: str | None) -> int:
        """Deliver them again to the subscriber alone."""
        consumer = names.short(event, subscriber)
        try:
            await self._connection.api(f"CONSUMER.INFO.{self._streams.events}.{consumer}")
        except ApiError as error:
            if error.code in NOT_FOUND:
                return 0
            raise
        subject = redriven_subject(self._prefix, event, subscriber)
        count = 0
        async for sequence, letter in self._each(event, subscriber):
            if message_id in (None, letter.message.id):
                headers = message_headers(letter.message)
                headers["Nats-Msg-Id"] = f"redriven-{self._streams.dead}-{sequence}"
                body = letter.message.body
                fit = fitting(headers, body, await self._connection.client())
                await self._connection.published(subject, body, fit, missing=self._streams.ensure)
                count += await self._delete(sequence)
        return count

    async def purge(self, event: str, subscriber: str, message_id: str | None) -> int:
        """Delete them; return how many."""
        return sum(
            [
                await self._delete(sequence)
                async for sequence, letter in self._each(event, subscriber)
                if message_id in (None, letter.message.id)
            ]
        )

    async def _each(self, event: str, subscriber: str) -> AsyncIterator[tuple[int, DeadEvent]]:
        subject = self._subject(event, subscriber)
        async for stored in each_stored(self._connection, self._streams.dead, subject):
            others = {k: v for k, v in stored.headers.items() if k not in (ATTEMPTS, REASON)}
            message = _message(event, others, stored)
            yield (
                stored.sequence,
                DeadEvent(
                    event,
                    subscriber,
                    message,
                    int(stored.headers.get(ATTEMPTS, "0")),
                    stored.headers.get(REASON, "unknown"),
                    stored.time,
                ),
            )

    async def _delete(self, sequence: int) -> int:
        return await delete_stored(self._connection, self._streams.dead, sequence)

    def _subject(self, event: str, subscriber: str) -> str:
        return f"{self._prefix}.dead-events.{names.short(event, subscriber)}"


def _message(event: str, headers: Mapping[str, str], stored: Stored) -> Message:
    """Return the event of a dead letter, whatever it is."""
    try:
        return stored_message(event, headers, stored.body, fallback_id=str(stored.sequence))
    except BridgeError:
        return Message(event, stored.body, str(stored.sequence), None, {"purista-unread": "true"})


def redriven_subject(prefix: str, event: str, subscriber: str) -> str:
    """Return where the redriven events of one subscriber go."""
    return f"{prefix}.redriven.{names.short(event, subscriber)}"


def one_line(text: str) -> str:
    """Return a reason as a header takes it: printable ASCII on one line, the rest escaped."""
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    return line[:LONGEST_REASON] or "unknown"


def fitting(headers: Mapping[str, str], body: bytes, client: Client) -> Mapping[str, str]:
    """Return the headers of a dead letter, or of what it becomes, as far as the server takes them with its body.

    The reason goes first, then what its sender gave it, at last all of them: the body is kept.
    """
    room = client.max_payload - len(body)
    if size_of(headers) <= room:
        return headers
    logger.warning("NATS: a dead letter of %d bytes loses a part of its headers", len(body))
    left = room - size_of({**headers, REASON: ""})
    if left > 0:
        return {**headers, REASON: headers[REASON][:left]}
    core = {key: value for key, value in headers.items() if _is_core(key.lower())}
    return core if size_of(core) <= room else {}


def _is_core(name: str) -> bool:
    return name in _OWN_HEADERS or _CORE.match(name) is not None


async def each_stored(
    connection: NatsConnection, stream: str, subject: str
) -> AsyncIterator[Stored]:
    """Yield the messages of a subject that were there when it began, oldest first, each as it is read."""
    last = await _found(connection, stream, {"last_by_subj": subject})
    sequence = 1
    while last is not None and sequence <= last["seq"]:
        found = await _found(connection, stream, {"seq": sequence, "next_by_subj": subject})
        if found is None:
            return
        if found["seq"] <= last["seq"]:
            yield _stored(found)
        sequence = found["seq"] + 1


async def _found(
    connection: NatsConnection, stream: str, wanted: Mapping[str, Any]
) -> dict[str, Any] | None:
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{stream}", wanted)
    except ApiError as error:
        if error.code in NOT_FOUND:
            return None
        raise
    message: dict[str, Any] = answer["message"]
    return message


async def delete_stored(connection: NatsConnection, stream: str, sequence: int) -> int:
    """Delete a message; return how many went, 0 where another was faster."""
    try:
        await connection.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
    except ApiError as error:
        if error.code in NOT_FOUND or error.code == _DELETED:
            return 0
        raise
    return 1


_DELETED = 10043
"""JetStream's number for a message that is gone already."""


def _stored(found: Mapping[str, Any]) -> Stored:
    lines = base64.b64decode(found.get("hdrs", "")).decode("utf-8", "replace").split("\r\n")[1:]
    headers = dict(line.split(":", 1) for line in lines if ":" in line)
    return Stored(
        found["seq"],
        {key.strip(): value.strip() for key, value in headers.items()},
        base64.b64decode(found.get("data", "")),
        instant(found["time"]),
    )


def instant(text: str) -> datetime:
    """Return an RFC 3339 instant of the server's, which has nanoseconds, in UTC."""
    whole, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{rest[:6]:0<6}").replace(tzinfo=UTC)

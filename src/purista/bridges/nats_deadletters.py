"""The dead letters of subscribers on NATS: a stream, one subject for each event and subscriber."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from purista.bridges import nats_names as names
from purista.bridges.envelope import headers_of
from purista.bridges.nats_connection import ApiError, NatsConnection
from purista.bridges.nats_streams import NOT_FOUND, Streams, message_headers, stored_message
from purista.bridges.port import DeadEvent
from purista.message import Message

ATTEMPTS = "purista-attempts"
REASON = "purista-reason"


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
            headers,
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
                await self._connection.published(
                    subject, letter.message.body, headers, missing=self._streams.ensure
                )
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
            message = stored_message(event, others, stored.body, fallback_id=str(stored.sequence))
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


def redriven_subject(prefix: str, event: str, subscriber: str) -> str:
    """Return where the redriven events of one subscriber go."""
    return f"{prefix}.redriven.{names.short(event, subscriber)}"


def one_line(text: str) -> str:
    """Return a reason as a header takes it: printable ASCII on one line, the rest escaped."""
    line = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    return line[:1000] or "unknown"


async def each_stored(
    connection: NatsConnection, stream: str, subject: str
) -> AsyncIterator[Stored]:
    """Yield the messages of a subject, oldest first, each as it is read."""
    sequence = 1
    while True:
        wanted = {"seq": sequence, "next_by_subj": subject}
        try:
            found = (await connection.api(f"STREAM.MSG.GET.{stream}", wanted))["message"]
        except ApiError as error:
            if error.code in NOT_FOUND:
                return
            raise
        yield _stored(found)
        sequence = found["seq"] + 1


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

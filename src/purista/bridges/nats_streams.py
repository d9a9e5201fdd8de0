"""The streams of a NATS event bridge, and a message as it is stored in one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from purista.bridges.envelope import headers_of, message_of
from purista.bridges.nats_connection import ApiError, NatsConnection
from purista.errors import BridgeError
from purista.message import Message

logger = logging.getLogger("purista.bridges")

NAME_IN_USE = 10058
"""JetStream's number for a stream that is there with another configuration."""

NOT_FOUND = frozenset({10014, 10037, 10059})
"""Its numbers for a consumer, a message or a stream that is not there."""

_OURS = "nats-"


class Streams:
    """Makes the streams where they are not there; those that are stay as they are.

    Events wait for ``keep``, their dead letters until somebody acts.
    """

    def __init__(
        self, connection: NatsConnection, prefix: str, *, keep: timedelta, replicas: int | None
    ) -> None:
        self.events = f"{prefix}-events"
        self.dead = f"{prefix}-dead-events"
        self._connection = connection
        self._made = False
        self._lock = asyncio.Lock()
        self._keep = nanoseconds(keep)
        common = {
            "storage": "file",
            "num_replicas": replicas or connection.replicas or 1,
            "allow_direct": True,
            "metadata": {"managed-by": "purista"},
        }
        events = [f"{prefix}.events.>", f"{prefix}.redriven.>"]
        self._event_stream = {
            "name": self.events,
            "subjects": events,
            "retention": "interest",
            "max_age": self._keep,
            **common,
        }
        self._dead_stream = {"name": self.dead, "subjects": [f"{prefix}.dead-events.>"], **common}

    async def ensured(self) -> None:
        """Make them, once."""
        if not self._made:
            await self.ensure()

    async def ensure(self) -> None:
        """Make them; several processes may do so at once. Raises ``BridgeError``."""
        async with self._lock:
            await make_stream(self._connection, self._event_stream)
            await self._keep_letters(await make_stream(self._connection, self._dead_stream))
            self._made = True

    async def _keep_letters(self, config: Mapping[str, Any]) -> None:
        """Let dead letters stay in a stream of an earlier version, which deleted them after ``keep``.

        Any other limit is that of a person.
        """
        if not self._keep or config.get("max_age") != self._keep:
            return
        try:
            await self._connection.api(f"STREAM.UPDATE.{self.dead}", {**config, "max_age": 0})
        except BridgeError as error:
            logger.warning(
                "stream '%s' deletes dead letters after a while, as an earlier version made it: set its "
                "max_age to 0 (%s)",
                self.dead,
                error,
            )


async def make_stream(
    connection: NatsConnection, configuration: Mapping[str, Any]
) -> dict[str, Any]:
    """Make a stream unless there is one of its name; return how it is. Raises ``BridgeError``."""
    name = configuration["name"]
    try:
        found = await connection.api(f"STREAM.CREATE.{name}", configuration)
    except ApiError as error:
        if error.code != NAME_IN_USE:
            raise
        found = await connection.api(f"STREAM.INFO.{name}")
        wanted = configuration.get("retention", "limits")
        if found["config"]["retention"] != wanted:
            raise connection.refusal(
                f"stream '{name}' is there with retention '{found['config']['retention']}', not "
                f"'{wanted}'; choose another prefix, or delete it"
            ) from None
    config: dict[str, Any] = found["config"]
    there, wished = config["num_replicas"], configuration["num_replicas"]
    if there < wished:
        logger.warning(
            "stream '%s' has %d of %d replicas, as it was made; change it with the server's own tools",
            name,
            there,
            wished,
        )
    return config


def nanoseconds(duration: timedelta) -> int:
    """Return a duration as JetStream counts."""
    return duration // timedelta(microseconds=1) * 1000


def message_headers(message: Message) -> dict[str, str]:
    """Return the headers of a message, with the id by which the server stores it once."""
    text = f"{message.name}\0{message.id}".encode()
    return {**headers_of(message), "Nats-Msg-Id": hashlib.sha256(text).hexdigest()[:32]}


def stored_message(
    name: str, headers: Mapping[str, str] | None, body: bytes, *, fallback_id: str
) -> Message:
    """Return the message that the server stored, without the headers that are the server's."""
    known = {} if headers is None else headers
    own = {key: value for key, value in known.items() if not key.lower().startswith(_OURS)}
    return message_of(name, own, body, fallback_id=fallback_id)

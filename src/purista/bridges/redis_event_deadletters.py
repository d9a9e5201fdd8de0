"""The dead letters of subscribers: listed, delivered again, deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from purista.bridges.port import DeadEvent
from purista.bridges.redis_event_entry import letter_from
from purista.bridges.redis_event_names import Names
from purista.bridges.redis_event_scripts import REDRIVE
from purista.bridges.redis_server import RedisServer
from purista.errors import BridgeError
from purista.message import Message

AT_ONCE: Final = 100
"""How many dead letters are read or moved at once."""


class RedisDeadEvents:
    """The dead letters in the streams ``{prefix}:dead:{event}:{subscriber}``."""

    def __init__(self, server: RedisServer, names: Names) -> None:
        self._server = server
        self._names = names

    async def of(self, event: str, subscriber: str) -> list[DeadEvent]:
        """Return a subscriber's dead letters, oldest first."""
        key, found, start = self._names.letters(event, subscriber), [], b"-"
        while True:
            page = await self._server.ask("XRANGE", key, start, "+", "COUNT", AT_ONCE)
            for entry_id, fields in _entries(page):
                found.append(_dead(event, subscriber, entry_id, fields))
                start = b"(" + entry_id
            if len(page) < AT_ONCE:
                return found

    async def redrive(self, event: str, subscriber: str, message_id: str | None) -> int:
        """Deliver dead letters again; return how many."""
        return await self._moved("redrive", event, subscriber, message_id)

    async def purge(self, event: str, subscriber: str, message_id: str | None) -> int:
        """Delete dead letters; return how many."""
        return await self._moved("purge", event, subscriber, message_id)

    async def _moved(
        self,
        word: Literal["redrive", "purge"],
        event: str,
        subscriber: str,
        message_id: str | None,
    ) -> int:
        """Move all that were there when it began, some at once."""
        letters = self._names.letters(event, subscriber)
        latest = await self._server.ask("XREVRANGE", letters, "+", "-", "COUNT", 1)
        if not latest:
            return 0
        keys = (
            self._names.own_stream(event, subscriber),
            letters,
            self._names.letter_ids(event, subscriber),
        )
        last, count = _entries(latest)[0][0], 0
        while True:
            answer = await self._server.run(REDRIVE, keys, word, message_id or "", last, AT_ONCE)
            moved = int(answer.value)
            count += moved
            if message_id is not None or moved < AT_ONCE:
                return count


def _dead(event: str, subscriber: str, entry_id: bytes, fields: Sequence[bytes]) -> DeadEvent:
    died_at = datetime.fromtimestamp(0, UTC) + timedelta(
        milliseconds=int(entry_id.partition(b"-")[0])
    )
    try:
        letter = letter_from(event, fields, fallback_id=entry_id.decode())
    except BridgeError as error:
        message = Message(event, b"null", entry_id.decode())
        return DeadEvent(event, subscriber, message, 1, str(error), died_at)
    return DeadEvent(event, subscriber, letter.message, letter.attempts, letter.reason, died_at)


def _entries(found: Any) -> list[tuple[bytes, Sequence[bytes]]]:
    """Return the id and the fields of each entry."""
    return [(entry[0], entry[1]) for entry in found]

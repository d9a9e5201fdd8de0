"""The port to the members of an event bridge in a database: who takes what is published there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal, Protocol

from purista.bridges.port import Job
from purista.message import Message

ENDLESS: Final = 1_000_000_000
"""Attempts of the job that an event is: its subscriber counts them, who alone knows how many it wants."""


Kind = Literal["subscriber", "instance", "responder", "caller"]
"""``subscriber``: a name that is kept while nobody uses it; the others are receivers of one process."""


class Members(Protocol):
    """Says to which queues a message goes, in the transaction that puts it there.

    Every member has a queue. One that has given no sign of life for as long as it said is no member
    any more; what waits in the queue of a receiver that ended so is forgotten.
    """

    async def join(self, kind: Kind, name: str, queue: str, *, lasts: timedelta) -> None:
        """Note a member of ``name``, or that it is still there. Raises ``BridgeError``."""

    async def leave(self, kind: Kind, name: str, queue: str) -> None:
        """Forget a member, and of a receiver what waits for it. Raises ``BridgeError``."""

    async def post(
        self, kinds: Sequence[Kind], name: str, message: Message, *, to: str | None = None
    ) -> int:
        """Put a message into the queue of each member of ``name``, once; return into how many.

        ``to``: into this queue instead, if there is any member. Raises ``BridgeError``.
        """

    async def names(self, kind: Kind) -> Sequence[str]:
        """Return the names that have such members. Raises ``BridgeError``."""

    async def close(self) -> None:
        """Release what it holds. May be repeated."""


def posted(message: Message, queue: str) -> Job:
    """Return the job that a message is in a queue."""
    return Job(message._replace(name=queue), ENDLESS)

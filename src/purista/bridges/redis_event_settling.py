"""How a consumer settles what it has in hand; what waits together travels together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from purista.bridges.deliveries import BEATS
from purista.bridges.redis_event_scripts import AGAIN, BACK, BURY, DONE, PROLONG
from purista.bridges.redis_line import Value
from purista.bridges.redis_server import NoGroupError, RedisServer
from purista.clock import Clock
from purista.errors import BridgeError, LeaseLostError
from purista.message import Message
from purista.redisstore.script import Script
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")

AT_ONCE: Final = 200
"""How many events one script settles at most."""

SETTLED, OWN, ANOTHERS, DELETED = 0, 1, -1, 2
"""What a script says about an entry: nobody's any more, this delivery's, another's; or not there."""


class RedisSettling:
    """The steps of one consumer; each raises ``LeaseLostError`` or ``BridgeError``.

    ``at_work``: what its receivers have in hand, with the number of the delivery. ``handled`` counts
    what was settled.
    """

    def __init__(
        self,
        server: RedisServer,
        keys: Sequence[bytes],
        group: bytes,
        consumer: bytes,
        *,
        clock: Clock,
        options: SubscriptionOptions,
        look_by: Callable[[float], None],
    ) -> None:
        self.clock = clock
        self.lease = options.lease.total_seconds()
        self._most = options.max_attempts
        self.at_work: dict[str, int] = {}
        self.handled = 0
        self._server = server
        self._keys = keys
        self._group = group
        self._consumer = consumer
        self._look_by = look_by
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def done(self, entry: str, delivery: int) -> None:
        """It is handled."""
        loop = asyncio.get_running_loop()
        settled = loop.create_future()
        self._waiting.append((entry, delivery, settled))
        if self._sender is None:
            self._sender = loop.create_task(self._send())
        await settled

    async def again(self, entry: str, delivery: int, after: float) -> None:
        """Its next attempt is due after so many seconds."""
        await self._step(AGAIN, entry, delivery, int(after * 1000))
        self._look_by(after)

    async def bury(self, entry: str, delivery: int, message: Message, reason: str) -> bool:
        """Make a dead letter of it; False when the event is not there any more."""
        attempts = min(delivery, self._most)
        standing = await self._step(BURY, entry, delivery, attempts, message.id, reason)
        return standing != DELETED

    async def give_back(self, entry: str, delivery: int) -> None:
        """Another receiver gets it at once, as the same attempt."""
        within = self._server.parting
        await self._server.run(
            BACK, self._keys[:3], self._group, self._consumer, entry, delivery, within=within
        )

    async def prolong(self, entry: str, delivery: int) -> None:
        """Its lease begins anew; is not tried for longer than a part of the lease."""
        await self._step(PROLONG, entry, delivery, within=self.lease / BEATS)

    def settled(self, entry: str, delivery: int) -> None:
        """Forget what was at work."""
        self.handled += 1
        if self.at_work.get(entry) == delivery:
            del self.at_work[entry]

    async def _step(
        self,
        script: Script,
        entry: str,
        delivery: int,
        *values: Value,
        within: float | None = None,
    ) -> int:
        keys = self._keys if script is BURY else self._keys[:3]
        place = (self._group, self._consumer, entry, delivery)
        try:
            standing, is_first = await self._server.run(
                script, keys, *place, *values, within=within
            )
        except NoGroupError:
            raise lost() from None
        if standing != DELETED and not is_own(standing, is_first=is_first):
            raise lost()
        return int(standing)

    async def _send(self) -> None:
        """Send what waits, until nothing does."""
        batch: list[tuple[str, int, asyncio.Future[None]]] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                await self._settle(batch)
        finally:
            self._sender = None
            for _, _, settled in (*batch, *self._waiting):
                settled.cancel()

    async def _settle(self, batch: Sequence[tuple[str, int, asyncio.Future[None]]]) -> None:
        values: list[Value] = [part for entry, number, _ in batch for part in (entry, number)]
        keys = self._keys[:3]
        try:
            standings, is_first = await self._server.run(
                DONE, keys, self._group, self._consumer, *values
            )
        except NoGroupError:
            standings, is_first = [ANOTHERS] * len(batch), True
        except BridgeError as error:
            for _, _, settled in batch:
                if not settled.done():
                    settled.set_exception(error)
            return
        for (_, _, settled), standing in zip(batch, standings, strict=True):
            if settled.done():
                continue
            if is_own(standing, is_first=is_first):
                settled.set_result(None)
            else:
                settled.set_exception(lost())


class RedisDelivery:
    """One event as it was delivered to a consumer: an entry, and how often it was delivered."""

    __slots__ = ("_entry", "_settling", "_until", "attempt", "message")

    def __init__(self, settling: RedisSettling, entry: str, attempt: int, message: Message) -> None:
        self.message = message
        self.attempt = attempt
        self._settling = settling
        self._entry = entry
        self._until = settling.clock.monotonic() + settling.lease
        settling.at_work[entry] = attempt

    async def done(self) -> None:
        """Acknowledge it."""
        try:
            await self._settling.done(self._entry, self.attempt)
        finally:
            self._settling.settled(self._entry, self.attempt)

    async def again(self, after: float) -> None:
        """Put it by until its next attempt is due."""
        try:
            await self._settling.again(self._entry, self.attempt, after)
        finally:
            self._settling.settled(self._entry, self.attempt)

    async def bury(self, reason: str) -> None:
        """Store the dead letter and acknowledge the event, in one step."""
        try:
            if not await self._settling.bury(self._entry, self.attempt, self.message, reason):
                logger.error("message %s: deleted before it was buried", self.message.id)
        finally:
            self._settling.settled(self._entry, self.attempt)

    async def give_back(self) -> None:
        """Let another receiver have it at once, as the same attempt."""
        try:
            await self._settling.give_back(self._entry, self.attempt)
        finally:
            self._settling.settled(self._entry, self.attempt)

    async def prolong(self) -> None:
        """Let its lease begin anew; it is lost when the server could not be told in time."""
        settling = self._settling
        began = settling.clock.monotonic()
        try:
            await settling.prolong(self._entry, self.attempt)
        except LeaseLostError:
            settling.settled(self._entry, self.attempt)
            raise
        except BridgeError:
            if settling.clock.monotonic() < self._until:
                raise
            settling.settled(self._entry, self.attempt)
            raise lost() from None
        self._until = began + settling.lease


def is_own(standing: int, *, is_first: bool) -> bool:
    """Whether a step was taken: now, or when it was sent before and its answer was lost."""
    return standing == OWN or (standing == SETTLED and not is_first)


def lost() -> LeaseLostError:
    """Return that an event is another's by now."""
    return LeaseLostError("the lease ran out, and the event was given to another")

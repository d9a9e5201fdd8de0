"""A subscription of ``every_instance``: reads the event's stream for itself, without a group.

The server knows nothing of it but the read that waits, so that nothing is left of one that is gone.
What failed is tried again from memory, and is logged when it is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from redis import exceptions

from purista.bridges.deliveries import Deliveries
from purista.bridges.port import Receiver
from purista.bridges.redis_event_entry import message_from
from purista.bridges.redis_event_names import Names
from purista.bridges.redis_event_reader import RedisEventReader
from purista.bridges.redis_event_subscription import BLOCK, PAUSE, unless
from purista.bridges.redis_server import Failure, RedisServer
from purista.clock import Clock
from purista.errors import BridgeError
from purista.message import Message
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")

BEGINNING: Final = b"0-0"


class RedisInstance:
    """A receiver that gets every event while it is there. It has a connection of its own."""

    def __init__(
        self,
        server: RedisServer,
        names: Names,
        *,
        event: str,
        subscriber: str,
        receive: Receiver,
        options: SubscriptionOptions,
        clock: Clock,
        gone: Callable[[RedisInstance], None],
    ) -> None:
        self._event = event
        self._server = server
        self._stream = names.stream(event)
        self._gone = gone
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._deliveries = Deliveries(
            event, subscriber, receive, options=options, clock=clock, freed=self._changed.set
        )
        self._due: deque[InstanceDelivery] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._reader = RedisEventReader(server)
        self._last = BEGINNING
        self._is_known = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find out where the stream is, and begin to wait for what comes after."""
        self._last = await self._end()
        self._task = asyncio.create_task(self._run(), name=f"purista redis {self._event}")

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated."""
        self._stopped.set()
        self._changed.set()
        self._reader.interrupt()
        try:
            if self._task is not None and not self._task.done():
                await asyncio.wait([self._task])
            await self._deliveries.drained()
        except asyncio.CancelledError:
            if self._task is not None:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            await self._deliveries.cut_off()
            raise
        finally:
            self._deliveries.close()
            for timer in self._timers:
                timer.cancel()
            self._timers.clear()
            self._due.clear()
            await self._reader.close()
            self._gone(self)

    def take_later(self, delivery: InstanceDelivery, after: float) -> None:
        """Deliver it again after so many seconds."""

        def take() -> None:
            self._timers.discard(timer)
            self._due.append(delivery)
            self._changed.set()
            self._reader.interrupt()

        timer = asyncio.get_running_loop().call_later(after, take)
        self._timers.add(timer)

    async def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                await self._turn()
            except (BridgeError, *Failure) as error:
                await self._mend(error)
            except Exception:
                logger.exception("event %s: an instance waits", self._event)
                await unless(self._stopped, asyncio.sleep(PAUSE))

    async def _turn(self) -> None:
        if not self._is_known:
            await self._find()
        self._changed.clear()
        if not self._deliveries.free:
            await self._changed.wait()
        while self._due and self._deliveries.free:
            self._deliveries.take(self._due.popleft())
        room = self._deliveries.free
        if not room or self._stopped.is_set():
            return
        command = ("XREAD", "COUNT", room, "BLOCK", int(BLOCK * 1000), "STREAMS")
        found = await self._reader.read((*command, self._stream, self._last), block=BLOCK)
        for _, entries in found or ():
            for entry_id, fields in entries:
                self._last = entry_id
                self._take(entry_id, fields)

    def _take(self, entry_id: bytes, fields: Sequence[bytes]) -> None:
        fallback = f"{self._event}:{entry_id.decode()}"
        try:
            message = message_from(self._event, fields, fallback_id=fallback)
        except BridgeError as error:
            logger.error("event %s: entry %s: %s", self._event, fallback, error)
            return
        self._deliveries.take(InstanceDelivery(self, message, 1))

    async def _find(self) -> None:
        """Go on where it was, or at the beginning of a stream that is another."""
        self._last = min(self._last, await self._end(), key=_number)
        self._is_known = True

    async def _end(self) -> bytes:
        """Return the id of the latest entry that the stream ever had."""
        try:
            found = await self._server.ask("XINFO", "STREAM", self._stream)
        except BridgeError as error:
            if "no such key" in str(error):
                return BEGINNING
            raise
        known = dict(zip(found[::2], found[1::2], strict=True))
        return bytes(known[b"last-generated-id"])

    async def _mend(self, error: Exception) -> None:
        self._is_known = False
        await self._reader.drop()
        if isinstance(error, exceptions.ResponseError | BridgeError):
            logger.warning("event %s: an instance waits: %s", self._event, error)
            await unless(self._stopped, asyncio.sleep(PAUSE))
        else:
            self._server.lost(error)
        await unless(self._stopped, self._server.back())


class InstanceDelivery:
    """One event in the hands of an instance; only the instance knows of it."""

    __slots__ = ("_instance", "attempt", "message")

    def __init__(self, instance: RedisInstance, message: Message, attempt: int) -> None:
        self._instance = instance
        self.message = message
        self.attempt = attempt

    async def done(self) -> None:
        """Nobody has to be told."""

    async def again(self, after: float) -> None:
        """Keep it until its next attempt is due."""
        again = InstanceDelivery(self._instance, self.message, self.attempt + 1)
        self._instance.take_later(again, after)

    async def bury(self, reason: str) -> None:
        """It is given up; the log says so."""

    async def give_back(self) -> None:
        """Nothing is kept for an instance that goes."""

    async def prolong(self) -> None:
        """Nobody else waits for it."""


def _number(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)

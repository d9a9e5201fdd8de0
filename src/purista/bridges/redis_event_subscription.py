"""A subscription on Redis: waits for events, looks for what is due, and settles what was handled.

Its subscriber has a consumer group on the event's stream and on a stream of its own, into which dead
letters are delivered again. What a receiver has in hand is pending in the group under the name of its
consumer; what waits for its next attempt is pending under another name, and due by a sorted set.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Final

from redis import exceptions

from purista.bridges.deliveries import Deliveries
from purista.bridges.envelope import why_unread
from purista.bridges.port import Receiver
from purista.bridges.redis_errors import is_lasting
from purista.bridges.redis_event_entry import is_wake, message_from
from purista.bridges.redis_event_names import Names, group
from purista.bridges.redis_event_reader import RedisEventReader
from purista.bridges.redis_event_scripts import JOIN, LEAVE, LOOK, SWEEP
from purista.bridges.redis_event_settling import RedisDelivery, RedisSettling
from purista.bridges.redis_server import Failure, NoGroupError, RedisServer
from purista.clock import Clock
from purista.errors import BridgeError
from purista.message import Message
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")

BLOCK: Final = 5.0
"""Seconds that one read waits at most; a server that is silent for longer than that is away."""

LOOK_EVERY: Final = 10.0
"""Seconds at most until a look for what others have put by, or left."""

LOOKED_AT_ONCE: Final = 20
"""How many events one look takes over at most."""

SWEEP_EVERY: Final = 15.0
"""Seconds between two sweeps while events come."""

SWEEP_IDLE: Final = 300.0
"""Seconds between two sweeps while none do."""

GONE: Final = timedelta(minutes=10)
"""After so long without a word a consumer that has nothing in hand is deleted."""

PAUSE: Final = 2.0
"""Seconds to wait after the server refused something that has to be mended by a person."""

GATHER: Final = 0.002
"""Seconds to wait for more room before the next read while receivers are at work."""


class RedisSubscription:
    """A receiver at work. It has a connection of its own, on which it waits."""

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
        consumer: str,
        linger: timedelta,
        keep: timedelta,
        gone: Callable[[RedisSubscription], None],
    ) -> None:
        self._event = event
        self._subscriber = subscriber
        self._options = options
        self._server = server
        self._keys = (
            names.stream(event),
            names.own_stream(event, subscriber),
            names.retries(event, subscriber),
        )
        self._group = group(subscriber)
        self._consumer = consumer.encode()
        self._settling = RedisSettling(
            server,
            (*self._keys, names.letters(event, subscriber), names.letter_ids(event, subscriber)),
            self._group,
            self._consumer,
            clock=clock,
            options=options,
            look_by=self._look_by,
        )
        self._bounds = (_ms(linger), _ms(keep))
        self._gone = gone
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._deliveries = Deliveries(
            event, subscriber, receive, options=options, clock=clock, freed=self._changed.set
        )
        self._at_work = self._settling.at_work
        self._steps: set[asyncio.Task[None]] = set()
        self._reader = RedisEventReader(server)
        self._loop = asyncio.get_running_loop()
        self._is_known = False
        self._is_joined = False
        self._look_at = 0.0
        self._sweep_at = 0.0
        self._swept_at = -SWEEP_IDLE
        self._swept = 0
        self._waker: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def _is_stopping(self) -> bool:
        """Whether nothing new is taken."""
        return self._stopped.is_set()

    async def start(self) -> None:
        """Make the group, and begin to wait."""
        await self._join()
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
            await self._finish()

    async def _finish(self) -> None:
        self._deliveries.close()
        if self._waker is not None:
            self._waker.cancel()
        await self._reader.close()
        await asyncio.gather(*self._steps, return_exceptions=True)
        self._gone(self)
        if self._is_joined:
            self._is_joined = False
            try:
                within = self._server.parting
                await self._server.run(
                    LEAVE, self._keys, self._group, self._consumer, within=within
                )
            except BridgeError:
                logger.debug("event %s: its consumer is deleted later", self._event)

    async def _join(self, start: str = "$") -> None:
        await self._server.run(JOIN, self._keys, self._group, start)
        self._is_joined = True

    async def _run(self) -> None:
        while not self._is_stopping:
            try:
                await self._turn()
            except (BridgeError, *Failure) as error:
                await self._mend(error)
            except Exception:
                logger.exception("event %s: subscriber %s waits", self._event, self._subscriber)
                self._is_known = False
                await unless(self._stopped, asyncio.sleep(PAUSE))

    async def _turn(self) -> None:
        """Do the one thing that is next."""
        if not self._is_known:
            await self._begin()
            return
        room = await self._room()
        if self._is_stopping:
            return
        now = self._loop.time()
        if now >= self._look_at:
            await self._look(room)
        elif now >= self._sweep_at:
            await self._sweep()
        else:
            await self._read(room, min(self._look_at, self._sweep_at) - now)

    async def _begin(self) -> None:
        """Take up what was handed over on a connection that broke."""
        if not self._is_joined:
            await self._join("0")
        room = self._deliveries.free
        if room > 0:
            await self._look(room, "mine", *self._at_work)
        self._is_known = True

    async def _room(self) -> int:
        """Return how many events may be taken, once there is room."""
        self._changed.clear()
        if not self._deliveries.free:
            await self._changed.wait()
        if self._at_work and self._deliveries.free <= self._options.concurrency // 2:
            await asyncio.sleep(GATHER)
        return self._deliveries.free

    async def _read(self, room: int, longest: float) -> None:
        block = max(min(longest, BLOCK), 0.001)
        streams = (*self._keys[:2], b">", b">")
        command = ("XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", room)
        found = await self._reader.read(
            (*command, "BLOCK", int(block * 1000) or 1, "STREAMS", *streams), block=block
        )
        for stream, entries in found or ():
            number = self._keys.index(stream) + 1
            for entry_id, fields in entries:
                self._take(f"{number}:{entry_id.decode()}", 1, fields)

    async def _look(self, room: int, *mine: str) -> None:
        """Take over what is due."""
        lease = _ms(self._options.lease)
        longest = int(LOOK_EVERY * 1000)
        room = room if mine else min(room, LOOKED_AT_ONCE)
        self._look_at = math.inf  # what is put by meanwhile makes it sooner
        answer = await self._server.run(
            LOOK, self._keys, self._group, self._consumer, lease, room, longest, *mine
        )
        after, entries = answer.value
        if len(entries) >= room:
            after = 0
        self._look_at = min(self._look_at, self._loop.time() + max(after / 1000, 0.001))
        for entry, delivery, fields in entries:
            self._take(entry.decode(), int(delivery), fields)

    async def _sweep(self) -> None:
        now, more = self._loop.time(), 0
        if self._settling.handled != self._swept or now - self._swept_at >= SWEEP_IDLE:
            self._swept, self._swept_at = self._settling.handled, now
            answer = await self._server.run(
                SWEEP, self._keys, self._group, *self._bounds, _ms(GONE)
            )
            more = answer.value
        if more:
            self._swept = -1
        self._sweep_at = now + (0.01 if more else SWEEP_EVERY)

    def _take(self, entry: str, attempt: int, fields: Sequence[bytes]) -> None:
        if is_wake(fields):
            self._look_at = 0.0
            self._soon(self._delivery(entry, attempt, _NOTHING).done())
            return
        fallback = f"{self._event}:{entry[2:]}"
        try:
            message = message_from(self._event, fields, fallback_id=fallback)
        except Exception as error:
            reason, unread = why_unread(error), Message(self._event, b"null", fallback)
            logger.error(
                "event %s: subscriber %s: a dead letter, message %s: %s",
                self._event,
                self._subscriber,
                fallback,
                reason,
                exc_info=None if isinstance(error, BridgeError) else error,
            )
            self._soon(self._delivery(entry, attempt, unread).bury(reason))
            return
        delivery = self._delivery(entry, attempt, message)
        if attempt > self._options.max_attempts:
            self._soon(delivery.bury("its receivers gave no sign of life"))
        else:
            self._deliveries.take(delivery)

    def _delivery(self, entry: str, attempt: int, message: Message) -> RedisDelivery:
        return RedisDelivery(self._settling, entry, attempt, message)

    def _look_by(self, after: float) -> None:
        """Look for what is due after so many seconds, or before."""
        due = self._loop.time() + after
        if due < self._look_at:
            self._look_at = due
            if self._waker is not None:
                self._waker.cancel()
            self._waker = self._loop.call_at(due, self._reader.interrupt)

    def _soon(self, step: Any) -> None:
        """Take a step that nobody waits for; what fails comes again."""
        task = self._loop.create_task(_tried(step, self._event, self._subscriber))
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)

    async def _mend(self, error: Exception) -> None:
        """Wait until it makes sense to go on."""
        self._is_known = False
        self._look_at = 0.0
        await self._reader.drop()
        text = str(error)
        if isinstance(error, NoGroupError) or "NOGROUP" in text or text.startswith("UNBLOCKED"):
            logger.warning(
                "event %s: subscriber %s: the server lost it; it is made again",
                self._event,
                self._subscriber,
            )
            self._is_joined = False
        elif isinstance(error, exceptions.ResponseError | BridgeError):
            if is_lasting(error):
                logger.error("event %s: subscriber %s: %s", self._event, self._subscriber, error)
            await unless(self._stopped, asyncio.sleep(PAUSE))
        else:
            self._server.lost(error)
        await unless(self._stopped, self._server.back())


async def _tried(step: Awaitable[None], event: str, subscriber: str) -> None:
    try:
        await step
    except BridgeError as error:
        logger.warning("event %s: subscriber %s: %s", event, subscriber, error)


async def unless(stopped: asyncio.Event, waiting: Coroutine[Any, Any, None]) -> None:
    """Wait for something, or until it is pointless."""
    tasks = [asyncio.create_task(waiting), asyncio.create_task(_set(stopped))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _set(event: asyncio.Event) -> None:
    await event.wait()


def _ms(duration: timedelta) -> int:
    return max(int(duration.total_seconds() * 1000), 1)


_NOTHING: Final = Message("", b"", "")

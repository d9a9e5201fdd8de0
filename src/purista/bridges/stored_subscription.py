"""A subscription in a database: leases the events of its subscriber's queue, and settles them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from purista.bridges.deliveries import Deliveries
from purista.bridges.port import LeasedJob, QueueBridge, Receiver
from purista.bridges.stored_members import Kind, Members
from purista.clock import Clock
from purista.errors import BridgeClosedError, BridgeError
from purista.message import new_message_id
from purista.subscribing import SubscriptionOptions

if TYPE_CHECKING:
    from purista.bridges.stored_events import Queues

logger = logging.getLogger("purista.bridges")

AT_ONCE: Final = 20
"""How many events are asked for at a time."""

ALIVE: Final = timedelta(minutes=1)
"""After so long without a sign of life a receiver in a process is gone."""

PAUSE: Final = 1.0
"""Seconds to wait after the database refused something."""

PARTING: Final = 1.0
"""Seconds that a last word may take."""

ZERO: Final = timedelta(0)


def event_of(event: str, subscriber: str) -> str:
    """Return the queue of a subscriber; no two have the same one."""
    return f"event/{len(event)}/{event}/{subscriber}"


async def parting(word: Awaitable[object], else_: str) -> None:
    """Say a last word, which may not take long. Raises ``BridgeError``."""
    try:
        async with asyncio.timeout(PARTING):
            await word
    except TimeoutError:
        raise BridgeError(else_) from None


class StoredSubscription:
    """A receiver at work."""

    def __init__(
        self,
        queues: Queues,
        members: Members,
        *,
        event: str,
        subscriber: str,
        receive: Receiver,
        options: SubscriptionOptions,
        clock: Clock,
        keep: timedelta,
        gone: Callable[[StoredSubscription], None],
    ) -> None:
        self._queues = queues
        self._options = options
        self._event = event
        self._place = f"event {event}: subscriber {subscriber}"
        self._queue = event_of(event, subscriber)
        kind: Kind = "subscriber"
        lasts = keep
        if options.every_instance:
            kind, lasts = "instance", ALIVE
            self._queue = f"{self._queue}/{new_message_id()}"
        self._membership = Membership(members, kind, event, self._queue, lasts=lasts)
        self._gone = gone
        self._changed = asyncio.Event()
        self._deliveries = Deliveries(
            event, subscriber, receive, options=options, clock=clock, freed=self._changed.set
        )
        self._pullers: set[asyncio.Task[None]] = set()
        self._burying: set[asyncio.Task[None]] = set()
        self._promised = 0
        self._stopping = False

    async def start(self) -> None:
        """Join the subscribers, and begin to ask for events."""
        await self._membership.start()
        for number in range(min(self._options.concurrency, AT_ONCE)):
            name = f"purista {self._place} {number}"
            self._pullers.add(asyncio.create_task(self._pull(), name=name))

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated."""
        self._stopping = True
        try:
            await self._stop_pulling()
            await self._deliveries.drained()
        finally:
            self._deliveries.close()
            self._gone(self)
            await self._membership.end(leaves=self._options.every_instance)

    async def _stop_pulling(self) -> None:
        for puller in self._pullers:
            puller.cancel()
        await asyncio.gather(*self._pullers, return_exceptions=True)

    async def _pull(self) -> None:
        """Lease and hand over, one event after another."""
        while not self._stopping:
            try:
                await self._room()
                try:
                    leased = await self._queues.lease(self._queue, duration=self._options.lease)
                finally:
                    self._promised -= 1
                if leased is not None:
                    self._take(leased)
            except BridgeClosedError:
                return
            except BridgeError as error:
                logger.warning("%s: events wait: %s", self._place, error)
                await asyncio.sleep(PAUSE)
            except Exception:
                logger.exception("%s: events wait", self._place)
                await asyncio.sleep(PAUSE)

    async def _room(self) -> None:
        """Return once one more event may be taken, which is promised to the caller then."""
        while self._deliveries.free <= self._promised:
            self._changed.clear()
            await self._changed.wait()
        self._promised += 1

    def _take(self, leased: LeasedJob) -> None:
        delivery = StoredDelivery(self._queues, leased, self._event, self._options.lease)
        if leased.attempt > self._options.max_attempts:
            task = asyncio.create_task(self._bury(delivery))
            self._burying.add(task)
            task.add_done_callback(self._burying.discard)
        else:
            self._deliveries.take(delivery)

    async def _bury(self, delivery: StoredDelivery) -> None:
        try:
            await delivery.bury("its receivers gave no sign of life")
        except BridgeError as error:
            logger.warning("%s: an event comes again: %s", self._place, error)


class StoredDelivery:
    """Implements ``Delivery``: a leased job."""

    def __init__(
        self, queues: QueueBridge, leased: LeasedJob, event: str, lease: timedelta
    ) -> None:
        self._queues = queues
        self._leased = leased
        self._lease = lease
        self.message = leased.job.message._replace(name=event)
        self.attempt = leased.attempt

    async def done(self) -> None:
        """Forget the job."""
        await self._queues.ack(self._leased)

    async def again(self, after: float) -> None:
        """Let it be due again."""
        delay = timedelta(seconds=after)
        await self._queues.nack(self._leased, retry_in=delay, reason="the receiver failed")

    async def bury(self, reason: str) -> None:
        """Make a dead letter of it."""
        await self._queues.nack(self._leased, retry_in=None, reason=reason)

    async def give_back(self) -> None:
        """Let it be due now."""
        nack = self._queues.nack(self._leased, retry_in=ZERO, reason="the receiver was cut off")
        await parting(nack, "it comes again when its lease is over")

    async def prolong(self) -> None:
        """Prolong its lease."""
        await self._queues.extend(self._leased, duration=self._lease)


class Membership:
    """A member that says from time to time that it is still there."""

    def __init__(
        self, members: Members, kind: Kind, name: str, queue: str, *, lasts: timedelta
    ) -> None:
        self._members = members
        self._kind = kind
        self._name = name
        self._queue = queue
        self._lasts = lasts
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Join. Raises ``BridgeError``."""
        await self._members.join(self._kind, self._name, self._queue, lasts=self._lasts)
        self._task = asyncio.create_task(self._renew(), name=f"purista member of {self._name}")

    async def end(self, *, leaves: bool) -> None:
        """Say nothing any more; with ``leaves`` be no member any more. May be repeated."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if leaves:
            try:
                leave = self._members.leave(self._kind, self._name, self._queue)
                await parting(leave, "the database is away")
            except BridgeError as error:
                logger.warning("%s %s is gone a minute later: %s", self._kind, self._name, error)

    async def _renew(self) -> None:
        """Join again when a third of the time has passed; the process's own time, not a test's."""
        while True:
            await asyncio.sleep(min(self._lasts / 3, timedelta(hours=1)).total_seconds())
            try:
                await self._members.join(self._kind, self._name, self._queue, lasts=self._lasts)
            except BridgeError as error:
                logger.warning("%s %s: no sign of life: %s", self._kind, self._name, error)
            except Exception:
                logger.exception("%s %s: no sign of life", self._kind, self._name)

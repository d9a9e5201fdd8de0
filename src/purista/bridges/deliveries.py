"""What a subscription has in hand: receivers at work, so many at once, kept, settled, drained, cut off.

One for each subscription of a bridge that redelivers; the bridge says what settling means at its broker.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from contextvars import copy_context
from typing import Protocol

from purista.bridges.port import ATTEMPT, Receiver
from purista.clock import Clock, Timer
from purista.errors import BridgeError, LeaseLostError, PayloadError
from purista.message import Message
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")

BEATS = 3
"""How often a lease is prolonged while it would last once."""


class Delivery(Protocol):
    """One event as a broker delivered it to a subscriber; all but ``prolong`` settle it.

    Each raises ``LeaseLostError`` when it is another's by now, ``BridgeError`` when the broker could not
    be told: the event comes again then.
    """

    @property
    def message(self) -> Message:
        """The event."""

    @property
    def attempt(self) -> int:
        """Which delivery it is, from 1."""

    async def done(self) -> None:
        """It is handled; forget it."""

    async def again(self, after: float) -> None:
        """It failed: deliver it again after so many seconds, as the next attempt."""

    async def bury(self, reason: str) -> None:
        """It failed for good: make a dead letter of it."""

    async def give_back(self) -> None:
        """It was cut off: deliver it again at once; where the broker can, as the same attempt."""

    async def prolong(self) -> None:
        """Its receiver is at work: let its lease run out ``options.lease`` from now."""


class Deliveries:
    """Runs the receiver of a subscription, each delivery in a task of its own.

    ``take`` only while something is ``free``, which ``freed`` is called for each time. A receiver sees
    the context in which this was made.
    """

    def __init__(
        self,
        event: str,
        subscriber: str,
        receive: Receiver,
        *,
        options: SubscriptionOptions,
        clock: Clock,
        freed: Callable[[], None] = lambda: None,
    ) -> None:
        self._freed = freed
        self._place = f"event {event}: subscriber {subscriber}"
        self._receive = receive
        self._options = options
        self._clock = clock
        self._most = 1 if options.ordered else options.concurrency
        self._context = copy_context()
        self._at_work: dict[asyncio.Task[None], Delivery] = {}
        self._handling: set[asyncio.Task[None]] = set()
        self._lost: set[asyncio.Task[None]] = set()
        self._keeper: Timer | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def free(self) -> int:
        """How many more may be taken now."""
        return self._most - len(self._at_work)

    def take(self, delivery: Delivery) -> None:
        """Let the receiver have a delivery."""
        loop = asyncio.get_running_loop()
        context = self._context.copy()
        context.run(ATTEMPT.set, delivery.attempt)
        task = loop.create_task(self._work(delivery), context=context)
        self._at_work[task] = delivery
        self._handling.add(task)
        task.add_done_callback(self._ended)
        self._keep()

    def lose_all(self) -> None:
        """The broker gives what is at work to others: cancel its receivers; nothing settles it here."""
        for task in tuple(self._handling):
            self._lose(task)

    async def drained(self) -> None:
        """Return once nothing is at work, but for the delivery that calls this.

        A call that is cancelled cuts off what is at work, and waits for that.
        """
        try:
            while left := self._left():
                await asyncio.wait(left)
        except asyncio.CancelledError:
            await self.cut_off()
            raise

    async def cut_off(self) -> None:
        """Cancel the receivers at work and give back their events."""
        await asyncio.sleep(0)  # a task that is cancelled before it began could not give back
        left = self._left()
        for task in left:
            if task in self._handling:
                task.cancel()
        if left:
            logger.warning("%s: %d deliveries were cut off", self._place, len(left))
            await asyncio.wait(left)

    def _left(self) -> list[asyncio.Task[None]]:
        own = asyncio.current_task()
        return [task for task in self._at_work if task is not own and not task.done()]

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._at_work[task]
        self._handling.discard(task)
        self._lost.discard(task)
        self._freed()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s: an event could not be settled", self._place, exc_info=error)

    async def _work(self, delivery: Delivery) -> None:
        """Handle and settle; what cannot be settled comes again."""
        task = asyncio.current_task()
        assert task is not None
        try:
            await self._handle(delivery, task)
        except LeaseLostError:
            self._tell("was handled after its lease was lost", delivery)
        except BridgeError as error:
            self._tell("could not be settled, it comes again: %s", delivery, error)

    async def _handle(self, delivery: Delivery, task: asyncio.Task[None]) -> None:
        try:
            await self._receive(delivery.message)
        except asyncio.CancelledError as error:
            self._handling.discard(task)
            if task in self._lost:
                return
            if not task.cancelling():  # something that it waited for was cancelled
                await self._failed(delivery, error)
                return
            await delivery.give_back()
            raise
        except PayloadError as error:
            self._handling.discard(task)
            if task not in self._lost:
                await self._bury(delivery, str(error))
        except Exception as error:
            self._handling.discard(task)
            if task not in self._lost:
                await self._failed(delivery, error)
        else:
            self._handling.discard(task)
            if task not in self._lost:
                await delivery.done()

    async def _failed(self, delivery: Delivery, error: BaseException) -> None:
        logger.warning(
            "%s failed in attempt %d, %s",
            self._place,
            delivery.attempt,
            _ids(delivery.message),
            exc_info=error,
        )
        if delivery.attempt >= self._options.max_attempts:
            await self._bury(delivery, f"{type(error).__name__} in the receiver")
        else:
            chance = random.random()  # noqa: S311 - spread
            delay = self._options.backoff.delay(delivery.attempt, chance)
            await delivery.again(delay.total_seconds())

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        logger.error("%s: a dead letter, %s: %s", self._place, _ids(delivery.message), reason)
        await delivery.bury(reason)

    def _keep(self) -> None:
        """Prolong what is at work when a part of the lease has passed, as long as there is any."""
        if self._keeper is None:
            self._keeper = self._clock.call_later(self._options.lease / BEATS, self._beat)

    def _beat(self) -> None:
        self._keeper = None
        if self._handling:
            if self._keeping is None or self._keeping.done():
                self._keeping = asyncio.create_task(self._prolong())
            self._keep()

    async def _prolong(self) -> None:
        """Prolong them all at once: one that takes long keeps none waiting."""
        at_work = [(task, self._at_work[task]) for task in self._handling]
        await asyncio.gather(*(self._prolong_one(*each) for each in at_work))

    async def _prolong_one(self, task: asyncio.Task[None], delivery: Delivery) -> None:
        try:
            await delivery.prolong()
        except LeaseLostError:
            self._lose(task)
        except BridgeError as error:
            logger.warning("%s: a lease could not be prolonged: %s", self._place, error)
        except Exception:
            logger.exception("%s: a lease could not be prolonged", self._place)

    def _lose(self, task: asyncio.Task[None]) -> None:
        if task in self._handling:
            self._tell("lost its lease", self._at_work[task])
            self._lost.add(task)
            self._handling.discard(task)
            task.cancel()

    def _tell(self, text: str, delivery: Delivery, *values: object) -> None:
        logger.warning(f"%s {text}, %s", self._place, *values, _ids(delivery.message))

    def close(self) -> None:
        """Stop the timer; for when nothing is at work any more."""
        if self._keeper is not None:
            self._keeper.cancel()
            self._keeper = None


def _ids(message: Message) -> str:
    return f"message {message.id}, run {message.run.run_id if message.run else message.id}"

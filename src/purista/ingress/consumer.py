"""Broker consumers: triggers from an event of the event bridge, or from a queue."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

from purista.bridges import EventBridge, LeasedJob, QueueBridge, Subscription
from purista.clock import Clock, SystemClock
from purista.cloudevent import read_headers, read_text, refuse
from purista.errors import (
    BridgeClosedError,
    BridgeError,
    IngressError,
    LeaseLostError,
    PayloadError,
    Problem,
    TriggerError,
)
from purista.ingress.answer import Answer
from purista.ingress.port import TriggerIngress
from purista.ingress.reception import Reception, words
from purista.ingress.slotted import publish_time, slotted
from purista.message import Message, new_message_id
from purista.telemetry import carrier_of
from purista.trigger import Trigger

logger = logging.getLogger("purista.consumer")

TRIGGERS: Final = "purista.triggers"
"""The event, or the queue, that triggers are sent to."""

SUBSCRIBER: Final = "ingress"
"""The name under which consumers of that event share it, unless another is said."""

PUBLISHED: Final = "nats-time-stamp"
"""The header that says when a message was published, as JetStream itself names it
(https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md)."""

BRIDGE_PAUSE: Final = timedelta(seconds=1)
"""How long a consumer waits before it asks a broker again that failed."""

LONGEST_PAUSE: Final = timedelta(seconds=30)
"""Up to so much a trigger that has to come again is put off, attempt by attempt."""


def message_trigger(message: Message) -> tuple[Trigger, Mapping[str, str]]:
    """Read the trigger of a message, and the headers of its trace.

    It is in ``ce-`` headers with the body as its data (binary mode, as over HTTP and NATS), or all of it
    is in the body. Raises ``TriggerError``.
    """
    headers = {name.lower(): value for name, value in (message.headers or {}).items()}
    event: Any
    if any(name.startswith("ce-") for name in headers):
        event = read_headers(headers, message.body)
    else:
        event = read_text(message.body, "body")
    if not isinstance(event, Mapping):
        refuse([Problem("body", "it is no JSON object", "send a CloudEvent")])
    published = publish_time(headers.get(PUBLISHED), f"header '{PUBLISHED}'")
    event = slotted(event, published)
    return Trigger.from_cloudevent(event), {**carrier_of(event), **carrier_of(headers)}


class EventConsumer:
    """Takes triggers from an event while it is open.

    Consumers of one ``subscriber`` name share the triggers. One that is to be sent again fails its
    delivery: a bridge that redelivers sends it again, and makes a dead letter of it after some attempts.
    What no retry can mend becomes one at once. A queue tries again for as long as it takes.
    """

    def __init__(
        self,
        ingress: TriggerIngress,
        event_bridge: EventBridge,
        event: str = TRIGGERS,
        *,
        subscriber: str = SUBSCRIBER,
    ) -> None:
        self._reception = Reception(ingress, "event", logger)
        self._bridge = event_bridge
        self._event = event
        self._subscriber = subscriber
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = await self._bridge.subscribe(
            self._event, self._subscriber, self._receive
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Take nothing new and wait until what is being decided is decided. May be repeated."""
        if self._subscription is not None:
            await self._subscription.cancel()

    async def _receive(self, message: Message) -> None:
        given = await _answer(self._reception, message)
        if given.retry_after is not None:
            raise IngressError(words(given), status=given.status, retry_after=given.retry_after)
        if given.is_problem:
            raise PayloadError([Problem(f"event '{self._event}'", words(given))])


class QueueConsumer:
    """Takes triggers from a queue while it is open, ``concurrency`` at a time.

    A job is acked when its trigger is decided. One that is to be sent again is due again after the time
    that the answer says, as often as it takes: it never becomes a dead letter for that. What no retry
    can mend becomes one at once. The lease is kept as long as a decision takes.
    """

    def __init__(
        self,
        ingress: TriggerIngress,
        queue_bridge: QueueBridge,
        queue: str = TRIGGERS,
        *,
        concurrency: int = 4,
        lease: timedelta = timedelta(seconds=30),
        clock: Clock | None = None,
    ) -> None:
        self._reception = Reception(ingress, "queue", logger)
        self._bridge = queue_bridge
        self._queue = queue
        self._concurrency = concurrency
        self._lease = lease
        self._clock: Clock = clock or SystemClock()
        self._loops: set[asyncio.Task[None]] = set()
        self._at_work: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def __aenter__(self) -> Self:
        for number in range(self._concurrency):
            name = f"purista consumer {self._queue} {number}"
            self._loops.add(asyncio.create_task(self._loop(), name=name))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Take no more jobs and wait until those at work are settled. May be repeated.

        Cancel the call to give back those at work.
        """
        self._stopping = True
        for task in self._loops - self._at_work:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)

    async def _loop(self) -> None:
        while not self._stopping:
            try:
                leased = await self._bridge.lease(self._queue, duration=self._lease)
                if leased is not None:
                    await self._work(leased)
            except BridgeClosedError:
                return
            except LeaseLostError:
                logger.warning("queue %s: a lease was lost; the trigger comes again", self._queue)
            except Exception:
                logger.exception("queue %s: the broker failed", self._queue)
                await self._clock.sleep(BRIDGE_PAUSE)

    async def _work(self, leased: LeasedJob) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._at_work.add(task)
        try:
            async with self._kept(leased):
                given = await _answer(self._reception, leased.job.message)
            await self._settle(leased, given)
        except asyncio.CancelledError:
            with suppress(BridgeError):
                await self._postpone(leased, timedelta(0), "the consumer was cancelled")
            raise
        except BridgeError:
            raise
        except Exception as error:
            logger.exception("queue %s: job %s failed", self._queue, leased.job.message.id)
            reason = f"{type(error).__name__} in the ingress"
            await self._bridge.nack(leased, retry_in=_pause(leased.attempt), reason=reason)
        finally:
            self._at_work.discard(task)

    async def _settle(self, leased: LeasedJob, given: Answer) -> None:
        if not given.is_problem:
            await self._bridge.ack(leased)
        elif given.retry_after is None:
            await self._bridge.nack(leased, retry_in=None, reason=words(given))
        else:
            pause = max(timedelta(seconds=given.retry_after), _pause(leased.attempt))
            await self._postpone(leased, pause, words(given))

    async def _postpone(self, leased: LeasedJob, pause: timedelta, reason: str) -> None:
        """Let the job be due again; in place of a last attempt, a new job takes its place.

        It is enqueued before the old one is acked: should the process die in between, the trigger
        comes twice, and one of the two is a duplicate.
        """
        job = leased.job
        if leased.attempt < job.max_attempts:
            await self._bridge.nack(leased, retry_in=pause, reason=reason)
            return
        message = job.message._replace(id=new_message_id())
        await self._bridge.enqueue(job._replace(message=message, delay=pause, key=None))
        await self._bridge.ack(leased)

    @asynccontextmanager
    async def _kept(self, leased: LeasedJob) -> AsyncIterator[None]:
        """Prolong the lease meanwhile."""
        keeping = asyncio.create_task(self._keep(leased))
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self, leased: LeasedJob) -> None:
        while True:
            await self._clock.sleep(self._lease / 3)
            try:
                await self._bridge.extend(leased, duration=self._lease)
            except LeaseLostError:
                return
            except BridgeError:
                logger.exception("queue %s: a lease could not be prolonged", self._queue)


async def _answer(reception: Reception, message: Message) -> Answer:
    try:
        trigger, carrier = message_trigger(message)
    except TriggerError as error:
        return reception.malformed(error)
    return await reception.take(trigger, carrier)


def _pause(attempt: int) -> timedelta:
    return min(timedelta(seconds=2 ** min(attempt - 1, 10)), LONGEST_PAUSE)

"""Google Pub/Sub: triggers in messages that it pushes, and in those that a consumer pulls."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from purista.clock import Clock, SystemClock
from purista.errors import BridgeError, MissingExtraError, TriggerError
from purista.ingress.answer import Answer
from purista.ingress.port import TriggerIngress
from purista.ingress.pubsub_messages import message_trigger, pushed_trigger, unwrapped_trigger
from purista.ingress.reception import Reception

if TYPE_CHECKING:
    from google.cloud.pubsub_v1 import SubscriberClient  # type: ignore[import-untyped]
    from google.cloud.pubsub_v1.subscriber.message import Message  # type: ignore[import-untyped]

__all__ = ["PubSubConsumer", "message_trigger", "pushed_trigger", "unwrapped_trigger"]

logger = logging.getLogger("purista.pubsub")

SOONEST: Final = 10
LATEST: Final = 600
"""Seconds after which a message comes again, at least and at most: what the deadline of a message can be
(https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions/modifyAckDeadline)."""

REOPENED_AFTER: Final = (timedelta(seconds=1), timedelta(minutes=1))
"""How long to wait before a stream that broke is opened again: at first, and at most."""


class PubSubConsumer:
    """Pulls triggers from a subscription, ``projects/P/subscriptions/S``, while it is open.

    A message is acknowledged when its trigger is decided. One that is to be sent again comes again
    after the time that the answer says, at least ``SOONEST`` seconds; one that no retry can mend is not
    acknowledged either, so that it ends in the subscription's dead-letter topic. At most
    ``concurrency`` messages are decided at a time. A stream that breaks is opened again. Without a ``client`` it opens
    one by the application's default credentials. Needs ``purista[pubsub]``.
    """

    def __init__(
        self,
        ingress: TriggerIngress,
        subscription: str,
        *,
        client: SubscriberClient | None = None,
        concurrency: int = 10,
        clock: Clock | None = None,
    ) -> None:
        if not re.fullmatch(r"projects/[^/]+/subscriptions/[^/]+", subscription):
            raise ValueError(
                f"subscription {subscription!r}: write it as projects/PROJECT/subscriptions/NAME"
            )
        self._reception = Reception(ingress, "pubsub", logger)
        self._subscription = subscription
        self._given = client
        self._concurrency = concurrency
        self._clock: Clock = clock or SystemClock()
        self._stopping = asyncio.Event()
        self._consuming: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        client = self._given or await asyncio.to_thread(_new_client)
        self._consuming = asyncio.create_task(
            self._consume(client), name=f"purista pubsub {self._subscription}"
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
        """Take no more messages and wait until those that are held are settled. May be repeated.

        Messages that were pulled and not begun go back; those that were on their way come again when their
        deadline has passed.
        """
        self._stopping.set()
        if self._consuming is not None:
            await asyncio.wait([self._consuming])
            self._consuming.result()

    async def _consume(self, client: SubscriberClient) -> None:
        """Keep a stream open until the consumer is stopped."""
        pause, longest = REOPENED_AFTER
        try:
            while not self._stopping.is_set():
                began = self._clock.monotonic()
                try:
                    await self._stream(client)
                except Exception:
                    logger.exception("%s: no stream could be opened", self._subscription)
                if self._clock.monotonic() - began > longest.total_seconds():
                    pause = REOPENED_AFTER[0]
                await self._pause(pause)
                pause = min(pause * 2, longest)
        finally:
            if self._given is None:
                await asyncio.to_thread(client.close)

    async def _stream(self, client: SubscriberClient) -> None:
        """Open a stream and wait until it is closed, by ``stop`` or because it broke."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()
        streaming = await asyncio.to_thread(self._opened, client, loop)
        streaming.add_done_callback(lambda _: loop.call_soon_threadsafe(closed.set))
        try:
            await _first(closed.wait(), self._stopping.wait())
        finally:
            streaming.cancel()
            await closed.wait()
        error = streaming.exception()
        if error is not None:
            logger.error("%s: the stream broke: %s", self._subscription, _error_text(error))

    def _opened(self, client: SubscriberClient, loop: asyncio.AbstractEventLoop) -> Any:
        """Open a stream whose messages are handled on ``loop``, each held by one thread meanwhile.

        The library waits for these threads when it closes, and keeps the messages' deadlines until then.
        The server's own flow control is off: for it a message that is put off is still held, so
        that a few of them would keep all others waiting.
        """
        from google.cloud.pubsub_v1.subscriber.scheduler import (  # type: ignore[import-untyped]
            ThreadScheduler,
        )
        from google.cloud.pubsub_v1.types import FlowControl  # type: ignore[import-untyped]

        def handle(message: Message) -> None:
            try:
                asyncio.run_coroutine_threadsafe(self._handle(message), loop).result()
            except BaseException:
                logger.exception("message %s failed", message.message_id)
                _postpone(message, SOONEST)

        threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix="purista pubsub")
        return client.subscribe(
            self._subscription,
            handle,
            flow_control=FlowControl(max_messages=self._concurrency),
            scheduler=ThreadScheduler(threads),
            use_legacy_flow_control=True,
            await_callbacks_on_shutdown=True,
        )

    async def _handle(self, message: Message) -> None:
        attributes = dict(message.attributes)
        try:
            trigger, carrier = message_trigger(attributes, message.data, message.publish_time)
        except TriggerError as error:
            _settle(message, self._reception.malformed(error))
            return
        _settle(message, await self._reception.take(trigger, carrier))

    async def _pause(self, duration: timedelta) -> None:
        await _first(self._stopping.wait(), self._clock.sleep(duration))


def _settle(message: Message, given: Answer) -> None:
    if not given.is_problem:
        message.ack()
    elif given.retry_after is not None:
        _postpone(message, given.retry_after)
    elif message.delivery_attempt is not None:  # the subscription has a dead-letter topic
        message.nack()
    else:
        _postpone(message, LATEST)


def _postpone(message: Message, seconds: int) -> None:
    """Let the message come again after a while."""
    message.modify_ack_deadline(min(max(seconds, SOONEST), LATEST))
    message.drop()


def _new_client() -> SubscriberClient:
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.pubsub_v1 import SubscriberClient
    except ImportError as error:
        raise MissingExtraError("pulling from Pub/Sub", "pubsub") from error
    try:
        return SubscriberClient()
    except GoogleAuthError as error:
        raise BridgeError(
            f"Pub/Sub: there are no credentials ({type(error).__name__}); "
            "set up the application's default credentials, or pass a client"
        ) from error


async def _first(*works: Coroutine[Any, Any, Any]) -> None:
    """Return when the first one is done, and cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _error_text(error: BaseException) -> str:
    """Return an error of the library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]

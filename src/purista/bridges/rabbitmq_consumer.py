"""One consumer on RabbitMQ, on a channel of its own: begun anew whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

import aiormq
from aiormq import Channel
from aiormq.abc import DeliveredMessage

from purista.bridges.rabbitmq_connection import (
    STEADY,
    Failure,
    Lost,
    RabbitMQConnection,
    opened,
    part,
    pause,
    step,
)
from purista.errors import BridgeClosedError, BridgeError

logger = logging.getLogger("purista.bridges")

OPEN_TIME: Final = 10.0
"""Seconds that it may take to make a queue and to consume from it; then it is tried anew."""

CANCEL_TIME: Final = 5.0
"""Seconds that the server may take to know that nothing is wanted any more."""

Prepare = Callable[[aiormq.Connection], Awaitable[str]]
Arrived = Callable[[Channel, DeliveredMessage], None]


class RabbitMQConsumer:
    """Consumes from the queue that ``prepare`` makes and returns; calls ``arrived`` for each message.

    ``prefetch``: how many messages it has in hand at most, 0: any number. ``no_ack``: they count as
    settled when they are sent. ``lost`` is called when what was in hand is another's.
    """

    def __init__(
        self,
        connection: RabbitMQConnection,
        *,
        place: str,
        prepare: Prepare,
        arrived: Arrived,
        lost: Callable[[], None],
        timeout: timedelta,
        prefetch: int = 0,
        no_ack: bool = False,
    ) -> None:
        self.connection = connection
        self._place = place
        self._prepare = prepare
        self._arrived = arrived
        self._lost = lost
        self._timeout = timeout.total_seconds()
        self._prefetch = prefetch
        self._no_ack = no_ack
        self._channel: Channel | None = None
        self._tag: str | None = None
        self._is_stopping = False
        self._reason = ""
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def has(self, channel: Channel) -> bool:
        """Whether what came on a channel can still be settled there."""
        return (
            channel is self._channel
            and not channel.is_closed
            and self.connection.has(channel.connection)
        )

    async def start(self) -> None:
        """Return once it consumes. Raises ``BridgeError``."""
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"purista rabbitmq {self._place}")
        try:
            async with asyncio.timeout(self._timeout):
                await self._ready
        except TimeoutError:
            await self.close()
            reason = self._reason or "it cannot be reached"
            raise self.connection.refusal(f"{self._place}: {reason}") from None
        except BaseException:
            await self.close()
            raise

    async def stop(self) -> None:
        """Take nothing new; return once the server knows. What is in hand can still be settled."""
        self._is_stopping = True
        channel, tag = self._channel, self._tag
        if channel is not None and tag is not None and not channel.is_closed:
            try:
                async with asyncio.timeout(CANCEL_TIME):
                    await step(channel.basic_cancel(tag))
            except (*Failure, Lost, TimeoutError):
                logger.debug("%s: its consumer was lost before it left", self._place)

    async def close(self) -> None:
        """Leave; the server gives what was not settled to others. May be repeated."""
        self._is_stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        channel, self._channel = self._channel, None
        if channel is not None:
            await part(channel)

    async def _run(self) -> None:
        now, failures = asyncio.get_running_loop().time, 0
        while not self._is_stopping:
            began = now()
            try:
                await self._consume()
            except BridgeClosedError as error:
                self._fail(error)
                return
            except BridgeError as error:
                if self._fail(error):
                    return
                self._tell(str(error))
            except aiormq.ChannelAccessRefused as error:
                refusal = self.connection.refusal(f"{self._place}: the user has no right to that")
                if self._fail(refusal):
                    return
                self._tell(_explanation(error))
            except (*Failure, Lost, TimeoutError) as error:
                self._tell(_explanation(error))
            except Exception:
                logger.exception("%s: its consumer failed", self._place)
                self._reason = "its consumer failed; the log has the details"
            failures = 0 if now() - began > STEADY + OPEN_TIME else failures + 1
            await asyncio.sleep(pause(failures))

    async def _consume(self) -> None:
        """Consume until that is lost."""
        connection = await self.connection.live()
        cancelled = asyncio.Event()
        async with asyncio.timeout(OPEN_TIME):
            channel = await self._opened(connection, cancelled)
        if self._is_stopping:
            self._channel = None
            await part(channel)
            return
        self._reason = ""
        assert self._ready is not None
        if not self._ready.done():
            self._ready.set_result(None)
        closing = channel.closing
        waiting = asyncio.create_task(cancelled.wait())
        try:
            await asyncio.wait([closing, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        self._channel = None
        self._lost()
        await part(channel)

    async def _opened(self, connection: aiormq.Connection, cancelled: asyncio.Event) -> Channel:
        queue = await self._prepare(connection)
        channel = await opened(connection)

        async def arrived(delivered: DeliveredMessage) -> None:
            self._arrived(channel, delivered)

        def is_cancelled(_: Any) -> None:
            cancelled.set()

        self._channel = channel
        try:
            channel.on_consumer_cancel_callbacks.add(is_cancelled)
            if self._prefetch:
                await step(channel.basic_qos(prefetch_count=self._prefetch))
            begun = await step(channel.basic_consume(queue, arrived, no_ack=self._no_ack))
            self._tag = begun.consumer_tag
        except BaseException:
            self._channel = None
            await part(channel)
            raise
        return channel

    def _fail(self, error: BridgeError) -> bool:
        """Let ``start`` raise; return whether it was still waited for."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(error)
            return True
        return False

    def _tell(self, reason: str) -> None:
        """Log why it waits, when that is new and no matter of the connection, which tells its own."""
        if reason != self._reason and self.connection.health.state == "up":
            logger.warning("%s waits: %s", self._place, reason)
        self._reason = reason


def _explanation(error: Exception) -> str:
    if isinstance(error, aiormq.ChannelClosed):
        return str(error)[:300]
    return f"the server does not answer ({type(error).__name__})"

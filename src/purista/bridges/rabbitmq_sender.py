"""Sends to RabbitMQ: each message until the server has confirmed it, or the time is over."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final, TypeVar

import aiormq
from aiormq import Channel
from pamqp.commands import Basic

from purista.bridges.rabbitmq_connection import (
    Failure,
    Lost,
    RabbitMQConnection,
    opened,
    own_channel,
    pause,
    step,
)
from purista.bridges.rabbitmq_names import Names
from purista.errors import BridgeError

LARGEST: Final = 16_000_000
"""Bytes of a body; RabbitMQ 4 takes 16 MiB unless it is told otherwise (``max_message_size``)."""

_LIMIT = re.compile(r"larger than.*?(\d+)")

T = TypeVar("T")
Work = Callable[[Channel], Awaitable[T]]


class UnroutableError(BridgeError):
    """There is no queue, or no exchange, where a message was to go."""


class RabbitMQSender:
    """A channel with confirms, and steps on channels of their own.

    ``timeout`` bounds a call, with all the times that it is tried again. A message whose confirmation
    was lost with the connection is sent again, so that it can be there twice.
    """

    def __init__(self, connection: RabbitMQConnection, names: Names, *, timeout: timedelta) -> None:
        self.connection = connection
        self._names = names
        self._timeout = timeout.total_seconds()
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def send(
        self,
        exchange: str,
        key: str,
        body: bytes,
        properties: Basic.Properties,
        *,
        mandatory: bool = False,
    ) -> None:
        """Return once the server has it. Raises ``UnroutableError`` for ``mandatory``, ``BridgeError``."""
        self.refuse_if_too_large(body)

        async def sent(channel: Channel) -> object:
            return await channel.basic_publish(
                body,
                exchange=exchange,
                routing_key=key,
                properties=properties,
                mandatory=mandatory,
                wait=False,
            )

        await self._tried(sent, len(body), exchange)

    async def do(self, work: Work[T]) -> T:
        """Do something on a channel of its own, that may be done again."""

        async def done(_: Channel) -> T:
            async with own_channel(await self.connection.live()) as channel:
                return await work(channel)

        return await self._tried(done)

    def refuse_if_too_large(self, body: bytes) -> None:
        """Raise ``BridgeError`` for a body that a server with usual settings does not take."""
        if len(body) > LARGEST:
            raise self.connection.refusal(
                f"a body of {len(body)} bytes is more than it takes ({LARGEST}); send a reference"
            )

    async def _tried(self, work: Work[T], size: int = 0, exchange: str = "") -> T:
        now = asyncio.get_running_loop().time
        end, failures = now() + self._timeout, 0
        while True:
            try:
                async with asyncio.timeout_at(end):
                    return await step(work(await self._sending(end)))
            except TimeoutError:
                if failures == 0 and self.connection.health.state != "up":
                    raise self.connection.away() from None
                raise self.connection.refusal(
                    "it did not confirm in time; whether it took the step is not known"
                ) from None
            except aiormq.PublishError:
                raise UnroutableError("there is no such queue") from None
            except aiormq.DeliveryError:
                reason = "it does not take it now (a queue refused)"
            except aiormq.ChannelClosed as error:
                self._raise_if_lasting(error, size, exchange)
                reason = "the channel was closed"
            except (*Failure, Lost):
                reason = "the connection was lost"
            except ValueError as error:
                raise self.connection.refusal(f"the message cannot be sent: {error}") from None
            wait = pause(failures)
            if now() + wait >= end:
                raise self.connection.refusal(f"{reason}; whether it took the step is not known")
            await asyncio.sleep(wait)
            failures += 1

    async def _sending(self, until: float) -> Channel:
        """Return the channel with confirms; make it where there is none."""
        channel = self._channel
        if channel is not None and not channel.is_closed:
            return channel
        async with self._opening:
            channel = self._channel
            if channel is None or channel.is_closed:
                connection = await self.connection.live(until=until)
                channel = await opened(connection, confirms=True)
                await step(
                    channel.exchange_declare(
                        self._names.events, exchange_type="topic", durable=True
                    )
                )
                self._channel = channel
        return channel

    def _raise_if_lasting(self, error: aiormq.ChannelClosed, size: int, exchange: str) -> None:
        """Raise for a refusal that this call has earned; others share its channel and try again."""
        text = str(error)
        limit = _LIMIT.search(text)
        if limit is not None:
            if size > int(limit[1]):
                raise self.connection.refusal(
                    f"a body of {size} bytes is more than it takes ({limit[1]}); raise its "
                    "max_message_size, or send a reference"
                ) from None
        elif isinstance(error, aiormq.ChannelNotFoundEntity):
            if exchange != self._names.events and f"'{exchange}'" in text:
                raise UnroutableError("there is no such exchange") from None
        elif isinstance(error, aiormq.ChannelAccessRefused):
            raise self.connection.refusal(
                "the user has no right to that; give it configure and read on "
                f"'^{self._names.prefix}\\.', and write on that and 'amq.default'"
            ) from None
        elif isinstance(error, aiormq.ChannelPreconditionFailed):
            raise self.connection.refusal(
                f"what is there is not as it has to be ({text[:200]}); delete it, or choose another "
                "prefix"
            ) from None

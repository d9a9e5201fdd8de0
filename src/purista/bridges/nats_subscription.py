"""A subscription on NATS: pulls events from its consumer as its receiver has room for them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, Final

from purista.bridges import nats_names as names
from purista.bridges.deliveries import BEATS, Deliveries
from purista.bridges.envelope import why_unread
from purista.bridges.nats_connection import Client, Msg, NatsConnection, NatsError
from purista.bridges.nats_deadletters import NatsDeadEvents, redriven_subject
from purista.bridges.nats_streams import Streams, nanoseconds, stored_message
from purista.bridges.port import Receiver
from purista.clock import Clock
from purista.errors import BridgeError, LeaseLostError
from purista.message import Message, new_message_id
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")

EXPIRES: Final = 30.0
"""Seconds after which the server forgets a request for messages; then it is made again."""

SIGN_OF_LIFE: Final = 5.0
"""Seconds after which the server says that it still knows of a request."""

INSTANCE_KEPT: Final = timedelta(minutes=1)
"""How long the server keeps the consumer of an instance that is gone without a word."""

TICK: Final = 0.25
"""The part of a lease after which a subscription looks whether its process stood still."""

PAUSE: Final = 0.5
"""Seconds before a consumer is made again that was lost."""

_STATUS: Final = "Status"


class NatsSubscription:
    """A receiver at work: asks for as many events as it has room for, and settles each."""

    def __init__(
        self,
        connection: NatsConnection,
        streams: Streams,
        letters: NatsDeadEvents,
        *,
        prefix: str,
        event: str,
        subscriber: str,
        receive: Receiver,
        options: SubscriptionOptions,
        clock: Clock,
        gone: Callable[[NatsSubscription], None],
    ) -> None:
        self.event = event
        self.subscriber = subscriber
        self.options = options
        self.clock = clock
        self.letters = letters
        self.connection = connection
        self._streams = streams
        self._prefix = prefix
        self._gone = gone
        self._wake = asyncio.Event()
        self._deliveries = Deliveries(
            event, subscriber, receive, options=options, clock=clock, freed=self._wake.set
        )
        self._consumer = names.short(event, subscriber)
        if options.every_instance:
            self._consumer = names.short(event, subscriber, new_message_id(), subscriber)
        self._client: Client | None = None
        self._subscription: Any = None
        self._inbox = ""
        self._asked = 0
        self._heard = 0.0
        self._puller: asyncio.Task[None] | None = None
        self._is_lost = False
        self._stopping = False
        self._tick = min(options.lease.total_seconds() * TICK, SIGN_OF_LIFE)
        self._ticking: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Make the consumer and begin to pull."""
        await self._make_consumer()
        self.connection.join(self._connected)
        await self._connected(await self.connection.client(), is_made=True)
        self._puller = asyncio.create_task(self._pull(), name=f"purista nats {self.event}")
        self._watch()

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated."""
        if not self._stopping:
            self._stopping = True
            self.connection.leave(self._connected)
            await self._stop_pulling()
            await self._leave_inbox()
        await self._deliveries.drained()
        await self._finish()

    async def abandon(self) -> None:
        """Stop without a word; for one that could not start."""
        self._stopping = True
        self.connection.leave(self._connected)
        await self._stop_pulling()
        self._deliveries.close()
        self._gone(self)

    def _watch(self) -> None:
        """Look whether the process stood still, which it notices by a timer that is late.

        What the server had sent to it by then, nobody has taken; it can be another's by now.
        """
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_later(self._tick, self._look, loop.time() + self._tick)

    def _look(self, due: float) -> None:
        late = asyncio.get_running_loop().time() - due
        if late > self._tick and not self._stopping:
            logger.warning(
                "event %s: subscriber %s: the process stood still for %.1f seconds",
                self.event,
                self.subscriber,
                late,
            )
            self._inbox = ""
            self._is_lost = True
            self._wake.set()
        self._watch()

    async def _finish(self) -> None:
        self._deliveries.close()
        self._gone(self)
        if self.options.every_instance and self.connection.is_up:
            try:
                await self.connection.api(
                    f"CONSUMER.DELETE.{self._streams.events}.{self._consumer}"
                )
            except BridgeError:
                logger.debug("event %s: the server forgets the instance by itself", self.event)

    async def _stop_pulling(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
        if self._puller is not None:
            self._puller.cancel()
            await asyncio.gather(self._puller, return_exceptions=True)

    async def _leave_inbox(self) -> None:
        """Let the server know that nothing is wanted any more; what is on its way is given back."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None and self.connection.is_up:
            try:
                await asyncio.wait_for(subscription.drain(), 5)
            except (NatsError, TimeoutError):
                logger.warning("event %s: subscriber %s left in haste", self.event, self.subscriber)

    async def _make_consumer(self) -> None:
        stream, options = self._streams.events, self.options
        subjects = [
            f"{self._prefix}.events.{names.subject(self.event)}",
            redriven_subject(self._prefix, self.event, self.subscriber),
        ]
        config: dict[str, Any] = {
            "name": self._consumer,
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(options.lease),
            "max_deliver": -1,
            "max_ack_pending": 1 if options.ordered else -1,
            "deliver_policy": "new",
            "metadata": {"event": self.event, "subscriber": self.subscriber},
        }
        if options.every_instance:
            config |= {
                "filter_subject": subjects[0],
                "inactive_threshold": nanoseconds(INSTANCE_KEPT),
                "mem_storage": True,
            }
        else:
            config |= {"durable_name": self._consumer, "filter_subjects": subjects}
        wanted = {"stream_name": stream, "config": config, "action": ""}
        try:
            await self.connection.api(f"CONSUMER.CREATE.{stream}.{self._consumer}", wanted)
        except BridgeError:
            await self._streams.ensure()
            await self.connection.api(f"CONSUMER.CREATE.{stream}.{self._consumer}", wanted)

    async def _connected(self, client: Client, *, is_made: bool = False) -> None:
        """Begin anew on a connection: what was asked for before is forgotten by the server."""
        if client is self._client and self._heard:
            away = asyncio.get_running_loop().time() - self._heard
            if away > self.options.lease.total_seconds() + SIGN_OF_LIFE:
                self._deliveries.lose_all()
        if not is_made:
            await self._make_consumer()
        old = self._subscription
        self._client = client
        inbox = self._inbox = client.new_inbox()
        self._subscription = await client.subscribe(inbox, cb=partial(self._arrived, inbox))
        if old is not None:
            try:
                await old.unsubscribe()
            except NatsError:
                logger.debug("event %s: an inbox was gone already", self.event)
        self._asked = 0
        self._wake.set()

    async def _pull(self) -> None:
        """Ask for events whenever there is room for them."""
        self._heard = asyncio.get_running_loop().time()
        while True:
            try:
                await self._turn()
                continue
            except BridgeError as error:
                logger.warning("event %s: %s", self.event, error)
            except Exception:
                logger.exception("event %s: subscriber %s waits", self.event, self.subscriber)
            self._is_lost = True
            await asyncio.sleep(PAUSE)

    async def _turn(self) -> None:
        self._wake.clear()
        if self._is_lost:
            self._is_lost = False
            await self._ask_anew()
        most = 1 if self.options.ordered else self.options.concurrency
        room = self._deliveries.free - self._asked
        if room > 0 and (room >= most // 2 or self._asked == 0) and self.connection.is_up:
            await self._ask_for(room)
        try:
            async with asyncio.timeout(2 * SIGN_OF_LIFE):
                await self._wake.wait()
        except TimeoutError:
            silent = asyncio.get_running_loop().time() - self._heard
            if self._asked and silent > 2 * SIGN_OF_LIFE:
                await self._ask_anew()

    async def _ask_for(self, count: int) -> None:
        client = self._client
        if client is None:
            return
        request = {
            "batch": count,
            "expires": int(EXPIRES * 1e9),
            "idle_heartbeat": int(SIGN_OF_LIFE * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._streams.events}.{self._consumer}"
        try:
            await client.publish(subject, json.dumps(request).encode(), reply=self._inbox)
            self._asked += count
        except NatsError:
            logger.debug("event %s: the connection was lost as events were asked for", self.event)
            self._begin_anew()

    async def _ask_anew(self) -> None:
        """The server does not know of the request any more."""
        self._heard = asyncio.get_running_loop().time()
        if self.connection.is_up:
            await self._connected(await self.connection.client())

    async def _arrived(self, inbox: str, msg: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        if inbox != self._inbox:
            return  # asked for before an outage or a standstill: it comes again, to whomever
        if msg.subject == inbox:
            self._told(msg.headers or {})
            return
        if self._stopping:
            await msg.respond(b"-NAK")
            return
        self._asked = max(self._asked - 1, 0)
        try:
            message = self._message(msg)
        except Exception as error:
            await self._refuse(msg, error)
            return
        self._deliveries.take(NatsDelivery(self, msg, message))
        self._wake.set()

    def _told(self, headers: dict[str, str]) -> None:
        """Take news about a request: it is over, or still known."""
        status = headers.get(_STATUS)
        if status == "100":
            return
        pending = headers.get("Nats-Pending-Messages")
        self._asked = max(self._asked - int(pending), 0) if pending else 0
        if status in ("404", "408"):
            self._wake.set()
            return
        # The consumer or its leader is gone, or the server goes down.
        logger.debug("event %s: status %s", self.event, status)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Ask on a new inbox, a little later."""
        self._is_lost = True
        asyncio.get_running_loop().call_later(PAUSE, self._wake.set)

    def _message(self, msg: Msg) -> Message:
        sequence = msg.metadata.sequence.stream
        fallback = f"{self._streams.events}:{sequence}"
        return stored_message(self.event, msg.headers, msg.data, fallback_id=fallback)

    async def _refuse(self, msg: Msg, error: Exception) -> None:
        """Bury what cannot be read as a message."""
        logger.error(
            "event %s: subscriber %s: a dead letter: %s",
            self.event,
            self.subscriber,
            why_unread(error),
            exc_info=None if isinstance(error, BridgeError) else error,
        )
        headers = {"purista-unread": "true"}
        message = Message(self.event, msg.data, f"{msg.metadata.sequence.stream}", None, headers)
        delivery = NatsDelivery(self, msg, message)
        try:
            await delivery.bury(why_unread(error))
        except BridgeError as failure:
            logger.warning("event %s: %s", self.event, failure)


class NatsDelivery:
    """One event that a consumer delivered; its reply subject settles it.

    The server takes an acknowledgement of an earlier delivery, too: what keeps a receiver from
    settling an event that is another's by now is its own clock.
    """

    __slots__ = ("_lease", "_msg", "_until", "attempt", "message", "subscription")

    def __init__(self, subscription: NatsSubscription, msg: Msg, message: Message) -> None:
        self.subscription = subscription
        self.message = message
        self._msg = msg
        self.attempt: int = msg.metadata.num_delivered or 1
        self._lease = subscription.options.lease.total_seconds()
        # What was noticed of a standstill is at most this much late; a sign of life mends it.
        self._until = subscription.clock.monotonic() + self._lease * (1 - 2 * TICK)

    async def done(self) -> None:
        """Acknowledge it."""
        await self._settle(b"+ACK")

    async def again(self, after: float) -> None:
        """Let the server deliver it again after so many seconds."""
        delay = int(after * 1e9)
        await self._settle(b'-NAK {"delay": %d}' % delay if delay > 0 else b"-NAK")

    async def bury(self, reason: str) -> None:
        """Store the dead letter, then let the server forget the event."""
        self._check()
        one = self.subscription
        if not one.options.every_instance:
            sequence = self._msg.metadata.sequence
            once = f"{self._msg.metadata.consumer}-{sequence.stream}-{self._msg.metadata.timestamp}"
            await one.letters.bury(
                one.event, one.subscriber, self.message, self.attempt, reason, once=once
            )
        await self._settle(b"+TERM")

    async def give_back(self) -> None:
        """Let the server deliver it again at once; it counts as an attempt."""
        await self._settle(b"-NAK")

    async def prolong(self) -> None:
        """Tell the server that it is worked on, and wait until it knows."""
        self._check()
        began = self.subscription.clock.monotonic()
        connection = self.subscription.connection
        try:
            await connection.ask(self._msg.reply, b"+WPI", seconds=self._lease / BEATS)
        except (NatsError, TimeoutError):
            self._check()
            raise connection.refusal("a sign of life was not confirmed") from None
        self._until = began + self._lease

    async def _settle(self, word: bytes) -> None:
        self._check()
        try:
            await self._msg.respond(word)
        except NatsError as error:
            text = f"an event could not be settled ({type(error).__name__})"
            raise self.subscription.connection.refusal(text) from None

    def _check(self) -> None:
        if self.subscription.clock.monotonic() >= self._until:
            raise LeaseLostError(
                f"event '{self.subscription.event}': subscriber "
                f"'{self.subscription.subscriber}': the lease ran out; it comes again"
            )

"""What pulls the jobs of one queue from NATS for the calls that wait for one.

The server sends a job when it was asked for, and cannot tell whether it was received in time. How long a
lease is good is measured from a moment that was before the job was sent: the server answers pings in
the order of all that it sends, so that what comes after an answer was sent after the ping.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final

from purista.bridges import nats_names as names
from purista.bridges.lines import Line, Waiter
from purista.bridges.nats_connection import Client, Msg, NatsConnection, NatsError
from purista.bridges.nats_jobs import JobStreams
from purista.bridges.nats_streams import nanoseconds
from purista.bridges.port import LeasedJob
from purista.errors import BridgeError

logger = logging.getLogger("purista.bridges")

EXPIRES: Final = 30.0
SHORTEST: Final = 0.2
"""Seconds after which the server forgets a request for jobs, and it is made again; half a lease if that is
shorter, so that a process which stands still is not given what it had once more."""

SIGN_OF_LIFE: Final = 5.0
"""Seconds after which the server says that it still knows of a request."""

PAUSE: Final = 0.5
"""Seconds before a consumer is made again that was lost."""

FRESH: Final = 0.1
"""The part of a lease by which it may seem shorter: so often the server is pinged while jobs are awaited."""

_EXISTS: Final = 10148
"""JetStream's number for a consumer that is there with another configuration."""

Taken = Callable[[Msg, Waiter, float], Awaitable[LeasedJob | None]]
"""Makes a lease of a message for a waiter, from a moment of the loop's time on; None: it is none."""


class NatsPuller:
    """The line of one queue: asks for as many jobs as calls wait for one."""

    def __init__(
        self,
        queue: str,
        connection: NatsConnection,
        streams: JobStreams,
        *,
        taken: Taken,
        give_back: Callable[[Msg, float], Awaitable[None]],
    ) -> None:
        self.line = Line(queue)
        self.ack_wait = timedelta(0)
        self._queue = queue
        self._connection = connection
        self._streams = streams
        self._taken = taken
        self._give_back = give_back
        self._stream = streams.of(queue)
        self._consumer = names.short(queue)
        self._client: Client | None = None
        self._subscription: Any = None
        self._inbox = ""
        self._asked = 0
        self._heard = 0.0
        self._fresh = 0.0
        self._is_lost = False
        self._steps: set[asyncio.Task[None]] = set()

    def join(self, waiter: Waiter) -> None:
        """Let a call wait; whoever looks for what is there now is served by itself."""
        if waiter.is_last_look:
            self._do(self._tried(self._look(waiter), waiter))
            return
        self.line.add(waiter)
        if self.line.task is None:
            self.line.task = asyncio.create_task(self._run(), name=f"purista nats {self._queue}")

    async def _tried(self, step: Coroutine[Any, Any, None], waiter: Waiter) -> None:
        try:
            await step
        except BridgeError as error:
            waiter.fail(error)
        except Exception as error:
            logger.exception("queue %s: a look for jobs failed", self._queue)
            text = f"queue '{self._queue}': a look for jobs failed ({type(error).__name__})"
            waiter.fail(self._connection.refusal(text))

    async def _look(self, waiter: Waiter) -> None:
        """Give a waiter the job that is there now, or None."""
        await self._ready(waiter.duration)
        client = await self._connection.client()
        arrived: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()

        async def take(msg: Msg) -> None:
            if not arrived.done():
                arrived.set_result(msg)

        inbox = client.new_inbox()
        began = asyncio.get_running_loop().time()
        subscription = await client.subscribe(inbox, cb=take)
        try:
            await self._request(client, inbox, {"batch": 1, "no_wait": True})
            async with asyncio.timeout(2 * SIGN_OF_LIFE):
                msg = await arrived
        except (NatsError, TimeoutError):
            waiter.fail(self._connection.refusal("it does not say whether there are jobs"))
            return
        finally:
            arrived.cancel()
            await _left(subscription)
        if msg.subject != inbox:
            await self._hand_over(msg, waiter, began)
        elif (msg.headers or {}).get("Status") in ("404", "408"):
            waiter.looked_in_vain()
        else:
            self.ack_wait = timedelta(0)  # the consumer is gone: it is made by the next call
            waiter.looked_in_vain()

    async def _run(self) -> None:
        """Pull for those who wait, as long as anybody does."""
        try:
            self._connection.join(self._connected)
            while waiters := self.line.next_waiters():
                await self._turn(waiters)
            if self._asked:
                self._leave_inbox()
        except BridgeError as error:
            self._leave_inbox()
            self.line.fail(error)
        except Exception as error:
            logger.exception("queue %s: pulling failed", self._queue)
            self._leave_inbox()
            text = f"queue '{self._queue}': pulling failed ({type(error).__name__})"
            self.line.fail(self._connection.refusal(text))
        finally:
            self._connection.leave(self._connected)
            self.line.task = None

    async def close(self) -> None:
        """Leave the inbox, and finish what was begun."""
        if self.line.task is not None:
            await asyncio.wait([self.line.task])
        self._leave_inbox()
        while self._steps:
            await asyncio.wait(self._steps)

    async def _turn(self, waiters: Sequence[Waiter]) -> None:
        """Ask for what is missing, then wait until something changes."""
        loop = asyncio.get_running_loop()
        self.line.changed.clear()
        if self._is_lost:
            self._is_lost = False
            self.ack_wait = timedelta(0)
            self._leave_inbox()
        if self._asked > len(waiters):
            self._leave_inbox()
        if not self._inbox:
            await self._begin(waiters)
        durations = [waiter.duration for waiter in waiters]
        shortest = min(self.ack_wait, *durations).total_seconds()
        longest = min(max(shortest * FRESH, 0.05), SIGN_OF_LIFE)
        if loop.time() - self._fresh >= longest:
            await self._ping(max(longest, 1.0))
        missing = len(waiters) - self._asked
        if missing > 0 and self._client is not None and self._connection.is_up:
            expires = max(min(EXPIRES, shortest / 2), SHORTEST)
            request = {
                "batch": missing,
                "expires": int(expires * 1e9),
                "idle_heartbeat": int(min(SIGN_OF_LIFE, expires / 2) * 1e9),
            }
            self._asked += missing
            try:
                await self._request(self._client, self._inbox, request)
            except NatsError:
                self._asked -= missing
        try:
            async with asyncio.timeout(longest):
                await self.line.changed.wait()
        except TimeoutError:
            if self._asked and loop.time() - self._heard > 2 * SIGN_OF_LIFE:
                self._heard = loop.time()
                self._is_lost = True

    async def _ping(self, seconds: float) -> None:
        """Learn that the server is there, and that what comes from now on was sent after this."""
        sent = await self._connection.pinged(seconds)
        if sent is not None:
            self._fresh = max(self._fresh, sent)

    async def _ready(self, duration: timedelta) -> None:
        """Make the consumer where there is none."""
        if self.ack_wait:
            return
        await self._streams.ensured()
        subject = f"CONSUMER.CREATE.{self._stream}.{self._consumer}"
        config = {
            "name": self._consumer,
            "durable_name": self._consumer,
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(duration),
            "max_deliver": -1,
            "max_ack_pending": -1,
            "max_waiting": 10_000,
            "filter_subject": self._streams.job(self._queue),
            "metadata": {"queue": self._queue},
        }
        wanted = {"stream_name": self._stream, "config": config, "action": "create"}
        try:
            made = await self._connection.api(subject, wanted)
        except BridgeError as error:
            if getattr(error, "code", None) != _EXISTS:
                self._streams.forget()
                await self._streams.ensured()
            info = f"CONSUMER.INFO.{self._stream}.{self._consumer}"
            made = await self._connection.api(info)
        self.ack_wait = timedelta(microseconds=made["config"]["ack_wait"] / 1000)

    async def _begin(self, waiters: Sequence[Waiter]) -> None:
        """Have a consumer, and an inbox for what it sends."""
        await self._ready(min(waiter.duration for waiter in waiters))
        client = self._client = await self._connection.client()
        inbox = self._inbox = client.new_inbox()
        self._heard = asyncio.get_running_loop().time()
        self._subscription = await client.subscribe(inbox, cb=partial(self._arrived, inbox))
        await self._ping(1.0)

    async def _connected(self, client: Client) -> None:
        """Begin anew on a connection: what was asked for before is forgotten by the server."""
        if self._inbox:
            self._is_lost = True
            self.line.changed.set()

    def _leave_inbox(self) -> None:
        """Let the server know that nothing is wanted any more; what is on its way is given back."""
        subscription, self._subscription = self._subscription, None
        self._inbox, self._asked = "", 0
        if subscription is not None and self._connection.is_up:
            self._do(_left(subscription, drains=True))

    async def _request(self, client: Client, inbox: str, request: dict[str, Any]) -> None:
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer}"
        await client.publish(subject, json.dumps(request).encode(), reply=inbox)

    async def _arrived(self, inbox: str, msg: Msg) -> None:
        self._heard = asyncio.get_running_loop().time()
        is_current = inbox == self._inbox
        if msg.subject == inbox:
            if is_current:
                self._told(msg.headers or {})
            return
        if is_current:
            self._asked = max(self._asked - 1, 0)
        waiters = self.line.next_waiters()
        if not waiters:
            await self._give_back(msg, self._fresh)
            return
        waiter = waiters[0]
        self.line.remove(waiter)
        self._do(self._hand_over(msg, waiter, self._fresh))
        self.line.changed.set()

    async def _hand_over(self, msg: Msg, waiter: Waiter, since: float) -> None:
        """Give a waiter its lease; it waits on when there is none to give."""
        try:
            leased = await self._taken(msg, waiter, since)
        except BridgeError as error:
            logger.warning("queue %s: a job comes again: %s", self._queue, error)
            leased = None
        except Exception:
            logger.exception("queue %s: a job comes again", self._queue)
            leased = None
        if leased is None:
            if waiter.is_last_look:
                waiter.looked_in_vain()
            elif not waiter.future.done():
                self.join(waiter)
        elif not waiter.give(leased):
            await self._give_back(msg, since)

    def _told(self, headers: dict[str, str]) -> None:
        """Take news about a request: it is over, or still known."""
        status = headers.get("Status")
        if status == "100":
            return
        pending = headers.get("Nats-Pending-Messages")
        self._asked = max(self._asked - int(pending), 0) if pending else 0
        if status in ("404", "408"):
            self.line.changed.set()
            return
        # The consumer or its leader is gone, or the server goes down: begin anew, a little later.
        logger.debug("queue %s: status %s", self._queue, status)
        self._is_lost = True
        asyncio.get_running_loop().call_later(PAUSE, self.line.changed.set)

    def _do(self, step: Any) -> None:
        task = asyncio.create_task(step)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)


async def _left(subscription: Any, *, drains: bool = False) -> None:
    try:
        if drains:
            await asyncio.wait_for(subscription.drain(), 5)
        else:
            await subscription.unsubscribe()
    except (NatsError, TimeoutError):
        logger.debug("an inbox was gone already")

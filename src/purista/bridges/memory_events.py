"""The in-memory event bridge: events and commands, in one process and one event loop."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, timedelta
from typing import Any

from purista.bridges.deadlines import Deadlines, Lane, Lanes
from purista.bridges.memory_subscribers import Graveyard, Member, Subscriber, attempt_of, ids
from purista.bridges.port import (
    DeadEvent,
    ErrorReply,
    EventBridgeCapabilities,
    Receiver,
    Reply,
    Responder,
    Subscription,
)
from purista.clock import Clock, SystemClock
from purista.errors import BridgeClosedError, CommandTimeoutError
from purista.message import Message
from purista.subscribing import DEFAULT, SubscriptionOptions

logger = logging.getLogger("purista.bridges")

_CAPABILITIES = EventBridgeCapabilities(
    name="memory",
    durable=False,
    delivery="at-most-once",
    redelivers=True,
    dead_letters=True,
    across_processes=False,
    commands=True,
    every_instance=True,
    ordered=True,
)
_HINTED = 1_000
"""Among how many commands a near match is looked for: it takes time."""

_bridge: ContextVar[object] = ContextVar("purista_bridge", default=None)
"""The bridge from which the running code got the message that it handles."""


class MemoryEventBridge:
    """Implements ``EventBridge``, ``EventDeadLetters`` and ``Drains`` in memory.

    For tests, development and messages that may die with their process. Each delivery runs in a task
    that the bridge owns; deliveries begin in the order of publication and go on side by side. An event
    that failed comes again after its backoff, and is a dead letter when its attempts are used up.
    Nothing bounds how many events wait but the machine's memory. Not for several threads or event
    loops.

    As behind any broker, context variables of the sender do not reach a receiver: each delivery
    runs in a copy of the context in which the receiver subscribed.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._deadlines = Deadlines(self._clock)
        self._timeouts: Lanes[_Pending] = Lanes(self._deadlines, _Pending.expire)
        self._events: dict[str, dict[object, Subscriber]] = {}
        self._commands: dict[str, _Responders] = {}
        self._graveyard = Graveyard()
        self._retries: set[_Retry] = set()
        self._at_work: dict[asyncio.Task[None], object] = {}
        self._closing = False
        self._closed = False
        self.buried = 0
        """How many times an event became a dead letter."""

    @property
    def capabilities(self) -> EventBridgeCapabilities:
        """What this bridge really does."""
        return _CAPABILITIES

    async def publish(self, message: Message) -> None:
        """Hand an event to every subscriber name, to each in a task of its own."""
        if self._closing:
            self._refuse_strangers(f"event '{message.name}'")
        subscribers = self._events.get(message.name)
        if subscribers is not None:
            for subscriber in tuple(subscribers.values()):
                subscriber.take(message)

    async def subscribe(
        self,
        event: str,
        subscriber: str,
        receive: Receiver,
        *,
        options: SubscriptionOptions = DEFAULT,
    ) -> Subscription:
        """Receive an event under the name ``subscriber``; the receivers of one name take turns."""
        if self._closing:
            raise _refusal(f"event '{event}'")
        member = Member(receive, self._mark)
        key: object = member if options.every_instance else subscriber
        known = self._events.setdefault(event, {})
        group = known.get(key)
        if group is None:
            group = known[key] = Subscriber(self, event, subscriber, options)
        group.options = options
        group.members.append(member)
        return _Subscription(self, group, key, member)

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; what is returned can be awaited for the reply, more than once.

        The command goes on when nobody waits for it any more.
        """
        if self._closing:
            self._refuse_strangers(f"command '{message.name}'")
        pending = _Pending(loop=asyncio.get_running_loop())
        pending.message = message
        responders = self._commands.get(message.name)
        if responders is None:
            pending.set_result(Reply(error=_unknown(message.name, self._commands)))
        else:
            pending.lane = self._timeouts[timeout]
            pending.lane.set(pending, self._clock.monotonic())
            responder = responders.next()
            self._start(self._answer(pending, responder), responder, responder.context)
        return pending

    async def serve(self, command: str, answer: Responder) -> Subscription:
        """Answer a command; its responders take turns."""
        if self._closing:
            raise _refusal(f"command '{command}'")
        return _Responder(self, self._commands, command, answer)

    async def dead_letters(self, event: str, subscriber: str) -> Sequence[DeadEvent]:
        """Return the dead letters of a subscriber, oldest first; they end with the bridge."""
        return self._graveyard.of(event, subscriber)

    async def redrive(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Deliver dead letters again with all attempts; none while nobody is subscribed."""
        if self._closing:
            self._refuse_strangers(f"event '{event}'")
        group = self._events.get(event, {}).get(subscriber)
        if group is None:
            return 0
        letters = self._graveyard.remove(event, subscriber, message_id)
        for letter in letters:
            group.take(letter.message)
        return len(letters)

    async def purge(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many."""
        return len(self._graveyard.remove(event, subscriber, message_id))

    @property
    def left(self) -> int:
        """How many deliveries are at work or wait to be tried again."""
        return len(self._left(None)) + len(self._retries)

    async def drained(self) -> None:
        """Return once every event is handled and every command answered, with all that they sent on.

        The delivery that calls this is not waited for, nor is what waits to be tried again.
        """
        await self._finished(None)

    async def close(self) -> None:
        """Let what was accepted finish, then release everything. May be repeated.

        Until then what deliveries at work send on is taken, so that nothing ends half way;
        everybody else is refused. Cancelling the call cancels the deliveries that are left.
        """
        self._closing = True
        try:
            await self._finished(None)
        except asyncio.CancelledError:
            await self._abandon()
            raise
        self._release()

    def _refuse_strangers(self, place: str) -> None:
        """While the bridge closes, take messages from deliveries at work only."""
        if self._closed or _bridge.get() is not self:
            raise _refusal(place)

    def start(self, subscriber: Subscriber, member: Member, message: Message, attempt: int) -> None:
        """Deliver an event in a task of its own."""
        context = member.context.copy()
        if attempt > 1:
            context.run(attempt_of, attempt)
        self._start(subscriber.deliver(member, message, attempt), member, context)

    def later(self, delay: timedelta, call: Callable[[], None]) -> None:
        """Call after ``delay``, unless the bridge is closed before."""
        retry = _Retry(self._retries, call)
        self._retries.add(retry)
        self._deadlines.set(retry, self._clock.monotonic() + delay.total_seconds())

    def bury(self, subscriber: Subscriber, message: Message, attempts: int, reason: str) -> None:
        """Keep a dead letter."""
        self.buried += 1
        event, name = subscriber.event, subscriber.name
        now = self._clock.now().astimezone(UTC)
        self._graveyard.add(DeadEvent(event, name, message, attempts, reason, now))

    def settled(self) -> None:
        """Forget the running task: its delivery is over."""
        self._at_work.pop(asyncio.current_task(), None)  # type: ignore[arg-type]

    def _mark(self) -> None:
        _bridge.set(self)

    def _start(self, work: Coroutine[Any, Any, None], member: object, context: Context) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        if not task.done():  # with an eager task factory it may be done already
            self._at_work[task] = member

    async def _answer(self, pending: _Pending, responder: _Responder) -> None:
        reply = None
        try:
            reply = await responder.answer(pending.message)
        except Exception:
            message = pending.message
            logger.exception("command %s: its responder failed, %s", message.name, ids(message))
        finally:
            pending.lane.keys.pop(pending, None)
            if not pending.done():
                pending.set_result(reply or _failure(pending.message))
            self.settled()

    async def _finished(self, member: object) -> None:
        """Wait until nothing is at work (for one member), but for the delivery that waits."""
        while left := self._left(member):
            await asyncio.wait(left)

    def _left(self, member: object) -> list[asyncio.Task[None]]:
        own = asyncio.current_task()
        return [
            task
            for task, its in self._at_work.items()
            if member in (None, its) and task is not own and not task.done()
        ]

    async def _abandon(self) -> None:
        """Cancel what is at work and wait until it ended."""
        self._closed = True
        for subscribers in self._events.values():
            for subscriber in subscribers.values():
                subscriber.members.clear()
        try:
            await self.cut_off(None)
        finally:
            self._release()

    async def cut_off(self, member: object) -> None:
        """Cancel what is at work (for one member) and wait until it ended."""
        await asyncio.sleep(0)  # a task that is cancelled before it began could not clean up
        left = self._left(member)
        for task in left:
            task.cancel()
        if left:
            logger.warning("memory event bridge: %d deliveries were cancelled", len(left))
            await asyncio.wait(left)

    def _release(self) -> None:
        self._closed = True
        self._deadlines.close()
        if self._retries:
            logger.warning(
                "memory event bridge: %d events were not tried again", len(self._retries)
            )
        self._retries.clear()
        self._events.clear()
        self._commands.clear()


class _Subscription:
    """A receiver at work."""

    def __init__(
        self, bridge: MemoryEventBridge, subscriber: Subscriber, key: object, member: Member
    ) -> None:
        self._bridge = bridge
        self._subscriber = subscriber
        self._key = key
        self._member = member

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated.

        A receiver that cancels its own subscription is not waited for. Cancel the call to cut off
        what is at work; other receivers of the name get it.
        """
        self._leave()
        try:
            await self._bridge._finished(self._member)
        except asyncio.CancelledError:
            self._member.is_cut_off = True
            await self._bridge.cut_off(self._member)
            raise

    def _leave(self) -> None:
        subscriber, registry = self._subscriber, self._bridge._events
        if self._member not in subscriber.members:
            return
        subscriber.members.remove(self._member)
        if not subscriber.members:
            known = registry.get(subscriber.event, {})
            known.pop(self._key, None)
            if not known:
                registry.pop(subscriber.event, None)


class _Retry:
    """An event that waits to be tried again."""

    __slots__ = ("_call", "_waiting", "ticket")

    def __init__(self, waiting: set[_Retry], call: Callable[[], None]) -> None:
        self.ticket = 0
        self._waiting = waiting
        self._call = call

    def expire(self) -> None:
        self._waiting.discard(self)
        self._call()


class _Responder:
    """One of those who answer a command."""

    __slots__ = ("_bridge", "_command", "_registry", "answer", "context")

    def __init__(
        self,
        bridge: MemoryEventBridge,
        registry: dict[str, _Responders],
        command: str,
        answer: Responder,
    ) -> None:
        self._bridge = bridge
        self._registry = registry
        self._command = command
        self.answer = answer
        self.context = copy_context()
        self.context.run(bridge._mark)
        registry.setdefault(command, _Responders()).members.append(self)

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being answered is. May be repeated."""
        responders = self._registry.get(self._command)
        if responders is not None and self in responders.members:
            responders.members.remove(self)
            if not responders.members:
                del self._registry[self._command]
        await self._bridge._finished(self)


class _Responders:
    """Those who answer a command, in turns."""

    __slots__ = ("_turn", "members")

    def __init__(self) -> None:
        self.members: list[_Responder] = []
        self._turn = -1

    def next(self) -> _Responder:
        self._turn = (self._turn + 1) % len(self.members)
        return self.members[self._turn]


class _Pending(asyncio.Future[Reply]):
    """The reply to a command."""

    __slots__ = ("lane", "message")

    lane: Lane[_Pending]
    message: Message

    def expire(self) -> None:
        if not self.done():
            text = f"command '{self.message.name}' gave no answer within {self.lane.duration}"
            self.set_exception(CommandTimeoutError("timeout", text))
            self.exception()  # nobody has to wait for it


def _unknown(command: str, known: Iterable[str]) -> ErrorReply:
    near = difflib.get_close_matches(command, itertools.islice(known, _HINTED), n=1)
    remedy = f"did you mean '{near[0]}'?" if near else "start a service that does"
    return ErrorReply("unknown", "unknown_command", f"nobody handles command '{command}'; {remedy}")


def _failure(message: Message) -> Reply:
    text = f"command '{message.name}' failed; its log has the details"
    return Reply(error=ErrorReply("unhandled", "internal", text))


def _refusal(place: str) -> BridgeClosedError:
    return BridgeClosedError(f"{place}: the memory bridge is closed; it takes nothing new")

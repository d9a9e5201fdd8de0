"""The in-memory event bridge: events and commands, in one process and one event loop."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import logging
from collections.abc import Awaitable, Coroutine, Iterable
from contextvars import ContextVar, copy_context
from datetime import timedelta
from typing import Any, Generic, TypeVar

from purista.bridges.deadlines import Deadlines, Lane, Lanes
from purista.bridges.port import (
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

Callback = TypeVar("Callback", Receiver, Responder)

_CAPABILITIES = EventBridgeCapabilities(
    name="memory",
    durable=False,
    delivery="at-most-once",
    redelivers=False,
    dead_letters=False,
    across_processes=False,
    commands=True,
    every_instance=False,
    ordered=False,
)
_HINTED = 1_000
"""Among how many commands a near match is looked for: it takes time."""

_RESPONDERS = ""
"""The one group of a command, as a subscriber name is the group of an event."""

_bridge: ContextVar[object] = ContextVar("purista_bridge", default=None)
"""The bridge from which the running code got the message that it handles."""


class MemoryEventBridge:
    """Implements ``EventBridge`` and ``Drains`` in memory.

    For tests, development and messages that may die with their process. Each delivery runs in a task
    that the bridge owns; deliveries begin in the order of publication and go on side by side. A
    receiver that fails is logged and does not see the event again. Nothing bounds how many
    deliveries are at work but the machine's memory. Not for several threads or event loops.

    As behind any broker, context variables of the sender do not reach a receiver: each delivery
    runs in a copy of the context in which the receiver subscribed.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._deadlines = Deadlines(self._clock)
        self._timeouts: Lanes[_Pending] = Lanes(self._deadlines, _Pending.expire)
        self._events: dict[str, dict[str, _Group[Receiver]]] = {}
        self._commands: dict[str, dict[str, _Group[Responder]]] = {}
        self._at_work: dict[asyncio.Task[None], object] = {}
        self._closing = False
        self._closed = False

    @property
    def capabilities(self) -> EventBridgeCapabilities:
        """What this bridge really does."""
        return _CAPABILITIES

    async def publish(self, message: Message) -> None:
        """Hand an event to every subscriber name, to each in a task of its own."""
        if self._closing:
            self._refuse_strangers(f"event '{message.name}'")
        groups = self._events.get(message.name)
        if groups is not None:
            for group in tuple(groups.values()):
                members = group.members
                member = members[0] if len(members) == 1 else group.next()
                self._start(self._deliver(message, member), member)

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
        return _Member(self, self._events, event, subscriber, receive)

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; what is returned can be awaited for the reply, more than once.

        The command goes on when nobody waits for it any more.
        """
        if self._closing:
            self._refuse_strangers(f"command '{message.name}'")
        pending = _Pending(loop=asyncio.get_running_loop())
        pending.message = message
        groups = self._commands.get(message.name)
        if groups is None:
            pending.set_result(Reply(error=_unknown(message.name, self._commands)))
        else:
            pending.lane = self._timeouts[timeout]
            pending.lane.set(pending, self._clock.monotonic())
            member = groups[_RESPONDERS].next()
            self._start(self._answer(pending, member), member)
        return pending

    async def serve(self, command: str, answer: Responder) -> Subscription:
        """Answer a command; its responders take turns."""
        if self._closing:
            raise _refusal(f"command '{command}'")
        return _Member(self, self._commands, command, _RESPONDERS, answer)

    async def drained(self) -> None:
        """Return once every event is handled and every command answered, with all that they sent on.

        The delivery that calls this is not waited for.
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

    def _start(self, work: Coroutine[Any, Any, None], member: _Member[Any]) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, context=member.context.copy())
        if not task.done():  # with an eager task factory it may be done already
            self._at_work[task] = member

    async def _deliver(self, message: Message, member: _Member[Receiver]) -> None:
        place = "event %s: subscriber %s "
        try:
            await member.callback(message)
        except asyncio.CancelledError:
            logger.warning(place + "was cancelled, %s", message.name, member.name, _ids(message))
            raise
        except Exception:
            logger.exception(place + "failed, %s", message.name, member.name, _ids(message))
        finally:
            self._at_work.pop(asyncio.current_task(), None)  # type: ignore[arg-type]

    async def _answer(self, pending: _Pending, member: _Member[Responder]) -> None:
        reply = None
        try:
            reply = await member.callback(pending.message)
        except Exception:
            message = pending.message
            logger.exception("command %s: its responder failed, %s", message.name, _ids(message))
        finally:
            pending.lane.keys.pop(pending, None)
            if not pending.done():
                pending.set_result(reply or _failure(pending.message))
            self._at_work.pop(asyncio.current_task(), None)  # type: ignore[arg-type]

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
        try:
            await asyncio.sleep(0)  # a task that is cancelled before it began could not clean up
            left = self._left(None)
            for task in left:
                task.cancel()
            if left:
                logger.warning("memory event bridge: %d deliveries were cancelled", len(left))
                await asyncio.wait(left)
        finally:
            self._release()

    def _release(self) -> None:
        self._closed = True
        self._deadlines.close()
        self._events.clear()
        self._commands.clear()


class _Member(Generic[Callback]):
    """A receiver or responder: one of the group that has its name."""

    __slots__ = ("_address", "_bridge", "_registry", "callback", "context", "name")

    def __init__(
        self,
        bridge: MemoryEventBridge,
        registry: dict[str, dict[str, _Group[Callback]]],
        address: str,
        name: str,
        callback: Callback,
    ) -> None:
        self._bridge = bridge
        self._registry: dict[str, dict[str, _Group[Callback]]] = registry
        self._address = address
        self.name = name
        self.callback: Callback = callback
        self.context = copy_context()
        self.context.run(_bridge.set, bridge)
        registry.setdefault(address, {}).setdefault(name, _Group()).members.append(self)

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated.

        A receiver that cancels its own subscription is not waited for.
        """
        self._leave()
        await self._bridge._finished(self)

    def _leave(self) -> None:
        groups = self._registry.get(self._address, {})
        group = groups.get(self.name)
        if group is None or self not in group.members:
            return
        group.members.remove(self)
        if not group.members:
            del groups[self.name]
        if not groups:
            del self._registry[self._address]


class _Group(Generic[Callback]):
    """The members that share what comes for one name, in turns."""

    __slots__ = ("_turn", "members")

    def __init__(self) -> None:
        self.members: list[_Member[Callback]] = []
        self._turn = -1

    def next(self) -> _Member[Callback]:
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


def _ids(message: Message) -> str:
    return f"message {message.id}, run {message.run.run_id if message.run else message.id}"

"""The subscribers of the in-memory event bridge: whose turn it is, what waits, what is tried again."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from datetime import timedelta
from typing import Protocol

from purista.bridges.port import ATTEMPT, DeadEvent, Receiver
from purista.errors import PayloadError
from purista.message import Message
from purista.subscribing import SubscriptionOptions

logger = logging.getLogger("purista.bridges")


class Owner(Protocol):
    """The bridge, as its subscribers know it."""

    def start(self, subscriber: Subscriber, member: Member, message: Message, attempt: int) -> None:
        """Run ``subscriber.deliver`` in a task of the bridge's, in the member's context."""

    def later(self, delay: timedelta, call: Callable[[], None]) -> None:
        """Call after ``delay``, unless the bridge is closed before."""

    def bury(self, subscriber: Subscriber, message: Message, attempts: int, reason: str) -> None:
        """Keep a dead letter."""

    def settled(self) -> None:
        """Forget the running task: its delivery is over."""


class Member:
    """A receiver, and how many events it has in hand.

    ``is_cut_off``: its subscription was cancelled in haste, others get what it has in hand.
    """

    __slots__ = ("busy", "context", "is_cut_off", "receive")

    def __init__(self, receive: Receiver, bridge: Callable[[], None]) -> None:
        self.receive = receive
        self.busy = 0
        self.is_cut_off = False
        self.context = copy_context()
        self.context.run(bridge)


class Subscriber:
    """All receivers of one event under one name: they share its events."""

    __slots__ = ("_backlog", "_held", "_owner", "_turn", "event", "members", "name", "options")

    def __init__(self, owner: Owner, event: str, name: str, options: SubscriptionOptions) -> None:
        self.event = event
        self.name = name
        self.options = options
        self.members: list[Member] = []
        self._owner = owner
        self._turn = -1
        self._held = False
        self._backlog: deque[tuple[Message, int]] = deque()

    def take(self, message: Message, attempt: int = 1) -> None:
        """Deliver an event as soon as a receiver has room for it."""
        if self._backlog or (member := self._next()) is None:
            self._backlog.append((message, attempt))
            self.go_on()
        else:
            self._begin(member, message, attempt)

    def go_on(self) -> None:
        """Deliver what waits, as far as there is room."""
        while self._backlog and (member := self._next()) is not None:
            self._begin(member, *self._backlog.popleft())

    async def deliver(self, member: Member, message: Message, attempt: int) -> None:
        """Let a receiver have an event, and see to what comes of it."""
        task = asyncio.current_task()
        assert task is not None
        try:
            await member.receive(message)
        except asyncio.CancelledError as error:
            if not task.cancelling():  # something that it waited for was cancelled
                self._failed(message, attempt, error)
                return
            self._held = False
            if member.is_cut_off:
                self._log("was cut off", message)
                self._backlog.appendleft((message, attempt))
            else:  # nothing begins now: whoever cancels can be about to end the event loop
                self._log("was cancelled", message)
            raise
        except PayloadError as error:
            self._bury(message, attempt, str(error))
        except Exception as error:
            self._failed(message, attempt, error)
        else:
            self._held = False
        finally:
            member.busy -= 1
            self._owner.settled()
            if self._backlog and (member.is_cut_off or not task.cancelling()):
                self.go_on()

    def _next(self) -> Member | None:
        """Return whose turn it is, or None while nobody may have more."""
        members, most = self.members, self.options.concurrency
        if self._held:
            return None
        for _ in members:
            self._turn = (self._turn + 1) % len(members)
            member = members[self._turn]
            if member.busy < most:
                return member
        return None

    def _begin(self, member: Member, message: Message, attempt: int) -> None:
        self._held = self.options.ordered
        member.busy += 1
        self._owner.start(self, member, message, attempt)

    def _failed(self, message: Message, attempt: int, error: BaseException) -> None:
        self._log("failed in attempt %d", message, attempt, error=error)
        if attempt >= self.options.max_attempts:
            self._bury(message, attempt, f"{type(error).__name__} in the receiver")
        else:
            chance = random.random()  # noqa: S311 - spread
            delay = self.options.backoff.delay(attempt, chance)
            self._owner.later(delay, lambda: self._again(message, attempt + 1))

    def _again(self, message: Message, attempt: int) -> None:
        """Deliver before all that waits; an ordered subscriber was held for it."""
        self._held = False
        self._backlog.appendleft((message, attempt))
        self.go_on()

    def _bury(self, message: Message, attempt: int, reason: str) -> None:
        self._held = False
        logger.error("%s: a dead letter, %s: %s", self._place, ids(message), reason)
        if not self.options.every_instance:
            self._owner.bury(self, message, attempt, reason)

    @property
    def _place(self) -> str:
        return f"event {self.event}: subscriber {self.name}"

    def _log(
        self, text: str, message: Message, *values: object, error: BaseException | None = None
    ) -> None:
        logger.warning(f"%s {text}, %s", self._place, *values, ids(message), exc_info=error)


class Graveyard:
    """Dead letters by event and subscriber."""

    def __init__(self) -> None:
        self._letters: dict[tuple[str, str], list[DeadEvent]] = {}

    def add(self, letter: DeadEvent) -> None:
        """Keep a dead letter."""
        self._letters.setdefault((letter.event, letter.subscriber), []).append(letter)

    def of(self, event: str, subscriber: str) -> list[DeadEvent]:
        """Return those of a subscriber, oldest first."""
        return list(self._letters.get((event, subscriber), ()))

    def remove(self, event: str, subscriber: str, message_id: str | None) -> list[DeadEvent]:
        """Forget one or all of a subscriber, and return them."""
        found = self.of(event, subscriber)
        gone = [one for one in found if message_id in (None, one.message.id)]
        left = [one for one in found if one not in gone]
        if left:
            self._letters[event, subscriber] = left
        else:
            self._letters.pop((event, subscriber), None)
        return gone


def attempt_of(attempt: int) -> None:
    """Tell the receiver that runs in this context which delivery it is."""
    ATTEMPT.set(attempt)


def ids(message: Message) -> str:
    """Return what a log says of a message."""
    return f"message {message.id}, run {message.run.run_id if message.run else message.id}"

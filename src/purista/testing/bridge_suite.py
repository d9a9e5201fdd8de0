"""What the suites of both kinds of bridges share: their clock, names, and ways to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from types import TracebackType
from typing import Self, TypeVar

from purista.clock import Clock
from purista.message import Message, new_message_id
from purista.testing.manual_clock import ManualClock

Result = TypeVar("Result")


class BridgeSuite:
    """Time and names for a suite.

    A bridge that measures time on the clock it is given runs on a manual clock, in no time. For a
    broker that measures its own time, let ``clock`` return a ``SystemClock()`` and choose ``unit``:
    tests wait a few of them, and take half of one for granted as the broker's precision.
    """

    unit: timedelta = timedelta(seconds=1)
    """The step in which tests let time pass; leases, delays and time-outs are a few of these."""

    patience: timedelta = timedelta(seconds=10)
    """How long, in real time, something that has to come may take; then the test fails."""

    def clock(self) -> Clock:
        """Return the clock for one test."""
        return ManualClock()

    async def let_pass(self, clock: Clock, units: float) -> None:
        """Let that many units of time pass."""
        if isinstance(clock, ManualClock):
            await clock.advance(self.unit * units)
        else:
            await clock.sleep(self.unit * units)

    async def silence(self, clock: Clock) -> None:
        """Return when everything that is on its way would have arrived."""
        if isinstance(clock, ManualClock):
            await clock.settle()
        else:
            await clock.sleep(self.unit / 2)

    async def soon(self, awaitable: Awaitable[Result]) -> Result:
        """Return the result; fail when it takes longer than ``patience``."""
        try:
            async with asyncio.timeout(self.patience.total_seconds()):
                return await awaitable
        except TimeoutError:
            raise AssertionError(f"did not come within {self.patience}") from None

    def name(self, word: str) -> str:
        """Return a name that no other test uses, not even in another process."""
        return f"suite.v1.{word}-{new_message_id()}"

    def message(self, name: str, body: bytes = b"{}") -> Message:
        """Return a message of no run."""
        return Message(name, body, new_message_id())


class Inbox:
    """A receiver that keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._arrived = asyncio.Condition()

    async def __call__(self, message: Message) -> None:
        """Take one message."""
        async with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    @property
    def ids(self) -> list[str]:
        """The ids of the messages so far, in order of arrival."""
        return [message.id for message in self.messages]

    async def holds(self, count: int) -> None:
        """Return once there are ``count`` messages."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.messages) >= count)


class Gate:
    """Holds handlers back until it is opened, at the latest when the block ends."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.open()

    def open(self) -> None:
        """Let everybody pass from now on."""
        self._opened.set()

    async def wait(self) -> None:
        """Return once the gate is open."""
        await self._opened.wait()

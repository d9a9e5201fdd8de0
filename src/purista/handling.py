"""One call of a handler: the context that it is given, and its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from purista.contract import Command, Event, Queue
from purista.message import Message, RunInfo

if TYPE_CHECKING:
    from purista.host import Host

T = TypeVar("T")


class RunCancelledError(Exception):
    """The run of this handler was cancelled; the text says why."""


class Handling:
    """Implements ``purista.Context`` for one call of a handler.

    A handler is awaited inside ``with handling:``, in the task in which the handling was made. While
    it is, a cancelled run cancels that task; the block then ends with ``RunCancelledError``.
    """

    __slots__ = ("_heartbeat", "_host", "attempt", "message", "reason", "task")

    def __init__(
        self,
        host: Host,
        message: Message,
        attempt: int = 1,
        heartbeat: Callable[[Handling, timedelta | None], Awaitable[None]] | None = None,
        task: asyncio.Task[Any] | None = None,
    ) -> None:
        self._host = host
        self._heartbeat = heartbeat
        self.message = message
        self.task = task or asyncio.current_task()
        self.attempt = attempt
        self.reason = ""

    def __enter__(self) -> Handling:
        host = self._host
        host.at_work.add(self)
        host.begun += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._host.at_work.discard(self)
        if self.absorb() and isinstance(exc, asyncio.CancelledError):
            raise RunCancelledError(self.reason) from None

    def absorb(self) -> bool:
        """Undo ``cancel`` once the handler is done; True when nobody else cancelled the task too."""
        return self.reason != "" and self.task is not None and self.task.uncancel() == 0

    @property
    def message_id(self) -> str:
        """The id of the message that is handled."""
        return self.message.id

    @property
    def run_id(self) -> str:
        """The run's id, or the message's."""
        run = self.message.run
        return self.message.id if run is None else run.run_id

    @property
    def schedule_id(self) -> str | None:
        """The schedule that started the run."""
        run = self.message.run
        return None if run is None else run.schedule_id

    @property
    def nominal_time(self) -> datetime | None:
        """The run's nominal time in the contract's zone."""
        run = self.message.run
        return None if run is None else run.nominal_time.astimezone(ZoneInfo(run.timezone))

    @property
    def cancelled(self) -> bool:
        """Whether the run was cancelled."""
        return self.reason != ""

    def cancel(self, reason: str) -> None:
        """Cancel the handler's task, once."""
        if not self.reason and self.task is not None:
            self.reason = reason
            self.task.cancel()

    async def emit(self, event: Event[T], payload: T) -> None:
        """Publish an event of the same run."""
        await self._host.emit(event, payload, run=self._onward())

    async def enqueue(
        self,
        queue: Queue[T],
        payload: T,
        *,
        delay: timedelta = timedelta(0),
        key: str | None = None,
    ) -> bool:
        """Enqueue a job of the same run."""
        return await self._host.enqueue(queue, payload, delay=delay, key=key, run=self._onward())

    async def invoke(
        self, command: Command[T, Any], payload: T, *, timeout: timedelta | None = None
    ) -> Any:
        """Invoke a command in the same run."""
        return await self._host.invoke(command, payload, timeout=timeout, run=self._onward())

    async def heartbeat(self, extend_by: timedelta | None = None) -> None:
        """Prolong the job's lease; nothing to do for events and commands."""
        if self._heartbeat is not None:
            await self._heartbeat(self, extend_by)

    def _onward(self) -> RunInfo | None:
        """Return the run for what the handler sends: settling that does not end it."""
        run = self.message.run
        return run and run._replace(is_target=False)

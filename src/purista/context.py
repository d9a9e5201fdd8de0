"""What a handler is given besides its payload."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from purista.contract import Command, Event, Queue

T = TypeVar("T")
R = TypeVar("R")


class Context(Protocol):
    """A handler's link to its run and to the bridges.

    Everything sent through it belongs to the same run. ``run_id`` is the same on every redelivery:
    a handler that records it next to its effect has that effect exactly once.
    """

    @property
    def run_id(self) -> str:
        """The run's id; the id of the message where no schedule started this."""

    @property
    def message_id(self) -> str:
        """The id of the message that is handled; the same on every redelivery."""

    @property
    def schedule_id(self) -> str | None:
        """The schedule that started the run; None where none did."""

    @property
    def nominal_time(self) -> datetime | None:
        """The run's nominal time, aware, in the contract's zone; None where no schedule started it."""

    @property
    def attempt(self) -> int:
        """1 on the first delivery of an event or a job, 2 on the next; always 1 for commands."""

    @property
    def cancelled(self) -> bool:
        """Whether this run was replaced or ran out of time; the handler's task is cancelled as well."""

    async def emit(self, event: Event[T], payload: T) -> None:
        """Publish an event. Raises ``PayloadError`` or ``BridgeError``."""

    async def enqueue(
        self, queue: Queue[T], payload: T, *, delay: timedelta = ..., key: str | None = None
    ) -> bool:
        """Enqueue a job, due after ``delay``; False when ``key`` was seen before.

        Raises ``PayloadError`` or ``BridgeError``.
        """

    async def invoke(
        self, command: Command[T, R], payload: T, *, timeout: timedelta | None = None
    ) -> R:
        """Invoke a command and return its answer. Raises ``CommandError`` or ``PayloadError``."""

    async def heartbeat(self, extend_by: timedelta | None = None) -> None:
        """Say that the handler is at work: prolong its job's lease (by the queue's lease, or more).

        The worker does this by itself while the event loop is free; call it before work that blocks
        the loop. Raises ``LeaseLostError`` when the job is no longer this worker's.
        """

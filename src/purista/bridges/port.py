"""The ports to a broker: what an event bridge and a queue bridge promise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from purista.message import Message
from purista.subscribing import DEFAULT, SubscriptionOptions

Receiver = Callable[[Message], Awaitable[None]]
"""Takes one event. An exception means that it failed: it is logged, and the event comes again after the
subscription's backoff, where the bridge can, until its attempts are used up and it becomes a dead letter.
A ``PayloadError`` says that no retry can mend it: it becomes a dead letter at once. A receiver whose
lease was lost is cancelled; what it does after that is not waited for and settles nothing."""

ATTEMPT: ContextVar[int] = ContextVar("purista_attempt", default=1)
"""How often the event that the running receiver handles was delivered to its subscriber, from 1."""


class ErrorReply(NamedTuple):
    """Why a command gave no answer.

    ``kind`` tells the caller which error to raise: ``handled`` (the handler's own code, message and
    data), ``unhandled`` (no details), ``unknown`` (nobody handles the command), ``invalid`` (the
    payload does not fit the schema).
    """

    kind: Literal["handled", "unhandled", "unknown", "invalid"]
    code: str
    message: str
    data: Any = None


class Reply(NamedTuple):
    """The answer to a command: a JSON body, or an error."""

    body: bytes = b"null"
    error: ErrorReply | None = None


Responder = Callable[[Message], Awaitable[Reply]]
"""Answers one command. It does not raise: it says errors in the reply."""


class Subscription(Protocol):
    """A receiver or responder at work."""

    async def cancel(self) -> None:
        """Take nothing new, then wait until what is being handled is done. May be repeated.

        Cancel the call to cut off what is still at work: its events come again where the bridge
        redelivers.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBridgeCapabilities:
    """What an event bridge really does, so that nobody has to guess.

    ``durable``: an accepted event survives the end of this process. ``delivery``: how often a
    subscriber sees an event when something dies. ``redelivers``: a failed receiver sees the event
    again, after the backoff. ``dead_letters``: what failed for good is kept for each subscriber, and
    the bridge is an ``EventDeadLetters``. ``across_processes``: other processes are reached.
    ``commands``: requests can be sent and answered. ``every_instance``, ``ordered``: those options of a
    subscription are honoured; where they are not, ``subscribe`` refuses them with ``BridgeError``.
    ``largest``: how many bytes a body may have, None: only memory bounds it.
    """

    name: str
    durable: bool
    delivery: Literal["at-most-once", "at-least-once"]
    redelivers: bool
    dead_letters: bool
    across_processes: bool
    commands: bool
    every_instance: bool
    ordered: bool
    largest: int | None = None


class EventBridge(Protocol):
    """Publish/subscribe for events, request/reply for commands."""

    @property
    def capabilities(self) -> EventBridgeCapabilities:
        """What this bridge really does."""

    async def publish(self, message: Message) -> None:
        """Hand an event to every subscriber; return once the bridge has it, not when it is handled.

        An event that nobody subscribes to is no error. Raises ``BridgeClosedError`` or ``BridgeError``.
        """

    async def subscribe(
        self,
        event: str,
        subscriber: str,
        receive: Receiver,
        *,
        options: SubscriptionOptions = DEFAULT,
    ) -> Subscription:
        """Receive an event under the name ``subscriber``.

        Every subscriber name gets each event once, whatever process its receivers are in; the
        receivers of one name share them, and are expected to give the same options. With
        ``every_instance`` each receiver gets every event instead. The event is settled once the
        receiver returned. ``ATTEMPT`` tells the receiver which delivery it is.

        Raises ``BridgeError`` for options that the bridge does not honour.
        """

    async def request(self, message: Message, *, timeout: timedelta) -> Awaitable[Reply]:
        """Send a command; return once the bridge has it. What is returned can be awaited for the reply.

        Awaiting raises ``CommandTimeoutError`` when no reply came within ``timeout``; whoever does not
        wait stops nothing. A command that nobody handles gives a reply with an error of kind
        ``unknown``, a responder that raises one of kind ``unhandled``.
        """

    async def serve(self, command: str, answer: Responder) -> Subscription:
        """Answer a command. Several responders of one command share its requests."""

    async def close(self) -> None:
        """Take nothing new, let what was accepted finish, then release everything. May be repeated."""


class Job(NamedTuple):
    """One unit of work in a queue.

    ``max_attempts``: after that many leases without an ack it becomes a dead letter. ``key``: a
    second job of the same queue and key within ``dedupe_window`` of the first is not enqueued.
    """

    message: Message
    max_attempts: int = 5
    delay: timedelta = timedelta(0)
    key: str | None = None
    dedupe_window: timedelta = timedelta(days=7)


class LeasedJob(NamedTuple):
    """A job that is this worker's until its lease runs out.

    ``attempt`` counts from 1. ``token`` tells this lease from an earlier one of the same job.
    """

    queue: str
    job: Job
    attempt: int
    token: int


class DeadLetter(NamedTuple):
    """A job that failed for good: what it was, how often it was tried, why and when it was given up."""

    queue: str
    job: Job
    attempts: int
    reason: str
    died_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueBridgeCapabilities:
    """What a queue bridge really does.

    ``durable``: an accepted job survives the end of this process. ``delayed``: jobs can be delayed.
    ``deduplicates``: keys are honoured. ``wakes``: a waiting lease is woken by an enqueue, not by
    polling. ``across_processes``: other processes can lease the jobs. ``ordered``: jobs that are due
    are leased in the order in which they became due. ``fenced_by``: how a worker is kept from
    settling a job that is another's by now: the broker compares the lease's ``token``, or the worker
    itself goes by its ``clock``. ``largest``: how many bytes a body may have, None: only memory
    bounds it.
    """

    name: str
    durable: bool
    delayed: bool
    deduplicates: bool
    wakes: bool
    across_processes: bool
    ordered: bool = True
    fenced_by: Literal["token", "clock"] = "token"
    largest: int | None = None


class QueueBridge(Protocol):
    """Work queues with leases. The queue's name is the name of the job's message."""

    @property
    def capabilities(self) -> QueueBridgeCapabilities:
        """What this bridge really does."""

    async def enqueue(self, job: Job) -> bool:
        """Store a job; False when its key was seen before, in which case nothing changed.

        Raises ``BridgeClosedError`` or ``BridgeError``.
        """

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None = None
    ) -> LeasedJob | None:
        """Take the job that has waited longest and is due, for ``duration``.

        Waits up to ``wait`` for one (None: until there is one) and returns None when there is none.
        A cancelled call never keeps a job. A job whose lease ran out is due again, at once; one that
        has used up its attempts becomes a dead letter instead. Raises ``BridgeClosedError`` or
        ``BridgeError``, and ``ValueError`` for a duration that is not positive.
        """

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now, be that later or sooner.

        Raises ``LeaseLostError``, and ``ValueError`` for a duration that is not positive.
        """

    async def ack(self, leased: LeasedJob) -> None:
        """The job is done; forget it. Raises ``LeaseLostError``."""

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """The job failed: due again after ``retry_in``, or a dead letter (None, or no attempts left).

        Returns True when it became a dead letter. Raises ``LeaseLostError``.
        """

    async def close(self) -> None:
        """Take nothing new and wake every waiting ``lease`` with ``BridgeClosedError``. May be repeated.

        Jobs that are leased can still be extended, acked and nacked.
        """


@runtime_checkable
class DeadLetters(Protocol):
    """The dead letters of a queue bridge; every queue bridge of this package has them."""

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first."""

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Enqueue dead letters again with all their attempts (one, or all); return how many."""

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many."""


class DeadEvent(NamedTuple):
    """An event that failed for good at one subscriber."""

    event: str
    subscriber: str
    message: Message
    attempts: int
    reason: str
    died_at: datetime


@runtime_checkable
class EventDeadLetters(Protocol):
    """The dead letters of an event bridge, which belong to the subscriber at which they failed."""

    async def dead_letters(self, event: str, subscriber: str) -> Sequence[DeadEvent]:
        """Return the dead letters of a subscriber, oldest first."""

    async def redrive(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Deliver dead letters again (one, or all), to this subscriber alone, with all attempts.

        Returns how many.
        """

    async def purge(self, event: str, subscriber: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many."""


class Health(NamedTuple):
    """How a bridge and its broker get on, since when, and what is wrong.

    ``idle``: nobody has needed the broker yet. ``down``: it is away, and looked for again and again.
    """

    state: Literal["idle", "up", "down", "closed"]
    since: datetime
    reason: str = ""


@runtime_checkable
class Connects(Protocol):
    """A bridge to a broker outside this process: it can be away.

    Once it was reached, a bridge looks for a broker that went away for ever, each time a little
    later, at most every few seconds; what was subscribed goes on by itself when it is back.
    """

    @property
    def health(self) -> Health:
        """How the broker was when it was last heard of; asks nobody."""

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the broker answers; look for it up to ``patience`` long (None: for ever).

        With a patience of zero it is tried once. Raises ``BridgeError`` when it does not answer, or at once
        when waiting cannot help (wrong credentials, a server that cannot do what is needed).
        """


@runtime_checkable
class Drains(Protocol):
    """A bridge whose messages would die with this process: it can be waited for."""

    async def drained(self) -> None:
        """Return once every accepted message is settled.

        Not waited for: jobs that are delayed, be it by their sender or for a retry, and jobs in queues
        that nobody works on.
        """


@runtime_checkable
class EnlistedQueues(Protocol):
    """A queue bridge that can enqueue in a transaction of whoever uses the same database."""

    @property
    def store(self) -> str:
        """Which database it is; equal for two that are one."""

    def enlisted(self, job: Job) -> Callable[[Any], Any]:
        """Return what enqueues a job when it is called with a connection that has a transaction open.

        With SQLite it returns whether the job was stored, with PostgreSQL an awaitable for that.
        """

    def wake(self, queue: str) -> None:
        """Wake what waits for a job of the queue in this process: a transaction was committed."""

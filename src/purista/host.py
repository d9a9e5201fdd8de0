"""The host: runs the handlers of services on an event bridge and a queue bridge."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from purista.bridges import (
    ATTEMPT,
    Drains,
    ErrorReply,
    EventBridge,
    Job,
    QueueBridge,
    Receiver,
    Reply,
    Subscription,
)
from purista.clock import Clock, SystemClock
from purista.contract import Command, ConcurrencyPolicy, Event, Queue, raise_if
from purista.errors import (
    CommandError,
    HandledError,
    PayloadError,
    UnhandledError,
    UnknownCommandError,
)
from purista.fitting import unfit
from purista.handling import Handling, RunCancelledError
from purista.ledgers import History, RunStatus
from purista.message import CANCELLED, RUN_CANCELLED, Message, RunInfo, new_message_id
from purista.payload import key_of
from purista.service import (
    Binding,
    CommandHandler,
    EventHandler,
    HandlerDeclaration,
    Service,
    SubscriptionDeclaration,
)
from purista.subscribing import DEFAULT, EVERY_INSTANCE, SubscriptionOptions
from purista.telemetry import Telemetry, telemetry
from purista.worker import Worker, is_cut_off

T = TypeVar("T")
R = TypeVar("R")

logger = logging.getLogger("purista.host")

DEDUPE_WINDOW = Job._field_defaults["dedupe_window"]

_new = tuple.__new__
"""Makes a named tuple at half the cost; used where every message pays it."""

BRIEFLY = 0.1
"""Seconds that subscriptions have at least to take nothing new, when the grace is used up."""

REMEMBERED_CANCELLATIONS = 10_000
"""How many cancelled runs a host remembers, so that their jobs that still wait are not begun."""


class Host:
    """Runs the handlers of services while it is open.

    ``async with Host(billing, event_bridge=..., queue_bridge=...):`` starts the subscriptions,
    workers and command handlers; leaving it takes nothing new and waits until everything accepted is
    done, for at most ``grace`` (None: as long as it takes). With a ``ledger`` a worker asks it
    whether a run was replaced before it begins the run's job.
    """

    def __init__(
        self,
        *services: Service,
        event_bridge: EventBridge,
        queue_bridge: QueueBridge,
        clock: Clock | None = None,
        ledger: History | None = None,
        grace: timedelta | None = None,
    ) -> None:
        self.services = services
        self.event_bridge = event_bridge
        self.queue_bridge = queue_bridge
        self.clock: Clock = clock or SystemClock()
        self.ledger = ledger
        self.grace = grace
        self.telemetry: Telemetry | None = telemetry()
        self._subscriptions: list[Subscription] = []
        self._workers: list[Worker] = []
        self.at_work: set[Handling] = set()
        self.begun = 0
        self._cancelled: OrderedDict[str, str] = OrderedDict()
        self._exclusive = {
            schedule.id
            for service in services
            for schedule in service.schedules.values()
            if schedule.concurrency_policy != ConcurrencyPolicy.ALLOW
        }

    @property
    def tasks(self) -> set[asyncio.Task[Any]]:
        """The tasks in which handlers are at work."""
        return {one.task for one in self.at_work if one.task is not None}

    @property
    def is_busy(self) -> bool:
        """Whether a job is being begun or settled; handlers at work do not count."""
        return any(worker.is_busy for worker in self._workers)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Subscribe, serve and start the workers.

        Raises ``ContractError`` with all that handlers ask for and the bridges cannot do.
        """
        bridge = self.event_bridge
        raise_if(unfit(self.services, bridge.capabilities, self.queue_bridge.capabilities))
        cancelling = await bridge.subscribe(
            RUN_CANCELLED, "purista-host", self._cancel, options=EVERY_INSTANCE
        )
        self._subscriptions.append(cancelling)
        for service in self.services:
            for handler in service.handlers.values():
                await self._serve(handler)
            for subscription in service.subscriptions.values():
                await self._subscribe(service, subscription)
            for binding in service.bindings.values():
                await self._bind(service, binding)
            for declaration in service.workers.values():
                worker = Worker(declaration, self)
                self._workers.append(worker)
                worker.start()

    async def stop(self) -> None:
        """Let everything that was accepted finish, within ``grace``, then stop. May be repeated."""
        now, end = asyncio.get_running_loop().time, None
        if self.grace is not None:
            end = now() + self.grace.total_seconds()
        try:
            if not isinstance(self.queue_bridge, Drains):
                await self._by(end, self._finished(self._workers, []))
            await self._by(end, self._drained())
        finally:
            workers, self._workers = self._workers, []
            subscriptions, self._subscriptions = self._subscriptions, []
            last = None if end is None else max(end, now() + BRIEFLY)
            await self._by(last, self._finished(workers, subscriptions))
            await asyncio.gather(*(worker.abandon() for worker in workers))
            for handling in tuple(self.at_work):
                handling.cancel("cut off as the host stopped")

    async def invoke(
        self,
        command: Command[T, R],
        payload: T,
        *,
        timeout: timedelta | None = None,
        run: RunInfo | None = None,
    ) -> R:
        """Invoke a command and return its answer. Raises ``CommandError`` or ``PayloadError``."""
        body = command.schema.dump(payload)
        headers = None if self.telemetry is None else self.telemetry.carry()
        message = _new(Message, (command.address, body, new_message_id(), run, headers))
        pending = await self.event_bridge.request(message, timeout=timeout or command.timeout)
        answer, error = await pending
        if error is not None:
            raise error_of(error)
        return command.returns.load(answer)

    async def emit(self, event: Event[T], payload: T, *, run: RunInfo | None = None) -> None:
        """Publish an event. Raises ``PayloadError`` or ``BridgeError``."""
        body = event.schema.dump(payload)
        headers = None if self.telemetry is None else self.telemetry.carry()
        message = _new(Message, (event.name, body, new_message_id(), run, headers))
        await self.event_bridge.publish(message)

    async def enqueue(
        self,
        queue: Queue[T],
        payload: T,
        *,
        delay: timedelta = timedelta(0),
        key: str | None = None,
        run: RunInfo | None = None,
    ) -> bool:
        """Enqueue a job; False when ``key`` was seen before. Raises ``PayloadError`` or ``BridgeError``."""
        body = queue.schema.dump(payload)
        headers = None if self.telemetry is None else self.telemetry.carry()
        message = _new(Message, (queue.name, body, new_message_id(), run, headers))
        job = _new(Job, (message, queue.max_attempts, delay, key, DEDUPE_WINDOW))
        return await self.queue_bridge.enqueue(job)

    async def was_cancelled(self, run: RunInfo) -> str:
        """Return why the run's job is not to be begun any more, or an empty text.

        A run that expired while its job waited is begun all the same where runs may overlap.
        """
        reason = self._cancelled.get(run.run_id, "")
        if reason or self.ledger is None:
            return reason
        known = await self.ledger.run(run.run_id)
        if known is not None and known.status is RunStatus.REPLACED:
            return "replaced"
        if known is not None and known.outcome == CANCELLED:
            return CANCELLED
        expired = known is not None and known.status is RunStatus.EXPIRED
        return "run_timeout" if expired and run.schedule_id in self._exclusive else ""

    async def _cancel(self, message: Message) -> None:
        body = json.loads(message.body)
        run_id, reason = str(body["runId"]), str(body["reason"])
        if reason != "run_timeout":
            self._cancelled[run_id] = reason
            while len(self._cancelled) > REMEMBERED_CANCELLATIONS:
                self._cancelled.popitem(last=False)
        for handling in self.at_work:
            if handling.run_id == run_id:
                handling.cancel(reason)

    async def _serve(self, declaration: HandlerDeclaration[Any, Any]) -> None:
        handler: CommandHandler[Any, Any] = declaration.handler
        if self.telemetry is not None:
            handler = self.telemetry.traced("handle", handler, kind="server")
        answer = partial(self._answer, declaration.command, handler)
        address = declaration.command.address
        self._subscriptions.append(await self.event_bridge.serve(address, answer))

    async def _answer(
        self, command: Command[Any, Any], handler: CommandHandler[Any, Any], message: Message
    ) -> Reply:
        try:
            payload = command.schema.load(message.body)
        except PayloadError as error:
            return Reply(error=ErrorReply("invalid", "invalid_payload", str(error)))
        handling = Handling(self, message)
        try:
            with handling:
                result = await handler(payload, handling)
            return _new(Reply, (command.returns.dump(result), None))
        except HandledError as error:
            return _handled(error, command.address, message)
        except RunCancelledError as error:
            return Reply(error=ErrorReply("handled", "cancelled", f"the run was {error}"))
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and is_cut_off():
                raise
            logger.exception("command %s failed, run %s", command.address, handling.run_id)
            text = f"command '{command.address}' failed; its log has the details"
            return Reply(error=ErrorReply("unhandled", "internal", text))

    async def _subscribe(self, service: Service, declaration: SubscriptionDeclaration[Any]) -> None:
        event = declaration.event
        handler: EventHandler[Any] = declaration.handler
        if self.telemetry is not None:
            handler = self.telemetry.traced("handle", handler)
        handle = partial(self._handle, event, handler)
        subscriber = f"{service.id}.{declaration.name}"
        await self._receive(event.name, subscriber, handle, declaration.options)

    async def _handle(
        self, event: Event[Any], handler: EventHandler[Any], message: Message
    ) -> None:
        payload = event.schema.load(message.body)
        handling = Handling(self, message, ATTEMPT.get())
        try:
            with handling:
                await handler(payload, handling)
        except RunCancelledError:
            logger.info("event %s: run %s was cancelled", event.name, handling.run_id)

    async def _bind(self, service: Service, binding: Binding[Any, Any]) -> None:
        handle = partial(self._pass_on, binding)
        await self._receive(binding.event.name, f"{service.id}.{binding.name}", handle, DEFAULT)

    async def _pass_on(self, binding: Binding[Any, Any], message: Message) -> None:
        payload = binding.event.schema.load(message.body)
        mapped = payload if binding.map is None else binding.map(payload)
        body = binding.queue.schema.dump(mapped)
        key = None
        if binding.idempotency_key is not None:
            key = f"{binding.name}:{key_of(binding.idempotency_key, body)}"
        run = message.run and message.run._replace(is_target=False)
        job = Message(binding.queue.name, body, new_message_id(), run, message.headers)
        await self.queue_bridge.enqueue(Job(job, binding.queue.max_attempts, key=key))

    async def _receive(
        self, event: str, subscriber: str, receive: Receiver, options: SubscriptionOptions
    ) -> None:
        subscribe = self.event_bridge.subscribe
        self._subscriptions.append(await subscribe(event, subscriber, receive, options=options))

    async def _drained(self) -> None:
        """Wait until nothing is left in bridges that die with this process.

        Once both were empty without a handler having begun in between, no handler can send anything.
        """
        begun = -1
        while begun != self.begun:
            begun = self.begun
            for bridge in (self.event_bridge, self.queue_bridge):
                if isinstance(bridge, Drains):
                    await bridge.drained()
            await asyncio.sleep(0)

    async def _finished(self, workers: list[Worker], subscriptions: list[Subscription]) -> None:
        await asyncio.gather(
            *(worker.stop() for worker in workers),
            *(subscription.cancel() for subscription in subscriptions),
        )

    async def _by(self, end: float | None, work: Coroutine[Any, Any, None]) -> None:
        """Do the work until ``end``, in the event loop's time."""
        try:
            async with asyncio.timeout_at(end):
                await work
        except TimeoutError:
            logger.warning("not everything finished within the grace of %s", self.grace)


def error_of(error: ErrorReply) -> CommandError:
    """Return what the caller of a command gets for an error reply."""
    kinds: dict[str, type[CommandError]] = {
        "handled": HandledError,
        "invalid": HandledError,
        "unknown": UnknownCommandError,
    }
    return kinds.get(error.kind, UnhandledError)(error.code, error.message, error.data)


def _handled(error: HandledError, address: str, message: Message) -> Reply:
    try:
        json.dumps(error.data, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        logger.error(
            "command %s: the data of its error is no JSON, message %s", address, message.id
        )
        return Reply(error=ErrorReply("handled", error.code, error.message))
    return Reply(error=ErrorReply("handled", error.code, error.message, error.data))

"""A service: the messages, schedules and handlers that belong together.

Declaring collects; nothing runs here. What only a whole can show - a target that no handler serves -
is said by ``check``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypedDict, TypeVar, overload

from purista.context import Context
from purista.contract import (
    Backoff,
    Command,
    ConcurrencyWord,
    DstGapWord,
    DstOverlapWord,
    Event,
    MissedRunWord,
    Queue,
    Schedule,
    Target,
    count_problems,
    name_problems,
    near,
    raise_if,
    service_problems,
    target_kind,
)
from purista.errors import ContractError, Problem
from purista.expression import Expression
from purista.payload import Schema, key_problems
from purista.subscribing import DEFAULT, SubscriptionOptions

if TYPE_CHECKING:
    from typing import Required, Unpack

    from pydantic import TypeAdapter

    from purista.exclusion import DateRange, HolidayCalendar

    Excluded: TypeAlias = date | DateRange | HolidayCalendar | Mapping[date, str]

    class ScheduleOptions(TypedDict, total=False):
        """The options of a schedule; ``Schedule`` says what each means."""

        expression: Required[Expression]
        timezone: str
        concurrency_policy: ConcurrencyWord
        missed_run_policy: MissedRunWord
        max_catch_up: int
        catch_up_window: timedelta
        misfire_grace: timedelta
        jitter: timedelta
        start_at: datetime | None
        end_at: datetime | None
        exclude: Excluded | Iterable[Excluded]
        idempotency_key: str | None
        payload: Any
        completed_by: str | Event[Any] | None
        run_timeout: timedelta
        dedupe_window: timedelta
        enabled: bool
        dst_gap: DstGapWord
        dst_overlap: DstOverlapWord
        provider_hints: Mapping[str, Any]
        tags: Iterable[str]


T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")
D = TypeVar("D", Event[Any], Queue[Any], Command[Any, Any], Schedule)

EventHandler = Callable[[T, Context], Coroutine[Any, Any, None]]
JobHandler = Callable[[T, Context], Coroutine[Any, Any, None]]
CommandHandler = Callable[[T, Context], Coroutine[Any, Any, R]]

OPTIONS = frozenset(
    each.name
    for each in dataclasses.fields(Schedule)
    if each.name
    not in {"name", "description", "service_name", "service_version", "target", "stated"}
)


@dataclass(frozen=True, slots=True)
class SubscriptionDeclaration(Generic[T]):
    """A handler of an event, under a name that is its own on the bridge."""

    name: str
    event: Event[T]
    handler: EventHandler[T]
    options: SubscriptionOptions = DEFAULT


@dataclass(frozen=True, slots=True)
class WorkerDeclaration(Generic[T]):
    """A handler of a queue's jobs; ``concurrency`` is how many it works on at once per process."""

    queue: Queue[T]
    handler: JobHandler[T]
    concurrency: int


@dataclass(frozen=True, slots=True)
class HandlerDeclaration(Generic[T, R]):
    """The handler of a command."""

    command: Command[T, R]
    handler: CommandHandler[T, R]


@dataclass(frozen=True, slots=True)
class Binding(Generic[T, Q]):
    """Every event becomes a job; ``idempotency_key`` is a path into the job's payload."""

    name: str
    event: Event[T]
    queue: Queue[Q]
    map: Callable[[T], Q] | None
    idempotency_key: str | None


class Service:
    """Declares messages, schedules and handlers under a name and a version.

    >>> from purista import Cron
    >>> billing = Service("Billing", version="1")
    >>> due = billing.event("billing.due", dict)
    >>> billing.schedule("nightly").emit_event(due, expression=Cron("0 2 * * *")).id
    'Billing.v1.nightly'
    """

    def __init__(self, name: str, *, version: str = "1", description: str = "") -> None:
        raise_if(service_problems(name, version), within=f"service {name!r}")
        self.name = name
        self.version = version
        self.description = description
        self.events: dict[str, Event[Any]] = {}
        self.queues: dict[str, Queue[Any]] = {}
        self.commands: dict[str, Command[Any, Any]] = {}
        self.schedules: dict[str, Schedule] = {}
        self.subscriptions: dict[str, SubscriptionDeclaration[Any]] = {}
        self.workers: dict[str, WorkerDeclaration[Any]] = {}
        self.handlers: dict[str, HandlerDeclaration[Any, Any]] = {}
        self.bindings: dict[str, Binding[Any, Any]] = {}
        self.unfinished: list[ScheduleBuilder] = []

    def __repr__(self) -> str:
        return f"<Service {self.id}: {len(self.schedules)} schedules>"

    @property
    def id(self) -> str:
        """``name.v<version>``."""
        return f"{self.name}.v{self.version}"

    @overload
    def event(
        self, name: str, schema: type[T] | TypeAdapter[T] | Schema[T], *, external: bool = False
    ) -> Event[T]: ...
    @overload
    def event(self, name: str, schema: Any, *, external: bool = False) -> Event[Any]: ...
    def event(self, name: str, schema: Any, *, external: bool = False) -> Event[Any]:
        """Declare an event. Raises ``ContractError``."""
        event: Event[Any] = Event(
            name, schema, service_name=self.name, service_version=self.version, external=external
        )
        return self._declared(self.events, event, "event")

    @overload
    def queue(
        self,
        name: str,
        schema: type[T] | TypeAdapter[T] | Schema[T],
        *,
        max_attempts: int = ...,
        lease: timedelta = ...,
        backoff: Backoff | None = ...,
        external: bool = ...,
    ) -> Queue[T]: ...
    @overload
    def queue(
        self,
        name: str,
        schema: Any,
        *,
        max_attempts: int = ...,
        lease: timedelta = ...,
        backoff: Backoff | None = ...,
        external: bool = ...,
    ) -> Queue[Any]: ...
    def queue(
        self,
        name: str,
        schema: Any,
        *,
        max_attempts: int = 5,
        lease: timedelta = timedelta(seconds=30),
        backoff: Backoff | None = None,
        external: bool = False,
    ) -> Queue[Any]:
        """Declare a queue. Raises ``ContractError``."""
        queue: Queue[Any] = Queue(
            name,
            schema,
            max_attempts=max_attempts,
            lease=lease,
            backoff=backoff,
            service_name=self.name,
            service_version=self.version,
            external=external,
        )
        return self._declared(self.queues, queue, "queue")

    @overload
    def command(
        self,
        name: str,
        schema: type[T] | TypeAdapter[T] | Schema[T],
        *,
        returns: type[R] | TypeAdapter[R] | Schema[R],
        timeout: timedelta = ...,
        external: bool = ...,
    ) -> Command[T, R]: ...
    @overload
    def command(
        self,
        name: str,
        schema: type[T] | TypeAdapter[T] | Schema[T],
        *,
        returns: None = None,
        timeout: timedelta = ...,
        external: bool = ...,
    ) -> Command[T, None]: ...
    @overload
    def command(
        self,
        name: str,
        schema: Any,
        *,
        returns: Any = ...,
        timeout: timedelta = ...,
        external: bool = ...,
    ) -> Command[Any, Any]: ...
    def command(
        self,
        name: str,
        schema: Any,
        *,
        returns: Any = None,
        timeout: timedelta = timedelta(seconds=30),
        external: bool = False,
    ) -> Command[Any, Any]:
        """Declare a command; ``timeout`` is how long ``ctx.invoke`` waits. Raises ``ContractError``."""
        command: Command[Any, Any] = Command(
            name,
            schema,
            returns=returns,
            timeout=timeout,
            service_name=self.name,
            service_version=self.version,
            external=external,
        )
        return self._declared(self.commands, command, "command")

    def schedule(self, name: str, description: str = "") -> ScheduleBuilder:
        """Begin a schedule; its next word is the target."""
        builder = ScheduleBuilder(self, name, description)
        self.unfinished.append(builder)
        return builder

    def add_schedule(self, schedule: Schedule) -> Schedule:
        """Register a schedule that was built elsewhere; it becomes this service's.

        Returns the registered schedule, whose id carries this service's name. Raises ``ContractError``.
        """
        if not isinstance(schedule, Schedule):
            raise ContractError(
                [
                    Problem(
                        f"service '{self.id}'",
                        f"{type(schedule).__name__} is no Schedule",
                        "finish the builder with emit_event, enqueue or invoke_command",
                    )
                ]
            )
        if (schedule.service_name, schedule.service_version) != (self.name, self.version):
            schedule = dataclasses.replace(
                schedule, service_name=self.name, service_version=self.version
            )
        return self._declared(self.schedules, schedule, "schedule")

    def subscription(
        self,
        event: Event[T],
        *,
        name: str | None = None,
        every_instance: bool = False,
        ordered: bool = False,
        concurrency: int = DEFAULT.concurrency,
        max_attempts: int = DEFAULT.max_attempts,
        backoff: Backoff = DEFAULT.backoff,
        lease: timedelta = DEFAULT.lease,
    ) -> Callable[[EventHandler[T]], EventHandler[T]]:
        """Register the decorated function for an event, under its own name or ``name``.

        Each name gets every event once; replicas of the service share them, unless
        ``every_instance`` is set. ``SubscriptionOptions`` says what each option means. An event bridge
        that does not honour one refuses it at the start. Raises ``ContractError``.
        """
        options = SubscriptionOptions(
            every_instance=every_instance,
            ordered=ordered,
            concurrency=concurrency,
            max_attempts=max_attempts,
            backoff=backoff,
            lease=lease,
        )

        def register(handler: EventHandler[T]) -> EventHandler[T]:
            own = name if name is not None else _name_of(handler)
            place = f"service '{self.id}': subscription '{own}'"
            raise_if(
                [
                    *name_problems("name", own),
                    *_target_problems(event, Event, "subscription"),
                    *_handler_problems(handler),
                    *_taken_problems(own, [*self.subscriptions, *self.bindings]),
                ],
                within=place,
            )
            self.subscriptions[own] = SubscriptionDeclaration(own, event, handler, options)
            return handler

        return register

    def worker(
        self, queue: Queue[T], *, concurrency: int = 1
    ) -> Callable[[JobHandler[T]], JobHandler[T]]:
        """Register the decorated function for a queue's jobs: returning acks, raising nacks."""

        def register(handler: JobHandler[T]) -> JobHandler[T]:
            raise_if(
                [
                    *_target_problems(queue, Queue, "worker"),
                    *count_problems("concurrency", concurrency),
                    *_handler_problems(handler),
                    *_taken_problems(getattr(queue, "name", ""), self.workers),
                ],
                within=f"service '{self.id}': worker '{_name_of(handler)}'",
            )
            self.workers[queue.name] = WorkerDeclaration(queue, handler, concurrency)
            return handler

        return register

    def handles(
        self, command: Command[T, R]
    ) -> Callable[[CommandHandler[T, R]], CommandHandler[T, R]]:
        """Register the decorated function as the handler of this service's command."""

        def register(handler: CommandHandler[T, R]) -> CommandHandler[T, R]:
            found = [
                *_target_problems(command, Command, "handles"),
                *_handler_problems(handler),
            ]
            if not found:
                found += _taken_problems(command.name, self.handlers)
                if self.commands.get(command.name) is not command:
                    found.append(
                        Problem(
                            "command",
                            f"'{command.address}' is not declared by this service",
                            "a service handles its own commands only",
                        )
                    )
            raise_if(found, within=f"service '{self.id}': handler '{_name_of(handler)}'")
            self.handlers[command.name] = HandlerDeclaration(command, handler)
            return handler

        return register

    @overload
    def bind(
        self,
        event: Event[T],
        queue: Queue[T],
        *,
        idempotency_key: str | None = ...,
        name: str | None = ...,
    ) -> None: ...
    @overload
    def bind(
        self,
        event: Event[T],
        queue: Queue[Q],
        *,
        map: Callable[[T], Q],
        idempotency_key: str | None = ...,
        name: str | None = ...,
    ) -> None: ...
    def bind(
        self,
        event: Event[Any],
        queue: Queue[Any],
        *,
        map: Callable[[Any], Any] | None = None,  # noqa: A002 - the word people expect
        idempotency_key: str | None = None,
        name: str | None = None,
    ) -> None:
        """Turn every event into a job of ``queue``, its payload as it is or through ``map``.

        ``idempotency_key`` is a path into the job's payload (``payload.cycle_id``): a second event
        with the same value is not enqueued. Raises ``ContractError``.
        """
        wrong = [
            *_target_problems(event, Event, "event"),
            *_target_problems(queue, Queue, "queue"),
        ]
        raise_if(wrong, within=f"service '{self.id}': bind")
        own = name if name is not None else f"{event.name}-to-{queue.name}"
        found = [
            *name_problems("name", own),
            *_taken_problems(own, [*self.subscriptions, *self.bindings]),
        ]
        found += _map_problems(map)
        if idempotency_key is not None:
            found += key_problems(idempotency_key, queue.schema, "idempotency_key")
        raise_if(found, within=f"service '{self.id}': binding '{own}'")
        self.bindings[own] = Binding(own, event, queue, map, idempotency_key)

    def check(self) -> None:
        """Raise one ``ContractError`` with every mistake that only the whole service can show."""
        check(self)

    def problems(self) -> tuple[Problem, ...]:
        """Return every mistake that only the whole service can show."""
        return problems(self)

    def _declared(self, known: dict[str, D], value: D, kind: str) -> D:
        if value.name in known:
            raise ContractError(
                [
                    Problem(
                        f"service '{self.id}'",
                        f"{kind} '{value.name}' is declared twice",
                        "give each its own name",
                    )
                ]
            )
        known[value.name] = value
        return value


class ScheduleBuilder:
    """The first half of a schedule; each method names the target, builds it and registers it.

    A target is a declared message, or a name with ``payload_schema``. ``external=True`` says that its
    handler lives in another code base; ``target_service_name`` and ``target_service_version`` say in
    which service. Every method raises ``ContractError`` with all mistakes at once.
    """

    def __init__(self, service: Service, name: str, description: str = "") -> None:
        self._service = service
        self._name = name
        self._description = description

    def __repr__(self) -> str:
        return f"<unfinished schedule {self.id}>"

    @property
    def id(self) -> str:
        """The id of the schedule that it is to become."""
        return f"{self._service.id}.{self._name}"

    @overload
    def emit_event(self, event: Event[Any], **options: Unpack[ScheduleOptions]) -> Schedule: ...
    @overload
    def emit_event(
        self,
        event: str,
        *,
        payload_schema: Any = ...,
        external: bool = ...,
        target_service_name: str | None = ...,
        target_service_version: str | None = ...,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule: ...
    def emit_event(self, event: Event[Any] | str, **options: Any) -> Schedule:
        """Build a schedule that publishes an event."""
        return self._build(Event, event, options)

    @overload
    def enqueue(self, queue: Queue[Any], **options: Unpack[ScheduleOptions]) -> Schedule: ...
    @overload
    def enqueue(
        self,
        queue: str,
        *,
        payload_schema: Any = ...,
        external: bool = ...,
        target_service_name: str | None = ...,
        target_service_version: str | None = ...,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule: ...
    def enqueue(self, queue: Queue[Any] | str, **options: Any) -> Schedule:
        """Build a schedule that enqueues a job."""
        return self._build(Queue, queue, options)

    @overload
    def invoke_command(
        self, command: Command[Any, Any], **options: Unpack[ScheduleOptions]
    ) -> Schedule: ...
    @overload
    def invoke_command(
        self,
        command: str,
        *,
        payload_schema: Any = ...,
        external: bool = ...,
        target_service_name: str | None = ...,
        target_service_version: str | None = ...,
        **options: Unpack[ScheduleOptions],
    ) -> Schedule: ...
    def invoke_command(self, command: Command[Any, Any] | str, **options: Any) -> Schedule:
        """Build a schedule that invokes a command."""
        return self._build(Command, command, options)

    def _build(self, kind: type[Any], target: object, options: dict[str, Any]) -> Schedule:
        if self in self._service.unfinished:
            self._service.unfinished.remove(self)
        place = f"schedule '{self.id}'"
        found, resolved = self._resolve(kind, target, options)
        for option in sorted(options.keys() - OPTIONS):
            is_elsewhere = option == "description"
            remedy = "write schedule(name, description)" if is_elsewhere else near(option, OPTIONS)
            found.append(Problem(option, "unknown option", remedy))
        known = {name: value for name, value in options.items() if name in OPTIONS}
        if "expression" not in known:
            found.append(Problem("expression", "missing", "say when, such as Cron('0 2 1 * *')"))
        try:
            schedule = Schedule(
                name=self._name,
                description=self._description,
                service_name=self._service.name,
                service_version=self._service.version,
                target=resolved,
                stated=frozenset(known),
                **{"expression": None, **known},
            )
        except ContractError as error:
            raise_if(_merged(place, found, error.problems))
        raise_if(found, within=place)
        return self._service.add_schedule(schedule)

    def _resolve(
        self, kind: type[Any], target: object, options: dict[str, Any]
    ) -> tuple[list[Problem], Any]:
        """Turn what the author gave into a message of ``kind``, taking its words out of ``options``."""
        word = kind.__name__.lower()
        if not isinstance(target, str):
            return _target_problems(target, kind, word), target
        service = self._service
        declared = getattr(service, f"{word}s").get(target)
        own = {"payload_schema", "external", "target_service_name", "target_service_version"}
        given = {name: options.pop(name) for name in own & options.keys()}
        if declared is not None and not given:
            return [], declared
        arguments: dict[str, Any] = {
            "external": given.get("external", False),
            "service_name": given.get("target_service_name") or service.name,
            "service_version": given.get("target_service_version") or service.version,
        }
        if kind is Command:
            arguments["returns"] = object
        try:
            return [], kind(target, given.get("payload_schema", object), **arguments)
        except ContractError as error:
            return list(error.problems), None


def check(*services: Service) -> None:
    """Raise one ``ContractError`` with every mistake that only the services together can show."""
    raise_if(problems(*services))


def problems(*services: Service) -> tuple[Problem, ...]:
    """Return what only the services together can show: targets without a handler, schedules without a target."""
    return tuple(_all_problems(services))


def _all_problems(services: Iterable[Service]) -> Iterator[Problem]:
    every = list(services)
    ids = [service.id for service in every]
    for twice in sorted({one for one in ids if ids.count(one) > 1}):
        yield Problem(f"service '{twice}'", "is given twice", "give each its own name or version")
    served = _served(every)
    for service in every:
        for builder in service.unfinished:
            remedy = "finish it with emit_event, enqueue or invoke_command"
            yield Problem(f"schedule '{builder.id}'", "it has no target and never runs", remedy)
        for schedule in service.schedules.values():
            place = f"schedule '{schedule.id}': target"
            yield from _unserved(schedule.target, place, served)
        for binding in service.bindings.values():
            place = f"service '{service.id}': binding '{binding.name}'"
            yield from _unserved(binding.queue, place, served)


def serves(services: Iterable[Service], target: Target) -> bool:
    """Return whether a handler of the services takes what is sent to a target."""
    return _address(target) in _served(services)[target_kind(target)]


def _served(services: Iterable[Service]) -> dict[str, set[str]]:
    """Return the names of events and queues, and the addresses of commands, that have a handler."""
    every = list(services)
    events = {d.event.name for s in every for d in s.subscriptions.values()}
    events |= {binding.event.name for s in every for binding in s.bindings.values()}
    queues = {name for s in every for name in s.workers}
    commands = {d.command.address for s in every for d in s.handlers.values()}
    return {"event": events, "queue": queues, "command": commands}


def _address(target: Target) -> str:
    return target.address if isinstance(target, Command) else target.name


def _unserved(target: Target, place: str, known: Mapping[str, set[str]]) -> Iterator[Problem]:
    kind, name = target_kind(target), _address(target)
    served = known[kind]
    if target.external or name in served:
        return
    decorator = {"event": "subscription", "queue": "worker", "command": "handles"}[kind]
    remedy = (
        f"decorate a function with @service.{decorator}(...), check the serving service as well, "
        "or declare it with external=True"
    )
    close = near(name, served) if served else ""
    hint = f"{close} or " if close.startswith("did you mean") else ""
    yield Problem(place, f"no handler serves {kind} '{name}'", f"{hint}{remedy}")


def _merged(place: str, found: list[Problem], more: Iterable[Problem]) -> Iterator[Problem]:
    """Yield all problems once, without those that only follow from a missing option."""
    mine = {problem.place for problem in found}
    yield from (problem.within(place) for problem in found)
    for problem in more:
        option = problem.place.removeprefix(f"{place}: ").split(":")[0]
        if not ((option == "expression" and "expression" in mine) or (option == "target" and mine)):
            yield problem


def _target_problems(target: object, kind: type[Any], place: str) -> list[Problem]:
    if isinstance(target, kind):
        return []
    word = kind.__name__.lower()
    if isinstance(target, Event | Queue | Command):
        other = target_kind(target)
        verb = {"event": "emit_event", "queue": "enqueue", "command": "invoke_command"}[other]
        message = f"'{target.name}' is a {other}, not a {word}".replace("a event", "an event")
        return [Problem(place, message, f"a {other} goes with {verb}, worker, handles ...")]
    return [
        Problem(
            place,
            f"{type(target).__name__} is no {word}",
            f"declare one with service.{word}(name, schema)",
        )
    ]


def _map_problems(map_: object) -> list[Problem]:
    if map_ is None or callable(map_):
        return []
    return [Problem("map", f"{type(map_).__name__} cannot be called", "give a function")]


def _handler_problems(handler: Any) -> list[Problem]:
    if not inspect.iscoroutinefunction(handler) and not inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - a callable object may be async
    ):
        return [Problem("handler", "is not an async function", "write 'async def'")]
    try:
        inspect.signature(handler).bind(None, None)
    except TypeError:
        return [Problem("handler", "does not take two arguments", "write (payload, ctx)")]
    return []


def _taken_problems(name: str, known: Iterable[str]) -> list[Problem]:
    if name in known:
        return [Problem("name", f"'{name}' is taken", "each needs its own; rename the function")]
    return []


def _name_of(handler: object) -> str:
    return str(getattr(handler, "__name__", type(handler).__name__))

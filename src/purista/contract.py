"""The contract as frozen values: messages, policies, schedules.

A value that exists is right: every constructor here collects all its mistakes and raises one
``ContractError``. Nothing here knows the time of day or a broker.
"""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from purista import firetimes, nominaltimes, payload
from purista.errors import ContractError, Problem
from purista.exclusion import Exclusion, exclusions
from purista.expression import Cron, Every, Expression, Once
from purista.jsonvalue import json_problems
from purista.payload import Schema, Slot

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
R = TypeVar("R")

EXPRESSIONS: tuple[type[Any], ...] = (Cron, Every, Once)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*\Z")
SERVICE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
VERSION = re.compile(r"[A-Za-z0-9_-]+\Z")
MAX_ID_LENGTH = 200
"""Longest schedule id: with room for a suffix it fits Airflow's 250 and every file system's 255."""

SAMPLE_INSTANT = datetime(2027, 1, 1, tzinfo=UTC)
"""From here a schedule's sample nominal time is taken, to try its payload template."""


class ConcurrencyPolicy(StrEnum):
    """What happens when a run is due while another of its schedule is active."""

    ALLOW = "allow"
    FORBID = "forbid"
    REPLACE = "replace"


class MissedRunPolicy(StrEnum):
    """What happens to a trigger that arrives later than its grace."""

    SKIP = "skip"
    RUN_ONCE = "runOnce"
    CATCH_UP = "catchUp"


class DstGap(StrEnum):
    """What a fixed-time expression does at a local time that a clock change leaves out."""

    SKIP = "skip"
    NEXT = "next"
    SHIFT = "shift"


class DstOverlap(StrEnum):
    """What a fixed-time expression does at a local time that a clock change repeats."""

    FIRST = "first"
    LAST = "last"
    BOTH = "both"


ConcurrencyWord: TypeAlias = Literal["allow", "forbid", "replace"] | ConcurrencyPolicy
MissedRunWord: TypeAlias = Literal["skip", "runOnce", "catchUp"] | MissedRunPolicy
DstGapWord: TypeAlias = Literal["skip", "next", "shift"] | DstGap
DstOverlapWord: TypeAlias = Literal["first", "last", "both"] | DstOverlap
TargetKind: TypeAlias = Literal["event", "queue", "command"]


@dataclass(frozen=True, slots=True, init=False)
class Event(Generic[T]):
    """A message that any number of subscriptions receive.

    ``external`` says that its subscriptions live in another code base, so that ``check`` does not
    look for one.
    """

    name: str
    schema: Schema[T]
    service_name: str
    service_version: str
    external: bool

    def __init__(
        self,
        name: str,
        schema: type[T] | TypeAdapter[T] | Schema[T],
        *,
        service_name: str = "",
        service_version: str = "",
        external: bool = False,
    ) -> None:
        _set_message(self, "event", name, schema, service_name, service_version, external=external)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failed job waits: ``initial``, then ``factor`` times longer, up to ``maximum``.

    ``jitter`` spreads each delay evenly over that part of it to either side (0.1: plus or minus 10 %).
    """

    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    maximum: timedelta = timedelta(minutes=5)
    jitter: float = 0.1

    def __post_init__(self) -> None:
        raise_if(
            [
                *duration_problems("initial", self.initial, least=timedelta(0)),
                *duration_problems("maximum", self.maximum, least=timedelta(0)),
                *number_problems("factor", self.factor, least=1),
                *number_problems("jitter", self.jitter, least=0, most=1),
            ],
            within="backoff",
        )

    def delay(self, attempt: int, chance: float) -> timedelta:
        """Return the wait after failed attempt number ``attempt`` (from 1), for a chance in [0, 1).

        >>> Backoff(jitter=0).delay(3, 0.5)
        datetime.timedelta(seconds=4)
        """
        steps = min(attempt - 1, 64)
        seconds = min(
            self.initial.total_seconds() * self.factor**steps, self.maximum.total_seconds()
        )
        return timedelta(seconds=seconds * (1 + self.jitter * (2 * chance - 1)))


@dataclass(frozen=True, slots=True, init=False)
class Queue(Generic[T]):
    """A work queue: each job is worked on by one worker, and tried again when that fails.

    ``lease`` is how long a worker holds a job without a sign of life, ``max_attempts`` how often a
    job is tried before it becomes a dead letter, ``backoff`` how long it waits in between.
    """

    name: str
    schema: Schema[T]
    service_name: str
    service_version: str
    external: bool
    max_attempts: int
    lease: timedelta
    backoff: Backoff

    def __init__(
        self,
        name: str,
        schema: type[T] | TypeAdapter[T] | Schema[T],
        *,
        max_attempts: int = 5,
        lease: timedelta = timedelta(seconds=30),
        backoff: Backoff | None = None,
        service_name: str = "",
        service_version: str = "",
        external: bool = False,
    ) -> None:
        _set_message(
            self,
            "queue",
            name,
            schema,
            service_name,
            service_version,
            external=external,
            more=[
                *count_problems("max_attempts", max_attempts),
                *duration_problems("lease", lease, least=timedelta(milliseconds=1)),
            ],
        )
        object.__setattr__(self, "max_attempts", max_attempts)
        object.__setattr__(self, "lease", lease)
        object.__setattr__(self, "backoff", backoff or Backoff())


@dataclass(frozen=True, slots=True, init=False)
class Command(Generic[T, R]):
    """A request that one service answers.

    ``address`` is its name on the bridge: ``service.v<version>.name``.
    """

    name: str
    schema: Schema[T]
    service_name: str
    service_version: str
    external: bool
    returns: Schema[R]
    timeout: timedelta
    address: str

    def __init__(
        self,
        name: str,
        schema: type[T] | TypeAdapter[T] | Schema[T],
        *,
        returns: type[R] | TypeAdapter[R] | Schema[R],
        timeout: timedelta = timedelta(seconds=30),
        service_name: str = "",
        service_version: str = "",
        external: bool = False,
    ) -> None:
        _set_message(
            self,
            "command",
            name,
            schema,
            service_name,
            service_version,
            external=external,
            more=duration_problems("timeout", timeout, least=timedelta(milliseconds=1)),
        )
        answer: Schema[R] = _schema(returns)
        raise_if(answer.problems(), within=f"command '{name}': returns")
        object.__setattr__(self, "returns", answer)
        object.__setattr__(self, "timeout", timeout)
        object.__setattr__(self, "address", f"{service_name}.v{service_version}.{name}")


Target: TypeAlias = Event[Any] | Queue[Any] | Command[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When, what, and what must hold. See ``docs/contract.md`` for each option's meaning.

    Durations are ``timedelta``, instants aware ``datetime``; ``start_at`` and ``end_at`` are both
    inclusive, ``exclude`` names days on the zone's wall clock (see ``docs/time.md``). ``payload`` is a JSON template, ``idempotency_key`` a path into it
    (``payload.cycle_id``). ``stated`` names the options that the author wrote; it carries no meaning.

    Raises ``ContractError`` with every mistake at once.
    """

    name: str
    service_name: str
    service_version: str
    target: Target
    expression: Expression
    description: str = ""
    timezone: str = "UTC"
    concurrency_policy: ConcurrencyWord = ConcurrencyPolicy.ALLOW
    missed_run_policy: MissedRunWord = MissedRunPolicy.SKIP
    max_catch_up: int = 100
    catch_up_window: timedelta = timedelta(days=1)
    misfire_grace: timedelta = timedelta(minutes=10)
    jitter: timedelta = timedelta(0)
    start_at: datetime | None = None
    end_at: datetime | None = None
    exclude: tuple[Exclusion, ...] = ()
    idempotency_key: str | None = None
    payload: Any = None
    completed_by: str | None = None
    run_timeout: timedelta = timedelta(hours=1)
    dedupe_window: timedelta = timedelta(days=7)
    enabled: bool = True
    dst_gap: DstGapWord = DstGap.SKIP
    dst_overlap: DstOverlapWord = DstOverlap.FIRST
    provider_hints: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    stated: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def __post_init__(self) -> None:
        problems = list(_schedule_problems(self))
        samples = [_PLAIN_SAMPLE]
        if not problems:
            self._normalise()
            problems, samples = list(_time_problems(self)), _samples(self)
        problems += _payload_problems(self, samples)
        raise_if(problems, within=f"schedule '{self.id}'")
        object.__setattr__(self, "payload", copy.deepcopy(self.payload))

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def id(self) -> str:
        """``service.v<version>.name``."""
        return f"{self.service_name}.v{self.service_version}.{self.name}"

    @property
    def target_kind(self) -> TargetKind:
        """``event``, ``queue`` or ``command``."""
        return target_kind(self.target)

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the nominal times from ``start`` to ``end``, both inclusive, as UTC, lazily."""
        return nominaltimes.between(self, start, end)

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first nominal time after ``instant``, or None when there is none."""
        return nominaltimes.next_after(self, instant)

    def previous_before(self, instant: datetime) -> datetime | None:
        """Return the last nominal time before ``instant``, or None when there is none."""
        return nominaltimes.previous_before(self, instant)

    def contains(self, instant: datetime) -> bool:
        """Whether ``instant`` is one of the nominal times."""
        return nominaltimes.contains(self, instant)

    def count_between(self, start: datetime, end: datetime) -> int:
        """Return how many nominal times lie from ``start`` to ``end``, both inclusive."""
        return nominaltimes.count_between(self, start, end)

    def slot(self, nominal_time: datetime, run_id: str) -> Slot:
        """Return what the payload template may refer to at ``nominal_time``."""
        previous = None
        if payload.uses_previous(self.payload):
            previous = nominaltimes.previous_slot(self, nominal_time)
        return Slot(
            nominal_time=nominal_time,
            previous_nominal_time=previous,
            timezone=self.timezone,
            schedule_id=self.id,
            run_id=run_id,
        )

    def _normalise(self) -> None:
        words: dict[str, Any] = {
            "timezone": _zone_name(self.timezone),
            "exclude": exclusions(self.exclude)[0],
            "concurrency_policy": ConcurrencyPolicy(self.concurrency_policy),
            "missed_run_policy": MissedRunPolicy(self.missed_run_policy),
            "dst_gap": DstGap(self.dst_gap),
            "dst_overlap": DstOverlap(self.dst_overlap),
            "completed_by": getattr(self.completed_by, "name", self.completed_by),
            "provider_hints": copy.deepcopy(dict(self.provider_hints)),
            "tags": tuple(sorted(set(self.tags))),
        }
        for name, value in words.items():
            object.__setattr__(self, name, value)


def target_kind(target: Target) -> TargetKind:
    """Return the glossary's word for a target."""
    match target:
        case Event():
            return "event"
        case Queue():
            return "queue"
        case Command():
            return "command"


def raise_if(problems: Iterable[Problem], *, within: str = "") -> None:
    """Raise one ``ContractError`` with all problems, if there are any."""
    found = [problem.within(within) if within else problem for problem in problems]
    if found:
        raise ContractError(found)


def near(word: object, known: Iterable[str]) -> str:
    """Return a remedy that names the nearest known word, or all of them."""
    words = sorted(str(one) for one in known)
    match = difflib.get_close_matches(str(word), words, n=1)
    return f"did you mean '{match[0]}'?" if match else f"use one of: {', '.join(words)}"


def name_problems(place: str, name: object) -> list[Problem]:
    """Say what keeps ``name`` from being carried by every scheduler and broker."""
    if not isinstance(name, str) or not NAME.match(name) or name.endswith("."):
        return [
            Problem(
                place,
                f"{_shown(name)} is no name that every scheduler can carry",
                "start with a letter, then letters, digits, '_', '-' and '.'",
            )
        ]
    if len(name) > MAX_ID_LENGTH:
        return [Problem(place, f"{len(name)} characters are too long", f"use {MAX_ID_LENGTH}")]
    return []


def service_problems(name: object, version: object) -> list[Problem]:
    """Say what is wrong with a service's name or version; neither may hold a dot."""
    problems = []
    if not isinstance(name, str) or not SERVICE_NAME.match(name):
        problems.append(
            Problem(
                "service name",
                f"{_shown(name)} is no name that every scheduler can carry",
                "start with a letter, then letters, digits, '_' and '-'",
            )
        )
    if not isinstance(version, str) or not VERSION.match(version):
        problems.append(
            Problem(
                "service version",
                f"{_shown(version)} is no version",
                "use a text of letters, digits, '_' and '-', such as \"1\"",
            )
        )
    return problems


def duration_problems(place: str, value: object, *, least: timedelta) -> list[Problem]:
    """Say whether ``value`` is a duration of at least ``least``."""
    if not isinstance(value, timedelta):
        return [Problem(place, f"{type(value).__name__} is no duration", "use datetime.timedelta")]
    if value < least:
        return [Problem(place, f"{value} is too short", f"use at least {least}")]
    return []


def number_problems(
    place: str, value: object, *, least: float, most: float = float("inf")
) -> list[Problem]:
    """Say whether ``value`` is a number within bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [Problem(place, f"{type(value).__name__} is no number")]
    if not least <= value <= most:
        return [Problem(place, f"{value} is out of bounds", f"use {least} to {most}")]
    return []


def count_problems(place: str, value: object) -> list[Problem]:
    """Say whether ``value`` is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return [Problem(place, f"{_shown(value)} is no count", "use a whole number from 1")]
    return []


def word_problems(place: str, value: object, known: type[StrEnum]) -> list[Problem]:
    """Say whether ``value`` is one of the words of ``known``."""
    words = [str(word) for word in known]
    if isinstance(value, str) and value in words:
        return []
    return [Problem(place, f"unknown word {_shown(value)}", near(value, words))]


def instant_problems(place: str, value: object) -> list[Problem]:
    """Say whether ``value`` is an aware datetime."""
    if not isinstance(value, datetime):
        return [Problem(place, f"{type(value).__name__} is no instant", "use an aware datetime")]
    if value.utcoffset() is None:
        return [Problem(place, f"{value} is naive", "give it a zone, such as tzinfo=datetime.UTC")]
    return []


def _schedule_problems(schedule: Schedule) -> Iterator[Problem]:
    yield from service_problems(schedule.service_name, schedule.service_version)
    yield from name_problems("name", schedule.name)
    if len(schedule.id) > MAX_ID_LENGTH >= len(str(schedule.name)):
        yield Problem("name", f"the id has {len(schedule.id)} characters", f"use {MAX_ID_LENGTH}")
    yield from _kind_problems("description", schedule.description, str, "text")
    kinds = (Event, Queue, Command)
    yield from _kind_problems("target", schedule.target, kinds, "event, queue or command")
    if not isinstance(schedule.expression, EXPRESSIONS):
        yield Problem(
            "expression",
            f"{_shown(schedule.expression)} is no expression",
            "use Cron('0 2 1 * *'), Every(timedelta(...)) or Once(datetime(...))",
        )
    zone = _zone_name(schedule.timezone)
    yield from _at("timezone", firetimes.zone_problems(zone))
    yield from word_problems("concurrency_policy", schedule.concurrency_policy, ConcurrencyPolicy)
    yield from word_problems("missed_run_policy", schedule.missed_run_policy, MissedRunPolicy)
    yield from word_problems("dst_gap", schedule.dst_gap, DstGap)
    yield from word_problems("dst_overlap", schedule.dst_overlap, DstOverlap)
    yield from count_problems("max_catch_up", schedule.max_catch_up)
    none, least = timedelta(0), timedelta(milliseconds=1)
    yield from duration_problems("catch_up_window", schedule.catch_up_window, least=none)
    yield from duration_problems("misfire_grace", schedule.misfire_grace, least=none)
    yield from duration_problems("jitter", schedule.jitter, least=none)
    yield from duration_problems("run_timeout", schedule.run_timeout, least=least)
    yield from duration_problems("dedupe_window", schedule.dedupe_window, least=least)
    yield from _bounds_problems(schedule)
    yield from exclusions(schedule.exclude)[1]
    yield from _completed_by_problems(schedule)
    yield from _kind_problems("enabled", schedule.enabled, bool, "True or False")
    yield from _hint_problems(schedule.provider_hints)
    yield from _tag_problems(schedule.tags)


def _at(place: str, problems: Iterable[Problem]) -> Iterator[Problem]:
    for problem in problems:
        yield Problem(place, problem.message, problem.remedy)


def _kind_problems(
    place: str, value: object, kind: type[Any] | tuple[type[Any], ...], words: str
) -> list[Problem]:
    return [] if isinstance(value, kind) else [Problem(place, f"{_shown(value)} is no {words}")]


def _zone_name(zone: object) -> object:
    return zone.key if isinstance(zone, ZoneInfo) else zone


def _bounds_problems(schedule: Schedule) -> Iterator[Problem]:
    found = []
    for place, value in (("start_at", schedule.start_at), ("end_at", schedule.end_at)):
        if value is not None:
            found += instant_problems(place, value)
    yield from found
    start, end = schedule.start_at, schedule.end_at
    if not found and start is not None and end is not None and end < start:
        yield Problem("end_at", f"{end.isoformat()} is before start_at {start.isoformat()}")


def _completed_by_problems(schedule: Schedule) -> Iterator[Problem]:
    completed_by = schedule.completed_by
    if completed_by is None:
        return
    if not isinstance(schedule.target, Event):
        yield Problem(
            "completed_by", "only an event needs it", "a queue job and a command end by themselves"
        )
    name = getattr(completed_by, "name", completed_by)
    yield from name_problems("completed_by", name)
    if name == getattr(schedule.target, "name", None):
        yield Problem("completed_by", "the event that starts the run cannot end it")


def _hint_problems(hints: object) -> Iterator[Problem]:
    if not isinstance(hints, Mapping) or not all(isinstance(key, str) for key in hints):
        yield Problem("provider_hints", "not a mapping of texts to JSON values")
        return
    try:
        json.dumps(dict(hints), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        yield Problem("provider_hints", "holds what JSON cannot say", "use texts, numbers, lists")


def _tag_problems(tags: object) -> Iterator[Problem]:
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        yield Problem("tags", f"{_shown(tags)} is no list of texts", 'write tags=["nightly"]')
        return
    for tag in tags:
        yield from name_problems("tags", tag)


def _time_problems(schedule: Schedule) -> Iterator[Problem]:
    if schedule.start_at is None and schedule.end_at is None and not schedule.exclude:
        return
    first = schedule.start_at or firetimes.EARLIEST
    last = schedule.end_at or firetimes.LATEST
    if next(iter(schedule.between(first, last)), None) is None:
        message = "no nominal time is left between start_at, end_at and exclude"
        yield Problem("expression", message, "widen the bounds or exclude less")


def _payload_problems(schedule: Schedule, samples: list[Slot]) -> Iterator[Problem]:
    schema = getattr(schedule.target, "schema", None)
    if schema is None:
        return
    broken = list(json_problems(schedule.payload, "payload"))
    if broken:
        yield from broken
    else:
        yield from payload.template_problems(schedule.payload, schema, samples, "payload")
    if schedule.idempotency_key is not None:
        yield from payload.key_problems(schedule.idempotency_key, schema, "idempotency_key")


def _samples(schedule: Schedule) -> list[Slot]:
    if any(json_problems(schedule.payload)):
        return [_PLAIN_SAMPLE]
    nominal = schedule.next_after(SAMPLE_INSTANT) or schedule.previous_before(SAMPLE_INSTANT)
    return [schedule.slot(nominal or SAMPLE_INSTANT, _PLAIN_SAMPLE.run_id)]


def _set_message(
    message: object,
    kind: TargetKind,
    name: str,
    schema: object,
    service_name: str,
    service_version: str,
    *,
    external: bool,
    more: Iterable[Problem] = (),
) -> None:
    known: Schema[Any] = _schema(schema)
    problems = [*name_problems("name", name), *more, *_at("schema", known.problems())]
    raise_if(problems, within=f"{kind} {_shown(name)}")
    object.__setattr__(message, "name", name)
    object.__setattr__(message, "schema", known)
    object.__setattr__(message, "service_name", service_name)
    object.__setattr__(message, "service_version", service_version)
    object.__setattr__(message, "external", external)


_PLAIN_SAMPLE = Slot(
    nominal_time=SAMPLE_INSTANT,
    previous_nominal_time=SAMPLE_INSTANT - timedelta(days=31),
    timezone="UTC",
    schedule_id="service.v1.name",
    run_id="00000000-0000-8000-8000-000000000000",
)
"""Stands in where a schedule's own times cannot be asked for."""


def _schema(schema: Any) -> Schema[Any]:
    return schema if isinstance(schema, Schema) else Schema(schema)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

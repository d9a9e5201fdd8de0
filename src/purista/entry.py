"""One schedule, one message or one service as an entry of the manifest, and back.

Writing gives plain JSON data. Reading gives what the contract's constructors want, each value read
and none checked against another yet. Both raise ``WrongValueError`` with every mistake at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from purista.column import MESSAGE_COLUMNS, SCHEDULE_COLUMNS, Column
from purista.contract import (
    Command,
    Schedule,
    Target,
    TargetKind,
    near,
    target_kind,
)
from purista.errors import Problem
from purista.meaning import TargetFacts
from purista.service import Service
from purista.wire import (
    WrongValueError,
    fields,
    inside,
    name,
    record,
    schema,
    service_name,
    service_version,
    shown,
    text,
    wrong,
)

KINDS: Mapping[TargetKind, str] = {"event": "events", "queue": "queues", "command": "commands"}
"""Kinds of messages, and the list of a service that holds them."""


class ReadSchedule(NamedTuple):
    """A schedule as it was read; ``options`` by attribute, only those that were given."""

    service_name: str
    service_version: str
    name: str
    target: TargetFacts
    options: dict[str, Any]

    @property
    def id(self) -> str:
        """The schedule's id."""
        return f"{self.service_name}.v{self.service_version}.{self.name}"


class ReadMessage(NamedTuple):
    """A declared message as it was read; ``returns`` is the JSON Schema of a command's answer."""

    facts: TargetFacts
    returns: Mapping[str, Any]


class ReadService(NamedTuple):
    """A service as it was read, with its messages."""

    name: str
    version: str
    description: str
    messages: list[ReadMessage]


def schedule_entry(schedule: Schedule, fingerprint: str) -> dict[str, Any]:
    """Write a schedule; defaults are written out, what is None is left out."""
    target = schedule.target
    made: dict[str, Any] = {
        "id": schedule.id,
        "name": schedule.name,
        "serviceName": schedule.service_name,
        "serviceVersion": schedule.service_version,
        "fingerprint": fingerprint,
        "targetKind": target_kind(target),
        "targetName": target.name,
        **target_service(target.service_name, target.service_version),
        "payloadSchema": target.schema.document,
        **_written(schedule, SCHEDULE_COLUMNS),
    }
    options = _written(target, MESSAGE_COLUMNS[target_kind(target)])
    return made | ({"targetOptions": options} if options else {})


def target_service(service: str, version: str) -> dict[str, str]:
    """Write the service of a target, where it is known."""
    known = {"targetServiceName": service, "targetServiceVersion": version}
    return {field: value for field, value in known.items() if value}


def service_entry(service: Service) -> dict[str, Any]:
    """Write a service and the messages that it declares."""
    made: dict[str, Any] = {
        "name": service.name,
        "version": service.version,
        "description": service.description,
    }
    for plural in KINDS.values():
        messages: Mapping[str, Target] = getattr(service, plural)
        made[plural] = [_message_entry(messages[each]) for each in sorted(messages)]
    return made


def read_schedule(entry: Mapping[str, Any]) -> ReadSchedule:
    """Read a schedule."""
    readers = {**_IDENTITY, **{each.name: each.read for each in SCHEDULE_COLUMNS}}
    found, target = _both(
        lambda: fields(entry, readers, _REQUIRED),
        lambda: _target(entry),
    )
    service = found.get("serviceName", target.service_name)
    version = found.get("serviceVersion", target.service_version)
    if not service or not version:
        remedy = "name the service, or that of the target (targetServiceName and -Version)"
        raise wrong("name and version are missing", remedy, "serviceName")
    options = {each.attribute: found[each.name] for each in SCHEDULE_COLUMNS if each.name in found}
    read = ReadSchedule(service, version, found["name"], target, options)
    if found.get("id", read.id) != read.id:
        raise wrong(f"{shown(found['id'])} is another schedule's", f"write '{read.id}'", "id")
    return read


def read_service(entry: Any) -> ReadService:
    """Read a service."""
    given = record(entry)
    required = {"name": "name the service", "version": "write a text, such as '1'"}
    found, messages = _both(lambda: fields(given, _SERVICE, required), lambda: _messages(given))
    owner = {"service_name": found["name"], "service_version": found["version"]}
    owned = [each._replace(facts=each.facts._replace(**owner)) for each in messages]
    return ReadService(found["name"], found["version"], found.get("description", ""), owned)


def unknown_fields(entry: Mapping[str, Any], known: Iterable[str]) -> list[tuple[str, str]]:
    """Return each field that has no meaning here, with the one that its author may mean, or ''."""
    names = set(known)
    found = []
    for field in sorted(entry.keys() - names):
        remedy = near(field, names)
        found.append((field, remedy if remedy.startswith("did you mean") else ""))
    return found


def _written(owner: Schedule | Target, columns: Iterable[Column]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    problems: list[Problem] = []
    for column in columns:
        value = getattr(owner, column.attribute)
        if value is None:
            continue
        try:
            made[column.name] = column.write(value)
        except WrongValueError as error:
            problems += [inside(column.attribute, each) for each in error.problems]
    if problems:
        raise WrongValueError(problems)
    return made


def _message_entry(message: Target) -> dict[str, Any]:
    made: dict[str, Any] = {"name": message.name, "payloadSchema": message.schema.document}
    if isinstance(message, Command):
        made["returnsSchema"] = message.returns.document
    try:
        return made | _written(message, MESSAGE_COLUMNS[target_kind(message)])
    except WrongValueError as error:
        place = f"{target_kind(message)} '{message.name}'"
        raise WrongValueError(each.within(place) for each in error.problems) from None


def _both(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what both give; raise one error with the problems of both."""
    found: list[Any] = []
    problems: list[Problem] = []
    for read in (first, second):
        try:
            found.append(read())
        except WrongValueError as error:
            problems += error.problems
    if problems:
        raise WrongValueError(problems)
    return found[0], found[1]


def _target(entry: Mapping[str, Any]) -> TargetFacts:
    found = fields(entry, _TARGET, _TARGET_REQUIRED)
    kind: TargetKind = found["targetKind"]
    try:
        options = _read(MESSAGE_COLUMNS[kind], found.get("targetOptions", {}))
    except WrongValueError as error:
        raise WrongValueError(inside("targetOptions", each) for each in error.problems) from None
    service = (found.get("targetServiceName", ""), found.get("targetServiceVersion", ""))
    document = found.get("payloadSchema", {})
    return TargetFacts(kind, found["targetName"], *service, document, options)


def _messages(given: Mapping[str, Any]) -> list[ReadMessage]:
    found: list[ReadMessage] = []
    problems: list[Problem] = []
    for kind, plural in KINDS.items():
        entries = given.get(plural, [])
        if not isinstance(entries, list):
            problems.append(Problem(plural, f"{shown(entries)} is no list"))
            continue
        for index, entry in enumerate(entries):
            try:
                found.append(_message(kind, record(entry)))
            except WrongValueError as error:
                problems += [inside(f"{plural}[{index}]", each) for each in error.problems]
    met = Counter((each.facts.kind, each.facts.name) for each in found)
    for (kind, known), times in sorted(met.items()):
        if times > 1:
            problems.append(Problem(KINDS[kind], f"{kind} '{known}' is there twice"))
    if problems:
        raise WrongValueError(problems)
    return found


def _message(kind: TargetKind, entry: Mapping[str, Any]) -> ReadMessage:
    found, options = _both(
        lambda: fields(entry, _MESSAGE, {"name": f"name the {kind}"}),
        lambda: _read(MESSAGE_COLUMNS[kind], entry),
    )
    facts = TargetFacts(kind, found["name"], "", "", found.get("payloadSchema", {}), options)
    return ReadMessage(facts, found.get("returnsSchema", {}))


def _read(columns: tuple[Column, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    found = fields(given, {each.name: each.read for each in columns})
    return {each.attribute: found[each.name] for each in columns if each.name in found}


def _kind(value: Any) -> TargetKind:
    for kind in KINDS:
        if value == kind:
            return kind
    raise wrong(f"unknown word {shown(value)}", near(value, KINDS))


Readers = Mapping[str, Callable[[Any], Any]]

_IDENTITY: Readers = {
    "id": text,
    "name": name,
    "serviceName": service_name,
    "serviceVersion": service_version,
    "fingerprint": text,
}
_REQUIRED = {"name": "name the schedule", "expression": "say when"}
_TARGET_REQUIRED = {
    "targetKind": "use one of: command, event, queue",
    "targetName": "name the event, queue or command",
}
_TARGET: Readers = {
    "targetKind": _kind,
    "targetName": name,
    "targetServiceName": service_name,
    "targetServiceVersion": service_version,
    "targetOptions": record,
    "payloadSchema": schema,
}
_SERVICE: Readers = {"name": service_name, "version": service_version, "description": text}
_MESSAGE: Readers = {"name": name, "payloadSchema": schema, "returnsSchema": schema}

SCHEDULE_FIELDS = frozenset({*_IDENTITY, *_TARGET, *(each.name for each in SCHEDULE_COLUMNS)})
"""The names of all fields of a schedule's entry."""

SERVICE_FIELDS = frozenset({*_SERVICE, *KINDS.values()})
"""The names of all fields of a service's entry."""


def message_fields(kind: TargetKind) -> frozenset[str]:
    """Return the names of all fields of a message's entry."""
    return frozenset({*_MESSAGE, *(each.name for each in MESSAGE_COLUMNS[kind])})

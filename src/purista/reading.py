"""Reading a manifest: text in, JSON data in normal form and notes out, or every mistake at once.

The normal form has every default written out, ids and fingerprints filled in, lists sorted. What a
newer minor version added is kept where it was.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from purista import shape
from purista.column import MESSAGE_COLUMNS, SCHEDULE_COLUMNS, Column
from purista.contract import Backoff, Command, Queue, Schedule, TargetKind
from purista.entry import (
    KINDS,
    SCHEDULE_FIELDS,
    SERVICE_FIELDS,
    ReadMessage,
    ReadSchedule,
    ReadService,
    message_fields,
    read_schedule,
    read_service,
    target_service,
    unknown_fields,
)
from purista.errors import ManifestError, Problem
from purista.jsonvalue import MAX_DEPTH, NotJsonError, compact, json_problems, read_document
from purista.meaning import fingerprint_of
from purista.original import ORIGINAL_FIELDS, converted, is_original
from purista.wire import EXPRESSION_FIELDS, WrongValueError, inside, record, shown

MANIFEST_VERSION = "1.0"
"""The version of the form that is written. Another major number is another form."""

_MAJOR, _MINOR = 1, 0
_VERSION = re.compile(r"(\d{1,9})\.(\d{1,9})")
_FIELDS = frozenset({"manifestVersion", "title", "version", "tzdata", "services", "schedules"})


def read_manifest(text: str | bytes) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Return the normal form and the notes. Raises ``ManifestError``."""
    document = _document(text)
    reading = _Reading()
    if is_original(document):
        document, problems, notes = converted(document)
        reading.problems += problems
        reading.notes += notes
        document["manifestVersion"] = MANIFEST_VERSION
    else:
        reading.keeps_all = _is_newer(document["manifestVersion"])
    made = reading.manifest(document)
    if reading.problems:
        raise ManifestError(reading.problems)
    return made, tuple(reading.notes)


def _document(text: str | bytes) -> dict[str, Any]:
    try:
        document = read_document(text)
    except NotJsonError as error:
        reason = str(error)
    else:
        found = list(() if _is_sound(document) else json_problems(document))
        if found:
            raise ManifestError(Problem(each.place[:80], each.message) for each in found)
        if isinstance(document, dict):
            return document
        reason = f"{shown(document)} is no object"
    raise ManifestError([Problem("manifest", reason, "export it anew")])


def _is_sound(document: Any) -> bool:
    """Whether what was read has no problems as JSON data; the fast answer, for large documents."""
    containers: list[Any] = [[document]]
    for _ in range(MAX_DEPTH):
        containers = [
            each
            for container in containers
            for each in (container.values() if isinstance(container, dict) else container)
            if isinstance(each, dict | list)
        ]
        if not containers:
            break
    try:
        compact(document)
    except ValueError:
        return False
    return not containers


def _is_newer(version: Any) -> bool:
    """Whether the form has fields that are unknown here; another major version is refused."""
    match = _VERSION.fullmatch(version) if isinstance(version, str) else None
    if match is None:
        message = f"{shown(version)} is no version"
        raise ManifestError([Problem("manifestVersion", message, f"write '{MANIFEST_VERSION}'")])
    major, minor = int(match[1]), int(match[2])
    if major != _MAJOR:
        message = f"version {version} is another form than {MANIFEST_VERSION}"
        remedy = "install a newer purista" if major > _MAJOR else "export it anew"
        raise ManifestError([Problem("manifestVersion", message, remedy)])
    return minor > _MINOR


class _Reading:
    """One reading: it collects problems and notes on its way through the document."""

    def __init__(self) -> None:
        self.keeps_all = False
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []

    def manifest(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the normal form of all."""
        made = dict(document)
        self._look_for_unknown(document, _FIELDS, "")
        for name in ("title", "version", "tzdata"):
            if document.get(name) is None:
                made.pop(name, None)
            elif not isinstance(document[name], str):
                self.problems.append(Problem(name, f"{shown(document[name])} is no text"))
        made["services"] = self._services(document.get("services", []))
        if "schedules" not in document:
            self.problems.append(Problem("schedules", "missing", "write a list, if need be '[]'"))
        made["schedules"] = self._schedules(document.get("schedules", []))
        return made

    def _services(self, entries: Any) -> list[dict[str, Any]]:
        made: dict[tuple[str, str], dict[str, Any]] = {}
        for place, entry in self._items("services", entries):
            self._look_at_service(entry, place)
            read = self._read(place, lambda entry=entry: read_service(entry))
            if read is None:
                continue
            if (read.name, read.version) in made:
                self.problems.append(
                    Problem(place, f"'{read.name}.v{read.version}' is there twice")
                )
            made[read.name, read.version] = _normal_service(read, entry)
        return [made[key] for key in sorted(made)]

    def _schedules(self, entries: Any) -> list[dict[str, Any]]:
        made: dict[str, dict[str, Any]] = {}
        for place, entry in self._items("schedules", entries):
            self._look_at_schedule(entry, place)
            read = self._read(place, lambda entry=entry: read_schedule(record(entry)))
            if read is None:
                continue
            if read.id in made:
                remedy = "give each its own name"
                self.problems.append(Problem(place, f"'{read.id}' is there twice", remedy))
            made[read.id] = self._schedule(read, entry, place)
        return [made[key] for key in sorted(made)]

    def _schedule(self, read: ReadSchedule, entry: dict[str, Any], place: str) -> dict[str, Any]:
        made = _normal_schedule(read, entry)
        self._settle_fingerprint(made, entry, place)
        if "payload" not in made and _demands_fields(read.target.document):
            message = "there is no template, and the payload schema demands fields"
            remedy = "every trigger has to bring the payload as its data, or add a template"
            self.notes.append(Problem(f"{place}.payload", message, remedy))
        return made

    def _settle_fingerprint(self, made: dict[str, Any], entry: Any, place: str) -> None:
        """Keep that of a newer version, which knows more fields; correct that of an edited entry."""
        given = entry.get("fingerprint") or made["fingerprint"]
        if self.keeps_all:
            made["fingerprint"] = given
        elif given != made["fingerprint"]:
            message = f"{shown(given)} is not that of the schedule, which was changed since"
            remedy = f"it is '{made['fingerprint']}' now"
            self.notes.append(Problem(f"{place}.fingerprint", message, remedy))

    def _items(self, name: str, entries: Any) -> Iterator[tuple[str, Any]]:
        if not isinstance(entries, list):
            self.problems.append(Problem(name, f"{shown(entries)} is no list"))
            return
        for index, entry in enumerate(entries):
            yield f"{name}[{index}]", entry

    def _read(self, place: str, read: Any) -> Any:
        try:
            return read()
        except WrongValueError as error:
            self.problems += [inside(place, problem) for problem in error.problems]
            return None

    def _look_at_service(self, entry: Any, place: str) -> None:
        self._look_for_unknown(entry, SERVICE_FIELDS, place)
        for kind, plural in KINDS.items():
            messages = entry.get(plural) if isinstance(entry, dict) else None
            for index, each in enumerate(messages if isinstance(messages, list) else ()):
                self._look_for_unknown(each, message_fields(kind), f"{place}.{plural}[{index}]")

    def _look_at_schedule(self, entry: Any, place: str) -> None:
        self._look_for_unknown(entry, SCHEDULE_FIELDS, place)
        if not isinstance(entry, dict):
            return
        for kind, known in EXPRESSION_FIELDS.items():
            expression = entry.get("expression")
            if isinstance(expression, dict) and expression.get("kind") == kind:
                self._look_for_unknown(expression, known, f"{place}.expression")
        for kind, columns in MESSAGE_COLUMNS.items():
            if entry.get("targetKind") == kind:
                names = {each.name for each in columns}
                self._look_for_unknown(entry.get("targetOptions"), names, f"{place}.targetOptions")

    def _look_for_unknown(self, entry: Any, known: Iterable[str], place: str) -> None:
        """A field that looks like a slip is a problem; any other is kept, and noted."""
        if not isinstance(entry, dict):
            return
        for name, remedy in unknown_fields(entry, known):
            if name in ORIGINAL_FIELDS or name.startswith("x-"):
                continue
            where = f"{place}.{name}" if place else name
            if remedy and not self.keeps_all:
                self.problems.append(Problem(where, "unknown field", remedy))
            else:
                self.notes.append(Problem(where, "unknown field; it is kept and has no effect"))


def _normal_schedule(read: ReadSchedule, entry: Mapping[str, Any]) -> dict[str, Any]:
    options = {each.attribute: _default(each) for each in SCHEDULE_COLUMNS} | read.options
    target = read.target._replace(options=_with_defaults(read.target.kind, read.target.options))
    written = {
        each.name: each.write(options[each.attribute])
        for each in SCHEDULE_COLUMNS
        if options[each.attribute] is not None
    }
    written |= {
        "id": read.id,
        "serviceName": read.service_name,
        "serviceVersion": read.service_version,
        **target_service(target.service_name, target.service_version),
        "payloadSchema": dict(target.document),
    }
    if target.options:
        written["targetOptions"] = _written(target.kind, target.options)
    made = _kept(entry, written)
    made["fingerprint"] = fingerprint_of(read.id, target, options)
    return made


def _normal_service(read: ReadService, entry: dict[str, Any]) -> dict[str, Any]:
    made = entry | {"description": read.description}
    for kind, plural in KINDS.items():
        known = {each.facts.name: each for each in read.messages if each.facts.kind == kind}
        given = {each["name"]: each for each in entry.get(plural) or ()}
        made[plural] = [_normal_message(known[name], given[name]) for name in sorted(known)]
    return made


def _normal_message(read: ReadMessage, entry: Mapping[str, Any]) -> dict[str, Any]:
    kind = read.facts.kind
    options = _with_defaults(kind, read.facts.options)
    written = {"payloadSchema": dict(read.facts.document), **_written(kind, options)}
    written |= {"returnsSchema": dict(read.returns)} if kind == "command" else {}
    return _kept(entry, written)


def _with_defaults(kind: TargetKind, options: Mapping[str, Any]) -> dict[str, Any]:
    return _MESSAGE_DEFAULTS[kind] | dict(options)


def _written(kind: TargetKind, options: Mapping[str, Any]) -> dict[str, Any]:
    return {each.name: each.write(options[each.attribute]) for each in MESSAGE_COLUMNS[kind]}


def _kept(given: Mapping[str, Any], written: dict[str, Any]) -> dict[str, Any]:
    """Return what was written with all fields beside it that only the given object has."""
    more = {
        name: value for name, value in given.items() if name not in written and value is not None
    }
    return more | {name: _kept_inside(given.get(name), value) for name, value in written.items()}


def _kept_inside(given: Any, written: Any) -> Any:
    if given == written:
        return written
    if isinstance(given, dict) and isinstance(written, dict):
        return _kept(given, written)
    if isinstance(given, list) and isinstance(written, list) and len(given) == len(written):
        return [
            _kept(old, new) if _is_same_entry(old, new) else new
            for old, new in zip(given, written, strict=True)
        ]
    return written


def _is_same_entry(given: Mapping[str, Any], written: Mapping[str, Any]) -> bool:
    """Whether the given object says all that was written, which sorting may have moved."""
    return all(given.get(name) == value for name, value in written.items())


def _default(column: Column) -> Any:
    return _DEFAULTS.get(column.attribute)


def _of_constructor(kind: TargetKind, defaults: Mapping[str, Any] | None) -> dict[str, Any]:
    return {each.attribute: defaults[each.attribute] for each in MESSAGE_COLUMNS[kind] if defaults}


_DEFAULTS = {
    each.name: each.default
    for each in dataclasses.fields(Schedule)
    if each.default is not dataclasses.MISSING
} | {"provider_hints": {}}

_MESSAGE_DEFAULTS: Mapping[TargetKind, dict[str, Any]] = {
    "event": {},
    "queue": _of_constructor("queue", Queue.__init__.__kwdefaults__) | {"backoff": Backoff()},
    "command": _of_constructor("command", Command.__init__.__kwdefaults__),
}


def _demands_fields(document: Mapping[str, Any]) -> bool:
    ways = shape.alternatives(document, document)
    kinds = shape.types(ways)
    return all(way.get("required") for way in ways) or not kinds & {"object", "null", "any"}

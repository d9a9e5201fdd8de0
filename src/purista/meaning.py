"""The fingerprint of a schedule: it changes exactly when the meaning changes.

Meant are its id, its target with the target's options and payload schema, and every option but the
description and the hints for providers. Not meant is how an author spells it: a cron text, the order
of keys, titles and descriptions in a schema, the names of the classes behind it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from purista.column import MESSAGE_COLUMNS, SCHEDULE_COLUMNS
from purista.contract import Backoff, Schedule, Target, TargetKind, target_kind
from purista.exclusion import excluded_rows
from purista.expression import Cron, Every, Once
from purista.jsonvalue import compact
from purista.payload import rfc3339
from purista.shape import resolved
from purista.wire import anything

LENGTH = 16
"""How many hexadecimal digits a fingerprint has."""

SchemaMeaning = Callable[[Mapping[str, Any]], Any]


def fingerprint(schedule: Schedule) -> str:
    """Return 16 hexadecimal digits that stand for what the schedule means."""
    return fingerprint_of_schedule(schedule, meaning_of_schema)


def fingerprint_of_schedule(schedule: Schedule, schema_meaning: SchemaMeaning) -> str:
    """Return the fingerprint; ``schema_meaning`` may remember what ``meaning_of_schema`` gave."""
    options = {each.attribute: getattr(schedule, each.attribute) for each in SCHEDULE_COLUMNS}
    return fingerprint_of(
        schedule.id, target_facts(schedule.target), options, schema_meaning=schema_meaning
    )


class TargetFacts(NamedTuple):
    """What there is to know about a message, without the types of Python.

    ``document`` is the JSON Schema of its payload, ``options`` are its further options by attribute.
    """

    kind: TargetKind
    name: str
    service_name: str
    service_version: str
    document: Mapping[str, Any]
    options: Mapping[str, Any]


def target_facts(target: Target) -> TargetFacts:
    """Return what there is to know about a message."""
    kind = target_kind(target)
    options = {each.attribute: getattr(target, each.attribute) for each in MESSAGE_COLUMNS[kind]}
    service = (target.service_name, target.service_version)
    return TargetFacts(kind, target.name, *service, target.schema.document, options)


def fingerprint_of(
    schedule_id: str,
    target: TargetFacts,
    options: Mapping[str, Any],
    *,
    schema_meaning: SchemaMeaning | None = None,
) -> str:
    """Return the fingerprint of a schedule given by its parts, its options by attribute.

    ``schema_meaning`` may be a version of the function of that name that remembers its answers.
    """
    told = {
        each.name: _TOLD_AS.get(each.attribute, _told)(options[each.attribute])
        for each in SCHEDULE_COLUMNS
        if each.meant and options[each.attribute] is not None
    }
    if not told["exclusions"]:
        del told["exclusions"]
    told["id"] = schedule_id
    told["target"] = {
        "kind": target.kind,
        "name": target.name,
        "options": {name: _told(value) for name, value in target.options.items()},
        "schema": (schema_meaning or meaning_of_schema)(target.document),
        "service": [target.service_name, target.service_version],
    }
    return hashlib.sha256(compact(told, sort_keys=True)).hexdigest()[:LENGTH]


def meaning_of_schema(document: Mapping[str, Any]) -> Any:
    """Return what a JSON Schema demands, without words for people and names for definitions."""
    reader = _Schemas(document)
    root = reader.meaning(document)
    return [root, *reader.definitions()]


def _told(value: Any) -> Any:
    match value:
        case Cron() | Every() | Once():
            return value.meaning
        case timedelta():
            return value // timedelta(microseconds=1)
        case datetime():
            return rfc3339(value)
        case Enum():
            return value.value
        case Backoff():
            numbers = [float(value.factor), float(value.jitter)]
            return [_told(value.initial), _told(value.maximum), *numbers]
        case _:
            return value


def _told_days(value: Any) -> list[list[str]]:
    return [[str(first), str(last)] for first, last in excluded_rows(value)]


_TOLD_AS: Mapping[str, Callable[[Any], Any]] = {"exclude": _told_days, "payload": anything}

_FOR_PEOPLE = frozenset(
    {
        "title",
        "description",
        "examples",
        "example",
        "$comment",
        "deprecated",
        "$defs",
        "definitions",
    }
)
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
_VALUES = frozenset({"default", "const"})
_UNORDERED = frozenset({"required", "enum", "type"})


def remembering() -> SchemaMeaning:
    """Return ``meaning_of_schema`` that remembers its answers, and the documents they are about."""
    known: dict[int, tuple[Mapping[str, Any], Any]] = {}

    def meaning(document: Mapping[str, Any]) -> Any:
        if id(document) not in known:
            known[id(document)] = (document, meaning_of_schema(document))
        return known[id(document)][1]

    return meaning


class _Schemas:
    """Reads schemas of one document; a definition is known by when it was first met."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._met: dict[str, int] = {}

    def meaning(self, schema: Any) -> Any:
        """Return the meaning of one schema; a reference becomes the number of its definition."""
        if isinstance(schema, list):
            return [self.meaning(each) for each in schema]
        if not isinstance(schema, Mapping):
            return schema
        return {
            word: self._part(word, schema[word])
            for word in sorted(schema)
            if word not in _FOR_PEOPLE
        }

    def definitions(self) -> list[Any]:
        """Return the meanings of all definitions that were met, in that order."""
        made: list[Any] = []
        while len(made) < len(self._met):
            reference = list(self._met)[len(made)]
            made.append(self.meaning(resolved(reference, self._document)))
        return made

    def _part(self, word: str, value: Any) -> Any:
        if word == "$ref" and isinstance(value, str):
            return self._met.setdefault(value, len(self._met))
        if word in _NAMED and isinstance(value, Mapping):
            return {name: self.meaning(value[name]) for name in sorted(value)}
        if word in _VALUES:
            return value
        if word in _UNORDERED and isinstance(value, list):
            return sorted(value, key=compact)
        return self.meaning(value)

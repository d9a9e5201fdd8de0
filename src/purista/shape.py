"""What a JSON Schema says at a path: which types, which fields, whether a value is always there.

It reads schemas, it does not validate values. A schema is seen as its alternatives: one flat
``dict`` for each way through ``anyOf`` and ``oneOf``, with ``$ref`` followed and ``allOf`` merged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from purista.jsonvalue import json_type

Alternative: TypeAlias = dict[str, Any]

MAX_ALTERNATIVES = 256
"""More ways through a schema than this are not looked at; a person could not read them either."""

_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLE = frozenset({"additionalProperties", "items", "not", "if", "then", "else", "contains"})
_COMBINATORS = frozenset({"$ref", "allOf", "anyOf", "oneOf"})


def alternatives(schema: Any, document: Mapping[str, Any]) -> list[Alternative]:
    """Return the ways through ``schema``, a part of ``document``; none if nothing fits it."""
    return _expanded(schema, document, frozenset())[:MAX_ALTERNATIVES]


def at(document: Mapping[str, Any], path: Iterable[str | int]) -> list[Alternative]:
    """Return all that the document says about the value at ``path``; none if it says nothing."""
    found = alternatives(document, document)
    for part in path:
        found = [way for parent in found for way in alternatives(child(parent, part), document)][
            :MAX_ALTERNATIVES
        ]
    return found


def child(parent: Alternative, part: str | int) -> Any:
    """Return the schema of a field or of an element; False where the schema names none."""
    if isinstance(part, int):
        return _element(parent, part)
    properties = parent.get("properties", {})
    if part in properties:
        return properties[part]
    for pattern, schema in parent.get("patternProperties", {}).items():
        if _matches(pattern, part):
            return schema
    more = parent.get("additionalProperties", False)
    return more if isinstance(more, Mapping) else bool(more)


def types(ways: Iterable[Alternative]) -> set[str]:
    """Return the JSON types that the alternatives take; ``any`` where one of them does not say.

    >>> sorted(types([{"type": "integer"}, {"enum": ["a", None]}]))
    ['integer', 'null', 'string']
    """
    return {name for way in ways for name in _types(way)}


def fields(ways: Iterable[Alternative]) -> list[str]:
    """Return the names of all declared fields, sorted."""
    return sorted({name for way in ways for name in way.get("properties", {})})


def required(ways: Iterable[Alternative]) -> list[str]:
    """Return the names of all fields that must be there, sorted."""
    return sorted({name for way in ways for name in way.get("required", ())})


def takes_more(way: Alternative) -> bool:
    """Whether an object may have fields that are not declared."""
    return bool(
        "properties" not in way or way.get("additionalProperties") or way.get("patternProperties")
    )


def malformed(schema: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield where a JSON Schema is none, and what it should be there; only what is read here.

    >>> list(malformed({"properties": {"a": {"type": 5}}}))
    [('properties.a.type', 'a word or a list of words')]
    """
    if not isinstance(schema, Mapping):
        if not isinstance(schema, bool):
            yield place, "an object"
        return
    for keyword, value in schema.items():
        here = f"{place}.{keyword}" if place else str(keyword)
        if keyword in _NAMED and isinstance(value, Mapping):
            for name, part in value.items():
                yield from malformed(part, f"{here}.{name}")
        elif keyword in _NAMED:
            yield here, "an object"
        elif keyword in _LISTS and isinstance(value, list):
            for index, part in enumerate(value):
                yield from malformed(part, f"{here}[{index}]")
        elif keyword in _LISTS or (keyword == "enum" and not isinstance(value, list)):
            yield here, "a list"
        elif keyword in _SINGLE:
            yield from malformed(value, here)
        elif keyword == "required" and not _are_texts(value):
            yield here, "a list of names"
        elif keyword == "type" and not (isinstance(value, str) or _are_texts(value)):
            yield here, "a word or a list of words"


def field_names(document: Any) -> Iterator[str]:
    """Yield every field name that is declared anywhere in the document."""
    if isinstance(document, Mapping):
        properties = document.get("properties")
        if isinstance(properties, Mapping):
            yield from properties
        document = document.values()
    elif not isinstance(document, list):
        return
    for part in document:
        yield from field_names(part)


def _expanded(schema: Any, document: Mapping[str, Any], seen: frozenset[str]) -> list[Alternative]:
    if not isinstance(schema, Mapping):
        return [{}] if schema is True else []
    ways: list[Alternative] = [
        {key: value for key, value in schema.items() if key not in _COMBINATORS}
    ]
    reference = schema.get("$ref")
    if isinstance(reference, str):
        if reference in seen:
            return []
        target = resolved(reference, document)
        ways = _both(ways, _expanded(target, document, seen | {reference}))
    for part in schema.get("allOf", ()):
        ways = _both(ways, _expanded(part, document, seen))
    for word in ("anyOf", "oneOf"):
        if word in schema:
            options = [way for part in schema[word] for way in _expanded(part, document, seen)]
            ways = _both(ways, options)
    return ways[:MAX_ALTERNATIVES]


def resolved(reference: str, document: Mapping[str, Any]) -> Any:
    """Return what a reference inside the document leads to; False if it leads nowhere."""
    if not reference.startswith("#"):
        return False
    found: Any = document
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return False
    return found


def _both(left: Sequence[Alternative], right: Sequence[Alternative]) -> list[Alternative]:
    return [_merged(one, other) for one in left for other in right][:MAX_ALTERNATIVES]


def _merged(one: Alternative, other: Alternative) -> Alternative:
    merged = {**other, **one}
    for word in ("properties", "patternProperties"):
        if word in one and word in other:
            merged[word] = {**other[word], **one[word]}
    if "required" in one and "required" in other:
        merged["required"] = [*one["required"], *other["required"]]
    return merged


def _element(parent: Alternative, index: int) -> Any:
    first = parent.get("prefixItems", ())
    if index < len(first):
        return first[index]
    rest = parent.get("items", not first and "array" in _types(parent))
    return rest if isinstance(rest, Mapping) else bool(rest)


def _types(way: Alternative) -> set[str]:
    if "const" in way:
        return {json_type(way["const"])}
    if "enum" in way:
        return {json_type(value) for value in way["enum"]}
    named = way.get("type", "any")
    return {named} if isinstance(named, str) else set(named)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return False


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)

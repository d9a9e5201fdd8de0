"""A payload's type known only as JSON Schema: read, write, validate, fill in defaults.

The only module that imports ``jsonschema``, and only when such a type is first used. Nothing is ever
fetched: a reference to another document is a problem.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

from purista import shape
from purista.errors import MissingExtraError, Problem
from purista.fault import Names, refusal
from purista.jsonvalue import NotJsonError, compact, json_problems, read_strictly


class DocumentCodec:
    """A JSON Schema. Values are JSON data."""

    __slots__ = ("_document", "_validator")

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = dict(document)
        self._validator: Any = None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON Schema as it was given."""
        return self._document

    def dump(self, value: Any) -> bytes:
        """Validate and write, every default filled in."""
        faults = list(json_problems(value))
        body, faults = (b"", faults) if faults else self.check(value, shows_keys=False)
        if faults:
            raise refusal(faults)
        return body

    def load(self, body: bytes) -> Any:
        """Read and validate, every default filled in."""
        try:
            value = read_strictly(body)
        except NotJsonError:
            value, faults = None, [Problem("", "must be JSON")]
        else:
            value = self._filled(value)
            faults = self._faults(value, shows_keys=False)
        if faults:
            raise refusal(faults)
        return value

    def check(self, value: Any, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        """Fill in defaults, validate and write."""
        filled = self._filled(value)
        faults = self._faults(filled, shows_keys=shows_keys)
        return (b"", faults) if faults else (compact(filled), [])

    def check_text(self, text: bytes, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        """Do the same for data that is written already."""
        return self.check(read_strictly(text), shows_keys=shows_keys)

    def problems(self) -> list[Problem]:
        """Say what keeps the document from being a JSON Schema that stands by itself."""
        found = list(json_problems(self._document))
        if found:
            return [Problem("schema", f"is no JSON at '{one.place}'", one.remedy) for one in found]
        validator = self._validating()
        from jsonschema import SchemaError

        try:
            validator.check_schema(self._document)
        except SchemaError as error:
            return [Problem("schema", f"is no JSON Schema: {error.json_path}: {error.validator}")]
        return [
            Problem("schema", f"'{reference}' leads nowhere", "define it under $defs")
            for reference in sorted(set(_references(self._document)))
            if shape.resolved(reference, self._document) is False
        ]

    def _validating(self) -> Any:
        if self._validator is None:
            self._validator = _validator(self._document)
        return self._validator

    def _faults(self, value: Any, *, shows_keys: bool) -> list[Problem]:
        try:
            errors = list(self._validating().iter_errors(value))
        except MissingExtraError:
            raise
        except Exception as error:
            return [Problem("", f"the schema cannot be applied ({type(error).__name__})")]
        if not errors:
            return []
        names = Names(self._document, shows_keys=shows_keys)
        found = (fault for error in errors for fault in _broken(error, names))
        return list(dict.fromkeys(found))

    def _filled(self, value: Any) -> Any:
        return _filled(value, self._document, self._document)


def _validator(document: Mapping[str, Any]) -> Any:
    try:
        from jsonschema import Draft202012Validator, validators
        from referencing import Registry
    except ImportError:
        raise MissingExtraError("a payload known only by its JSON Schema", "jsonschema") from None
    kind = validators.validator_for(document, default=Draft202012Validator)
    # An empty registry: nothing is fetched.
    return kind(document, registry=Registry())


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = [value for key, value in part.items() if key not in _DATA]
    elif not isinstance(part, list):
        return
    for each in part:
        yield from _references(each)


_DATA = frozenset({"default", "const", "enum", "examples", "example"})
"""Keywords that hold values, not schemas."""


def _filled(value: Any, schema: Any, document: Mapping[str, Any]) -> Any:
    """Return the value with the defaults that the schema names, as pydantic fills them in."""
    if not isinstance(value, dict | list | tuple):
        return value
    ways = shape.alternatives(schema, document)
    if len(ways) != 1:
        return value
    way = ways[0]
    if not isinstance(value, dict):
        return [_filled(each, shape.child(way, i), document) for i, each in enumerate(value)]
    made = {key: _filled(each, shape.child(way, key), document) for key, each in value.items()}
    for name, field in way.get("properties", {}).items():
        if name not in made and isinstance(field, Mapping) and "default" in field:
            made[name] = copy.deepcopy(field["default"])
    return made


def _broken(error: Any, names: Names) -> Iterator[Problem]:
    path, demand = list(error.absolute_path), error.validator_value
    match error.validator:
        case "required":
            for field in demand:
                if field not in error.instance:
                    yield Problem(names.path([*path, field]), "is required")
        case "additionalProperties" if demand is False:
            for key in error.instance.keys() - error.schema.get("properties", {}).keys():
                yield Problem(names.path([*path, key]), "is not a field of the schema")
        case _:
            shown = f" {demand!r}" if isinstance(demand, str | int | float) else ""
            yield Problem(names.path(path), f"breaks the rule '{error.validator}{shown}'")

"""The type of a payload: it validates, it reads and writes JSON, it says its JSON Schema.

The only module that knows pydantic, and ``jsonschema`` where a type is known from a manifest alone.
Both are imported when a schema is first used, not when it is declared. No message of an error here
holds a value of a payload, or a key of one that the schema does not name.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from purista import shape
from purista.errors import ContractError, MissingExtraError, PayloadError, Problem

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

SHOWN_FAULTS = 10
"""A message names that many faults of a payload and counts the rest."""

_RULES = {
    "missing": "is required",
    "extra_forbidden": "is not a field of the schema",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "dict_type": "must be an object",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "string_type": "must be a string",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "none_required": "must be null",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "datetime_parsing": "must be a date and time",
    "datetime_from_date_parsing": "must be a date and time",
    "date_parsing": "must be a date",
    "date_from_datetime_parsing": "must be a date",
    "timezone_aware": "must have a time zone",
    "json_invalid": "must be JSON",
    "value_error": "is refused by a validator",
    "assertion_error": "is refused by a validator",
}


class Schema(Generic[T]):
    """What a payload must be: anything that ``pydantic.TypeAdapter`` takes, or a JSON Schema.

    Cheap to make; the first use pays. Two schemas are equal when their annotations are, or their
    JSON Schemas. A type that cannot be a payload is said by ``problems``; every other method raises
    it as ``ContractError``.

    >>> Schema(int).load(b"7")
    7
    >>> Schema(dict[str, int]).dump({"days": 30})
    b'{"days":30}'
    """

    __slots__ = ("_annotation", "_codec", "_document")

    _annotation: Any
    _document: Mapping[str, Any] | None
    _codec: _Codec | None

    @overload
    def __init__(self, annotation: type[T] | TypeAdapter[T]) -> None: ...
    @overload
    def __init__(self: Schema[Any], annotation: Any) -> None: ...
    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._document = None
        self._codec = None

    @classmethod
    def from_json_schema(cls, document: Mapping[str, Any]) -> Schema[Any]:
        """Return the schema of a payload known only as JSON Schema (draft 2020-12 by default).

        Its Python values are what ``json.loads`` gives. Needs the extra ``jsonschema`` when used.
        """
        made: Schema[Any] = cls.__new__(cls)
        made._annotation = None
        made._document = copy.deepcopy(dict(document))
        made._codec = None
        return made

    def dump(self, value: T) -> bytes:
        """Validate a Python value and write it as JSON, by alias. Raises ``PayloadError``."""
        codec = self._codec
        if codec is None:
            codec = self._build()
        return codec.dump(value)

    def load(self, body: bytes) -> T:
        """Read and validate JSON. Raises ``PayloadError``."""
        codec = self._codec
        if codec is None:
            codec = self._build()
        return cast("T", codec.load(body))

    def check(self, value: Any) -> bytes:
        """Validate JSON data (texts, numbers, lists, dicts) and return its normal form as JSON.

        The normal form has every default filled in. Raises ``PayloadError``.
        """
        body, faults = self._checked(value)
        if faults:
            raise PayloadError(_text(faults))
        return body

    def faults(self, value: Any) -> list[Problem]:
        """Return what keeps JSON data from being a payload, each at its path, for its author.

        Unlike a ``PayloadError`` it names keys that the schema does not know.
        """
        return self._checked(value, shows_keys=True)[1]

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of what ``load`` takes. The caller may change it."""
        return copy.deepcopy(self.document)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON Schema itself, to be read only."""
        return (self._codec or self._build()).document

    def problems(self) -> list[Problem]:
        """Say what keeps this type from being a payload; empty when nothing does."""
        try:
            codec = self._codec or self._build()
        except ContractError as error:
            return list(error.problems)
        return codec.problems()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return bool(self._annotation == other._annotation) and self._document == other._document

    def __hash__(self) -> int:
        try:
            return hash((self._annotation, self._document is None))
        except TypeError:
            return hash(Schema)

    def __repr__(self) -> str:
        if self._document is not None:
            return f"Schema.from_json_schema({self._document.get('title', '...')!r})"
        return f"Schema({_name_of(self._annotation)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._document is not None:
            return Schema.from_json_schema, (self._document,)
        return Schema, (self._annotation,)

    def __deepcopy__(self, memo: object) -> Schema[T]:
        return self

    def _build(self) -> _Codec:
        codec = (
            _TypeCodec(self._annotation)
            if self._document is None
            else _DocumentCodec(self._document)
        )
        self._codec = codec
        return codec

    def _checked(self, value: Any, *, shows_keys: bool = False) -> tuple[bytes, list[Problem]]:
        faults = list(json_problems(value))
        if faults:
            return b"", faults
        codec = self._codec or self._build()
        return codec.check(value, shows_keys=shows_keys)


class _Codec(Protocol):
    """What a schema does once it is built."""

    @property
    def document(self) -> dict[str, Any]: ...
    def dump(self, value: Any) -> bytes: ...
    def load(self, body: bytes) -> Any: ...
    def check(self, value: Any, *, shows_keys: bool) -> tuple[bytes, list[Problem]]: ...
    def problems(self) -> list[Problem]: ...


class _TypeCodec:
    """A pydantic type."""

    __slots__ = ("_adapter", "_document", "_read", "_suspect", "_validate", "_write")

    def __init__(self, annotation: Any) -> None:
        adapter = _adapted(annotation)
        self._adapter = adapter
        self._read: Callable[[bytes], Any] = adapter.validator.validate_json
        self._validate: Callable[[Any], Any] = adapter.validator.validate_python
        self._write: Callable[..., bytes] = adapter.serializer.to_json
        self._suspect = _can_be_not_a_number(adapter.core_schema)
        self._document: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        if self._document is None:
            self._document = _sorted_defaults(self._described("validation"))
        return self._document

    def dump(self, value: Any) -> bytes:
        try:
            body = self._write(self._validate(value), by_alias=True, warnings="error")
        except Exception as error:
            faults = self._why_not(value, error)
        else:
            if not (self._suspect and b"null" in body):
                return body
            faults = self._lost(body)
            if not faults:
                return body
        raise PayloadError(_text(faults))

    def load(self, body: bytes) -> Any:
        try:
            if not (self._suspect and (b"NaN" in body or b"Infinity" in body)):
                return self._read(body)
            _strict_json(body)
            return self._read(body)
        except Exception as error:
            faults = self._faults(error)
        raise PayloadError(_text(faults))

    def check(self, value: Any, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        try:
            return self._write(self._read(_bytes(value)), by_alias=True, warnings="error"), []
        except Exception as error:
            return b"", self._faults(error, shows_keys=shows_keys)

    def problems(self) -> list[Problem]:
        try:
            read, written = self.document, self._described("serialization")
        except ContractError as error:
            return list(error.problems)
        return [*_renamed(read, written)]

    def _described(self, mode: Any) -> dict[str, Any]:
        try:
            return self._adapter.json_schema(by_alias=True, mode=mode)
        except Exception as error:
            reason = type(error).__name__
        raise ContractError([_not_a_payload(self._adapter._type, reason)])

    def _why_not(self, value: Any, error: Exception) -> list[Problem]:
        """Find the field behind an error of the serializer, which names values as well."""
        from pydantic import ValidationError

        if isinstance(error, ValidationError):
            return self._faults(error)
        try:
            self._read(self._write(self._validate(value), by_alias=True, warnings=False))
        except ValidationError as closer:
            return self._faults(closer)
        except Exception as other:
            return self._faults(other)
        return self._faults(error)

    def _lost(self, body: bytes) -> list[Problem]:
        """Say where a number that is none (NaN, infinity) was written as null."""
        try:
            self._read(body)
        except Exception as error:
            return self._faults(error)
        return []

    def _faults(self, error: Exception, *, shows_keys: bool = False) -> list[Problem]:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            return [Problem("", _failure(error))]
        details = error.errors(include_url=False, include_input=False)
        names = _Names(self.document, shows_keys=shows_keys)
        return [
            Problem(names.path(each["loc"]), _rule(each["type"], each.get("ctx", {})))
            for each in details
        ]


class _DocumentCodec:
    """A JSON Schema."""

    __slots__ = ("_document", "_fills", "_validator")

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = dict(document)
        self._validator: Any = None
        self._fills = "default" in _bytes(document).decode()

    @property
    def document(self) -> dict[str, Any]:
        return self._document

    def dump(self, value: Any) -> bytes:
        faults = list(json_problems(value))
        if not faults:
            body, faults = self.check(value, shows_keys=False)
        if faults:
            raise PayloadError(_text(faults))
        return body

    def load(self, body: bytes) -> Any:
        try:
            value = _strict_json(body)
        except (ValueError, RecursionError):
            value, faults = None, [Problem("", "must be JSON")]
        else:
            faults = self._faults(value, shows_keys=False)
        if faults:
            raise PayloadError(_text(faults))
        return value

    def check(self, value: Any, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        filled = _filled(value, self._document, self._document) if self._fills else value
        faults = self._faults(filled, shows_keys=shows_keys)
        return (b"", faults) if faults else (_bytes(filled), [])

    def problems(self) -> list[Problem]:
        from purista import shape as _  # noqa: F401

        validator = self._validating()
        import jsonschema

        try:
            validator.check_schema(self._document)
        except jsonschema.SchemaError as error:
            return [Problem("schema", f"is no JSON Schema: at {error.json_path}")]
        return []

    def _validating(self) -> Any:
        if self._validator is None:
            try:
                import jsonschema
                import referencing
            except ImportError:
                raise MissingExtraError(
                    "a payload schema known only as JSON Schema", "jsonschema"
                ) from None
            kind = jsonschema.validators.validator_for(
                self._document, default=jsonschema.Draft202012Validator
            )
            self._validator = kind(self._document, registry=referencing.Registry())
        return self._validator

    def _faults(self, value: Any, *, shows_keys: bool) -> list[Problem]:
        validator = self._validating()
        names = _Names(self._document, shows_keys=shows_keys)
        try:
            return [
                fault for error in validator.iter_errors(value) for fault in _broken(error, names)
            ]
        except Exception as error:
            return [Problem("", f"the schema cannot be applied ({type(error).__name__})")]


class _Names:
    """Turns the place of a fault into a dotted path without keys that only the payload knows."""

    def __init__(self, document: Mapping[str, Any], *, shows_keys: bool) -> None:
        self._fields = set(shape.field_names(document))
        self._types = {*document.get("$defs", {})}
        self._shows_keys = shows_keys

    def path(self, parts: Iterable[str | int]) -> str:
        shown = (self._shown(part) for part in parts)
        return ".".join(part for part in shown if part)

    def _shown(self, part: str | int) -> str:
        if isinstance(part, int) or part in self._fields:
            return str(part)
        if part in self._types or part in _BRANCHES or "[" in part:
            return ""
        return part if self._shows_keys else "*"


_BRANCHES = frozenset(
    {"str", "int", "float", "bool", "none", "bytes", "date", "datetime", "time", "timedelta"}
)
"""What pydantic puts into a path to name the branch of a union."""


def json_problems(value: Any, place: str = "") -> Iterator[Problem]:
    """Say what in ``value`` is no JSON: a datetime, a set, NaN, a key that is no text, too deep.

    >>> [str(problem) for problem in json_problems({"a": [float("nan")]})]
    ['a.0: NaN is no JSON number']
    """
    yield from _json_problems(value, place, 0)


def _json_problems(value: Any, place: str, depth: int) -> Iterator[Problem]:
    if depth > shape.MAX_DEPTH:
        yield Problem(place, f"is nested deeper than {shape.MAX_DEPTH} levels")
        return
    match value:
        case None | bool() | int():
            pass
        case str():
            if not _is_unicode(value):
                yield Problem(place, "a text that UTF-8 cannot say")
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                yield Problem(place, f"{_not_finite(value)} is no JSON number")
        case dict():
            for key, each in value.items():
                if not isinstance(key, str):
                    yield Problem(place, f"a key is {type(key).__name__}", "use texts as keys")
                else:
                    yield from _json_problems(each, _inner(place, key), depth + 1)
        case list() | tuple():
            for index, each in enumerate(value):
                yield from _json_problems(each, _inner(place, index), depth + 1)
        case _:
            yield Problem(place, f"{type(value).__name__} is no JSON value", "write it as a text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_finite(value: float) -> str:
    return "NaN" if value != value else "infinity"


def _inner(place: str, part: str | int) -> str:
    return f"{place}.{part}" if place else str(part)


def _adapted(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    if isinstance(annotation, TypeAdapter):
        return annotation
    if isinstance(annotation, Mapping):
        raise ContractError(
            [
                Problem(
                    "schema",
                    "a dict is no type",
                    "use Schema.from_json_schema(...) if it is a JSON Schema",
                )
            ]
        )
    try:
        return TypeAdapter(annotation)
    except Exception as error:
        reason = type(error).__name__
    raise ContractError([_not_a_payload(annotation, reason)])


def _not_a_payload(annotation: Any, reason: str) -> Problem:
    return Problem(
        "schema",
        f"{_name_of(annotation)} cannot be a payload ({reason})",
        "use a pydantic model, a dataclass, a TypedDict or a plain type, all of them fully defined",
    )


def _name_of(annotation: Any) -> str:
    return getattr(annotation, "__name__", None) or str(annotation)[:80]


def _can_be_not_a_number(core: Any) -> bool:
    """Whether a float that is NaN or infinite could pass: pydantic writes it as null."""
    if isinstance(core, Mapping):
        if core.get("type") in {"float", "any"} and core.get("allow_inf_nan") is not False:
            return True
        return any(_can_be_not_a_number(part) for part in core.values())
    if isinstance(core, list | tuple):
        return any(_can_be_not_a_number(part) for part in core)
    return False


def _renamed(read: dict[str, Any], written: dict[str, Any]) -> Iterator[Problem]:
    """Say which fields are written under a name under which they are not read."""
    pairs = [(read, written)]
    others = written.get("$defs", {})
    pairs += [(part, others.get(name, {})) for name, part in read.get("$defs", {}).items()]
    for one, other in pairs:
        if "properties" not in one or "properties" not in other:
            continue
        lost = sorted(one["properties"].keys() - other["properties"].keys())
        new = sorted(other["properties"].keys() - one["properties"].keys())
        if lost and (new or set(lost) & set(one.get("required", ()))):
            names = ", ".join(lost)
            yield Problem(
                "schema",
                f"{one.get('title', 'the type')} reads the field {names} but does not write it",
                "give the field one alias for both ways",
            )
        elif new and one.get("additionalProperties") is False:
            names = ", ".join(new)
            yield Problem(
                "schema",
                f"{one.get('title', 'the type')} writes the field {names} but refuses to read it",
                "drop extra='forbid', or the computed field",
            )


def _sorted_defaults(part: Any) -> Any:
    """Put the default of a set in order, which differs from process to process."""
    if isinstance(part, list):
        return [_sorted_defaults(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: _sorted_defaults(each) for key, each in part.items()}
    if made.get("uniqueItems") is True and isinstance(made.get("default"), list):
        made["default"] = sorted(made["default"], key=_bytes)
    return made


def _filled(value: Any, schema: Any, document: Mapping[str, Any]) -> Any:
    """Return the value with the defaults that the schema names, as pydantic fills them in."""
    ways = shape.alternatives(schema, document)
    if len(ways) != 1:
        return value
    way = ways[0]
    if isinstance(value, list):
        return [
            _filled(each, shape.child(way, index), document) for index, each in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    made = {key: _filled(each, shape.child(way, key), document) for key, each in value.items()}
    for name, field in way.get("properties", {}).items():
        if name not in made and isinstance(field, Mapping) and "default" in field:
            made[name] = copy.deepcopy(field["default"])
    return made


def _broken(error: Any, names: _Names) -> Iterator[Problem]:
    path = list(error.absolute_path)
    if error.validator == "required":
        for field in error.validator_value:
            if field not in error.instance:
                yield Problem(names.path([*path, field]), "is required")
        return
    rule = error.validator_value
    shown = f" {rule!r}" if isinstance(rule, str | int | float | bool) else ""
    yield Problem(names.path(path), f"breaks the rule '{error.validator}{shown}'")


def _rule(kind: str, context: Mapping[str, Any]) -> str:
    text = _RULES.get(kind)
    if text is None:
        return f"breaks the rule '{kind}'"
    try:
        return text.format_map(context)
    except (KeyError, ValueError):
        return f"breaks the rule '{kind}'"


def _failure(error: Exception) -> str:
    from pydantic_core import PydanticSerializationError

    if isinstance(error, PydanticSerializationError):
        return "a value cannot be written as JSON"
    if isinstance(error, _NotJsonError):
        return "must be JSON"
    return f"a validator failed ({type(error).__name__})"


class _NotJsonError(ValueError):
    """NaN or Infinity, which Python's and pydantic's readers take and JSON does not know."""


def _strict_json(body: bytes) -> Any:
    def refuse(_: str) -> Any:
        raise _NotJsonError

    try:
        return json.loads(body, parse_constant=refuse)
    except UnicodeDecodeError:
        raise _NotJsonError from None


def _bytes(value: Any) -> bytes:
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=dict
    ).encode()


def _text(faults: list[Problem]) -> str:
    shown = [
        f"{_inner('payload', fault.place) if fault.place else 'payload'} {fault.message}"
        for fault in faults[:SHOWN_FAULTS]
    ]
    if len(faults) > SHOWN_FAULTS:
        shown.append(f"and {len(faults) - SHOWN_FAULTS} more")
    return "; ".join(shown)

"""A payload's type as pydantic knows it: read, write, validate, describe.

The only module that imports pydantic, and only when a type is first used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from purista.errors import ContractError, Problem
from purista.fault import Names, refusal, rule
from purista.jsonvalue import NotJsonError, compact, read_strictly
from purista.plain import IsPlain, plain

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_N, _I = ord("N"), ord("I")
_NOT_A_NUMBER = re.compile(rb"NaN|Infinity")


class TypeCodec:
    """A pydantic type. What goes wrong inside of a validator is a fault, whatever it raises."""

    __slots__ = ("_adapter", "_document", "_is_plain", "_read", "_suspect", "_validate", "_write")

    def __init__(self, annotation: Any) -> None:
        adapter = _adapted(annotation)
        self._adapter = adapter
        self._read: Callable[[bytes], Any] = adapter.validator.validate_json
        self._validate: Callable[[Any], Any] = adapter.validator.validate_python
        self._write: Callable[..., bytes] = adapter.serializer.to_json
        self._is_plain: IsPlain = self._first_look
        self._suspect = _can_be_not_a_number(adapter.core_schema)
        self._document: dict[str, Any] | None = None

    @property
    def document(self) -> dict[str, Any]:
        """The JSON Schema of what is read, by alias."""
        if self._document is None:
            self._document = _sorted_defaults(self._described("validation"))
        return self._document

    def dump(self, value: Any) -> bytes:
        """Validate and write; a wrong type inside of an instance is an error as well."""
        try:
            valid = self._validate(value)
            if self._is_plain(valid):
                return self._write(valid, by_alias=True, warnings=False)
            body = self._write(valid, by_alias=True, warnings="error")
            faults = self._lost(valid, body) if b"null" in body else ()
        except Exception as error:
            faults = self._faults(self._closer(value, error))
        if faults:
            raise refusal(faults)
        return body

    def load(self, body: bytes) -> Any:
        """Read and validate."""
        try:
            # One byte is found ten times faster than a word, and most bodies have neither.
            if self._suspect and (_N in body or _I in body) and _NOT_A_NUMBER.search(body):
                read_strictly(body)
            return self._read(body)
        except Exception as error:
            faults = self._faults(error)
        raise refusal(faults)

    def check(self, value: Any, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        """Validate JSON data as JSON, so that strict models take their texts, and write it."""
        try:
            text = compact(value)
        except Exception as error:
            return b"", self._faults(error, shows_keys=shows_keys)
        return self.check_text(text, shows_keys=shows_keys)

    def check_text(self, text: bytes, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        """Do the same for data that is written already."""
        try:
            valid = self._read(text)
            return self._write(valid, by_alias=True, warnings="error"), []
        except Exception as error:
            return b"", self._faults(error, shows_keys=shows_keys)

    def problems(self) -> list[Problem]:
        """Say what cannot be described, or cannot be read back as it is written."""
        try:
            return list(_one_way_fields(self.document, self._described("serialization")))
        except ContractError as error:
            return list(error.problems)

    def _first_look(self, valid: Any) -> bool:
        self._is_plain = plain(self._adapter.core_schema)
        return self._is_plain(valid)

    def _described(self, mode: Any) -> dict[str, Any]:
        try:
            return self._adapter.json_schema(by_alias=True, mode=mode)
        except Exception as error:
            reason = error
        raise _no_payload(self._adapter._type, reason)

    def _lost(self, valid: Any, body: bytes) -> list[Problem]:
        """Say where the serializer wrote null for what is none: it takes None and NaN for it."""
        self._read(body)
        without_none = self._write(valid, by_alias=True, exclude_none=True)
        if not self._suspect or b"null" not in without_none:
            return []
        data = self._adapter.serializer.to_python(valid, by_alias=True)
        names = Names(self.document, shows_keys=False)
        return [Problem(names.path(path), "must be a finite number") for path in _not_finite(data)]

    def _closer(self, value: Any, error: Exception) -> Exception:
        """Return the error that names the field; that of the serializer only shows its value."""
        from pydantic_core import PydanticSerializationError

        if isinstance(error, PydanticSerializationError):
            try:
                self._read(self._write(self._validate(value), by_alias=True, warnings=False))
            except Exception as closer:
                return closer
        return error

    def _faults(self, error: Exception, *, shows_keys: bool = False) -> list[Problem]:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            return [Problem("", _failure(error))]
        names = Names(self.document, shows_keys=shows_keys)
        return [
            Problem(names.path(each["loc"]), rule(each["type"], each.get("ctx", {})))
            for each in error.errors(include_url=False, include_input=False)
        ]


def _adapted(annotation: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    if isinstance(annotation, Mapping):
        remedy = "use Schema.from_json_schema(...) if it is a JSON Schema"
        raise ContractError([Problem("schema", "a dict is no type", remedy)])
    try:
        is_adapter = isinstance(annotation, TypeAdapter)
        adapter = annotation if is_adapter else TypeAdapter(annotation)
        adapter.validator.title  # noqa: B018 - raises where a name in the type is still unknown
    except Exception as error:
        reason = error
    else:
        return adapter
    raise _no_payload(annotation, reason)


def _no_payload(annotation: Any, reason: Exception) -> ContractError:
    name = getattr(annotation, "__name__", None) or str(annotation)[:80]
    code = getattr(reason, "code", None) or type(reason).__name__
    remedy = "use a pydantic model, a dataclass, a TypedDict or a plain type, fully defined"
    if code == "typed-dict-version":
        remedy = "import TypedDict from typing_extensions: pydantic needs it before Python 3.12"
    return ContractError([Problem("schema", f"{name} cannot be a payload ({code})", remedy)])


def _can_be_not_a_number(core: Any) -> bool:
    """Whether a float that is NaN or infinite could pass: pydantic reads it, and writes null."""
    if isinstance(core, Mapping):
        if core.get("type") in {"float", "any"} and core.get("allow_inf_nan") is not False:
            return True
        core = core.values()
    elif not isinstance(core, list | tuple):
        return False
    return any(_can_be_not_a_number(part) for part in core)


def _not_finite(data: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(data, float) and not math.isfinite(data):
        yield path
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _not_finite(value, (*path, str(key)))
    elif isinstance(data, list | tuple | set | frozenset):
        for index, value in enumerate(data):
            yield from _not_finite(value, (*path, index))


def _one_way_fields(read: dict[str, Any], written: dict[str, Any]) -> Iterator[Problem]:
    """Say which fields are written under a name under which they are not read."""
    others = written.get("$defs", {})
    inner = [(part, others.get(name, {})) for name, part in read.get("$defs", {}).items()]
    for one, other in [(read, written), *inner]:
        if "properties" not in one or "properties" not in other:
            continue
        name = one.get("title", "the type")
        lost = sorted(one["properties"].keys() - other["properties"].keys())
        new = sorted(other["properties"].keys() - one["properties"].keys())
        if lost and (new or not set(lost).isdisjoint(one.get("required", ()))):
            message = f"{name} reads {', '.join(lost)} but does not write it"
            yield Problem("schema", message, "give the field one alias for both ways")
        elif new and one.get("additionalProperties") is False:
            message = f"{name} writes {', '.join(new)} but refuses to read it"
            yield Problem("schema", message, "drop extra='forbid', or the computed field")


def _sorted_defaults(part: Any) -> Any:
    """Put the default of a set in order, which differs from process to process."""
    if isinstance(part, list):
        return [_sorted_defaults(each) for each in part]
    if not isinstance(part, dict):
        return part
    made = {key: _sorted_defaults(each) for key, each in part.items()}
    if made.get("uniqueItems") is True and isinstance(made.get("default"), list):
        made["default"] = sorted(made["default"], key=compact)
    return made


def _failure(error: Exception) -> str:
    from pydantic_core import PydanticSerializationError

    if isinstance(error, PydanticSerializationError):
        return "holds a value that cannot be written as JSON"
    if isinstance(error, NotJsonError):
        return "must be JSON"
    return f"makes a validator fail ({type(error).__name__})"

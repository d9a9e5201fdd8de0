"""The type of a payload: it validates, it reads and writes JSON, it says its JSON Schema.

No message of an error here holds a value of a payload, or a key of one that the schema does not name.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from purista.documentcodec import DocumentCodec
from purista.errors import ContractError, Problem
from purista.fault import refusal
from purista.jsonvalue import json_problems
from purista.typecodec import TypeCodec

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


class Codec(Protocol):
    """What a schema does once it is built. ``check`` takes JSON data only."""

    @property
    def document(self) -> dict[str, Any]:
        """The JSON Schema."""

    def dump(self, value: Any) -> bytes:
        """Validate and write."""

    def load(self, body: bytes) -> Any:
        """Read and validate."""

    def check(self, value: Any, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        """Return the normal form, or all faults."""

    def check_text(self, text: bytes, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        """Do the same for data that is written already."""

    def problems(self) -> list[Problem]:
        """Say what keeps this from being the type of a payload."""


class Schema(Generic[T]):
    """What a payload must be: anything that ``pydantic.TypeAdapter`` takes, or a JSON Schema.

    Cheap to make; the first use pays. Two schemas are equal when their annotations are, or their
    JSON Schemas. A type that cannot be a payload is said by ``problems``; the other methods raise it
    as ``ContractError``.

    >>> Schema(int).load(b"7")
    7
    >>> Schema(dict[str, int]).dump({"days": 30})
    b'{"days":30}'
    """

    __slots__ = ("_annotation", "_codec", "_document", "template_optional")

    template_optional: bool
    """Whether a schedule may leave its payload to the trigger."""

    _annotation: Any
    _document: Mapping[str, Any] | None
    _codec: Codec | None

    @overload
    def __init__(self, annotation: type[T] | TypeAdapter[T]) -> None: ...
    @overload
    def __init__(self: Schema[Any], annotation: Any) -> None: ...
    def __init__(self, annotation: Any) -> None:
        self._annotation = annotation
        self._document = None
        self._codec = None
        self.template_optional = False

    @classmethod
    def from_json_schema(
        cls, document: Mapping[str, Any], *, template_optional: bool = False
    ) -> Schema[Any]:
        """Return the schema of a payload known only as JSON Schema (draft 2020-12 by default).

        Its Python values are JSON data. Its use needs the extra ``jsonschema``, and raises
        ``MissingExtraError`` without it. With ``template_optional`` a schedule without a template is
        no mistake even where the schema demands fields: the trigger has to bring the payload.
        """
        made: Schema[Any] = cls.__new__(cls)
        made.template_optional = template_optional
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
        """Validate JSON data and return its normal form as JSON, every default filled in.

        Raises ``PayloadError``.
        """
        body, faults = self._checked(value, shows_keys=False)
        if faults:
            raise refusal(faults)
        return body

    def check_text(self, text: bytes) -> bytes:
        """Do the same for JSON data that is written already. Raises ``PayloadError``."""
        body, faults = (self._codec or self._build()).check_text(text, shows_keys=False)
        if faults:
            raise refusal(faults)
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
        """Say what keeps this from being the type of a payload; empty when nothing does."""
        try:
            return (self._codec or self._build()).problems()
        except ContractError as error:
            return list(error.problems)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schema):
            return NotImplemented
        return bool(self._annotation == other._annotation) and self._document == other._document

    def __hash__(self) -> int:
        try:
            return hash((Schema, self._annotation))
        except TypeError:
            return hash(Schema)

    def __repr__(self) -> str:
        if self._document is not None:
            return f"Schema.from_json_schema({self._document.get('title', '...')!r})"
        return f"Schema({getattr(self._annotation, '__name__', self._annotation)})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._document is not None:
            return _from_json_schema, (self._document, self.template_optional)
        return Schema, (self._annotation,)

    def __deepcopy__(self, memo: object) -> Schema[T]:
        return self

    def _build(self) -> Codec:
        codec = (
            TypeCodec(self._annotation) if self._document is None else DocumentCodec(self._document)
        )
        self._codec = codec
        return codec

    def _checked(self, value: Any, *, shows_keys: bool) -> tuple[bytes, list[Problem]]:
        faults = list(json_problems(value))
        if faults:
            return b"", faults
        return (self._codec or self._build()).check(value, shows_keys=shows_keys)


def _from_json_schema(document: Mapping[str, Any], template_optional: bool) -> Schema[Any]:
    return Schema.from_json_schema(document, template_optional=template_optional)

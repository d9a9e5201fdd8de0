"""Which values pydantic surely writes as what they are.

Validation passes an instance of a model through as it is, so one that was changed since may hold a
wrong type; and a float may be NaN, which is written as null. The serializer can be told to refuse the
first, at a microsecond for each message. A plain value - the declared built-in types all the way
down, and finite - needs no such care, and telling costs a fraction of that: a strict validator
without the type's own code looks at what the instance holds. What is not understood here counts as
not plain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

IsPlain = Callable[[Any], bool]
Core = Mapping[str, Any]

_SIMPLE: Mapping[str, Core] = {
    **{
        kind: {"type": kind, "strict": True}
        for kind in ("str", "int", "bool", "datetime", "date", "time", "uuid")
    },
    "none": {"type": "none"},
    "float": {"type": "float", "strict": True, "allow_inf_nan": False},
    "decimal": {"type": "decimal", "strict": True, "allow_inf_nan": False},
}
_INNER = {
    "nullable": ("schema",),
    "list": ("items_schema",),
    "set": ("items_schema",),
    "frozenset": ("items_schema",),
    "dict": ("keys_schema", "values_schema"),
}
_INSTANCES = frozenset({"model", "dataclass"})


class _NotPlainError(Exception):
    """The core schema has a part that can hold more than declared built-in types."""


def plain(core: Core) -> IsPlain:
    """Return the test for validated values of a type, given by its core schema."""
    try:
        return _Instances(core).hold if core["type"] in _INSTANCES else _test(_mirror(core))
    except (_NotPlainError, KeyError, TypeError):
        return _never


def _never(_: Any) -> bool:
    return False


def _test(mirror: Core) -> IsPlain:
    from pydantic_core import SchemaValidator

    return SchemaValidator(dict(mirror)).isinstance_python


class _Instances:
    """The test for the instances of a model or a dataclass, and for those that they hold."""

    __slots__ = ("_class", "_hold", "_inner", "_slots")

    def __init__(self, core: Core) -> None:
        fields = {name: _without_default(schema) for name, schema in _fields(core)}
        self._class = core["cls"]
        self._slots = tuple(fields) if core.get("slots") else ()
        self._hold = _test(_record({name: _of_field(each) for name, each in fields.items()}))
        self._inner = [
            (attrgetter(name), _Instances(schema).hold)
            for name, schema in fields.items()
            if schema["type"] in _INSTANCES
        ]

    def hold(self, value: Any) -> bool:
        """Whether ``value`` is an instance of exactly this class that holds plain values only."""
        if type(value) is not self._class:
            return False
        held = self._from_slots(value) if self._slots else value.__dict__
        if not self._hold(held):
            return False
        # Not all(...): a generator costs more than all the rest.
        for get, hold in self._inner:  # noqa: SIM110
            if not hold(get(value)):
                return False
        return True

    def _from_slots(self, value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in self._slots if hasattr(value, name)}


def _fields(core: Core) -> Iterator[tuple[str, Core]]:
    """Yield name and core schema of each field inside an instance."""
    inner = core["schema"]
    _demand_nothing_else(core)
    _demand_nothing_else(inner)
    if inner["type"] == "model-fields":
        yield from ((name, field["schema"]) for name, field in inner["fields"].items())
    elif inner["type"] == "dataclass-args":
        yield from ((field["name"], field["schema"]) for field in inner["fields"])
    else:
        raise _NotPlainError


def _record(mirrors: Mapping[str, Core]) -> Core:
    return {
        "type": "typed-dict",
        "fields": {
            name: {"type": "typed-dict-field", "schema": mirror, "required": True}
            for name, mirror in mirrors.items()
        },
    }


def _of_field(schema: Core) -> Core:
    """Return the mirror of a field; an instance in it has a test of its own."""
    return {"type": "any"} if schema["type"] in _INSTANCES else _mirror(schema)


def _mirror(schema: Core) -> Core:
    """Return the strict schema of what validation gives for ``schema``, without any code in it."""
    _demand_nothing_else(schema)
    kind = schema["type"]
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if kind == "typed-dict":
        return _record({name: _mirror(each["schema"]) for name, each in schema["fields"].items()})
    if kind in _INNER:
        strict = {} if kind == "nullable" else {"strict": True}
        return {"type": kind, **strict, **{word: _mirror(schema[word]) for word in _INNER[kind]}}
    raise _NotPlainError


def _demand_nothing_else(core: Core) -> None:
    """Raise where more is written than the declared fields, or in another way."""
    allows_more = "allow" in (
        core.get("extra_behavior"),
        core.get("config", {}).get("extra_fields_behavior"),
    )
    if allows_more or "serialization" in core or core.get("computed_fields"):
        raise _NotPlainError


def _without_default(schema: Core) -> Core:
    return _without_default(schema["schema"]) if schema["type"] == "default" else schema

"""What is wrong with a payload, in words that hold nothing of the payload.

A fault is a ``Problem`` whose place is the dotted path inside the payload. Fields and rules are named
after the schema; a key that only the payload knows is shown as ``*``, unless its author asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from purista import shape
from purista.errors import PayloadError, Problem
from purista.jsonvalue import joined

SHOWN_FAULTS = 10
"""A message names that many faults of a payload and counts the rest."""

_RULES: Mapping[str, str] = {
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

_BRANCHES = frozenset(
    {"str", "int", "float", "bool", "none", "bytes", "date", "datetime", "time", "timedelta"}
)
"""What pydantic puts into a path to name the branch of a union."""


class Names:
    """Turns the place of a fault into a dotted path that only the schema's words can enter."""

    def __init__(self, document: Mapping[str, Any], *, shows_keys: bool) -> None:
        self._fields = set(shape.field_names(document))
        self._branches = _BRANCHES | {*document.get("$defs", ())}
        self._shows_keys = shows_keys

    def path(self, parts: Iterable[str | int]) -> str:
        """Return the path, without the words that only name a branch of a union."""
        shown = (self._shown(part) for part in parts)
        return ".".join(part for part in shown if part)

    def _shown(self, part: str | int) -> str:
        if isinstance(part, int) or part in self._fields:
            return str(part)
        if part in self._branches or "[" in part:
            return ""
        return part if self._shows_keys else "*"


def rule(kind: str, context: Mapping[str, Any]) -> str:
    """Return pydantic's rule ``kind`` in words; of ``context`` only what the schema wrote is used.

    >>> rule("greater_than", {"gt": 0})
    'must be greater than 0'
    """
    text = _RULES.get(kind)
    if text is None:
        return f"breaks the rule '{kind}'"
    try:
        return text.format_map(context)
    except KeyError:
        return f"breaks the rule '{kind}'"


def refusal(faults: Sequence[Problem]) -> PayloadError:
    """Return the error that names the faults."""
    shown = [f"{_place(fault)} {fault.message}" for fault in faults[:SHOWN_FAULTS]]
    if len(faults) > SHOWN_FAULTS:
        shown.append(f"and {len(faults) - SHOWN_FAULTS} more")
    return PayloadError("; ".join(shown))


def _place(fault: Problem) -> str:
    return joined("payload", fault.place) if fault.place else "payload"

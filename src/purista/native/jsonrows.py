"""JSON of which people read the differences: one object a line, in a fixed order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping


def array_text(rows: Iterable[str]) -> str:
    """Return a JSON array of JSON texts, each on a line of its own, with a line's end."""
    lines = ",\n".join(rows)
    return f"[\n{lines}\n]\n" if lines else "[]\n"


def object_text(members: Mapping[str, str]) -> str:
    """Return a JSON object of JSON texts, each member on a line of its own.

    >>> print(object_text({"a": "1", "b": object_text({"c": "2"})}))
    {
    "a": 1,
    "b": {
    "c": 2
    }
    }
    """
    lines = ",\n".join(f"{json.dumps(name)}: {text}" for name, text in members.items())
    return f"{{\n{lines}\n}}" if lines else "{}"

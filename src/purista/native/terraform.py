"""Terraform's JSON syntax: a ``.tf.json`` file of resources.

https://developer.hashicorp.com/terraform/language/syntax/json - every text is a template there, so
that ``${`` and ``%{`` of a literal text are escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from purista.native.jsonrows import object_text


def literal(value: Any) -> Any:
    """Return a value all of whose texts mean themselves.

    >>> literal({"a": ["${x}", 1]})
    {'a': ['$${x}', 1]}
    """
    match value:
        case str():
            return value.replace("${", "$${").replace("%{", "%%{")
        case Mapping():
            return {key: literal(each) for key, each in value.items()}
        case list():
            return [literal(each) for each in value]
        case _:
            return value


def file_text(
    resources: Iterable[tuple[str, str, Mapping[str, Any]]],
    *,
    comment: str,
    variables: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Return a file; a resource is its type, its name in the file and its arguments."""
    by_type: dict[str, dict[str, str]] = {}
    for kind, name, arguments in resources:
        by_type.setdefault(kind, {})[name] = json.dumps(arguments)
    types = {kind: object_text(rows) for kind, rows in sorted(by_type.items())}
    members = {"//": json.dumps(comment)}
    if variables:
        rows = {name: json.dumps(each) for name, each in sorted(variables.items())}
        members["variable"] = object_text(rows)
    return f"{object_text({**members, 'resource': object_text(types)})}\n"

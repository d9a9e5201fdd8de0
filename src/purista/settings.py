"""Deployment settings: what differs between installations and is no part of a contract.

Read from ``purista.toml``: a table ``[ingress]`` for all, and one table for each scheduler. Secrets are
referred to, never held. See ``docs/settings.md``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from purista.contract import near
from purista.errors import Problem, SettingsError
from purista.ingresssettings import IngressSettings as IngressSettings
from purista.settingtable import Settings as Settings
from purista.settingtable import Url as Url

FILE = "purista.toml"
"""The file that holds the settings, in the folder in which the command is run."""


def read_settings(
    document: Mapping[str, Any], models: Mapping[str, type[Settings]]
) -> dict[str, Settings]:
    """Return the settings of the tables that ``models`` names, and of ``ingress``.

    Tables that ``models`` does not name are left alone; ``table_problems`` tells wrong names. Raises
    ``SettingsError`` with every mistake at once.
    """
    wanted: dict[str, type[Settings]] = {"ingress": IngressSettings, **models}
    found: dict[str, Settings] = {}
    problems: list[Problem] = []
    for table, model in wanted.items():
        given = document.get(table, {})
        if not isinstance(given, Mapping):
            problems.append(Problem(f"{FILE}: {table}", "it is no table", f"write [{table}]"))
            continue
        try:
            found[table] = model.model_validate(given)
        except ValidationError as error:
            problems += _problems(table, model, error)
    if problems:
        raise SettingsError(problems)
    return found


def table_problems(document: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Problem]:
    """Say which tables of a settings file have a name that means nothing."""
    names = {"ingress", "deployments", *known}
    for table in sorted(set(document).difference(names)):
        yield Problem(f"{FILE}: {table}", "no such table", near(table, names))


def toml_value(value: object) -> str:
    """Return data as a TOML value.

    >>> toml_value({"kind": "sqs", "fifo": False, "tags": ["a", 1]})
    '{kind = "sqs", fifo = false, tags = ["a", 1]}'
    """
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {toml_value(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(value) if isinstance(value, str | bool) else str(value)


def _problems(table: str, model: type[Settings], error: ValidationError) -> Iterator[Problem]:
    for each in error.errors(include_input=False, include_url=False):
        path = ".".join(str(part) for part in each["loc"])
        place = f"{FILE}: {table}.{path}" if path else f"{FILE}: {table}"
        fields, name = _fields_at(model, each["loc"]), path.rpartition(".")[2]
        if each["type"] == "extra_forbidden":
            yield Problem(place, "no such setting", near(name, fields))
        elif each["type"] == "missing":
            yield Problem(place, "it is missing", _remedy(fields, name))
        elif each["type"] == "union_tag_invalid":  # its message holds what was written
            kinds = each["ctx"]
            message = f"{kinds['discriminator']} should be {kinds['expected_tags']}"
            yield Problem(place, message, _remedy(fields, name))
        else:
            message = each["msg"].removeprefix("Value error, ")
            yield Problem(place, message, _remedy(fields, name))


def _fields_at(model: type[BaseModel], path: Sequence[int | str]) -> dict[str, FieldInfo]:
    """Return the fields of the model, or of each model of a union, to which a path leads."""
    fields = dict(model.model_fields)
    for name in path[:-1]:
        field = fields.get(str(name))
        if field is not None:  # else it is a tag, which says which model of a union it is
            models = _models_in(field.annotation)
            fields = {name: one for each in models for name, one in each.model_fields.items()}
    return fields


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _remedy(fields: Mapping[str, FieldInfo], name: str) -> str:
    field = fields.get(name)
    if field is None or not field.examples:
        return ""
    return f"such as {name} = {toml_value(field.examples[0])}"

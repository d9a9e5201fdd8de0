"""From a payload template to a payload, and from a payload to its idempotency key.

A template is JSON with placeholders in its texts. It is parsed here, never given to ``str.format``,
which would reach into attributes.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from string import Formatter
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from purista import shape, strftime
from purista.errors import PayloadError, Problem
from purista.jsonvalue import compact, json_problems, json_type
from purista.schema import Schema as Schema

Path: TypeAlias = tuple[str | int, ...]

PLACEHOLDERS = ("nominal_time", "previous_nominal_time", "schedule_id", "run_id")
"""The words that a template may put in braces; the first two take a format after a colon."""

_TIMES = frozenset({"nominal_time", "previous_nominal_time"})
_SCALARS = frozenset({"string", "integer", "number", "boolean"})
_NUMBERS = frozenset({"integer", "number"})


@dataclass(frozen=True, slots=True)
class Slot:
    """What a template may refer to at one nominal time."""

    nominal_time: datetime
    previous_nominal_time: datetime | None
    timezone: str
    schedule_id: str
    run_id: str


def render(template: Any, slot: Slot, schema: Schema[Any]) -> Any:
    """Return the payload that the template gives at ``slot``, as JSON data, not yet validated.

    No template gives ``{}`` where the schema takes it, else null. Raises ``PayloadError`` when the
    template needs an earlier nominal time and there is none.

    >>> nominal = datetime(2027, 3, 1, 1, tzinfo=UTC)
    >>> slot = Slot(nominal, None, "Europe/Berlin", "billing.v1.x", "r1")
    >>> render({"cycle": "{nominal_time:%Y-%m}"}, slot, Schema(dict))
    {'cycle': '2027-03'}
    """
    if template is None:
        return {} if not schema.faults({}) else None
    return _rendered(template, (), slot, schema)


def template_problems(
    template: Any, schema: Schema[Any], samples: Sequence[Slot], place: str
) -> list[Problem]:
    """Say all that is wrong with a template: its form, then the payload it gives at the samples."""
    if template is None:
        return list(_missing_template_problems(schema, place))
    found = list(json_problems(template, place))
    if not found:
        found = list(_form_problems(template, (), schema, place))
    if not found and uses_previous(template):
        found = [_no_previous(place) for each in samples if each.previous_nominal_time is None]
    for slot in samples if not found else ():
        faults = schema.faults(render(template, slot, schema))
        found += [_placed(place, fault) for fault in faults]
    return list(dict.fromkeys(found))


def uses_previous(template: Any) -> bool:
    """Whether a template refers to the previous nominal time."""
    return any(name == "previous_nominal_time" for name in _names(template))


def constant_text(template: Any, slot: Slot, schema: Schema[Any]) -> bytes | None:
    """Return what a template without placeholders gives at every slot, as JSON; None for any other."""
    if template is None or any(_names(template)):
        return None
    return compact(render(template, slot, schema))


def key_problems(path: Any, schema: Schema[Any], place: str) -> list[Problem]:
    """Say why ``path`` (``payload.cycle_id``, ``payload.items.0.id``, ``payload``) is no key.

    A key must be there in every payload, and be a string, a number or a boolean.
    """
    if not isinstance(path, str) or path.split(".")[0] != "payload":
        shown = repr(path) if isinstance(path, str) else type(path).__name__
        return [Problem(place, f"{shown} is no path", "write it as 'payload.field'")]
    document = schema.document
    ways, walked = shape.alternatives(document, document), ["payload"]
    for part in path.split(".")[1:]:
        reason = _step_problem(ways, part)
        if reason is not None:
            there = ".".join(walked)
            return [Problem(place, f"'{path}': {reason[0]}", reason[1].format(there=there))]
        ways = [inner for way in ways for inner in shape.alternatives(_child(way, part), document)]
        walked.append(part)
    return _scalar_problems(path, shape.types(ways), place)


def key_of(path: str, body: bytes) -> str:
    """Return the text of the key at ``path`` in a payload.

    A string is its own text, ``true`` and ``false`` theirs, and equal numbers have the same text.
    Raises ``PayloadError`` when there is nothing, or nothing scalar.

    >>> key_of("payload.cycle.id", b'{"cycle": {"id": 7.0}}')
    '7'
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = _NOTHING
    for part in path.split(".")[1:]:
        value = _value_at(value, part)
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return str(int(value)) if value.is_integer() else repr(value)
    raise PayloadError(f"{path}: no string, number or boolean is there, so there is no key")


_NOTHING = object()


def _value_at(value: Any, part: str) -> Any:
    if isinstance(value, dict):
        return value.get(part, _NOTHING)
    if isinstance(value, list) and part.isdecimal() and int(part) < len(value):
        return value[int(part)]
    return _NOTHING


def _child(way: shape.Alternative, part: str) -> Any:
    is_index = part.isdecimal() and "array" in shape.types([way])
    return shape.child(way, int(part) if is_index else part)


def _step_problem(ways: list[shape.Alternative], part: str) -> tuple[str, str] | None:
    """Return why ``part`` is not there in every value, and the remedy; None when it is."""
    known = [way for way in ways if _child(way, part) is not False]
    if not known:
        close = difflib.get_close_matches(part, shape.fields(ways), n=1)
        remedy = f"did you mean '{{there}}.{close[0]}'?" if close else _listed_fields(ways)
        return f"the payload schema has no field '{part}' there", remedy
    if len(known) < len(ways):
        return f"the field '{part}' is not there in every payload", "use a field that always is"
    if any(not _always_there(way, part) for way in ways):
        return (
            f"the field '{part}' is not required and has no default in the schema",
            "make it required, or use another field",
        )
    return None


def _listed_fields(ways: list[shape.Alternative]) -> str:
    names = shape.fields(ways)
    if not names:
        return "declare the field in the payload schema"
    return "use one of: " + ", ".join(f"{{there}}.{name}" for name in names)


def _always_there(way: shape.Alternative, part: str) -> bool:
    if "array" in shape.types([way]) or part in way.get("required", ()):
        return True
    field = way.get("properties", {}).get(part)
    return isinstance(field, dict) and "default" in field


def _scalar_problems(path: str, kinds: set[str], place: str) -> list[Problem]:
    if kinds and kinds <= _SCALARS:
        return []
    if "null" in kinds:
        return [Problem(place, f"'{path}' may be null", "use a field that always has a value")]
    if not kinds or "any" in kinds:
        message = f"the payload schema does not say what '{path}' is"
    else:
        message = f"'{path}' is no single value but {', '.join(sorted(kinds))}"
    return [Problem(place, message, "use a field that is a string, a number or a boolean")]


def _missing_template_problems(schema: Schema[Any], place: str) -> Iterator[Problem]:
    if schema.template_optional or not schema.faults({}) or not schema.faults(None):
        return
    ways = shape.alternatives(schema.document, schema.document)
    needed = shape.required(ways)
    wants = f"the fields {', '.join(needed)}" if needed else " or ".join(sorted(shape.types(ways)))
    yield Problem(
        place, f"missing, and the payload schema wants {wants}", "give a payload template"
    )


def _form_problems(template: Any, path: Path, schema: Schema[Any], place: str) -> Iterator[Problem]:
    """Say what is wrong with placeholders, unknown fields and literal types, before rendering."""
    here = ".".join(map(str, (place, *path)))
    ways = shape.at(schema.document, path)
    match template:
        case dict():
            for key, each in template.items():
                yield from _field_problems(key, ways, f"{here}.{key}")
                yield from _form_problems(each, (*path, key), schema, place)
        case list() | tuple():
            for index, each in enumerate(template):
                yield from _form_problems(each, (*path, index), schema, place)
        case str():
            yield from (Problem(here, *reason) for reason in _text_problems(template))
    if not (isinstance(template, str) and _parts(template)[0]):
        yield from _literal_problems(template, ways, here)


def _field_problems(key: str, ways: list[shape.Alternative], here: str) -> Iterator[Problem]:
    """Say when a field would be dropped in silence because no schema names it."""
    objects = [way for way in ways if "object" in shape.types([way]) or "properties" in way]
    if not objects or any(shape.takes_more(way) or key in way["properties"] for way in objects):
        return
    names = shape.fields(objects)
    close = difflib.get_close_matches(key, names, n=1)
    remedy = f"did you mean '{close[0]}'?" if close else f"use: {', '.join(names)}"
    yield Problem(here, "is not a field of the payload schema", remedy)


def _literal_problems(value: Any, ways: list[shape.Alternative], here: str) -> Iterator[Problem]:
    kinds, own = shape.types(ways), json_type(value)
    if not kinds or "any" in kinds or own in kinds or (own == "integer" and "number" in kinds):
        return
    yield Problem(here, f"is {own}, and the payload schema wants {' or '.join(sorted(kinds))}")


def _text_problems(text: str) -> Iterator[tuple[str, str]]:
    _, parts = _parts(text)
    if parts is None:
        yield "a brace is not closed or not opened", "write '{{' and '}}' for a plain brace"
        return
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if name not in PLACEHOLDERS:
            yield f"unknown placeholder '{{{name}}}'", _near_placeholder(name)
        elif conversion:
            yield f"'!{conversion}' after '{name}' is not taken", f"write '{{{name}}}'"
        elif form and name not in _TIMES:
            yield f"'{name}' takes no format", f"write '{{{name}}}'"
        elif form:
            yield from strftime.problems(form)


def _near_placeholder(name: str) -> str:
    plain = name.split(".")[0].split("[")[0].strip()
    close = plain if plain in PLACEHOLDERS else None
    close = close or next(iter(difflib.get_close_matches(plain, PLACEHOLDERS, n=1)), None)
    if close is None:
        words = ", ".join(f"'{{{word}}}'" for word in PLACEHOLDERS)
        return f"use one of {words}, or '{{{{' and '}}}}' for plain braces"
    example = ", or with a format, such as '{" + close + ":%Y-%m}'" if close in _TIMES else ""
    return f"did you mean '{{{close}}}'{example}?"


def _no_previous(place: str) -> Problem:
    return Problem(
        place,
        "uses '{previous_nominal_time}', and the schedule has no earlier time",
        "use '{nominal_time}'",
    )


def _placed(place: str, fault: Problem) -> Problem:
    return Problem(f"{place}.{fault.place}" if fault.place else place, fault.message, fault.remedy)


def _rendered(template: Any, path: Path, slot: Slot, schema: Schema[Any]) -> Any:
    match template:
        case dict():
            return {
                key: _rendered(each, (*path, key), slot, schema) for key, each in template.items()
            }
        case list() | tuple():
            return [
                _rendered(each, (*path, index), slot, schema) for index, each in enumerate(template)
            ]
        case str():
            return _rendered_text(template, path, slot, schema)
    return template


def _rendered_text(text: str, path: Path, slot: Slot, schema: Schema[Any]) -> Any:
    _, parts = _parts(text)
    made = "".join(
        literal + (_value(name, form or "", slot) if name is not None else "")
        for literal, name, form, _ in parts or ()
    )
    is_alone = parts is not None and len(parts) == 1 and not parts[0][0] and parts[0][1]
    number = _number(made) if is_alone else made
    return number if number is not made and _wants_number(schema, path) else made


def _wants_number(schema: Schema[Any], path: Path) -> bool:
    kinds = shape.types(shape.at(schema.document, path))
    return bool(kinds & _NUMBERS) and not kinds & {"string", "any"}


def _number(text: str) -> Any:
    try:
        return int(text)
    except ValueError:
        return text


def _value(name: str, form: str, slot: Slot) -> str:
    if name == "schedule_id":
        return slot.schedule_id
    if name == "run_id":
        return slot.run_id
    instant = slot.nominal_time if name == "nominal_time" else slot.previous_nominal_time
    if instant is None:
        raise PayloadError("payload: there is no earlier nominal time for the template")
    if not form:
        return rfc3339(instant)
    return strftime.written(instant.astimezone(ZoneInfo(slot.timezone)), form)


def rfc3339(instant: datetime) -> str:
    """Return an instant in UTC as RFC 3339, with a fraction only where there is one.

    >>> rfc3339(datetime(2027, 3, 1, 1, tzinfo=UTC))
    '2027-03-01T01:00:00Z'
    """
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _names(template: Any) -> Iterable[str]:
    match template:
        case dict():
            return [name for each in template.values() for name in _names(each)]
        case list() | tuple():
            return [name for each in template for name in _names(each)]
        case str():
            return _parts(template)[0]
    return []


_Part: TypeAlias = tuple[str, str | None, str | None, str | None]


@lru_cache(maxsize=4096)
def _parts(text: str) -> tuple[list[str], list[_Part] | None]:
    """Return the placeholders' names and the parts of a text; no parts when braces are wrong."""
    if "{" not in text and "}" not in text:
        return [], [(text, None, None, None)]
    try:
        parts: list[_Part] = list(Formatter().parse(text))
    except ValueError:
        return [], None
    return [part[1] for part in parts if part[1] is not None], parts

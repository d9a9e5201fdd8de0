"""JSON data in Python: what is some, how it is written, how it is read strictly.

JSON data is None, bool, int, finite float, str, list (or tuple) and dict with str keys, no deeper than
``MAX_DEPTH``. Python's own module takes and writes more than that (RFC 8259 has no NaN).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from purista.errors import Problem

MAX_DEPTH = 100
"""Deeper JSON than this is refused everywhere: nothing that a person writes comes near it."""


class NotJsonError(ValueError):
    """A text that is no JSON; its message holds nothing of the text."""


def json_problems(value: Any, place: str = "") -> Iterator[Problem]:
    """Say what in ``value`` is no JSON: a datetime, a set, NaN, a key that is no text, too deep.

    >>> [str(problem) for problem in json_problems({"a": [float("nan")]})]
    ['a.0: NaN is no JSON number']
    """
    yield from _problems(value, place, 0)


def json_type(value: object) -> str:
    """Return the JSON Schema word for JSON data; a float without a fraction is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case _:
            return "object"


def compact(value: Any, *, sort_keys: bool = False) -> bytes:
    """Return JSON data as JSON in UTF-8 without a blank."""
    return (_SORTED if sort_keys else _COMPACT).encode(value).encode()


def read_strictly(text: str | bytes) -> Any:
    """Return the JSON data of a text, without what only Python's reader takes, such as NaN.

    Raises ``NotJsonError``.
    """
    return _read(text, _loads)


def read_document(text: str | bytes) -> Any:
    """Return the JSON data of a file: UTF-8, with or without a byte order mark, no key twice.

    Raises ``NotJsonError``.
    """
    plain = text if isinstance(text, str) else _decoded(text)
    return _read(plain.removeprefix("\ufeff"), _DOCUMENT.decode)


def _problems(value: Any, place: str, depth: int) -> Iterator[Problem]:
    if depth > MAX_DEPTH:
        yield Problem(place, f"is nested deeper than {MAX_DEPTH} levels")
        return
    match value:
        case None | bool() | int():
            pass
        case str():
            if not _is_unicode(value):
                yield Problem(place, "is a text that UTF-8 cannot say")
        case float():
            if value != value or value in (float("inf"), float("-inf")):
                shown = "NaN" if value != value else "infinity"
                yield Problem(place, f"{shown} is no JSON number")
        case dict():
            for key, each in value.items():
                if not isinstance(key, str):
                    yield Problem(place, f"a key is {type(key).__name__}", "use texts as keys")
                elif not _is_unicode(key):
                    yield Problem(place, "a key is a text that UTF-8 cannot say")
                else:
                    yield from _problems(each, joined(place, key), depth + 1)
        case list() | tuple():
            for index, each in enumerate(value):
                yield from _problems(each, joined(place, index), depth + 1)
        case _:
            yield Problem(place, f"{type(value).__name__} is no JSON value", "write it as a text")


def joined(place: str, part: str | int) -> str:
    """Return the dotted path of a part inside ``place``."""
    return f"{place}.{part}" if place else str(part)


def _read(text: Any, reader: Callable[[Any], Any]) -> Any:
    try:
        return reader(text)
    except NotJsonError:
        raise
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except RecursionError:
        reason = "nested too deep"
    except ValueError:
        reason = "not UTF-8, or a number with too many digits"
    raise NotJsonError(reason)


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        position = error.start + 1
    raise NotJsonError(f"byte {position} is not UTF-8")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(key for number, (key, _) in enumerate(pairs) if key in dict(pairs[:number]))
        raise NotJsonError(f"the key {json.dumps(twice)} is given twice in one object")
    return made


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse(constant: str) -> Any:
    raise NotJsonError(f"{constant} is no JSON number")


def _loads(text: str | bytes) -> Any:
    return json.loads(text, parse_constant=_refuse)


_DOCUMENT = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_without_twins)
"""Made once: ``json.loads`` makes one for each text."""


_COMPACT = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_SORTED = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True
)

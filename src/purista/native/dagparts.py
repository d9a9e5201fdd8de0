"""The parts of a DAG file by their names, read out of its text, and the text made of them again.

A part is a JSON value where the text is as ``dagfile`` writes it, else ``{"python": SOURCE}``. What has no
name of its own is the part ``code``, with a slot for each of the others.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from purista.native.dagfile import literal_text, time_text, timetable_text

CODE: Final = "code"
IMPORTS: Final = "imports"
PYTHON: Final = "python"
"""The key of a part that is shown as it is written."""

PARTS: Final = (
    "schedule",
    "start_date",
    "end_date",
    "catchup",
    "max_active_runs",
    "retries",
    "description",
    "doc_md",
    "tags",
    "url",
    IMPORTS,
    CODE,
)
"""The parts of each file; one that a file does not have is an empty source."""

_NO_SOURCE: Final = {PYTHON: ""}
_TIMES: Final = ("start_date", "end_date")
_SLOT: Final = re.compile(r"<<(\w+)>>")
_FINGERPRINT: Final = "<<fingerprint>>"
_TIMETABLES: Final = ("CronTriggerTimetable", "MultipleCronTriggerTimetable")


def parts_of(text: str, fingerprint: str) -> dict[str, Any]:
    """Return the parts of a text; one that cannot be read is ``code`` as a whole.

    The fingerprint is no part of any.
    """
    text = text.replace(fingerprint, _FINGERPRINT)
    data = text.encode()
    found: dict[str, Any] = dict.fromkeys(PARTS, _NO_SOURCE)
    for each in sorted(_spans(text, data), key=lambda span: span.start, reverse=True):
        found[each.name] = _value(each, data[each.start : each.end].decode())
        data = data[: each.start] + f"<<{each.name}>>".encode() + data[each.end :]
    return {**found, CODE: data.decode()}


def text_of(parts: Mapping[str, Any], fingerprint: str) -> str:
    """Return the text with these parts. Raises ``ValueError`` where they do not go together."""

    def source(slot: re.Match[str]) -> str:
        name = slot[1]
        return _source(name, parts[name]) if name in parts and name != CODE else slot[0]

    text = _SLOT.sub(source, parts[CODE]).replace(_FINGERPRINT, fingerprint)
    if parts_of(text, fingerprint) != {name: parts[name] for name in PARTS}:
        raise ValueError("its parts do not fit into its code")
    unknown = _unknown_names(text)
    if unknown:
        raise ValueError(f"it does not import {', '.join(unknown)}")
    return text


class _Span(NamedTuple):
    name: str
    start: int
    end: int
    node: ast.expr | None = None


def _spans(text: str, data: bytes) -> Iterator[_Span]:
    """Yield where parts stand; none where the text is not of that kind."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return
    lines = [0]
    for line in data.splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    dags = [(node, call) for node in tree.body for call in _dag_calls(node)]
    if len(dags) != 1:
        return
    [(block, call)] = dags
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    if imports:
        yield _Span(IMPORTS, _at(lines, imports[0])[0], _at(lines, imports[-1])[1])
    for name, node in {**_options(call), **_address(block)}.items():
        yield _Span(name, *_at(lines, node), node)


def _dag_calls(node: ast.stmt) -> Iterator[ast.Call]:
    if isinstance(node, ast.With):
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and _name(call.func) == "DAG":
                yield call


def _options(call: ast.Call) -> dict[str, ast.expr]:
    found = {each.arg: each.value for each in call.keywords if each.arg is not None}
    defaults = found.get("default_args")
    chosen = {name: node for name, node in found.items() if name in PARTS}
    if isinstance(defaults, ast.Dict):
        for key, value in zip(defaults.keys, defaults.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "retries":
                chosen["retries"] = value
    return chosen


def _address(block: ast.stmt) -> dict[str, ast.expr]:
    for node in ast.walk(block):
        if isinstance(node, ast.Call) and _name(node.func) == "Request" and node.args:
            return {"url": node.args[0]}
    return {}


def _at(lines: list[int], node: ast.stmt | ast.expr) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return lines[node.lineno - 1] + node.col_offset, lines[
        node.end_lineno - 1
    ] + node.end_col_offset


def _value(span: _Span, source: str) -> Any:
    if span.node is None:
        return source
    value = _read(span.name, span.node)
    return value if _source(span.name, value) == source else {PYTHON: source}


def _read(name: str, node: ast.expr) -> Any:
    """Return what a node says, if it says it in our way."""
    if isinstance(node, ast.Call):
        texts = [each.value for each in node.args if isinstance(each, ast.Constant)]
        if name in _TIMES and len(texts) == 1:
            return texts[0]
        if name == "schedule" and _name(node.func) in _TIMETABLES and texts:
            zones = [each.value for each in node.keywords if isinstance(each.value, ast.Constant)]
            return {"cron": texts, "timezone": zones[0].value if zones else ""}
        return _NO_SOURCE
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return _NO_SOURCE


def _source(name: str, value: Any) -> str:
    """Return how a value is written; empty for what is never written so."""
    match value:
        case {"python": str(source)}:
            return source
        case {"cron": [*crons], "timezone": str(zone)} if all(
            isinstance(each, str) for each in crons
        ):
            return timetable_text(crons, zone)
        case str() if name == IMPORTS:
            return value
        case str() if name in _TIMES:
            return time_text(value)
        case str():
            return literal_text(value)
        case bool() | int() | None:
            return repr(value)
        case list() if all(isinstance(each, str) for each in value):
            return f"[{', '.join(map(literal_text, value))}]"
        case _:
            return ""


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _unknown_names(text: str) -> list[str]:
    """Return the names that a text uses and does not bind anywhere, as far as can be seen."""
    used, bound = set[str](), set(dir(builtins)) | {"__file__", "__name__"}
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError):
        return []
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.ExceptHandler(name=str(name)):
                bound.add(name)
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                bound.add(name)
            case ast.alias(name=name, asname=asname):
                bound.add(asname or name.partition(".")[0])
            case _:
                pass
    return sorted(used - bound)

"""Unit files of ours: their text to fields and back, and the marker in their first comment.

Pure. A field is named after its file, its section, where that is not the file's own, and its setting:
``timer.OnCalendar``, ``service.Unit.Description``. Each variable of ``Environment=`` is a field: its value, or
``{"written": ...}``, the text of the file, where that has specifiers or escapes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from purista.compiling import MARKER
from purista.plan import PAUSED, Owner

KINDS: Final = ("timer", "service")
SCHEDULE: Final = "schedule"
FINGERPRINT: Final = "PURISTA_FINGERPRINT"

_Setting = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class Marker:
    """Whose a unit is, and what was applied last; ``reason`` is why purista paused it."""

    owner: Owner
    applied: Mapping[str, str] | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The lines that say it."""
        said = {
            "applied": self.applied,
            "deployment": self.owner.deployment,
            "fingerprint": self.owner.fingerprint,
            SCHEDULE: self.owner.schedule_id,
        }
        given = {name: value for name, value in said.items() if value is not None}
        reason = f"# {PAUSED}: {self.reason}\n" if self.reason else ""
        return f"# {MARKER}: {json.dumps(given, sort_keys=True)}\n{reason}"


def marker_of(text: str) -> Marker | None:
    """Return the marker of a unit file, None where it is none of ours."""
    found = _MARKER.search(text)
    if found is None:
        return None
    try:
        said = json.loads(found["said"])
        words = (str(said[name]) for name in ("deployment", SCHEDULE, "fingerprint"))
        owner = Owner(*words)
    except (ValueError, KeyError, TypeError):
        return None
    applied, reason = said.get("applied"), _REASON.search(text)
    return Marker(
        owner, applied if isinstance(applied, dict) else None, reason["text"] if reason else ""
    )


def with_marker(text: str, marker: Marker) -> str:
    """Return a unit file with another marker, and nothing else changed."""
    return marker.text + _REASON.sub("", _MARKER.sub("", text))


def unit_fields(kind: str, text: str) -> dict[str, Any]:
    """Return what a unit file says, but for its fingerprint; a setting given more than once is a list."""
    found: dict[str, Any] = {}
    for section, name, value in settings_of(text):
        if (section, name) == ("Service", "Environment"):
            found = _with_variables(found, value)
            continue
        inside = "" if section == kind.capitalize() else f"{section}."
        field = f"{kind}.{inside}{name}"
        found[field] = _more(found[field], value) if field in found else value
    found.pop(f"service.Environment.{FINGERPRINT}", None)
    return found


def settings_of(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield section, name and value of each setting (systemd.syntax(7))."""
    section = ""
    for line in _CONTINUED.sub(r"\1 ", _COMMENT.sub("", text)).split("\n"):
        plain = line.strip()
        if plain.startswith("[") and plain.endswith("]"):
            section = plain[1:-1]
            continue
        name, equals, value = plain.partition("=")
        if equals:
            yield section, name.strip(), value.strip()


def text_in_force(texts: Iterable[str]) -> str:
    """Return one file that says what a unit and those that change it say in this order (systemd.unit(5))."""
    found: list[_Setting] = []
    for text in texts:
        for setting in settings_of(text):
            found = _with_setting(found, setting)
    return "".join(f"[{section}]\n{name}={value}\n" for section, name, value in found)


def unit_text(kind: str, fields: Mapping[str, Any], marker: Marker) -> str:
    """Return a unit file that says the fields of its kind."""
    sections: dict[str, list[str]] = {"Unit": [], kind.capitalize(): []}
    for field, value in fields.items():
        if value is None or not field.startswith(f"{kind}."):
            continue
        section, name = _place(kind, field)
        lines = sections.setdefault(section, [])
        if section == "Environment":
            sections["Service"].append(_variable(name, value))
            continue
        lines += [f"{name}={each}" for each in (value if isinstance(value, list) else [value])]
    if kind == "service":
        sections["Service"].append(_variable(FINGERPRINT, marker.owner.fingerprint))
    body = "\n".join(_section(name, lines) for name, lines in sections.items() if lines)
    return f"{marker.text}{body}"


def _with_setting(found: list[_Setting], setting: _Setting) -> list[_Setting]:
    """Return settings with one more; systemd passes over an empty number or switch."""
    _, name, value = setting
    group = next((each for each in _LISTS if name in each), None)
    if group is None and not value and name != "Description":
        return found
    if group is not None and value:
        return [*found, setting]
    kept = [each for each in found if each[1] not in (group or {name})]
    return [*kept, setting] if value else kept


def _section(name: str, lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in (f"[{name}]", *lines))


def _place(kind: str, field: str) -> tuple[str, str]:
    """Return the section of a field and the name of its setting."""
    first, dot, rest = field.removeprefix(f"{kind}.").partition(".")
    return (first, rest) if dot else (kind.capitalize(), first)


def _more(there: Any, value: str) -> list[str]:
    return [*there, value] if isinstance(there, list) else [there, value]


def _with_variables(found: dict[str, Any], value: str) -> dict[str, Any]:
    """Return the fields with more variables; an empty ``Environment=`` takes back those before it."""
    if not value:
        return {field: each for field, each in found.items() if not field.startswith(_VARIABLE)}
    words = _WORD.findall(value) if _WORDS.fullmatch(value) else [value]
    return found | dict(map(_variable_field, words))


def _variable_field(word: str) -> tuple[str, Any]:
    """Return the field of a variable, written as a word of ``Environment=`` (systemd.exec(5))."""
    plain = _plain(word)
    name, equals, text = (word if plain is None else plain).partition("=")
    is_plain = plain is not None and bool(equals)
    return f"{_VARIABLE}{name.lstrip(_QUOTES)}", text if is_plain else {_WRITTEN: word}


def _plain(word: str) -> str | None:
    """Return what a word means; None where it has a specifier, or an escape for another character."""
    if not _WORD.fullmatch(word):
        return None
    parts = [
        each["double"] or each["single"] or each["bare"] or "" for each in _PART.finditer(word)
    ]
    text = "".join(parts)
    halves = _ESCAPED.sub(r"\1", text).split("%%")
    is_plain = not _OTHER_ESCAPE.search(text) and not any("%" in each for each in halves)
    return "%".join(halves) if is_plain else None


def _variable(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return f"Environment={value[_WRITTEN]}"
    text = str(value).replace("\\", r"\\").replace('"', r"\"").replace("%", "%%")
    return f'Environment="{name}={text}"'


_MARKER: Final = re.compile(
    rf"^[#; \t]*{MARKER}:[ \t]*(?P<said>\{{.*\}})[ \t]*(?:\n|\Z)", re.MULTILINE
)
_REASON: Final = re.compile(rf"^# {PAUSED}: (?P<text>.*)(?:\n|\Z)", re.MULTILINE)
_COMMENT: Final = re.compile(r"^[ \t]*[#;].*\n?", re.MULTILINE)
_CONTINUED: Final = re.compile(r"(?<!\\)((?:\\\\)*)\\\n")
_LISTS: Final = (
    {
        "OnActiveSec",
        "OnBootSec",
        "OnCalendar",
        "OnStartupSec",
        "OnUnitActiveSec",
        "OnUnitInactiveSec",
    },
    {"ExecStart"},
)
"""Settings that may be given often; an empty one takes back all of its group (systemd.timer(5))."""
_VARIABLE: Final = "service.Environment."
_WRITTEN: Final = "written"
_QUOTES: Final = "\"'"
_PART: Final = re.compile(
    r""""(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>\\.|[^\s"'\\])"""
)
_BARE: Final = re.sub(r"\?P<\w+>", "?:", _PART.pattern)
_WORD: Final = re.compile(rf"(?:{_BARE})+")
_WORDS: Final = re.compile(rf"(?:{_BARE}|\s)*")
_ESCAPED: Final = re.compile(r"""\\(["'\\])""")
_OTHER_ESCAPE: Final = re.compile(r"""(?<!\\)(?:\\\\)*\\[^"'\\]""")

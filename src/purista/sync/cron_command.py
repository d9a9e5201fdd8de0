"""The command of a line of ours: what the script is told in it, and what stands around that.

Pure. A command is a program, in which ``PURISTA_...`` says where the settings of ours stand, as in
``cd /opt && PURISTA_... /usr/local/bin/purista-trigger``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

PLACE: Final = "PURISTA_..."
PROGRAM: Final = "program"
FINGERPRINT: Final = "PURISTA_FINGERPRINT"
SCHEDULE_ID: Final = "PURISTA_SCHEDULE"


@dataclass(frozen=True, slots=True)
class Command:
    """A command with what it tells the script; ``program`` has no ``PLACE`` where it tells nothing."""

    program: str
    told: Mapping[str, str] = field(default_factory=dict)


def read_command(text: str) -> Command | None:
    """Return what a command says; None where settings of ours cannot be told from the rest of it."""
    run = _RUN.search(text)
    before, after = ("", text) if run is None else (text[: run.start()], text[run.end() :])
    around = before + after
    if _OURS.search(around) or PLACE in around or not _may_stand_before(before):
        return None
    told = {} if run is None else dict(_told(run[0]))
    told.pop(FINGERPRINT, None)
    return Command(f"{before}{PLACE} {after}" if told else around, told)


def command_fields(texts: Sequence[str]) -> dict[str, Any]:
    """Return what the script is told in some commands, and their program; their programs if they differ.

    Where one cannot be read, or tells something else than the others, these are the whole commands.
    """
    commands = [command for command in map(read_command, texts) if command is not None]
    told = [each.told for each in commands if each.told]
    if len(commands) < len(texts) or any(each != told[0] for each in told):
        return {PROGRAM: [_STAMP.sub(_STAMP_PLACE, text) for text in texts]}
    programs = [each.program for each in commands]
    one = programs[0].removeprefix(f"{PLACE} ") if len(set(programs)) == 1 else programs
    return {**(told[0] if told else {}), PROGRAM: one}


def command_texts(fields: Mapping[str, Any], count: int, fingerprint: str) -> list[str]:
    """Return the commands of so many lines that say some fields.

    Raises ``ValueError`` where there is not a program for each line, or what is to be told has no place in them.
    """
    told = told_in(fields)
    programs = _programs(fields.get(PROGRAM) or [], told, count)
    has_place = any(PLACE in each for each in programs) and not any(map(_OURS.search, programs))
    if len(programs) != count or (programs and told and not has_place):
        raise ValueError
    stamp = f"{FINGERPRINT}={fingerprint}"
    words = [stamp, *(f"{name}={_quoted(value)}" for name, value in sorted(told.items()))]
    return [each.replace(_STAMP_PLACE, stamp).replace(PLACE, " ".join(words)) for each in programs]


def told_in(fields: Mapping[str, Any]) -> dict[str, str]:
    """Return what the script is told, of some fields."""
    told = {name: value for name, value in fields.items() if name.startswith("PURISTA_")}
    return {name: str(value) for name, value in told.items() if value is not None}


def shown_program(text: str) -> str:
    """Return what a command begins with, without settings; empty where that might hold a secret."""
    found = _SHOWN.match(text)
    return found["program"] if found else ""


def _programs(given: str | list[str], told: Mapping[str, str], count: int) -> list[str]:
    if isinstance(given, list):
        return given
    return [f"{PLACE} {given}" if told and PLACE not in given else given] * count


def _may_stand_before(text: str) -> bool:
    """Whether what stands behind a text is a word of the shell: in no quotes, and no input."""
    try:
        shlex.split(text)
    except ValueError:
        return False
    return _INPUT.search(text) is None


def _told(run: str) -> Iterator[tuple[str, str]]:
    for word in _WORD.finditer(run):
        value = word["value"].replace(r"\%", "%")
        yield word["name"], shlex.split(value)[0] if {"'", '"'} & set(value) else value


def _quoted(value: str) -> str:
    """Return a value as a word of the shell, in a line in which cron makes a newline of ``%``."""
    return shlex.quote(value).replace("%", r"\%")


_OURS: Final = re.compile(r"\bPURISTA_\w+=")
_STAMP: Final = re.compile(rf"\b{FINGERPRINT}=\w*(?![^ \t])")
_STAMP_PLACE: Final = f"{FINGERPRINT}=..."
_INPUT: Final = re.compile(r"(?<!\\)%")

# Only values that neither the shell nor cron makes something else of: they are written anew.
_VALUE: Final = r"(?:'(?:[^'%\\]|\\%|\\(?!%))*'|\"(?:[^\"%\\$`]|\\%)*\"|[\w@+=:,./-]|\\%)*"
_WORD: Final = re.compile(rf"(?P<name>PURISTA_\w+)=(?P<value>{_VALUE})[ \t]+")
_RUN: Final = re.compile(rf"(?:(?<![^\s;&|(])PURISTA_\w+={_VALUE}[ \t]+)+")

_ASSIGNED: Final = (
    r"\w+=(?:\\.|'[^']*'|\"(?:\\.|\$\w|[^\"\\$`])*\"|\$\w|[^\s'\"\\$`(){};&|<>])*[ \t]+"
)
_SHOWN: Final = re.compile(rf"(?:{_ASSIGNED})*(?P<program>[\w./+-]+)(?![^\s;&|<>])")

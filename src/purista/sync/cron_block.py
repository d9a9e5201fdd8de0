"""The lines of ours in a crontab: a block for each deployment, in it an entry for each schedule.

Pure: text in, text out. The blocks stand before all other lines, so that no setting that a person wrote
holds for them; they have no settings themselves, so that they change no other line either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final

from purista.compiling import MARKER
from purista.plan import PAUSED, Desired, Owner, digests
from purista.sync.cron_command import command_fields, command_texts
from purista.sync.cron_line import Job, lines_of, read_job, setting_of, stripped

DESCRIPTION: Final = "description"
SCHEDULE: Final = "schedule"
COMMENTS: Final = "comments"
SETTINGS: Final = "settings"
ABOVE: Final = "settings above"
"""Fields of an entry; the others are its program, and what the script is told, by its names."""

LONGEST_REASON: Final = 500


class UnreadableError(Exception):
    """The crontab has lines of ours that cannot be told from others; the message says where."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a block for one schedule. ``rest`` are settings that a person put there."""

    name: str
    owner: Owner
    applied: Mapping[str, str] | None
    jobs: tuple[Job, ...] = ()
    description: str = ""
    comments: tuple[str, ...] = ()
    rest: tuple[str, ...] = ()
    reason: str = ""
    above: tuple[str, ...] = ()

    @property
    def is_paused(self) -> bool:
        """Whether all of its lines are comments."""
        return self.marks > 0

    @property
    def marks(self) -> int:
        """How many marks of a comment all of its lines have."""
        return min((each.marks for each in self.jobs), default=0)

    @property
    def fields(self) -> dict[str, Any]:
        """What it says, by name. The marks of a pause are no part of ``schedule``."""
        return {
            DESCRIPTION: self.description,
            SCHEDULE: ["# " * (each.marks - self.marks) + each.time for each in self.jobs],
            PAUSED: self.is_paused,
            COMMENTS: list(self.comments),
            SETTINGS: list(self.rest),
            ABOVE: list(self.above),
            **command_fields([each.command for each in self.jobs]),
        }

    @property
    def known(self) -> Mapping[str, str] | None:
        """What was applied last. What the script was not told then, a person wrote."""
        if self.applied is None:
            return None
        nothing = digests({name: None for name in self.fields if name.startswith("PURISTA_")})
        return {**nothing, **self.applied}

    @property
    def text(self) -> str:
        """Its lines."""
        marker = {
            "applied": self.applied,
            "fingerprint": self.owner.fingerprint,
            "name": self.name,
            SCHEDULE: self.owner.schedule_id,
        }
        lines = [
            f"# {MARKER}: {json.dumps(marker, sort_keys=True)}",
            *([f"# {DESCRIPTION}: {self.description}"] if self.description else ()),
            *([f"# {PAUSED}: {self.reason}"] if self.reason else ()),
            *(f"# {each}" for each in self.comments),
            *self.rest,
            *(each.text for each in self.jobs),
        ]
        return "".join(f"{line}\n" for line in lines)

    @property
    def version(self) -> str:
        """What tells its states apart."""
        return sha256(self.text.encode(errors="surrogateescape")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Crontab:
    """A crontab: entries of ours, and all other text as it stands.

    ``escaped`` is the number of the first line that shows a carriage return or a backspace as an escape,
    or may do so; 0 where none does. Comments among our lines do not count.
    """

    entries: tuple[Entry, ...] = ()
    others: str = ""
    escaped: int = 0

    def named(self, name: str) -> Entry | None:
        """Return the entry of a name."""
        return next((each for each in self.entries if each.name == name), None)

    def put(self, entry: Entry) -> Crontab:
        """Return it with an entry, in place of one of the same name."""
        return replace(self, entries=(*self.without(entry.name).entries, entry))

    def without(self, name: str) -> Crontab:
        """Return it without an entry."""
        kept = tuple(each for each in self.entries if each.name != name)
        return replace(self, entries=kept)

    @property
    def text(self) -> str:
        """Its text: the blocks first, by deployment, then all else, byte for byte."""
        return "".join(self._blocks()) + self.others

    def _blocks(self) -> Iterator[str]:
        by_deployment: dict[str, list[Entry]] = {}
        for each in self.entries:
            by_deployment.setdefault(each.owner.deployment, []).append(each)
        for deployment, entries in sorted(by_deployment.items()):
            inside = "".join(each.text for each in sorted(entries, key=lambda each: each.name))
            yield f"# {MARKER}: begin {deployment}\n{inside}# {MARKER}: end {deployment}\n"


def read_crontab(text: str) -> Crontab:
    """Return what a crontab holds. Raises ``UnreadableError``."""
    reader = _Reader()
    for number, line in enumerate(lines_of(text), 1):
        reader.read(number, line)
    return reader.crontab()


def entry_of(desired: Desired, fields: Mapping[str, Any], *, reason: str = "") -> Entry:
    """Return an entry that says these fields, and that they were applied.

    Raises ``ValueError`` where they cannot be said in a command for each line.
    """
    times: list[str] = fields.get(SCHEDULE) or []
    is_paused = bool(fields.get(PAUSED))
    commands = command_texts(fields, len(times), desired.owner.fingerprint)
    jobs = [_job(time, command) for time, command in zip(times, commands, strict=True)]
    return Entry(
        desired.name,
        desired.owner,
        {name: each for name, each in digests(desired.fields).items() if name != ABOVE},
        tuple(replace(each, marks=each.marks + is_paused) for each in jobs),
        fields.get(DESCRIPTION) or "",
        tuple(fields.get(COMMENTS) or ()),
        tuple(fields.get(SETTINGS) or ()),
        reason if is_paused else "",
    )


def paused(entry: Entry, reason: str) -> Entry:
    """Return an entry with all of its lines as comments: what was one already has a mark more."""
    more = 0 if entry.is_paused else 1
    jobs = tuple(replace(each, marks=each.marks + more) for each in entry.jobs)
    return replace(entry, jobs=jobs, reason=" ".join(reason.split())[:LONGEST_REASON])


def resumed(entry: Entry) -> Entry:
    """Return an entry whose lines are comments only where they were before it was paused."""
    jobs = tuple(replace(each, marks=each.marks - entry.marks) for each in entry.jobs)
    return replace(entry, jobs=jobs, reason="")


def _job(time: str, command: str) -> Job:
    plain = time.lstrip("# ")
    return Job(plain, command, time[: len(time) - len(plain)].count("#"))


class _Reader:
    """Takes lines one by one. An entry that stands twice is one, with the lines of both."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._others: list[str] = []
        self._above: list[str] = []
        self._block = ""
        self._began = 0
        self._is_open = False
        self._escaped = 0

    def read(self, number: int, line: str) -> None:
        is_escaped = _ESCAPE.search(line) and not (self._block and line.lstrip().startswith("#"))
        if is_escaped and not self._escaped:
            self._escaped = number
        edge = _EDGE.fullmatch(line.rstrip("\r\n"))
        if edge is not None:
            self._turn(number, edge["edge"], edge["deployment"])
        elif self._block:
            self._read_inside(number, line)
        else:
            self._read_other(line)

    def crontab(self) -> Crontab:
        if self._block:
            raise UnreadableError(_unclosed(self._began, self._block))
        return Crontab(tuple(self._entries), "".join(self._others), self._escaped)

    def _turn(self, number: int, edge: str, deployment: str) -> None:
        if edge == "begin" and not self._block:
            self._block, self._began, self._is_open = deployment, number, False
        elif edge == "end" and self._block == deployment:
            self._block = ""
        elif self._block:
            raise UnreadableError(_unclosed(self._began, self._block))
        else:
            raise UnreadableError(
                f"line {number} ends a block of deployment '{deployment}' that does not begin; "
                f"put '# {MARKER}: begin {deployment}' before its first line"
            )

    def _read_inside(self, number: int, line: str) -> None:
        plain = stripped(line)
        marker = _MARKER.match(plain)
        if marker is not None:
            self._begin_entry(number, plain[marker.end() :])
        elif self._is_open and plain:
            self._entries[-1] = _with_line(self._entries[-1], number, line.strip(" \t\n"))
        elif plain:
            _refuse_stray(read_job(plain), number, "")
            self._read_other(line)

    def _read_other(self, line: str) -> None:
        self._others.append(line)
        setting = setting_of(line)
        if setting is not None:
            self._above.append(setting[0])

    def _begin_entry(self, number: int, text: str) -> None:
        try:
            marker = json.loads(text)
            name, fingerprint = str(marker["name"]), str(marker["fingerprint"])
            owner = Owner(self._block, str(marker[SCHEDULE]), fingerprint)
            applied = marker.get("applied")
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UnreadableError(
                f"line {number} is a marker of ours that cannot be read; delete it together with the "
                "lines below it that are the schedule's, and apply again"
            ) from None
        known = applied if isinstance(applied, dict) else None
        entry = Entry(name, owner, known, above=tuple(sorted(set(self._above))))
        twin = next((each for each in self._entries if each.name == name), None)
        if twin is not None:
            self._entries.remove(twin)
            entry = twin
        self._entries.append(entry)
        self._is_open = True


def _unclosed(number: int, deployment: str) -> str:
    return (
        f"the block of deployment '{deployment}' that begins in line {number} has no end; "
        f"put '# {MARKER}: end {deployment}' after its last line"
    )


def _with_line(entry: Entry, number: int, line: str) -> Entry:
    job = read_job(line)
    if job is not None:
        _refuse_stray(job, number, entry.owner.schedule_id)
        return replace(entry, jobs=(*entry.jobs, job))
    if not line.startswith("#"):
        return replace(entry, rest=(*entry.rest, line))
    text = stripped(line.lstrip("# \t"))
    kind, _, value = text.partition(": ")
    if kind == DESCRIPTION:
        return replace(entry, description=value)
    if kind == PAUSED:
        return replace(entry, reason=value)
    return replace(entry, comments=(*entry.comments, text)) if text else entry


def _refuse_stray(job: Job | None, number: int, schedule_id: str) -> None:
    if job is not None and job.schedule_id not in ("", schedule_id):
        raise UnreadableError(
            f"line {number} starts schedule '{job.schedule_id}', and its marker does not stand above it; "
            "delete that line, and apply again"
        )


_EDGE: Final = re.compile(
    rf"[ \t]*#[# \t]*{MARKER}: (?P<edge>begin|end) (?P<deployment>[a-z][a-z0-9-]*)\s*"
)
_MARKER: Final = re.compile(rf"#[# \t]*{MARKER}:[ \t]*(?=\{{)")
_ESCAPE: Final = re.compile(r"\\[rb]")

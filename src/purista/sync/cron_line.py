"""A line of a crontab: a job, on or off, or a setting.

Pure. A line that cron starts is one that is neither a setting nor a comment (crontab(5)). A comment is a job
that is off only where it says so itself: what a person remarks must never start anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from purista.errors import ExpressionError
from purista.expression import Cron
from purista.sync.cron_command import SCHEDULE_ID

OFF: Final = "off: "
"""What stands before a job that is off and would be read as a remark otherwise."""


@dataclass(frozen=True, slots=True)
class Job:
    """A line that starts something; with ``marks`` before it, as of a comment, it is off."""

    time: str
    command: str
    marks: int = 0

    @property
    def text(self) -> str:
        """The line."""
        is_hidden = self.marks and not self._is_plain
        return f"{'# ' * self.marks}{OFF * bool(is_hidden)}{self.time} {self.command}"

    @property
    def schedule_id(self) -> str:
        """The schedule that its command names; empty where it names none."""
        named = _NAMED.search(self.command)
        return "" if named is None else named["id"]

    @property
    def _is_plain(self) -> bool:
        return bool(self.schedule_id) and read_time(self.time) is not None


def read_job(line: str) -> Job | None:
    """Return the job of a line without white space around it; None for a setting or a remark."""
    text = line.lstrip("# \t")
    marks = line[: len(line) - len(text)].count("#")
    if not marks and setting_of(line) is not None:
        return None
    plain = text.removeprefix(OFF) if marks else text
    found = _JOB.fullmatch(plain)
    if found is None:
        return None
    job = Job(" ".join(found["time"].split()), found["command"], marks)
    return job if not marks or plain != text or job._is_plain else None


def setting_of(line: str) -> tuple[str, str] | None:
    """Return the name and the value of a setting; None for another line."""
    found = _SETTING.match(line)
    return found and (found["name"].strip("\"'"), found["value"].strip().strip("\"'"))


def read_time(text: str) -> Cron | None:
    """Return the times of a line as cron reads them; None for what is no time, such as ``@reboot``.

    Two day fields mean either, unless one begins with a star (crontab(5)).
    """
    fields = text.split()
    starred = len(fields) == 5 and (fields[2].startswith("*") or fields[4].startswith("*"))
    try:
        return Cron(text, day_rule="and" if starred else "or")
    except ExpressionError:
        return None


def lines_of(text: str) -> list[str]:
    """Return the lines of a crontab, each with its end."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def stripped(line: str) -> str:
    """Return a line without white space around it."""
    return line.strip(" \t\r\n")


def other_jobs(text: str) -> Iterator[tuple[Job, Mapping[str, str]]]:
    """Yield the lines that start something, each with the settings that hold for it."""
    settings: dict[str, str] = {}
    for line in map(stripped, lines_of(text)):
        setting = setting_of(line)
        if setting is not None:
            settings[setting[0]] = setting[1]
        elif line and not line.startswith("#"):
            yield read_job(line) or Job("", ""), dict(settings)


_JOB: Final = re.compile(r"(?P<time>@\S+|[^@\s]\S*(?:[ \t]+\S+){4})[ \t]+(?P<command>.+)")
_SETTING: Final = re.compile(
    r"\s*(?P<name>\"[^\"]+\"|'[^']+'|[^\s=#\"'][^\s=]*)[ \t]*=(?P<value>.*)"
)
_NAMED: Final = re.compile(rf"\b{SCHEDULE_ID}=['\"]?(?P<id>[^\s'\"]+)")

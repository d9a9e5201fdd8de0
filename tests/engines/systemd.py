"""When systemd's timers elapse, and what it says of unit files: ``systemd-analyze``.

It is systemd's own calendar code, of the machine's version, with the machine's time zones. For each time of
a line that names a zone systemd makes a child that has this zone as its ``TZ``. That is slow, so only the first
times are asked for so; for the others ``systemd-analyze`` itself has that ``TZ``, and has to say the same of the first.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zoneinfo import available_timezones

from tests.engines import debian

_ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "SYSTEMD_COLORS": "0"}
_UTC = "UTC"
_ZONES = available_timezones()
_BLOCK = "Normalized form: "
_ELAPSES = re.compile(r"^ *(?:Next elapse|Iter\. #\d+): \w{3} (\S+ \S+) UTC$", re.MULTILINE)
_ELAPSES_ELSEWHERE = re.compile(r"^ *\(in UTC\): \w{3} (\S+ \S+) UTC$", re.MULTILINE)
_FIRST_ITERATIONS = 16
_BATCH = 50


class CalendarRefused(Exception):
    """systemd does not take ``OnCalendar`` lines; the message is its own and names them."""


def fires(lines: Sequence[str], *, start: datetime, end: datetime) -> list[datetime]:
    """Return the instants, in UTC, at which a timer with all these ``OnCalendar`` lines elapses.

    ``start`` and ``end`` are included; an instant of several lines is one. A line without a zone is
    in UTC. Raises ``CalendarRefused``.
    """
    found = fires_of_each(lines, start=start, end=end)
    return sorted(set().union(*found.values()))


def fires_of_each(
    lines: Iterable[str], *, start: datetime, end: datetime
) -> dict[str, list[datetime]]:
    """Return the instants of each line by itself, as ``fires``; made for thousands of lines."""
    debian.ensure("systemd")
    found: dict[str, list[datetime]] = {}
    first: dict[str, list[datetime]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wanted = {(_UTC, _FIRST_ITERATIONS): list(dict.fromkeys(lines))}
        while wanted:
            asked = [
                _Question(zone, many[i : i + _BATCH], start, iterations)
                for (zone, iterations), many in wanted.items()
                for i in range(0, len(many), _BATCH)
            ]
            wanted = defaultdict(list)
            for question, answers in zip(asked, pool.map(_ask, asked), strict=True):
                for line, instants in zip(question.lines, answers, strict=True):
                    known = first.setdefault(line, instants)
                    assert instants[: len(known)] == known
                    if len(instants) < question.iterations or instants[-1] >= end:
                        found[line] = [instant for instant in instants if instant <= end]
                    else:
                        needed = _iterations(instants, start=start, end=end)
                        wanted[_parted(line)[1], needed].append(line)
    return found


def verify(units: Mapping[str, str]) -> list[str]:
    """Return what systemd complains of in unit files, given as names and texts.

    A timer is verified together with its service: give both. Commands of ``ExecStart`` have to
    be there.
    """
    debian.ensure("systemd")
    with TemporaryDirectory(prefix="purista-units-") as folder:
        for name, text in units.items():
            (Path(folder) / name).write_text(text)
        files = [f"{folder}/{name}" for name in units]
        done = _run("verify", "--man=no", *files)
        complaints = [line.replace(f"{folder}/", "") for line in done.stderr.splitlines()]
    ours = [line for line in complaints if any(name in line for name in units)]
    if done.returncode and not ours:
        raise RuntimeError(f"systemd-analyze verify ended with {done.returncode}: {done.stderr}")
    return ours


class _Question(NamedTuple):
    """For so many instants from ``start`` on of each line; those that name the zone are asked for in it."""

    zone: str
    lines: Sequence[str]
    start: datetime
    iterations: int


def _ask(question: _Question) -> list[list[datetime]]:
    before = int((question.start - timedelta(seconds=1)).timestamp())
    options = [f"--iterations={question.iterations}", f"--base-time=@{before}"]
    lines = [_within(line, question.zone) for line in question.lines]
    done = _run("calendar", *options, "--", *lines, zone=question.zone)
    blocks = done.stdout.split(_BLOCK)[1:]
    if done.returncode or len(blocks) != len(lines):
        raise CalendarRefused(done.stderr.strip())
    return [[*map(_instant, _elapses(block))] for block in blocks]


def _elapses(block: str) -> list[str]:
    """Return the times of a line in UTC; where that is the local time, too, it is not said twice."""
    return _ELAPSES_ELSEWHERE.findall(block) or _ELAPSES.findall(block)


def _parted(line: str) -> tuple[str, str]:
    """Return a line without its zone, and the zone."""
    rest, _, last = line.rpartition(" ")
    return (rest, last) if rest and last in _ZONES else (line, _UTC)


def _within(line: str, zone: str) -> str:
    rest, named = _parted(line)
    return rest if named == zone != _UTC else line


def _iterations(instants: Sequence[datetime], *, start: datetime, end: datetime) -> int:
    """Return how many to ask for to come to ``end``: a power of two, four times as many at least."""
    needed = len(instants) * ((end - start) / (instants[-1] - start + timedelta(seconds=1)))
    return 1 << max(int(needed * 1.05), 4 * len(instants) - 1).bit_length()


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _run(*arguments: str, zone: str = _UTC) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        env={**_ENVIRONMENT, "TZ": zone},
        capture_output=True,
        text=True,
        timeout=300,
    )

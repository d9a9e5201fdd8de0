"""When Kubernetes' cron engine fires: robfig/cron v3, parsed as the CronJob controller does.

The library comes from Debian's package; ``robfig_fires.go`` is compiled once for each version of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.engines import debian
from tests.engines.crond import zone_database

_SOURCE = Path(__file__).with_name("robfig_fires.go")
_LIBRARY = Path("/usr/share/gocode/src/github.com/robfig/cron")
_ENDLESS = 3
"""The status with which the program ends when a case takes too long."""


@dataclass(frozen=True, slots=True)
class RobfigCase:
    """One question: when ``expression`` fires from ``start`` to ``end``, both included."""

    id: str
    expression: str
    timezone: str
    start: datetime
    end: datetime
    limit: int = 1_000_000


def fires(
    cases: Iterable[RobfigCase], *, case_limit: timedelta = timedelta(seconds=30)
) -> dict[str, list[datetime] | str]:
    """Return for each case's id the instants, in UTC, or the engine's error.

    A case that takes longer than ``case_limit``, such as one that never ends, is an error as well.
    """
    left = {case.id: case for case in cases}
    answers: dict[str, list[datetime] | str] = {}
    while left:
        for answer in _ask(list(left.values()), case_limit):
            del left[answer["id"]]
            answers[answer["id"]] = answer.get("error") or _instants(answer.get("seconds", []))
    return answers


def _ask(cases: Sequence[RobfigCase], case_limit: timedelta) -> Iterator[dict[str, Any]]:
    """Yield the answers of one process: to all cases, or up to one that takes too long."""
    done = subprocess.run(
        [_program(), f"{case_limit.total_seconds()}s"],
        input=json.dumps([_question(case) for case in cases]),
        env={**os.environ, "ZONEINFO": str(zone_database())},
        capture_output=True,
        text=True,
        timeout=60 + case_limit.total_seconds() * len(cases),
    )
    if done.returncode not in (0, _ENDLESS):
        raise RuntimeError(f"{_SOURCE.name} ended with {done.returncode}: {done.stderr}")
    yield from map(json.loads, done.stdout.splitlines())


def _question(case: RobfigCase) -> dict[str, str | int]:
    return {
        "id": case.id,
        "expression": case.expression,
        "timezone": case.timezone,
        "start": int(case.start.timestamp()),
        "end": int(case.end.timestamp()),
        "limit": case.limit,
    }


def _instants(seconds: Sequence[int]) -> list[datetime]:
    return [datetime.fromtimestamp(at, UTC) for at in seconds]


@cache
def _program() -> Path:
    debian.ensure("golang-go", "golang-github-robfig-cron-dev")
    parts = [_SOURCE.read_bytes(), *(file.read_bytes() for file in sorted(_LIBRARY.glob("*.go")))]
    program = debian.CACHE / f"robfig-{hashlib.sha256(b''.join(parts)).hexdigest()[:12]}"
    with debian.locked("robfig"):
        if not program.exists():
            _build(program)
    return program


def _build(program: Path) -> None:
    """Compile without modules and without the network, from a ``GOPATH`` of links."""
    with TemporaryDirectory(prefix="purista-robfig-", dir=debian.CACHE) as folder:
        library = Path(folder) / "src/github.com/robfig/cron/v3"
        library.parent.mkdir(parents=True)
        library.symlink_to(_LIBRARY)
        settings = {
            "GO111MODULE": "off",
            "GOPATH": folder,
            "GOCACHE": f"{folder}/cache",
            "GOFLAGS": "",
            "CGO_ENABLED": "0",
        }
        fresh = Path(folder) / program.name
        subprocess.run(
            ["go", "build", "-o", str(fresh), str(_SOURCE)],
            env={**os.environ, **settings},
            check=True,
            timeout=300,
        )
        fresh.rename(program)

"""A manager of systemd, over ``systemctl``: the host's, or that of the user who asks."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from purista.sync.port import SyncError
from purista.sync.retrying import ATTEMPTS, rest

PAGE: Final = 200
"""Units that are asked for at a time."""

TIMEOUT: Final = 90.0
"""Seconds that ``systemctl`` may take: reading thousands of units again takes some."""

_PROPERTIES: Final = ("Id", "ActiveState", "UnitFileState", "NeedDaemonReload", "DropInPaths")
_FOR_NOW: Final = re.compile(
    r"timed out|connection reset|temporarily unavailable|device or resource busy|no buffer space|"
    r"limit (exceeded|hit)|connection terminated|transport endpoint",
    re.IGNORECASE,
)
_GONE: Final = re.compile(r"does not exist|not loaded|not found|no such file", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class State:
    """What the manager says of a unit.

    ``is_active``: it runs now. ``is_enabled``: it does after the next start of the host. ``is_behind``: the
    manager has not read the files as they are. ``drop_ins`` are the files that change the unit.
    """

    is_active: bool = False
    is_enabled: bool = False
    is_behind: bool = False
    drop_ins: tuple[str, ...] = ()


class Manager:
    """Asks and tells one manager; ``whose`` is ``system`` or ``user``."""

    def __init__(self, whose: str) -> None:
        self.is_users = whose == "user"
        self._whose = whose
        self._reloading = asyncio.Lock()
        self._begun = self._done = 0

    async def refuse_missing(self) -> None:
        """Raise ``SyncError`` unless there is a manager that answers."""
        await self._asked("show", "--property=Version")

    async def states(self, files: Sequence[str]) -> dict[str, State]:
        """Return the state of units by their names."""
        found: dict[str, State] = {}
        for at in range(0, len(files), PAGE):
            page = files[at : at + PAGE]
            options = f"--property={','.join(_PROPERTIES)}"
            found |= dict(_states(await self._asked("show", options, "--", *page)))
        return found

    async def enable(self, unit: str) -> None:
        """Let a unit start with the host."""
        await self._asked("enable", "--no-reload", "--", unit)

    async def disable(self, unit: str) -> None:
        """Let a unit not start with the host, and stop it; one that is gone is no error."""
        code, _, told = await self._tried("disable", "--no-reload", "--now", "--", unit)
        if code and _GONE.search(told):
            code, _, told = await self._tried("stop", "--", unit)
        if code and not _GONE.search(told):
            raise self._refusal(told)

    async def restart_running(self, unit: str) -> None:
        """Stop a unit and start it where it runs; nothing where it does not."""
        await self._asked("try-restart", "--", unit)

    async def restart(self, unit: str) -> None:
        """Stop a unit, where it runs, and start it."""
        await self._asked("restart", "--", unit)

    async def start(self, unit: str) -> None:
        """Start a unit without waiting for it."""
        await self._asked("start", "--no-block", "--", unit)

    async def reload(self) -> None:
        """Let the manager read all files as they are now; one reading is enough for all who wait."""
        before = self._begun
        async with self._reloading:
            if self._done > before:
                return
            self._begun += 1
            number = self._begun
            await self._asked("daemon-reload")
            self._done = number

    async def _asked(self, *words: str) -> str:
        code, found, told = await self._tried(*words)
        if code:
            raise self._refusal(told)
        return found

    async def _tried(self, *words: str) -> tuple[int, str, str]:
        """Call systemctl, again where the manager refuses for now."""
        for attempt in range(1, ATTEMPTS + 1):
            code, found, told = await self._run(*words)
            if not code or not _FOR_NOW.search(told) or attempt == ATTEMPTS:
                return code, found, told
            await rest(attempt)
        raise AssertionError

    async def _run(self, *words: str) -> tuple[int, str, str]:
        program = shutil.which("systemctl")
        if program is None:
            raise SyncError("there is no program systemctl; run this on a host with systemd")
        environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
        process = await asyncio.create_subprocess_exec(
            program,
            f"--{self._whose}",
            "--no-ask-password",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            async with asyncio.timeout(TIMEOUT):
                found, told = await process.communicate()
        except TimeoutError:
            raise SyncError(f"systemctl {words[0]} gave no answer in {TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return process.returncode, os.fsdecode(found), told.decode(errors="replace")

    def _refusal(self, told: str) -> SyncError:
        plain = " ".join(told.split())
        if "connect to bus" in plain or "booted with systemd" in plain:
            remedy = "say PURISTA_SYSTEMD=user for the manager of a user" * (not self.is_users)
            plain = f"{plain}; no manager answers{remedy and f'; {remedy}'}"
        return SyncError(f"systemctl --{self._whose}: {plain}")


def _states(text: str) -> Iterator[tuple[str, State]]:
    for block in text.split("\n\n"):
        said: Mapping[str, str] = dict(
            line.split("=", 1) for line in block.splitlines() if "=" in line
        )
        if "Id" in said:
            yield (
                said["Id"],
                State(
                    said.get("ActiveState") in ("active", "activating"),
                    said.get("UnitFileState") in ("enabled", "enabled-runtime"),
                    said.get("NeedDaemonReload") == "yes",
                    tuple(_paths(said.get("DropInPaths", ""))),
                ),
            )


def _paths(text: str) -> list[str]:
    """Return paths as ``systemctl show`` quotes them where they have spaces."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()

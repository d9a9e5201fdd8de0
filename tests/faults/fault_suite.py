"""What the fault suites share: a server that is harmed, other processes, waiting, and figures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from tests.engines.proxy import Proxy, proxy
from tests.faults.access import Access
from tests.faults.effects import Effects
from tests.faults.waiting import PATIENCE, soon

from purista.message import new_message_id

ROOT = Path(__file__).resolve().parents[2]
JOBS = 300
"""How many messages a load has."""

PRODUCERS = 4
OUTAGE = 3.0
"""Seconds of the outage whose cost is measured."""


class Load(NamedTuple):
    """When each message of a load was confirmed, and when the fault was over."""

    confirmed: dict[str, float]
    over: float

    @property
    def before(self) -> int:
        return sum(at < self.over for at in self.confirmed.values())

    @property
    def first_after(self) -> float:
        return min(at for at in self.confirmed.values() if at >= self.over) - self.over


class FaultSuite:
    """A subclass says which bridge, and has a fixture ``server`` for its module.

    The server has a ``url``, a ``port``, and ``kill``, ``restart``, ``freeze`` and ``thaw``.
    """

    bridge: str
    """The bridge's class, as ``module:Class``."""

    options: ClassVar[dict[str, Any]] = {}
    """Keywords of the bridge."""

    lease = 0.6
    """Seconds: longer than a busy machine pauses, shorter than a test."""

    recovery = 5.0
    """Seconds within which a bridge has to be at work again when its broker is back."""

    server: Any

    @pytest.fixture(autouse=True)
    def _surroundings(
        self, server: Any, tmp_path: Path, record_property: Callable[[str, object], None]
    ) -> None:
        self.server = server
        self.effects = Effects(tmp_path / "effects")
        self._record = record_property

    # -- what a subclass may say otherwise ------------------------------------------------------

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()

    def freeze(self) -> None:
        self.server.freeze()

    def thaw(self) -> None:
        self.server.thaw()

    # -- bridges and processes ------------------------------------------------------------------

    def access(self, *, url: str | None = None, timeout: float = 10.0) -> Access:
        return Access(self.bridge, url or self.server.url, self.options, timeout)

    @contextlib.asynccontextmanager
    async def opened(self, *, url: str | None = None, timeout: float = 10.0) -> AsyncIterator[Any]:
        """Open a bridge; the test fails when it cannot be closed in time."""
        bridge = self.access(url=url, timeout=timeout).open()
        try:
            yield bridge
        finally:
            await soon(bridge.close())

    @contextlib.asynccontextmanager
    async def proxied(self, *, timeout: float = 10.0) -> AsyncIterator[tuple[Proxy, Any]]:
        """Open a bridge whose way to the server leads through a proxy."""
        with proxy(self.server.port) as way:
            async with self.opened(url=way.through(self.server.url), timeout=timeout) as bridge:
                yield way, bridge

    @contextlib.contextmanager
    def process(self, what: str, *arguments: object) -> Iterator[Process]:
        """Start a program of its own on the bridge; it is killed in the end."""
        command = [sys.executable, "-m", "tests.programs.fault_user", self.access().text(), what]
        command += [str(argument) for argument in arguments]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            try:
                yield Process(child)
            finally:
                child.kill()

    # -- the rest -------------------------------------------------------------------------------

    def name(self, word: str) -> str:
        """Return a name that no other test uses."""
        return f"faults.v1.{word}-{new_message_id()}"

    def figure(self, what: str, value: float | str) -> None:
        """Keep a measured figure: in the report of the test run, and on stdout."""
        shown = f"{value:.3f}" if isinstance(value, float) else str(value)
        self._record(what, shown)
        sys.stdout.write(f"{type(self).__name__}: {what}: {shown}\n")


class ServerFaultSuite(FaultSuite):
    """A broker that is killed or stands still while producers and workers are at work."""

    quiet = 8
    """How many warnings an outage may give: that it began, and that it is over, for each connection."""

    @contextlib.asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        """Kill the server, and start it again in the end, whatever happens meanwhile."""
        await asyncio.to_thread(self.kill)
        try:
            yield
        finally:
            await asyncio.to_thread(self.restart)

    async def killed_and_restarted(self) -> None:
        async with self.outage():
            await asyncio.sleep(0.3)

    async def standing_still(self) -> None:
        await asyncio.to_thread(self.freeze)
        try:
            await asyncio.sleep(2 * self.lease)
        finally:
            await asyncio.to_thread(self.thaw)

    def workers_since(self, instant: float) -> set[str]:
        return {one.who for one in self.effects.all("ended") if one.at > instant}

    def check(self, load: Load) -> None:
        """Check what holds whatever happens, and keep the figures."""
        ended = self.effects.all("ended")
        here = min(one.at for one in ended if one.who != "child" and one.at > load.over)
        there = min(one.at for one in ended if one.who == "child" and one.at > load.over)
        self.figure("confirmed before", str(load.before))
        self.figure("confirmed again after seconds", load.first_after)
        self.figure("handled again after seconds", here - load.over)
        self.figure("handled again by the other process after seconds", there - load.over)
        self.figure("duplicates", str(self.effects.duplicates()))
        assert load.before < len(load.confirmed), "the fault came too late to matter"
        assert self.effects.missing(load.confirmed) == set()
        assert max(here, there) - load.over < self.recovery


class Process:
    """A program that is running, was stopped, or was killed."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    async def told(self) -> Any:
        """Return what it tells next."""
        assert self._child.stdout is not None
        line = await soon(asyncio.to_thread(self._child.stdout.readline))
        assert line, "the program ended"
        return json.loads(line)

    def rest(self) -> list[Any]:
        """Return all that it still told before it was killed; the last line may be half."""
        assert self._child.stdout is not None
        found = []
        for line in self._child.stdout:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def go_on(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()

    def freeze(self) -> None:
        """Stop it (``SIGSTOP``); return once it stands still."""
        self._child.send_signal(signal.SIGSTOP)
        os.waitpid(self._child.pid, os.WUNTRACED)

    def thaw(self) -> None:
        self._child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it at once."""
        self._child.kill()
        self._child.wait(PATIENCE)

    def terminate(self) -> None:
        """Ask it to end."""
        self._child.terminate()

    async def ended(self) -> int:
        return await soon(asyncio.to_thread(self._child.wait))

"""A shop whose schedules are planned and applied on the command line, for tests of live schedulers."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from purista.cli.app import run
from purista.plan import Desired, Observed, Plan, Planner

APP = """
from datetime import UTC, datetime, timedelta
from purista import Cron, Every, Once, Service

shop = Service("Shop", version="1")
due = shop.event("shop.due", str, external=True)
options = {"payload": "x", "missed_run_policy": "skip"}
"""
DAILY = 'shop.schedule("daily").emit_event(due, expression=Cron("0 2 * * *"), **options)\n'
HOURLY = (
    'shop.schedule("hourly").emit_event(due, expression=Every(timedelta(hours=1)), **options)\n'
)
MOVED = DAILY.replace("0 2", "0 3")

Capture = pytest.CaptureFixture[str]


class Planned:
    """A folder with the shop's code, and a scheduler that holds its schedules."""

    def __init__(
        self, scheduler: str, folder: Path, capsys: Capture, deployment: str = "default"
    ) -> None:
        self.scheduler = scheduler
        self.is_deployed = False
        self.folder = folder
        self.capsys = capsys
        self.deployment = deployment

    def write(self, *schedules: str) -> None:
        """Let the shop have these schedules."""
        (self.folder / "shop.py").write_text(APP + "".join(schedules))

    def deploy(self, *lines: str) -> None:
        """Let the settings have a table of the deployment, and plan that from now on."""
        file = self.folder / "purista.toml"
        before = file.read_text().partition("[deployments.")[0] if file.exists() else ""
        table = [f"[deployments.{self.deployment}]", f'scheduler = "{self.scheduler}"', *lines]
        file.write_text("\n".join([before, *table, ""]))
        self.is_deployed = True

    def call(self, command: str, *options: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, and what it wrote."""
        named = [] if self.is_deployed else ["--deployment", self.deployment]
        place = self.deployment if self.is_deployed else self.scheduler
        return self.run(command, place, "shop:shop", *named, *options)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command with just these arguments."""
        sys.modules.pop("shop", None)
        code = run(arguments)
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def plan(self, *options: str) -> dict[str, Any]:
        """Return the plan as JSON."""
        code, out, err = self.call("plan", "--json", *options)
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    def actions(self, *options: str) -> list[tuple[str, str]]:
        """Return what would be done, to objects by their names."""
        return [(one["action"], one["name"]) for one in self.plan(*options)["changes"]]

    def kept(self, *options: str) -> dict[str, Any]:
        """Return what a person changed and is kept, by the names of the fields; nothing is to be done."""
        found = self.plan(*options)
        assert found["changes"] == []
        return {one["name"]: one["before"] for each in found["kept"] for one in each["kept"]}

    def is_done(self, *options: str) -> bool:
        """Return whether there is nothing to do, and nothing that differs."""
        found = self.plan(*options)
        return not (found["changes"] or found["kept"] or found["conflicts"])

    def apply(self, *options: str) -> None:
        """Apply what is planned."""
        code, _, err = self.call("apply", *options)
        assert code == 0, err


def make_plan(
    scheduler: str,
    deployment: str,
    desired: Iterable[Desired],
    observed: Iterable[Observed],
    *,
    overrides: frozenset[str] = frozenset(),
) -> Plan:
    """Return the plan for what was observed."""
    planner = Planner(scheduler, deployment, desired, overrides=overrides)
    for each in observed:
        planner.see(each)
    return planner.plan()


@contextmanager
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the shop's code be found in a folder, and read anew each time, by processes of its own as well.

    Compiled code is taken for that of a text of the same size that was written in the same second.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    yield
    sys.modules.pop("shop", None)


class Cut(BaseException):
    """The process ends here."""


class Cutting:
    """Stands for a method that is called for every call to a scheduler; ends the process at one of them.

    ``call`` counts from 1. ``after``: once it has had its effect.
    """

    def __init__(self, method: Callable[..., Awaitable[Any]], call: int, *, after: bool) -> None:
        self._method = method
        self._call = call
        self._after = after
        self.calls = 0

    def __get__(self, instance: Any, owner: type) -> Callable[..., Awaitable[Any]]:
        async def called(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            is_last = self.calls == self._call
            if is_last and not self._after:
                raise Cut
            found = await self._method(instance, *arguments, **options)
            if is_last:
                raise Cut
            return found

        return called


def cut_at_every_call(shops: Iterator[Planned], kind: type, method: str) -> int:
    """Cut an apply at each of its calls, before and after its effect; return how many calls it has.

    Each is begun anew by one that is not cut, after which nothing is to do.
    """
    original = getattr(kind, method)
    call = 0
    while True:
        call += 1
        ended = []
        for after in (False, True):
            shop = next(shops)
            shop.write(DAILY, HOURLY)
            shop.apply()
            shop.write(MOVED, HOURLY.replace("hourly", "new"))
            setattr(kind, method, Cutting(original, call, after=after))
            try:
                ended.append(shop.call("apply", "--force")[0] == 0)
            except Cut:
                ended.append(False)
            finally:
                setattr(kind, method, original)
            shop.apply("--force")
            found = shop.plan()
            assert (found["changes"], found["kept"], found["unchanged"]) == ([], [], 2)
            shop.write()
            shop.apply("--force")
        if all(ended):
            return call - 1

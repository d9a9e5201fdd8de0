"""A ``purista serve`` in a process of its own, and a shop to serve, for tests of the command line."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

APP = """
import asyncio
from datetime import timedelta
from pathlib import Path
from pydantic import BaseModel
from purista import Context, Cron, Every, HandledError, Service

class Cycle(BaseModel):
    cycle: str

shop = Service("Shop", version="1")
due = shop.event("shop.due", Cycle)
jobs = shop.queue("jobs", Cycle)
purge = shop.command("purge", Cycle, returns=int)
payload = {"cycle": "{nominal_time:%Y-%m-%dT%H:%M}"}

shop.schedule("minutely").emit_event(
    due, expression=Cron("* * * * *"), missed_run_policy="catchUp", payload=payload
)
shop.schedule("hourly").enqueue(
    jobs, expression=Cron("0 * * * *"), missed_run_policy="skip", payload=payload
)
shop.schedule("single").invoke_command(
    purge, expression=Cron("30 * * * *"), payload=payload, concurrency_policy="forbid"
)

def log(text):
    with open("effects.log", "a") as file:
        file.write(text + "\\n")

@shop.subscription(due)
async def bill(cycle: Cycle, ctx: Context) -> None:
    log(f"billed {cycle.cycle}")

@shop.worker(jobs)
async def work(cycle: Cycle, ctx: Context) -> None:
    log(f"began {cycle.cycle}")
    while not Path("finish").exists():
        await asyncio.sleep(0.01)
    log(f"finished {cycle.cycle}")

@shop.handles(purge)
async def on_purge(cycle: Cycle, ctx: Context) -> int:
    if Path("fail").exists():
        raise HandledError("no", "not today")
    return 1
"""

TOKEN = "0123456789abcdef0123456789abcdef"
DEADLINE = 20.0


class Served:
    """The process: where it listens, and what it did."""

    def __init__(self, process: subprocess.Popen[str], folder: Path, log: Path) -> None:
        self.process = process
        self.folder = folder
        self._log = log
        self.url = ""

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def effects(self) -> list[str]:
        path = self.folder / "effects.log"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, text: str) -> None:
        """Wait until the log or the effects have a text."""
        end = time.monotonic() + DEADLINE
        while text not in self.log and not any(text in one for one in self.effects):
            assert time.monotonic() < end, f"no '{text}' in:\n{self.log}"
            assert self.process.poll() is None or text in self.log, self.log
            time.sleep(0.01)

    def ready(self) -> None:
        self.wait_for(" at http://")
        found = re.search(r" at (http://\S+:\d+)", self.log)
        assert found is not None
        self.url = found[1].rstrip('"}')


@contextlib.contextmanager
def served(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, name: str = "serve"
) -> Iterator[Served]:
    """Run ``purista serve shop_app:shop --port 0`` until it is ready; end it afterwards."""
    (folder / "shop_app.py").write_text(APP)
    command = ["serve", "shop_app:shop", "--port", "0", *arguments]
    with started(folder, *command, env=env, name=name) as one:
        one.ready()
        yield one


@contextlib.contextmanager
def started(
    folder: Path, *command: str, env: Mapping[str, str] | None = None, name: str
) -> Iterator[Served]:
    """Run a ``purista`` command in a folder; end it afterwards."""
    log = folder / f"{name}.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "purista", *command],
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdout=file,
            stderr=file,
            text=True,
        )
    try:
        yield Served(process, folder, log)
    finally:
        process.kill()
        process.wait()

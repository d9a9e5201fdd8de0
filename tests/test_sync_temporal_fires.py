"""Planned schedules of Temporal fire into an ingress, and the audit finds nothing missing."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.engines.temporal import temporal_server
from tests.served import Served, started

APP = """
from datetime import timedelta
from purista import Context, Cron, Every, Service

shop = Service("Shop", version="1")
due = shop.event("shop.due", str)
options = {"payload": "x", "missed_run_policy": "skip"}
shop.schedule("second").emit_event(due, expression=Every(timedelta(seconds=1)), **options)
shop.schedule("even").emit_event(due, expression=Cron("*/2 * * * * *", seconds=True), **options)
shop.schedule("daily").emit_event(due, expression=Cron("0 2 * * *"), **options)

@shop.subscription(due)
async def note(text: str, ctx: Context) -> None:
    with open("effects.log", "a") as file:
        file.write(f"{ctx.run_id}\\n")
"""
SERVICE = "fired_shop:shop"
LEDGER = ("--ledger", "sqlite:///runs.sqlite")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "fired_shop.py").write_text(APP)
    with asyncio.Runner() as runner:
        server = temporal_server()
        client = runner.run(server.__aenter__())
        monkeypatch.setenv("TEMPORAL_ADDRESS", client.service_client.config.target_host)
        yield tmp_path
        runner.run(server.__aexit__(None, None, None))


def purista(folder: Path, *arguments: str) -> str:
    """Run a command; return what it wrote to stdout."""
    command = [sys.executable, "-m", "purista", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def worker(folder: Path) -> Iterator[None]:
    """Run the worker that was compiled."""
    purista(folder, "compile", "temporal", SERVICE, "--output", "compiled")
    command = [sys.executable, "purista_schedules.py", "worker"]
    process = subprocess.Popen(command, cwd=folder / "compiled")
    try:
        yield
    finally:
        process.kill()
        process.wait()


def wait_for_effects(one: Served, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(one.effects) < count:
        assert time.monotonic() < deadline, one.log
        time.sleep(0.1)


def test_planned_schedules_fire_into_the_ingress_and_nothing_is_missing(folder: Path) -> None:
    serve = ["serve", SERVICE, "--dev", "--port", "0", *LEDGER]
    with started(folder, *serve, name="serve") as ingress:
        ingress.ready()
        (folder / "purista.toml").write_text(f'[ingress]\nurl = "{ingress.url}"\n')
        with worker(folder):
            purista(folder, "apply", "temporal", SERVICE)
            wait_for_effects(ingress, 1)
            since = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
            wait_for_effects(ingress, 15)
            purista(folder, "trigger", "--via", "temporal", SERVICE, "-s", "daily")
            wait_for_effects(ingress, len(ingress.effects) + 4)
            until = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
        found = json.loads(
            purista(
                folder,
                *("audit", SERVICE, *LEDGER, "--json"),
                *("--since", f"{since:%Y-%m-%dT%H:%M:%SZ}"),
                *("--until", f"{until:%Y-%m-%dT%H:%M:%SZ}"),
            )
        )
        runs = json.loads(purista(folder, "runs", *LEDGER, "--json", "-s", "Shop.v1.daily"))
    by_name: dict[str, Any] = {each["scheduleId"]: each for each in found["schedules"]}
    seconds = (until - since) // timedelta(seconds=1)
    assert seconds >= 5
    assert by_name["Shop.v1.second"]["expected"] == seconds
    assert [each["findings"] for each in by_name.values()] == [[], [], []]
    assert len(runs) == 1
    assert len(ingress.effects) == len(set(ingress.effects))

"""A past for tests of the command line: triggers that a shop's ingress decided hours ago."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.served import APP

from purista import Ingress, MemoryEventBridge, MemoryQueueBridge, SQLiteLedger, Trigger
from purista.testing import ManualClock

HOUR = timedelta(hours=1)
NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def ago(hours: int) -> datetime:
    """A nominal time of the hourly schedule."""
    return NOW - hours * HOUR


def text(hours: int) -> str:
    return ago(hours).isoformat().replace("+00:00", "Z")


def shop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the shop into a folder, and go there."""
    (folder / "shop_app.py").write_text(APP)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(importlib.import_module("sys").modules, "shop_app", raising=False)
    for name in ("PURISTA_URL", "PURISTA_LEDGER", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def happened(
    *sent: tuple[datetime, datetime],
    schedule: str = "Shop.v1.hourly",
    ledger: str = "runs.sqlite",
    since: int = 100,
) -> None:
    """Have triggers decided, each at an instant for a nominal time; their runs end well."""
    asyncio.run(_happened(sorted(sent), schedule, ledger, ago(since)))


async def _happened(
    sent: Iterable[tuple[datetime, datetime]], schedule: str, path: str, since: datetime
) -> None:
    shop = importlib.import_module("shop_app").shop
    clock = ManualClock(since)
    ledger = SQLiteLedger(path, retention=timedelta(days=1))
    bridges = {
        "event_bridge": MemoryEventBridge(clock=clock),
        "queue_bridge": MemoryQueueBridge(clock=clock),
    }
    async with Ingress([shop], ledger=ledger, clock=clock, **bridges) as ingress:
        for at, nominal in sent:
            await clock.advance_to(max(at, clock.now()))
            decision = await ingress.accept(
                Trigger(schedule_id=schedule, nominal_time=nominal, source="test")
            )
            if decision.accepted:
                await ledger.end(decision.run_id or "", outcome="acked", now=clock.now())
    await ledger.close()

"""Live schedulers by their name; addresses and credentials come from where each vendor's tools take them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Final

from purista.compiling import Request
from purista.contract import near
from purista.errors import LoadError
from purista.sync.port import LiveScheduler

LIVE: Final = {
    "airflow": "airflow",
    "cloud-scheduler": "cloud_scheduler",
    "cron": "cron",
    "eventbridge": "eventbridge",
    "kubernetes": "kubernetes",
    "nats": "nats",
    "systemd": "systemd",
    "temporal": "temporal",
}
"""The modules of the schedulers that can be read and changed; each has ``open_live``."""


@asynccontextmanager
async def live_scheduler(name: str, request: Request) -> AsyncIterator[LiveScheduler]:
    """Open a live scheduler. Raises ``LoadError``, ``MissingExtraError`` or ``SyncError``."""
    if name not in LIVE:
        raise LoadError(f"scheduler '{name}' can be compiled for, not planned; {near(name, LIVE)}")
    async with import_module(f"purista.sync.{LIVE[name]}").open_live(request) as live:
        yield live

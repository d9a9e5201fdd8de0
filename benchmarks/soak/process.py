"""One ingress process of the soak: ingress, handlers and the HTTP entry point."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime, timedelta
from pathlib import Path

import uvicorn
from benchmarks.soak.contract import Plan, build
from benchmarks.soak.effects import Effects

from purista import Host, Ingress, MemoryEventBridge
from purista.bridges.opening import open_queues
from purista.ingress.http import ingress_app
from purista.ledgers.opening import open_ledger
from purista.verifying.bearer import BearerVerifier

LEASE = timedelta(seconds=2)


async def main(folder: Path, port: int) -> None:
    """Serve until killed."""
    settings = json.loads((folder / "soak.json").read_text())
    plan = Plan(datetime.fromisoformat(settings["base"]), settings["schedules"], settings["times"])
    soak = build(plan, Effects(folder / "effects.sqlite"))
    ledger, queues = open_ledger(settings["ledger"]), open_queues(settings["queues"])
    bridges = {"event_bridge": MemoryEventBridge(), "queue_bridge": queues}
    async with (
        Ingress([soak], ledger=ledger, claim_lease=LEASE, **bridges) as ingress,
        Host(soak, ledger=ledger, **bridges),
    ):
        app = ingress_app(ingress, verifiers=[BearerVerifier(f"file:{folder / 'token'}")])
        config = uvicorn.Config(app, port=port, log_level="critical", lifespan="on")
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))

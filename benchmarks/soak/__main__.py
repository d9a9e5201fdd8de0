"""Runs the soak: sends, kills, redelivers, checks; the exit code says whether the promise held."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import secrets
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.soak.checker import mistakes
from benchmarks.soak.contract import Plan, build
from benchmarks.soak.effects import Effects
from benchmarks.soak.fleet import Fleet, kill_at_random
from benchmarks.soak.sender import Sender
from benchmarks.soak.store import Store, opened


async def soak(options: argparse.Namespace, folder: Path, store: Store) -> int:
    """Run one soak; return how many mistakes were found."""
    chance, token = random.Random(options.seed), secrets.token_urlsafe(24)
    span = options.times * timedelta(seconds=10)
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    plan = Plan(now - span - timedelta(minutes=2), options.schedules, options.times)
    settings = {"base": plan.base.isoformat(), "schedules": plan.schedules, "times": plan.times}
    settings |= {"ledger": store.ledger, "queues": store.queues}
    (folder / "soak.json").write_text(json.dumps(settings))
    (folder / "token").write_text(token)
    effects = Effects(folder / "effects.sqlite")
    contract = build(plan, effects)
    schedules = list(contract.schedules.values())
    async with Fleet(folder, options.processes) as fleet:
        began, sender = time.perf_counter(), Sender(fleet, plan, chance, token)
        killer = asyncio.create_task(kill_at_random(fleet, chance, store.kill, options.pause))
        await sender.send_all(schedules, copies=0.25)
        killer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await killer
        await asyncio.gather(*(fleet.ready(port) for port in fleet.ports))
        print(f"sent with kills: {dict(sender.answers)} in {time.perf_counter() - began:.0f} s")
        await sender.send_all(schedules, copies=0)
        await asyncio.sleep(options.settle)
        found = list(mistakes(plan, contract, effects, fleet.died_at))
        print(
            f"{options.ledger}, seed {options.seed}: {sender.sent} triggers of {plan.schedules} "
            f"schedules, {fleet.kills} processes killed, the store {fleet.store_kills} times, retries {dict(sender.retries)}, "
            f"{sum(map(len, effects.effects().values()))} effects "
            f"in {time.perf_counter() - began:.0f} s, {len(found)} mistakes"
        )
    for mistake in found[:20]:
        print(f"  {mistake}")
    return len(found)


def main() -> int:
    """Read the options and run."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--ledger", choices=["sqlite", "postgres", "redis"], default="sqlite")
    parser.add_argument("--small", action="store_true", help="a few seconds, as in the tests")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", type=Path, default=None, help="a folder for what it leaves")
    options = parser.parse_args()
    options.seed = random.randrange(2**32) if options.seed is None else options.seed
    options.schedules, options.times = (24, 12) if options.small else (200, 100)
    options.processes, options.pause, options.settle = (2, 0.5, 4) if options.small else (3, 2, 6)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="purista-soak-") as made:
        folder = options.keep or Path(made)
        with opened(options.ledger, folder) as store:
            return 1 if asyncio.run(soak(options, folder, store)) else 0


if __name__ == "__main__":
    sys.exit(main())

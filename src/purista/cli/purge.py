"""``purista purge``: the ledger forgets what it need not remember any more."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import typer

from purista.cli.exitcode import DONE
from purista.cli.output import out, print_json
from purista.cli.settingsfile import SettingsFile, ingress_settings
from purista.cli.wiring import LedgerUrl, known_ledger
from purista.clock import SystemClock
from purista.ingress.ingress import RunStore


def purge(
    ledger: LedgerUrl = None,
    settings: SettingsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Forget what is older than the retention; no key is forgotten within its dedupe window.

    A ledger also forgets a little with each decision, so that this is for one that is idle.

    Example: purista purge --ledger sqlite:///runs.sqlite
    """
    store = known_ledger(ingress_settings(settings), ledger)
    count = asyncio.run(_purged(store, SystemClock().now()))
    if as_json:
        print_json({"forgotten": count})
    else:
        out.print(f"{count} runs, skips and records forgotten")
    return DONE


async def _purged(ledger: RunStore, now: datetime) -> int:
    try:
        return await ledger.purge(now)
    finally:
        await ledger.close()

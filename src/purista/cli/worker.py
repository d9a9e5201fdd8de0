"""``purista worker``: the services' handlers as a process of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Final

import typer

from purista.cli.bridging import (
    Bridges,
    BridgeUrl,
    EventsUrl,
    QueuesUrl,
    Waits,
    opened_bridges,
)
from purista.cli.exitcode import AGAIN, DONE
from purista.cli.loading import load_services
from purista.cli.logline import log
from purista.cli.output import say
from purista.cli.settingsfile import SettingsFile, ingress_settings
from purista.cli.shutdown import Shutdown
from purista.cli.wiring import MEMORY, LedgerUrl, ledger_url, opened_ledger
from purista.clock import Clock, SystemClock
from purista.errors import BridgeError, ContractError, LoadError, Problem
from purista.host import Host
from purista.ingress.ingress import RunStore
from purista.service import Service
from purista.settings import FILE
from purista.storeaddress import scheme_of

logger = logging.getLogger("purista.serve")

_REMEDY: Final = f"give --bridge URL, or say bridge in the table [ingress] of {FILE}"


def worker(
    services: Annotated[list[str], typer.Argument(metavar="PACKAGE.MODULE:SERVICE...")],
    settings: SettingsFile = None,
    ledger: LedgerUrl = None,
    bridge: BridgeUrl = None,
    events: EventsUrl = None,
    queues: QueuesUrl = None,
    wait: Waits = True,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False,
) -> int:
    """Run the services' handlers until SIGTERM or SIGINT: subscriptions, workers, commands.

    Triggers go to an ingress elsewhere (purista serve), which shares the broker. With the ledger of
    that ingress, a job whose run was replaced or cancelled is not begun.

    Example: purista worker billing.app:billing --bridge nats://localhost
    """
    log(log_level, as_json=as_json)
    loaded = load_services(services)
    if wrong := list(_handles_nothing(loaded)):
        raise ContractError(wrong)
    known, clock = ingress_settings(settings), SystemClock()
    bridges = opened_bridges(known, bridge=bridge, events=events, queues=queues)
    _refuse_memory(loaded, bridges)
    url = ledger_url(known, ledger)
    store = None if url is None or scheme_of(url) == MEMORY else opened_ledger(url, known)
    working = _worked(
        loaded,
        bridges,
        store,
        clock,
        grace=timedelta(seconds=known.grace_seconds),
        waits=wait,
        announce=logger.info if as_json else say,
    )
    try:
        return asyncio.run(working)
    except BridgeError as error:
        say(f"purista: {error}", "red")
        return AGAIN


async def _worked(
    services: Sequence[Service],
    bridges: Bridges,
    ledger: RunStore | None,
    clock: Clock,
    *,
    grace: timedelta,
    waits: bool,
    announce: Callable[[str], None],
) -> int:
    """Work until a signal comes, then finish. Raises ``BridgeError`` when a broker is away."""
    with Shutdown(grace) as shutdown:
        async with contextlib.AsyncExitStack() as stack:
            if ledger is not None:
                stack.push_async_callback(ledger.close)
            stack.push_async_callback(bridges.close)
            if await shutdown.comes_before(bridges.connect(waits=waits)):
                return DONE
            host = Host(
                *services,
                event_bridge=bridges.events,
                queue_bridge=bridges.queues,
                clock=clock,
                ledger=ledger,
            )
            await stack.enter_async_context(host)
            announce(f"working for {', '.join(service.id for service in services)}")
            await shutdown.wanted()
            host.grace = shutdown.left()
    logger.info("ended")
    return DONE


def _handles_nothing(services: Sequence[Service]) -> list[Problem]:
    """Say which services have nothing that a worker could run."""
    return [
        Problem(
            f"service '{one.id}'",
            "it has no handlers",
            "name the code that has them, as package.module:attribute; a manifest has none",
        )
        for one in services
        if not (one.subscriptions or one.workers or one.handlers or one.bindings)
    ]


def _refuse_memory(services: Sequence[Service], bridges: Bridges) -> None:
    """Raise ``LoadError`` where what is sent to a worker ends in the memory of its sender."""
    if not bridges.events.capabilities.across_processes:
        raise LoadError(
            "a worker is a process of its own, which events in memory do not reach; " + _REMEDY
        )
    shares = bridges.queues.capabilities.across_processes
    if not shares and any(one.workers or one.bindings for one in services):
        raise LoadError(
            "a worker is a process of its own, which queues in memory do not reach; " + _REMEDY
        )

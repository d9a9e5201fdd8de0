"""The bridges of a command: which they are, by options and settings, and how they are reached."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Annotated, Final, NamedTuple

import typer

from purista.bridges import Connects, EventBridge, QueueBridge
from purista.bridges.opening import open_events, open_queues
from purista.cli.wiring import MEMORY, resolved
from purista.clock import Clock
from purista.errors import BridgeError
from purista.schedulers.nats import NatsSettings
from purista.settings import FILE, IngressSettings
from purista.storeaddress import scheme_of

logger = logging.getLogger("purista.bridges")

BridgeUrl = Annotated[
    str | None,
    typer.Option(
        "--bridge",
        metavar="URL",
        envvar="PURISTA_BRIDGE",
        help="Events, commands and queues, such as nats://localhost, or env:NAME; else as the settings say.",
    ),
]
EventsUrl = Annotated[
    str | None,
    typer.Option(
        "--events",
        metavar="URL",
        envvar="PURISTA_EVENTS",
        help="Events and commands, if elsewhere.",
    ),
]
QueuesUrl = Annotated[
    str | None,
    typer.Option("--queues", metavar="URL", envvar="PURISTA_QUEUES", help="Queues, if elsewhere."),
]
Waits = Annotated[
    bool,
    typer.Option(
        "--wait/--no-wait", help="Wait for a broker that is away at the start, or end with 75."
    ),
]

UNANSWERED: Final = timedelta(seconds=2)
"""After so long it is said that a broker is waited for."""


class Bridges(NamedTuple):
    """An event bridge and a queue bridge."""

    events: EventBridge
    queues: QueueBridge

    async def connect(self, *, waits: bool) -> None:
        """Return once both brokers answer. Raises ``BridgeError``; without ``waits`` after one try."""
        for bridge in self:
            if isinstance(bridge, Connects):
                await _connect(bridge, waits=waits)

    async def close(self) -> None:
        """Close both."""
        try:
            await self.events.close()
        finally:
            await self.queues.close()


def addresses(
    settings: IngressSettings,
    *,
    bridge: str | None = None,
    events: str | None = None,
    queues: str | None = None,
) -> tuple[str | None, str | None]:
    """Return the addresses of events and queues: an option before a setting, one of the two before both."""
    return (
        events or bridge or settings.events or settings.bridge,
        queues or bridge or settings.queues or settings.bridge,
    )


def opened_bridges(
    settings: IngressSettings,
    *,
    bridge: str | None = None,
    events: str | None = None,
    queues: str | None = None,
    clock: Clock | None = None,
    nats: NatsSettings | None = None,
) -> Bridges:
    """Return the bridges of options and settings; they connect with their first calls.

    An option is taken before a setting, an address for one of the two before that for both. A
    ``clock`` of its own is for what is in this process: a broker keeps real time. With ``nats`` the
    triggers of the server's own schedules are a queue. Raises
    ``BridgeError``, ``SettingsError`` or ``MissingExtraError``.
    """
    of_events, of_queues = addresses(settings, bridge=bridge, events=events, queues=queues)
    event_url = resolved("the address of the events", of_events) or f"{MEMORY}://"
    queue_url = resolved("the address of the queues", of_queues) or f"{MEMORY}://"
    if scheme_of(queue_url) in ("amqp", "amqps"):
        raise BridgeError(
            "queues: RabbitMQ carries events and commands, no leased jobs; name another place for the "
            f"queues with --queues, or queues in the table [ingress] of {FILE}"
        )
    opened = open_events(event_url, prefix=settings.prefix, clock=clock)
    streams = {} if nats is None else {nats.target: (nats.stream, nats.target)}
    jobs = open_queues(queue_url, prefix=settings.prefix, clock=clock, streams=streams)
    bridges = Bridges(opened, jobs)
    if clock is not None and any(isinstance(one, Connects) for one in bridges):
        raise BridgeError("a broker keeps real time; leave out --speed and --from, or the broker")
    return bridges


async def _connect(bridge: Connects, *, waits: bool) -> None:
    if not waits:
        await bridge.connect(patience=timedelta(0))
        return
    connecting = asyncio.create_task(bridge.connect())
    try:
        done, _ = await asyncio.wait([connecting], timeout=UNANSWERED.total_seconds())
        if not done:
            logger.warning("%s: waiting for it", bridge.health.reason or bridge)
        await connecting
    finally:
        connecting.cancel()
        with contextlib.suppress(asyncio.CancelledError, BridgeError):
            await connecting

"""An ingress and the services' handlers, opened and closed in their order."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

from purista.cli.bridging import Bridges
from purista.cli.wiring import previous
from purista.clock import Clock
from purista.host import Host
from purista.ingress import Ingress
from purista.ingress.consumer import EventConsumer, QueueConsumer
from purista.ingress.ingress import RunStore
from purista.service import Service
from purista.settings import IngressSettings


@contextlib.asynccontextmanager
async def running(
    services: Sequence[Service],
    settings: IngressSettings,
    *,
    ledger: RunStore,
    bridges: Bridges,
    clock: Clock,
    handles: bool = True,
    triggers: str | None = None,
    grace: timedelta | None = None,
) -> AsyncIterator[tuple[Ingress, Host]]:
    """Open an ingress, and with ``handles`` the services' handlers; leaving it drains, then closes all.

    ``triggers`` is a queue, and an event, from which the ingress takes triggers. Closes the ledger and the bridges too, which are to be connected.
    """
    async with contextlib.AsyncExitStack() as stack:
        for each in (ledger, bridges):
            stack.push_async_callback(each.close)
        ingress = Ingress(
            services,
            event_bridge=bridges.events,
            queue_bridge=bridges.queues,
            ledger=ledger,
            clock=clock,
            recovery=settings.recovery,
            previous=previous(settings),
            unknown_contract=settings.unknown_contract,
        )
        await stack.enter_async_context(ingress)
        host = Host(
            *(services if handles else ()),
            event_bridge=bridges.events,
            queue_bridge=bridges.queues,
            clock=clock,
            ledger=ledger,
            grace=grace,
        )
        await stack.enter_async_context(host)
        if triggers is not None:
            consumer = QueueConsumer(ingress, bridges.queues, triggers, clock=clock)
            await stack.enter_async_context(consumer)
            await stack.enter_async_context(EventConsumer(ingress, bridges.events, triggers))
        yield ingress, host

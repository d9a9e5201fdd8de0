"""What receivers of the fault suites do, in the test's own process and in others."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from tests.faults.effects import Effects

from purista import Service
from purista.bridges import ATTEMPT, Receiver
from purista.contract import Backoff
from purista.message import Message
from purista.subscribing import SubscriptionOptions


def subscription_options(lease: float, *, concurrency: int = 3) -> SubscriptionOptions:
    """Return options with a short lease and many attempts."""
    return SubscriptionOptions(
        concurrency=concurrency,
        max_attempts=50,
        backoff=Backoff(timedelta(milliseconds=50)),
        lease=timedelta(seconds=lease),
    )


def receiver(effects: Effects, who: str, *, seconds: float) -> Receiver:
    """Return a receiver that takes so many seconds for an event, or as many as its body says."""

    async def receive(message: Message) -> None:
        one = message.id, ATTEMPT.get(), who
        effects.note("begun", *one)
        try:
            await asyncio.sleep(float(message.body) or seconds)
        except asyncio.CancelledError:
            effects.note("cancelled", *one)
            raise
        effects.note("ended", *one)

    return receive


def service_of(
    event: str, effects: Effects, who: str, *, lease: float, concurrency: int = 3
) -> tuple[Service, Any]:
    """Return a service that subscribes to an event, and the event; a payload says how long to take."""
    service = Service("Faults", version="1")
    declared = service.event(event, float)
    options = subscription_options(lease, concurrency=concurrency)

    @service.subscription(
        declared,
        name="handle",
        concurrency=options.concurrency,
        max_attempts=options.max_attempts,
        backoff=options.backoff,
        lease=options.lease,
    )
    async def handle(seconds, ctx):  # type: ignore[no-untyped-def]
        one = ctx.message_id, ATTEMPT.get(), who
        effects.note("begun", *one)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            effects.note("cancelled", *one)
            raise
        effects.note("ended", *one)

    return service, declared

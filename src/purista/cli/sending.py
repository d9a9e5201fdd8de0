"""Sending triggers to an ingress behind an address, again while that can help."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Final

from purista.cli.output import duration_text, say
from purista.clock import Clock
from purista.errors import IngressError
from purista.ingress import Decision, TriggerIngress
from purista.trigger import Trigger

LONGEST_WAIT: Final = timedelta(minutes=1)
"""How long one wait between two tries is at most, unless the ingress asks for a longer one."""


async def send(
    ingress: TriggerIngress, trigger: Trigger, *, patience: timedelta | None, clock: Clock
) -> Decision:
    """Send a trigger; send it again, for as long as ``patience``, while the answer says that it can help.

    Returns the last decision. Raises the last ``IngressError`` where there was none.
    """
    deadline = clock.monotonic() + (patience or timedelta(0)).total_seconds()
    attempt = 0
    while True:
        decision, failure, after = await _tried(ingress, trigger)
        attempt += 1
        wait = None if after is None else max(after, backoff(attempt, random.random()))  # noqa: S311
        if wait is None or clock.monotonic() + wait.total_seconds() > deadline:
            if decision is not None:
                return decision
            assert failure is not None
            raise failure
        reason = failure if decision is None else decision.reason
        say(f"trying again in {duration_text(wait)}: {reason}", "yellow")
        await clock.sleep(wait)


def backoff(attempt: int, chance: float) -> timedelta:
    """Return how long to wait after a number of tries: longer each time, and not all senders alike.

    >>> backoff(1, 1.0), backoff(3, 0.0), backoff(99, 1.0)
    (datetime.timedelta(seconds=1), datetime.timedelta(seconds=2), datetime.timedelta(seconds=60))
    """
    longest = min(timedelta(seconds=2 ** min(attempt - 1, 10)), LONGEST_WAIT)
    return longest * (0.5 + chance / 2)


async def _tried(
    ingress: TriggerIngress, trigger: Trigger
) -> tuple[Decision | None, IngressError | None, timedelta | None]:
    """Return the decision, or why there is none, and when to try again."""
    try:
        decision = await ingress.accept(trigger)
    except IngressError as error:
        after = None if error.retry_after is None else timedelta(seconds=error.retry_after)
        return None, error, after
    return decision, None, decision.retry_after

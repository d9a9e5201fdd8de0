"""How a subscriber wants its events: who gets them, how many at once, and what happens to failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from purista.contract import Backoff, count_problems, duration_problems, raise_if
from purista.errors import Problem

LEAST_LEASE = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionOptions:
    """What a subscriber asks of the event bridge.

    ``every_instance``: each receiver gets every event while it is subscribed, and nothing is kept for
    it while it is away; else the receivers of one name share them. ``ordered``: one event at a
    time, in the order of publication; the next waits until the one before is handled or a dead
    letter. ``concurrency``: at most so many at once in one receiver. ``max_attempts``: after so many
    deliveries that failed an event becomes a dead letter of this subscriber. ``backoff``: how long it
    waits in between. ``lease``: how long a receiver may give no sign of life before the event is
    given to another; the bridge prolongs it while the receiver is at work.

    Raises ``ContractError`` with every mistake at once.
    """

    every_instance: bool = False
    ordered: bool = False
    concurrency: int = 100
    max_attempts: int = 5
    backoff: Backoff = field(default_factory=Backoff)
    lease: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        wrong = [
            *count_problems("concurrency", self.concurrency),
            *count_problems("max_attempts", self.max_attempts),
            *duration_problems("lease", self.lease, least=LEAST_LEASE),
        ]
        backoff: object = self.backoff
        if not isinstance(backoff, Backoff):
            kind = type(backoff).__name__
            wrong.append(Problem("backoff", f"{kind} is no Backoff", "write Backoff(...)"))
        raise_if(wrong, within="subscription")


DEFAULT = SubscriptionOptions()
"""What a subscriber gets that asks for nothing."""

EVERY_INSTANCE = SubscriptionOptions(every_instance=True)
"""What a subscriber gets that wants every event in each process."""

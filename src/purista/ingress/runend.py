"""Waiting until a run is over, by asking an ingress for it again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from purista.clock import Clock
from purista.ingress.port import TriggerIngress
from purista.ledgers import Run, RunStatus

FIRST_PAUSE: Final = timedelta(milliseconds=500)
LONGEST_PAUSE: Final = timedelta(seconds=15)

SHARE: Final = 0.1
"""How much longer than it took a run may seem to take: short runs are asked for often, long ones rarely."""

SKEW: Final = timedelta(minutes=1)
"""How long after its time-out a run that is not noted as over is so all the same: the ingress that
would have ended it is gone, and the next trigger of its schedule will."""

GOOD: Final = frozenset({"acked", "answered", "completed", "published"})
"""The outcomes of runs whose target did what it was asked to."""


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ended: its ``status`` and its ``outcome``, in the ledger's words."""

    status: str
    outcome: str

    @property
    def is_good(self) -> bool:
        """Whether its target did what it was asked to."""
        return self.status == RunStatus.ENDED and self.outcome in GOOD


FORGOTTEN: Final = RunEnd("unknown", "")
"""How a run ended that the ingress does not know (any more)."""


async def run_end(
    ingress: TriggerIngress,
    run_id: str,
    *,
    clock: Clock,
    each: Callable[[Run], None] | None = None,
) -> RunEnd:
    """Return how a run ended, once it has; ``each`` is told of the run each time it is asked for.

    Returns at the latest a minute after the run's time-out. Raises what ``ingress.run`` raises.
    """
    began = clock.monotonic()
    while (run := await ingress.run(run_id)) is not None:
        if each is not None:
            each(run)
        end = _end(run, clock.now())
        if end is not None:
            return end
        await clock.sleep(_pause(clock.monotonic() - began))
    return FORGOTTEN


def _end(run: Run, now: datetime) -> RunEnd | None:
    if run.ended_at is not None:
        return RunEnd(run.status, run.outcome)
    if now > run.expires_at + SKEW:
        return RunEnd(RunStatus.EXPIRED, "run_timeout")
    return None


def _pause(waited: float) -> timedelta:
    return min(max(timedelta(seconds=waited * SHARE), FIRST_PAUSE), LONGEST_PAUSE)

"""Waiting for the end of a run: how often it is asked for, and when it counts as over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from purista.ingress import Decision
from purista.ingress.runend import FORGOTTEN, RunEnd, run_end
from purista.ledgers import Run, RunStatus
from purista.testing import ManualClock
from purista.trigger import Trigger

NOW = datetime(2027, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACTIVE = Run(
    run_id="r",
    schedule_id="S.v1.x",
    nominal_time=NOW,
    key="",
    status=RunStatus.ACTIVE,
    token=1,
    owner="o",
    claimed_at=NOW,
    expires_at=NOW + HOUR,
    lease_until=None,
    ended_at=None,
    outcome="",
)


@dataclass
class Known:
    """An ingress that knows one run, or none."""

    clock: ManualClock
    known: Run | None = ACTIVE
    asked: list[datetime] = field(default_factory=list)

    async def run(self, run_id: str) -> Run | None:
        self.asked.append(self.clock.now())
        return self.known

    async def accept(self, trigger: Trigger) -> Decision:
        raise NotImplementedError

    async def cancel(self, run_id: str) -> bool:
        raise NotImplementedError


async def end_of(
    ingress: Known, changes: dict[timedelta, Any], until: timedelta = 3 * HOUR
) -> RunEnd | None:
    """Return how the run ended when it changed so; None when nobody found out."""
    waiting = asyncio.create_task(run_end(ingress, "r", clock=ingress.clock))
    await ingress.clock.settle()
    for after, changed in changes.items():
        await ingress.clock.advance_to(NOW + after)
        ingress.known = None if changed is None else replace(ACTIVE, **changed)
    await ingress.clock.advance_to(NOW + until)
    await ingress.clock.settle()
    if waiting.done():
        return await waiting
    waiting.cancel()
    return None


@pytest.mark.parametrize(
    ("changed", "end", "is_good"),
    [
        ({"status": "ended", "outcome": "acked", "ended_at": NOW}, RunEnd("ended", "acked"), True),
        (
            {"status": "ended", "outcome": "dead_lettered", "ended_at": NOW},
            RunEnd("ended", "dead_lettered"),
            False,
        ),
        (
            {"status": "replaced", "outcome": "replaced", "ended_at": NOW},
            RunEnd("replaced", "replaced"),
            False,
        ),
        (None, FORGOTTEN, False),
    ],
)
async def test_a_run_that_is_over_or_not_known_any_more_is_waited_for_no_longer(
    changed: Any, end: RunEnd, is_good: bool
) -> None:
    found = await end_of(Known(ManualClock(NOW)), {HOUR / 2: changed})
    assert (found, end.is_good) == (end, is_good)


async def test_a_failed_dispatch_that_can_be_taken_over_is_waited_for() -> None:
    ingress = Known(ManualClock(NOW))
    assert await end_of(ingress, {HOUR / 4: {"status": RunStatus.FAILED}}, HOUR) is None


async def test_a_run_whose_ingress_is_gone_is_over_a_minute_after_its_time_out() -> None:
    ingress = Known(ManualClock(NOW))
    minute = timedelta(minutes=1)
    assert await end_of(ingress, {}, HOUR + minute - timedelta(seconds=1)) is None
    again = Known(ManualClock(NOW))
    assert await end_of(again, {}, HOUR + minute * 2) == RunEnd("expired", "run_timeout")


async def test_a_run_that_was_taken_over_has_its_time_anew() -> None:
    ingress = Known(ManualClock(NOW))
    changes = {HOUR / 2: {"expires_at": NOW + 2 * HOUR}}
    assert await end_of(ingress, changes, HOUR * 3 / 2) is None


async def test_a_run_is_asked_for_ever_more_rarely() -> None:
    ingress = Known(ManualClock(NOW))
    await end_of(ingress, {}, timedelta(minutes=10))
    pauses = [(two - one).total_seconds() for one, two in pairwise(ingress.asked)]
    assert pauses[:5] == [0.5] * 5
    assert pauses == sorted(pauses)
    assert pauses[-5:] == [15.0] * 5
    assert len(pauses) < 80

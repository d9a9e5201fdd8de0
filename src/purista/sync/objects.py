"""What a live scheduler holds of one schedule, for pausing and triggering it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from purista.compiling import Placed, Request
from purista.plan import Observed
from purista.sync.port import LiveScheduler, OneEach, SyncError


async def objects_of(
    live: LiveScheduler,
    placed: Sequence[Placed],
    request: Request,
    deployment: str,
    schedule_ids: Collection[str],
) -> Sequence[Observed]:
    """Return the objects of some schedules. Raises ``SyncError`` unless each has one of ours."""
    some = [each for each in placed if each.schedule.id in schedule_ids]
    names = {each.name for each in live.desired(some, request, deployment)}
    if isinstance(live, OneEach):
        there = await live.named(sorted(names))
    else:
        there = [each async for each in live.observed(deployment, names)]
    found = [
        each
        for each in there
        if each.owner is not None
        and each.owner.deployment == deployment
        and each.owner.schedule_id in schedule_ids
    ]
    missing = set(schedule_ids) - {each.owner.schedule_id for each in found if each.owner}
    if missing:
        raise SyncError(
            f"{', '.join(sorted(missing))}: not there, or not ours; purista apply makes it"
        )
    return found

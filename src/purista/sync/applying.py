"""Applying a plan: deletes first, so many changes at a time, a result for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from purista.plan import Action, Change, Plan, merged
from purista.sync.port import LiveScheduler, SyncError

AT_ONCE: Final = 8
"""How many changes are made at a time."""


class Result(NamedTuple):
    """What became of a change; ``error`` is empty where it was made."""

    change: Change
    error: str = ""


async def apply_plan(
    plan: Plan,
    live: LiveScheduler,
    *,
    at_once: int = AT_ONCE,
    done: Callable[[Result], None] = lambda _: None,
) -> Sequence[Result]:
    """Make the changes of a plan; return what became of each. ``done`` hears of it at once.

    A change that fails keeps no other from being made. What is cut off can be begun anew: plan again.
    """
    results: list[Result] = []
    for action in Action:
        changes = iter([each for each in plan.changes if each.action is action])

        async def work(changes: object = changes) -> None:
            for change in changes:  # type: ignore[attr-defined]
                result = await _made(change, live)
                results.append(result)
                done(result)

        await asyncio.gather(*(work() for _ in range(at_once)))
    return results


async def _made(change: Change, live: LiveScheduler) -> Result:
    try:
        await _make(change, live)
    except SyncError as error:
        return Result(change, str(error))
    return Result(change)


async def _make(change: Change, live: LiveScheduler) -> None:
    desired, observed = change.desired, change.observed
    if change.action is Action.DELETE:
        assert observed is not None
        await live.delete(observed)
    elif change.action is Action.CREATE:
        assert desired is not None
        await live.create(desired, merged(change))
    else:
        assert desired is not None
        assert observed is not None
        await live.update(observed, desired, merged(change))

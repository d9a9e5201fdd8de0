"""``purista trigger --via``: a live scheduler fires a schedule at once."""

from __future__ import annotations

import asyncio

from purista.cli.deploying import Asked, Wish, asked_by_operator, id_of
from purista.cli.exitcode import AGAIN, DONE
from purista.cli.output import say
from purista.cli.settingsfile import SettingsFile
from purista.errors import LoadError
from purista.sync import SyncError, Triggers, objects_of
from purista.sync.opening import live_scheduler


def trigger_via(
    scheduler: str, services: list[str], schedule: str, deployment: str, settings: SettingsFile
) -> int:
    """Let a live scheduler fire a schedule; return the exit code."""
    if not services:
        raise LoadError("no service is named; give PACKAGE.MODULE:SERVICE")
    asked = asked_by_operator(Wish.of(scheduler, services, deployment, settings))
    try:
        name = asyncio.run(_fired(asked, id_of(asked, schedule)))
    except SyncError as error:
        say(f"purista: {error}", "red")
        return AGAIN
    say(f"{asked.scheduler} fires {name}")
    return DONE


async def _fired(asked: Asked, schedule_id: str) -> str:
    async with live_scheduler(asked.scheduler, asked.request) as live:
        if not isinstance(live, Triggers):
            raise LoadError(
                f"{asked.scheduler} cannot fire a schedule at once; purista trigger --url sends a trigger"
            )
        found = await objects_of(live, asked.placed, asked.request, asked.deployment, [schedule_id])
        first = min(each.name for each in found)  # its other lines would send the same once more
        await live.trigger(first)
    return first

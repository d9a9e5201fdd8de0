"""``purista pause`` and ``resume``: what an operator does to a live scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer

from purista.cli.compiling import Services
from purista.cli.deploying import (
    DEFAULT,
    Asked,
    DeploymentName,
    SchedulerName,
    Wish,
    asked_by_operator,
    id_of,
)
from purista.cli.exitcode import AGAIN, DONE
from purista.cli.output import say
from purista.cli.settingsfile import SettingsFile
from purista.errors import LoadError
from purista.sync import Pauses, SyncError, objects_of
from purista.sync.opening import live_scheduler

Named = Annotated[
    list[str], typer.Option("--schedule", "-s", help="Name or id; repeat it for more.")
]
Reason = Annotated[
    str, typer.Option("--reason", help="Why; it stands in the scheduler, where that has a place.")
]


def pause(
    scheduler: SchedulerName,
    services: Services,
    schedule: Named,
    reason: Reason,
    deployment: DeploymentName = DEFAULT,
    settings: SettingsFile = None,
) -> int:
    """Let schedules of a live scheduler not fire until they are resumed; purista apply keeps that.

    Example: purista pause temporal billing.app:billing -s monthlyBillingCycle --reason "incident 42"
    """
    return _done("pause", scheduler, services, schedule, reason, deployment, settings)


def resume(
    scheduler: SchedulerName,
    services: Services,
    schedule: Named,
    reason: Reason = "resumed",
    deployment: DeploymentName = DEFAULT,
    settings: SettingsFile = None,
) -> int:
    """Let schedules of a live scheduler fire again.

    Example: purista resume temporal billing.app:billing -s monthlyBillingCycle
    """
    return _done("resume", scheduler, services, schedule, reason, deployment, settings)


def _done(
    verb: str,
    scheduler: str,
    services: list[str],
    named: list[str],
    reason: str,
    deployment: str,
    settings: SettingsFile,
) -> int:
    if not reason.strip():
        raise LoadError(f"--reason is empty; say why it is {verb}d")
    asked = asked_by_operator(Wish.of(scheduler, services, deployment, settings))
    ids = [id_of(asked, each) for each in named]
    try:
        names = asyncio.run(_do(verb, asked, ids, reason))
    except SyncError as error:
        say(f"purista: {error}", "red")
        return AGAIN
    for name in names:
        say(f"{verb}d {name}")
    return DONE


async def _do(verb: str, asked: Asked, ids: list[str], reason: str) -> Sequence[str]:
    async with live_scheduler(asked.scheduler, asked.request) as live:
        if not isinstance(live, Pauses):
            raise LoadError(
                f"{asked.scheduler} cannot {verb} a schedule; say enabled=False in the contract"
            )
        found = await objects_of(live, asked.placed, asked.request, asked.deployment, ids)
        for each in found:
            await (live.pause if verb == "pause" else live.resume)(each.name, reason=reason)
    return [each.name for each in found]

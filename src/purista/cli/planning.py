"""``purista plan``, ``apply`` and ``drift``: live schedulers in step with the contracts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.progress import Progress

from purista.cli.compiling import Accept, ExactNative, From, Services
from purista.cli.deploying import (
    DEFAULT,
    Asked,
    DeploymentName,
    SchedulerName,
    Wish,
    asked_for,
)
from purista.cli.exitcode import AGAIN, DONE, MISUSE, REFUSED
from purista.cli.output import print_json, say, talk
from purista.cli.outputfile import check_paths, write_file
from purista.cli.planview import (
    Shown,
    is_same_plan,
    json_of,
    markdown_of,
    print_plan,
    result_json,
)
from purista.cli.settingsfile import SettingsFile
from purista.contract import near
from purista.errors import LoadError
from purista.plan import Planner, brakes
from purista.sync import LiveScheduler, Result, SyncError, apply_plan
from purista.sync.foretelling import foretold, kept_from_contract
from purista.sync.opening import live_scheduler

Override = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ID[:FIELD]", help="Take back what a person changed in the scheduler; repeat it."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def plan(
    scheduler: SchedulerName,
    services: Services,
    deployment: DeploymentName = DEFAULT,
    settings: SettingsFile = None,
    accept: Accept = None,
    exact_native: ExactNative = False,
    from_: From = None,
    override: Override = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write Markdown; - for stdout.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Keep it for purista apply.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show what would be created, updated and deleted in a live scheduler; changes nothing.

    Example: purista plan temporal billing.app:billing
    """
    wish = Wish.of(scheduler, services, deployment, settings, accept, exact_native, from_, override)
    asked = asked_for(wish)
    if asked is None:
        return REFUSED
    files = {"--markdown": markdown, "--out": None if output is None else str(output)}
    check_paths({option: path for option, path in files.items() if path})
    found = _ran(_planned(asked))
    if isinstance(found, int):
        return found
    if output is not None:
        kept = json_of(found) | {"wish": asdict(wish)}
        write_file(str(output), [json.dumps(kept, indent=2, sort_keys=True), "\n"])
    if markdown is not None:
        write_file(markdown, [markdown_of(found)])
    if as_json:
        print_json(json_of(found))
    elif markdown != "-":
        print_plan(found)
    return REFUSED if found.plan.conflicts else DONE


def drift(
    scheduler: SchedulerName,
    services: Services,
    deployment: DeploymentName = DEFAULT,
    settings: SettingsFile = None,
    accept: Accept = None,
    exact_native: ExactNative = False,
    from_: From = None,
    as_json: AsJson = False,
) -> int:
    """Say whether a live scheduler differs from the contracts; exit code 1 when it does.

    What a person changed in it counts, too.

    Example: purista drift temporal billing.app:billing
    """
    asked = asked_for(
        Wish.of(scheduler, services, deployment, settings, accept, exact_native, from_)
    )
    if asked is None:
        return REFUSED
    found = _ran(_planned(asked))
    if isinstance(found, int):
        return found
    if as_json:
        print_json(json_of(found))
    else:
        print_plan(found)
    plan = found.plan
    return DONE if plan.is_empty and not plan.kept and not plan.conflicts else REFUSED


def apply(
    scheduler: Annotated[
        str,
        typer.Argument(
            metavar="DEPLOYMENT|PLAN.json",
            help="A deployment of the settings, a scheduler such as temporal, or a plan that was kept.",
        ),
    ],
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PACKAGE.MODULE:SERVICE...]",
            help="Services, or manifest files (.json); none with a plan.",
        ),
    ] = None,
    deployment: DeploymentName = DEFAULT,
    settings: SettingsFile = None,
    accept: Accept = None,
    exact_native: ExactNative = False,
    from_: From = None,
    override: Override = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also delete active schedules, and change many.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")] = False,
    as_json: AsJson = False,
) -> int:
    """Create, update and delete in a live scheduler what differs, deletes first.

    It can be run again after an interruption, and ends in the same state. A plan that was kept is applied
    only as long as it still is the plan.

    Example: purista apply temporal billing.app:billing

    Example: purista apply plan.json
    """
    wish = Wish.of(
        scheduler, services or (), deployment, settings, accept, exact_native, from_, override
    )
    expected = None
    if scheduler.endswith(".json"):
        if wish != Wish(scheduler, ()):
            raise LoadError("a plan has its services and options; only --force and --yes are left")
        expected, wish = _read_plan(Path(scheduler))
    elif not services:
        raise LoadError("no service is named; give PACKAGE.MODULE:SERVICE, or a plan")
    asked = asked_for(wish)
    if asked is None:
        return REFUSED
    found = _ran(_applied(asked, expected, force=force, yes=yes, as_json=as_json))
    if isinstance(found, int):
        return found
    if as_json:
        print_json([result_json(each) for each in found])
    failed = sum(1 for each in found if each.error)
    made = len(found) - failed
    changes = "1 change" if made == 1 else f"{made} changes"
    say(f"{changes} made, {failed} failed", "red" if failed else "")
    return AGAIN if failed else DONE


def _ran(work: Any) -> Any:
    try:
        return asyncio.run(work)
    except SyncError as error:
        say(f"purista: {error}", "red")
        return AGAIN


async def _planned(asked: Asked) -> Shown:
    async with live_scheduler(asked.scheduler, asked.request) as live:
        return await _plan_of(asked, live)


async def _plan_of(asked: Asked, live: LiveScheduler) -> Shown:
    desired = live.desired(asked.placed, asked.request, asked.deployment)
    planner = Planner(asked.scheduler, asked.deployment, desired, overrides=asked.overrides)
    async for each in live.observed(asked.deployment, {one.name for one in desired}):
        planner.see(each)
    for override, fields in planner.idle_overrides():
        field = override.partition(":")[2]
        raise LoadError(f"--override {override}: it has no such field; {near(field, fields)}")
    found, now = planner.plan(), datetime.now(UTC).replace(microsecond=0)
    fires = {each.name: foretold(each, live, now) for each in found.changes}
    fires |= {each.name: kept_from_contract(each, live, now) for each in found.kept}
    return Shown(found, {name: times for name, times in fires.items() if times is not None})


async def _applied(
    asked: Asked, expected: dict[str, Any] | None, *, force: bool, yes: bool, as_json: bool
) -> Sequence[Result] | int:
    async with live_scheduler(asked.scheduler, asked.request) as live:
        shown = await _plan_of(asked, live)
        found = shown.plan
        refused = _refused(shown, expected, force=force)
        if not as_json and not found.conflicts:
            print_plan(shown)
        if refused:
            for each in refused:
                say(f"purista: {each}", "red")
            return MISUSE if expected is not None and not found.conflicts else REFUSED
        if found.is_empty:
            return ()
        if not yes and sys.stdin.isatty() and not typer.confirm("Apply this?", err=True):
            return ()
        with Progress(console=talk, transient=True, disable=not talk.is_terminal) as progress:
            task = progress.add_task("apply", total=len(found.changes))

            def done(result: Result) -> None:
                _tell(result)
                progress.advance(task)

            return await apply_plan(found, live, done=done)


def _refused(shown: Shown, expected: dict[str, Any] | None, *, force: bool) -> list[str]:
    """Return why a plan is not applied."""
    found = shown.plan
    if found.conflicts:
        return [str(each) for each in found.conflicts]
    if expected is not None and not is_same_plan(expected, json_of(shown)):
        return [
            "it is not the plan any more: what is there, or the contract, has changed; plan again"
        ]
    if force:
        return []
    return [f"{each}; give --force if that is meant" for each in brakes(found)]


def _tell(result: Result) -> None:
    if result.error:
        say(f"{result.change.action} {result.change.name}: {result.error}", "red")
    else:
        say(f"{result.change.action}d {result.change.name}")


def _read_plan(path: Path) -> tuple[dict[str, Any], Wish]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LoadError(f"cannot read plan '{path}': {error}") from None
    try:
        wish = TypeAdapter(Wish).validate_python(found["wish"])
        TypeAdapter(list[dict[str, Any]]).validate_python(found["changes"])
    except (ValidationError, TypeError, KeyError):
        raise LoadError(f"'{path}' is no plan; write one with purista plan --out {path}") from None
    return found, wish

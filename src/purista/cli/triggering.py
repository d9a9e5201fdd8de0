"""``purista trigger``: sends one trigger to an ingress, or runs a schedule by hand in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from purista.audit import MANUAL
from purista.cli.chosentime import mistake
from purista.cli.deploying import DEFAULT, DeploymentName
from purista.cli.duration import read_duration
from purista.cli.exitcode import REFUSED, code_of, code_of_error
from purista.cli.instant import read_instant
from purista.cli.loading import load_services
from purista.cli.localbridges import LocalBridges, refuse_unserved
from purista.cli.output import decision_json, out, print_json, say, verdict_text
from purista.cli.sending import send
from purista.cli.settingsfile import SettingsFile, ingress_settings
from purista.cli.viascheduler import trigger_via
from purista.cli.wiring import Bearer, Sign, Url, client
from purista.clock import SystemClock
from purista.contract import Event, Schedule
from purista.errors import IngressError, LedgerError, LoadError
from purista.ingress import Decision
from purista.ingress.timing import INSTANT
from purista.local import LocalRunner, find_schedule
from purista.manifest import fingerprint
from purista.service import Service
from purista.trigger import UNSET, Trigger

if TYPE_CHECKING:
    from purista.ingress.client import IngressClient


def trigger(
    services: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PACKAGE.MODULE:SERVICE...]",
            help="Services, or manifest files (.json); not needed with --url.",
        ),
    ] = None,
    schedule: Annotated[str, typer.Option("--schedule", "-s", help="Name or id.")] = "",
    nominal_time: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="RFC 3339, such as 2027-03-01T01:00:00Z.")
    ] = None,
    payload: Annotated[
        Path | None, typer.Option(help="A JSON file that overrides the payload template.")
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(help="Without --url: a SQLite file that remembers runs; else nothing does."),
    ] = None,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Take a person's --nominal-time that is none of the contract's.",
        ),
    ] = False,
    url: Url = None,
    manual: Annotated[
        bool, typer.Option("--manual", help="With --url: a person sends it, not a scheduler.")
    ] = False,
    bearer: Bearer = None,
    sign: Sign = None,
    retry_for: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="With --url: try again for so long, such as 10m."),
    ] = None,
    via: Annotated[
        str | None,
        typer.Option(
            metavar="DEPLOYMENT",
            help="Let a live scheduler fire it, such as temporal, or a deployment.",
        ),
    ] = None,
    deployment: DeploymentName = DEFAULT,
    settings: SettingsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Trigger a schedule: at an ingress with --url, by a scheduler with --via, else in this process.

    For cron and systemd. The exit code is 0 when it was decided, 1 when it was refused for good or
    the run failed, 75 when it is worth trying again. Without --url it waits until the run, and all that
    it set off, is over.

    Example: purista trigger --url https://triggers.example.com -s billing.v1.monthlyBillingCycle

    Example: purista trigger --via temporal billing.app:billing -s monthlyBillingCycle

    Example: purista trigger billing.app:billing -s monthlyBillingCycle
    --nominal-time 2027-03-01T01:00:00Z
    """
    if not schedule:
        raise LoadError("no schedule is named; give --schedule NAME")
    if via is not None:
        others = {
            "--url": url,
            "--nominal-time": nominal_time,
            "--payload": payload,
            "--state": state,
            "--anyway": anyway,
            "--manual": manual,
            "--bearer": bearer,
            "--sign": sign,
            "--retry-for": retry_for,
            "--json": as_json,
        }
        for option in (option for option, value in others.items() if value):
            raise LoadError(f"{option} is not for --via: the scheduler sends its own trigger")
        return trigger_via(via, services or [], schedule, deployment, settings)
    given = _Given(
        load_services(services or ()),
        schedule,
        read_instant("--nominal-time", nominal_time),
        UNSET if payload is None else read_json(payload),
    )
    failure = ""
    try:
        if url is None:
            _check_local(given, manual=manual, bearer=bearer, sign=sign, retry_for=retry_for)
            if not anyway:
                given.check_time()
            with handlers_talk(as_json=as_json):
                decision, outcome, failure = asyncio.run(_run_here(given, state))
        else:
            if state is not None:
                raise LoadError("--state is for runs in this process; leave it out with --url")
            patience = None if retry_for is None else read_duration("--retry-for", retry_for)
            known = ingress_settings(settings)
            if manual and not anyway:
                given.check_time()
            sender = client(known, url, bearer=bearer, sign=sign)
            decision = asyncio.run(_sent(sender, given, patience, manual=manual))
            outcome = ""
    except (IngressError, LedgerError) as error:
        say(f"purista: {error}", "red")
        return code_of_error(error)
    if as_json:
        print_json({**decision_json(decision), "outcome": outcome})
    else:
        print_decision(decision, outcome)
    if failure:
        say(f"purista: schedule '{decision.schedule_id}': {failure}", "red")
    return REFUSED if failure else code_of(decision, outcome)


@dataclass(frozen=True, slots=True)
class _Given:
    """Which schedule, for when, with which payload."""

    services: tuple[Service, ...]
    name: str
    nominal: datetime | None
    data: Any

    def check_time(self) -> None:
        """Raise ``LoadError`` for a time that is none of the contract's, where that is at hand."""
        if self.nominal is None or not self.services:
            return
        found = mistake(find_schedule(self.services, self.name), self.nominal)
        if found:
            raise LoadError(f"{found}; --anyway sends it all the same")

    def trigger(self, now: datetime, *, manual: bool) -> Trigger:
        """Return the trigger; where no contract is at hand the ingress derives its nominal time."""
        schedule_id, nominal, version = self.name, self.nominal, None
        if self.services:
            schedule = find_schedule(self.services, self.name)
            schedule_id, version = schedule.id, fingerprint(schedule)
            if nominal is None and not manual:
                nominal = _latest(schedule, now)
        return Trigger(
            schedule_id=schedule_id,
            nominal_time=nominal,
            source=source(manual=manual),
            fingerprint=version,
            data=self.data,
            manual=manual,
        )


def source(*, manual: bool) -> str:
    """Return what a trigger of this command line names as its source."""
    return f"purista/cli/{socket.gethostname()}{MANUAL if manual else ''}"


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ``LoadError``, which shows nothing of it."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise LoadError(f"cannot read '{path}': {error.strerror or error}") from None
    except RecursionError:
        raise LoadError(f"'{path}' is nested too deeply; send flatter JSON") from None
    except ValueError as error:
        place = (
            f"line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "its encoding"
        )
        raise LoadError(f"'{path}' is no JSON ({place})") from None


def print_decision(decision: Decision, outcome: str) -> None:
    """Print a decision for a person, and what became of its run where that is known."""
    line = verdict_text(str(decision.verdict))
    line.append(f": {decision.reason}", style="default")
    out.print(line)
    if outcome:
        out.print(f"run {decision.run_id}: {outcome}")


def handlers_talk(*, as_json: bool) -> contextlib.AbstractContextManager[Any]:
    """What handlers print is talk when stdout is for JSON."""
    return contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()


def _latest(schedule: Schedule, now: datetime) -> datetime:
    nominal = schedule.previous_before(now + INSTANT)
    if nominal is None:
        raise LoadError(
            f"schedule '{schedule.id}' has no nominal time before now; nothing was sent"
        )
    return nominal


def _check_local(
    given: _Given, *, manual: bool, bearer: str | None, sign: str | None, retry_for: str | None
) -> None:
    remote = {"--manual": manual, "--bearer": bearer, "--sign": sign, "--retry-for": retry_for}
    for option in (option for option, value in remote.items() if value):
        raise LoadError(f"{option} is for an ingress behind an address; give --url too")
    if not given.services:
        raise LoadError("no service is named; give PACKAGE.MODULE:SERVICE, or --url")
    schedule = find_schedule(given.services, given.name)
    if not isinstance(schedule.target, Event) or schedule.completed_by is not None:
        refuse_unserved(given.services, schedule)


async def _run_here(given: _Given, state: Path | None) -> tuple[Decision, str, str]:
    """Return the decision, the outcome of its run, and what came to nothing of all it set off."""
    bridges = LocalBridges(given.services)
    async with LocalRunner(
        *given.services,
        state=state,
        event_bridge=bridges.events,
        queue_bridge=bridges.queues,
        paused=True,
    ) as runner:
        decision = await runner.trigger(given.name, nominal_time=given.nominal, data=given.data)
        if not decision.accepted:
            return decision, "", ""
        schedule = runner.schedule(given.name)
        if schedule.completed_by is not None:
            say(f"waiting for event '{schedule.completed_by}', at most {schedule.run_timeout}")
        outcome = await runner.ended(decision)
        failure = await bridges.failure(schedule.run_timeout, runner.clock)
        return decision, outcome, failure


async def _sent(
    sender: IngressClient, given: _Given, patience: timedelta | None, *, manual: bool
) -> Decision:
    clock = SystemClock()
    async with sender:
        made = given.trigger(clock.now(), manual=manual)
        return await send(sender, made, patience=patience, clock=clock)

"""``purista replay``: sends chosen nominal times again, on a person's word."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final, NamedTuple

import typer

from purista.bridges.memory_events import MemoryEventBridge
from purista.bridges.memory_queues import MemoryQueueBridge
from purista.cli.audit import Asked
from purista.cli.bridging import Bridges, opened_bridges
from purista.cli.chosentime import mistake
from purista.cli.exitcode import DONE, REFUSED, code_of, code_of_error, worst
from purista.cli.instant import read_instant
from purista.cli.loading import load_services
from purista.cli.localbridges import LocalBridges, refuse_unserved
from purista.cli.output import decision_json, local_text, out, print_json, say, utc_text
from purista.cli.pastwindow import Since, Until, read_past
from purista.cli.running import running
from purista.cli.sending import send
from purista.cli.settingsfile import SettingsFile, ingress_settings
from purista.cli.triggering import handlers_talk, source
from purista.cli.wiring import (
    Bearer,
    LedgerUrl,
    Sign,
    Url,
    client,
    known_ledger,
)
from purista.clock import Clock, SystemClock
from purista.contract import ConcurrencyPolicy, Queue, Schedule
from purista.errors import IngressError, LedgerError, LoadError
from purista.ingress import Decision, TriggerIngress
from purista.ingress.ingress import RunStore
from purista.ingress.timing import INSTANT
from purista.ledgers import RunStatus
from purista.ledgers.book import before
from purista.local import find_schedule
from purista.service import Service
from purista.settings import IngressSettings
from purista.trigger import Trigger

PATIENCE: Final = timedelta(seconds=30)
"""How long a trigger is sent again while the ingress says that it can help."""

POLL: Final = timedelta(milliseconds=500)


_RAN: Final = frozenset({RunStatus.ACTIVE, RunStatus.ENDED, RunStatus.REPLACED})


class Due(NamedTuple):
    """One nominal time that is to be sent."""

    schedule: Schedule
    nominal_time: datetime


class Sent(NamedTuple):
    """What became of it: a decision and its run's outcome, or the reason why there is none."""

    due: Due
    decision: Decision | None
    outcome: str
    code: int


def replay(
    services: Annotated[
        list[str],
        typer.Argument(
            metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
        ),
    ],
    schedule: Annotated[
        str | None,
        typer.Option("--schedule", "-s", help="Name or id; with --missed all, if not said."),
    ] = None,
    nominal_time: Annotated[
        list[str] | None,
        typer.Option(metavar="INSTANT", help="One of its nominal times; repeat it for more."),
    ] = None,
    missed: Annotated[
        bool, typer.Option("--missed", help="What purista audit says was missed or had no effect.")
    ] = False,
    since: Since = None,
    until: Until = None,
    ledger: LedgerUrl = None,
    here: Annotated[
        bool, typer.Option("--here", help="Run it in this process, instead of sending it.")
    ] = False,
    url: Url = None,
    bearer: Bearer = None,
    sign: Sign = None,
    settings: SettingsFile = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask on a terminal.")] = False,
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway", help="With --here: also what ran, longer ago than its dedupe window."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Send nominal times by hand, oldest first; key and overlap hold, lateness does not.

    They go to the ingress at --url, or to that of the settings.

    Example: purista replay billing.app:billing -s monthlyBillingCycle
    --nominal-time 2027-03-01T01:00:00Z

    Example: purista replay billing.app:billing --missed --since 7d --dry-run
    """
    loaded = load_services(services)
    known = ingress_settings(settings)
    clock = SystemClock()
    if missed == bool(nominal_time):
        raise LoadError("say what to send: --nominal-time INSTANT, or --missed")
    if not missed and (since or until):
        raise LoadError(
            "--since and --until are the window of --missed; give that, or leave them out"
        )
    if missed:
        asked = Asked(
            _chosen(loaded, schedule),
            read_past(since, until),
            clock.now(),
            timedelta(days=known.retention_days),
        )
        due = asyncio.run(_lost(asked, known_ledger(known, ledger)))
    else:
        due = _named(loaded, schedule, nominal_time or (), clock.now())
    if not due or dry_run or not _is_confirmed(due, yes=yes):
        _print_due(due, as_json=as_json)
        return DONE
    failures: list[str] = []
    with handlers_talk(as_json=as_json):
        given = _Here(loaded, due, known, ledger, clock, anyway=anyway or missed)
        way = _here(given, failures) if here else _there(known, url, bearer, sign)
        sent = asyncio.run(_sent(way, due, clock, waits=here))
    _print_sent(sent, as_json=as_json)
    for failure in failures:
        say(f"purista: {failure}", "red")
    return worst([*(each.code for each in sent), *(REFUSED for _ in failures)])


def _chosen(services: tuple[Service, ...], name: str | None) -> list[Schedule]:
    if name is not None:
        return [find_schedule(services, name)]
    return [one for service in services for one in service.schedules.values()]


def _named(
    services: tuple[Service, ...], name: str | None, texts: Sequence[str], now: datetime
) -> list[Due]:
    """Return the nominal times that a person named. Raises ``LoadError`` for what is none."""
    if name is None:
        raise LoadError("no schedule is named; give --schedule NAME")
    schedule = find_schedule(services, name)
    instants = {read_instant("--nominal-time", text) or now for text in texts}
    wrong = [_wrong(schedule, each, now) for each in sorted(instants)]
    problems = [text for text in wrong if text]
    if problems:
        raise LoadError("; ".join(problems))
    return [Due(schedule, each) for each in sorted(instants)]


def _wrong(schedule: Schedule, instant: datetime, now: datetime) -> str:
    has_not_come = f"{utc_text(instant)} has not come yet" if instant > now else ""
    return mistake(schedule, instant) or has_not_come


async def _refuse_done(ledger: RunStore, due: Sequence[Due]) -> None:
    """Raise ``LoadError`` for nominal times that ran longer ago than their key keeps from running twice."""
    for each in due:
        found = await ledger.runs(
            schedule_id=each.schedule.id,
            since=each.nominal_time,
            until=each.nominal_time + INSTANT,
        )
        for run in found:
            if run.status in _RAN:
                raise LoadError(
                    f"schedule '{each.schedule.id}' ran for {utc_text(each.nominal_time)}: "
                    f"{run.outcome or run.status}; --anyway runs it again"
                )


async def _lost(asked: Asked, ledger: RunStore) -> list[Due]:
    """Return the nominal times that had no effect, oldest first."""
    found: set[tuple[datetime, str]] = set()
    schedules = {one.id: one for one in asked.schedules}
    async for schedule, result in asked.audits(ledger):
        if result.left_off:
            raise LoadError(
                f"schedule '{schedule.id}' has too many findings to send; name a shorter window"
            )
        for note in result.notes:
            say(f"{schedule.id}: {note}", "yellow")
        found |= {(one.nominal_time, schedule.id) for one in result.findings if one.is_lost}
    return [Due(schedules[name], nominal) for nominal, name in sorted(found)]


def _is_confirmed(due: Sequence[Due], *, yes: bool) -> bool:
    if yes or not sys.stdin.isatty():
        return True
    for each in due:
        say(_line(each))
    return typer.confirm(f"Send {len(due)} nominal times?", err=True)


class _Here(NamedTuple):
    """What runs in this process, and with what."""

    services: tuple[Service, ...]
    due: Sequence[Due]
    settings: IngressSettings
    ledger: str | None
    clock: Clock
    anyway: bool

    def bridges(self) -> tuple[Bridges, LocalBridges | None]:
        """Return the bridges of the settings, and those of them that die with this process.

        Raises ``LoadError`` where these would have to reach a handler of another process.
        """
        opened = opened_bridges(self.settings)
        are_local = isinstance(opened.queues, MemoryQueueBridge)
        for each in self.due:
            bridge = opened.queues if isinstance(each.schedule.target, Queue) else opened.events
            if isinstance(bridge, MemoryEventBridge | MemoryQueueBridge):
                refuse_unserved(self.services, each.schedule)
        if not isinstance(opened.events, MemoryEventBridge):
            return opened, None
        local = LocalBridges(self.services, None if are_local else opened.queues)
        return Bridges(local.events, local.queues), local


@contextlib.asynccontextmanager
async def _here(given: _Here, failures: list[str]) -> AsyncIterator[TriggerIngress]:
    """Yield an ingress of this process; afterwards wait for all that was set off in memory."""
    bridges, local = given.bridges()
    store = known_ledger(given.settings, given.ledger)
    if not given.anyway:
        now = given.clock.now()
        old = [
            one for one in given.due if one.nominal_time <= before(now, one.schedule.dedupe_window)
        ]
        await _refuse_done(store, old)
    await bridges.connect(waits=False)
    async with running(
        given.services, given.settings, ledger=store, bridges=bridges, clock=given.clock
    ) as (ingress, _):
        yield ingress
        if local is not None:
            most = max(each.schedule.run_timeout for each in given.due)
            if failure := await local.failure(most, given.clock):
                failures.append(failure)


@contextlib.asynccontextmanager
async def _there(
    settings: IngressSettings, url: str | None, bearer: str | None, sign: str | None
) -> AsyncIterator[TriggerIngress]:
    async with client(settings, url, bearer=bearer, sign=sign) as sender:
        yield sender


async def _sent(
    way: contextlib.AbstractAsyncContextManager[TriggerIngress],
    due: Sequence[Due],
    clock: Clock,
    *,
    waits: bool,
) -> list[Sent]:
    """Send one after another; where runs must not overlap, the next one when this one's run is over."""
    found: list[Sent] = []
    async with way as ingress:
        for each in due:
            exclusive = each.schedule.concurrency_policy != ConcurrencyPolicy.ALLOW
            try:
                decision = await send(ingress, _trigger(each), patience=PATIENCE, clock=clock)
                outcome = ""
                if decision.accepted and (waits or (exclusive and each is not due[-1])):
                    outcome = await _ended(ingress, decision.run_id or "", clock)
            except (IngressError, LedgerError) as error:
                found.append(Sent(each, None, str(error), code_of_error(error)))
            else:
                found.append(Sent(each, decision, outcome, code_of(decision, outcome)))
    return found


def _trigger(due: Due) -> Trigger:
    return Trigger(
        schedule_id=due.schedule.id,
        nominal_time=due.nominal_time,
        source=source(manual=True),
        manual=True,
    )


async def _ended(ingress: TriggerIngress, run_id: str, clock: Clock) -> str:
    """Wait until a run is over; return its outcome."""
    while True:
        run = await ingress.run(run_id)
        if run is None:
            return ""
        is_open = run.status in (RunStatus.CLAIMED, RunStatus.ACTIVE)
        if not is_open or run.expires_at <= clock.now() - INSTANT:
            return run.outcome or str(run.status)
        await clock.sleep(POLL)


def _print_due(due: Sequence[Due], *, as_json: bool) -> None:
    if as_json:
        print_json([_due_json(each) for each in due])
        return
    for each in due:
        out.print(_line(each))
    say(f"{len(due)} nominal times; nothing was sent")


def _print_sent(sent: Sequence[Sent], *, as_json: bool) -> None:
    if as_json:
        print_json([_sent_json(each) for each in sent])
        return
    for each in sent:
        if each.decision is None:
            out.print(f"{_line(each.due)}  not decided: {each.outcome}")
            continue
        outcome = f"; run {each.outcome}" if each.outcome else ""
        out.print(f"{_line(each.due)}  {each.decision.verdict}: {each.decision.reason}{outcome}")


def _sent_json(sent: Sent) -> dict[str, object]:
    if sent.decision is None:
        return {**_due_json(sent.due), "decision": None, "reason": sent.outcome}
    return {**decision_json(sent.decision), "outcome": sent.outcome}


def _due_json(due: Due) -> dict[str, object]:
    return {"schedule": due.schedule.id, "nominalTime": utc_text(due.nominal_time)}


def _line(due: Due) -> str:
    local = local_text(due.nominal_time, due.schedule.timezone)
    return f"{utc_text(due.nominal_time)}  {local}  {due.schedule.id}"

"""The commands of ``purista``."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.text import Text

from purista import __version__
from purista.advising import Advice, advice
from purista.cli.audit import audit
from purista.cli.bridging import Bridges, opened_bridges
from purista.cli.compiling import compile_, report, schedulers
from purista.cli.deadletters import dead_letters
from purista.cli.demo import play
from purista.cli.diff import diff
from purista.cli.exitcode import NO_SPACE
from purista.cli.explain import explain
from purista.cli.importing import import_
from purista.cli.instant import read_instant
from purista.cli.loading import exported, load_services
from purista.cli.output import (
    decision_json,
    expression_text,
    out,
    print_json,
    say,
    table,
    target_text,
    utc_text,
    verdict_text,
)
from purista.cli.outputfile import discard_output
from purista.cli.pausing import pause, resume
from purista.cli.planning import apply, drift, plan
from purista.cli.purge import purge
from purista.cli.replay import replay
from purista.cli.runs import runs
from purista.cli.serve import serve
from purista.cli.triggering import handlers_talk, trigger
from purista.cli.upcoming import upcoming
from purista.cli.worker import worker
from purista.clock import Clock, SystemClock
from purista.contract import Schedule
from purista.errors import LoadError, Problem, PuristaError
from purista.ingress import Decision
from purista.local import AcceleratedClock, LocalRunner
from purista.manifest import fingerprint
from purista.service import Service, problems
from purista.settings import IngressSettings
from purista.trigger import Trigger

app = typer.Typer(
    name="purista",
    help="Schedules as trigger contracts: declare once, run on any scheduler.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Services = Annotated[
    list[str],
    typer.Argument(
        metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=arguments, standalone_mode=False)
    except PuristaError as error:
        say(f"purista: {error}", "red")
        return 2
    except typer.TyperException as error:
        message = error.format_message()
        say(message if message.startswith("Usage:") else f"purista: {message}", "")
        return error.exit_code
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        say("purista: no space is left on the device that is written to", "red")
        with contextlib.suppress(OSError, ValueError):
            discard_output()
        return NO_SPACE
    except (KeyboardInterrupt, typer.Abort):
        return 130
    return code if isinstance(code, int) else 0


def _version(wanted: bool) -> None:
    if wanted:
        out.print(f"purista {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Schedules as trigger contracts: declare once, run on any scheduler."""


@app.command()
def check(services: Services, as_json: AsJson = False) -> int:
    """Check services together; exit code 1 when something is wrong.

    Example: purista check billing.app:billing
    """
    loaded = load_services(services)
    wrong, weak = problems(*loaded), advice(*loaded, since=datetime.now(UTC))
    count = sum(len(service.schedules) for service in loaded)
    if as_json:
        print_json({"problems": _problems(wrong), "advice": _advice(weak), "schedules": count})
        return 1 if wrong else 0
    for one in weak:
        say(f"advice: {one}", "yellow")
    for problem in wrong:
        say(f"problem: {problem}", "red")
    names = ", ".join(service.id for service in loaded)
    verdict = f"{len(wrong)} problems" if wrong else "fine"
    out.print(f"{names}: {count} schedules, {verdict}, {len(weak)} pieces of advice")
    return 1 if wrong else 0


@app.command("list")
def list_(services: Services, as_json: AsJson = False) -> int:
    """List the schedules of services.

    Example: purista list billing.app:billing
    """
    schedules = _schedules(load_services(services))
    if as_json:
        print_json([_listed(schedule) for schedule in schedules])
        return 0
    rows = table("schedule", "when", "zone", "target", "overlap", "missed", "description")
    for schedule in schedules:
        rows.add_row(
            Text(schedule.id, style="" if schedule.enabled else "dim"),
            expression_text(schedule.expression),
            schedule.timezone,
            target_text(schedule),
            str(schedule.concurrency_policy),
            str(schedule.missed_run_policy),
            schedule.description if schedule.enabled else f"(disabled) {schedule.description}",
        )
    out.print(rows)
    return 0


app.command("next")(upcoming)
app.command()(explain)
app.command()(diff)
app.command("compile")(compile_)
app.command()(plan)
app.command()(apply)
app.command()(drift)
app.command("import")(import_)
app.command()(pause)
app.command()(resume)
app.command()(report)
app.command()(schedulers)
app.command()(trigger)
app.command()(serve)
app.command()(worker)
app.command()(audit)
app.command()(runs)
app.command()(replay)
app.command()(purge)
app.command("dead-letters")(dead_letters)


@app.command()
def manifest(
    services: Services,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file, instead of stdout.")
    ] = None,
    title: Annotated[str | None, typer.Option(help="A title for the manifest.")] = None,
    as_json: AsJson = False,
) -> int:
    """Export the manifest; it is JSON in any case.

    Example: purista manifest billing.app:billing -o manifest.json
    """
    text = exported(load_services(services), title=title).to_json()
    if output is None:
        out.out(text, end="")
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise LoadError(f"cannot write '{output}': {error.strerror or error}") from None
    if as_json:
        print_json({"written": str(output)})
    else:
        say(f"wrote {output}")
    return 0


@app.command()
def dev(
    services: Services,
    state: Annotated[
        Path | None, typer.Option(help="A SQLite file that survives restarts.")
    ] = None,
    speed: Annotated[float, typer.Option(min=0.001, help="How many times real time.")] = 1.0,
    start: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="Start here instead of now.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="Stop at this time of the clock.")
    ] = None,
    bridge: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A broker for development, such as nats://localhost."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run services with the local runner and show every decision. For development only.

    Example: purista dev billing.app:billing --state dev.sqlite
    """
    loaded = load_services(services)
    _refuse(problems(*loaded))
    origin, end = read_instant("--from", start), read_instant("--until", until)
    clock: Clock = SystemClock()
    if speed != 1.0 or origin is not None:
        clock = AcceleratedClock(origin, speed=speed)
    say("local runner: for development, not a scheduler; Ctrl-C stops it after what is at work")
    show = _json_to(sys.stdout) if as_json else _show
    own_clock = None if isinstance(clock, SystemClock) else clock
    bridges = opened_bridges(IngressSettings(), bridge=bridge or "memory://", clock=own_clock)
    runner = LocalRunner(
        *loaded,
        clock=clock,
        state=state,
        event_bridge=bridges.events,
        queue_bridge=bridges.queues,
        on_decision=show,
    )
    with handlers_talk(as_json=as_json):
        asyncio.run(_run_dev(runner, bridges, end))
    return 0


@app.command()
def demo(
    as_json: AsJson = False,
) -> int:
    """Play a month of three schedules: a clock change, a duplicate, an overlap, an outage.

    Example: purista demo
    """
    return asyncio.run(play(as_json=as_json))


async def _run_dev(runner: LocalRunner, bridges: Bridges, end: datetime | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(name, stop.set)
    await bridges.connect(waits=False)
    async with runner:
        if end is not None:
            runner.clock.call_later(end - runner.clock.now(), stop.set)
        await stop.wait()
        say("finishing what is at work ...")


def _show(trigger: Trigger, decision: Decision) -> None:
    line = Text()
    line.append(_when(decision), style="dim")
    line.append(f"  {decision.schedule_id}  ")
    line.append_text(verdict_text(str(decision.verdict)))
    line.append(f"  {decision.reason}", style="dim")
    out.print(line)


def _json_to(stream: TextIO) -> Callable[[Trigger, Decision], None]:
    def show(trigger: Trigger, decision: Decision) -> None:
        stream.write(json.dumps(decision_json(decision), sort_keys=True) + "\n")
        stream.flush()

    return show


def _when(decision: Decision) -> str:
    return utc_text(decision.nominal_time) if decision.nominal_time else "-"


def _schedules(services: Sequence[Service]) -> list[Schedule]:
    return sorted(
        (one for service in services for one in service.schedules.values()),
        key=lambda one: one.id,
    )


def _listed(schedule: Schedule) -> dict[str, Any]:
    return {
        "concurrencyPolicy": str(schedule.concurrency_policy),
        "description": schedule.description,
        "enabled": schedule.enabled,
        "expression": expression_text(schedule.expression),
        "fingerprint": fingerprint(schedule),
        "id": schedule.id,
        "missedRunPolicy": str(schedule.missed_run_policy),
        "target": target_text(schedule),
        "timezone": schedule.timezone,
    }


def _problems(found: Sequence[Problem]) -> list[dict[str, str]]:
    return [{"place": p.place, "message": p.message, "remedy": p.remedy} for p in found]


def _advice(found: Sequence[Advice]) -> list[dict[str, str]]:
    return [{"code": a.code, **p} for a, p in zip(found, _problems(found), strict=True)]


def _refuse(wrong: Sequence[Problem]) -> None:
    if wrong:
        for problem in wrong:
            say(f"problem: {problem}", "red")
        raise typer.Exit(2)

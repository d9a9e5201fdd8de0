"""``purista compile``, ``purista report`` and ``purista schedulers``: contracts for real schedulers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from purista.cli.instant import read_instant
from purista.cli.loading import load_services
from purista.cli.output import out, print_json, say, table
from purista.cli.outputfile import STDOUT, check_paths, write_file
from purista.cli.reportjson import finding_json, report_json
from purista.cli.reportmarkdown import report_markdown
from purista.cli.reportview import print_report
from purista.cli.settingsfile import SettingsFile, read_document
from purista.compiling import (
    Artifact,
    Compilation,
    Scheduler,
    compile_schedules,
    default_horizon,
    is_accepted,
    request_for,
)
from purista.contract import Schedule
from purista.errors import LoadError, PortabilityError
from purista.report import report as made_report
from purista.reportpage import report_page
from purista.schedulers import scheduler_named, scheduler_names
from purista.service import Service
from purista.svg import counted
from purista.turnover import Horizon

MANAGED = ".purista-files"
"""Lists the files that the last compilation wrote into a folder, so that the next removes old ones."""

Services = Annotated[
    list[str],
    typer.Argument(
        metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
    ),
]
Accept = Annotated[
    list[str] | None,
    typer.Option(metavar="CODE", help="Accept findings of this code (CODE@ID: of one schedule)."),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="INSTANT", help="Look at clock changes from here, instead of this year."
    ),
]
ExactNative = Annotated[
    bool, typer.Option("--exact-native", help="Take only native lines that are exact.")
]


def compile_(
    scheduler: Annotated[str, typer.Argument(metavar="SCHEDULER", help="See purista schedulers.")],
    services: Services,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to write into.")
    ],
    settings: SettingsFile = None,
    accept: Accept = None,
    exact_native: ExactNative = False,
    from_: From = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compile schedules for a scheduler; exit code 1, and nothing written, when something differs.

    Example: purista compile kubernetes billing.app:billing -o deploy/schedules
    """
    known = scheduler_named(scheduler)
    loaded = load_services(services)
    request = request_for(
        known,
        read_document(settings),
        horizon_from(from_),
        accepted=accept or (),
        exact_native=exact_native,
    )
    try:
        made = compile_schedules(known, schedules_of(loaded), request)
    except PortabilityError as error:
        if as_json:
            print_json({"findings": [finding_json(each) for each in error.findings]})
        for each in error.findings:
            say(f"finding: {each}", "red")
        codes = " ".join(f"--accept {code}" for code in sorted({f.code for f in error.findings}))
        say(f"nothing was written; what you can live with you may accept: {codes}")
        return 1
    for code in accept or ():
        if not any(is_accepted(each, frozenset({code})) for each in made.accepted):
            say(f"--accept {code}: there is no such finding", "yellow")
    _write(output, made.artifacts)
    _tell(made, output, as_json=as_json)
    return 0


def report(
    services: Services,
    scheduler: Annotated[
        list[str] | None,
        typer.Option("--scheduler", metavar="NAME", help="One scheduler; repeat it for more."),
    ] = None,
    settings: SettingsFile = None,
    accept: Accept = None,
    exact_native: ExactNative = False,
    from_: From = None,
    details: Annotated[
        bool, typer.Option("--details", help="Notes and naive exports too.")
    ] = False,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write Markdown; - for stdout.")
    ] = None,
    html: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write a page; - for stdout.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say how schedules fare on every scheduler; exit code 1 when something differs.

    Example: purista report billing.app:billing --html report.html
    """
    schedulers = [scheduler_named(name) for name in scheduler or scheduler_names()]
    loaded = load_services(services)
    files = {"--markdown": markdown, "--html": html}
    check_paths({option: path for option, path in files.items() if path})
    document, horizon = read_document(settings), horizon_from(from_)
    requests = {
        each.name: request_for(
            each,
            {each.name: each.sample, **document},
            horizon,
            accepted=accept or (),
            exact_native=exact_native,
        )
        for each in schedulers
    }
    made = made_report(schedules_of(loaded), schedulers, requests, horizon)
    title = ", ".join(service.id for service in loaded)
    if markdown:
        write_file(markdown, [report_markdown(made)])
    if html:
        write_file(html, [report_page(made, title=title)])
    if as_json:
        print_json(report_json(made))
    elif STDOUT not in files.values():
        print_report(made, details=details)
    return 1 if made.findings else 0


def schedulers(
    name: Annotated[str | None, typer.Argument(help="One scheduler: its whole table.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """List the schedulers that can be compiled for, or what one of them honours.

    Example: purista schedulers kubernetes
    """
    given = [scheduler_named(each) for each in ([name] if name else scheduler_names())]
    if as_json:
        print_json({each.name: _table_json(each) for each in given})
    elif name:
        rows = table("option", "honoured by", "how, or what happens instead", title=given[0].title)
        for option, cell in given[0].capabilities.items():
            rows.add_row(option, str(cell.support), cell.how)
        out.print(rows)
    else:
        rows = table("scheduler", "title", "native", "ingress", "none")
        for each in given:
            words = [str(cell.support) for cell in each.capabilities.values()]
            counts = (str(words.count(word)) for word in ("native", "ingress", "none"))
            rows.add_row(each.name, each.title, *counts)
        out.print(rows)
    return 0


def _table_json(scheduler: Scheduler) -> dict[str, Any]:
    return {
        "title": scheduler.title,
        "options": {
            option: {"how": cell.how, "source": cell.source, "support": str(cell.support)}
            for option, cell in scheduler.capabilities.items()
        },
        "settings": dict(scheduler.sample),
    }


def horizon_from(start: str | None) -> Horizon:
    """Return the horizon of ``--from``, else that of this year."""
    return default_horizon(read_instant("--from", start) or datetime.now(UTC))


def schedules_of(services: Iterable[Service]) -> list[Schedule]:
    """Return the schedules of all services."""
    return [one for service in services for one in service.schedules.values()]


def _tell(made: Compilation, output: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "accepted": [finding_json(each) for each in made.accepted],
                "files": [each.path for each in made.artifacts],
                "leftOut": list(made.left_out),
                "scheduler": made.scheduler,
                "schedules": [each.schedule.id for each in made.placed],
            }
        )
        return
    for each in made.accepted:
        say(f"accepted: {each}", "yellow")
    for one in made.left_out:
        say(f"left out: schedule '{one}' is in no artifact", "yellow")
    schedules = counted(len(made.placed), "schedule")
    files = counted(len(made.artifacts), "file")
    out.print(f"{made.scheduler}: {schedules} in {files} in {output}")


def _write(folder: Path, artifacts: Sequence[Artifact]) -> None:
    """Write the artifacts, and remove what an earlier compilation wrote and this one did not."""
    paths = {each.path for each in artifacts}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(_managed(folder) - paths):
            (folder / old).unlink(missing_ok=True)
        for each in artifacts:
            place = folder / each.path
            place.parent.mkdir(parents=True, exist_ok=True)
            _replace(place, each)
        listing = "".join(f"{path}\n" for path in sorted(paths))
        (folder / MANAGED).write_text(listing, encoding="utf-8")
    except OSError as error:
        raise LoadError(f"cannot write into '{folder}': {error.strerror or error}") from None


def _managed(folder: Path) -> set[str]:
    """Return what the last compilation wrote into a folder; nothing outside it is ever named."""
    try:
        lines = (folder / MANAGED).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return set()
    root = folder.resolve()
    return {line for line in lines if line and (root / line).resolve().is_relative_to(root)}


def _replace(place: Path, artifact: Artifact) -> None:
    """Write a file as a whole, so that a reader never sees half of one."""
    new = place.with_name(f".{place.name}.new")
    new.write_bytes(artifact.text.encode())
    if artifact.executable:
        new.chmod(0o755)
    os.replace(new, place)

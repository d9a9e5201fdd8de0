"""``purista diff``: what a change of contracts, or of the time-zone database, does to fire times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from purista.cli.diffjson import json_chunks
from purista.cli.diffmarkdown import markdown_text
from purista.cli.diffview import print_terminal
from purista.cli.diffwords import Report
from purista.cli.horizon import read_horizon
from purista.cli.output import out
from purista.cli.side import Side, load_side, load_sides
from purista.cli.tzdatabase import own_version, read_database
from purista.clock import SystemClock
from purista.comparison import compare, compare_zones, zones_of
from purista.errors import LoadError
from purista.manifest import MANIFEST_VERSION
from purista.turnover import Horizon


def diff(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="OLD NEW",
            help="Manifest files (.json), package.module:service, or REVISION:path/to/manifest.json.",
        ),
    ],
    tzdata: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Compare services with themselves in another time-zone database: "
            "a folder of compiled zones, a package tzdata, its wheel or a zip file.",
        ),
    ] = None,
    horizon: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH", help="How far to look: 12h, 90d, 8w; a year (1y) if not said."
        ),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="Start here instead of now.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="INSTANT", help="End here, inclusive; RFC 3339.")
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a pull request.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every instant.")
    ] = False,
) -> int:
    """Say what changed, and which nominal times appear and disappear; exit code 1 when some do.

    Example: purista diff main:manifest.json manifest.json --markdown
    """
    if markdown and as_json:
        raise LoadError("--markdown and --json are two forms; give one of them")
    within = read_horizon(from_, horizon, until, SystemClock())
    report = _of_zones(sides, tzdata, within) if tzdata is not None else _of_sides(sides, within)
    try:
        if as_json:
            out.file.writelines(json_chunks(report))
        elif markdown:
            out.file.write(markdown_text(report))
        else:
            print_terminal(report)
        out.file.flush()
    except BrokenPipeError:
        out.on_broken_pipe()
    return 1 if report.comparison.moves_times else 0


def _of_sides(names: list[str], horizon: Horizon) -> Report:
    if len(names) != 2:
        raise LoadError(f"{len(names)} names; give two, OLD and NEW, or services and --tzdata PATH")
    old, new = load_sides(*names)
    comparison = compare(old.manifest, new.manifest, horizon)
    remarks = (*_newer_remarks(old, new), *_export_remarks(old, new))
    versions = (old.manifest.tzdata, new.manifest.tzdata)
    return Report(comparison, (old.name, new.name), versions, remarks)


def _of_zones(names: list[str], path: Path, horizon: Horizon) -> Report:
    side = load_side(names)
    needed = zones_of(side.manifest)
    database = read_database(path, needed)
    versions = (own_version(needed), database.version)
    remarks = (
        *_newer_remarks(side),
        _versions_remark(*versions),
        *(
            f"'{each}' is not in that database, so nothing is known of its schedules"
            for each in database.missing
        ),
    )
    comparison = compare_zones(side.manifest, database.zones, horizon)
    return Report(comparison, (side.name, f"{side.name} with {path}"), versions, remarks)


def _newer_remarks(*sides: Side) -> Iterator[str]:
    for side in sides:
        if side.is_newer:
            version = side.manifest.manifest_version
            yield (
                f"'{side.name}' has the form {version}, which is newer than {MANIFEST_VERSION}: "
                "what its unknown fields do to nominal times cannot be told"
            )


def _export_remarks(old: Side, new: Side) -> Iterator[str]:
    """Say that the times are not those of two databases, where two were at work."""
    versions = (old.manifest.tzdata, new.manifest.tzdata)
    if all(versions) and versions[0] != versions[1]:
        here = own_version(zones_of(old.manifest) | zones_of(new.manifest)) or "of unknown version"
        yield (
            f"exported with the time-zone databases {versions[0]} and {versions[1]}; the times of both "
            f"are those of the one here, {here} (--tzdata PATH shows what another one changes)"
        )


def _versions_remark(here: str | None, there: str | None) -> str:
    if here is not None and here == there:
        return f"both time-zone databases are version {here}"
    names = [each or "of unknown version" for each in (here, there)]
    return f"the time-zone database here is {names[0]}, the other one is {names[1]}"

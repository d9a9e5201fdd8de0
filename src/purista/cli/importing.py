"""``purista import``: the contracts that schedules of a live scheduler would have."""

from __future__ import annotations

import asyncio
import json
import keyword
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from purista.cli.compiling import From, horizon_from
from purista.cli.deploying import DEFAULT, SchedulerName, place_of
from purista.cli.exitcode import AGAIN, DONE
from purista.cli.output import say
from purista.cli.outputfile import STDOUT, write_file
from purista.cli.settingsfile import SettingsFile, read_document
from purista.compiling import Request, request_for
from purista.errors import LoadError
from purista.expression import Cron, Every, Expression
from purista.schedulers import scheduler_named
from purista.sync import Foreign, Imports, SyncError
from purista.sync.opening import live_scheduler

_TAKEN: Final = frozenset({"triggered", "datetime", "timedelta", "purista", "str"})
_SERVICE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def import_(
    scheduler: SchedulerName,
    service: Annotated[
        str, typer.Option("--service", metavar="NAME", help="The service that declares them.")
    ] = "Imported",
    output: Annotated[
        str, typer.Option("--out", metavar="FILE", help="Write Python there; - for stdout.")
    ] = STDOUT,
    settings: SettingsFile = None,
    from_: From = None,
) -> int:
    """Write the contracts that the schedules of a live scheduler would have which are none of ours.

    A start: what they trigger is for you to say. Changes nothing in the scheduler.

    Example: purista import temporal --out imported.py
    """
    if not _SERVICE.fullmatch(service):
        raise LoadError(f"--service '{service}' is no name; use letters, digits and underscores")
    if keyword.iskeyword(service.lower()) or service.lower() in _TAKEN:
        raise LoadError(f"--service '{service}' is a word of the module itself; use another name")
    place = place_of(scheduler, read_document(settings), DEFAULT)
    known = scheduler_named(place.scheduler)
    request = request_for(known, place.document, horizon_from(from_))
    try:
        found = asyncio.run(_foreign(place.scheduler, request))
    except SyncError as error:
        say(f"purista: {error}", "red")
        return AGAIN
    write_file(output, [module_text(found, service, known.title)])
    taken = sum(1 for each in found if each.expression is not None)
    say(f"{taken} schedules, {len(found) - taken} that no contract can say")
    return DONE


async def _foreign(scheduler: str, request: Request) -> Sequence[Foreign]:
    async with live_scheduler(scheduler, request) as live:
        if not isinstance(live, Imports):
            raise LoadError(f"the schedules of {scheduler} cannot be read as contracts")
        return [each async for each in live.foreign()]


def module_text(found: Sequence[Foreign], service: str, title: str) -> str:
    """Return a Python module that declares schedules."""
    variable = service.lower()
    declared = [each for each in found if each.expression is not None]
    names = _names(each.name for each in declared)
    body = "\n\n".join(
        _declaration(each, name, variable) for each, name in zip(declared, names, strict=True)
    )
    rest = "".join(
        f"\n# {_comment(each.name)} is left out.\n{_doubts(each)}"
        for each in found
        if each.expression is None
    )
    used = [name for name in ("UTC", "datetime", "timedelta") if re.search(rf"\b{name}\b", body)]
    values = [name for name in ("Cron", "Every", "Once") if f"{name}(" in body]
    imports = f"from datetime import {', '.join(used)}\n\n" if used else ""
    return (
        f'"""Schedules of {title} that purista does not manage, as contracts: a start.\n\n'
        "Say what each triggers, and delete it there once purista applies it.\n"
        f'"""\n\n{imports}from purista import {", ".join([*values, "Service"])}\n\n'
        f'{variable} = Service("{service}", version="1")\n'
        f'triggered = {variable}.event("{variable}.triggered", str, external=True)\n'
        + (f"\n{body}\n" if body else "")
        + rest
    )


def _declaration(each: Foreign, name: str, variable: str) -> str:
    assert each.expression is not None
    said = {
        "payload": _text(name),
        "expression": _expression(each.expression),
        "timezone": "" if each.timezone == "UTC" else _text(each.timezone),
        "dst_gap": "" if each.dst_gap == "skip" else _text(each.dst_gap),
        "dst_overlap": "" if each.dst_overlap == "first" else _text(each.dst_overlap),
        "start_at": "" if each.start_at is None else _instant(each.start_at),
        "end_at": "" if each.end_at is None else _instant(each.end_at),
        "jitter": _length(each.jitter) if each.jitter else "",
        "enabled": "" if each.enabled else "False",
    }
    options = "".join(f"    {option}={text},\n" for option, text in said.items() if text)
    about = f", {_text(each.description)}" if each.description else ""
    return (
        f"{_doubts(each)}{variable}.schedule({_text(name)}{about}).emit_event(\n"
        f"    triggered,\n{options})"
    )


def _doubts(each: Foreign) -> str:
    return "".join(f"# {_comment(doubt)}\n" for doubt in each.doubts)


def _comment(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))


def _names(given: Iterable[str]) -> Iterator[str]:
    """Yield names that a schedule can have, each once."""
    taken: set[str] = set()
    for each in given:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "-", each)[:150].strip("-.")
        first = plain if plain[:1].isalpha() else f"schedule-{plain}".strip("-")
        name, number = first, 1
        while name in taken:
            number += 1
            name = f"{first}-{number}"
        taken.add(name)
        yield name


def _expression(expression: Expression) -> str:
    if isinstance(expression, Cron):
        return repr(expression).replace("'", '"')
    if isinstance(expression, Every):
        anchor = f", {_instant(expression.anchor)}" if expression.phase else ""
        return f"Every({_length(expression.interval)}{anchor})"
    return f"Once({_instant(expression.at)})"


def _instant(at: datetime) -> str:
    parts = [at.year, at.month, at.day, at.hour, at.minute]
    if at.second or at.microsecond:
        parts.append(at.second)
    if at.microsecond:
        parts.append(at.microsecond)
    return f"datetime({', '.join(map(str, parts))}, tzinfo=UTC)"


def _length(length: timedelta) -> str:
    parts = {"days": length.days, "seconds": length.seconds, "microseconds": length.microseconds}
    return f"timedelta({', '.join(f'{name}={value}' for name, value in parts.items() if value)})"


def _text(value: str) -> str:
    return json.dumps(value.encode(errors="replace").decode(), ensure_ascii=False)

"""``purista explain``: what a schedule, or a bare cron expression, means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeAlias, cast

import typer
from rich.text import Text

from purista.cli.instant import read_instant
from purista.cli.loading import load_services
from purista.cli.output import out, print_json, target_text, utc_text
from purista.clockchange import ClockChange, Effect, Timing, offset_text
from purista.contract import DstGap, DstOverlap, Schedule
from purista.errors import ContractError, LoadError
from purista.explanation import Explanation, change_text, effect_text
from purista.explanation import explain as explained
from purista.expression import Cron, DayRule
from purista.firetimes import zone_problems
from purista.local import find_schedule

Services = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
    ),
]


def explain(
    services: Services = None,
    schedule: Annotated[
        str | None, typer.Option("--schedule", "-s", help="One schedule, by name or id.")
    ] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="TEXT", help="A cron expression instead of services.")
    ] = None,
    timezone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="With --cron: an IANA name; else UTC.")
    ] = None,
    day_rule: Annotated[
        str | None, typer.Option(metavar="or|and", help="With --cron: what two day fields mean.")
    ] = None,
    seconds: Annotated[
        bool, typer.Option("--seconds", help="With --cron: the first of six fields is seconds.")
    ] = False,
    dst_gap: Annotated[
        DstGap | None, typer.Option(help="With --cron: a fixed time that a change leaves out.")
    ] = None,
    dst_overlap: Annotated[
        DstOverlap | None, typer.Option(help="With --cron: a fixed time that comes twice.")
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="Start here instead of now.")
    ] = None,
    changes: Annotated[int, typer.Option(min=0, help="How many clock changes to show.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Say in a sentence what schedules mean, and what they do at the next clock changes.

    Example: purista explain billing.app:billing --schedule monthlyBillingCycle

    Example: purista explain --cron "30 2 * * *" --timezone Europe/Berlin
    """
    start = read_instant("--from", from_) or datetime.now(UTC)
    if cron is None:
        of_cron = (timezone, day_rule, seconds, dst_gap, dst_overlap)
        asked = [_asked(one, start, changes) for one in _chosen(services, schedule, of_cron)]
        _show(asked, [_schedule_json(*one) for one in asked], as_json=as_json)
        return 0
    if services or schedule:
        raise LoadError("--cron stands alone: leave out the services and --schedule")
    timing = _timing(cron, timezone, day_rule, dst_gap, dst_overlap, seconds=seconds)
    alone = _asked(timing, start, changes)
    _show([alone], _json(*alone), as_json=as_json)
    return 0


Asked: TypeAlias = tuple[Schedule | Timing, Explanation]


def _asked(one: Schedule | Timing, start: datetime, changes: int) -> Asked:
    return one, explained(one, start, changes=changes)


def _chosen(
    services: Sequence[str] | None, schedule: str | None, of_cron: Iterable[object]
) -> list[Schedule]:
    if not services:
        raise LoadError("name services, or an expression such as --cron '30 2 * * *'")
    if any(of_cron):
        options = ", ".join(f"--{name}" for name in _OF_CRON)
        raise LoadError(f"{options} go with --cron only: a schedule says these itself")
    loaded = load_services(services)
    if schedule:
        return [find_schedule(loaded, schedule)]
    every = [one for service in loaded for one in service.schedules.values()]
    return sorted(every, key=lambda one: one.id)


def _timing(
    cron: str,
    timezone: str | None,
    day_rule: str | None,
    dst_gap: DstGap | None,
    dst_overlap: DstOverlap | None,
    *,
    seconds: bool,
) -> Timing:
    zone = "UTC" if timezone is None else timezone
    try:
        expression = Cron(cron, cast("DayRule | None", day_rule), seconds)  # it knows the words
    except ContractError as error:
        raise ContractError([*error.problems, *zone_problems(zone)]) from None
    return Timing(expression, zone, dst_gap or DstGap.SKIP, dst_overlap or DstOverlap.FIRST)


_OF_CRON = ("timezone", "day-rule", "seconds", "dst-gap", "dst-overlap")


def _show(found: Sequence[Asked], document: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    for one, explanation in found:
        head = f"{one.id}: " if isinstance(one, Schedule) else ""
        out.print(Text(f"{head}{explanation.sentence}", style="bold"))
        for line in _lines(one, explanation):
            out.print(Text(f"  {line}"))


def _lines(one: Schedule | Timing, explanation: Explanation) -> Iterator[str]:
    yield "the next clock changes:" if explanation.changes else _no_changes(one)
    for change in explanation.changes:
        yield f"  {_change_line(change)}"
    yield from _later(explanation)
    for topic, text in explanation.rules:
        yield f"{topic}: {text}"
    if isinstance(one, Schedule):
        yield f"triggers: {target_text(one)}"


def _no_changes(one: Schedule | Timing) -> str:
    return f"no clock changes to come in {one.timezone}"


def _later(explanation: Explanation) -> Iterator[str]:
    """Say which is the first clock change that is met, where it is not among those shown."""
    if not explanation.changes or any(
        change.effect != Effect.UNAFFECTED for change in explanation.changes
    ):
        return
    if explanation.first_met:
        yield f"the first that it meets: {_change_line(explanation.first_met)}"
    else:
        yield "it meets none until the year 2200"


def _change_line(change: ClockChange) -> str:
    return f"{change_text(change.transition)}: {effect_text(change)}"


def _schedule_json(one: Schedule | Timing, explanation: Explanation) -> dict[str, Any]:
    assert isinstance(one, Schedule)
    return {**_json(one, explanation), "id": one.id, "target": target_text(one)}


def _json(one: Schedule | Timing, explanation: Explanation) -> dict[str, Any]:
    first = explanation.first_met
    return {
        "clockChanges": [_change_json(change) for change in explanation.changes],
        "firstMet": None if first is None else _change_json(first),
        "rules": [{"text": rule.text, "topic": rule.topic} for rule in explanation.rules],
        "sentence": explanation.sentence,
        "timezone": one.timezone,
    }


def _change_json(change: ClockChange) -> dict[str, Any]:
    transition = change.transition
    return {
        "at": utc_text(transition.instant),
        "effect": str(change.effect),
        "instants": [utc_text(instant) for instant in change.instants],
        "localTimes": [local.isoformat() for local in change.local_times],
        "offsetAfter": offset_text(transition.offset_after),
        "offsetBefore": offset_text(transition.offset_before),
        "text": _change_line(change),
    }

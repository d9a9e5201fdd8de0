"""What goes to a live scheduler: the contracts, compiled for a deployment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from purista.cli.compiling import horizon_from, schedules_of
from purista.cli.loading import load_services
from purista.cli.output import say
from purista.cli.settingsfile import read_document
from purista.compiling import Placed, Request, compile_schedules, request_for
from purista.contract import Schedule, near
from purista.cover import Fit
from purista.deploymentsettings import (
    DeploymentSettings,
    deployment_remedy,
    deployment_settings,
)
from purista.errors import LoadError, PortabilityError, Problem, SettingsError
from purista.manifest import fingerprint
from purista.naming import names_of
from purista.schedulers import scheduler_named, scheduler_names
from purista.settings import FILE, IngressSettings

DEFAULT: Final = "default"
"""The deployment where none is named; its objects have no prefix."""

SchedulerName = Annotated[
    str,
    typer.Argument(
        metavar="DEPLOYMENT", help="A deployment of the settings, or a scheduler such as temporal."
    ),
]
DeploymentName = Annotated[
    str,
    typer.Option(
        "--deployment",
        metavar="NAME",
        help="With a scheduler: several can share it, each with its own objects.",
    ),
]
_DEPLOYMENT: Final = re.compile(r"[a-z][a-z0-9-]{0,29}")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for: a scheduler or deployment, services, and how they are compiled."""

    scheduler: str
    services: tuple[str, ...]
    deployment: str = DEFAULT
    settings: str | None = None
    accept: tuple[str, ...] = ()
    exact_native: bool = False
    from_: str | None = None
    override: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        scheduler: str,
        services: Iterable[str],
        deployment: str,
        settings: Path | None,
        accept: Iterable[str] | None = None,
        exact_native: bool = False,
        from_: str | None = None,
        override: Iterable[str] | None = None,
    ) -> Wish:
        """Return what options of the command line say."""
        return cls(
            scheduler,
            tuple(services),
            deployment,
            None if settings is None else str(settings),
            tuple(accept or ()),
            exact_native,
            from_,
            tuple(override or ()),
        )


class Place(NamedTuple):
    """A deployment in a scheduler, and the settings as they are there."""

    scheduler: str
    deployment: str
    document: dict[str, Any]
    table: DeploymentSettings | None = None


class Asked(NamedTuple):
    """What a plan is made of."""

    scheduler: str
    deployment: str
    placed: tuple[Placed, ...]
    request: Request
    declared: tuple[Schedule, ...]
    overrides: frozenset[str] = frozenset()


def place_of(name: str, document: Mapping[str, Any], deployment: str) -> Place:
    """Return the scheduler behind a word of the command line. Raises ``LoadError``, ``SettingsError``."""
    table = deployment_settings(document, name)
    if table is not None:
        if deployment != DEFAULT:
            raise LoadError(f"--deployment is for a scheduler; '{name}' is a deployment already")
        place = Place(table.scheduler, name, table.document(document), table)
    elif deployment_settings(document, deployment) is not None:
        raise LoadError(
            f"'{deployment}' is a deployment of the settings; say it in place of '{name}', which does "
            "without its table"
        )
    else:
        place = Place(name, deployment, dict(document))
    if place.scheduler not in scheduler_names():
        remedy = deployment_remedy(document, place.scheduler, scheduler_names())
        raise LoadError(
            f"'{place.scheduler}' is neither a deployment of the settings nor a scheduler; {remedy}"
        )
    if _DEPLOYMENT.fullmatch(place.deployment) is None:
        raise LoadError(
            f"deployment '{place.deployment}': it begins the names of objects; use up to 30 lower-case "
            "letters, digits and hyphens, a letter first"
        )
    return place


def asked_for(wish: Wish) -> Asked | None:
    """Compile the contracts; tell the findings and return None when something would differ."""
    try:
        return _asked(wish)
    except PortabilityError as error:
        for each in error.findings:
            say(f"finding: {each}", "red")
        say("nothing is planned; purista compile says how findings are accepted")
        return None


def asked_by_operator(wish: Wish) -> Asked:
    """Compile the contracts for what is there already, whatever was found when it was planned."""
    try:
        return _asked(wish)
    except PortabilityError as error:
        return _asked(replace(wish, accept=tuple(each.code for each in error.findings)))


def _asked(wish: Wish) -> Asked:
    settings = None if wish.settings is None else Path(wish.settings)
    place = place_of(wish.scheduler, read_document(settings), wish.deployment)
    declared = schedules_of(load_services(wish.services))
    known = scheduler_named(place.scheduler)
    request = request_for(
        known,
        place.document,
        horizon_from(wish.from_),
        accepted=wish.accept,
        exact_native=wish.exact_native,
    )
    table = place.table
    schedules = declared if table is None else table.chosen(declared, request.horizon)
    placed = compile_schedules(known, schedules, request).placed
    if table is not None:
        placed = tuple(_as_declared(placed, declared, table, request.ingress))
    if place.deployment != DEFAULT:
        ids = {each.schedule.id: f"{place.deployment}.{each.schedule.id}" for each in placed}
        names = names_of(ids.values(), known.names)
        placed = tuple(replace(each, name=names[ids[each.schedule.id]]) for each in placed)
    asked = Asked(place.scheduler, place.deployment, placed, request, tuple(declared))
    return asked._replace(overrides=frozenset(_override(asked, each) for each in wish.override))


def _as_declared(
    placed: Iterable[Placed],
    declared: Iterable[Schedule],
    table: DeploymentSettings,
    ingress: IngressSettings,
) -> Iterator[Placed]:
    """Yield what is placed with the version of its contract, which is what the ingress knows."""
    by_id = {each.id: each for each in declared}
    for each in placed:
        schedule_id = each.schedule.id
        if table.is_slower(schedule_id):
            _check_missed(each.schedule, ingress)
        if table.is_slower(schedule_id) and each.cover.fit is not Fit.EXACT:
            raise LoadError(
                f"schedule '{schedule_id}': its slower expression takes more triggers than it says "
                f"({each.cover.reason or 'a superset'}), which the ingress would run; say it in UTC"
            )
        yield replace(each, fingerprint=fingerprint(by_id[schedule_id]))


def _check_missed(schedule: Schedule, ingress: IngressSettings) -> None:
    """Refuse where the ingress, which knows the contract alone, would take what is left out for missed."""
    place = f"{FILE}: slower"
    message = (
        f"schedule '{schedule.id}': the ingress takes the times that are left out for missed ones"
    )
    if ingress.recovery == "ingress":
        remedy = "use ingress.recovery = 'scheduler', or say the slower expression in the contract"
        raise SettingsError([Problem(place, f"{message} and recovers them", remedy)])
    if schedule.missed_run_policy == "runOnce":
        remedy = "use missed_run_policy 'skip' or 'catchUp', or say it in the contract"
        raise SettingsError(
            [Problem(place, f"{message}, so that a late trigger is coalesced", remedy)]
        )


def _override(asked: Asked, text: str) -> str:
    """Return an override with the id of its schedule. Raises ``LoadError``."""
    given, colon, field = text.partition(":")
    return f"{id_of(asked, given)}{colon}{field}"


def id_of(asked: Asked, given: str) -> str:
    """Return the id of a schedule that is given by its id or its name. Raises ``LoadError``."""
    schedules = [one.schedule for one in asked.placed]
    found = {each.id for each in schedules if given in (each.id, each.name)}
    if len(found) == 1:
        return found.pop()
    if found:
        raise LoadError(f"schedule '{given}' is declared by several services; use its id")
    left_out = [each.id for each in asked.declared if given in (each.id, each.name)]
    if left_out:
        raise LoadError(
            f"schedule '{left_out[0]}' does not go to {asked.scheduler}, deployment '{asked.deployment}': "
            "its settings or a finding leave it out"
        )
    known = [each.name for each in schedules or asked.declared]
    raise LoadError(f"no schedule '{given}'; {near(given, known)}")

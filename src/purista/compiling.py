"""Compiling: schedules and settings in, one scheduler's artifacts out - or all that it would do otherwise.

Pure and deterministic: the same schedules, settings and horizon give the same bytes. The schedulers
themselves are in ``purista.schedulers``, one file each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, pairwise
from typing import Any, Final, Protocol

from purista.clockchange import Timing
from purista.contract import Schedule
from purista.cover import Cover, Fit, Uncovered
from purista.dialect import Dialect, Reading
from purista.errors import ContractError, PortabilityError, Problem, SettingsError
from purista.meaning import fingerprint_of_schedule, remembering
from purista.naming import NameRule, names_of
from purista.portability import (
    CapabilityTable,
    Finding,
    Most,
    Support,
    code_of,
    example_of,
    used_options,
    utc_text,
)
from purista.settings import IngressSettings, Settings, read_settings
from purista.turnover import Horizon

HORIZON_YEARS: Final = 10
"""So many years ahead clock changes are looked at, if not said otherwise."""

MARKER: Final = "purista"
"""Who manages an object: the ownership marker of every object in every scheduler."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled file: its path inside the output folder, and its text."""

    path: str
    text: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a compilation is asked for, besides the schedules.

    Clock changes are looked at within ``horizon``. ``accepted`` are codes of findings that a person
    accepts: ``code``, or ``code@schedule-id`` for one schedule. ``exact_native``: only native lines that are exact will do.
    """

    settings: Settings
    ingress: IngressSettings
    horizon: Horizon
    accepted: frozenset[str] = frozenset()
    exact_native: bool = False


def request_for(
    scheduler: Scheduler,
    document: Mapping[str, Any],
    horizon: Horizon,
    *,
    accepted: Iterable[str] = (),
    exact_native: bool = False,
) -> Request:
    """Return a request with the settings of ``purista.toml``, given as data.

    Raises ``SettingsError`` with every mistake in the tables ``ingress`` and the scheduler's own.
    """
    found = read_settings(document, {scheduler.name: scheduler.settings})
    ingress = found["ingress"]
    assert isinstance(ingress, IngressSettings)
    return Request(found[scheduler.name], ingress, horizon, frozenset(accepted), exact_native)


@dataclass(frozen=True, slots=True)
class Placed:
    """A schedule as a scheduler is to hold it.

    ``cover`` has no lines where the scheduler says the expression in its own way. ``settings`` are those
    of the deployment with the schedule's own ``provider_hints`` in their place. ``accepted`` are the
    findings about this schedule that a person accepted.
    """

    schedule: Schedule
    cover: Cover
    settings: Settings
    fingerprint: str = ""
    name: str = ""
    accepted: tuple[Finding, ...] = ()

    @property
    def sends_extra(self) -> bool:
        """Whether triggers are sent that the ingress drops, so that rule R10 holds."""
        return self.cover.fit is not Fit.EXACT or bool(self.schedule.exclude)


class Scheduler(Protocol):
    """What purista knows about one scheduler.

    ``name`` is the word on the command line and the table in ``purista.toml``, ``title`` what people
    call it. ``settings`` is the type of that table, ``sample`` values for it that documentation shows
    and the report uses where there are none. ``names`` is what it takes as a name, ``dialect`` what its
    lines can say, ``reading`` what it makes of a cron text that is copied, ``most`` how many objects it
    holds: one for each line, or one where a schedule has no lines.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def capabilities(self) -> CapabilityTable: ...  # noqa: D102
    @property
    def dialect(self) -> Dialect: ...  # noqa: D102
    @property
    def reading(self) -> Reading: ...  # noqa: D102
    @property
    def settings(self) -> type[Settings]: ...  # noqa: D102
    @property
    def sample(self) -> Mapping[str, Any]: ...  # noqa: D102
    @property
    def names(self) -> NameRule: ...  # noqa: D102
    @property
    def most(self) -> Most | None: ...  # noqa: D102

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, or why there are none."""

    def findings(self, placed: Placed, request: Request) -> Iterable[Finding]:
        """Yield what else differs for a schedule: limits, policies under a superset."""

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterable[Artifact]:
        """Yield the files; ``placed`` are all schedules to hold, by id, each with its name."""


@dataclass(frozen=True, slots=True)
class Compilation:
    """What compiling gave: the artifacts, the findings that were accepted, and what was left out."""

    scheduler: str
    artifacts: tuple[Artifact, ...]
    placed: tuple[Placed, ...]
    accepted: tuple[Finding, ...] = ()
    left_out: tuple[str, ...] = ()


def compile_schedules(
    scheduler: Scheduler, schedules: Iterable[Schedule], request: Request
) -> Compilation:
    """Return the artifacts for a scheduler.

    Raises ``PortabilityError`` with every finding that ``request.accepted`` does not name.
    """
    placed, found = place(scheduler, schedules, request)
    refused = [each for each in found if not is_accepted(each, request.accepted)]
    if refused:
        raise PortabilityError(scheduler.name, refused)
    held = tuple(_named(scheduler, placed, found))
    left_out = {each.schedule_id for each in found} - {"", *(each.schedule.id for each in held)}
    return Compilation(
        scheduler.name,
        tuple(scheduler.artifacts(held, request)),
        held,
        tuple(found),
        tuple(sorted(left_out)),
    )


def is_accepted(finding: Finding, accepted: frozenset[str]) -> bool:
    """Whether a finding's code is accepted, for all schedules or for its own (``code@id``)."""
    return finding.code in accepted or f"{finding.code}@{finding.schedule_id}" in accepted


def place(
    scheduler: Scheduler, schedules: Iterable[Schedule], request: Request
) -> tuple[list[Placed], list[Finding]]:
    """Return each schedule that the scheduler can hold, by id, and all findings.

    Raises ``ContractError`` where two schedules have one id.
    """
    ordered = sorted(schedules, key=lambda each: each.id)
    _refuse_twins(ordered)
    placed: list[Placed] = []
    found: list[Finding] = []
    for schedule in ordered:
        one, findings = place_one(scheduler, schedule, request)
        found += findings
        if one is not None:
            placed.append(one)
    return placed, [*found, *number_findings(scheduler, placed, request)]


def number_findings(
    scheduler: Scheduler, placed: Sequence[Placed], request: Request
) -> Iterator[Finding]:
    """Yield a finding where a scheduler does not hold so many objects."""
    most = scheduler.most
    if most is None:
        return
    counts = [_objects(scheduler, each) for each in placed]
    beyond = next((at for at, count in enumerate(accumulate(counts)) if count > most.number), None)
    if beyond is None:
        return
    first = placed[beyond].schedule
    at = first.next_after(request.horizon.start)
    yield Finding(
        code="limit-number",
        schedule_id="",
        option="expression",
        message=f"{sum(counts):,} objects are needed; it holds {most.number:,} {most.objects}",
        example=f"'{first.id}' is due at {utc_text(at)}, and has no object" if at else "",
        remedy="have the limit raised, or spread the services",
        source=most.source,
    )


def _objects(scheduler: Scheduler, placed: Placed) -> int:
    return 1 if scheduler.dialect.many_lines else max(len(placed.cover.lines), 1)


def place_one(
    scheduler: Scheduler, schedule: Schedule, request: Request
) -> tuple[Placed | None, list[Finding]]:
    """Return a schedule as the scheduler can hold it, if it can, and what differs."""
    found = list(_table_findings(scheduler, schedule, request))
    hints = schedule.provider_hints.get(scheduler.name)
    if hints is not None:
        settings = _with_hints(scheduler, schedule, request, hints)
        if isinstance(settings, Finding):
            return None, [*found, settings]
        request = replace(request, settings=settings)
    lines = scheduler.cover(schedule, request)
    if isinstance(lines, Uncovered):
        if not any(each.leaves_out for each in found):
            found.append(_uncovered(scheduler, schedule, lines, request))
        return None, found
    one = Placed(schedule, lines, request.settings)
    found += scheduler.findings(one, request)
    return (None if any(each.leaves_out for each in found) else one), found


def timing_of(schedule: Schedule) -> Timing:
    """Return when a schedule is due, but for its bounds and exclusions."""
    return Timing(
        schedule.expression,
        schedule.timezone,
        str(schedule.dst_gap),
        str(schedule.dst_overlap),
    )


def default_horizon(now: datetime) -> Horizon:
    """Return the horizon that begins with the year of ``now``, so that it changes once a year."""
    start = datetime(now.year, 1, 1, tzinfo=UTC)
    return Horizon(start, start.replace(year=start.year + HORIZON_YEARS) - timedelta(seconds=1))


def marker_text(placed: Placed) -> str:
    """Return the ownership marker as a text: who manages the object, and for which schedule.

    >>> from purista import Cron, Event
    >>> due = Event("due", str, service_name="Billing", service_version="1")
    >>> schedule = Schedule(name="x", service_name="Billing", service_version="1", target=due,
    ...     expression=Cron("0 2 * * *"), payload="x")
    >>> marker_text(Placed(schedule, Cover((), Fit.EXACT), Settings(), "0123456789abcdef"))
    'purista: Billing.v1.x 0123456789abcdef'
    """
    return f"{MARKER}: {placed.schedule.id} {placed.fingerprint}"


def accepted_text(placed: Placed) -> str:
    """Return the codes of the findings that were accepted for a schedule, for the artifact."""
    return ",".join(sorted({each.code for each in placed.accepted}))


def _table_findings(
    scheduler: Scheduler, schedule: Schedule, request: Request
) -> Iterator[Finding]:
    """Yield a finding for each option that the scheduler's table says nobody honours."""
    for option in used_options(schedule):
        cell = scheduler.capabilities[option]
        if cell.support is Support.NONE:
            yield Finding(
                code=code_of(option),
                schedule_id=schedule.id,
                option=option,
                message=cell.how,
                example=example_of(option, schedule, request.horizon.start),
                source=cell.source,
                leaves_out=option.startswith(("expression", "target")),
            )


def _uncovered(
    scheduler: Scheduler, schedule: Schedule, why: Uncovered, request: Request
) -> Finding:
    due = example_of("expression", schedule, request.horizon.start)
    is_due = schedule.next_after(request.horizon.start) is not None
    return Finding(
        code=why.code,
        schedule_id=schedule.id,
        option="expression",
        message=why.message,
        example=f"{due}, and no line fires then" if is_due else due,
        remedy=f"accepting it leaves the schedule out of what {scheduler.title} holds",
        leaves_out=True,
    )


def _refuse_twins(ordered: Sequence[Schedule]) -> None:
    ids = [each.id for each in ordered]
    twins = sorted({one for one, other in pairwise(ids) if one == other})
    if twins:
        raise ContractError(
            Problem(f"schedule '{each}'", "is given twice", "give each its own name")
            for each in twins
        )


def _with_hints(
    scheduler: Scheduler, schedule: Schedule, request: Request, hints: object
) -> Settings | Finding:
    """Return the settings with a schedule's hints for the scheduler in their place."""
    given = request.settings.model_dump(exclude_unset=True)
    try:
        if not isinstance(hints, Mapping):
            raise SettingsError([Problem(scheduler.name, "it is no table")])
        table = {scheduler.name: given | dict(hints)}
        return read_settings(table, {scheduler.name: scheduler.settings})[scheduler.name]
    except SettingsError as error:
        texts = (str(each).removeprefix("purista.toml: ") for each in error.problems)
        return Finding(
            code="provider-hints",
            schedule_id=schedule.id,
            option="provider_hints",
            message=f"no settings of {scheduler.title}: {'; '.join(texts)}",
            example=example_of("provider_hints", schedule, request.horizon.start),
            leaves_out=True,
        )


def _named(
    scheduler: Scheduler, placed: Sequence[Placed], found: Iterable[Finding]
) -> Iterator[Placed]:
    """Yield what is placed with all that an artifact says of it."""
    names = names_of((each.schedule.id for each in placed), scheduler.names)
    known = remembering()
    by_id: dict[str, list[Finding]] = {}
    for finding in found:
        by_id.setdefault(finding.schedule_id, []).append(finding)
    for each in placed:
        schedule_id = each.schedule.id
        yield Placed(
            each.schedule,
            each.cover,
            each.settings,
            fingerprint_of_schedule(each.schedule, known),
            names[schedule_id],
            (*by_id.get(schedule_id, ()), *by_id.get("", ())),
        )

"""What schedulers can do, and what a contract loses on one of them: capabilities, findings, notes.

A finding is a difference that the ingress cannot mend: it refuses by default. A note is what is worth
knowing although the meaning holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from purista.contract import Schedule
from purista.expression import Cron, Every, Expression


class Support(StrEnum):
    """Who honours an option."""

    NATIVE = "native"
    """The scheduler means exactly this."""

    INGRESS = "ingress"
    """The scheduler delivers at least this, and the ingress makes it exact."""

    NONE = "none"
    """Nobody: something else happens."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One cell of a table: who honours an option, how (or what happens instead), and who says so.

    ``source`` is the address of the vendor's page, or names the experiment.
    """

    support: Support
    how: str
    source: str


def native(how: str, source: str) -> Capability:
    """Return a cell: the scheduler means exactly this."""
    return Capability(Support.NATIVE, how, source)


def by_ingress(how: str, source: str) -> Capability:
    """Return a cell: the scheduler delivers at least this, and the ingress makes it exact."""
    return Capability(Support.INGRESS, how, source)


def by_none(instead: str, source: str) -> Capability:
    """Return a cell: something else happens."""
    return Capability(Support.NONE, instead, source)


@dataclass(frozen=True, slots=True)
class Most:
    """How many objects a scheduler holds: ``objects`` says of what, ``source`` who says so."""

    number: int
    objects: str
    source: str


OPTIONS: Final = (
    "expression=cron",
    "expression=cron with L",
    "expression=cron with W",
    "expression=cron with #",
    "expression=cron with seconds",
    "expression=day rule or",
    "expression=day rule and",
    "expression=every",
    "expression=once",
    "timezone",
    "dst_gap=skip",
    "dst_gap=next",
    "dst_gap=shift",
    "dst_overlap=first",
    "dst_overlap=last",
    "dst_overlap=both",
    "start_at",
    "end_at",
    "exclude",
    "jitter",
    "enabled=false",
    "concurrency_policy=allow",
    "concurrency_policy=forbid",
    "concurrency_policy=replace",
    "missed_run_policy=skip",
    "missed_run_policy=runOnce",
    "missed_run_policy=catchUp",
    "misfire_grace",
    "catch_up_window",
    "max_catch_up",
    "run_timeout",
    "dedupe_window",
    "idempotency_key",
    "payload",
    "completed_by",
    "target=event",
    "target=queue",
    "target=command",
    "description",
    "provider_hints",
    "nominal time",
)
"""Every option of a contract, by its field, with its value where values are honoured differently."""


class CapabilityTable(Mapping[str, Capability]):
    """What a scheduler does about each of ``OPTIONS``; a missing or unknown one is a ``ValueError``."""

    def __init__(self, cells: Mapping[str, Capability]) -> None:
        missing = [option for option in OPTIONS if option not in cells]
        unknown = sorted(set(cells).difference(OPTIONS))
        if missing or unknown:
            raise ValueError(f"cells are missing: {missing}, or unknown: {unknown}")
        self._cells = MappingProxyType({option: cells[option] for option in OPTIONS})

    def __getitem__(self, option: str) -> Capability:
        return self._cells[option]

    def __iter__(self) -> Iterator[str]:
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)


def ingress_cells() -> dict[str, Capability]:
    """Return the cells of the options that the ingress alone holds, whatever sends the trigger."""
    return {
        "misfire_grace": by_ingress("lateness is judged on the nominal time", INGRESS_PAGE),
        "run_timeout": by_ingress("the ledger ends a run that takes longer", INGRESS_PAGE),
        "dedupe_window": by_ingress("the ledger remembers keys for so long", INGRESS_PAGE),
        "idempotency_key": by_ingress("the key is read from the rendered payload", INGRESS_PAGE),
        "payload": by_ingress("rendered from the template; no artifact holds it", INGRESS_PAGE),
        "completed_by": by_ingress("the ledger ends the run when the event comes", INGRESS_PAGE),
        "target=event": by_ingress("the ingress publishes the event", INGRESS_PAGE),
        "target=queue": by_ingress("the ingress enqueues the job", INGRESS_PAGE),
        "target=command": by_ingress("the ingress invokes the command", INGRESS_PAGE),
    }


INGRESS_PAGE: Final = "docs/ingress.md"
"""The source of what the ingress does by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference between a contract and what a scheduler does with it.

    ``code`` is a stable word, by which a person accepts it. ``message`` says what happens instead,
    ``example`` shows it with a date. ``leaves_out``: no artifact can say the schedule, so that
    accepting the finding leaves it out. An empty ``schedule_id`` stands for all schedules together.
    """

    code: str
    schedule_id: str
    option: str
    message: str
    example: str
    remedy: str = ""
    source: str = ""
    leaves_out: bool = False

    def __str__(self) -> str:
        whose = f"schedule '{self.schedule_id}'" if self.schedule_id else "all schedules"
        text = f"{whose}: {self.code}: {self.message}"
        text = f"{text} ({self.example})" if self.example else text
        return f"{text}; {self.remedy}" if self.remedy else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is worth knowing although the meaning holds.

    ``dropped_per_year`` counts the triggers that are sent only to be dropped, ``until`` is when an
    exact native line stops to be one.
    """

    code: str
    schedule_id: str
    message: str
    dropped_per_year: float | None = None
    until: datetime | None = None


def code_of(option: str) -> str:
    """Return the code of the finding that an option is not honoured.

    >>> code_of("missed_run_policy=catchUp"), code_of("expression=cron with #")
    ('missed-run-policy-catchup', 'expression-cron-with-nth')
    """
    words = option.replace("#", "nth").replace("=", " ").replace("_", " ").split()
    return "-".join(words).lower()


def used_options(schedule: Schedule) -> Iterator[str]:
    """Yield the options of which a schedule makes use, in the order of ``OPTIONS``."""
    yield from _expression_options(schedule.expression)
    yield "timezone"
    if isinstance(schedule.expression, Cron) and schedule.expression.is_fixed_time:
        yield f"dst_gap={schedule.dst_gap}"
        yield f"dst_overlap={schedule.dst_overlap}"
    for option in ("start_at", "end_at", "exclude", "jitter"):
        if getattr(schedule, option):
            yield option
    if not schedule.enabled:
        yield "enabled=false"
    yield f"concurrency_policy={schedule.concurrency_policy}"
    yield f"missed_run_policy={schedule.missed_run_policy}"
    yield "misfire_grace"
    if schedule.missed_run_policy == "catchUp":
        yield from ("catch_up_window", "max_catch_up")
    yield from ("run_timeout", "dedupe_window")
    for option in ("idempotency_key", "payload", "completed_by"):
        if getattr(schedule, option) is not None:
            yield option
    yield f"target={schedule.target_kind}"
    for option in ("description", "provider_hints"):
        if getattr(schedule, option):
            yield option
    yield "nominal time"


def _expression_options(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Every):
        yield "expression=every"
    elif isinstance(expression, Cron):
        yield "expression=cron"
        days, weekdays = expression.day_of_month, expression.day_of_week
        for word, is_used in (
            ("with L", days.from_end),
            ("with W", days.near_weekday or days.last_weekday),
            ("with #", weekdays.nth),
            ("with seconds", expression.second.values != (0,)),
        ):
            if is_used:
                yield f"expression=cron {word}"
        if expression.restricts_both_days:
            yield f"expression=day rule {expression.day_rule}"
    else:
        yield "expression=once"


def missed_finding(schedule: Schedule, since: datetime, message: str, source: str) -> Finding:
    """Return the finding that a scheduler does not bring back what was missed, as the policy wants it."""
    option = f"missed_run_policy={schedule.missed_run_policy}"
    return Finding(
        code=code_of(option),
        schedule_id=schedule.id,
        option=option,
        message=message,
        example=example_of(option, schedule, since),
        remedy="run the ingress with recovery = 'ingress', and say so in purista.toml",
        source=source,
    )


def outage_text(down: datetime, up: datetime) -> str:
    """Return from when to when something is down, for a dated example."""
    return f"down from {utc_text(down)} to {utc_text(up)}"


def utc_text(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC."""
    return instant.isoformat().replace("+00:00", "Z")


def example_of(option: str, schedule: Schedule, since: datetime) -> str:
    """Return a dated example of an option at work: what the contract does from ``since`` on."""
    at = schedule.next_after(since)
    if at is None:
        return f"nothing is due after {utc_text(since)}"
    if option.startswith("missed_run_policy") or option in {"catch_up_window", "max_catch_up"}:
        return _outage_example(schedule, at)
    if option.startswith("concurrency_policy"):
        after = schedule.next_after(at)
        later = f" when {utc_text(after)} is due" if after else ""
        does = {"allow": "both run", "forbid": "that one is skipped", "replace": "it is cancelled"}
        return f"the run of {utc_text(at)} is active{later}: {does[schedule.concurrency_policy]}"
    if option == "jitter":
        return (
            f"{utc_text(at)}: by the contract fired at any time of the {schedule.jitter} after it"
        )
    return f"{utc_text(at)} is due"


def _outage_example(schedule: Schedule, at: datetime) -> str:
    """Return what the contract does about nominal times from ``at`` on that nobody triggered."""
    late = schedule.misfire_grace + schedule.jitter
    up = at + late + timedelta(hours=1)
    outage = outage_text(at - timedelta(minutes=1), up)
    latest = schedule.previous_before(up - late) or at
    runs = {"skip": "does not run", "runOnce": "runs then, once", "catchUp": "runs then"}
    does, one = runs[schedule.missed_run_policy], latest
    if schedule.missed_run_policy == "skip":
        one = at
    elif schedule.missed_run_policy == "catchUp" and up - latest > schedule.catch_up_window:
        does = "does not run, for it is longer ago than the catch-up window"
    return f"{outage}: by the contract the run of {utc_text(one)} {does}"

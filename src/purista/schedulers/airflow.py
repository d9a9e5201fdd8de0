"""Airflow 3.3: a DAG file for each schedule. Its runs send the trigger and end; no run lives in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from purista.compiling import (
    Artifact,
    Placed,
    Request,
    accepted_text,
    marker_text,
    timing_of,
)
from purista.contract import Schedule
from purista.cover import Cover, Fit, Line, Uncovered
from purista.expression import Cron, Once
from purista.naming import NameRule, names_of
from purista.native.airflowcron import DIALECT, READING, airflow_cover, shortest_gap_of_lines
from purista.native.airflowsettings import AirflowSettings
from purista.native.dagfile import DagFile, retries_within
from purista.portability import (
    CapabilityTable,
    Finding,
    by_ingress,
    ingress_cells,
    native,
)
from purista.spacing import shortest_gap

TIMETABLES: Final = (
    "https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/timetable.html"
)
RUNS: Final = "https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/dag-run.html"
ENGINE: Final = "experiment: Airflow 3.3.2, tests/test_schedulers_airflow.py"

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("CronTriggerTimetable", TIMETABLES),
        "expression=cron with L": native("L; days before the last are covered", ENGINE),
        "expression=cron with W": native("nW up to the 28th; LW and others are covered", ENGINE),
        "expression=cron with #": native("n#m, and Ln for the last", ENGINE),
        "expression=cron with seconds": native("a sixth field", ENGINE),
        "expression=day rule or": native("both day fields in one line mean either", ENGINE),
        "expression=day rule and": by_ingress("one day field; the others are dropped", ENGINE),
        "expression=every": by_ingress(
            "lines in UTC that fire at all of its times; DeltaTriggerTimetable would count from the "
            "last run, even from one before a change of the interval",
            TIMETABLES,
        ),
        "expression=once": native("a line between equal start_date and end_date", ENGINE),
        "timezone": native("the timetable's zone, or lines in UTC", TIMETABLES),
        "dst_gap=skip": by_ingress("it fires at the shifted time; that is dropped", ENGINE),
        "dst_gap=next": by_ingress("lines in UTC; it would fire at the shifted time", ENGINE),
        "dst_gap=shift": native("one time in the gap; several are lines in UTC", ENGINE),
        "dst_overlap=first": by_ingress("lines in UTC; it would fire the second time", ENGINE),
        "dst_overlap=last": native("it fires the second time", ENGINE),
        "dst_overlap=both": by_ingress("lines in UTC; it would fire the second time", ENGINE),
        "start_at": native("start_date", ENGINE),
        "end_at": native("end_date", ENGINE),
        "exclude": by_ingress("triggers of excluded days are dropped", RUNS),
        "jitter": native("a task that is rescheduled, to the same moment for a slot", ENGINE),
        "enabled=false": native("schedule=None; is_paused_upon_creation holds only once", RUNS),
        "concurrency_policy=allow": native("runs of the DAG end when the trigger is sent", RUNS),
        "concurrency_policy=forbid": by_ingress(
            "the ingress knows the run; max_active_runs would start the slot late", RUNS
        ),
        "concurrency_policy=replace": by_ingress("the ingress cancels the run", RUNS),
        "missed_run_policy=skip": by_ingress(
            "of missed slots the latest is sent, and dropped where it is late", RUNS
        ),
        "missed_run_policy=runOnce": by_ingress(
            "every missed slot is sent (catchup=True), and all but the latest coalesce; with "
            "recovery = 'ingress' the latest is sent, and the ingress recovers",
            RUNS,
        ),
        "missed_run_policy=catchUp": native(
            "catchup=True, max_active_runs=1: every missed slot is sent, oldest first", RUNS
        ),
        "catch_up_window": by_ingress("what is older is dropped as late", RUNS),
        "max_catch_up": by_ingress("what is more is dropped as late", RUNS),
        "description": native("the DAG's description", RUNS),
        "provider_hints": native("settings of this schedule", "docs/settings.md"),
        "nominal time": native("run_after of the DAG's run, the same at every try", ENGINE),
    }
)

LONGEST_DAG_ID: Final = 250
"""``DagModel.dag_id``; https://github.com/apache/airflow/blob/3.3.2/airflow-core/src/airflow/models/dag.py"""

MOST_RUNS: Final = 16
"""So many triggers are on their way at once where their order does not matter."""

MOST_SLOTS: Final = 48
"""On a day: with more, a DAG that sends every slot has to say from when on."""

LONGEST_TRY: Final = timedelta(days=1)

FILE_NAMES: Final = NameRule(longest=200, others=re.compile(r"[^a-z0-9_.-]"), lower=True)
"""Names of files that differ in more than case."""


class Airflow:
    """The scheduler ``airflow``."""

    name = "airflow"
    title = "Airflow"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = AirflowSettings
    sample: Mapping[str, Any] = {"start_date": "2027-01-01", "connection": "purista_ingress"}
    most = None
    names = NameRule(longest=LONGEST_DAG_ID, others=re.compile(r"[^A-Za-z0-9_.-]"))

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, or why there are none."""
        if isinstance(schedule.expression, Once):
            return _once_cover(schedule.expression.at)
        return airflow_cover(
            timing_of(schedule), request.horizon, exact_native=request.exact_native
        )

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield a finding where Airflow would make very many runs when it first sees the DAG."""
        schedule = placed.schedule
        hints = schedule.provider_hints.get(self.name)
        has_start = schedule.start_at or (isinstance(hints, Mapping) and "start_date" in hints)
        if has_start or not _sends_every_slot(placed, request):
            return
        slots = sum(_slots_of_a_day(line.cron) for line in placed.cover.lines)
        if slots > MOST_SLOTS:
            yield _flood(placed, slots)

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield a Python file for each schedule; names of files differ in more than case."""
        paths = names_of((each.schedule.id for each in placed), FILE_NAMES)
        for each in placed:
            yield Artifact(f"{paths[each.schedule.id]}.py", dag_file(each, request).text)


SCHEDULER: Final = Airflow()


def _flood(placed: Placed, slots: int) -> Finding:
    schedule, settings = placed.schedule, placed.settings
    assert isinstance(settings, AirflowSettings)
    since, month = settings.start_date, timedelta(days=30)
    return Finding(
        code="slots-before-the-deployment",
        schedule_id=schedule.id,
        option=f"missed_run_policy={schedule.missed_run_policy}",
        message=f"every slot is sent, {slots} on a day, and Airflow begins with those since "
        f"{since}, whenever it first sees the DAG",
        example=f"deployed on {since + month}, it begins with {slots * month.days} late triggers",
        remedy="give it a start_at or a start_date in provider_hints, or run the ingress with "
        "recovery = 'ingress' where the policy is not catchUp",
        source=RUNS,
    )


def _slots_of_a_day(cron: Cron) -> int:
    return len(cron.hour.values) * len(cron.minute.values) * len(cron.second.values)


def _once_cover(at: datetime) -> Cover | Uncovered:
    if at.microsecond:
        return Uncovered("one-shot", "its lines fire on whole seconds, the one-shot does not")
    text = f"{at.second} {at.minute} {at.hour} {at.day} {at.month} *"
    return Cover((Line(Cron(text, seconds=True), "UTC"),), Fit.EXACT)


def dag_file(placed: Placed, request: Request) -> DagFile:
    """Return the file of a schedule."""
    schedule, settings = placed.schedule, placed.settings
    assert isinstance(settings, AirflowSettings)
    catchup = _sends_every_slot(placed, request)
    start, end = _bounds(schedule, settings, catchup=catchup)
    return DagFile(
        dag_id=placed.name,
        schedule_id=schedule.id,
        fingerprint=placed.fingerprint,
        url=request.ingress.triggers_url,
        lines=placed.cover.lines if schedule.enabled else (),
        start=start,
        end=end,
        catchup=catchup,
        max_active_runs=1 if schedule.missed_run_policy == "catchUp" else MOST_RUNS,
        retries=_retries(schedule),
        jitter=_jitter(schedule, request),
        description=schedule.description,
        doc=_doc(placed),
        connection=settings.connection,
        pool=settings.pool,
        message=settings.message,
    )


def _sends_every_slot(placed: Placed, request: Request) -> bool:
    """Whether missed slots are all sent; otherwise the latest of them is.

    They are where the ingress needs more than the latest and does not recover it by itself: for a
    policy that says so, and where the latest may be an extra one right behind one of the contract's.
    """
    schedule = placed.schedule
    if isinstance(schedule.expression, Once) or not schedule.enabled:
        return False
    if schedule.missed_run_policy == "catchUp":
        return True
    if request.ingress.recovery == "ingress":
        return False
    if schedule.missed_run_policy == "runOnce":
        return True
    if not placed.sends_extra:
        return False
    return shortest_gap_of_lines(placed.cover.lines) < schedule.misfire_grace


def _bounds(
    schedule: Schedule, settings: AirflowSettings, *, catchup: bool
) -> tuple[datetime | None, datetime | None]:
    """Return the first and the last slot that there may be, on whole seconds."""
    if isinstance(schedule.expression, Once):
        at = schedule.expression.at
        return at, at
    start, end = schedule.start_at, schedule.end_at
    if start is not None:
        start = -(-(start - _EPOCH) // _SECOND) * _SECOND + _EPOCH
    if catchup:
        first = datetime.combine(settings.start_date, time(), UTC)
        start = max(start, first) if start else first
    return start, end.replace(microsecond=0) if end else None


def _retries(schedule: Schedule) -> int:
    useful = schedule.misfire_grace
    if schedule.missed_run_policy != "skip":
        useful = max(useful, schedule.catch_up_window)
    return retries_within(min(useful, LONGEST_TRY))


def _jitter(schedule: Schedule, request: Request) -> timedelta:
    """Return how long a trigger may wait, in whole seconds; never past the next one (rule R6)."""
    jitter = schedule.jitter
    if jitter:
        gap = shortest_gap(schedule, request.horizon)
        jitter = jitter if gap is None else min(jitter, gap - _SECOND)
    return jitter // _SECOND * _SECOND


def _doc(placed: Placed) -> str:
    accepted = accepted_text(placed)
    return f"{marker_text(placed)}\n\naccepted: {accepted}" if accepted else marker_text(placed)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)

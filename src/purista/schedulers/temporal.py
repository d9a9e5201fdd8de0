"""Temporal: a Schedule for each schedule, and the workflow that carries its trigger to the ingress.

A schedule of seconds, intervals and dated calendars, so that most contracts are said exactly. The workflow
ends when the ingress has answered, or with ``wait`` when the run is over; Temporal's overlap policy says
nothing about a run either way.

A manual run ("trigger now") has no slot: Temporal hands it the time of the click as its scheduled time.
A time that is off the grid of the slots is taken for one unless the schedule fires then by itself, and so is
a workflow that no schedule started.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import ceil, gcd
from typing import Any, Final

from pydantic import Field

from purista import firetimes
from purista.clockchange import Timing
from purista.compiling import (
    MARKER,
    Artifact,
    Placed,
    Request,
    accepted_text,
    marker_text,
    timing_of,
)
from purista.contract import Schedule
from purista.cover import Cover, Fit, Line, Uncovered, cover
from purista.dialect import Dialect, Reading, clock_windows, touches_midnight
from purista.exclusion import excluded_rows
from purista.expression import EPOCH, Cron, Every, Once
from purista.naming import NameRule, names_of
from purista.native.temporalcalendar import (
    FIRST_YEAR,
    LAST_YEAR,
    excluded_calendars,
    line_calendars,
    once_calendar,
)
from purista.native.temporalwindow import catchup_window, most_slots
from purista.native.temporalworker import WORKFLOW, worker_text
from purista.portability import (
    CapabilityTable,
    Finding,
    by_ingress,
    ingress_cells,
    missed_finding,
    native,
    utc_text,
)
from purista.settings import Settings
from purista.slot import SlotGrid
from purista.slotgrid import grid_of
from purista.turnover import Horizon

DIALECT: Final = Dialect(
    day_rule="and",
    specials=frozenset({"L", "L-n", "W", "LW", "#", "#L"}),
    seconds=True,
    dst_gap="skip",
    odd_changes=False,
    many_lines=True,
)
"""Structured calendars. What they do where an hour comes twice depends on the zone, so nothing relies on it.

A line's special days are said by several calendars: by the lengths of the months, and by leap years.
"""

READING: Final = Reading(
    day_rule="and",
    refused=frozenset({"L", "L-n", "W", "LW"}),
    misread=frozenset({"#", "#L"}),
    dst_gap="skip",
    dst_overlap="last",
    dst_overlap_west="both",
)
"""What ``cron_string`` makes of a text as it stands: ``#`` begins a comment."""

SCHEDULE: Final = "https://docs.temporal.io/schedule"
ENGINE: Final = "experiment: Temporal server 1.32, tests/test_schedulers_temporal.py"
FACTS: Final = "experiment: Temporal server 1.32, tests/test_engines_temporal.py"

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("structured calendars", FACTS),
        "expression=cron with L": native("calendars by the lengths of the months", ENGINE),
        "expression=cron with W": native("calendars of dates and weekdays", ENGINE),
        "expression=cron with #": native("calendars of a weekday within seven dates", ENGINE),
        "expression=cron with seconds": native("the calendars' seconds", ENGINE),
        "expression=day rule or": native("a calendar for either; both at once fire once", FACTS),
        "expression=day rule and": native("both day fields of a calendar must match", FACTS),
        "expression=every": native("an interval with its phase since the Unix epoch", FACTS),
        "expression=once": native("a calendar with a year, 2000 to 2100", ENGINE),
        "timezone": native("timezoneName, or calendars in UTC that cover its offsets", FACTS),
        "dst_gap=skip": native("a time that does not exist is skipped", ENGINE),
        "dst_gap=next": by_ingress("a further calendar at the end of the gap", ENGINE),
        "dst_gap=shift": by_ingress("a further calendar at the shifted time", ENGINE),
        "dst_overlap=first": by_ingress("calendars in UTC for both; the second is dropped", ENGINE),
        "dst_overlap=last": by_ingress("calendars in UTC for both; the first is dropped", ENGINE),
        "dst_overlap=both": native("calendars in UTC for both", ENGINE),
        "start_at": native("startTime, inclusive", FACTS),
        "end_at": native("endTime, inclusive", FACTS),
        "exclude": native(
            "excludeStructuredCalendar, where the calendars are in the schedule's zone; for others "
            "triggers of excluded days are dropped",
            FACTS,
        ),
        "jitter": native(
            "jitter, the same for a slot each time, never past the next slot", SCHEDULE
        ),
        "enabled=false": native("state.paused", SCHEDULE),
        "concurrency_policy=allow": native("no run keeps a trigger from being sent", SCHEDULE),
        "concurrency_policy=forbid": by_ingress(
            "no workflow keeps a slot waiting; the ingress knows the run", SCHEDULE
        ),
        "concurrency_policy=replace": by_ingress(
            "no workflow keeps a slot waiting; the ingress cancels the run", SCHEDULE
        ),
        "missed_run_policy=skip": native("catchupWindow is the grace, 10 s at least", ENGINE),
        "missed_run_policy=runOnce": by_ingress(
            "catchupWindow spans the longest time between two slots; of what it sends, the ingress "
            "runs the latest",
            ENGINE,
        ),
        "missed_run_policy=catchUp": native(
            "catchupWindow, and BUFFER_ALL so that the oldest is sent first; not with `wait`",
            ENGINE,
        ),
        "catch_up_window": native("catchupWindow, 10 s at least", ENGINE),
        "max_catch_up": by_ingress("more are sent, and dropped", SCHEDULE),
        "description": native("state.notes", SCHEDULE),
        "provider_hints": native("settings of this schedule", "docs/settings.md"),
        "nominal time": native("search attribute TemporalScheduledStartTime", SCHEDULE),
    }
)

BUFFER: Final = 1000
"""So many missed slots wait at most; what is missed after them is dropped, the latest first of all.

``MaxBufferSize`` and ``addStart``,
https://github.com/temporalio/temporal/blob/main/service/worker/scheduler/workflow.go
"""

MOST_PASSED_OVER: Final = 100_000
"""Slots in a row that exclusions may take away: past about a million a search for the next one ends, and
with it the schedule ("too many exclusions"; the tests ask)."""

LONGEST_NOTES: Final = 1_000_000
"""Bytes; a request of more than 4 MiB is refused, and the notes are kept twice."""


class TemporalSettings(Settings):
    """The table ``[temporal]``.

    ``bearer`` is the environment variable of the worker whose value the ingress takes as a bearer
    token. The address of the service is the worker's own (``TEMPORAL_ADDRESS`` and the like). With
    ``wait`` the workflow ends with the run, tells its outcome, and cancels it when it is cancelled.
    """

    namespace: str = Field("default", min_length=1, max_length=255, pattern=r"^\S+$")
    task_queue: str = Field(
        "purista", min_length=1, max_length=200, pattern=r"^\S+$", examples=["purista"]
    )
    bearer: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", examples=["PURISTA_BEARER"]
    )
    wait: bool = False


class Temporal:
    """The scheduler ``temporal``."""

    name = "temporal"
    title = "Temporal"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = TemporalSettings
    sample: Mapping[str, Any] = {"task_queue": "purista"}
    most = None
    names = NameRule(longest=900, others=re.compile(r"[^A-Za-z0-9._-]"))

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, none where an interval or a date says it."""
        expression, horizon = schedule.expression, request.horizon
        if isinstance(expression, Every):
            return _every_cover(expression)
        if isinstance(expression, Once):
            return _once_cover(expression.at)
        found = _cron_cover(expression, schedule, request)
        if isinstance(found, Cover) and _fires_early(expression, found, horizon):
            if request.exact_native:
                return Uncovered("exact-native", f"no native lines are exact: {_EARLY}")
            return Cover(found.lines, Fit.SUPERSET, found.reason or _EARLY)
        return found

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield what else differs for a schedule."""
        schedule = placed.schedule
        if request.ingress.recovery != "ingress" and schedule.missed_run_policy != "skip":
            yield from _buffer_findings(placed, request)
            yield from _order_findings(placed, request)
        size = len(schedule.description.encode())
        if size > LONGEST_NOTES:
            at = schedule.next_after(request.horizon.start)
            yield Finding(
                code="limit-notes",
                schedule_id=schedule.id,
                option="description",
                message=f"its description has {size} bytes; {LONGEST_NOTES} are safe as notes",
                example=f"{utc_text(at)} is due, and nothing fires then" if at else "",
                remedy="shorten it",
                source=ENGINE,
                leaves_out=True,
            )

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield a request for each schedule, and one module with the workflow and the worker."""
        files = names_of((each.name for each in placed), _FILES)
        for each in placed:
            text = json.dumps(create_request(each, request), indent=2) + "\n"
            yield Artifact(f"schedules/{files[each.name]}.json", text)
        yield Artifact(MODULE, _module(placed, request))


SCHEDULER: Final = Temporal()

MODULE: Final = "purista_schedules.py"
"""The file that workers run; it imports temporalio and the standard library only."""

_FILES: Final = NameRule(longest=200, others=re.compile(r"[^a-z0-9._-]"), lower=True)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)


def _dialect(timezone: str, horizon: Horizon) -> Dialect:
    """Return the dialect in a zone: UTC alone where the clock changes over midnight.

    There the engine takes one day for the other (``time.Date(...).Weekday()`` in ``calendar.go``).
    """
    if touches_midnight(clock_windows(timezone, horizon.start, horizon.end)):
        return replace(DIALECT, zones=frozenset({"UTC"}))
    return DIALECT


def _cron_cover(cron: Cron, schedule: Schedule, request: Request) -> Cover | Uncovered:
    horizon, timing = request.horizon, timing_of(schedule)
    dialect = _dialect(schedule.timezone, horizon)
    if _is_said(cron, timing, dialect, horizon):
        return Cover((Line(cron, timing.timezone),), Fit.EXACT)
    return cover(timing, dialect, horizon, exact_native=request.exact_native)


def _fires_early(cron: Cron, found: Cover, horizon: Horizon) -> bool:
    """Whether lines are due in the hour before one that comes twice.

    East of Greenwich they fire again an hour later (``next.Sub(prev) > time.Hour``, ``calendar.go``).
    """
    zone = found.lines[0].timezone
    return zone != "UTC" and _is_due_before_overlap(cron, zone, horizon)


@lru_cache(maxsize=65536)
def _is_due_before_overlap(cron: Cron, zone: str, horizon: Horizon) -> bool:
    for window in clock_windows(zone, horizon.start, horizon.end):
        end = window.first.replace(tzinfo=UTC)
        start = end.replace(minute=0, second=0) - timedelta(hours=1)
        can_be = cron.hour.mask & (1 << start.hour | 1 << end.hour)
        if can_be and window.transition.change < timedelta(0):
            times = firetimes.between(cron, "UTC", start, end - _SECOND)
            if next(times, None) is not None:
                return True
    return False


_EARLY: Final = "it may fire once more in the hour before the clock is put back"


def _is_said(cron: Cron, timing: Timing, dialect: Dialect, horizon: Horizon) -> bool:
    """Whether calendars say an expression of both day fields, whose time no clock change touches."""
    if not cron.restricts_both_days or cron.day_rule == "or":
        return False
    *times, _, _, _ = cron.canonical.split()
    daily = Cron(f"{' '.join(times)} * * *", seconds=cron.seconds)
    found = cover(replace(timing, expression=daily), dialect, horizon)
    if not isinstance(found, Cover) or found.fit is not Fit.EXACT:
        return False
    return {line.timezone for line in found.lines} == {timing.timezone}


def _every_cover(every: Every) -> Cover | Uncovered:
    if every.interval % _SECOND or every.phase % _SECOND:
        return Uncovered("interval", "its intervals are whole seconds, this one is not")
    return Cover((), Fit.EXACT)


def _once_cover(at: datetime) -> Cover | Uncovered:
    if at.microsecond:
        return Uncovered("one-shot", "its calendars name seconds, the one-shot a part of one")
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        return Uncovered("limit-years", f"its calendars know the years {FIRST_YEAR} to {LAST_YEAR}")
    return Cover((), Fit.EXACT)


def _buffer_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where more slots can be missed within the window than Temporal remembers."""
    schedule = placed.schedule
    window = catchup_window(schedule, request.horizon)
    slots = most_slots(placed, window, request.horizon)
    if slots <= BUFFER:
        return
    yield missed_finding(
        schedule,
        request.horizon.start,
        f"of up to {slots} slots missed in {window} it keeps the oldest {BUFFER} only",
        "https://github.com/temporalio/temporal/blob/main/service/worker/scheduler/workflow.go",
    )


def _order_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where what was missed is not sent one after the other."""
    schedule = placed.schedule
    if schedule.missed_run_policy == "catchUp" and _waits(placed):
        message = "with wait = true what was missed is sent at once, and not the oldest first"
        yield missed_finding(schedule, request.horizon.start, message, SCHEDULE)


def _waits(placed: Placed) -> bool:
    assert isinstance(placed.settings, TemporalSettings)
    return placed.settings.wait


def create_request(placed: Placed, request: Request) -> dict[str, Any]:
    """Return a ``CreateScheduleRequest`` in the JSON form of protocol buffers."""
    schedule, settings = placed.schedule, placed.settings
    assert isinstance(settings, TemporalSettings)
    window = catchup_window(schedule, request.horizon)
    # A workflow that waits for its run must not keep the next slot waiting: the ingress decides.
    in_order = schedule.missed_run_policy == "catchUp" and not settings.wait
    waits = _run_lasts(schedule) + _MARGIN if settings.wait else timedelta(0)
    state: dict[str, Any] = {"notes": _notes(placed)}
    return {
        "namespace": settings.namespace,
        "scheduleId": placed.name,
        "memo": {"fields": {MARKER: _payload(schedule.id)}},
        "schedule": {
            "spec": _spec(placed, request.horizon),
            "action": {
                "startWorkflow": {
                    "workflowId": placed.name,
                    "workflowType": {"name": WORKFLOW},
                    "taskQueue": {"name": settings.task_queue},
                    "input": {"payloads": [_payload(_slots(placed, window, request.horizon))]},
                    "workflowExecutionTimeout": _duration(_try_for(window) + _MINUTE + waits),
                }
            },
            "policies": {
                # The oldest first is what BUFFER_ALL adds; ALLOW_ALL sends what was missed at once.
                # https://docs.temporal.io/schedule#overlap-policy
                "overlapPolicy": f"SCHEDULE_OVERLAP_POLICY_{'BUFFER' if in_order else 'ALLOW'}_ALL",
                "catchupWindow": _duration(window),
                "pauseOnFailure": False,
            },
            "state": state if schedule.enabled else state | {"paused": True},
        },
    }


_MINUTE: Final = timedelta(minutes=1)
_MARGIN: Final = timedelta(minutes=10)
"""How much longer than a run can last its workflow waits for its end."""

_LONGEST_RUN: Final = timedelta(days=3650)
"""No run is waited for longer; the messages of protocol buffers hold ten thousand years at most."""


def _try_for(window: timedelta) -> timedelta:
    """Return how long a trigger is tried: as long as it may be worth something."""
    return max(window, _MINUTE)


def _notes(placed: Placed) -> str:
    """Return what a person reads: whose it is, what was accepted, the description."""
    accepted = accepted_text(placed)
    lines = [marker_text(placed), f"accepted: {accepted}" if accepted else ""]
    return "\n".join(filter(None, [*lines, placed.schedule.description]))


def _slots(placed: Placed, window: timedelta, horizon: Horizon) -> dict[str, Any]:
    """Return what the workflow is told, besides its scheduled time."""
    period, phase = _grid(placed, horizon)
    told = {
        "schedule": placed.schedule.id,
        "fingerprint": placed.fingerprint,
        "period": period,
        "phase": phase,
        "seconds": int(_try_for(window).total_seconds()),
    }
    if not _waits(placed):
        return told
    return told | {"wait": ceil(_run_lasts(placed.schedule) / _SECOND)}


def _run_lasts(schedule: Schedule) -> timedelta:
    return min(schedule.run_timeout, _LONGEST_RUN)


def _grid(placed: Placed, horizon: Horizon) -> SlotGrid:
    """Return a grid that holds every slot.

    That of lines is no coarser than a quarter of an hour: a zone that gets a new offset keeps to it.
    """
    expression = placed.schedule.expression
    if isinstance(expression, Every):
        period = expression.interval // _SECOND
        return SlotGrid(period, expression.phase // _SECOND)
    if isinstance(expression, Once):
        return SlotGrid(86_400, (expression.at - EPOCH) // _SECOND % 86_400)
    found = grid_of(placed.cover.lines, horizon)
    period = gcd(found.period, 900)
    return SlotGrid(period, found.phase % period)


def _spec(placed: Placed, horizon: Horizon) -> dict[str, Any]:
    """Return when the schedule fires, as a ``ScheduleSpec``."""
    schedule = placed.schedule
    zone = _zone(placed)
    spec: dict[str, Any] = dict(_times(placed))
    if schedule.exclude and zone == schedule.timezone and _few_are_passed_over(placed, horizon):
        spec["excludeStructuredCalendar"] = list(excluded_calendars(schedule))
    if schedule.start_at:
        spec["startTime"] = _instant(-(-(schedule.start_at - EPOCH) // _SECOND))
    if schedule.end_at:
        spec["endTime"] = _instant((schedule.end_at - EPOCH) // _SECOND)
    if schedule.jitter:
        spec["jitter"] = _duration(schedule.jitter)
    return {**spec, "timezoneName": zone}


def _zone(placed: Placed) -> str:
    """Return the zone of the spec: that of its lines; for an interval, of the excluded dates."""
    if placed.cover.lines:
        return placed.cover.lines[0].timezone
    return "UTC" if isinstance(placed.schedule.expression, Once) else placed.schedule.timezone


def _times(placed: Placed) -> Iterator[tuple[str, Any]]:
    expression = placed.schedule.expression
    if isinstance(expression, Every):
        interval = {"interval": _duration(expression.interval)}
        yield "interval", [interval | {"phase": _duration(expression.phase)}]
    elif isinstance(expression, Once):
        yield "structuredCalendar", [once_calendar(expression.at)]
    else:
        calendars = (one for line in placed.cover.lines for one in line_calendars(line))
        yield "structuredCalendar", list(calendars)


def _few_are_passed_over(placed: Placed, horizon: Horizon) -> bool:
    rows = excluded_rows(placed.schedule.exclude)
    longest = max(last - first + _DAY for first, last in rows)
    return most_slots(placed, longest, horizon) <= MOST_PASSED_OVER


def _instant(seconds: int) -> str:
    return utc_text(EPOCH + seconds * _SECOND)


def _duration(length: timedelta) -> str:
    """Return a duration in the JSON form of protocol buffers: seconds, with a fraction if need be."""
    seconds, rest = divmod(length // timedelta(microseconds=1), 1_000_000)
    return f"{seconds}.{rest:06}s" if rest else f"{seconds}s"


def _payload(value: Any) -> dict[str, Any]:
    """Return a value as Temporal's JSON payload; bytes are base64 in the JSON form."""
    text = json.dumps(value, separators=(",", ":"))
    return {
        "metadata": {"encoding": b64encode(b"json/plain").decode()},
        "data": b64encode(text.encode()).decode(),
    }


def _module(placed: Sequence[Placed], request: Request) -> str:
    """Return the source of the module that workers run."""
    default = request.settings
    assert isinstance(default, TemporalSettings)
    polled = {(default.namespace, default.task_queue)}
    bearers: dict[str, str | None] = {}
    for each in placed:
        settings = each.settings
        assert isinstance(settings, TemporalSettings)
        polled.add((settings.namespace, settings.task_queue))
        if settings.bearer != default.bearer:
            bearers[each.schedule.id] = settings.bearer
    return worker_text(request.ingress.url, polled=polled, bearer=default.bearer, bearers=bearers)

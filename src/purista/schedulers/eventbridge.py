"""EventBridge Scheduler: a schedule for each line, which sends the trigger to Lambda, SQS or by HTTP.

Written as a CloudFormation template, as Terraform and as API requests. AWS's pages leave open which
pass of a repeated hour runs, and whether wildcards follow the clock; no line depends on either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import ceil
from typing import Any, Final

from purista.cloudevent import SPECVERSION, TYPE
from purista.compiling import (
    MARKER,
    Artifact,
    Placed,
    Request,
    accepted_text,
    timing_of,
)
from purista.contract import Schedule
from purista.cover import Cover, Fit, Uncovered, cover
from purista.dialect import Dialect, Reading
from purista.expression import Cron, Once
from purista.naming import NameRule
from purista.native.awscron import SPECIALS, at_text, cron_text, is_near_an_edge
from purista.native.awsfiles import AwsObject, Link, files
from purista.native.awsroute import LONGEST_ENDPOINT, bus_parameters, route_name
from purista.native.awssettings import (
    ApiDestinationTarget,
    EventBridgeSettings,
    LambdaTarget,
    SqsTarget,
)
from purista.native.awsshared import shared_objects
from purista.native.describing import described, description_findings
from purista.native.objectnames import ROOM, key_of, line_key, line_names
from purista.portability import (
    CapabilityTable,
    Finding,
    Most,
    by_ingress,
    by_none,
    code_of,
    example_of,
    ingress_cells,
    native,
)
from purista.spacing import shortest_gap

DIALECT: Final = Dialect(day_rule=None, specials=SPECIALS, dst_gap="skip")
"""What the page says: a time in a gap is skipped. That a repeated one runs once is no use: which?"""

READING: Final = Reading(
    day_rule=None,
    refused=frozenset({"L-n", "LW", "#L"}),
    dst_gap="skip",
    sunday=1,
    put_in="a ? and a year",
)
"""What its fields make of a text; five fields it refuses."""

TYPES: Final = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html"
API: Final = "https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html"
RETRY: Final = "https://docs.aws.amazon.com/scheduler/latest/APIReference/API_RetryPolicy.html"
WINDOW: Final = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-flexible-time-windows.html"
CONTEXT: Final = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html"

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("cron(...), in numbers and ranges", TYPES),
        "expression=cron with L": native("L; days before the last are covered", TYPES),
        "expression=cron with W": native("nW; LW, and days at a month's edge, are covered", TYPES),
        "expression=cron with #": native("n#m, and nL for the last", TYPES),
        "expression=cron with seconds": by_none("its lines name minutes", TYPES),
        "expression=day rule or": by_ingress("a schedule for each day field", TYPES),
        "expression=day rule and": by_ingress("one day field; the others are dropped", TYPES),
        "expression=every": by_ingress(
            "cron(...) in UTC that fires at all of its times; rate() would begin at the creation",
            TYPES,
        ),
        "expression=once": native("at(...) in UTC; it stays there afterwards", TYPES),
        "timezone": native("ScheduleExpressionTimezone, or lines in UTC", TYPES),
        "dst_gap=skip": native("a time that does not exist is skipped", TYPES),
        "dst_gap=next": by_ingress("a further line at the end of the gap", TYPES),
        "dst_gap=shift": by_ingress("a further line at the shifted time", TYPES),
        "dst_overlap=first": by_ingress("lines in UTC; the page does not say which runs", TYPES),
        "dst_overlap=last": by_ingress("lines in UTC; the page does not say which runs", TYPES),
        "dst_overlap=both": by_ingress("lines in UTC; it would run once", TYPES),
        "start_at": by_ingress(
            "triggers before it are dropped; a StartDate in the past is refused", API
        ),
        "end_at": by_ingress("triggers after it are dropped", API),
        "exclude": by_ingress("triggers of excluded days are dropped", TYPES),
        "jitter": native("FlexibleTimeWindow, in whole minutes up to a day", WINDOW),
        "enabled=false": native("State: DISABLED", API),
        "concurrency_policy=allow": native("nothing waits for a run", API),
        "concurrency_policy=forbid": by_ingress("the ingress knows the run", API),
        "concurrency_policy=replace": by_ingress("the ingress cancels the run", API),
        "missed_run_policy=skip": native("MaximumEventAgeInSeconds is the grace", RETRY),
        "missed_run_policy=runOnce": by_ingress(
            "it tries for a day; beyond that the ingress recovers (recovery = 'ingress')", RETRY
        ),
        "missed_run_policy=catchUp": by_ingress(
            "it tries for a day; beyond that the ingress recovers (recovery = 'ingress')", RETRY
        ),
        "catch_up_window": by_ingress("the ingress recovers within it", RETRY),
        "max_catch_up": by_ingress("the ingress recovers no more", RETRY),
        "description": native("behind the marker in Description", API),
        "provider_hints": native("settings of this schedule", "docs/settings.md"),
        "nominal time": native("<aws.scheduler.scheduled-time>", CONTEXT),
    }
)

LONGEST_DESCRIPTION: Final = 512
EVENT_AGE: Final = (60, 86_400)
"""Seconds for which a trigger is tried, at least and at most (RETRY)."""

MOST_ATTEMPTS: Final = 185
LONGEST_WINDOW: Final = timedelta(minutes=1440)
SLOT: Final = "<aws.scheduler.scheduled-time>"
"""AWS puts the time in its place for which a schedule fires, such as 2022-03-22T18:59:43Z."""


class EventBridge:
    """The scheduler ``eventbridge``."""

    name = "eventbridge"
    title = "EventBridge Scheduler"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = EventBridgeSettings
    sample: Mapping[str, Any] = {
        "role_arn": "arn:aws:iam::123456789012:role/purista-scheduler",
        "group": "billing",
        "target": {
            "kind": "sqs",
            "queue_arn": "arn:aws:sqs:eu-central-1:123456789012:purista-triggers",
        },
    }
    most = Most(
        10_000_000,
        "schedules of an account in a region",
        "https://docs.aws.amazon.com/scheduler/latest/UserGuide/scheduler-quotas.html",
    )
    names = NameRule(longest=64, others=re.compile(r"[^0-9a-zA-Z_.-]"), room=ROOM)

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, or why there are none."""
        expression = schedule.expression
        if isinstance(expression, Once):
            if expression.at.microsecond:
                return Uncovered("one-shot", "it fires on whole seconds, the one-shot does not")
            return Cover((), Fit.EXACT)
        dialect = DIALECT
        if isinstance(expression, Cron) and is_near_an_edge(expression):
            dialect = replace(DIALECT, specials=SPECIALS - {"W"})
        return cover(
            timing_of(schedule), dialect, request.horizon, exact_native=request.exact_native
        )

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield what else differs for a schedule."""
        found = [
            *_recovery_findings(placed, request),
            *_jitter_findings(placed, request),
            *_endpoint_findings(placed, request),
        ]
        yield from found
        yield from description_findings(
            placed,
            words_of(placed),
            LONGEST_DESCRIPTION,
            codes=[each.code for each in found],
            source=API,
            since=request.horizon.start,
        )

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield the files for all schedules: CloudFormation, Terraform, API requests."""
        objects = [
            *shared_objects(map(settings_of, placed), request.ingress.triggers_url),
            *(made for _, made in _schedule_objects(placed, request)),
        ]
        yield from files(objects, f"{MARKER}: triggers of schedules")


SCHEDULER: Final = EventBridge()


def schedule_requests(
    placed: Sequence[Placed], request: Request
) -> Iterator[tuple[Placed, dict[str, Any]]]:
    """Yield the CreateSchedule request of each line of what is placed, as data."""
    for each, made in _schedule_objects(placed, request):
        yield each, {**made.request, "GroupName": settings_of(each).group}


def settings_of(placed: Placed) -> EventBridgeSettings:
    """Return the settings of a placed schedule."""
    assert isinstance(placed.settings, EventBridgeSettings)
    return placed.settings


def words_of(placed: Placed) -> str:
    """Return the description, such that CloudFormation finds no dynamic reference in it."""
    return placed.schedule.description.replace("{{", "{ {")


def _recovery_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where a trigger is still worth something after the last try."""
    schedule = placed.schedule
    policy, longest = schedule.missed_run_policy, timedelta(seconds=EVENT_AGE[1])
    if request.ingress.recovery == "ingress":
        return
    if policy != "skip":
        yield _finding(
            f"missed_run_policy={policy}",
            placed,
            request,
            f"a trigger is tried for {EVENT_AGE[1]} seconds; what is missed longer than that, or "
            "while the schedule cannot fire, does not come back",
            remedy="run the ingress with recovery = 'ingress', and say so in purista.toml",
        )
    elif schedule.misfire_grace > longest:
        yield _finding(
            "misfire_grace",
            placed,
            request,
            f"a trigger is tried for {EVENT_AGE[1]} seconds, its grace is {schedule.misfire_grace}",
            remedy="run the ingress with recovery = 'ingress', or give it a shorter grace",
            source=RETRY,
        )


def _jitter_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    wanted, window = _jitter(placed.schedule, request), _window(placed.schedule, request)
    if wanted != window:
        yield _finding(
            "jitter",
            placed,
            request,
            f"its window has whole minutes, 1 to 1440: it is {window} instead of {wanted}",
            remedy="give it a jitter of whole minutes",
        )


def _endpoint_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where an API destination cannot have the ingress's address."""
    url = request.ingress.triggers_url
    if not isinstance(settings_of(placed).target, ApiDestinationTarget):
        return
    wrong = ""
    if not url.startswith("https://"):
        wrong = f"an API destination has an https address, the ingress has {url}"
    elif len(url) > LONGEST_ENDPOINT:
        wrong = f"the ingress's address has {len(url)} characters, the limit is {LONGEST_ENDPOINT}"
    if wrong:
        yield _finding(
            "provider_hints",
            placed,
            request,
            wrong,
            code="limit-endpoint",
            remedy="write another url in the table [ingress], or choose another target",
            source="https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-api-destinations.html",
            leaves_out=True,
        )


def _finding(
    option: str,
    placed: Placed,
    request: Request,
    message: str,
    *,
    remedy: str,
    code: str = "",
    source: str = "",
    leaves_out: bool = False,
) -> Finding:
    schedule = placed.schedule
    return Finding(
        code=code or code_of(option),
        schedule_id=schedule.id,
        option=option,
        message=message,
        example=example_of(option, schedule, request.horizon.start),
        remedy=remedy,
        source=source or CAPABILITIES[option].source,
        leaves_out=leaves_out,
    )


def _schedule_objects(
    placed: Sequence[Placed], request: Request
) -> Iterator[tuple[Placed, AwsObject]]:
    for each, names in line_names(placed):
        for number, name in enumerate(names):
            yield each, _schedule_object(each, number, name, request)


def _schedule_object(placed: Placed, number: int, name: str, request: Request) -> AwsObject:
    schedule, settings = placed.schedule, settings_of(placed)
    expression, timezone = _expression(placed, number)
    about = {"schedule": schedule.id, "fingerprint": placed.fingerprint}
    if placed.accepted:
        about["accepted"] = accepted_text(placed)
    asked = {
        "Name": name,
        "GroupName": Link(key_of("Group", settings.group), "Name", settings.group),
        "Description": described(placed, words_of(placed), LONGEST_DESCRIPTION),
        "ScheduleExpression": expression,
        "ScheduleExpressionTimezone": timezone,
        "FlexibleTimeWindow": _flexible_window(schedule, request),
        "State": "ENABLED" if schedule.enabled else "DISABLED",
        "Target": _target(placed, name, request),
    }
    key = line_key("Schedule", schedule.id, number)
    return AwsObject("CreateSchedule", key, asked, about)


def _expression(placed: Placed, number: int) -> tuple[str, str]:
    expression = placed.schedule.expression
    if isinstance(expression, Once):
        return at_text(expression.at), "UTC"
    line = placed.cover.lines[number]
    return cron_text(line.cron), line.timezone


def _target(placed: Placed, name: str, request: Request) -> dict[str, Any]:
    settings = settings_of(placed)
    made: dict[str, Any] = {
        "Arn": "",
        "RoleArn": settings.role_arn,
        "Input": json.dumps(_event(placed, name)),
        "RetryPolicy": {
            "MaximumEventAgeInSeconds": _event_age(placed.schedule),
            "MaximumRetryAttempts": MOST_ATTEMPTS,
        },
    }
    if settings.dead_letter_queue_arn:
        made["DeadLetterConfig"] = {"Arn": settings.dead_letter_queue_arn}
    match settings.target:
        case LambdaTarget(function_arn=arn):
            made["Arn"] = arn
        case SqsTarget(queue_arn=arn):
            made["Arn"] = arn
            if arn.endswith(".fifo"):
                made["SqsParameters"] = {"MessageGroupId": placed.name}
        case ApiDestinationTarget(event_bus_arn=arn):
            made["Arn"] = arn
            route = route_name(settings, request.ingress.triggers_url)
            made["EventBridgeParameters"] = bus_parameters(route)
    return made


def _event(placed: Placed, name: str) -> dict[str, str]:
    """Return the trigger. Its id is the same for every attempt, unlike AWS's execution id."""
    schedule_id = placed.schedule.id
    return {
        "specversion": SPECVERSION,
        "id": f"{schedule_id}/{SLOT}",
        "source": f"eventbridge/{settings_of(placed).group}/{name}",
        "type": TYPE,
        "subject": schedule_id,
        "time": SLOT,
        "puristafingerprint": placed.fingerprint,
    }


def _event_age(schedule: Schedule) -> int:
    """Return for how many seconds a trigger is tried: while the contract would let it run."""
    least, most = EVENT_AGE
    if schedule.missed_run_policy != "skip":
        return most
    useful = ceil((schedule.misfire_grace + schedule.jitter).total_seconds())
    return min(max(useful, least), most)


def _jitter(schedule: Schedule, request: Request) -> timedelta:
    """Return the jitter that the contract leaves: never past the next nominal time (rule R6)."""
    if not schedule.jitter:
        return schedule.jitter
    gap = shortest_gap(schedule, request.horizon)
    return schedule.jitter if gap is None else min(schedule.jitter, gap)


def _window(schedule: Schedule, request: Request) -> timedelta:
    """Return the longest flexible window that is not longer than the jitter; zero for none."""
    wanted = min(_jitter(schedule, request), LONGEST_WINDOW)
    return wanted // _MINUTE * _MINUTE


def _flexible_window(schedule: Schedule, request: Request) -> dict[str, Any]:
    minutes = _window(schedule, request) // _MINUTE
    if not minutes:
        return {"Mode": "OFF"}
    return {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes}


_MINUTE: Final = timedelta(minutes=1)

"""Google Cloud Scheduler: a job for each line, which calls the ingress by HTTP or publishes a message.

Written as Terraform and as API requests. Google's page promises nothing around clock changes, so no
line that meets one is in the schedule's own zone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote

from purista.cloudevent import SPECVERSION, TYPE
from purista.compiling import MARKER, Artifact, Placed, Request, timing_of
from purista.contract import Schedule
from purista.cover import Cover, Line, Uncovered, cover
from purista.cronfield import HOUR, MINUTE, MONTH
from purista.dialect import Dialect, Reading
from purista.expression import Cron
from purista.naming import NameRule
from purista.native import terraform
from purista.native.cloudretry import DOUBLINGS, Retry, line_gap, retry_of
from purista.native.cloudsettings import CloudSchedulerSettings, HttpTarget, PubSubTarget
from purista.native.describing import described, description_findings
from purista.native.fieldtext import field_text, ranges_text
from purista.native.jsonrows import array_text
from purista.native.objectnames import ROOM, line_key, line_names
from purista.portability import (
    CapabilityTable,
    Finding,
    Most,
    by_ingress,
    by_none,
    code_of,
    example_of,
    ingress_cells,
    missed_finding,
    native,
)
from purista.slotgrid import grid_of

DIALECT: Final = Dialect(day_rule="or")
"""Nothing is known of clock changes: "execution anomalies" (FORMAT)."""

READING: Final = Reading(
    day_rule="or", refused=frozenset({"L", "L-n", "W", "LW", "#", "#L"}), wildcard=None
)
"""What it makes of a text as it stands."""

FORMAT: Final = "https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules"
JOB: Final = "https://cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs"
RETRY: Final = "https://cloud.google.com/scheduler/docs/configuring/retry-jobs"
QUOTAS: Final = "https://cloud.google.com/scheduler/quotas"
REPEATED: Final = "https://cloud.google.com/scheduler/docs/configuring/deduplicate-job-requests"

CAPABILITIES: Final = CapabilityTable(
    {
        **ingress_cells(),
        "expression=cron": native("schedule, in numbers and ranges", FORMAT),
        "expression=cron with L": by_ingress("days 28 to 31; the others are dropped", FORMAT),
        "expression=cron with W": by_ingress("the days around it; the others are dropped", FORMAT),
        "expression=cron with #": by_ingress("every such weekday; the others are dropped", FORMAT),
        "expression=cron with seconds": by_none("its lines name minutes", FORMAT),
        "expression=day rule or": native("both day fields in one line mean either", FORMAT),
        "expression=day rule and": by_ingress("one day field; the others are dropped", FORMAT),
        "expression=every": by_ingress("a line in UTC that fires at all of its times", FORMAT),
        "expression=once": by_ingress("a dated line; other years are dropped", FORMAT),
        "timezone": native("timeZone where no clock change is met, else lines in UTC", FORMAT),
        "dst_gap=skip": by_ingress("lines in UTC; the page leaves open what happens", FORMAT),
        "dst_gap=next": by_ingress("lines in UTC; the page leaves open what happens", FORMAT),
        "dst_gap=shift": by_ingress("lines in UTC; the page leaves open what happens", FORMAT),
        "dst_overlap=first": by_ingress("lines in UTC; the page leaves open what happens", FORMAT),
        "dst_overlap=last": by_ingress("lines in UTC; the page leaves open what happens", FORMAT),
        "dst_overlap=both": by_ingress("lines in UTC; the page leaves open what happens", FORMAT),
        "start_at": by_ingress("triggers before it are dropped", JOB),
        "end_at": by_ingress("triggers after it are dropped", JOB),
        "exclude": by_ingress("triggers of excluded days are dropped", JOB),
        "jitter": by_none("it fires at the nominal time, all jobs of a minute together", JOB),
        "enabled=false": native("the job is paused", JOB),
        "concurrency_policy=allow": native(
            "an attempt ends when the ingress has answered, not with the run", JOB
        ),
        "concurrency_policy=forbid": by_ingress("the ingress knows the run", JOB),
        "concurrency_policy=replace": by_ingress("the ingress cancels the run", JOB),
        "missed_run_policy=skip": native(
            "retries end within the grace, and before the next time", RETRY
        ),
        "missed_run_policy=runOnce": by_ingress(
            "retries end before the next time; then the ingress recovers (recovery = 'ingress')",
            RETRY,
        ),
        "missed_run_policy=catchUp": by_ingress(
            "retries end before the next time; then the ingress recovers (recovery = 'ingress')",
            RETRY,
        ),
        "catch_up_window": by_ingress("the ingress recovers within it", RETRY),
        "max_catch_up": by_ingress("the ingress recovers no more", RETRY),
        "description": native("behind the marker in description", JOB),
        "provider_hints": native("settings of this schedule", "docs/settings.md"),
        "nominal time": by_ingress(
            "HTTP: the header X-CloudScheduler-ScheduleTime; Pub/Sub: the latest slot that is not "
            "after the publish time, of the grid that an attribute says",
            REPEATED,
        ),
    }
)

LONGEST_NAME: Final = 500
LONGEST_DESCRIPTION: Final = 500
LONGEST_URI: Final = 2083
"""Characters (JOB)."""

SLOTS: Final = "puristaslots"
"""The attribute of a message that says where slots lie: ``period+phase``, in seconds since 1970."""


class CloudScheduler:
    """The scheduler ``cloud-scheduler``."""

    name = "cloud-scheduler"
    title = "Google Cloud Scheduler"
    capabilities = CAPABILITIES
    dialect = DIALECT
    reading = READING
    settings = CloudSchedulerSettings
    sample: Mapping[str, Any] = {
        "project": "shop-123456",
        "location": "europe-west3",
        "target": {
            "kind": "http",
            "service_account_email": "scheduler@shop-123456.iam.gserviceaccount.com",
        },
    }
    most = Most(1000, "jobs of a project in a region (Google raises it to 5000 when asked)", QUOTAS)
    names = NameRule(longest=LONGEST_NAME, others=re.compile(r"[^A-Za-z0-9_-]"), room=ROOM)

    def cover(self, schedule: Schedule, request: Request) -> Cover | Uncovered:
        """Return the native lines for a schedule, or why there are none."""
        return cover(
            timing_of(schedule), DIALECT, request.horizon, exact_native=request.exact_native
        )

    def findings(self, placed: Placed, request: Request) -> Iterator[Finding]:
        """Yield what else differs for a schedule."""
        found = [*_recovery_findings(placed, request), *_uri_findings(placed, request)]
        codes = [each.code for each in found]
        if placed.schedule.jitter:
            codes.append(code_of("jitter"))
        yield from found
        yield from description_findings(
            placed,
            placed.schedule.description,
            LONGEST_DESCRIPTION,
            codes=codes,
            source=JOB,
            since=request.horizon.start,
        )

    def artifacts(self, placed: Sequence[Placed], request: Request) -> Iterator[Artifact]:
        """Yield the files for all schedules: Terraform, API requests."""
        jobs = [
            (
                line_key("job_", each.schedule.id, number),
                each,
                job_document(each, number, name, request),
            )
            for each, names in line_names(placed)
            for number, name in enumerate(names)
        ]
        resources = (
            ("google_cloud_scheduler_job", key, _arguments(each, job)) for key, each, job in jobs
        )
        text = terraform.file_text(resources, comment=f"{MARKER}: triggers of schedules")
        yield Artifact("main.tf.json", text)
        calls = (call for _, each, job in jobs for call in _calls(each, job))
        yield Artifact("requests.json", array_text(map(json.dumps, calls)))


SCHEDULER: Final = CloudScheduler()


def cron_text(cron: Cron) -> str:
    """Return a line as the page describes it; two restricted day fields mean either.

    >>> cron_text(Cron("*/30 9-17 13 * FRI"))
    '0,30 9-17 13 * 5'
    """
    days = cron.deciding_days
    day, weekday = "*", "*"
    if days in ("month", "or"):
        day = ranges_text(cron.day_of_month.values)
    if days in ("week", "or"):
        weekday = ranges_text(cron.day_of_week.values)
    minute = field_text(MINUTE, cron.minute.values)
    hour = field_text(HOUR, cron.hour.values)
    return f"{minute} {hour} {day} {field_text(MONTH, cron.month.values)} {weekday}"


def snake(key: str) -> str:
    """Return a name of JSON as protocol buffers and Terraform write it.

    >>> snake("retryConfig")
    'retry_config'
    """
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key)


def job_document(placed: Placed, number: int, name: str, request: Request) -> dict[str, Any]:
    """Return the job for one of a schedule's lines, as the REST API has it; lines are counted from 0."""
    settings, line = _settings(placed), placed.cover.lines[number]
    retry = _retry(placed, line, request)
    made: dict[str, Any] = {
        "name": f"{settings.parent}/jobs/{name}",
        "description": described(placed, placed.schedule.description, LONGEST_DESCRIPTION),
        "schedule": cron_text(line.cron),
        "timeZone": "Etc/UTC" if line.timezone == "UTC" else line.timezone,
        "retryConfig": _retry_config(retry),
    }
    attributes = _attributes(placed, f"cloud-scheduler/{made['name']}")
    match settings.target:
        case HttpTarget():
            made["attemptDeadline"] = f"{retry.deadline}s"
            made["httpTarget"] = _http_target(placed, attributes, request)
        case PubSubTarget(topic=topic):
            grid = grid_of([line], request.horizon)
            made["pubsubTarget"] = {
                "topicName": f"projects/{settings.project}/topics/{topic}",
                "attributes": {**attributes, f"ce-{SLOTS}": f"{grid.period}+{grid.phase}"},
            }
    return made


def _recovery_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    """Yield a finding where a run is still worth something after the last try."""
    schedule = placed.schedule
    if schedule.missed_run_policy == "skip" or request.ingress.recovery == "ingress":
        return
    tried = min(_retry(placed, line, request) for line in placed.cover.lines)
    yield missed_finding(
        schedule,
        request.horizon.start,
        f"a trigger is tried again {tried.retries} times, for {tried.duration} seconds at most; "
        "what is missed longer than that, or while the job cannot fire, does not come back",
        RETRY,
    )


def _uri_findings(placed: Placed, request: Request) -> Iterator[Finding]:
    size = len(_uri(placed, request))
    if isinstance(_settings(placed).target, HttpTarget) and size > LONGEST_URI:
        yield Finding(
            code="limit-uri",
            schedule_id=placed.schedule.id,
            option="provider_hints",
            message=f"the address that it calls has {size} characters, the limit is {LONGEST_URI}",
            example=example_of("expression", placed.schedule, request.horizon.start),
            remedy="write a shorter url in the table [ingress]",
            source=JOB,
            leaves_out=True,
        )


def _settings(placed: Placed) -> CloudSchedulerSettings:
    assert isinstance(placed.settings, CloudSchedulerSettings)
    return placed.settings


def _uri(placed: Placed, request: Request) -> str:
    return f"{request.ingress.triggers_url}/{quote(placed.schedule.id, safe='')}"


def _http_target(placed: Placed, attributes: Mapping[str, str], request: Request) -> dict[str, Any]:
    target = _settings(placed).target
    assert isinstance(target, HttpTarget)
    return {
        "uri": _uri(placed, request),
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json", **attributes},
        "oidcToken": {
            "serviceAccountEmail": target.service_account_email,
            "audience": target.audience or request.ingress.url,
        },
    }


def _attributes(placed: Placed, source: str) -> dict[str, str]:
    """Return what of the trigger is the same for every slot, so neither its time nor its id."""
    return {
        "ce-specversion": SPECVERSION,
        "ce-type": TYPE,
        "ce-source": source,
        "ce-subject": placed.schedule.id,
        "ce-puristafingerprint": placed.fingerprint,
    }


def _retry(placed: Placed, line: Line, request: Request) -> Retry:
    """Return how a line's triggers are tried; a message, no longer than its slot can be told."""
    room = line_gap(line, request.horizon)
    if isinstance(_settings(placed).target, PubSubTarget):
        room = min(room, timedelta(seconds=grid_of([line], request.horizon).period))
    return retry_of(placed.schedule, room)


def _retry_config(retry: Retry) -> dict[str, Any]:
    if not retry.retries:
        return {"retryCount": 0}
    return {
        "retryCount": retry.retries,
        "maxRetryDuration": f"{retry.duration}s",
        "minBackoffDuration": f"{retry.backoff}s",
        "maxDoublings": DOUBLINGS,
    }


def _calls(placed: Placed, job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what makes a job. It cannot be made paused."""
    parent = _settings(placed).parent
    yield {"operation": "CreateJob", "request": {"parent": parent, "job": job}}
    if not placed.schedule.enabled:
        yield {"operation": "PauseJob", "request": {"name": job["name"]}}


def _arguments(placed: Placed, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as Terraform has it."""
    settings = _settings(placed)
    made = {
        snake(key): terraform.literal(_snaked(value)) for key, value in job.items() if key != "name"
    }
    return {
        "name": str(job["name"]).rpartition("/")[2],
        "project": settings.project,
        "region": settings.location,
        "paused": not placed.schedule.enabled,
        **made,
    }


def _snaked(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {
        snake(key): each if key in ("headers", "attributes") else _snaked(each)
        for key, each in value.items()
    }

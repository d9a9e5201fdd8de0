"""A bare call: a trigger that is no event, as schedulers send it that can only call an address. Pure.

The address names the schedule; the nominal time is where the scheduler puts it by itself. Whatever is
said twice has to be the same both times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from purista import cloudevent
from purista.cloudevent import SPECVERSION, TYPE, refuse
from purista.errors import Problem, TriggerError
from purista.expression import EPOCH
from purista.ingress.timing import EARLY
from purista.trigger import UNSET, Trigger

PARAMETERS: Final = ("time", "job", "manual")
"""What the query of a bare call may have."""

TIME_HEADER: Final = "purista-nominal-time"
"""A header that says the nominal time, beside ``ce-time`` and Cloud Scheduler's own."""

JOB_HEADER: Final = "purista-job"
"""The header that says the name of a Kubernetes Job; in the query it is ``job``."""

CLOUD_TIME: Final = "x-cloudscheduler-scheduletime"
CLOUD_JOB: Final = "x-cloudscheduler-jobname"
"""https://docs.cloud.google.com/scheduler/docs/configuring/deduplicate-job-requests"""

AWS: Final = "aws.scheduler."
"""What the keys of EventBridge Scheduler's envelope begin with; each is the keyword that AWS replaces:
https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html"""

AWS_TIME: Final = f"{AWS}scheduled-time"
AWS_SOURCE: Final = f"{AWS}schedule-arn"
AWS_KEYS: Final = (AWS_TIME, AWS_SOURCE, f"{AWS}execution-id", f"{AWS}attempt-number")

SCHEDULED: Final = "Scheduled Event"
AWS_SOURCES: Final = ("aws.events", "aws.scheduler")
"""What EventBridge's own event of a schedule says of itself:
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html"""

LONGEST_PAST: Final = timedelta(days=730)
"""The number at the end of a Job's name is a slot when it is not longer ago; else a person chose it."""


def bare_trigger(
    schedule_id: str,
    headers: Mapping[str, str],
    query: Mapping[str, str],
    body: bytes,
    now: datetime,
) -> Trigger:
    """Return the trigger that a call is; header names are in lower case, none is there twice.

    ``query`` has no parameter but ``PARAMETERS``. A body is JSON: the payload, or the envelope of a
    scheduler. Without any time the nominal time is None. What a person starts at the scheduler is
    marked as manual. Raises ``TriggerError``.
    """
    event = _attributes(schedule_id, headers)
    envelope = _envelope(body)
    said = [
        *_said(event, headers, query, envelope),
        *_of_cloud(headers, now),
        *_of_job(headers, query, now),
    ]
    manual = _manual(event, query) or any(one.manual for one in said)
    event["puristamanual"] = manual
    event["time"] = _time_text(said)
    event.setdefault("source", _source(headers, query, envelope))
    if envelope.data is not UNSET:
        event["data"] = envelope.data
    found = cloudevent.read_event({"id": "none", **event})
    return Trigger(**{**found, "id": event.get("id", "")})


def instant_of(place: str, text: str) -> datetime:
    """Read an RFC 3339 time as a trigger's own is read. Raises ``TriggerError`` that names ``place``."""
    try:
        found = cloudevent.read_event({**_ANY, "time": text})["nominal_time"]
    except TriggerError as error:
        raise TriggerError(str(error).replace("attribute 'time'", place)) from None
    assert isinstance(found, datetime)
    return found


@dataclass(frozen=True, slots=True)
class _Envelope:
    """What a body says: the scheduler's own words where it is an envelope, and the payload."""

    data: Any = UNSET
    place: str = ""
    time: datetime | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class _Said:
    """A nominal time and where it is said; ``manual``: a person started it, its time says nothing."""

    place: str
    time: datetime | None = None
    manual: bool = False


_ANY: Final = {
    "specversion": SPECVERSION,
    "type": TYPE,
    "id": "any",
    "source": "any",
    "subject": "any",
}
_JOB: Final = re.compile(r"(.+)-([1-9]\d{0,8})", re.ASCII)


def _attributes(schedule_id: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the event that the ``ce-`` headers begin; compiled artifacts send the fixed ones."""
    given = ((name, value) for name, value in headers.items() if name.startswith("ce-"))
    event = cloudevent.read_headers(given, b"")
    subject = event.setdefault("subject", schedule_id)
    if subject != schedule_id:
        remedy = "send the same schedule's id, or leave the header out"
        refuse([Problem("header 'ce-subject' and the path", "they name two schedules", remedy)])
    event.setdefault("specversion", SPECVERSION)
    event.setdefault("type", TYPE)
    return event


def _envelope(body: bytes) -> _Envelope:
    """Take a body apart.

    It is an envelope when it is an object with a key that begins with ``aws.scheduler.``, or an event
    of EventBridge whose ``detail-type`` is ``Scheduled Event``; any other JSON is the payload.
    """
    if not body:
        return _Envelope()
    value = cloudevent.read_text(body, "body")
    if isinstance(value, dict):
        if any(key.startswith(AWS) for key in value):
            return _of_keywords(value)
        if value.get("detail-type") == SCHEDULED and value.get("source") in AWS_SOURCES:
            return _of_scheduled_event(value)
    return _Envelope(value)


def _of_keywords(value: Mapping[str, Any]) -> _Envelope:
    if not set(value) <= {*AWS_KEYS, "data"}:
        known = ", ".join((*AWS_KEYS, "data"))
        refuse([Problem("body", "it has other keys beside 'aws.scheduler.*'", f"known: {known}")])
    place = f"body: '{AWS_TIME}'"
    time, source = value.get(AWS_TIME), value.get(AWS_SOURCE)
    if not isinstance(time, str) or time.startswith("<"):
        remedy = f"give it the value '<{AWS_TIME}>', which EventBridge Scheduler replaces"
        refuse([Problem(place, "it is no time", remedy)])
    data = value.get("data", UNSET)
    return _Envelope(data, place, instant_of(place, time), _text(source))


def _of_scheduled_event(value: Mapping[str, Any]) -> _Envelope:
    """Read EventBridge's event of a schedule: it comes within its slot's minute."""
    time, resources = value.get("time"), value.get("resources")
    place = "body: 'time'"
    if not isinstance(time, str):
        refuse([Problem(place, "it is no time", "leave it as AWS sent it")])
    instant = instant_of(place, time).replace(second=0, microsecond=0)
    arn = resources[0] if isinstance(resources, list) and resources else None
    return _Envelope(UNSET, place, instant, _text(arn))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _said(
    event: Mapping[str, Any],
    headers: Mapping[str, str],
    query: Mapping[str, str],
    envelope: _Envelope,
) -> Iterator[_Said]:
    """Yield the times that are said in so many words."""
    texts = {
        "query 'time'": query.get("time"),
        "header 'ce-time'": event.get("time"),
        f"header '{TIME_HEADER}'": headers.get(TIME_HEADER),
    }
    for place, text in texts.items():
        if text is not None:
            yield _Said(place, instant_of(place, text.strip()))
    if envelope.time is not None:
        yield _Said(envelope.place, envelope.time)


def _of_cloud(headers: Mapping[str, str], now: datetime) -> Iterator[_Said]:
    """Yield what Cloud Scheduler says.

    A job that a person runs by force comes with the time of its *next* slot, or without any
    (CLOUD_JOB's page); it must not use that slot up.
    """
    text = headers.get(CLOUD_TIME, "").strip()
    if text:
        place = f"header '{CLOUD_TIME}'"
        instant = instant_of(place, text)
        is_forced = instant > now + EARLY
        yield _Said(place, None if is_forced else instant, is_forced)


def _of_job(headers: Mapping[str, str], query: Mapping[str, str], now: datetime) -> Iterator[_Said]:
    """Yield what the name of a Kubernetes Job says: its slot in minutes since 1970, behind a dash.

    A Job that a person made (``kubectl create job --from``) ends with anything, such as a day.
    https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
    """
    for place, name in _jobs(headers, query):
        found = _JOB.fullmatch(name)
        slot = EPOCH + timedelta(minutes=int(found[2])) if found else EPOCH
        if slot <= now - LONGEST_PAST:
            yield _Said(place, None, manual=True)
        else:
            yield _Said(place, slot)


def _jobs(headers: Mapping[str, str], query: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if "job" in query:
        yield "query 'job'", query["job"]
    if JOB_HEADER in headers:
        yield f"header '{JOB_HEADER}'", headers[JOB_HEADER].strip()


def _time_text(said: list[_Said]) -> str | None:
    """Return the one time that is said. Raises ``TriggerError`` where there are two."""
    timed = [one for one in said if one.time is not None]
    for one in timed[1:]:
        if one.time != timed[0].time:
            places = f"{timed[0].place} and {one.place}"
            refuse([Problem(places, "they name two times", "send one of them")])
    if not timed or timed[0].time is None:
        return None
    return timed[0].time.astimezone(UTC).isoformat()


def _manual(event: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    """Whether a person says so."""
    text = query.get("manual")
    if text not in (None, "true", "false"):
        refuse([Problem("query 'manual'", "it is not 'true' or 'false'", "send 'true'")])
    header = event.get("puristamanual")
    if header not in (None, "true", "false"):
        place = "header 'ce-puristamanual'"
        refuse([Problem(place, "it is not 'true' or 'false'", "send 'true'")])
    if text is not None and header is not None and text != header:
        places = "query 'manual' and header 'ce-puristamanual'"
        refuse([Problem(places, "they contradict each other", "send one of them")])
    return "true" in (text, header)


def _source(headers: Mapping[str, str], query: Mapping[str, str], envelope: _Envelope) -> str:
    """Name the scheduler."""
    if envelope.source is not None:
        return envelope.source
    if name := headers.get(CLOUD_JOB, "").strip():
        return f"cloud-scheduler/{name}"
    for _, name in _jobs(headers, query):
        found = _JOB.fullmatch(name)
        return f"kubernetes/{found[1] if found else name}"
    return "http"

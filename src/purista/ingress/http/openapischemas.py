"""The JSON Schemas of the HTTP API's documents (draft 2020-12), by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from purista.cloudevent import MAX_TEXT, SPECVERSION, TYPE
from purista.contract import ConcurrencyPolicy, MissedRunPolicy
from purista.ingress.answer import PROBLEM, TITLES
from purista.ingress.http.barecall import AWS_KEYS
from purista.ledgers import RunStatus, Verdict


def reference(name: str) -> dict[str, str]:
    """Return a reference to one of ``SCHEMAS``."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(properties: Mapping[str, Any], *optional: str, closed: bool = True) -> dict[str, Any]:
    """Return the schema of an object; every property is there but the ``optional`` ones."""
    made = {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }
    return {**made, "additionalProperties": False} if closed else made


def one_of(words: Any) -> dict[str, Any]:
    """Return the schema of a text that is one of some words."""
    return {"type": "string", "enum": [str(word) for word in words]}


TEXT: Final = {"type": "string"}
INSTANT: Final = {"type": "string", "format": "date-time"}
NO_INSTANT: Final = {"type": ["string", "null"], "format": "date-time"}
ID: Final = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
BOOLEAN_TEXT: Final = {"type": "string", "enum": ["true", "false"]}

_DECISION: Final = {
    "decision": one_of(Verdict),
    "reason": TEXT,
    "scheduleId": TEXT,
    "nominalTime": NO_INSTANT,
    "runId": {"type": ["string", "null"]},
    "recovered": {"type": "array", "items": reference("Decision")},
}
_PROBLEM: Final = {
    "type": {"type": "string", "enum": [f"{PROBLEM}{kind}" for kind in sorted(TITLES)]},
    "title": TEXT,
    "status": {"type": "integer", "minimum": 400, "maximum": 599},
    "detail": TEXT,
}
_EXPRESSION: Final = {
    "type": "object",
    "properties": {"kind": one_of(("cron", "interval", "oneShot"))},
    "required": ["kind"],
}

SCHEMAS: Final[Mapping[str, Any]] = {
    "Event": {
        "description": "A trigger: a CloudEvents 1.0 event in the JSON format.",
        **record(
            {
                "specversion": {"const": SPECVERSION},
                "id": {**ID, "description": "the same for the same schedule and nominal time"},
                "source": {**ID, "description": "the scheduler"},
                "type": {"const": TYPE},
                "subject": {**ID, "description": "the schedule's id"},
                "time": {
                    **NO_INSTANT,
                    "description": "the nominal time; derived when it is not there",
                },
                "puristafingerprint": {
                    "type": ["string", "null"],
                    "minLength": 1,
                    "maxLength": MAX_TEXT,
                    "description": "the version of the contract that the scheduler runs",
                },
                "puristamanual": {
                    "enum": ["true", "false", True, False, None],
                    "description": "a person sent it",
                },
                "datacontenttype": {"type": ["string", "null"]},
                "data": {"description": "a payload in place of the contract's template"},
            },
            "time",
            "puristafingerprint",
            "puristamanual",
            "datacontenttype",
            "data",
            closed=False,
        ),
    },
    "BareCall": {
        "description": (
            "EventBridge Scheduler's keywords when a key begins with 'aws.scheduler.'; EventBridge's "
            "own event when its 'detail-type' is 'Scheduled Event'; any other JSON is the payload."
        ),
        "anyOf": [
            record(
                {AWS_KEYS[0]: INSTANT, **{key: {} for key in (*AWS_KEYS[1:], "data")}},
                *AWS_KEYS[1:],
                "data",
            ),
            {},
        ],
    },
    "Push": {
        "description": "What Pub/Sub pushes, wrapped.",
        **record(
            {
                "message": record(
                    {
                        "messageId": TEXT,
                        "publishTime": INSTANT,
                        "attributes": {"type": "object", "additionalProperties": TEXT},
                        "data": {"type": "string", "contentEncoding": "base64"},
                    },
                    "publishTime",
                    "attributes",
                    "data",
                    closed=False,
                ),
                "subscription": TEXT,
            },
            "subscription",
            closed=False,
        ),
    },
    "Cancel": record({"runId": ID}),
    "Decision": record(_DECISION, "recovered"),
    "Problem": {
        "description": "An RFC 9457 problem.",
        **record(_PROBLEM, closed=False),
    },
    "DecisionProblem": {
        "description": "A problem with a trigger that was decided.",
        **record({**_PROBLEM, **_DECISION}, "recovered"),
    },
    "Run": record(
        {
            "runId": TEXT,
            "scheduleId": TEXT,
            "nominalTime": INSTANT,
            "status": one_of(RunStatus),
            "outcome": TEXT,
            "claimedAt": INSTANT,
            "expiresAt": INSTANT,
            "leaseUntil": NO_INSTANT,
            "endedAt": NO_INSTANT,
            "owner": TEXT,
            "token": {"type": "integer"},
        }
    ),
    "Runs": record({"runs": {"type": "array", "items": reference("Run")}}),
    "Cancelled": record({"runId": TEXT, "cancelled": {"type": "boolean"}}),
    "Schedule": record(
        {
            "scheduleId": TEXT,
            "description": TEXT,
            "targetKind": one_of(("event", "queue", "command")),
            "targetName": TEXT,
            "expression": _EXPRESSION,
            "timezone": TEXT,
            "enabled": {"type": "boolean"},
            "concurrencyPolicy": one_of(ConcurrencyPolicy),
            "missedRunPolicy": one_of(MissedRunPolicy),
            "fingerprint": TEXT,
            "nextTime": NO_INSTANT,
        }
    ),
    "Schedules": record({"schedules": {"type": "array", "items": reference("Schedule")}}),
    "Status": record({"status": one_of(("ok", "ready"))}),
}

"""The OpenAPI 3.1 document of the HTTP API: every path, parameter, body and answer.

https://spec.openapis.org/oas/v3.1.1.html
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final

from purista.ingress.http import barecall, runs
from purista.ingress.http.openapischemas import BOOLEAN_TEXT, ID, INSTANT, SCHEMAS, TEXT, reference
from purista.ingress.http.triggers import UNWRAPPED

VERSION: Final = "1.0.0"
"""The version of the API, not of the package."""


def openapi() -> dict[str, Any]:
    """Return the document, for the caller to keep."""
    return copy.deepcopy(_DOCUMENT)


def _json(name: str, kind: str = "application/json") -> dict[str, Any]:
    return {kind: {"schema": reference(name)}}


def _parameter(
    name: str, place: str, schema: Mapping[str, Any], description: str
) -> dict[str, Any]:
    made = {"name": name, "in": place, "schema": schema, "description": description}
    return {**made, "required": True} if place == "path" else made


def _response(description: str, content: Mapping[str, Any], **headers: str) -> dict[str, Any]:
    made: dict[str, Any] = {"description": description, "content": content}
    if headers:
        made["headers"] = {
            name.replace("_", "-"): {"schema": TEXT, "description": text}
            for name, text in headers.items()
        }
    return made


def _problem(description: str, name: str = "Problem", **headers: str) -> dict[str, Any]:
    return _response(description, _json(name, "application/problem+json"), **headers)


_RESPONSES: Final = {
    "Invalid": _problem("The request or the trigger is malformed."),
    "Unauthenticated": _problem(
        "The caller is not known.", WWW_Authenticate="the kinds of credentials that are taken"
    ),
    "TooSlow": _problem("The body did not come in time."),
    "TooLarge": _problem("The body is too large."),
    "NotJson": _problem("The content type or the content encoding is not taken."),
    "HeadersTooLarge": _problem("The headers are too many or too large."),
    "Failed": _problem("The ingress failed; its log has the details."),
    "Unavailable": _problem(
        "Nothing was decided, or a dispatch failed: send it again.",
        Retry_After="seconds to wait at least",
    ),
    "NoRun": _problem("There is no such run."),
}

_OPEN: Final = {"400": "Invalid", "408": "TooSlow", "413": "TooLarge", "415": "NotJson"}
_OPEN_TOO: Final = {"431": "HeadersTooLarge", "500": "Failed", "503": "Unavailable"}
_GUARDED: Final = {**_OPEN, **_OPEN_TOO, "401": "Unauthenticated"}


def _refused(names: Mapping[str, str]) -> dict[str, Any]:
    return {
        status: {"$ref": f"#/components/responses/{name}"} for status, name in sorted(names.items())
    }


def _operation(
    name: str,
    summary: str,
    responses: Mapping[str, Any],
    *,
    parameters: Sequence[Mapping[str, Any]] = (),
    body: Mapping[str, Any] | None = None,
    is_open: bool = False,
) -> dict[str, Any]:
    refused = _refused({**_OPEN, **_OPEN_TOO} if is_open else _GUARDED)
    made: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": dict(sorted({**refused, **responses}.items())),
    }
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = dict(body)
    if is_open:
        made["security"] = []
    return made


_DECIDED: Final = {
    "200": _response(
        "It had been decided before, or is dropped by its policies: nothing more is to be done.",
        _json("Decision"),
    ),
    "202": _response("It is accepted and dispatched.", _json("Decision")),
    "404": _response(
        "There is no such schedule.",
        {
            "application/problem+json": {
                "schema": {"anyOf": [reference("DecisionProblem"), reference("Problem")]}
            }
        },
    ),
    "409": _problem("It was compiled from an unknown version of the contract.", "DecisionProblem"),
    "422": _problem(
        "Its time is none of the schedule's, or its payload does not fit.", "DecisionProblem"
    ),
}

_TRACE: Final = _parameter("traceparent", "header", TEXT, "the caller's trace context")
_EVENT_HEADERS: Final = (
    _parameter("ce-id", "header", ID, "the same for the same schedule and nominal time"),
    _parameter("ce-source", "header", ID, "the scheduler"),
    _parameter("ce-subject", "header", ID, "the schedule's id"),
    _parameter("ce-type", "header", SCHEMAS["Event"]["properties"]["type"], "what the event is"),
    _parameter("ce-time", "header", INSTANT, "the nominal time"),
    _parameter("ce-puristafingerprint", "header", ID, "the version of the contract"),
    _parameter("ce-puristamanual", "header", BOOLEAN_TEXT, "a person sent it"),
)
_SPECVERSION: Final = _parameter(
    "ce-specversion",
    "header",
    SCHEMAS["Event"]["properties"]["specversion"],
    "says that the attributes are in headers (binary mode) and the body is the data",
)
_SCHEDULE: Final = _parameter("schedule_id", "path", ID, "a schedule's id, percent-encoded")
_RUN: Final = _parameter("run_id", "path", ID, "a run's id")
_BARE: Final = (
    _SCHEDULE,
    _parameter("time", "query", INSTANT, "the nominal time"),
    _parameter("job", "query", ID, "a Kubernetes Job's name, which ends with its slot"),
    _parameter("manual", "query", BOOLEAN_TEXT, "a person sends it"),
    _parameter(barecall.TIME_HEADER, "header", INSTANT, "the nominal time"),
    _parameter(barecall.JOB_HEADER, "header", ID, "as the parameter job"),
    _parameter(barecall.CLOUD_TIME, "header", INSTANT, "what Cloud Scheduler sends by itself"),
    _parameter(barecall.CLOUD_JOB, "header", TEXT, "what Cloud Scheduler sends by itself"),
    *_EVENT_HEADERS,
    _TRACE,
)
_LISTED: Final = (
    _parameter("schedule", "query", ID, "those of one schedule"),
    _parameter("unfinished", "query", BOOLEAN_TEXT, "those that are not over"),
    _parameter("since", "query", INSTANT, "not before this nominal time"),
    _parameter("until", "query", INSTANT, "before this nominal time"),
    _parameter(
        "limit",
        "query",
        {"type": "integer", "minimum": 1, "maximum": runs.MOST, "default": runs.LIMIT},
        "how many at most",
    ),
)

_PATHS: Final[Mapping[str, Mapping[str, Any]]] = {
    "/triggers": {
        "post": _operation(
            "trigger",
            "Take a trigger as a CloudEvent",
            _DECIDED,
            parameters=(_SPECVERSION, *_EVENT_HEADERS, _TRACE),
            body={
                "description": "The event; in binary mode its data, or nothing.",
                "content": {
                    **_json("Event", "application/cloudevents+json"),
                    "application/json": {"schema": {}},
                },
            },
        )
    },
    "/triggers/{schedule_id}": {
        "post": _operation(
            "triggerSchedule",
            "Take a call that is no event",
            _DECIDED,
            parameters=_BARE,
            body={"content": _json("BareCall")},
        )
    },
    "/pubsub": {
        "post": _operation(
            "triggerByPubSub",
            "Take a message that Pub/Sub pushes",
            _DECIDED,
            parameters=(
                _parameter(
                    UNWRAPPED, "header", TEXT, "says that the body is the message's data alone"
                ),
            ),
            body={"content": {**_json("Push"), "*/*": {"schema": {}}}},
        )
    },
    "/runs": {
        "get": _operation(
            "runs",
            "List runs, newest nominal time first",
            {"200": _response("The runs.", _json("Runs"))},
            parameters=_LISTED,
        )
    },
    "/runs/{run_id}": {
        "get": _operation(
            "run",
            "Show a run",
            {"200": _response("The run.", _json("Run")), **_refused({"404": "NoRun"})},
            parameters=(_RUN,),
        )
    },
    "/runs/{run_id}/cancel": {
        "post": _operation(
            "cancelRun",
            "Cancel a run",
            {
                "200": _response("Whether it was cancelled just now.", _json("Cancelled")),
                **_refused({"404": "NoRun"}),
            },
            parameters=(_RUN,),
            body={"description": "So that a signature covers the run.", "content": _json("Cancel")},
        )
    },
    "/schedules": {
        "get": _operation(
            "schedules",
            "List the schedules",
            {"200": _response("The schedules.", _json("Schedules"))},
        )
    },
    "/health": {
        "get": _operation(
            "health",
            "Say that the process answers",
            {"200": _response("It does.", _json("Status"))},
            is_open=True,
        )
    },
    "/ready": {
        "get": _operation(
            "ready",
            "Say whether triggers can be decided",
            {"200": _response("They can.", _json("Status"))},
            is_open=True,
        )
    },
    "/openapi.json": {
        "get": _operation(
            "openapi",
            "Return this document",
            {"200": _response("It.", {"application/json": {"schema": {"type": "object"}}})},
            is_open=True,
        )
    },
}

_DOCUMENT: Final[dict[str, Any]] = {
    "openapi": "3.1.0",
    "info": {
        "title": "purista ingress",
        "version": VERSION,
        "description": (
            "Takes the triggers of schedulers and says what was decided. Problems are RFC 9457. What "
            "is no HTTP, and headers that take too long, are answered by the server in plain text."
        ),
    },
    "security": [{"bearer": []}, {"webhookId": [], "webhookTimestamp": [], "webhookSignature": []}],
    "paths": _PATHS,
    "components": {
        "schemas": SCHEMAS,
        "responses": _RESPONSES,
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "a static or OIDC token"},
            **{
                f"webhook{part}": {
                    "type": "apiKey",
                    "in": "header",
                    "name": f"webhook-{part.lower()}",
                    "description": "Standard Webhooks",
                }
                for part in ("Id", "Timestamp", "Signature")
            },
        },
    },
}

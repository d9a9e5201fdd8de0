"""A CronJob as an object of a plan: its fields, and whose it is.

A field is what stands at a place that we write; what the server or a person puts beside these places is
neither compared nor touched. Where admission makes something else of a value that we ask for, the field is
what was asked for, as long as that stands there; when it fires and what it sends is never excused so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from purista.compiling import MARKER
from purista.plan import PAUSED, PROBLEM, Desired, Observed, Owner, digests

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
DEPLOYMENT: Final = "purista.dev/deployment"
"""The labels of what is ours."""

SCHEDULE: Final = "purista.dev/schedule"
FINGERPRINT: Final = "purista.dev/fingerprint"
APPLIED: Final = "purista.dev/applied"
"""The annotations that say for which schedule it is, and what was applied last."""

DELETED: Final = "it is being deleted"
"""The problem of a CronJob that a finalizer holds back; it does not fire any more."""

ADMISSIBLE: Final = ("image", "resources", "securityContext", "automountServiceAccountToken")
"""The fields of which admission may make something else, such as the least requests of GKE Autopilot."""

_HIDDEN: Final = "(hidden: "
_ADMITTED: Final = "admitted"
"""Beside the digests of what was applied: of which values admission makes something else, and of what that is."""

_CONTAINERS: Final = "containers"
_TRIGGER: Final = "trigger"
_JOB: Final = ("spec", "jobTemplate", "spec")
_POD: Final = (*_JOB, "template", "spec")
_ENV: Final = (*_POD, _CONTAINERS, _TRIGGER, "env")
_ENVIRONMENT: Final = "environment"
_TOLD: Final = "PURISTA_FINGERPRINT"
_OURS: Final = re.compile(r"JOB_NAME|PURISTA_(?!.*(AUTH|BEARER|KEY|PASSWORD|SECRET|TOKEN)).*")
"""The variables that purista writes as a text; the bearer is a reference."""

_ACCOUNT: Final = (*_POD, "serviceAccount")
"""Its old name, of which the server fills in an account that is left out."""

PLACES: Final[Mapping[str, Sequence[str]]] = {
    "description": ("metadata", "annotations", "purista.dev/description"),
    "accepted": ("metadata", "annotations", "purista.dev/accepted"),
    "schedule": ("spec", "schedule"),
    "timezone": ("spec", "timeZone"),
    "concurrencyPolicy": ("spec", "concurrencyPolicy"),
    "startingDeadlineSeconds": ("spec", "startingDeadlineSeconds"),
    PAUSED: ("spec", "suspend"),
    "successfulJobsHistoryLimit": ("spec", "successfulJobsHistoryLimit"),
    "failedJobsHistoryLimit": ("spec", "failedJobsHistoryLimit"),
    "backoffLimit": (*_JOB, "backoffLimit"),
    "activeDeadlineSeconds": (*_JOB, "activeDeadlineSeconds"),
    "ttlSecondsAfterFinished": (*_JOB, "ttlSecondsAfterFinished"),
    "restartPolicy": (*_POD, "restartPolicy"),
    "automountServiceAccountToken": (*_POD, "automountServiceAccountToken"),
    "serviceAccountName": (*_POD, "serviceAccountName"),
    **{
        name: (*_POD, _CONTAINERS, _TRIGGER, name)
        for name in ("image", "command", "args", "resources", "securityContext")
    },
}
"""Where each field stands; the environment of the container, a list by names, is one more."""

_LABELLED: Final[Sequence[Sequence[str]]] = (
    ("metadata", "labels"),
    ("spec", "jobTemplate", "metadata", "labels"),
    (*_JOB, "template", "metadata", "labels"),
)


def observed_of(document: Mapping[str, Any]) -> Observed:
    """Return a CronJob as the server has it; its version is that of the object, and which one it is."""
    metadata = document["metadata"]
    version = f"{metadata['uid']}/{metadata['resourceVersion']}"
    owner = owner_of(document)
    applied = None if owner is None else _applied(document)
    return Observed(metadata["name"], fields_of(document), owner, applied, version)


def owner_of(document: Mapping[str, Any]) -> Owner | None:
    """Return whose a CronJob is; None for one without our marker."""
    metadata = document["metadata"]
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if (
        labels.get(MANAGED_BY) != MARKER
        or not {DEPLOYMENT} <= labels.keys()
        or SCHEDULE not in notes
    ):
        return None
    return Owner(labels[DEPLOYMENT], notes[SCHEDULE], notes.get(FINGERPRINT, ""))


def fields_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a CronJob, each, be it None.

    The version that the container tells is none where it is that of the object. The value of a variable that
    is none of ours is told by its digest.
    """
    found = {name: _at(document, place) for name, place in PLACES.items()}
    found[PAUSED] = bool(found[PAUSED])
    found["concurrencyPolicy"] = found["concurrencyPolicy"] or "Allow"
    environment = {name: _shown(name, value) for name, value in _variables(document).items()}
    fingerprint = _at(document, ("metadata", "annotations", FINGERPRINT))
    if environment.get(_TOLD) == fingerprint:
        environment.pop(_TOLD, None)
    problem = DELETED if "deletionTimestamp" in document["metadata"] else None
    return {**found, **_asked(document, found), _ENVIRONMENT: environment, PROBLEM: problem}


def applied_of(desired: Desired) -> dict[str, str]:
    """Return the digests that are kept with a CronJob; that nothing is wrong with it is not applied."""
    return digests({name: each for name, each in desired.fields.items() if name != PROBLEM})


def hides(fields: Mapping[str, Any]) -> bool:
    """Whether fields tell values by their digests, so that they are written only with what is there."""
    return any(map(_is_hidden, fields[_ENVIRONMENT].values()))


def revealed(fields: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with the values of a CronJob that they tell by their digests."""
    held = _variables(there)
    environment = {
        name: held[name] if name in held and _shown(name, held[name]) == value else value
        for name, value in fields[_ENVIRONMENT].items()
    }
    return {**fields, _ENVIRONMENT: environment}


def with_admitted(
    document: Mapping[str, Any], fields: Mapping[str, Any], answer: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a CronJob that says what the server makes of its fields, as its answer shows."""
    made = {name: _at(answer, PLACES[name]) for name in ADMISSIBLE}
    found = {
        name: {"asked": fields[name], "made": digest}
        for name, digest in digests(made).items()
        if made[name] != fields[name]
    }
    metadata = document["metadata"]
    notes = dict(metadata["annotations"])
    if found:
        notes[APPLIED] = _compact({**json.loads(notes[APPLIED]), _ADMITTED: found})
    return {**document, "metadata": {**metadata, "annotations": notes}}


def written(
    desired: Desired, fields: Mapping[str, Any], namespace: str, into: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a CronJob with these fields and our marker: a new one, or what is given, changed."""
    document: dict[str, Any] = {} if into is None else into
    owner = desired.owner
    document |= {"apiVersion": "batch/v1", "kind": "CronJob"}
    _put(document, ("metadata", "name"), desired.name)
    _put(document, ("metadata", "namespace"), namespace)
    for place in _LABELLED:
        _put(document, (*place, MANAGED_BY), MARKER)
    _put(document, (*_LABELLED[0], DEPLOYMENT), owner.deployment)
    for name, value in (
        (SCHEDULE, owner.schedule_id),
        (FINGERPRINT, owner.fingerprint),
        (APPLIED, _compact(applied_of(desired))),
    ):
        _put(document, ("metadata", "annotations", name), value)
    for name, place in PLACES.items():
        _put(document, place, fields[name])
    _put(document, _ACCOUNT, None)
    environment = {_TOLD: owner.fingerprint, **fields[_ENVIRONMENT]}
    _put(document, _ENV, [_entry(name, value) for name, value in environment.items()])
    return document


def job_of(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the Job of a CronJob by hand; its name ends with no slot."""
    template, metadata = document["spec"]["jobTemplate"], document["metadata"]
    told = template.get("metadata") or {}
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "controller": True}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": metadata["namespace"],
            "labels": told.get("labels") or {},
            "annotations": {
                "cronjob.kubernetes.io/instantiate": "manual",
                **(told.get("annotations") or {}),
            },
            "ownerReferences": [{**owner, "name": metadata["name"], "uid": metadata["uid"]}],
        },
        "spec": template["spec"],
    }


def loses(before: Any, after: Any) -> bool:
    """Whether something is to go that stands there: an apply would leave it where others manage it."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return any(loses(value, after.get(name)) for name, value in before.items())
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        return before is not None
    return before is not None and after is None


def _applied(document: Mapping[str, Any]) -> dict[str, str] | None:
    found = _note(document)
    if found is None:
        return None
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _asked(document: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that stand there as admission made them, as they were asked for."""
    return {
        name: each["asked"]
        for name, each in _admitted(document).items()
        if digests({name: found[name]}) == {name: each["made"]}
    }


def _admitted(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = (_note(document) or {}).get(_ADMITTED)
    return {
        name: each
        for name, each in (found.items() if isinstance(found, dict) else ())
        if name in ADMISSIBLE and isinstance(each, dict) and each.keys() == {"asked", "made"}
    }


def _note(document: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        found = json.loads(_at(document, ("metadata", "annotations", APPLIED)) or "")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _variables(document: Mapping[str, Any]) -> dict[str, Any]:
    return {each["name"]: _variable(each) for each in _at(document, _ENV) or ()}


def _shown(name: str, value: Any) -> Any:
    """Return a variable as it is told: a text that a person wrote there may be a secret."""
    if not isinstance(value, str) or not value or _OURS.fullmatch(name):
        return value
    return f"{_HIDDEN}{hashlib.sha256(value.encode()).hexdigest()[:8]})"


def _is_hidden(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(_HIDDEN)


def _at(value: Any, place: Sequence[str]) -> Any:
    for key in place:
        if isinstance(value, list):
            value = next((each for each in value if each.get("name") == key), None)
        else:
            value = (value or {}).get(key)
    return value


def _put(into: Any, place: Sequence[str], value: Any) -> None:
    """Set what stands at a place; None takes it away."""
    *way, last = place
    for key in way:
        into = _inside(into, key)
    if value is None:
        into.pop(last, None)
    else:
        into[last] = value


def _inside(into: Any, key: str) -> Any:
    if isinstance(into, list):
        found = next((each for each in into if each.get("name") == key), None)
        if found is None:
            found = {"name": key}
            into.append(found)
        return found
    if into.get(key) is None:
        into[key] = [] if key == _CONTAINERS else {}
    return into[key]


def _variable(entry: Mapping[str, Any]) -> Any:
    """Return the text of a variable, or where it comes from, without what the server adds."""
    source = entry.get("valueFrom")
    if source is None:
        return entry.get("value", "")
    reference = source.get("fieldRef")
    if reference is None or reference.get("apiVersion", "v1") != "v1":
        return source
    return {"fieldRef": {name: value for name, value in reference.items() if name != "apiVersion"}}


def _entry(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, ("valueFrom" if isinstance(value, Mapping) else "value"): value}

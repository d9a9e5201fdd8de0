"""A job of Google Cloud Scheduler in the parts that are compared, and whose it is.

A job has neither labels nor an etag, so that its description says whose it is, in which version, and what
was applied last; the contract's words follow. What the service fills in by itself is in no field.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final, NamedTuple

from purista.compiling import MARKER
from purista.plan import PAUSED, Observed, Owner
from purista.schedulers.cloud_scheduler import LONGEST_DESCRIPTION, snake

SCHEDULE: Final = "schedule"
STATE: Final = "state"
"""The field of a job that is in a state in which it does not run, or may not."""

FIELDS: Final = (SCHEDULE, "timezone", "target", "retry", "deadline", "description", PAUSED)
"""In this order the digests of what was applied stand in a description."""

KINDS: Final = ("httpTarget", "pubsubTarget", "appEngineHttpTarget")
"""The kinds of targets; a job has one."""

UNFINISHED: Final = "unfinished"
"""Stands for the version of a job that is made or changed in several calls, until the last."""

REASON: Final = 60
"""So many characters of a description are kept free for why somebody paused the job."""


class Marker(NamedTuple):
    """Whose a job is, the digests of what was applied last, and why it is paused."""

    owner: Owner
    applied: Mapping[str, str]
    reason: str = ""

    def text(self, words: str) -> str:
        """Return a description that says so, and then has these words."""
        digests = "".join(self.applied.get(name, _UNKNOWN) for name in FIELDS)
        head = (
            f"{MARKER}: {self.owner.schedule_id} {self.owner.fingerprint} "
            f"deployment={self.owner.deployment} applied={digests}"
        )
        why = " ".join(self.reason.replace('"', "'").split())[: REASON - len(' paused=""')]
        noted = f'{head} paused="{why}"' if why else head
        return f"{noted} - {words}" if words else noted


def read_description(text: str) -> tuple[Marker | None, str]:
    """Return the marker in a description, if there is one, and all other words."""
    found = _MARKER.search(text)
    if found is None:
        return None, text
    digests = zip(FIELDS, _DIGEST.findall(found["applied"]), strict=False)
    marker = Marker(
        Owner(found["deployment"], found["schedule"], found["version"]),
        {name: digest for name, digest in digests if digest != _UNKNOWN},
        found["reason"] or "",
    )
    words = text[found.end() :].removeprefix(" -").lstrip()
    return marker, f"{text[: found.start()]}{words}".strip()


def fitting(words: str, owner: Owner) -> str:
    """Return what of a contract's words has room behind the marker."""
    marker = len(Marker(owner, {}).text("x")) - 1
    return words[: LONGEST_DESCRIPTION - marker - REASON].strip()


def fields_of(document: Mapping[str, Any], words: str | None = None) -> dict[str, Any]:
    """Return the parts of a job's JSON that are compared; ``words`` are instead of its description.

    ``STATE`` is one of them only where the service says that the job cannot run as it is.
    """
    if words is None:
        _, words = read_description(document.get("description", ""))
    state = document.get("state", "ENABLED")
    target = {kind: _target(document[kind]) for kind in KINDS if kind in document}
    found = {
        SCHEDULE: " ".join(document.get("schedule", "").split()),
        "timezone": _zone(document.get("timeZone", "")),
        "target": target,
        "retry": _retry(document.get("retryConfig", {})),
        "deadline": document.get("attemptDeadline", "180s") if "httpTarget" in target else None,
        "description": words,
        PAUSED: state == "PAUSED",
    }
    return {**found, STATE: state} if state in _BROKEN else found


def observed_job(document: Mapping[str, Any]) -> Observed:
    """Return a job as it was read."""
    description = document.get("description", "")
    marker, _ = read_description(description)
    return Observed(
        document["name"].rpartition("/")[2],
        fields_of(document),
        None if marker is None else marker.owner,
        None if marker is None else marker.applied,
        version=hashlib.sha256(description.encode()).hexdigest()[:16],
        is_unfinished=marker is not None and marker.owner.fingerprint == UNFINISHED,
    )


def with_fields(
    document: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    fingerprint: str,
) -> dict[str, Any]:
    """Return a job's JSON with other fields; what stays the same stays as it is written."""
    made = dict(document)
    for name, place in _PLACES.items():
        if after[name] is not None and after[name] != before.get(name):
            made[place] = after[name]
    if after["target"] != before.get("target"):
        made = {key: value for key, value in made.items() if key not in KINDS} | after["target"]
    for kind in KINDS:
        if kind in made:
            made[kind] = _stamped(made[kind], fingerprint)
    return made


def mask_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the paths of what differs, as an update names them; a broken job is written in any case."""
    places = ("description", *_PLACES.values(), *KINDS)
    found = [snake(place) for place in places if before.get(place) != after.get(place)]
    return found or ["description"] * (before.get("state") in _BROKEN)


def update_of(document: Mapping[str, Any], mask: Collection[str]) -> dict[str, Any]:
    """Return what an update with a mask sends."""
    return {key: value for key, value in document.items() if key == "name" or snake(key) in mask}


_BROKEN: Final = frozenset({"DISABLED", "UPDATE_FAILED"})
"""States in which a job does not run, or may not, and that nobody wanted."""

_UNKNOWN: Final = "-" * 8
_DIGEST: Final = re.compile(r"[0-9a-f]{8}|-{8}")
_MARKER: Final = re.compile(
    rf"{MARKER}: (?P<schedule>\S+) (?P<version>\S*) deployment=(?P<deployment>\S+)"
    r" applied=(?P<applied>[0-9a-f-]*)(?: paused=\"(?P<reason>[^\"]*)\")?"
)
_PLACES: Final = {
    SCHEDULE: "schedule",
    "timezone": "timeZone",
    "retry": "retryConfig",
    "deadline": "attemptDeadline",
}
_RETRY: Final = {
    "maxRetryDuration": "0s",
    "minBackoffDuration": "5s",
    "maxBackoffDuration": "3600s",
    "maxDoublings": 5,
}
"""What holds for retries where a job does not say."""

_FINGERPRINT: Final = "ce-puristafingerprint"
_SET_BY_SERVICE: Final = re.compile(
    r"host|content-length|user-agent|x-google-.*|x-appengine-.*|x-cloudscheduler.*"
)
_SECRET: Final = re.compile(r"auth|cookie|token|secret|key|password")


def _zone(name: str) -> str:
    return "Etc/UTC" if name.lower() in ("", "utc", "etc/utc") else name


def _retry(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a job is tried again; where it is not, the other settings say nothing."""
    count = given.get("retryCount", 0)
    return {**_RETRY, **given, "retryCount": count} if count else {"retryCount": 0}


def _target(given: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(given)
    if "topicName" not in given:
        found.setdefault("httpMethod", "POST")
        found["headers"] = dict(_headers(given.get("headers", {})))
    elif "attributes" in given:
        found["attributes"] = _unstamped(given["attributes"])
    if "oidcToken" in given:
        found["oidcToken"] = {"audience": given.get("uri", ""), **given["oidcToken"]}
    if "oauthToken" in given:
        scope = "https://www.googleapis.com/auth/cloud-platform"
        found["oauthToken"] = {"scope": scope, **given["oauthToken"]}
    return found


def _headers(given: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the headers that are somebody's own; what looks like a secret only by its digest."""
    for name, value in _unstamped(given).items():
        key = name.lower()
        default = key == "content-type" and value == "application/octet-stream"
        if default or _SET_BY_SERVICE.fullmatch(key):
            continue
        if _SECRET.search(key):
            value = f"(hidden: {hashlib.sha256(value.encode()).hexdigest()[:8]})"
        yield ("Content-Type" if key == "content-type" else key), value


def _stamped(target: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """Return a target that says a contract's version, where it says its schedule."""
    place = "attributes" if "topicName" in target else "headers"
    given = target.get(place, {})
    if "ce-subject" not in (name.lower() for name in given):
        return dict(target)
    return {**target, place: {**_unstamped(given), _FINGERPRINT: fingerprint}}


def _unstamped(given: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in given.items() if name.lower() != _FINGERPRINT}

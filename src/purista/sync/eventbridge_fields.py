"""A schedule of EventBridge Scheduler as fields that are compared, and as the request that makes it.

A schedule has no tags: whose it is stands in its Description, before the words, with its version and a
digest of each field as it was applied last. The words may be changed by hand, and the rest, too.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from purista.compiling import MARKER, Placed, accepted_text
from purista.plan import PAUSED, UNKNOWN, Desired, Observed, Owner, digests
from purista.schedulers.eventbridge import (
    EVENT_AGE,
    LONGEST_DESCRIPTION,
    MOST_ATTEMPTS,
    words_of,
)

LONGEST_NOTE: Final = 50
"""Characters that are kept free for why a schedule is paused."""

FINGERPRINT: Final = "puristafingerprint"
"""The member of the trigger that names the version; it is no field, for it follows from the others."""

_LETTERS: Final = {
    "expression": "E",
    "timezone": "Z",
    "window": "W",
    PAUSED: "P",
    "description": "D",
    "note": "N",
    "target": "T",
    "input": "I",
    "retries": "R",
    "start": "S",
    "end": "U",
    "after_completion": "A",
    "kms_key": "K",
}
"""A letter for each field, before its digest."""

_NAMES: Final = {letter: name for name, letter in _LETTERS.items()}
_DIGEST: Final = r"[A-Z][\w-]{6}"
_MARKER: Final = re.compile(
    rf"{MARKER}: (?P<id>\S+) (?P<version>[0-9a-f]+) (?P<deployment>[a-z][a-z0-9-]*)"
    rf"(?: (?P<applied>(?:{_DIGEST})+))?(?= |$)"
)
_COMPILED: Final = re.compile(rf"{MARKER}: \S+ [0-9a-f]{{16}}(?= |$)")
_NOTE: Final = re.compile(r"\[paused: (.*)\]$", re.DOTALL)
_BETWEEN: Final = " - "


class Marker(NamedTuple):
    """What stands in a Description: whose it is, what was applied last, and the words."""

    owner: Owner | None
    applied: Mapping[str, str] | None
    words: str


def desired_of(placed: Placed, request: Mapping[str, Any], deployment: str) -> Desired:
    """Return the object that a CreateSchedule request makes."""
    owner = Owner(deployment, placed.schedule.id, placed.fingerprint)
    accepted = accepted_text(placed)
    words = [f"accepted={accepted}" if accepted else "", words_of(placed).strip()]
    room = LONGEST_DESCRIPTION - _marker_length(owner) - LONGEST_NOTE - len(_note_text("."))
    text = _BETWEEN.join(filter(None, words))[:room].strip()
    fields = fields_of(request) | dict(zip(("description", "note"), _parted(text), strict=True))
    return Desired(request["Name"], owner, fields)


def observed_of(found: Mapping[str, Any]) -> Observed:
    """Return the object that an answer of GetSchedule is."""
    owner, applied, _ = marker_of(found)
    if owner is not None:
        applied = applied or dict.fromkeys(_LETTERS, UNKNOWN)
        version = _event(found).get(FINGERPRINT, owner.fingerprint)
        owner = Owner(owner.deployment, owner.schedule_id, str(version))
    return Observed(found["Name"], fields_of(found), owner, applied)


def is_marked(found: Mapping[str, Any]) -> bool:
    """Whether a schedule was made by us, if only from a compiled file."""
    text = found.get("Description") or ""
    return bool(_MARKER.search(text) or _COMPILED.match(text))


def marker_of(found: Mapping[str, Any]) -> Marker:
    """Return what a Description says; all of it are words where it has no marker."""
    text = found.get("Description") or ""
    marker = _MARKER.search(text)
    if marker is None:
        return Marker(None, None, text.strip())
    owner = Owner(marker["deployment"], marker["id"], marker["version"])
    parts = (text[: marker.start()], text[marker.end() :].strip().removeprefix(_BETWEEN.strip()))
    words = " ".join(filter(None, (each.strip() for each in parts)))
    return Marker(owner, dict(_digests(marker["applied"] or "")) or None, words)


def fields_of(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request, or of an answer; what AWS puts in by itself stands there, too."""
    target = {name: value for name, value in found["Target"].items() if value is not None}
    target.pop("Input", None)
    retries = target.pop("RetryPolicy", {})
    description, note = _parted(marker_of(found).words)
    return {
        "expression": found["ScheduleExpression"],
        "timezone": found.get("ScheduleExpressionTimezone") or "UTC",
        "window": found["FlexibleTimeWindow"].get("MaximumWindowInMinutes") or 0,
        PAUSED: found.get("State") == "DISABLED",
        "description": description,
        "note": note,
        "target": target,
        "input": _input(found),
        "retries": {
            "MaximumEventAgeInSeconds": retries.get("MaximumEventAgeInSeconds", EVENT_AGE[1]),
            "MaximumRetryAttempts": retries.get("MaximumRetryAttempts", MOST_ATTEMPTS),
        },
        "start": _time_text(found.get("StartDate")),
        "end": _time_text(found.get("EndDate")),
        "after_completion": found.get("ActionAfterCompletion") or "NONE",
        "kms_key": found.get("KmsKeyArn") or None,
    }


def request_of(
    name: str,
    group: str,
    owner: Owner,
    applied: Mapping[str, str],
    fields: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the request that gives a schedule these fields; UpdateSchedule replaces everything.

    A StartDate that is over is left out where it says nothing any more, for AWS would refuse it.
    """
    minutes = fields["window"]
    window = {"Mode": "FLEXIBLE", "MaximumWindowInMinutes": minutes} if minutes else {"Mode": "OFF"}
    target = {**fields["target"], "RetryPolicy": fields["retries"]}
    text = _input_text(fields["input"], owner.fingerprint)
    if text is not None:
        target["Input"] = text
    made = {
        "Name": name,
        "GroupName": group,
        "Description": _description(owner, applied, fields),
        "ScheduleExpression": fields["expression"],
        "ScheduleExpressionTimezone": fields["timezone"],
        "FlexibleTimeWindow": window,
        "State": "DISABLED" if fields[PAUSED] else "ENABLED",
        "Target": target,
        "ActionAfterCompletion": fields["after_completion"],
        "StartDate": _start(fields),
        "EndDate": _time(fields["end"]),
        "KmsKeyArn": fields["kms_key"],
    }
    return {key: value for key, value in made.items() if value is not None}


def _description(owner: Owner, applied: Mapping[str, str], fields: Mapping[str, Any]) -> str:
    marker = _marker_text(owner, applied)
    room = LONGEST_DESCRIPTION - len(marker) - len(_BETWEEN)
    note, words = fields["note"], fields["description"]
    if note:
        left = max(room - len(words) - len(_note_text("")) - 1, LONGEST_NOTE)
        note = _note_text(note[:left])
        words = f"{words[: room - len(note) - 1]} {note}".strip()
    return f"{marker}{_BETWEEN}{words[:room]}" if words else marker


def _marker_text(owner: Owner, applied: Mapping[str, str]) -> str:
    text = f"{MARKER}: {owner.schedule_id} {owner.fingerprint} {owner.deployment}"
    packed = "".join(
        letter + urlsafe_b64encode(bytes.fromhex(applied[name])).decode().rstrip("=")
        for name, letter in _LETTERS.items()
        if applied.get(name)
    )
    return f"{text} {packed}" if packed else text


def _marker_length(owner: Owner) -> int:
    """Return how long a marker is, with what is put between it and the words."""
    return len(_marker_text(owner, digests(dict.fromkeys(_LETTERS)))) + len(_BETWEEN)


def _digests(text: str) -> Iterator[tuple[str, str]]:
    for each in re.findall(_DIGEST, text):
        if each[0] in _NAMES:
            yield _NAMES[each[0]], urlsafe_b64decode(f"{each[1:]}==").hex()


def _parted(words: str) -> tuple[str, str]:
    """Return the description and why it is paused."""
    note = _NOTE.search(words)
    return (words, "") if note is None else (words[: note.start()].strip(), note[1])


def _note_text(note: str) -> str:
    return f"[paused: {note}]"


def _event(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a target gets, where that is a JSON object."""
    try:
        event = json.loads(found["Target"].get("Input") or "")
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _input(found: Mapping[str, Any]) -> Any:
    event = _event(found)
    if not event:
        return found["Target"].get("Input")
    if FINGERPRINT not in event:
        return {**event, FINGERPRINT: None}
    return {name: value for name, value in event.items() if name != FINGERPRINT}


def _input_text(value: Any, fingerprint: str) -> str | None:
    if not isinstance(value, Mapping):
        return None if value is None else str(value)
    if FINGERPRINT not in value:
        return json.dumps({**value, FINGERPRINT: fingerprint})
    return json.dumps({name: each for name, each in value.items() if name != FINGERPRINT})


def _start(fields: Mapping[str, Any]) -> datetime | None:
    start = _time(fields["start"])
    if start is None or start > datetime.now(UTC) or fields["expression"].startswith("rate("):
        return start
    return None


def _time_text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

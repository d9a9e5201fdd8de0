"""A schedule of Temporal as the fields that are compared, and back.

Each field of the spec, the action and the policies is one of its own, None where it is not set, so that what
a person adds is seen. In the notes a pause of ours has the last line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from purista.compiling import MARKER
from purista.errors import MissingExtraError
from purista.plan import NOTE, PAUSED, UNKNOWN, Desired, digests

try:
    from google.protobuf.json_format import MessageToDict, ParseDict
    from google.protobuf.message import Message
    from temporalio.api.common.v1 import Payload, Payloads
    from temporalio.api.schedule.v1 import Schedule
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for Temporal", "temporal") from None

NOTES: Final = "notes"
LIMIT: Final = "remainingActions"
"""How often it still fires; None for ever."""
WRITE: Final = "write"
"""What tells the writes of a schedule apart, beside what was applied."""

_SPEC, _ACTION, _POLICIES = "spec", "action", "policies"
_INPUT: Final = "action.input"
"""The arguments of the workflow, as JSON where they are written so."""

_RANGES: Final = ("second", "minute", "hour", "dayOfMonth", "month", "year", "dayOfWeek")
_PAUSED_WORD: Final = "paused: "
_ENCODING: Final = b"json/plain"
_NO_TIME: Final = "0s"


def fields_of(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as the server writes it, in the parts that are compared."""
    copy = Schedule()
    copy.CopyFrom(schedule)
    action, state = copy.action.start_workflow, copy.state
    action.memo.fields.pop(MARKER, None)
    if not action.memo.fields:
        action.ClearField("memo")
    action.task_queue.ClearField("kind")
    notes, note = _parted(state.notes)
    return {
        **{f"{_SPEC}.{name}": _written(name, value) for name, value in _parts(copy.spec)},
        **{f"{_ACTION}.{name}": value for name, value in _parts(action)},
        _INPUT: _arguments(action.input) or None,
        **{f"{_POLICIES}.{name}": value for name, value in _parts(copy.policies)},
        NOTES: notes,
        NOTE: note,
        PAUSED: state.paused,
        LIMIT: state.remaining_actions if state.limited_actions else None,
    }


def part(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return what is set of the spec, the action or the policies.

    >>> part({"spec.jitter": "5s", "spec.interval": None, "notes": ""}, "spec")
    {'jitter': '5s'}
    """
    found = {key.partition(".")[::2]: value for key, value in fields.items() if value is not None}
    return {key: value for (whole, key), value in found.items() if whole == name and key}


def schedule_of(desired: Desired, fields: Mapping[str, Any], write: str) -> Schedule:
    """Return a schedule with these fields, and what tells that they were applied, and by which write."""
    document = {
        "spec": part(fields, _SPEC),
        "action": {"startWorkflow": part({**fields, _INPUT: _payloads(fields[_INPUT])}, _ACTION)},
        "policies": part(fields, _POLICIES),
        "state": {"notes": notes_with(fields[NOTES], fields[NOTE]), "paused": fields[PAUSED]},
    }
    if fields[LIMIT] is not None:
        document["state"] |= {"limitedActions": True, "remainingActions": fields[LIMIT]}
    message = ParseDict(document, Schedule())
    said = {name: value for name, value in desired.fields.items() if value is not None}
    told = {"version": desired.owner.fingerprint, "applied": digests(said), WRITE: write}
    message.action.start_workflow.memo.fields[MARKER].CopyFrom(payload(told))
    return message


def applied_of(told: Mapping[str, Any], fields: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the digest of each field as it was applied last; what was None is not told.

    Where nothing is told a person wrote the schedule anew, as Temporal's command line does.
    """
    applied = told.get("applied")
    if not isinstance(applied, Mapping):
        return dict.fromkeys(fields, UNKNOWN)
    return {**digests(dict.fromkeys(fields)), **applied}


def notes_with(notes: str, note: str) -> str:
    """Return notes that say why a schedule is paused."""
    return "\n".join(filter(None, [notes, note and f"{_PAUSED_WORD}{note}"]))


def payload(value: Any) -> Payload:
    """Return a value as a payload."""
    data = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    return Payload(metadata={"encoding": _ENCODING}, data=data)


def read(found: Payload | None) -> Any:
    """Return the value of a payload; None where it is not ours."""
    if found is None or found.metadata.get("encoding") != _ENCODING:
        return None
    try:
        return json.loads(found.data)
    except ValueError:
        return None


def _arguments(found: Payloads) -> Any:
    """Return the arguments as a list of their values; as they are written where one is no JSON."""
    values = [read(each) for each in found.payloads]
    is_json = all(_is_plain(each) for each in found.payloads) and None not in values
    return values if is_json else MessageToDict(found)


def _is_plain(found: Payload) -> bool:
    return dict(found.metadata) == {"encoding": _ENCODING}


def _payloads(arguments: Any) -> Any:
    """Return arguments as they are written."""
    if not isinstance(arguments, list):
        return arguments
    return MessageToDict(Payloads(payloads=[payload(each) for each in arguments]))


def _parts(message: Message) -> list[tuple[str, Any]]:
    document = MessageToDict(message)
    return [
        (each.json_name, _said(document.get(each.json_name))) for each in message.DESCRIPTOR.fields
    ]


def _said(value: Any) -> Any:
    """Return None for what says as little as nothing; the SDKs write some of that."""
    return None if value == _NO_TIME else value or None


def _written(name: str, value: Any) -> Any:
    """Return what says when as the server writes it, with the end and the step of each range."""
    if name == "interval":
        return value and [{"phase": _NO_TIME, **each} for each in value]
    if name not in ("structuredCalendar", "excludeStructuredCalendar"):
        return value
    for calendar in value or ():
        for unit in _RANGES:
            for each in calendar.get(unit, ()):
                each["end"] = max(each.get("end", 0), each.get("start", 0))
                each.setdefault("step", 1)
    return value


def _parted(text: str) -> tuple[str, str]:
    """Return notes without their last line, where that is a pause, and its reason."""
    before, _, last = text.rpartition("\n")
    if not last.startswith(_PAUSED_WORD):
        return text, ""
    return before, last.removeprefix(_PAUSED_WORD)

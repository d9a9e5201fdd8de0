"""The trigger: what a scheduler sends when a schedule fires, as a value and as a CloudEvents 1.0 event.

The event is described by https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, its
JSON form by ``formats/json-format.md`` and its HTTP headers by ``bindings/http-protocol-binding.md``
in the same place.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any, Final, NoReturn, Self, TypeVar

from purista.errors import Problem, TriggerError

TYPE = "dev.purista.schedule.trigger"
"""The ``type`` of a trigger's event."""

SPECVERSION = "1.0"
MAX_TEXT = 1024
"""Longest text of an attribute, in characters."""

MAX_BYTES = 1024 * 1024
"""Largest event, in bytes; no scheduler sends more than 1 MB."""


class Unset(Enum):
    """The type of ``UNSET``."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset.UNSET
"""No data: the payload comes from the contract's template. JSON ``null`` is data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """A schedule fired, or a person wants it to.

    ``nominal_time`` is the slot, aware, and kept in UTC; None when the scheduler cannot tell it.
    ``source`` names the scheduler. An ``id`` that is not given is made of the schedule, the nominal
    time and the data. ``data`` is JSON and overrides the contract's payload template. Raises
    ``TriggerError``.

    >>> slot = datetime(2027, 3, 1, 1, tzinfo=UTC)
    >>> Trigger(schedule_id="billing.v1.close", nominal_time=slot, source="cron").id
    '9ce3111b-65d5-8ce0-bcc5-2486c4c93b6c'
    """

    schedule_id: str
    nominal_time: datetime | None
    source: str
    id: str = ""
    fingerprint: str | None = None
    data: Any = field(default=UNSET, hash=False, repr=False)
    manual: bool = False

    def __post_init__(self) -> None:
        problems = [
            *_text_problems("subject", self.schedule_id, "send the schedule's id"),
            *_text_problems("source", self.source, "name the scheduler"),
        ]
        if self.id != "":
            problems += _text_problems("id", self.id, "leave it out to have it made")
        if self.fingerprint is not None:
            remedy = "send the one of the manifest, or none"
            problems += _text_problems("puristafingerprint", self.fingerprint, remedy)
        nominal_time = _collect(problems, _checked_time, self.nominal_time)
        data = _collect(problems, _checked_data, self.data)
        if problems:
            _refuse(problems)
        object.__setattr__(self, "nominal_time", nominal_time)
        object.__setattr__(self, "data", data)
        if not self.id:
            object.__setattr__(self, "id", run_id_of(self.schedule_id, nominal_time, data))

    @property
    def has_data(self) -> bool:
        """Whether the trigger brings a payload; ``null`` is one."""
        return self.data is not UNSET

    @classmethod
    def from_cloudevent(cls, event: Mapping[str, Any]) -> Self:
        """Read an event's JSON object. Unknown extensions are ignored. Raises ``TriggerError``."""
        if not isinstance(event, Mapping):
            _refuse([Problem("event", f"it is {_kind(event)}, not an object", _SEND_EVENT)])
        problems = [
            *_version_problems(event),
            *_type_problems(event),
            *_content_problems(event),
        ]
        for name, remedy in _REQUIRED.items():
            problems += _text_problems(name, event.get(name), remedy)
        nominal_time = _collect(problems, _nominal_time, event.get("time"))
        manual = _collect(problems, _manual, event.get("puristamanual"))
        if problems:
            _refuse(problems)
        return cls(
            schedule_id=event["subject"],
            nominal_time=nominal_time,
            source=event["source"],
            id=event["id"],
            fingerprint=event.get("puristafingerprint"),
            data=event.get("data", UNSET),
            manual=bool(manual),
        )

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read an event in the JSON format, UTF-8. Raises ``TriggerError``."""
        return cls.from_cloudevent(_parse(text, "event"))

    @classmethod
    def from_headers(
        cls, headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes
    ) -> Self:
        """Read an event from an HTTP request, whatever the case of its header names.

        Either its attributes are in ``ce-`` headers and the body is the data (no body: no data), or
        the content type says that the body is the whole event. Raises ``TriggerError``.
        """
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        found: dict[str, str] = {}
        problems = []
        for name, value in pairs:
            attribute = _attribute(name)
            if attribute in found:
                problems.append(Problem(f"header '{attribute}'", "it is there twice", "send one"))
            elif attribute is not None:
                found[attribute] = value
        if problems:
            _refuse(problems)
        kind = _media_type(found.get(_CONTENT_TYPE, ""))
        if kind == "application/cloudevents+json":
            return cls.from_json(body)
        if kind.startswith("application/cloudevents"):
            _refuse([Problem("header 'content-type'", f"'{kind}' is not taken", _SEND_EVENT)])
        return cls.from_cloudevent(_binary_event(found, body))

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the event as a JSON object; ``from_cloudevent`` gives an equal trigger."""
        event: dict[str, Any] = {
            "specversion": SPECVERSION,
            "id": self.id,
            "source": self.source,
            "type": TYPE,
            "subject": self.schedule_id,
        }
        if self.nominal_time is not None:
            event["time"] = self.nominal_time.isoformat().replace("+00:00", "Z")
        if self.fingerprint is not None:
            event["puristafingerprint"] = self.fingerprint
        if self.manual:
            event["puristamanual"] = "true"
        if self.has_data:
            event["datacontenttype"] = "application/json"
            event["data"] = copy.deepcopy(self.data)
        return event


def run_id_of(schedule_id: str, nominal_time: datetime | None, data: Any = UNSET) -> str:
    """Return the id of the run for a schedule's nominal time: the same for the same, everywhere.

    Triggers with data of their own are other runs. A UUID of version 8 (RFC 9562, section 5.8), made
    of the first 122 bits of a SHA-256.

    >>> slot = datetime(2027, 3, 1, 1, tzinfo=UTC)
    >>> run_id_of("billing.v1.close", slot)
    '9ce3111b-65d5-8ce0-bcc5-2486c4c93b6c'
    """
    import hashlib

    parts: list[Any] = [schedule_id, None]
    if nominal_time is not None:
        parts[1] = nominal_time.astimezone(UTC).isoformat()
    if data is not UNSET:
        parts.append(data)
    digits = hashlib.sha256(_canonical(parts)).hexdigest()
    variant = "89ab"[int(digits[16], 16) & 3]
    groups = (
        digits[:8],
        digits[8:12],
        f"8{digits[13:16]}",
        f"{variant}{digits[17:20]}",
        digits[20:32],
    )
    return "-".join(groups)


_SEND_EVENT = "send one CloudEvents 1.0 event as a JSON object"
_REQUIRED = {
    "id": "send one that is the same for the same schedule and nominal time",
    "source": "name the scheduler",
    "subject": "send the schedule's id",
}
_CONTENT_TYPE = "content-type"
_NAIVE = Problem(
    "attribute 'time'", "it has no offset from UTC", "end it with Z or an offset such as +01:00"
)
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?([Zz]|([+-])(\d\d):(\d\d))?\Z",
    re.ASCII,
)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What a CloudEvents String may not hold: control characters, surrogates, non-characters."""


def _text_problems(name: str, value: object, remedy: str) -> Iterator[Problem]:
    place = f"attribute '{name}'"
    if value is None or value == "":
        yield Problem(place, "it is missing", remedy)
    elif not isinstance(value, str):
        yield _wrong_kind(name, value, "text")
    elif len(value) > MAX_TEXT:
        yield Problem(place, f"it has {len(value)} characters", f"send at most {MAX_TEXT}")
    elif _UNFIT.search(value):
        yield Problem(place, "it has control characters or broken Unicode", "send plain text")


def _checked_time(value: object) -> datetime | None:
    """Return the instant in UTC."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise _Wrong(_wrong_kind("time", value, "an aware datetime"))
    if value.utcoffset() is None:
        raise _Wrong(_NAIVE)
    return _in_utc(value)


def _checked_data(value: object) -> Any:
    """Return a private copy, as JSON sees it."""
    if value is UNSET:
        return UNSET
    try:
        _canonical(value)
        return json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        problem = Problem("attribute 'data'", "it is no JSON value", "send JSON")
        raise _Wrong(problem) from None


def _version_problems(event: Mapping[str, Any]) -> Iterator[Problem]:
    version, remedy = event.get("specversion"), f"send '{SPECVERSION}'"
    wrong = list(_text_problems("specversion", version, remedy))
    yield from wrong
    if not wrong and version != SPECVERSION:
        yield Problem("attribute 'specversion'", f"{_short(version)} is not known", remedy)


def _type_problems(event: Mapping[str, Any]) -> Iterator[Problem]:
    kind, remedy = event.get("type"), f"send '{TYPE}'"
    wrong = list(_text_problems("type", kind, remedy))
    yield from wrong
    if not wrong and kind != TYPE:
        yield Problem("attribute 'type'", f"{_short(kind)} is not a trigger's", remedy)


def _content_problems(event: Mapping[str, Any]) -> Iterator[Problem]:
    if event.get("data_base64") is not None:
        yield Problem("attribute 'data_base64'", "binary data is not taken", "send JSON as 'data'")
    kind = event.get("datacontenttype")
    if "data" not in event or kind is None:
        return
    if not isinstance(kind, str):
        yield _wrong_kind("datacontenttype", kind, "text")
    elif not _is_json(kind):
        remedy = "send 'application/json' and JSON data"
        yield Problem("attribute 'datacontenttype'", f"{_short(kind)} is not JSON in UTF-8", remedy)


def _nominal_time(value: object) -> datetime | None:
    """Read an RFC 3339 time; digits beyond microseconds are cut off."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _Wrong(_wrong_kind("time", value, "RFC 3339 text"))
    found = _INSTANT.match(value) if len(value) <= MAX_TEXT else None
    if found is None:
        raise _Wrong(_no_time(value))
    date, minutes, seconds, fraction, zone, sign, hours_off, minutes_off = found.groups()
    if zone is None:
        raise _Wrong(_NAIVE)
    if seconds == "60":
        remedy = "no expression names a leap second; send the second before or after it"
        raise _Wrong(Problem("attribute 'time'", "it is a leap second", remedy))
    offset = timedelta(0)
    if sign is not None:
        if int(hours_off) > 23 or int(minutes_off) > 59:
            raise _Wrong(_no_time(value))
        offset = timedelta(hours=int(hours_off), minutes=int(minutes_off))
    try:
        local = datetime.fromisoformat(f"{date}T{minutes}{seconds}")
    except ValueError:
        raise _Wrong(_no_time(value)) from None
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    zoned = timezone(-offset if sign == "-" else offset)
    return _in_utc(local.replace(microsecond=micros, tzinfo=zoned))


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        remedy = "send a time between the years 1 and 9999 in UTC"
        raise _Wrong(Problem("attribute 'time'", "it is out of range", remedy)) from None


def _no_time(value: str) -> Problem:
    remedy = "send RFC 3339, such as 2027-03-01T01:00:00Z"
    return Problem("attribute 'time'", f"{_short(value)} is no time", remedy)


def _manual(value: object) -> bool:
    if value is None or value is False or value == "false":
        return False
    if value is True or value == "true":
        return True
    raise _Wrong(Problem("attribute 'puristamanual'", "it is not 'true' or 'false'", "send 'true'"))


def _attribute(header: str) -> str | None:
    """Return the CloudEvents attribute of an HTTP header, if it has one."""
    name = header.lower()
    if name == _CONTENT_TYPE:
        return name
    return name.removeprefix("ce-") if name.startswith("ce-") else None


def _binary_event(found: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the JSON object of an event whose attributes are in headers."""
    event: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in found.items():
        if name not in ("data", _CONTENT_TYPE, "datacontenttype"):
            event[name] = _collect(problems, _decoded, (name, value))
    if problems:
        _refuse(problems)
    if body:
        kind = found.get(_CONTENT_TYPE, "application/json")
        event["datacontenttype"], event["data"] = kind, None
        if _is_json(kind):
            event["data"] = _parse(body, "body")
    return event


def _decoded(header: tuple[str, str]) -> str:
    """Undo the quoting and the percent-encoding of a header's value (HTTP binding, 3.1.3.2)."""
    name, value = header
    value = value.strip(" \t")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    encoded = re.sub(
        rb"%([0-9A-Fa-f]{2})",
        lambda found: bytes([int(found[1], 16)]),
        value.encode("utf-8", "surrogatepass"),
    )
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        problem = Problem(f"header 'ce-{name}'", "it is not UTF-8", "percent-encode UTF-8")
        raise _Wrong(problem) from None


def _parse(text: bytes | str, place: str) -> Any:
    if len(text) > MAX_BYTES:
        message = f"it is larger than {MAX_BYTES} bytes"
        _refuse([Problem(place, message, "send a reference instead of the data")])
    try:
        decoded = text if isinstance(text, str) else text.decode()
        return json.loads(
            decoded, parse_constant=_no_constant, object_pairs_hook=_without_repetition
        )
    except (ValueError, RecursionError):
        return _refuse([Problem(place, "it is not JSON in UTF-8", _SEND_EVENT)])


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is there twice")
    return found


def _canonical(value: Any) -> bytes:
    """Return the same bytes for the same JSON value; raises what ``json`` raises for any other."""
    text = json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def _plain(value: Any) -> Any:
    """Return the JSON value with one spelling for each number: 1.0 is 1, as RFC 8785 writes it."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a key is not text")
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(content_type: str) -> bool:
    """Whether it is JSON in UTF-8, the only encoding of JSON that is sent (RFC 8259, section 8.1)."""
    kind = _media_type(content_type)
    charset = _CHARSET.search(content_type)
    is_utf8 = charset is None or charset[1].lower() in ("utf-8", "utf8", "us-ascii")
    return is_utf8 and (kind in ("application/json", "text/json") or kind.endswith("+json"))


def _wrong_kind(name: str, value: object, wanted: str) -> Problem:
    return Problem(f"attribute '{name}'", f"it is {_kind(value)}", f"send {wanted}")


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a boolean"}
    kinds |= {int: "a number", float: "a number", type(None): "null"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...'"


_Read = TypeVar("_Read")


class _Wrong(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def _collect(problems: list[Problem], read: Callable[[Any], _Read], value: object) -> _Read | None:
    """Read a value; note what is wrong with it."""
    try:
        return read(value)
    except _Wrong as wrong:
        problems.append(wrong.problem)
        return None


def _refuse(problems: list[Problem]) -> NoReturn:
    told = [str(problem.within("trigger")) for problem in problems]
    raise TriggerError("\n".join(told))

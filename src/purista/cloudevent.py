"""The trigger's event: CloudEvents 1.0 in its JSON form and in HTTP headers, checked and taken apart.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md, and beside it
``formats/json-format.md`` and ``bindings/http-protocol-binding.md``. Messages name attributes and
never hold data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NoReturn, TypeVar

from purista.errors import Problem, TriggerError
from purista.jsonvalue import NotJsonError, read_document

TYPE = "dev.purista.schedule.trigger"
"""The ``type`` of a trigger's event."""

SPECVERSION = "1.0"
MAX_TEXT = 1024
"""Longest text of an attribute, in characters."""

MAX_BYTES = 1024 * 1024
"""Largest event, in bytes; no scheduler sends more than 1 MB."""

T = TypeVar("T")


class WrongError(Exception):
    """One thing is wrong; caught by ``collect``."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


def collect(problems: list[Problem], read: Callable[[object], T], value: object) -> T | None:
    """Return what ``read`` makes of a value; note what is wrong with it."""
    try:
        return read(value)
    except WrongError as wrong:
        problems.append(wrong.problem)
        return None


def refuse(problems: Iterable[Problem]) -> NoReturn:
    """Raise all problems as one ``TriggerError``."""
    raise TriggerError("\n".join(str(problem.within("trigger")) for problem in problems))


def read_event(event: object) -> dict[str, Any]:
    """Return the keyword arguments of the trigger that an event's JSON object is.

    Unknown extensions are ignored; an attribute that is null is as good as absent, except ``data``.
    """
    if not isinstance(event, Mapping):
        refuse([Problem("event", f"it is {_kind(event)}, not an object", _SEND_EVENT)])
    problems: list[Problem] = []
    if event.get("specversion") != SPECVERSION:
        problems += _version_problems(event)
    if event.get("type") != TYPE:
        problems += _type_problems(event)
    problems += _content_problems(event)
    for name, remedy in _REQUIRED.items():
        if not is_text(event.get(name)):
            problems += text_problems(name, event.get(name), remedy)
    found = {
        "schedule_id": event.get("subject"),
        "nominal_time": collect(problems, _nominal_time, event.get("time")),
        "source": event.get("source"),
        "id": event.get("id"),
        "fingerprint": collect(problems, _fingerprint, event.get("puristafingerprint")),
        "manual": collect(problems, _manual, event.get("puristamanual")),
    }
    if problems:
        refuse(problems)
    return found | ({"data": event["data"]} if "data" in event else {})


def read_text(text: bytes | str, place: str = "event") -> Any:
    """Return the JSON value of an event, or of a body that is its data."""
    if len(text) > MAX_BYTES:
        remedy = "send a reference in place of the data"
        refuse([Problem(place, f"it is larger than {MAX_BYTES} bytes", remedy)])
    try:
        return read_document(text)
    except NotJsonError as error:
        return refuse([Problem(place, f"it is not JSON: {_short(str(error))}", _SEND_EVENT)])


def read_headers(
    headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes
) -> dict[str, Any]:
    """Return the JSON object of an event that came as an HTTP request."""
    found = _attributes(headers.items() if isinstance(headers, Mapping) else headers)
    content_type = found.pop(_CONTENT_TYPE, None)
    kind = _media_type(content_type or "")
    if kind == "application/cloudevents+json":
        event: dict[str, Any] = read_text(body)
        return event
    if kind.startswith("application/cloudevents"):
        remedy = "send one event as 'application/cloudevents+json'"
        refuse([Problem(f"header '{_CONTENT_TYPE}'", f"{_short(kind)} is not taken", remedy)])
    problems: list[Problem] = []
    event = {name: collect(problems, _decoded, (name, text)) for name, text in found.items()}
    if problems:
        refuse(problems)
    if body:
        event["datacontenttype"] = content_type
        is_json = content_type is None or _is_json(content_type)
        event["data"] = read_text(body, "body") if is_json else None
    return event


def is_text(value: object) -> bool:
    """Whether a value is the text of an attribute; ``text_problems`` says why it is not."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        return False
    return (value.isascii() and value.isprintable()) or not _UNFIT.search(value)


def text_problems(name: str, value: object, remedy: str) -> Iterator[Problem]:
    """Say why a value is not the text of an attribute."""
    place = f"attribute '{name}'"
    if value is None or value == "":
        yield Problem(place, "it is missing", remedy)
    elif not isinstance(value, str):
        yield wrong_kind(name, value, "text")
    elif len(value) > MAX_TEXT:
        yield Problem(place, f"it has {len(value)} characters", f"send at most {MAX_TEXT}")
    elif _UNFIT.search(value):
        yield Problem(place, "it has control characters or broken Unicode", "send plain text")


def wrong_kind(name: str, value: object, wanted: str) -> Problem:
    """Say that an attribute has a value of the wrong type."""
    return Problem(f"attribute '{name}'", f"it is {_kind(value)}", f"send {wanted}")


def to_utc(instant: datetime) -> datetime:
    """Return an instant in UTC."""
    if instant.tzinfo is UTC:
        return instant
    if instant.utcoffset() is None:
        remedy = "end it with Z or an offset such as +01:00"
        raise WrongError(Problem("attribute 'time'", "it has no offset from UTC", remedy))
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        remedy = "send a time between the years 1 and 9999 in UTC"
        raise WrongError(Problem("attribute 'time'", "it is out of range", remedy)) from None


_SEND_EVENT = "send one CloudEvents 1.0 event as a JSON object"
_CONTENT_TYPE = "content-type"
_REQUIRED = {
    "id": "send one that is the same for the same schedule and nominal time",
    "source": "name the scheduler",
    "subject": "send the schedule's id",
}
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:)(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d)|(\Z))\Z",
    re.ASCII,
)
_WHOLE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What a CloudEvents String may not hold: control characters, surrogates, non-characters."""


def _version_problems(event: Mapping[str, Any]) -> Iterator[Problem]:
    version, remedy = event.get("specversion"), f"send '{SPECVERSION}'"
    wrong = list(text_problems("specversion", version, remedy))
    yield from wrong
    if not wrong and version != SPECVERSION:
        yield Problem("attribute 'specversion'", f"{_short(version)} is not known", remedy)


def _type_problems(event: Mapping[str, Any]) -> Iterator[Problem]:
    kind, remedy = event.get("type"), f"send '{TYPE}'"
    wrong = list(text_problems("type", kind, remedy))
    yield from wrong
    if not wrong and kind != TYPE:
        yield Problem("attribute 'type'", f"{_short(kind)} is not that of a trigger", remedy)


def _content_problems(event: Mapping[str, Any]) -> Iterator[Problem]:
    if event.get("data_base64") is not None:
        yield Problem("attribute 'data_base64'", "binary data is not taken", "send JSON as 'data'")
    kind = event.get("datacontenttype")
    if "data" not in event or kind is None:
        return
    if not isinstance(kind, str):
        yield wrong_kind("datacontenttype", kind, "text")
    elif not _is_json(kind):
        message = f"{_short(kind)} is not JSON in UTF-8"
        yield Problem("attribute 'datacontenttype'", message, "send 'application/json'")


def _nominal_time(value: object) -> datetime | None:
    """Read an RFC 3339 time; digits beyond microseconds are cut off."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise WrongError(wrong_kind("time", value, "RFC 3339 text"))
    if _WHOLE.fullmatch(value):
        return _whole(value)
    found = _INSTANT.match(value) if len(value) <= MAX_TEXT else None
    if found is None:
        raise WrongError(_no_time(value))
    date, minutes, seconds, fraction, sign, hours_off, minutes_off, end = found.groups()
    if seconds == "60":
        raise WrongError(_leap_second())
    try:
        local = datetime.fromisoformat(f"{date}T{minutes}{seconds}")
    except ValueError:
        raise WrongError(_no_time(value)) from None
    local = local.replace(microsecond=int((fraction or "0")[:6].ljust(6, "0")))
    if end is not None:
        return to_utc(local)
    hours, rest = int(hours_off or 0), int(minutes_off or 0)
    if hours > 23 or rest > 59:
        raise WrongError(_no_time(value))
    offset = timedelta(hours=hours, minutes=rest)
    return to_utc(local.replace(tzinfo=timezone(-offset if sign == "-" else offset)))


def _whole(value: str) -> datetime:
    """Read what nearly every scheduler sends: whole seconds in UTC."""
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise WrongError(_leap_second() if value[17:19] == "60" else _no_time(value)) from None


def _leap_second() -> Problem:
    remedy = "no expression names a leap second; send the second before or after it"
    return Problem("attribute 'time'", "it is a leap second", remedy)


def _no_time(value: str) -> Problem:
    remedy = "send RFC 3339, such as 2027-03-01T01:00:00Z"
    return Problem("attribute 'time'", f"{_short(value)} is no time", remedy)


def _fingerprint(value: object) -> str | None:
    if value is None:
        return None
    remedy = "send the one of the manifest, or leave it out"
    for problem in text_problems("puristafingerprint", value, remedy):
        raise WrongError(problem)
    return str(value)


def _manual(value: object) -> bool:
    """Read a Boolean: a JSON boolean, or its text in a header."""
    if value is None or value is False or value == "false":
        return False
    if value is True or value == "true":
        return True
    problem = Problem("attribute 'puristamanual'", "it is not 'true' or 'false'", "send 'true'")
    raise WrongError(problem)


def _attributes(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the values of the headers that are attributes, by attribute, and the content type."""
    found: dict[str, str] = {}
    problems = []
    for header, value in headers:
        name = header.lower()
        if name != _CONTENT_TYPE and not name.startswith("ce-"):
            continue
        attribute = name.removeprefix("ce-")
        if attribute in found:
            problems.append(Problem(f"header {_short(name)}", "it is there twice", "send one"))
        found[attribute] = value
    if problems:
        refuse(problems)
    for name in ("data", "datacontenttype"):
        found.pop(name, None)
    return found


def _decoded(header: object) -> str:
    """Undo the quoting and the percent-encoding of a header's value (HTTP binding, 3.1.3.2)."""
    assert isinstance(header, tuple)
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
        place = f"header {_short(f'ce-{name}')}"
        raise WrongError(Problem(place, "it is not UTF-8", "percent-encode UTF-8")) from None


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(content_type: str) -> bool:
    """Whether it is JSON in UTF-8, the only encoding of JSON that is sent (RFC 8259, section 8.1)."""
    kind = _media_type(content_type)
    charset = _CHARSET.search(content_type)
    is_utf8 = charset is None or charset[1].lower() in ("utf-8", "utf8", "us-ascii")
    return is_utf8 and (kind in ("application/json", "text/json") or kind.endswith("+json"))


def _kind(value: object) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "text", bool: "a boolean"}
    kinds |= {int: "a number", float: "a number", type(None): "null"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def _short(text: object) -> str:
    """Return a text from outside for a message: on one line, and not long."""
    shown = ascii(text)[1:-1]
    return f"'{shown}'" if len(shown) <= 60 else f"'{shown[:57]}...'"

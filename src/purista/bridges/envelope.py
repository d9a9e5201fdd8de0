"""A message on the wire: CloudEvents 1.0 in binary mode, so that a stranger can write and read it.

The body is the payload's JSON as it is; the attributes travel in the broker's own headers, each under
a prefix that the binding names (``ce-`` over NATS, https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
and over HTTP). Nothing is encoded twice, and a broker's tools show what a message is without reading
its body. What belongs to a run are extension attributes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import quote, unquote

from purista.bridges.port import ErrorReply, Reply
from purista.cloudevent import SPECVERSION
from purista.errors import BridgeError
from purista.jsonvalue import NotJsonError, read_document, read_strictly
from purista.message import Message, RunInfo

SOURCE: Final = "purista"
"""The ``source`` of what this package sends."""

CONTENT_TYPE: Final = "content-type"
JSON: Final = "application/json"
STRUCTURED: Final = "application/cloudevents+json"
PREFIXES: Final = ("ce-", "cloudEvents:", "cloudEvents_")
"""What attributes begin with; those of AMQP are from its binding
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/amqp-protocol-binding.md)."""

_ID: Final = "purista-id"
"""The header with the message's own id, where it carries another's event whose id has to stay."""

_KEPT: Final = "purista-headers"
"""The header that holds those headers, as JSON, whose names or values no header can hold."""

_ERROR: Final = "purista-error"
"""The header that says of which kind the error in a reply is."""

_KINDS: Final[Mapping[str, Literal["handled", "unhandled", "unknown", "invalid"]]] = {
    "handled": "handled",
    "unhandled": "unhandled",
    "unknown": "unknown",
    "invalid": "invalid",
}

_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z")
_NAME = re.compile(r"[A-Za-z0-9!#$&'*+.^_`|~-]+\Z")
_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_OWN = frozenset({CONTENT_TYPE, _ID, _KEPT})
_RUN = ("puristarun", "puristaschedule", "puristanominal", "puristazone", "puristatarget")


def headers_of(message: Message, *, prefix: str = "ce-") -> dict[str, str]:
    """Return the headers of a message: printable ASCII without a space at either end.

    >>> headers_of(Message("billing.due", b"{}", "4711"))
    {'ce-specversion': '1.0', 'ce-type': 'billing.due', 'ce-source': 'purista', 'ce-id': '4711', 'content-type': 'application/json'}
    """
    given = message.headers or {}
    if _is_event(given):
        found = {**_kept(given), _ID: _encoded(message.id)}
    else:
        found = {
            f"{prefix}specversion": SPECVERSION,
            f"{prefix}type": _encoded(message.name),
            f"{prefix}source": SOURCE,
            f"{prefix}id": _encoded(message.id),
            CONTENT_TYPE: JSON,
            **_kept(given),
        }
    if message.run is not None:
        found |= {f"{prefix}{name}": text for name, text in _run_texts(message.run).items()}
    if message.headers is not None and not message.headers:
        found[_KEPT] = "{}"
    return found


def message_of(name: str, headers: Mapping[str, str], body: bytes, *, fallback_id: str) -> Message:
    """Return the message that came under ``name``, whoever sent it.

    The event of this name, in either mode, is taken apart; in structured mode it may come without a
    word about that, as over MQTT 3.1.1, which has no headers. Any other - a trigger that waits in a queue -
    stays as it is, with its attributes in the headers: whoever wants it reads it. What is no event at
    all is a message with the ``fallback_id``, which has to be the same when it is delivered again.

    Raises ``BridgeError``, and nothing else, for what has the form of such a message and is none.
    """
    try:
        message = _read(name, headers, body, fallback_id)
        _refuse_no_text(message)
    except (TypeError, ValueError, RecursionError) as error:
        raise BridgeError(
            f"message '{name}': its headers or attributes cannot be read ({type(error).__name__}); "
            "send a CloudEvent in UTF-8"
        ) from None
    return message


def why_unread(error: Exception) -> str:
    """Return why a message could not be read, without a word of what it holds."""
    if isinstance(error, BridgeError):
        return str(error)
    return f"it cannot be read ({type(error).__name__}); the log has the details"


def _read(name: str, headers: Mapping[str, str], body: bytes, fallback_id: str) -> Message:
    attributes = {_bare(key): _decoded(value) for key, value in headers.items() if _bare(key)}
    others = {key: value for key, value in headers.items() if not _bare(key)}
    kind = next((v for k, v in headers.items() if k.lower() == CONTENT_TYPE), "")
    own_id = others.get(_ID)
    is_bare = own_id is None and not (kind or attributes)
    if kind.lower().startswith(STRUCTURED) or is_bare:
        event = _structured(name, body)
        if event is not None:
            attributes, body = event
    run = _run(name, attributes)
    if attributes.get("type") == name and attributes.get("id"):
        rest = {f"ce-{key}": value for key, value in attributes.items() if key not in _TAKEN}
        if attributes.get("source") not in (None, SOURCE):
            rest["ce-source"] = str(attributes["source"])
        message_id = str(attributes["id"])
    else:
        rest = {f"ce-{key}": value for key, value in attributes.items() if key not in _RUN}
        message_id = str(attributes.get("id") or fallback_id)
        if kind:
            rest[CONTENT_TYPE] = kind
    if own_id:
        message_id = _decoded(own_id)
    found = {**_unkept(others), **rest}
    known = found or (None if _KEPT not in others else {})
    return Message(name, body, message_id, run, known)


def reply_headers(reply: Reply) -> dict[str, str]:
    """Return the headers of a reply; ``reply_body`` is what goes with them."""
    found = {CONTENT_TYPE: JSON}
    return found if reply.error is None else {**found, _ERROR: reply.error.kind}


def reply_body(reply: Reply) -> bytes:
    """Return the answer, or the error as JSON."""
    if reply.error is None:
        return reply.body
    error = {"code": reply.error.code, "message": reply.error.message, "data": reply.error.data}
    return _json(error)


def reply_of(headers: Mapping[str, str], body: bytes) -> Reply:
    """Return the reply that came. Raises ``BridgeError`` for an error that is none."""
    kind = next((value for name, value in headers.items() if name.lower() == _ERROR), None)
    if kind is None:
        return Reply(body)
    try:
        error = json.loads(body)
        return Reply(error=ErrorReply(_KINDS[kind], error["code"], error["message"], error["data"]))
    except (KeyError, TypeError, ValueError):
        raise BridgeError("the error that a responder answered cannot be read") from None


_TAKEN = frozenset({"specversion", "type", "source", "id", "datacontenttype", *_RUN})


def _is_event(headers: Mapping[str, str]) -> bool:
    """Whether headers hold another's event, whose attributes are to stay."""
    return any(name.lower() == "ce-specversion" for name in headers)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    fit: dict[str, str] = {}
    odd: dict[str, str] = {}
    for name, value in headers.items():
        is_own = name.lower() in _OWN and not (_is_event(headers) and name == CONTENT_TYPE)
        fits = _NAME.match(name) and _PLAIN.match(value) and not is_own
        (fit if fits and (_bare(name) == "" or _is_event(headers)) else odd)[name] = value
    if odd:
        fit[_KEPT] = _encoded(json.dumps(odd, ensure_ascii=False))
    return fit


def _unkept(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in headers.items() if name.lower() not in _OWN}
    if _KEPT in headers:
        kept = read_strictly(_decoded(headers[_KEPT]))
        if not isinstance(kept, dict):
            raise TypeError
        found |= kept
    return found


def _refuse_no_text(message: Message) -> None:
    """Raise ``TypeError`` or ``ValueError`` for an id or headers that are no texts in UTF-8."""
    run = () if message.run is None else (message.run[:2], message.run.timezone)
    for texts in (message.id, *run, *(message.headers or {}).items()):
        "".join(texts).encode()


def _bare(name: str) -> str:
    """Return the attribute that a header holds, or an empty text."""
    for prefix in PREFIXES:
        if name[: len(prefix)].lower() == prefix.lower():
            return name[len(prefix) :].lower()
    return ""


def _encoded(text: str) -> str:
    """Percent-encode what a header cannot hold, as the HTTP binding does (3.1.3.2)."""
    return quote(text, safe=_SAFE)


def _decoded(text: str) -> str:
    return unquote(text)


def _run_texts(run: RunInfo) -> dict[str, str]:
    texts = run.run_id, run.schedule_id, run.nominal_time.isoformat(), run.timezone
    return {
        **dict(zip(_RUN, map(_encoded, texts), strict=False)),
        "puristatarget": "true" if run.is_target else "false",
    }


def _run(name: str, attributes: Mapping[str, Any]) -> RunInfo | None:
    if "puristarun" not in attributes:
        return None
    try:
        run_id, schedule_id, nominal, zone, target = (str(attributes[each]) for each in _RUN)
        nominal_time = datetime.fromisoformat(nominal)
        if nominal_time.tzinfo is None:
            raise ValueError
    except (KeyError, ValueError):
        raise BridgeError(
            f"message '{name}': the attributes of its run are incomplete or wrong; "
            f"send {', '.join(_RUN)}, or none of them"
        ) from None
    return RunInfo(run_id, schedule_id, nominal_time, zone, target == "true")


def _structured(name: str, body: bytes) -> tuple[dict[str, Any], bytes] | None:
    """Return the attributes and the data of an event of this name; None for any other."""
    try:
        event = read_document(body)
    except NotJsonError:
        return None
    if not isinstance(event, dict) or event.get("type") != name or "specversion" not in event:
        return None
    data, binary = event.pop("data", None), event.pop("data_base64", None)
    attributes = {key: str(value) for key, value in event.items() if value is not None}
    if binary is None:
        return attributes, _json(data, separators=(",", ":"))
    if data is not None:
        raise BridgeError(f"message '{name}': it has both data and data_base64; send one of them")
    return attributes, _bytes_of(name, binary)


def _bytes_of(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise BridgeError(
            f"message '{name}': its data_base64 cannot be read; send Base64 (RFC 4648)"
        ) from None


def _json(value: Any, *, separators: tuple[str, str] | None = None) -> bytes:
    """Return JSON, in which half of a surrogate pair is escaped, as no UTF-8 can say it."""
    text = json.dumps(value, ensure_ascii=False, separators=separators)
    return text.encode("utf-8", "backslashreplace")

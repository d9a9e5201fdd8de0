"""A scheduled message: whose it is, what was applied last, and its fields, which are its other headers."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from purista.compiling import MARKER
from purista.plan import Desired, Observed, Owner, digests

DEPLOYMENT: Final = "Purista-Deployment"
APPLIED: Final = "Purista-Applied"
"""The headers that say whose a message is, and what was applied last."""

BODY: Final = "message body"
"""The field for a body, which every trigger has; ours have none."""

_EXPECTED: Final = "Nats-Expected-"
LAST: Final = f"{_EXPECTED}Last-Subject-Sequence"
STREAM: Final = f"{_EXPECTED}Stream"
"""The headers that say when a message is not to be kept."""

_OWNED: Final = frozenset(
    {"Purista", DEPLOYMENT, APPLIED, "ce-puristafingerprint", "Nats-Rollup", "Nats-Msg-Id"}
)
"""Headers that are no fields: they follow from the others, or were for one message alone."""


def headers_of(desired: Desired, fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of a message with these fields."""
    owner = desired.owner
    return {
        **{name: text for name, text in fields.items() if text is not None and name != BODY},
        "Purista": f"{MARKER}: {owner.schedule_id} {owner.fingerprint}",
        "ce-puristafingerprint": owner.fingerprint,
        DEPLOYMENT: owner.deployment,
        APPLIED: json.dumps(digests(desired.fields), separators=(",", ":")),
    }


def body_of(fields: Mapping[str, Any]) -> bytes:
    """Return the body of a message with these fields."""
    return str(fields.get(BODY) or "").encode(errors="surrogateescape")


def observed_of(subject: str, message: Mapping[str, Any]) -> Observed:
    """Return a message as JetStream's interface gives it."""
    headers = _headers(message.get("hdrs", ""))
    fields = fields_of(headers)
    body = base64.b64decode(message.get("data", ""))
    if body:
        fields[BODY] = body.decode(errors="surrogateescape")
    return Observed(
        subject, fields, _owner(headers), _applied(headers, fields), str(message["seq"])
    )


def fields_of(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the headers that say what a message does."""
    return {
        name: value
        for name, value in headers.items()
        if name not in _OWNED and not name.startswith(_EXPECTED)
    }


def _owner(headers: Mapping[str, str]) -> Owner | None:
    deployment, schedule_id = headers.get(DEPLOYMENT), headers.get("ce-subject")
    if deployment is None or schedule_id is None:
        return None
    return Owner(deployment, schedule_id, headers.get("ce-puristafingerprint", ""))


def _applied(headers: Mapping[str, str], fields: Mapping[str, Any]) -> dict[str, str] | None:
    """Return what was applied last. A header that was not there then, a person wrote."""
    try:
        found = json.loads(headers.get(APPLIED, ""))
    except ValueError:
        return None
    return {**digests(dict.fromkeys(fields)), **found} if isinstance(found, dict) else None


def _headers(text: str) -> dict[str, str]:
    """Return the headers of a message; of two with the same name the first, as the server does."""
    found: dict[str, str] = {}
    for line in base64.b64decode(text).decode("utf-8", "replace").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found

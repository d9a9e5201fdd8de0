"""The trigger: what a scheduler sends when a schedule fires, and what it identifies."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from json.encoder import encode_basestring
from typing import Any, Final, Self

from purista import cloudevent
from purista.cloudevent import WrongError, collect, is_text, text_problems
from purista.errors import Problem
from purista.jsonvalue import compact, json_problems, read_strictly


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
        problems: list[Problem] = []
        if not is_text(self.schedule_id):
            problems += text_problems("subject", self.schedule_id, "send the schedule's id")
        if not is_text(self.source):
            problems += text_problems("source", self.source, "name the scheduler")
        if self.id != "" and not is_text(self.id):
            problems += text_problems("id", self.id, "leave it out to have it made")
        if self.fingerprint is not None and not is_text(self.fingerprint):
            remedy = "send the one of the manifest, or None"
            problems += text_problems("puristafingerprint", self.fingerprint, remedy)
        nominal_time = collect(problems, _checked_time, self.nominal_time)
        data = collect(problems, _checked_data, self.data)
        if problems:
            cloudevent.refuse(problems)
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
        return cls(**cloudevent.read_event(event))

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Read an event in the JSON format, UTF-8. Raises ``TriggerError``."""
        return cls.from_cloudevent(cloudevent.read_text(text))

    @classmethod
    def from_headers(
        cls, headers: Mapping[str, str] | Iterable[tuple[str, str]], body: bytes
    ) -> Self:
        """Read an event from an HTTP request, whatever the case of its header names.

        Either its attributes are in ``ce-`` headers and the body is the data (no body: no data), or
        the content type says that the body is the whole event. Raises ``TriggerError``.
        """
        return cls.from_cloudevent(cloudevent.read_headers(headers, body))

    def to_cloudevent(self) -> dict[str, Any]:
        """Return the event as a JSON object; ``from_cloudevent`` gives an equal trigger."""
        event: dict[str, Any] = {
            "specversion": cloudevent.SPECVERSION,
            "id": self.id,
            "source": self.source,
            "type": cloudevent.TYPE,
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
    of a SHA-256.

    >>> slot = datetime(2027, 3, 1, 1, tzinfo=UTC)
    >>> run_id_of("billing.v1.close", slot)
    '9ce3111b-65d5-8ce0-bcc5-2486c4c93b6c'
    """
    import hashlib

    at = "null"
    if nominal_time is not None:
        at = f'"{nominal_time.astimezone(UTC).isoformat()}"'
    text = f"[{encode_basestring(schedule_id)},{at}".encode()
    if data is not UNSET:
        text += b"," + compact(_plain(data), sort_keys=True)
    digits = hashlib.sha256(text + b"]").hexdigest()
    return (
        f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-"
        f"{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:32]}"
    )


_VARIANTS: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit that holds the variant of a UUID, by the random digit in its place."""


def _checked_time(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise WrongError(cloudevent.wrong_kind("time", value, "an aware datetime"))
    return cloudevent.to_utc(value)


def _checked_data(value: object) -> Any:
    """Return a private copy, as JSON sees it."""
    if value is UNSET:
        return UNSET
    for problem in json_problems(value):
        raise WrongError(Problem("attribute 'data'", problem.message, "send JSON"))
    try:
        return read_strictly(compact(value))
    except ValueError:
        text = "it has a number with too many digits"
        raise WrongError(Problem("attribute 'data'", text, "send it as text")) from None


def _plain(value: Any) -> Any:
    """Return JSON data with one spelling for each number: 1.0 is 1, as RFC 8785 writes it."""
    match value:
        case float() if value.is_integer() and abs(value) < 2**53:
            return int(value)
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return value

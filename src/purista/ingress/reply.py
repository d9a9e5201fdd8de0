"""What an ingress answered over HTTP, read back: ``purista.ingress.answer`` the other way round. Pure."""

from __future__ import annotations

import email.utils
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self, get_args

from purista.ingress.answer import PROBLEM
from purista.ingress.decision import Cause, Decision
from purista.ledgers import Run, RunStatus, Verdict

SOON: Final = timedelta(seconds=5)
"""After which a request is worth another try, where the answer does not say it."""

LONGEST: Final = timedelta(days=1)
"""What asks for a longer pause is not believed."""

LONGEST_DETAIL: Final = 500
"""Characters of a problem that an error repeats."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A status, the ``Retry-After`` header, and the JSON object that came with them, None for anything else."""

    status: int
    retry_after: str | None
    document: Mapping[str, Any] | None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes) -> Self:
        """Read an answer; ``headers`` finds names whatever their case."""
        return cls(status, headers.get("Retry-After"), _object(body))

    @property
    def is_success(self) -> bool:
        """Whether what was asked for was done, and an ingress says so."""
        return 200 <= self.status < 300 and self.document is not None

    @property
    def is_problem(self) -> bool:
        """Whether an ingress answered with a problem, and not something in front of it."""
        return str((self.document or {}).get("type", "")).startswith(PROBLEM)

    def again(self, now: datetime) -> timedelta | None:
        """Return after which time it is worth another try; None: nothing is gained by it."""
        if self.status < 500 and self.status not in (408, 425, 429):
            return None
        return min(max(_pause(self.retry_after, now), timedelta(0)), LONGEST)

    def decision(self, now: datetime) -> Decision | None:
        """Return the decision that it tells, or None. Raises ``ValueError`` for one of another kind."""
        if self.document is None or "decision" not in self.document:
            return None
        try:
            return _decision(self.document, self.again(now))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the decision is not understood") from error

    def run(self) -> Run:
        """Return the run that it tells of; its ``key`` is empty. Raises ``ValueError``."""
        try:
            return Run(
                **{each.name: _field(each.name, self.document or {}) for each in fields(Run)}
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("the run is not understood") from error

    def said(self) -> str:
        """Return for an error what it says, on one line and not long."""
        if 200 <= self.status < 300:
            return f"it answered {self.status}, but not as an ingress does; is the address right?"
        if 300 <= self.status < 400:
            return (
                f"it answered {self.status}, a redirect, and none is followed; "
                "give the address that it leads to"
            )
        return f"it answered {self.status}{self._detail()}"

    def _detail(self) -> str:
        if self.document is None or not self.is_problem:
            return ""
        text = f": {self.document.get('title', '')}: {self.document.get('detail', '')}"
        return "".join(each if each.isprintable() else " " for each in text)[:LONGEST_DETAIL]


_INSTANTS: Final = frozenset(
    {"nominal_time", "claimed_at", "expires_at", "lease_until", "ended_at"}
)


_REFUSED: Final = (Verdict.REJECTED, Verdict.UNEXPECTED)


def _object(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _decision(document: Mapping[str, Any], retry_after: timedelta | None) -> Decision:
    verdict = Verdict(document["decision"])
    kind = str(document.get("type", "")).removeprefix(PROBLEM).replace("-", "_")
    return Decision(
        verdict=verdict,
        reason=str(document["reason"]),
        schedule_id=str(document["scheduleId"]),
        nominal_time=_instant(document["nominalTime"]),
        run_id=_text(document["runId"]),
        retry_after=retry_after,
        cause=_cause(kind) if verdict in _REFUSED else None,
        recovered=tuple(_decision(each, None) for each in document.get("recovered", ())),
    )


def _cause(kind: str) -> Cause | None:
    """Return the cause of a rejection; None for a word of a newer ingress."""
    causes: tuple[Cause, ...] = get_args(Cause)
    return next((each for each in causes if each == kind), None)


def _field(name: str, document: Mapping[str, Any]) -> Any:
    """Return one field of a run."""
    if name == "key":
        return ""
    first, *others = name.split("_")
    value = document["".join([first, *(each.title() for each in others)])]
    if name == "status":
        return RunStatus(value)
    return _instant(value) if name in _INSTANTS else value


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def _pause(text: str | None, now: datetime) -> timedelta:
    """Return what a Retry-After header says, which is seconds or a date (RFC 9110, section 10.2.3)."""
    if not text:
        return SOON
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), LONGEST.total_seconds()))
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return SOON
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now

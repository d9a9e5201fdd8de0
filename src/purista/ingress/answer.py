"""What a decision is answered with, on every path: the one table that tells a scheduler whether to retry.

| decision | status | the scheduler |
|---|---|---|
| ``accepted`` | 202 | is done |
| ``duplicate``, ``overlap``, ``late``, ``coalesced``, ``disabled`` | 200 | is done |
| ``unexpected``, from the compiled contract: one of the times that its scheduler fires besides | 200 | is done |
| ``duplicate`` of what another process may still fail at | 503, Retry-After | sends it again |
| ``unexpected`` else; ``rejected``, as its payload does not fit | 422 | is wrong |
| ``rejected``: no such schedule | 404 | is wrong |
| ``rejected``: an unknown version of the contract | 409 | is wrong |
| ``rejected``: dispatch failed, or the ingress is closing; the ledger failed | 503, Retry-After | sends it again |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from purista.ingress.decision import Decision
from purista.ledgers import Run, Verdict

PROBLEM: Final = "urn:purista:problem:"
"""What the ``type`` of a problem begins with (RFC 9457, section 3.1.1)."""

SOON: Final = 1
"""Seconds: how soon at least what failed is sent again."""


class Answer(NamedTuple):
    """An HTTP status with a JSON document; for other paths, what they stand for.

    ``retry_after``: whole seconds after which the trigger is to be sent again; None: never. The document
    is an RFC 9457 problem where the status is 400 or more.
    """

    status: int
    document: Mapping[str, Any]
    retry_after: int | None = None

    @property
    def is_problem(self) -> bool:
        """Whether the document is a problem."""
        return self.status >= 400


def answer(decision: Decision) -> Answer:
    """Return the answer to a trigger that was decided."""
    document = decided(decision)
    if decision.retry_after is not None:
        seconds = max(SOON, math.ceil(decision.retry_after.total_seconds()))
        kind = (decision.cause or "in_doubt").replace("_", "-")
        return problem(503, kind, decision.reason, retry_after=seconds, **document)
    match decision.verdict:
        case Verdict.ACCEPTED:
            return Answer(202, document)
        case Verdict.UNEXPECTED if decision.cause is not None:
            return problem(422, "unexpected-time", decision.reason, **document)
        case Verdict.REJECTED:
            kind = (decision.cause or "rejected").replace("_", "-")
            return problem(_REJECTED.get(kind, 422), kind, decision.reason, **document)
        case _:
            return Answer(200, document)


def problem(
    status: int, kind: str, detail: str, *, retry_after: int | None = None, **more: Any
) -> Answer:
    """Return a problem; ``kind`` is a word of ``TITLES``."""
    document = {
        "type": f"{PROBLEM}{kind}",
        "title": TITLES[kind],
        "status": status,
        "detail": detail,
        **more,
    }
    return Answer(status, document, retry_after)


def decided(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON."""
    document: dict[str, Any] = {
        "decision": str(decision.verdict),
        "reason": decision.reason,
        "scheduleId": decision.schedule_id,
        "nominalTime": instant_text(decision.nominal_time),
        "runId": decision.run_id,
    }
    if decision.recovered:
        document["recovered"] = [decided(one) for one in decision.recovered]
    return document


def unavailable(detail: str, *, after: timedelta = timedelta(seconds=5)) -> Answer:
    """Return that nothing was decided, and that the trigger is to be sent again."""
    return problem(503, "unavailable", detail, retry_after=math.ceil(after.total_seconds()))


def run_document(run: Run) -> dict[str, Any]:
    """Return a run as JSON, without its key: that can be part of a payload."""
    return {
        "runId": run.run_id,
        "scheduleId": run.schedule_id,
        "nominalTime": instant_text(run.nominal_time),
        "status": str(run.status),
        "outcome": run.outcome,
        "claimedAt": instant_text(run.claimed_at),
        "expiresAt": instant_text(run.expires_at),
        "leaseUntil": instant_text(run.lease_until),
        "endedAt": instant_text(run.ended_at),
        "owner": run.owner,
        "token": run.token,
    }


def instant_text(instant: datetime | None) -> str | None:
    """Return an instant in UTC as RFC 3339 has it."""
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")


TITLES: Final[Mapping[str, str]] = {
    "closing": "The ingress is closing",
    "dispatch-failed": "The dispatch failed",
    "in-doubt": "Another process may still be at it",
    "invalid-payload": "The payload does not fit",
    "invalid-request": "The request is not understood",
    "invalid-trigger": "The trigger is malformed",
    "method-not-allowed": "The method is not allowed",
    "not-found": "There is nothing here",
    "recovery-failed": "An earlier nominal time could not be dispatched",
    "rejected": "The trigger was rejected",
    "request-timeout": "The request took too long",
    "too-large": "The request is too large",
    "unauthenticated": "The caller is not known",
    "unavailable": "Nothing could be decided",
    "unexpected-error": "The ingress failed",
    "unexpected-time": "The time is none of the schedule's",
    "unknown-contract": "The version of the contract is not known",
    "unknown-schedule": "There is no such schedule",
    "unsupported-media-type": "The content type is not taken",
}
"""The kinds of problems, with their titles."""

_REJECTED: Final = {"unknown-schedule": 404, "unknown-contract": 409, "invalid-payload": 422}

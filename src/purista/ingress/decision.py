"""What the ingress answers to a trigger."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from purista.ledgers import Verdict

Cause = Literal[
    "unknown_schedule",
    "unknown_contract",
    "invalid_payload",
    "dispatch_failed",
    "recovery_failed",
    "unexpected_time",
    "closing",
]
"""What is wrong with a trigger, as a word for programs.

``unexpected_time`` is not said of one that names the contract for which it was compiled and whose time
has come: schedulers that fire more often than the contract says send such triggers by design.
"""


class Decision(NamedTuple):
    """One decision, with its reason in words for people.

    ``retry_after`` tells the scheduler to send the trigger again, not before that time has passed;
    None means that nothing is gained by it. ``cause`` is set where the sender is wrong or a
    dispatch failed. ``recovered`` holds the decisions about earlier nominal
    times that this trigger made the ingress fill (``recovery="ingress"``), oldest first.
    """

    verdict: Verdict
    reason: str
    schedule_id: str
    nominal_time: datetime | None
    run_id: str | None = None
    retry_after: timedelta | None = None
    taken_over: bool = False
    cause: Cause | None = None
    recovered: tuple[Decision, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether a run was started."""
        return self.verdict is Verdict.ACCEPTED

    @property
    def retry(self) -> bool:
        """Whether the scheduler is to send the trigger again."""
        return self.retry_after is not None

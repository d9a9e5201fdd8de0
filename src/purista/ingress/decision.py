"""What the ingress answers to a trigger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from purista.ledgers import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision, with its reason in words for people.

    ``retry_after`` tells the scheduler to send the trigger again, not before that time has passed;
    None means that nothing is gained by it. ``recovered`` holds the decisions about earlier nominal
    times that this trigger made the ingress fill (``recovery="ingress"``), oldest first.
    """

    verdict: Verdict
    reason: str
    schedule_id: str
    nominal_time: datetime | None
    run_id: str | None = None
    retry_after: timedelta | None = None
    taken_over: bool = False
    recovered: tuple[Decision, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether a run was started."""
        return self.verdict is Verdict.ACCEPTED

    @property
    def retry(self) -> bool:
        """Whether the scheduler is to send the trigger again."""
        return self.retry_after is not None

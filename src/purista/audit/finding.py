"""What an audit says: findings about nominal times, and one result for each schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What there is to say about a nominal time; ``docs/audit.md`` has each one's rule."""

    MISSED = "missed"
    LATE = "late"
    DUPLICATE = "duplicate"
    UNEXPECTED = "unexpected"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"
    OVERLAP = "overlap"
    COALESCED = "coalesced"
    SAME_KEY = "same-key"
    DISABLED = "disabled"
    RECOVERED = "recovered"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing about one nominal time.

    ``is_lost``: it had no effect, and no policy wants it so. ``count`` is the number of triggers.
    ``lateness`` is set where a trigger came late.
    """

    kind: Kind
    nominal_time: datetime
    reason: str
    is_lost: bool = False
    count: int = 1
    lateness: timedelta | None = None
    source: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleAudit:
    """What became of a schedule's nominal times from ``since``, inclusive, to ``until``, exclusive.

    Each of the ``expected`` ones is ``on_time``, ``pending`` (its grace is not over), or has one
    finding of the kinds in ``ARRIVALS``; findings of other kinds come on top. ``lost`` is how many
    findings say that nothing took effect. ``counts`` has all findings, ``findings`` lists them by
    time, as many as were asked for, and ``left_off`` says how many it leaves out. ``still_taken`` is
    the oldest missed one that the ingress would still run if its scheduler sent it.
    """

    schedule_id: str
    since: datetime
    until: datetime
    expected: int
    on_time: int
    pending: int
    lost: int
    counts: Mapping[Kind, int]
    findings: tuple[Finding, ...]
    left_off: int = 0
    still_taken: datetime | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_fine(self) -> bool:
        """Whether there is nothing to say."""
        return not self.counts and not self.notes


ARRIVALS: Final = frozenset(Kind) - {
    Kind.DUPLICATE,
    Kind.UNEXPECTED,
    Kind.FAILED,
    Kind.EXPIRED,
}
"""The kinds of which an expected nominal time has at most one."""

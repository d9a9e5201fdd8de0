"""The port to the store in which runs are decided, atomically."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Protocol


class Verdict(StrEnum):
    """What the ingress decides about a trigger."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    OVERLAP = "overlap"
    LATE = "late"
    COALESCED = "coalesced"
    UNEXPECTED = "unexpected"
    DISABLED = "disabled"
    REJECTED = "rejected"


class RunStatus(StrEnum):
    """Where a run stands.

    ``claimed``: decided, not known to be dispatched. ``active``: dispatched. ``failed``: its dispatch
    failed. ``ended``: its target is done. ``expired``: its run time-out passed. ``replaced``: a newer
    run took its place. Only claimed and active runs count as active for the concurrency policy.
    """

    CLAIMED = "claimed"
    ACTIVE = "active"
    FAILED = "failed"
    ENDED = "ended"
    EXPIRED = "expired"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A trigger, with all that a ledger needs to decide about it.

    ``verdict`` is what the contract's times alone say: ``accepted``, or a skip (``late``,
    ``coalesced``, ``disabled``, ``unexpected``, ``rejected``) with its ``reason``. ``key`` is the
    idempotency key. ``manual`` marks a trigger that a person sent: an earlier skip of its key does
    not stop it. ``lease`` is how long the claim is the owner's before a redelivery may take it over.
    """

    schedule_id: str
    nominal_time: datetime
    key: str
    run_id: str
    source: str
    owner: str
    now: datetime
    verdict: Verdict
    reason: str
    concurrency_policy: Literal["allow", "forbid", "replace"]
    dedupe_window: timedelta
    run_timeout: timedelta
    lease: timedelta
    manual: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """The ledger's answer to a proposal.

    Accepted: ``token`` is this claim's fencing token and ``cancelled`` the runs that it replaced, or
    whose time-out had passed, and whose handlers are to be cancelled. Duplicate of a claim that may
    still fail: ``retry_after`` says when a redelivery can take it over; else it is None.
    """

    verdict: Verdict
    reason: str
    run_id: str
    token: int = 0
    taken_over: bool = False
    cancelled: tuple[str, ...] = ()
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run as the ledger knows it. ``lease_until`` is set while a redelivery could take it over later."""

    run_id: str
    schedule_id: str
    nominal_time: datetime
    key: str
    status: RunStatus
    token: int
    owner: str
    claimed_at: datetime
    expires_at: datetime
    lease_until: datetime | None
    ended_at: datetime | None
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One decision as it was recorded; decisions are never changed afterwards."""

    schedule_id: str
    nominal_time: datetime
    key: str
    run_id: str
    verdict: Verdict
    reason: str
    source: str
    decided_at: datetime


class Ledger(Protocol):
    """Decides runs. Each method is one atomic step, also between processes."""

    async def decide(self, proposal: Proposal) -> Ruling:
        """Decide about a trigger and record the decision."""

    async def dispatched(self, run_id: str, token: int, *, lease_until: datetime | None) -> bool:
        """The claim was dispatched: the run is active.

        ``lease_until`` is None when the message survives a crash of this process; otherwise a
        redelivery may take the run over after that instant, unless it is renewed. False when the
        claim is no longer this owner's (fenced).
        """

    async def release(self, run_id: str, token: int) -> bool:
        """The dispatch failed: the run is not active and a redelivery may take it over at once."""

    async def end(self, run_id: str, *, outcome: str, now: datetime) -> bool:
        """The run's target is done. False when the run was not active any more (fenced, ignored)."""

    async def renew(self, owner: str, *, lease_until: datetime) -> None:
        """Prolong every lease of this owner's claimed and active runs that have one."""

    async def close(self) -> None:
        """Release everything. May be repeated."""


class History(Protocol):
    """What a ledger remembers; every ledger of this package has it."""

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""

    async def runs(
        self, *, schedule_id: str | None = None, unfinished: bool = False, limit: int = 100
    ) -> Sequence[Run]:
        """Return runs, newest nominal time first; ``unfinished`` keeps claimed, active and failed ones."""

    async def records(
        self, *, schedule_id: str | None = None, limit: int = 100
    ) -> Sequence[Record]:
        """Return decisions, newest first."""

    async def latest(self, schedule_id: str) -> datetime | None:
        """Return the latest nominal time for which a scheduler's trigger was decided, or None.

        Manual triggers and ``unexpected``, ``disabled`` and ``rejected`` ones do not count.
        """

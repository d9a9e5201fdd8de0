"""The port to the store in which runs are decided, atomically."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable


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


class Proposal(NamedTuple):
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


class Ruling(NamedTuple):
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


class Record(NamedTuple):
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
    """What a ledger remembers; every ledger of this package has it.

    ``since`` and ``until`` bound nominal times, the first included and the second not.
    """

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""

    async def runs(
        self,
        *,
        schedule_id: str | None = None,
        unfinished: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Return runs, newest nominal time first; ``unfinished`` keeps claimed, active and failed ones."""

    async def records(
        self,
        *,
        schedule_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Record]:
        """Return decisions, newest first."""

    async def latest(self, schedule_id: str) -> datetime | None:
        """Return the latest nominal time for which a scheduler's trigger was decided, or None.

        Manual triggers and ``unexpected``, ``disabled`` and ``rejected`` ones do not count.
        """

    async def purge(self, now: datetime) -> int:
        """Forget everything that may be forgotten at ``now``; return how many runs, skips and records.

        That is what is older than the retention, the run's time-out and the dedupe window of the
        decision: no key is ever forgotten inside of its window.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownContract:
    """Under which fingerprints a schedule ran.

    ``since`` is when the ingress first ran under ``fingerprint`` (again, after another one),
    ``known_since`` when it first ran the schedule at all.
    """

    fingerprint: str
    previous: str | None
    since: datetime
    known_since: datetime


@runtime_checkable
class Contracts(Protocol):
    """Remembers the contracts of an ingress; every ledger of this package does."""

    async def note_contracts(self, fingerprints: Mapping[str, str], *, now: datetime) -> None:
        """Note under which fingerprint each schedule id runs from now on.

        What it ran under before becomes its previous one; the same one again changes nothing. One
        call for all schedules of an ingress.
        """

    async def contract(self, schedule_id: str) -> KnownContract | None:
        """Return what is known of a schedule, or None."""


@runtime_checkable
class Nonces(Protocol):
    """Remembers what may be used once, for all processes of an ingress; every ledger of this package does."""

    async def use_nonce(self, nonce: str, *, now: datetime, kept_until: datetime) -> bool:
        """Return True, and remember it until ``kept_until``; False when it is remembered already."""

    async def drop_nonce(self, nonce: str) -> None:
        """Forget a nonce: what it was used for did not happen. Harmless when it is not known."""


Enlistment = Callable[[Any], Any]
"""Work on an open connection of the ledger's database, in its transaction.

For SQLite it is called with a ``sqlite3.Connection`` in the ledger's thread and returns nothing; for
PostgreSQL with a ``psycopg.AsyncConnection`` and returns an awaitable.
"""


@runtime_checkable
class EnlistingLedger(Protocol):
    """A ledger that enlists the work of another in the transaction of a decision."""

    @property
    def store(self) -> str:
        """Which database it is; work of another with an equal ``store`` can be enlisted."""

    async def decide_and_enlist(
        self, proposal: Proposal, work: Callable[[Ruling], Enlistment]
    ) -> Ruling:
        """Decide; when it is accepted, do the work and note the run as dispatched, all in one step.

        When the work fails nothing is decided. Raises ``LedgerError``.
        """

"""What a ledger does in each step, over a book of rows: the one place where runs are decided.

Synchronous, without a clock and without I/O of its own. A ledger makes each step atomic: it opens
a transaction, calls one function of this module with its book, and commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from purista.ledgers.port import KnownContract, Proposal, Record, Ruling, Run, RunStatus, Verdict

RETENTION = timedelta(days=30)
"""How long finished runs, skips and records are kept at least."""

RUN_TIMEOUT = "run_timeout"
REPLACED = "replaced"
OVERLAP = "overlap"

_REFUSED = frozenset({Verdict.DISABLED, Verdict.UNEXPECTED, Verdict.REJECTED})
_SEEN = frozenset({Verdict.OVERLAP, Verdict.LATE, Verdict.COALESCED})

_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """One run as a row.

    ``ended_at`` is None while it is claimed, active, or failed and not given up. ``is_dispatched``:
    its message is known to be out. ``kept_until``: after its time-out, its dedupe window and the
    retention, so that it can be forgotten whatever its status.
    """

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
    is_dispatched: bool
    kept_until: datetime

    @property
    def is_active(self) -> bool:
        """Whether it counts for the concurrency policy."""
        return self.status in (RunStatus.CLAIMED, RunStatus.ACTIVE)

    @property
    def is_given_up(self) -> bool:
        """Whether a redelivery that could have taken it over met another active run."""
        return self.status is RunStatus.FAILED and self.ended_at is not None

    def finish(self, status: RunStatus, outcome: str, at: datetime) -> None:
        """End it for good. An undispatched one keeps its lease: its owner may still be at it."""
        self.status, self.outcome, self.ended_at = status, outcome, at
        if self.is_dispatched or status is not RunStatus.EXPIRED:
            self.lease_until = None

    def run(self) -> Run:
        """Return it as callers see it."""
        return Run(
            run_id=self.run_id,
            schedule_id=self.schedule_id,
            nominal_time=self.nominal_time,
            key=self.key,
            status=self.status,
            token=self.token,
            owner=self.owner,
            claimed_at=self.claimed_at,
            expires_at=self.expires_at,
            lease_until=self.lease_until,
            ended_at=self.ended_at,
            outcome=self.outcome,
        )


class Book(Protocol):
    """The rows of a ledger, inside one atomic step."""

    def run(self, run_id: str) -> Entry | None:
        """Return the run with this id."""

    def newest(self, schedule_id: str, key: str, *, since: datetime) -> Entry | None:
        """Return the run of the key that was claimed last, after ``since``, and is not given up."""

    def active(self, schedule_id: str, *, expired_at: datetime | None) -> Sequence[Entry]:
        """Return the schedule's claimed and active runs; at an instant, those whose time-out has passed."""

    def insert(self, entry: Entry) -> None:
        """Store a claimed run; overwrite the one with its id."""

    def update(self, entry: Entry) -> None:
        """Store the status, lease, end, outcome and dispatch of a run that is there."""

    def skipped(
        self, schedule_id: str, key: str, nominal_time: datetime, *, since: datetime
    ) -> str | None:
        """Return the run id of a skip that was seen after ``since``."""

    def skip(self, record: Record, *, kept_until: datetime) -> None:
        """Remember that the trigger of this record was skipped."""

    def append(self, record: Record, *, kept_until: datetime, is_latest: bool) -> int:
        """Append a record; return its number, larger than that of any before.

        ``is_latest``: raise the schedule's latest nominal time to that of the record.
        """


def decide(book: Book, proposal: Proposal, *, retention: timedelta) -> Ruling:
    """Decide about a trigger, record the decision, and claim its run when it is accepted."""
    return _Step(book, proposal, retention).decide()


def dispatched(book: Book, run_id: str, token: int, *, lease_until: datetime | None) -> bool:
    """Note that the claim with this token was dispatched; False when it is fenced."""
    run = book.run(run_id)
    if run is None or run.token != token:
        return False
    if run.status is RunStatus.EXPIRED and not run.is_dispatched:
        run.is_dispatched, run.lease_until = True, None
        book.update(run)
    if run.is_active:
        run.status, run.is_dispatched, run.lease_until = RunStatus.ACTIVE, True, lease_until
        book.update(run)
        return True
    return run.status is RunStatus.ENDED


def release(book: Book, run_id: str, token: int) -> bool:
    """Note that the dispatch of the claim with this token failed; False when it is fenced or over."""
    run = book.run(run_id)
    if run is None or run.token != token or not run.is_active:
        return False
    run.status, run.lease_until, run.is_dispatched = RunStatus.FAILED, None, False
    book.update(run)
    return True


def end(book: Book, run_id: str, *, outcome: str, now: datetime) -> bool:
    """End an active run; False when it was not active any more."""
    run = book.run(run_id)
    if run is None or not run.is_active:
        return False
    if run.expires_at <= now:
        run.finish(RunStatus.EXPIRED, RUN_TIMEOUT, run.expires_at)
    else:
        run.finish(RunStatus.ENDED, outcome, now.astimezone(UTC))
    book.update(run)
    return run.status is RunStatus.ENDED


def noted(known: KnownContract | None, fingerprint: str, now: datetime) -> KnownContract:
    """Return what is known of a schedule once it runs under ``fingerprint``."""
    if known is None:
        return KnownContract(fingerprint=fingerprint, previous=None, since=now, known_since=now)
    if known.fingerprint == fingerprint:
        return known
    return replace(known, fingerprint=fingerprint, previous=known.fingerprint, since=now)


def is_within(instant: datetime, since: datetime | None, until: datetime | None) -> bool:
    """Whether an instant is not before ``since`` and before ``until``; None bounds nothing."""
    return (since is None or since <= instant) and (until is None or instant < until)


def after(instant: datetime, duration: timedelta) -> datetime:
    """Return ``instant + duration``, at most the last instant that there is."""
    try:
        return instant + duration
    except OverflowError:
        return _LATEST


def before(instant: datetime, duration: timedelta) -> datetime:
    """Return ``instant - duration``, at least the first instant that there is."""
    try:
        return instant - duration
    except OverflowError:
        return _EARLIEST


class _Step:
    """One call of ``decide``."""

    __slots__ = ("book", "keep", "nominal_time", "now", "proposal", "since")

    def __init__(self, book: Book, proposal: Proposal, retention: timedelta) -> None:
        self.book = book
        self.proposal = proposal
        self.now = proposal.now.astimezone(UTC)
        self.nominal_time = proposal.nominal_time.astimezone(UTC)
        self.since = before(self.now, proposal.dedupe_window)
        self.keep = max(retention, proposal.dedupe_window)

    def decide(self) -> Ruling:
        proposal = self.proposal
        expired, active = self.expire()
        earlier = self.earlier()
        duplicate = None if earlier is None else self.duplicate(earlier)
        if duplicate is not None:
            return self.record(duplicate)
        if proposal.verdict in _REFUSED:
            return self.record(self.refusal(proposal.verdict, proposal.reason))
        if earlier is None:
            seen = self.seen()
            if seen is not None:
                return self.record(seen)
            if proposal.verdict != Verdict.ACCEPTED:
                return self.record(self.refusal(proposal.verdict, proposal.reason))
        own = proposal.run_id if earlier is None else earlier.run_id
        others = [run for run in active if run.run_id != own]
        if others and proposal.concurrency_policy == "forbid":
            return self.overlap(earlier, others[-1])
        expired = [run for run in expired if run.run_id != own]
        return self.claim(earlier, (*expired, *self.replace(others)))

    def expire(self) -> tuple[list[Entry], list[Entry]]:
        """Expire the schedule's runs whose time-out has passed; return them, and the others if they matter."""
        expired: list[Entry] = []
        active: list[Entry] = []
        proposal = self.proposal
        only_expired = self.now if proposal.concurrency_policy == "allow" else None
        found = self.book.active(proposal.schedule_id, expired_at=only_expired)
        for run in sorted(found, key=_token):
            if run.expires_at <= self.now:
                run.finish(RunStatus.EXPIRED, RUN_TIMEOUT, run.expires_at)
                self.book.update(run)
                expired.append(run)
            else:
                active.append(run)
        return expired, active

    def earlier(self) -> Entry | None:
        """Return the run that the trigger could be a duplicate of.

        Beside the key, the run id counts: a new version of the contract can give the same trigger
        another key, and a run that is active is never overwritten.
        """
        proposal = self.proposal
        found = self.book.newest(proposal.schedule_id, proposal.key, since=self.since)
        if found is not None:
            return found
        own = self.book.run(proposal.run_id)
        if own is None or own.is_given_up:
            return None
        return own if own.is_active or own.claimed_at > self.since else None

    def duplicate(self, run: Entry) -> Ruling | None:
        """Return that the trigger is a duplicate of ``run``, or None when it may take the run over."""
        if run.status is RunStatus.ACTIVE and run.lease_until is not None:
            if run.owner == self.proposal.owner:
                return _duplicate(run.run_id, "its run is active in this process")
        elif run.is_dispatched or run.status in (RunStatus.ENDED, RunStatus.REPLACED):
            return _duplicate(run.run_id, f"its run is {run.status}")
        if run.lease_until is None or run.lease_until <= self.now:
            return None
        reason = f"its run is {run.status}; another process may still be at it"
        return _duplicate(run.run_id, reason, run.lease_until - self.now)

    def seen(self) -> Ruling | None:
        """Return that the same trigger was skipped before; a person may try again."""
        proposal = self.proposal
        if proposal.manual:
            return None
        run_id = self.book.skipped(
            proposal.schedule_id, proposal.key, self.nominal_time, since=self.since
        )
        return None if run_id is None else _duplicate(run_id, "it was skipped before")

    def refusal(self, verdict: Verdict, reason: str) -> Ruling:
        return Ruling(verdict=verdict, reason=reason, run_id=self.proposal.run_id)

    def overlap(self, earlier: Entry | None, other: Entry) -> Ruling:
        """Refuse; a run that the scheduler's trigger could have taken over is given up."""
        if earlier is not None and not self.proposal.manual:
            earlier.finish(RunStatus.FAILED, OVERLAP, self.now)
            self.book.update(earlier)
        reason = f"run {other.run_id} is {other.status} since {other.claimed_at.isoformat()}"
        return self.record(self.refusal(Verdict.OVERLAP, reason))

    def replace(self, others: Sequence[Entry]) -> Sequence[Entry]:
        """Replace the active runs where the policy says so; return them."""
        if self.proposal.concurrency_policy != "replace":
            return ()
        for run in others:
            run.finish(RunStatus.REPLACED, REPLACED, self.now)
            self.book.update(run)
        return others

    def claim(self, earlier: Entry | None, cancelled: Sequence[Entry]) -> Ruling:
        """Claim a new run, or the earlier one again under a larger token."""
        proposal, reason = self.proposal, self.proposal.reason
        if earlier is not None:
            reason = f"taken over, its run was {earlier.status}; {reason}"
        run_id = proposal.run_id if earlier is None else earlier.run_id
        token = self.append(Verdict.ACCEPTED, run_id, reason)
        expires_at = after(self.now, proposal.run_timeout)
        self.book.insert(
            Entry(
                run_id=run_id,
                schedule_id=proposal.schedule_id,
                nominal_time=self.nominal_time if earlier is None else earlier.nominal_time,
                key=proposal.key if earlier is None else earlier.key,
                status=RunStatus.CLAIMED,
                token=token,
                owner=proposal.owner,
                claimed_at=self.now if earlier is None else earlier.claimed_at,
                expires_at=expires_at,
                lease_until=after(self.now, proposal.lease),
                ended_at=None,
                outcome="",
                is_dispatched=False,
                kept_until=after(expires_at, self.keep),
            )
        )
        return Ruling(
            verdict=Verdict.ACCEPTED,
            reason=reason,
            run_id=run_id,
            token=token,
            taken_over=earlier is not None,
            cancelled=tuple(run.run_id for run in cancelled),
        )

    def record(self, ruling: Ruling) -> Ruling:
        self.append(ruling.verdict, ruling.run_id, ruling.reason)
        return ruling

    def append(self, verdict: Verdict, run_id: str, reason: str) -> int:
        """Record a verdict; a skip that a scheduler's trigger met uses the trigger up."""
        proposal = self.proposal
        record = Record(
            schedule_id=proposal.schedule_id,
            nominal_time=self.nominal_time,
            key=proposal.key,
            run_id=run_id,
            verdict=verdict,
            reason=reason,
            source=proposal.source,
            decided_at=self.now,
        )
        kept_until = after(self.now, self.keep)
        if verdict in _SEEN and not proposal.manual:
            self.book.skip(record, kept_until=kept_until)
        is_latest = not proposal.manual and proposal.verdict not in _REFUSED
        return self.book.append(record, kept_until=kept_until, is_latest=is_latest)


def _token(run: Entry) -> int:
    return run.token


def _duplicate(run_id: str, reason: str, retry_after: timedelta | None = None) -> Ruling:
    return Ruling(verdict=Verdict.DUPLICATE, reason=reason, run_id=run_id, retry_after=retry_after)

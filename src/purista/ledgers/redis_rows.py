"""What a Redis ledger writes and reads: instants as digits, rows as JSON.

An instant is 18 digits, the microseconds since the year 1 in UTC: a Lua number is a double and would
round it, and the order of such texts is that of the instants.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from purista.ledgers.book import after, before
from purista.ledgers.port import KnownContract, Proposal, Record, Ruling, Run, RunStatus, Verdict

INSTANT = 18
"""How long an instant is."""

NUMBER = 16
"""How long a number of a decision is: a token."""

_FIRST = datetime.min.replace(tzinfo=UTC)
_LAST = datetime.max.replace(tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST = 2**52


def digits(moment: datetime) -> str:
    """Return an instant as 18 digits."""
    passed = moment - _FIRST
    return f"{(passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds:018d}"


def instant(text: str) -> datetime:
    """Return the instant that digits tell."""
    return _FIRST + timedelta(microseconds=int(text))


def number(token: int) -> str:
    """Return a token as 16 digits."""
    return f"{token:016d}"


def head(letter: str, schedule_id: bytes | None) -> bytes:
    """Return how the places of an index begin: of all schedules, or of one by the capital letter."""
    if schedule_id is None:
        return letter.encode()
    return f"{letter.upper()}{len(schedule_id):08d}".encode() + schedule_id


def arguments(proposal: Proposal, retention: timedelta) -> tuple[str, ...]:
    """Return what ``decide.lua`` takes; it compares instants, all sums are made here."""
    now = proposal.now.astimezone(UTC)
    keep = max(retention, proposal.dedupe_window)
    expires_at = after(now, proposal.run_timeout)
    return (
        proposal.schedule_id,
        digits(proposal.nominal_time),
        proposal.key,
        proposal.run_id,
        proposal.source,
        proposal.owner,
        digits(now),
        proposal.verdict,
        proposal.reason,
        proposal.concurrency_policy,
        "manual" if proposal.manual else "",
        digits(before(now, proposal.dedupe_window)),
        digits(expires_at),
        digits(after(now, proposal.lease)),
        digits(after(now, keep)),
        digits(after(expires_at, keep)),
        str(min(max((now - _EPOCH) // _MICROSECOND, 0), _LARGEST)),
    )


def ruling(answer: bytes, now: datetime) -> Ruling:
    """Return the ruling that ``decide.lua`` answers."""
    row = json.loads(answer)
    wait_until = row.get("wait_until")
    return Ruling(
        verdict=Verdict(row["verdict"]),
        reason=_reason(row),
        run_id=row["run_id"],
        token=int(row.get("token", 0)),
        taken_over=row.get("taken_over", False),
        cancelled=tuple(row.get("cancelled", ())),
        retry_after=None if wait_until is None else instant(wait_until) - now,
    )


def run(row: str) -> Run:
    """Return the run of a row."""
    return _run(json.loads(row))


def runs(page: bytes) -> list[Run]:
    """Return the runs of a list of rows."""
    return [_run(row) for row in json.loads(page)]


def records(page: bytes) -> list[Record]:
    """Return the records of a list of rows."""
    return [_record(row) for row in json.loads(page)]


def contract(row: str) -> KnownContract:
    """Return the known contract of a row."""
    known = json.loads(row)
    return KnownContract(
        fingerprint=known["fingerprint"],
        previous=known.get("previous"),
        since=instant(known["since"]),
        known_since=instant(known["known_since"]),
    )


def _run(row: dict[str, Any]) -> Run:
    return Run(
        run_id=row["run_id"],
        schedule_id=row["schedule_id"],
        nominal_time=instant(row["nominal_time"]),
        key=row["key"],
        status=RunStatus(row["status"]),
        token=int(row["token"]),
        owner=row["owner"],
        claimed_at=instant(row["claimed_at"]),
        expires_at=instant(row["expires_at"]),
        lease_until=_maybe(row["lease_until"]),
        ended_at=_maybe(row["ended_at"]),
        outcome=row["outcome"],
    )


def _record(row: dict[str, Any]) -> Record:
    return Record(
        schedule_id=row["schedule_id"],
        nominal_time=instant(row["nominal_time"]),
        key=row["key"],
        run_id=row["run_id"],
        verdict=Verdict(row["verdict"]),
        reason=_reason(row),
        source=row["source"],
        decided_at=instant(row["decided_at"]),
    )


def _reason(row: dict[str, Any]) -> str:
    """Return the reason, with the instant that a script cannot put in words."""
    since = row.get("reason_instant")
    return f"{row['reason']}{'' if since is None else instant(since).isoformat()}"


def _maybe(text: str) -> datetime | None:
    return instant(text) if text else None

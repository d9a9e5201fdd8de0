"""The statements of a PostgreSQL ledger, and what their rows mean."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from purista.ledgers.book import after, before
from purista.ledgers.port import KnownContract, Proposal, Record, Ruling, Run, RunStatus, Verdict
from purista.postgres.address import quoted_schema
from purista.postgres.rowtext import instant, instant_or_none, restored, stored


class Statements:
    """The text of each statement, for one schema."""

    def __init__(self, schema: str) -> None:
        self._schema = quoted_schema(schema)
        self.decide = self._call("decide_1", 16)
        self.dispatched = self._call("dispatched_1", 3)
        self.release = self._call("release_1", 2)
        self.end = self._call("end_1", 3)
        self.renew = self._call("renew_1", 2)
        self.renew_run = self._call("renew_run_1", 3)
        self.prune = self._call("prune_1", 2)
        self.note_contracts = self._call("note_contracts_2", 3)
        self.use_nonce = self._call("use_nonce_2", 3)
        self.drop_nonce = self._call("drop_nonce_2", 1)
        self.run = self._sql(_RUN)
        self.latest = self._sql(_LATEST)
        self.contract = self._sql(_CONTRACT)

    def runs(
        self,
        schedule_id: str | None,
        unfinished: bool,
        since: datetime | None,
        until: datetime | None,
        limit: int,
    ) -> tuple[bytes, list[object]]:
        """Return the statement for some runs, newest nominal time first, and its values."""
        where, values = _within(schedule_id, since, until)
        where += ["r.ended_at IS NULL"] if unfinished else []
        text = f"{_RUNS}{_where(where)} ORDER BY r.nominal_time DESC, r.token DESC LIMIT %s"
        return self._sql(text), [*values, limit]

    def records(
        self,
        schedule_id: str | None,
        since: datetime | None,
        until: datetime | None,
        limit: int,
    ) -> tuple[bytes, list[object]]:
        """Return the statement for some records, newest first, and its values."""
        where, values = _within(schedule_id, since, until)
        text = f"{_RECORDS}{_where(where)} ORDER BY r.number DESC LIMIT %s"
        return self._sql(text), [*values, limit]

    def _call(self, function: str, count: int) -> bytes:
        places = ", ".join(["%s"] * count)
        return f"SELECT * FROM {self._schema}.{function}({places})".encode()  # noqa: S608 - a plain name

    def _sql(self, text: str) -> bytes:
        return text.replace("{schema}", self._schema).encode()


def proposed(proposal: Proposal, retention: timedelta) -> tuple[object, ...]:
    """Return the values of a proposal, in the order of ``decide``'s parameters."""
    now = proposal.now.astimezone(UTC)
    keep = max(retention, proposal.dedupe_window)
    expires_at = after(now, proposal.run_timeout)
    return (
        stored(proposal.schedule_id),
        proposal.nominal_time.astimezone(UTC),
        stored(proposal.key),
        stored(proposal.run_id),
        stored(proposal.source),
        stored(proposal.owner),
        now,
        str(proposal.verdict),
        stored(proposal.reason),
        proposal.concurrency_policy,
        proposal.manual,
        before(now, proposal.dedupe_window),
        expires_at,
        after(now, proposal.lease),
        after(now, keep),
        after(expires_at, keep),
    )


def ruling(row: Sequence[Any], now: datetime) -> Ruling:
    """Return what ``decide`` said."""
    verdict, reason, run_id, token, taken_over, cancelled, retry_at = row
    return Ruling(
        verdict=Verdict(verdict),
        reason=restored(reason),
        run_id=restored(run_id),
        token=token,
        taken_over=taken_over,
        cancelled=tuple(restored(one) for one in cancelled),
        retry_after=None if retry_at is None else instant(retry_at) - now,
    )


def run(row: Sequence[Any]) -> Run:
    """Return a run from its row."""
    return Run(
        run_id=restored(row[0]),
        schedule_id=restored(row[1]),
        nominal_time=instant(row[2]),
        key=restored(row[3]),
        status=RunStatus(row[4]),
        token=row[5],
        owner=restored(row[6]),
        claimed_at=instant(row[7]),
        expires_at=instant(row[8]),
        lease_until=instant_or_none(row[9]),
        ended_at=instant_or_none(row[10]),
        outcome=restored(row[11]),
    )


def record(row: Sequence[Any]) -> Record:
    """Return a record from its row."""
    return Record(
        schedule_id=restored(row[0]),
        nominal_time=instant(row[1]),
        key=restored(row[2]),
        run_id=restored(row[3]),
        verdict=Verdict(row[4]),
        reason=restored(row[5]),
        source=restored(row[6]),
        decided_at=instant(row[7]),
    )


def contract(row: Sequence[Any]) -> KnownContract:
    """Return what is known of a schedule from its row."""
    return KnownContract(
        fingerprint=restored(row[0]),
        previous=None if row[1] is None else restored(row[1]),
        since=instant(row[2]),
        known_since=instant(row[3]),
    )


_RUNS = """
SELECT r.run_id, s.schedule_id, r.nominal_time AT TIME ZONE 'UTC', r.key, r.status, r.token, r.owner,
    r.claimed_at AT TIME ZONE 'UTC', r.expires_at AT TIME ZONE 'UTC',
    r.lease_until AT TIME ZONE 'UTC', r.ended_at AT TIME ZONE 'UTC', r.outcome
FROM {schema}.runs r JOIN {schema}.schedules s ON s.number = r.schedule"""

_RECORDS = """
SELECT s.schedule_id, r.nominal_time AT TIME ZONE 'UTC', r.key, r.run_id, r.verdict, r.reason,
    r.source, r.decided_at AT TIME ZONE 'UTC'
FROM {schema}.records r JOIN {schema}.schedules s ON s.number = r.schedule"""

_RUN = f"""{_RUNS}
WHERE sha256(decode(r.run_id, 'escape')) = sha256(decode(%s, 'escape'))"""

_OF_SCHEDULE = """r.schedule = (
    SELECT number FROM {schema}.schedules
    WHERE sha256(decode(schedule_id, 'escape')) = sha256(decode(%s, 'escape')))"""

_LATEST = """
SELECT latest AT TIME ZONE 'UTC' FROM {schema}.schedules
WHERE sha256(decode(schedule_id, 'escape')) = sha256(decode(%s, 'escape'))"""

_CONTRACT = """
SELECT fingerprint, previous, since AT TIME ZONE 'UTC', known_since AT TIME ZONE 'UTC'
FROM {schema}.contracts
WHERE sha256(decode(schedule_id, 'escape')) = sha256(decode(%s, 'escape'))"""


def _within(
    schedule_id: str | None, since: datetime | None, until: datetime | None
) -> tuple[list[str], list[object]]:
    conditions: list[tuple[str, object]] = []
    if schedule_id is not None:
        conditions.append((_OF_SCHEDULE, stored(schedule_id)))
    if since is not None:
        conditions.append(("r.nominal_time >= %s", since.astimezone(UTC)))
    if until is not None:
        conditions.append(("r.nominal_time < %s", until.astimezone(UTC)))
    return [condition for condition, _ in conditions], [value for _, value in conditions]


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""

"""The PostgreSQL ledger: runs in one database that any number of machines share.

A decision is one call of a PL/pgSQL function on a connection in autocommit mode: one statement, one
round trip. It is a function and not one large statement (``WITH ... INSERT ... ON CONFLICT``), as a
statement sees the rows as they were when it began, before it waited for its lock: two triggers of a
``forbid`` schedule would both see no active run. Each statement inside of a function sees what was
committed when *it* begins, so that the function locks the schedule's row first and looks then.
https://www.postgresql.org/docs/current/transaction-iso.html#XACT-READ-COMMITTED
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg

from purista.errors import LedgerError, PuristaError
from purista.ledgers import postgres_rows as rows
from purista.ledgers.book import RETENTION
from purista.ledgers.port import (
    Enlistment,
    KnownContract,
    Proposal,
    Record,
    Ruling,
    Run,
    Verdict,
)
from purista.ledgers.postgres_schema import MIGRATIONS
from purista.postgres.address import Address
from purista.postgres.connections import CONNECTIONS, TIMEOUT, Connection, Connections
from purista.postgres.rowtext import instant, stored

PURGED_AT_ONCE = 10_000
"""So many rows of each table a purge deletes in one transaction."""

T = TypeVar("T")


def schema_sql(schema: str = "purista", *, since: int = 0) -> str:
    """Return the SQL that makes the ledger's tables and functions, for an administrator to apply.

    In one transaction: ``psql --single-transaction -f``. ``since``: the version that is there already
    (``SELECT version FROM <schema>.versions WHERE part = 'ledger'``). Raises ``LedgerError`` for a
    schema whose name is no plain one.
    """
    try:
        return MIGRATIONS.sql(schema, since=since)
    except ValueError as error:
        raise LedgerError(str(error)) from None


class PostgresLedger:
    """A ledger and its history in the schema ``schema`` of a database; needs the extra ``postgres``.

    ``url`` is ``postgresql://user:password@host:port/database``, or whatever else libpq takes. The
    schema is made, or brought up to date, by the first call. ``connections``: so many are open at
    most. ``timeout``: how long a step waits for a connection, and then for the server; shorter than
    a claim's lease. ``retention``: finished runs, skips and records are deleted once they are older
    than that and than their schedule's dedupe window; the latest nominal time of a schedule never is.

    What is wrong with the database is raised as ``LedgerError``, without user and password: nothing was
    decided then, or it was and the connection was lost before the answer came; a redelivery finds
    out. The next call connects anew. A caller that is cancelled leaves its step done or not begun.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "purista",
        retention: timedelta = RETENTION,
        connections: int = CONNECTIONS,
        timeout: timedelta = TIMEOUT,
    ) -> None:
        try:
            self._address = Address.of(url)
            self._sql = rows.Statements(schema)
        except ValueError as error:
            raise LedgerError(f"PostgreSQL ledger: {error}") from None
        self._schema = schema
        self._retention = retention
        self._is_closed = False
        self._connections = Connections(
            self._address,
            most=connections,
            timeout=timeout,
            prepare=lambda connection: MIGRATIONS.apply(connection, schema),
            refusal=self._refusal,
        )

    @property
    def store(self) -> str:
        """Which database it is: host, port and name."""
        return str(self._address)

    async def decide(self, proposal: Proposal) -> Ruling:
        """Decide about a trigger and record the decision."""
        return await self._do(lambda connection: self._decided(connection, proposal))

    async def decide_and_enlist(
        self, proposal: Proposal, work: Callable[[Ruling], Enlistment]
    ) -> Ruling:
        """Decide; when it is accepted, do the work and note the run as dispatched, in one transaction.

        The work may be asked for again when the server undid the transaction for another's sake.
        """
        return await self._do(lambda connection: self._enlisted(connection, proposal, work))

    async def dispatched(self, run_id: str, token: int, *, lease_until: datetime | None) -> bool:
        """The claim was dispatched: the run is active. False when it is fenced."""
        until = None if lease_until is None else lease_until.astimezone(UTC)
        return bool(await self._value(self._sql.dispatched, stored(run_id), token, until))

    async def release(self, run_id: str, token: int) -> bool:
        """The dispatch failed: a redelivery may take the run over at once."""
        return bool(await self._value(self._sql.release, stored(run_id), token))

    async def end(self, run_id: str, *, outcome: str, now: datetime) -> bool:
        """The run's target is done. False when the run was not active any more."""
        values = stored(run_id), stored(outcome), now.astimezone(UTC)
        return bool(await self._value(self._sql.end, *values))

    async def renew(self, owner: str, *, lease_until: datetime) -> None:
        """Prolong every lease of this owner's claimed and active runs that have one."""
        until = lease_until.astimezone(UTC)
        for (token,) in await self._rows(self._sql.renew, stored(owner), until):
            await self._rows(self._sql.renew_run, token, stored(owner), until)

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        found = await self._rows(self._sql.run, stored(run_id))
        return rows.run(found[0]) if found else None

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
        statement, values = self._sql.runs(schedule_id, unfinished, since, until, limit)
        return [rows.run(row) for row in await self._rows(statement, *values)]

    async def records(
        self,
        *,
        schedule_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Record]:
        """Return decisions, newest first."""
        statement, values = self._sql.records(schedule_id, since, until, limit)
        return [rows.record(row) for row in await self._rows(statement, *values)]

    async def latest(self, schedule_id: str) -> datetime | None:
        """Return the latest nominal time that was decided for a scheduler, or None."""
        found = await self._value(self._sql.latest, stored(schedule_id))
        return None if found is None else instant(found)

    async def purge(self, now: datetime) -> int:
        """Forget everything that may be forgotten; return how many runs, skips and records."""
        count = 0
        while pruned := await self._value(self._sql.prune, now.astimezone(UTC), PURGED_AT_ONCE):
            count += pruned
        return count

    async def note_contracts(self, fingerprints: Mapping[str, str], *, now: datetime) -> None:
        """Note under which fingerprint each schedule id runs from now on."""
        ids = [stored(one) for one in fingerprints]
        prints = [stored(one) for one in fingerprints.values()]
        await self._rows(self._sql.note_contracts, ids, prints, now.astimezone(UTC))

    async def contract(self, schedule_id: str) -> KnownContract | None:
        """Return what is known of a schedule, or None."""
        found = await self._rows(self._sql.contract, stored(schedule_id))
        return rows.contract(found[0]) if found else None

    async def use_nonce(self, nonce: str, *, now: datetime, kept_until: datetime) -> bool:
        """Return True, and remember it until ``kept_until``; False when it is remembered already."""
        values = stored(nonce), now.astimezone(UTC), kept_until.astimezone(UTC)
        return bool(await self._value(self._sql.use_nonce, *values))

    async def drop_nonce(self, nonce: str) -> None:
        """Forget a nonce."""
        await self._rows(self._sql.drop_nonce, stored(nonce))

    async def close(self) -> None:
        """Finish what was begun and close the connections. May be repeated."""
        self._is_closed = True
        await self._connections.close()

    async def _decided(self, connection: Connection, proposal: Proposal) -> Ruling:
        values = rows.proposed(proposal, self._retention)
        (row,) = await _fetched(connection, self._sql.decide, values)
        return rows.ruling(row, proposal.now.astimezone(UTC))

    async def _enlisted(
        self, connection: Connection, proposal: Proposal, work: Callable[[Ruling], Enlistment]
    ) -> Ruling:
        async with connection.transaction():
            ruling = await self._decided(connection, proposal)
            if ruling.verdict is Verdict.ACCEPTED:
                await self._worked(connection, work(ruling))
                values = stored(ruling.run_id), ruling.token, None
                await _fetched(connection, self._sql.dispatched, values)
        return ruling

    async def _worked(self, connection: Connection, enlistment: Enlistment) -> None:
        """Do the work of another. Whatever it raises undoes the decision."""
        try:
            await enlistment(connection)
        except psycopg.Error:
            raise
        except Exception as error:
            text = str(error) if isinstance(error, PuristaError) else type(error).__name__
            raise self._refusal(
                f"what was to be enlisted failed, and nothing was decided: {text}"
            ) from error

    async def _value(self, statement: bytes, *values: object) -> Any:
        found = await self._rows(statement, *values)
        return found[0][0] if found else None

    async def _rows(self, statement: bytes, *values: object) -> list[Any]:
        return await self._do(lambda connection: _fetched(connection, statement, values))

    async def _do(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self._is_closed:
            raise self._refusal("it is closed; make a new one")
        return await self._connections.do(work)

    def _refusal(self, text: str) -> LedgerError:
        return LedgerError(f"ledger '{self._address}', schema '{self._schema}': {text}")


async def _fetched(connection: Connection, statement: bytes, values: Sequence[object]) -> list[Any]:
    """Return the rows of a statement, which the server keeps prepared."""
    cursor = await connection.execute(statement, values, prepare=True, binary=True)
    return await cursor.fetchall()

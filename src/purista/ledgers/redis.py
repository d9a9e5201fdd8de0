"""The Redis ledger: runs in one Redis or Valkey server that several machines can share.

Every step is one Lua script over eight keys; their names share a hash tag, so that a cluster has
them in one slot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from purista.errors import LedgerError
from purista.ledgers import redis_rows as rows
from purista.ledgers import redis_script as script
from purista.ledgers.book import RETENTION, is_within
from purista.ledgers.port import KnownContract, Proposal, Record, Ruling, Run
from purista.ledgers.redis_server import RedisServer

T = TypeVar("T")

TIMEOUT = timedelta(seconds=10)
"""How long connecting may take, and the answer to a step, each of them; shorter than a claim's lease."""

CONNECTIONS = 8
"""Steps that wait together share a round trip: more connections bring little."""

READ_AT_ONCE = 500
CHANGED_AT_ONCE = 100
"""How many rows one script reads or changes at most: it holds the server up for some milliseconds."""


class RedisLedger:
    """A ledger and its history in the server at ``url``, under keys that begin with ``{prefix}:``.

    ``redis://[user:password@]host[:port][/database]``, ``rediss://`` for TLS, ``unix://path``. What
    survives is what the server keeps: an append-only file with ``appendfsync always`` loses nothing
    that was answered. One that can forget is warned of by the first call.

    ``retention``: finished runs, skips and records are deleted once they are older than that and than
    their schedule's dedupe window; the latest nominal time of a schedule never is. ``timeout``: how
    long connecting may take, and an answer. ``connections``: so many are open at most; steps that wait
    for one share a round trip.

    The first call connects; what is wrong with the server is raised as ``LedgerError`` then, and the
    next call connects anew. Nothing is sent a second time: whether a step was taken whose answer was
    lost, a redelivery finds out. A caller that is cancelled leaves its step done or not begun. A ledger is
    used by one event loop at a time.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "purista",
        retention: timedelta = RETENTION,
        timeout: timedelta = TIMEOUT,
        connections: int = CONNECTIONS,
    ) -> None:
        if not prefix or set(prefix) & set("{}"):
            raise LedgerError(f"ledger in Redis: prefix '{prefix}': write a name without braces")
        self._server = RedisServer(url, prefix=prefix, timeout=timeout, connections=connections)
        self._retention = retention

    def __repr__(self) -> str:
        return f"RedisLedger({self._server.name!r})"

    async def decide(self, proposal: Proposal) -> Ruling:
        """Decide about a trigger and record the decision."""
        answer = await self._server.run(script.DECIDE, *rows.arguments(proposal, self._retention))
        return rows.ruling(answer, proposal.now)

    async def dispatched(self, run_id: str, token: int, *, lease_until: datetime | None) -> bool:
        """The claim was dispatched: the run is active. False when it is fenced."""
        lease = "" if lease_until is None else rows.digits(lease_until)
        return bool(await self._server.run(script.DISPATCHED, run_id, rows.number(token), lease))

    async def release(self, run_id: str, token: int) -> bool:
        """The dispatch failed: a redelivery may take the run over at once."""
        return bool(await self._server.run(script.RELEASE, run_id, rows.number(token)))

    async def end(self, run_id: str, *, outcome: str, now: datetime) -> bool:
        """The run's target is done. False when the run was not active any more."""
        return bool(await self._server.run(script.END, run_id, outcome, rows.digits(now)))

    async def renew(self, owner: str, *, lease_until: datetime) -> None:
        """Prolong every lease of this owner's claimed and active runs that have one."""
        lease, place = rows.digits(lease_until), b""
        while True:
            place = await self._server.run(script.RENEW, owner, lease, place, CHANGED_AT_ONCE)
            if not place:
                return

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        row = await self._server.field("runs", run_id)
        return None if row is None else rows.run(row)

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
        head = self._head("u" if unfinished else "t", schedule_id)
        low = head if since is None else head + rows.digits(since).encode()
        high = head + (b"\xff" if until is None else rows.digits(until).encode())
        width = len(head) + rows.INSTANT + rows.NUMBER
        page = (low, high, width)
        return await self._found("runs", page, limit, min(limit, READ_AT_ONCE), rows.runs)

    async def records(
        self,
        *,
        schedule_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Record]:
        """Return decisions, newest first."""

        def within(page: bytes) -> list[Record]:
            found = rows.records(page)
            return [one for one in found if is_within(one.nominal_time, since, until)]

        head = self._head("n", schedule_id)
        at_once = min(limit, READ_AT_ONCE) if since is until is None else READ_AT_ONCE
        return await self._found(
            "records", (head, head + b"\xff", len(head)), limit, at_once, within
        )

    async def latest(self, schedule_id: str) -> datetime | None:
        """Return the latest nominal time that was decided for a scheduler, or None."""
        found = await self._server.field("latest", schedule_id)
        return None if found is None else rows.instant(found)

    async def purge(self, now: datetime) -> int:
        """Forget everything that may be forgotten; return how many runs, skips and records.

        It takes a few milliseconds of the server's time at once, and lets others in between.
        """
        total, more = 0, 1
        while more:
            count, more = await self._server.run(script.PURGE, rows.digits(now), CHANGED_AT_ONCE)
            total += count
        return total

    async def note_contracts(self, fingerprints: Mapping[str, str], *, now: datetime) -> None:
        """Note under which fingerprint each schedule id runs from now on, some at once."""
        noted = list(fingerprints.items())
        for start in range(0, len(noted), CHANGED_AT_ONCE):
            texts = [text for pair in noted[start : start + CHANGED_AT_ONCE] for text in pair]
            await self._server.run(script.NOTE_CONTRACTS, rows.digits(now), *texts)

    async def contract(self, schedule_id: str) -> KnownContract | None:
        """Return what is known of a schedule, or None."""
        row = await self._server.field("contracts", schedule_id)
        return None if row is None else rows.contract(row)

    async def use_nonce(self, nonce: str, *, now: datetime, kept_until: datetime) -> bool:
        """Return True, and remember it until ``kept_until``; False when it is remembered already."""
        instants = (rows.digits(now), rows.digits(kept_until))
        return bool(await self._server.run(script.USE_NONCE, nonce, *instants))

    async def drop_nonce(self, nonce: str) -> None:
        """Forget a nonce."""
        await self._server.run(script.DROP_NONCE, nonce)

    async def close(self) -> None:
        """Finish what was begun and close the connections. May be repeated."""
        await self._server.close()

    def _head(self, letter: str, schedule_id: str | None) -> bytes:
        return rows.head(letter, None if schedule_id is None else self._server.encoded(schedule_id))

    async def _found(
        self,
        kind: str,
        page: tuple[bytes, bytes, int],
        limit: int,
        at_once: int,
        read: Callable[[bytes], list[T]],
    ) -> list[T]:
        """Read pages, downwards from ``high``, until there are enough or no more."""
        low, place, width = page
        found: list[T] = []
        while place and len(found) < limit:
            answer = await self._server.run(script.PAGE, kind, low, place, width, at_once)
            found += read(answer[0])
            place = answer[1]
        return found[:limit]

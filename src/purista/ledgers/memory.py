"""The memory ledger: runs in dictionaries of this process. They are gone when the process ends."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from purista.ledgers import book
from purista.ledgers.book import RETENTION, Entry
from purista.ledgers.port import KnownContract, Proposal, Record, Ruling, Run

PRUNED_PER_STEP = 4
"""More than one decision adds, so that forgetting keeps up; few enough to cost nothing."""


class MemoryLedger:
    """A ledger and its history for one process and one event loop.

    Finished runs, skips and records are forgotten once they are older than ``retention`` and than
    their schedule's dedupe window; the latest nominal time of a schedule never is.
    """

    def __init__(self, *, retention: timedelta = RETENTION) -> None:
        self._retention = retention
        self._book = _MemoryBook()
        self._contracts: dict[str, KnownContract] = {}
        self._nonces: dict[str, datetime] = {}
        self._nonces_due: list[tuple[datetime, str]] = []

    async def decide(self, proposal: Proposal) -> Ruling:
        """Decide about a trigger and record the decision."""
        ruling = book.decide(self._book, proposal, retention=self._retention)
        self._book.prune(proposal.now, PRUNED_PER_STEP)
        return ruling

    async def dispatched(self, run_id: str, token: int, *, lease_until: datetime | None) -> bool:
        """The claim was dispatched: the run is active. False when it is fenced."""
        return book.dispatched(self._book, run_id, token, lease_until=lease_until)

    async def release(self, run_id: str, token: int) -> bool:
        """The dispatch failed: a redelivery may take the run over at once."""
        return book.release(self._book, run_id, token)

    async def end(self, run_id: str, *, outcome: str, now: datetime) -> bool:
        """The run's target is done. False when the run was not active any more."""
        return book.end(self._book, run_id, outcome=outcome, now=now)

    async def renew(self, owner: str, *, lease_until: datetime) -> None:
        """Prolong every lease of this owner's claimed and active runs that have one."""
        self._book.renew(owner, lease_until)

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None."""
        entry = self._book.run(run_id)
        return None if entry is None else entry.run()

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
        found = (
            entry
            for entry in self._book.entries(schedule_id)
            if (entry.ended_at is None or not unfinished)
            and book.is_within(entry.nominal_time, since, until)
        )
        return [entry.run() for entry in heapq.nlargest(limit, found, key=_newest)]

    async def records(
        self,
        *,
        schedule_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[Record]:
        """Return decisions, newest first."""
        found = (
            record
            for _, record in self._book.records(schedule_id)
            if book.is_within(record.nominal_time, since, until)
        )
        return list(itertools.islice(found, limit))

    async def latest(self, schedule_id: str) -> datetime | None:
        """Return the latest nominal time that was decided for a scheduler, or None."""
        return self._book.latest(schedule_id)

    async def purge(self, now: datetime) -> int:
        """Forget everything that may be forgotten; return how many runs, skips and records."""
        return self._book.prune(now, None)

    async def note_contracts(self, fingerprints: Mapping[str, str], *, now: datetime) -> None:
        """Note under which fingerprint each schedule id runs from now on."""
        now = now.astimezone(UTC)
        for schedule_id, fingerprint in fingerprints.items():
            known = self._contracts.get(schedule_id)
            self._contracts[schedule_id] = book.noted(known, fingerprint, now)

    async def contract(self, schedule_id: str) -> KnownContract | None:
        """Return what is known of a schedule, or None."""
        return self._contracts.get(schedule_id)

    async def use_nonce(self, nonce: str, *, now: datetime, kept_until: datetime) -> bool:
        """Return True, and remember it until ``kept_until``; False when it is remembered already."""
        while self._nonces_due and self._nonces_due[0][0] <= now:
            kept, due = heapq.heappop(self._nonces_due)
            if self._nonces.get(due) == kept:
                del self._nonces[due]
        if nonce in self._nonces:
            return False
        self._nonces[nonce] = kept_until
        heapq.heappush(self._nonces_due, (kept_until, nonce))
        return True

    async def drop_nonce(self, nonce: str) -> None:
        """Forget a nonce."""
        self._nonces.pop(nonce, None)

    async def close(self) -> None:
        """Do nothing: there is nothing to release, and what is known stays readable."""


class _Skip(NamedTuple):
    schedule_id: str
    key: str
    nominal_time: datetime
    run_id: str
    seen_at: datetime


class _Numbered(NamedTuple):
    number: int
    record: Record


@dataclass(slots=True)
class _Page:
    """What is known of one schedule."""

    runs: dict[str, Entry] = field(default_factory=dict)
    by_key: dict[str, list[Entry]] = field(default_factory=dict)
    active: dict[str, Entry] = field(default_factory=dict)
    skips: dict[tuple[str, datetime], _Skip] = field(default_factory=dict)
    records: dict[int, _Numbered] = field(default_factory=dict)
    latest: datetime | None = None


_BLANK = _Page()
"""Read in place of a page that is not there; never written."""


class _MemoryBook:
    """The rows, by run id and by schedule, and by the instant from which they may be forgotten."""

    __slots__ = ("_due", "_holders", "_leases", "_numbers", "_pages", "_runs")

    def __init__(self) -> None:
        self._runs: dict[str, Entry] = {}
        self._pages: dict[str, _Page] = {}
        self._leases: dict[str, dict[str, Entry]] = {}
        self._holders: dict[str, str] = {}
        self._due: list[tuple[datetime, int, Entry | _Skip | _Numbered]] = []
        self._numbers = itertools.count(1)

    def run(self, run_id: str) -> Entry | None:
        return self._runs.get(run_id)

    def newest(self, schedule_id: str, key: str, *, since: datetime) -> Entry | None:
        found = self._read(schedule_id).by_key.get(key, ())
        known = [run for run in found if run.claimed_at > since and not run.is_given_up]
        return max(known, key=_claimed, default=None)

    def active(self, schedule_id: str, *, expired_at: datetime | None) -> Sequence[Entry]:
        found = self._read(schedule_id).active.values()
        return [one for one in found if expired_at is None or one.expires_at <= expired_at]

    def insert(self, entry: Entry) -> None:
        page = self._write(entry.schedule_id)
        known = self._runs.get(entry.run_id)
        if known is not None:
            self._forget_run(known)
        self._runs[entry.run_id] = page.runs[entry.run_id] = entry
        page.by_key.setdefault(entry.key, []).append(entry)
        self._keep(entry.kept_until, entry)
        self.update(entry)

    def update(self, entry: Entry) -> None:
        active = self._write(entry.schedule_id).active
        if entry.is_active:
            active[entry.run_id] = entry
        else:
            active.pop(entry.run_id, None)
        self._hold(entry)

    def skipped(
        self, schedule_id: str, key: str, nominal_time: datetime, *, since: datetime
    ) -> str | None:
        skip = self._read(schedule_id).skips.get((key, nominal_time))
        return skip.run_id if skip is not None and skip.seen_at > since else None

    def skip(self, record: Record, *, kept_until: datetime) -> None:
        skip = _Skip(
            record.schedule_id, record.key, record.nominal_time, record.run_id, record.decided_at
        )
        self._write(record.schedule_id).skips[skip.key, skip.nominal_time] = skip
        self._keep(kept_until, skip)

    def append(self, record: Record, *, kept_until: datetime, is_latest: bool) -> int:
        page = self._write(record.schedule_id)
        numbered = _Numbered(next(self._numbers), record)
        page.records[numbered.number] = numbered
        self._keep(kept_until, numbered)
        if is_latest and (page.latest is None or record.nominal_time > page.latest):
            page.latest = record.nominal_time
        return numbered.number

    def renew(self, owner: str, lease_until: datetime) -> None:
        for entry in self._leases.get(owner, {}).values():
            entry.lease_until = max(entry.lease_until or lease_until, lease_until)

    def entries(self, schedule_id: str | None) -> Iterable[Entry]:
        return (self._runs if schedule_id is None else self._read(schedule_id).runs).values()

    def records(self, schedule_id: str | None) -> Iterable[_Numbered]:
        pages = self._pages.values() if schedule_id is None else [self._read(schedule_id)]
        newest = (reversed(page.records.values()) for page in pages)
        return heapq.merge(*newest, key=_number, reverse=True)

    def latest(self, schedule_id: str) -> datetime | None:
        return self._read(schedule_id).latest

    def prune(self, now: datetime, most: int | None) -> int:
        """Forget things that are old enough, a few or all; return how many."""
        count = looked_at = 0
        while self._due and self._due[0][0] <= now and (most is None or looked_at < most):
            looked_at += 1
            count += self._forget(heapq.heappop(self._due)[2])
        return count

    def _read(self, schedule_id: str) -> _Page:
        return self._pages.get(schedule_id, _BLANK)

    def _write(self, schedule_id: str) -> _Page:
        page = self._pages.get(schedule_id)
        if page is None:
            page = self._pages[schedule_id] = _Page()
        return page

    def _keep(self, kept_until: datetime, thing: Entry | _Skip | _Numbered) -> None:
        heapq.heappush(self._due, (kept_until, next(self._numbers), thing))

    def _hold(self, entry: Entry) -> None:
        """Note whose lease the run is under."""
        holder = self._holders.pop(entry.run_id, None)
        if holder is not None:
            held = self._leases[holder]
            del held[entry.run_id]
            if not held:
                del self._leases[holder]
        if entry.is_active and entry.lease_until is not None:
            self._holders[entry.run_id] = entry.owner
            self._leases.setdefault(entry.owner, {})[entry.run_id] = entry

    def _forget(self, thing: Entry | _Skip | _Numbered) -> bool:
        """Forget it, unless it was overwritten by a newer one."""
        if isinstance(thing, Entry):
            if self._runs.get(thing.run_id) is not thing:
                return False
            self._forget_run(thing)
        elif isinstance(thing, _Skip):
            skips = self._write(thing.schedule_id).skips
            if skips.get((thing.key, thing.nominal_time)) is not thing:
                return False
            del skips[thing.key, thing.nominal_time]
        else:
            del self._write(thing.record.schedule_id).records[thing.number]
        return True

    def _forget_run(self, entry: Entry) -> None:
        page = self._write(entry.schedule_id)
        del self._runs[entry.run_id], page.runs[entry.run_id]
        page.active.pop(entry.run_id, None)
        page.by_key[entry.key].remove(entry)
        if not page.by_key[entry.key]:
            del page.by_key[entry.key]


def _newest(entry: Entry) -> tuple[datetime, int]:
    return entry.nominal_time, entry.token


def _claimed(entry: Entry) -> tuple[datetime, int]:
    return entry.claimed_at, entry.token


def _number(numbered: _Numbered) -> int:
    return numbered.number

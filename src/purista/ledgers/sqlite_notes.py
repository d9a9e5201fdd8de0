"""What a SQLite ledger remembers beside runs: contracts, and nonces."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime

from purista.ledgers.book import noted
from purista.ledgers.port import KnownContract
from purista.ledgers.sqlite_book import instant, micros

PRUNED_AT_ONCE = 4
"""How many nonces at most are deleted when one comes in: more than come."""


class SQLiteNotes:
    """The rows of contracts and nonces on one connection."""

    __slots__ = ("connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def note_contracts(self, fingerprints: Mapping[str, str], now: datetime) -> None:
        """Note under which fingerprint each schedule runs; write only what changed."""
        for schedule_id, fingerprint in fingerprints.items():
            known = self.contract(schedule_id)
            changed = noted(known, fingerprint, now.astimezone(UTC))
            if changed is not known:
                self._store(schedule_id, changed)

    def contract(self, schedule_id: str) -> KnownContract | None:
        """Return what is known of a schedule."""
        row = self.connection.execute(
            "SELECT fingerprint, previous, since, known_since FROM contracts WHERE schedule_id = ?",
            (schedule_id,),
        ).fetchone()
        if row is None:
            return None
        return KnownContract(
            fingerprint=row[0],
            previous=row[1],
            since=instant(row[2]),
            known_since=instant(row[3]),
        )

    def use_nonce(self, nonce: str, now: datetime, kept_until: datetime) -> bool:
        """Remember a nonce; False, and nothing changes, when it is remembered already."""
        self.prune(now, PRUNED_AT_ONCE)
        used = self.connection.execute(
            "INSERT INTO nonces VALUES (?, ?) ON CONFLICT (nonce) "
            "DO UPDATE SET kept_until = excluded.kept_until WHERE nonces.kept_until <= ?",
            (nonce, micros(kept_until), micros(now)),
        )
        return used.rowcount == 1

    def drop_nonce(self, nonce: str) -> None:
        """Forget a nonce."""
        self.connection.execute("DELETE FROM nonces WHERE nonce = ?", (nonce,))

    def prune(self, now: datetime, most: int) -> int:
        """Delete nonces that are old enough, at most ``most``; return how many."""
        return self.connection.execute(
            "DELETE FROM nonces WHERE nonce IN "
            "(SELECT nonce FROM nonces WHERE kept_until <= ? ORDER BY kept_until LIMIT ?)",
            (micros(now), most),
        ).rowcount

    def _store(self, schedule_id: str, known: KnownContract) -> None:
        self.connection.execute(
            "INSERT OR REPLACE INTO contracts VALUES (?, ?, ?, ?, ?)",
            (
                schedule_id,
                known.fingerprint,
                known.previous,
                micros(known.since),
                micros(known.known_since),
            ),
        )

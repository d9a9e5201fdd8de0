"""Ledgers: the port, and one module for each store."""

from purista.ledgers.port import (
    Contracts,
    EnlistingLedger,
    Enlistment,
    History,
    KnownContract,
    Ledger,
    Nonces,
    Proposal,
    Record,
    Ruling,
    Run,
    RunStatus,
    Verdict,
)

__all__ = [
    "Contracts",
    "EnlistingLedger",
    "Enlistment",
    "History",
    "KnownContract",
    "Ledger",
    "Nonces",
    "Proposal",
    "Record",
    "Ruling",
    "Run",
    "RunStatus",
    "Verdict",
]

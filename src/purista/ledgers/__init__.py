"""Ledgers: the port, and one module for each store; memory and SQLite first."""

from purista.ledgers.port import (
    History,
    Ledger,
    Proposal,
    Record,
    Ruling,
    Run,
    RunStatus,
    Verdict,
)

__all__ = ["History", "Ledger", "Proposal", "Record", "Ruling", "Run", "RunStatus", "Verdict"]

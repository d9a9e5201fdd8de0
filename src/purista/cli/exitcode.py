"""Exit codes: what a shell, cron or systemd learns of a command."""

from __future__ import annotations

from typing import Final

from purista.errors import IngressError, LedgerError
from purista.ingress import Decision
from purista.ledgers import Verdict

DONE: Final = 0
REFUSED: Final = 1
"""Refused for good, or the run failed; for ``audit``: something had no effect."""
MISUSE: Final = 2
NO_SPACE: Final = 74
"""Output could not be written (``EX_IOERR`` of sysexits(3))."""
AGAIN: Final = 75
"""Nothing was decided, or not for good: try again (``EX_TEMPFAIL`` of sysexits(3))."""

_FAILED: Final = ("failed", "dead", "run_timeout")


def code_of(decision: Decision, outcome: str = "") -> int:
    """Return the code of a decision, and of its run's outcome where that is known."""
    if decision.retry:
        return AGAIN
    is_refused = decision.verdict in (Verdict.UNEXPECTED, Verdict.REJECTED)
    return REFUSED if is_refused or outcome.startswith(_FAILED) else DONE


def code_of_error(error: IngressError | LedgerError) -> int:
    """Return the code of a trigger that nothing was decided about."""
    is_refusal = isinstance(error, IngressError) and error.retry_after is None
    return REFUSED if is_refusal else AGAIN


def worst(codes: list[int]) -> int:
    """Return the code of several: what was refused counts more than what can be tried again."""
    return max(codes, key=(DONE, AGAIN, REFUSED, MISUSE).index, default=DONE)

"""The port to an ingress: the same whether it runs in this process or behind an address."""

from __future__ import annotations

from typing import Protocol

from purista.ingress.decision import Decision
from purista.ledgers import Run
from purista.trigger import Trigger


class TriggerIngress(Protocol):
    """What entry points need of an ingress; ``Ingress`` and ``IngressClient`` are ones."""

    async def accept(self, trigger: Trigger) -> Decision:
        """Decide about a trigger.

        Raises ``LedgerError`` or ``IngressError`` when nothing was decided.
        """

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None. Raises ``LedgerError`` or ``IngressError``."""

    async def cancel(self, run_id: str) -> bool:
        """Cancel an active run; False when it is not active. Raises ``LedgerError`` or ``IngressError``."""

"""Which versions of a contract an ingress takes triggers for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from purista.contract import Schedule
from purista.ledgers import Contracts
from purista.manifest import fingerprint
from purista.trigger import Trigger

UnknownContract = Literal["refuse", "accept"]


class ContractCheck:
    """Takes the current and the previous version, and others only where ``unknown`` says so.

    The previous version is what ``previous`` says, and what the ledger knows: it remembers under
    which fingerprint each schedule ran before. A version that another process has begun to run is
    taken as well, so that a rolling deployment refuses nothing.
    """

    def __init__(
        self,
        ledger: object,
        previous: Mapping[str, str],
        unknown: UnknownContract,
    ) -> None:
        self._contracts = ledger if isinstance(ledger, Contracts) else None
        self._previous = previous
        self._accepts = unknown == "accept"
        self._current: dict[str, str] = {}

    async def note(self, schedules: Mapping[str, Schedule], now: datetime) -> None:
        """Tell the ledger which versions run from now on."""
        if self._contracts is not None:
            current = {name: self._fingerprint(one) for name, one in schedules.items()}
            await self._contracts.note_contracts(current, now=now)

    async def judge(self, trigger: Trigger, schedule: Schedule) -> tuple[bool, str]:
        """Return whether the trigger's version is taken, and what there is to say about it."""
        sent = trigger.fingerprint
        if sent is None or sent == self._fingerprint(schedule):
            return True, ""
        if await self._is_known(schedule.id, sent):
            return True, "the scheduler runs another version of the contract"
        if self._accepts:
            return True, "the scheduler runs an unknown version of the contract"
        return False, (
            "the scheduler runs a version of the contract that is neither the current nor the "
            "previous one; compile and apply the current one"
        )

    async def _is_known(self, schedule_id: str, sent: str) -> bool:
        if self._previous.get(schedule_id) == sent:
            return True
        known = None if self._contracts is None else await self._contracts.contract(schedule_id)
        return known is not None and sent in (known.fingerprint, known.previous)

    def _fingerprint(self, schedule: Schedule) -> str:
        known = self._current.get(schedule.id)
        if known is None:
            known = self._current[schedule.id] = fingerprint(schedule)
        return known

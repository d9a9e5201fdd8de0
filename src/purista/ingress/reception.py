"""One trigger as an entry point takes it: its trace, its decision, its answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from purista.errors import IngressError, LedgerError, TriggerError
from purista.ingress.answer import PROBLEM, Answer, answer, decided, problem, unavailable
from purista.ingress.decision import Decision
from purista.ingress.port import TriggerIngress
from purista.ledgers import Verdict
from purista.telemetry import telemetry
from purista.trigger import Trigger

MALFORMED: Final = (400, 413, 415, 422)
"""What an ingress behind an address answers to what is wrong with the trigger itself; anything else that
it refuses (credentials, addresses) is mended elsewhere, and the trigger is to be sent again."""


class Reception:
    """Takes triggers for one entry point; whatever happens, there is an answer by the one table.

    ``entry`` names the entry point in metrics. What no retry can mend is logged as an error. A trigger
    whose time is none of the contract's is done with: schedulers that cannot say an expression exactly
    send such ones on purpose (docs/schedulers.md), and dead letters are for mistakes.
    """

    def __init__(self, ingress: TriggerIngress, entry: str, logger: logging.Logger) -> None:
        self._ingress = ingress
        self._entry = entry
        self._logger = logger
        self._telemetry = telemetry()

    async def take(self, trigger: Trigger, carrier: Mapping[str, str]) -> Answer:
        """Have a trigger decided, in the trace of ``carrier``."""
        try:
            given = await self._decided(trigger, carrier)
        except LedgerError as error:
            self._logger.error("schedule %s: nothing was decided: %s", trigger.schedule_id, error)
            return unavailable("the ledger failed; nothing was decided")
        except IngressError as error:
            given = _undecided(error)
        if given.is_problem:
            self._log(trigger.schedule_id, given)
        return given

    def malformed(self, error: TriggerError) -> Answer:
        """Answer what is no trigger."""
        if self._telemetry is not None:
            self._telemetry.refused(self._entry, "invalid-trigger")
        self._logger.error("refused: %s", error)
        return problem(400, "invalid-trigger", str(error))

    async def _decided(self, trigger: Trigger, carrier: Mapping[str, str]) -> Answer:
        if self._telemetry is None or not carrier:
            return _given(await self._ingress.accept(trigger))
        with self._telemetry.arrived(carrier):
            return _given(await self._ingress.accept(trigger))

    def _log(self, schedule_id: str, given: Answer) -> None:
        level = logging.ERROR if given.retry_after is None else logging.WARNING
        self._logger.log(level, "schedule %s: %s", schedule_id, words(given))


def words(given: Answer) -> str:
    """Return a problem in one line: its kind, and what there is to say about it."""
    kind = str(given.document["type"]).removeprefix(PROBLEM)
    detail = "; ".join(str(given.document["detail"]).splitlines())
    return f"{kind}: {detail}"[:500]


def _given(decision: Decision) -> Answer:
    if decision.verdict is Verdict.UNEXPECTED and not decision.retry:
        return Answer(200, decided(decision))
    return answer(decision)


def _undecided(error: IngressError) -> Answer:
    """Answer that an ingress behind an address decided nothing."""
    if error.retry_after is None and error.status in MALFORMED:
        return problem(error.status, "rejected", str(error))
    given = unavailable(str(error))
    seconds = max(given.retry_after or 0, round(error.retry_after or 0))
    return Answer(given.status, given.document, seconds)

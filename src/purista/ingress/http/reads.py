"""What is read over HTTP beside runs: the schedules, and whether the ingress is well."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

from purista.contract import Schedule
from purista.errors import LedgerError
from purista.ingress.answer import Answer, instant_text, unavailable
from purista.ingress.http.openapi import openapi
from purista.ingress.http.request import Refusal, Request
from purista.ingress.ingress import Ingress
from purista.manifest import fingerprint
from purista.wire import write_expression

READY_TIME: Final = timedelta(seconds=5)
"""How long the ledger has to answer before the ingress is not ready."""

READY_FRESH: Final = timedelta(seconds=1)
"""How long an answer of the ledger is good: whoever asks, it is asked once a second at most."""

AT_A_TIME: Final = 50
"""Schedules that are written down before others get their turn."""


class Reads:
    """Shows the schedules of an ingress, and how it is."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress
        self._asked_at: datetime | None = None
        self._failure: str | None = None
        self._asking = asyncio.Lock()
        self._documents: dict[str, dict[str, Any]] = {}

    async def schedules(self, request: Request) -> Answer:
        """Return every schedule with its next nominal time."""
        request.parameters(())
        now = self._ingress.clock.now()
        documents = []
        for number, one in enumerate(self._ingress.schedules.values()):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
            known = self._documents.get(one.id)
            if known is None:
                known = self._documents[one.id] = _schedule_document(one)
            documents.append({**known, "nextTime": instant_text(one.next_after(now))})
        return Answer(200, {"schedules": documents})

    async def health(self, request: Request) -> Answer:
        """Return that the process answers; whether it can decide is another question."""
        return Answer(200, {"status": "ok"})

    async def ready(self, request: Request) -> Answer:
        """Return that triggers can be decided and sent on: the ledger answers, no broker is away."""
        if not self._ingress.is_open:
            raise Refusal(unavailable("the ingress is closing"), "not_ready")
        async with self._asking:
            now = self._ingress.clock.now()
            if self._asked_at is None or not timedelta(0) <= now - self._asked_at < READY_FRESH:
                self._failure = await self._failure_of_ledger()
                self._asked_at = now
        if self._failure is not None:
            answer = unavailable("the ledger does not answer")
            raise Refusal(answer, "not_ready", note=self._failure)
        away = self._ingress.away()
        if away:
            raise Refusal(unavailable("a broker is away"), "not_ready", note="; ".join(away))
        return Answer(200, {"status": "ready"})

    async def document(self, request: Request) -> Answer:
        """Return the OpenAPI document."""
        return Answer(200, openapi())

    async def _failure_of_ledger(self) -> str | None:
        try:
            async with asyncio.timeout(READY_TIME.total_seconds()):
                await self._ingress.ledger.run("ready")
        except (LedgerError, TimeoutError) as error:
            return str(error) or "it takes too long"
        return None


def _schedule_document(schedule: Schedule) -> dict[str, Any]:
    """Return what never changes of a schedule."""
    return {
        "scheduleId": schedule.id,
        "description": schedule.description,
        "targetKind": schedule.target_kind,
        "targetName": schedule.target.name,
        "expression": write_expression(schedule.expression),
        "timezone": schedule.timezone,
        "enabled": schedule.enabled,
        "concurrencyPolicy": str(schedule.concurrency_policy),
        "missedRunPolicy": str(schedule.missed_run_policy),
        "fingerprint": fingerprint(schedule),
    }

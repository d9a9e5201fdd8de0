"""Runs over HTTP: what the ledger knows of them, and cancelling one."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from purista.errors import TriggerError
from purista.ingress.answer import Answer, run_document
from purista.ingress.http.barecall import instant_of
from purista.ingress.http.request import Refusal, Request, refusal
from purista.ingress.ingress import Ingress
from purista.jsonvalue import NotJsonError, read_document

LIMIT: Final = 100
"""How many runs are listed when nothing is said."""

MOST: Final = 1000

PARAMETERS: Final = ("schedule", "unfinished", "since", "until", "limit")


class Runs:
    """Shows the runs of an ingress, and cancels them."""

    def __init__(self, ingress: Ingress) -> None:
        self._ingress = ingress

    async def all(self, request: Request) -> Answer:
        """Return runs, newest nominal time first."""
        given = request.parameters(PARAMETERS)
        found = await self._ingress.ledger.runs(
            schedule_id=_id_in(given),
            unfinished=_flag_in(given, "unfinished"),
            since=_instant_in(given, "since"),
            until=_instant_in(given, "until"),
            limit=_limit_in(given),
        )
        return Answer(200, {"runs": [run_document(run) for run in found]})

    async def one(self, request: Request) -> Answer:
        """Return a run."""
        request.parameters(())
        run = await self._ingress.run(_run_id(request.part))
        if run is None:
            raise _no_run()
        return Answer(200, run_document(run))

    async def cancel(self, request: Request) -> Answer:
        """Cancel a run; one that is not active any more stays as it is."""
        request.parameters(())
        run_id = _run_id(request.part)
        request.check_is_vouched_for(by_body=bool(request.body))
        _check_body(request.body, run_id)
        if await self._ingress.cancel(run_id):
            return Answer(200, {"runId": run_id, "cancelled": True})
        if await self._ingress.run(run_id) is None:
            raise _no_run()
        return Answer(200, {"runId": run_id, "cancelled": False})


_ID: Final = re.compile("[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,1024}")
"""What an id can be; nothing else is looked up, as not every store could be asked."""

_LIMIT: Final = re.compile(r"[1-9]\d{0,3}", re.ASCII)


def _run_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise _no_run()
    return text


def _no_run() -> Refusal:
    return refusal(404, "not-found", "unknown_run", "no such run is known")


def _check_body(body: bytes, run_id: str) -> None:
    """Refuse a body that names another run: a signature covers the body, and not the path."""
    if not body:
        return
    try:
        document = read_document(body)
    except NotJsonError as error:
        detail = f"the body is not JSON: {error}"
        raise refusal(400, "invalid-request", "invalid_body", detail) from None
    if document != {"runId": run_id}:
        detail = 'the body does not say {"runId": ...} of the run that the path names'
        raise refusal(400, "invalid-request", "invalid_body", detail)


def _id_in(given: dict[str, str]) -> str | None:
    schedule_id = given.get("schedule")
    if schedule_id is not None and not _ID.fullmatch(schedule_id):
        raise _wrong("schedule", "a schedule's id")
    return schedule_id


def _flag_in(given: dict[str, str], name: str) -> bool:
    text = given.get(name, "false")
    if text not in ("true", "false"):
        raise _wrong(name, "true or false")
    return text == "true"


def _instant_in(given: dict[str, str], name: str) -> datetime | None:
    if name not in given:
        return None
    try:
        return instant_of(f"query '{name}'", given[name])
    except TriggerError:
        raise _wrong(name, "a time such as 2027-03-01T01:00:00Z") from None


def _limit_in(given: dict[str, str]) -> int:
    text = given.get("limit", str(LIMIT))
    if not _LIMIT.fullmatch(text) or int(text) > MOST:
        raise _wrong("limit", f"a number from 1 to {MOST}")
    return int(text)


def _wrong(name: str, wanted: str) -> Refusal:
    detail = f"the parameter '{name}' is not {wanted}"
    return refusal(400, "invalid-request", "invalid_parameter", detail)

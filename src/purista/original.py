"""Manifests that the TypeScript original exports (``@purista/core`` 3.x), put into this form.

Their names are the same, without what this project adds. What differs: ``backfill`` is ``catchUp``
here; a time zone may stand inside a cron expression; a one-shot may be a number of milliseconds; an
idempotency key is any text there and a path into the payload here; options without a counterpart
are kept beside ours, and named in the notes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from purista.errors import Problem
from purista.expression import EPOCH
from purista.payload import Schema, key_problems, rfc3339
from purista.wire import WrongValueError, schema, shown

KEPT: Mapping[str, str] = {
    "parameterSchema": "a message has a payload only; put what handlers need into the payload",
    "schedulerGroup": "say in the scheduler's own hints, or by service, what belongs together",
}
"""Fields of the original that mean nothing here, and the advice for each."""

ORIGINAL_KEY = "originalIdempotencyKey"
"""Where an idempotency key of the original is kept that is no path into the payload."""

ORIGINAL_FIELDS = frozenset({*KEPT, ORIGINAL_KEY})
"""Fields that a converted schedule may have beside ours."""


def is_original(document: Mapping[str, Any]) -> bool:
    """Whether a manifest is one of the TypeScript original: it does not name its version."""
    return "manifestVersion" not in document


def converted(document: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem], list[Problem]]:
    """Return a manifest of the original in this form, with the problems and the notes found.

    What is wrong in another way stays as it is, for the reader to say.
    """
    problems: list[Problem] = []
    notes: list[Problem] = []
    made = dict(document)
    schedules = document.get("schedules")
    if isinstance(schedules, list):
        made["schedules"] = [
            _schedule(entry, f"schedules[{index}]", problems, notes)
            if isinstance(entry, dict)
            else entry
            for index, entry in enumerate(schedules)
        ]
    return made, problems, notes


def _schedule(
    entry: dict[str, Any], place: str, problems: list[Problem], notes: list[Problem]
) -> dict[str, Any]:
    made = dict(entry)
    for option, advice in KEPT.items():
        if option in made:
            notes.append(Problem(f"{place}.{option}", "is kept and has no effect", advice))
    if made.get("missedRunPolicy") == "backfill":
        made["missedRunPolicy"] = "catchUp"
    notes += _key_notes(made, place)
    if isinstance(entry.get("expression"), dict):
        problems += _expression(made, f"{place}.expression")
    return made


def _key_notes(made: dict[str, Any], place: str) -> Iterator[Problem]:
    """Move away a key that is no path of the payload: here it would mean another thing."""
    key = made.get("idempotencyKey")
    if not isinstance(key, str):
        return
    try:
        document = schema(made.get("payloadSchema", {}))
    except WrongValueError:
        return
    if not key_problems(key, Schema.from_json_schema(document), ""):
        return
    made[ORIGINAL_KEY] = made.pop("idempotencyKey")
    yield Problem(
        f"{place}.idempotencyKey",
        f"{shown(key)} is no path of the payload, so it is kept as {ORIGINAL_KEY} and has no effect",
        "write a path, such as 'payload.cycleId'; until then schedule and nominal time are the key",
    )


def _expression(made: dict[str, Any], place: str) -> Iterator[Problem]:
    expression = dict(made["expression"])
    made["expression"] = expression
    inner = expression.pop("timezone", None)
    if inner is not None:
        outer = made.get("timezone", inner)
        if outer != inner:
            yield Problem(
                f"{place}.timezone",
                f"{shown(inner)} is not the schedule's own timezone {shown(outer)}",
                "name one zone",
            )
        made["timezone"] = inner
    run_at = expression.get("runAt")
    if run_at == {}:
        yield Problem(
            f"{place}.runAt",
            "is empty: the original writes a Date object so",
            "write the instant as a text",
        )
        expression["runAt"] = rfc3339(EPOCH)
    elif isinstance(run_at, int | float) and not isinstance(run_at, bool):
        expression["runAt"] = _from_epoch(run_at)


def _from_epoch(milliseconds: float) -> Any:
    try:
        return rfc3339(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds))
    except OverflowError:
        return milliseconds

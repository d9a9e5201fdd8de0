"""What travels over a bridge: a name, a JSON body, and the run that it belongs to."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

RUN_ENDED = "dev.purista.run.ended"
"""Event: the target of a run is done. Its message carries the run; the body is ``{"outcome": ...}``."""

CANCELLED = "cancelled"
"""The outcome of a run that somebody cancelled, and the reason that its handlers are told."""

RUN_CANCELLED = "dev.purista.run.cancelled"
"""Event: a run was replaced or cancelled, or ran out of time. Body: ``{"runId": ..., "reason": ...}``."""


class RunInfo(NamedTuple):
    """Which run a message belongs to.

    ``is_target`` is true on the message that the ingress itself dispatched, and false on what a
    handler sends on: settling the first ends the run, settling the others does not.
    """

    run_id: str
    schedule_id: str
    nominal_time: datetime
    timezone: str
    is_target: bool


class Message(NamedTuple):
    """One event, queue job or command request.

    ``name`` is that of the event, queue or command (commands as ``service.v<version>.name``),
    ``body`` is JSON in UTF-8, ``id`` is unique per message. ``headers`` travel with it: the trace context.
    """

    name: str
    body: bytes
    id: str
    run: RunInfo | None = None
    headers: Mapping[str, str] | None = None


_prefix = f"{os.urandom(8).hex()}-"
_numbers = itertools.count(1)


def new_message_id() -> str:
    """Return an id that no other message has, in this process or another."""
    return f"{_prefix}{next(_numbers)}"


def _renew_prefix() -> None:  # pragma: no cover - runs in the forked child, which is not measured
    global _prefix
    _prefix = f"{os.urandom(8).hex()}-"


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_renew_prefix)

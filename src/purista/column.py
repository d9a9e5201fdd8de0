"""The columns of a manifest: every option of a schedule and of a message, by its name on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from purista.contract import ConcurrencyPolicy, DstGap, DstOverlap, MissedRunPolicy, TargetKind
from purista.payload import rfc3339
from purista.wire import (
    anything,
    backoff,
    copied,
    count,
    duration,
    expression,
    flag,
    instant,
    milliseconds,
    positive_duration,
    read_exclusions,
    record,
    text,
    texts,
    word,
    write_backoff,
    write_exclusions,
    write_expression,
    zone,
)


class Column(NamedTuple):
    """One option: its name in the manifest, its attribute in Python, how it is read and written.

    ``meant`` says whether it belongs to the meaning of a schedule, so that its fingerprint changes.
    A value that is None is not written.
    """

    name: str
    attribute: str
    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    meant: bool = True


SCHEDULE_COLUMNS: tuple[Column, ...] = (
    Column("description", "description", text, anything, meant=False),
    Column("expression", "expression", expression, write_expression),
    Column("timezone", "timezone", zone, anything),
    Column("dstGap", "dst_gap", word(DstGap), str),
    Column("dstOverlap", "dst_overlap", word(DstOverlap), str),
    Column("startAt", "start_at", instant, rfc3339),
    Column("endAt", "end_at", instant, rfc3339),
    Column("exclusions", "exclude", read_exclusions, write_exclusions),
    Column("jitterWindowMs", "jitter", duration, milliseconds),
    Column("concurrencyPolicy", "concurrency_policy", word(ConcurrencyPolicy), str),
    Column("missedRunPolicy", "missed_run_policy", word(MissedRunPolicy), str),
    Column("misfireGraceMs", "misfire_grace", duration, milliseconds),
    Column("catchUpWindowMs", "catch_up_window", duration, milliseconds),
    Column("maxCatchUpCount", "max_catch_up", count, anything),
    Column("runTimeoutMs", "run_timeout", positive_duration, milliseconds),
    Column("dedupeWindowMs", "dedupe_window", positive_duration, milliseconds),
    Column("idempotencyKey", "idempotency_key", text, anything),
    Column("payload", "payload", anything, copied),
    Column("completedBy", "completed_by", text, anything),
    Column("enabledByDefault", "enabled", flag, anything),
    Column("providerHints", "provider_hints", record, copied, meant=False),
    Column("tags", "tags", texts, list, meant=False),
)
"""Every option of a schedule. Its name, service and target are the rest of its entry."""

MESSAGE_COLUMNS: Mapping[TargetKind, tuple[Column, ...]] = {
    "event": (),
    "queue": (
        Column("maxAttempts", "max_attempts", count, anything),
        Column("leaseMs", "lease", positive_duration, milliseconds),
        Column("backoff", "backoff", backoff, write_backoff),
    ),
    "command": (Column("timeoutMs", "timeout", positive_duration, milliseconds),),
}
"""What a message says besides its name and its schemas, by kind."""

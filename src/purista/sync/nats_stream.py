"""What keeps a stream from keeping schedules, or them from firing. Pure.

https://docs.nats.io/nats-concepts/jetstream/streams; what a schedule needs of a stream is ADR-51, and
what each setting does to one is in ``tests/test_sync_nats.py``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from purista.plan import Desired

TARGET: Final = "Nats-Schedule-Target"
TTL: Final = "Nats-Schedule-TTL"

_LIMITS: Final = (
    ("max_age", 0, "schedules that are older are deleted"),
    ("max_msgs", -1, "schedules are deleted to make room"),
    ("max_bytes", -1, "schedules are deleted to make room"),
    ("max_msgs_per_subject", -1, "triggers that wait are deleted to make room"),
)
_ONLY: Final = (
    ("storage", "file", "a restart forgets the schedules"),
    ("no_ack", False, "it does not say whether it has kept a schedule"),
    ("sealed", False, "it takes nothing more"),
    ("subject_transform", None, "a schedule is stored under another subject"),
)


def config_problems(config: Mapping[str, Any], desired: Sequence[Desired]) -> Iterator[str]:
    """Yield which settings of a stream have to be others."""
    if not config.get("allow_msg_schedules"):
        yield "allow_msg_schedules has to be true: it takes no schedules"
    if any(TTL in each.fields for each in desired) and not config.get("allow_msg_ttl"):
        yield "allow_msg_ttl has to be true: triggers say how long they are worth keeping"
    for name, none, why in _LIMITS:
        if config.get(name, none) > 0:
            yield f"{name} has to be {none}: {why}"
    for name, only, why in _ONLY:
        if config.get(name, only) != only:
            yield f"{name} has to be {_text(only)}: {why}"
    if config.get("retention") == "interest":
        yield "retention has to be workqueue: what nobody consumes, such as a schedule, is not kept"


def consumer_problems(
    config: Mapping[str, Any],
    consumers: Sequence[Mapping[str, Any]],
    names: Collection[str],
) -> Iterator[str]:
    """Yield which consumers would take schedules out of a stream."""
    if config.get("retention") != "workqueue":
        return
    for each in consumers:
        filters = each.get("filter_subjects") or [each.get("filter_subject") or ">"]
        if any(matches(one, name) for one in filters for name in names):
            yield (
                f"consumer '{each.get('name', '')}' has to be one of triggers only: what it acknowledges "
                "is deleted, also a schedule"
            )


def missing_subjects(
    subjects: Sequence[str], desired: Sequence[Desired], prefix: str
) -> Iterator[str]:
    """Yield what is to be among the subjects of a stream and is not."""

    def is_there(subject: str) -> bool:
        return any(matches(each, subject) for each in subjects)

    if not all(is_there(each.name) for each in desired):
        yield f"{prefix}.>"
    for target in sorted({str(each.fields[TARGET]) for each in desired}):
        if not is_there(target):
            yield target


def matches(pattern: str, subject: str) -> bool:
    """Whether a subject is one of a pattern (https://docs.nats.io/nats-concepts/subjects).

    >>> matches("jobs.*.due", "jobs.billing.due"), matches("jobs.>", "jobs")
    (True, False)
    """
    wanted, given = pattern.split("."), subject.split(".")
    for at, part in enumerate(wanted):
        if part == ">":
            return len(given) > at
        if at >= len(given) or part not in ("*", given[at]):
            return False
    return len(wanted) == len(given)


def _text(value: object) -> str:
    return "none" if value is None else str(value).lower()

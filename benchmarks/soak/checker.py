"""The checker: knows the contract, the effect log and when processes were killed; nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import pairwise

from benchmarks.soak.contract import Plan, due, kind_of
from benchmarks.soak.effects import Attempt, Effects

from purista import Schedule, Service


def mistakes(
    plan: Plan, soak: Service, effects: Effects, died_at: Mapping[int, float]
) -> Iterator[str]:
    """Say what is missing, what took effect twice, and which runs overlapped."""
    found = effects.effects()
    attempts: dict[str, list[Attempt]] = {}
    for attempt in effects.attempts():
        attempts.setdefault(attempt.schedule_id, []).append(attempt)
    known = {schedule.id for schedule in soak.schedules.values()}
    yield from (f"{name}: no such schedule" for name in sorted(set(found) - known))
    for schedule in soak.schedules.values():
        happened = found.get(schedule.id, [])
        yield from _wrong_effects(plan, schedule, happened)
        if kind_of(schedule) in ("alone", "burst"):
            yield from _overlaps(attempts.get(schedule.id, []), died_at)


def _wrong_effects(
    plan: Plan, schedule: Schedule, happened: list[tuple[datetime, str]]
) -> Iterator[str]:
    times = due(plan, schedule)
    counts = Counter(nominal for nominal, _ in happened)
    yield from (f"{schedule.id}: {one} is none of its times" for one in set(counts) - set(times))
    yield from (f"{schedule.id}: {one} took effect {n} times" for one, n in counts.items() if n > 1)
    match kind_of(schedule):
        case "latest":
            if set(counts) != {times[-1]}:
                yield f"{schedule.id}: {sorted(counts)} took effect, not {times[-1]} alone"
        case "keyed":
            minutes = Counter(one.replace(second=0) for one in counts)
            expected = {one.replace(second=0) for one in times}
            yield from (f"{schedule.id}: nothing in {one}" for one in expected - set(minutes))
            yield from (
                f"{schedule.id}: {one} took effect twice" for one, n in minutes.items() if n > 1
            )
        case "burst":
            if not counts:
                yield f"{schedule.id}: nothing took effect"
        case _:
            yield from (f"{schedule.id}: {one} is missing" for one in times if one not in counts)


def _overlaps(attempts: list[Attempt], died_at: Mapping[int, float]) -> Iterator[str]:
    """Say which different runs of a schedule were at work at the same time."""
    spans = []
    for one in attempts:
        ended = one.ended if one.ended is not None else died_at.get(one.pid)
        if ended is None:
            yield f"{one.schedule_id}: {one.nominal_time} never ended, though its process lives"
        else:
            spans.append((one.began, ended, one))
    for (_, ended, one), (began, _, other) in pairwise(sorted(spans)):
        if began < ended and one.run_id != other.run_id:
            yield (
                f"{one.schedule_id}: {one.nominal_time} and {other.nominal_time} "
                f"overlap by {ended - began:.4f} s"
            )

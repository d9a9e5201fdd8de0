"""When a spec of Temporal fires by itself, and the contracts that it would have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, NamedTuple

from purista import firetimes
from purista.clockchange import Timing
from purista.errors import ContractError, ExpressionError
from purista.expression import EPOCH, Cron, Every, Expression, Once
from purista.plan import PAUSED
from purista.schedulers.temporal import READING
from purista.sync.firing import merged_times
from purista.sync.port import Foreign
from purista.sync.temporal_fields import LIMIT, NOTES, part
from purista.zone import zone_of

KINDS: Final = ("structuredCalendar", "interval", "excludeStructuredCalendar")
"""The parts of a spec that say when; a spec with any other is not read."""

_FIELDS: Final = (
    ("second", range(60)),
    ("minute", range(60)),
    ("hour", range(24)),
    ("dayOfMonth", range(1, 32)),
    ("month", range(1, 13)),
    ("dayOfWeek", range(7)),
)
_DAY: Final = timedelta(days=1)
_OTHERS: Final = frozenset({"timezoneName", "startTime", "endTime", "jitter"})


class Due(NamedTuple):
    """One calendar or interval of a spec. No ``years`` are all of them."""

    expression: Expression
    years: frozenset[int] = frozenset()
    comment: str = ""


def spec_times(
    spec: Mapping[str, Any], start: datetime, end: datetime
) -> Iterator[datetime] | None:
    """Return the times of a spec from ``start`` to ``end``, without its jitter; None if it is not understood.

    Where an hour comes twice it fires as ``READING`` says.
    """
    try:
        parts = list(parts_of(spec))
        zone = zone_name(spec)
        bounds = (
            max(filter(None, [start, time_of(spec, "startTime")])),
            min(filter(None, [end, time_of(spec, "endTime")])),
        )
        times = [_times(each, zone, *bounds) for each in parts]
    except (ValueError, ContractError, ExpressionError):
        return None
    excluded = spec.get("excludeStructuredCalendar", ())
    return (
        at for at in merged_times(times) if not any(_holds(each, at, zone) for each in excluded)
    )


def parts_of(spec: Mapping[str, Any]) -> Iterator[Due]:
    """Yield the calendars and intervals of a spec. Raises ``ValueError`` for what is not understood."""
    unknown = sorted(spec.keys() - {*KINDS, *_OTHERS})
    if unknown:
        raise ValueError(f"it has {', '.join(unknown)}")
    for calendar in spec.get("structuredCalendar", ()):
        yield _calendar(calendar, zone_name(spec))
    for interval in spec.get("interval", ()):
        length, phase = (_duration(interval.get(name, "0s")) for name in ("interval", "phase"))
        yield Due(Every(length, EPOCH + phase))


def foreign_schedules(name: str, fields: Mapping[str, Any]) -> Iterator[Foreign]:
    """Yield what a schedule that is none of ours says: a contract for each calendar and interval."""
    spec, action, policies = (part(fields, name) for name in ("spec", "action", "policies"))
    kind = action.get("workflowType", {}).get("name", "something else")
    doubts = [f"it starts workflow {kind}", *_policy_doubts(policies)]
    if fields[LIMIT] is not None:
        doubts.append(f"it fires {fields[LIMIT]} more times only")
    if "excludeStructuredCalendar" in spec:
        doubts.append("its excluded calendars are not taken over")
    said: dict[str, Any] = {"enabled": not fields[PAUSED], "description": fields[NOTES]}
    try:
        parts = list(parts_of(spec))
        said["timezone"] = zone = zone_name(spec)
        overlap = READING.overlap_in(firetimes.offset_at(zone, EPOCH))
        said["start_at"], said["end_at"] = time_of(spec, "startTime"), time_of(spec, "endTime")
        said["jitter"] = jitter_of(spec)
    except (ValueError, ContractError, ExpressionError) as error:
        yield Foreign(name, None, doubts=(*doubts, f"no contract can say it: {error}"), **said)
        return
    said |= {"dst_gap": READING.dst_gap, "dst_overlap": overlap}
    if len(parts) > 1:
        doubts.append(f"it fires once where its {len(parts)} calendars and intervals coincide")
    if not parts:
        yield Foreign(name, None, doubts=(*doubts, "it never fires by itself"), **said)
    for number, due in enumerate(parts, 1):
        own = list(doubts)
        if due.comment:
            own.append(f"its comment is {' '.join(due.comment.split())}")
        if due.years:
            own.append(f"it fires in {', '.join(map(str, sorted(due.years)))} only")
        called = name if len(parts) == 1 else f"{name}-{number}"
        yield Foreign(called, due.expression, doubts=tuple(own), **said)


def zone_name(spec: Mapping[str, Any]) -> str:
    """Return the time zone of a spec. Raises ``ContractError`` for one that is unknown."""
    name = str(spec.get("timezoneName") or "UTC")
    zone_of(name)
    return name


def time_of(spec: Mapping[str, Any], name: str) -> datetime | None:
    """Return a bound of a spec. Raises ``ValueError`` for what is no time."""
    return datetime.fromisoformat(spec[name]).astimezone(UTC) if name in spec else None


def jitter_of(spec: Mapping[str, Any]) -> timedelta:
    """Return the jitter of a spec. Raises ``ValueError`` for what is no duration."""
    return _duration(spec.get("jitter", "0s"))


def _policy_doubts(policies: Mapping[str, Any]) -> Iterator[str]:
    if policies.get("overlapPolicy"):
        yield f"its overlap policy is {policies['overlapPolicy']}"
    if policies.get("catchupWindow"):
        yield f"what it missed it makes up for within {_duration(policies['catchupWindow'])}"
    if policies.get("pauseOnFailure"):
        yield "it is paused when its workflow fails"
    if policies.get("keepOriginalWorkflowId"):
        yield "its workflows have no time in their ids"


def _calendar(calendar: Mapping[str, Any], zone: str) -> Due:
    texts = [_text(_values(calendar, name), whole) for name, whole in _FIELDS]
    years = frozenset(_values(calendar, "year"))
    rule = READING.day_rule if "*" not in (texts[3], texts[5]) else None
    has_seconds = texts[0] != "0"
    cron = Cron(" ".join(texts if has_seconds else texts[1:]), day_rule=rule, seconds=has_seconds)
    due = Due(cron, years, calendar.get("comment", ""))
    once = _once(due, zone)
    return due if once is None else due._replace(expression=Once(once), years=frozenset())


def _once(due: Due, zone: str) -> datetime | None:
    """Return the one time of a calendar; None where it has none, or several, as at clock changes."""
    if len(due.years) != 1:
        return None
    (year,) = due.years
    first = datetime(year, 1, 1, tzinfo=UTC)
    times = list(islice(_times(due, zone, first - _DAY, first + 367 * _DAY), 2))
    return times[0] if len(times) == 1 else None


def _values(calendar: Mapping[str, Any], name: str) -> list[int]:
    found: set[int] = set()
    for each in calendar.get(name, ()):
        first = each.get("start", 0)
        found.update(range(first, max(each.get("end", 0), first) + 1, each.get("step") or 1))
    return sorted(found)


def _text(values: list[int], whole: range) -> str:
    if not values:
        raise ValueError("a field that names nothing never matches")
    return "*" if values == list(whole) else ",".join(map(str, values))


def _times(due: Due, zone: str, start: datetime, end: datetime) -> Iterator[datetime]:
    if isinstance(due.expression, Once):
        at = due.expression.at
        return iter([at] if start <= at <= end else [])
    overlap = READING.overlap_in(firetimes.offset_at(zone, start)) or "both"
    timing = Timing(due.expression, zone, READING.dst_gap or "skip", overlap)
    times = timing.between(start, end)
    if not due.years:
        return times
    local = zone_of(zone)
    return (at for at in times if at.astimezone(local).year in due.years)


def _holds(calendar: Mapping[str, Any], at: datetime, zone: str) -> bool:
    local = at.astimezone(zone_of(zone))
    said: Iterable[tuple[str, int]] = (
        ("year", local.year),
        ("month", local.month),
        ("dayOfMonth", local.day),
        ("dayOfWeek", local.isoweekday() % 7),
        ("hour", local.hour),
        ("minute", local.minute),
        ("second", local.second),
    )
    return all(
        value in _values(calendar, name)
        for name, value in said
        if name != "year" or "year" in calendar
    )


def _duration(text: str) -> timedelta:
    return timedelta(seconds=float(text.removesuffix("s")))

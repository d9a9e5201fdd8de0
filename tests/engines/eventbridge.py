"""When EventBridge Scheduler and classic rules fire: an independent model from the vendor's pages.

It must not import purista: it is the yardstick. Where the pages are silent, a `Reading` says what is
assumed, and a test asks every one in `READINGS`. What the pages leave without any meaning is refused
(`UndocumentedError`), for a compiled artifact must not depend on it.

Pages (all under https://docs.aws.amazon.com): TYPES = scheduler/latest/UserGuide/schedule-types.html,
API = scheduler/latest/APIReference/API_CreateSchedule.html,
RULES = eventbridge/latest/userguide/eb-create-rule-schedule.html.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import product
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tests.engines.awscron import Cron, UndocumentedError, ValidationException, dates, parse


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read what the pages leave open.

    `overlap`: which of the two passes a repeated local time runs in. TYPES says "only once", and in its
    example "before the shift occurs" (first), with clock times that no clock change has.
    `wildcards`: whether "only once" also holds for expressions that follow the clock: `once` for all;
    `hours`: both passes if the hour field begins with `*`; `any`: if the minute or the hour field does.
    `one_time_gap`: what `at()` does in a gap; TYPES speaks of cron only.
    `start`, `end`: API: "on, or after" a StartDate, "on, or before" an EndDate.
    `month_edge`: whether `1W` and `31W` may leave their month.
    """

    overlap: Literal["first", "last"] = "first"
    wildcards: Literal["once", "hours", "any"] = "once"
    one_time_gap: Literal["skip", "next", "shift"] = "skip"
    start: Literal["inclusive", "exclusive"] = "inclusive"
    end: Literal["inclusive", "exclusive"] = "inclusive"
    month_edge: Literal["stay", "leave"] = "stay"


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHOICES: Iterator[tuple[Any, ...]] = product(
    ("first", "last"),
    ("once", "hours", "any"),
    ("skip", "next", "shift"),
    ("inclusive", "exclusive"),
    ("inclusive", "exclusive"),
    ("stay", "leave"),
)
READINGS: tuple[Reading, ...] = tuple(Reading(*choice) for choice in _CHOICES)
# Those that agree with the example under "Daylight savings time on EventBridge Scheduler" in TYPES.
DOCUMENTED_READINGS = tuple(reading for reading in READINGS if reading.overlap == "first")


def readings(schedule: Mapping[str, Any]) -> tuple[Reading, ...]:
    """The members of `READINGS` that can differ for this request: ask these, it is faster."""
    expression = str(schedule["ScheduleExpression"])
    kept = dict.fromkeys(_neutral(reading, schedule, expression) for reading in READINGS)
    return tuple(kept)


def fires(
    schedule: Mapping[str, Any],
    *,
    start: datetime,
    end: datetime,
    reading: Reading = Reading(),
    created: datetime | None = None,
) -> list[datetime]:
    """The instants (UTC, `start` <= t <= `end`) for which a CreateSchedule request invokes its target.

    `created` is when the request is made; a `rate()` without StartDate starts then (TYPES).
    """
    expression = str(schedule["ScheduleExpression"])
    zone = _zone(str(schedule.get("ScheduleExpressionTimezone", "UTC")))
    window(schedule, start)
    if schedule.get("State", "ENABLED") == "DISABLED":
        return []
    if expression.startswith("at("):
        # TYPES: "EventBridge Scheduler ignores the StartDate and EndDate" of a one-time schedule.
        found = _one_time(_at(expression), zone, reading)
        return [instant for instant in found if start <= instant <= end]
    lower, upper = _bound(schedule, "StartDate"), _bound(schedule, "EndDate")
    if lower and upper and upper <= lower:
        raise UndocumentedError("EndDate is not after StartDate")
    if expression.startswith("rate("):
        # TYPES: `rate(1 days)` is an example and units are plural; API also lists the singular.
        step = _rate(expression, strict=False)
        recurring = _every(step, lower or created, start, end)
    else:
        recurring = _recurring(expression, zone, start, end, reading, years_optional=True)
        if lower and reading.start == "exclusive":
            recurring = (instant for instant in recurring if instant != lower)
    return [t for t in recurring if _within(t, lower, upper, reading)]


def rule_fires(
    rule: Mapping[str, Any],
    *,
    start: datetime,
    end: datetime,
    reading: Reading = Reading(),
    created: datetime | None = None,
) -> list[datetime]:
    """The same for a PutRule request: RULES: "All scheduled events use UTC+0 time zone"."""
    expression = str(rule["ScheduleExpression"])
    # RULES: "You can only create scheduled rules using the default event bus."
    if str(rule.get("EventBusName", "default")).rsplit("/", 1)[-1] != "default":
        raise ValidationException("ScheduleExpression is supported only on the default event bus")
    if rule.get("State", "ENABLED") == "DISABLED":
        return []
    if expression.startswith("rate("):
        # RULES: "A rate expression starts when you create the scheduled event rule".
        return list(_every(_rate(expression, strict=True), created, start, end))
    return list(_recurring(expression, _zone("UTC"), start, end, reading, years_optional=False))


def window(schedule: Mapping[str, Any], fire: datetime) -> tuple[datetime, datetime]:
    """The first and last second in which the target of this fire may be invoked."""
    flexible = schedule["FlexibleTimeWindow"]
    minutes = flexible.get("MaximumWindowInMinutes")
    if flexible["Mode"] == "OFF":
        if minutes is not None:
            raise UndocumentedError("MaximumWindowInMinutes beside Mode OFF")
        # TYPES: "it will invoke the target API between 1:00:00 and 1:00:59".
        return fire, fire + timedelta(seconds=59)
    if minutes is None or not 1 <= minutes <= 1440:  # API_FlexibleTimeWindow.html
        raise ValidationException("MaximumWindowInMinutes must be 1 to 1440")
    return fire, fire + timedelta(minutes=minutes)


def instants(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The instants at which clocks in the zone show this time: none in a gap, two in an overlap."""
    found = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(t for t in found if t.astimezone(zone).replace(tzinfo=None) == wall))


def _neutral(reading: Reading, schedule: Mapping[str, Any], expression: str) -> Reading:
    cron, once = expression.startswith("cron("), expression.startswith("at(")
    utc = str(schedule.get("ScheduleExpressionTimezone", "UTC")) == "UTC"
    fields = expression[5:-1].split() if cron else ["", "", ""]
    star = cron and not utc and (fields[0].startswith("*") or fields[1].startswith("*"))
    return Reading(
        overlap=reading.overlap if not utc and (cron or once) else "first",
        wildcards=reading.wildcards if star else "once",
        one_time_gap=reading.one_time_gap if once and not utc else "skip",
        start=reading.start if cron and "StartDate" in schedule else "inclusive",
        end=reading.end if not once and "EndDate" in schedule else "inclusive",
        month_edge=reading.month_edge if "W" in fields[2] else "stay",
    )


def _zone(name: str) -> ZoneInfo:
    # TYPES: "EventBridge Scheduler uses the Time Zone Database maintained by IANA".
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValidationException(f"Invalid ScheduleExpressionTimezone {name!r}") from error


def _bound(schedule: Mapping[str, Any], name: str) -> datetime | None:
    value = schedule.get(name)
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    if found is not None and found.tzinfo is None:
        raise ValidationException(f"{name}: not a timestamp in UTC")
    return found


def _within(
    instant: datetime, lower: datetime | None, upper: datetime | None, reading: Reading
) -> bool:
    if lower and instant < lower:
        return False
    if upper and reading.end == "exclusive":
        return instant < upper
    return upper is None or instant <= upper


def _rate(expression: str, *, strict: bool) -> timedelta:
    found = re.fullmatch(r"rate\(([1-9]\d*) (minute|hour|day)(s?)\)", expression)
    if not found:
        raise ValidationException(f"Invalid Schedule Expression {expression}.")
    value, unit, plural = found.groups()
    # RULES: "If the value is equal to 1, then the unit must be singular", above it plural.
    if strict and (value == "1") == bool(plural):
        raise ValidationException(f"Parameter ScheduleExpression is not valid: {expression}")
    # TYPES: a day "represents a 24-hour duration on the clock".
    return timedelta(**{f"{unit}s": int(value)})


def _every(
    step: timedelta, anchor: datetime | None, start: datetime, end: datetime
) -> Iterator[datetime]:
    # TYPES: "you use the StartDate property to set the first occurrence".
    if anchor is None:
        raise UndocumentedError("rate() without StartDate starts at creation: say `created`")
    count = max(0, -((anchor - start) // step))
    while (instant := anchor + count * step) <= end:
        if instant >= start:
            yield instant.astimezone(UTC)
        count += 1


def _at(expression: str) -> datetime:
    if not re.fullmatch(r"at\(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\)", expression):
        raise ValidationException(f"Invalid Schedule Expression {expression}.")
    try:
        return datetime.fromisoformat(expression[3:-1])
    except ValueError as error:
        raise ValidationException(f"Invalid Schedule Expression {expression}.") from error


def _one_time(wall: datetime, zone: ZoneInfo, reading: Reading) -> Sequence[datetime]:
    found = instants(wall, zone)
    if found:
        return [found[0] if reading.overlap == "first" else found[-1]]
    after = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    match reading.one_time_gap:
        case "skip":
            return []
        case "shift":
            return [after]
        case "next":
            while after - before > timedelta(seconds=1):
                middle = before + (after - before) // 2
                gone = middle.astimezone(zone).replace(tzinfo=None) > wall
                before, after = (before, middle) if gone else (middle, after)
            return [after.replace(microsecond=0)]


def _recurring(
    expression: str,
    zone: ZoneInfo,
    start: datetime,
    end: datetime,
    reading: Reading,
    *,
    years_optional: bool,
) -> Iterator[datetime]:
    first = start.astimezone(zone).date() - timedelta(days=1)
    last = end.astimezone(zone).date() + timedelta(days=1)
    cron = parse(expression, years_optional)
    both = cron.follows(reading.wildcards)
    found: set[datetime] = set()
    for passes in _passes(cron, zone, first, last, reading.month_edge):
        # TYPES: in a gap "your schedule invocation is skipped": there are no passes then.
        chosen = passes if both else passes[:1] if reading.overlap == "first" else passes[-1:]
        found.update(chosen)
    return (instant for instant in sorted(found) if start <= instant <= end)


@lru_cache(maxsize=64)
def _passes(
    cron: Cron, zone: ZoneInfo, first: date, last: date, edge: str
) -> tuple[tuple[datetime, ...], ...]:
    return tuple(
        instants(datetime(day.year, day.month, day.day, hour, minute), zone)
        for day in dates(cron, first, last, edge)
        for hour, minute in product(cron.hours, cron.minutes)
    )

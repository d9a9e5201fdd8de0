"""What ``cron(...)``, ``rate(...)`` and ``at(...)`` mean, as AWS reads them.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html: weekdays are 1 to 7 from
Sunday, one day field is ``?``, there is a year, and a time in a gap is skipped. Which pass of a repeated
hour fires it does not say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from purista import firetimes
from purista.clockchange import Timing
from purista.dialect import clock_windows, windows_met
from purista.errors import ContractError, ExpressionError
from purista.expression import Cron, Every, Expression, Once
from purista.plan import PAUSED
from purista.sync.eventbridge_fields import fields_of
from purista.sync.port import Foreign

GAP, OVERLAP = "skip", "first"
"""What stands in a contract for what AWS does at a clock change."""

AHEAD: Final = timedelta(days=3652)
"""So far ahead clock changes are looked at."""

_PARTS: Final = re.compile(r"(cron|rate|at)\((.*)\)", re.DOTALL)
_RATE: Final = re.compile(r"([1-9]\d*) (minute|hour|day)s?")
_UNDOCUMENTED: Final = re.compile(r"L-\d+|LW")
_NUMBER: Final = re.compile(r"\d+")
_YEARS: Final = range(1970, 2200)


class Read(NamedTuple):
    """When a schedule fires. ``doubts`` say what of that is not sure."""

    expression: Expression
    timezone: str
    start_at: datetime | None = None
    end_at: datetime | None = None
    doubts: tuple[str, ...] = ()

    @property
    def ends_before_it_starts(self) -> bool:
        """Whether there is no time at which it could fire."""
        return bool(self.start_at and self.end_at and self.end_at < self.start_at)

    def is_over(self, now: datetime) -> bool:
        """Whether its last time has come."""
        last = self.expression.at if isinstance(self.expression, Once) else self.end_at
        return last is not None and last <= now


def read_times(
    fields: Mapping[str, Any], since: datetime, until: datetime, created: datetime | None = None
) -> Read:
    """Return what the fields of a schedule mean from ``since`` to ``until``.

    Raises ``ValueError``, or ``ExpressionError``, for what no contract can say.
    """
    found = _PARTS.fullmatch(fields["expression"])
    zone = fields["timezone"]
    if found is None:
        raise ValueError(f"its expression '{fields['expression']}' is not understood")
    if firetimes.zone_problems(zone):
        raise ValueError(f"its time zone '{zone}' is unknown here")
    kind, text = found.groups()
    if kind == "at":
        return _one_time(text, zone)
    bounds = _time(fields["start"]), _time(fields["end"])
    if kind == "rate":
        return _interval(text, zone, *bounds, created)
    return _recurring(text, zone, *bounds, since, until)


def fire_times(
    fields: Mapping[str, Any], start: datetime, end: datetime
) -> Iterable[datetime] | None:
    """Return when a schedule fires by itself; None where that is not sure."""
    if fields[PAUSED]:
        return ()
    try:
        read = read_times(fields, start, end)
        timing = Timing(read.expression, read.timezone, GAP, OVERLAP, read.start_at, read.end_at)
    except (ValueError, ContractError, ExpressionError):
        return None
    return None if read.doubts else timing.between(start, end)


def is_over(fields: Mapping[str, Any], now: datetime) -> bool:
    """Whether it is a one-time schedule whose time has come."""
    try:
        read = read_times(fields, now, now)
    except (ValueError, ExpressionError):
        return False
    return isinstance(read.expression, Once) and read.expression.at <= now


def foreign_schedule(name: str, found: Mapping[str, Any], now: datetime) -> Foreign:
    """Return what an answer of GetSchedule says, as a contract would."""
    fields = fields_of(found)
    doubts = [f"it sends to {fields['target']['Arn']}"]
    said: dict[str, Any] = {
        "enabled": not fields[PAUSED],
        "description": found.get("Description") or "",
        "jitter": timedelta(minutes=fields["window"]),
        "dst_gap": GAP,
        "dst_overlap": OVERLAP,
    }
    try:
        read = read_times(fields, now, now + AHEAD, found.get("CreationDate"))
    except (ValueError, ExpressionError) as error:
        return Foreign(name, None, doubts=(*doubts, f"no contract can say it: {error}"), **said)
    if read.ends_before_it_starts:
        return Foreign(
            name, None, doubts=(*doubts, "it never fires: it ends before it begins"), **said
        )
    if read.is_over(now):
        doubts.append("its time is over")
    if fields["after_completion"] == "DELETE":
        doubts.append("AWS deletes it after the last time")
    said |= {"timezone": read.timezone, "start_at": read.start_at, "end_at": read.end_at}
    return Foreign(name, read.expression, doubts=(*doubts, *read.doubts), **said)


def _one_time(text: str, zone: str) -> Read:
    wall = datetime.fromisoformat(text)
    if wall.tzinfo is not None:
        raise ValueError(f"at({text}) has an offset")
    passes = _instants(wall, zone)
    if not passes:
        raise ValueError(f"there is no {text} in {zone}, and what AWS does then no page says")
    doubt = f"{text} comes twice in {zone}; the first is taken, which no page says"
    return Read(Once(passes[0]), "UTC", doubts=(doubt,) if len(passes) > 1 else ())


def _interval(
    text: str, zone: str, start: datetime | None, end: datetime | None, created: datetime | None
) -> Read:
    found = _RATE.fullmatch(text)
    if found is None:
        raise ValueError(f"rate({text}) is not understood")
    step = timedelta(**{f"{found[2]}s": int(found[1])})
    doubts = () if start else ("it counts from when it was created",)
    return Read(Every(step, start or created), zone, start, end, doubts)


def _recurring(
    text: str,
    zone: str,
    start: datetime | None,
    end: datetime | None,
    since: datetime,
    until: datetime,
) -> Read:
    fields = text.split()
    if len(fields) not in (5, 6):
        raise ValueError(f"cron({text}) has {len(fields)} fields")
    minute, hour, day, month, weekday, year = [*fields, "*"][:6]
    if (day == "?") == (weekday == "?"):
        raise ValueError(f"cron({text}) has ? in both day fields, or in none")
    days = (day.replace("?", "*"), month, _weekdays(weekday))
    cron = Cron(" ".join((minute, hour, *days)))
    doubts = [*_word_doubts(fields), *_overlap_doubts(cron, zone, since, until)]
    if year != "*":
        years = sorted(_years(year))
        starts = datetime(years[0], 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        ends = datetime(years[-1], 12, 31, 23, 59, 59, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        start, end = max(start or starts, starts), min(end or ends, ends)
        if len(years) <= years[-1] - years[0]:
            doubts.append(f"it fires in the years {year} only")
    return Read(cron, zone, start, end, tuple(doubts))


def _weekdays(text: str) -> str:
    """Return a weekday field as a contract counts: from 0 for Sunday."""
    if text in ("?", "*"):
        return "*"
    if text == "L":
        return "6"
    if "/" in text:
        raise ValueError(f"what the step of weekdays '{text}' means no page of AWS says")
    day, hash_, number = text.partition("#")
    shifted = _NUMBER.sub(lambda each: str(int(each[0]) - 1), day)
    if shifted.endswith("L"):
        return f"{shifted[:-1]}#L"
    return f"{shifted}{hash_}{number}"


def _years(text: str) -> Iterator[int]:
    for item in text.split(","):
        body, _, step = item.partition("/")
        first, dash, last = body.partition("-")
        low = _YEARS.start if first == "*" else int(first)
        high = int(last) if dash else _YEARS.stop - 1 if step or first == "*" else low
        if low > high or low not in _YEARS or high not in _YEARS:
            raise ValueError(f"its years '{text}' are not understood")
        yield from range(low, high + 1, int(step or 1))


def _word_doubts(fields: Iterable[str]) -> Iterator[str]:
    """Yield a doubt for what AWS took, though no page of it says what it means."""
    for text in fields:
        for item in text.split(","):
            first, dash, last = item.partition("/")[0].partition("-")
            is_wrapping = dash and first.isdecimal() and last.isdecimal() and int(first) > int(last)
            if is_wrapping or _UNDOCUMENTED.fullmatch(item):
                yield f"what '{item}' means no page of AWS says"


def _overlap_doubts(cron: Cron, zone: str, since: datetime, until: datetime) -> Iterator[str]:
    overlaps = tuple(
        each for each in clock_windows(zone, since, until) if each.transition.change < timedelta(0)
    )
    if windows_met(cron, overlaps):
        yield "which pass of a repeated hour it fires in no page of AWS says"


def _instants(wall: datetime, zone: str) -> list[datetime]:
    """Return the instants at which the clocks of a zone show a time."""
    found = {wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(at for at in found if at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

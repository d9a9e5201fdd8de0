"""When Google Cloud Scheduler starts a job: an independent model from the vendor's pages.

It must not import purista: it is the yardstick. Where the pages are silent, a `Reading` says what is
assumed, and a test asks every one in `READINGS`. English-like schedules ("every 5 minutes") are not
modelled. Google promises no time in words either: a start waits for the previous execution's end
("Cloud Scheduler will never allow two simultaneously outstanding executions", the `schedule` field).

Pages: FORMAT = https://docs.cloud.google.com/scheduler/docs/configuring/cron-job-schedules,
JOB = https://docs.cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import product
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


class InvalidArgumentError(ValueError):
    """The service refuses the schedule (gRPC INVALID_ARGUMENT)."""


class UndocumentedError(InvalidArgumentError):
    """FORMAT does not say what this means; whether the service takes it is not known."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read what the pages leave open.

    FORMAT: "For some time zones, daylight saving time can cause jobs to run or not run unexpectedly.
    This is because Cloud Scheduler runs on wall clock time", and where a time occurs twice "your
    scheduled job may observe execution anomalies" - and no more.
    `gap`: a local time that does not exist is left out, runs at the first instant after the gap
    (`next`), or later by the gap's length (`shift`). `overlap`: which passes of a repeated time run.
    `wildcards`: whether this holds for expressions that follow the clock too: `same`; or, if the hour
    field (`hours`) or the minute or hour field (`any`) begins with `*`, a gap is left out and both
    passes run. `star`: what FORMAT's "unrestricted with an asterisk" is in a day field: `bare` is `*`
    alone, `leading` is `*/2` too, as in Vixie's cron.
    """

    gap: Literal["skip", "next", "shift"] = "skip"
    overlap: Literal["first", "last", "both"] = "first"
    wildcards: Literal["same", "hours", "any"] = "same"
    star: Literal["bare", "leading"] = "bare"


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CHOICES: Iterator[tuple[Any, ...]] = product(
    ("skip", "next", "shift"),
    ("first", "last", "both"),
    ("same", "hours", "any"),
    ("bare", "leading"),
)
READINGS: tuple[Reading, ...] = tuple(Reading(*choice) for choice in _CHOICES)


def readings(job: Mapping[str, Any]) -> tuple[Reading, ...]:
    """The members of `READINGS` that can differ for this job: ask these, it is faster."""
    texts = str(job["schedule"]).split()
    utc = _zone(job).key == "UTC"
    follows = any(text.startswith("*") for text in texts[:2])
    split = any(re.match(r"\*.", text) for text in texts[2:5:2])
    kept = (
        Reading(
            gap="skip" if utc else reading.gap,
            overlap="first" if utc else reading.overlap,
            wildcards=reading.wildcards if follows and not utc else "same",
            star=reading.star if split else "bare",
        )
        for reading in READINGS
    )
    return tuple(dict.fromkeys(kept))


def fires(
    job: Mapping[str, Any],
    *,
    start: datetime,
    end: datetime,
    reading: Reading = Reading(),
) -> list[datetime]:
    """The schedule times (UTC, `start` <= t <= `end`) of a job as in the REST API's JSON."""
    zone = _zone(job)
    cron = _cron(str(job["schedule"]))
    if job.get("state") == "PAUSED":  # JOB: "The job is paused by the user. It will not execute."
        return []
    first = start.astimezone(zone).date() - timedelta(days=1)
    last = end.astimezone(zone).date() + timedelta(days=1)
    follows = cron.follows(reading.wildcards)
    found: set[datetime] = set()
    for wall, passes in _passes(cron, zone, first, last, reading.star):
        if not passes and not follows:
            found.update(_in_gap(wall, zone, reading.gap))
        elif follows or reading.overlap == "both":
            found.update(passes)
        else:
            found.add(passes[0] if reading.overlap == "first" else passes[-1])
    return [instant for instant in sorted(found) if start <= instant <= end]


def _zone(job: Mapping[str, Any]) -> ZoneInfo:
    # JOB: "For UTC use the string utc. If a time zone is not specified, the default will be in UTC".
    # FORMAT: "The default time-zone is Etc/UTC".
    name = str(job.get("timeZone", "")) or "UTC"
    if name.lower() in {"utc", "etc/utc"}:
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InvalidArgumentError(f"timeZone {name!r} is not in the tz database") from error


@lru_cache(maxsize=64)
def _passes(
    cron: "_Cron", zone: ZoneInfo, first: date, last: date, star: str
) -> tuple[tuple[datetime, tuple[datetime, ...]], ...]:
    walls = (
        datetime(day.year, day.month, day.day, hour, minute)
        for day in _dates(cron, first, last, star)
        for hour, minute in product(cron.hours, cron.minutes)
    )
    return tuple((wall, _instants(wall, zone)) for wall in walls)


def _instants(wall: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The instants at which clocks in the zone show this time: none in a gap, two in an overlap."""
    found = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return tuple(sorted(t for t in found if t.astimezone(zone).replace(tzinfo=None) == wall))


def _in_gap(wall: datetime, zone: ZoneInfo, gap: str) -> Iterator[datetime]:
    after = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if gap == "shift":
        yield after
    if gap == "next":
        before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
        while after - before > timedelta(seconds=1):
            middle = before + (after - before) // 2
            gone = middle.astimezone(zone).replace(tzinfo=None) > wall
            before, after = (before, middle) if gone else (middle, after)
        yield after.replace(microsecond=0)


# FORMAT: "the first three uppercase letters of the month name", and of the day name.
_YEAR = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEK = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MONTHS = {name: number for number, name in enumerate(_YEAR, 1)}
_DAYS = {name: number for number, name in enumerate(_WEEK)}


@dataclass(frozen=True, slots=True)
class _Cron:
    texts: tuple[str, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def follows(self, wildcards: str) -> bool:
        minute, hour = self.texts[0].startswith("*"), self.texts[1].startswith("*")
        return (wildcards == "hours" and hour) or (wildcards == "any" and (hour or minute))


@lru_cache(maxsize=256)
def _cron(schedule: str) -> _Cron:
    texts = tuple(schedule.split())
    # FORMAT: "a set of five fields in a line".
    if len(texts) != 5:
        raise InvalidArgumentError(f"{schedule!r}: unix-cron has five fields")
    minute, hour, day, month, weekday = texts
    return _Cron(
        texts,
        tuple(sorted(_values(minute, 0, 59))),
        tuple(sorted(_values(hour, 0, 23))),
        _values(day, 1, 31),
        _values(month, 1, 12, _MONTHS),
        # FORMAT: "0-6 (or SUN to SAT; or 7 for Sunday)".
        frozenset(number % 7 for number in _values(weekday, 0, 6, _DAYS, alias=7)),
    )


def _values(
    text: str,
    low: int,
    high: int,
    names: Mapping[str, int] | None = None,
    *,
    alias: int | None = None,
) -> frozenset[int]:
    found: set[int] = set()
    items = text.split(",")
    for item in items:
        body, slash, step = item.partition("/")
        head, dash, tail = body.partition("-")
        if slash and not re.fullmatch(r"[1-9]\d*", step):
            raise InvalidArgumentError(f"{item}: not a step")
        if body == "*":
            # FORMAT: "an asterisk (*), which always stands for first-last"; "*/2 can be used".
            if len(items) > 1:
                raise UndocumentedError(f'{text}: a list is of "numbers (or ranges)"')
            begin, stop = low, high
        elif dash:
            # FORMAT: "Ranges are two numbers separated with a hyphen ... inclusive".
            if not (head.isdecimal() and tail.isdecimal()):
                raise UndocumentedError(f"{item}: a range is of two numbers")
            begin, stop = _value(head, low, high), _value(tail, low, high)
            if begin > stop:
                raise UndocumentedError(f"{item}: a range that wraps")
        else:
            if slash:  # FORMAT: "Following a range with /NUMBER"
                raise UndocumentedError(f"{item}: a step follows a range or an asterisk")
            single = int(body) if body == str(alias) else _value(body, low, high, names)
            begin = stop = single
        found.update(range(begin, stop + 1, int(step or 1)))
    return frozenset(found)


def _value(text: str, low: int, high: int, names: Mapping[str, int] | None = None) -> int:
    if names and text in names:
        return names[text]
    if names and text.upper() in names:
        raise UndocumentedError(f"{text}: names are in capitals")
    # FORMAT: "Cloud Scheduler does not support L to mean the last day of the month".
    if not text.isdecimal():
        raise InvalidArgumentError(f"{text!r}: not a value of this field")
    if not low <= int(text) <= high:
        raise InvalidArgumentError(f"{text}: not within {low}-{high}")
    return int(text)


def _dates(cron: _Cron, first: date, last: date, star: str) -> Iterator[date]:
    day_free, weekday_free = (_free(cron.texts[index], star) for index in (2, 4))
    for count in range((last - first).days + 1):
        day = first + timedelta(days=count)
        if day.month not in cron.months:
            continue
        by_day, by_week = day.day in cron.days, day.isoweekday() % 7 in cron.weekdays
        # FORMAT: the day of the week "is evaluated as an inclusive OR with the day of the month
        # field unless one of the fields is marked as unrestricted with an asterisk".
        if (by_day and by_week) if day_free or weekday_free else (by_day or by_week):
            yield day


def _free(text: str, star: str) -> bool:
    return text == "*" if star == "bare" else text.startswith("*")

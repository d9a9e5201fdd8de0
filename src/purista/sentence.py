"""One English sentence for an expression: what a person would say that it means.

Built from the values of the fields, not from the text, so that it cannot repeat a misreading of
the text. Says nothing of clock changes: that is ``explanation``'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from purista.cronfield import LAST, DayOfMonth, DayOfWeek
from purista.expression import Cron, Every, Expression
from purista.zone import zone_of

DAY_NAMES: Final = (
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
)
MONTH_NAMES: Final = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def sentence(expression: Expression, timezone: str | ZoneInfo | None = None) -> str:
    """Return what an expression means, in one sentence without a full stop.

    Two cron expressions that match different local times have different sentences. With a
    ``timezone`` the sentence says in which zone it is read. Raises ``ContractError`` for a name that
    is none.

    >>> sentence(Cron("0 2 1 * *"), "Europe/Berlin")
    'At 02:00 on day 1 of every month, Europe/Berlin'
    >>> sentence(Cron("*/15 8-17 * * MON-FRI"))
    'Every 15 minutes from 08:00 to 17:45, Monday to Friday'
    >>> sentence(Cron("0 0 13 * FRI"))
    'At 00:00 on day 13 of the month or on a Friday'
    """
    zone = zone_of(timezone) if timezone else None
    match expression:
        case Cron():
            times = _time_phrase(expression)
            text = f"{times}{_day_phrase(expression, times)}"
            return f"{text}, {zone.key}" if zone else text
        case Every():
            origin = _moment(expression.anchor)
            return f"Every {_each(expression.interval)}, counted from {origin} UTC"
    if zone is None:
        return f"Once, on {_moment(expression.at)} UTC"
    local = expression.at.astimezone(zone)
    return f"Once, on {_moment(local)} {_offset(local)}, {zone.key}"


def duration_words(duration: timedelta) -> str:
    """Return a duration in words, exactly.

    >>> duration_words(timedelta(days=1, minutes=90)), duration_words(timedelta(seconds=2.5))
    ('1 day, 1 hour and 30 minutes', '2.5 seconds')
    """
    seconds, rest = divmod(duration.seconds, 60)[1], duration.microseconds
    counts = [
        (str(duration.days), "day"),
        (str(duration.seconds // 3600), "hour"),
        (str(duration.seconds % 3600 // 60), "minute"),
        (f"{seconds}.{rest:06}".rstrip("0").rstrip(".") if rest else str(seconds), "second"),
    ]
    words = [_counted(count, unit) for count, unit in counts if count != "0"]
    return joined(words) if words else "0 seconds"


def joined(words: Sequence[str], last: str = "and") -> str:
    """Join words as a list in a sentence.

    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


_FEW: Final = 3
_SOME: Final = 6
_HOUR: Final = timedelta(hours=1)
_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ORDINALS: Final = ("first", "second", "third", "fourth", "fifth")
_WEEKDAY: Final = "weekday (Monday to Friday)"


def _time_phrase(cron: Cron) -> str:
    """Say the times of day: ``At 02:00``, ``Every 15 minutes from 08:00 to 17:45``."""
    seconds = cron.second.values
    times = [hour * 60 + minute for hour in cron.hour.values for minute in cron.minute.values]
    if seconds == (0,):
        return _minute_phrase(cron, times)
    if len(seconds) * len(times) <= _FEW:
        return _at([f"{_clock(time)}:{second:02}" for time in times for second in seconds])
    minutes = _minute_phrase(cron, times)
    if minutes != "Every minute":
        return f"{_unit_phrase(seconds, 'second')} of the minute, {minutes[0].lower()}{minutes[1:]}"
    phrase = _unit_phrase(seconds, "second")
    return phrase if _is_even(seconds) else f"{phrase} of every minute"


def _minute_phrase(cron: Cron, times: Sequence[int]) -> str:
    whole = _whole_day_phrase(cron)
    if whole:
        return whole
    step = min((after - before for before, after in pairwise(times)), default=0)
    parts = _progressions(times, step)
    if len(times) <= _FEW or (len(times) <= _SOME and len(parts) > 1):
        return _at(list(map(_clock, times)))
    if len(parts) <= _FEW and all(len(part) > 1 for part in parts):
        spans = [f"from {_clock(part[0])} to {_clock(part[-1])}" for part in parts]
        return f"Every {_each(timedelta(minutes=step))} {joined(spans)}"
    return f"{_unit_phrase(cron.minute.values, 'minute')} of {_hours(cron.hour.values)}"


def _whole_day_phrase(cron: Cron) -> str:
    """Say what goes on around the clock; empty where times of day are named."""
    minutes = cron.minute.values
    if cron.is_fixed_time or not cron.hour.is_all:
        return ""
    if minutes == (0,):
        return "Every hour"
    if len(minutes) == 1:
        return f"At {_counted(minutes[0], 'minute')} past every hour"
    return _unit_phrase(minutes, "minute") if _is_even(minutes) else ""


def _unit_phrase(values: Sequence[int], unit: str) -> str:
    """Say which minutes of an hour, or seconds of a minute."""
    if not _is_progression(values):
        return f"At {_numbered(values, unit)}"
    step = values[1] - values[0]
    every = f"Every {unit}" if step == 1 else f"Every {step} {unit}s"
    if _is_even(values):
        return every
    return f"{every} from {unit} {values[0]} to {unit} {values[-1]}"


def _hours(values: Sequence[int]) -> str:
    if len(values) == 24:
        return "every hour"
    if _is_progression(values) and values[1] - values[0] > 1:
        step = _nth(values[1] - values[0])
        return f"every {step} hour from hour {values[0]} to hour {values[-1]}"
    return _numbered(values, "hour")


def _day_phrase(cron: Cron, times: str) -> str:
    """Say the days and months, with what leads over to them; empty where it is all of them."""
    months = cron.month.values
    of = _of_months(months)
    match cron.deciding_days:
        case "none":
            around_the_clock = _whole_day_phrase(cron) or times.endswith("every hour")
            return f"{'' if around_the_clock else ' every day'}{_in_months(months)}"
        case "month":
            return f" {_on_days(cron.day_of_month, months, of)}"
        case "week":
            return _weekly(cron.day_of_week, months, of)
        case "or":
            of = "of the month" if len(months) == 12 else of
            weekly = _on_a_day(cron.day_of_week, _in_months(months), of)
            return f" {_on_days(cron.day_of_month, months, of)} or {weekly}"
    weekly = _on_a_day(cron.day_of_week, "", "of the month")
    return f" {_on_days(cron.day_of_month, months, of)}, but only {weekly}"


def _on_days(days: DayOfMonth, months: Sequence[int], of: str) -> str:
    day = _only_day(days)
    if day and any(_LENGTHS[month - 1] < day for month in months):
        of = f"{of} in leap years" if tuple(months) == (2,) else _that_have_one(of)
    return f"on {joined(list(_days(days)), 'and on')} {of}"


def _days(days: DayOfMonth) -> Iterator[str]:
    values = days.values
    if _is_progression(values) and values[1] - values[0] > 1:
        step = _nth(values[1] - values[0])
        yield f"every {step} day from day {values[0]} to day {values[-1]}"
    elif values:
        yield _numbered(values, "day")
    for day in days.near_weekday:
        yield f"the {_WEEKDAY} nearest to day {day}"
    for offset in sorted(days.from_end, reverse=True):
        yield f"the day {_counted(offset, 'day')} before the last day" if offset else "the last day"
    if days.last_weekday:
        yield f"the last {_WEEKDAY}"


def _only_day(days: DayOfMonth) -> int:
    """Return the day that a month must have, 0 where there are several to choose from."""
    needed = [*days.values, *days.near_weekday, *(offset + 1 for offset in days.from_end)]
    return needed[0] if len(needed) == 1 and not days.last_weekday else 0


def _weekly(days: DayOfWeek, months: Sequence[int], of: str) -> str:
    within = _in_months(months)
    span = _span(days.values, DAY_NAMES)
    names = span or joined([f"{DAY_NAMES[day]}s" for day in days.values] or [""])
    if not days.nth:
        return f", {span}{within and ','}{within}" if span else f" on {names}{within}"
    if not days.values:
        return f" on {joined(_nth_days(days), 'and on')} {_that_have_one(of, days)}"
    both = joined(
        [f"{'from' if span else 'on'} {names}", *(f"on {day}" for day in _nth_days(days))]
    )
    return f"{within}, {both} of the month" if within else f" {both} of every month"


def _on_a_day(days: DayOfWeek, within: str, of: str) -> str:
    found = [f"on {day} {of}" for day in _nth_days(days)]
    span = _span(days.values, DAY_NAMES)
    if span:
        found.insert(0, f"on a day from {span}{within}")
    elif days.values:
        found.insert(0, f"on a {joined([DAY_NAMES[day] for day in days.values], 'or')}{within}")
    return joined(found, "or")


def _nth_days(days: DayOfWeek) -> list[str]:
    return [
        f"the {'last' if nth == LAST else _ORDINALS[nth - 1]} {DAY_NAMES[day]}"
        for day, nth in days.nth
    ]


def _that_have_one(of: str, days: DayOfWeek | None = None) -> str:
    """Say that a day is not in every month, where it is not and many months are meant."""
    rare = days is None or [nth for _, nth in days.nth] == [len(_ORDINALS)]
    return f"{of} that has one" if rare and of.startswith(("of every", "of each")) else of


def _of_months(months: Sequence[int]) -> str:
    if len(months) == 12:
        return "of every month"
    names = [MONTH_NAMES[month - 1] for month in months]
    span = _span([month - 1 for month in months], MONTH_NAMES)
    return f"of each month from {span}" if span else f"of {joined(names)}"


def _in_months(months: Sequence[int]) -> str:
    if len(months) == 12:
        return ""
    names = [MONTH_NAMES[month - 1] for month in months]
    span = _span([month - 1 for month in months], MONTH_NAMES)
    return f" from {span}" if span else f" in {joined(names)}"


def _span(values: Sequence[int], names: Sequence[str]) -> str:
    """Name the first and last of three or more that follow each other, around the end too."""
    known, count = set(values), len(names)
    firsts = [value for value in values if (value - 1) % count not in known]
    if len(values) < _FEW or len(firsts) != 1:
        return ""
    return f"{names[firsts[0]]} to {names[(firsts[0] + len(values) - 1) % count]}"


def _numbered(values: Sequence[int], unit: str) -> str:
    """Number units, runs of three or more by their ends: ``days 1, 5 to 7 and 9``."""
    if len(values) == 1:
        return f"{unit} {values[0]}"
    texts: list[str] = []
    for run in _progressions(values, 1):
        long = len(run) >= _FEW
        texts += [f"{run[0]} to {run[-1]}"] if long else list(map(str, run))
    return f"{unit}s {joined(texts)}"


def _progressions(values: Sequence[int], step: int) -> list[list[int]]:
    """Split ascending values into runs in which each is ``step`` more than the one before."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value - runs[-1][-1] == step:
            runs[-1].append(value)
        else:
            runs.append([value])
    return runs


def _is_progression(values: Sequence[int]) -> bool:
    """Whether values are evenly spaced, and more than one would rather list."""
    return len(values) > _FEW and len(_progressions(values, values[1] - values[0])) == 1


def _is_even(values: Sequence[int]) -> bool:
    """Whether values divide a minute or an hour evenly, from its beginning."""
    return (
        tuple(values) == tuple(range(0, 60, values[1])) and 60 % values[1] == 0
        if values[1:]
        else False
    )


def _at(texts: Sequence[str]) -> str:
    return f"At {joined(texts)}"


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _each(duration: timedelta) -> str:
    """Return a duration as it follows ``every``: ``hour``, ``15 minutes``."""
    if _HOUR < duration < 2 * _HOUR and not duration % timedelta(minutes=1):
        return f"{duration // timedelta(minutes=1)} minutes"
    words = duration_words(duration)
    return words.removeprefix("1 ") if words.count(" ") == 1 else words


def _nth(number: int) -> str:
    """Return an ordinal from 2 to 31.

    >>> _nth(2), _nth(11), _nth(23)
    ('2nd', '11th', '23rd')
    """
    ending = "th" if number // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _counted(count: int | str, unit: str) -> str:
    return f"{count} {unit}" if str(count) == "1" else f"{count} {unit}s"


def _moment(local: datetime) -> str:
    """Return the weekday, the date and the time of day, as exactly as needed."""
    is_whole = local.second == local.microsecond == 0
    clock = local.time().isoformat("minutes" if is_whole else "auto")
    return f"{DAY_NAMES[local.isoweekday() % 7]} {local.date()} at {clock}"


def _offset(local: datetime) -> str:
    """Return the offset of an aware local time: ``+02:00``."""
    return local.isoformat()[len(local.replace(tzinfo=None).isoformat()) :]

"""Cron expressions that are legal and rarely meant: stars, uneven steps, two day fields, short months."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from purista import cronfield
from purista.cronfield import DAY_OF_MONTH, DAY_OF_WEEK, HOUR, MINUTE, MONTH, SECOND, Unit
from purista.errors import Problem
from purista.expression import ALIASES, Cron
from purista.sentence import DAY_NAMES, MONTH_NAMES, joined, sentence


class Rarity(NamedTuple):
    """One thing that is rarely meant: a stable word for programs, and what a person reads."""

    code: str
    problem: Problem


def rarely_meant(cron: Cron) -> Iterator[Rarity]:
    """Yield what is legal in an expression and rarely meant; a problem's place is a field."""
    yield from _both_days(cron)
    yield from _every_one(cron)
    uneven = set()
    for unit, item in _items(cron):
        problem = _uneven_step(cron, unit, item)
        if problem:
            uneven.add(unit)
            yield Rarity("uneven-step", problem)
    if DAY_OF_MONTH not in uneven:
        yield from _short_months(cron)
    yield from _fifth_weekdays(cron)


_UNITS: Final = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)
_DURATIONS: Final = {SECOND: "seconds", MINUTE: "minutes", HOUR: "hours"}
_LENGTHS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SHORTEST: Final = 28
_FIFTH: Final = 5
_EACH: Final = ("*", "*/1")


def _both_days(cron: Cron) -> Iterator[Rarity]:
    """Two restricted day fields mean either, which surprises; ``and`` is never said by mistake."""
    if cron.deciding_days == "or":
        problem = Problem(
            "day of month and day of week",
            f"both restrict, and either is enough: {sentence(cron)}",
            "say day_rule='and' if both must match, or restrict one of them only",
        )
        yield Rarity("day-rule", problem)


def _every_one(cron: Cron) -> Iterator[Rarity]:
    """A star before fixed times is often meant as a zero: ``* 2 1 * *`` is due 60 times."""
    tokens = dict(_tokens(cron))
    for unit, above in ((SECOND, MINUTE), (MINUTE, HOUR)):
        fixed = tokens[above].split(",")
        if tokens.get(unit) in _EACH and all(item.isdigit() for item in fixed):
            message = f"'{tokens[unit]}' is each {unit.name} of {above.name} {joined(fixed)}"
            remedy = f"write 0 to be due once, or 0-{unit.cycle - 1} if that is meant"
            yield Rarity("every-one", Problem(unit.name, message, remedy))


def _items(cron: Cron) -> Iterator[tuple[Unit, str]]:
    """Yield each item of each field's list, with its unit."""
    for unit, token in _tokens(cron):
        for item in token.split(","):
            yield unit, item


def _tokens(cron: Cron) -> Iterator[tuple[Unit, str]]:
    """Yield each field as it is written, with its unit."""
    tokens = ALIASES.get(cron.text.strip().lower(), cron.text).split()
    yield from zip(_UNITS[-len(tokens) :], tokens, strict=True)


def _uneven_step(cron: Cron, unit: Unit, item: str) -> Problem | None:
    """Say that a step is shorter where the field begins anew, unless nothing is due there."""
    head, _, step_text = item.partition("/")
    if not step_text or "-" in head:
        return None
    step = int(step_text)
    parsed, _ = cronfield.parse_field(unit, item)
    if parsed is None or unit.cycle % step == 0:
        return None
    first, last = parsed.values[0], parsed.values[-1]
    if len(parsed.values) == 1:
        message = f"'{item}' steps over the end, so that only {unit.name} {first} matches"
        return Problem(unit.name, message, f"write {first}")
    if not _goes_on(cron, unit):
        return None
    message = f"'{item}' is uneven: {unit.name} {last} is followed by {unit.name} {first}"
    return Problem(unit.name, message, _even_remedy(unit, step))


def _even_remedy(unit: Unit, step: int) -> str:
    if unit.cycle in (31, 7):
        return f"name the days, or use Every(timedelta(days={step})) with an anchor"
    steps = [number for number in range(1, unit.cycle + 1) if unit.cycle % number == 0]
    below = max(number for number in steps if number < step)
    above = min((number for number in steps if number > step), default=unit.cycle)
    remedy = f"use a step that divides {unit.cycle}, such as {below} or {above}"
    if unit in _DURATIONS:
        remedy += f", or Every(timedelta({_DURATIONS[unit]}={step}))"
    return remedy


def _goes_on(cron: Cron, unit: Unit) -> bool:
    """Whether two turns of a field follow each other: two hours for the minutes, and so on."""
    if unit == SECOND:
        return _follow(cron.minute.mask, MINUTE.cycle)
    if unit == MINUTE:
        return _follow(cron.hour.mask, HOUR.cycle)
    return unit != HOUR or _follow(cron.days(31, 0) >> 1, DAY_OF_MONTH.cycle)


def _follow(mask: int, cycle: int) -> bool:
    """Whether two values are next to each other, of which the last and the first may be two."""
    return bool(mask & (mask >> 1 | (mask & 1) << cycle - 1))


def _short_months(cron: Cron) -> Iterator[Rarity]:
    if cron.deciding_days in ("none", "week"):
        return
    days = [day for day in _needed_days(cron) if _months_without(cron, day)]
    if not days:
        return
    names = [MONTH_NAMES[month - 1] for month in _months_without(cron, days[-1])]
    leap = ", except in leap years" if days[-1] == _SHORTEST + 1 else ""
    skipped = f"day {days[0]} is" if len(days) == 1 else f"days {joined(list(map(str, days)))} are"
    message = f"{skipped} skipped where a month is too short: {joined(names)}{leap}"
    remedy = "write L for the last day of the month"
    yield Rarity("short-month", Problem(DAY_OF_MONTH.name, message, remedy))


def _needed_days(cron: Cron) -> list[int]:
    """Return the days after the 28th without which nothing is due; not the end of a long range."""
    days = cron.day_of_month
    needed = {*days.values, *days.near_weekday, *(offset + 1 for offset in days.from_end)}
    ranged = _SHORTEST
    while ranged in days.values:
        ranged += 1
    return sorted(day for day in needed if day >= max(ranged, _SHORTEST + 1))


def _months_without(cron: Cron, day: int) -> list[int]:
    return [month for month in cron.month.values if _LENGTHS[month - 1] < day]


def _fifth_weekdays(cron: Cron) -> Iterator[Rarity]:
    for day, nth in cron.day_of_week.nth:
        if nth == _FIFTH:
            name = DAY_NAMES[day]
            message = f"the fifth {name} is skipped in months that have four"
            remedy = f"write {name[:3].upper()}#L for the last one"
            yield Rarity("short-month", Problem(DAY_OF_WEEK.name, message, remedy))

"""How single values are written in a manifest, and read back.

Names are those of the TypeScript original where it has the thing. Durations are whole milliseconds,
instants RFC 3339 texts in UTC. A reader raises ``WrongValueError``; whoever calls it knows the place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from purista.contract import Backoff, name_problems, near, service_problems
from purista.errors import ContractError, Problem
from purista.exclusion import DateRange, Exclusion, HolidayCalendar, exclusions
from purista.expression import DAY_RULES, EPOCH, Cron, Every, Expression, Once
from purista.jsonvalue import compact
from purista.payload import rfc3339
from purista.shape import malformed
from purista.zone import zone_problems


class WrongValueError(Exception):
    """A value that has no meaning; the places of ``problems`` are inside of that value."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))


def wrong(message: str, remedy: str = "", place: str = "") -> WrongValueError:
    """Return the error of a single problem."""
    return WrongValueError([Problem(place, message, remedy)])


def text(value: Any) -> str:
    """Read a text."""
    if not isinstance(value, str):
        raise wrong(f"{shown(value)} is no text")
    return value


def texts(value: Any) -> tuple[str, ...]:
    """Read a list of texts."""
    if not isinstance(value, list):
        raise wrong(f"{shown(value)} is no list")
    return tuple(text(each) for each in value)


def flag(value: Any) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise wrong(f"{shown(value)} is neither true nor false")
    return value


def count(value: Any) -> int:
    """Read a whole number of at least 1."""
    number = _whole(value)
    if number is None or number < 1:
        raise wrong(f"{shown(value)} is no count", "use a whole number from 1")
    return number


def duration(value: Any) -> timedelta:
    """Read whole milliseconds."""
    number = _whole(value)
    if number is None or number < 0:
        raise wrong(f"{shown(value)} is no duration", "use whole milliseconds from 0")
    try:
        return timedelta(milliseconds=number)
    except OverflowError:
        raise wrong(f"{shown(value)} milliseconds are too many") from None


def positive_duration(value: Any) -> timedelta:
    """Read whole milliseconds, at least one."""
    if _whole(value) == 0:
        raise wrong("0 is too short", "use at least 1 millisecond")
    return duration(value)


def milliseconds(value: timedelta) -> int:
    """Write a duration; one that is no whole number of milliseconds is refused, not rounded."""
    number, rest = divmod(value, timedelta(milliseconds=1))
    if rest:
        raise wrong(f"{value} is no whole number of milliseconds", "round it")
    return number


def instant(value: Any) -> datetime:
    """Read an RFC 3339 text."""
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise wrong(f"{shown(value)} is no instant", "write it as in 2027-03-01T01:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong(f"{shown(value)} is no instant", "there is no such day or time") from None


def zone(value: Any) -> str:
    """Read the name of a time zone."""
    found = zone_problems(value)
    if found:
        raise WrongValueError(Problem("", each.message, each.remedy) for each in found)
    return str(value)


def record(value: Any) -> dict[str, Any]:
    """Read an object."""
    if not isinstance(value, dict):
        raise wrong(f"{shown(value)} is no object")
    return value


def anything(value: Any) -> Any:
    """Read or write JSON as it is."""
    return value


def copied(value: Any) -> Any:
    """Write JSON data as what reading it back gives: lists for tuples, and nothing shared."""
    return json.loads(compact(value))


def word(known: type[StrEnum]) -> Callable[[Any], str]:
    """Return the reader of one of some words."""

    def read(value: Any) -> str:
        if isinstance(value, str) and value in list(known):
            return known(value)
        remedy = near(value, known) if isinstance(value, str) else near("", known)
        raise wrong(f"unknown word {shown(value)}", _INSTEAD.get(str(value), remedy))

    return read


def schema(value: Any) -> dict[str, Any]:
    """Read a JSON Schema; what the rest of this package reads in it is well formed."""
    if value is True:
        return {}
    found = list(malformed(record(value)))
    if found:
        raise WrongValueError(Problem(place, f"is not {what}") for place, what in found)
    return record(value)


def name(value: Any) -> str:
    """Read a name that every scheduler can carry."""
    return _checked(value, name_problems("", value))


def service_name(value: Any) -> str:
    """Read the name of a service."""
    return _checked(value, service_problems(value, "1"))


def service_version(value: Any) -> str:
    """Read the version of a service."""
    return _checked(text(value), service_problems("A", value))


def expression(value: Any) -> Expression:
    """Read an expression, by its ``kind``."""
    given = record(value)
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in EXPRESSIONS:
        missing = "kind" not in given
        message = "missing" if missing else f"unknown word {shown(kind)}"
        raise wrong(message, near(kind, EXPRESSIONS), "kind")
    return EXPRESSIONS[kind](given)


def write_expression(value: Expression) -> dict[str, Any]:
    """Write an expression. A cron text stays as its author wrote it."""
    if isinstance(value, Cron):
        made: dict[str, Any] = {"kind": "cron", "value": value.text}
        if not (value.day_of_month.unrestricted or value.day_of_week.unrestricted):
            made["dayRule"] = value.day_rule
        return made | ({"seconds": True} if value.seconds else {})
    if isinstance(value, Every):
        made = {"kind": "interval", "everyMs": milliseconds(value.interval)}
        return made | ({"anchor": rfc3339(value.anchor)} if value.anchor != EPOCH else {})
    return {"kind": "oneShot", "runAt": rfc3339(value.at)}


def read_exclusions(value: Any) -> tuple[Exclusion, ...]:
    """Read a list of excluded days."""
    if not isinstance(value, list):
        raise wrong(f"{shown(value)} is no list")
    found: list[Exclusion] = []
    problems: list[Problem] = []
    for index, entry in enumerate(value):
        try:
            found.append(_exclusion(record(entry)))
        except WrongValueError as error:
            problems += [inside(f"[{index}]", problem) for problem in error.problems]
    if problems:
        raise WrongValueError(problems)
    return exclusions(found)[0]


def write_exclusions(value: tuple[Exclusion, ...]) -> list[dict[str, Any]]:
    """Write excluded days; a holiday calendar with the dates that it was pinned to."""
    made: list[dict[str, Any]] = []
    for each in value:
        entry: dict[str, Any] = {"from": each.first.isoformat(), "to": each.last.isoformat()}
        if isinstance(each, HolidayCalendar):
            entry |= {"calendar": each.name, "dates": [day.isoformat() for day in each.dates]}
        made.append(entry)
    return made


def backoff(value: Any) -> Backoff:
    """Read a queue's backoff."""
    found = fields(record(value), {field: read for field, (_, read) in _BACKOFF.items()})
    try:
        return Backoff(**{_BACKOFF[field][0]: each for field, each in found.items()})
    except ContractError as error:
        raise _placed("", error) from None


def write_backoff(value: Backoff) -> dict[str, Any]:
    """Write a queue's backoff."""
    return {
        "factor": float(value.factor),
        "initialMs": milliseconds(value.initial),
        "jitter": float(value.jitter),
        "maximumMs": milliseconds(value.maximum),
    }


def fields(
    given: Mapping[str, Any],
    readers: Mapping[str, Callable[[Any], Any]],
    required: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Read fields of an object, by name; null is as good as missing.

    ``required`` holds the remedy for each field that must be there. Raises ``WrongValueError`` with
    every mistake at once.
    """
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for field, read in readers.items():
        if given.get(field) is None:
            if required and field in required:
                problems.append(Problem(field, "missing", required[field]))
            continue
        try:
            found[field] = read(given[field])
        except WrongValueError as error:
            problems += [inside(field, problem) for problem in error.problems]
    if problems:
        raise WrongValueError(problems)
    return found


def number(value: Any) -> float:
    """Read a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"{shown(value)} is no number")
    return float(value)


def inside(field: str, problem: Problem) -> Problem:
    """Return a problem as it is seen from the object that has the field."""
    dot = "" if not problem.place or problem.place.startswith("[") else "."
    return Problem(f"{field}{dot}{problem.place}", problem.message, problem.remedy)


def shown(value: object) -> str:
    """Return a value as a message can show it: words and numbers, not whole objects."""
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    plain = repr(value) if isinstance(value, str) else json.dumps(value)
    return plain if len(plain) <= 60 else f"{plain[:57]}..."


def _checked(value: Any, problems: Iterable[Problem]) -> str:
    found = [Problem("", each.message, each.remedy) for each in problems]
    if found:
        raise WrongValueError(found)
    return str(value)


def _exclusion(given: Mapping[str, Any]) -> Exclusion:
    readers = {"from": _date, "to": _date, "calendar": text, "dates": _dates}
    required = dict.fromkeys(("from", "to"), "write it as in 2027-12-24")
    found = fields(given, readers, required)
    try:
        days = DateRange(found["from"], found["to"])
    except ContractError as error:
        raise _placed("to", error) from None
    if "dates" not in found:
        return days
    return HolidayCalendar(found.get("calendar", ""), days.first, days.last, found["dates"])


def _date(value: Any) -> date:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise wrong(f"{shown(value)} is no date", "write it as in 2027-12-24")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise wrong(f"{shown(value)} is no date", "there is no such day") from None


def _dates(value: Any) -> tuple[date, ...]:
    if not isinstance(value, list):
        raise wrong(f"{shown(value)} is no list")
    return tuple(sorted({_date(each) for each in value}))


def _cron(given: Mapping[str, Any]) -> Expression:
    remedy = "write a cron text, such as '0 2 1 * *'"
    found = fields(given, {"value": text, "dayRule": _day_rule, "seconds": flag}, {"value": remedy})
    try:
        return Cron(found["value"], found.get("dayRule"), found.get("seconds", False))
    except ContractError as error:
        raise WrongValueError(map(_on_the_wire, error.problems)) from None


def _day_rule(value: Any) -> Any:
    if value in DAY_RULES:
        return value
    raise wrong(f"unknown word {shown(value)}", near(str(value), DAY_RULES))


def _on_the_wire(problem: Problem) -> Problem:
    """Return a problem of ``Cron`` with the manifest's names."""
    remedy = problem.remedy.replace("day_rule=", "dayRule ").replace("seconds=True", "seconds true")
    return Problem("value", str(Problem(problem.place, problem.message)), remedy)


def _interval(given: Mapping[str, Any]) -> Expression:
    readers = {"everyMs": duration, "anchor": instant}
    found = fields(given, readers, {"everyMs": "write whole milliseconds"})
    try:
        return Every(found["everyMs"], found.get("anchor"))
    except ContractError as error:
        raise _placed("everyMs", error) from None


def _one_shot(given: Mapping[str, Any]) -> Expression:
    found = fields(given, {"runAt": instant}, {"runAt": "write it as in 2027-03-01T01:00:00Z"})
    try:
        return Once(found["runAt"])
    except ContractError as error:
        raise _placed("runAt", error) from None


def _placed(place: str, error: ContractError) -> WrongValueError:
    return WrongValueError(Problem(place, each.message, each.remedy) for each in error.problems)


EXPRESSIONS: Mapping[str, Callable[[Mapping[str, Any]], Expression]] = {
    "cron": _cron,
    "interval": _interval,
    "oneShot": _one_shot,
}
"""The kinds of an expression, each with its reader."""

EXPRESSION_FIELDS: Mapping[str, frozenset[str]] = {
    "cron": frozenset({"kind", "value", "dayRule", "seconds"}),
    "interval": frozenset({"kind", "everyMs", "anchor"}),
    "oneShot": frozenset({"kind", "runAt"}),
}
"""The fields of each kind of expression."""

_BACKOFF: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "initialMs": ("initial", duration),
    "factor": ("factor", number),
    "maximumMs": ("maximum", duration),
    "jitter": ("jitter", number),
}

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")

_INSTEAD = {"backfill": "write 'catchUp', as it is called here"}


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not value.is_integer():
        return None
    return int(value)

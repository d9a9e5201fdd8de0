"""The fields of a cron text: one field's text to its set of values, and back.

Knows one field at a time; how fields combine into days and times is ``expression``'s.
The grammar is crontab(5)'s with the extensions that ``docs/time.md`` lists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TypeVar

LAST = -1
"""In ``DayOfWeek.nth``: the last such weekday of the month."""

_MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
_DAYS = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """What a field counts: its name, its bounds and the names of its values.

    ``cycle`` is how many values there are before they begin again: a day of week reaches from 0
    to 7, but 7 is Sunday again. There are six units and no others, so that each is equal to
    itself alone.
    """

    name: str
    low: int
    high: int
    cycle: int
    names: Mapping[str, int] = field(default_factory=dict, repr=False)

    def __reduce__(self) -> tuple[Callable[[str], Unit], tuple[str]]:
        return unit_named, (self.name,)

    @property
    def all_values(self) -> range:
        """Every value, each once."""
        return range(self.low, self.low + self.cycle)


SECOND = Unit("second", 0, 59, 60)
MINUTE = Unit("minute", 0, 59, 60)
HOUR = Unit("hour", 0, 23, 24)
DAY_OF_MONTH = Unit("day of month", 1, 31, 31)
MONTH = Unit(
    "month",
    1,
    12,
    12,
    {short: number for number, name in enumerate(_MONTHS, 1) for short in (name, name[:3])},
)
DAY_OF_WEEK = Unit(
    "day of week",
    0,
    7,
    7,
    {short: number for number, name in enumerate(_DAYS) for short in (name, name[:3])},
)


UNITS = (SECOND, MINUTE, HOUR, DAY_OF_MONTH, MONTH, DAY_OF_WEEK)
"""In the order in which a text with seconds has them."""


def unit_named(name: str) -> Unit:
    """Return the unit of a name."""
    return next(unit for unit in UNITS if unit.name == name)


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with one token: ``offset`` is where it begins in the field's text."""

    offset: int
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A plain field: its values in ascending order, and whether its text begins with ``*``.

    ``mask`` has bit ``v`` set for each value ``v``; ``is_all`` says whether every value is there.
    """

    unit: Unit
    values: tuple[int, ...]
    starred: bool
    mask: int = field(init=False, repr=False, compare=False)
    is_all: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _derive(self, self.unit)


@dataclass(frozen=True, slots=True)
class DayOfMonth:
    """The day-of-month field.

    ``from_end`` has ``n`` for each ``L-n`` (0 for ``L``), ``near_weekday`` has ``n`` for each
    ``nW``, ``last_weekday`` says whether there is an ``LW``. ``unrestricted`` is true for ``*``,
    ``is_all`` wherever ``values`` has every day.
    """

    values: tuple[int, ...]
    from_end: tuple[int, ...]
    near_weekday: tuple[int, ...]
    last_weekday: bool
    starred: bool
    unrestricted: bool
    mask: int = field(init=False, repr=False, compare=False)
    is_all: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _derive(self, DAY_OF_MONTH)


@dataclass(frozen=True, slots=True)
class DayOfWeek:
    """The day-of-week field: 0 is Sunday, 6 is Saturday.

    ``nth`` has ``(weekday, n)`` for each ``weekday#n``, with ``LAST`` for the last of the month.
    ``unrestricted`` is true for ``*``, ``is_all`` wherever ``values`` has every day.
    """

    values: tuple[int, ...]
    nth: tuple[tuple[int, int], ...]
    starred: bool
    unrestricted: bool
    mask: int = field(init=False, repr=False, compare=False)
    is_all: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _derive(self, DAY_OF_WEEK)


T = TypeVar("T")
Parsed = tuple[T | None, tuple[Mistake, ...]]


@lru_cache(maxsize=4096)
def parse_field(unit: Unit, text: str) -> Parsed[Field]:
    """Return the field that ``text`` says, or None and its mistakes."""
    number = _plain_number(unit, text)
    if number is not None:
        return Field(unit, (number,), starred=False), ()
    values: set[int] = set()
    mistakes: list[Mistake] = []
    for offset, item in _items(text):
        found = _plain(unit, item, offset)
        if isinstance(found, Mistake):
            mistakes.append(found)
        else:
            values.update(found)
    if mistakes:
        return None, tuple(mistakes)
    return Field(unit, tuple(sorted(values)), text[0] == "*"), ()


@lru_cache(maxsize=4096)
def parse_day_of_month(text: str) -> Parsed[DayOfMonth]:
    """Return the day-of-month field that ``text`` says, or None and its mistakes."""
    number = _plain_number(DAY_OF_MONTH, text)
    if number is not None:
        return DayOfMonth((number,), (), (), False, starred=False, unrestricted=False), ()
    values: set[int] = set()
    from_end: set[int] = set()
    near_weekday: set[int] = set()
    last_weekday = False
    mistakes: list[Mistake] = []
    for offset, item in _items(text):
        word = item.upper()
        if word == "LW":
            last_weekday = True
        elif word == "L":
            from_end.add(0)
        elif match := _FROM_END.match(word):
            _add(from_end, _number(match[1], 1, 30, item, offset), mistakes)
        elif match := _NEAR_WEEKDAY.match(word):
            _add(near_weekday, _number(match[1], 1, 31, item, offset), mistakes)
        else:
            _add_all(values, _plain(DAY_OF_MONTH, item, offset), mistakes)
    if mistakes:
        return None, tuple(mistakes)
    return DayOfMonth(
        tuple(sorted(values)),
        tuple(sorted(from_end)),
        tuple(sorted(near_weekday)),
        last_weekday,
        text[0] == "*",
        _is_star(text),
    ), ()


@lru_cache(maxsize=4096)
def parse_day_of_week(text: str) -> Parsed[DayOfWeek]:
    """Return the day-of-week field that ``text`` says, or None and its mistakes."""
    number = _plain_number(DAY_OF_WEEK, text)
    if number is not None:
        return DayOfWeek((number % 7,), (), starred=False, unrestricted=False), ()
    values: set[int] = set()
    nth: set[tuple[int, int]] = set()
    mistakes: list[Mistake] = []
    for offset, item in _items(text):
        if match := _NTH.match(item):
            _add(nth, _nth(match[1], match[2], item, offset), mistakes)
        elif item in {"L", "l"}:
            mistakes.append(
                Mistake(
                    offset,
                    f"{shown(item)} alone means a last weekday to some, Saturday to others",
                    "write SAT, or L in the day-of-month field, or FRI#L for the last Friday",
                )
            )
        elif match := _LAST.match(item):
            _add(nth, _nth(match[1], "L", item, offset), mistakes)
        else:
            _add_all(values, _plain(DAY_OF_WEEK, item, offset), mistakes)
    if mistakes:
        return None, tuple(mistakes)
    days = {value % 7 for value in values}
    return DayOfWeek(
        tuple(sorted(days)),
        tuple(sorted(nth, key=lambda pair: (pair[0], pair[1] % 7))),  # the last comes last
        text[0] == "*",
        _is_star(text),
    ), ()


def list_text(unit: Unit, values: tuple[int, ...]) -> str:
    """Render values without a star: one ascending range where they are one, else a list.

    >>> list_text(HOUR, (0, 1, 2, 22, 23)), list_text(HOUR, (9, 10, 11, 12))
    ('0,1,2,22,23', '9-12')
    """
    first, last = values[0], values[-1]
    if len(values) > 2 and last - first == len(values) - 1:
        return f"{first}-{last}"
    return ",".join(map(str, values))


def star_text(unit: Unit, values: tuple[int, ...]) -> str:
    """Render values with ``*`` or ``*/n`` where that says the same, else as ``list_text``.

    >>> star_text(MINUTE, (0, 20, 40)), star_text(HOUR, (2, 14))
    ('*/20', '2,14')
    """
    if len(values) == unit.cycle:
        return "*"
    if len(values) > 1:
        step = values[1] - values[0]
        if values == tuple(unit.all_values[::step]):
            return f"*/{step}"
    return list_text(unit, values)


def starred_text(unit: Unit, values: tuple[int, ...]) -> str:
    """Render values, of which the unit's lowest is one, with a text that begins with ``*``.

    >>> starred_text(MINUTE, (0, 5, 20, 40)), starred_text(MINUTE, (0,))
    ('*/20,5', '*/60')
    """
    known = set(values)
    steps = range(1, unit.cycle + 1)
    step = next(step for step in steps if known.issuperset(unit.all_values[::step]))
    star = "*" if step == 1 else f"*/{step}"
    rest = sorted(known.difference(unit.all_values[::step]))
    return ",".join([star, *map(str, rest)])


def day_of_month_text(days: DayOfMonth) -> str:
    """Render a day-of-month field; ``*`` where it is every day."""
    if days.is_all:
        return "*"
    texts = [list_text(DAY_OF_MONTH, days.values)] if days.values else []
    texts += [f"{day}W" for day in days.near_weekday]
    texts += [f"L-{offset}" if offset else "L" for offset in days.from_end]
    texts += ["LW"] if days.last_weekday else []
    return ",".join(texts)


def day_of_week_text(days: DayOfWeek) -> str:
    """Render a day-of-week field; ``*`` where it is every day."""
    if days.is_all:
        return "*"
    texts = [list_text(DAY_OF_WEEK, days.values)] if days.values else []
    texts += [f"{day}#{'L' if nth == LAST else nth}" for day, nth in days.nth]
    return ",".join(texts)


def shown(text: str) -> str:
    """Quote a token for a message; a long one is cut."""
    return repr(text if len(text) <= 40 else f"{text[:37]}...")


_FROM_END = re.compile(r"L-([0-9]+)\Z")
_NEAR_WEEKDAY = re.compile(r"([0-9]+)W\Z")
_NTH = re.compile(r"([A-Za-z0-9]+)#([^#]*)\Z", re.DOTALL)
_LAST = re.compile(r"([0-9]+|[A-Za-z]{3,})[Ll]\Z")
_DIGITS = re.compile(r"[0-9]+\Z")
_REMEDIES = (
    (r".*\?", "write '*': '?' is for schedulers that need it, and is put in where one does"),
    (r".*=", "a zone is said beside the text: timezone='Europe/Berlin'"),
    (r"@", "a word such as @daily stands alone"),
    (r".*~", "a random time is not a nominal time: write a number, and say jitter="),
    (r".*#", "an nth weekday, such as FRI#2, stands alone in the day-of-week field"),
    (r"[0-9]*W\Z", "a nearest weekday, such as 15W, stands alone in the day-of-month field"),
    (
        r"L\Z|LW\Z|[0-9]+L\Z",
        "L, L-3 and LW stand alone in the day-of-month field, FRI#L in the day-of-week field",
    ),
    (r"H\Z|H\(", "H is a hash that Jenkins puts in: write a number, and say jitter="),
)


def _items(text: str) -> Iterable[tuple[int, str]]:
    if "," not in text:
        return ((0, text),)
    items = text.split(",")
    return zip(accumulate([len(item) + 1 for item in items], initial=0), items, strict=False)


def _plain_number(unit: Unit, text: str) -> int | None:
    """Return the value of a field that is nothing but a number, as most fields are."""
    number = int(text) if len(text) < 3 and text.isascii() and text.isdigit() else -1
    return number if unit.low <= number <= unit.high else None


def _plain(unit: Unit, item: str, offset: int) -> Iterable[int] | Mistake:
    if "-" not in item and "/" not in item and item != "*":
        value = _value(unit, item, item, offset)
        return value if isinstance(value, Mistake) else (value,)
    head, slash, step_text = item.partition("/")
    step = 1
    if slash:
        number = _number(step_text, 1, None, item, offset, what="step")
        if isinstance(number, Mistake):
            return number
        step = number
    if head == "*":
        return unit.all_values[::step]
    first_text, dash, last_text = head.partition("-")
    first = _value(unit, first_text, item, offset)
    if isinstance(first, Mistake):
        return first
    if not dash:
        return range(first, unit.high + 1, step) if slash else (first,)
    last = _value(unit, last_text, item, offset)
    if isinstance(last, Mistake):
        return last
    return _range(unit, first, last)[::step]


def _range(unit: Unit, first: int, last: int) -> list[int]:
    if first <= last:
        return list(range(first, last + 1))
    end = unit.low + unit.cycle
    return [*range(first, end), *range(unit.low, last + 1)]


def _value(unit: Unit, text: str, item: str, offset: int) -> int | Mistake:
    if text.isascii() and text.isdigit():
        return _number(text, unit.low, unit.high, item, offset)
    named = unit.names.get(text.lower())
    return _unreadable(unit, text, item, offset) if named is None else named


def _unreadable(unit: Unit, text: str, item: str, offset: int) -> Mistake:
    where = "" if text == item else f" in {shown(item)}"
    if not text:
        return Mistake(offset, f"a value is missing{where}", f"use {_bounds(unit)}")
    remedy = f"use {_bounds(unit)}"
    if unit.names:
        remedy += f", or a name such as {next(iter(unit.names))[:3].upper()}"
    remedies = (remedy for sign, remedy in _REMEDIES if re.match(sign, text.upper()))
    return Mistake(offset, f"{shown(text)}{where} is no {unit.name}", next(remedies, remedy))


def _bounds(unit: Unit) -> str:
    return f"{unit.low}-{unit.high}"


def _number(
    text: str, low: int, high: int | None, item: str, offset: int, *, what: str = ""
) -> int | Mistake:
    where = "" if text == item else f" in {shown(item)}"
    if what and not _DIGITS.match(text):
        return Mistake(offset, f"{shown(text)}{where} is no {what}", "use a whole number from 1")
    value = int(text[-9:]) if len(text.lstrip("0")) < 9 else 10**9
    if high is not None and not low <= value <= high:
        return Mistake(offset, f"{shown(text)}{where} is out of bounds", f"use {low}-{high}")
    if value < low:
        return Mistake(offset, f"{what} {shown(text)}{where} is too small", "use 1 or more")
    return value


def _nth(day_text: str, nth_text: str, item: str, offset: int) -> tuple[int, int] | Mistake:
    day = _value(DAY_OF_WEEK, day_text, item, offset)
    if isinstance(day, Mistake):
        return day
    if nth_text in {"L", "l"}:
        return day % 7, LAST
    if not _DIGITS.match(nth_text):
        return Mistake(offset, f"{shown(nth_text)} in {shown(item)} is no count", "use 1-5 or L")
    number = _number(nth_text, 1, 5, item, offset)
    return number if isinstance(number, Mistake) else (day % 7, number)


def _add(found: set[T], value: T | Mistake, mistakes: list[Mistake]) -> None:
    if isinstance(value, Mistake):
        mistakes.append(value)
    else:
        found.add(value)


def _add_all(found: set[int], values: Iterable[int] | Mistake, mistakes: list[Mistake]) -> None:
    if isinstance(values, Mistake):
        mistakes.append(values)
    else:
        found.update(values)


def _derive(found: Field | DayOfMonth | DayOfWeek, unit: Unit) -> None:
    object.__setattr__(found, "mask", _mask(found.values))
    object.__setattr__(found, "is_all", len(found.values) == unit.cycle)


def _is_star(text: str) -> bool:
    return text == "*" or text.startswith("*,")


def _mask(values: tuple[int, ...]) -> int:
    return sum([1 << value for value in values])

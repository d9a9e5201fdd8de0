"""More than two hundred contracts on which schedulers disagree, and as many more as are asked for.

Cron forms, zones with their clock changes, intervals, one-shots, exclusions and policies. Within two
years from ``START`` every clock change of the zones here comes at least twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import cycle, product
from random import Random
from typing import Any, Final

from purista.contract import Event, Schedule
from purista.errors import ExpressionError
from purista.exclusion import DateRange
from purista.expression import Cron, Every, Expression, Once

START: Final = datetime(2027, 1, 1, tzinfo=UTC)
END: Final = datetime(2029, 1, 1, tzinfo=UTC)
"""The window in which fire times are compared."""


@lru_cache(maxsize=1)
def contracts() -> tuple[Schedule, ...]:
    """Return the contracts; their names say what is special about them."""
    return tuple(
        _contract(f"{kind}{number:03}", options) for number, (kind, options) in enumerate(_all(), 1)
    )


def drawn(count: int, *, seed: int) -> tuple[Schedule, ...]:
    """Return contracts drawn by chance, the same for the same seed: cron texts, zones, clock words."""
    chance = Random(seed)  # noqa: S311 - nothing here is secret
    made: list[Schedule] = []
    while len(made) < count:
        try:
            cron = Cron(_text(chance), day_rule=chance.choice(("or", "and")))
        except ExpressionError:
            continue
        options = {
            **_when(cron, chance.choice(("UTC", *_ZONES))),
            "dst_gap": chance.choice(("skip", "next", "shift")),
            "dst_overlap": chance.choice(("first", "last", "both")),
        }
        made.append(_contract(f"drawn{len(made) + 1:03}", options))
    return tuple(made)


def _contract(name: str, options: Mapping[str, Any]) -> Schedule:
    return Schedule(
        name=name,
        service_name="Corpus",
        service_version="1",
        target=_DUE,
        payload="due",
        **options,
    )


def _text(chance: Random) -> str:
    """Return a cron text that may have no meaning; it is due at most some times an hour."""
    days = chance.choice(("*", "*", "*", "L", "L-3", "15W", "LW", "2,L", _field(chance, 1, 31)))
    months = chance.choice(("*", "*", "*", _field(chance, 1, 12)))
    weekdays = chance.choice(("*", "*", "*", "FRI#2", "MON#L", "SUN#5", _field(chance, 0, 6)))
    minutes = chance.choice((str(chance.randrange(60)), "0", "30", "*/15", "7,37"))
    hours = chance.choice(("0", "1", "2", "3", "23", "*/6", _field(chance, 0, 23)))
    return f"{minutes} {hours} {days} {months} {weekdays}"


def _field(chance: Random, low: int, high: int) -> str:
    first, last = sorted(chance.sample(range(low, high + 1), 2))
    return chance.choice((str(first), f"{first},{last}", f"{first}-{last}", f"*/{last + 1}"))


_DUE: Final = Event("corpus.due", str, service_name="Corpus", service_version="1")
_ZONES: Final = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Asia/Tokyo",
    "America/St_Johns",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Africa/Cairo",
    "America/Santiago",
)
_FORMS: Final = (
    "0 * * * *",
    "*/15 * * * *",
    "*/7 * * * *",
    "7,37 */6 * * *",
    "0 9-17 * * 1-5",
    "30 4 * * *",
    "0 12 * * *",
    "5 0 * * *",
    "55 23 * * *",
    "0 22-2 * * *",
    "0 0 * * 0",
    "0 0 * * 7",
    "0 6 * * FRI-MON",
    "30 5 * * TUE,THU",
    "0 0 1 * *",
    "15 14 1,15 * *",
    "0 0 31 * *",
    "0 12 29 2 *",
    "0 8 1 1,4,7,10 *",
    "0 0 1 11-2 *",
    "20 3 28-31 * *",
    "@hourly",
    "@daily",
    "@weekly",
    "@monthly",
    "@yearly",
    "5/20 8 * * *",
    "10-10 6 * * *",
    "*/90 7 * * *",
    "0 17 L * *",
    "0 17 L-2 * *",
    "0 9 15W * *",
    "0 9 LW * *",
    "0 9 1,L * *",
    "0 9 * * FRI#3",
    "0 9 * * MON#1,WED#2",
    "0 9 * * THU#5",
    "0 9 * * FRI#L",
    "0 0 13 * FRI",
    "0 10 1,15 * MON",
    "0 0 13 2,8 SUN",
)
_RULED: Final = (
    ("0 0 13 * FRI", "and"),
    ("0 9 1-7 * MON", "and"),
    ("0 9 8-14 * TUE,THU", "and"),
    ("0 0 */2 * FRI", "or"),
    ("0 0 */2 * FRI", "and"),
    ("0 0 1-31 * FRI", "or"),
    ("0 0 1-31 * FRI", "and"),
    ("0 9 L * FRI", "and"),
    ("0 9 15W * MON-FRI", "and"),
    ("0 6 L * MON#1", "or"),
)
_CLOCKS: Final = (
    ("Europe/Berlin", "30 2 * * *"),
    ("Europe/Berlin", "0 2 * * *"),
    ("Europe/Berlin", "0,30 2,3 * * *"),
    ("America/New_York", "30 1 * * *"),
    ("America/New_York", "30 2 * * SUN"),
    ("Australia/Lord_Howe", "15 2 * * *"),
    ("America/Santiago", "0 0 * * *"),
    ("Africa/Casablanca", "30 2 * * *"),
)
_WILD: Final = ("*/30 * * * *", "0 */2 * * *", "*/10 1-3 * * *", "15 * * * 0")
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
_INTERVALS: Final = (
    *(
        Every(timedelta(minutes=each))
        for each in (1, 5, 7, 15, 40, 45, 50, 60, 90, 150, 1440, 2160)
    ),
    *(Every(timedelta(days=each)) for each in (2, 7, 14)),
    Every(90 * _MINUTE, anchor=START + 17 * _MINUTE),
    Every(_HOUR, anchor=START + 59 * _MINUTE),
    Every(timedelta(days=7), anchor=START + 30 * _HOUR),
    Every(timedelta(seconds=90)),
    Every(_MINUTE, anchor=START + timedelta(seconds=30)),
)
_INSTANTS: Final = (
    Once(datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
    Once(datetime(2028, 2, 29, 12, tzinfo=UTC)),
    Once(datetime(2028, 12, 31, 23, 59, tzinfo=UTC)),
    Once(datetime(2027, 6, 1, 12, 0, 30, tzinfo=UTC)),
)
_POLICIES: Final = tuple(product(("allow", "forbid", "replace"), ("skip", "runOnce", "catchUp")))


def _all() -> Iterator[tuple[str, dict[str, Any]]]:
    zones = cycle(_ZONES)
    for text in _FORMS:
        yield "form", _when(Cron(text), "UTC")
        yield "form", _when(Cron(text), next(zones))
    for number, (text, rule) in enumerate(_RULED):
        cron = Cron(text, day_rule="and" if rule == "and" else "or")
        yield "rule", _when(cron, "UTC")
        yield "rule", _when(cron, _ZONES[number % 2])
    words = cycle(product(("skip", "next", "shift"), ("first", "last", "both")))
    for zone, text in _CLOCKS:
        for _ in range(5):
            gap, overlap = next(words)
            yield "clock", {**_when(Cron(text), zone), "dst_gap": gap, "dst_overlap": overlap}
    for zone, text in product(_ZONES[:3], _WILD):
        yield "wild", _when(Cron(text), zone)
    for every in _INTERVALS:
        yield "every", _when(every, "UTC")
    for once in _INSTANTS:
        yield "once", _when(once, "Europe/Berlin")
    yield "seconds", _when(Cron("30 15 4 * * *", seconds=True), "Europe/Berlin")
    yield "seconds", _when(Cron("*/20 0 * * * *", seconds=True), "UTC")
    for number, (overlap, missed) in enumerate(_POLICIES):
        text = ("0 4 * * *", "30 2 * * *", "0 0 13 * FRI")[number % 3]
        policies = {"concurrency_policy": overlap, "missed_run_policy": missed}
        yield "policy", {**_when(Cron(text), "Europe/Berlin"), **policies}
        yield "policy", {**_when(Cron("0 */6 * * *"), "UTC"), **policies}
    yield from _bounded()


def _bounded() -> Iterator[tuple[str, dict[str, Any]]]:
    daily = _when(Cron("0 8 * * *"), "America/New_York")
    yield "bounds", {**daily, "start_at": datetime(2027, 5, 4, 12, tzinfo=UTC)}
    yield "bounds", {**daily, "end_at": datetime(2028, 5, 4, 12, tzinfo=UTC)}
    every = _when(Every(40 * _MINUTE), "UTC")
    bounds = {"start_at": START + 40 * _HOUR, "end_at": START + 80 * _HOUR}
    yield "bounds", {**every, **bounds}
    yield "exclude", {**daily, "exclude": (date(2027, 7, 4), date(2028, 7, 4))}
    yield "exclude", {**daily, "exclude": (DateRange(date(2027, 12, 20), date(2028, 1, 6)),)}
    nightly = _when(Cron("30 23 * * 1-5"), "Pacific/Auckland")
    yield "exclude", {**nightly, "exclude": (date(2027, 4, 2), date(2027, 12, 31))}
    yield "jitter", {**daily, "jitter": 5 * _MINUTE}
    yield "jitter", {**_when(Cron("*/5 * * * *"), "UTC"), "jitter": 30 * _MINUTE}
    yield "disabled", {**daily, "enabled": False}


def _when(expression: Expression, timezone: str) -> dict[str, Any]:
    return {"expression": expression, "timezone": timezone}

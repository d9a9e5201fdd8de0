"""Dialects like those of real schedulers, and when their lines fire: surely, and possibly.

Where a dialect does not know what its scheduler does at a clock change, a line may do any of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from purista.clockchange import Timing
from purista.cover import Line
from purista.dialect import Dialect
from purista.errors import ExpressionError
from purista.expression import Cron
from purista.firetimes import DST_GAPS, DST_OVERLAPS
from purista.turnover import Horizon

HORIZON = Horizon(datetime(2026, 1, 1, tzinfo=UTC), datetime(2035, 12, 31, 23, 59, 59, tzinfo=UTC))

KUBERNETES = Dialect(
    day_rule="or", dst_gap="skip", dst_overlap="both", wildcard="both", odd_changes=False
)
AIRFLOW = Dialect(
    day_rule="or",
    dst_gap="shift",
    dst_overlap="last",
    wildcard="both",
    odd_changes=False,
    specials=frozenset({"L", "W", "#"}),
)
SYSTEMD = Dialect(
    day_rule="and",
    dst_gap="skip",
    dst_overlap="first",
    wildcard="first",
    specials=frozenset({"L", "L-n", "#"}),
    seconds=True,
    many_lines=True,
)
EVENTBRIDGE = Dialect(
    day_rule=None, dst_gap="skip", specials=frozenset({"L", "W", "#", "#L", "LW"})
)
TEMPORAL = Dialect(day_rule="and", seconds=True, many_lines=True)
CRON = Dialect(day_rule="or", wildcard="both", dst_gap="next", dst_overlap="first")
CRON_IN_UTC = replace(CRON, zones=frozenset({"UTC"}))
CRON_IN_BERLIN = replace(CRON, zones=frozenset({"Europe/Berlin"}))

BOTH_DAYS = Dialect(day_rule="and", dst_gap="shift", dst_overlap="both", wildcard="both")

DIALECTS = {
    "kubernetes": KUBERNETES,
    "airflow": AIRFLOW,
    "systemd": SYSTEMD,
    "eventbridge": EVENTBRIDGE,
    "temporal": TEMPORAL,
    "cron": CRON,
    "cron in UTC": CRON_IN_UTC,
    "cron in Berlin": CRON_IN_BERLIN,
    "both days": BOTH_DAYS,
}

ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Auckland",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Asia/Tokyo",
    "America/St_Johns",
    "Pacific/Chatham",
    "Africa/Cairo",
    "America/Santiago",
    "Asia/Beirut",
    "Antarctica/Troll",
)


def sure(lines: Iterable[Line], dialect: Dialect, start: datetime, end: datetime) -> set[datetime]:
    """Return when lines fire, whatever it is that their dialect does not know."""
    found: set[datetime] = set()
    for line in lines:
        found |= set.intersection(*(set(one.between(start, end)) for one in _read(line, dialect)))
    return found


def possible(
    lines: Iterable[Line], dialect: Dialect, start: datetime, end: datetime
) -> set[datetime]:
    """Return when lines might fire."""
    return {at for line in lines for one in _read(line, dialect) for at in one.between(start, end)}


def crons() -> st.SearchStrategy[Cron]:
    """Cron expressions of every kind, many of them near midnight, clock changes or month ends."""
    return st.builds(_texts, _MINUTES, _HOURS, _DAYS, _MONTHS, _WEEKDAYS, st.booleans()).flatmap(
        lambda text: st.sampled_from(["or", "and"]).map(lambda rule: _cron(text, rule))
    )


def timings(zones: Iterable[str] = ZONES) -> st.SearchStrategy[Timing]:
    """Cron expressions in zones, with every word for a clock change."""
    return st.builds(
        Timing,
        crons(),
        st.sampled_from(sorted(zones)),
        st.sampled_from(DST_GAPS),
        st.sampled_from(DST_OVERLAPS),
    )


def _read(line: Line, dialect: Dialect) -> Iterator[Timing]:
    """Yield each way in which a line may be read."""
    cron = line.cron
    if cron.is_fixed_time:
        gaps = [dialect.dst_gap] if dialect.dst_gap else DST_GAPS
        overlaps = [dialect.dst_overlap] if dialect.dst_overlap else DST_OVERLAPS
        for gap, overlap in product(gaps, overlaps):
            yield Timing(cron, line.timezone, gap, overlap)
    elif dialect.wildcard:
        yield Timing(_fixed(cron), line.timezone, "skip", dialect.wildcard)
    else:
        for overlap in DST_OVERLAPS:
            yield Timing(_fixed(cron), line.timezone, "skip", overlap)


def _fixed(cron: Cron) -> Cron:
    times = (cron.second, cron.minute, cron.hour)
    texts = [",".join(map(str, field.values)) for field in times]
    days = cron.canonical.split()[-3:]
    return Cron(" ".join([*texts, *days]), cron.day_rule, seconds=True)


def _values(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    return st.one_of(
        one.map(str),
        st.lists(one, min_size=2, max_size=3).map(lambda found: ",".join(map(str, found))),
        st.builds("*/{}".format, st.integers(2, 20)),
        st.builds("{}-{}".format, one, one),
    )


_MINUTES = st.sampled_from(["0", "30", "0,30", "*/15", "59"]) | _values(0, 59)
_HOURS = st.sampled_from(["0", "1", "2", "3", "23", "0-23", "*/6", "*"]) | _values(0, 23)
_ANY_DAY = st.just("*")
_DAYS = st.one_of(
    _ANY_DAY,
    _values(1, 31),
    st.sampled_from(["1", "31", "L", "L-2", "15W", "1W", "LW", "1,L", "L,1W,10W,20W,LW", "29,30"]),
)
_MONTHS = _ANY_DAY | st.sampled_from(["2", "3", "1", "2,3", "10", "12"]) | _values(1, 12)
_WEEKDAYS = st.one_of(_ANY_DAY, _values(0, 6), st.sampled_from(["FRI#2", "MON#L", "1#5", "1,3#2"]))


def _texts(minute: str, hour: str, day: str, month: str, weekday: str, both: bool) -> str:
    """Return a text; only one in two restricts both day fields."""
    return f"{minute} {hour} {day} {month} {weekday if both or day == '*' else '*'}"


def _cron(text: str, rule: Any) -> Cron:
    try:
        return Cron(text, day_rule=rule)
    except ExpressionError as error:
        assume("ever has such a day" not in str(error))
        raise

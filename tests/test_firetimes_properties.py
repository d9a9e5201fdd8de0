"""What holds for every expression, zone and option."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from purista.errors import ExpressionError
from purista.expression import Cron, Every, Expression, Once
from purista.firetimes import (
    DST_GAPS,
    DST_OVERLAPS,
    EARLIEST,
    LATEST,
    between,
    contains,
    count_between,
    next_after,
    previous_before,
    transitions,
)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Africa/Cairo",
    "Africa/Monrovia",
    "America/Havana",
    "Asia/Gaza",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
]

untimed = settings(deadline=None)
"""A busy machine is no reason to fail."""


class Question(NamedTuple):
    """An expression in a zone, with its options."""

    expression: Expression
    zone: str
    options: dict[str, Any]

    def next(self, instant: datetime) -> datetime | None:
        return next_after(self.expression, self.zone, instant, **self.options)

    def previous(self, instant: datetime) -> datetime | None:
        return previous_before(self.expression, self.zone, instant, **self.options)

    def contains(self, instant: datetime) -> bool:
        return contains(self.expression, self.zone, instant, **self.options)

    def between(self, start: datetime, end: datetime) -> list[datetime]:
        return list(between(self.expression, self.zone, start, end, **self.options))

    def some(self, start: datetime, count: int = 40) -> list[datetime]:
        found = between(self.expression, self.zone, start, LATEST, **self.options)
        return list(islice(found, count))

    def count(self, start: datetime, end: datetime) -> int:
        return count_between(self.expression, self.zone, start, end, **self.options)


def values(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    step = st.integers(1, high + 3)
    return st.one_of(
        st.just("*"),
        one.map(str),
        st.lists(one, min_size=1, max_size=5).map(lambda found: ",".join(map(str, found))),
        st.builds("{}-{}".format, one, one),
        st.builds("{}-{}/{}".format, one, one, step),
        st.builds("*/{}".format, step),
        st.builds("{}/{}".format, one, step),
    )


DAYS_OF_MONTH = st.one_of(
    st.just("*"),
    values(1, 31),
    st.just("L"),
    st.builds("L-{}".format, st.integers(1, 30)),
    st.builds("{}W".format, st.integers(1, 31)),
    st.just("LW"),
)
DAYS_OF_WEEK = st.one_of(
    st.just("*"),
    values(0, 7),
    st.builds("{}#{}".format, st.integers(0, 7), st.sampled_from("12345L")),
)
HOURS = st.sampled_from(["2", "0-3", "0", "1,2", "23", "*"]) | values(0, 23)


@st.composite
def crons(draw: st.DrawFn) -> Cron:
    fields = [values(0, 59), HOURS, DAYS_OF_MONTH, values(1, 12), DAYS_OF_WEEK]
    seconds = draw(st.sampled_from([False, False, False, True]))
    texts = [draw(field) for field in ([values(0, 59)] if seconds else []) + fields]
    rule: Any = draw(st.sampled_from(["or", "and"]))
    try:
        return Cron(" ".join(texts), rule, seconds)
    except ExpressionError as error:
        assume("ever has such a day" not in str(error))
        raise


@st.composite
def instants(draw: st.DrawFn, zone: str) -> datetime:
    """An instant, as likely as not within two days of a change of the zone's offset."""
    at = draw(st.datetimes(datetime(1970, 1, 3), datetime(2199, 1, 1))).replace(tzinfo=UTC)
    if draw(st.booleans()):
        change = next(transitions(zone, at, LATEST), None)
        if change is not None:
            at = change.instant + draw(st.timedeltas(-2 * DAY, 2 * DAY))
    return at.replace(microsecond=0) if draw(st.booleans()) else at


EVERYS = st.builds(
    Every,
    st.timedeltas(SECOND, 400 * DAY),
    st.datetimes(datetime(1900, 1, 1), datetime(2300, 1, 1), timezones=st.just(UTC)),
)
ONCES = st.builds(
    Once, st.datetimes(datetime(1970, 1, 1), datetime(2200, 12, 31), timezones=st.just(UTC))
)


EXPRESSIONS = crons() | EVERYS | ONCES


@st.composite
def questions(
    draw: st.DrawFn, expressions: st.SearchStrategy[Expression] = EXPRESSIONS
) -> tuple[Question, datetime]:
    zone = draw(st.sampled_from(ZONES))
    options = {
        "dst_gap": draw(st.sampled_from(DST_GAPS)),
        "dst_overlap": draw(st.sampled_from(DST_OVERLAPS)),
    }
    return Question(draw(expressions), zone, options), draw(instants(zone))


@untimed
@given(crons())
def test_text_to_fields_and_back_is_stable(cron: Cron) -> None:
    again = Cron(cron.canonical, cron.day_rule, cron.seconds)
    assert (again.canonical, again.meaning) == (cron.canonical, cron.meaning)
    assert again == cron
    assert again.is_fixed_time == cron.is_fixed_time
    assert (again.minute.values, again.hour.values) == (cron.minute.values, cron.hour.values)
    assert (again.second.values, again.month.values) == (cron.second.values, cron.month.values)


@untimed
@given(questions(), st.integers(0, 40))
def test_next_is_later_and_one_of_the_times(asked: tuple[Question, datetime], steps: int) -> None:
    question, at = asked
    for _ in range(steps % 5 + 1):
        found = question.next(at)
        if found is None:
            assert question.between(at + timedelta(microseconds=1), LATEST) == []
            break
        assert at < found <= LATEST
        assert found.tzinfo is UTC
        assert question.contains(found)
        at = found


@untimed
@given(questions())
def test_previous_retraces_next(asked: tuple[Question, datetime]) -> None:
    question, at = asked
    forth = []
    found = question.next(at)
    while found is not None and len(forth) < 12:
        forth.append(found)
        found = question.next(found)
    back = []
    found = forth[-1] if forth else None
    while found is not None and found > at:
        back.append(found)
        found = question.previous(found)
    assert back == forth[::-1]


@untimed
@given(questions())
def test_between_is_repeated_next(asked: tuple[Question, datetime]) -> None:
    question, at = asked
    repeated: list[datetime] = []
    found = question.next(at - timedelta(microseconds=1))
    while found is not None and len(repeated) < 40:
        repeated.append(found)
        found = question.next(found)
    assert question.some(at) == repeated
    if repeated:
        assert question.between(at, repeated[-1]) == repeated
        assert question.count(at, repeated[-1]) == len(repeated)


@untimed
@given(questions(), st.timedeltas(timedelta(0), 3 * DAY))
def test_where_a_list_begins_and_ends_changes_nothing_in_it(
    asked: tuple[Question, datetime], length: timedelta
) -> None:
    question, at = asked
    known = question.some(at - 3 * DAY, 400)
    assume(known and known[-1] > at)
    middle = min(at + length, known[-1])
    assert question.between(at, middle) == [found for found in known if at <= found <= middle]
    assert all(before < after for before, after in pairwise(known))


@untimed
@given(questions())
def test_what_is_contained_is_what_is_between(asked: tuple[Question, datetime]) -> None:
    question, at = asked
    whole = at.replace(microsecond=0)
    for step in (0, 1, 60, 1800, 3600, 5400):
        instant = whole + step * SECOND
        assert question.contains(instant) == bool(question.between(instant, instant))
        assert question.contains(instant) == (question.count(instant, instant) == 1)


LISTS = st.lists(st.integers(0, 23), min_size=1, max_size=4)


@untimed
@given(questions(st.just(Once(EARLIEST))), st.lists(LISTS, min_size=5, max_size=5), st.data())
def test_a_wider_field_loses_no_instant(
    asked: tuple[Question, datetime], fields: list[list[int]], data: st.DataObject
) -> None:
    question, at = asked
    wide = [[*field] for field in fields]
    wide[data.draw(st.integers(0, 4))].extend(data.draw(LISTS))
    rule: Any = data.draw(st.sampled_from(["or", "and"]))

    def fires(found: list[list[int]]) -> set[datetime]:
        minutes, hours, days, months, weekdays = found
        texts = [
            minutes,
            hours,
            [day + 1 for day in days],
            [month % 12 + 1 for month in months],
            [weekday % 7 for weekday in weekdays],
        ]
        cron = read(" ".join(",".join(map(str, field)) for field in texts), rule)
        if cron is None:
            return set()
        return set(question._replace(expression=cron).between(at - 20 * DAY, at + 20 * DAY))

    assert fires(fields) <= fires(wide)


def read(text: str, rule: Any) -> Cron | None:
    try:
        return Cron(text, day_rule=rule)
    except ExpressionError:
        return None  # such a day never comes


SAME_IN_ALL_VERSIONS = ["Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Tokyo", "UTC"]


@untimed
@given(crons(), st.sampled_from(SAME_IN_ALL_VERSIONS), st.data())
def test_the_system_and_the_package_give_the_same_instants(
    cron: Cron, name: str, data: st.DataObject
) -> None:
    at = data.draw(instants(name))
    found = [list(islice(between(cron, zone, at, LATEST), 20)) for zone in _databases(name)]
    assert all(other == found[0] for other in found)


def _databases(name: str) -> list[ZoneInfo]:
    """Return the zone as the package has it, and as each system database has it."""
    packaged = resources.files("tzdata.zoneinfo").joinpath(*name.split("/"))
    with packaged.open("rb") as file:
        found = [ZoneInfo.from_file(file)]
    for folder in zoneinfo.TZPATH:
        path = Path(folder, name)
        if path.is_file():
            with path.open("rb") as file:
                found.append(ZoneInfo.from_file(file))
    return [*found, ZoneInfo(name)]

from __future__ import annotations

import contextlib
import copy
import pickle
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purista.errors import ExpressionError
from purista.expression import ALIASES, EPOCH, Cron, Every, Once

HOUR = timedelta(hours=1)


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(ExpressionError) as caught:
        Cron(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0 2 1 * *", "0 2 1 * *"),
        ("00 02 01 * *", "0 2 1 * *"),
        (" 0\t2  1 * *\n", "0 2 1 * *"),
        ("*/15 * * * *", "*/15 * * * *"),
        ("0,30,15 * * * *", "0,15,30 * * * *"),
        ("0-0 * * * *", "0 * * * *"),
        ("5/15 * * * *", "5,20,35,50 * * * *"),
        ("10-40/10 * * * *", "10,20,30,40 * * * *"),
        ("50-10 * * * *", "0,1,2,3,4,5,6,7,8,9,10,50,51,52,53,54,55,56,57,58,59 * * * *"),
        ("0 22-2 * * *", "0 0,1,2,22,23 * * *"),
        ("0 22-2/2 * * *", "0 0,2,22 * * *"),
        ("0 9-17 * * *", "0 9-17 * * *"),
        ("0 0 1/10 * *", "0 0 1,11,21,31 * *"),
        ("0 0 28-2 * *", "0 0 1,2,28,29,30,31 * *"),
        ("0 0 1 11-2 *", "0 0 1 1,2,11,12 *"),
        ("0 0 1 NOV-feb *", "0 0 1 1,2,11,12 *"),
        ("0 0 1 January,july *", "0 0 1 1,7 *"),
        ("0 0 1 */3 *", "0 0 1 1,4,7,10 *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * sun", "0 0 * * 0"),
        ("0 0 * * FRI-MON", "0 0 * * 0,1,5,6"),
        ("0 0 * * 5-7", "0 0 * * 0,5,6"),
        ("0 0 * * 6-1", "0 0 * * 0,1,6"),
        ("0 0 * * Monday-Friday", "0 0 * * 1-5"),
        ("0 0 * * MON-FRI/2", "0 0 * * 1,3,5"),
        ("0 0 * * 1/2", "0 0 * * 0,1,3,5"),
        ("0 0 * * 0-7", "0 0 * * *"),
        ("0 0 * * */7", "0 0 * * 0"),
        ("0 0 L * *", "0 0 L * *"),
        ("0 0 lw,L-3,L,15w,1 * *", "0 0 1,15W,L,L-3,LW * *"),
        ("0 0 * * fri#2,5#1,5L,friL,SUN#l", "0 0 * * 0#L,5#1,5#2,5#L"),
        ("0 0 * * 7#5", "0 0 * * 0#5"),
        ("0 0 *,15 * 1", "0 0 * * 1"),
        ("0 0 13 * 5", "0 0 13 * 5"),
    ],
)
def test_a_text_has_one_plain_form(text: str, canonical: str) -> None:
    cron = Cron(text)
    assert cron.canonical == canonical
    assert Cron(canonical, cron.day_rule) == cron
    assert Cron(canonical, cron.day_rule).canonical == canonical


def test_the_text_is_kept_as_written() -> None:
    assert Cron("00 9 * * Mon-Fri").text == "00 9 * * Mon-Fri"
    assert str(Cron("00 9 * * Mon-Fri")) == "0 9 * * 1-5"


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_means_its_text_in_any_case(alias: str) -> None:
    assert Cron(alias) == Cron(alias.upper()) == Cron(ALIASES[alias])
    assert Cron(alias, seconds=True).second.values == (0,)


def test_fields_are_sets_of_values() -> None:
    cron = Cron("*/30 8-10 1,L-2,15W * FRI#2,0")
    assert (cron.minute.values, cron.hour.values) == ((0, 30), (8, 9, 10))
    assert cron.minute.mask == 1 << 0 | 1 << 30
    assert cron.day_of_month.values == (1,)
    assert (cron.day_of_month.from_end, cron.day_of_month.near_weekday) == ((2,), (15,))
    assert cron.month.is_all
    assert (cron.day_of_week.values, cron.day_of_week.nth) == ((0,), ((5, 2),))
    assert cron.second.values == (0,)


def test_a_seconds_field_leads_when_asked_for() -> None:
    cron = Cron("*/20 0 2 * * *", seconds=True)
    assert cron.second.values == (0, 20, 40)
    assert cron.canonical == "*/20 0 2 * * *"
    assert repr(cron) == "Cron('*/20 0 2 * * *', seconds=True)"
    assert Cron(cron.canonical, cron.day_rule, cron.seconds) == cron


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        ("30 2 * * *", True),
        ("0,30 2-4 * * *", True),
        ("0-59 0-23 * * *", True),
        ("@daily", True),
        ("*/15 2 * * *", False),
        ("0 * * * *", False),
        ("0 */6 * * *", False),
        ("*/90 2 * * *", False),
        ("*,15 2 * * *", False),
        ("15,* 2 * * *", True),
        ("@hourly", False),
    ],
)
def test_only_a_star_at_the_beginning_makes_a_wildcard(text: str, *, fixed: bool) -> None:
    assert Cron(text).is_fixed_time is fixed
    assert Cron(Cron(text).canonical).is_fixed_time is fixed


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0,15,30,45 2 * * *", "0,15,30,45 2 * * *"),
        ("*/15 2 * * *", "*/15 2 * * *"),
        ("0-59 2 * * *", "0-59 2 * * *"),
        ("0 0,6,12,18 * * *", "0 0,6,12,18 * * *"),
        ("0 */6 * * *", "0 */6 * * *"),
        ("*/90 2 * * *", "*/60 2 * * *"),
        ("7 */90 * * *", "7 */24 * * *"),
        ("*/20,5 3 * * *", "*/20,5 3 * * *"),
        ("* 3 * * *", "* 3 * * *"),
    ],
)
def test_the_plain_form_keeps_what_a_clock_change_does(text: str, canonical: str) -> None:
    assert Cron(text).canonical == canonical
    assert Cron(canonical) == Cron(text)


def test_equal_values_of_different_nature_are_not_equal() -> None:
    assert Cron("*/15 2 * * *") != Cron("0,15,30,45 2 * * *")
    assert Cron("*/15 * * * *") == Cron("0,15,30,45 * * * *")


def test_equality_and_hash_go_by_meaning() -> None:
    weekdays = Cron("0 9 * * MON-FRI")
    assert weekdays == Cron("00 09 * * 1,2,3,4,5")
    assert hash(weekdays) == hash(Cron("00 09 * * 1,2,3,4,5"))
    assert weekdays != Cron("0 9 * * 1-6")
    assert Cron("0 2 * * *") == Cron("0 0 2 * * *", seconds=True)
    assert Cron("0 2 * * *") == Cron("0 2 * * *", day_rule="and")
    assert Cron("0 2 13 * 5") != Cron("0 2 13 * 5", day_rule="and")
    assert Cron("0 2 * * *") != "0 2 * * *"


def test_either_day_is_meant_unless_both_are_asked_for() -> None:
    friday_or_13th = Cron("0 0 13 * FRI")
    assert friday_or_13th.day_rule == friday_or_13th.deciding_days == "or"
    assert Cron("0 0 13 * FRI", day_rule="and").deciding_days == "and"
    assert Cron("0 0 13 * FRI", "and").restricts_both_days
    assert not Cron("0 0 * * FRI", "and").restricts_both_days


@pytest.mark.parametrize(
    "text",
    [
        "0 0 */2 * 5",
        "0 0 */1 * 5",
        "0 0 1 * */2",
        "0 0 */10 * 1-5",
        "0 0 1-31 * 5",
        "0 0 1/1 * 5",
        "0 0 15,* * 5",
        "0 0 1 * 0-6",
        "0 0 1 * 0-7",
        "0 0 1 * SUN-SAT",
        "0 0 L * MON-SUN",
        "0 0 */2 * */2",
        "0 0 */2 * FRI#2",
    ],
)
def test_where_schedulers_disagree_the_day_rule_must_be_said(text: str) -> None:
    message = refusal(text)
    assert "say day_rule='and' (both must match) or day_rule='or' (either)" in message
    assert Cron(text, day_rule="or") != Cron(text, day_rule="and")
    assert Cron(text, day_rule="and").day_rule == "and"


@pytest.mark.parametrize("text", ["0 0 */2 * *", "0 0 1-31 * *", "0 0 * * 0-6", "0 0 *,15 * 5"])
def test_a_star_beside_it_leaves_nothing_to_choose(text: str) -> None:
    assert Cron(text, day_rule="or") == Cron(text, day_rule="and") == Cron(text)


def test_a_full_range_by_either_rule_is_said_plainly() -> None:
    assert Cron("0 0 1-31 * 5", day_rule="or").canonical == "0 0 * * *"
    assert Cron("0 0 1-31 * 5", day_rule="and").canonical == "0 0 * * 5"
    assert Cron("0 0 13 * 0-6", day_rule="and").canonical == "0 0 13 * *"


def test_the_representation_can_be_evaluated() -> None:
    for text, rule in (("0 2 * * *", None), ("0 0 */2 * 5", "or"), ("0 0 13 * 5", "and")):
        cron = Cron(text, rule)  # type: ignore[arg-type]
        again = eval(repr(cron), {"Cron": Cron})
        assert (again, again.text) == (cron, text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("0 0 31 2 *", None),
        ("0 0 30 2 *", None),
        ("0 0 31 4,6,9,11 *", None),
        ("0 0 31W 6 *", None),
        ("0 0 L-29 2 *", None),
        ("0 0 30 2 1", "and"),
        ("0 0 29 * MON#1", "and"),
        ("0 0 1 * FRI#5", "and"),
        ("0 0 LW * SAT", "and"),
    ],
)
def test_dates_that_never_come_are_refused(text: str, rule: Any) -> None:
    assert "no month of the month field ever has such a day" in refusal(text, day_rule=rule)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("0 0 29 2 *", None),
        ("0 0 31 2,3 *", None),
        ("0 0 L-28 2 *", None),
        ("0 0 30 2 1", "or"),
        ("0 0 29 2 MON", "and"),
        ("0 0 31W * *", None),
    ],
)
def test_dates_that_come_rarely_are_accepted(text: str, rule: Any) -> None:
    assert Cron(text, day_rule=rule).text == text


def read(text: str, rule: Any = None, *, seconds: bool = False) -> Cron | None:
    """Return the expression, or None where it is refused; anything else fails the test."""
    with contextlib.suppress(ExpressionError):
        return Cron(text, rule, seconds)
    return None


@settings(deadline=None)
@given(st.text() | st.text("0123456789*/-,LW#? @HMONFRI\t", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    cron = read(text)
    assert cron is None or Cron(cron.canonical, cron.day_rule) == cron


FIELD = st.text("0123456789*/-,LW#?~SUNMONJAN", min_size=1, max_size=8) | st.sampled_from(
    ["*", "0", "*/7", "1-5", "L", "FRI#2", "15W", "22-2", "1-31", "0-7"]
)


@settings(deadline=None)
@given(st.lists(FIELD, min_size=5, max_size=6), st.sampled_from([None, "or", "and"]))
def test_any_fields_are_read_or_refused(fields: list[str], rule: Any) -> None:
    cron = read(" ".join(fields), rule, seconds=len(fields) == 6)
    assert cron is None or Cron(cron.canonical, cron.day_rule, cron.seconds) == cron


def test_an_interval_has_a_phase() -> None:
    assert Every(6 * HOUR).phase == timedelta(0)
    assert Every(6 * HOUR, anchor=EPOCH + 100 * 6 * HOUR + HOUR).phase == HOUR
    assert Every(6 * HOUR, EPOCH - HOUR).phase == 5 * HOUR
    assert Every(6 * HOUR).anchor == EPOCH


def test_intervals_with_the_same_instants_are_equal() -> None:
    berlin = datetime(2027, 1, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    assert Every(HOUR) == Every(timedelta(minutes=60), anchor=berlin)
    assert hash(Every(HOUR)) == hash(Every(HOUR, anchor=berlin))
    assert Every(HOUR).meaning == Every(HOUR, anchor=berlin).meaning
    assert Every(HOUR) != Every(2 * HOUR)
    assert Every(HOUR) != HOUR


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        (timedelta(0), "the interval is too short; use a second or more"),
        (-HOUR, "the interval is too short"),
        (timedelta(milliseconds=999), "the interval is too short"),
        (3600, "every 3600: int is no duration; use datetime.timedelta"),
        (None, "NoneType is no duration"),
    ],
)
def test_an_interval_is_a_second_or_more(interval: Any, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        Every(interval)


def test_any_interval_of_a_second_or_more_is_accepted() -> None:
    assert Every(timedelta(seconds=1)).interval == timedelta(seconds=1)
    assert Every(timedelta(seconds=1, microseconds=1)).interval > timedelta(seconds=1)
    assert Every(timedelta.max).interval == timedelta.max


@pytest.mark.parametrize(
    ("anchor", "message"),
    [
        (datetime(2027, 1, 1), "anchor: 2027-01-01 00:00:00 is naive: it has no time zone"),
        (date(2027, 1, 1), "anchor: date is no instant"),
        (0, "anchor: int is no instant"),
        (datetime.min.replace(tzinfo=timezone(HOUR)), "out of bounds"),
    ],
)
def test_an_anchor_is_an_instant(anchor: Any, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        Every(HOUR, anchor=anchor)


def test_both_mistakes_of_an_interval_are_told() -> None:
    with pytest.raises(ExpressionError) as caught:
        Every(timedelta(0), datetime(2027, 1, 1))
    assert len(caught.value.problems) == 2


def test_a_one_shot_is_kept_in_utc() -> None:
    at = datetime(2027, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert Once(at).at == datetime(2027, 7, 1, 10, tzinfo=UTC)
    assert Once(at).at.tzinfo is UTC
    assert Once(at) == Once(at.astimezone(UTC))
    assert Once(at).meaning == "once 2027-07-01T10:00:00+00:00"


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (datetime(2027, 1, 1), "once 2027-01-01 00:00:00: .* is naive: it has no time zone; give"),
        (date(2027, 1, 1), "date is no instant"),
        ("2027-01-01T00:00Z", "str is no instant"),
        (None, "NoneType is no instant"),
        (datetime(1969, 12, 31, tzinfo=UTC), "out of bounds; use the years 1970 to 2200"),
        (datetime(2201, 1, 1, tzinfo=UTC), "out of bounds"),
        (datetime.max.replace(tzinfo=timezone(-HOUR)), "out of bounds"),
    ],
)
def test_a_one_shot_needs_an_instant(at: Any, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        Once(at)


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        (Cron("0 2 * * MON#2"), "text"),
        (Cron("0 0 13 * 5", "and"), "day_rule"),
        (Every(HOUR), "interval"),
        (Once(EPOCH), "at"),
    ],
)
def test_values_are_frozen_and_travel(expression: Any, field: str) -> None:
    assert copy.deepcopy(expression) == pickle.loads(pickle.dumps(expression)) == expression
    assert not hasattr(expression, "__dict__")
    with pytest.raises(AttributeError):
        setattr(expression, field, None)

"""Lines name the days of an expression, or days among which they are."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dialects import (
    AIRFLOW,
    BOTH_DAYS,
    DIALECTS,
    EVENTBRIDGE,
    KUBERNETES,
    SYSTEMD,
    TEMPORAL,
    crons,
)

from purista import Cron
from purista.daycover import DayCover, day_cover, says_days
from purista.dialect import Dialect, matches_date

DAY = timedelta(days=1)
FIRST, LAST = date(2026, 12, 30), date(2033, 1, 2)
DATES = tuple(FIRST + number * DAY for number in range((LAST - FIRST).days + 1))
"""Six years with two leap years: every weekday begins some month of every length."""


def days_of(cron: Cron) -> set[date]:
    return {day for day in DATES if matches_date(cron, day.year, day.month, day.day)}


def days_of_lines(found: DayCover) -> set[date]:
    lines = [Cron(f"0 0 {' '.join(each)}", day_rule="and") for each in found.lines]
    return {day for line in lines for day in days_of(line)}


def said(text: str, dialect: Dialect, delta: int = 0, rule: str = "or") -> tuple[list[str], bool]:
    found = day_cover(Cron(f"0 0 {text}", day_rule=rule), delta, dialect)  # type: ignore[arg-type]
    return [" ".join(each) for each in found.lines], found.exact


@settings(deadline=None, max_examples=100)
@given(crons(), st.sampled_from([-1, 0, 1]), st.sampled_from(sorted(DIALECTS)))
def test_lines_name_at_least_the_days_and_where_exact_no_others(cron: Cron, delta: int, name: str):
    found = day_cover(cron, delta, DIALECTS[name])
    moved = {day + delta * DAY for day in days_of(cron)}
    inside = {day for day in days_of_lines(found) if FIRST < day < LAST}
    wanted = {day for day in moved if FIRST < day < LAST}
    assert wanted <= inside
    assert not found.exact or wanted == inside


@settings(deadline=None, max_examples=100)
@given(crons(), st.sampled_from([-1, 0, 1]), st.sampled_from(sorted(DIALECTS)))
def test_lines_restrict_both_days_only_where_both_must_match(cron: Cron, delta: int, name: str):
    dialect = DIALECTS[name]
    found = day_cover(cron, delta, dialect)
    assert dialect.day_rule == "and" or not any(each.both for each in found.lines)
    assert all(
        says_days(Cron(f"0 0 {' '.join(each)}", day_rule="and"), dialect) for each in found.lines
    )
    assert len(set(found.lines)) == len(found.lines)


@pytest.mark.parametrize(
    ("text", "rule", "dialects"),
    [
        ("* * *", "or", "all"),
        ("13 * *", "or", "all"),
        ("* * 1-5", "or", "all"),
        ("13 * 5", "or", "airflow cron kubernetes"),
        ("13 * 5", "and", "systemd temporal"),
        ("L * *", "or", "airflow eventbridge systemd"),
        ("L-3 * *", "or", "systemd"),
        ("15W * *", "or", "airflow eventbridge"),
        ("LW * *", "or", "eventbridge"),
        ("* * FRI#2", "or", "airflow eventbridge systemd"),
        ("* * FRI#L", "or", "eventbridge"),
        ("1,L * *", "or", ""),
        ("* * MON,FRI#2", "or", ""),
        ("L * FRI", "and", ""),
        ("1 * FRI#2", "or", ""),
    ],
)
def test_which_dialects_say_days_as_they_are(text: str, rule: str, dialects: str):
    names = ["airflow", "cron", "eventbridge", "kubernetes", "systemd", "temporal"]
    cron = Cron(f"0 0 {text}", day_rule=rule)  # type: ignore[arg-type]
    found = [name for name in names if says_days(cron, DIALECTS[name])]
    assert found == (names if dialects == "all" else dialects.split())


@pytest.mark.parametrize(
    ("text", "rule", "dialect", "lines", "exact"),
    [
        ("13 * FRI", "or", SYSTEMD, ["13 * *", "* * 5"], True),
        ("13 * FRI", "and", TEMPORAL, ["13 * 5"], True),
        ("13 * FRI", "and", KUBERNETES, ["13 * *"], False),
        ("1-20 * FRI", "and", KUBERNETES, ["* * 5"], False),
        ("L * *", "or", KUBERNETES, ["28-31 * *"], False),
        ("L * *", "or", TEMPORAL, ["31 1,3,5,7,8,10,12 *", "28,29 2 *", "30 4,6,9,11 *"], False),
        ("L 3-12 *", "or", KUBERNETES, ["31 3,5,7,8,10,12 *", "30 4,6,9,11 *"], True),
        ("L-1 * *", "or", AIRFLOW, ["27-30 * *"], False),
        ("* * FRI#3", "or", TEMPORAL, ["15-21 * 5"], True),
        ("* * FRI#3", "or", KUBERNETES, ["* * 5"], False),
        ("* * FRI#5", "or", TEMPORAL, ["29-31 * 5"], True),
        ("15-21 * FRI", "and", AIRFLOW, ["* * 5#3"], True),
        ("14-21 * FRI", "and", AIRFLOW, ["* * 5"], False),
        ("30-31 * FRI", "and", AIRFLOW, ["30,31 1,3,4,5,6,7,8,9,10,11,12 *"], False),
        ("L * *", "or", AIRFLOW, ["L * *"], True),
        ("15W * *", "or", AIRFLOW, ["15W * *"], True),
        ("L-3 * *", "or", SYSTEMD, ["L-3 * *"], True),
        ("1-7 * FRI,MON", "and", EVENTBRIDGE, ["1-7 * *"], False),
        ("29-31 * FRI", "and", AIRFLOW, ["29-31 * *"], False),
        ("1W * *", "or", TEMPORAL, ["1-3 * 1-5"], False),
        ("LW 2 *", "or", BOTH_DAYS, ["26-29 2 1-5"], False),
        ("* * FRI#L", "or", EVENTBRIDGE, ["* * 5#L"], True),
        ("LW * *", "or", EVENTBRIDGE, ["LW * *"], True),
        ("30 2 MON", "or", EVENTBRIDGE, ["* 2 1"], True),
    ],
)
def test_days_are_said_by_the_words_of_a_dialect(
    text: str, rule: str, dialect: Dialect, lines: list[str], exact: bool
):
    assert said(text, dialect, 0, rule) == (lines, exact)


@pytest.mark.parametrize(
    ("text", "delta", "lines", "exact"),
    [
        ("* * *", -1, ["* * *"], True),
        ("* * MON", -1, ["* * 0"], True),
        ("* * SAT", 1, ["* * 0"], True),
        ("15 * *", -1, ["14 * *"], True),
        ("1 3 *", -1, ["28,29 2 *"], False),
        ("1 5 *", -1, ["30 4 *"], True),
        ("1 1 *", -1, ["31 12 *"], True),
        ("31 12 *", 1, ["1 1 *"], True),
        ("1 * *", -1, ["28-31 * *"], False),
        ("31 * *", 1, ["1 1,2,4,6,8,9,11 *"], True),
        ("29 2 *", 1, ["1 3 *"], False),
        ("* 2 *", 1, ["2-29 2 *", "1 3 *"], True),
        ("L 4 *", 1, ["1 5 *"], True),
    ],
)
def test_days_of_another_zone_cross_the_ends_of_months(
    text: str, delta: int, lines: list[str], exact: bool
):
    assert said(text, KUBERNETES, delta) == (lines, exact)


@pytest.mark.parametrize(
    ("text", "rule", "delta", "lines", "exact"),
    [
        ("13 * FRI", "and", -1, ["12 * 4"], True),
        ("* * FRI#3", "or", -1, ["14-20 * 4"], True),
        ("* * FRI#3", "or", 1, ["16-22 * 6"], True),
        (
            "* * FRI#4",
            "or",
            1,
            ["23-29 1,2,4,5,6,7,8,9,10,11,12 6", "1,23,24,25,26,27,28,29 3 6"],
            False,
        ),
        ("L 12 FRI", "and", 1, ["1 1 6"], True),
    ],
)
def test_weekdays_move_with_the_days_of_the_month(
    text: str, rule: str, delta: int, lines: list[str], exact: bool
):
    assert said(text, TEMPORAL, delta, rule) == (lines, exact)


def test_months_that_differ_get_lines_of_their_own_where_these_are_one_object():
    assert len(said("1 * *", TEMPORAL, -1)[0]) > 2
    assert len(said("1 * *", replace(TEMPORAL, many_lines=False), -1)[0]) == 1

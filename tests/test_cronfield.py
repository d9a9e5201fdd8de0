from __future__ import annotations

import copy
import pickle

from purista.cronfield import (
    DAY_OF_WEEK,
    HOUR,
    LAST,
    MINUTE,
    UNITS,
    day_of_month_text,
    day_of_week_text,
    list_text,
    parse_day_of_month,
    parse_day_of_week,
    parse_field,
    shown,
    star_text,
    starred_text,
    unit_named,
)


def test_a_field_is_its_values_and_how_it_begins() -> None:
    field, mistakes = parse_field(MINUTE, "*/20,5")
    assert (field and field.values, field and field.starred, mistakes) == ((0, 5, 20, 40), True, ())


def test_every_mistake_of_a_field_is_found_with_its_offset() -> None:
    field, mistakes = parse_field(HOUR, "24,1,x")
    assert field is None
    assert [mistake.offset for mistake in mistakes] == [0, 5]


def test_only_a_star_of_its_own_restricts_nothing() -> None:
    unrestricted = [
        text
        for text in ("*", "*,1", "1,*", "*/1", "*/2", "1-31", "1/1")
        if (field := parse_day_of_month(text)[0]) and field.unrestricted
    ]
    assert unrestricted == ["*", "*,1"]


def test_the_last_is_told_from_the_counted() -> None:
    field, _ = parse_day_of_week("FRI#L,FRI#1,MON#2")
    assert field is not None
    assert field.nth == ((1, 2), (5, 1), (5, LAST))


def test_values_become_text() -> None:
    assert list_text(HOUR, (2,)) == "2"
    assert list_text(HOUR, (2, 3)) == "2,3"
    assert list_text(HOUR, (2, 3, 4)) == "2-4"
    assert list_text(HOUR, (2, 3, 4, 9)) == "2,3,4,9"
    assert star_text(HOUR, tuple(range(24))) == "*"
    assert star_text(HOUR, (0, 12)) == "*/12"
    assert star_text(HOUR, (0,)) == "0"
    assert star_text(MINUTE, (0, 7, 14)) == "0,7,14"
    assert star_text(DAY_OF_WEEK, tuple(range(7))) == "*"
    assert starred_text(MINUTE, (0, 20, 40)) == "*/20"
    assert starred_text(MINUTE, tuple(range(60))) == "*"


def test_there_are_six_units_and_each_is_itself_alone() -> None:
    assert [unit.name for unit in UNITS][:2] == ["second", "minute"]
    for unit in UNITS:
        assert pickle.loads(pickle.dumps(unit)) is copy.deepcopy(unit) is unit_named(unit.name)


def test_every_day_is_a_star() -> None:
    month, week = parse_day_of_month("1-31,L")[0], parse_day_of_week("0-6,FRI#2")[0]
    assert month is not None
    assert week is not None
    assert (day_of_month_text(month), day_of_week_text(week)) == ("*", "*")


def test_a_long_token_is_cut_in_a_message() -> None:
    assert shown("x" * 100) == repr("x" * 37 + "...")

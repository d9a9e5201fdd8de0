from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from purista.cronfield import HOUR, MINUTE, Field, parse_field
from purista.crontext import needs_rule, read_fields, shown_value, time_texts
from purista.errors import ContractError, ExpressionError
from purista.expression import Cron


def refusal(*arguments: Any, **options: Any) -> str:
    with pytest.raises(ExpressionError) as caught:
        Cron(*arguments, **options)
    return str(caught.value)


def field(unit: Any, text: str) -> Field:
    found, _ = parse_field(unit, text)
    assert found is not None
    return found


def test_a_text_is_read_into_six_fields() -> None:
    fields = read_fields("30 2 1 * MON", "and", seconds=False)
    assert [found.values for found in fields][:4] == [(0,), (30,), (2,), (1,)]
    assert fields.month.is_all
    assert fields.day_of_week.values == (1,)


def test_a_rule_is_needed_where_schedulers_disagree() -> None:
    def needs(text: str) -> bool:
        fields = read_fields(text, "or", seconds=False)
        return needs_rule(fields.day_of_month, fields.day_of_week)

    assert needs("0 0 */2 * 5")
    assert needs("0 0 1 * 0-6")
    assert not needs("0 0 13 * 5")
    assert not needs("0 0 */2 * *")


def test_minute_and_hour_keep_the_star_that_they_need() -> None:
    assert time_texts(field(MINUTE, "0-59"), field(HOUR, "2")) == ["0-59", "2"]
    assert time_texts(field(MINUTE, "*"), field(HOUR, "2")) == ["*", "2"]
    assert time_texts(field(MINUTE, "*/90"), field(HOUR, "2")) == ["*/60", "2"]
    assert time_texts(field(MINUTE, "7"), field(HOUR, "*/90")) == ["7", "*/24"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("61 * * * *", "cron '61 * * * *': minute: '61' is out of bounds (character 1); use 0-59"),
        ("0 24 * * *", "hour: '24' is out of bounds (character 3); use 0-23"),
        ("0 0 0 * *", "day of month: '0' is out of bounds (character 5); use 1-31"),
        ("0 0 1 13 *", "month: '13' is out of bounds (character 7); use 1-12"),
        ("0 0 * * 8", "day of week: '8' is out of bounds (character 9); use 0-7"),
        ("0 0 * * 1,2-9", "day of week: '9' in '2-9' is out of bounds (character 11); use 0-7"),
        ("0 0 * * 1-99999999999999999999", "out of bounds (character 9); use 0-7"),
        ("*/0 * * * *", "minute: step '0' in '*/0' is too small (character 1); use 1 or more"),
        ("*/x * * * *", "minute: 'x' in '*/x' is no step (character 1); use a whole number from 1"),
        ("1/2/3 * * * *", "minute: '2/3' in '1/2/3' is no step"),
        ("-5 * * * *", "minute: a value is missing in '-5' (character 1); use 0-59"),
        ("5- * * * *", "minute: a value is missing in '5-'"),
        ("1,,2 * * * *", "minute: a value is missing (character 3); use 0-59"),
        ("0 , * * *", "hour: a value is missing (character 3); use 0-23"),
        ("1-2-3 * * * *", "minute: '2-3' in '1-2-3' is no minute"),
        ("+1 * * * *", "minute: '+1' is no minute"),
        ("1.5 * * * *", "minute: '1.5' is no minute"),
        ("0 0 1 FOO *", "month: 'FOO' is no month (character 7); use 1-12, or a name such as JAN"),
        ("0 0 1 M *", "month: 'M' is no month"),
        ("0 JUL * * *", "hour: 'JUL' is no hour (character 3); use 0-23"),
        ("0 0 * * FRYDAY", "is no day of week (character 9); use 0-7, or a name such as SUN"),
        ("0 0 ? * 5", "day of month: '?' is no day of month (character 5); write '*'"),
        ("H 2 * * *", "H is a hash that Jenkins puts in: write a number, and say jitter="),
        ("H(0-29) 2 * * *", "H is a hash that Jenkins puts in"),
        ("0~30 * * * *", "a random time is not a nominal time: write a number, and say jitter="),
        ("0 L * * *", "L, L-3 and LW stand alone in the day-of-month field"),
        ("0 0 * * L", "write SAT, or L in the day-of-month field, or FRI#L for the last Friday"),
        ("0 0 * * LW", "L, L-3 and LW stand alone in the day-of-month field"),
        ("0 0 L-0 * *", "day of month: '0' in 'L-0' is out of bounds (character 5); use 1-30"),
        ("0 0 L-31 * *", "'31' in 'L-31' is out of bounds (character 5); use 1-30"),
        ("0 0 32W * *", "'32' in '32W' is out of bounds (character 5); use 1-31"),
        ("0 0 1-15W * *", "a nearest weekday, such as 15W, stands alone"),
        ("0 15W * * *", "a nearest weekday, such as 15W, stands alone in the day-of-month field"),
        ("0 0 1#2 * *", "an nth weekday, such as FRI#2, stands alone in the day-of-week field"),
        ("0 0 * * FRI#6", "day of week: '6' in 'FRI#6' is out of bounds (character 9); use 1-5"),
        ("0 0 * * FRI#0", "use 1-5"),
        ("0 0 * * FRI#x", "day of week: 'x' in 'FRI#x' is no count (character 9); use 1-5 or L"),
        ("0 0 * * FRI#", "is no count"),
        ("0 0 * * FOO#2", "'FOO' in 'FOO#2' is no day of week"),
        ("0 0 * * 9L", "'9' in '9L' is out of bounds"),
        ("0 0 * * MON-FRI#2", "stands alone in the day-of-week field"),
        ("0 2 * *", "cron '0 2 * *': expected 5 fields, got 4; write minute, hour, day of month"),
        ("", "cron '': expected 5 fields, got 0"),
        ("* * *", "expected 5 fields, got 3"),
        (
            "0 0 1 1 * 2028",
            "expected 5 fields, got 6; say seconds=True if the first is for seconds",
        ),
        ("0 0 0 1 1 * 2028", "expected 5 fields, got 7; there is no year field: use start_at"),
        ("@reboot", "'@reboot' is no time; run it when the service starts"),
        ("@every 5m", "'@every' is an interval; use Every(timedelta(minutes=5))"),
        ("@fortnightly", "unknown word '@fortnightly'; use one of: @yearly"),
        ("@daily 5", "'@daily' stands alone, got 2 words"),
        ("TZ=Europe/Berlin 30 2 * * *", "'TZ=Europe/Berlin' sets a variable; say timezone="),
        ("CRON_TZ=UTC 30 2 * * *", "'CRON_TZ=UTC' sets a variable"),
        ("0 0 \u0661 * *", "character 5 is '\\u0661'; use ASCII"),
        ("0 2 * * *\0", "character 10 is '\\x00'"),
        ("0 0 * * \ud800", "character 9 is '\\ud800'"),
        ("0\x1c2 * * *", "character 2 is '\\x1c'"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(text: str, message: str) -> None:
    assert message in refusal(text)


def test_seconds_must_be_there_when_they_are_asked_for() -> None:
    message = refusal("0 2 * * *", seconds=True)
    assert "expected 6 fields, got 5; write second, minute, hour" in message
    assert "second: '60' is out of bounds (character 1); use 0-59" in refusal(
        "60 0 2 * * *", seconds=True
    )


def test_the_words_of_an_argument_are_checked() -> None:
    assert "day_rule: unknown word 'xor'; use 'or' or 'and'" in refusal("0 2 * * *", day_rule="xor")
    assert "seconds: 1 is neither True nor False" in refusal("0 2 * * *", seconds=1)
    assert "NoneType is no text; write Cron('0 2 * * *')" in refusal(None)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ExpressionError) as caught:
        Cron("60 24 0 13 8,FOO")
    assert [problem.place.rpartition(": ")[2] for problem in caught.value.problems] == [
        "minute",
        "hour",
        "day of month",
        "month",
        "day of week",
        "day of week",
    ]
    assert isinstance(caught.value, ContractError)


def test_a_very_long_text_is_refused_at_once() -> None:
    message = refusal("0," * 500_000 + "0 * * * *")
    assert "1000009 characters are too many; use 2000" in message
    assert len(message) < 200


def test_a_text_with_each_value_once_is_not_too_long() -> None:
    every = ",".join
    text = " ".join(
        [
            every(f"{n}-{n}" for n in range(60)),
            every(map(str, range(24))),
            every([*(f"{n}W" for n in range(1, 32)), *(f"L-{n}" for n in range(1, 31))]),
            every("january february march april may june july august".split()),  # noqa: SIM905
            every(f"wednesday#{n}" for n in range(1, 6)),
        ]
    )
    assert len(Cron(text).day_of_month.from_end) == 30


@settings(deadline=None)
@given(st.text("0123456789*/-,LW#?~SUNMONJAN \0\n", max_size=60))
def test_a_refusal_says_where_the_mistake_is(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Cron(f"{text} 99 99 99 99 99")
    assert all(problem.place.startswith("cron ") for problem in caught.value.problems)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize("text", [None, 5, b"0 2 * * *", ["0 2 * * *"], object(), 1.5, True])
def test_what_is_no_text_is_refused(text: object) -> None:
    assert "is no text" in refusal(text)


def test_what_cannot_be_shown_is_told_by_its_type() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    assert shown_value(Shy()) == "(Shy)"
    assert shown_value(10**5000) == "(int)"
    assert len(shown_value("x" * 1000)) == 80
    assert "(int) is neither True nor False" in refusal("0 2 * * *", seconds=10**5000)


def test_a_missing_rule_is_told_with_the_other_mistakes() -> None:
    with pytest.raises(ExpressionError) as caught:
        Cron("61 0 */2 * 5")
    assert [problem.place.rpartition(": ")[2] for problem in caught.value.problems] == [
        "minute",
        "day of month",
    ]


def test_a_word_before_four_fields_is_known() -> None:
    assert "a zone is said beside the text" in refusal("TZ=UTC 0 2 * *")
    assert "a word such as @daily stands alone" in refusal("@daily 0 2 * *")

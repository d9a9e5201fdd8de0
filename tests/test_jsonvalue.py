import contextlib
import json
from enum import IntEnum, StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.jsonvalue import (
    MAX_DEPTH,
    NotJsonError,
    compact,
    json_problems,
    json_type,
    read_document,
    read_strictly,
)


class Word(StrEnum):
    A = "a"


class Number(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    "value",
    [None, True, 5, 10**400, 1.5, "x", [], (), {}, {"a": [{"b": None}]}, Word.A, Number.ONE],
)
def test_json_data_has_no_problems(value: object):
    assert list(json_problems(value)) == []
    json.loads(compact(value), parse_int=str)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": {1, 2}}, "a: set is no JSON value; write it as a text"),
        ([float("nan")], "0: NaN is no JSON number"),
        (float("inf"), "infinity is no JSON number"),
        ({"a": {5: 1}}, "a: a key is int; use texts as keys"),
        ({"a": {"\ud800": 1}}, "a: a key is a text that UTF-8 cannot say"),
        ({"a": "\ud800"}, "a: is a text that UTF-8 cannot say"),
        (object(), "object is no JSON value; write it as a text"),
    ],
)
def test_what_is_no_json_is_named_with_its_path(value: object, expected: str):
    assert [str(each) for each in json_problems(value)] == [expected]


def test_json_deeper_than_a_person_writes_is_refused():
    value: list[object] = []
    for _ in range(MAX_DEPTH):
        value = [value]
    assert list(json_problems(value)) == []
    assert [each.message for each in json_problems([value])] == ["is nested deeper than 100 levels"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "boolean"),
        (1, "integer"),
        (1.0, "integer"),
        (1.5, "number"),
        ("", "string"),
        ([], "array"),
        ((), "array"),
        ({}, "object"),
    ],
)
def test_the_word_of_json_schema_for_a_value(value: object, expected: str):
    assert json_type(value) == expected


def test_compact_json_is_utf_8_without_blanks():
    assert compact({"b": "ü", "a": [1, None]}) == '{"b":"ü","a":[1,null]}'.encode()
    assert compact({"b": 1, "a": 2}, sort_keys=True) == b'{"a":2,"b":1}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"NaN", "NaN is no JSON number"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b"{", "line 1, column 2: Expecting property name"),
        (b"\xff", "not UTF-8, or a number with too many digits"),
        (b"[" * 200_000, "nested too deep"),
        (b"9" * 5000, "not UTF-8, or a number with too many digits"),
    ],
)
def test_what_only_pythons_reader_takes_is_refused(text: bytes, reason: str):
    with pytest.raises(NotJsonError) as caught:
        read_strictly(text)
    assert str(caught.value).startswith(reason)


def test_a_document_may_begin_with_a_byte_order_mark():
    assert read_document(b"\xef\xbb\xbf{}") == {}
    assert read_document("\ufeff[1]") == [1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": "\xff"}', "byte 8 is not UTF-8"),
        ("{}".encode("utf-16"), "byte 1 is not UTF-8"),
        ('{"a": 1, "b": 2, "a": 3}', 'the key "a" is given twice in one object'),
        ('[{"x": {"y": 1, "y": 1}}]', 'the key "y" is given twice in one object'),
        ('{"a": NaN}', "NaN is no JSON number"),
    ],
)
def test_a_document_that_would_lose_something_is_refused(text: str | bytes, reason: str):
    with pytest.raises(NotJsonError) as caught:
        read_document(text)
    assert str(caught.value) == reason


@given(st.text() | st.binary())
def test_any_text_is_read_or_refused(text: str | bytes):
    for read in (read_strictly, read_document):
        with contextlib.suppress(NotJsonError):
            read(text)

from typing import Any

import pytest

from purista.shape import (
    MAX_ALTERNATIVES,
    alternatives,
    at,
    child,
    field_names,
    fields,
    malformed,
    required,
    resolved,
    takes_more,
    types,
)


def test_references_unions_and_intersections_become_alternatives():
    document = {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": {"allOf": [{"required": ["x"]}, {"properties": {"x": {"type": "string"}}}]},
        },
        "properties": {"y": True},
        "required": ["y"],
        "anyOf": [{"type": "object"}, {"type": "null"}],
    }
    ways = alternatives(document, document)
    assert types(ways) == {"object", "null"}
    assert fields(ways) == ["x", "y"]
    assert required(ways) == ["x", "y"]


def test_a_reference_to_itself_has_no_alternatives():
    document = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert alternatives(document, document) == []
    assert at(document, ["x"]) == []


def test_so_many_alternatives_that_nobody_could_read_them_are_cut():
    half = {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    document = {"allOf": [half] * 20}
    assert len(alternatives(document, document)) == MAX_ALTERNATIVES


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("#", {"a/b": [{"c": 5}], "~": 1}),
        ("#/a~1b/0", {"c": 5}),
        ("#/~0", 1),
        ("#/a~1b/1", False),
        ("#/nothing", False),
        ("#/~0/x", False),
        ("other.json#/a", False),
    ],
)
def test_a_reference_leads_to_a_part_of_the_document_or_nowhere(reference: str, expected: object):
    document = {"a/b": [{"c": 5}], "~": 1}
    assert resolved(reference, document) == expected


@pytest.mark.parametrize(
    ("parent", "part", "expected"),
    [
        ({"properties": {"a": {"type": "string"}}}, "a", {"type": "string"}),
        ({"properties": {}}, "a", False),
        ({"patternProperties": {"^a": {"type": "null"}}}, "ab", {"type": "null"}),
        ({"patternProperties": {"^a": {"type": "null"}}}, "b", False),
        ({"patternProperties": {"(": {}}}, "b", False),
        ({"additionalProperties": {"type": "null"}}, "b", {"type": "null"}),
        ({"additionalProperties": True}, "b", True),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, 0, {"const": 1}),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}}, 1, {"const": 2}),
        ({"type": "array", "prefixItems": [{"const": 1}]}, 1, False),
        ({"type": "array"}, 1, True),
        ({"type": "object"}, 1, False),
    ],
)
def test_the_schema_of_a_field_or_an_element(
    parent: dict[str, object], part: str | int, expected: object
):
    assert child(parent, part) == expected


def test_types_come_from_values_too():
    assert types([{"const": 5}]) == {"integer"}
    assert types([{"enum": ["a", None]}]) == {"string", "null"}
    assert types([{"type": ["array", "null"]}]) == {"array", "null"}
    assert types([{}]) == {"any"}


def test_alternatives_that_cannot_both_hold_are_merged_all_the_same():
    pattern: dict[str, Any] = {"patternProperties": {"^a": {}}}
    document = {"allOf": [pattern, {"patternProperties": {"^b": {}}, "required": ["b"]}]}
    (way,) = alternatives(document, document)
    assert sorted(way["patternProperties"]) == ["^a", "^b"]
    assert way["required"] == ["b"]


def test_whether_an_object_takes_more_fields():
    assert takes_more({})
    assert takes_more({"properties": {}, "additionalProperties": True})
    assert takes_more({"properties": {}, "patternProperties": {"^x": {}}})
    assert not takes_more({"properties": {}})
    assert not takes_more({"properties": {}, "additionalProperties": False})


def test_field_names_are_found_everywhere():
    document = {
        "properties": {"a": {"items": [{"properties": {"b": True}}]}},
        "$defs": {"X": {"properties": {"c": {}}}},
    }
    assert sorted(field_names(document)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (5, [("", "an object")]),
        ({"properties": []}, [("properties", "an object")]),
        ({"properties": {"a": 5}}, [("properties.a", "an object")]),
        ({"anyOf": {}}, [("anyOf", "a list")]),
        ({"anyOf": [True, "x"]}, [("anyOf[1]", "an object")]),
        ({"enum": "x"}, [("enum", "a list")]),
        ({"items": [1]}, [("items", "an object")]),
        ({"required": "x"}, [("required", "a list of names")]),
        ({"required": [1]}, [("required", "a list of names")]),
        ({"type": [1]}, [("type", "a word or a list of words")]),
        ({"$defs": {"a": {"type": 1}}}, [("$defs.a.type", "a word or a list of words")]),
        ({"type": "string", "enum": [1], "default": {"properties": 5}}, []),
        ({"type": ["string"], "required": ["a"], "items": False}, []),
    ],
)
def test_a_malformed_schema_is_named_with_its_place(
    schema: object, expected: list[tuple[str, str]]
):
    assert list(malformed(schema)) == expected

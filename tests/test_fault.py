from typing import Any

from purista.errors import Problem
from purista.fault import Names, refusal, rule


def test_a_rule_shows_only_what_the_schema_wrote():
    assert rule("greater_than", {"gt": 5, "input": "secret"}) == "must be greater than 5"
    assert rule("value_error", {"error": "secret"}) == "is refused by a validator"


def test_a_rule_without_words_or_without_its_number_is_named():
    assert rule("my_rule", {}) == "breaks the rule 'my_rule'"
    assert rule("greater_than", {}) == "breaks the rule 'greater_than'"


def test_branches_of_unions_are_left_out_of_a_path_and_unknown_keys_hidden():
    document: dict[str, Any] = {"properties": {"a": {}}, "$defs": {"Card": {}}}
    path: list[str | int] = ["a", "Card", "list[int]", 3, "str", "secret"]
    assert Names(document, shows_keys=False).path(path) == "a.3.*"
    assert Names(document, shows_keys=True).path(path) == "a.3.secret"


def test_a_refusal_names_each_fault_under_the_payload():
    error = refusal([Problem("a.b", "is required"), Problem("", "must be JSON")])
    assert str(error) == "payload.a.b is required; payload must be JSON"

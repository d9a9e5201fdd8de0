import pickle

import pytest

from purista.errors import (
    ContractError,
    ExpressionError,
    HandledError,
    MissingExtraError,
    Problem,
    PuristaError,
)


def test_a_problem_reads_as_place_message_and_remedy():
    assert str(Problem("cron", "5 fields", "add one")) == "cron: 5 fields; add one"
    assert str(Problem("", "5 fields")) == "5 fields"
    assert str(Problem("", "5 fields").within("cron").within("schedule")) == (
        "schedule: cron: 5 fields"
    )


def test_a_contract_error_lists_every_problem():
    one = ContractError([Problem("a", "b")])
    two = ExpressionError([Problem("a", "b"), Problem("c", "d")])
    assert str(one) == "a: b"
    assert str(two) == "2 problems:\n  - a: b\n  - c: d"
    assert isinstance(two, ValueError)


@pytest.mark.parametrize(
    "error",
    [ExpressionError([Problem("a", "b", "c")]), HandledError("code", "message", {"a": 1})],
)
def test_errors_survive_a_process_boundary(error: PuristaError):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_missing_extra_says_what_to_install():
    error = MissingExtraError("a payload known by JSON Schema", "jsonschema")
    assert str(error) == (
        "a payload known by JSON Schema needs more packages: pip install 'purista[jsonschema]'"
    )
    assert isinstance(error, ImportError)

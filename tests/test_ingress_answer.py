from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from purista.ingress import Decision, answer
from purista.ingress.answer import TITLES, problem, unavailable
from purista.ledgers import Verdict

SLOT = datetime(2027, 3, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def decision(verdict: str, **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "verdict": Verdict(verdict),
        "reason": "why",
        "schedule_id": "shop.v1.close",
        "nominal_time": SLOT,
        "run_id": "r",
    }
    return Decision(**(values | changes))


def test_an_accepted_trigger_is_answered_202_with_its_run():
    given = answer(decision("accepted"))
    assert (given.status, given.retry_after, given.is_problem) == (202, None, False)
    assert given.document == {
        "decision": "accepted",
        "reason": "why",
        "scheduleId": "shop.v1.close",
        "nominalTime": "2027-03-01T01:00:00Z",
        "runId": "r",
    }


@pytest.mark.parametrize(
    "verdict", ["duplicate", "overlap", "late", "coalesced", "disabled", "unexpected"]
)
def test_what_has_no_effect_is_answered_200_so_that_nobody_retries(verdict: str):
    given = answer(decision(verdict))
    assert (given.status, given.retry_after, given.is_problem) == (200, None, False)
    assert given.document["decision"] == verdict


def test_a_duplicate_in_doubt_is_to_be_sent_again():
    given = answer(decision("duplicate", retry_after=29.2 * SECOND))
    assert (given.status, given.retry_after) == (503, 30)
    assert given.document["type"] == "urn:purista:problem:in-doubt"


@pytest.mark.parametrize(
    ("cause", "status"),
    [("unknown_schedule", 404), ("unknown_contract", 409), ("invalid_payload", 422)],
)
def test_what_no_retry_mends_is_a_problem(cause: Any, status: int):
    given = answer(decision("rejected", cause=cause))
    assert (given.status, given.retry_after, given.is_problem) == (status, None, True)
    assert given.document["type"] == f"urn:purista:problem:{cause.replace('_', '-')}"
    assert given.document["status"] == status
    assert given.document["detail"] == "why"
    assert given.document["title"]


def test_a_time_that_is_none_of_the_contract_is_a_problem():
    options = {"nominal_time": None, "run_id": None, "cause": "unexpected_time"}
    given = answer(decision("unexpected", **options))
    assert (given.status, given.document["nominalTime"]) == (422, None)


@pytest.mark.parametrize("cause", ["dispatch_failed", "closing"])
def test_a_failed_dispatch_is_to_be_sent_again_in_a_second_at_least(cause: Any):
    given = answer(decision("rejected", cause=cause, retry_after=timedelta(0)))
    assert (given.status, given.retry_after) == (503, 1)


def test_recovered_decisions_are_told():
    earlier = decision("accepted", run_id="earlier")
    given = answer(decision("accepted", recovered=(earlier,)))
    assert [one["runId"] for one in given.document["recovered"]] == ["earlier"]


def test_a_ledger_that_fails_is_to_be_asked_again():
    given = unavailable("the ledger failed", after=2.5 * SECOND)
    assert (given.status, given.retry_after, given.document["status"]) == (503, 3, 503)


def test_every_kind_of_problem_has_a_title():
    assert all(problem(400, kind, "x").document["title"] == TITLES[kind] for kind in TITLES)

"""The harness of Kubernetes' engine gives the instants that were recorded from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.engines import robfig
from tests.engines.robfig import RobfigCase

ORACLES = Path(__file__).parent / "oracles" / "cron_cases.json"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads(ORACLES.read_text())["cases"]
}
ENGINE = "robfig_cron_v3.0.1_as_kubernetes"

Answers = Mapping[str, list[datetime] | str]


@pytest.fixture(scope="module")
def answers() -> Answers:
    return robfig.fires(robfig_case(case) for case in CASES.values())


def robfig_case(case: Mapping[str, Any]) -> RobfigCase:
    return RobfigCase(
        id=case["id"],
        expression=case["expr"],
        timezone=case["timezone"],
        start=datetime.fromisoformat(case["start"]),
        end=datetime.fromisoformat(case["end"]),
        limit=case["n"],
    )


@pytest.mark.parametrize("case", CASES)
def test_kubernetes_fires_or_refuses_as_recorded(case: str, answers: Answers) -> None:
    recorded = CASES[case]["engines"][ENGINE]
    if isinstance(recorded, list):
        assert answers[case] == [datetime.fromisoformat(at) for at in recorded]
    elif not CASES[case]["expr"]:
        assert isinstance(answers[case], str)
    else:
        assert answers[case] == recorded["error"]


def test_a_zone_in_which_the_engine_never_ends_is_answered_and_the_others_as_well() -> None:
    apia, after = (
        RobfigCase(
            id=zone,
            expression="0 12 30 12 *",
            timezone=zone,
            start=datetime(2011, 12, 1, tzinfo=UTC),
            end=datetime(2012, 2, 1, tzinfo=UTC),
        )
        for zone in ("Pacific/Apia", "UTC")
    )
    answers = robfig.fires([apia, after], case_limit=timedelta(seconds=0.5))
    assert answers == {
        "Pacific/Apia": "no answer within 500ms",
        "UTC": [datetime(2011, 12, 30, 12, tzinfo=UTC)],
    }


def test_two_years_of_a_hundred_hourly_cases_are_asked_at_once() -> None:
    start = datetime(2027, 1, 1, tzinfo=UTC)
    cases = [
        RobfigCase(f"{n}", f"{n % 59 + 1} * * * *", "Europe/Berlin", start, start.replace(2029))
        for n in range(100)
    ]
    answers = robfig.fires(cases)
    assert {len(instants) for instants in answers.values()} == {731 * 24}

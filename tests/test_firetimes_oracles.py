"""Instants recorded from six real schedulers, against ours with each scheduler's own rules.

``oracles/cron_cases.json`` holds the instants; ``oracles/DIFFERENCES.md`` lists every case in which
the two differ, with the cause. The test holds the list to the truth in both directions.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest

from purista import firetimes
from purista.errors import ExpressionError
from purista.expression import Cron

ORACLES = Path(__file__).parent / "oracles"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads((ORACLES / "cron_cases.json").read_text())["cases"]
}
DIFFERENCES = (ORACLES / "DIFFERENCES.md").read_text()

DayRule = Literal["or", "and"]
Verdict = Literal["instants", "ours alone", "theirs alone"]


@dataclass(frozen=True)
class Engine:
    """A scheduler, and the options with which a contract means what it does."""

    recorded_as: str
    dst_gap: str
    dst_overlap: str
    means_and: str

    def day_rule(self, text: str) -> DayRule:
        """Return what two restricted day fields mean to it: ``and`` if one matches ``means_and``."""
        days = text.split()[2:5:2]
        return "and" if any(re.match(self.means_and, field) for field in days) else "or"


ENGINES = {
    "Debian cron": Engine("debian_cron_3.0pl1-197", "next", "first", r"\*"),
    "cronie": Engine("cronie_1.7.2-4", "next", "first", r"\*"),
    "systemd": Engine("systemd_257.13_translated", "skip", "first", r"\*"),
    "Kubernetes": Engine("robfig_cron_v3.0.1_as_kubernetes", "skip", "both", r"\*/1\Z"),
    "Airflow": Engine("airflow_3.3.2_CronTriggerTimetable", "shift", "last", r"(?!)"),
    "Temporal": Engine("temporal_server_1.32.0", "skip", "last", r""),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_fires_as_the_contract_says_or_the_difference_is_listed(
    engine: str, case: str
) -> None:
    assert verdict(ENGINES[engine], CASES[case]) == LISTED.get((engine, case))


def test_the_list_names_engines_and_cases_that_exist() -> None:
    assert {engine for engine, _ in LISTED} <= set(ENGINES)
    assert {case for _, case in LISTED} <= set(CASES)


def test_the_list_counts_right() -> None:
    for engine, settings in ENGINES.items():
        accepted = [
            case
            for case in CASES.values()
            if isinstance(case["engines"][settings.recorded_as], list) and ours(settings, case)
        ]
        equal = [case for case in accepted if verdict(settings, case) is None]
        assert f"| {engine} | {len(equal)} of {len(accepted)} |" in DIFFERENCES


def verdict(engine: Engine, case: dict[str, Any]) -> Verdict | None:
    """Return in what the two differ, None where they agree - in refusing, too."""
    theirs = case["engines"][engine.recorded_as]
    cron = ours(engine, case)
    if isinstance(theirs, dict) and theirs["error"].startswith("not run"):
        return None
    if cron is None or isinstance(theirs, dict):
        if cron is None and isinstance(theirs, dict):
            return None
        return "theirs alone" if cron is None else "ours alone"
    fired = firetimes.between(
        cron,
        case["timezone"],
        datetime.fromisoformat(case["start"]),
        datetime.fromisoformat(case["end"]),
        dst_gap=engine.dst_gap,
        dst_overlap=engine.dst_overlap,
    )
    recorded = sorted({datetime.fromisoformat(instant) for instant in theirs})
    return None if list(islice(fired, case["n"])) == recorded else "instants"


def ours(engine: Engine, case: dict[str, Any]) -> Cron | None:
    try:
        return Cron(case["expr"], day_rule=engine.day_rule(case["expr"]))
    except ExpressionError:
        return None


def _listed() -> dict[tuple[str, str], Verdict]:
    """Read the tables: under a heading of the second level each row is an engine and its cases."""
    headings: dict[str, Verdict] = {
        "Different instants": "instants",
        "Refused by the scheduler": "ours alone",
        "Refused by purista": "theirs alone",
    }
    found: dict[tuple[str, str], Verdict] = {}
    for section in DIFFERENCES.split("\n## ")[1:]:
        heading, _, body = section.partition("\n")
        for engine, cases in re.findall(
            r"^\| ([^|]+) \| ((?:`[a-zA-Z]+-\d+`(?:, )?)+) \|", body, re.M
        ):
            for case in re.findall(r"`([^`]+)`", cases):
                assert (engine, case) not in found, f"listed twice: {engine}, {case}"
                found[engine, case] = headings[heading]
    return found


LISTED = _listed()

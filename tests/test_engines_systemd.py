"""The harness of systemd's calendar gives the instants that were recorded from it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.engines import systemd

ORACLES = Path(__file__).parent / "oracles" / "cron_cases.json"
ENGINE = "systemd_257.13_translated"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case
    for case in json.loads(ORACLES.read_text())["cases"]
    if isinstance(case["engines"][ENGINE], list)
}
SERVICE = "[Service]\nType=oneshot\nExecStart=/bin/true\n"
START = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("case", CASES)
def test_systemd_elapses_as_recorded(case: str) -> None:
    asked = CASES[case]
    found = systemd.fires(
        asked["translations"]["systemd_OnCalendar"],
        start=datetime.fromisoformat(asked["start"]),
        end=datetime.fromisoformat(asked["end"]),
    )
    recorded = [datetime.fromisoformat(at) for at in asked["engines"][ENGINE]]
    assert found[: asked["n"]] == recorded


def test_start_and_end_are_included() -> None:
    end = START.replace(hour=2)
    found = systemd.fires(["hourly"], start=START, end=end)
    assert found == [START, START.replace(hour=1), end]


def test_an_instant_of_two_lines_is_one() -> None:
    lines = ["*-*-* 02:00:00", "Fri *-*-* 02,03:00:00"]
    found = systemd.fires(lines, start=START, end=START.replace(day=2))
    assert found == [START.replace(hour=2), START.replace(hour=3)]


def test_a_line_that_never_elapses_has_no_instants() -> None:
    assert systemd.fires(["*-02-30 00:00:00"], start=START, end=START.replace(year=2029)) == []


def test_lines_that_systemd_refuses_are_named() -> None:
    with pytest.raises(systemd.CalendarRefused, match=r"'Fri-Mon \*-\*-\*' *: "):
        systemd.fires(["hourly", "Fri-Mon *-*-*"], start=START, end=START.replace(day=2))


def test_instants_that_come_in_clusters_are_all_found() -> None:
    found = systemd.fires(["*-02-01 00:*:00"], start=START, end=START.replace(year=2030))
    assert len(found) == 3 * 60


def test_two_thousand_lines_over_a_year_are_asked_at_once() -> None:
    lines = [
        f"*-*-{n % 28 + 1} {n % 24}:{n // 24 % 60}:{n % 60} Europe/Berlin" for n in range(2000)
    ]
    found = systemd.fires_of_each(lines, start=START, end=START.replace(year=2028))
    assert {len(instants) for instants in found.values()} <= {11, 12, 13}


def test_a_sound_timer_and_its_service_pass_verification() -> None:
    timer = "[Timer]\nOnCalendar=*-*-* 02:30:00 Europe/Berlin\nPersistent=true\n"
    assert systemd.verify({"x.timer": timer, "x.service": SERVICE}) == []


def test_verification_names_each_fault() -> None:
    timer = "[Timer]\nOnCalendar=02:30 Nowhere/Town\nOnCalendar=daily\nPersistent=perhaps\nWhen=1\n"
    complaints = systemd.verify({"x.timer": timer, "x.service": SERVICE})
    assert [line.split(":")[:2] for line in complaints] == [["x.timer", n] for n in "245"]


def test_verification_names_a_service_without_a_command() -> None:
    timer = "[Timer]\nOnCalendar=daily\n"
    [complaint, *_] = systemd.verify({"x.timer": timer, "x.service": "[Service]\nType=oneshot\n"})
    assert "x.service" in complaint

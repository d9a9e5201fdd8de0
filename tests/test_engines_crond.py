"""The harness of the cron daemons gives the instants that were recorded from them, and scales."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.engines import crond
from tests.engines.crond import CrontabRefused, Daemon, DaemonFailed

ORACLES = Path(__file__).parent / "oracles" / "cron_cases.json"
CASES: dict[str, dict[str, Any]] = {
    case["id"]: case for case in json.loads(ORACLES.read_text())["cases"]
}
RECORDED_AS: dict[Daemon, str] = {
    "debian": "debian_cron_3.0pl1-197",
    "cronie": "cronie_1.7.2-4",
}
DRAWN_AT_RANDOM = {"dial-02"}
"""``0~30``: the daemon draws the minute when it reads the crontab, each time another.

Only the hours are compared, and of them the whole ones: the window begins a second after the hour,
so the first has no start where the minute is 0.
"""

NOT_RECORDED = {("cronie", "cal-01")}
"""Ten years were too long when cronie was recorded; it is held to what Debian's daemon did."""

DAEMONS: tuple[Daemon, ...] = get_args(Daemon)
START = datetime(2027, 3, 26, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("daemon", DAEMONS)
def test_a_daemon_starts_jobs_or_refuses_as_recorded(daemon: Daemon, case: str) -> None:
    recorded = recorded_of(case, daemon)
    if isinstance(recorded, dict):
        with pytest.raises(CrontabRefused) as refused:
            asked_together([case], daemon)
        assert str(refused.value) == recorded["error"]
        return
    found = asked(case, daemon)
    expected = [datetime.fromisoformat(at) for at in recorded]
    if case in DRAWN_AT_RANDOM:
        found, expected = (whole_hours(case, ats) for ats in (found, expected))
        assert len(expected) >= CASES[case]["n"] - 1
        assert found[: len(expected)] == expected
        return
    assert found[: CASES[case]["n"]] == expected


def whole_hours(case: str, ats: Iterable[datetime]) -> list[datetime]:
    start = datetime.fromisoformat(CASES[case]["start"])
    hours = (at.replace(minute=0) for at in ats)
    return [hour for hour in hours if hour >= start]


def asked(case: str, daemon: Daemon) -> list[datetime]:
    return accepted(daemon, window(case)).get(case, [])


def window(case: str) -> tuple[str, ...]:
    """Cases with the same window share a crontab; one that sets variables has its own."""
    alone = case if "=" in CASES[case]["expr"] else ""
    return (*(CASES[case][name] for name in ("timezone", "start", "end")), alone)


@cache
def accepted(daemon: Daemon, where: tuple[str, ...]) -> dict[str, list[datetime]]:
    accepts = [case for case in CASES if isinstance(recorded_of(case, daemon), list)]
    return asked_together([case for case in accepts if window(case) == where], daemon)


def recorded_of(case: str, daemon: Daemon) -> Any:
    recorded_as = RECORDED_AS["debian" if (daemon, case) in NOT_RECORDED else daemon]
    return CASES[case]["engines"][recorded_as]


def asked_together(cases: Iterable[str], daemon: Daemon) -> dict[str, list[datetime]]:
    cases = list(cases)
    return crond.fires(
        "".join(f"{CASES[case]['expr']} {case}\n" for case in cases),
        timezone=CASES[cases[0]]["timezone"],
        start=datetime.fromisoformat(CASES[cases[0]]["start"]),
        end=datetime.fromisoformat(CASES[cases[0]]["end"]),
        daemon=daemon,
    )


@pytest.mark.parametrize("daemon", DAEMONS)
def test_each_command_has_its_own_minutes_and_start_and_end_are_included(daemon: Daemon) -> None:
    crontab = "MAILTO=me\n0 0 * * * one\n0 0,12 * * * two a%b\n0 0 * * * one\n1 1 1 1 * never\n"
    found = crond.fires(crontab, timezone="UTC", start=START, end=START + DAY, daemon=daemon)
    noon = START + DAY / 2
    midnights = [START, START, START + DAY, START + DAY]
    assert found == {"one": midnights, "two a%b": [START, noon, START + DAY]}


@pytest.mark.parametrize("daemon", DAEMONS)
@pytest.mark.parametrize(
    ("set_at", "by", "one_oclocks", "half_past_twos"),
    [
        (1.5, 2, "00:00 01:00 04:00 05:00", "03:30"),
        (4.5, -2, "00:00 01:00 02:00 03:00 03:00 04:00 04:00 05:00", "02:30"),
        (1.5, 3.25, "00:00 01:00 05:00", ""),
    ],
    ids=["forward: fixed times are made up", "back: fixed times wait", "far: nothing is made up"],
)
def test_a_clock_that_is_set_does_to_jobs_what_the_daemon_makes_of_it(
    daemon: Daemon, set_at: float, by: float, one_oclocks: str, half_past_twos: str
) -> None:
    found = crond.fires(
        "0 * * * * hourly\n30 2 * * * fixed\n",
        timezone="UTC",
        start=START,
        end=START + timedelta(hours=5, minutes=20),
        daemon=daemon,
        clock_jumps={START + timedelta(hours=set_at): timedelta(hours=by)},
    )
    assert " ".join(f"{at:%H:%M}" for at in found.get("hourly", [])) == one_oclocks
    assert " ".join(f"{at:%H:%M}" for at in found.get("fixed", [])) == half_past_twos


def test_cronie_reads_lines_below_cron_tz_in_that_zone_and_debian_does_not() -> None:
    crontab = "0 12 * * * here\nCRON_TZ=Asia/Tokyo\n0 12 * * * tokyo\n"
    found = {
        daemon: crond.fires(crontab, timezone="UTC", start=START, end=START + DAY, daemon=daemon)
        for daemon in DAEMONS
    }
    noon, noon_in_tokyo = [START.replace(hour=12)], [START.replace(hour=3)]
    assert found["cronie"] == {"here": noon, "tokyo": noon_in_tokyo}
    assert found["debian"] == {"here": noon, "tokyo": noon}


def test_a_daemon_that_does_not_come_to_the_end_in_time_is_an_error() -> None:
    century = START.replace(year=2127)
    with pytest.raises(DaemonFailed, match="deadline"):
        crond.fires(
            "* * * * * x",
            timezone="UTC",
            start=START,
            end=century,
            daemon="cronie",
            deadline=timedelta(seconds=1),
        )


@pytest.mark.parametrize("daemon", DAEMONS)
def test_six_hundred_lines_over_half_a_year_are_asked_at_once(daemon: Daemon) -> None:
    daily = "".join(f"{n % 60} {n % 24} * * * daily {n}\n" for n in range(300))
    hourly = "".join(f"{n % 60} * * * * hourly {n}\n" for n in range(300))
    found = crond.fires(
        daily + hourly,
        timezone="UTC",
        start=START,
        end=START + 180 * DAY - timedelta(minutes=1),
        daemon=daemon,
    )
    counts: dict[str, set[int]] = defaultdict(set)
    for command, instants in found.items():
        counts[command.split()[0]].add(len(instants))
    assert (len(found), counts) == (600, {"daily": {180}, "hourly": {180 * 24}})

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from purista.cli.app import run

APP = """
from datetime import timedelta
from purista import Cron, Every, Service

shop = Service("Shop", version="1")
shop.schedule("nightly").emit_event(
    "due", expression=Cron("30 2 * * *"), timezone="Europe/Berlin", dst_gap="next",
)
shop.schedule("hourly").enqueue("jobs", expression=Every(timedelta(hours=1)), enabled=False)
"""
SINCE = ("--from", "2027-01-01T00:00:00Z")
CHANGES = [
    "Sunday 2027-03-28: 02:00 becomes 03:00 (+01:00 to +02:00)",
    "Sunday 2027-10-31: 03:00 becomes 02:00 (+02:00 to +01:00)",
]

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "explained_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("explained_app", None)


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(["explain", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: Capture, *arguments: str) -> Any:
    code, out, _ = call(capsys, *arguments, *SINCE, "--json")
    assert code == 0
    return json.loads(out)


def test_a_bare_expression_is_said_first_and_then_its_clock_changes(capsys: Capture):
    berlin = ("--timezone", "Europe/Berlin")
    code, out, _ = call(capsys, "--cron", "30 2 * * *", *berlin, "--changes", "2", *SINCE)
    assert code == 0
    assert out.splitlines() == [
        "At 02:30 every day, Europe/Berlin",
        "  the next clock changes:",
        f"    {CHANGES[0]}: 02:30 does not exist and is skipped",
        f"    {CHANGES[1]}: 02:30 comes twice and is due the first time",
        "  clock changes: a time that a clock change leaves out is skipped;"
        " of a time that comes twice, the first counts",
    ]


def test_a_bare_expression_takes_every_option_that_bears_on_it(capsys: Capture):
    words = ("--day-rule", "and", "--seconds", "--dst-gap", "shift", "--dst-overlap", "both")
    zone = ("--timezone", "Europe/Berlin")
    found = call_json(capsys, "--cron", "15 30 2 25-31 * SUN", *words, *zone)
    assert found["sentence"] == (
        "At 02:30:15 on days 25 to 31 of every month, but only on a Sunday, Europe/Berlin"
    )
    assert [one["effect"] for one in found["clockChanges"]] == ["moved", "doubled"] * 2
    assert found["clockChanges"][0] == {
        "at": "2027-03-28T01:00:00Z",
        "effect": "moved",
        "instants": ["2027-03-28T01:30:15Z"],
        "localTimes": ["2027-03-28T02:30:15"],
        "offsetAfter": "+02:00",
        "offsetBefore": "+01:00",
        "text": f"{CHANGES[0]}: 02:30:15 does not exist and moves to 03:30:15",
    }
    assert found["firstMet"] == found["clockChanges"][0]
    assert found["timezone"] == "Europe/Berlin"


def test_every_schedule_of_a_service_is_explained(capsys: Capture):
    code, out, _ = call(capsys, "explained_app:shop", *SINCE)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "Shop.v1.hourly: Every hour, counted from Thursday 1970-01-01 at 00:00 UTC"
    assert lines[1] == "  no clock changes to come in UTC"
    assert "  disabled: its triggers start nothing" in lines
    assert "  triggers: queue jobs" in lines
    assert "Shop.v1.nightly: At 02:30 every day, Europe/Berlin" in lines
    assert f"    {CHANGES[0]}: 02:30 does not exist and moves to 03:00" in lines


def test_one_schedule_is_chosen_by_name(capsys: Capture):
    (found,) = call_json(capsys, "explained_app:shop", "--schedule", "nightly")
    assert (found["id"], found["target"]) == ("Shop.v1.nightly", "event due")
    assert [rule["topic"] for rule in found["rules"]] == [
        "clock changes",
        "overlap",
        "missed runs",
        "duplicates",
    ]


def test_a_change_that_is_met_later_is_named(capsys: Capture):
    zone = ("--timezone", "Europe/Berlin", "--changes", "1")
    _, out, _ = call(capsys, "--cron", "30 2 28 3 *", *zone, "--from", "2028-01-01T00:00:00Z")
    assert "  the first that it meets: Sunday 2032-03-28: 02:00 becomes 03:00" in out
    _, out, _ = call(capsys, "--cron", "30 2 1 * *", *zone, *SINCE)
    assert "  it meets none until the year 2200\n" in out


def test_without_a_start_it_begins_now(capsys: Capture):
    code, out, _ = call(capsys, "--cron", "0 2 1 * *")
    assert code == 0
    assert out.startswith("At 02:00 on day 1 of every month, UTC\n")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["name services, or an expression"]),
        (["--cron", "* * * * *", "explained_app:shop"], ["--cron stands alone"]),
        (["--cron", "* * * * *", "-s", "nightly"], ["--cron stands alone"]),
        (["explained_app:shop", "--dst-gap", "next"], ["go with --cron only"]),
        (["explained_app:shop", "-s", "nigthly"], ["did you mean 'nightly'?"]),
        (["--cron", "* * * * *", "--dst-gap", "jump"], ["--dst-gap"]),
        (["--cron", "0 0 */2 * 5"], ["say day_rule='and'"]),
        (["--cron", "0 0 */2 * 5", "--day-rule", "nor"], ["unknown word 'nor'"]),
        (["--cron", "* * * * *", "--timezone", "Berlin"], ["did you mean 'Europe/Berlin'?"]),
        (["--cron", "* * * * *", "--timezone", ""], ["time zone"]),
        (
            ["--cron", "61 * * * *", "--timezone", "Berlin"],
            ["use 0-59", "did you mean 'Europe/Berlin'?"],
        ),
        (["--cron", "* * * * *", "--from", "9999-12-31T23:59:59-14:00"], ["out of bounds"]),
        (["--cron", "* * * * *", "--changes", "-1"], ["--changes"]),
    ],
)
def test_wrong_input_ends_in_one_message_and_exit_code_2(
    capsys: Capture, arguments: list[str], parts: list[str]
):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert all(part in err for part in parts)
    assert "Traceback" not in err
    assert out == ""


def test_the_help_has_an_example(capsys: Capture):
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert "Example: purista explain billing.app:billing" in out

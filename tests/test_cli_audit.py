"""``purista audit``: what it prints, and its exit code."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.past import ago, happened, shop, text

from purista.cli.app import run

LEDGER = ("--ledger", "sqlite:///runs.sqlite")
HOURLY = ("-s", "hourly")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop(tmp_path, monkeypatch)


def window(since: int = 6, until: int = 0) -> tuple[str, ...]:
    return ("--since", text(since), "--until", text(until))


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(["audit", "shop_app:shop", *LEDGER, *arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def call_json(capsys: Capture, *arguments: str) -> tuple[int, Any]:
    code, out, _ = call(capsys, *arguments, "--json")
    return code, json.loads(out)


def punctual(*hours: int) -> list[tuple[datetime, datetime]]:
    return [(ago(hour), ago(hour)) for hour in hours]


def test_it_ends_with_0_when_every_trigger_came(capsys: Capture):
    happened(*punctual(6, 5, 4, 3, 2, 1))
    code, out, err = call(capsys, *HOURLY, *window())
    assert code == 0
    assert out == "1 schedules, 6 nominal times: 6 on time\n"
    assert err == ""


def test_it_ends_with_1_when_one_was_missed_and_names_it(capsys: Capture):
    happened(*punctual(6, 5, 3, 2, 1))
    code, out, _ = call(capsys, *HOURLY, *window())
    assert code == 1
    assert f"  missed      {text(4)}" in out
    assert out.endswith("1 schedules, 6 nominal times: 5 on time, 1 missed\n")


def test_late_and_doubled_triggers_are_told_and_are_no_failure_unless_it_is_strict(
    capsys: Capture,
):
    happened(*punctual(6, 5, 5, 3, 2, 1), (ago(4) + timedelta(minutes=30), ago(4)))
    code, out, _ = call(capsys, *HOURLY, *window())
    assert code == 0
    assert f"  duplicate   {text(5)}" in out
    assert "not run: 0:30:00 late" in out
    assert call(capsys, *HOURLY, *window(), "--strict")[0] == 1


def test_the_json_has_every_finding(capsys: Capture):
    happened(*punctual(6, 5, 3, 2, 1))
    code, found = call_json(capsys, *HOURLY, *window())
    assert code == 1
    assert (found["expected"], found["onTime"], found["lost"]) == (6, 5, 1)
    [one] = found["schedules"]
    assert one["counts"] == {"missed": 1}
    [finding] = one["findings"]
    assert (finding["finding"], finding["nominalTime"], finding["lost"]) == (
        "missed",
        text(4),
        True,
    )


def test_a_long_row_is_cut_short_for_people_and_counted(capsys: Capture):
    happened(*punctual(60))
    code, out, _ = call(capsys, *HOURLY, *window(59))
    assert code == 1
    assert out.count("  missed  ") == 10
    assert "and 49 more; --json lists them" in out
    assert "59 missed" in out


def test_a_duration_looks_back_from_now_but_not_before_the_schedule_was_known(capsys: Capture):
    happened(*punctual(6, 5))
    found = call_json(capsys, *HOURLY, "--since", "2w")[1]["schedules"][0]
    assert found["since"] == text(100)
    found = call_json(capsys, *HOURLY, "--since", "7h")[1]["schedules"][0]
    assert found["since"] > text(8)


def test_the_settings_name_the_ledger(capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    happened(*punctual(6))
    monkeypatch.setenv("SHOP_LEDGER", "sqlite:///runs.sqlite")
    Path("purista.toml").write_text('[ingress]\nledger = "env:SHOP_LEDGER"\n')
    assert run(["audit", "shop_app:shop", *HOURLY, *window(6, 5)]) == 0
    assert "1 on time" in capsys.readouterr().out


def test_what_the_ledger_need_not_remember_is_told(capsys: Capture):
    happened(*punctual(6))
    Path("purista.toml").write_text("[ingress]\nretention_days = 1\n")
    _, out, err = call(capsys, *HOURLY, "--since", text(24 * 9), "--until", text(24 * 8))
    assert "need not know what is older than" in err
    assert "24 forgotten" in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--ledger", "sqlite:///nowhere.sqlite"], "there is no ledger 'nowhere.sqlite'"),
        (["--ledger", "memory://"], "a ledger in memory ends with its process"),
        (["--ledger", "mysql://u:secret@h/x"], "there is no ledger 'mysql://'"),
        (["--ledger", "secret"], "its address has no scheme"),
        (["--ledger", "env:NOPE"], "the ledger's address: env:NOPE: it is not set"),
        (["--since", "yesterday"], "--since 'yesterday' is no instant"),
        (["--since", "2027-03-02T00:00:00Z", "--until", "2027-03-01T00:00:00Z"], "is before"),
        (["-s", "weekly"], "no schedule 'weekly'"),
    ],
)
def test_misuse_ends_in_one_message_and_exit_code_2(
    capsys: Capture, arguments: list[str], part: str
):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert part in err
    assert "secret" not in err


def test_without_a_ledger_it_says_where_to_name_one(capsys: Capture):
    assert run(["audit", "shop_app:shop"]) == 2
    assert "no ledger is named; give --ledger" in capsys.readouterr().err

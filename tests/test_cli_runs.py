"""``purista runs`` and ``purista purge``: what a ledger remembers, and forgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.past import ago, happened, shop, text

from purista.cli.app import run

LEDGER = ("--ledger", "sqlite:///runs.sqlite")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop(tmp_path, monkeypatch)
    happened(*((ago(hour), ago(hour)) for hour in (5, 4, 3, 3)))


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run([*arguments, *LEDGER])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: Capture, *arguments: str) -> Any:
    code, out, _ = call(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


def times(found: list[dict[str, Any]]) -> list[str]:
    return [one["nominalTime"] for one in found]


def test_runs_come_newest_first(capsys: Capture):
    assert times(call_json(capsys, "runs")) == [text(3), text(4), text(5)]


def test_a_table_has_status_outcome_and_id(capsys: Capture):
    _, out, _ = call(capsys, "runs")
    [title, first, *_] = out.splitlines()
    assert title.split()[0:4] == ["nominal", "time", "schedule", "status"]
    assert first.split()[0:4] == [text(3), "Shop.v1.hourly", "ended", "acked"]


def test_a_window_bounds_nominal_times(capsys: Capture):
    found = call_json(capsys, "runs", "--since", text(4), "--until", text(3))
    assert times(found) == [text(4)]


def test_one_schedule_can_be_asked_for(capsys: Capture):
    assert call_json(capsys, "runs", "-s", "Shop.v1.minutely") == []
    assert len(call_json(capsys, "runs", "-s", "Shop.v1.hourly")) == 3


def test_only_unfinished_ones_can_be_asked_for(capsys: Capture):
    assert call_json(capsys, "runs", "--unfinished") == []


def test_more_than_the_limit_is_said(capsys: Capture):
    code, out, err = call(capsys, "runs", "--limit", "2")
    assert code == 0
    assert len(out.splitlines()) == 3
    assert "there are more than 2" in err
    assert call(capsys, "runs", "--limit", "3")[2] == ""


def test_decisions_have_duplicates_and_reasons_but_no_key(capsys: Capture):
    found = call_json(capsys, "runs", "--decisions")
    assert [one["decision"] for one in found] == ["duplicate", "accepted", "accepted", "accepted"]
    assert found[0]["reason"] == "its run is ended"
    assert "key" not in found[0]
    _, out, _ = call(capsys, "runs", "--decisions")
    assert "its run is ended" in out


def test_nothing_is_said_where_nothing_is(capsys: Capture):
    code, out, err = call(capsys, "runs", "-s", "nobody")
    assert (code, out, err) == (0, "", "no runs\n")


def test_a_decision_is_never_unfinished(capsys: Capture):
    assert call(capsys, "runs", "--decisions", "--unfinished")[0] == 2


def test_purge_forgets_nothing_within_the_retention(capsys: Capture):
    assert call(capsys, "purge")[:2] == (0, "0 runs, skips and records forgotten\n")


def test_purge_forgets_what_is_older_than_retention_and_dedupe_window(capsys: Capture):
    Path("purista.toml").write_text("[ingress]\nretention_days = 1\n")
    old = [(ago(hour), ago(hour)) for hour in (24 * 9, 24 * 9 - 1)]
    happened(*old, ledger="old.sqlite", since=24 * 10)
    code = run(["purge", "--ledger", "sqlite:///old.sqlite", "--json"])
    assert (code, json.loads(capsys.readouterr().out)) == (0, {"forgotten": 4})

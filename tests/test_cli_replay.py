"""``purista replay``: chosen nominal times are sent again, and nothing else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.past import ago, happened, shop, text
from tests.served import TOKEN, Served, served

from purista.cli.app import run

LEDGER = ("--ledger", "sqlite:///runs.sqlite")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop(tmp_path, monkeypatch)
    Path("finish").touch()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An ingress for all tests here; each takes schedules or hours of its own."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "finish").touch()
    (folder / "purista.toml").write_text(
        '[ingress]\nledger = "sqlite:///runs.sqlite"\n[ingress.bearer]\ntokens = "env:SHOP_BEARER"\n'
    )
    with served(folder, env={"SHOP_BEARER": TOKEN}) as running:
        yield running


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(["replay", "shop_app:shop", *arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def call_json(capsys: Capture, *arguments: str) -> tuple[int, Any]:
    code, out, _ = call(capsys, *arguments, "--json")
    return code, json.loads(out)


def named(*hours: int, schedule: str = "hourly") -> list[str]:
    minutes = timedelta(minutes=30 if schedule == "single" else 0)
    times = [(ago(hour) + minutes).isoformat() for hour in hours]
    return ["-s", schedule, *(word for at in times for word in ("--nominal-time", at))]


def effects(folder: Path) -> list[str]:
    path = folder / "effects.log"
    return path.read_text().splitlines() if path.exists() else []


def test_named_times_are_sent_to_the_ingress_oldest_first(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, one: Served
):
    monkeypatch.setenv("SHOP_BEARER", TOKEN)
    way = ("--url", one.url, "--bearer", "env:SHOP_BEARER")
    code, found = call_json(capsys, *named(3, 5), *way)
    assert code == 0
    assert [(each["nominalTime"], each["decision"]) for each in found] == [
        (text(5), "accepted"),
        (text(3), "accepted"),
    ]
    assert found[0]["reason"] == "sent by a person"
    code, found = call_json(capsys, *named(3), *way)
    assert (code, found[0]["decision"]) == (0, "duplicate")


def test_where_runs_must_not_overlap_the_next_one_waits_for_the_last(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, one: Served
):
    monkeypatch.setenv("SHOP_BEARER", TOKEN)
    way = ("--url", one.url, "--bearer", "env:SHOP_BEARER")
    code, found = call_json(capsys, *named(4, 3, 2, schedule="single"), *way)
    assert code == 0
    assert [each["decision"] for each in found] == ["accepted"] * 3


def test_without_credentials_nothing_is_sent(capsys: Capture, one: Served):
    code, out, _ = call(capsys, *named(9), "--url", one.url)
    assert code == 1
    assert "not decided" in out


def test_an_ingress_that_is_away_is_worth_another_try(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("purista.cli.replay.PATIENCE", timedelta(0))
    code, found = call_json(capsys, *named(9), "--url", "http://127.0.0.1:9")
    assert code == 75
    assert found[0]["decision"] is None


def test_here_means_in_this_process_until_the_run_is_over(capsys: Capture, tmp_path: Path):
    happened((ago(6), ago(6)))
    code, out, _ = call(capsys, *named(4), "--here", *LEDGER)
    assert code == 0
    assert "accepted: sent by a person; run acked" in out
    assert [line.split()[0] for line in effects(tmp_path)] == ["began", "finished"]


def test_a_run_that_fails_here_ends_with_1(capsys: Capture):
    happened((ago(6), ago(6)))
    Path("fail").touch()
    code, out, _ = call(capsys, *named(4, schedule="single"), "--here", *LEDGER)
    assert code == 1
    assert "run failed: no" in out


def test_missed_ones_are_those_of_the_audit(capsys: Capture, tmp_path: Path):
    happened(*((ago(hour), ago(hour)) for hour in (6, 4, 2)))
    window = ("--since", text(6), "--until", text(1))
    missed = ("-s", "hourly", "--missed", *window, *LEDGER)
    code, out, err = call(capsys, *missed, "--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [text(5), text(3)]
    assert err == "2 nominal times; nothing was sent\n"
    assert effects(tmp_path) == []
    code, found = call_json(capsys, *missed, "--here")
    assert (code, len(found)) == (0, 2)
    assert run(["audit", "shop_app:shop", "-s", "hourly", *window, *LEDGER]) == 0
    assert "3 on time, 2 recovered" in capsys.readouterr().out


class Terminal:
    """A standard input on which somebody types."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self, *_: Any) -> str:
        return self._line


@pytest.mark.parametrize(("typed", "sent"), [("n\n", False), ("y\n", True)])
def test_on_a_terminal_it_asks_first(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, typed: str, sent: bool
):
    happened((ago(6), ago(6)))
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr("builtins.input", lambda *_: typed.strip())
    code, _, err = call(capsys, *named(4), "--here", *LEDGER)
    assert code == 0
    assert text(4) in err
    assert bool(effects(tmp_path)) == sent


def test_it_does_not_ask_when_it_is_told_so(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    happened((ago(6), ago(6)))
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert call(capsys, *named(4), "--here", "--yes", *LEDGER)[0] == 0
    assert effects(tmp_path)


SOON = (datetime.now(UTC) + timedelta(hours=2)).replace(minute=0, second=0, microsecond=0)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (
            ["-s", "hourly", "--nominal-time", "2027-03-01T01:30:00Z"],
            "the nearest are 2027-03-01T01",
        ),
        (["-s", "hourly", "--nominal-time", SOON.isoformat()], "has not come yet"),
        (["-s", "hourly"], "say what to send: --nominal-time INSTANT, or --missed"),
        (["--missed", *named(3)], "say what to send"),
        ([*named(3), "--since", "7d"], "--since and --until are the window of --missed"),
        (["--nominal-time", "2027-03-01T01:00:00Z"], "no schedule is named"),
        (["-s", "hourly", "--nominal-time", "2027-03-01"], "has no zone"),
        (["--missed"], "no ledger is named"),
        (["-s", "weekly", "--missed"], "no schedule 'weekly'"),
        ([*named(3), "--here", "--ledger", "memory://"], "a ledger in memory ends"),
    ],
)
def test_misuse_ends_in_one_message_and_sends_nothing(
    capsys: Capture, tmp_path: Path, arguments: list[str], part: str
):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert part in err
    assert effects(tmp_path) == []


def test_what_ran_longer_ago_than_its_dedupe_window_is_run_again_only_when_that_is_said(
    capsys: Capture, tmp_path: Path
):
    happened((ago(240), ago(240)), since=300)
    code, out, err = call(capsys, *named(240), "--here", "--yes", *LEDGER)
    assert (code, out) == (2, "")
    assert f"schedule 'Shop.v1.hourly' ran for {text(240)}: acked; --anyway runs it again" in err
    assert effects(tmp_path) == []
    for options in ([*named(241)], [*named(240), "--anyway"]):
        code, out, _ = call(capsys, *options, "--here", "--yes", *LEDGER)
        assert (code, "accepted" in out) == (0, True)

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from purista.cli.app import run

APP = """
from purista import Cron, Service

shop = Service("Shop", version="1")
for number in range(10):
    shop.schedule(f"nightly{number}").emit_event(
        "due", expression=Cron("30 2 * * *"), timezone="Europe/Berlin", external=True,
        missed_run_policy="skip",
    )
shop.schedule("often").emit_event(
    "due", expression=Cron("*/7 * * * *"), external=True, missed_run_policy="skip",
)
"""

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checked_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sys.modules.pop("checked_app", None)


def check_json(capsys: Capture, *arguments: str) -> Any:
    code = run(["check", *arguments, "--json"])
    assert code == 0
    return json.loads(capsys.readouterr().out)


def test_advice_has_codes_places_and_remedies(capsys: Capture):
    found = check_json(capsys, "checked_app:shop")["advice"]
    codes = [one["code"] for one in found]
    assert codes == ["dst-gap", "dst-overlap"] * 10 + ["uneven-step", "pile-up"]
    assert found[0]["place"] == "schedule 'Shop.v1.nightly0': dst_gap"
    assert found[0]["message"].startswith("02:30 does not exist and is skipped on Sunday 20")
    assert "dst_gap='next'" in found[0]["remedy"]
    assert found[-1]["message"].startswith("10 schedules are due in the same minute, 20")


def test_a_manifest_gets_the_same_advice_as_the_code(capsys: Capture):
    assert run(["manifest", "checked_app:shop", "-o", "shop.json"]) == 0
    capsys.readouterr()
    assert check_json(capsys, "shop.json") == check_json(capsys, "checked_app:shop")


def test_advice_goes_to_stderr_and_changes_no_exit_code(capsys: Capture):
    assert run(["check", "checked_app:shop"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "Shop.v1: 11 schedules, fine, 22 pieces of advice\n"
    assert "advice: schedule 'Shop.v1.often': expression: minute: '*/7' is uneven" in captured.err

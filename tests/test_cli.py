import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from purista.cli.app import run

APP = """
from datetime import timedelta
from purista import Context, Cron, Every, HandledError, Service

shop = Service("Shop", version="1")
due = shop.event("shop.due", dict)
jobs = shop.queue("jobs", dict)
purge = shop.command("purge", dict, returns=int)

shop.schedule("monthly", "bill").emit_event(
    due, expression=Cron("0 2 1 * *"), timezone="Europe/Berlin", missed_run_policy="runOnce",
    payload={"cycle": "{nominal_time:%Y-%m}"},
)
shop.schedule("hourly").enqueue(jobs, expression=Every(timedelta(hours=1)), payload={"n": 1})
shop.schedule("off").invoke_command(
    purge, expression=Cron("0 3 * * *"), payload={}, enabled=False, missed_run_policy="skip",
)

@shop.subscription(due)
async def bill(payload: dict, ctx: Context) -> None:
    print("handled", payload)

@shop.worker(jobs)
async def work(payload: dict, ctx: Context) -> None:
    print("handled", payload)

@shop.handles(purge)
async def on_purge(payload: dict, ctx: Context) -> int:
    raise HandledError("no", "not today")

both = [shop, Service("Other")]
broken = Service("Broken")
broken.schedule("s").emit_event("nobody", expression=Cron("0 2 * * *"))
number = 5
nothing = []
mixed = [shop, 5]
"""


@pytest.fixture(autouse=True)
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_app.py").write_text(APP)
    (tmp_path / "bad_cron.py").write_text("from purista import Cron\nCron('61 * * * *')\n")
    (tmp_path / "crashes.py").write_text("1 / 0\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "needs.py").write_text("import not_there_at_all\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("shop_app", "bad_cron", "crashes", "needs", "leaves"):
        sys.modules.pop(name, None)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def call_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    code, out, _ = call(capsys, *arguments, "--json")
    return code, json.loads(out)


Capture = pytest.CaptureFixture[str]


def test_check_is_fine_with_a_good_service_and_gives_advice(capsys: Capture):
    code, out, err = call(capsys, "check", "shop_app:shop")
    assert code == 0
    assert out == "Shop.v1: 3 schedules, fine, 1 pieces of advice\n"
    assert "advice: schedule 'Shop.v1.hourly': missed_run_policy" in err


def test_check_ends_with_1_when_a_target_has_no_handler(capsys: Capture):
    code, _, err = call(capsys, "check", "shop_app:shop", "shop_app:broken")
    assert code == 1
    assert "problem: schedule 'Broken.v1.s': target: no handler serves event 'nobody'" in err
    code, found = call_json(capsys, "check", "shop_app:broken")
    assert code == 1
    assert found["problems"][0]["place"] == "schedule 'Broken.v1.s': target"
    assert found["schedules"] == 1


def test_list_shows_every_schedule(capsys: Capture):
    code, out, _ = call(capsys, "list", "shop_app:both")
    assert code == 0
    assert "Shop.v1.monthly" in out
    assert "event shop.due" in out
    assert "every 1 h" in out
    assert "(disabled)" in out
    code, found = call_json(capsys, "list", "shop_app:shop")
    assert [one["id"] for one in found] == ["Shop.v1.hourly", "Shop.v1.monthly", "Shop.v1.off"]
    assert found[1]["expression"] == "0 2 1 * *"
    assert code == 0


def test_manifest_goes_to_stdout_or_a_file_and_can_be_read_again(capsys: Capture):
    code, out, _ = call(capsys, "manifest", "shop_app:shop", "--title", "Shop")
    assert code == 0
    assert json.loads(out)["title"] == "Shop"
    code, _, _ = call(capsys, "manifest", "shop_app:shop", "-o", "manifest.json")
    assert code == 0
    code, listed = call_json(capsys, "list", "manifest.json")
    assert code == 0
    assert listed == call_json(capsys, "list", "shop_app:shop")[1]
    code, written = call_json(capsys, "manifest", "shop_app:shop", "-o", "again.json")
    assert written == {"written": "again.json"}
    code, _, err = call(capsys, "manifest", "shop_app:shop", "-o", "no/such/folder.json")
    assert code == 2
    assert "cannot write" in err


def test_trigger_runs_a_schedule_now_or_for_a_nominal_time(capsys: Capture):
    at = ("--nominal-time", "2027-03-01T01:00:00Z")
    code, out, _ = call(capsys, "trigger", "shop_app:shop", "-s", "monthly", *at)
    assert code == 0
    assert "handled {'cycle': '2027-03'}" in out
    assert "accepted: sent by a person" in out
    code, out, _ = call(capsys, "trigger", "shop_app:shop", "-s", "hourly")
    assert code == 0
    assert "acked" in out


def test_trigger_takes_a_payload_and_remembers_with_a_state(capsys: Capture):
    Path("payload.json").write_text('{"cycle": "mine"}')
    arguments = ("trigger", "shop_app:shop", "-s", "monthly", "--payload", "payload.json")
    state = ("--state", "state.sqlite", "--nominal-time", "2027-03-01T01:00:00Z")
    code, out, _ = call(capsys, *arguments, *state)
    assert code == 0
    assert "handled {'cycle': 'mine'}" in out
    code, out, _ = call(capsys, *arguments, *state)
    assert code == 0
    assert "duplicate" in out


def test_trigger_ends_with_1_when_the_handler_fails(capsys: Capture):
    code, out, _ = call(capsys, "trigger", "shop_app:shop", "-s", "off")
    assert code == 1
    assert "failed: no" in out


def test_dev_fires_until_it_is_told_to_stop(capsys: Capture):
    times = ("--from", "2027-03-01T00:30:00Z", "--until", "2027-03-01T03:30:00Z")
    code, out, err = call(capsys, "dev", "shop_app:shop", "--speed", "20000", *times)
    assert code == 0
    assert "development" in err
    assert out.count("Shop.v1.hourly  accepted") == 3
    assert "2027-03-01T01:00:00Z  Shop.v1.monthly  accepted" in out


def test_dev_refuses_services_that_do_not_hold_together(capsys: Capture):
    code, _, err = call(capsys, "dev", "shop_app:broken")
    assert code == 2
    assert "no handler serves" in err


def test_dev_prints_json_lines(capsys: Capture):
    times = ("--from", "2027-03-01T00:59:00Z", "--until", "2027-03-01T01:01:00Z")
    code, out, _ = call(capsys, "dev", "shop_app:shop", "--speed", "600", "--json", *times)
    lines = [json.loads(line) for line in out.splitlines() if line.startswith('{"')]
    assert {line["decision"] for line in lines} == {"accepted"}
    assert len(lines) == 2
    assert code == 0


def test_the_demo_plays_every_policy(capsys: Capture):
    code, out, _ = call(capsys, "demo")
    assert code == 0
    for word in ("duplicate", "overlap", "late", "coalesced", "accepted"):
        assert word in out
    assert "Sun 2027-03-28 03:00 +02:00" in out
    code, decisions = call_json(capsys, "demo")
    counts = {one["decision"] for one in decisions}
    assert counts == {"accepted", "duplicate", "overlap", "late", "coalesced"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (
            ["list", "shop_app"],
            "is not of the form package.module:attribute; try 'shop_app:service'",
        ),
        (["list", "shop_app.py"], "try 'shop_app:service'"),
        (["list", "nowhere:shop"], "there is no module 'nowhere'"),
        (["list", "shop_app:shpo"], "there is no 'shpo'; did you mean 'shop'?"),
        (["list", "shop_app:number"], "is a int; name a Service"),
        (["list", "needs:service"], "needs 'not_there_at_all', which is not installed"),
        (["list", "crashes:service"], "ZeroDivisionError: division by zero (crashes.py, line 1)"),
        (["list", "bad_cron:service"], "minute"),
        (["list", "leaves:service"], "importing failed: SystemExit: 3 (leaves.py, line 2)"),
        (["list", "shop_app:nothing"], "'shop_app:nothing' is empty; name a Service"),
        (["list", "shop_app:mixed"], "'shop_app:mixed' holds a int; name a Service"),
        (["list", "queue:service"], "queue.py) holds no service"),
        (["list", "missing.json"], "cannot read 'missing.json'"),
        (["trigger", "shop_app:shop", "-s", "hourly", "--payload", "nope"], "cannot read 'nope'"),
        (["trigger", "shop_app:shop", "-s", "hourly", "--payload", "shop_app.py"], "is no JSON"),
        (["trigger", "shop_app:shop"], "schedule"),
        (["nonsense"], "nonsense"),
        (["list"], "SERVICE"),
    ],
)
def test_wrong_input_ends_in_one_message_and_exit_code_2(
    capsys: Capture, arguments: list[str], part: str
):
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert part in err
    assert "Traceback" not in err
    assert out == ""


def test_every_command_has_help_with_an_example(capsys: Capture):
    running = ("trigger", "serve", "audit", "runs", "replay", "purge", "dev", "demo")
    for command in ("check", "list", "next", "manifest", *running):
        code, out, _ = call(capsys, command, "--help")
        assert code == 0
        assert f"Example: purista {command}" in out


def test_the_version_is_printed(capsys: Capture):
    assert call(capsys, "--version")[:2] == (0, "purista 0.1.0\n")


def test_the_module_runs_as_the_command(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "purista", "list", "shop_app:shop"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "Shop.v1.monthly" in done.stdout


@pytest.mark.parametrize(
    ("redirected", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">/dev/full", 74),
        ("--json >/dev/full", 74),
    ],
)
def test_output_that_goes_nowhere_is_no_traceback(tmp_path: Path, redirected: str, code: int):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m purista list shop_app:shop {redirected}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert ("no space is left" in done.stderr) == (code == 74)


def test_what_the_terminal_cannot_show_is_escaped(tmp_path: Path):
    (tmp_path / "umlaut_app.py").write_text(APP.replace('"bill"', r'"f\u00fcr alle"'))
    done = subprocess.run(
        [sys.executable, "-m", "purista", "list", "umlaut_app:shop"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0, done.stderr
    assert r"f\xfcr alle" in done.stdout


def test_without_its_packages_the_command_line_names_the_extra(tmp_path: Path):
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError('no', name='typer')\n")
    done = subprocess.run(
        [sys.executable, "-m", "purista", "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "purista: the command line needs more packages: pip install 'purista[cli]'\n"
    )


def test_stdout_is_json_alone_whatever_handlers_print(capsys: Capture):
    code, out, err = call(capsys, "trigger", "shop_app:shop", "-s", "hourly", "--json")
    assert code == 0
    assert json.loads(out)["decision"] == "accepted"
    assert "handled" in err


def test_no_arguments_show_the_help(capsys: Capture):
    code, _, err = call(capsys)
    assert code == 2
    assert err.startswith("Usage: ")

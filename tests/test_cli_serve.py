"""``purista serve``: a real process, a real socket, a real file."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from tests.served import APP, TOKEN, Served, served

from purista.cli.app import run

SETTINGS = """
[ingress]
ledger = "sqlite:///runs.sqlite"
queues = "sqlite:///runs.sqlite"
grace_seconds = 10

[ingress.bearer]
tokens = ["env:SHOP_BEARER"]
"""
ENV = {"SHOP_BEARER": TOKEN}
PAGE = Path(__file__).parents[1] / "docs" / "serve.md"
HOURLY = "Shop.v1.hourly"


def settings(folder: Path, text: str = SETTINGS) -> None:
    (folder / "purista.toml").write_text(text)


def settings_of_the_page() -> str:
    found = re.search(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def hour(ago: int = 0) -> str:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return (now - timedelta(hours=ago)).isoformat().replace("+00:00", "Z")


def send(one: Served, schedule: str, nominal: str, token: str = TOKEN) -> httpx.Response:
    event = {
        "specversion": "1.0",
        "id": f"{schedule}/{nominal}",
        "source": "test",
        "type": "dev.purista.schedule.trigger",
        "subject": schedule,
        "time": nominal,
        "puristamanual": "true",
    }
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/cloudevents+json",
    }
    return httpx.post(f"{one.url}/triggers", content=json.dumps(event), headers=headers)


Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shop, for refusals, which need no process."""
    (tmp_path / "shop_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "shop_app", raising=False)
    return tmp_path


def call(capsys: Capture, *arguments: str) -> tuple[int, str]:
    code = run(["serve", "shop_app:shop", *arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


def wait_until_refused(url: str) -> None:
    """Wait until nobody listens any more."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/health")
        except httpx.ConnectError:
            return
        except httpx.HTTPError:
            pass
        time.sleep(0.02)
    pytest.fail("it still takes connections")


def test_it_takes_a_trigger_with_the_token_and_finishes_what_is_at_work_when_it_is_told_to_end(
    tmp_path: Path,
):
    settings(tmp_path, settings_of_the_page())
    with served(tmp_path, env={"PURISTA_BEARER": TOKEN}) as one:
        assert send(one, HOURLY, hour(), token="x" * 30).status_code == 401
        assert send(one, HOURLY, hour()).status_code == 202
        one.wait_for("began")
        one.process.send_signal(signal.SIGTERM)
        one.wait_for("ending:")
        wait_until_refused(one.url)
        (tmp_path / "finish").touch()
        assert one.process.wait(20) == 0
    assert [line.split()[0] for line in one.effects] == ["began", "finished"]
    assert TOKEN not in one.log


def test_what_is_not_finished_within_the_grace_is_cut_off_and_run_by_the_next_process(
    tmp_path: Path,
):
    settings(tmp_path, SETTINGS.replace("= 10", "= 0"))
    with served(tmp_path, env=ENV) as one:
        send(one, HOURLY, hour())
        one.wait_for("began")
        one.process.send_signal(signal.SIGTERM)
        assert one.process.wait(20) == 0
    (tmp_path / "finish").touch()
    with served(tmp_path, env=ENV) as one:
        one.wait_for("finished")


def test_a_second_signal_ends_it_at_once(tmp_path: Path):
    settings(tmp_path)
    with served(tmp_path, env=ENV) as one:
        send(one, HOURLY, hour())
        one.wait_for("began")
        one.process.send_signal(signal.SIGINT)
        one.wait_for("ending:")
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(20) == 130
    assert not any("finished" in line for line in one.effects)


def test_two_processes_on_one_ledger_run_a_trigger_once(tmp_path: Path):
    settings(tmp_path)
    (tmp_path / "finish").touch()
    with (
        served(tmp_path, env=ENV, name="first") as first,
        served(tmp_path, env=ENV, name="second") as second,
    ):
        answers = [send(one, HOURLY, hour()) for one in (first, second)]
        first.wait_for("finished")
    decisions = [answer.json()["decision"] for answer in answers]
    assert decisions == ["accepted", "duplicate"]
    assert len([line for line in first.effects if "began" in line]) == 1


def test_for_development_it_needs_neither_settings_nor_credentials(tmp_path: Path):
    with served(tmp_path, "--dev", "--json") as one:
        assert one.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{one.url}/ready").json() == {"status": "ready"}
        answer = httpx.post(f"{one.url}/triggers/Shop.v1.minutely")
        one.wait_for("billed")
    assert answer.json()["decision"] == "accepted"
    lines = [json.loads(line) for line in one.log.splitlines()]
    assert any("everyone on this machine" in line["message"] for line in lines)
    assert any(line["logger"] == "purista.ingress" for line in lines)


def test_it_is_not_ready_when_its_ledger_is_away(tmp_path: Path):
    settings(tmp_path)
    with served(tmp_path, env=ENV) as one:
        for path in tmp_path.glob("runs.sqlite*"):
            with path.open("r+b") as file:  # in place, as the process has mapped one of them
                file.write(b"no database" * (path.stat().st_size // 11))
        statuses = [httpx.get(f"{one.url}{path}").status_code for path in ("/health", "/ready")]
    assert statuses == [200, 503]


NO_VERIFIER = SETTINGS.partition("[ingress.bearer]")[0]


@pytest.mark.parametrize(
    ("text", "token", "part"),
    [
        (NO_VERIFIER, TOKEN, "nobody says who may send triggers, so that everyone could; write"),
        (SETTINGS, None, "env:SHOP_BEARER: it is not set; set it to a secret"),
        (SETTINGS, "", "env:SHOP_BEARER: it is empty; give it a secret"),
        (SETTINGS, "secret", "env:SHOP_BEARER: it is shorter than 22 characters"),
        (SETTINGS.replace("env:SHOP_BEARER", TOKEN), None, "refer to the secret, as env:NAME"),
        (
            SETTINGS.replace("sqlite:///runs.sqlite", "memory://"),
            TOKEN,
            "forgets with each restart",
        ),
        (SETTINGS.replace("ledger =", "previous ="), TOKEN, "no ledger is named"),
        (SETTINGS.replace("sqlite:///", "sqllite:///"), TOKEN, "did you mean 'sqlite'?"),
        (SETTINGS.replace("ledger =", "legder ="), TOKEN, "did you mean 'ledger'?"),
    ],
)
def test_it_does_not_start_without_a_verifier_or_a_ledger(
    shop: Path,
    capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    token: str | None,
    part: str,
):
    settings(shop, text)
    monkeypatch.delenv("SHOP_BEARER", raising=False)
    if token is not None:
        monkeypatch.setenv("SHOP_BEARER", token)
    code, err = call(capsys)
    assert code == 2
    assert part in err
    assert TOKEN not in err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_told_in_one_line(shop: Path, capsys: Capture):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, err = call(capsys, "--dev", "--port", port)
    assert code == 2
    assert err.startswith(f"purista: cannot listen on 127.0.0.1, port {port}: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--dev", "--host", "0.0.0.0"], "--dev takes requests of this machine only"),
        (["--host", "no.such.host.invalid", "--dev"], "--dev takes requests of this machine only"),
        (["--dev", "--log-level", "inof"], "did you mean 'info'?"),
        (["--dev", "--port", "70000"], "less than or equal to 65535"),
        (["--dev", "--queues", "kafka://x"], "there are none at 'kafka://'"),
        (["--settings", "nowhere.toml"], "there is no settings file 'nowhere.toml'"),
    ],
)
def test_wrong_options_end_in_one_message(
    shop: Path, capsys: Capture, arguments: list[str], part: str
):
    code, err = call(capsys, *arguments)
    assert code == 2
    assert part in err
    assert "Traceback" not in err


def test_a_host_that_is_none_is_told(shop: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    settings(shop)
    monkeypatch.setenv("SHOP_BEARER", TOKEN)
    code, err = call(capsys, "--host", "no such host")
    assert code == 2
    assert "cannot listen on no such host" in err


def test_a_ledger_that_is_away_is_worth_another_try(
    shop: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    settings(shop)
    monkeypatch.setenv("SHOP_BEARER", TOKEN)
    (shop / "runs.sqlite").write_text("no database" * 1000)
    code, err = call(capsys, "--port", "0")
    assert code == 75
    assert "runs.sqlite" in err


def test_a_manifest_is_served_only_where_other_processes_do_the_work(
    shop: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    settings(shop)
    monkeypatch.setenv("SHOP_BEARER", TOKEN)
    run(["manifest", "shop_app:shop", "-o", "shop.json"])
    capsys.readouterr()
    assert run(["serve", "shop.json", "--port", "0"]) == 2
    err = capsys.readouterr().err
    for name in ("minutely", "hourly", "single"):
        assert f"schedule 'Shop.v1.{name}': target" in err


def test_without_handlers_the_targets_have_to_be_reached_by_a_broker(
    shop: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    settings(shop)
    monkeypatch.setenv("SHOP_BEARER", TOKEN)
    code, err = call(capsys, "--no-handlers", "--port", "0")
    assert code == 2
    assert (
        "is handled by no service in this process; name the service that handles it too, or" in err
    )
    assert "--bridge" in err

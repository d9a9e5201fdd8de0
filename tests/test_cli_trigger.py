"""``purista trigger`` against an ingress: exit codes, credentials, nominal times, tries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from tests.served import APP, TOKEN

from purista.cli.app import run
from purista.cli.sending import backoff

MINUTELY = "Shop.v1.minutely"
Capture = pytest.CaptureFixture[str]


def decided(word: str, **more: Any) -> dict[str, Any]:
    return {
        "decision": word,
        "reason": "because",
        "scheduleId": MINUTELY,
        "nominalTime": "2027-03-01T01:00:00Z",
        "runId": "r1",
        **more,
    }


def problem(status: int, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "type": f"urn:purista:problem:{kind}",
        "title": kind,
        "status": status,
        "detail": "because",
        **more,
    }


class Answers(BaseHTTPRequestHandler):
    """Answers as it is told, one after another, and remembers what came."""

    script: ClassVar[list[tuple[int, dict[str, Any], dict[str, str]]]] = []
    came: ClassVar[list[tuple[str, dict[str, str], dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.came.append((self.path, headers, json.loads(body)))
        status, document, extra = self.script.pop(0)
        kind = "application/json" if status < 400 else "application/problem+json"
        text = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {
            "content-type": kind,
            "content-length": str(len(text)),
            **extra,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    def log_request(self, *args: Any) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "shop_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "shop_app", raising=False)
    for name in ("PURISTA_URL", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SHOP_BEARER", TOKEN)
    Answers.script.clear()
    Answers.came.clear()
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def answers(*script: tuple[int, dict[str, Any]], **headers: str) -> None:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    Answers.script.extend((status, document, given) for status, document in script)


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(["trigger", *arguments])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def sent() -> dict[str, Any]:
    [(_, _, event)] = Answers.came
    return event


@pytest.mark.parametrize(
    ("status", "document", "code"),
    [
        (202, decided("accepted"), 0),
        (200, decided("duplicate"), 0),
        (200, decided("overlap"), 0),
        (200, decided("late"), 0),
        (200, decided("coalesced"), 0),
        (200, decided("disabled"), 0),
        (422, problem(422, "unexpected-time", **decided("unexpected")), 1),
        (422, problem(422, "invalid-payload", **decided("rejected")), 1),
        (409, problem(409, "unknown-contract", **decided("rejected")), 1),
        (404, problem(404, "unknown-schedule", **decided("rejected")), 1),
        (401, problem(401, "unauthenticated"), 1),
        (503, problem(503, "dispatch-failed", **decided("rejected")), 75),
        (503, problem(503, "in-doubt", **decided("duplicate")), 75),
        (503, problem(503, "unavailable"), 75),
    ],
    ids=lambda value: str(value) if isinstance(value, int) else None,
)
def test_the_exit_code_tells_whether_to_try_again(
    url: str, capsys: Capture, status: int, document: dict[str, Any], code: int
):
    answers((status, document), retry_after="1")
    assert call(capsys, "--url", url, "-s", MINUTELY)[0] == code


def test_an_ingress_that_is_not_there_is_worth_another_try(url: str, capsys: Capture):
    code, out, err = call(capsys, "--url", "http://127.0.0.1:9", "-s", MINUTELY)
    assert (code, out) == (75, "")
    assert err.startswith("purista: ingress http://127.0.0.1:9: it cannot be reached")


def test_without_a_service_the_ingress_derives_the_nominal_time(url: str, capsys: Capture):
    answers((202, decided("accepted")))
    call(capsys, "--url", url, "-s", MINUTELY)
    event = sent()
    assert event["subject"] == MINUTELY
    assert not {"time", "puristafingerprint", "puristamanual"} & set(event)


def test_with_a_service_the_nominal_time_is_the_contracts_latest(url: str, capsys: Capture):
    answers((202, decided("accepted")))
    before = datetime.now(UTC)
    call(capsys, "shop_app:shop", "--url", url, "-s", "hourly")
    event = sent()
    nominal = datetime.fromisoformat(event["time"])
    assert event["subject"] == "Shop.v1.hourly"
    assert nominal.minute == nominal.second == 0
    assert before - timedelta(hours=1) < nominal <= datetime.now(UTC)
    assert event["puristafingerprint"]


def test_a_persons_trigger_says_so(url: str, capsys: Capture):
    answers((202, decided("accepted")))
    call(capsys, "--url", url, "-s", MINUTELY, "--manual")
    event = sent()
    assert event["puristamanual"] == "true"
    assert event["source"].endswith("/manual")


def test_the_address_may_come_from_the_environment_as_other_senders_have_it(
    url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PURISTA_URL", f"{url}/triggers")
    answers((202, decided("accepted")))
    assert call(capsys, "-s", MINUTELY)[0] == 0
    assert Answers.came[0][0] == "/triggers"


def test_a_payload_is_sent_along(url: str, capsys: Capture):
    Path("payload.json").write_text('{"cycle": "mine"}')
    answers((202, decided("accepted")))
    call(capsys, "--url", url, "-s", MINUTELY, "--payload", "payload.json")
    assert sent()["data"] == {"cycle": "mine"}


def given_bearer(url: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    return ["--bearer", "env:SHOP_BEARER"]


def given_file(url: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    Path("token").write_text(f"{TOKEN}\n")
    return ["--bearer", "file:token"]


def given_settings(url: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    table = f'[ingress]\nurl = "{url}"\n[ingress.client]\nbearer = "env:SHOP_BEARER"\n'
    Path("purista.toml").write_text(table)
    return []


def given_credential(url: str, monkeypatch: pytest.MonkeyPatch) -> Sequence[str]:
    Path("bearer").write_text(TOKEN)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(Path.cwd()))
    return []


@pytest.mark.parametrize("given", [given_bearer, given_file, given_settings, given_credential])
def test_the_token_comes_from_where_it_is_held(
    url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch, given: Any
):
    arguments = given(url, monkeypatch)
    answers((202, decided("accepted")))
    code, out, err = call(capsys, "--url", url, "-s", MINUTELY, *arguments)
    assert code == 0
    assert Answers.came[0][1]["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in out + err


def test_credentials_of_the_settings_go_to_the_settings_address_alone(url: str, capsys: Capture):
    table = '[ingress]\nurl = "https://other.example.com"\n[ingress.client]\nbearer = "env:SHOP_BEARER"\n'
    Path("purista.toml").write_text(table)
    answers((202, decided("accepted")))
    call(capsys, "--url", url, "-s", MINUTELY)
    assert "authorization" not in Answers.came[0][1]


def test_a_trigger_can_be_signed(url: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SHOP_KEY", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    answers((202, decided("accepted")))
    call(capsys, "--url", url, "-s", MINUTELY, "--sign", "env:SHOP_KEY")
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= set(Answers.came[0][1])


def test_it_tries_again_for_as_long_as_it_is_told_to(url: str, capsys: Capture):
    answers((503, problem(503, "unavailable")), (202, decided("accepted")), retry_after="1")
    code, out, err = call(
        capsys, "shop_app:shop", "--url", url, "-s", MINUTELY, "--retry-for", "1m"
    )
    assert code == 0
    assert out.startswith("accepted")
    assert "trying again in 1 s" in err
    assert len({event["id"] for _, _, event in Answers.came}) == 1


def test_it_does_not_wait_longer_than_it_is_told_to(url: str, capsys: Capture):
    answers((503, problem(503, "unavailable")), retry_after="30")
    code, _, err = call(capsys, "--url", url, "-s", MINUTELY, "--retry-for", "10s")
    assert code == 75
    assert len(Answers.came) == 1
    assert "unavailable" in err


def test_what_is_refused_for_good_is_not_tried_again(url: str, capsys: Capture):
    answers((404, problem(404, "unknown-schedule", **decided("rejected"))))
    assert call(capsys, "--url", url, "-s", MINUTELY, "--retry-for", "1m")[0] == 1
    assert len(Answers.came) == 1


def test_waits_grow_to_a_minute_and_differ_between_senders():
    longest = [backoff(attempt, 1.0).total_seconds() for attempt in (1, 2, 3, 7, 50)]
    assert longest == [1, 2, 4, 60, 60]
    assert backoff(3, 0.0) == timedelta(seconds=2)


def test_json_goes_to_stdout(url: str, capsys: Capture):
    answers((200, decided("late")))
    code, out, _ = call(capsys, "--url", url, "-s", MINUTELY, "--json")
    assert code == 0
    assert json.loads(out)["decision"] == "late"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-s", MINUTELY], "no service is named; give PACKAGE.MODULE:SERVICE, or --url"),
        (["shop_app:shop"], "no schedule is named; give --schedule NAME"),
        (["shop_app:shop", "-s", "hourly", "--retry-for", "1m"], "give --url too"),
        (["--url", "http://x", "-s", "x", "--state", "s.sqlite"], "leave it out with --url"),
        (["--url", "nowhere", "-s", "x"], "url: it is no address"),
        (["--url", "http://h", "-s", "x", "--bearer", "secret"], "it is no reference to a secret"),
        (["--url", "https://h", "-s", "x", "--bearer", "env:NOPE"], "env:NOPE: it is not set"),
        (["--url", "http://h", "-s", "x", "--bearer", "env:SHOP_BEARER"], "over plain http"),
        (["--url", "http://h", "-s", "x", "--retry-for", "soon"], "'soon' is no duration"),
        (
            ["--url", "http://h", "-s", "x", "--bearer", "env:A", "--sign", "env:B"],
            "two kinds of credentials",
        ),
    ],
)
def test_misuse_ends_in_one_message_and_exit_code_2(
    url: str, capsys: Capture, arguments: list[str], part: str
):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert part in err
    assert "secret'" not in err


def test_a_ledger_that_is_away_is_worth_another_try(url: str, capsys: Capture):
    Path("state.sqlite").write_text("no database" * 1000)
    code, _, err = call(capsys, "shop_app:shop", "-s", MINUTELY, "--state", "state.sqlite")
    assert code == 75
    assert "state.sqlite" in err

"""``purista trigger`` against an ingress: exit codes, credentials, nominal times, tries."""

from __future__ import annotations

import importlib
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


HAND = """
from datetime import timedelta
from pathlib import Path
from purista import Context, Cron, Every, Service
from purista.contract import Backoff

hand = Service("Hand", version="1")
due = hand.event("hand.due", dict)
jobs = hand.queue("jobs", dict, max_attempts=2, backoff=Backoff(timedelta(milliseconds=1)))
soon = Backoff(initial=timedelta(milliseconds=1))

hand.schedule("event").emit_event(
    due, expression=Cron("0 2 1 * *"), timezone="Europe/Berlin", payload={"n": "{previous_nominal_time:%Y-%m}"},
)
hand.schedule("job").enqueue(jobs, expression=Every(timedelta(hours=1)), payload={"n": "1"})

def times_left(name):
    path = Path(name)
    left = int(path.read_text()) if path.exists() else 0
    path.write_text(str(max(left - 1, 0)))
    return left

@hand.subscription(due, max_attempts=3, backoff=soon)
async def bill(payload: dict, ctx: Context) -> None:
    if times_left("event.fails"):
        raise RuntimeError("not yet")
    print("billed", payload["n"])
    if Path("chain").exists():
        await ctx.enqueue(jobs, payload)

@hand.worker(jobs)
async def work(payload: dict, ctx: Context) -> None:
    if times_left("job.fails"):
        raise RuntimeError("not yet")
    print("worked", payload["n"])
"""


@pytest.fixture
def by_hand(url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    Path("hand_app.py").write_text(HAND)
    monkeypatch.delitem(sys.modules, "hand_app", raising=False)
    return "hand_app:hand"


@pytest.mark.parametrize(
    ("at", "part"),
    [
        (
            "2026-10-01T01:00:00Z",
            "no nominal time of schedule 'Hand.v1.event'; the nearest are 2026-10-01T00:00:00Z and "
            "2026-11-01T01:00:00Z; --anyway sends it all the same",
        ),
        ("9999-12-31T23:59:59Z", "is no nominal time"),
    ],
)
def test_a_persons_time_that_is_none_of_the_contracts_is_refused(
    by_hand: str, url: str, capsys: Capture, at: str, part: str
):
    for way in ([], ["--url", url, "--manual"]):
        code, out, err = call(capsys, by_hand, "-s", "event", "--nominal-time", at, *way)
        assert (code, out, Answers.came) == (2, "", [])
        assert part in " ".join(err.split())


def test_anyway_sends_a_time_that_is_none_of_the_contracts(by_hand: str, capsys: Capture):
    at = ("--nominal-time", "2026-10-01T01:00:00Z", "--anyway")
    code, out, _ = call(capsys, by_hand, "-s", "event", *at)
    assert code == 0
    assert "billed 2026-10" in out


def test_an_event_that_failed_is_tried_again_before_the_end(by_hand: str, capsys: Capture):
    Path("event.fails").write_text("2")
    code, out, err = call(capsys, by_hand, "-s", "event")
    assert (code, out.startswith("accepted")) == (0, False)
    assert out.startswith("billed")
    assert "not tried again" not in err


def test_a_subscriber_that_failed_for_good_ends_with_1(by_hand: str, capsys: Capture):
    Path("event.fails").write_text("3")
    code, out, err = call(capsys, by_hand, "-s", "event")
    assert code == 1
    assert "accepted" in out
    assert "1 events or jobs that it set off failed for good, see the log" in err


@pytest.mark.parametrize(("fails", "code"), [("1", 0), ("2", 1)])
def test_the_jobs_of_an_event_are_waited_for_too(
    by_hand: str, capsys: Capture, fails: str, code: int
):
    Path("chain").touch()
    Path("job.fails").write_text(fails)
    assert call(capsys, by_hand, "-s", "event")[0] == code


def test_a_manifest_alone_runs_nothing_by_hand(by_hand: str, capsys: Capture):
    assert run(["manifest", by_hand, "-o", "hand.json"]) == 0
    capsys.readouterr()
    code, out, err = call(capsys, "hand.json", "-s", "job")
    assert (code, out) == (2, "")
    assert "schedule 'Hand.v1.job': no handler of queue 'jobs' is in this process" in err


def test_a_payload_that_is_nested_too_deeply_is_one_message(by_hand: str, capsys: Capture):
    Path("deep.json").write_text("[" * 100_000)
    code, _, err = call(capsys, by_hand, "-s", "event", "--payload", "deep.json")
    assert code == 2
    assert "'deep.json' is nested too deeply" in err


def replayed(capsys: Capture, service: str, *arguments: str) -> tuple[int, str, str]:
    """Replay the latest nominal time in this process, on a ledger that knows other runs."""
    assert run(["trigger", "hand_app:hand", "-s", "job", "--state", "runs.sqlite"]) == 0
    latest = (
        importlib.import_module("hand_app")
        .hand.schedules["event"]
        .previous_before(datetime.now(UTC))
    )
    capsys.readouterr()
    at = ("--nominal-time", latest.isoformat(), "--ledger", "sqlite:///runs.sqlite", "--here")
    code = run(["replay", service, "-s", "event", *at, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(("fails", "code"), [("1", 0), ("3", 1)])
def test_a_replay_in_this_process_waits_for_what_is_tried_again(
    by_hand: str, capsys: Capture, fails: str, code: int
):
    Path("event.fails").write_text(fails)
    found, out, err = replayed(capsys, by_hand)
    assert found == code
    assert ("billed" in out) is (code == 0)
    assert ("failed for good" in err) is (code == 1)


def test_a_manifest_alone_replays_nothing_in_this_process(by_hand: str, capsys: Capture):
    assert run(["manifest", by_hand, "-o", "hand.json"]) == 0
    code, out, err = replayed(capsys, "hand.json")
    assert (code, out) == (2, "")
    assert "no handler of event 'hand.due' is in this process" in err

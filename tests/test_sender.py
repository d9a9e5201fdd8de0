"""The shell text that sends a trigger, run with real shells and the real curl."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from textwrap import dedent
from threading import Thread, Timer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dialects import HORIZON
from tests.engines import debian

from purista import Cron, Once, Schedule, Service, Trigger
from purista.schedulers import kubernetes
from purista.sender import (
    SEND,
    TRIGGER,
    WAIT,
    jitter_of,
    trigger_settings,
    try_seconds,
    wait_offset,
)
from purista.slot import SlotGrid

SLOT = datetime(2027, 3, 28, 0, 30, tzinfo=UTC)
SLOT_TEXT = "2027-03-28T00:30:00Z"
MINUTE = timedelta(minutes=1)
SHELLS = {"dash": ["dash"], "busybox": ["busybox", "sh"]}


class Ingress:
    """A server that gives one answer after the other, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.asked: list[list[tuple[str, str]]] = []
        self.processes: list[str] = []

    @property
    def triggers(self) -> list[Trigger]:
        return [Trigger.from_headers(headers, b"") for headers in self.asked]

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[str]:
        ingress = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                ingress.asked.append(list(self.headers.items()))
                ingress.processes += _commands()
                status, headers = ingress.answers.pop(0) if ingress.answers else (202, {})
                if not status:
                    self.connection.close()
                    return
                self.send_response(status)
                for name, value in {"Content-Length": "4", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"said")

            def log_message(self, *_: Any) -> None: ...

        with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
            thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}/triggers"
            finally:
                server.shutdown()
                thread.join()


def _commands() -> list[str]:
    """Return the command lines of all curl processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_text())
        except OSError:
            continue  # it has ended
    return [each for each in found if each.startswith("curl\0")]


@pytest.fixture(scope="module", autouse=True)
def _tools() -> None:
    debian.ensure("busybox", "curl", "dash")


@pytest.fixture
def ingress() -> Ingress:
    return Ingress()


def run(
    script: str, url: str, *, shell: str = "dash", **given: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PURISTA_URL": url,
        "PURISTA_SOURCE": "cron",
        "PURISTA_SCHEDULE": "Shop.v1.s",
        "PURISTA_FINGERPRINT": "0123456789abcdef",
        "PURISTA_TRY_SECONDS": "20",
        **given,
    }
    command = [*SHELLS[shell], "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def send(url: str, time: str = SLOT_TEXT, **given: str) -> subprocess.CompletedProcess[str]:
    return run(f"set -eu\n{SEND}", url, time=time, **given)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_is_sent_is_the_trigger_of_its_slot(ingress: Ingress, shell: str):
    with ingress.listening() as url:
        done = run(f"set -eu\n{SEND}", url, shell=shell, time=SLOT_TEXT)
    assert (done.returncode, done.stderr) == (0, "")
    assert ingress.triggers == [
        Trigger(
            schedule_id="Shop.v1.s",
            nominal_time=SLOT,
            source="cron",
            id=f"Shop.v1.s/{SLOT_TEXT}",
            fingerprint="0123456789abcdef",
        )
    ]


def test_a_slot_that_is_not_known_is_not_sent(ingress: Ingress):
    with ingress.listening() as url:
        send(url, time="")
        send(url, time="")
    first, second = ingress.triggers
    assert first.nominal_time is None
    assert first.id != second.id
    assert not first.manual


def test_a_manual_run_says_that_it_is_one(ingress: Ingress):
    with ingress.listening() as url:
        send(url, time="", manual="true")
    assert [each.manual for each in ingress.triggers] == [True]


ODD = [
    'x"; touch broken; "y',
    "$(touch broken)",
    "`touch broken`",
    "it's $HOME && touch broken",
    r"back\slash \n \" %s",
    "--config touch",
    "@broken",
    "* ? [a-z]",
]


@pytest.mark.parametrize("odd", ODD)
def test_no_text_breaks_the_quoting(
    ingress: Ingress, odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with ingress.listening() as url:
        done = send(url, PURISTA_SCHEDULE=odd, PURISTA_SOURCE=odd)
    assert done.returncode == 0
    assert [(each.schedule_id, each.source) for each in ingress.triggers] == [(odd, odd)]
    assert list(tmp_path.iterdir()) == []


def test_an_ingress_that_is_busy_is_asked_again_when_it_says(ingress: Ingress):
    ingress.answers = [(503, {"Retry-After": "1"}), (429, {"Retry-After": "1"})]
    with ingress.listening() as url:
        done = send(url)
    assert done.returncode == 0
    assert len({each.id for each in ingress.triggers}) == 1
    assert len(ingress.triggers) == 3


def test_an_ingress_that_comes_late_is_waited_for(ingress: Ingress):
    with create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    late: list[Any] = []

    def come() -> None:
        late.append(ingress.listening(port))
        late[0].__enter__()

    timer = Timer(0.3, come)
    timer.start()
    try:
        done = send(f"http://127.0.0.1:{port}/triggers")
    finally:
        timer.join()
        late[0].__exit__(None, None, None)
    assert done.returncode == 0
    assert len(ingress.triggers) == 1


def test_an_answer_that_breaks_off_is_asked_for_once_more(ingress: Ingress):
    ingress.answers = [(0, {})]
    with ingress.listening() as url:
        done = send(url)
    assert done.returncode == 0
    assert len({each.id for each in ingress.triggers}) == 1
    assert len(ingress.triggers) == 2


def test_an_ingress_that_only_breaks_off_fails(ingress: Ingress):
    ingress.answers = [(0, {})] * 3
    with ingress.listening() as url:
        done = send(url)
    assert done.returncode == 52
    assert len(ingress.asked) == 2


def test_a_refusal_fails_at_once_with_what_was_said(ingress: Ingress):
    ingress.answers = [(400, {})]
    with ingress.listening() as url:
        done = send(url)
    assert done.returncode == 22
    assert "400" in done.stderr
    assert "said" in done.stdout
    assert len(ingress.asked) == 1


def test_trying_ends_in_time(ingress: Ingress):
    ingress.answers = [(503, {"Retry-After": "1"})] * 60
    with ingress.listening() as url:
        done = send(url, PURISTA_TRY_SECONDS="2")
    assert done.returncode == 22
    assert 1 < len(ingress.asked) < 10


@pytest.mark.parametrize("bearer", ["abc.DEF_1-2~3+4/5==", r'odd"\n\token', "a b"])
def test_the_bearer_goes_in_its_header_and_in_no_list_of_processes(ingress: Ingress, bearer: str):
    with ingress.listening() as url:
        done = send(url, PURISTA_BEARER=bearer)
    assert done.returncode == 0
    assert [dict(headers)["Authorization"] for headers in ingress.asked] == [f"Bearer {bearer}"]
    ours = [each for each in ingress.processes if url in each]
    assert ours
    assert not [each for each in ours if bearer in each or "Bearer" in each]


def test_without_a_bearer_there_is_no_such_header(ingress: Ingress):
    with ingress.listening() as url:
        send(url, PURISTA_BEARER="")
    assert "Authorization" not in dict(ingress.asked[0])


GRID = SlotGrid(86_400, 1800)


def trigger(url: str, shell: str = "dash", **given: str) -> subprocess.CompletedProcess[str]:
    environment = {"PURISTA_PERIOD": "1800", "PURISTA_PHASE": "0", "PURISTA_JITTER": "0"}
    return run(TRIGGER, url, shell=shell, **environment | given)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_program_that_is_told_nothing_sends_the_latest_slot(ingress: Ingress, shell: str):
    with ingress.listening() as url:
        before = SlotGrid(1800, 0).slot(datetime.now(UTC))
        done = trigger(url, shell)
        after = SlotGrid(1800, 0).slot(datetime.now(UTC))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (sent,) = ingress.triggers
    assert sent.nominal_time in {before, after}
    assert sent.source == f"cron/{os.uname().nodename}"


def test_a_phase_moves_the_slots(ingress: Ingress):
    with ingress.listening() as url:
        trigger(url, PURISTA_PERIOD="60", PURISTA_PHASE="17")
    (sent,) = ingress.triggers
    assert sent.nominal_time is not None
    assert sent.nominal_time.second == 17


def test_a_time_that_is_given_is_sent_and_one_that_is_unknown_is_not(ingress: Ingress):
    with ingress.listening() as url:
        trigger(url, PURISTA_TIME=SLOT_TEXT)
        trigger(url, PURISTA_TIME="unknown")
    assert [each.nominal_time for each in ingress.triggers] == [SLOT, None]


@pytest.mark.parametrize("by", ["file", "credential"])
def test_the_bearer_of_a_file_is_sent(ingress: Ingress, tmp_path: Path, by: str):
    (tmp_path / "bearer").write_text("abc.DEF\n")
    given = {"PURISTA_BEARER_FILE": str(tmp_path / "bearer")}
    if by == "credential":
        given = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with ingress.listening() as url:
        assert trigger(url, **given).returncode == 0
    assert dict(ingress.asked[0])["Authorization"] == "Bearer abc.DEF"


def test_a_bearer_file_that_is_missing_sends_nothing(ingress: Ingress, tmp_path: Path):
    with ingress.listening() as url:
        done = trigger(url, PURISTA_BEARER_FILE=str(tmp_path / "none"))
    assert done.returncode != 0
    assert "none" in done.stderr
    assert ingress.asked == []


def test_a_program_that_is_refused_says_so(ingress: Ingress):
    ingress.answers = [(403, {})]
    with ingress.listening() as url:
        done = trigger(url)
    assert (done.returncode, done.stdout) == (22, "")
    assert "said" in done.stderr
    assert "403" in done.stderr


WATCH = f"""\
date() {{ echo "$now"; }}
sleep() {{ echo "$1"; }}
{WAIT}"""
"""A wait that says how long it would be."""


@pytest.mark.parametrize("shell", SHELLS)
def test_waits_are_spread_below_the_jitter_and_the_same_at_each_try(shell: str):
    def waits(now: int) -> list[int]:
        slots = [1_800_000_000 + 3600 * number for number in range(40)]
        script = f"for slot in {' '.join(map(str, slots))}; do now=$((slot + {now}))\n{WATCH}\ndone"
        given = {"PURISTA_JITTER": "600", "PURISTA_OFFSET": str(wait_offset("s", 10 * MINUTE))}
        return [int(each) for each in run(script, "", shell=shell, **given).stdout.split()]

    found = waits(0)
    assert len(found) == 40
    assert 0 < min(found) < 100
    assert 500 < max(found) < 600
    assert len(set(found)) > 30
    assert waits(7) == [each - 7 for each in found if each > 7]
    assert waits(600) == []


@given(st.text(max_size=20), st.integers(0, 10_000))
def test_schedules_are_spread_over_less_than_the_jitter(schedule_id: str, seconds: int):
    offset = wait_offset(schedule_id, timedelta(seconds=seconds))
    assert 0 <= offset < max(seconds, 1)
    assert offset == wait_offset(schedule_id, timedelta(seconds=seconds))


def due(**options: Any) -> Schedule:
    values: dict[str, Any] = {"expression": Cron("*/30 * * * *"), **options}
    return Service("Shop").schedule("s").emit_event("due", **values)


def test_a_sender_waits_never_past_the_next_nominal_time():
    assert jitter_of(due(), HORIZON) == timedelta(0)
    assert jitter_of(due(jitter=5 * MINUTE), HORIZON) == 5 * MINUTE
    hours = Cron("0,1 2 * * *")
    at_most = timedelta(seconds=59)
    assert jitter_of(due(expression=hours, jitter=5 * MINUTE), HORIZON) == at_most
    once = Once(datetime(2027, 1, 1, tzinfo=UTC))
    assert jitter_of(due(expression=once, jitter=5 * MINUTE), HORIZON) == 5 * MINUTE


@pytest.mark.parametrize(
    ("options", "room", "seconds"),
    [
        ({"missed_run_policy": "skip"}, None, 510),
        ({"missed_run_policy": "skip", "misfire_grace": MINUTE}, None, 15),
        ({"missed_run_policy": "skip", "misfire_grace": timedelta(seconds=1)}, None, 1),
        ({"missed_run_policy": "runOnce"}, None, 86_310),
        ({"missed_run_policy": "catchUp", "catch_up_window": timedelta(hours=2)}, None, 7110),
        ({"missed_run_policy": "catchUp"}, 30 * MINUTE, 1710),
    ],
)
def test_a_sender_tries_until_its_trigger_is_worth_nothing(
    options: dict[str, Any], room: timedelta | None, seconds: int
):
    assert try_seconds(due(**options), room) == seconds


def test_the_settings_of_the_program_are_texts():
    found = trigger_settings(due(), "0123", GRID, 5 * MINUTE, 30 * MINUTE)
    assert found == {
        "PURISTA_SCHEDULE": "Shop.v1.s",
        "PURISTA_FINGERPRINT": "0123",
        "PURISTA_PERIOD": "86400",
        "PURISTA_PHASE": "1800",
        "PURISTA_JITTER": "300",
        "PURISTA_OFFSET": str(wait_offset("Shop.v1.s", 5 * MINUTE)),
        "PURISTA_TRY_SECONDS": "510",
    }


JOB = dedent(kubernetes._SCRIPT).replace("$$", "$")
"""What the shell of a Job gets: Kubernetes reads ``$$`` in arguments as ``$``."""


def job(url: str, shell: str, folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    """Run a Job's script with nothing but the tools of busybox, and curl."""
    for tool in ("date", "sleep", "uname"):
        (folder / tool).symlink_to(Path(shutil.which("busybox") or ""))
    (folder / "curl").symlink_to(Path(shutil.which("curl") or ""))
    given = {"JOB_NAME": name, "PURISTA_JITTER": "0", "PURISTA_OFFSET": "0"}
    shells = {name: shutil.which(name) or "" for name in SHELLS}
    command = [shells[shell], *SHELLS[shell][1:], "-c", JOB]
    environment: Mapping[str, str] = {
        "PATH": str(folder),
        "PURISTA_URL": url,
        "PURISTA_SOURCE": "kubernetes/billing/s",
        "PURISTA_SCHEDULE": "Shop.v1.s",
        "PURISTA_FINGERPRINT": "0123",
        "PURISTA_TRY_SECONDS": "20",
        **given,
    }
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_sends_the_slot_that_ends_its_name(ingress: Ingress, shell: str, tmp_path: Path):
    slot = datetime.now(UTC).replace(second=0, microsecond=0) - 90 * MINUTE
    with ingress.listening() as url:
        done = job(url, shell, tmp_path, f"shop-v1-s-{int(slot.timestamp()) // 60}")
    assert (done.returncode, done.stderr) == (0, "")
    (sent,) = ingress.triggers
    assert (sent.nominal_time, sent.manual) == (slot, False)
    assert sent.id == f"Shop.v1.s/{slot:%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", ["shop-by-hand", "shop-7", "shop-08", "shop-20270101", "shop-"])
def test_a_job_that_a_person_made_is_manual(
    ingress: Ingress, shell: str, name: str, tmp_path: Path
):
    with ingress.listening() as url:
        done = job(url, shell, tmp_path, name)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(each.manual, each.nominal_time) for each in ingress.triggers] == [(True, None)]

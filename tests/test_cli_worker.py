"""An ingress and workers as processes of their own, over every engine that carries events and jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import nats as nats_client
import pytest
from tests.engines.nats_broker import nats_broker
from tests.engines.postgres import postgres_server
from tests.engines.rabbitmq import rabbitmq_server
from tests.engines.valkey import valkey_server
from tests.served import Served, started

from purista.bridges import Job
from purista.bridges.opening import open_queues
from purista.cli.app import run
from purista.message import Message, new_message_id

APP = """
import asyncio
import os
from datetime import timedelta
from pathlib import Path
from pydantic import BaseModel
from purista import Context, Cron, Every, Service

class Cycle(BaseModel):
    cycle: str

billing = Service("Billing", version="1")
due = billing.event("billing.due", Cycle)
reports = billing.queue("reports", Cycle, lease=timedelta(seconds=2))
letters = billing.queue("letters", Cycle)
purge = billing.command("purge", Cycle, returns=int)
payload = {"cycle": "{nominal_time:%Y-%m-%dT%H:%M}"}

billing.schedule("monthly").emit_event(
    due, expression=Cron("0 * * * *"), missed_run_policy="catchUp", payload=payload
)
billing.schedule("render").enqueue(
    reports,
    expression=Cron("* * * * *"),
    concurrency_policy="forbid",
    missed_run_policy="catchUp",
    payload=payload,
)
billing.schedule("drafts").invoke_command(
    purge, expression=Cron("30 * * * *"), payload=payload
)

def log(text):
    with open("effects.log", "a") as file:
        file.write(f"{text} {os.getpid()}\\n")

@billing.subscription(due)
async def request_letters(cycle: Cycle, ctx: Context) -> None:
    log(f"due {cycle.cycle}")
    await ctx.enqueue(letters, cycle)

@billing.worker(letters)
async def write(cycle: Cycle, ctx: Context) -> None:
    log(f"wrote {cycle.cycle}")

@billing.worker(reports)
async def render(cycle: Cycle, ctx: Context) -> None:
    log(f"began {cycle.cycle}")
    while not Path("finish").exists():
        await asyncio.sleep(0.01)
    log(f"finished {cycle.cycle}")

@billing.handles(purge)
async def on_purge(cycle: Cycle, ctx: Context) -> int:
    log(f"purged {cycle.cycle}")
    return 1
"""
DEADLINE = 30.0
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "billing_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "billing_app", raising=False)
    return tmp_path


def sqlite(folder: Path) -> contextlib.AbstractContextManager[list[str]]:
    return contextlib.nullcontext(["--bridge", "sqlite:///billing.sqlite"])


@contextlib.contextmanager
def nats(folder: Path) -> Iterator[list[str]]:
    with nats_broker() as server:
        yield ["--bridge", server.url]


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[list[str]]:
    with valkey_server(durable=True) as server:
        yield ["--bridge", server.url]


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[list[str]]:
    with postgres_server() as server:
        yield ["--bridge", server.url]


@contextlib.contextmanager
def rabbitmq(folder: Path) -> Iterator[list[str]]:
    with rabbitmq_server() as server:
        yield ["--events", server.url, "--queues", "sqlite:///billing.sqlite"]


ENGINES: list[Callable[[Path], contextlib.AbstractContextManager[list[str]]]] = [
    sqlite,
    nats,
    redis,
    postgres,
    rabbitmq,
]


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.__name__)
def bridge(request: pytest.FixtureRequest, folder: Path) -> Iterator[list[str]]:
    with request.param(folder) as options:
        yield options


@contextlib.contextmanager
def working(folder: Path, bridge: list[str], name: str) -> Iterator[Served]:
    command = ["worker", "billing_app:billing", *bridge, "--ledger", "sqlite:///runs.sqlite"]
    with started(folder, *command, name=name) as one:
        one.wait_for("working for Billing.v1")
        yield one


@contextlib.contextmanager
def ingress(folder: Path, bridge: list[str]) -> Iterator[Served]:
    command = ["serve", "billing_app:billing", "--dev", "--no-handlers", "--port", "0", *bridge]
    with started(folder, *command, "--ledger", "sqlite:///runs.sqlite", name="serve") as one:
        one.ready()
        yield one


def send(one: Served, schedule: str, minute: int) -> dict[str, Any]:
    nominal = datetime.now(UTC).replace(minute=minute, second=0, microsecond=0)
    event = {
        "specversion": "1.0",
        "id": f"{schedule}/{nominal}",
        "source": "test",
        "type": "dev.purista.schedule.trigger",
        "subject": f"Billing.v1.{schedule}",
        "time": nominal.isoformat(),
        "puristamanual": "true",
    }
    headers = {"Content-Type": "application/cloudevents+json"}
    answer = httpx.post(f"{one.url}/triggers", content=json.dumps(event), headers=headers)
    decision: dict[str, Any] = answer.json()
    assert "decision" in decision, decision
    return decision


def run_of(one: Served, decision: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{one.url}/runs/{decision['runId']}").json()
    return found


def wait_for(what: str, is_so: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < end, f"not within {DEADLINE:.0f} s: {what}"
        time.sleep(0.02)


def pids(one: Served, word: str) -> list[int]:
    """Return which processes did something, in order."""
    return [int(line.rsplit(" ", 1)[1]) for line in one.effects if line.startswith(word)]


def test_a_job_whose_worker_is_killed_ends_on_the_other_and_its_run_once(
    folder: Path, bridge: list[str]
):
    with (
        ingress(folder, bridge) as entry,
        working(folder, bridge, "first") as first,
        working(folder, bridge, "second") as second,
    ):
        decision = send(entry, "render", 1)
        assert decision["decision"] == "accepted", decision
        wait_for("the job begins", lambda: pids(entry, "began"))
        (killed,) = pids(entry, "began")
        assert send(entry, "render", 2)["decision"] == "overlap"
        os.kill(killed, signal.SIGKILL)
        assert send(entry, "render", 3)["decision"] == "overlap"
        wait_for("the job begins again", lambda: len(pids(entry, "began")) == 2)
        other = second if first.process.pid == killed else first
        assert pids(entry, "began") == [killed, other.process.pid]
        assert send(entry, "render", 4)["decision"] == "overlap"
        (folder / "finish").touch()
        wait_for("the run ends", lambda: run_of(entry, decision)["status"] == "ended")
        assert pids(entry, "finished") == [other.process.pid]
        again = send(entry, "render", 5)
        assert again["decision"] == "accepted"
        wait_for("the next run ends", lambda: run_of(entry, again)["status"] == "ended")
        assert pids(entry, "finished") == [other.process.pid, other.process.pid]
        for one in (other, entry):
            one.process.send_signal(signal.SIGTERM)
            assert one.process.wait(DEADLINE) == 0, one.log


def test_events_jobs_and_commands_reach_a_worker_elsewhere(folder: Path, bridge: list[str]):
    with ingress(folder, bridge) as entry, working(folder, bridge, "worker") as worker:
        event, command = send(entry, "monthly", 0), send(entry, "drafts", 30)
        assert event["decision"] == command["decision"] == "accepted"
        for word in ("due", "wrote", "purged"):
            wait_for(word, lambda word=word: pids(entry, word))
            assert pids(entry, word) == [worker.process.pid]
        wait_for("the run ends", lambda: run_of(entry, command)["status"] == "ended")
        assert send(entry, "monthly", 0)["decision"] == "duplicate"


def call(capsys: Capture, *arguments: str) -> tuple[int, str]:
    code = run(["worker", *arguments])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, captured.err


@pytest.mark.usefixtures("folder")
def test_a_worker_without_a_shared_broker_is_refused(capsys: Capture):
    code, err = call(capsys, "billing_app:billing")
    assert code == 2
    assert "events in memory do not reach" in err
    assert "--bridge" in err
    code, err = call(capsys, "billing_app:billing", "--events", "sqlite:///e.sqlite")
    assert code == 2
    assert "queues in memory do not reach" in err


@pytest.mark.usefixtures("folder")
def test_a_manifest_has_no_handlers_to_run(capsys: Capture):
    run(["manifest", "billing_app:billing", "-o", "billing.json"])
    code, err = call(capsys, "billing.json", "--bridge", "sqlite:///b.sqlite")
    assert code == 2
    assert "service 'Billing.v1': it has no handlers; name the code that has them" in err


def test_the_settings_name_the_broker_for_all_commands(folder: Path):
    (folder / "purista.toml").write_text(
        '[ingress]\nbridge = "env:BILLING_BRIDGE"\nledger = "sqlite:///runs.sqlite"\n'
    )
    env = {"BILLING_BRIDGE": "sqlite:///billing.sqlite"}
    served = ["serve", "billing_app:billing", "--dev", "--no-handlers", "--port", "0"]
    with (
        started(folder, *served, env=env, name="serve") as entry,
        started(folder, "worker", "billing_app:billing", env=env, name="worker") as worker,
    ):
        entry.ready()
        worker.wait_for("working for")
        assert send(entry, "drafts", 30)["decision"] == "accepted"
        wait_for("purged", lambda: pids(entry, "purged") == [worker.process.pid])


def test_a_broker_that_is_away_at_the_start_is_waited_for_or_refused_by_choice(
    folder: Path, capsys: Capture
):
    with nats_broker() as server:
        server.kill()
        bridge = ["--bridge", server.url]
        code, err = call(capsys, "billing_app:billing", *bridge, "--no-wait")
        assert code == 75
        assert "the server is away" in err
        served = ["serve", "billing_app:billing", "--dev", "--no-handlers", "--port", "0", *bridge]
        with (
            started(folder, "worker", "billing_app:billing", *bridge, name="worker") as worker,
            started(folder, *served, name="serve") as entry,
            started(folder, "worker", "billing_app:billing", *bridge, name="third") as third,
        ):
            for one in (worker, entry, third):
                one.wait_for("waiting for it")
            third.process.send_signal(signal.SIGTERM)
            assert third.process.wait(DEADLINE) == 0, third.log
            server.restart()
            worker.wait_for("working for")
            entry.ready()
            assert send(entry, "drafts", 30)["decision"] == "accepted"
            wait_for("purged", lambda: pids(entry, "purged") == [worker.process.pid])


def test_an_ingress_is_not_ready_while_its_broker_is_away(folder: Path):
    with nats_broker() as server, ingress(folder, ["--bridge", server.url]) as entry:
        assert httpx.get(f"{entry.url}/ready").status_code == 200
        server.kill()
        wait_for("it is not ready", lambda: httpx.get(f"{entry.url}/ready").status_code == 503)
        assert httpx.get(f"{entry.url}/health").status_code == 200
        assert "a broker is away" in httpx.get(f"{entry.url}/ready").text
        server.restart()
        wait_for("it is ready", lambda: httpx.get(f"{entry.url}/ready").status_code == 200)


async def _fired(url: str) -> None:
    """Do what the server's schedules do: a trigger without its time, on the grid of its slots."""
    client = await nats_client.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="PURISTA", subjects=["purista.triggers"], retention="workqueue")
    headers = {
        "ce-specversion": "1.0",
        "ce-type": "dev.purista.schedule.trigger",
        "ce-source": "nats",
        "ce-subject": "Billing.v1.render",
        "ce-puristaslots": "60+0",
    }
    await stream.publish("purista.triggers", b"", headers=headers)
    await client.close()


def test_triggers_of_the_servers_own_schedules_are_taken_from_their_stream(folder: Path):
    (folder / "purista.toml").write_text('[ingress]\ntriggers = "purista.triggers"\n\n[nats]\n')
    (folder / "finish").touch()
    with nats_broker() as server:
        asyncio.run(_fired(server.url))
        bridge = ["--bridge", server.url]
        with ingress(folder, bridge) as entry, working(folder, bridge, "worker") as worker:
            wait_for("finished", lambda: pids(entry, "finished") == [worker.process.pid])
            (run,) = httpx.get(f"{entry.url}/runs").json()["runs"]
            assert run["scheduleId"] == "Billing.v1.render"
            assert run["nominalTime"].endswith(":00Z")


STUCK = """
import asyncio
import time
from pydantic import BaseModel
from purista import Context, Service

class Cycle(BaseModel):
    cycle: str

stuck = Service("Stuck", version="1")
jobs = stuck.queue("jobs", Cycle)

@stuck.worker(jobs)
async def work(cycle: Cycle, ctx: Context) -> None:
    print("began", flush=True)
    if cycle.cycle == "loop":
        time.sleep(600)
    await asyncio.to_thread(time.sleep, 600)
"""


async def put(url: str, cycle: str) -> None:
    queues = open_queues(url)
    body = json.dumps({"cycle": cycle}).encode()
    await queues.enqueue(Job(Message("jobs", body, new_message_id())))
    await queues.close()


def test_a_handler_that_blocks_the_loop_or_a_thread_does_not_keep_the_process_from_its_end(
    folder: Path,
):
    (folder / "stuck_app.py").write_text(STUCK)
    (folder / "purista.toml").write_text("[ingress]\ngrace_seconds = 0\n")
    with contextlib.ExitStack() as stack:
        workers = []
        for cycle in ("loop", "thread"):
            url = f"sqlite:///{folder}/{cycle}.sqlite"
            asyncio.run(put(url, cycle))
            command = ["worker", "stuck_app:stuck", "--bridge", url]
            workers.append(stack.enter_context(started(folder, *command, name=cycle)))
        for one in workers:
            one.wait_for("began")
            one.process.send_signal(signal.SIGTERM)
        for one in workers:
            assert one.process.wait(DEADLINE) == 1, one.log
            assert "not everything was finished in time" in one.log

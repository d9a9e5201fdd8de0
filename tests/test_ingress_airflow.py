"""The operator in a real Airflow, before a real ingress: one instance, and one process for the rest."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
from tests.engines import airflow

from purista import (
    Context,
    Cron,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    Trigger,
    fingerprint,
)
from purista.bridges import Job
from purista.errors import BridgeError
from purista.host import Host
from purista.ingress.http import ingress_app
from purista.ledgers import Record, Run
from purista.verifying.bearer import BearerVerifier
from purista.verifying.secret import Secret

T = TypeVar("T")

SOURCE = Path(__file__).parents[1] / "src"
PROGRAM = Path(__file__).parent / "programs/airflow_operator.py"
OURS = ("purista.ingress.airflow", "purista.ingress.airflowrun")
PAGE = Path(__file__).parents[1] / "docs/airflow.md"
PATIENCE = timedelta(minutes=4)
TOKEN = "only-airflow-and-the-ingress-know-it"
NAMES = ("sent", "busy", "waited", "stopped", "held", "clicked")
DEFERRED = ("waited", "stopped")

DAGS = '''"""DAGs that send triggers."""
from datetime import UTC, datetime, timedelta
from airflow.sdk import DAG, CronTriggerTimetable
from purista.ingress.airflow import PuristaTriggerOperator

DAILY = CronTriggerTimetable("CRON", timezone="UTC")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SOON = {"retry_delay": timedelta(seconds=1), "retry_exponential_backoff": 0}


def add(name, schedule=DAILY, **options):
    with DAG(name, schedule=schedule, start_date=BEGAN, catchup=False, default_args=SOON) as dag:
        PuristaTriggerOperator(task_id="trigger", **options)
        if name == "stopped":
            PuristaTriggerOperator(task_id="held", schedule_id="Shop.v1.held", wait_for_run=True)
    globals()[name] = dag


add("sent", schedule_id="{{ 'Shop' }}.v1.sent", fingerprint="FINGERPRINT")
add("busy", schedule_id="Shop.v1.busy")
add("wrong", schedule_id="Shop.v1.none")
add("clicked", schedule=None, schedule_id="Shop.v1.clicked", data="{{ dag_run.conf['day'] }}")
for name in ("waited", "stopped"):
    add(name, schedule_id="Shop.v1." + name, wait_for_run=True, deferrable=True)
'''


class Queues(MemoryQueueBridge):
    """A queue bridge that is away once, for one schedule."""

    was_away = False

    async def enqueue(self, job: Job) -> bool:
        if job.message.body.startswith(b'"busy') and not self.was_away:
            self.was_away = True
            raise BridgeError("the broker is away")
        return await super().enqueue(job)


@dataclass
class Shop:
    """A service with an ingress over HTTP, in a thread of its own; its jobs wait until they may go on.

    Its schedules fired last within two hours, and next when no test runs any more.
    """

    cron: str
    port: int = 0
    fingerprint: str = ""
    loop: asyncio.AbstractEventLoop | None = None
    ingress: Ingress | None = None
    done: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    started: threading.Event = field(default_factory=threading.Event)

    def ask(self, question: Coroutine[Any, Any, T]) -> T:
        assert self.loop is not None
        return asyncio.run_coroutine_threadsafe(question, self.loop).result(30)

    def tell(self, event: asyncio.Event) -> None:
        assert self.loop is not None
        self.loop.call_soon_threadsafe(event.set)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Serve in a thread of its own."""
        thread = threading.Thread(target=asyncio.run, args=(self.serve(),))
        thread.start()
        try:
            assert self.started.wait(30)
            yield
        finally:
            self.tell(self.stopping)
            thread.join(30)

    def records(self, name: str) -> list[Record]:
        """Return the decisions about a schedule, oldest first."""
        assert self.ingress is not None
        found = self.ask(self.ingress.ledger.records(schedule_id=f"Shop.v1.{name}"))
        return list(found)[::-1]

    def runs(self, name: str) -> list[Run]:
        assert self.ingress is not None
        return list(self.ask(self.ingress.ledger.runs(schedule_id=f"Shop.v1.{name}")))

    async def serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        shop, queues = Service("Shop", version="1"), Queues()
        self._declare(shop, queues)
        parts: dict[str, Any] = {"event_bridge": MemoryEventBridge(), "queue_bridge": queues}
        ledger = MemoryLedger()
        async with (
            Ingress([shop], ledger=ledger, **parts) as self.ingress,
            Host(shop, ledger=ledger, grace=timedelta(0), **parts),
        ):
            verifier = BearerVerifier(Secret.inline(TOKEN))
            app = self._noting(ingress_app(self.ingress, verifiers=[verifier]))
            config = uvicorn.Config(
                app, host="127.0.0.1", port=0, log_level="error", lifespan="off"
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            self.port = server.servers[0].sockets[0].getsockname()[1]
            self.started.set()
            await self.stopping.wait()
            self.may_go_on.set()
            server.should_exit = True
            await serving
        for bridge in parts.values():
            await bridge.close()

    def _noting(self, app: Any) -> Any:
        """Note which runs are asked for, and what triggers are answered."""

        async def noted(scope: Any, receive: Any, send: Any) -> None:
            async def sending(message: Any) -> None:
                if "status" in message and scope["path"] == "/triggers":
                    self.answers.append(message["status"])
                await send(message)

            if scope["method"] == "GET":
                self.asked.append(scope["path"].rpartition("/")[2])
            await app(scope, receive, sending)

        return noted

    def asked_for(self) -> set[str]:
        """Return the schedules whose runs were asked for."""
        return {name for name in NAMES if any(run.run_id in self.asked for run in self.runs(name))}

    def _declare(self, shop: Service, queues: Queues) -> None:
        jobs = shop.queue("jobs", str, max_attempts=1)
        for name in NAMES:
            shop.schedule(name).enqueue(
                jobs,
                expression=Cron(self.cron),
                payload=f"{name} {{nominal_time:%H}}",
                missed_run_policy="runOnce",
            )
        self.fingerprint = fingerprint(shop.schedules["sent"])

        @shop.worker(jobs, concurrency=8)
        async def work(text: str, ctx: Context) -> None:
            name = text.partition(" ")[0]
            try:
                if name in ("stopped", "held"):
                    await asyncio.Event().wait()
                if name == "waited":
                    await self.may_go_on.wait()
            except asyncio.CancelledError:
                self.cancelled.append(name)
                raise
            self.done.append(text)


@dataclass(frozen=True, slots=True)
class Running:
    """The instance, and the shop whose schedules it fires."""

    airflow: airflow.Airflow
    shop: Shop

    def wait_for(self, what: str, condition: Callable[[], T]) -> T:
        """Return what a condition says as soon as it holds."""
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.1)
        raise AssertionError(f"not in time: {what}\n{self.airflow.said()}")

    def wait_for_questions(self) -> None:
        """Return when the run of every deferred task was asked for, from now on."""
        del self.shop.asked[:]
        self.wait_for("questions", lambda: {*DEFERRED} <= self.shop.asked_for())

    def state(self, dag_id: str) -> str | None:
        return self.airflow.states(dag_id).get("trigger")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    last = datetime.now(UTC) - timedelta(minutes=30)
    folder, shop = tmp_path_factory.mktemp("dags"), Shop(f"0 {last.hour} * * *")
    with shop.open():
        dags = DAGS.replace("FINGERPRINT", shop.fingerprint).replace("CRON", shop.cron)
        (folder / "triggers.py").write_text(dags)
        connection = {"conn_type": "http", "host": "127.0.0.1", "schema": "http"}
        variables = {
            "PYTHONPATH": str(SOURCE),
            "AIRFLOW_CONN_PURISTA_INGRESS": json.dumps(
                {**connection, "port": shop.port, "password": TOKEN}
            ),
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "3",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        }
        with airflow.standalone(folder, variables=variables) as instance:
            yield Running(instance, shop)


def test_a_slot_reaches_the_ingress_with_the_token_of_the_connection(running: Running) -> None:
    run = running.airflow.wait_for_run("sent", within=PATIENCE)
    record, *again = running.shop.records("sent")
    assert {each.verdict for each in again} <= {"duplicate"}
    assert (run.state, record.verdict, record.source) == ("success", "accepted", "airflow/sent")
    assert record.nominal_time == run.run_after
    assert "version of the contract" not in record.reason


def test_a_dispatch_that_failed_is_tried_again_and_runs_once(running: Running) -> None:
    assert running.airflow.wait_for_run("busy", within=PATIENCE).state == "success"
    records = running.shop.records("busy")
    assert running.shop.answers.count(503) == 1
    assert len(records) > 1
    assert len({each.run_id for each in records}) == 1
    assert len([text for text in running.shop.done if text.startswith("busy")]) == 1


def test_what_no_other_try_mends_fails_at_once(running: Running) -> None:
    assert running.airflow.wait_for_run("wrong", within=PATIENCE).state == "failed"
    assert running.shop.answers.count(404) == 1


def test_a_run_that_a_person_makes_is_a_manual_trigger_with_a_payload_of_its_own(
    running: Running,
) -> None:
    running.airflow.command("dags", "trigger", "clicked", "--conf", '{"day": "clicked by hand"}')
    run = running.airflow.wait_for_run("clicked", within=PATIENCE)
    record, *again = running.shop.records("clicked")
    assert {each.verdict for each in again} <= {"duplicate"}
    assert (run.state, record.reason) == ("success", "sent by a person")
    assert record.nominal_time == run.run_after
    assert "clicked by hand" in running.shop.done


@pytest.fixture(scope="module")
def restarted(running: Running) -> Iterator[Running]:
    """Airflow with a triggerer, after another was killed at its work."""
    running.wait_for("deferred tasks", lambda: {*map(running.state, DEFERRED)} == {"deferred"})
    with running.airflow.triggerer():
        running.wait_for_questions()
    with running.airflow.triggerer():
        running.wait_for_questions()
        yield running


def test_a_task_waits_without_a_worker_through_a_restart_of_the_triggerer(
    restarted: Running,
) -> None:
    assert restarted.state("waited") == "deferred"
    restarted.shop.tell(restarted.shop.may_go_on)
    assert restarted.airflow.wait_for_run("waited", within=PATIENCE).state == "success"
    assert [run.outcome for run in restarted.shop.runs("waited")] == ["acked"]


def test_a_task_that_is_cleared_while_it_waits_cancels_its_run(restarted: Running) -> None:
    shop, wanted = restarted.shop, {"stopped", "held"}
    restarted.airflow.command("tasks", "clear", "--yes", "stopped")
    restarted.wait_for("cancelled handlers", lambda: wanted <= set(shop.cancelled))
    assert restarted.airflow.wait_for_run("stopped", within=PATIENCE).state == "failed"
    for name in wanted:
        assert [run.outcome for run in shop.runs(name)] == ["cancelled"]
        first, *again = shop.records(name)
        assert first.verdict == "accepted"
        assert {each.verdict for each in again} == {"duplicate"}, "cleared tasks send again"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the operator says of itself, without an instance."""
    home = tmp_path_factory.mktemp("home")
    done = subprocess.run(
        [str(airflow.python()), str(PROGRAM), str(PAGE)],
        env={
            **airflow._environment(home),
            "PYTHONPATH": str(SOURCE),
            "PYTHONWARNINGS": ",".join(f"error::DeprecationWarning:{each}" for each in OURS),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_trigger_can_go_to_a_broker_as_a_cloudevent(answers: dict[str, Any]) -> None:
    queue, topic = answers["messages"]
    sent = Trigger.from_json(queue.pop("message_body"))
    message = topic.pop("message")
    published = Trigger.from_json(message["data"])
    assert queue == {
        "aws_conn_id": "aws_default",
        "queue_url": "https://sqs.eu-central-1.amazonaws.com/1/x",
    }
    assert topic == {"gcp_conn_id": "google_cloud_default", "project_id": "p", "topic": "t"}
    assert message["attributes"] == {"content-type": "application/cloudevents+json"}
    assert (sent.id, sent.fingerprint, sent.manual) == ("S.v1.x/2027-03-01T12:00:00Z", "f", False)
    assert (published.data, published.manual, published.source) == ({"day": 1}, True, "airflow/d")


def test_a_task_is_tried_for_ten_minutes_unless_its_dag_says_otherwise(
    answers: dict[str, Any],
) -> None:
    assert answers["tries"] == [[1, 10.0], [3, 10.0], [6, 10.0]]


def test_what_another_try_mends_is_tried_again_and_nothing_else(answers: dict[str, Any]) -> None:
    again = {status for status, kind in answers["refusals"].items() if kind == "AirflowException"}
    assert again == {"408", "429", "500", "502", "503"}
    assert {answers["refusals"][each] for each in ("400", "401")} == {"AirflowFailException"}


def test_a_connection_says_where_the_ingress_is_and_shows_no_token(
    answers: dict[str, Any],
) -> None:
    found = [tuple(each[:3]) for each in answers["addresses"]]
    assert found == [
        ("https://a.example.com", None, False),
        ("http://a:80", None, True),
        ("https://a/base", "sesame", False),
    ]
    assert "sesame" not in answers["addresses"][2][3]


def test_a_task_fails_with_its_run_and_is_skipped_where_nothing_ran(
    answers: dict[str, Any],
) -> None:
    refused, acked, *bad, skipped = answers["endings"]
    assert refused == ["AirflowFailException", "ingress x: it answered 401"]
    assert (acked["decision"], acked["outcome"]) == ("accepted", "acked")
    assert [each[0] for each in bad] == ["AirflowFailException"] * 3
    assert bad[0][1] == "run r of schedule S.v1.x: ended failed: broken"
    assert skipped == ["AirflowSkipException", "duplicate: it was skipped before"]


def test_what_is_wrong_with_an_operator_is_said(answers: dict[str, Any]) -> None:
    assert answers["both"] == [
        "ValueError",
        "wait_for_run needs the ingress's answer, and a message has none",
    ]
    assert answers["wrong"][0] == "AirflowFailException"
    assert "attribute 'subject'" in answers["wrong"][1]
    assert answers["empty"] == [
        "AirflowFailException",
        "connection 'purista_ingress': inline: it is empty; give it a secret",
    ]


def test_the_examples_of_the_page_load(answers: dict[str, Any]) -> None:
    assert answers["documented"] == 2


def test_a_trigger_that_the_ingress_refuses_tells_why_and_is_rebuilt_from_two_words(
    answers: dict[str, Any],
) -> None:
    [event] = answers["event"]
    assert "it answered 401" in event["failed"]
    place = "purista.ingress.airflowrun.RunEndTrigger"
    assert answers["serialized"] == [place, {"run_id": "r", "connection": "c"}]

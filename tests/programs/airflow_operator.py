"""What the operator does without an instance, as JSON; runs in Airflow's own environment."""

import asyncio
import json
import re
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace

from airflow.sdk import DAG, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from purista.ingress.airflow import PubSubTopic, PuristaTriggerOperator, SqsQueue
from purista.ingress.airflowrun import Address, RunEndTrigger, address_of

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
SENT = []


class Hook:
    """Stands for the hooks of two providers, which are not installed."""

    def __init__(self, **options):
        self.options = options

    def send_message(self, **arguments):
        SENT.append({**self.options, **arguments})

    def publish(self, **arguments):
        [message] = arguments.pop("messages")
        message["data"] = message["data"].decode()
        SENT.append({**self.options, **arguments, "message": message})


for place, name in (
    ("airflow.providers.amazon.aws.hooks.sqs", "SqsHook"),
    ("airflow.providers.google.cloud.hooks.pubsub", "PubSubHook"),
):
    parts = place.split(".")
    for end in range(3, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:end]), ModuleType(".".join(parts[:end])))
    setattr(sys.modules[place], name, Hook)


class Refusing(BaseHTTPRequestHandler):
    """Answers as it is told by the path's first part."""

    def do_GET(self):
        self.send_response(401)
        self.end_headers()

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


def context(kind="scheduled"):
    run = SimpleNamespace(dag_id="d", run_after=NOON, run_type=SimpleNamespace(value=kind))
    return {"dag_run": run}


def operator(**options):
    return PuristaTriggerOperator(**{"task_id": "t", "schedule_id": "S.v1.x", **options})


def raised(call):
    try:
        return call()
    except (AirflowException, AirflowFailException, AirflowSkipException, ValueError) as error:
        return [type(error).__name__, str(error)]


def messages():
    url = "https://sqs.eu-central-1.amazonaws.com/1/x"
    operator(to=SqsQueue(url), fingerprint="f").execute(context())
    operator(to=PubSubTopic("p", "t"), data={"day": 1}).execute(context("manual"))
    return SENT


def tries():
    with DAG("d", default_args={"retries": 1}):
        given, own = operator(), operator(task_id="u", retries=3)
    alone = operator()
    return [[each.retries, each.retry_delay / timedelta(seconds=1)] for each in (given, own, alone)]


def addresses():
    return [
        [found.url, found.token, found.plain_http, repr(found)]
        for found in (
            address_of(Connection(conn_id="c", conn_type="http", **options))
            for options in (
                {"host": "a.example.com"},
                {"host": "a", "schema": "http", "port": 80, "extra": '{"plain_http": true}'},
                {"host": "https://a/base", "password": "sesame"},
            )
        )
    ]


def refusals(port):
    def accept(status, **options):
        one = operator(**options)
        trigger = one._trigger(context())
        address = Address(f"http://127.0.0.1:{port}/{status}", None)
        return raised(lambda: asyncio.run(one._accept(address, trigger)))

    return {str(status): accept(status)[0] for status in (400, 401, 408, 429, 500, 502, 503)}


def endings():
    one, carried = operator(), {"decision": "accepted", "reason": "", "run_id": "r"}
    events = [
        {"failed": "ingress x: it answered 401"},
        {"status": "ended", "outcome": "acked"},
        {"status": "ended", "outcome": "failed: broken"},
        {"status": "expired", "outcome": "run_timeout"},
        {"status": "unknown", "outcome": ""},
    ]
    found = [raised(lambda event=event: one.resume({}, event, carried)) for event in events]
    again = carried | {"decision": "duplicate", "reason": "it was skipped before"}
    return [*found, raised(lambda: one.resume({}, events[-1], again))]


async def event_of(port):
    class Found(RunEndTrigger):
        async def _address(self):
            return Address(f"http://127.0.0.1:{port}", None)

    return [event.payload async for event in Found(run_id="r", connection="c").run()]


def documented(page):
    """Run the examples of a page; return how many there are."""
    blocks = re.findall(r"^```py\n(.*?)^```$", Path(page).read_text(), re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(block, {})
    return len(blocks)


def main():
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_port
    return {
        "messages": messages(),
        "tries": tries(),
        "addresses": addresses(),
        "refusals": refusals(port),
        "endings": endings(),
        "event": asyncio.run(event_of(port)),
        "both": raised(lambda: operator(to=SqsQueue("x"), wait_for_run=True)),
        "wrong": raised(lambda: operator(schedule_id="", to=SqsQueue("x")).execute(context())),
        "empty": raised(
            lambda: asyncio.run(
                operator()._accept(Address("https://a", ""), operator()._trigger(context()))
            )
        ),
        "documented": documented(sys.argv[1]),
        "serialized": RunEndTrigger(run_id="r", connection="c").serialize(),
    }


sys.stdout.write("\n" + json.dumps(main()) + "\n")

"""DAG files: what is in them, and what Airflow makes of the messages to brokers."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.engines import airflow

from purista.cover import Line
from purista.expression import Cron
from purista.native.airflowsettings import AirflowSettings, MessageSettings
from purista.native.dagfile import DagFile
from purista.trigger import Trigger

SQS = {"kind": "sqs", "queue": "https://sqs.eu-central-1.amazonaws.com/1/triggers"}
PUBSUB = {"kind": "pubsub", "project": "billing", "topic": "triggers"}
ODD = 'It\'s “due” \U0001f600 {{ %s }} """\n\\'


def dag_file(kind: str = "http", **changes: Any) -> DagFile:
    values: dict[str, Any] = {
        "dag_id": "S.v1.x",
        "schedule_id": "S.v1.x",
        "fingerprint": "0123456789abcdef",
        "url": "https://triggers.example.com/triggers",
        "lines": (Line(Cron("30 4 * * *"), "UTC"),),
        "start": None,
        "end": None,
        "catchup": False,
        "max_active_runs": 16,
        "retries": 6,
        "jitter": timedelta(0),
        "description": "",
        "doc": "purista",
        "message": _message(kind),
    }
    return DagFile(**{**values, **changes})


def _message(kind: str) -> MessageSettings | None:
    table = {"http": None, "sqs": SQS, "pubsub": PUBSUB}[kind]
    given = {"start_date": "2027-01-01", "message": table}
    return AirflowSettings.model_validate(given).message


CHANGES: list[dict[str, Any]] = [
    {},
    {"jitter": timedelta(minutes=5)},
    {"start": datetime(2027, 1, 1, tzinfo=UTC), "pool": "triggers", "connection": "ingress"},
    {"lines": (Line(Cron("0 4 * * *"), "UTC"), Line(Cron("5 5 * * *"), "UTC"))},
    {"lines": ()},
]


@pytest.mark.parametrize("kind", ["http", "sqs", "pubsub"])
@pytest.mark.parametrize("changes", CHANGES)
def test_a_file_imports_nothing_but_airflow_and_only_what_it_uses(
    kind: str, changes: dict[str, Any]
) -> None:
    tree = ast.parse(dag_file(kind, **changes).text)
    imports = [each for each in tree.body if isinstance(each, ast.ImportFrom)]
    packages = {str(each.module).partition(".")[0] for each in imports}
    assert packages == {"airflow", "datetime"}
    assert not any(isinstance(each, ast.Import) for each in tree.body)
    names = {alias.name for each in imports for alias in each.names}
    used = {each.id for each in ast.walk(tree) if isinstance(each, ast.Name)}
    assert names <= used


@pytest.mark.parametrize("field", ["description", "doc", "schedule_id", "url"])
def test_a_text_of_the_contract_is_a_literal_whatever_is_in_it(field: str) -> None:
    tree = ast.parse(dag_file(**{field: ODD}).text)
    texts = [each.value for each in ast.walk(tree) if isinstance(each, ast.Constant)]
    assert ODD in texts


RENDER = """
import json, sys, types
from datetime import datetime
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import BaseOperator
from airflow.sdk.api.datamodels._generated import DagRun

class SqsPublishOperator(BaseOperator):
    template_fields = ("aws_conn_id", "region_name", "verify", "sqs_queue", "message_content",
        "delay_seconds", "message_attributes", "message_group_id", "message_deduplication_id")

    def __init__(self, *, sqs_queue, message_content, message_attributes=None, delay_seconds=0,
            message_group_id=None, message_deduplication_id=None, aws_conn_id="aws_default",
            region_name=None, verify=None, **options):
        super().__init__(**options)
        given = locals()
        for name in self.template_fields:
            setattr(self, name, given[name])

class PubSubPublishMessageOperator(BaseOperator):
    template_fields = ("project_id", "topic", "messages", "enable_message_ordering",
        "enable_open_telemetry_tracing", "impersonation_chain")

    def __init__(self, *, topic, messages, project_id=None, gcp_conn_id="google_cloud_default",
            enable_message_ordering=False, enable_open_telemetry_tracing=False,
            impersonation_chain=None, **options):
        super().__init__(**options)
        given = locals()
        for name in self.template_fields:
            setattr(self, name, given[name])

for path, operator in (("amazon.aws.operators.sqs", SqsPublishOperator),
        ("google.cloud.operators.pubsub", PubSubPublishMessageOperator)):
    module = types.ModuleType(f"airflow.providers.{path}")
    setattr(module, operator.__name__, operator)
    sys.modules[module.__name__] = module

def rendered(kind, run_type, time):
    bag = DagBag(Path(sys.argv[1]) / f"{kind}.py")
    assert not bag.import_errors, bag.import_errors
    [dag] = bag.dags.values()
    moment = datetime.fromisoformat(time)
    run = DagRun.model_validate({
        "dag_id": dag.dag_id, "run_id": "r", "run_after": time, "run_type": run_type,
        "logical_date": None, "data_interval_start": None, "data_interval_end": None,
        "start_date": None, "end_date": None, "state": "running", "conf": None,
        "clear_number": 0, "consumed_asset_events": [], "partition_key": None,
    })
    task = dag.get_task("trigger")
    task.render_template_fields({"dag_run": run})
    return {name: getattr(task, name) for name in task.template_fields}

print(json.dumps([rendered(*each) for each in json.load(sys.stdin)]))
"""
"""Airflow's own rendering. The operators stand in for those of two providers of hundreds of megabytes.

They have the arguments and the template fields of
https://github.com/apache/airflow/tree/main/providers/amazon/src/airflow/providers/amazon/aws/operators/sqs.py and
https://github.com/apache/airflow/tree/main/providers/google/src/airflow/providers/google/cloud/operators/pubsub.py
"""

RUNS = [
    ("scheduled", "2027-03-28T01:00:00+00:00"),
    ("manual", "2027-03-28T01:00:03.250000+00:00"),
    ("backfill", "2027-03-27T01:00:00+00:00"),
]


def test_a_message_to_a_broker_is_the_trigger_of_its_run(tmp_path: Path) -> None:
    for kind in ("sqs", "pubsub"):
        text = dag_file(kind, jitter=timedelta(minutes=1)).text
        (tmp_path / f"{kind}.py").write_text(text)
    sqs, pubsub = (_triggers(kind, tmp_path) for kind in ("sqs", "pubsub"))
    assert sqs == pubsub
    assert [(each.nominal_time, each.manual) for each in sqs] == [
        (datetime.fromisoformat(time), kind != "scheduled") for kind, time in RUNS
    ]
    assert {(each.schedule_id, each.fingerprint, each.source) for each in sqs} == {
        ("S.v1.x", "0123456789abcdef", "airflow/S.v1.x")
    }
    assert [each.id for each in sqs][:2] == [
        "S.v1.x/2027-03-28T01:00:00Z",
        "S.v1.x/2027-03-28T01:00:03.250000Z",
    ]


def _triggers(kind: str, folder: Path) -> list[Trigger]:
    done = subprocess.run(
        [airflow.python(), "-c", RENDER, str(folder)],
        input=json.dumps([(kind, *run) for run in RUNS]),
        env={"AIRFLOW_HOME": str(folder), "HOME": str(folder), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [_trigger(each) for each in json.loads(done.stdout.splitlines()[-1])]


def _trigger(rendered: Mapping[str, Any]) -> Trigger:
    if "message_content" in rendered:
        return Trigger.from_json(rendered["message_content"])
    [message] = rendered["messages"]
    return Trigger.from_headers(message["attributes"], b"")

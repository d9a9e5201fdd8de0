"""Airflow 3.3 in the tests: its timetables as recorded, its parser, and DAGs that really run.

The harness is ``engines/airflow.py``. One instance runs for all tests of this file that need one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.engines import airflow
from tests.engines.airflow import Case, Refusal

RECORDED = "airflow_3.3.2_CronTriggerTimetable"
CASES: list[dict[str, Any]] = [
    case | {"recorded": case["engines"][RECORDED]}
    for case in json.loads((Path(__file__).parent / "oracles/cron_cases.json").read_text())["cases"]
]
BERLIN = {"timezone": "Europe/Berlin"}
UTC_ZONE = {"timezone": "UTC"}


def test_cron_timetables_fire_as_recorded() -> None:
    cases = [case for case in CASES if isinstance(case["recorded"], list)]
    answers = airflow.fires([_cron_case(case) for case in cases])
    assert dict(_by_id(cases, answers)) == {
        case["id"]: [datetime.fromisoformat(text) for text in case["recorded"]] for case in cases
    }


def test_cron_timetables_are_refused_as_recorded() -> None:
    cases = [case for case in CASES if isinstance(case["recorded"], dict)]
    answers = airflow.fires([_cron_case(case) for case in cases])
    assert dict(_by_id(cases, answers)) == {
        case["id"]: Refusal(case["recorded"]["error"]) for case in cases
    }


def test_instants_that_several_crons_name_are_one_fire() -> None:
    crons = ["0 12 * * *", "0 */6 * * *"]
    [answer] = airflow.fires([_march("MultipleCronTriggerTimetable", crons, UTC_ZONE)])
    assert answer == [_at(day, hour) for day in (27, 28) for hour in (0, 6, 12, 18)] + [_at(29)]


def test_a_cron_beside_it_takes_a_fire_that_was_shifted_out_of_a_gap() -> None:
    """Each is asked for its next after the last fire of any: 02:30 is past when 03:00 has come."""
    alone, beside = airflow.fires(
        [
            _march("MultipleCronTriggerTimetable", ["30 2 * * *"], BERLIN),
            _march("MultipleCronTriggerTimetable", ["30 2 * * *", "0 2 * * *"], BERLIN),
        ]
    )
    assert isinstance(alone, list)
    assert isinstance(beside, list)
    assert _at(28, 1, 30) in alone
    assert [at for at in beside if at.day == 28] == [_at(28, 1)]


def test_events_fire_once_each_and_in_order() -> None:
    dates = [_at(28), _at(27, 12), _at(28)]
    [answer] = airflow.fires([_march("EventsTimetable", [dates], {})])
    assert answer == [_at(27, 12), _at(28)]


FILE = '''"""A DAG for each option."""
from datetime import UTC, datetime, timedelta
from airflow.sdk import DAG, CronTriggerTimetable, DeltaTriggerTimetable, EventsTimetable

seven = DeltaTriggerTimetable(timedelta(hours=7))
daily = CronTriggerTimetable("0 12 * * *", timezone="UTC")
march = datetime(2027, 3, 1, tzinfo=UTC)
monday = datetime(2027, 3, 29, 12, tzinfo=UTC)
dags = [
    DAG("caught_up", schedule=daily, start_date=datetime(2027, 3, 26, tzinfo=UTC), catchup=True),
    DAG("latest", schedule=daily, start_date=march, catchup=False),
    DAG("unstarted", schedule=daily, catchup=False),
    DAG("interval", schedule=seven, start_date=monday, catchup=True),
    DAG("anchorless", schedule=seven, start_date=march, catchup=False),
    DAG("bounded", schedule=daily, start_date=monday, end_date=monday, catchup=False),
    DAG("quiet", schedule=None, tags=["purista"], max_active_runs=1, is_paused_upon_creation=True),
    DAG("events", schedule=EventsTimetable([monday]), start_date=march, catchup=True),
    DAG("never", schedule=CronTriggerTimetable("0 0 30 2 *", timezone="UTC")),
]
for dag in dags:
    globals()[dag.dag_id] = dag
'''


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> airflow.Parsed:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "all.py").write_text(FILE)
    (folder / "wrong.py").write_text('from airflow.sdk import DAG\ndag = DAG("a b")\n')
    return airflow.parse(folder, start=_at(28), end=_at(30))


def test_with_catch_up_a_dag_fires_from_its_start_date_on(parsed: airflow.Parsed) -> None:
    assert parsed.dags["caught_up"].fires == [_at(day, 12) for day in (26, 27, 28, 29)]


def test_without_catch_up_the_latest_slot_is_fired_at_deployment(parsed: airflow.Parsed) -> None:
    assert parsed.dags["latest"].fires == [_at(day, 12) for day in (27, 28, 29)]


def test_a_dag_without_a_start_date_waits_for_its_next_slot(parsed: airflow.Parsed) -> None:
    assert parsed.dags["unstarted"].fires == [_at(day, 12) for day in (28, 29)]


def test_an_interval_keeps_to_its_start_date_with_catch_up_only(parsed: airflow.Parsed) -> None:
    assert parsed.dags["interval"].fires == [_at(29, 12), _at(29, 19)]
    assert parsed.dags["anchorless"].fires[:2] == [_at(28), _at(28, 7)]


def test_bounds_on_one_slot_make_a_one_shot(parsed: airflow.Parsed) -> None:
    assert parsed.dags["bounded"].fires == [_at(29, 12)]


def test_what_a_dag_says_of_itself_is_parsed(parsed: airflow.Parsed) -> None:
    quiet = parsed.dags["quiet"]
    assert (quiet.file, quiet.tags, quiet.max_active_runs, quiet.paused, quiet.fires) == (
        "all.py",
        ["purista"],
        1,
        True,
        [],
    )


def test_a_timetable_that_the_scheduler_could_not_read_is_a_refusal(parsed: airflow.Parsed) -> None:
    """The SDK's EventsTimetable is broken in 3.3.2: github.com/apache/airflow/pull/69401."""
    reasons = {name: dag.refused for name, dag in parsed.dags.items() if dag.refused}
    assert reasons == {
        "events": "SerializationError: Failed to serialize DAG 'events': '_summary'",
        "never": "CroniterBadDateError: failed to find prev date",
    }


def test_a_file_that_does_not_load_is_an_import_error(parsed: airflow.Parsed) -> None:
    assert list(parsed.import_errors) == ["wrong.py"]
    assert "alphanumeric characters, dashes, dots" in parsed.import_errors["wrong.py"]


def test_parsing_is_timed_by_file(parsed: airflow.Parsed) -> None:
    assert sorted(parsed.seconds) == ["all.py", "wrong.py"]
    assert max(parsed.seconds.values()) < 5


TRIGGERS = '''"""DAGs that call a server with the slot they run for."""
from datetime import datetime, timedelta
from airflow.sdk import DAG, CronTriggerTimetable, task


@task(retries=3, retry_delay=timedelta(seconds=1), execution_timeout=timedelta(seconds=30))
def trigger(**context):
    import json
    from urllib.request import Request, urlopen

    run = context["dag_run"]
    body = {{"dag_id": run.dag_id, "run_id": run.run_id, "run_after": run.run_after.isoformat()}}
    headers = {{"Content-Type": "application/json"}}
    request = Request("{url}", data=json.dumps(body).encode(), headers=headers)
    with urlopen(request, timeout=10):
        pass


def add(name, start, end=None, cron="0 * * * *", **options):
    schedule = CronTriggerTimetable(cron, timezone="Asia/Kolkata")
    ends = end and datetime.fromisoformat(end)
    with DAG(name, schedule=schedule, start_date=datetime.fromisoformat(start), end_date=ends, **options) as dag:
        trigger()
    globals()[name] = dag


add("refused_once", "{long_ago}", catchup=False)
add("caught_up", "{three_hours_ago}", catchup=True, max_active_runs=1)
add("one_shot", "{minute}", end="{minute}", cron="* * * * *", catchup=True)
add("tomorrow", "{tomorrow}", catchup=False)
add("paused", "{long_ago}", catchup=False, is_paused_upon_creation=True)
'''


@dataclass(frozen=True, slots=True)
class Running:
    """The instance, the calls that its tasks made, and when its files were written."""

    airflow: airflow.Airflow
    calls: list[dict[str, str]]
    began: datetime

    def slots(self, dag_id: str) -> list[datetime]:
        """Return the ``run_after`` of each call for a DAG, in order of arrival."""
        found = (call["run_after"] for call in self.calls if call["dag_id"] == dag_id)
        return [datetime.fromisoformat(text) for text in found]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("triggers")
    began = datetime.now(UTC)
    calls: list[dict[str, str]] = []
    with _server(calls) as url:
        (folder / "triggers.py").write_text(_triggers(url, began))
        with airflow.standalone(folder) as instance:
            yield Running(instance, calls, began)


def test_a_run_calls_with_its_slot_and_a_retry_with_the_same(running: Running) -> None:
    run = running.airflow.wait_for_run("refused_once")
    assert run.state == "success"
    assert run.run_after in {_latest(running.began), _latest(run.started)}
    assert running.slots("refused_once")[:2] == [run.run_after] * 2


def test_catch_up_runs_every_slot_from_the_start_date_oldest_first(running: Running) -> None:
    latest = _latest(running.began)
    wanted = [latest - timedelta(hours=back) for back in (2, 1, 0)]
    running.airflow.wait_for_run("caught_up", count=len(wanted))
    assert running.slots("caught_up")[: len(wanted)] == wanted


def test_a_one_shot_that_is_past_runs_once(running: Running) -> None:
    run = running.airflow.wait_for_run("one_shot")
    assert run.run_after == running.began.replace(second=0, microsecond=0)
    assert running.slots("one_shot") == [run.run_after]


@pytest.mark.parametrize("dag_id", ["tomorrow", "paused"])
def test_a_dag_of_tomorrow_or_a_paused_one_does_not_run(running: Running, dag_id: str) -> None:
    running.airflow.wait_for_run("caught_up")
    assert running.airflow.parsed(dag_id)
    assert running.airflow.runs(dag_id) == []


def test_nothing_of_an_instance_is_left_when_it_ends(tmp_path: Path) -> None:
    with airflow.standalone(tmp_path) as instance:
        assert airflow.members(instance.session.pid)
    assert airflow.members(instance.session.pid) == []
    assert not instance.home.exists()


def _cron_case(case: dict[str, Any]) -> Case:
    return Case(
        "CronTriggerTimetable",
        [case["expr"]],
        datetime.fromisoformat(case["start"]),
        datetime.fromisoformat(case["end"]),
        options={"timezone": case["timezone"]},
        limit=case["n"],
    )


def _by_id(cases: list[dict[str, Any]], answers: list[Any]) -> Iterator[tuple[str, Any]]:
    return zip((case["id"] for case in cases), answers, strict=True)


def _march(timetable: str, arguments: list[Any], options: Mapping[str, object]) -> Case:
    return Case(timetable, arguments, _at(27), _at(29), options=options)


def _at(day: int, hour: int = 0, minute: int = 0) -> datetime:
    """A time in March 2027, in UTC; Berlin's clocks go forward on the 28th at 01:00."""
    return datetime(2027, 3, day, hour, minute, tzinfo=UTC)


def _latest(now: datetime | None) -> datetime:
    """Return the latest full hour in Kolkata, which is half past in UTC."""
    assert now is not None
    half = timedelta(minutes=30)
    return (now - half).replace(minute=0, second=0, microsecond=0) + half


def _triggers(url: str, now: datetime) -> str:
    return TRIGGERS.format(
        url=url,
        long_ago="2026-01-01T00:00:00+00:00",
        three_hours_ago=(_latest(now) - timedelta(hours=2, minutes=1)).isoformat(),
        minute=now.replace(second=0, microsecond=0).isoformat(),
        tomorrow=(now + timedelta(days=1)).isoformat(),
    )


@contextmanager
def _server(calls: list[dict[str, str]]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ingress, calls))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Ingress(BaseHTTPRequestHandler):
    """Notes each call; of ``refused_once`` it answers the first as a busy server does."""

    def __init__(self, calls: list[dict[str, str]], *arguments: Any) -> None:
        self.calls = calls
        super().__init__(*arguments)

    def do_POST(self) -> None:
        call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        first = call["dag_id"] not in [earlier["dag_id"] for earlier in self.calls]
        self.calls.append(call)
        self.send_response(503 if first and call["dag_id"] == "refused_once" else 202)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

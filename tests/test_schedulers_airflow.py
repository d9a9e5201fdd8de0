"""Airflow: what is compiled is parsed and fires as the contract says, and one DAG really runs.

The engine is Airflow 3.3.2 itself, see ``engines/airflow.py``.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, TypeGuard
from zlib import crc32

import pytest
from tests.engines import airflow
from tests.engines.airflow import Case

from purista.compiling import (
    Artifact,
    Compilation,
    Placed,
    Request,
    compile_schedules,
    default_horizon,
    place,
)
from purista.contract import Event, Schedule
from purista.dialect import clock_windows, windows_met
from purista.errors import PortabilityError, SettingsError
from purista.expression import Cron, Every, Once
from purista.firetimes import transitions
from purista.schedulers.airflow import SCHEDULER
from purista.settings import read_settings
from purista.testing.corpus import END, START
from purista.testing.scheduler_suite import SchedulerSuite
from purista.trigger import Trigger

GOLDENS = Path(__file__).parent / "goldens/compile/airflow"
DAY = timedelta(days=1)


@pytest.mark.usefixtures("running")
class TestAirflow(SchedulerSuite):
    """While Airflow's timetables are asked, the DAGs of the tests below run."""

    scheduler = SCHEDULER

    def fires(
        self, compilation: Compilation, start: datetime, end: datetime
    ) -> Mapping[str, Iterable[datetime]]:
        ways = tuple((each.name, _way(each)) for each in compilation.placed)
        found = _fires(compilation.artifacts, ways, start, end)
        return {each.schedule.id: found[each.name] for each in compilation.placed}

    def test_airflow_parses_every_file(self) -> None:
        compilation = self.compiled(self.contracts())
        parsed = _seen(compilation.artifacts)
        assert parsed.import_errors == {}
        assert {dag.dag_id: dag.refused for dag in parsed.dags.values() if dag.refused} == {}
        assert sorted(parsed.dags) == sorted(each.name for each in compilation.placed)
        sys.stdout.write(f"{1000 * median(parsed.seconds.values()):.1f} ms to parse a file\n")

    def test_names_of_files_differ_in_more_than_case(self) -> None:
        odd = [schedule(each) for each in ("x.y", "X.Y", "x" * 190, "x" * 189 + "X")]
        compilation = compiled(*odd)
        names = {each.path.lower() for each in compilation.artifacts}
        assert len(names) == len(odd)
        assert [each.name for each in compilation.placed] == sorted(each.id for each in odd)


def _way(placed: Placed) -> str:
    """Return how it is asked when a DAG fires: Airflow takes a millisecond or more for a slot.

    ``parsed``: the DAG as its scheduler holds it, over the whole time. ``asked``: its timetable, which
    takes a third of that. ``repeated``: its timetable, around each clock change and one day between,
    which stands for the others as its lines name no days.
    """
    schedule, crons = placed.schedule, [line.cron for line in placed.cover.lines]
    if isinstance(schedule.expression, Once) or schedule.start_at or schedule.end_at:
        return "parsed"
    lines = placed.cover.lines
    if any(windows_met(each.cron, clock_windows(each.timezone, START, END)) for each in lines):
        return "parsed" if not crons[0].hour.is_all else "repeated"
    is_daily = all(each.deciding_days == "none" and each.month.is_all for each in crons)
    return "repeated" if is_daily else "asked"


@lru_cache(maxsize=2)
def _fires(
    artifacts: tuple[Artifact, ...],
    ways: tuple[tuple[str, str], ...],
    start: datetime,
    end: datetime,
) -> Mapping[str, Iterable[datetime]]:
    """Return when each DAG fires, as Airflow says."""
    way_of, dags = dict(ways), _seen(artifacts).dags
    files = {dag.file for name, dag in dags.items() if way_of[name] == "parsed"}
    with ThreadPoolExecutor(2) as threads:
        kept = [each for each in artifacts if each.path in files]
        parsed = threads.submit(_parsed, kept, start, end)
        stretches = [
            (name, dag.timetable, stretch)
            for name, dag in dags.items()
            for stretch in _stretches(dag.timetable, way_of[name], start, end)
        ]
        found = _stretched(stretches)
        found |= {name: dag.fires for name, dag in parsed.result().dags.items()}
    return {name: [at for at in found.get(name, ()) if start <= at <= end] for name in dags}


@lru_cache(maxsize=1)
def _seen(artifacts: tuple[Artifact, ...]) -> airflow.Parsed:
    return _parsed(artifacts, START)


def _parsed(
    artifacts: Iterable[Artifact], start: datetime, end: datetime | None = None
) -> airflow.Parsed:
    with TemporaryDirectory() as name:
        for each in artifacts:
            (Path(name) / each.path).write_text(each.text)
        return airflow.parse(Path(name), start=start, end=end or start, limit=1_000_000)


@dataclass(frozen=True)
class Stretch:
    """A time; ``asked`` of its days are asked, and the last of these may be repeated to the end."""

    start: datetime
    end: datetime
    asked: int
    is_repeated: bool = False

    def case(self, timetable: Mapping[str, Any]) -> Case:
        said = timetable["__var"]
        texts = said["expressions"] if "expressions" in said else [said["expression"]]
        name = timetable["__type"].rpartition(".")[2]
        end = min(self.start + self.asked * DAY, self.end)
        return Case(name, texts, self.start, end, {"timezone": said["timezone"]}, limit=1_000_000)

    def times(self, fired: Sequence[datetime]) -> Iterator[datetime]:
        yield from fired
        last = self.start + (self.asked - 1) * DAY
        plain = [at for at in fired if last <= at < last + DAY]
        for day in range(1, (self.end - last) // DAY + 1 if self.is_repeated else 1):
            yield from (at + day * DAY for at in plain if at + day * DAY <= self.end)


def _stretches(
    timetable: Mapping[str, Any] | None, way: str, start: datetime, end: datetime
) -> Iterator[Stretch]:
    if timetable is None or "__var" not in timetable or "timezone" not in timetable["__var"]:
        return
    if way == "asked":
        yield Stretch(start, end, (end - start) // DAY)
    elif way == "repeated":
        changes = transitions(timetable["__var"]["timezone"], start, end)
        cuts = [start, *(each.instant - DAY for each in changes), end]
        yield from (Stretch(*each, asked=3, is_repeated=True) for each in pairwise(cuts))


def _stretched(
    asked: Sequence[tuple[str, Any, Stretch]],
) -> dict[str, Iterable[datetime]]:
    answers = airflow.fires([stretch.case(timetable) for _, timetable, stretch in asked])
    found: dict[str, set[datetime]] = {}
    for (name, _, stretch), fired in zip(asked, answers, strict=True):
        assert isinstance(fired, list)
        found.setdefault(name, set()).update(stretch.times(fired))
    return dict(found)


BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def schedule(name: str = "x", **options: Any) -> Schedule:
    due = Event("due", str, service_name="S", service_version="1")
    values: dict[str, Any] = {"expression": Cron("0 4 * * *"), "payload": "due", **options}
    return Schedule(name=name, service_name="S", service_version="1", target=due, **values)


def request(table: Mapping[str, Any] | None = None, **ingress: str) -> Request:
    given = {"airflow": {"start_date": "2027-01-01", **(table or {})}, "ingress": ingress}
    found = read_settings(given, {"airflow": SCHEDULER.settings})
    return Request(found["airflow"], found["ingress"], default_horizon(START))  # type: ignore[arg-type]


def compiled(*schedules: Schedule, asked: Request | None = None) -> Compilation:
    return compile_schedules(SCHEDULER, schedules, asked or request())


def said(one: Schedule, asked: Request | None = None) -> dict[str, str]:
    """Return the arguments of the DAG, as they stand in its file."""
    [artifact] = compiled(one, asked=asked).artifacts
    [call] = [node for node in ast.walk(ast.parse(artifact.text)) if _is_dag(node)]
    return {each.arg or "": ast.unparse(each.value) for each in call.keywords}


def _is_dag(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "DAG"


DENSE = {"expression": Every(timedelta(minutes=7))}
SHIFTED = {"expression": Cron("30 2 * * *"), "timezone": BERLIN}


@pytest.mark.parametrize(
    ("options", "recovery", "catchup"),
    [
        ({}, "scheduler", False),
        ({"missed_run_policy": "runOnce"}, "scheduler", True),
        ({"missed_run_policy": "runOnce"}, "ingress", False),
        ({"missed_run_policy": "catchUp"}, "scheduler", True),
        ({"missed_run_policy": "catchUp"}, "ingress", True),
        (SHIFTED, "scheduler", False),
        (DENSE, "scheduler", True),
        (DENSE, "ingress", False),
        ({**DENSE, "misfire_grace": timedelta(seconds=30)}, "scheduler", False),
        ({**DENSE, "missed_run_policy": "catchUp", "enabled": False}, "scheduler", False),
    ],
)
def test_every_missed_slot_is_sent_where_the_ingress_needs_more_than_the_latest(
    options: dict[str, Any], recovery: str, catchup: bool
) -> None:
    asked = request(recovery=recovery)
    accepted = replace(asked, accepted=frozenset({"slots-before-the-deployment"}))
    found = said(schedule(**options), accepted)
    assert found["catchup"] == str(catchup)
    is_started = found["start_date"] == "datetime.fromisoformat('2027-01-01T00:00:00+00:00')"
    assert is_started == catchup


def test_a_dag_that_sends_very_many_slots_has_to_say_from_when_on() -> None:
    often: dict[str, Any] = {"expression": Cron("*/5 * * * *"), "missed_run_policy": "catchUp"}
    hints = {"airflow": {"start_date": "2027-06-01"}}
    with pytest.raises(PortabilityError, match=r"288 on a day.*deployed on 2027-01-31.*8640 late"):
        compiled(schedule(**often))
    changes: list[dict[str, Any]] = [
        {"start_at": START},
        {"provider_hints": hints},
        {"missed_run_policy": "skip"},
    ]
    for change in changes:
        compiled(schedule(**{**often, **change}))


def test_what_is_caught_up_is_sent_one_after_the_other() -> None:
    assert said(schedule(missed_run_policy="catchUp"))["max_active_runs"] == "1"
    assert said(schedule(concurrency_policy="forbid"))["max_active_runs"] == "16"


def test_what_begins_later_than_the_deployment_begins_then_on_a_whole_second() -> None:
    start = at("2027-05-01 10:00:00.25")
    found = said(schedule(missed_run_policy="catchUp", start_at=start))
    assert found["start_date"] == "datetime.fromisoformat('2027-05-01T10:00:01+00:00')"
    found = said(schedule(missed_run_policy="catchUp", start_at=at("2026-05-01")))
    assert found["start_date"] == "datetime.fromisoformat('2027-01-01T00:00:00+00:00')"


def test_bounds_are_inclusive_on_the_engine() -> None:
    bounds: dict[str, Any] = {
        "start_at": at("2027-03-02 04:00"),
        "end_at": at("2027-03-04 04:00"),
    }
    both = [schedule(each, missed_run_policy=each, **bounds) for each in ("skip", "catchUp")]
    dags = _parsed(compiled(*both).artifacts, START, END).dags
    days = [at(f"2027-03-0{day} 04:00") for day in (2, 3, 4)]
    assert {name: dag.fires for name, dag in dags.items()} == {
        "S.v1.skip": days,
        "S.v1.catchUp": days,
    }


@pytest.mark.parametrize("seen", ["2027-01-01", "2027-09-01"])
def test_a_one_shot_fires_once_even_when_it_is_seen_late(seen: str) -> None:
    once = Once(at("2027-03-28 01:30:20"))
    artifacts = compiled(schedule(expression=once, missed_run_policy="runOnce")).artifacts
    assert _parsed(artifacts, at(seen), END).dags["S.v1.x"].fires == [once.at]


def test_a_one_shot_between_two_seconds_is_left_out() -> None:
    odd = schedule(expression=Once(at("2027-03-28 01:30:20.5")))
    with pytest.raises(PortabilityError, match="one-shot"):
        compiled(odd)


def test_a_disabled_schedule_has_no_timetable_and_can_be_run_by_a_person() -> None:
    found = said(schedule(enabled=False))
    assert (found["schedule"], found["is_paused_upon_creation"]) == ("None", "False")


@pytest.mark.parametrize(
    ("options", "retries"),
    [
        ({"misfire_grace": timedelta(minutes=10)}, 6),
        ({"missed_run_policy": "catchUp", "catch_up_window": timedelta(hours=1)}, 11),
        ({"missed_run_policy": "catchUp", "catch_up_window": timedelta(days=9)}, 149),
    ],
)
def test_a_trigger_is_tried_again_while_it_is_worth_something(
    options: dict[str, Any], retries: int
) -> None:
    assert f"'retries': {retries}," in said(schedule(**options))["default_args"]


def test_the_tries_of_a_task_are_as_airflow_reads_them() -> None:
    [dag] = _parsed(compiled(schedule()).artifacts, START).dags.values()
    assert dag.tasks["trigger"] == {
        "retries": 6,
        "retry_delay": 10.0,
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": 600.0,
        "execution_timeout": 60.0,
    }


def test_jitter_ends_before_the_next_slot() -> None:
    often = schedule(expression=Cron("*/5 * * * *"), jitter=timedelta(minutes=30))
    assert "% 299)" in compiled(often).artifacts[0].text
    short = schedule(jitter=timedelta(milliseconds=20))
    assert "wait" not in compiled(short).artifacts[0].text


MESSAGES: dict[str, dict[str, Any]] = {
    "http": {"connection": "purista_ingress", "pool": "triggers"},
    "sqs": {
        "message": {"kind": "sqs", "queue": "https://sqs.eu-central-1.amazonaws.com/1/triggers"}
    },
    "pubsub": {"message": {"kind": "pubsub", "project": "billing", "topic": "triggers"}},
}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"start_date": None}, "start_date"),
        ({"start_date": "soon"}, "start_date"),
        ({"connection": "a b"}, "connection"),
        ({"message": {"kind": "sqs", "queue": "https://sqs/x.fifo"}}, "message.sqs.queue"),
        ({"message": {"kind": "sqs", "queue": "{{ x }}"}}, "message.sqs.queue"),
        ({"message": {"kind": "kafka"}}, "message"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, Any], place: str) -> None:
    with pytest.raises(SettingsError, match=rf"airflow\.{place}"):
        request(change)


@pytest.mark.parametrize("kind", MESSAGES)
def test_the_billing_example_compiles_to_its_goldens(
    kind: str, billing_example: ModuleType
) -> None:
    schedules = list(billing_example.billing.schedules.values())
    url = "https://triggers.example.com"
    asked = request(MESSAGES[kind], url=url, recovery="ingress")
    compilation = compiled(*schedules, asked=asked)
    files = {f"{each.path}.txt": each.text for each in compilation.artifacts}
    for name, given in (("", asked), ("-without-recovery", request(MESSAGES[kind], url=url))):
        _, found = place(SCHEDULER, schedules, given)
        files[f"findings{name}.txt"] = "".join(f"{each}\n" for each in found)
    folder = GOLDENS / kind
    if os.environ.get("UPDATE_GOLDENS"):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            (folder / path).write_text(text)
    assert {each.name: each.read_text() for each in folder.iterdir()} == files


@dataclass(frozen=True)
class Running:
    """A running Airflow that holds compiled schedules, and the ingress that its triggers reach."""

    airflow: airflow.Airflow
    calls: list[Call]
    folder: Path
    asked: Request
    minute: datetime

    def add(self, *schedules: Schedule) -> None:
        """Compile schedules into the folder that Airflow watches."""
        for artifact in compiled(*schedules, asked=self.asked).artifacts:
            (self.folder / artifact.path).write_text(artifact.text)

    def of(self, name: str) -> list[Call]:
        """Return the calls for a schedule, in order of arrival."""
        return [call for call in self.calls if call.trigger.schedule_id == f"S.v1.{name}"]


@dataclass(frozen=True)
class Call:
    """A request that reached the ingress, and what it was answered."""

    trigger: Trigger
    authorization: str | None
    arrived: datetime
    answer: int


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("dags")
    calls: list[Call] = []
    with _ingress(calls) as url, airflow.standalone(folder) as instance:
        _airflow(instance, "connections", "add", "ingress", "--conn-type", "http")
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        asked = request({"connection": "ingress", "start_date": "2026-01-01"}, url=url)
        running = Running(instance, calls, folder, asked, minute)
        running.add(*_running_schedules(minute))
        yield running


CAUGHT_UP, REFUSED, MOVED, DISABLED = "caughtUp", "refused", "moved", "disabled"
SECRET = "only-airflow-knows-it"


def _running_schedules(minute: datetime) -> Iterator[Schedule]:
    yield schedule(
        CAUGHT_UP,
        expression=Cron("* * * * *"),
        missed_run_policy="catchUp",
        start_at=minute - timedelta(minutes=3),
        end_at=minute - timedelta(minutes=2),
    )
    yield schedule(REFUSED, expression=Once(minute))
    yield schedule(MOVED, expression=Once(minute))
    yield schedule(DISABLED, expression=Cron("* * * * *"), enabled=False)


def test_a_slot_reaches_the_ingress_as_a_trigger_again_after_it_was_busy_and_in_order(
    running: Running,
) -> None:
    running.airflow.wait_for_run("S.v1.caughtUp", count=2)
    calls = running.of(CAUGHT_UP)
    slots = [running.minute - timedelta(minutes=back) for back in (3, 3, 2)]
    assert [each.trigger.nominal_time for each in calls] == slots
    assert [each.answer for each in calls] == [503, 202, 202]
    assert [each.trigger.manual for each in calls] == [False] * 3
    assert calls[0].trigger == calls[1].trigger
    assert calls[1].trigger.id == f"S.v1.caughtUp/{slots[0]:%Y-%m-%dT%H:%M:%SZ}"
    assert {each.authorization for each in calls} == {f"Bearer {SECRET}"}


@pytest.mark.parametrize(("name", "answer"), [(REFUSED, 422), (MOVED, 302)])
def test_what_no_other_try_can_mend_fails_at_once(running: Running, name: str, answer: int) -> None:
    assert running.airflow.wait_for_run(f"S.v1.{name}").state == "failed"
    assert [each.answer for each in running.of(name)] == [answer]


def test_a_trigger_with_jitter_waits_without_a_worker(running: Running) -> None:
    running.airflow.wait_for_run("S.v1.caughtUp")
    for wait in (timedelta(seconds=seconds) for seconds in (20, 60, 180)):
        name = f"waits{wait.seconds}"
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        jitter, until = _jitter(f"S.v1.{name}", minute, wait)
        running.add(schedule(name, expression=Once(minute), jitter=jitter))
        run = running.airflow.wait_for_run(f"S.v1.{name}", within=2 * wait + timedelta(minutes=2))
        assert run.state == "success"
        [call] = running.of(name)
        assert call.trigger.nominal_time == minute
        assert call.arrived >= until
        if rescheduled := running.airflow.rescheduled(f"S.v1.{name}"):
            assert rescheduled == [until]
            return
    raise AssertionError("Airflow began each run only after its jitter")


def _jitter(schedule_id: str, minute: datetime, wait: timedelta) -> tuple[timedelta, datetime]:
    """Return a jitter by which a slot of this minute waits for ``wait`` from now, and until when."""
    slot, soon = int(minute.timestamp()), datetime.now(UTC) + wait
    for seconds in range(60, 3600):
        late = (slot * 7919 + crc32(schedule_id.encode()) % seconds) % seconds
        moment = minute + timedelta(seconds=late)
        if soon <= moment < soon + timedelta(seconds=5):
            return timedelta(seconds=seconds), moment
    raise AssertionError("no jitter waits so long")


def test_a_disabled_schedule_runs_only_when_a_person_triggers_it(running: Running) -> None:
    running.airflow.wait_for_run("S.v1.caughtUp")
    assert running.airflow.runs("S.v1.disabled") == []
    _airflow(running.airflow, "dags", "trigger", "S.v1.disabled")
    run = running.airflow.wait_for_run("S.v1.disabled")
    [call] = running.of(DISABLED)
    assert (call.trigger.manual, call.trigger.nominal_time) == (True, run.run_after)


def _airflow(instance: airflow.Airflow, *words: str) -> None:
    """Say something to a running Airflow on its command line."""
    password = ["--conn-password", SECRET] if words[0] == "connections" else []
    environment = {"AIRFLOW_HOME": str(instance.home), "PATH": os.defpath, "HOME": "/nonexistent"}
    command = [str(airflow.python()), "-m", "airflow", *words, *password]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def _ingress(calls: list[Call]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, calls))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers as an ingress that is busy at first, and that knows one schedule no more."""

    def __init__(self, calls: list[Call], *arguments: Any) -> None:
        self.calls = calls
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        trigger = Trigger.from_headers(self.headers.items(), body)
        answer = {"S.v1.refused": 422, "S.v1.moved": 302}.get(trigger.schedule_id, 202)
        if not self.calls_of(trigger.schedule_id) and trigger.schedule_id == "S.v1.caughtUp":
            answer = 503
        token = self.headers["Authorization"]
        self.calls.append(Call(trigger, token, datetime.now(UTC), answer))
        self.send_response(answer)
        if answer == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()

    def calls_of(self, schedule_id: str) -> list[Call]:
        return [call for call in self.calls if call.trigger.schedule_id == schedule_id]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

"""A real Apache Airflow for tests: its timetables, its parser, and a running instance.

Airflow's dependencies conflict with ours, so it has a virtual environment of its own, made on first
use from ``airflow-constraints.txt``. Nothing here needs purista; Linux only (``/proc``).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.engines.ports import free_port

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE / "airflow-constraints.txt"
VENV = HERE.parents[1] / ".venv" / "engines" / "airflow"
PROCESSES = {
    "scheduler": "scheduler --skip-serve-logs",
    "dag-processor": "dag-processor",
    "api-server": "api-server --apps execution --host 127.0.0.1 --port {port} --workers 1",
}
FINISHED = frozenset({"success", "failed"})


class AirflowError(Exception):
    """Airflow could not be installed, asked or run; the message has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Case:
    """A timetable class of ``airflow.sdk``, its arguments, and a window (both ends inclusive)."""

    timetable: str
    arguments: Sequence[object]
    start: datetime
    end: datetime
    options: Mapping[str, object] = field(default_factory=dict)
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """Airflow refuses the timetable, or fails at it."""

    reason: str


@dataclass(frozen=True, slots=True)
class ParsedDag:
    """One DAG as Airflow's parser sees it; ``refused`` where its scheduler could not read it."""

    dag_id: str
    file: str
    timetable: Mapping[str, Any] | None
    fires: Sequence[datetime]
    refused: str | None
    start_date: datetime | None
    end_date: datetime | None
    catchup: bool
    max_active_runs: int
    paused: bool | None
    tags: Collection[str]
    description: str | None
    tasks: Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a folder of DAG files says; files are named relative to the folder."""

    dags: Mapping[str, ParsedDag]
    import_errors: Mapping[str, str]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A DAG run in Airflow's database."""

    run_id: str
    state: str
    run_after: datetime
    started: datetime | None


def python() -> Path:
    """Return the interpreter of Airflow's virtual environment, which the first caller makes."""
    VENV.parent.mkdir(parents=True, exist_ok=True)
    stamp, wanted = VENV / "stamp", _fingerprint()
    with (VENV.parent / "airflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            _install()
            stamp.write_text(wanted)
    return VENV / "bin" / "python"


def fires(cases: Sequence[Case]) -> list[list[datetime] | Refusal]:
    """Return the instants (``run_after``, in UTC) of each case, or its refusal; in one process."""
    answers = _ask({"cases": [_request(case) for case in cases]})
    return [
        Refusal(answer["refused"]) if "refused" in answer else _times(answer["fires"])
        for answer in answers
    ]


def parse(folder: Path, *, start: datetime, end: datetime, limit: int = 1000) -> Parsed:
    """Load a folder of DAG files with Airflow's own parser.

    The fires of a DAG are those of a scheduler that first sees it at ``start`` and is never late:
    with catch-up all since its start date, without it the latest at ``start``, and on to ``end``.
    """
    window = {"start": start.isoformat(), "end": end.isoformat(), "limit": limit}
    answer = _ask({"parse": {"folder": str(folder.resolve()), **window}})
    dags = [_dag(found) for found in answer["dags"]]
    return Parsed({dag.dag_id: dag for dag in dags}, answer["import_errors"], answer["seconds"])


@contextmanager
def standalone(folder: Path, *, variables: Mapping[str, str] | None = None) -> Iterator[Airflow]:
    """Run Airflow on a folder of DAG files; it is gone, and all that it started, at the end.

    A DAG starts unpaused unless it says otherwise. ``variables`` are further environment variables.
    """
    with TemporaryDirectory(prefix="airflow-") as home:
        port = free_port()
        environment = _environment(Path(home)) | _running(folder, port) | dict(variables or {})
        airflow = [str(python()), "-m", "airflow"]
        _checked([*airflow, "db", "migrate"], environment)
        session = _start(
            [_shell(airflow, Path(home), name, port) for name in PROCESSES], environment
        )
        try:
            yield Airflow(Path(home), session, environment)
        finally:
            _end_session(session)


@dataclass(frozen=True, slots=True)
class Airflow:
    """A running instance."""

    home: Path
    session: subprocess.Popen[bytes]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def command(self, *words: str) -> str:
        """Say something on Airflow's command line; return what it answers."""
        return _checked([str(python()), "-m", "airflow", *words], self.environment)

    @contextmanager
    def triggerer(self) -> Iterator[None]:
        """Run a triggerer, which tasks that are deferred need; it is killed at the end."""
        command = [str(python()), "-m", "airflow", "triggerer", "--skip-serve-logs"]
        with (self.home / "triggerer.log").open("ab") as log:
            leader = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield
        finally:
            _end_session(leader)

    def states(self, dag_id: str) -> dict[str, str | None]:
        """Return the state of each task of a DAG's latest run."""
        query = (
            "select task_id, state from task_instance where dag_id = ? and run_id ="
            " (select run_id from dag_run where dag_id = ? order by run_after desc limit 1)"
        )
        return dict(self._rows(query, dag_id, dag_id))

    def runs(self, dag_id: str) -> list[Run]:
        """Return the runs of a DAG, oldest first."""
        query = (
            "select run_id, state, run_after, start_date from dag_run"
            " where dag_id = ? order by run_after"
        )
        rows = self._rows(query, dag_id)
        return [Run(name, state, _stored(due), at and _stored(at)) for name, state, due, at in rows]

    def rescheduled(self, dag_id: str) -> list[datetime]:
        """Return until when tasks of the DAG waited without a worker, oldest first."""
        query = (
            "select reschedule_date from task_reschedule join task_instance"
            " on ti_id = task_instance.id where dag_id = ? order by reschedule_date"
        )
        return [_stored(until) for (until,) in self._rows(query, dag_id)]

    def parsed(self, dag_id: str) -> bool:
        """Tell whether the instance has read the DAG."""
        return bool(self._rows("select 1 from dag where dag_id = ?", dag_id))

    def wait_for_run(
        self, dag_id: str, *, count: int = 1, within: timedelta = timedelta(seconds=120)
    ) -> Run:
        """Return the ``count``-th run of the DAG as soon as it has ended, well or badly."""
        deadline = time.monotonic() + within.total_seconds()
        while time.monotonic() < deadline:
            ended = [run for run in self.runs(dag_id) if run.state in FINISHED]
            if len(ended) >= count:
                return ended[count - 1]
            if self.session.poll() is not None:
                raise AirflowError(f"Airflow ended by itself\n{self.said()}")
            time.sleep(0.1)
        raise AirflowError(f"{dag_id}: no {count} runs ended in {within}\n{self.said()}")

    def said(self) -> str:
        """Return the end of what each process wrote."""
        logs = sorted(self.home.glob("*.log"))
        return "\n".join(f"== {log.stem}\n{log.read_text()[-3000:]}" for log in logs)

    def _rows(self, query: str, *arguments: str) -> list[Any]:
        uri = f"file:{self.home / 'airflow.db'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as database:
            return database.execute(query, arguments).fetchall()


def members(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, _, _, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z":
                found.append(int(entry.name))
    return found


def _fingerprint() -> str:
    parts = [sys.version, str(VENV), CONSTRAINTS.read_text()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _install() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    environment = dict(os.environ, PIP_CONSTRAINT=str(CONSTRAINTS))
    _checked([sys.executable, "-m", "venv", str(VENV)], environment)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _checked([*pip, "-c", str(CONSTRAINTS), "apache-airflow"], environment)


def _ask(request: Mapping[str, Any]) -> Any:
    """Run the program beside this file in Airflow's environment."""
    with TemporaryDirectory(prefix="airflow-") as home:
        answer = Path(home) / "answer.json"
        program = [str(python()), "-P", str(HERE / "airflow_fires.py"), str(answer)]
        _checked(program, _environment(Path(home)), json.dumps(request))
        return json.loads(answer.read_text())


def _checked(command: Sequence[str], environment: Mapping[str, str], text: str = "") -> str:
    done = subprocess.run(
        command, env=environment, input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = f"{done.stdout}\n{done.stderr}"[-6000:]
        raise AirflowError(f"{' '.join(command)}: exit code {done.returncode}\n{said}")
    return done.stdout


def _environment(home: Path) -> dict[str, str]:
    """Only what Airflow needs, so that no setting of the machine reaches it."""
    return {
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _running(folder: Path, port: int) -> dict[str, str]:
    return {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder.resolve()),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(64),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "2",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    }


def _shell(airflow: Sequence[str], home: Path, name: str, port: int) -> str:
    """The line that starts a process and keeps what it says."""
    words = PROCESSES[name].format(port=port)
    return f"{shlex.join(airflow)} {words} >{shlex.quote(str(home / name))}.log 2>&1 &"


def _start(lines: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the processes in a session of their own, whose leader ends with the first of them."""
    script = "\n".join([*lines, "wait -n"])
    return subprocess.Popen(["bash", "-c", script], env=environment, start_new_session=True)


def _end_session(leader: subprocess.Popen[bytes]) -> None:
    """Kill every process of the session, by its id, until none is left."""
    while living := members(leader.pid):
        for process in living:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        leader.poll()
        time.sleep(0.02)
    leader.wait()


def _request(case: Case) -> dict[str, Any]:
    return {
        "class": case.timetable,
        "args": [_json(value) for value in case.arguments],
        "kwargs": {name: _json(value) for name, value in case.options.items()},
        "start": case.start.isoformat(),
        "end": case.end.isoformat(),
        "limit": case.limit,
    }


def _json(value: object) -> object:
    match value:
        case datetime():
            return {"time": value.isoformat()}
        case timedelta():
            return {"seconds": value.total_seconds()}
        case list() | tuple():
            return [_json(item) for item in value]
        case _:
            return value


def _dag(found: Mapping[str, Any]) -> ParsedDag:
    dates = {
        name: found[name] and datetime.fromisoformat(found[name])
        for name in ("start_date", "end_date")
    }
    return ParsedDag(**{**found, **dates, "fires": _times(found["fires"])})


def _times(texts: Sequence[str]) -> list[datetime]:
    return [datetime.fromisoformat(text) for text in texts]


def _stored(text: str) -> datetime:
    """Read a time of Airflow's SQLite database, which is in UTC and does not say so."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)

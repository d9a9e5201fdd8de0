"""A real Apache Airflow with its whole REST API, a user and a password; it reads changed files at once.

It has two DAG bundles: ``dags-folder``, and ``team-git``, which somebody else looks after.
"""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from tests.engines import airflow
from tests.engines.ports import free_port

PROCESSES = {
    **airflow.PROCESSES,
    "api-server": "api-server --host 127.0.0.1 --port {port} --workers 1",
}
STARTED = 120.0
WAITED = 60.0
USER = "admin"


@dataclass(frozen=True, slots=True)
class Server:
    """A running instance, and what a person does with its API; ``team`` is the folder of ``team-git``."""

    url: str
    password: str
    folder: Path
    team: Path
    client: httpx.Client

    def dag(self, name: str) -> dict[str, Any] | None:
        """Return the record of a DAG, a stale one too."""
        query = {"dag_id_pattern": name, "exclude_stale": "false", "limit": 100}
        found = self._get("/api/v2/dags", query)["dags"]
        return next((each for each in found if each["dag_id"] == name), None)

    def pause(self, name: str, paused: bool = True) -> None:
        """Do what the switch of a DAG does; again while its SQLite file is busy."""
        for _ in range(10):
            answer = self.client.patch(f"/api/v2/dags/{name}", json={"is_paused": paused})
            if answer.status_code < 500:
                break
            time.sleep(0.2)
        assert answer.is_success, answer.text

    def manual_runs(self, name: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG that somebody made; Airflow may have made some as well."""
        found = self._get(f"/api/v2/dags/{name}/dagRuns", {})["dag_runs"]
        return [each for each in found if each["run_type"] == "manual"]

    def wait_for(self, name: str, **wanted: object) -> dict[str, Any]:
        """Return the record of a DAG as soon as it says all that is wanted."""
        deadline = time.monotonic() + WAITED
        while time.monotonic() < deadline:
            found = self.dag(name)
            if found is not None and wanted.items() <= found.items():
                return found
            time.sleep(0.2)
        raise AssertionError(f"{name} is not {wanted} in time: {self.dag(name)}")

    def wait_for_error(self, file: str) -> None:
        """Return when Airflow says that a file cannot be imported."""
        deadline = time.monotonic() + WAITED
        while time.monotonic() < deadline:
            found = self._get("/api/v2/importErrors", {"limit": 100})["import_errors"]
            if file in {each["filename"] for each in found}:
                return
            time.sleep(0.2)
        raise AssertionError(f"{file} has no import error in time")

    def _get(self, path: str, query: dict[str, Any]) -> Any:
        answer = self.client.get(path, params=query)
        assert answer.is_success, answer.text
        return answer.json()


@contextmanager
def airflow_with_api(folder: Path) -> Iterator[Server]:
    """Run Airflow on a folder of DAG files; it is gone, and all that it started, at the end."""
    with TemporaryDirectory(prefix="airflow-") as name:
        home, port, password = Path(name), free_port(), secrets.token_hex(16)
        team = home / "team"
        team.mkdir()
        passwords = home / "passwords.json"
        passwords.write_text(json.dumps({USER: password}))
        environment = {
            **airflow._environment(home),
            **airflow._running(folder, port),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": _bundles(folder, team),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "1",
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
        }
        command = [str(airflow.python()), "-m", "airflow"]
        airflow._checked([*command, "db", "migrate"], environment)
        lines = [
            f"{shlex.join(command)} {words.format(port=port)} >{shlex.quote(str(home / each))}.log 2>&1 &"
            for each, words in PROCESSES.items()
        ]
        session = airflow._start(lines, environment)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                client.headers["Authorization"] = f"Bearer {_token(client, password, home)}"
                yield Server(str(client.base_url), password, folder, team, client)
        finally:
            airflow._end_session(session)


def _bundles(folder: Path, team: Path) -> str:
    kind = "airflow.dag_processing.bundles.local.LocalDagBundle"
    paths = {"dags-folder": folder, "team-git": team}
    return json.dumps(
        [
            {"name": name, "classpath": kind, "kwargs": {"path": str(path.resolve())}}
            for name, path in paths.items()
        ]
    )


def _token(client: httpx.Client, password: str, home: Path) -> str:
    """Return a token as soon as the API answers."""
    deadline = time.monotonic() + STARTED
    while time.monotonic() < deadline:
        try:
            answer = client.post("/auth/token", json={"username": USER, "password": password})
        except httpx.TransportError:
            time.sleep(0.2)
            continue
        assert answer.is_success, answer.text
        token: str = answer.json()["access_token"]
        return token
    logs = "\n".join(each.read_text()[-2000:] for each in home.glob("*.log"))
    raise airflow.AirflowError(f"its API does not answer\n{logs}")

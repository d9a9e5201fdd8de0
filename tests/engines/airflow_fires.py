"""Ask Airflow when a timetable fires, or what a folder of DAG files says: JSON in and out.

Runs in Airflow's own virtual environment, started by ``airflow.py`` beside it, with the question
on standard input and the name of the file for the answer (Airflow logs to standard output). Each timetable goes through Airflow's own encoder and back, as between its parser and its
scheduler. A DAG is asked as by a scheduler that first sees it at ``start`` and is never late: the
clock of the timetables stands at ``start``, and then at each fire in turn.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow.sdk
import airflow.timetables.events
import airflow.timetables.trigger
from airflow._shared.timezones import timezone
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.encoders import coerce_to_core_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from pendulum import instance

TASK_FIELDS = (
    "retries",
    "retry_delay",
    "retry_exponential_backoff",
    "max_retry_delay",
    "execution_timeout",
)


def main() -> None:
    request = json.load(sys.stdin)
    answer = parsed(request["parse"]) if "parse" in request else [*map(fires, request["cases"])]
    Path(sys.argv[1]).write_text(json.dumps(answer, default=plain))


def fires(case: dict[str, Any]) -> dict[str, Any]:
    """The instants of one case, or why Airflow refuses it."""
    start, end = (instance(datetime.fromisoformat(case[name])) for name in ("start", "end"))
    try:
        timetable = timetable_of(case)
        timetable.validate()
        found = runs(timetable, TimeRestriction(start, end, catchup=True), end, case["limit"])
        return {"fires": list(found)}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def timetable_of(case: dict[str, Any]) -> Any:
    maker = getattr(airflow.sdk, case["class"])
    if maker is airflow.sdk.EventsTimetable:  # 3.3.2 cannot decode what it encodes from this one
        maker = airflow.timetables.events.EventsTimetable
    arguments = [rich(value) for value in case["args"]]
    named = {name: rich(value) for name, value in case["kwargs"].items()}
    return coerce_to_core_timetable(maker(*arguments, **named))


def rich(value: Any) -> Any:
    """A value of JSON, in which an object stands for a time or a duration."""
    match value:
        case {"time": str(text)}:
            return instance(datetime.fromisoformat(text))
        case {"seconds": seconds}:
            return timedelta(seconds=seconds)
        case list():
            return [rich(item) for item in value]
        case _:
            return value


def runs(
    timetable: Any,
    restriction: TimeRestriction,
    end: datetime,
    limit: int,
    tick: Callable[[datetime], None] = lambda _: None,
) -> Iterator[datetime]:
    """``run_after`` of each run up to ``end``, ``limit`` at most."""
    last = None
    for _ in range(limit):
        info = timetable.next_dagrun_info_v2(last_dagrun_info=last, restriction=restriction)
        if info is None or info.run_after > end:
            return
        if last is not None and info.run_after <= last.run_after:
            raise ValueError(f"the timetable did not advance: {last.run_after}, {info.run_after}")
        yield info.run_after
        last = info
        tick(info.run_after)


def parsed(request: dict[str, Any]) -> dict[str, Any]:
    """What Airflow's parser makes of a folder."""
    bag = DagBag(request["folder"])
    folder = Path(request["folder"])
    errors = {relative(folder, name): text for name, text in bag.import_errors.items()}
    return {
        "dags": [described(dag, folder, request) for dag in bag.dags.values()],
        "import_errors": errors,
        "seconds": {stat.file: stat.duration.total_seconds() for stat in bag.dagbag_stats},
    }


def described(dag: Any, folder: Path, request: dict[str, Any]) -> dict[str, Any]:
    encoded: dict[str, Any] = {}
    found: list[datetime] = []
    refused = None
    try:
        encoded = DagSerialization.to_dict(dag)
        found = dag_fires(DagSerialization.from_dict(encoded), request)
    except Exception as error:
        refused = f"{type(error).__name__}: {error}"
    return {
        "dag_id": dag.dag_id,
        "file": relative(folder, dag.fileloc),
        "timetable": encoded.get("dag", {}).get("timetable"),
        "fires": found,
        "refused": refused,
        "start_date": dag.start_date,
        "end_date": dag.end_date,
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "paused": dag.is_paused_upon_creation,
        "tags": sorted(dag.tags),
        "description": dag.description,
        "tasks": {
            task.task_id: {name: getattr(task, name) for name in TASK_FIELDS} for task in dag.tasks
        },
    }


def dag_fires(dag: Any, request: dict[str, Any]) -> list[datetime]:
    start, end = (instance(datetime.fromisoformat(request[name])) for name in ("start", "end"))
    stand_at(start)
    restriction = dag._time_restriction
    return list(runs(dag.timetable, restriction, end, request["limit"], tick=stand_at))


def stand_at(now: datetime) -> None:
    """Set the clock that the timetables read."""
    for module in (
        timezone,
        airflow.timetables.trigger,
        sys.modules["airflow.timetables.interval"],
    ):
        if hasattr(module, "utcnow"):
            module.utcnow = lambda: instance(now)
    airflow.timetables.trigger.time = SimpleNamespace(time=now.timestamp)


def relative(folder: Path, name: str) -> str:
    path = Path(name)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else name


def plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return str(value)


if __name__ == "__main__":
    main()

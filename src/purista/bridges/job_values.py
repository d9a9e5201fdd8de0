"""A job as it is in a row: what is looked for has a column, the rest is JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from purista.bridges.port import Job
from purista.message import Message, RunInfo

_MICROSECOND = timedelta(microseconds=1)


def values_of(job: Job) -> tuple[int, str, bytes, str]:
    """Return the values of ``max_attempts``, ``message_id``, ``body`` and ``details``."""
    message = job.message
    details: dict[str, Any] = {
        "delay": job.delay // _MICROSECOND,
        "key": job.key,
        "dedupeWindow": job.dedupe_window // _MICROSECOND,
        "run": None if message.run is None else _run_values(message.run),
        "headers": None if message.headers is None else dict(message.headers),
    }
    return job.max_attempts, message.id, message.body, json.dumps(details)


def job_of(queue: str, values: Sequence[Any]) -> Job:
    """Return the job that has these values, in the order of ``values_of``."""
    max_attempts, message_id, body, text = values
    details = json.loads(text)
    run = None if details["run"] is None else _run(*details["run"])
    return Job(
        Message(queue, body, message_id, run, details["headers"]),
        max_attempts,
        details["delay"] * _MICROSECOND,
        details["key"],
        details["dedupeWindow"] * _MICROSECOND,
    )


def _run_values(run: RunInfo) -> Sequence[Any]:
    return [
        run.run_id,
        run.schedule_id,
        run.nominal_time.isoformat(),
        run.timezone,
        run.is_target,
    ]


def _run(
    run_id: str, schedule_id: str, nominal_time: str, timezone: str, is_target: bool
) -> RunInfo:
    return RunInfo(run_id, schedule_id, datetime.fromisoformat(nominal_time), timezone, is_target)

"""The real development server of Temporal, and when it says that a schedule is due.

`temporal_server` starts it without its web page, keeps everything in memory and in a temporary
folder, and stops it by its process id. `fires` creates a paused schedule, asks
``ListScheduleMatchingTimes`` and deletes it; no workflow ever runs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import temporalio.client
from google.protobuf.json_format import ParseDict
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.schedule.v1 import Schedule, ScheduleAction, ScheduleSpec, ScheduleState
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    ListScheduleMatchingTimesRequest,
)
from temporalio.client import Client
from tests.engines.ports import HOST, TRIES, free_port
from tests.engines.wallclock import WallClock

BINARY = Path(sys.executable).with_name("temporal")
NAMESPACE = "default"
PAGE = 1000
"""The server returns at most so many times, and does not say that there are more."""

ACTION = ScheduleAction(
    start_workflow=NewWorkflowExecutionInfo(
        workflow_id="never-run",
        workflow_type=WorkflowType(name="NeverRun"),
        task_queue=TaskQueue(name="nobody"),
    )
)

Spec = ScheduleSpec | temporalio.client.ScheduleSpec | Mapping[str, Any]
"""A message, the client's own value, or a document in the JSON form of protocol buffers."""


@asynccontextmanager
async def temporal_server() -> AsyncIterator[Client]:
    """Start a server on a free port; yield a client that is connected to it."""
    with tempfile.TemporaryDirectory(prefix="purista-temporal-") as folder:
        async with _server(Path(folder), (), None) as client:
            yield client


@asynccontextmanager
async def kept_server(folder: Path, *, ahead: timedelta | None = None) -> AsyncIterator[Client]:
    """Start a server that finds in ``folder`` what the one before it had, and yield a client.

    With ``ahead`` its wall clock shows a later time than the real one: it was away for so long.
    A clock that is put forward while a server runs would also cost it its task queues.
    """
    async with _server(folder, ("--db-filename", "kept.sqlite"), ahead) as client:
        yield client


@asynccontextmanager
async def _server(
    folder: Path, options: Sequence[str], ahead: timedelta | None
) -> AsyncIterator[Client]:
    """Start a server; another process can be faster on one of its ports, then it takes others."""
    async with AsyncExitStack() as stack:
        for attempt in range(TRIES):
            try:
                client = await stack.enter_async_context(_one_try(folder, options, ahead))
                break
            except RuntimeError:
                if attempt == TRIES - 1:
                    raise
        yield client


@asynccontextmanager
async def _one_try(
    folder: Path, options: Sequence[str], ahead: timedelta | None
) -> AsyncIterator[Client]:
    port = free_port()
    process = _started(port, folder, options)
    try:
        if ahead is None:
            yield await _connected(f"{HOST}:{port}", process, folder)
            return
        with closing(WallClock(process.pid)) as clock:
            timekeeper = asyncio.create_task(_keep_time(clock, ahead))
            try:
                yield await _connected(f"{HOST}:{port}", process, folder)
            finally:
                timekeeper.cancel()
    finally:
        process.terminate()
        process.wait(20)


async def _keep_time(clock: WallClock, ahead: timedelta) -> None:
    while True:
        clock.set(datetime.now(UTC) + ahead)
        await asyncio.sleep(0.1)


async def fires(client: Client, spec: Spec, *, start: datetime, end: datetime) -> list[datetime]:
    """Return the due times from ``start`` to ``end``, both included, in UTC.

    Raise ``temporalio.service.RPCError`` with the server's own words where it refuses the spec.
    """
    schedule = f"asked-{uuid4()}"
    await _create(client, schedule, _message(spec))
    try:
        return await _matching(client, schedule, start, end)
    finally:
        await client.workflow_service.delete_schedule(
            DeleteScheduleRequest(namespace=NAMESPACE, schedule_id=schedule)
        )


async def _matching(
    client: Client, schedule: str, start: datetime, end: datetime
) -> list[datetime]:
    """Ask page by page: the server counts from after ``start``, in whole seconds."""
    found: list[datetime] = []
    request = ListScheduleMatchingTimesRequest(namespace=NAMESPACE, schedule_id=schedule)
    request.start_time.FromDatetime(start - timedelta(microseconds=1))
    request.end_time.FromDatetime(end)
    while True:
        answer = await client.workflow_service.list_schedule_matching_times(request)
        found.extend(instant.ToDatetime(UTC) for instant in answer.start_time)
        if len(answer.start_time) < PAGE:
            return found
        request.start_time.CopyFrom(answer.start_time[-1])


async def _create(client: Client, schedule: str, spec: ScheduleSpec) -> None:
    await client.workflow_service.create_schedule(
        CreateScheduleRequest(
            namespace=NAMESPACE,
            schedule_id=schedule,
            request_id=schedule,
            schedule=Schedule(spec=spec, action=ACTION, state=ScheduleState(paused=True)),
        )
    )


def _message(spec: Spec) -> ScheduleSpec:
    if isinstance(spec, ScheduleSpec):
        return spec
    if isinstance(spec, temporalio.client.ScheduleSpec):
        return spec._to_proto()
    return ParseDict(dict(spec), ScheduleSpec())


def _started(port: int, folder: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    command: list[str | Path] = [
        BINARY,
        "server",
        "start-dev",
        "--headless",
        "--log-level",
        "error",
    ]
    command += ["--ip", HOST, "--port", str(port), *options]
    environment = {"HOME": str(folder), "TZ": "UTC"}
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)


async def _connected(address: str, process: subprocess.Popen[bytes], folder: Path) -> Client:
    """Wait until the server answers and has its namespace."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client = await Client.connect(address, namespace=NAMESPACE)
            await _try(client)
        except RuntimeError:
            await asyncio.sleep(0.05)
        else:
            return client
    said = (folder / "log").read_text(errors="replace")[-2000:]
    raise RuntimeError(f"Temporal's server did not start; exit code {process.poll()}: {said}")


async def _try(client: Client) -> None:
    """Ask for one time; the parts of the server come up one after the other."""
    now = datetime(2027, 1, 1, tzinfo=UTC)
    await fires(client, {"interval": [{"interval": "60s"}]}, start=now, end=now)

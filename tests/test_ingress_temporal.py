"""Temporal's real development server, real workers, and Schedules that purista compiled."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import uvicorn
from google.protobuf.json_format import ParseDict
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import CreateScheduleRequest
from temporalio.client import (
    Client,
    ScheduleBackfill,
    ScheduleIntervalSpec,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
)
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError
from temporalio.worker import Replayer, Worker
from tests.engines.temporal import temporal_server

from purista import (
    Context,
    Cron,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    Trigger,
)
from purista.bridges import Job
from purista.compiling import Compilation, Request, compile_schedules, default_horizon
from purista.errors import BridgeError, IngressError
from purista.host import Host
from purista.ingress import Decision, TriggerIngress
from purista.ingress.http import ingress_app
from purista.ingress.temporal import (
    WORKFLOW,
    PuristaTrigger,
    TriggerActivities,
    temporal_worker,
)
from purista.ledgers import Run
from purista.native import temporalworker
from purista.schedulers.temporal import SCHEDULER, TemporalSettings
from purista.settings import IngressSettings

pytestmark = pytest.mark.asyncio(loop_scope="module")

HISTORIES = Path(__file__).parent / "goldens/temporal-histories"
WORKER = Path(__file__).parent / "programs/temporal_worker.py"
HOUR = timedelta(hours=1)
TOP = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
"""A slot of every hourly schedule; it is caught up if it is late."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client() -> AsyncIterator[Client]:
    async with temporal_server() as found:
        yield found


class Queues(MemoryQueueBridge):
    """A queue bridge that is away as often as it is told."""

    failures = 0

    async def enqueue(self, job: Job) -> bool:
        if self.failures:
            self.failures -= 1
            raise BridgeError("the broker is away")
        return await super().enqueue(job)


@dataclass
class World:
    """A service whose jobs wait until they may go on, its ingress, and its Schedules on the server."""

    client: Client
    service: Service
    queues: Queues
    ingress: Ingress
    begun: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def schedule(self, name: str, **options: Any) -> str:
        """Declare a schedule; return its id."""
        jobs = self.service.queues["jobs"]
        given = {"expression": Cron("0 * * * *"), "missed_run_policy": "catchUp", **options}
        built = self.service.schedule(name).enqueue(jobs, payload="{nominal_time:%H}", **given)
        self.ingress.schedules[built.id] = built
        return built.id

    def compiled(
        self, *ids: str, wait: bool = False, url: str = "http://127.0.0.1:1"
    ) -> Compilation:
        settings = TemporalSettings(task_queue=self.service.name, wait=wait)
        ingress = IngressSettings.model_validate({"url": url})
        asked = Request(
            settings,
            ingress,
            default_horizon(TOP),
            accepted=frozenset({"missed-run-policy-catchup"}),
        )
        return compile_schedules(SCHEDULER, [self.ingress.schedules[each] for each in ids], asked)

    async def applied(self, schedule_id: str, **options: Any) -> dict[str, Any]:
        """Create the Schedule; return what its workflows are told."""
        text = self.compiled(schedule_id, **options).artifacts[0].text
        wanted = ParseDict(json.loads(text), CreateScheduleRequest())
        wanted.request_id = str(uuid4())
        await self.client.workflow_service.create_schedule(wanted)
        told: dict[str, Any] = json.loads(
            wanted.schedule.action.start_workflow.input.payloads[0].data
        )
        return told

    async def backfill(self, schedule_id: str, hours: int = 1) -> None:
        """Have the last slots sent."""
        first = TOP - HOUR * (hours - 1)
        missed = ScheduleBackfill(first - timedelta(minutes=1), TOP)
        await self.client.get_schedule_handle(schedule_id).backfill(missed)

    async def started(self, schedule_id: str, count: int = 1) -> list[WorkflowHandle[Any, Any]]:
        """Return the workflows that a Schedule started, once there are enough, the newest last."""
        query = f"TemporalScheduledById = '{schedule_id}'"
        async with asyncio.timeout(30):
            while True:
                found = [each async for each in self.client.list_workflows(query)]
                if len(found) >= count:
                    found.sort(key=lambda each: each.start_time)
                    return [
                        self.client.get_workflow_handle(each.id, run_id=each.run_id)
                        for each in found
                    ]
                await asyncio.sleep(0.05)

    async def fired(self, schedule_id: str) -> WorkflowHandle[Any, Any]:
        """Create the Schedule with ``wait``, have one slot sent, and return the workflow at its wait."""
        await self.applied(schedule_id, wait=True)
        await self.backfill(schedule_id)
        (handle,) = await self.started(schedule_id)
        await asyncio.wait_for(self.begun.get(), 30)
        return handle

    def worker(self, ingress: TriggerIngress | None = None, **options: Any) -> Worker:
        return temporal_worker(
            self.client, ingress or self.ingress, task_queue=self.service.name, **options
        )


@pytest_asyncio.fixture(loop_scope="module")
async def world(client: Client) -> AsyncIterator[World]:
    service = Service(f"S{uuid4().hex[:8]}", version="1")
    jobs = service.queue("jobs", str, max_attempts=1)
    events, queues = MemoryEventBridge(), Queues()
    ledger = MemoryLedger()

    @service.worker(jobs, concurrency=4)
    async def work(text: str, ctx: Context) -> None:
        made.begun.put_nowait(text)
        try:
            await made.may_go_on.wait()
        except asyncio.CancelledError:
            made.cancelled.set()
            raise

    parts: dict[str, Any] = {"event_bridge": events, "queue_bridge": queues}
    async with (
        Ingress([service], ledger=ledger, **parts) as ingress,
        Host(service, ledger=ledger, grace=timedelta(0), **parts),
    ):
        made = World(client, service, queues, ingress)
        yield made
        made.may_go_on.set()
    await events.close()
    await queues.close()


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Return what a condition says as soon as it holds."""
    async with asyncio.timeout(30):
        while not (found := await condition()):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.05)
        return found


async def beat_of(handle: WorkflowHandle[Any, Any]) -> dict[str, str]:
    """Return what a workflow's heartbeat says, once it has one."""

    async def beats() -> list[dict[str, str]]:
        pending = (await handle.describe()).raw_description.pending_activities
        return [json.loads(one.data) for each in pending for one in each.heartbeat_details.payloads]

    found: list[dict[str, str]] = await until(beats)
    return found[0]


async def result(handle: WorkflowHandle[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = await asyncio.wait_for(handle.result(), 60)
    return found


async def ending_of(handle: WorkflowHandle[Any, Any]) -> BaseException:
    """Return what a workflow failed with, at the bottom."""
    with pytest.raises(WorkflowFailureError) as info:
        await asyncio.wait_for(handle.result(), 60)
    cause: BaseException | None = info.value.cause
    while isinstance(cause, ActivityError) and cause.cause is not None:
        cause = cause.cause
    assert cause is not None
    return cause


# Triggers arrive.


async def test_a_compiled_schedule_really_fires_and_its_trigger_is_decided(world: World) -> None:
    every_second = world.schedule("fires", expression=Cron("* * * * * *", seconds=True))
    async with world.worker():
        await world.applied(every_second)
        (first, *_) = await world.started(every_second)
        carried = await result(first)
        run = await world.ingress.run(carried["run_id"])
    assert (carried["decision"], carried["outcome"]) == ("accepted", None)
    assert run is not None
    assert world.ingress.schedules[every_second].contains(run.nominal_time)
    (record, *_) = list(await world.ingress.ledger.records(limit=100))[::-1]
    assert (record.source, record.run_id) == ("temporal/default", run.run_id)
    assert "version of the contract" not in record.reason
    await world.client.get_schedule_handle(every_second).delete()


async def test_a_duplicate_and_an_overlap_end_their_workflows(world: World) -> None:
    hourly = world.schedule("hourly", concurrency_policy="forbid")
    async with world.worker():
        await world.applied(hourly)
        await world.backfill(hourly, hours=2)
        handles = await world.started(hourly, count=2)
        decisions = [(await result(each))["decision"] for each in handles]
        await world.backfill(hourly)
        again = await result((await world.started(hourly, count=3))[-1])
    assert decisions == ["accepted", "overlap"]
    assert (again["decision"], again["reason"]) == ("duplicate", "it was skipped before")


async def test_a_click_between_two_slots_is_a_person_s_trigger(world: World) -> None:
    yearly = world.schedule("yearly", expression=Cron("0 0 1 1 *"), enabled=False)
    async with world.worker():
        await world.applied(yearly)
        await world.client.get_schedule_handle(yearly).trigger()
        (handle,) = await world.started(yearly)
        carried = await result(handle)
    assert (carried["decision"], carried["reason"]) == ("accepted", "sent by a person")


def each_second(found: ScheduleUpdateInput) -> ScheduleUpdate:
    """Return the update of a person who lets a Schedule fire each second."""
    there = found.description.schedule
    spec = ScheduleSpec(intervals=[ScheduleIntervalSpec(every=timedelta(seconds=1))])
    return ScheduleUpdate(replace(there, spec=spec))


async def decisions(world: World, schedule_id: str, count: int) -> set[str]:
    """Return what was decided about the first triggers of a Schedule."""
    handles = await world.started(schedule_id, count)
    return {(await result(each))["decision"] for each in handles}


@pytest.mark.parametrize("jitter", [0, 2])
async def test_a_schedule_that_a_person_lets_fire_more_often_runs_no_more_often(
    world: World, jitter: int
) -> None:
    options = {"expression": Cron("0 0 1 1 *"), "jitter": timedelta(seconds=jitter)}
    yearly = world.schedule("often", **options)
    await world.applied(yearly)
    async with world.worker():
        await world.client.get_schedule_handle(yearly).update(each_second)
        assert await decisions(world, yearly, 3) == {"unexpected"}
        await world.client.get_schedule_handle(yearly).delete()


async def test_what_a_schedule_sent_before_it_was_changed_is_no_person_s_trigger(
    world: World,
) -> None:
    yearly = world.schedule("mended", expression=Cron("0 0 1 1 *"))
    await world.applied(yearly)
    handle = world.client.get_schedule_handle(yearly)
    before = (await handle.describe()).schedule
    await handle.update(each_second)

    async def are_waiting() -> bool:
        return (await handle.describe()).raw_description.info.buffer_size >= 2

    await until(are_waiting)
    await handle.update(lambda _: ScheduleUpdate(before))
    async with world.worker():
        assert await decisions(world, yearly, 3) == {"unexpected"}


async def test_a_schedule_that_is_gone_sent_no_person_s_trigger(world: World) -> None:
    yearly = world.schedule("gone", expression=Cron("0 0 1 1 *"))
    await world.applied(yearly)
    await world.client.get_schedule_handle(yearly).update(each_second)
    await world.started(yearly)
    await world.client.get_schedule_handle(yearly).delete()
    async with world.worker():
        assert await decisions(world, yearly, 1) == {"unexpected"}


async def test_a_failed_dispatch_is_sent_again_and_runs_once(world: World) -> None:
    hourly, world.queues.failures = world.schedule("retried"), 1
    async with world.worker():
        await world.applied(hourly)
        await world.backfill(hourly)
        (handle,) = await world.started(hourly)
        carried = await result(handle)
    records = await world.ingress.ledger.records(schedule_id=hourly)
    assert [each.run_id for each in records] == [carried["run_id"]] * 2
    assert carried["reason"].startswith("taken over, its run was failed")
    assert world.begun.qsize() == 1


class Refusing:
    """An ingress behind an address that answers nothing but errors."""

    def __init__(self, *errors: IngressError) -> None:
        self.errors = list(errors)
        self.asked = 0

    async def accept(self, trigger: Trigger) -> Decision:
        self.asked += 1
        raise self.errors.pop(0)

    async def run(self, run_id: str) -> Run | None:
        raise NotImplementedError

    async def cancel(self, run_id: str) -> bool:
        raise NotImplementedError


async def test_what_no_other_try_mends_fails_the_workflow_at_once_and_says_why(
    world: World,
) -> None:
    away = IngressError("ingress x: it cannot be reached", retry_after=0.1)
    refused = IngressError("ingress x: it answered 401", status=401)
    ingress = Refusing(away, refused)
    told = {"schedule": "S.v1.x", "fingerprint": "f", "period": 1, "phase": 0, "seconds": 60}
    run = {"id": str(uuid4()), "task_queue": world.service.name}
    async with world.worker(ingress):
        handle = await world.client.start_workflow(WORKFLOW, told, **run)
        cause = await ending_of(handle)
    assert isinstance(cause, ApplicationError)
    assert (cause.message, cause.type) == ("ingress x: it answered 401", "IngressError")
    assert ingress.asked == 2


async def test_a_trigger_that_is_rejected_fails_its_workflow_with_the_cause(world: World) -> None:
    told = {"schedule": "S.v1.x", "fingerprint": "f", "period": 1, "phase": 0, "seconds": 60}
    run = {"id": str(uuid4()), "task_queue": world.service.name}
    async with world.worker():
        handle = await world.client.start_workflow(WORKFLOW, told, **run)
        cause = await ending_of(handle)
    assert isinstance(cause, ApplicationError)
    assert (cause.type, cause.non_retryable) == ("unknown-schedule", True)


# Waiting for the run.


async def test_a_workflow_that_waits_tells_in_its_heartbeat_and_ends_with_its_run(
    world: World,
) -> None:
    async with world.worker():
        handle = await world.fired(world.schedule("waited"))

        told = await beat_of(handle)
        world.may_go_on.set()
        carried = await result(handle)
    assert told["runId"] == carried["run_id"]
    assert (carried["decision"], carried["status"]) == ("accepted", "ended")
    assert carried["outcome"] == "acked"
    keep("waited", await handle.fetch_history())


async def test_a_workflow_that_is_cancelled_cancels_its_run(world: World) -> None:
    async with world.worker():
        handle = await world.fired(world.schedule("cancelled"))
        await beat_of(handle)
        await handle.cancel()
        cause = await ending_of(handle)
        await asyncio.wait_for(world.cancelled.wait(), 10)
    (run,) = await world.ingress.ledger.runs()
    assert isinstance(cause, CancelledError)
    assert (run.status, run.outcome) == ("ended", "cancelled")
    keep("cancelled", await handle.fetch_history())


async def test_a_workflow_that_is_terminated_leaves_its_run_alone(world: World) -> None:
    async with world.worker():
        handle = await world.fired(world.schedule("terminated"))
        await handle.terminate("by the test")
        world.may_go_on.set()

        async def ended() -> Any:
            return [each for each in await world.ingress.ledger.runs() if each.ended_at]

        (run,) = await until(ended)
    assert (run.outcome, world.cancelled.is_set()) == ("acked", False)


class Slow:
    """An ingress that decides at once and answers late."""

    def __init__(self, ingress: TriggerIngress) -> None:
        self.ingress = ingress
        self.decided = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def accept(self, trigger: Trigger) -> Decision:
        decision = await self.ingress.accept(trigger)
        self.decided.set()
        await self.may_answer.wait()
        return decision

    async def run(self, run_id: str) -> Run | None:
        return await self.ingress.run(run_id)

    async def cancel(self, run_id: str) -> bool:
        return await self.ingress.cancel(run_id)


async def test_a_workflow_that_is_cancelled_before_the_answer_cancels_the_run_all_the_same(
    world: World,
) -> None:
    slow = Slow(world.ingress)
    async with world.worker(slow):
        hourly = world.schedule("early")
        await world.applied(hourly, wait=True)
        await world.backfill(hourly)
        (handle,) = await world.started(hourly)
        await asyncio.wait_for(slow.decided.wait(), 30)
        await handle.cancel()
        slow.may_answer.set()
        cause = await ending_of(handle)
        await asyncio.wait_for(world.cancelled.wait(), 10)
    assert isinstance(cause, CancelledError)


async def test_a_cancellation_that_comes_together_with_the_answer_cancels_the_run(
    world: World,
) -> None:
    """Nobody takes the workflow while both come; then they come at once."""
    slow, hourly = Slow(world.ingress), world.schedule("together")
    queue = world.service.name

    def workflows() -> Worker:
        soon = timedelta(seconds=1)
        return Worker(
            world.client,
            task_queue=queue,
            workflows=[PuristaTrigger],
            sticky_queue_schedule_to_start_timeout=soon,
        )

    async with Worker(world.client, task_queue=queue, activities=TriggerActivities(slow).all):
        async with workflows():
            await world.applied(hourly, wait=True)
            await world.backfill(hourly)
            (handle,) = await world.started(hourly)
            await asyncio.wait_for(slow.decided.wait(), 30)
        await handle.cancel()
        slow.may_answer.set()

        async def is_answered() -> bool:
            kinds = [each.event_type for each in (await handle.fetch_history()).events]
            return EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED in kinds

        await until(is_answered)
        async with workflows():
            cause = await ending_of(handle)
            await asyncio.wait_for(world.cancelled.wait(), 10)
    assert isinstance(cause, CancelledError)


async def test_a_worker_that_is_stopped_leaves_the_waiting_to_another(world: World) -> None:
    async with world.worker(sticky_queue_schedule_to_start_timeout=timedelta(seconds=1)):
        handle = await world.fired(world.schedule("handed-over"))
        await beat_of(handle)
    assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
    world.may_go_on.set()
    async with world.worker():
        carried = await result(handle)
    assert (carried["outcome"], world.begun.qsize()) == ("acked", 0)


@contextlib.asynccontextmanager
async def served(world: World) -> AsyncIterator[str]:
    """Serve the ingress over HTTP."""
    app = ingress_app(world.ingress, development=True)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(20):
        while not server.started:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def test_a_worker_that_is_killed_while_it_waits_is_noticed_and_the_run_is_one(
    world: World,
) -> None:
    address = world.client.service_client.config.target_host
    async with served(world) as url:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(WORKER), address, url, world.service.name)
        )
        handle = await world.fired(world.schedule("killed"))
        await beat_of(handle)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        async with world.worker():
            world.may_go_on.set()
            carried = await result(handle)
    assert (carried["decision"], carried["outcome"]) == ("accepted", "acked")
    assert (world.begun.qsize(), len(await world.ingress.ledger.records())) == (0, 1)


# One workflow in two places: here, and in the module that compiling writes.


def generated(world: World, folder: Path, url: str) -> ModuleType:
    """Load the compiled module as a worker does."""
    name = f"purista_schedules_{world.service.name}"
    path = folder / f"{name}.py"
    path.write_text(world.compiled(*world.ingress.schedules, url=url).artifacts[-1].text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


async def test_the_compiled_module_tells_a_click_from_a_schedule_that_a_person_changed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    often, clicked = (
        world.schedule(name, expression=Cron("0 0 1 1 *")) for name in ("often", "clicked")
    )
    async with served(world) as url:
        module = generated(world, tmp_path, url)
        async with module.worker(world.client, world.service.name):
            await world.applied(clicked, url=url)
            await world.client.get_schedule_handle(clicked).trigger()
            (handle,) = await world.started(clicked)
            carried = await result(handle)
            await world.applied(often, url=url)
            await world.client.get_schedule_handle(often).update(each_second)
            sent = await decisions(world, often, 3)
            await world.client.get_schedule_handle(often).delete()
    assert sent == {"unexpected"}
    assert (carried["decision"], carried["reason"]) == ("accepted", "sent by a person")


class Meddling:
    """The service, and a person who pauses a Schedule as soon as it was read."""

    def __init__(self, client: Client, schedule_id: str) -> None:
        self.workflow_service = self
        self.create_schedule = client.workflow_service.create_schedule
        self.update_schedule = client.workflow_service.update_schedule
        self.read = client.workflow_service.describe_schedule
        self.handle = client.get_schedule_handle(schedule_id)

    async def describe_schedule(self, request: Any) -> Any:
        found = await self.read(request)
        await self.handle.pause()
        return found


async def test_what_the_compiled_module_applies_is_not_dropped(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    hourly = world.schedule("set-back")
    module = generated(world, tmp_path, "http://127.0.0.1:1")
    (tmp_path / "one.json").write_text(world.compiled(hourly).artifacts[0].text)
    await module.apply(world.client, tmp_path)
    meddling = Meddling(world.client, hourly)
    assert await module.apply(meddling, tmp_path) == [hourly]
    assert not (await meddling.handle.describe()).schedule.state.paused


async def test_the_compiled_module_waits_as_well_and_cancels_the_run(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    one, two = world.schedule("acked"), world.schedule("stopped")
    async with served(world) as url:
        module = generated(world, tmp_path, url)
        async with module.worker(world.client, world.service.name):
            first, second = await world.fired(one), await world.fired(two)
            await second.cancel()
            cause = await ending_of(second)
            await asyncio.wait_for(world.cancelled.wait(), 10)
            world.may_go_on.set()
            carried = await result(first)
    assert isinstance(cause, CancelledError)
    assert (carried["status"], carried["outcome"]) == ("ended", "acked")


@pytest.mark.parametrize("name", ["waited", "cancelled", "cancelled-with-its-answer"])
async def test_a_recorded_history_is_replayed_by_both(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Replayed in the sandbox as it is by default, with nothing passed through.

    The third is of a cancellation that came to the workflow together with the ingress's answer.
    """
    monkeypatch.syspath_prepend(tmp_path)
    history = WorkflowHistory.from_json("x", (HISTORIES / f"{name}.json").read_text())
    world.schedule("any")
    module = generated(world, tmp_path, "http://127.0.0.1:1")
    for workflow in (PuristaTrigger, module.PuristaTrigger):
        await Replayer(workflows=[workflow]).replay_workflow(history)


async def test_a_worker_of_one_s_own_runs_the_workflow_in_the_sandbox_as_it_is(
    world: World,
) -> None:
    activities = TriggerActivities(world.ingress).all
    own = Worker(
        world.client,
        task_queue=world.service.name,
        workflows=[PuristaTrigger],
        activities=activities,
    )
    hourly = world.schedule("own")
    async with own:
        await world.applied(hourly)
        await world.backfill(hourly)
        (handle,) = await world.started(hourly)
        assert (await result(handle))["decision"] == "accepted"


async def test_both_are_of_the_same_type() -> None:
    assert temporalworker.WORKFLOW == WORKFLOW


def keep(name: str, history: WorkflowHistory) -> None:
    """Keep a history for replays, without the names of this machine."""
    if os.environ.get("UPDATE_GOLDENS"):
        document = json.loads(re.sub(r"\d+@[\w.-]+", "worker", history.to_json()))
        HISTORIES.mkdir(parents=True, exist_ok=True)
        (HISTORIES / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")

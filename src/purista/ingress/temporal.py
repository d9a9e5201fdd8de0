"""The Temporal entry point: the workflow that compiled Schedules start, and the worker that runs it.

The workflow is the one of the compiled module ``purista_schedules.py``, activity for activity, so that
both can work on one task queue; here the activities ask a ``TriggerIngress``. A change of its commands
breaks the workflows that are on their way (``workflow.patched`` is for that).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from purista.errors import MissingExtraError

try:
    from temporalio import activity, workflow
except ModuleNotFoundError:
    raise MissingExtraError("the Temporal entry point", "temporal") from None

from temporalio.api.workflowservice.v1 import (
    DescribeScheduleRequest,
    ListScheduleMatchingTimesRequest,
)
from temporalio.client import Client
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

with workflow.unsafe.imports_passed_through():
    from purista.clock import Clock, SystemClock
    from purista.cloudevent import TYPE
    from purista.errors import IngressError, TriggerError
    from purista.ingress.answer import answer
    from purista.ingress.port import TriggerIngress
    from purista.ingress.runend import run_end
    from purista.ledgers import Run
    from purista.trigger import Trigger

WORKFLOW: Final = "PuristaTrigger"
SEND: Final = "PuristaSendTrigger"
AWAIT: Final = "PuristaAwaitRun"
CANCEL: Final = "PuristaCancelRun"

HEARTBEAT: Final = timedelta(minutes=1)
"""After which silence a worker that waits for a run counts as dead, and another goes on waiting."""

MARGIN: Final = timedelta(minutes=10)
"""How much longer than a run can last its end is waited for: another process may take it over."""

MOST: Final = 1000
"""How many activities a worker runs at a time; one that waits for a run takes hardly anything."""

SCHEDULED: Final = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
SCHEDULED_BY: Final = SearchAttributeKey.for_keyword("TemporalScheduledById")
TEMPORAL: Final = "temporal"
"""Where a trigger says which Schedule sent it off the grid of its slots, and for when."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
RETRIES: Final = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
)


@dataclass
class Slots:
    """What a Schedule tells its workflow: whose slots, on which grid, and how long to try, in seconds.

    ``wait``: how many seconds its run can last, where its end is waited for; else 0.
    """

    schedule: str
    fingerprint: str
    period: int
    phase: int
    seconds: int
    wait: int = 0


@dataclass
class Carried:
    """What became of a trigger.

    ``status`` and ``outcome`` are those of its run, in the ledger's words, where its end was waited for.
    """

    decision: str
    reason: str
    run_id: str | None
    status: str | None = None
    outcome: str | None = None


@workflow.defn(name=WORKFLOW)
class PuristaTrigger:
    """Sends the trigger of one slot, and waits for the end of its run where it is told to.

    When it is cancelled while it waits, the run is cancelled; when it is terminated, the run goes on.
    """

    @workflow.run
    async def run(self, slots: Slots) -> Carried:
        """Carry one trigger."""
        document = await self._send(slots)
        carried = Carried(document["decision"], document["reason"], document["runId"])
        is_run = carried.run_id and carried.decision in ("accepted", "duplicate")
        if not slots.wait or not is_run:
            return carried
        place = {"schedule": slots.schedule, "runId": str(carried.run_id)}
        try:
            if _is_cancelled():
                raise asyncio.CancelledError
            end = await self._await(place, slots)
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                await self._cancel(place, slots)
            raise
        carried.status, carried.outcome = end["status"], end["outcome"]
        return carried

    async def _send(self, slots: Slots) -> dict[str, Any]:
        """Send the trigger; one that is on its way is seen through, so that its run is known."""
        sending = workflow.start_activity(
            SEND,
            _event(slots),
            start_to_close_timeout=timedelta(minutes=1),
            schedule_to_close_timeout=timedelta(seconds=slots.seconds),
            retry_policy=RETRIES,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        )
        try:
            await workflow.wait([sending])
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # An answer that came together with the cancellation counts.
            if not sending.done():
                sending.cancel()
                await workflow.wait([sending])
        document: dict[str, Any] = sending.result()
        return document

    async def _await(self, place: dict[str, str], slots: Slots) -> dict[str, str]:
        end: dict[str, str] = await workflow.execute_activity(
            AWAIT,
            place,
            start_to_close_timeout=timedelta(seconds=slots.wait) + MARGIN,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRIES,
        )
        return end

    async def _cancel(self, place: dict[str, str], slots: Slots) -> None:
        await workflow.execute_activity(
            CANCEL,
            place,
            start_to_close_timeout=timedelta(minutes=1),
            schedule_to_close_timeout=timedelta(seconds=slots.wait) + MARGIN,
            retry_policy=RETRIES,
        )


def temporal_worker(
    client: Client,
    ingress: TriggerIngress,
    *,
    task_queue: str = "purista",
    clock: Clock | None = None,
    **options: Any,
) -> Worker:
    """Return a worker that carries the triggers of compiled Schedules to an ingress.

    ``task_queue`` is the one of the settings they were compiled with; ``options`` are further ones of
    ``temporalio.worker.Worker``. A worker waits for a thousand runs at a time; run more of them for more.
    """
    # Reloading the package for each workflow, as the sandbox would, costs a second; nothing in it is
    # changed by a workflow.
    restrictions = SandboxRestrictions.default.with_passthrough_modules("purista")
    defaults: dict[str, Any] = {
        "workflows": [PuristaTrigger],
        "activities": TriggerActivities(ingress, clock=clock).all,
        "workflow_runner": SandboxedWorkflowRunner(restrictions=restrictions),
        "max_concurrent_activities": MOST,
    }
    return Worker(client, task_queue=task_queue, **{**defaults, **options})


class TriggerActivities:
    """The activities of the workflow, for a worker of one's own."""

    def __init__(self, ingress: TriggerIngress, *, clock: Clock | None = None) -> None:
        self._ingress = ingress
        self._clock: Clock = clock or SystemClock()

    @property
    def all(self) -> list[Any]:
        """What a worker registers."""
        return [self.send, self.wait, self.cancel]

    @activity.defn(name=SEND)
    async def send(self, event: dict[str, Any]) -> dict[str, Any]:
        """Send a trigger; return the decision.

        What another try can mend is tried again, when the ingress says; anything else fails at once.
        """
        try:
            decision = await self._ingress.accept(Trigger.from_cloudevent(await _told(event)))
        except TriggerError as error:
            raise ApplicationError(str(error), type="TriggerError", non_retryable=True) from None
        except IngressError as error:
            raise _failure(error) from None
        told = answer(decision)
        if told.is_problem:
            kind = str(told.document["type"]).rpartition(":")[2]
            raise _refused(f"{decision.verdict}: {decision.reason}", kind, told.retry_after)
        return dict(told.document)

    @activity.defn(name=AWAIT)
    async def wait(self, place: dict[str, str]) -> dict[str, str]:
        """Return how a run ended, once it has; the heartbeat tells which run, and where it stands."""
        run_id = place["runId"]

        def beat(run: Run) -> None:
            activity.heartbeat({"runId": run_id, "status": str(run.status)})

        activity.heartbeat({"runId": run_id, "status": "unknown"})
        try:
            end = await run_end(self._ingress, run_id, clock=self._clock, each=beat)
        except IngressError as error:
            raise _failure(error) from None
        return {"status": str(end.status), "outcome": end.outcome}

    @activity.defn(name=CANCEL)
    async def cancel(self, place: dict[str, str]) -> bool:
        """Cancel a run; return whether it was active."""
        try:
            return await self._ingress.cancel(place["runId"])
        except IngressError as error:
            raise _failure(error) from None


def _event(slots: Slots) -> dict[str, Any]:
    """Return the trigger of this workflow as a CloudEvent."""
    info = workflow.info()
    event: dict[str, Any] = {
        "specversion": "1.0",
        "type": TYPE,
        "source": f"temporal/{info.namespace}",
        "subject": slots.schedule,
        "puristafingerprint": slots.fingerprint,
    }
    attributes = info.typed_search_attributes
    at = attributes.get(SCHEDULED)
    if at is not None and _is_slot(at, slots):
        return event | _timed(slots.schedule, at)
    event |= {"puristamanual": "true", "id": f"{slots.schedule}/{info.run_id}"}
    if at is None:
        return event
    sent = {"schedule": attributes.get(SCHEDULED_BY), "time": at.isoformat()}
    return event | {TEMPORAL: sent}


def _is_slot(at: datetime, slots: Slots) -> bool:
    phase, period = timedelta(seconds=slots.phase), timedelta(seconds=slots.period)
    return not (at - EPOCH - phase) % period


def _timed(schedule: str, at: datetime) -> dict[str, str]:
    time = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"time": time, "id": f"{schedule}/{time}"}


async def _told(event: dict[str, Any]) -> dict[str, Any]:
    """Return a trigger as a person's only where its Schedule surely did not fire by itself.

    Temporal marks neither: where somebody has changed when a Schedule fires, the ingress is told the time.
    """
    sent = event.get(TEMPORAL)
    if sent is None:
        return event
    told = {name: value for name, value in event.items() if name != TEMPORAL}
    at = datetime.fromisoformat(sent["time"])
    if await _is_clicked(activity.client(), sent["schedule"], at):
        return told
    return {**told, "puristamanual": "false", **_timed(told["subject"], at)}


async def _is_clicked(client: Client, schedule: str, at: datetime) -> bool:
    """Whether a Schedule, which was not changed since, does not fire at a time by itself."""
    service, namespace = client.workflow_service, client.namespace
    try:
        place = DescribeScheduleRequest(namespace=namespace, schedule_id=schedule)
        found = await service.describe_schedule(place)
        asked = ListScheduleMatchingTimesRequest(namespace=namespace, schedule_id=schedule)
        asked.start_time.FromDatetime(at - timedelta(microseconds=1))
        asked.end_time.FromDatetime(at + found.schedule.spec.jitter.ToTimedelta())
        fires = await service.list_schedule_matching_times(asked)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    made, changed = found.info.create_time.seconds, found.info.update_time.seconds
    return made <= at.timestamp() and changed < at.timestamp() and not fires.start_time


def _is_cancelled() -> bool:
    """Whether Temporal asked for an end while the trigger was on its way."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _failure(error: IngressError) -> ApplicationError:
    return _refused(str(error), "IngressError", error.retry_after)


def _refused(message: str, kind: str, retry_after: float | None) -> ApplicationError:
    delay = timedelta(seconds=retry_after) if retry_after else None
    return ApplicationError(
        message, type=kind, non_retryable=retry_after is None, next_retry_delay=delay
    )

"""Carries the triggers of Temporal Schedules to the ingress of purista. Generated; do not edit.

It needs Python 3.11 and temporalio.

    python purista_schedules.py apply schedules   creates or updates the Schedules of a folder
    python purista_schedules.py worker            runs the worker until it is stopped

The address of the Temporal service, and its credentials, are taken from where Temporal's own tools
take them: TEMPORAL_ADDRESS, TEMPORAL_API_KEY, TEMPORAL_TLS, ... or its configuration file.
A Schedule that purista did not make is left alone. What people changed by hand, a pause too, is set
back to what the contract says.
"""

import asyncio
import email.utils
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.worker import Worker

URL = "http://127.0.0.1:8080"
"""The ingress: triggers are posted to /triggers, runs are at /runs."""

POLLED: list[tuple[str, str]] = [("default", "purista")]
"""Namespaces and task queues."""

BEARER: str | None = None
"""The environment variable that holds the bearer token; the token itself stands nowhere."""

BEARERS: dict[str, str | None] = {}
"""Schedules that have another one."""

HEARTBEAT = timedelta(minutes=1)
"""After which silence a worker that waits for a run counts as dead, and another goes on waiting."""

MARGIN = timedelta(minutes=10)
"""How much longer than a run can last its end is waited for: another process may take it over."""

SKEW = timedelta(minutes=1)
"""How long after its time-out a run that is not noted as over is so all the same."""

SCHEDULED = SearchAttributeKey.for_datetime("TemporalScheduledStartTime")
SCHEDULED_BY = SearchAttributeKey.for_keyword("TemporalScheduledById")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=2,
    maximum_interval=timedelta(minutes=1),
)


@dataclass
class Slots:
    """What a Schedule tells its workflow: whose slots, on which grid, and how long to try, in seconds.

    wait: how many seconds its run can last, where its end is waited for; else 0.
    """

    schedule: str
    fingerprint: str
    period: int
    phase: int
    seconds: int
    wait: int = 0


@dataclass
class Carried:
    """What became of a trigger; status and outcome are those of its run, where it was waited for."""

    decision: str
    reason: str
    run_id: str | None
    status: str | None = None
    outcome: str | None = None


@workflow.defn(name="PuristaTrigger")
class PuristaTrigger:
    """Sends the trigger of one slot, and waits for the end of its run where it is told to.

    When it is cancelled while it waits, the run is cancelled; when it is terminated, the run goes on.
    """

    @workflow.run
    async def run(self, slots: Slots) -> Carried:
        sent = await self.send(slots)
        carried = Carried(sent["decision"], sent["reason"], sent["runId"])
        is_run = carried.run_id and carried.decision in ("accepted", "duplicate")
        if not slots.wait or not is_run:
            return carried
        place = {"schedule": slots.schedule, "runId": str(carried.run_id)}
        try:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError
            end = await self.end(place, slots)
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                await self.cancel(place, slots)
            raise
        carried.status, carried.outcome = end["status"], end["outcome"]
        return carried

    async def send(self, slots: Slots) -> dict[str, Any]:
        """Send the trigger; one that is on its way is seen through, so that its run is known."""
        sending = workflow.start_activity(
            send_trigger,
            self.event(slots),
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
        return sending.result()

    async def end(self, place: dict[str, str], slots: Slots) -> dict[str, str]:
        """Wait for the end of the run."""
        return await workflow.execute_activity(
            await_run,
            place,
            start_to_close_timeout=timedelta(seconds=slots.wait) + MARGIN,
            heartbeat_timeout=HEARTBEAT,
            retry_policy=RETRIES,
        )

    async def cancel(self, place: dict[str, str], slots: Slots) -> None:
        """Cancel the run."""
        await workflow.execute_activity(
            cancel_run,
            place,
            start_to_close_timeout=timedelta(minutes=1),
            schedule_to_close_timeout=timedelta(seconds=slots.wait) + MARGIN,
            retry_policy=RETRIES,
        )

    def event(self, slots: Slots) -> dict[str, Any]:
        """Return the trigger as a CloudEvent."""
        event = {
            "specversion": "1.0",
            "type": "dev.purista.schedule.trigger",
            "source": "temporal/" + workflow.info().namespace,
            "subject": slots.schedule,
            "puristafingerprint": slots.fingerprint,
        }
        attributes = workflow.info().typed_search_attributes
        at = attributes.get(SCHEDULED)
        if at is not None and self.is_slot(at, slots):
            return {**event, **timed(slots.schedule, at)}
        event["puristamanual"] = "true"
        event["id"] = slots.schedule + "/" + workflow.info().run_id
        if at is not None:
            sent = {"schedule": attributes.get(SCHEDULED_BY), "time": at.isoformat()}
            event["temporal"] = sent
        return event

    def is_slot(self, at: datetime, slots: Slots) -> bool:
        """Return whether a time is on the grid of the slots."""
        phase, period = timedelta(seconds=slots.phase), timedelta(seconds=slots.period)
        return not (at - EPOCH - phase) % period


def timed(schedule: str, at: datetime) -> dict[str, str]:
    """Return the attributes of a trigger that has a nominal time."""
    text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"time": text, "id": schedule + "/" + text}


async def told(event: dict[str, Any]) -> dict[str, Any]:
    """Return a trigger as a person's only where its Schedule surely did not fire by itself.

    Temporal marks neither: where somebody has changed when a Schedule fires, the ingress is told the time.
    """
    sent = event.get("temporal")
    if sent is None:
        return event
    plain = {name: value for name, value in event.items() if name != "temporal"}
    at = datetime.fromisoformat(sent["time"])
    if await is_clicked(activity.client(), sent["schedule"], at):
        return plain
    return {**plain, "puristamanual": "false", **timed(plain["subject"], at)}


async def is_clicked(client: Client, schedule: str, at: datetime) -> bool:
    """Return whether a Schedule, which was not changed since, does not fire at a time by itself."""
    from temporalio.api.workflowservice.v1 import (
        DescribeScheduleRequest,
        ListScheduleMatchingTimesRequest,
    )
    from temporalio.service import RPCError, RPCStatusCode

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


@activity.defn(name="PuristaSendTrigger")
async def send_trigger(event: dict[str, Any]) -> dict[str, Any]:
    """Post a trigger; return what was decided."""
    event = await told(event)
    decision = await asyncio.to_thread(ask, event["subject"], "POST", "/triggers", event)
    if not isinstance(decision, dict) or not {"decision", "reason", "runId"} <= decision.keys():
        raise ApplicationError("the ingress answered without a decision", non_retryable=True)
    return decision


@activity.defn(name="PuristaAwaitRun")
async def await_run(place: dict[str, str]) -> dict[str, str]:
    """Ask for a run until it is over, ever more rarely; the heartbeat tells where it stands."""
    began, run_id = time.monotonic(), place["runId"]
    activity.heartbeat({"runId": run_id, "status": "unknown"})
    while True:
        run = await asyncio.to_thread(ask, place["schedule"], "GET", run_path(run_id))
        if run is None:
            return {"status": "unknown", "outcome": ""}
        activity.heartbeat({"runId": run_id, "status": run["status"]})
        if run["endedAt"] is not None:
            return {"status": run["status"], "outcome": run["outcome"]}
        if datetime.now(UTC) > datetime.fromisoformat(run["expiresAt"]) + SKEW:
            return {"status": "expired", "outcome": "run_timeout"}
        await asyncio.sleep(min(max((time.monotonic() - began) * 0.1, 0.5), 15))


@activity.defn(name="PuristaCancelRun")
async def cancel_run(place: dict[str, str]) -> bool:
    """Cancel a run; return whether it was active."""
    path, document = run_path(place["runId"]) + "/cancel", {"runId": place["runId"]}
    answer = await asyncio.to_thread(ask, place["schedule"], "POST", path, document)
    return answer is not None and answer["cancelled"]


def run_path(run_id: str) -> str:
    """Return where a run is."""
    return "/runs/" + urllib.parse.quote(run_id, safe="")


def ask(schedule: str, method: str, path: str, document: Any = None) -> Any:
    """Ask the ingress; what another try can mend is tried again, when it says. None: no such run."""
    headers = {"Content-Type": "application/cloudevents+json", "User-Agent": "purista"}
    if path != "/triggers":
        headers["Content-Type"] = "application/json"
    bearer = BEARERS.get(schedule, BEARER)
    if bearer is not None:
        headers["Authorization"] = "Bearer " + os.environ[bearer]
    data = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    try:
        with opener().open(request, timeout=30) as answer:
            return parsed(answer.read())
    except urllib.error.HTTPError as refused:
        with refused:
            problem = parsed(refused.read())
            is_problem = isinstance(problem, dict) and "urn:purista:" in str(problem.get("type"))
            if refused.code == 404 and is_problem and path != "/triggers":
                return None
            detail = ": " + str(problem.get("detail"))[:500] if is_problem else ""
            raise ApplicationError(
                "the ingress answered " + str(refused.code) + detail,
                type="Refused",
                non_retryable=refused.code < 500 and refused.code not in (408, 425, 429),
                next_retry_delay=delay_of(refused.headers.get("Retry-After")),
            ) from None


def parsed(text: bytes) -> Any:
    """Return the JSON value of an answer; its text where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text.decode(errors="replace")


def delay_of(text: str | None) -> timedelta | None:
    """Return what a Retry-After header says, which is seconds or a date (RFC 9110, 10.2.3)."""
    if not text:
        return None
    try:
        if not text.isdigit():
            return within(email.utils.mktime_tz(email.utils.parsedate_tz(text)) - time.time())
        return within(float(text))
    except (TypeError, ValueError, OverflowError):
        return None


def within(seconds: float) -> timedelta:
    """Return a delay that the service takes; at most a day."""
    return timedelta(seconds=min(max(seconds, 0.001), 86400))


def opener() -> urllib.request.OpenerDirector:
    """Return what sends requests; a redirect is an error, as the token is for the ingress alone."""

    # Inside of a function: the workflow sandbox lets no module derive from this class.
    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    return urllib.request.build_opener(NoRedirect)


async def apply(client: Client, folder: Path) -> list[str]:
    """Create or update the Schedules whose requests are in a folder; return their ids."""
    from google.protobuf.json_format import ParseDict
    from temporalio.api.workflowservice.v1 import CreateScheduleRequest
    from temporalio.service import RPCError, RPCStatusCode

    applied = []
    for document in documents(folder):
        wanted = ParseDict(document, CreateScheduleRequest())
        wanted.identity, wanted.request_id = "purista", str(uuid.uuid4())
        try:
            await client.workflow_service.create_schedule(wanted)
        except RPCError as error:
            if error.status is not RPCStatusCode.ALREADY_EXISTS:
                raise
            await update(client, wanted)
        applied.append(wanted.schedule_id)
    return applied


def documents(folder: Path) -> list[Any]:
    """Read the JSON files of a folder."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]


async def update(client: Client, wanted: Any) -> None:
    """Update a Schedule that is there; raise RuntimeError if its marker is not ours.

    Without the token of what was read: Temporal would drop the update without a word where that has changed.
    """
    from temporalio.api.workflowservice.v1 import DescribeScheduleRequest, UpdateScheduleRequest

    place = {"namespace": wanted.namespace, "schedule_id": wanted.schedule_id}
    found = await client.workflow_service.describe_schedule(DescribeScheduleRequest(**place))
    marker = "purista"
    if found.memo.fields[marker].data != wanted.memo.fields[marker].data:
        raise RuntimeError("Schedule " + wanted.schedule_id + " is none of purista's: left alone")
    await client.workflow_service.update_schedule(
        UpdateScheduleRequest(
            **place,
            schedule=wanted.schedule,
            identity=wanted.identity,
            request_id=wanted.request_id,
        )
    )


async def connect(namespace: str) -> Client:
    """Connect as Temporal's own tools do."""
    from temporalio.envconfig import ClientConfig

    options: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    return await Client.connect(**{**options, "namespace": namespace})


def worker(client: Client, task_queue: str) -> Worker:
    """Return a worker that carries triggers, and waits for runs."""
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[PuristaTrigger],
        activities=[send_trigger, await_run, cancel_run],
        max_concurrent_activities=1000,
    )


async def work() -> None:
    """Run a worker for each task queue until one of them fails."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32))
    workers = [worker(await connect(each), queue) for each, queue in POLLED]
    await asyncio.gather(*(each.run() for each in workers))


async def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    if arguments[:1] == ["apply"] and len(arguments) == 2:
        client = await connect(POLLED[0][0])
        for schedule in await apply(client, Path(arguments[1])):
            sys.stdout.write(schedule + "\n")
    elif arguments == ["worker"]:
        await work()
    else:
        sys.stderr.write(str(__doc__))
        return 2
    return 0


if __name__ == "__main__":
    code = asyncio.run(main(sys.argv[1:]))
    sys.stdout.flush()
    os._exit(code)  # Threads of the SDK would call into Python while it ends, and abort it.

"""A Cloud Scheduler to be changed live: jobs in memory behind a real gRPC server of the SDK's own types.

Strict as `google_calls.problems`, and besides: masks name fields as protocol buffers do, a page token is
one that was handed out, a job is paused only while it is enabled and resumed only while it is paused
(PauseJob, ResumeJob). What the service fills in, it fills in: state, times, retry settings, deadline,
method, time zone, audience, the header User-Agent. `fault` says which calls fail, and whether before or after their effect;
a dropped connection is a TCP reset, by a proxy that clients go through.

Not covered: identities and permissions, quotas, topics and service accounts that do not exist, App Engine
locations, job sizes over all headers, the grammar of English-like schedules (any that begins with "every", or has " of ",
is taken), the time of an UPDATE_FAILED job, and running anything: RunJob only writes down the name.
It keeps the state of a job that is updated, as Terraform's provider relies on; `updates_resume` has it
otherwise.

Pages: RPC = https://cloud.google.com/scheduler/docs/reference/rpc/google.cloud.scheduler.v1,
the defaults in the answers = hashicorp/terraform-provider-google, resource_cloud_scheduler_job.go.
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import grpc
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.scheduler_v1.services.cloud_scheduler.transports import (
    CloudSchedulerGrpcTransport,
)
from google.cloud.scheduler_v1.types import (
    CreateJobRequest,
    DeleteJobRequest,
    GetJobRequest,
    Job,
    ListJobsRequest,
    ListJobsResponse,
    PauseJobRequest,
    ResumeJobRequest,
    RunJobRequest,
    UpdateJobRequest,
)
from google.protobuf.empty_pb2 import Empty
from tests.engines import cloud_scheduler
from tests.engines.google_calls import document, job, problems
from tests.engines.proxy import HOST, Proxy, proxy

PARENT = "projects/shop-123456/locations/europe-west3"

_NAME = re.compile(re.escape(PARENT) + r"/jobs/[A-Za-z0-9_-]{1,500}")
_MASKED = (
    *("description", "schedule", "time_zone", "retry_config", "attempt_deadline"),
    *("http_target", "pubsub_target", "app_engine_http_target"),
)
_OUTPUT = ("user_update_time", "state", "status", "schedule_time", "last_attempt_time")
_RETRY = {
    "maxRetryDuration": "0s",
    "minBackoffDuration": "5s",
    "maxBackoffDuration": "3600s",
    "maxDoublings": 5,
}
_CODES = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of a call; `code` None: its connection is reset. `after` its effect, else before."""

    code: grpc.StatusCode | None = None
    after: bool = False


@dataclass(slots=True)
class Server:
    """The jobs, and every call that came, by its name. `fault` is asked with a call's number from 0."""

    url: str
    client: CloudSchedulerClient
    jobs: dict[str, Job] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    fault: Callable[[int, str], Fault | None] = lambda _number, _name: None
    page: int = 500
    updates_resume: bool = False

    def path(self, name: str) -> str:
        return f"{PARENT}/jobs/{name}"

    def json(self, name: str) -> dict[str, Any]:
        """A job as the REST API writes it."""
        return document(self.jobs[self.path(name)])

    def make(self, name: str, **parts: Any) -> None:
        """Make a job as a person does."""
        made = {"name": self.path(name), **parts}
        self.client.create_job(parent=PARENT, job=job(made))

    def edit(self, name: str, **parts: Any) -> None:
        """Change a job as a person does in the console."""
        changed = job({"name": self.path(name), **parts})
        paths = [re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", key) for key in parts]
        self.client.update_job({"job": changed, "update_mask": {"paths": paths}})


@contextmanager
def cloud_scheduler_server() -> Iterator[Server]:
    """A server on a free port of this machine, stopped when the context ends."""
    grpc_server = grpc.server(ThreadPoolExecutor(max_workers=16))
    port = grpc_server.add_insecure_port(f"{HOST}:0")
    with proxy(port) as front, grpc.insecure_channel(f"{HOST}:{port}") as channel:
        client = CloudSchedulerClient(transport=CloudSchedulerGrpcTransport(channel=channel))
        server = Server(f"http://{HOST}:{front.port}/", client)
        grpc_server.add_generic_rpc_handlers((_handlers(_Service(server), server, front),))
        grpc_server.start()
        try:
            yield server
        finally:
            grpc_server.stop(grace=None).wait()


class _Service:
    def __init__(self, server: Server) -> None:
        self._server = server

    def list(self, request: ListJobsRequest, context: grpc.ServicerContext) -> ListJobsResponse:
        if request.parent != PARENT:
            _refuse(context, _CODES.PERMISSION_DENIED, f"{request.parent}: it may not exist")
        names = sorted(self._server.jobs)
        if request.page_token:
            last = _read_token(request.page_token, context)
            names = [name for name in names if name > last]
        size = min(request.page_size or 500, self._server.page)
        page = names[:size]
        token = base64.b64encode(page[-1].encode()).decode() if len(names) > size else ""
        return ListJobsResponse(
            jobs=[self._server.jobs[name] for name in page], next_page_token=token
        )

    def get(self, request: GetJobRequest, context: grpc.ServicerContext) -> Job:
        return self._found(request.name, context)

    def create(self, request: CreateJobRequest, context: grpc.ServicerContext) -> Job:
        if request.parent != PARENT or not _NAME.fullmatch(request.job.name):
            _refuse(context, _CODES.INVALID_ARGUMENT, f"{request.job.name}: not below parent")
        self._check(request.job, context)
        if request.job.name in self._server.jobs:
            _refuse(context, _CODES.ALREADY_EXISTS, f"Job {request.job.name} already exists.")
        return self._store(request.job, Job.State.ENABLED)

    def update(self, request: UpdateJobRequest, context: grpc.ServicerContext) -> Job:
        stored = self._found(request.job.name, context)
        paths = list(request.update_mask.paths)
        if wrong := [path for path in paths if path not in _MASKED]:
            _refuse(context, _CODES.INVALID_ARGUMENT, f"Invalid mask for Job: {wrong}")
        changed = Job.pb(Job(stored if paths else request.job))
        for path in paths:
            changed.ClearField(path)
        for path in paths:
            if path in request.job:
                changed.MergeFrom(Job.pb(Job(**{path: getattr(request.job, path)})))
        self._check(Job.wrap(changed), context)
        resumes = self._server.updates_resume or stored.state != Job.State.PAUSED
        return self._store(Job.wrap(changed), Job.State.ENABLED if resumes else stored.state)

    def delete(self, request: DeleteJobRequest, context: grpc.ServicerContext) -> Empty:
        del self._server.jobs[self._found(request.name, context).name]
        return Empty()

    def pause(self, request: PauseJobRequest, context: grpc.ServicerContext) -> Job:
        return self._switched(request.name, Job.State.ENABLED, Job.State.PAUSED, context)

    def resume(self, request: ResumeJobRequest, context: grpc.ServicerContext) -> Job:
        return self._switched(request.name, Job.State.PAUSED, Job.State.ENABLED, context)

    def run(self, request: RunJobRequest, context: grpc.ServicerContext) -> Job:
        found = self._found(request.name, context)
        self._server.runs.append(found.name)
        return found

    def _switched(
        self, name: str, before: Job.State, after: Job.State, context: grpc.ServicerContext
    ) -> Job:
        found = self._found(name, context)
        if found.state != before:
            _refuse(context, _CODES.FAILED_PRECONDITION, f"Job is not {before.name}.")
        return self._store(found, after)

    def _found(self, name: str, context: grpc.ServicerContext) -> Job:
        if not _NAME.fullmatch(name):
            _refuse(context, _CODES.INVALID_ARGUMENT, f"{name} is no job name")
        if name not in self._server.jobs:
            _refuse(context, _CODES.NOT_FOUND, "Job not found.")
        return self._server.jobs[name]

    def _check(self, message: Job, context: grpc.ServicerContext) -> None:
        kept = Job(message)
        for name in _OUTPUT:  # UpdateJobRequest: "output only ... will be ignored"
            Job.pb(kept).ClearField(name)
        english = message.schedule.startswith("every ") or " of " in message.schedule
        faults = [
            fault
            for fault in problems(document(kept))
            if "ignored" not in fault and not (english and fault.startswith("schedule:"))
        ]
        if faults:
            _refuse(context, _CODES.INVALID_ARGUMENT, "; ".join(faults))

    def _store(self, message: Job, state: Job.State) -> Job:
        filled = job(_filled(document(message)))
        stored = Job(filled, state=state, user_update_time=datetime.now(UTC))
        next_time = _next_time(document(stored))
        if next_time is not None:
            stored.schedule_time = next_time
        self._server.jobs[stored.name] = stored
        return stored


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError


def _read_token(token: str, context: grpc.ServicerContext) -> str:
    try:
        name = base64.b64decode(token, validate=True).decode()
    except ValueError:
        name = ""
    if not _NAME.fullmatch(name):
        _refuse(context, _CODES.INVALID_ARGUMENT, "page_token is invalid")
    return name


def _filled(given: Mapping[str, Any]) -> dict[str, Any]:
    """A job with what the service fills in."""
    retry = {**_RETRY, **given.get("retryConfig", {})}
    found = {"timeZone": "Etc/UTC", **given, "retryConfig": retry}
    if "pubsubTarget" in given:
        return {key: value for key, value in found.items() if key != "attemptDeadline"}
    for kind in ("httpTarget", "appEngineHttpTarget"):
        if kind in given:
            found.setdefault("attemptDeadline", "180s")
            found[kind] = _filled_target(given[kind])
    return found


def _filled_target(given: Mapping[str, Any]) -> dict[str, Any]:
    content = {"Content-Type": "application/octet-stream"} if "body" in given else {}
    headers = {**content, **given.get("headers", {}), "User-Agent": "Google-Cloud-Scheduler"}
    found = {"httpMethod": "POST", **given, "headers": headers}
    if "oidcToken" in given:
        found["oidcToken"] = {"audience": given["uri"], **given["oidcToken"]}
    return found


def _next_time(given: Mapping[str, Any]) -> datetime | None:
    now = datetime.now(UTC)
    try:
        for days in (2, 40, 400, 1600):
            start, end = now, now + timedelta(days=days)
            if found := cloud_scheduler.fires({**given, "state": "ENABLED"}, start=start, end=end):
                return found[0]
    except cloud_scheduler.InvalidArgumentError:
        return None  # an English-like schedule
    return None


def _handlers(service: _Service, server: Server, front: Proxy) -> grpc.GenericRpcHandler:
    calls: Mapping[str, tuple[Callable[..., Any], Any, Callable[[Any], bytes]]] = {
        "CreateJob": (service.create, CreateJobRequest, Job.serialize),
        "GetJob": (service.get, GetJobRequest, Job.serialize),
        "ListJobs": (service.list, ListJobsRequest, ListJobsResponse.serialize),
        "UpdateJob": (service.update, UpdateJobRequest, Job.serialize),
        "DeleteJob": (service.delete, DeleteJobRequest, Empty.SerializeToString),
        "PauseJob": (service.pause, PauseJobRequest, Job.serialize),
        "ResumeJob": (service.resume, ResumeJobRequest, Job.serialize),
        "RunJob": (service.run, RunJobRequest, Job.serialize),
    }
    lock = threading.Lock()

    def faulty(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            with lock:
                fault = server.fault(len(server.calls), name)
                server.calls.append(name)
                if fault is not None and not fault.after:
                    _fail(fault, context, front)
                made = call(request, context)
                if fault is not None:
                    _fail(fault, context, front)
                return made

        return answer

    return grpc.method_handlers_generic_handler(
        "google.cloud.scheduler.v1.CloudScheduler",
        {
            name: grpc.unary_unary_rpc_method_handler(
                faulty(name, call), request.deserialize, answer
            )
            for name, (call, request, answer) in calls.items()
        },
    )


def _fail(fault: Fault, context: grpc.ServicerContext, front: Proxy) -> NoReturn:
    if fault.code is None:
        front.cut()
    _refuse(context, fault.code or _CODES.UNAVAILABLE, "as it was told")

"""Whether Google Cloud Scheduler would take a job: the SDK's own types, and a server made of them.

`problems` parses a job strictly into the SDK's message and holds it to the limits that the message's
documentation and the quota page state. `serve` starts a real gRPC server of those types on a free
port of this machine, and gives the SDK's own client connected to it; no Google address is asked.

Pages: JOB = https://docs.cloud.google.com/scheduler/docs/reference/rest/v1/projects.locations.jobs
(the same words as google/cloud/scheduler_v1/types/job.py and target.py in the SDK),
QUOTAS = https://docs.cloud.google.com/scheduler/quotas.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import grpc
from google.cloud.scheduler_v1 import CloudSchedulerClient
from google.cloud.scheduler_v1.services.cloud_scheduler.transports import (
    CloudSchedulerGrpcTransport,
)
from google.cloud.scheduler_v1.types import (
    CreateJobRequest,
    DeleteJobRequest,
    GetJobRequest,
    HttpMethod,
    Job,
    ListJobsRequest,
    ListJobsResponse,
    UpdateJobRequest,
)
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from tests.engines import cloud_scheduler

_PARENT = r"projects/[A-Za-z0-9:.-]+/locations/[a-z0-9-]+"
# JOB: "JOB_ID can contain only letters, numbers, hyphens, or underscores. The maximum length is 500".
_NAME = re.compile(_PARENT + r"/jobs/[A-Za-z0-9_-]{1,500}")
_TOPIC = re.compile(r"projects/[A-Za-z0-9:.-]+/topics/[A-Za-z][A-Za-z0-9._~+%-]{2,254}")
_OUTPUT_ONLY = ("user_update_time", "state", "status", "schedule_time", "last_attempt_time")
_BODY_METHODS = (HttpMethod.POST, HttpMethod.PUT, HttpMethod.PATCH)
# JOB: headers that "are ignored or replaced".
_REPLACED = re.compile(
    r"(?i)(Host|Content-Length|User-Agent|X-Google-.*|X-AppEngine-.*|X-CloudScheduler.*)"
)


def job(document: Mapping[str, Any]) -> Job:
    """The SDK's message of a job's JSON; raises ParseError for an unknown or ill-typed field."""
    return cast(
        Job, Job.wrap(ParseDict(dict(document), Job.pb(Job()), ignore_unknown_fields=False))
    )


def document(message: Job) -> dict[str, Any]:
    """The JSON of a job, as the REST API writes it."""
    return MessageToDict(Job.pb(message))


def problems(given: Mapping[str, Any]) -> list[str]:
    """What is wrong with a job's JSON (CreateJob's `job`); empty when the service should take it."""
    try:
        parsed = job(given)
    except ParseError as error:
        return [str(error)]
    kinds = [
        kind for kind in ("pubsubTarget", "httpTarget", "appEngineHttpTarget") if kind in given
    ]
    if len(kinds) != 1:
        return ["target: exactly one of pubsubTarget, httpTarget, appEngineHttpTarget"]
    return [*_job_problems(parsed), *_retry_problems(parsed), *_target_problems(parsed)]


def _job_problems(message: Job) -> Iterator[str]:
    if message.name and not _NAME.fullmatch(message.name):
        yield f"name: {message.name!r} is not projects/P/locations/L/jobs/J within its limits"
    if len(message.description) > 500:  # JOB: "must not contain more than 500 characters"
        yield "description: more than 500 characters"
    for name in _OUTPUT_ONLY:
        if name in message:
            yield f"{name}: output only"
    # JOB: "The maximum allowed size for a job is 1MB."
    if len(Job.serialize(message)) > 1_000_000:
        yield "job: more than 1 MB"
    try:
        now = cloud_scheduler.EPOCH
        cloud_scheduler.fires(
            {"schedule": message.schedule, "timeZone": message.time_zone}, start=now, end=now
        )
    except cloud_scheduler.InvalidArgumentError as error:
        yield f"schedule: {error}"


def _retry_problems(message: Job) -> Iterator[str]:
    retry = message.retry_config
    if not 0 <= retry.retry_count <= 5:
        # JOB: "Values greater than 5 and negative values are not allowed."
        yield f"retryConfig.retryCount: {retry.retry_count} is not 0 to 5"
    # QUOTAS and RetryConfig name no bounds for these; a negative time has no meaning.
    for name in ("max_retry_duration", "min_backoff_duration", "max_backoff_duration"):
        if name in retry and getattr(retry, name).total_seconds() < 0:
            yield f"retryConfig.{name}: negative"
    if retry.max_doublings < 0:
        yield "retryConfig.maxDoublings: negative"


def _target_problems(message: Job) -> Iterator[str]:
    if "attempt_deadline" in message:
        yield from _deadline_problems(message)
    if "pubsub_target" in message:
        yield from _pubsub_problems(message)
    if "http_target" in message:
        yield from _http_problems(message)


def _deadline_problems(message: Job) -> Iterator[str]:
    # proto-plus gives a timedelta where the SDK's annotation says Duration.
    seconds = cast(timedelta, message.attempt_deadline).total_seconds()
    # JOB: HTTP "[15 seconds, 30 minutes]", App Engine "[15 seconds, 24 hours 15 seconds]".
    if "http_target" in message and not 15 <= seconds <= 1800:
        yield f"attemptDeadline: {seconds:g} s is not within 15 s and 30 min"
    if "app_engine_http_target" in message and seconds and not 15 <= seconds <= 86415:
        yield f"attemptDeadline: {seconds:g} s is not within 15 s and 24 h 15 s"
    if "pubsub_target" in message:
        yield "attemptDeadline: ignored for a Pub/Sub target"


def _pubsub_problems(message: Job) -> Iterator[str]:
    target = message.pubsub_target
    if not _TOPIC.fullmatch(target.topic_name):
        yield f"pubsubTarget.topicName: {target.topic_name!r} is not projects/P/topics/T"
    # JOB: "The topic must be in the same project as the Cloud Scheduler job."
    elif message.name.split("/")[1:2] not in ([], target.topic_name.split("/")[1:2]):
        yield "pubsubTarget.topicName: not the job's project"
    # JOB: "must contain either non-empty data, or at least one attribute".
    if not target.data and not target.attributes:
        yield "pubsubTarget: neither data nor an attribute"


def _http_problems(message: Job) -> Iterator[str]:
    target = message.http_target
    if not re.match(r"https?://[^/\s]", target.uri):
        yield f"httpTarget.uri: {target.uri!r} does not begin with http:// or https://"
    if len(target.uri) > 2083:  # JOB: "2083 characters after encoding"
        yield "httpTarget.uri: more than 2083 characters"
    # JOB: "A request body is allowed only if the HTTP method is POST, PUT, or PATCH" - and
    # HTTP_METHOD_UNSPECIFIED "Defaults to POST".
    if target.body and target.http_method not in (0, *_BODY_METHODS):
        yield f"httpTarget.body: not with {target.http_method.name}"
    # JOB: "The total size of headers must be less than 80KB."
    if sum(len(name) + len(value) for name, value in target.headers.items()) >= 80_000:
        yield "httpTarget.headers: 80 KB or more"
    for name in target.headers:
        if _REPLACED.fullmatch(name):
            yield f"httpTarget.headers: {name} is ignored or replaced"
    # OidcToken: "The service account must be within the same project as the job."
    for kind in ("oidc_token", "oauth_token"):
        if kind in target and "@" not in getattr(target, kind).service_account_email:
            yield f"httpTarget.{kind}: serviceAccountEmail is needed"


@dataclass(frozen=True, slots=True)
class Server:
    """A Cloud Scheduler in memory: the jobs that it stores, and the SDK's client to it."""

    client: CloudSchedulerClient
    jobs: dict[str, Job] = field(default_factory=dict)


@contextmanager
def serve() -> Iterator[Server]:
    """A gRPC server on a free port of this machine, stopped when the context ends."""
    jobs: dict[str, Job] = {}
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers((_handlers(_Service(jobs)),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            transport = CloudSchedulerGrpcTransport(channel=channel)
            yield Server(CloudSchedulerClient(transport=transport), jobs)
    finally:
        server.stop(grace=None).wait()


class _Service:
    """The five calls, with the errors that Google's API design guide names (AIP-131 to AIP-135)."""

    def __init__(self, jobs: dict[str, Job]) -> None:
        self._jobs = jobs

    def create(self, request: CreateJobRequest, context: grpc.ServicerContext) -> Job:
        self._check(request.job, context)
        if not request.job.name.startswith(f"{request.parent}/jobs/"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "job.name is not below parent")
        if request.job.name in self._jobs:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Job {request.job.name} already exists")
        return self._store(request.job)

    def get(self, request: GetJobRequest, context: grpc.ServicerContext) -> Job:
        return self._found(request.name, context)

    def list(self, request: ListJobsRequest, context: grpc.ServicerContext) -> ListJobsResponse:
        """Page size: "The maximum page size is 500" (ListJobsRequest)."""
        names = sorted(name for name in self._jobs if name.startswith(f"{request.parent}/jobs/"))
        size, first = min(request.page_size or 500, 500), int(request.page_token or 0)
        more = str(first + size) if first + size < len(names) else ""
        page = [self._jobs[name] for name in names[first : first + size]]
        return ListJobsResponse(jobs=page, next_page_token=more)

    def update(self, request: UpdateJobRequest, context: grpc.ServicerContext) -> Job:
        """UpdateJobRequest: an empty mask replaces the job, another its fields."""
        stored = self._found(request.job.name, context)
        changed = Job.pb(Job(stored)) if request.update_mask.paths else Job.pb(Job(request.job))
        for path in request.update_mask.paths:
            changed.ClearField(path)
            if path in request.job:
                part = Job(**{path: getattr(request.job, path)})
                changed.MergeFrom(Job.pb(part))
        self._check(Job.wrap(changed), context)
        return self._store(Job.wrap(changed))

    def delete(self, request: DeleteJobRequest, context: grpc.ServicerContext) -> Empty:
        del self._jobs[self._found(request.name, context).name]
        return Empty()

    def _check(self, message: Job, context: grpc.ServicerContext) -> None:
        kept = Job(message)
        for name in _OUTPUT_ONLY:  # UpdateJobRequest: "output only ... will be ignored"
            Job.pb(kept).ClearField(name)
        # "Ignored" is a fault in an artifact, but nothing that the service refuses.
        if faults := [fault for fault in problems(document(kept)) if "ignored" not in fault]:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "; ".join(faults))

    def _found(self, name: str, context: grpc.ServicerContext) -> Job:
        if name not in self._jobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Job {name} not found")
        return self._jobs[name]

    def _store(self, message: Job) -> Job:
        stored = Job(message, state=Job.State.ENABLED)
        self._jobs[stored.name] = stored
        return stored


def _handlers(service: _Service) -> grpc.GenericRpcHandler:
    calls: Mapping[str, tuple[Callable[..., Any], Any, Callable[[Any], bytes]]] = {
        "CreateJob": (service.create, CreateJobRequest, Job.serialize),
        "GetJob": (service.get, GetJobRequest, Job.serialize),
        "ListJobs": (service.list, ListJobsRequest, ListJobsResponse.serialize),
        "UpdateJob": (service.update, UpdateJobRequest, Job.serialize),
        "DeleteJob": (service.delete, DeleteJobRequest, Empty.SerializeToString),
    }
    return grpc.method_handlers_generic_handler(
        "google.cloud.scheduler.v1.CloudScheduler",
        {
            name: grpc.unary_unary_rpc_method_handler(call, request.deserialize, answer)
            for name, (call, request, answer) in calls.items()
        },
    )


def send(server: Server, parent: str, given: str | Mapping[str, Any]) -> dict[str, Any]:
    """Create a job of this JSON with the SDK's client, and the JSON that GetJob answers."""
    wanted = json.loads(given) if isinstance(given, str) else given
    created = server.client.create_job(parent=parent, job=job(wanted))
    return document(server.client.get_job(name=created.name))

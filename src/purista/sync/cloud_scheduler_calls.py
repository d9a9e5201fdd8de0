"""Calls of Google Cloud Scheduler's API, over its SDK: jobs as JSON, each call tried again where that helps.

The SDK's own retries, which only some calls have, are switched off at each call.
https://cloud.google.com/scheduler/docs/reference/rpc
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from purista.errors import LoadError, MissingExtraError
from purista.sync.port import SyncError
from purista.sync.retrying import ATTEMPTS, rest

try:
    import google.auth
    import grpc
    from google.api_core.client_options import ClientOptions
    from google.api_core.exceptions import (
        AlreadyExists,
        FailedPrecondition,
        GoogleAPICallError,
        NotFound,
    )
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.scheduler_v1 import CloudSchedulerAsyncClient, Job, ListJobsRequest
    from google.cloud.scheduler_v1.services.cloud_scheduler.transports import (
        CloudSchedulerGrpcAsyncIOTransport,
    )
    from google.protobuf.field_mask_pb2 import FieldMask
    from google.protobuf.json_format import MessageToDict, ParseDict
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for Google Cloud Scheduler", "cloud-scheduler") from None

T = TypeVar("T")
Document = Mapping[str, Any]

ENDPOINT: Final = "CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDSCHEDULER"
"""Where the service is, if not at Google's usual place; gcloud reads it, too."""

PAGE: Final = 500
"""Jobs that one answer lists."""

TIMEOUT: Final = 20.0
"""Seconds that one call may take."""

QUOTA_SLOWER: Final = 6.0
"""So many times longer are pauses where a quota is used up, which is one of a minute."""

QUOTA: Final = frozenset({grpc.StatusCode.RESOURCE_EXHAUSTED})
"""What is refused for now and surely had no effect."""

FOR_NOW: Final = QUOTA | {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
}
"""What is worth another try."""


class Refusal(SyncError):
    """The service has refused a call, in the end. ``is_lost``: it may have had its effect."""

    def __init__(self, parent: str, error: GoogleAPICallError) -> None:
        super().__init__(f"Cloud Scheduler, {parent}: {_reason(error)}")
        self.is_lost = error.grpc_status_code in FOR_NOW - QUOTA


@asynccontextmanager
async def open_calls(parent: str) -> AsyncIterator[CloudSchedulerCalls]:
    """Connect with application default credentials, as Google's libraries do.

    With ``http://`` in the environment's address it is an emulator on this machine, which gets no
    credentials.
    """
    client = await _client(urlsplit(os.environ.get(ENDPOINT, "")))
    try:
        yield CloudSchedulerCalls(client, parent)
    finally:
        await client.transport.close()  # type: ignore[no-untyped-call]


class CloudSchedulerCalls:
    """The calls for the jobs of one project in one region, each sent once; ``tried`` sends again."""

    def __init__(self, client: CloudSchedulerAsyncClient, parent: str) -> None:
        self._client = client
        self.parent = parent

    def path(self, name: str) -> str:
        """Return the full name of a job."""
        return f"{self.parent}/jobs/{name}"

    async def listed(self) -> AsyncGenerator[Document, None]:
        """Yield all jobs, each once; asked for in pages, each tried again."""
        token, seen = "", set[str]()
        while True:
            asked = ListJobsRequest(parent=self.parent, page_size=PAGE, page_token=token)
            call = partial(self._client.list_jobs, request=asked, retry=None, timeout=TIMEOUT)
            page = await self.tried(call)
            for job in page.jobs:
                if job.name not in seen:
                    seen.add(job.name)
                    yield _document(job)
            token = page.next_page_token
            if not token:
                return

    async def get(self, name: str) -> Document | None:
        """Return a job, None where there is none."""
        try:
            job = await self._client.get_job(name=self.path(name), retry=None, timeout=TIMEOUT)
        except NotFound:
            return None
        return _document(job)

    async def create(self, document: Document) -> Document | None:
        """Make a job; return it, None where there is one already."""
        try:
            job = await self._client.create_job(
                parent=self.parent, job=_message(document), retry=None, timeout=TIMEOUT
            )
        except AlreadyExists:
            return None
        return _document(job)

    async def update(self, document: Document, mask: Collection[str]) -> Document | None:
        """Give a job what the mask names; return the job, None where there is none."""
        try:
            job = await self._client.update_job(
                job=_message(document),
                update_mask=FieldMask(paths=list(mask)),
                retry=None,
                timeout=TIMEOUT,
            )
        except NotFound:
            return None
        return _document(job)

    async def delete(self, name: str) -> None:
        """Delete a job, if there is one."""
        try:
            await self._client.delete_job(name=self.path(name), retry=None, timeout=TIMEOUT)
        except NotFound:
            return

    async def switch(self, name: str, *, paused: bool) -> Document | None:
        """Pause a job or let it run again, if it is not so already; return it, None where there is none.

        "A job must be in ENABLED to be paused" (PauseJob), and in PAUSED to be resumed.
        """
        call = self._client.pause_job if paused else self._client.resume_job
        try:
            job = await call(name=self.path(name), retry=None, timeout=TIMEOUT)
        except NotFound:
            return None
        except FailedPrecondition:
            there = await self.get(name)
            if there is not None and (there.get("state") == "PAUSED") != paused:
                raise
            return there
        return _document(job)

    async def run(self, name: str) -> None:
        """Let a job run now."""
        await self._client.run_job(name=self.path(name), retry=None, timeout=TIMEOUT)

    async def tried(
        self,
        attempt: Callable[[], Awaitable[T]],
        again: frozenset[grpc.StatusCode] = FOR_NOW,
    ) -> T:
        """Make an attempt, and another where the service refuses for now. Raises ``Refusal``."""
        for number in range(1, ATTEMPTS + 1):
            try:
                return await attempt()
            except GoogleAPICallError as error:
                code = error.grpc_status_code
                if code not in again or number == ATTEMPTS:
                    raise Refusal(self.parent, error) from None
            await rest(number, slower=QUOTA_SLOWER if code in QUOTA else 1.0)
        raise AssertionError


_SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
_LOGIN: Final = "run gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
_ROLES: Final = (
    "it takes roles/cloudscheduler.admin, and roles/iam.serviceAccountUser on the service account of "
    "the jobs"
)


def _reason(error: GoogleAPICallError) -> str:
    code, told = error.grpc_status_code, str(error.message)
    if code is grpc.StatusCode.UNAUTHENTICATED or "metadata from plugin" in told:
        return f"there is no valid access token; {_LOGIN}"
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return f"{told}; {_ROLES}"
    if code is grpc.StatusCode.UNAVAILABLE:
        return f"it does not answer: {told}; {ENDPOINT} says where it is"
    return told


async def _client(place: SplitResult) -> CloudSchedulerAsyncClient:
    if place.scheme == "http":
        return _emulated(place)
    if place.geturl() and not (place.scheme == "https" and place.hostname):
        raise LoadError(f"{ENDPOINT} is no address such as https://cloudscheduler.googleapis.com/")
    try:
        credentials, _ = await asyncio.to_thread(google.auth.default, scopes=_SCOPES)
    except (GoogleAuthError, ValueError, OSError):
        raise SyncError(f"Cloud Scheduler: there are no usable credentials; {_LOGIN}") from None
    options = ClientOptions(api_endpoint=_host(place) or None)
    return CloudSchedulerAsyncClient(credentials=credentials, client_options=options)


def _emulated(place: SplitResult) -> CloudSchedulerAsyncClient:
    if not _is_here(place.hostname or ""):
        raise LoadError(f"{ENDPOINT}: http:// is for this machine only; use https://")
    channel = grpc.aio.insecure_channel(_host(place), options=[("grpc.enable_http_proxy", 0)])
    return CloudSchedulerAsyncClient(transport=CloudSchedulerGrpcAsyncIOTransport(channel=channel))


def _host(place: SplitResult) -> str:
    """Return host and port, without the name and password that an address can have."""
    return place.netloc.rpartition("@")[2]


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _document(job: Job) -> Document:
    found: dict[str, Any] = MessageToDict(Job.pb(job))
    return found


def _message(document: Document) -> Job:
    return Job(ParseDict(dict(document), Job.pb(Job())))

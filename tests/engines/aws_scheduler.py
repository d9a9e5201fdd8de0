"""EventBridge Scheduler on a port of this machine: moto's account, behind a model that refuses what AWS would.

moto takes nearly anything, so each request is held to botocore's model of the service and to the rules of
`aws_calls` first (lengths, patterns, ranges, `cron`/`rate`/`at`, time zones, windows, input), and to what
moto leaves out: groups that are not there, names that are taken, roles that cannot be assumed, a StartDate
that is over, ClientTokens, `ActionAfterCompletion` of an update. Any call can be throttled, refused, or cut
off before or after its effect. Sent are real HTTP requests, read are real HTTP answers.

Not covered: who may do what, quotas, lists that are behind, whether targets exist, when anything fires and
what is deleted thereafter (`eventbridge`), ClientTokens that expire, keys of KMS. `DescribeRule` of
EventBridge is moto's own, as are the rules that a test puts there.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

import boto3
from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.model import OperationModel
from botocore.session import get_session
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.core.botocore_stubber import BotocoreStubber
from tests.engines.aws_calls import REGION, problems

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "hunter2"}
MODEL = get_session().get_service_model("scheduler")
STATUS = {
    "AccessDeniedException": 403,
    "ConflictException": 409,
    "InternalServerException": 500,
    "ResourceNotFoundException": 404,
    "ThrottlingException": 429,
    "ValidationException": 400,
}
# API_CreateSchedule.html and API_UpdateSchedule.html: "The StartDate you specify cannot be earlier
# than 5 minutes ago" is what the service answers.
LATE = timedelta(minutes=5)

When = Literal["before", "after"]
Answer = tuple[int, Mapping[str, str], bytes]


class RefusedError(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Trouble:
    """What becomes of the next `times` calls of an operation, or of any.

    It is a refusal with a word of AWS, or a cut connection where that is empty.
    """

    times: int
    code: str = ""
    when: When = "before"
    operation: str = ""

    def meets(self, operation: str) -> bool:
        return self.times > 0 and self.operation in ("", operation)


@dataclass
class Scheduler:
    """The server. `calls` are the operations that it was asked for."""

    url: str = ""
    calls: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    refused_roles: set[str] = field(default_factory=set)
    dies_at: tuple[int, When] | None = None
    _tokens: dict[str, tuple[Any, Answer]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def environment(self) -> dict[str, str]:
        """What points boto3 here."""
        return {
            **CREDENTIALS,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_SCHEDULER": self.url,
            "AWS_ENDPOINT_URL_EVENTBRIDGE": self.url,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def trouble(
        self, times: int, code: str = "", *, when: When = "before", operation: str = ""
    ) -> None:
        """Let the next calls fail."""
        with self._lock:
            self.troubles.append(Trouble(times, code, when, operation))

    def die(self, number: int, when: When) -> None:
        """Cut off that call from now on, before or after its effect, and all that come after it."""
        with self._lock:
            self.dies_at = (len(self.calls) + number, when)

    def revive(self) -> None:
        """Answer again."""
        with self._lock:
            self.dies_at = None
            self.troubles.clear()

    def client(self, service: str = "scheduler") -> Any:
        """boto3, as a person's tools have it."""
        keys = {key.lower(): text for key, text in CREDENTIALS.items()}
        config = Config(retries={"total_max_attempts": 1}, proxies={})
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.url, config=config, **keys
        )

    def stored(self, group: str = "purista") -> dict[str, dict[str, Any]]:
        """All of a group, by name, as moto keeps it."""
        with self._lock:
            groups = _backend("scheduler").schedule_groups
            found = groups[group].schedules if group in groups else {}
            return {name: json.loads(json.dumps(one.to_dict())) for name, one in found.items()}

    def snapshot(self) -> Callable[[], None]:
        """What puts the groups and schedules back as they are now."""
        with self._lock:
            kept = deepcopy(_backend("scheduler").schedule_groups)

        def put_back() -> None:
            with self._lock:
                _backend("scheduler").schedule_groups = deepcopy(kept)

        return put_back

    def answer(self, method: str, path: str, headers: HTTPHeaders, body: bytes) -> Answer | None:
        """What is answered; None for a connection that is cut off."""
        with self._lock:
            operation, request = _read(method, path, headers, body)
            trouble = self._next(operation)
            try:
                if trouble is not None and trouble.when == "before":
                    return _troubled(trouble)
                answer = self._done(operation, request, method, path, headers, body)
            except RefusedError as refused:
                answer = _refusal(refused)
            return answer if trouble is None else _troubled(trouble)

    def _next(self, operation: str) -> Trouble | None:
        self.calls.append(operation)
        number = len(self.calls)
        if self.dies_at is not None and number >= self.dies_at[0]:
            return Trouble(1, when=self.dies_at[1] if number == self.dies_at[0] else "before")
        found = next((each for each in self.troubles if each.meets(operation)), None)
        if found is not None:
            found.times -= 1
        return found

    def _done(
        self,
        operation: str,
        request: dict[str, Any],
        method: str,
        path: str,
        headers: HTTPHeaders,
        body: bytes,
    ) -> Answer:
        token = request.get("ClientToken")
        if token in self._tokens:
            before, answer = self._tokens[token]
            if before != (operation, request):
                raise RefusedError("ConflictException", "the token was used for something else")
            return answer
        self._check(operation, request)
        answer = _moto(operation, method, path, headers, body)
        if operation == "UpdateSchedule":
            stored = _group(request).schedules[request["Name"]]
            stored.action_after_completion = request.get("ActionAfterCompletion", "NONE")
        if token is not None and answer[0] == 200:
            self._tokens[token] = (operation, request), answer
        return answer

    def _check(self, operation: str, request: dict[str, Any]) -> None:
        if operation == "DescribeRule":
            return
        if operation in ("CreateSchedule", "UpdateSchedule"):
            self._check_schedule(request)
        else:
            _refuse(problems(operation, request))
        groups = _backend("scheduler").schedule_groups
        match operation:
            case "CreateScheduleGroup" if request["Name"] in groups:
                raise RefusedError("ConflictException", f"group {request['Name']} is there")
            case "CreateSchedule" if request["Name"] in _group(request).schedules:
                raise RefusedError("ConflictException", f"{request['Name']} already exists.")
            case "UpdateSchedule" | "GetSchedule" | "DeleteSchedule":
                if request["Name"] not in _group(request).schedules:
                    raise RefusedError(
                        "ResourceNotFoundException", f"{request['Name']} does not exist."
                    )
            case "ListSchedules" if "GroupName" in request:
                _group(request)

    def _check_schedule(self, request: dict[str, Any]) -> None:
        _refuse(problems("CreateSchedule", request))
        if request["Target"]["RoleArn"] in self.refused_roles:
            raise RefusedError(
                "ValidationException",
                "The execution role you provide must allow AWS EventBridge Scheduler to assume the role.",
            )
        start, end = request.get("StartDate"), request.get("EndDate")
        if start and start < datetime.now(UTC) - LATE:
            raise RefusedError(
                "ValidationException", "The StartDate is earlier than 5 minutes ago."
            )
        if start and end and end <= start:
            raise RefusedError("ValidationException", "The EndDate is not after the StartDate.")


@contextmanager
def aws_scheduler() -> Iterator[Scheduler]:
    """An empty account that answers on a free port until the context ends; one at a time."""
    for service in ("scheduler", "events"):
        get_backend(service)[DEFAULT_ACCOUNT_ID][REGION].reset()
    scheduler = Scheduler()

    class Handler(_Handler):
        model = scheduler

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheduler.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield scheduler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one segment for an answer, else it waits for an acknowledgement
    model: Scheduler

    def do_GET(self) -> None:
        headers = HTTPHeaders()
        for name, text in self.headers.items():
            headers[name] = text
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.model.answer(self.command, self.path, headers, body)
        if found is None:
            self.close_connection = True
            return
        status, others, content = found
        self.send_response(status)
        for name, text in others.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names of http.server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Nothing."""


def _read(method: str, path: str, headers: HTTPHeaders, body: bytes) -> tuple[str, dict[str, Any]]:
    """The operation, and the request as botocore would be given it."""
    target = headers.get("X-Amz-Target", "")
    if target:
        return target.rpartition(".")[2], json.loads(body)
    url = urlsplit(path)
    for name in MODEL.operation_names:
        operation = MODEL.operation_model(name)
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", operation.http["requestUri"])
        found = re.fullmatch(pattern, url.path)
        if found and operation.http["method"] == method:
            return name, _request(operation, found.groupdict(), url.query, body)
    raise AssertionError(f"{method} {path}")


def _request(
    operation: OperationModel, named: Mapping[str, str], query: str, body: bytes
) -> dict[str, Any]:
    shape = operation.input_shape
    assert shape is not None
    given: dict[str, Any] = {**json.loads(body or b"{}"), **dict(parse_qsl(query))}
    given |= {name: unquote(text) for name, text in named.items()}
    found = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        if wire in given:
            found[name] = _value(member.type_name, given.pop(wire))
    if given:
        raise AssertionError(f"{operation.name}: unknown members {sorted(given)}")
    return found


def _value(kind: str, value: Any) -> Any:
    if kind == "timestamp":
        return datetime.fromtimestamp(value, UTC)
    return int(value) if kind == "integer" else value


def _moto(operation: str, method: str, path: str, headers: HTTPHeaders, body: bytes) -> Answer:
    host = "events" if operation == "DescribeRule" or "X-Amz-Target" in headers else "scheduler"
    url = f"https://{host}.{REGION}.amazonaws.com{path}"
    found = BotocoreStubber().process_request(
        AWSPreparedRequest(method, url, headers, body, stream_output=False)
    )
    assert found is not None
    status, others, content = found
    kept = {name: text for name, text in others.items() if name.lower().startswith("x-amz")}
    return status, kept, content.encode() if isinstance(content, str) else content


def _backend(service: Any) -> Any:
    return get_backend(service)[DEFAULT_ACCOUNT_ID][REGION]


def _group(request: Mapping[str, Any]) -> Any:
    name = request.get("GroupName", "default")
    groups = _backend("scheduler").schedule_groups
    if name not in groups:
        raise RefusedError("ResourceNotFoundException", f"Schedule group {name} does not exist.")
    return groups[name]


def _refuse(found: list[str]) -> None:
    if found:
        raise RefusedError("ValidationException", "; ".join(found))


def _refusal(refused: RefusedError) -> Answer:
    body = json.dumps({"Message": str(refused)}).encode()
    return STATUS[refused.code], {"x-amzn-ErrorType": refused.code}, body


def _troubled(trouble: Trouble) -> Answer | None:
    return _refusal(RefusedError(trouble.code, "slow down")) if trouble.code else None

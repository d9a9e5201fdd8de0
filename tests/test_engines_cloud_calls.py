"""The validators of cloud requests: each takes what is right and refuses what is wrong."""

import base64
import json
import socket
from copy import deepcopy
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, InvalidArgument, NotFound
from google.protobuf.field_mask_pb2 import FieldMask
from tests.engines import aws_calls, google_calls

ROLE = "arn:aws:iam::123456789012:role/scheduler"
QUEUE = "arn:aws:sqs:eu-central-1:123456789012:triggers"
BUS = "arn:aws:events:eu-central-1:123456789012:event-bus/default"
DESTINATION = "arn:aws:events:eu-central-1:123456789012:api-destination/d/0b0f5c1e-0000"
CONNECTION = "arn:aws:events:eu-central-1:123456789012:connection/c/0b0f5c1e-0000"
SCHEDULE: dict[str, Any] = {
    "Name": "billing.v1.monthly",
    "GroupName": "purista",
    "ScheduleExpression": "cron(0 2 1 * ? *)",
    "ScheduleExpressionTimezone": "Europe/Berlin",
    "FlexibleTimeWindow": {"Mode": "OFF"},
    "Target": {
        "Arn": QUEUE,
        "RoleArn": ROLE,
        "Input": '{"time": "<aws.scheduler.scheduled-time>"}',
        "RetryPolicy": {"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
    },
}
REQUESTS: dict[str, dict[str, Any]] = {
    "CreateSchedule": SCHEDULE,
    "CreateScheduleGroup": {"Name": "purista", "Tags": [{"Key": "owner", "Value": "purista"}]},
    "PutRule": {"Name": "hourly", "ScheduleExpression": "rate(1 hour)"},
    "PutTargets": {"Rule": "hourly", "Targets": [{"Id": "one", "Arn": QUEUE, "Input": "{}"}]},
    "CreateConnection": {
        "Name": "ingress",
        "AuthorizationType": "API_KEY",
        "AuthParameters": {
            "ApiKeyAuthParameters": {"ApiKeyName": "Authorization", "ApiKeyValue": "Bearer x"}
        },
    },
    "CreateApiDestination": {
        "Name": "ingress",
        "ConnectionArn": CONNECTION,
        "InvocationEndpoint": "https://ingress.example/triggers",
        "HttpMethod": "POST",
    },
}
PARENT = "projects/shop-1/locations/europe-west3"
HTTP_JOB: dict[str, Any] = {
    "name": f"{PARENT}/jobs/billing-v1-monthly",
    "description": "The month's bills",
    "schedule": "0 2 1 * *",
    "timeZone": "Europe/Berlin",
    "attemptDeadline": "180s",
    "retryConfig": {"retryCount": 3, "minBackoffDuration": "5s"},
    "httpTarget": {
        "uri": "https://ingress.example/triggers",
        "httpMethod": "POST",
        "headers": {"Content-Type": "application/json"},
        "body": base64.b64encode(b"{}").decode(),
        "oidcToken": {"serviceAccountEmail": "s@shop-1.iam.gserviceaccount.com"},
    },
}
PUBSUB_JOB: dict[str, Any] = {
    "name": f"{PARENT}/jobs/hourly",
    "schedule": "0 * * * *",
    "timeZone": "Etc/UTC",
    "pubsubTarget": {
        "topicName": "projects/shop-1/topics/triggers",
        "attributes": {"subject": "billing.v1.hourly"},
    },
}


def changed(value: dict[str, Any], path: str, new: object) -> dict[str, Any]:
    """A copy with another value at a dotted path; None takes the member away."""
    copy = deepcopy(value)
    *steps, last = path.split(".")
    inner: Any = copy
    for step in steps:
        inner = inner[int(step)] if step.isdecimal() else inner[step]
    if new is None:
        del inner[last]
    else:
        inner[last] = new
    return copy


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("operation", REQUESTS)
def test_a_right_aws_request_has_no_problems(operation: str):
    assert aws_calls.problems(operation, REQUESTS[operation]) == []


@pytest.mark.parametrize(
    ("operation", "path", "value", "fault"),
    [
        ("CreateSchedule", "Name", "a b", "does not match"),
        ("CreateSchedule", "Name", "x" * 65, "more than 64"),
        ("CreateSchedule", "Name", None, 'Missing required parameter in input: "Name"'),
        ("CreateSchedule", "Naem", "x", "Unknown parameter"),
        ("CreateSchedule", "Description", "x" * 513, "more than 512"),
        ("CreateSchedule", "ScheduleExpression", "0 2 1 * *", "Invalid Schedule Expression"),
        ("CreateSchedule", "ScheduleExpression", "cron(" + "1," * 130, "more than 256"),
        ("CreateSchedule", "ScheduleExpressionTimezone", "Mars/Base", "Invalid"),
        ("CreateSchedule", "State", "PAUSED", "not one of"),
        ("CreateSchedule", "FlexibleTimeWindow.Mode", "ON", "not one of"),
        ("CreateSchedule", "FlexibleTimeWindow.MaximumWindowInMinutes", 5, "beside Mode OFF"),
        ("CreateSchedule", "Target.RoleArn", "scheduler", "does not match"),
        ("CreateSchedule", "Target.RetryPolicy.MaximumRetryAttempts", 186, "more than 185"),
        (
            "CreateSchedule",
            "Target.RetryPolicy.MaximumEventAgeInSeconds",
            59,
            "valid min value: 60",
        ),
        ("CreateSchedule", "Target.Input", "<aws.scheduler.time>", "context attribute"),
        ("CreateSchedule", "Target.Input", "x" * 262_145, "256 KB"),
        ("CreateSchedule", "Target.Arn", QUEUE + ".fifo", "FIFO"),
        ("CreateSchedule", "Target.Arn", BUS, "EventBridgeParameters"),
        ("CreateSchedule", "Target.Arn", DESTINATION, "rules only"),
        ("CreateSchedule", "Target.Arn", "arn:aws:scheduler:::sqs:sendMessage", "aws-sdk"),
        (
            "CreateSchedule",
            "Target.DeadLetterConfig",
            {"Arn": QUEUE + ".fifo"},
            "does not match",
        ),
        ("CreateScheduleGroup", "Name", "", "valid min length: 1"),
        ("CreateScheduleGroup", "Tags", [{"Key": "owner"}], "Missing required"),
        ("PutRule", "ScheduleExpression", "rate(1 hours)", "not valid"),
        ("PutRule", "ScheduleExpression", None, "neither"),
        ("PutRule", "EventBusName", "mine", "default event bus"),
        ("PutTargets", "Targets", [{"Id": "a b", "Arn": QUEUE}], "does not match"),
        ("PutTargets", "Targets", [{"Id": str(n), "Arn": QUEUE} for n in range(6)], "more than 5"),
        ("PutTargets", "Targets.0.InputPath", "$.detail", "exclude each other"),
        ("PutTargets", "Targets.0.Input", "x" * 8193, "more than 8192"),
        ("PutTargets", "Targets.0.InputTransformer", {"InputTemplate": "<time>"}, "InputPathsMap"),
        ("PutTargets", "Targets.0.Arn", DESTINATION, "RoleArn"),
        ("CreateConnection", "AuthorizationType", "BASIC", "BasicAuthParameters"),
        ("CreateConnection", "AuthorizationType", "NONE", "not one of"),
        ("CreateApiDestination", "InvocationEndpoint", "http://ingress.example/", "HTTPS"),
        ("CreateApiDestination", "ConnectionArn", "ingress", "does not match"),
        ("CreateApiDestination", "HttpMethod", "CONNECT", "not one of"),
    ],
)
def test_a_wrong_aws_request_is_refused(operation: str, path: str, value: object, fault: str):
    found = aws_calls.problems(operation, changed(REQUESTS[operation], path, value))
    assert any(fault in one for one in found), found


def test_an_unknown_operation_is_an_error():
    with pytest.raises(KeyError):
        aws_calls.problems("CreateCron", {})


def test_an_event_bus_and_a_universal_target_are_taken():
    bus = changed(SCHEDULE, "Target.Arn", BUS)
    parameters = {"DetailType": "purista.trigger", "Source": "dev.purista"}
    bus = changed(bus, "Target.EventBridgeParameters", parameters)
    universal = changed(SCHEDULE, "Target.Arn", "arn:aws:scheduler:::aws-sdk:sqs:sendMessage")
    assert aws_calls.problems("CreateSchedule", bus) == []
    assert aws_calls.problems("CreateSchedule", universal) == []
    reserved = changed(bus, "Target.EventBridgeParameters.Source", "aws.mine")
    assert aws_calls.problems("CreateSchedule", reserved)


def test_requests_that_are_sent_can_be_read_back():
    with aws_calls.account() as account:
        for operation in ("CreateScheduleGroup", "CreateSchedule", "PutRule", "PutTargets"):
            request = REQUESTS[operation]
            account.call(operation, request)
            stored = account.read_back(operation, request)
            told = {name: stored[name] for name in request if name in stored}
            assert told == {name: request[name] for name in told}
            assert told
    with aws_calls.account() as empty:
        assert empty.clients["scheduler"].list_schedules()["Schedules"] == []


def test_the_api_destination_route_can_be_sent():
    with aws_calls.account() as account:
        made = account.call("CreateConnection", REQUESTS["CreateConnection"])
        destination = changed(
            REQUESTS["CreateApiDestination"], "ConnectionArn", made["ConnectionArn"]
        )
        account.call("CreateApiDestination", destination)
        stored = account.read_back("CreateApiDestination", destination)
        assert stored["InvocationEndpoint"] == "https://ingress.example/triggers"


@pytest.mark.usefixtures("offline")
def test_cfn_lint_takes_a_right_template_and_refuses_a_wrong_one():
    resource = {"Type": "AWS::Scheduler::Schedule", "Properties": SCHEDULE}
    assert aws_calls.lint(json.dumps({"Resources": {"Monthly": resource}})) == []
    for path, value in (("Name", "a b"), ("Cron", "x"), ("Target", None), ("State", "ON")):
        wrong = {**resource, "Properties": changed(SCHEDULE, path, value)}
        assert aws_calls.lint(json.dumps({"Resources": {"Monthly": wrong}}))
    assert aws_calls.lint("{")


@pytest.mark.usefixtures("offline")
def test_cloudformation_has_no_action_after_completion():
    properties = {**SCHEDULE, "ActionAfterCompletion": "DELETE"}
    resource = {"Type": "AWS::Scheduler::Schedule", "Properties": properties}
    found = aws_calls.lint(json.dumps({"Resources": {"Monthly": resource}}))
    assert [one for one in found if "ActionAfterCompletion" in one]


@pytest.mark.parametrize("job", [HTTP_JOB, PUBSUB_JOB])
def test_a_right_job_has_no_problems(job: dict[str, Any]):
    assert google_calls.problems(job) == []
    assert google_calls.document(google_calls.job(job)) == job


@pytest.mark.parametrize(
    ("job", "path", "value", "fault"),
    [
        (HTTP_JOB, "nmae", "x", 'no field named "nmae"'),
        (HTTP_JOB, "name", "monthly", "name:"),
        (HTTP_JOB, "name", f"{PARENT}/jobs/a.b", "name:"),
        (HTTP_JOB, "name", f"{PARENT}/jobs/" + "x" * 501, "name:"),
        (HTTP_JOB, "description", "x" * 501, "500 characters"),
        (HTTP_JOB, "schedule", "0 2 1 *", "five fields"),
        (HTTP_JOB, "timeZone", "Mars/Base", "tz database"),
        (HTTP_JOB, "attemptDeadline", "14s", "attemptDeadline"),
        (HTTP_JOB, "attemptDeadline", "1801s", "attemptDeadline"),
        (HTTP_JOB, "attemptDeadline", "3 minutes", "attemptDeadline"),
        (HTTP_JOB, "retryConfig.retryCount", 6, "0 to 5"),
        (HTTP_JOB, "retryConfig.minBackoffDuration", "-5s", "negative"),
        (HTTP_JOB, "state", "PAUSED", "output only"),
        (HTTP_JOB, "httpTarget.uri", "ftp://x", "http://"),
        (HTTP_JOB, "httpTarget.uri", "https://" + "x" * 2076, "2083"),
        (HTTP_JOB, "httpTarget.httpMethod", "GET", "body"),
        (HTTP_JOB, "httpTarget.httpMethod", "FETCH", "FETCH"),
        (HTTP_JOB, "httpTarget.headers", {"X-CloudScheduler-JobName": "x"}, "replaced"),
        (HTTP_JOB, "httpTarget.headers", {"X-Big": "x" * 80_000}, "80 KB"),
        (HTTP_JOB, "httpTarget.oidcToken", {"audience": "x"}, "serviceAccountEmail"),
        (HTTP_JOB, "httpTarget.oauthToken", {"scope": "x"}, "oneof"),
        (HTTP_JOB, "httpTarget", None, "exactly one"),
        (HTTP_JOB, "pubsubTarget", {}, "oneof"),
        (PUBSUB_JOB, "attemptDeadline", "60s", "ignored"),
        (PUBSUB_JOB, "pubsubTarget.topicName", "triggers", "topicName"),
        (PUBSUB_JOB, "pubsubTarget.topicName", "projects/other/topics/triggers", "project"),
        (PUBSUB_JOB, "pubsubTarget.attributes", None, "neither"),
        (PUBSUB_JOB, "pubsubTarget.data", "x" * 1_400_000, "1 MB"),
    ],
)
def test_a_wrong_job_is_refused(job: dict[str, Any], path: str, value: object, fault: str):
    found = google_calls.problems(changed(job, path, value))
    assert any(fault in one for one in found), found


def test_jobs_are_created_listed_updated_and_deleted_over_grpc():
    with google_calls.serve() as server:
        sent = google_calls.send(server, PARENT, HTTP_JOB)
        assert sent == {**HTTP_JOB, "state": "ENABLED"}
        google_calls.send(server, PARENT, json.dumps(PUBSUB_JOB))
        names = [job.name for job in server.client.list_jobs(parent=PARENT)]
        assert names == sorted([HTTP_JOB["name"], PUBSUB_JOB["name"]])
        patch = google_calls.job({"name": HTTP_JOB["name"], "description": "Bills"})
        server.client.update_job(job=patch, update_mask=FieldMask(paths=["description"]))
        assert server.client.get_job(name=HTTP_JOB["name"]).schedule == HTTP_JOB["schedule"]
        assert server.client.get_job(name=HTTP_JOB["name"]).description == "Bills"
        server.client.delete_job(name=HTTP_JOB["name"])
        with pytest.raises(NotFound):
            server.client.get_job(name=HTTP_JOB["name"])
        assert list(server.jobs) == [PUBSUB_JOB["name"]]


def test_a_list_comes_in_pages():
    with google_calls.serve() as server:
        for number in range(3):
            job = changed(PUBSUB_JOB, "name", f"{PARENT}/jobs/job-{number}")
            google_calls.send(server, PARENT, job)
        pages = server.client.list_jobs(request={"parent": PARENT, "page_size": 2}).pages
        assert [len(page.jobs) for page in pages] == [2, 1]


def test_the_server_refuses_what_the_service_would():
    with google_calls.serve() as server:
        google_calls.send(server, PARENT, HTTP_JOB)
        with pytest.raises(AlreadyExists):
            google_calls.send(server, PARENT, HTTP_JOB)
        wrong = changed(PUBSUB_JOB, "schedule", "hourly")
        with pytest.raises(InvalidArgument, match="five fields"):
            google_calls.send(server, PARENT, wrong)
        with pytest.raises(InvalidArgument, match="parent"):
            google_calls.send(server, "projects/shop-1/locations/us-east1", PUBSUB_JOB)

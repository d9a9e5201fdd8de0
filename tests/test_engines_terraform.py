"""The schema of Terraform's resources takes what is right and refuses what is wrong."""

import json
from copy import deepcopy
from typing import Any

import pytest
from tests.engines import terraform

TERRAFORM: dict[str, Any] = {
    "variable": {"role_arn": {"type": "string"}, "queue_arn": {"type": "string"}},
    "resource": {
        "aws_scheduler_schedule_group": {"purista": {"name": "purista"}},
        "aws_scheduler_schedule": {
            "monthly": {
                "name": "monthly",
                "group_name": "${aws_scheduler_schedule_group.purista.name}",
                "schedule_expression": "cron(0 2 1 * ? *)",
                "schedule_expression_timezone": "Europe/Berlin",
                "flexible_time_window": {"mode": "OFF"},
                "target": [
                    {
                        "arn": "${var.queue_arn}",
                        "role_arn": "${var.role_arn}",
                        "input": '{"text": "$${kept}"}',
                        "retry_policy": {"maximum_retry_attempts": 0},
                    }
                ],
            }
        },
        "google_cloud_scheduler_job": {
            "monthly": {
                "name": "monthly",
                "schedule": "0 2 1 * *",
                "http_target": {
                    "uri": "https://ingress.example/",
                    "oidc_token": {"service_account_email": "s@shop-1.iam.gserviceaccount.com"},
                },
            }
        },
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


def test_a_right_terraform_file_has_no_problems():
    assert terraform.problems(json.dumps(TERRAFORM)) == []


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("resource.aws_lambda_function", {}, "not a resource that we write"),
        ("resources", {}, "not a block"),
        ("resource.aws_scheduler_schedule.monthly.cron", "x", "not an argument"),
        ("resource.aws_scheduler_schedule.monthly.target", None, "required"),
        ("resource.aws_scheduler_schedule.monthly.name", "a b", "does not match"),
        ("resource.aws_scheduler_schedule.monthly.state", "ON", "not one of"),
        ("resource.aws_scheduler_schedule.monthly.schedule_expression", 5, "not a string"),
        ("resource.aws_scheduler_schedule.monthly.target.0.arn", "${var.nope}", "not declared"),
        ("resource.aws_scheduler_schedule.monthly.target.0.input", "${x}", "not declared"),
        ("resource.aws_scheduler_schedule.monthly.target.0.input", "%{ if x }", "directive"),
        (
            "resource.aws_scheduler_schedule.monthly.target.0.retry_policy.maximum_retry_attempts",
            186,
            "not within",
        ),
        ("resource.aws_scheduler_schedule.9", {}, "not an identifier"),
        ("resource.google_cloud_scheduler_job.monthly.http_target", None, "exactly one"),
        ("resource.google_cloud_scheduler_job.monthly.http_target.uri", None, "required"),
        ("resource.google_cloud_scheduler_job.monthly.attempt_deadline", "3m", "does not match"),
        ("resource.google_cloud_scheduler_job.monthly.paused", "no", "not a bool"),
    ],
)
def test_a_wrong_terraform_file_is_refused(path: str, value: object, fault: str):
    found = terraform.problems(json.dumps(changed(TERRAFORM, path, value)))
    assert any(fault in one for one in found), found


def test_a_terraform_connection_has_exactly_one_kind_of_authorization():
    connection = {
        "name": "ingress",
        "authorization_type": "API_KEY",
        "auth_parameters": {"api_key": {"key": "Authorization", "value": "Bearer x"}},
    }
    right = {"resource": {"aws_cloudwatch_event_connection": {"ingress": connection}}}
    assert terraform.problems(json.dumps(right)) == []
    path = "resource.aws_cloudwatch_event_connection.ingress.auth_parameters"
    assert terraform.problems(json.dumps(changed(right, path, {})))

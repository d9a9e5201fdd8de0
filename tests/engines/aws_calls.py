"""Whether AWS would take a request: the SDK's own service models, cfn-lint and moto.

`problems` holds a request to botocore's model. botocore itself checks types, names, required members
and minimums (botocore/validate.py), so maximums, enums and patterns are checked here, and beside them
the few rules that the API pages say in words. Nothing here opens a connection.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from botocore import xform_name
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.session import get_session
from botocore.validate import ParamValidator
from cfnlint.api import lint as cfnlint
from cfnlint.config import ManualArgs
from moto import mock_aws
from tests.engines import eventbridge
from tests.engines.awscron import ValidationException

REGION = "eu-central-1"
_SERVICES = ("scheduler", "events")
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
CONTEXT_ATTRIBUTES = frozenset({"schedule-arn", "scheduled-time", "execution-id", "attempt-number"})
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html
_UNIVERSAL = re.compile(r"arn:aws[a-z-]*:scheduler:::aws-sdk:[a-z0-9]+:[a-z][A-Za-z0-9]+")


def problems(operation: str, request: Mapping[str, Any]) -> list[str]:
    """What is wrong with a request, as `path: fault`; empty when the service should take it."""
    shape = _operation(operation).input_shape
    assert shape is not None
    report = ParamValidator().validate(dict(request), shape)
    found = report.generate_report().splitlines() if report.has_errors() else []
    found += _shape_problems(operation, request, shape)
    if not found and operation in _RULES:
        found += [f"{operation}.{fault}" for fault in _RULES[operation](request)]
    return found


def lint(template: str, *, region: str = REGION) -> list[str]:
    """What cfn-lint says of a CloudFormation template, as `rule path: message`; warnings too."""
    matches = cfnlint(template, config=ManualArgs(regions=[region]))
    return [
        f"{match.rule.id} {'/'.join(str(step) for step in getattr(match, 'path', None) or [])}: "
        f"{match.message}"
        for match in matches
    ]


@dataclass(frozen=True, slots=True)
class Account:
    """An AWS account in memory (moto), asked through boto3, that is with real HTTP requests."""

    clients: Mapping[str, Any]

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The service's answer, without the response's own metadata."""
        client = self.clients[_operation(operation).service_model.service_name]
        answer: dict[str, Any] = getattr(client, xform_name(operation))(**request)
        answer.pop("ResponseMetadata", None)
        return answer

    def read_back(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """What the account stores of a request that `call` sent."""
        reader, names = _READERS[operation]
        keys = {name: request[name] for name in names if name in request}
        return self.call(reader, keys)


@contextmanager
def account(region: str = REGION) -> Iterator[Account]:
    """An empty account; it is gone when the context ends."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    with mock_aws():
        yield Account({name: boto3.client(name, region_name=region, **keys) for name in _SERVICES})


_READERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CreateSchedule": ("GetSchedule", ("Name", "GroupName")),
    "CreateScheduleGroup": ("GetScheduleGroup", ("Name",)),
    "PutRule": ("DescribeRule", ("Name", "EventBusName")),
    "PutTargets": ("ListTargetsByRule", ("Rule", "EventBusName")),
    "CreateConnection": ("DescribeConnection", ("Name",)),
    "CreateApiDestination": ("DescribeApiDestination", ("Name",)),
}


@cache
def _service(name: str) -> ServiceModel:
    return get_session().get_service_model(name)


@cache
def _operation(name: str) -> OperationModel:
    for service in _SERVICES:
        if name in _service(service).operation_names:
            return _service(service).operation_model(name)
    raise KeyError(f"no operation {name} in {' or '.join(_SERVICES)}")


def _shape_problems(path: str, value: object, shape: Shape) -> list[str]:
    """Maximums, enums and patterns, all the way down."""
    match value:
        case Mapping() if shape.type_name == "structure":
            return [
                fault
                for name, member in value.items()
                if name in shape.members
                for fault in _shape_problems(f"{path}.{name}", member, shape.members[name])
            ]
        case Mapping() if shape.type_name == "map":
            return _most(path, len(value), "entries", shape) + [
                fault
                for name, member in value.items()
                for fault in _shape_problems(f"{path}.{name}", name, shape.key)
                + _shape_problems(f"{path}.{name}", member, shape.value)
            ]
        case list() if shape.type_name == "list":
            return _most(path, len(value), "members", shape) + [
                fault
                for index, member in enumerate(value)
                for fault in _shape_problems(f"{path}[{index}]", member, shape.member)
            ]
        case str() if shape.type_name == "string":
            return _text_problems(path, value, shape)
        case int() if shape.type_name in {"integer", "long"}:
            return _most(path, value, "", shape)
    return []


def _text_problems(path: str, text: str, shape: Shape) -> list[str]:
    found = _most(path, len(text), "characters", shape)
    allowed, pattern = shape.metadata.get("enum"), shape.metadata.get("pattern")
    if allowed and text not in allowed:
        found.append(f"{path}: {text!r} is not one of {', '.join(allowed)}")
    # "Pattern" in an API reference is for the whole value.
    if pattern and not re.fullmatch(pattern, text):
        found.append(f"{path}: {text!r} does not match {pattern}")
    return found


def _most(path: str, size: int, unit: str, shape: Shape) -> list[str]:
    most = shape.metadata.get("max")
    return [f"{path}: {size} {unit} is more than {most}"] if most and size > most else []


def _schedule_problems(request: Mapping[str, Any]) -> Iterator[str]:
    target = request["Target"]
    arn, text = str(target["Arn"]), target.get("Input")
    yield from _firing_problems(request, eventbridge.fires)
    if text is not None:
        # API_Target.html: "The maximum size of the Input field is 256 KB."
        if len(text.encode()) > 256 * 1024:
            yield "Target.Input: more than 256 KB"
        for name in re.findall(r"<aws\.scheduler\.([^>]*)>", text):
            if name not in CONTEXT_ATTRIBUTES:
                yield f"Target.Input: <aws.scheduler.{name}> is not a context attribute"
    universal = ":scheduler:::" in arn
    if universal and not _UNIVERSAL.fullmatch(arn):
        yield f"Target.Arn: {arn} is not arn:aws:scheduler:::aws-sdk:service:apiAction"
    # managing-targets-templated.html and managing-targets-universal.html do not list it; the service
    # answers "Provided Arn is not in correct format" (reported by users).
    if ":api-destination/" in arn:
        yield "Target.Arn: an API destination is a target of rules only"
    # API_Target.html: for Lambda, Step Functions and EventBridge "the input must be a well-formed
    # JSON"; the input of a universal target is the API's request, so JSON too.
    if (universal or re.search(r":(lambda|states|events):", arn)) and not _is_json(text):
        yield "Target.Input: not well-formed JSON"
    if ":event-bus/" in arn and "EventBridgeParameters" not in target:
        yield "Target.EventBridgeParameters: needed for an event bus"
    # API_SqsParameters.html: "the message group ID to use when the target is a FIFO queue".
    grouped = "SqsParameters" in target
    if ":sqs:" in arn and not universal and arn.endswith(".fifo") != grouped:
        yield "Target.SqsParameters: MessageGroupId is for FIFO queues, and they need it"


def _rule_problems(request: Mapping[str, Any]) -> Iterator[str]:
    # API_PutRule.html: "A rule must contain at least an EventPattern or ScheduleExpression."
    if "ScheduleExpression" in request:
        yield from _firing_problems(request, eventbridge.rule_fires)
    elif "EventPattern" not in request:
        yield "ScheduleExpression: neither it nor an EventPattern"
    if "EventPattern" in request and not _is_json(request["EventPattern"]):
        yield "EventPattern: not well-formed JSON"


def _targets_problems(request: Mapping[str, Any]) -> Iterator[str]:
    # eb-quota.html: "Maximum 5 targets per rule."
    if len(request["Targets"]) > 5:
        yield "Targets: more than 5 for one rule"
    for index, target in enumerate(request["Targets"]):
        # API_Target.html of EventBridge: "mutually exclusive optional parameters of a target".
        if len({"Input", "InputPath", "InputTransformer"} & set(target)) > 1:
            yield f"Targets[{index}]: Input, InputPath and InputTransformer exclude each other"
        if ":api-destination/" in target["Arn"] and "RoleArn" not in target:
            # eb-api-destinations.html: "you must provide an IAM role with the correct permissions".
            yield f"Targets[{index}].RoleArn: needed for an API destination"
        yield from _transformer_problems(index, target.get("InputTransformer"))


def _transformer_problems(index: int, transformer: Mapping[str, Any] | None) -> Iterator[str]:
    # API_InputTransformer.html; eb-transform-target-input.html lists the reserved variables.
    paths = set((transformer or {}).get("InputPathsMap", {}))
    template = (transformer or {}).get("InputTemplate", "")
    for name in re.findall(r"<([A-Za-z0-9_.-]+)>", template):
        if name not in paths and not name.startswith("aws.events."):
            yield f"Targets[{index}].InputTransformer: <{name}> is not in InputPathsMap"


def _connection_problems(request: Mapping[str, Any]) -> Iterator[str]:
    kinds = {
        "BASIC": "BasicAuthParameters",
        "OAUTH_CLIENT_CREDENTIALS": "OAuthParameters",
        "API_KEY": "ApiKeyAuthParameters",
    }
    wanted = kinds[request["AuthorizationType"]]
    given = set(request["AuthParameters"]) & set(kinds.values())
    if given != {wanted}:
        yield f"AuthParameters: {request['AuthorizationType']} wants {wanted} and no other"


def _destination_problems(request: Mapping[str, Any]) -> Iterator[str]:
    # eb-api-destinations.html: "The URL must use HTTPS."
    if not request["InvocationEndpoint"].startswith("https://"):
        yield "InvocationEndpoint: not HTTPS"


_RULES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "CreateSchedule": _schedule_problems,
    "PutRule": _rule_problems,
    "PutTargets": _targets_problems,
    "CreateConnection": _connection_problems,
    "CreateApiDestination": _destination_problems,
}


def _firing_problems(request: Mapping[str, Any], fires: Callable[..., object]) -> Iterator[str]:
    now = eventbridge.EPOCH
    try:
        fires(request, start=now, end=now, created=now)
    except ValidationException as error:
        yield f"ScheduleExpression: {error}"


def _is_json(text: str | None) -> bool:
    try:
        json.loads(text or "")
    except ValueError:
        return False
    return True

"""Files that make the same AWS objects: a CloudFormation template, Terraform, and API requests.

An object is said once, as its API request; the other two files are the same in other words. What only
AWS knows (an ARN that it makes up) and secrets stand in it as references.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from purista.compiling import Artifact
from purista.native import terraform
from purista.native.jsonrows import array_text, object_text
from purista.native.objectnames import digits_of

MOST_RESOURCES: Final = 500
"""Of a template, and ``MOST_BYTES`` of its text:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""

MOST_BYTES: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Link:
    """The name or the ARN of another object; ``text`` is its value where that is known beforehand.

    ``member`` is ``Name``, or what the ARN is called in the answer to the other's request.
    """

    key: str
    member: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """A key of a secret in Secrets Manager, behind a text that is none."""

    before: str
    arn: str
    member: str

    @property
    def dynamic_reference(self) -> str:
        """CloudFormation's dynamic reference to the value."""
        return f"{self.before}{{{{resolve:secretsmanager:{self.arn}:SecretString:{self.member}}}}}"

    @property
    def variable(self) -> str:
        """The name of Terraform's variable for the value."""
        return f"purista_secret_{digits_of(f'{self.arn}:{self.member}')}"


@dataclass(frozen=True, slots=True)
class AwsObject:
    """An object: the API operation that makes it, its name in files, its request.

    ``about`` tells a template's reader more than the request can hold.
    """

    operation: str
    key: str
    request: Mapping[str, Any]
    about: Mapping[str, str]


def files(objects: Sequence[AwsObject], title: str) -> Iterator[Artifact]:
    """Yield all files for some objects. What others refer to comes first."""
    yield from _templates(objects, title)
    yield Artifact("main.tf.json", _terraform_text(objects, title))
    yield Artifact("requests.json", array_text(map(_request_text, objects)))


def _request_text(each: AwsObject) -> str:
    row = {"key": each.key, "operation": each.operation, "request": each.request}
    return json.dumps(row, default=_asked)


def _asked(reference: object) -> str:
    """Return a reference in a request, which whoever sends it resolves.

    ``{{resolve:answer:KEY:MEMBER}}`` is a member of the answer to the request of that key.
    """
    if isinstance(reference, Secret):
        return reference.dynamic_reference
    assert isinstance(reference, Link)
    return reference.text or f"{{{{resolve:answer:{reference.key}:{reference.member}}}}}"


_TYPES: Final = {
    "CreateScheduleGroup": ("AWS::Scheduler::ScheduleGroup", "aws_scheduler_schedule_group"),
    "CreateSchedule": ("AWS::Scheduler::Schedule", "aws_scheduler_schedule"),
    "CreateConnection": ("AWS::Events::Connection", "aws_cloudwatch_event_connection"),
    "CreateApiDestination": (
        "AWS::Events::ApiDestination",
        "aws_cloudwatch_event_api_destination",
    ),
    "PutRule": ("AWS::Events::Rule", "aws_cloudwatch_event_rule"),
    "PutTargets": ("", "aws_cloudwatch_event_target"),
}
"""The type of an operation's object in CloudFormation and in Terraform."""


def _templates(objects: Sequence[AwsObject], title: str) -> Iterator[Artifact]:
    whole = _fitting(objects)
    if whole is not None:
        yield Artifact("template.json", _template_text(whole, title))
        return
    shared = [each for each in objects if each.operation != "CreateSchedule"]
    if shared:
        yield Artifact("template-shared.json", _template_text(_rows(shared), title))
    parts = _parts([each for each in objects if each.operation == "CreateSchedule"])
    for number, rows in enumerate(parts, 1):
        text = _template_text(rows, f"{title} ({number} of {len(parts)})")
        yield Artifact(f"template-{number}-of-{len(parts)}.json", text)


def _parts(schedules: Sequence[AwsObject]) -> list[dict[str, str]]:
    """Divide by what an object's key alone says, so that a new one moves no other to another stack.

    The number of parts is doubled where one is too large; then half of the objects move.
    """
    shares = [(int(digits_of(each.key), 16), each) for each in schedules]
    count = 2
    while True:
        parts: list[list[AwsObject]] = [[] for _ in range(count)]
        for share, each in shares:
            parts[share % count].append(each)
        if max(map(len, parts)) <= MOST_RESOURCES:
            fitting = [rows for part in parts if (rows := _fitting(part)) is not None]
            if len(fitting) == count:
                return fitting
        count *= 2


def _fitting(objects: Sequence[AwsObject]) -> dict[str, str] | None:
    """Return the resources of a template, unless they are more than one can have."""
    if len(objects) > 2 * MOST_RESOURCES:
        return None
    rows = _rows(objects)
    sizes = [len(row.encode()) + 256 for row in rows.values()]
    return rows if len(sizes) <= MOST_RESOURCES and sum(sizes) < MOST_BYTES else None


def _rows(objects: Iterable[AwsObject]) -> dict[str, str]:
    """Return the resources of a template by their logical names."""
    given = {each.key: each for each in objects if each.operation != "PutTargets"}
    targets = {
        each.request["Rule"].key: each.request["Targets"]
        for each in objects
        if each.operation == "PutTargets"
    }

    def reference(value: object) -> object:
        if isinstance(value, Secret):
            return value.dynamic_reference
        assert isinstance(value, Link)
        if value.key not in given:
            return value.text
        is_name = value.member == "Name"
        return {"Ref": value.key} if is_name else {"Fn::GetAtt": [value.key, "Arn"]}

    return {
        key: json.dumps(_resource(each, targets.get(key)), default=reference)
        for key, each in given.items()
    }


def _resource(each: AwsObject, targets: Sequence[Any] | None) -> dict[str, Any]:
    properties = dict(each.request)
    if targets:
        properties["Targets"] = targets
    if "EventPattern" in properties:
        properties["EventPattern"] = json.loads(properties["EventPattern"])
    resource: dict[str, Any] = {"Type": _TYPES[each.operation][0], "Properties": properties}
    if each.about:
        resource["Metadata"] = {"purista": each.about}
    return resource


def _template_text(rows: Mapping[str, str], title: str) -> str:
    members = {
        "AWSTemplateFormatVersion": '"2010-09-09"',
        "Description": json.dumps(title),
        "Resources": object_text(rows),
    }
    return f"{object_text(members)}\n"


def _terraform_text(objects: Sequence[AwsObject], title: str) -> str:
    secrets: dict[str, dict[str, Any]] = {}
    kinds = {each.key: _TYPES[each.operation][1] for each in objects}

    def reference(value: object) -> object:
        if isinstance(value, Secret):
            about = f"The value of '{value.member}' in the secret {value.arn}."
            secrets[value.variable] = {"type": "string", "sensitive": True, "description": about}
            return f"{value.before}${{var.{value.variable}}}"
        assert isinstance(value, Link)
        if value.key not in kinds:
            return value.text
        attribute = "name" if value.member == "Name" else "arn"
        return f"${{{kinds[value.key]}.{value.key}.{attribute}}}"

    resources = (
        (kinds[each.key], each.key, _arguments(each.request, reference)) for each in objects
    )
    return terraform.file_text(resources, comment=title, variables=secrets)


_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")
_RENAMED: Final = {
    "ApiKeyAuthParameters": "api_key",
    "ApiKeyName": "key",
    "ApiKeyValue": "value",
    "EventBridgeParameters": "eventbridge_parameters",
    "HttpParameters": "http_target",
    "Id": "target_id",
}
"""Terraform's names that are not the API's in snake case."""


def _arguments(request: Mapping[str, Any], reference: Callable[[object], object]) -> dict[str, Any]:
    """Return the arguments of a resource; a target of a rule is a resource of its own."""
    flat = dict(request)
    for target in flat.pop("Targets", ()):
        flat |= target
    return {_argument_name(key): _argument(key, value, reference) for key, value in flat.items()}


@lru_cache(maxsize=256)
def _argument_name(key: str) -> str:
    return _RENAMED.get(key) or _WORD.sub("_", key).lower()


def _argument(key: str, value: Any, reference: Callable[[object], object]) -> Any:
    match value:
        case Link() | Secret():
            return reference(value)
        case Mapping() if key == "HeaderParameters":
            return terraform.literal(value)
        case Mapping():
            return _arguments(value, reference)
        case list() if key == "Tags":
            return terraform.literal({each["Key"]: each["Value"] for each in value})
        case _:
            return terraform.literal(value)

"""Whether Terraform's providers would take a JSON configuration: a schema of the resources we write.

Terraform itself is not on the test machine. The arguments are those of the providers' documentation
pages (kept in their repositories, hashicorp/terraform-provider-aws and -google, under website/docs/r/);
only what the compiler may write is listed, so that an argument it does not know is a fault. JSON syntax: developer.hashicorp.com/terraform/language/syntax/json.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

TEXT, NUMBER, FLAG, TEXTS, MAP = "string", "number", "bool", "list of strings", "map of strings"


@dataclass(frozen=True, slots=True)
class Block:
    """What a resource or a nested block holds; `one_of`: groups of which exactly one is given."""

    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    blocks: Mapping[str, "Block"] = field(default_factory=dict)
    needed: frozenset[str] = frozenset()
    one_of: tuple[tuple[str, ...], ...] = ()
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    patterns: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)


_RETRY = Block(
    optional={"maximum_event_age_in_seconds": NUMBER, "maximum_retry_attempts": NUMBER},
    ranges={"maximum_event_age_in_seconds": (60, 86400), "maximum_retry_attempts": (0, 185)},
)
_NAME = r"[.\-_A-Za-z0-9]{1,64}"

# aws: scheduler_schedule. `action_after_completion` is in the provider since 6.14.0
# (hashicorp/terraform-provider-aws#44264).
_SCHEDULE = Block(
    required={"schedule_expression": TEXT},
    optional={
        "name": TEXT,
        "group_name": TEXT,
        "description": TEXT,
        "start_date": TEXT,
        "end_date": TEXT,
        "schedule_expression_timezone": TEXT,
        "state": TEXT,
        "kms_key_arn": TEXT,
        "action_after_completion": TEXT,
        "region": TEXT,
    },
    blocks={
        "flexible_time_window": Block(
            required={"mode": TEXT},
            optional={"maximum_window_in_minutes": NUMBER},
            enums={"mode": ("OFF", "FLEXIBLE")},
            ranges={"maximum_window_in_minutes": (1, 1440)},
        ),
        "target": Block(
            required={"arn": TEXT, "role_arn": TEXT},
            optional={"input": TEXT},
            blocks={
                "dead_letter_config": Block(required={"arn": TEXT}),
                "retry_policy": _RETRY,
                "eventbridge_parameters": Block(required={"detail_type": TEXT, "source": TEXT}),
                "sqs_parameters": Block(optional={"message_group_id": TEXT}),
                "kinesis_parameters": Block(required={"partition_key": TEXT}),
            },
        ),
    },
    needed=frozenset({"flexible_time_window", "target"}),
    enums={"state": ("ENABLED", "DISABLED"), "action_after_completion": ("NONE", "DELETE")},
    patterns={"name": _NAME, "group_name": _NAME, "description": r"(?s).{0,512}"},
)
# aws: scheduler_schedule_group
_GROUP = Block(optional={"name": TEXT, "tags": MAP, "region": TEXT}, patterns={"name": _NAME})
# aws: cloudwatch_event_rule; `state` took the place of `is_enabled` in 5.30.
_RULE = Block(
    optional={
        "name": TEXT,
        "description": TEXT,
        "event_bus_name": TEXT,
        "event_pattern": TEXT,
        "schedule_expression": TEXT,
        "role_arn": TEXT,
        "state": TEXT,
        "tags": MAP,
        "region": TEXT,
    },
    one_of=(("event_pattern", "schedule_expression"),),
    enums={"state": ("ENABLED", "DISABLED", "ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS")},
    patterns={"name": _NAME, "description": r"(?s).{0,512}"},
)
# aws: cloudwatch_event_target
_TARGET = Block(
    required={"rule": TEXT, "arn": TEXT},
    optional={
        "target_id": TEXT,
        "event_bus_name": TEXT,
        "input": TEXT,
        "input_path": TEXT,
        "role_arn": TEXT,
        "region": TEXT,
    },
    blocks={
        "input_transformer": Block(
            required={"input_template": TEXT}, optional={"input_paths": MAP}
        ),
        "dead_letter_config": Block(optional={"arn": TEXT}),
        "retry_policy": _RETRY,
        "sqs_target": Block(optional={"message_group_id": TEXT}),
        "http_target": Block(
            optional={
                "path_parameter_values": TEXTS,
                "query_string_parameters": MAP,
                "header_parameters": MAP,
            }
        ),
    },
    patterns={"target_id": _NAME},
)
_PARAMETER = Block(required={"key": TEXT, "value": TEXT}, optional={"is_value_secret": FLAG})
_HTTP = Block(blocks={"body": _PARAMETER, "header": _PARAMETER, "query_string": _PARAMETER})
_SECRET = Block(required={"client_id": TEXT, "client_secret": TEXT})
# aws: cloudwatch_event_connection
_CONNECTION = Block(
    required={"name": TEXT, "authorization_type": TEXT},
    optional={"description": TEXT, "region": TEXT},
    blocks={
        "auth_parameters": Block(
            blocks={
                "api_key": Block(required={"key": TEXT, "value": TEXT}),
                "basic": Block(required={"username": TEXT, "password": TEXT}),
                "oauth": Block(
                    required={"authorization_endpoint": TEXT, "http_method": TEXT},
                    blocks={"client_parameters": _SECRET, "oauth_http_parameters": _HTTP},
                    needed=frozenset({"oauth_http_parameters"}),
                ),
                "invocation_http_parameters": _HTTP,
            },
            one_of=(("api_key", "basic", "oauth"),),
        )
    },
    needed=frozenset({"auth_parameters"}),
    enums={"authorization_type": ("API_KEY", "BASIC", "OAUTH_CLIENT_CREDENTIALS")},
    patterns={"name": _NAME},
)
# aws: cloudwatch_event_api_destination
_DESTINATION = Block(
    required={
        "name": TEXT,
        "invocation_endpoint": TEXT,
        "http_method": TEXT,
        "connection_arn": TEXT,
    },
    optional={"description": TEXT, "invocation_rate_limit_per_second": NUMBER, "region": TEXT},
    enums={"http_method": ("POST", "GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")},
    patterns={"name": _NAME, "invocation_endpoint": r"https://.+"},
)
_SECONDS = r"\d+(\.\d{1,9})?s"
# google: cloud_scheduler_job; `data` and `body` are "A base64-encoded string".
_JOB = Block(
    required={"name": TEXT},
    optional={
        "description": TEXT,
        "schedule": TEXT,
        "time_zone": TEXT,
        "paused": FLAG,
        "attempt_deadline": TEXT,
        "region": TEXT,
        "project": TEXT,
    },
    blocks={
        "retry_config": Block(
            optional={
                "retry_count": NUMBER,
                "max_retry_duration": TEXT,
                "min_backoff_duration": TEXT,
                "max_backoff_duration": TEXT,
                "max_doublings": NUMBER,
            },
            ranges={"retry_count": (0, 5)},
            patterns={
                "max_retry_duration": _SECONDS,
                "min_backoff_duration": _SECONDS,
                "max_backoff_duration": _SECONDS,
            },
        ),
        "pubsub_target": Block(
            required={"topic_name": TEXT}, optional={"data": TEXT, "attributes": MAP}
        ),
        "http_target": Block(
            required={"uri": TEXT},
            optional={"http_method": TEXT, "body": TEXT, "headers": MAP},
            blocks={
                "oidc_token": Block(
                    required={"service_account_email": TEXT}, optional={"audience": TEXT}
                ),
                "oauth_token": Block(
                    required={"service_account_email": TEXT}, optional={"scope": TEXT}
                ),
            },
        ),
    },
    one_of=(("pubsub_target", "http_target"),),
    patterns={
        "name": r"[A-Za-z0-9_-]{1,500}",
        "description": r"(?s).{0,500}",
        "attempt_deadline": _SECONDS,
    },
)
RESOURCES: Mapping[str, Block] = {
    "aws_scheduler_schedule": _SCHEDULE,
    "aws_scheduler_schedule_group": _GROUP,
    "aws_cloudwatch_event_rule": _RULE,
    "aws_cloudwatch_event_target": _TARGET,
    "aws_cloudwatch_event_connection": _CONNECTION,
    "aws_cloudwatch_event_api_destination": _DESTINATION,
    "google_cloud_scheduler_job": _JOB,
}
_TOP = {"//", "terraform", "provider", "variable", "locals", "resource", "output"}
_META = {"//", "depends_on", "lifecycle", "provider"}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_REFERENCE = re.compile(r"(?<!\$)\$\{([^}]*)\}")
_PLAIN = re.compile(r"var\.([\w-]+)|local\.([\w-]+)|([a-z]\w*_\w+)\.([\w-]+)\.\w+")


def problems(text: str) -> list[str]:
    """What is wrong with a `.tf.json` file, as `path: fault`; empty when nothing is."""
    document = json.loads(text)
    found = [f"{key}: not a block of a configuration" for key in document if key not in _TOP]
    for kind, named in document.get("resource", {}).items():
        if kind not in RESOURCES:
            found.append(f"resource.{kind}: not a resource that we write")
            continue
        for name, body in named.items():
            path = f"{kind}.{name}"
            if not _IDENTIFIER.fullmatch(name):
                found.append(f"{path}: not an identifier")
            arguments = {key: value for key, value in body.items() if key not in _META}
            found += _block_problems(path, arguments, RESOURCES[kind])
    return found + list(_reference_problems("", document, document))


def _block_problems(path: str, body: Mapping[str, Any], block: Block) -> Iterator[str]:
    known = {**block.required, **block.optional}
    for name in sorted((set(block.required) | block.needed) - set(body)):
        yield f"{path}.{name}: required"
    for names in block.one_of:
        if len(set(names) & set(body)) != 1:
            yield f"{path}: exactly one of {', '.join(names)}"
    for name, value in body.items():
        where = f"{path}.{name}"
        if name in known:
            yield from _value_problems(where, name, value, known[name], block)
        elif name in block.blocks:
            for inner in value if isinstance(value, list) else [value]:
                yield from _block_problems(where, inner, block.blocks[name])
        else:
            yield f"{where}: not an argument"


def _value_problems(path: str, name: str, value: object, kind: str, block: Block) -> Iterator[str]:
    if isinstance(value, str) and _REFERENCE.search(value):
        return
    if not _is(value, kind):
        yield f"{path}: {value!r} is not a {kind}"
    elif name in block.enums and value not in block.enums[name]:
        yield f"{path}: {value!r} is not one of {', '.join(block.enums[name])}"
    elif name in block.patterns and not re.fullmatch(block.patterns[name], str(value)):
        yield f"{path}: {value!r} does not match {block.patterns[name]}"
    elif name in block.ranges and isinstance(value, int):
        low, high = block.ranges[name]
        if not low <= value <= high:
            yield f"{path}: {value} is not within {low} and {high}"


def _is(value: object, kind: str) -> bool:
    match kind:
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "list of strings":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "map of strings":
            return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())
        case _:
            return isinstance(value, str)


def _reference_problems(path: str, value: object, document: Mapping[str, Any]) -> Iterator[str]:
    """Every `${...}` must be a plain reference to what the file declares; `$${` is a literal."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from _reference_problems(f"{path}.{name}".lstrip("."), inner, document)
        case list():
            for inner in value:
                yield from _reference_problems(path, inner, document)
        case str():
            if "%{" in value.replace("%%{", ""):
                yield f"{path}: %{{ is a template directive; write %%{{"
            for text in _REFERENCE.findall(value):
                if not _declared(text.strip(), document):
                    yield f"{path}: ${{{text}}} is not declared"


def _declared(text: str, document: Mapping[str, Any]) -> bool:
    found = _PLAIN.fullmatch(text)
    if not found:
        return False
    variable, local, kind, name = found.groups()
    if variable:
        return variable in document.get("variable", {})
    if local:
        return local in document.get("locals", {})
    return name in document.get("resource", {}).get(kind, {})

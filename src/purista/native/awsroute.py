"""The way from EventBridge Scheduler to an HTTP address: an event bus, a rule and an API destination.

A schedule cannot have an API destination as its target. It puts the trigger on a bus as the detail of
an event, and a rule sends that detail on, as a CloudEvent in structured mode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from purista.cloudevent import TYPE
from purista.compiling import MARKER
from purista.native.awsfiles import AwsObject, Link, Secret
from purista.native.awssettings import ApiDestinationTarget, EventBridgeSettings
from purista.native.objectnames import digits_of, key_of

CONTENT_TYPE: Final = "application/cloudevents+json"
"""AWS takes it since 2024-02: https://aws.amazon.com/about-aws/whats-new/2024/02/
amazon-eventbridge-api-destinations-content-type-header-customization/"""

LONGEST_ENDPOINT: Final = 2048
"""https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_CreateApiDestination.html"""


def route_name(settings: EventBridgeSettings, url: str) -> str:
    """Return the name of all that leads to an address: the same for the same way."""
    target = settings.target
    assert isinstance(target, ApiDestinationTarget)
    facts = [url, settings.group, settings.dead_letter_queue_arn, target.model_dump()]
    return f"{settings.group[:55]}-{digits_of(json.dumps(facts, sort_keys=True))}"


def source_of(route: str) -> str:
    """Return the source of the events that a route takes, and no other."""
    return f"{MARKER}.{route}"


def bus_parameters(route: str) -> dict[str, str]:
    """Return what a schedule's target says of its events."""
    return {"DetailType": TYPE, "Source": source_of(route)}


def route_objects(settings: EventBridgeSettings, url: str) -> Iterator[AwsObject]:
    """Yield what sends triggers from the bus to an address."""
    target, name = settings.target, route_name(settings, url)
    assert isinstance(target, ApiDestinationTarget)
    description = f"{MARKER}: triggers to the ingress"
    bus = target.event_bus_arn.rpartition("event-bus/")[2]
    rule, destination = key_of("Rule", name), key_of("ApiDestination", name)
    connection: object = target.connection_arn
    if target.bearer is not None:
        made = _connection(name, description, target)
        connection = Link(made.key, "ConnectionArn")
        yield made
    yield AwsObject(
        "CreateApiDestination",
        destination,
        {
            "Name": name,
            "Description": description,
            "ConnectionArn": connection,
            "InvocationEndpoint": url,
            "HttpMethod": "POST",
        },
        {},
    )
    pattern = {"source": [source_of(name)], "detail-type": [TYPE]}
    yield AwsObject(
        "PutRule",
        rule,
        {
            "Name": name,
            "Description": description,
            "EventBusName": bus,
            "EventPattern": json.dumps(pattern),
            "State": "ENABLED",
        },
        {},
    )
    request = {
        "Rule": Link(rule, "Name", name),
        "EventBusName": bus,
        "Targets": [_target(settings, Link(destination, "ApiDestinationArn"))],
    }
    yield AwsObject("PutTargets", key_of("Target", name), request, {})


def _connection(name: str, description: str, target: ApiDestinationTarget) -> AwsObject:
    assert target.bearer is not None
    secret = Secret("Bearer ", target.bearer.arn, target.bearer.key)
    request = {
        "Name": name,
        "Description": description,
        "AuthorizationType": "API_KEY",
        "AuthParameters": {
            "ApiKeyAuthParameters": {"ApiKeyName": "Authorization", "ApiKeyValue": secret}
        },
    }
    return AwsObject("CreateConnection", key_of("Connection", name), request, {})


def _target(settings: EventBridgeSettings, destination: Link) -> dict[str, Any]:
    """Return the rule's target. It tries for a day: whether a trigger is late, the ingress judges."""
    target = settings.target
    assert isinstance(target, ApiDestinationTarget)
    made: dict[str, Any] = {
        "Id": "ingress",
        "Arn": destination,
        "RoleArn": target.invoke_role_arn,
        "InputPath": "$.detail",
        "HttpParameters": {"HeaderParameters": {"Content-Type": CONTENT_TYPE}},
        "RetryPolicy": {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185},
    }
    if settings.dead_letter_queue_arn:
        made["DeadLetterConfig"] = {"Arn": settings.dead_letter_queue_arn}
    return made

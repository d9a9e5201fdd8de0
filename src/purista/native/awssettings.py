"""The table ``[eventbridge]`` of the settings: ARNs, roles and the target of every schedule."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from purista.settings import Settings

_PLACE = r"[a-z0-9-]+:\d{12}"
_QUEUE = "[A-Za-z0-9_-]"
_ARN = r"^arn:aws(?:-[a-z]+)*"

RoleArn = Annotated[
    str,
    Field(
        pattern=rf"{_ARN}:iam::\d{{12}}:role/[\w+=,.@/-]+$",
        max_length=1600,
        examples=["arn:aws:iam::123456789012:role/purista-scheduler"],
    ),
]


class LambdaTarget(Settings):
    """A Lambda function, called with the trigger as its event."""

    kind: Literal["lambda"]
    function_arn: str = Field(
        pattern=rf"{_ARN}:lambda:{_PLACE}:function:[A-Za-z0-9_-]+(:[$A-Za-z0-9_-]+)?$"
    )


class SqsTarget(Settings):
    """A queue; the trigger is the body of the message.

    A FIFO queue must have content-based deduplication; its message group is the schedule.
    """

    kind: Literal["sqs"]
    queue_arn: str = Field(
        pattern=rf"{_ARN}:sqs:{_PLACE}:({_QUEUE}{{1,80}}|{_QUEUE}{{1,75}}\.fifo)$"
    )


class SecretKey(Settings):
    """A key of a JSON secret in Secrets Manager: a reference, never the value."""

    arn: str = Field(pattern=rf"{_ARN}:secretsmanager:{_PLACE}:secret:[A-Za-z0-9/_+=.@-]+$")
    key: str = Field("token", pattern=r"^[^:{}\s]+$")


class ApiDestinationTarget(Settings):
    """The ingress's address, by an event bus: what the schedule puts there, a rule sends on.

    ``invoke_role_arn`` is the rule's role. Either ``connection_arn`` is a connection that is there
    already, or ``bearer`` the secret whose value the ingress takes as a bearer token.
    """

    kind: Literal["api-destination"]
    event_bus_arn: str = Field(
        pattern=rf"{_ARN}:events:{_PLACE}:event-bus/[.\-_A-Za-z0-9]{{1,256}}$"
    )
    invoke_role_arn: RoleArn
    connection_arn: str | None = Field(
        None, pattern=rf"{_ARN}:events:{_PLACE}:connection/[.\-_A-Za-z0-9]+/[-A-Za-z0-9]+$"
    )
    bearer: SecretKey | None = None

    @model_validator(mode="after")
    def _one_authorization(self) -> Self:
        if (self.connection_arn is None) == (self.bearer is None):
            raise ValueError("write either connection_arn or bearer")
        return self


Target: TypeAlias = Annotated[
    LambdaTarget | SqsTarget | ApiDestinationTarget, Field(discriminator="kind")
]


class EventBridgeSettings(Settings):
    """The table ``[eventbridge]``.

    ``role_arn`` is what the schedules assume. ``group`` is best one of its own for each service;
    without ``create_shared`` the files leave out the group and what sends events on to an API
    destination, for another deployment makes them.
    """

    role_arn: RoleArn
    target: Target = Field(examples=[{"kind": "sqs", "queue_arn": "arn:aws:sqs:..."}])
    group: str = Field("purista", pattern=r"^[0-9a-zA-Z-_.]{1,64}$", examples=["billing"])
    create_shared: bool = True
    dead_letter_queue_arn: str | None = Field(
        None, pattern=rf"{_ARN}:sqs:{_PLACE}:{_QUEUE}{{1,80}}$"
    )

"""The table ``[cloud-scheduler]`` of the settings: the project, and the target of every job."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from purista.settings import Settings


class HttpTarget(Settings):
    """A call of ``<ingress>/triggers/<schedule id>``, with an OIDC token of a service account.

    ``audience`` is the ingress's address unless given.
    """

    kind: Literal["http"]
    service_account_email: str = Field(
        pattern=r"^[^@\s]+@[^@\s]+$", examples=["scheduler@shop-123456.iam.gserviceaccount.com"]
    )
    audience: str | None = Field(None, min_length=1)


class PubSubTarget(Settings):
    """A message without data to a topic of the same project; its attributes are the trigger.

    A message cannot tell its slot, for its attributes are the same each time: the receiver takes the
    latest point of the grid ``ce-puristaslots`` that is not after the message's publish time.
    """

    kind: Literal["pubsub"]
    topic: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", examples=["triggers"])


Target: TypeAlias = Annotated[HttpTarget | PubSubTarget, Field(discriminator="kind")]


class CloudSchedulerSettings(Settings):
    """The table ``[cloud-scheduler]``."""

    project: str = Field(
        pattern=r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", examples=["shop-123456"]
    )
    location: str = Field(pattern=r"^[a-z]+-[a-z]+\d+$", examples=["europe-west3"])
    target: Target = Field(examples=[{"kind": "pubsub", "topic": "triggers"}])

    @property
    def parent(self) -> str:
        """The resource that holds the jobs."""
        return f"projects/{self.project}/locations/{self.location}"

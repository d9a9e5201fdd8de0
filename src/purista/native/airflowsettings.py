"""The table ``[airflow]``: how a DAG reaches the ingress, and from which day on."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from purista.settings import Settings

CONNECTION_ID = r"^[A-Za-z0-9_.-]+$"
"""https://airflow.apache.org/docs/apache-airflow/stable/howto/connection.html"""


def _checked_queue(queue: str) -> str:
    if queue.endswith(".fifo"):
        raise ValueError("name a standard queue; triggers need no order")
    return queue


Queue = Annotated[str, Field(pattern=r"^https://[^\s?#{}]+$"), AfterValidator(_checked_queue)]


class SqsMessage(Settings):
    """Triggers as messages to an Amazon SQS queue, by the provider ``apache-airflow-providers-amazon``.

    ``queue`` is the address of a standard queue, ``connection`` an Airflow connection with the
    credentials.
    """

    kind: Literal["sqs"]
    queue: Queue
    connection: str = Field("aws_default", pattern=CONNECTION_ID, max_length=250)


class PubSubMessage(Settings):
    """Triggers as messages to a Google Pub/Sub topic, by ``apache-airflow-providers-google``.

    ``connection`` is an Airflow connection with the credentials.
    """

    kind: Literal["pubsub"]
    project: str = Field(pattern=r"^[a-z][a-z0-9:.-]{4,61}[a-z0-9]$")
    topic: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_.~+%-]{2,254}$")
    connection: str = Field("google_cloud_default", pattern=CONNECTION_ID, max_length=250)


MessageSettings: TypeAlias = Annotated[SqsMessage | PubSubMessage, Field(discriminator="kind")]


class AirflowSettings(Settings):
    """The table ``[airflow]``.

    ``start_date`` is the day of the first deployment: where every slot is sent, late ones too, Airflow
    begins with that day. A schedule that is added later has its own, in ``provider_hints`` or by
    ``start_at``; leave it as it is once a DAG has run. ``connection`` is an Airflow connection whose
    password the ingress takes as a bearer token. With ``message`` triggers go to a broker instead.
    """

    start_date: date = Field(examples=["2027-01-01"])
    connection: str | None = Field(None, pattern=CONNECTION_ID, max_length=250)
    pool: str | None = Field(None, min_length=1, max_length=256)
    message: MessageSettings | None = None

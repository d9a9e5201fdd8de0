"""The Airflow entry point: an operator that sends a trigger, and can wait until its run is over.

For Airflow 3.3, which has to be there already. A file of DAGs that imports this is read often, so whatever
is needed by a running task alone is imported there.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, Protocol

from airflow.sdk import BaseHook, BaseOperator, conf

from purista.ingress.airflowrun import Address, RunEndTrigger, address_of, cancelled, ended

if TYPE_CHECKING:
    from purista.errors import IngressError
    from purista.ingress.decision import Decision
    from purista.trigger import Trigger

CONNECTION: Final = "purista_ingress"

RETRIES: Final = 6
FIRST_DELAY: Final = timedelta(seconds=10)
LONGEST_DELAY: Final = timedelta(minutes=10)
"""Ten minutes of tries, as in the DAGs that are compiled."""

KILL_TIME: Final = 4.0
"""Seconds that a task which is killed has to cancel its run; Airflow waits for 5."""


class Destination(Protocol):
    """A broker that takes triggers in place of the ingress's address."""

    def send(self, event: dict[str, Any]) -> None:
        """Send a CloudEvent."""


class PuristaTriggerOperator(BaseOperator):  # type: ignore[misc]
    """Sends a trigger for the slot of the DAG's run: its ``run_after``.

    A run that the timetable made is a trigger of the schedule's own; whatever else - by hand, a backfill,
    an asset - is a manual one. ``connection`` is an Airflow connection: its host (and schema, port) are the
    ingress's address, its password is a bearer token; ``{"plain_http": true}`` in its extra lets the
    token travel unencrypted. ``to`` sends a message to a broker instead. ``data`` overrides the contract's
    payload template; None: it does not.

    The task fails at once where no other try helps, and is tried again where one does. It returns the
    decision. With ``wait_for_run`` it ends with the run: it returns the outcome too, fails when the run
    failed, and is skipped when nothing ran (``overlap``, ``late``, ...). ``deferrable`` waits without a worker.
    When Airflow kills the task while it waits, or a person clears or marks it, the run is cancelled.
    """

    template_fields: Sequence[str] = ("schedule_id", "fingerprint", "data", "connection", "to")
    template_fields_renderers: ClassVar[dict[str, str]] = {"data": "json"}
    ui_color = "#d7e8f4"

    def __init__(
        self,
        *,
        schedule_id: str,
        fingerprint: str | None = None,
        data: Any = None,
        connection: str = CONNECTION,
        to: Destination | None = None,
        wait_for_run: bool = False,
        deferrable: bool | None = None,
        retries: int = RETRIES,
        retry_delay: timedelta = FIRST_DELAY,
        retry_exponential_backoff: float = 2.0,
        max_retry_delay: timedelta = LONGEST_DELAY,
        **options: Any,
    ) -> None:
        super().__init__(
            retries=retries,
            retry_delay=retry_delay,
            retry_exponential_backoff=retry_exponential_backoff,
            max_retry_delay=max_retry_delay,
            **options,
        )
        if to is not None and wait_for_run:
            raise ValueError("wait_for_run needs the ingress's answer, and a message has none")
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        self.schedule_id = schedule_id
        self.fingerprint = fingerprint
        self.data = data
        self.connection = connection
        self.to = to
        self.wait_for_run = wait_for_run
        self.deferrable = deferrable
        self._waiting: tuple[Address, str] | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Send the trigger; wait for its run where that is asked for."""
        trigger = self._trigger(context)
        if self.to is not None:
            self.to.send(trigger.to_cloudevent())
            return {"decision": None, "run_id": None}
        address = address_of(BaseHook.get_connection(self.connection))
        decision = asyncio.run(self._accept(address, trigger))
        carried = {
            "decision": str(decision.verdict),
            "reason": decision.reason,
            "run_id": decision.run_id,
        }
        self.log.info("schedule %s: %s", self.schedule_id, carried)
        if not self.wait_for_run:
            return carried
        return self._wait(address, decision, carried)

    def resume(
        self, context: Any, event: dict[str, Any], carried: dict[str, Any]
    ) -> dict[str, Any]:
        """Go on when the run is over."""
        if "failed" in event:
            _fail(event["failed"])
        return self._ended(carried, event["status"], event["outcome"])

    def on_kill(self) -> None:
        """Cancel the run that is waited for."""
        if self._waiting is None:
            return
        address, run_id = self._waiting
        # The event loop of this thread is at work: Airflow calls this from a signal's handler.
        thread = threading.Thread(
            target=asyncio.run, args=(cancelled(address, run_id),), daemon=True
        )
        thread.start()
        thread.join(KILL_TIME)

    def _trigger(self, context: Any) -> Trigger:
        from purista.errors import TriggerError
        from purista.trigger import UNSET, Trigger

        run = context["dag_run"]
        slot = run.run_after.astimezone(UTC)
        try:
            return Trigger(
                schedule_id=self.schedule_id,
                nominal_time=slot,
                source=f"airflow/{run.dag_id}",
                id=f"{self.schedule_id}/{slot.isoformat().replace('+00:00', 'Z')}",
                fingerprint=self.fingerprint,
                data=UNSET if self.data is None else self.data,
                manual=run.run_type.value != "scheduled",
            )
        except TriggerError as error:
            _fail(str(error))

    async def _accept(self, address: Address, trigger: Trigger) -> Decision:
        """Return the decision. Raises ``AirflowException`` where another try can help."""
        from airflow.sdk.exceptions import AirflowException

        from purista.errors import IngressError, SettingsError
        from purista.ingress.answer import answer

        try:
            async with address.client() as client:
                decision = await client.accept(trigger)
        except SettingsError as error:
            _fail(f"connection '{self.connection}': {error}")
        except IngressError as error:
            raise _refused(error) from None
        said = f"{decision.verdict}: {decision.reason}"
        if decision.retry:
            raise AirflowException(said)
        if answer(decision).is_problem:
            _fail(said)
        return decision

    def _wait(
        self, address: Address, decision: Decision, carried: dict[str, Any]
    ) -> dict[str, Any]:
        if decision.run_id is None or decision.verdict not in ("accepted", "duplicate"):
            _skip(f"{decision.verdict}: {decision.reason}")
        if self.deferrable:
            self.defer(
                trigger=RunEndTrigger(run_id=decision.run_id, connection=self.connection),
                method_name="resume",
                kwargs={"carried": carried},
                timeout=self.execution_timeout,
            )
        self._waiting = (address, decision.run_id)
        status, outcome = asyncio.run(ended(address, decision.run_id))
        self._waiting = None
        return self._ended(carried, status, outcome)

    def _ended(self, carried: dict[str, Any], status: str, outcome: str) -> dict[str, Any]:
        """Return what became of the trigger, or tell Airflow that it is nothing good."""
        from purista.ingress.runend import FORGOTTEN, RunEnd

        end = RunEnd(status, outcome)
        if end == FORGOTTEN and carried["decision"] == "duplicate":
            _skip(f"duplicate: {carried['reason']}")
        if not end.is_good:
            _fail(f"run {carried['run_id']} of schedule {self.schedule_id}: {status} {outcome}")
        return carried | {"status": status, "outcome": outcome}


@dataclass
class SqsQueue:
    """A queue of Amazon SQS, by its URL; needs Airflow's Amazon provider."""

    template_fields: ClassVar[Sequence[str]] = ("url",)

    url: str
    connection: str = "aws_default"

    def send(self, event: dict[str, Any]) -> None:
        """Send a CloudEvent in structured mode."""
        from airflow.providers.amazon.aws.hooks.sqs import SqsHook

        SqsHook(aws_conn_id=self.connection).send_message(
            queue_url=self.url, message_body=json.dumps(event)
        )


@dataclass
class PubSubTopic:
    """A topic of Google Pub/Sub; needs Airflow's Google provider."""

    template_fields: ClassVar[Sequence[str]] = ("project", "topic")

    project: str
    topic: str
    connection: str = "google_cloud_default"

    def send(self, event: dict[str, Any]) -> None:
        """Send a CloudEvent in structured mode."""
        from airflow.providers.google.cloud.hooks.pubsub import PubSubHook

        message = {
            "data": json.dumps(event).encode(),
            "attributes": {"content-type": "application/cloudevents+json"},
        }
        PubSubHook(gcp_conn_id=self.connection).publish(
            project_id=self.project, topic=self.topic, messages=[message]
        )


def _refused(error: IngressError) -> Exception:
    """Return what tells Airflow whether another try helps."""
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    kind = AirflowFailException if error.retry_after is None else AirflowException
    made: Exception = kind(str(error))
    return made


def _fail(why: str) -> NoReturn:
    from airflow.sdk.exceptions import AirflowFailException

    raise AirflowFailException(why)


def _skip(why: str) -> NoReturn:
    from airflow.sdk.exceptions import AirflowSkipException

    raise AirflowSkipException(why)

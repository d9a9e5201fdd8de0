"""The text of a DAG file: one schedule, one DAG, one task that sends the trigger and ends.

It imports nothing but Airflow, and at the top level no more than a DAG needs, so that it is read fast.
Every value from a contract is written as a Python literal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from textwrap import indent
from typing import Final

from purista.cloudevent import SPECVERSION, TYPE
from purista.cover import Line
from purista.native.airflowcron import cron_texts
from purista.native.airflowsettings import MessageSettings, PubSubMessage
from purista.sender import wait_offset


@dataclass(frozen=True, slots=True, kw_only=True)
class DagFile:
    """What a DAG file says.

    No ``lines``: the DAG has no schedule, and runs when a person triggers it. ``start`` and ``end`` are
    both inclusive. A failed task is tried ``retries`` times more, ``FIRST_DELAY`` later and then at
    ever longer intervals up to ``LONGEST_DELAY``. ``jitter`` is how long a trigger may wait.
    """

    dag_id: str
    schedule_id: str
    fingerprint: str
    url: str
    lines: Sequence[Line]
    start: datetime | None
    end: datetime | None
    catchup: bool
    max_active_runs: int
    retries: int
    jitter: timedelta
    description: str
    doc: str
    connection: str | None = None
    pool: str | None = None
    message: MessageSettings | None = None

    @property
    def text(self) -> str:
        """The Python source."""
        return _FILE % {
            "times": self._times(),
            "imports": self._imports(),
            "id": literal_text(self.schedule_id),
            "dag_id": literal_text(self.dag_id),
            "schedule": _timetable(self.lines),
            "start": _time(self.start),
            "end": _time(self.end),
            "catchup": self.catchup,
            "runs": self.max_active_runs,
            "retries": self.retries,
            "first": _seconds(FIRST_DELAY),
            "longest": _seconds(LONGEST_DELAY),
            "pool": f'\n        "pool": {literal_text(self.pool)},' if self.pool else "",
            "description": literal_text(self.description),
            "doc": literal_text(self.doc),
            "tasks": indent(self._tasks(), "    "),
        }

    def _imports(self) -> str:
        names = {
            "DAG": True,
            "Connection": self.connection and not self.message,
            "CronTriggerTimetable": len(self.lines) == 1,
            "MultipleCronTriggerTimetable": len(self.lines) > 1,
            "task": self.jitter or not self.message,
        }
        provider = _PROVIDERS[self.message.kind] if self.message else ""
        return f"{provider}from airflow.sdk import {_used(names)}"

    def _times(self) -> str:
        names = {
            "datetime": self.start or self.end or self.jitter,
            "timedelta": True,
            "timezone": self.jitter or not self.message,
        }
        return f"from datetime import {_used(names)}"

    def _tasks(self) -> str:
        parts, call = [self._sending()], "trigger" if self.message else "trigger()"
        if self.jitter:
            offset = wait_offset(self.schedule_id, self.jitter)
            wait = _WAIT % {"jitter": _seconds(self.jitter), "offset": offset}
            parts = [wait, *parts, f"wait() >> {call}\n"]
        elif not self.message:
            parts.append("trigger()\n")
        return "\n".join(parts)

    def _sending(self) -> str:
        """Return the task that sends the trigger."""
        message = self.message
        if message is None:
            return self._post()
        if isinstance(message, PubSubMessage):
            event = {f"ce-{name}": value for name, value in self._event().items()}
            return _PUBSUB % {
                "project": literal_text(message.project),
                "topic": literal_text(message.topic),
                "connection": literal_text(message.connection),
                "attributes": "\n".join(f"    {line}" for line in _entries(event)),
            }
        return _SQS % {
            "queue": literal_text(message.queue),
            "connection": literal_text(message.connection),
            "content": literal_text(json.dumps(self._event())),
        }

    def _post(self) -> str:
        return _HTTP % {
            "url": literal_text(self.url),
            "source": literal_text(self._source),
            "fingerprint": literal_text(self.fingerprint),
            "token": _BEARER % literal_text(self.connection) if self.connection else "",
        }

    def _event(self) -> dict[str, str]:
        """Return the event with templates that Airflow renders for each run."""
        return {
            "specversion": SPECVERSION,
            "type": TYPE,
            "source": self._source,
            "subject": self.schedule_id,
            "id": f"{self.schedule_id}/{TIME}",
            "time": TIME,
            "puristafingerprint": self.fingerprint,
            "puristamanual": MANUAL,
        }

    @property
    def _source(self) -> str:
        return f"airflow/{self.dag_id}"


FIRST_DELAY: Final = timedelta(seconds=10)
LONGEST_DELAY: Final = timedelta(minutes=10)


def retries_within(useful: timedelta) -> int:
    """Return how many tries after the first one begin while a trigger is still worth something.

    >>> retries_within(timedelta(minutes=10))
    6
    """
    count, delay, passed = 0, FIRST_DELAY, timedelta(0)
    while passed < useful:
        count, passed = count + 1, passed + delay
        delay = min(delay * 2, LONGEST_DELAY)
    return count


TIME: Final = "{{ dag_run.run_after.strftime('%Y-%m-%dT%H:%M:%S.%fZ').replace('.000000', '') }}"
"""The slot of a scheduled run, the moment of a manual one; Airflow gives it in UTC."""

MANUAL: Final = "{{ 'false' if dag_run.run_type.value == 'scheduled' else 'true' }}"
"""Runs that a person makes, backfills too, are manual triggers."""


def timetable_text(crons: Sequence[str], timezone: str) -> str:
    """Return the timetable of some lines of one zone, as it stands in a DAG file."""
    texts, zone = [literal_text(each) for each in crons], literal_text(timezone)
    if len(texts) == 1:
        return f"CronTriggerTimetable({texts[0]}, timezone={zone})"
    arguments = "".join(f"        {each},\n" for each in [*texts, f"timezone={zone}"])
    return f"MultipleCronTriggerTimetable(\n{arguments}    )"


def time_text(instant: str) -> str:
    """Return a time in ISO 8601 as it stands in a DAG file."""
    return f'datetime.fromisoformat("{instant}")'


def literal_text(text: str) -> str:
    """Return a Python literal: a JSON string is one within Unicode's first plane."""
    return json.dumps(text) if max(text, default="") <= "\uffff" else ascii(text)


def _timetable(lines: Sequence[Line]) -> str:
    return timetable_text(cron_texts(lines), lines[0].timezone) if lines else "None"


def _used(names: Mapping[str, object]) -> str:
    return ", ".join(name for name, is_used in names.items() if is_used)


def _entries(values: dict[str, str]) -> list[str]:
    return [f"    {literal_text(name)}: {literal_text(value)}," for name, value in values.items()]


def _time(instant: datetime | None) -> str:
    return time_text(instant.isoformat()) if instant else "None"


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())


_PROVIDERS: Final = {
    "sqs": "from airflow.providers.amazon.aws.operators.sqs import SqsPublishOperator\n",
    "pubsub": "from airflow.providers.google.cloud.operators.pubsub import "
    "PubSubPublishMessageOperator\n",
}
_FILE: Final = '''\
"""Sends the triggers of one schedule. Made by purista from its contract: change that, not this."""

%(times)s

%(imports)s

SCHEDULE = %(id)s

with DAG(
    %(dag_id)s,
    schedule=%(schedule)s,
    start_date=%(start)s,
    end_date=%(end)s,
    catchup=%(catchup)s,
    max_active_runs=%(runs)d,
    is_paused_upon_creation=False,
    default_args={
        "owner": "purista",
        "retries": %(retries)d,
        "retry_delay": timedelta(seconds=%(first)d),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(seconds=%(longest)d),
        "execution_timeout": timedelta(seconds=60),%(pool)s
    },
    description=%(description)s,
    doc_md=%(doc)s,
    tags=["purista"],
):

%(tasks)s'''
_WAIT: Final = '''\
@task
def wait(**context):
    """Come back at the moment of the slot's jitter, the same at each try; no worker waits."""
    from airflow.sdk.exceptions import AirflowRescheduleException

    run = context["dag_run"]
    slot = int(run.run_after.timestamp())
    moment = run.run_after + timedelta(seconds=(slot * 7919 + %(offset)d) %% %(jitter)d)
    if run.run_type.value == "scheduled" and datetime.now(timezone.utc) < moment:
        raise AirflowRescheduleException(moment)
'''
_HTTP: Final = '''\
@task
def trigger(**context):
    """Post the trigger; what no other try can mend fails at once."""
    import json
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, Request, build_opener

    from airflow.sdk.exceptions import AirflowFailException

    class NoRedirect(HTTPRedirectHandler):
        def redirect_request(self, *_):
            return None

    run = context["dag_run"]
    time = run.run_after.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    event = {
        "specversion": "1.0",
        "type": "dev.purista.schedule.trigger",
        "source": %(source)s,
        "subject": SCHEDULE,
        "id": f"{SCHEDULE}/{time}",
        "time": time,
        "puristafingerprint": %(fingerprint)s,
        "puristamanual": run.run_type.value != "scheduled",
    }
    headers = {"Content-Type": "application/cloudevents+json"}
%(token)s\
    request = Request(%(url)s, json.dumps(event).encode(), headers)
    try:
        with build_opener(NoRedirect).open(request, timeout=30) as answer:
            print(answer.read().decode(errors="replace"))
    except HTTPError as error:
        said = f"{error.code} {error.read().decode(errors='replace')}"
        if error.code in (408, 429) or error.code >= 500:
            raise RuntimeError(said) from None
        raise AirflowFailException(said) from None
'''
_BEARER: Final = """\
    token = Connection.get(%s).password
    headers["Authorization"] = f"Bearer {token}"
"""
_SQS: Final = """\
trigger = SqsPublishOperator(
    task_id="trigger",
    sqs_queue=%(queue)s,
    message_content=%(content)s,
    aws_conn_id=%(connection)s,
)
"""
_PUBSUB: Final = """\
trigger = PubSubPublishMessageOperator(
    task_id="trigger",
    project_id=%(project)s,
    topic=%(topic)s,
    messages=[{"attributes": {
%(attributes)s
    }}],
    gcp_conn_id=%(connection)s,
)
"""

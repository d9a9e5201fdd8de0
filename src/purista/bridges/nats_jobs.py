"""A job as a message in a NATS stream, and the streams that hold jobs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from purista.bridges import nats_names as names
from purista.bridges.envelope import headers_of
from purista.bridges.nats_connection import NatsConnection
from purista.bridges.nats_streams import make_stream, stored_message
from purista.bridges.port import Job
from purista.errors import BridgeError
from purista.message import Message

MAX_ATTEMPTS: Final = "purista-max-attempts"
DELAY: Final = "purista-delay"
KEY: Final = "purista-key"
WINDOW: Final = "purista-dedupe-window"
CALL: Final = "purista-call"
UNTIL: Final = "purista-until"
"""The headers of ours: what a job is beside its message; which call took a key, and until when."""

_OURS: Final = frozenset({MAX_ATTEMPTS, DELAY, KEY, WINDOW, CALL, UNTIL})
_SECOND: Final = timedelta(seconds=1)
_DEFAULT: Final = Job._field_defaults


class Source(NamedTuple):
    """A subject of a stream that somebody else made, from which a queue takes its jobs."""

    stream: str
    subject: str


class JobStreams:
    """The streams of a queue bridge, and the subjects in them.

    Jobs lie in a work queue: on ``jobs``, each queue a subject; on ``delayed`` until they are due; on
    ``keys`` what was enqueued with one; on ``returned`` how often a job was given back untried.
    ``sources`` are the queues whose jobs lie elsewhere.
    """

    def __init__(
        self,
        connection: NatsConnection,
        prefix: str,
        *,
        replicas: int | None,
        sources: Mapping[str, Source],
    ) -> None:
        self.sources = sources
        self.jobs = f"{prefix}-jobs"
        self.dead = f"{prefix}-dead-jobs"
        self._prefix = prefix
        self._connection = connection
        self._made = False
        self._lock = asyncio.Lock()
        common = {
            "storage": "file",
            "num_replicas": replicas or connection.replicas or 1,
            "allow_direct": True,
            "metadata": {"managed-by": "purista"},
        }
        subjects = [f"{prefix}.{kind}.>" for kind in ("jobs", "delayed", "keys", "returned")]
        self._job_stream = {
            "name": self.jobs,
            "subjects": subjects,
            "retention": "workqueue",
            "allow_msg_ttl": True,
            "allow_atomic": True,
            "allow_msg_schedules": True,
            **common,
        }
        self._dead_stream = {"name": self.dead, "subjects": [f"{prefix}.dead-jobs.>"], **common}

    async def ensured(self) -> None:
        """Make them, once."""
        if not self._made:
            await self.ensure()

    async def ensure(self) -> None:
        """Make them; several processes may do so at once. Raises ``BridgeError``."""
        async with self._lock:
            config = await make_stream(self._connection, self._job_stream)
            lacks = [name for name in _NEEDED if not config.get(name)]
            if lacks:
                raise self._connection.refusal(
                    f"stream '{self.jobs}' lacks {', '.join(lacks)}; use nats-server 2.14 or later, and "
                    "delete the stream if an older one made it"
                )
            await make_stream(self._connection, self._dead_stream)
            self._made = True

    def forget(self) -> None:
        """Look whether they are there, the next time: something was missing."""
        self._made = False

    def of(self, queue: str) -> str:
        """Return the stream that holds the jobs of a queue."""
        source = self.sources.get(queue)
        return self.jobs if source is None else source.stream

    def job(self, queue: str) -> str:
        """Return where the jobs of a queue go."""
        source = self.sources.get(queue)
        if source is not None:
            return source.subject
        return f"{self._prefix}.jobs.{names.subject(queue)}"

    def delayed(self, call: str) -> str:
        """Return where one job waits that is delayed."""
        return f"{self._prefix}.delayed.{call}"

    def key(self, queue: str, key: str) -> str:
        """Return where a key is noted."""
        digest = hashlib.sha256(f"{queue}\0{key}".encode()).hexdigest()[:32]
        return f"{self._prefix}.keys.{digest}"

    def returned(self, stream: str, sequence: int) -> str:
        """Return where it is noted how often a job was given back."""
        return f"{self._prefix}.returned.{stream}.{sequence}"

    def letters(self, queue: str) -> str:
        """Return where the dead letters of a queue go."""
        return f"{self._prefix}.dead-jobs.{names.short(queue)}"


_NEEDED: Final = ("allow_msg_ttl", "allow_atomic", "allow_msg_schedules")


def job_headers(job: Job) -> dict[str, str]:
    """Return the headers of a job; what is as usual is not said."""
    found = headers_of(job.message)
    found[MAX_ATTEMPTS] = str(job.max_attempts)
    if job.delay != _DEFAULT["delay"]:
        found[DELAY] = _seconds(job.delay)
    if job.key is not None:
        found[KEY] = job.key.encode("unicode_escape").decode()
    if job.dedupe_window != _DEFAULT["dedupe_window"]:
        found[WINDOW] = _seconds(job.dedupe_window)
    return found


def stored_job(
    queue: str,
    headers: Mapping[str, str] | None,
    body: bytes,
    *,
    fallback_id: str,
    max_attempts: int = _DEFAULT["max_attempts"],
) -> Job:
    """Return the job that is stored so; ``max_attempts`` is for one that does not say it.

    Raises ``BridgeError`` for what is none.
    """
    given = headers or {}
    others = {name: value for name, value in given.items() if name not in _OURS}
    message = stored_message(queue, others, body, fallback_id=fallback_id)
    key = given.get(KEY)
    try:
        return Job(
            message,
            int(given.get(MAX_ATTEMPTS, max_attempts)),
            _duration(given.get(DELAY), _DEFAULT["delay"]),
            None if key is None else key.encode().decode("unicode_escape"),
            _duration(given.get(WINDOW), _DEFAULT["dedupe_window"]),
        )
    except (ValueError, OverflowError):
        raise BridgeError(
            f"queue '{queue}': the headers of a job cannot be read; send {MAX_ATTEMPTS} as a number"
        ) from None


def unread_job(queue: str, body: bytes, sequence: int) -> Job:
    """Return what stands for a job that cannot be read."""
    return Job(Message(queue, body, str(sequence), None, {"purista-unread": "true"}))


def at(instant: datetime) -> str:
    """Return the schedule of a message that is due once."""
    text = instant.astimezone(UTC).isoformat(timespec="microseconds")
    return f"@at {text.replace('+00:00', 'Z')}"


def ttl(window: timedelta) -> str:
    """Return how long a message is kept, in whole seconds, as the server wants it."""
    return f"{max(-(-window // _SECOND), 1)}s"


def _seconds(duration: timedelta) -> str:
    return repr(duration.total_seconds())


def _duration(text: str | None, default: timedelta) -> timedelta:
    return default if text is None else timedelta(seconds=float(text))

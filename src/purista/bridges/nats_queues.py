"""The NATS queue bridge: jobs in a JetStream work queue, delayed by the server's own schedules.

A lease is the time until the server delivers a job again. The server takes a word about an earlier
delivery, too: what keeps a worker from settling a job that is another's by now is its own clock.
https://docs.nats.io/nats-concepts/jetstream/consumers
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple

from purista.bridges import nats_names as names
from purista.bridges.envelope import why_unread
from purista.bridges.lines import Waiter
from purista.bridges.nats_connection import ApiError, Msg, NatsConnection, NatsError
from purista.bridges.nats_deadletters import RESERVE
from purista.bridges.nats_events import TIMEOUT
from purista.bridges.nats_job_letters import NatsDeadJobs
from purista.bridges.nats_jobs import (
    CALL,
    UNTIL,
    JobStreams,
    Source,
    at,
    job_headers,
    stored_job,
    ttl,
    unread_job,
)
from purista.bridges.nats_puller import NatsPuller
from purista.bridges.nats_streams import NOT_FOUND
from purista.bridges.port import DeadLetter, Health, Job, LeasedJob, QueueBridgeCapabilities
from purista.clock import Clock, SystemClock
from purista.errors import BridgeError, LeaseLostError
from purista.message import new_message_id

logger = logging.getLogger("purista.bridges")

TAKEN: Final = 10071
"""JetStream's number for a subject that has a message already."""

CONFIRM_TIME: Final = 2.0
FIRST_CONFIRM: Final = 0.25
"""Seconds that a word about a job may take before it is sent again: at most, and at first."""

STORED: Final = "nats-time-stamp"
"""The header that says when a message was stored, as JetStream itself names it
(https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-31.md)."""

ENDLESS: Final = 1_000_000_000
"""Attempts of a job from another stream that does not say how many."""

_CAPABILITIES: Final = QueueBridgeCapabilities(
    name="nats",
    durable=True,
    delayed=True,
    deduplicates=True,
    wakes=True,
    across_processes=True,
    ordered=False,
    fenced_by="clock",
    largest=1_000_000,
)
_ZERO: Final = timedelta(0)


class _Held(NamedTuple):
    """A delivery that is leased: where a word about it goes, and until when it is ours.

    ``returned``: where it is noted how often it was given back.
    """

    reply: str
    returned: str
    delivered: int
    until: float


class NatsQueueBridge:
    """Implements ``QueueBridge``, ``DeadLetters`` and ``Connects``; needs the extra ``nats``.

    ``url``, ``prefix``, ``timeout`` and ``replicas`` are those of a ``NatsEventBridge``; the server is
    2.14 or later. A job that is tried again comes before those that were never tried. The first lease of a
    queue says how long the server waits by itself; another duration it is told with each job. A job that
    was delivered as its worker died before that is due again after that first duration.

    ``sources``: queues whose jobs lie on a subject of another stream, a work queue too, such as the triggers
    of the server's own schedules. A message there that does not say how often it is to be tried is
    tried without end, and the header ``nats-time-stamp`` tells when it was stored.

    Leases belong to the bridge that gave them. For one event loop.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "purista",
        timeout: timedelta = TIMEOUT,
        replicas: int | None = None,
        sources: Mapping[str, Source] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        self._prefix = names.checked_prefix(prefix)
        self._timeout = timeout
        self._clock = clock or SystemClock()
        self._connection = NatsConnection(url, name=f"{prefix} queues", timeout=timeout)
        self._streams = JobStreams(
            self._connection, prefix, replicas=replicas, sources=dict(sources or {})
        )
        self._letters = NatsDeadJobs(self._connection, self._streams)
        self._pullers: dict[str, NatsPuller] = {}
        self._tokens = itertools.count(1)
        self._held: dict[int, _Held] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"NatsQueueBridge({str(self._connection)!r})"

    @property
    def capabilities(self) -> QueueBridgeCapabilities:
        """What this bridge really does; a server's ``max_payload`` can allow larger bodies."""
        return _CAPABILITIES

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._connection.health

    async def connect(self, *, patience: timedelta | None = None) -> None:
        """Return once the server answers and has the streams. Raises ``BridgeError``."""
        await self._connection.connect(patience=patience)
        await self._streams.ensure()

    async def enqueue(self, job: Job) -> bool:
        """Store a job; False when its key was seen within the window of the job that brought it."""
        queue, call = job.message.name, new_message_id()
        self._refuse_if_closed(queue)
        await self._streams.ensured()
        subject, headers = self._streams.job(queue), job_headers(job)
        if job.delay > _ZERO:
            headers["Nats-Schedule"] = at(datetime.now(UTC) + job.delay)
            headers["Nats-Schedule-Target"] = subject
            subject = self._streams.delayed(call)
        self._connection.refuse_if_too_large(
            await self._connection.client(), job.message.body, headers, reserve=RESERVE
        )
        if job.key is not None:
            return await self._enqueue_once(job, job.key, subject, headers, call)
        headers["Nats-Msg-Id"] = call
        await self._connection.published(
            subject, job.message.body, headers, missing=self._streams.ensure
        )
        return True

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None = None
    ) -> LeasedJob | None:
        """Take the next job; see ``QueueBridge``. Raises ``ValueError`` for a duration that is not positive."""
        self._refuse_if_closed(queue)
        if duration <= _ZERO:
            raise _no_lease(queue, duration)
        puller = self._pullers.get(queue)
        if puller is None:
            puller = self._pullers[queue] = NatsPuller(
                queue,
                self._connection,
                self._streams,
                taken=partial(self._taken, queue),
                give_back=self._give_back,
            )
        waiter = Waiter(duration, wait, self._clock)
        waiter.was_looked_for = True
        puller.join(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            given = waiter.leave()
            if given is not None:
                await self._undo(given)
            raise
        finally:
            waiter.leave()
            puller.line.remove(waiter)

    async def extend(self, leased: LeasedJob, *, duration: timedelta) -> None:
        """Let the lease run out ``duration`` from now. Raises ``LeaseLostError``, ``ValueError``."""
        if duration <= _ZERO:
            raise _no_lease(leased.queue, duration)
        held = self._ours(leased)
        began = _now()
        await self._say(held, _again(duration), leased)
        if leased.token in self._held:
            self._held[leased.token] = held._replace(until=began + duration.total_seconds())

    async def ack(self, leased: LeasedJob) -> None:
        """Forget the job. Raises ``LeaseLostError``."""
        held = self._ours(leased)
        del self._held[leased.token]
        await self._say(held, b"+ACK", leased)
        if held.delivered > leased.attempt:
            await self._forget_returns(held.returned)

    async def nack(self, leased: LeasedJob, *, retry_in: timedelta | None, reason: str) -> bool:
        """Let the job be due again, or bury it (True). Raises ``LeaseLostError``."""
        held = self._ours(leased)
        del self._held[leased.token]
        if retry_in is not None and leased.attempt < leased.job.max_attempts:
            await self._say(held, _again(retry_in), leased)
            return False
        await self._bury(held, leased.job, leased.attempt, reason)
        return True

    async def dead_letters(self, queue: str) -> Sequence[DeadLetter]:
        """Return the dead letters of a queue, oldest first; they stay until somebody acts.

        A job whose lease ran out in its last attempt is among them once somebody would lease it.
        """
        return await self._letters.of(queue)

    async def redrive(self, queue: str, *, message_id: str | None = None) -> int:
        """Let dead letters be due now, oldest first, with all their attempts; return how many."""
        self._refuse_if_closed(queue)
        return await self._letters.redrive(queue, message_id)

    async def purge(self, queue: str, *, message_id: str | None = None) -> int:
        """Delete dead letters (one, or all); return how many."""
        return await self._letters.purge(queue, message_id)

    async def close(self) -> None:
        """Refuse new jobs and leases, wake the calls that wait, and close the connection.

        Whoever settles a leased job after this does so over a connection of its own.
        """
        self._closed = True
        for puller in self._pullers.values():
            puller.line.fail(self._connection.closed_error(f"queue '{puller.line.name}'"))
        await asyncio.gather(*(puller.close() for puller in self._pullers.values()))
        await self._connection.close()

    async def _enqueue_once(
        self, job: Job, key: str, subject: str, headers: Mapping[str, str], call: str
    ) -> bool:
        """Store the job and its key, or neither; a key that this call stored before is no other's."""
        where = self._streams.key(job.message.name, key)
        until = datetime.now(UTC) + job.dedupe_window
        note = {CALL: call, UNTIL: until.isoformat(), "Nats-TTL": ttl(job.dedupe_window)}
        expected = 0
        end = _now() + self._timeout.total_seconds()
        while True:
            note["Nats-Expected-Last-Subject-Sequence"] = str(expected)
            try:
                await self._batch([(where, b"", note), (subject, job.message.body, headers)], end)
                return True
            except ApiError as error:
                if error.code != TAKEN:
                    raise
            found = await self._last(where)
            if found is None:
                expected = 0
            elif found["headers"].get(CALL) == call:
                return True
            elif datetime.fromisoformat(found["headers"][UNTIL]) > datetime.now(UTC):
                return False
            else:
                expected = found["seq"]

    async def _batch(
        self, messages: Sequence[tuple[str, bytes, Mapping[str, str]]], end: float
    ) -> None:
        """Store messages, all or none; tried again until ``end``. Raises ``ApiError``."""
        while True:
            batch = new_message_id()
            client = await self._connection.client()
            try:
                for number, (subject, body, headers) in enumerate(messages[:-1], start=1):
                    marks = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
                    await client.publish(subject, body, headers={**headers, **marks})
                subject, body, headers = messages[-1]
                marks = {
                    "Nats-Batch-Id": batch,
                    "Nats-Batch-Sequence": str(len(messages)),
                    "Nats-Batch-Commit": "1",
                }
                await self._connection.confirmed(
                    subject, body, {**headers, **marks}, seconds=CONFIRM_TIME
                )
                return
            except ApiError:
                raise
            except (NatsError, TimeoutError, BridgeError) as error:
                if _now() >= end:
                    text = "it was not confirmed in time, whether it was stored is not known"
                    raise self._connection.refusal(text) from error
                await self._streams.ensure()
                await asyncio.sleep(0.05)

    async def _last(self, subject: str) -> dict[str, Any] | None:
        """Return the last message of a subject, with its headers and its number."""
        try:
            found = await self._connection.api(
                f"STREAM.MSG.GET.{self._streams.jobs}", {"last_by_subj": subject}
            )
        except ApiError as error:
            if error.code in NOT_FOUND:
                return None
            raise
        message = found["message"]
        lines = base64.b64decode(message.get("hdrs", "")).decode("utf-8", "replace").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        return {"seq": message["seq"], "headers": headers}

    async def _taken(self, queue: str, msg: Msg, waiter: Waiter, since: float) -> LeasedJob | None:
        """Return the lease of a delivery; None when it is none: too old, unreadable, used up."""
        duration = waiter.duration.total_seconds()
        puller = self._pullers[queue]
        granted = min(duration, puller.ack_wait.total_seconds() or duration)
        if _now() >= since + granted:
            return None  # it may be another's by now; if not, it comes again
        sequence, delivered = msg.metadata.sequence.stream, msg.metadata.num_delivered or 1
        returned = self._streams.returned(msg.metadata.stream, sequence)
        held = _Held(msg.reply, returned, delivered, since + granted)
        if waiter.duration != puller.ack_wait:
            began = _now()
            await msg.respond(_again(waiter.duration))
            held = held._replace(until=(began if duration < granted else since) + duration)
        attempt = delivered - (0 if delivered == 1 else await self._returns(returned))
        try:
            job = self._job(queue, msg)
        except Exception as error:
            reason, unread = why_unread(error), unread_job(queue, msg.data, sequence)
            logger.error(
                "queue %s: a dead letter: %s",
                queue,
                reason,
                exc_info=None if isinstance(error, BridgeError) else error,
            )
            await self._bury(held, unread, attempt, reason)
            return None
        if attempt > job.max_attempts:
            reason = "its lease ran out in the last attempt"
            await self._bury(held, job, job.max_attempts, reason)
            return None
        if attempt > 1:
            logger.debug("queue %s: attempt %d of job %s", queue, attempt, job.message.id)
        token = next(self._tokens)
        self._held[token] = held
        return LeasedJob(queue, job, attempt, token)

    def _job(self, queue: str, msg: Msg) -> Job:
        """Return the job of a delivery. Raises ``BridgeError``."""
        fallback = f"{msg.metadata.stream}:{msg.metadata.sequence.stream}"
        if queue not in self._streams.sources:
            return stored_job(queue, msg.headers, msg.data, fallback_id=fallback)
        job = stored_job(queue, msg.headers, msg.data, fallback_id=fallback, max_attempts=ENDLESS)
        stored = msg.metadata.timestamp.isoformat()
        headers = {**(job.message.headers or {}), STORED: stored}
        return job._replace(message=job.message._replace(headers=headers))

    async def _bury(self, held: _Held, job: Job, attempts: int, reason: str) -> None:
        """Store the dead letter, then let the server forget the job."""
        once = held.returned
        letters = self._letters
        if self._closed:
            async with self._reopened() as connection:
                letters = NatsDeadJobs(connection, self._streams)
                await letters.bury(job, attempts, reason, once=once)
        else:
            await letters.bury(job, attempts, reason, once=once)
        await self._tell(held.reply, b"+TERM", held.until)
        if held.delivered > attempts:
            await self._forget_returns(held.returned)

    async def _undo(self, given: LeasedJob) -> None:
        """Give back a lease that no caller saw."""
        held = self._held.pop(given.token, None)
        if held is not None:
            await self._return(held.reply, held.returned, held.until)

    async def _give_back(self, msg: Msg, since: float) -> None:
        """Give back a delivery that nobody waits for any more; one that is old comes again by itself."""
        until = since + CONFIRM_TIME
        returned = self._streams.returned(msg.metadata.stream, msg.metadata.sequence.stream)
        await self._return(msg.reply, returned, until)

    async def _return(self, reply: str, returned: str, until: float) -> None:
        """Let a job be due again as if it had not been delivered."""
        if _now() >= until:
            return
        try:
            count = await self._returns(returned) + 1
            await self._connection.published(
                returned,
                str(count).encode(),
                {"Nats-Rollup": "sub"},
                missing=self._streams.ensure,
            )
            await self._tell(reply, b"-NAK", until)
        except BridgeError as error:
            logger.warning("a job comes again when its lease is over: %s", error)

    async def _returns(self, returned: str) -> int:
        """Return how often a job was given back untried."""
        try:
            found = await self._connection.api(
                f"STREAM.MSG.GET.{self._streams.jobs}", {"last_by_subj": returned}
            )
        except ApiError as error:
            if error.code in NOT_FOUND:
                return 0
            raise
        return int(base64.b64decode(found["message"]["data"]))

    async def _forget_returns(self, returned: str) -> None:
        try:
            await self._connection.api(f"STREAM.PURGE.{self._streams.jobs}", {"filter": returned})
        except BridgeError as error:
            logger.debug("%s stays: %s", returned, error)

    def _ours(self, leased: LeasedJob) -> _Held:
        """Return the delivery of a lease. Raises ``LeaseLostError``."""
        held = self._held.get(leased.token)
        if held is None or _now() >= held.until:
            self._held.pop(leased.token, None)
            raise _lost(leased)
        return held

    async def _say(self, held: _Held, word: bytes, leased: LeasedJob) -> None:
        """Tell the server about a job until it confirms. Raises ``LeaseLostError``, ``BridgeError``."""
        if not await self._tell(held.reply, word, held.until):
            raise _lost(leased)

    async def _tell(self, reply: str, word: bytes, until: float) -> bool:
        """Tell the server until it confirms; False when the lease ran out before that."""
        if self._closed:
            async with self._reopened() as connection:
                return await _told(connection, reply, word, until, self._timeout)
        return await _told(self._connection, reply, word, until, self._timeout)

    def _reopened(self) -> _Reopened:
        name = f"{self._prefix} queues"
        return _Reopened(NatsConnection(self._url, name=name, timeout=self._timeout))

    def _refuse_if_closed(self, queue: str) -> None:
        if self._closed:
            raise self._connection.closed_error(f"queue '{queue}'")


class _Reopened:
    """A connection for one word after the bridge was closed."""

    def __init__(self, connection: NatsConnection) -> None:
        self._connection = connection

    async def __aenter__(self) -> NatsConnection:
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def _told(
    connection: NatsConnection, reply: str, word: bytes, until: float, timeout: timedelta
) -> bool:
    end, patience = _now() + timeout.total_seconds(), FIRST_CONFIRM
    while _now() < until:
        try:
            await connection.ask(reply, word, seconds=min(until - _now(), patience))
            return True
        except (NatsError, TimeoutError):
            if _now() >= end:
                raise connection.refusal("a word about a job was not confirmed") from None
            patience = min(2 * patience, CONFIRM_TIME)
            await asyncio.sleep(0.02)
    return False


def _again(after: timedelta) -> bytes:
    """Return the word that a job is to be delivered again after so long."""
    delay = after // timedelta(microseconds=1) * 1000
    return b'-NAK {"delay": %d}' % delay if delay > 0 else b"-NAK"


def _now() -> float:
    return asyncio.get_running_loop().time()


def _no_lease(queue: str, duration: timedelta) -> ValueError:
    return ValueError(f"queue '{queue}': a lease of {duration} is none; use a positive duration")


def _lost(leased: LeasedJob) -> LeaseLostError:
    return LeaseLostError(
        f"queue '{leased.queue}': job {leased.job.message.id}, attempt {leased.attempt}: "
        "its lease ran out or it was settled already; extend a lease in time, settle it once"
    )

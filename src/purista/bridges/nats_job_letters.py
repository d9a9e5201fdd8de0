"""The dead letters of queues on NATS: a stream, one subject for each queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from purista.bridges.nats_connection import NatsConnection
from purista.bridges.nats_deadletters import (
    ATTEMPTS,
    REASON,
    Stored,
    delete_stored,
    each_stored,
    fitting,
    one_line,
)
from purista.bridges.nats_jobs import JobStreams, job_headers, stored_job, unread_job
from purista.bridges.port import DeadLetter, Job
from purista.errors import BridgeError


class NatsDeadJobs:
    """Keeps, lists, redrives and purges dead letters."""

    def __init__(self, connection: NatsConnection, streams: JobStreams) -> None:
        self._connection = connection
        self._streams = streams

    async def bury(self, job: Job, attempts: int, reason: str, *, once: str) -> None:
        """Keep a dead letter; ``once`` is the same when this is tried again."""
        headers = {
            **job_headers(job),
            ATTEMPTS: str(attempts),
            REASON: one_line(reason),
            "Nats-Msg-Id": once,
        }
        body = job.message.body
        await self._connection.published(
            self._streams.letters(job.message.name),
            body,
            fitting(headers, body, await self._connection.client()),
            missing=self._streams.ensure,
        )

    async def of(self, queue: str) -> list[DeadLetter]:
        """Return those of a queue, oldest first."""
        return [letter async for _, letter in self._each(queue)]

    async def redrive(self, queue: str, message_id: str | None) -> int:
        """Let them be due now."""
        subject, count = self._streams.job(queue), 0
        async for sequence, letter in self._each(queue):
            if message_id in (None, letter.job.message.id):
                headers = job_headers(letter.job)
                headers["Nats-Msg-Id"] = f"redriven-{self._streams.dead}-{sequence}"
                body = letter.job.message.body
                fit = fitting(headers, body, await self._connection.client())
                await self._connection.published(subject, body, fit, missing=self._streams.ensure)
                count += await self._delete(sequence)
        return count

    async def purge(self, queue: str, message_id: str | None) -> int:
        """Delete them; return how many."""
        return sum(
            [
                await self._delete(sequence)
                async for sequence, letter in self._each(queue)
                if message_id in (None, letter.job.message.id)
            ]
        )

    async def _each(self, queue: str) -> AsyncIterator[tuple[int, DeadLetter]]:
        subject = self._streams.letters(queue)
        async for stored in each_stored(self._connection, self._streams.dead, subject):
            others = {k: v for k, v in stored.headers.items() if k not in (ATTEMPTS, REASON)}
            job = _job(queue, others, stored)
            yield (
                stored.sequence,
                DeadLetter(
                    queue,
                    job,
                    int(stored.headers.get(ATTEMPTS, "0")),
                    stored.headers.get(REASON, "unknown"),
                    stored.time,
                ),
            )

    async def _delete(self, sequence: int) -> int:
        return await delete_stored(self._connection, self._streams.dead, sequence)


def _job(queue: str, headers: Mapping[str, str], stored: Stored) -> Job:
    """Return the job of a dead letter, whatever it is."""
    try:
        return stored_job(queue, headers, stored.body, fallback_id=str(stored.sequence))
    except BridgeError:
        return unread_job(queue, stored.body, stored.sequence)

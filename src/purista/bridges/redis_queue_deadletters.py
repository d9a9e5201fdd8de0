"""The dead letters of queues: listed, let be due again, deleted, some at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final, Literal

from purista.bridges import redis_queue_jobs as jobs
from purista.bridges.port import DeadLetter
from purista.bridges.redis_queue_lines import tell_ran_out
from purista.bridges.redis_queue_names import QueueNames
from purista.bridges.redis_queue_scripts import EXPIRE, LETTERS, MOVE
from purista.bridges.redis_queue_server import RedisQueueServer
from purista.bridges.redis_sent import SENT_KEPT

AT_ONCE: Final = 100
"""How many dead letters are read or moved at once."""

BYTES_AT_ONCE: Final = 1_000_000
"""How many bytes of dead letters are read at once, about."""


class RedisDeadJobs:
    """The dead letters of one deployment; ``now`` is what scripts are told."""

    def __init__(
        self,
        server: RedisQueueServer,
        names: QueueNames,
        *,
        instance: str,
        now: Callable[[], str | int],
    ) -> None:
        self._server = server
        self._names = names
        self._instance = instance
        self._now = now
        self._numbers = itertools.count()

    async def of(self, queue: str) -> list[DeadLetter]:
        """Return a queue's dead letters, oldest first, with those that nobody has noticed yet."""
        await self._expire(queue)
        found: list[DeadLetter] = []
        keys, after, more = self._names.of(queue).all, b"0", 1
        while more:
            more, page = await self._server.settle(LETTERS, keys, after, AT_ONCE, BYTES_AT_ONCE)
            found += [jobs.letter(queue, job_id, known, job) for _, job_id, known, job in page]
            after = page[-1][0] if page else after
        return found

    async def move(
        self, word: Literal["redrive", "purge"], queue: str, message_id: str | None
    ) -> int:
        """Move all that are there now, some at a time; return how many."""
        keys = self._names.of(queue)
        latest = await self._server.ask("ZRANGE", keys.all[5], -1, -1, "WITHSCORES")
        if not latest:
            return 0
        which = "" if message_id is None else f"{jobs.quoted(message_id)} "
        count, moved = 0, AT_ONCE
        while moved == AT_ONCE:
            answer = self._names.moved(self._instance, next(self._numbers))
            moved = await self._server.settle(
                MOVE,
                (*keys.all, answer),
                word,
                which,
                latest[1],
                AT_ONCE,
                self._now(),
                keys.news,
                SENT_KEPT,
            )
            count += moved
        return count

    async def _expire(self, queue: str) -> None:
        keys, ended = self._names.of(queue).all, AT_ONCE
        while ended == AT_ONCE:
            told = await self._server.settle(EXPIRE, keys, self._now(), AT_ONCE)
            tell_ran_out(queue, jobs.those_that_ran_out(queue, told))
            ended = len(told)

"""Calls that wait for a job in Redis: one look serves those of one queue, news or its time begins the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any, Final, NamedTuple

from purista.bridges import redis_queue_jobs as jobs
from purista.bridges.lines import Line, Waiter
from purista.bridges.port import LeasedJob
from purista.bridges.redis_listener import RedisListener
from purista.bridges.redis_queue_names import QueueKeys, QueueNames
from purista.bridges.redis_queue_scripts import BACK, LOOK
from purista.bridges.redis_queue_server import RedisQueueServer
from purista.bridges.redis_sent import SENT_KEPT
from purista.clock import Clock
from purista.errors import BridgeError

logger = logging.getLogger("purista.bridges")

LOOK_EVERY: Final = timedelta(seconds=30)
"""How often a queue is looked into although nothing was heard of it: news can be lost."""

SLACK: Final = timedelta(microseconds=500)
"""So much later than a job is due is looked for it, as the server's clock is not this machine's."""

ENDED_AT_ONCE: Final = 100
"""How many leases that ran out a look ends at most: it holds the server up for about two milliseconds."""

_ZERO: Final = timedelta(0)


class _Pause(NamedTuple):
    """In how many seconds there may be more, which nobody may know, from when on."""

    next_in: float | None
    began: float


class _Place:
    """A line, and which of its looks was answered: the server gives again what nobody saw.

    ``is_cut_off``: whoever looked was cancelled, so that somebody else has to find out what it was given.
    ``pause``: what is waited for before the next look.
    """

    __slots__ = ("answered", "is_cut_off", "is_heard", "key", "keys", "line", "number", "pause")

    def __init__(self, queue: str, keys: QueueKeys, key: bytes) -> None:
        self.line = Line(queue)
        self.keys = keys
        self.key = key
        self.number = 0
        self.answered = 0
        self.is_cut_off = False
        self.is_heard = False
        self.pause: _Pause | None = None


class RedisQueueLines:
    """The lines of all queues that this bridge was asked for jobs of; ``now`` is what scripts are told."""

    def __init__(
        self,
        server: RedisQueueServer,
        names: QueueNames,
        *,
        instance: str,
        clock: Clock,
        now: Callable[[], str | int],
        slack: timedelta,
    ) -> None:
        self._server = server
        self._names = names
        self._instance = instance
        self._clock = clock
        self._now = now
        self._slack = slack
        self._places: dict[str, _Place] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = RedisListener(server.shared, self._returned)

    async def lease(
        self, queue: str, *, duration: timedelta, wait: timedelta | None
    ) -> LeasedJob | None:
        """Wait for a job; calls that wait get theirs in the order they came.

        Who finds nobody looks first itself: that is quicker than to wait for another task.
        """
        place = self._places.get(queue) or self._place(queue)
        line, waiter = place.line, Waiter(duration, wait, self._clock)
        line.add(waiter)
        try:
            if line.task is None:
                await self._look_first(place)
            return await waiter.future
        except asyncio.CancelledError:
            leased = waiter.leave()
            if leased is not None:
                self._own(self._give_back(place, [leased]))
            raise
        finally:
            waiter.leave()
            line.remove(waiter)

    def refuse(self, error: Callable[[str], BridgeError]) -> None:
        """Let every call that waits raise."""
        for place in self._places.values():
            place.line.fail(error(place.line.name))

    async def close(self) -> None:
        """Wait for what is under way while the server answers, and listen no more."""
        try:
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=self._server.shared.parting)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            await self._listener.close()

    def _place(self, queue: str) -> _Place:
        keys, key = self._names.of(queue), self._names.look(self._instance, queue)
        place = self._places[queue] = _Place(queue, keys, key)
        return place

    async def _look_first(self, place: _Place) -> None:
        """Look once; whoever has no job then is looked after."""
        line = place.line
        line.task = asyncio.current_task()
        try:
            await self._guarded(place, self._look)
        finally:
            line.task = None
            if line.next_waiters() or place.is_cut_off:
                line.task = self._own(self._look_after(place))

    async def _look_after(self, place: _Place) -> None:
        """Look for jobs for those who wait, whenever there may be one."""
        line = place.line
        try:
            while line.next_waiters() or place.is_cut_off:
                await self._guarded(place, self._look if place.pause is None else self._change)
        finally:
            line.task = None

    async def _guarded(self, place: _Place, work: Callable[[_Place], Awaitable[None]]) -> None:
        """Let those who wait raise when the work fails."""
        line = place.line
        try:
            await work(place)
        except asyncio.CancelledError:
            place.is_cut_off = place.answered < place.number
            raise
        except BridgeError as error:
            place.is_cut_off = False
            line.fail(error)
        except Exception as error:
            place.is_cut_off = False
            logger.exception("queue %s: a look for jobs failed", line.name)
            line.fail(
                self._server.shared.refusal(
                    f"queue '{line.name}': a look for jobs failed ({type(error).__name__})"
                )
            )

    async def _look(self, place: _Place) -> None:
        line = place.line
        waiters = line.next_waiters()
        line.changed.clear()
        began = self._clock.monotonic()
        place.pause = None
        look = await self._looked(place, waiters)
        self._hand(place, waiters, look.leased)
        if look.next_in != 0 and len(look.leased) < len(waiters):
            for waiter in waiters[len(look.leased) :]:
                waiter.looked_in_vain()
            place.pause = _Pause(look.next_in, began)

    async def _looked(self, place: _Place, waiters: Sequence[Waiter]) -> jobs.Look:
        place.number = number = place.number + 1
        answer = await self._server.run(
            LOOK,
            (*place.keys.all, place.key),
            self._now(),
            number,
            place.answered,
            SENT_KEPT,
            ENDED_AT_ONCE,
            *[jobs.microseconds(waiter.duration) for waiter in waiters],
        )
        place.answered = number
        place.is_cut_off = False
        queue = place.line.name
        look = jobs.look(queue, answer)
        tell_ran_out(queue, look.ran_out)
        if look.gone:
            logger.error("queue %s: %d jobs are gone: the server lost them", queue, look.gone)
        if look.odd:
            logger.error(
                "queue %s: %d jobs cannot be read; they will be dead letters", queue, look.odd
            )
        return look

    def _hand(self, place: _Place, waiters: Sequence[Waiter], leased: Sequence[LeasedJob]) -> None:
        """Give each job to a call that waits, and back to the server what nobody wants any more."""
        waiting = iter(waiters)
        unwanted = [one for one in leased if not _given(waiting, one)]
        if unwanted:
            self._own(self._give_back(place, unwanted))

    async def _change(self, place: _Place) -> None:
        """Return once a job may be due: when it is told, when the next one is, or after a while.

        Before anything can be told, it is listened to; what came until then, another look will find.
        """
        line, pause = place.line, place.pause
        assert pause is not None
        place.pause = None
        if not place.is_heard:
            await self._listener.listen(place.keys.news, lambda _: line.changed.set())
            place.is_heard = True
            return
        delay = LOOK_EVERY
        if pause.next_in is not None and pause.next_in < delay.total_seconds():
            left = pause.next_in - (self._clock.monotonic() - pause.began)
            delay = timedelta(seconds=left) + self._slack if left > 0 else _ZERO
        timer = self._clock.call_later(delay, line.changed.set)
        try:
            await line.changed.wait()
        finally:
            timer.cancel()

    async def _returned(self) -> None:
        """Look into every queue: news may have been missed."""
        for place in self._places.values():
            place.line.changed.set()

    async def _give_back(self, place: _Place, leased: Sequence[LeasedJob]) -> None:
        """Undo leases that no caller saw: the next one gets each job, as if for the first time."""
        keys = place.keys
        try:
            await self._server.settle(BACK, keys.all, keys.news, *map(jobs.token, leased))
        except BridgeError as error:
            logger.warning(
                "queue %s: %d jobs come back only when their leases run out: %s",
                place.line.name,
                len(leased),
                error,
            )

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run work as a task that ``close`` waits for."""
        task = asyncio.create_task(work, name="purista redis queue")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def tell_ran_out(queue: str, ran_out: Sequence[jobs.RanOut]) -> None:
    """Warn of leases that ran out."""
    for one in ran_out:
        logger.warning(
            "queue %s: the lease of job %s ran out in attempt %d of %d, run %s",
            queue,
            one.message_id,
            one.attempt,
            one.most,
            one.run,
        )


def _given(waiting: Iterator[Waiter], leased: LeasedJob) -> bool:
    """Give a job to the next call that waits for one, if there is any."""
    return any(waiter.give(leased) for waiter in waiting)

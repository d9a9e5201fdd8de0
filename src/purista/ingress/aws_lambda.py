"""AWS Lambda: the function that takes triggers of EventBridge Scheduler, EventBridge rules and SQS."""

from __future__ import annotations

import asyncio
import atexit
import logging
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import partial
from types import FrameType
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from purista.errors import IngressError, TriggerError
from purista.ingress.answer import Answer, problem, unavailable
from purista.ingress.aws_events import Carried, group_of, message_trigger_of, records_of, trigger_of
from purista.ingress.port import TriggerIngress
from purista.ingress.reception import Reception, words

logger = logging.getLogger("purista.lambda")

OpenIngress = Callable[[], AbstractAsyncContextManager[TriggerIngress]]
"""Opens an ingress, with its bridges and ledger, and closes them at its end."""

CLOSING: Final = timedelta(seconds=1.5)
"""How long a SIGTERM waits for the ingress to close: AWS kills the process 2 seconds after it
(https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html)."""

LEASE: Final = 30
"""Seconds after which a run that was frozen can be taken over."""

T = TypeVar("T")


class LambdaContext(Protocol):
    """What the function asks of the context that AWS gives it."""

    def get_remaining_time_in_millis(self) -> int:
        """Return how long the invocation may still take."""


def lambda_handler(
    open_ingress: OpenIngress,
    *,
    rules: Mapping[str, str] | None = None,
    wait: bool = False,
    refusals: Literal["return", "raise"] = "return",
    concurrency: int = 10,
    reserve: timedelta = timedelta(seconds=2),
) -> LambdaHandler:
    """Return the function that AWS calls, for a module's ``handler``.

    ``open_ingress`` is opened by the first invocation, on an event loop of its own that lives as long as
    the process, and closed on SIGTERM. ``rules`` gives schedule ids for rules (see docs/lambda.md).

    A process is frozen after each answer, and handlers that run in it with it: with ``wait`` the answer
    is given when the run is over. A run that is not over in time is answered with an error, so that
    the trigger is sent again: the run is waited for on, or taken over. An answer is due ``reserve``
    before the invocation's own time-out.

    ``refusals``: whether a direct invocation with a trigger that no retry can mend returns the problem,
    or raises, so that after its retries AWS puts the event into the dead-letter queue. ``concurrency``:
    how many messages of a batch are decided at once.
    """
    return LambdaHandler(
        open_ingress, dict(rules or {}), wait, refusals == "raise", concurrency, reserve
    )


class LambdaHandler:
    """The function that AWS calls. May be called by several threads at once."""

    def __init__(
        self,
        open_ingress: OpenIngress,
        rules: Mapping[str, str],
        waits: bool,
        raises: bool,
        concurrency: int,
        reserve: timedelta,
    ) -> None:
        self._open_ingress = open_ingress
        self._rules = rules
        self._waits = waits
        self._raises = raises
        self._concurrency = concurrency
        self._reserve = reserve.total_seconds()
        self._lock = threading.RLock()  # a signal can come while it is held
        self._environment: _Environment | None = None
        self._is_registered = False

    def __call__(self, event: Any, context: LambdaContext | None = None) -> dict[str, Any]:
        """Take the trigger, or the batch of triggers, of an event.

        Returns the decision, the problem, or the messages of the batch that failed. Raises
        ``IngressError`` when the trigger is to be sent again, and ``TriggerError`` for an event that
        can hold none. Without a ``context`` it takes its time.
        """
        records = records_of(event)
        limit = self._limit(context)
        if records is None:
            return self._opened().call(lambda at: self._invoked(at, event, limit))
        return self._opened().call(lambda at: self._batch(at, records, limit))

    def close(self) -> None:
        """Close the ingress; the next call opens it again. May be repeated."""
        with self._lock:
            environment, self._environment = self._environment, None
        if environment is not None:
            environment.close()

    def _opened(self) -> _Environment:
        with self._lock:
            if self._environment is None or self._environment.is_over:
                self._environment = _Environment(self._open_ingress)
                self._register()
            return self._environment

    def _register(self) -> None:
        """Have the ingress closed when the process ends."""
        if not self._is_registered:
            self._is_registered = True
            atexit.register(self.close)
            _on_sigterm(self.close)

    def _limit(self, context: LambdaContext | None) -> float | None:
        """Return for how many seconds an answer may be waited for."""
        if context is None:
            return None
        return max(context.get_remaining_time_in_millis() / 1000 - self._reserve, 0)

    async def _invoked(
        self, ingress: TriggerIngress, event: Mapping[str, Any], limit: float | None
    ) -> dict[str, Any]:
        """Answer a direct invocation: an error is what makes AWS send it again."""
        given = await self._answer(ingress, partial(trigger_of, event, self._rules), limit)
        if given.retry_after is not None or (given.is_problem and self._raises):
            raise IngressError(words(given), status=given.status, retry_after=given.retry_after)
        return dict(given.document)

    async def _batch(
        self, ingress: TriggerIngress, records: Sequence[Mapping[str, Any]], limit: float | None
    ) -> dict[str, Any]:
        """Return the messages that failed: what AWS keeps in the queue.

        Of a group of a FIFO queue, those behind one that is to be sent again wait for it. Those behind
        one that no retry can mend do not: they would follow it into the dead-letter queue.
        """
        groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for record in records:
            groups[group_of(record)].append(record)
        places = asyncio.Semaphore(self._concurrency)
        end = None if limit is None else asyncio.get_running_loop().time() + limit

        async def failed(group: Iterable[Mapping[str, Any]]) -> list[str]:
            async with places:
                return await self._failed(ingress, group, end)

        found = await asyncio.gather(*map(failed, groups.values()))
        names = {name for each in found for name in each}
        failures = [each["messageId"] for each in records if each["messageId"] in names]
        return {"batchItemFailures": [{"itemIdentifier": name} for name in failures]}

    async def _failed(
        self, ingress: TriggerIngress, group: Iterable[Mapping[str, Any]], end: float | None
    ) -> list[str]:
        failed: list[str] = []
        held_up = False
        for record in group:
            if not held_up:
                limit = None if end is None else max(end - asyncio.get_running_loop().time(), 0)
                given = await self._record(ingress, record, limit)
                held_up = given.retry_after is not None
                if not given.is_problem:
                    continue
            failed.append(record["messageId"])
        return failed

    async def _record(
        self, ingress: TriggerIngress, record: Mapping[str, Any], limit: float | None
    ) -> Answer:
        try:
            return await self._answer(
                ingress, partial(message_trigger_of, record, self._rules), limit
            )
        except Exception:
            logger.exception("message %s failed", record["messageId"])
            return unavailable("the ingress failed")

    async def _answer(
        self, ingress: TriggerIngress, read: Callable[[], Carried], limit: float | None
    ) -> Answer:
        reception = Reception(ingress, "lambda", logger)
        try:
            trigger, carrier = read()
        except TriggerError as error:
            return reception.malformed(error)
        given: Answer | None = None
        try:
            async with asyncio.timeout(limit):
                given = await reception.take(trigger, carrier)
                if self._waits and given.status in (200, 202):
                    await _ended(ingress, given)
        except TimeoutError:
            logger.warning("schedule %s: the time is up", trigger.schedule_id)
            return _out_of_time(given)
        return given


@runtime_checkable
class _KnowsEnds(Protocol):
    async def ended(self, run_id: str) -> None: ...


async def _ended(ingress: TriggerIngress, given: Answer) -> None:
    """Wait until the runs are over that were started in this process."""
    if isinstance(ingress, _KnowsEnds):
        for decision in (*given.document.get("recovered", ()), given.document):
            if decision["runId"] is not None:
                await ingress.ended(decision["runId"])


def _out_of_time(given: Answer | None) -> Answer:
    if given is None:
        return unavailable("nothing was decided in time")
    text = "the run is not over in time, and is frozen with its process"
    return problem(503, "in-doubt", text, retry_after=LEASE, **given.document)


class _Opened(NamedTuple):
    loop: asyncio.AbstractEventLoop
    closing: asyncio.Event
    ingress: TriggerIngress


class _Environment:
    """An event loop in a thread of its own, and the ingress that one task keeps open on it."""

    def __init__(self, open_ingress: OpenIngress) -> None:
        self._open_ingress = open_ingress
        self._opened: Future[_Opened] = Future()
        self._thread = threading.Thread(target=self._run, name="purista ingress", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the ingress could not be opened, or is closed."""
        return not self._thread.is_alive()

    def call(self, work: Callable[[TriggerIngress], Coroutine[Any, Any, T]]) -> T:
        """Return what ``work`` returns on the loop. Raises what opening the ingress raised."""
        opened = self._opened.result()
        future = asyncio.run_coroutine_threadsafe(work(opened.ingress), opened.loop)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """Close the ingress, and wait a little for that."""
        if self._opened.done() and self._opened.exception() is None:
            opened = self._opened.result()
            if not opened.loop.is_closed():
                opened.loop.call_soon_threadsafe(opened.closing.set)
        self._thread.join(CLOSING.total_seconds())

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            if self._opened.done():
                logger.exception("the ingress could not be closed")
            else:
                self._opened.set_exception(error)

    async def _live(self) -> None:
        closing = asyncio.Event()
        async with self._open_ingress() as ingress:
            self._opened.set_result(_Opened(asyncio.get_running_loop(), closing, ingress))
            await closing.wait()


def _on_sigterm(close: Callable[[], None]) -> None:
    """Close on SIGTERM, which AWS sends where an extension is registered, before what was done so far."""
    if threading.current_thread() is not threading.main_thread():
        return
    before = signal.getsignal(signal.SIGTERM)

    def closing(number: int, frame: FrameType | None) -> None:
        close()
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, closing)

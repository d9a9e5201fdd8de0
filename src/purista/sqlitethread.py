"""The thread that works on one SQLite file for callers in event loops.

Steps that wait while a transaction is at work share the next one, and so its wait for the disk.
Nothing waits for company.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from purista.sqlitefile import SQLiteFile

SHARED_AT_MOST = 200
"""How many steps share a transaction at most."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class SQLiteThread:
    """Does steps on a file: what waits is done at once, first what writes, in the order of its coming.

    The first step starts the thread, ``close`` ends it; a step that comes later still is done, by
    itself. A caller that is cancelled leaves its step done or not begun.
    """

    def __init__(self, file: SQLiteFile, *, name: str) -> None:
        self._file = file
        self._name = name
        self._steps: SimpleQueue[_Step[Any]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._changing = threading.Lock()
        self._is_closed = False

    def write(self, work: Work[T], landed: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Begin a step; what is returned can be awaited for its result.

        ``landed`` is called with the result in the event loop, also when nobody waits for it any more.
        """
        return self._begin(_Step(work, is_write=True, landed=landed))

    def read(self, work: Work[T]) -> asyncio.Future[T]:
        """Begin a step that only reads."""
        return self._begin(_Step(work))

    async def close(self) -> None:
        """Finish what was begun, close the file and end the thread. May be repeated."""
        self._is_closed = True
        if self._thread is not None:
            await self._begin(_Step(None))

    def _begin(self, step: _Step[T]) -> asyncio.Future[T]:
        with self._changing:
            self._steps.put(step)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return step.future

    def _run(self) -> None:
        left: Sequence[_Step[Any]] = ()
        while not self._may_end(left):
            left = self._do([*left, *self._taken(SHARED_AT_MOST - len(left), wait=not left)])

    def _do(self, steps: Sequence[_Step[Any]]) -> Sequence[_Step[Any]]:
        """Do steps and tell their callers; return what is left of them."""
        writes = [step for step in steps if step.is_write]
        reads = [step for step in steps if not step.is_write]
        count = self._file.write(writes) if writes else 0
        for step in reads:
            if not step.is_end:
                self._file.read(step)
        if self._is_closed and count == len(writes) and self._steps.empty():
            self._file.close()
        _deliver([*writes[:count], *reads])
        return writes[count:]

    def _taken(self, most: int, *, wait: bool) -> Iterator[_Step[Any]]:
        """Take steps that wait, at least one if that is asked for."""
        if wait:
            yield self._steps.get()
        for _ in range(min(most, self._steps.qsize())):
            yield self._steps.get()

    def _may_end(self, left: Sequence[_Step[Any]]) -> bool:
        """Whether all is done for good; a step that comes after that starts another thread."""
        if not self._is_closed or left:
            return False
        with self._changing:
            if not self._steps.empty():
                return False
            self._thread = None
            return True


class _Step(Generic[T]):
    """What is to be done, for whom, and what became of it."""

    __slots__ = ("_error", "_is_done", "_landed", "_value", "_work", "future", "is_write", "loop")

    def __init__(
        self,
        work: Work[T] | None,
        *,
        is_write: bool = False,
        landed: Callable[[T], None] | None = None,
    ) -> None:
        self.is_write = is_write
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()
        self._work = work
        self._landed = landed
        self._value: Any = None
        self._error: Exception | None = None
        self._is_done = False

    @property
    def is_end(self) -> bool:
        """Whether there is nothing to do but to end."""
        return self._work is None

    @property
    def is_wanted(self) -> bool:
        return not self.future.cancelled()

    def work(self, connection: sqlite3.Connection) -> T:
        assert self._work is not None
        return self._work(connection)

    def settle(self, value: Any, error: Exception | None) -> None:
        self._value, self._error, self._is_done = value, error, True

    def arrive(self) -> None:
        """Tell the caller, in its event loop."""
        if self._is_done and self._error is None and self._landed is not None:
            self._landed(self._value)
        if self.future.done():
            return
        if self._error is None:
            self.future.set_result(self._value)
        else:
            self.future.set_exception(self._error)


def _deliver(steps: Iterable[_Step[Any]]) -> None:
    for loop, own in itertools.groupby(steps, key=attrgetter("loop")):
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_arrive, list(own))


def _arrive(steps: Iterable[_Step[Any]]) -> None:
    for step in steps:
        step.arrive()

"""Connections to one database: a small pool, in which each piece of work is done or not begun.

Nothing is tried again here after a connection was lost: whether it may be, only the caller knows.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import select
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.pq.abc import PGresult

from purista.postgres.address import Address
from purista.postgres.question import Connection as Connection
from purista.postgres.question import Question
from purista.postgres.question import Rows as Rows

T = TypeVar("T")
Work = Callable[[Connection], Awaitable[T]]

TIMEOUT = timedelta(seconds=10)
"""How long connecting, waiting for a free connection, and the work may take, each of them."""

CONNECTIONS = 8
"""How many connections are open at most, unless it is said."""

_GRACE = timedelta(seconds=1)
"""The server gives up first, so that it can say why; then the client."""

_SENT_FOR = timedelta(seconds=5)
"""How long the network may take to deliver what is sent; then the connection is given up."""

_FRESH = 0.1
"""Seconds for which a server that answered counts as one that is there."""

_ATTEMPTS = 10
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)
"""The server undid the transaction for the sake of another one: it is tried again."""

_INCOMPLETE = (errors.UndefinedTable, errors.UndefinedFunction, errors.InvalidSchemaName)

_AWAY = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.ReadOnlySqlTransaction,  # A replica that is about to be the primary.
)
_LASTING = re.compile(
    r"authentication failed|no password supplied|no pg_hba.conf entry|FATAL: .* does not exist"
    r"|is not permitted to log in|permission denied for database|does not support SSL"
    r"|certificate verify failed|certificate file"
)
"""What libpq says where connecting again cannot help; it gives no code for that."""


class BusyError(TimeoutError):
    """No connection was free in time; the server may be well."""


class Connections:
    """Does pieces of work, each with a connection of its own, in autocommit mode.

    Connections are made when they are needed, at most ``most``, and kept. ``prepare`` is awaited once,
    with the first; its ``ValueError`` says what is wrong. A caller that is cancelled leaves its work to
    go on to its end. Whatever psycopg
    raises is raised as ``refusal`` makes it out of a text without secrets.
    """

    def __init__(
        self,
        address: Address,
        *,
        most: int,
        timeout: timedelta,
        prepare: Work[None],
        refusal: Callable[[str], Exception],
    ) -> None:
        self._address = address
        self._conninfo = _impatient(address.conninfo)
        self._most = most
        self._timeout = timeout
        self._prepare = prepare
        self._refusal = refusal
        self._idle: list[Connection] = []
        self._lent_out: set[Connection] = set()
        self._connecting: set[asyncio.Timeout] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_prepared = False
        self._heard_at = 0.0
        self._keeps = True

    async def do(self, work: Work[T]) -> T:
        """Await ``work`` with a connection; what the server undid for another's sake is done again."""
        return await (await self._begun(self._done(work)))

    async def attempt(self, work: Work[T], *, end: float) -> T:
        """Do the same until ``end``, an instant of the event loop, or a moment later.

        Raises what psycopg raises, ``TimeoutError``, or the refusal of ``prepare``.
        """
        answer = await self._begun(self._tried(work, end))
        if self._is_prepared:
            return await answer
        async with asyncio.timeout_at(end + _GRACE.total_seconds()):
            return await answer

    async def ask(self, statement: bytes, values: Sequence[object], *, end: float) -> Rows:
        """Return the rows of a statement in which ``$1`` and so on stand for the values.

        This is an ``attempt`` of ``fetched``, in less time where a connection is at hand.
        """
        question = Question(statement, values)
        connection = self._at_hand(question)
        if connection is None:
            return await self.attempt(question.fetched, end=end)
        await self._places.acquire()  # There is one: this does not wait.
        try:
            return question.rows(connection, await self._asked(connection, question, end))
        except (*_AGAIN, *_INCOMPLETE):
            return await self.attempt(question.fetched, end=end)

    async def reach(self, *, end: float) -> None:
        """Return once the server took a new connection; raises as ``attempt`` does."""
        await self._adopt()
        connection = await self._connected(end)
        if self._keeps and len(self._lent_out) + len(self._idle) < self._most:
            self._idle.append(connection)
        else:
            await connection.close()

    async def prepared(self) -> None:
        """Return once ``prepare`` was awaited."""
        if not self._is_prepared:
            await self.do(_nothing)

    async def listening(self, channel: str) -> Connection:
        """Return a connection of its caller's own that listens; it is not counted.

        Raises what psycopg raises, and ``TimeoutError``.
        """
        connection = await self._connected()
        try:
            await connection.execute(f'LISTEN "{channel}"'.encode())
        except BaseException:
            await connection.close()
            raise
        return connection

    async def close(self, *, patience: timedelta | None = None) -> None:
        """Wait for what was begun and close all connections. Later work closes its own at once.

        What takes longer than ``patience`` is cut off.
        """
        self._keeps = False
        await self._adopt()
        try:
            if self._tasks:
                seconds = None if patience is None else patience.total_seconds()
                await asyncio.wait(self._tasks, timeout=seconds)
            while self._tasks:
                self._cut_off()
                await asyncio.wait(self._tasks, timeout=0.05)
        finally:
            await self._drop()

    def explained(self, error: Exception) -> Exception:
        """Return what is raised in place of an error of psycopg."""
        return self._refusal(self._text(error))

    async def _adopt(self) -> asyncio.AbstractEventLoop:
        """Return the running event loop; what belonged to another one is dropped."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            await self._drop()
            self._tasks: set[asyncio.Future[None]] = set()
            self._lent_out.clear()
            self._places = asyncio.Semaphore(self._most)
            self._preparing = asyncio.Lock()
            self._loop = loop
        return loop

    async def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Begin work as a task of its own, which goes on when its caller is cancelled."""
        loop = await self._adopt()
        answer: asyncio.Future[T] = loop.create_future()
        task = loop.create_task(_answered(answer, work), name="purista postgres")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    def _at_hand(self, question: Question) -> Connection | None:
        """Take a connection that could put the question now, if there is one."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop or not (self._is_prepared and self._idle):
            return None
        if self._places.locked() or not question.is_known_to(self._idle[-1]):
            return None
        if loop.time() - self._heard_at > _FRESH and _was_told(self._idle[-1]):
            return None
        return self._idle.pop()

    def _asked(
        self, connection: Connection, question: Question, end: float
    ) -> asyncio.Future[PGresult]:
        """Put a question; the connection comes back with the answer, whether its caller waits or not."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[PGresult] = loop.create_future()
        is_over = loop.create_future()
        timer = loop.call_later(self._left(end) + _GRACE.total_seconds(), _cut, connection)

        def over(outcome: PGresult | psycopg.Error) -> None:
            timer.cancel()
            self._tasks.discard(is_over)
            is_over.set_result(None)
            self._take_back(connection)
            if answer.done():
                return
            if not isinstance(outcome, psycopg.Error):
                self._heard_at = loop.time()
                answer.set_result(outcome)
            elif timer.when() > loop.time():
                answer.set_exception(outcome)
            else:
                answer.set_exception(TimeoutError())

        self._lent_out.add(connection)
        self._tasks.add(is_over)
        try:
            question.put(connection, over)
        except psycopg.Error as error:
            over(error)
        return answer

    def _take_back(self, connection: Connection) -> None:
        """Keep a connection, or close it, which psycopg does without waiting."""
        self._lent_out.discard(connection)
        self._places.release()
        if self._keeps and _is_idle(connection):
            self._idle.append(connection)
        else:
            connection.pgconn.finish()

    def _cut_off(self) -> None:
        """Let what is at work fail now."""
        for connection in self._lent_out:
            _cut(connection)
        for limit in self._connecting:
            limit.reschedule(0)

    async def _drop(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _done(self, work: Work[T]) -> T:
        try:
            return await self._tried(work)
        except (psycopg.Error, UnicodeError, TimeoutError) as error:
            raise self.explained(error) from error

    async def _tried(self, work: Work[T], end: float | None = None) -> T:
        try:
            await self._take_place(end)
            try:
                return await self._lent(work, end)
            finally:
                self._places.release()
        except _INCOMPLETE:
            self._is_prepared = False
            raise

    def _left(self, end: float | None) -> float:
        """Return how many seconds a step may take."""
        most = self._timeout.total_seconds()
        return most if end is None else min(most, end - asyncio.get_running_loop().time())

    async def _take_place(self, end: float | None) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._left(end)):
                await self._places.acquire()
        except TimeoutError:
            raise BusyError(
                f"all {self._most} connections were at work for {self._timeout}; allow more of them"
            ) from None

    async def _lent(self, work: Work[T], end: float | None) -> T:
        connection = await self._connection(end)
        self._lent_out.add(connection)
        try:
            if not self._is_prepared:
                await self._prepare_once(connection)
            return await self._bounded(work, connection, end)
        finally:
            self._lent_out.discard(connection)
            if self._keeps and _is_idle(connection):
                self._idle.append(connection)
            else:
                await connection.close()

    async def _bounded(self, work: Work[T], connection: Connection, end: float | None) -> T:
        """Do the work; cut the connection when the server does not answer."""
        limit = self._left(end) + _GRACE.total_seconds()
        timer = asyncio.get_running_loop().call_later(limit, _cut, connection)
        try:
            return await _repeated(work, connection)
        except psycopg.OperationalError as error:
            if timer.when() > asyncio.get_running_loop().time():
                raise
            raise TimeoutError from error
        finally:
            timer.cancel()

    async def _connection(self, end: float | None) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not _was_told(connection):
                return connection
            await connection.close()
        return await self._connected(end)

    async def _connected(self, end: float | None = None) -> Connection:
        async with asyncio.timeout(self._left(end)) as limit:
            self._connecting.add(limit)
            try:
                return await self._made()
            finally:
                self._connecting.discard(limit)

    async def _made(self) -> Connection:
        connection = await AsyncConnection.connect(
            self._conninfo,
            autocommit=True,
            client_encoding="utf8",
            fallback_application_name="purista",
        )
        try:
            await self._set_up(connection)
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _set_up(self, connection: Connection) -> None:
        """Bound what waits on the server, and let every statement see what was committed before it."""
        milliseconds = str(max(1, self._timeout // timedelta(milliseconds=1)))
        await connection.execute(
            "SELECT set_config('default_transaction_isolation', 'read committed', false), "
            "set_config('statement_timeout', %(most)s, false), "
            "set_config('lock_timeout', %(most)s, false), "
            "set_config('idle_in_transaction_session_timeout', %(most)s, false)",
            {"most": milliseconds},
        )

    async def _prepare_once(self, connection: Connection) -> None:
        async with self._preparing:
            if self._is_prepared:
                return
            try:
                await self._prepare(connection)
            except ValueError as error:
                raise self._refusal(str(error)) from error
            self._is_prepared = True

    def _text(self, error: Exception) -> str:
        match error:
            case errors.LockNotAvailable() | errors.QueryCanceled():
                return f"another transaction kept it waiting for {self._timeout}; end that one"
            case errors.ReadOnlySqlTransaction():
                return "it takes no writes; name the primary server, not a replica"
            case errors.InsufficientPrivilege():
                return f"{error.diag.message_primary}; let an administrator grant it"
            case errors.DiskFull():
                return "the server's disk is full; make room"
            case psycopg.OperationalError():
                return (
                    f"{self._address.scrubbed(str(error))}; see that it is reachable, and try again"
                )
            case psycopg.Error():
                known = error.diag.message_primary or str(error)
                return f"{self._address.scrubbed(known)}; try again"
            case TimeoutError():
                return str(error) or f"the server did not answer for {self._timeout}; try again"
            case _:
                return str(error)


def is_away(error: Exception) -> bool:
    """Whether the server was not reached, or the connection was lost: it may be back later."""
    match error:
        case BusyError():
            return False
        case TimeoutError():
            return True
        case psycopg.OperationalError(sqlstate=None):
            return _LASTING.search(str(error)) is None
        case psycopg.Error(sqlstate=str(code)):
            return code.startswith("08") or isinstance(error, _AWAY)
        case _:
            return False


async def _answered(answer: asyncio.Future[T], work: Coroutine[Any, Any, T]) -> None:
    """Do the work and tell its caller, who may be gone by then."""
    try:
        result = await work
    except asyncio.CancelledError:
        answer.cancel()
        raise
    except Exception as error:
        if not answer.done():
            answer.set_exception(error)
            answer.exception()  # It was seen, whether its caller is still there or not.
    else:
        if not answer.done():
            answer.set_result(result)


async def _repeated(work: Work[T], connection: Connection) -> T:
    """Do the work; again, after a moment, where the server undid it for the sake of another."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return await work(connection)
        except _AGAIN:
            await asyncio.sleep(random.random() * 0.01 * attempt)  # noqa: S311 - spread
    return await work(connection)


def _impatient(conninfo: str) -> str:
    """Let the system give up a connection whose other end is gone, unless the address says when."""
    milliseconds = _SENT_FOR // timedelta(milliseconds=1)
    known: dict[str, Any] = {"tcp_user_timeout": milliseconds, **conninfo_to_dict(conninfo)}
    return make_conninfo(**known)


async def _nothing(connection: Connection) -> None:
    """Do nothing."""


def _cut(connection: Connection) -> None:
    """End the conversation from this side: whoever waits for an answer reads the end of it."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.pgconn.socket)) as end:
            end.shutdown(socket.SHUT_RDWR)


def _is_idle(connection: Connection) -> bool:
    """Whether it is fit for other work."""
    return connection.pgconn.transaction_status == TransactionStatus.IDLE


def _was_told(connection: Connection) -> bool:
    """Whether the server sent something unasked: then it has most likely closed the connection."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))

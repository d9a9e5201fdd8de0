"""Connections to one database: a small pool, in which each piece of work is done or not begun."""

from __future__ import annotations

import asyncio
import os
import random
import select
import socket
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.pq import TransactionStatus

from purista.postgres.address import Address

T = TypeVar("T")
Connection = AsyncConnection[Any]
Work = Callable[[Connection], Awaitable[T]]

TIMEOUT = timedelta(seconds=10)
"""How long connecting, waiting for a free connection, and the work may take, each of them."""

CONNECTIONS = 8
"""How many connections are open at most, unless it is said."""

_GRACE = timedelta(seconds=1)
"""The server gives up first, so that it can say why; then the client."""

_ATTEMPTS = 10
_AGAIN = (errors.SerializationFailure, errors.DeadlockDetected)
"""The server undid the transaction for the sake of another one: it is tried again."""

_INCOMPLETE = (errors.UndefinedTable, errors.UndefinedFunction, errors.InvalidSchemaName)


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
        self._most = most
        self._timeout = timeout
        self._prepare = prepare
        self._refusal = refusal
        self._idle: list[Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_prepared = False
        self._keeps = True

    async def do(self, work: Work[T]) -> T:
        """Await ``work`` with a connection; what the server undid for another's sake is done again."""
        if self._loop is None or self._loop is not asyncio.get_running_loop():
            self._loop = await self._adopted()
        answer: asyncio.Future[T] = self._loop.create_future()
        task = self._loop.create_task(self._answered(answer, work), name="purista postgres")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await answer

    async def prepared(self) -> None:
        """Return once ``prepare`` was awaited."""
        if not self._is_prepared:
            await self.do(_nothing)

    async def listening(self, channel: str) -> Connection:
        """Return a connection of its caller's own that listens; it is not counted."""
        try:
            connection = await self._connected()
            try:
                await connection.execute(f'LISTEN "{channel}"'.encode())
            except BaseException:
                await connection.close()
                raise
        except (psycopg.Error, TimeoutError) as error:
            raise self.explained(error) from error
        return connection

    async def close(self) -> None:
        """Wait for what was begun and close all connections. Later work closes its own at once."""
        self._keeps = False
        self._loop = await self._adopted()
        try:
            if self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            await self._drop()

    def explained(self, error: Exception) -> Exception:
        """Return what is raised in place of an error of psycopg."""
        return self._refusal(self._text(error))

    async def _adopted(self) -> asyncio.AbstractEventLoop:
        """Return the running event loop; what belonged to another one is dropped."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            await self._drop()
            self._tasks: set[asyncio.Task[None]] = set()
            self._places = asyncio.Semaphore(self._most)
            self._preparing = asyncio.Lock()
        return loop

    async def _drop(self) -> None:
        while self._idle:
            await self._idle.pop().close()

    async def _answered(self, answer: asyncio.Future[T], work: Work[T]) -> None:
        """Do the work and tell its caller, who may be gone by then."""
        try:
            result = await self._done(work)
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

    async def _done(self, work: Work[T]) -> T:
        try:
            await self._take_place()
            try:
                return await self._lent(work)
            finally:
                self._places.release()
        except (psycopg.Error, UnicodeError, TimeoutError) as error:
            if isinstance(error, _INCOMPLETE):
                self._is_prepared = False
            raise self.explained(error) from error

    async def _take_place(self) -> None:
        if not self._places.locked():
            await self._places.acquire()
            return
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                await self._places.acquire()
        except TimeoutError:
            raise TimeoutError(
                f"all {self._most} connections were at work for {self._timeout}; allow more of them"
            ) from None

    async def _lent(self, work: Work[T]) -> T:
        connection = await self._connection()
        try:
            if not self._is_prepared:
                await self._prepare_once(connection)
            return await self._bounded(work, connection)
        finally:
            if self._keeps and _is_idle(connection):
                self._idle.append(connection)
            else:
                await connection.close()

    async def _bounded(self, work: Work[T], connection: Connection) -> T:
        """Do the work; cut the connection when the server does not answer."""
        limit = (self._timeout + _GRACE).total_seconds()
        timer = asyncio.get_running_loop().call_later(limit, _cut, connection)
        try:
            return await _repeated(work, connection)
        except psycopg.OperationalError as error:
            if timer.when() > asyncio.get_running_loop().time():
                raise
            raise TimeoutError from error
        finally:
            timer.cancel()

    async def _connection(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not _was_told(connection):
                return connection
            await connection.close()
        return await self._connected()

    async def _connected(self) -> Connection:
        async with asyncio.timeout(self._timeout.total_seconds()):
            connection = await AsyncConnection.connect(
                self._address.conninfo,
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


async def _repeated(work: Work[T], connection: Connection) -> T:
    """Do the work; again, after a moment, where the server undid it for the sake of another."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return await work(connection)
        except _AGAIN:
            await asyncio.sleep(random.random() * 0.01 * attempt)  # noqa: S311 - spread
    return await work(connection)


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

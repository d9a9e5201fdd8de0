"""A statement that a PostgreSQL server keeps prepared, asked without a task for each step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult

Connection = AsyncConnection[Any]
Rows = list[tuple[Any, ...]]
Over = Callable[[PGresult | psycopg.Error], None]

_prepared: WeakKeyDictionary[Connection, dict[tuple[bytes, tuple[int, ...] | None], bytes]] = (
    WeakKeyDictionary()
)
"""The names under which the server knows statements, for each connection."""


class Question:
    """A statement and its values, which the server keeps prepared.

    psycopg puts questions, too, and needs twice the time: it waits for each event by a task of its own.
    """

    __slots__ = ("_adapter", "_parameters", "_statement")

    def __init__(self, statement: bytes, values: Sequence[object]) -> None:
        self._statement = statement
        self._adapter = Transformer()
        self._parameters = self._adapter.dump_sequence(values, [PyFormat.BINARY] * len(values))

    async def fetched(self, connection: Connection) -> Rows:
        """Return the rows, over any connection. Raises what psycopg raises."""
        if not self.is_known_to(connection):
            await self._prepare(connection)
        return self.rows(connection, await _concluded(connection, self.put))

    def is_known_to(self, connection: Connection) -> bool:
        """Whether the server has prepared it for this connection."""
        return self._key in _prepared.get(connection, ())

    def put(self, connection: Connection, over: Over) -> None:
        """Send it, and call ``over`` with what came of it."""
        name = _prepared[connection][self._key]
        formats = self._adapter.formats
        connection.pgconn.send_query_prepared(name, self._parameters, formats, Format.BINARY)
        _converse(connection, over)

    def rows(self, connection: Connection, result: PGresult) -> Rows:
        """Return the rows of an answer."""
        self._adapter.set_pgresult(result, set_loaders=True, format=Format.BINARY)
        return self._adapter.load_rows(0, result.ntuples, tuple)

    @property
    def _key(self) -> tuple[bytes, tuple[int, ...] | None]:
        return self._statement, self._adapter.types

    async def _prepare(self, connection: Connection) -> None:
        known = _prepared.setdefault(connection, {})
        name = b"purista_%d" % len(known)

        def send(connection: Connection, over: Over) -> None:
            connection.pgconn.send_prepare(name, self._statement, self._adapter.types)
            _converse(connection, over)

        await _concluded(connection, send)
        known[self._key] = name


async def _concluded(connection: Connection, send: Callable[[Connection, Over], None]) -> PGresult:
    """Return what came of a conversation. Raises what psycopg raises."""
    is_over: asyncio.Future[PGresult | psycopg.Error]
    is_over = asyncio.get_running_loop().create_future()
    send(connection, is_over.set_result)
    try:
        outcome = await is_over
    except asyncio.CancelledError:
        _leave(connection)
        raise
    if isinstance(outcome, psycopg.Error):
        raise outcome
    return outcome


def _leave(connection: Connection) -> None:
    """Listen to a connection no more; it is not fit for other work."""
    loop, end = asyncio.get_running_loop(), connection.pgconn.socket
    loop.remove_reader(end)
    loop.remove_writer(end)


def _converse(connection: Connection, over: Over) -> None:
    """Let the event loop pass on what is to be sent and take what the server answers."""
    loop, pgconn, results = asyncio.get_running_loop(), connection.pgconn, list[PGresult]()
    end = pgconn.socket
    is_unsent = bool(pgconn.flush())

    def step() -> None:
        nonlocal is_unsent
        try:
            pgconn.consume_input()
            if is_unsent and not pgconn.flush():
                is_unsent = False
                loop.remove_writer(end)
            while not pgconn.is_busy():
                if (result := pgconn.get_result()) is None:
                    return finish(_outcome(results))
                results.append(result)
        except psycopg.Error as error:
            finish(error)

    def finish(outcome: PGresult | psycopg.Error) -> None:
        loop.remove_reader(end)
        if is_unsent:
            loop.remove_writer(end)
        over(outcome)

    loop.add_reader(end, step)
    if is_unsent:
        loop.add_writer(end, step)


def _outcome(results: Sequence[PGresult]) -> PGresult | psycopg.Error:
    if results[0].status in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        return results[0]
    return errors.error_from_result(results[0])

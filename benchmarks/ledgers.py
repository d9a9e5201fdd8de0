"""Decisions per second at 1 and at 50 clients, as ratios to the same statements in a bare loop.

Floor: 0.7 each, for SQLite, PostgreSQL and Redis. A bare loop sends what the ledger sends, made
beforehand, with the same durability, and as the driver is at its best: SQLite the recorded statements
over one connection (in a loop that does nothing else, and awaited from an event loop, which must not
wait for a disk itself, in a thread), PostgreSQL the prepared call over as many connections as the ledger has, Redis
EVALSHA over as many as there are clients. It reads the answers, but makes nothing of them. The two take
turns in short rounds, and the median of each counts. Run with `python benchmarks/ledgers.py`, or
with the names of some stores.
"""

import asyncio
import contextlib
import logging
import sqlite3
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, ClassVar, Protocol, TypeVar

import psycopg
from redis.asyncio import Redis

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.engines.ports import HOST
from tests.engines.postgres import Server as PostgresServer
from tests.engines.postgres import postgres_server
from tests.engines.valkey import Server as ValkeyServer
from tests.engines.valkey import valkey_server

from purista.ledgers import Ledger, Proposal, postgres_rows, redis_rows, redis_script
from purista.ledgers.book import RETENTION
from purista.ledgers.postgres import PostgresLedger
from purista.ledgers.redis import RedisLedger
from purista.ledgers.sqlite import SQLiteLedger
from purista.postgres.connections import CONNECTIONS
from purista.testing.ledger_suite import proposal

DECISIONS = {1: 10, 50: 150}
"""In each round, by the number of clients."""
ROUNDS = 60

T = TypeVar("T")
Work = Callable[[T], Awaitable[Any]]
Run = Callable[[slice], Awaitable[None]]


class Store(Protocol):
    """A store with a ledger and the bare loop beside it."""

    name: str

    def ledger(self) -> Ledger:
        """Return a ledger that is empty."""

    def bare(
        self, proposals: Sequence[Proposal], clients: int
    ) -> contextlib.AbstractAsyncContextManager[Run]:
        """Open what runs the statements of some of the proposals."""


def triggers(count: int) -> list[Proposal]:
    """Return the first trigger of so many schedules; each is accepted."""
    return [
        proposal(
            schedule_id=f"billing.v1.schedule{number}",
            key=f"key {number}",
            run_id=str(uuid.UUID(int=number)),
        )
        for number in range(count)
    ]


async def shared_out(items: Sequence[T], workers: Sequence[Work[T]]) -> None:
    """Let each worker take the next item when it is free."""
    rest = iter(items)

    async def go(work: Work[T]) -> None:
        for item in rest:
            await work(item)

    await asyncio.gather(*(go(work) for work in workers))


@contextlib.asynccontextmanager
async def ours(store: Store, proposals: Sequence[Proposal], clients: int) -> AsyncIterator[Run]:
    ledger = store.ledger()
    try:
        warm = [proposal(run_id=f"warm {number}", key=f"{number}") for number in range(clients)]
        await asyncio.gather(*(ledger.decide(one) for one in warm))
        yield lambda part: shared_out(proposals[part], [ledger.decide] * clients)
    finally:
        await ledger.close()


# SQLite

Statement = tuple[str, Sequence[Any]]


class Recorder(sqlite3.Connection):
    """Notes the statements that a ledger executes."""

    noted: ClassVar[list[Statement]] = []

    def execute(self, sql: str, values: Any = (), /) -> sqlite3.Cursor:
        self.noted.append((sql, values))
        return super().execute(sql, values)


@contextlib.contextmanager
def recording() -> Iterator[list[Statement]]:
    connect = sqlite3.connect
    sqlite3.connect = partial(connect, factory=Recorder)  # type: ignore[assignment]
    try:
        Recorder.noted.clear()
        yield Recorder.noted
    finally:
        sqlite3.connect = connect


class SQLiteStore:
    name = "SQLite"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self) -> Path:
        return self.folder / f"{uuid.uuid4()}.sqlite"

    def ledger(self) -> Ledger:
        return SQLiteLedger(self.path())

    @contextlib.asynccontextmanager
    async def bare(self, proposals: Sequence[Proposal], clients: int) -> AsyncIterator[Run]:
        async with self.replayed(proposals) as (connection, steps):

            async def run(part: slice) -> None:
                for step in steps[part]:
                    execute(connection, step)

            yield run

    @contextlib.asynccontextmanager
    async def replayed(
        self, proposals: Sequence[Proposal]
    ) -> AsyncIterator[tuple[sqlite3.Connection, list[list[Statement]]]]:
        """Open a file like that of a ledger; return the statements of each decision."""
        opening, steps = await self.recorded(proposals)
        with contextlib.closing(
            sqlite3.connect(self.path(), isolation_level=None, check_same_thread=False)
        ) as connection:
            execute(connection, opening)
            connection.execute("PRAGMA synchronous = full")
            yield connection, steps

    async def recorded(
        self, proposals: Sequence[Proposal]
    ) -> tuple[list[Statement], list[list[Statement]]]:
        """Return the statements of opening a ledger, and of each decision."""
        with recording() as noted:
            ledger = SQLiteLedger(self.path(), synchronous="normal")
            await ledger.latest("warm")
            opening, steps = noted.copy(), []
            for one in proposals:
                noted.clear()
                await ledger.decide(one)
                steps.append(noted.copy())
            await ledger.close()
        return opening, steps


class AwaitedSQLiteStore(SQLiteStore):
    name = "SQLite, awaited"

    @contextlib.asynccontextmanager
    async def bare(self, proposals: Sequence[Proposal], clients: int) -> AsyncIterator[Run]:
        with ThreadPoolExecutor(1) as thread:
            async with self.replayed(proposals) as (connection, steps):
                loop = asyncio.get_running_loop()

                async def work(step: list[Statement]) -> None:
                    await loop.run_in_executor(thread, execute, connection, step)

                yield lambda part: shared_out(steps[part], [work] * clients)


def execute(connection: sqlite3.Connection, statements: Sequence[Statement]) -> None:
    for sql, values in statements:
        connection.execute(sql, values).fetchall()


# PostgreSQL


class PostgresStore:
    name = "PostgreSQL"

    def __init__(self, server: PostgresServer) -> None:
        self.server = server

    def schema(self) -> str:
        return f"bench_{uuid.uuid4().hex}"

    def ledger(self) -> Ledger:
        return PostgresLedger(self.server.url, schema=self.schema())

    @contextlib.asynccontextmanager
    async def bare(self, proposals: Sequence[Proposal], clients: int) -> AsyncIterator[Run]:
        schema = self.schema()
        made = PostgresLedger(self.server.url, schema=schema)
        await made.latest("warm")
        await made.close()
        statement = postgres_rows.Statements(schema).decide
        values = [postgres_rows.proposed(one, RETENTION) for one in proposals]
        async with contextlib.AsyncExitStack() as stack:
            workers = []
            for _ in range(min(clients, CONNECTIONS)):
                connect = psycopg.AsyncConnection.connect(self.server.url, autocommit=True)
                connection = await stack.enter_async_context(await connect)
                workers.append(partial(self.call, connection, statement))
            yield lambda part: shared_out(values[part], workers)

    async def call(
        self, connection: psycopg.AsyncConnection[Any], statement: bytes, values: Sequence[object]
    ) -> None:
        cursor = await connection.execute(statement, values, prepare=True, binary=True)
        await cursor.fetchall()


# Redis


class RedisStore:
    name = "Redis"

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server

    def ledger(self) -> Ledger:
        return RedisLedger(self.server.url, prefix=uuid.uuid4().hex)

    @contextlib.asynccontextmanager
    async def bare(self, proposals: Sequence[Proposal], clients: int) -> AsyncIterator[Run]:
        prefix = uuid.uuid4().hex
        keys = [f"{{{prefix}}}:{key}".encode() for key in redis_script.KEYS]
        values = [redis_rows.arguments(one, RETENTION) for one in proposals]
        async with Redis(host=HOST, port=self.server.port, max_connections=clients) as client:
            digest = await client.script_load(redis_script.DECIDE.text)
            await asyncio.gather(*(client.ping() for _ in range(clients)))

            async def call(arguments: Sequence[str]) -> None:
                await client.evalsha(digest, len(keys), *keys, *arguments)

            yield lambda part: shared_out(values[part], [call] * clients)


async def compare(store: Store) -> None:
    for clients, count in DECISIONS.items():
        proposals = triggers(count * ROUNDS)
        async with store.bare(proposals, clients) as plain, ours(store, proposals, clients) as mine:
            times: dict[Run, list[float]] = {plain: [], mine: []}
            for start in range(0, count * ROUNDS, count):
                for run in (plain, mine) if start % (2 * count) else (mine, plain):
                    times[run].append(await timed(run(slice(start, start + count))))
        bare, own = (count / median(times[run]) for run in (plain, mine))
        print(
            f"{store.name:15} {clients:2} clients: {own / bare:5.2f} of the bare loop (floor 0.7); "
            f"{own:5.0f} against {bare:.0f} decisions a second"
        )


async def timed(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def main(names: Sequence[str]) -> None:
    logging.disable()
    if "SQLite" in names:
        with tempfile.TemporaryDirectory() as folder:
            await compare(SQLiteStore(Path(folder)))
            await compare(AwaitedSQLiteStore(Path(folder)))
    if "PostgreSQL" in names:
        with postgres_server() as postgres:
            await compare(PostgresStore(postgres))
    if "Redis" in names:
        with valkey_server(durable=True) as valkey:
            await compare(RedisStore(valkey))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ("SQLite", "PostgreSQL", "Redis")))

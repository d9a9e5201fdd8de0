"""The SQLite bridges, as ratios to bare sqlite3 with the same durability on the same disk.

Floors: publish, enqueue and complete 0.7 each. The bare side keeps one table of jobs and commits each step
- store, lease, delete - by itself with ``synchronous=full``, in a thread as any program with an event
loop has to. Run with ``python benchmarks/bridges_sqlite.py``.
"""

import asyncio
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from brokers import (
    AT_ONCE,
    BODY,
    compare,
    handle,
    message,
    print_event_latency,
    print_idle,
    print_job_latency,
    shared,
    timed,
    working,
)

from purista.bridges.sqlite_events import SQLiteEventBridge
from purista.bridges.sqlite_queues import SQLiteQueueBridge

COUNT = 1_000
TABLE = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT, due REAL, leased INTEGER, id TEXT, body BLOB
);
CREATE INDEX jobs_due ON jobs (queue, due);
"""
LEASE = """
UPDATE jobs SET leased = 1, due = due + 30 WHERE number =
(SELECT number FROM jobs WHERE queue = 'bare' AND due <= 1 ORDER BY due, number LIMIT 1)
RETURNING number, body
"""


class Bare:
    def __init__(self, path: Path) -> None:
        self.thread = ThreadPoolExecutor(1)
        self.file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.file.execute("PRAGMA journal_mode = wal")
        self.file.execute("PRAGMA synchronous = full")
        self.file.executescript(TABLE)

    def do(self, statement: str, *values: object) -> asyncio.Future[list[tuple[object, ...]]]:
        step = partial(self._done, statement, values)
        return asyncio.get_running_loop().run_in_executor(self.thread, step)

    def _done(self, statement: str, values: tuple[object, ...]) -> list[tuple[object, ...]]:
        return self.file.execute(statement, values).fetchall()

    async def store(self) -> None:
        statement = "INSERT INTO jobs (queue, due, leased, id, body) VALUES ('bare', 1, 0, ?, ?)"
        await self.do(statement, message("bare").id, BODY)

    async def complete(self) -> None:
        ((number, body),) = await self.do(LEASE)
        assert isinstance(body, bytes)
        await handle(body)
        await self.do("DELETE FROM jobs WHERE number = ?", number)

    async def publish(self, at_once: int) -> float:
        took = await timed(shared(COUNT, self.store, at_once))
        await self.do("DELETE FROM jobs")
        return took

    async def work(self, at_once: int) -> float:
        async def work() -> None:
            await shared(COUNT, self.store, at_once)
            await shared(COUNT, self.complete, at_once)

        return await timed(work())


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        bare = Bare(Path(folder) / "bare.sqlite")
        events = SQLiteEventBridge(Path(folder) / "events.sqlite")
        queues = SQLiteQueueBridge(Path(folder) / "queues.sqlite")

        async def receive(_: object) -> None: ...

        away = await events.subscribe("published", "group", receive)
        await away.cancel()
        for n in (1, AT_ONCE):
            await compare(
                f"publish to a subscriber, {n} at once",
                lambda n=n: bare.publish(n),
                lambda n=n: timed(shared(COUNT, lambda: events.publish(message("published")), n)),
                count=COUNT,
            )
        for n in (1, AT_ONCE):
            await compare(
                f"enqueue and complete, {n} at once",
                lambda n=n: bare.work(n),
                lambda n=n: working(queues, COUNT, n),
                count=COUNT,
            )
        await print_event_latency(events)
        await print_job_latency(queues)
        await print_idle(events, queues)
        await events.close()
        await queues.close()
        bare.thread.shutdown()


if __name__ == "__main__":
    asyncio.run(main())

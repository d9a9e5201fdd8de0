"""The SQLite queue bridge under faults of processes, and when its file may not grow."""

import contextlib
import sqlite3
import time
from types import SimpleNamespace

import pytest
from tests.faults.access import Access
from tests.faults.queue_faults import QueueProcessFaultSuite


class TestSQLiteQueueFaults(QueueProcessFaultSuite):
    bridge = "purista.bridges.sqlite_queues:SQLiteQueueBridge"

    @pytest.fixture
    def server(self, tmp_path):
        return SimpleNamespace(url=str(tmp_path / "queues.sqlite"))

    def access(self, *, url=None, timeout=10.0):
        return Access(self.bridge, url or self.server.url, self.options, None)

    def stand_still(self, child):
        """Let it stand still between two writes: in the middle of one it would hold up everybody."""
        with contextlib.closing(sqlite3.connect(self.server.url, timeout=0.2)) as file:
            for _ in range(100):
                child.freeze()
                try:
                    file.execute("BEGIN IMMEDIATE")
                    file.rollback()
                    return
                except sqlite3.OperationalError:
                    child.thaw()
                    time.sleep(0.01)
        raise AssertionError("it never stood still between two writes")

    async def test_refused_writes_are_outlasted_cheaply_and_quietly(self):
        seconds = 2.0
        with self.process(
            "outlast_refused_writes", self.name("queue"), self.lease, seconds
        ) as child:
            found = await child.told()
            assert await child.ended() == 0
        for what, value in found.items():
            self.figure(what, value)
        assert found["confirmed while refused"] == 0
        assert found["handled again after seconds"] < 1
        assert found["CPU seconds"] < 0.2 * seconds
        assert found["warnings"] <= 8
        assert found["wrongly doubled"] == []
        assert found["duplicates"] <= found["failed while refused"] <= 2

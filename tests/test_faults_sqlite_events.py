"""The SQLite event bridge under faults of processes."""

from types import SimpleNamespace

import pytest
from tests.faults.access import Access
from tests.faults.event_faults import EventProcessFaultSuite
from tests.test_faults_sqlite_queues import TestSQLiteQueueFaults as Queues


class TestSQLiteEventFaults(EventProcessFaultSuite):
    bridge = "purista.bridges.sqlite_events:SQLiteEventBridge"
    stand_still = Queues.stand_still

    @pytest.fixture
    def server(self, tmp_path):
        return SimpleNamespace(url=str(tmp_path / "events.sqlite"))

    def access(self, *, url=None, timeout=10.0):
        return Access(self.bridge, url or self.server.url, self.options, None)

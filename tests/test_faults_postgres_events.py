"""The PostgreSQL event bridge under faults of processes, server and network."""

import pytest
from tests.engines.postgres import postgres_server
from tests.faults.event_faults import EventFaultSuite

EXECUTE = b"E\0\0\0\x09\0\0\0\0\0"
"""The message that executes a statement, which a request that only prepares one does not have.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""


@pytest.fixture(scope="module")
def server():
    with postgres_server() as started:
        yield started


class TestPostgresEventFaults(EventFaultSuite):
    bridge = "purista.bridges.postgres_events:PostgresEventBridge"
    ack_mark = EXECUTE

    def restart(self):
        self.server.start()

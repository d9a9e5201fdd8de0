"""The PostgreSQL queue bridge under faults of processes, server and network."""

import pytest
from tests.engines.postgres import postgres_server
from tests.faults.queue_faults import QueueFaultSuite

EXECUTE = b"E\0\0\0\x09\0\0\0\0\0"
"""The message that executes a statement, which a request that only prepares one does not have.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""


@pytest.fixture(scope="module")
def server():
    with postgres_server() as started:
        yield started


class TestPostgresQueueFaults(QueueFaultSuite):
    bridge = "purista.bridges.postgres_queues:PostgresQueueBridge"
    ack_mark = EXECUTE
    lease_mark = EXECUTE

    def restart(self):
        self.server.start()

"""The NATS queue bridge under faults of processes, server and network."""

import pytest
from tests.engines.nats_broker import nats_broker
from tests.faults.queue_faults import QueueFaultSuite


@pytest.fixture(scope="module")
def server():
    with nats_broker() as started:
        yield started


class TestNatsQueueFaults(QueueFaultSuite):
    bridge = "purista.bridges.nats_queues:NatsQueueBridge"
    ack_mark = b"$JS.ACK."

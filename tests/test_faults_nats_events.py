"""The NATS event bridge under faults of processes, server and network."""

import pytest
from tests.engines.nats_broker import nats_broker
from tests.faults.event_faults import EventFaultSuite


@pytest.fixture(scope="module")
def server():
    with nats_broker() as started:
        yield started


class TestNatsEventFaults(EventFaultSuite):
    bridge = "purista.bridges.nats_events:NatsEventBridge"
    ack_mark = b"$JS.ACK."

"""The Redis queue bridge on Valkey under faults of processes, server and network."""

import signal

import pytest
from tests.engines.valkey import valkey_server
from tests.faults.queue_faults import QueueFaultSuite


@pytest.fixture(scope="module")
def server():
    with valkey_server(durable=True) as started:
        yield started


class TestRedisQueueFaults(QueueFaultSuite):
    bridge = "purista.bridges.redis_queues:RedisQueueBridge"

    def freeze(self):
        self.server.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.server.process.send_signal(signal.SIGCONT)

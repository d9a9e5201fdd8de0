import contextlib

from purista.bridges.memory import MemoryEventBridge, MemoryQueueBridge
from purista.testing import EventBridgeSuite, QueueBridgeSuite


class TestMemoryEventBridge(EventBridgeSuite):
    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        bridge = MemoryEventBridge(clock=clock)
        yield bridge
        await bridge.close()


class TestMemoryQueueBridge(QueueBridgeSuite):
    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        bridge = MemoryQueueBridge(clock=clock)
        yield bridge
        await bridge.close()


def test_the_event_bridge_does_not_promise_what_memory_cannot_keep():
    capabilities = MemoryEventBridge().capabilities
    assert capabilities.delivery == "at-most-once"
    assert not capabilities.durable
    assert not capabilities.across_processes


def test_the_queue_bridge_does_not_promise_what_memory_cannot_keep():
    capabilities = MemoryQueueBridge().capabilities
    assert not capabilities.durable
    assert not capabilities.across_processes
    assert capabilities.delayed
    assert capabilities.deduplicates
    assert capabilities.wakes

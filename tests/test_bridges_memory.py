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

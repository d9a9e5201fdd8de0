"""The in-memory bridges: for tests, development, and messages that may die with their process."""

from purista.bridges.memory_events import MemoryEventBridge
from purista.bridges.memory_queues import MemoryQueueBridge

__all__ = ["MemoryEventBridge", "MemoryQueueBridge"]

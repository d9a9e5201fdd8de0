"""The SQLite queue bridge against the model of the in-memory one, on random walks."""

from pathlib import Path

import pytest
from tests.test_bridges_memory_model import STEPS, Walk, name_of

from purista.bridges.sqlite_queues import SQLiteQueueBridge


class SQLiteWalk(Walk):
    """A walk that waits for the bridge's thread; a lease that ran out is not settled any more."""

    def __init__(self, seed, path):
        super().__init__(seed)
        self.bridge = SQLiteQueueBridge(path, clock=self.clock, synchronous="normal")

    def serve_waiting(self):
        """Is called when the thread has done what it was told before the clock settled."""

    async def compare_dead_letters(self):
        for _ in range(3):
            await self.bridge.dead_letters("another queue")
            await self.clock.settle()
        super().serve_waiting()
        await super().compare_dead_letters()

    async def settles(self, lease, call):
        state = self.states[name_of(lease)]
        if state.what == "due" and state.attempts == lease.attempt:
            call.close()
            return False
        return await super().settles(lease, call)


@pytest.mark.parametrize("seed", range(4))
async def test_the_bridge_does_what_the_model_says(tmp_path: Path, seed: int):
    walk = SQLiteWalk(seed, tmp_path / "queues.sqlite")
    try:
        for _ in range(STEPS):
            await walk.step()
    finally:
        await walk.finish()

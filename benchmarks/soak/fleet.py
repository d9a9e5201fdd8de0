"""The ingress processes, and who kills them."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx


class Fleet(AbstractAsyncContextManager["Fleet"]):
    """Some ingress processes on ports of their own; one that was killed is started again at once."""

    def __init__(self, folder: Path, count: int) -> None:
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.ports = [_free_port() for _ in range(count)]
        self.died_at: dict[int, float] = {}
        self.kills = 0
        self.store_kills = 0

    async def __aenter__(self) -> Self:
        for port in self.ports:
            self._start(port)
        await asyncio.gather(*(self.ready(port) for port in self.ports))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    async def ready(self, port: int) -> None:
        """Wait until a process answers."""
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while True:
                try:
                    if (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == 200:
                        return
                except httpx.HTTPError:
                    pass
                if self._processes[port].poll() is not None:
                    raise RuntimeError(f"the process on port {port} ended by itself")
                await asyncio.sleep(0.05)

    def kill(self, port: int) -> None:
        """Kill a process without a warning, and start another in its place."""
        process = self._processes[port]
        process.kill()
        process.wait()
        self.died_at[process.pid] = time.time()
        self.kills += 1
        self._start(port)

    def _start(self, port: int) -> None:
        command = [sys.executable, "-m", "benchmarks.soak.process", str(self._folder), str(port)]
        self._processes[port] = subprocess.Popen(command)


async def kill_at_random(
    fleet: Fleet, chance: random.Random, kill_store: Callable[[], None] | None, pause: float
) -> None:
    """Kill processes, every third time the store where there is one, until cancelled."""
    for number in itertools.count(1):
        await asyncio.sleep(pause * (0.5 + chance.random()))
        if kill_store is not None and number % 3 == 2:
            await asyncio.to_thread(kill_store)
            fleet.store_kills += 1
        else:
            port = chance.choice(fleet.ports)
            await asyncio.to_thread(fleet.kill, port)
            await fleet.ready(port)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])

"""A TCP proxy between a client and a server of this machine, which cuts, stalls and refuses as it is told.

It runs in a thread of its own, so that a test's event loop and blocking clients can both use it. A cut
is a reset (RST) to both ends, as a firewall does that forgot the connection; what was on its way is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

HOST: Final = "127.0.0.1"
CHUNK: Final = 65_536
ANSWERS_WITHIN: Final = 0.3
"""Seconds after which a request that gets no answer is taken for one that never gets any."""

REACHED_AFTER: Final = 0.05
"""Seconds that the server gets to read what was passed on, before the reset lets it forget it."""

Way = Literal["requests", "answers"]
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Trap:
    """Cuts one connection, once, at the first piece that holds ``mark`` (empty: at any).

    ``sprung`` is set when it has.
    """

    way: Way
    mark: bytes
    passes: bool = False
    sprung: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False, slots=True)
class _Link:
    client: socket.socket
    server: socket.socket
    pumps: list[asyncio.Task[None]] = field(default_factory=list)
    swallowing: Trap | None = None
    is_cut: bool = False


class Proxy:
    """Stands at ``port`` for the server at ``server_port``."""

    def __init__(self, server_port: int) -> None:
        self.server_port = server_port
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._links: set[_Link] = set()
        self._traps: list[Trap] = []
        self._flows: dict[Way, asyncio.Event] = {}
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._opening: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def through(self, url: str) -> str:
        """Return the URL that leads to the same server through the proxy."""
        return url.replace(f":{self.server_port}", f":{self.port}")

    def cut(self) -> int:
        """Reset every connection; return how many there were."""
        return self._do(self._cut_all)

    def refuse(self) -> None:
        """Refuse new connections; those that are there stay."""
        self._do(self._deafen)

    def accept(self) -> None:
        """Take new connections again."""
        self._do(self._hear)

    def stall(self, *ways: Way) -> None:
        """Pass nothing on (one way, or both), and keep the connections: new ones, too."""
        for way in ways or ("requests", "answers"):
            self._do(self._flows[way].clear)

    def resume(self) -> None:
        """Pass on what was held back, and what comes."""
        for flow in self._flows.values():
            self._do(flow.set)

    def drop_request(self, mark: bytes = b"") -> Trap:
        """Cut in the middle of the next request that holds ``mark``: the server never sees all of it."""
        return self._set(Trap("requests", mark))

    def drop_answer_to(self, mark: bytes = b"") -> Trap:
        """Pass on the next request that holds ``mark`` and cut instead of passing on its answer.

        What gets no answer is passed on and cut off a moment later.
        """
        return self._set(Trap("requests", mark, passes=True))

    def drop_answer(self, mark: bytes) -> Trap:
        """Cut instead of passing on the next answer that holds ``mark``."""
        return self._set(Trap("answers", mark))

    def start(self) -> None:
        """Listen on a free port."""
        self._thread.start()
        self._do(self._begin)

    def stop(self) -> None:
        """Cut everything and end the thread."""
        self._await(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _set(self, trap: Trap) -> Trap:
        self._do(lambda: self._traps.append(trap))
        return trap

    def _do(self, act: Callable[[], T]) -> T:
        async def acted() -> T:
            return act()

        return self._await(acted())

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _begin(self) -> None:
        self._flows = {"requests": asyncio.Event(), "answers": asyncio.Event()}
        for flow in self._flows.values():
            flow.set()
        self._hear()

    async def _end(self) -> None:
        self._deafen()
        tasks = [*self._opening, *(pump for link in self._links for pump in link.pumps)]
        self._cut_all()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _hear(self) -> None:
        if self._listener is None:
            self._listener = listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind((HOST, self.port))
            listener.listen(100)
            self.port = listener.getsockname()[1]
            self._accepting = self._loop.create_task(self._accept(listener))

    def _deafen(self) -> None:
        if self._listener is not None and self._accepting is not None:
            self._accepting.cancel()
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            task = self._loop.create_task(self._open(client))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, client: socket.socket) -> None:
        server = socket.socket()
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, server)
        self._links.add(link)
        try:
            await self._loop.sock_connect(server, (HOST, self.server_port))
        except OSError:
            self._cut(link)
            return
        link.pumps = [
            self._loop.create_task(self._pump(link, "requests")),
            self._loop.create_task(self._pump(link, "answers")),
        ]

    async def _pump(self, link: _Link, way: Way) -> None:
        ends = (link.client, link.server)
        source, target = ends if way == "requests" else ends[::-1]
        with contextlib.suppress(OSError):
            while data := await self._loop.sock_recv(source, CHUNK):
                await self._flows[way].wait()
                if link.is_cut or await self._is_trapped(link, way, data, target):
                    return
                await self._loop.sock_sendall(target, data)
        if not link.is_cut:
            self._cut(link)

    async def _is_trapped(self, link: _Link, way: Way, data: bytes, target: socket.socket) -> bool:
        if way == "answers" and link.swallowing is not None:
            await asyncio.sleep(REACHED_AFTER)
            self._spring(link.swallowing, link)
            return True
        trap = next((one for one in self._traps if one.way == way and one.mark in data), None)
        if trap is None:
            return False
        self._traps.remove(trap)
        if trap.passes:
            link.swallowing = trap
            self._loop.call_later(ANSWERS_WITHIN, self._spring, trap, link)
            return False
        if way == "requests":
            await self._loop.sock_sendall(target, data[: len(data) // 2])
            await asyncio.sleep(REACHED_AFTER)
        self._spring(trap, link)
        return True

    def _spring(self, trap: Trap, link: _Link) -> None:
        self._cut(link)
        trap.sprung.set()

    def _cut_all(self) -> int:
        links = tuple(self._links)
        for link in links:
            self._cut(link)
        return len(links)

    def _cut(self, link: _Link) -> None:
        if link.is_cut:
            return
        link.is_cut = True
        self._links.discard(link)
        current = asyncio.current_task(self._loop)
        for pump in link.pumps:
            if pump is not current:
                pump.cancel()
        for end in (link.client, link.server):
            self._loop.remove_reader(end)
            self._loop.remove_writer(end)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


@contextlib.contextmanager
def proxy(server_port: int) -> Iterator[Proxy]:
    """Start a proxy for the server at a port of this machine; stop it in the end."""
    started = Proxy(server_port)
    started.start()
    try:
        yield started
    finally:
        started.stop()

"""A real HTTP server for an ingress: uvicorn in a thread of its own, and raw connections to it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import uvicorn

DEADLINE = 10.0
"""Seconds after which a test gives up on a server."""


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool


class ServedIngress:
    """A server at ``port``; what ``make`` returns is made, opened and closed in its event loop."""

    def __init__(self, make: Callable[[], uvicorn.Config]) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self.server = uvicorn.Server(make())
        self._thread = threading.Thread(target=self.server.run, args=([self._socket],))
        self._thread.start()
        until(lambda: self.server.started)

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join()
        self._socket.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)

    def talk(self, *parts: bytes) -> Reply:
        """Send parts over a connection of their own, and return the first reply."""
        with self.connect() as connection:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for part in parts:
                    connection.sendall(part)
            return reply_of(connection)


@contextlib.contextmanager
def served(make: Callable[[], uvicorn.Config]) -> Iterator[ServedIngress]:
    server = ServedIngress(make)
    try:
        yield server
    finally:
        server.stop()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def reply_of(connection: socket.socket) -> Reply:
    """Read one reply; status 0 where the connection ended without one."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        try:
            found = connection.recv(65536)
        except ConnectionResetError:
            found = b""
        if not found:
            return Reply(0, {}, seen, closed=True)
        seen += found
    head, _, body = seen.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): text.strip() for name, _, text in (x.partition(":") for x in lines[1:])
    }
    length = int(headers.get("content-length", "0"))
    while len(body) < length and (found := connection.recv(65536)):
        body += found
    return Reply(int(lines[0].split()[1]), headers, body, headers.get("connection") == "close")


def request(
    method: str, path: str, headers: Sequence[tuple[str, str]] = (), body: bytes | None = None
) -> bytes:
    """Return the bytes of a request; a body brings its length along."""
    lines = [f"{method} {path} HTTP/1.1", "host: ingress", *(f"{a}: {b}" for a, b in headers)]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")

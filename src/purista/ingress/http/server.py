"""The server of the HTTP entry point: uvicorn, which cuts off whoever does not send headers.

uvicorn alone waits for headers as long as they take, and takes as many as come.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, Final

from purista.errors import MissingExtraError
from purista.ingress.http.limits import Limits

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError as error:
    raise MissingExtraError("the HTTP server", "serve") from error

CONNECTIONS: Final = 1000
"""How many connections are served at once; who comes then is answered 503."""

KEEP_ALIVE: Final = 75
"""Seconds for which an idle connection is kept: longer than load balancers keep theirs, so that it is
they who end it. An Application Load Balancer's is 60."""


def server_config(app: Any, limits: Limits | None = None, **options: Any) -> uvicorn.Config:
    """Return the configuration of a server for an application; ``options`` are those of uvicorn.

    It is for one process with the event loop to itself: ``await uvicorn.Server(config).serve()``.
    """
    bounds = limits or Limits()
    given: dict[str, Any] = {
        "http": bounded_protocol(bounds),
        "ws": "none",
        "server_header": False,
        "access_log": False,
        "limit_concurrency": CONNECTIONS,
        "timeout_keep_alive": KEEP_ALIVE,
        "timeout_graceful_shutdown": int(bounds.time.total_seconds()) + 1,
        "log_config": None,
        **options,
    }
    return uvicorn.Config(app, **given)


def bounded_protocol(limits: Limits) -> type[HttpToolsProtocol]:
    """Return the protocol of connections that keep within ``limits`` while headers come."""
    members = {
        "header_seconds": limits.header_time.total_seconds(),
        "header_bytes": limits.header_bytes,
    }
    return type("BoundedProtocol", (BoundedProtocol,), members)


class BoundedProtocol(HttpToolsProtocol):
    """A connection whose headers come in time and are not too many bytes.

    The time counts from the connection's beginning, and then from the first byte of each request.
    Headers behind a chunked body (trailers) are dropped: they came after what they would be about.
    """

    header_seconds = 10.0
    header_bytes = 32 * 1024
    _timer: asyncio.TimerHandle | None = None
    _seen = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for headers."""
        super().connection_made(transport)
        _send_at_once(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless headers become too large."""
        super().data_received(data)
        if self._timer is not None:
            self._seen += len(data)
            if self._seen > self.header_bytes:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A request begins: wait for its headers."""
        super().on_message_begin()
        self._seen = 0
        self._wait()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, if the headers are not complete yet."""
        if self._timer is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The headers are there."""
        self._wait_no_more()
        super().on_headers_complete()

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.header_seconds, self._late)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        is_idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]
        if self._seen and is_idle:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        self._wait_no_more()
        if not self.transport.is_closing():
            self.logger.warning("a connection was ended: %s", status.decode())
            self.transport.write(b"".join((b"HTTP/1.1 ", status, *_END)))
            self.transport.close()


def _send_at_once(transport: asyncio.Transport) -> None:
    """Keep the kernel from holding back an answer's body until its head is acknowledged (40 ms).

    asyncio does so itself, but not for a socket that was bound without naming the protocol.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


_TOO_LARGE: Final = b"431 Request Header Fields Too Large"
_TOO_SLOW: Final = b"408 Request Timeout"
_END: Final[Sequence[bytes]] = (b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",)

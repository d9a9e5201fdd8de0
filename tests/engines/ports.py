"""Ports of this machine for servers that tests start."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar

HOST = "127.0.0.1"
TRIES = 5

T = TypeVar("T")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def on_free_ports(start: Callable[[], T]) -> T:
    """Return what ``start`` does, which takes free ports and raises ``RuntimeError`` when it could not.

    Between the look at a port and its use another process can be faster: then it is started again.
    """
    for _ in range(TRIES - 1):
        try:
            return start()
        except RuntimeError:
            continue
    return start()

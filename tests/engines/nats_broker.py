"""A real nats-server with JetStream as a broker: on a free port, in a temporary folder, stopped by process id."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.engines.ports import HOST, free_port, on_free_ports

BINARY = Path(sys.executable).with_name("nats-server")
DEADLINE = 20


@dataclass(slots=True)
class Server:
    """A server that is running, or was killed.

    ``options`` are lines of its configuration, the first of which is about JetStream's storage.
    """

    folder: Path
    port: int
    options: Sequence[str]
    process: subprocess.Popen[bytes]
    credentials: str = ""

    @property
    def url(self) -> str:
        """Where it is, with the credentials that it was started for."""
        return f"nats://{self.credentials}{HOST}:{self.port}"

    def kill(self) -> None:
        """Kill it: it can write nothing down any more."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def restart(self) -> None:
        """Start it again after it was killed, on the same folder and port."""
        self.process = _started(self.folder, self.port, self.options)

    def freeze(self) -> None:
        """Let it stand still: nothing answers, and nothing is closed."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, unless it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(DEADLINE)


@contextlib.contextmanager
def nats_broker(*more: str, credentials: str = "", most: str = "") -> Iterator[Server]:
    """Start a server with more lines of configuration; stop it in the end and forget its data.

    ``most``: how much JetStream may store, such as ``1MB``.
    """
    with tempfile.TemporaryDirectory(prefix="purista-nats-") as name:
        folder = Path(name)
        limit = f", max_file: {most}" if most else ""
        options = [f'jetstream {{ store_dir: "{folder}/data"{limit} }}', *more]
        server = on_free_ports(lambda: _server(folder, options, credentials))
        try:
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def nats_cluster(size: int = 3) -> Iterator[Sequence[Server]]:
    """Start servers that are one cluster; stop them in the end and forget their data."""
    with tempfile.TemporaryDirectory(prefix="purista-nats-") as name:
        servers = on_free_ports(lambda: _cluster(Path(name), size))
        try:
            yield servers
        finally:
            for server in servers:
                server.stop()


def _cluster(folder: Path, size: int) -> Sequence[Server]:
    ways = [free_port() for _ in range(size)]
    routes = ", ".join(f"nats://{HOST}:{port}" for port in ways)
    with contextlib.ExitStack() as undone:
        servers = []
        for number, way in enumerate(ways):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            options = [
                f'jetstream {{ store_dir: "{own}/data" }}',
                f"server_name: n{number}",
                f'cluster {{ name: purista, listen: "{HOST}:{way}", routes: [{routes}] }}',
            ]
            servers.append(_server(own, options))
            undone.callback(servers[-1].stop)
        undone.pop_all()
    return servers


def _server(folder: Path, options: Sequence[str], credentials: str = "") -> Server:
    port = free_port()
    return Server(folder, port, options, _started(folder, port, options), credentials)


def _started(folder: Path, port: int, options: Sequence[str]) -> subprocess.Popen[bytes]:
    lines = [f"listen: {HOST}:{port}", *options]
    (folder / "server.conf").write_text("\n".join(lines))
    with (folder / "log").open("ab") as log:
        command = [BINARY, "-c", folder / "server.conf"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1) as probe:
            if probe.recv(16).startswith(b"INFO"):
                return process
        time.sleep(0.01)
    process.kill()
    process.wait()
    raise RuntimeError(f"nats-server did not start: {(folder / 'log').read_text()[-2000:]}")

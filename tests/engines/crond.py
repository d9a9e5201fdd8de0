"""When real cron daemons start their jobs: Debian cron 3.0pl1-197 and cronie 1.7.2, of Debian 13.

The daemon runs from a folder of its own, with a private spool, under a virtual clock
(``vclock.c``): no service, no job and no file of the machine is touched. It needs Linux on x86-64
or arm64 with mount namespaces, and the network the first time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import zoneinfo
from array import array
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from tests.engines import debian

Daemon = Literal["debian", "cronie"]

RELEASE = "trixie"
_LIBRARIES = ("libc6", "libpam0g", "libselinux1", "libaudit1", "libcap-ng0", "libpcre2-8-0")
_PACKAGES = {"debian": "cron", "cronie": "cronie"}
_COMMANDS = {"debian": ["/usr/sbin/cron", "-f"], "cronie": ["/usr/sbin/crond", "-n"]}
_REFUSALS = re.compile(r"\b(ERROR|Error|BAD|WRONG|INSECURE|bad|can't|CAN'T)\b")
_VCLOCK = Path(__file__).with_name("vclock.c")


class CrontabRefused(Exception):
    """The daemon does not take the crontab; the message is its own."""


class DaemonFailed(Exception):
    """The daemon did not come to the end of the time, or started what the crontab does not have."""


def fires(
    crontab: str,
    *,
    timezone: str,
    start: datetime,
    end: datetime,
    daemon: Daemon = "debian",
    clock_jumps: Mapping[datetime, timedelta] | None = None,
    deadline: timedelta = timedelta(minutes=2),
) -> dict[str, list[datetime]]:
    """Return for each command of ``crontab`` the minutes, in UTC, at which the daemon starts it.

    ``start`` and ``end`` are included; a repeated minute means several starts. The daemon runs in
    ``timezone`` and wakes for the first time at ``start``. ``clock_jumps`` sets its clock forward
    or back when it comes to an instant; minutes are as that clock shows them. ``deadline`` is real
    time. Commands that never start are absent. Raises ``CrontabRefused`` and ``DaemonFailed``.
    """
    root = _root(daemon)
    with TemporaryDirectory(prefix="purista-crond-") as folder:
        work = Path(folder)
        _furnish(work, crontab, written=start - timedelta(days=1))
        environment = _environment(timezone, start, end, clock_jumps or {}, deadline)
        _run(daemon, root, work, environment, deadline)
        logs, starts = _read(work / "run" / "out")
    _refuse(logs)
    lines = crontab.splitlines()
    strange = [text for text in starts if not any(line.endswith(text) for line in lines)]
    if strange:
        raise DaemonFailed(f"started what the crontab does not have: {strange}")
    return _in_minutes(starts, start, end)


def zone_database() -> Path:
    """Return the time-zone database that Python's ``zoneinfo``, and so purista, reads."""
    package = find_spec("tzdata")
    folders = [Path(path) for path in zoneinfo.TZPATH]
    if package and package.submodule_search_locations:
        folders.append(Path(package.submodule_search_locations[0]) / "zoneinfo")
    return next(folder for folder in folders if (folder / "Europe" / "Berlin").exists())


@cache
def _root(daemon: Daemon) -> Path:
    debian.ensure("gcc", "libc6-dev", "util-linux")
    root = debian.unpacked(RELEASE, _PACKAGES[daemon], *_LIBRARIES)
    with debian.locked(root.name):
        for name in ("dev", "run", "etc", "usr/share/zoneinfo", "var/spool/cron/crontabs"):
            (root / name).mkdir(parents=True, exist_ok=True)
        for name in ("lib", "lib64", "bin", "sbin"):
            if not (root / name).exists() and (root / "usr" / name).exists():
                (root / name).symlink_to(f"usr/{name}")
        if not (root / "var/run").exists():
            (root / "var/run").symlink_to("../run")
    return root


@cache
def _clock() -> Path:
    """Compile ``vclock.c``, once for each version of it."""
    source = _VCLOCK.read_bytes()
    library = debian.CACHE / f"vclock-{hashlib.sha256(source).hexdigest()[:12]}.so"
    with debian.locked("vclock"):
        if not library.exists():
            fresh = library.with_suffix(".new")
            command = ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", str(fresh), str(_VCLOCK)]
            subprocess.run(command, check=True, timeout=60)
            fresh.rename(library)
    return library


def _furnish(work: Path, crontab: str, *, written: datetime) -> None:
    """Lay out what the daemon sees of its own: users, spool, ``/run`` with the clock."""
    for name in ("etc", "crontabs", "run"):
        (work / name).mkdir()
    (work / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (work / "etc" / "group").write_text("root:x:0:\ncrontab:x:0:\n")
    (work / "etc" / "crontab").touch(mode=0o644)
    (work / "etc" / "cron.d").mkdir()
    shutil.copy(_clock(), work / "run" / "vclock.so")
    spool = work / "crontabs" / "root"
    spool.write_text(crontab if crontab.endswith("\n") else f"{crontab}\n")
    spool.chmod(0o600)
    os.utime(spool, (written.timestamp(), written.timestamp()))


def _environment(
    timezone: str,
    start: datetime,
    end: datetime,
    clock_jumps: Mapping[datetime, timedelta],
    deadline: timedelta,
) -> dict[str, str]:
    jumps = sorted(clock_jumps.items())
    return {
        "TZ": timezone,
        "VCLOCK_START": str(_epoch(start) - 60),
        "VCLOCK_END": str(_epoch(end) + 59),
        "VCLOCK_OUT": "/run/out",
        "VCLOCK_DEADLINE": str(max(1, int(deadline.total_seconds()))),
        "VCLOCK_JUMPS": " ".join(f"{_epoch(at)}:{_seconds(by)}" for at, by in jumps),
    }


def _run(
    daemon: Daemon, root: Path, work: Path, environment: Mapping[str, str], deadline: timedelta
) -> None:
    binds = {
        "/dev": "dev",
        str(zone_database().resolve()): "usr/share/zoneinfo",
        str(work / "etc"): "etc",
        str(work / "run"): "run",
        str(work / "crontabs"): "var/spool/cron/crontabs",
    }
    lines = [f"mount --rbind '{ours}' '{root / theirs}'" for ours, theirs in binds.items()]
    lines.append(f"chown 0:0 '{work}/crontabs/root'")
    lines.append('exec env -i "$@"')
    settings = [f"{name}={value}" for name, value in environment.items()]
    chroot = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot"
    loader = "/" + str(next(root.glob("usr/lib*/ld-linux-*.so.*")).relative_to(root))
    preload = [loader, "--preload", "/run/vclock.so", *_COMMANDS[daemon]]
    shell = [*_namespace(), "sh", "-ec", "\n".join(lines), "crond"]
    done = subprocess.run(
        [*shell, *settings, chroot, str(root), *preload],
        capture_output=True,
        text=True,
        timeout=deadline.total_seconds() + 5,
    )
    if done.returncode:
        reason = f"{done.returncode}: {done.stderr.strip() or 'no message; the deadline?'}"
        raise DaemonFailed(f"{_COMMANDS[daemon][0]} ended with {reason}")


@cache
def _namespace() -> tuple[str, ...]:
    """Return what gives a command mounts of its own: as root, as a mapped root, or with sudo."""
    own, mapped = ("unshare", "--mount"), ("unshare", "--mount", "--map-root-user")
    choices = [own] if os.geteuid() == 0 else [mapped, ("sudo", "-n", *own)]
    for choice in choices:
        if not subprocess.run([*choice, "true"], capture_output=True, timeout=10).returncode:
            return choice
    raise DaemonFailed("no mount namespace: be root, allow user namespaces, or allow `sudo -n`")


def _read(file: Path) -> tuple[list[str], dict[str, array[int]]]:
    """Return the log lines, and for each command the seconds at which it was started."""
    logs: list[str] = []
    starts: dict[str, array[int]] = {}
    with file.open("rb") as out:
        for line in out:
            kind, number, text = line.decode().rstrip("\n").split(" ", 2)
            if kind == "LOG":
                logs.append(text)
                continue
            seconds = starts.setdefault(text, array("q"))
            seconds.fromfile(out, int(number))
    return logs, starts


def _refuse(logs: Iterable[str]) -> None:
    refusals = [line for line in logs if _REFUSALS.search(line)]
    if refusals:
        raise CrontabRefused("; ".join(refusals))


def _in_minutes(
    starts: Mapping[str, Iterable[int]], start: datetime, end: datetime
) -> dict[str, list[datetime]]:
    minutes = _Minutes()
    first, last = _epoch(start), _epoch(end)
    found = {
        command: [minutes[at // 60] for at in sorted(seconds) if first <= at // 60 * 60 <= last]
        for command, seconds in starts.items()
    }
    return {command: instants for command, instants in found.items() if instants}


class _Minutes(dict[int, datetime]):
    """Minutes since the epoch as instants; each is made once."""

    def __missing__(self, minute: int) -> datetime:
        instant = self[minute] = datetime.fromtimestamp(minute * 60, UTC)
        return instant


def _epoch(instant: datetime) -> int:
    return int(instant.timestamp())


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())

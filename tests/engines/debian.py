"""Debian packages that the engines need: on the machine, or unpacked beside it.

``ensure`` installs what is missing, as root or with ``sudo -n``. ``unpacked`` changes nothing of the
machine: it fetches packages of a Debian release into a folder of its own, to be run from there.
Either works or raises; no test is skipped for want of an engine.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

CACHE = Path(__file__).resolve().parents[2] / ".venv" / "engines"
"""Where engines are kept: with the virtual environment, which git ignores."""

_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PROOFS = {
    "busybox": "busybox",
    "curl": "curl",
    "dash": "dash",
    "debian-archive-keyring": str(_KEYRING),
    "gcc": "gcc",
    "golang-github-robfig-cron-dev": "/usr/share/gocode/src/github.com/robfig/cron/parser.go",
    "golang-go": "go",
    "libc6-dev": "/usr/include/stdio.h",
    "rabbitmq-server": "/usr/lib/rabbitmq/bin/rabbitmq-server",
    "systemd": "systemd-analyze",
    "tzdata": "/usr/share/zoneinfo/Europe/Berlin",
    "util-linux": "unshare",
}
"""What shows that a package is there: a command, or a file."""


class PackagesMissing(Exception):
    """Packages are not there and could not be brought; the message names them."""


def ensure(*packages: str) -> None:
    """Install those Debian packages that are missing; raises ``PackagesMissing`` if it cannot."""
    if not _missing(packages):
        return
    with locked("apt"):
        missing = _missing(packages)
        if missing:
            _install(missing)
    if _missing(packages):
        raise PackagesMissing(f"apt-get installed {missing}, but not {_missing(packages)}")


def unpacked(release: str, *packages: str) -> Path:
    """Return a folder with the files of these packages of a Debian release, as below ``/``.

    Dependencies are not followed: name every package that is needed.
    """
    ensure("debian-archive-keyring")
    name = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:12]
    root = CACHE / f"{release}-{packages[0]}-{name}"
    if not root.exists():
        with locked(root.name):
            if not root.exists():
                _unpack(root, release, packages)
    return root


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep other processes out that want the same ``name``."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _missing(packages: Sequence[str]) -> list[str]:
    return [package for package in packages if not _is_there(_PROOFS[package])]


def _is_there(proof: str) -> bool:
    return Path(proof).exists() if proof.startswith("/") else shutil.which(proof) is not None


def _install(packages: Sequence[str]) -> None:
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    advice = f"missing: install with `apt-get install {' '.join(packages)}`"
    if shutil.which("apt-get") is None:
        raise PackagesMissing(advice)
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    try:
        _run([*apt, "update"])
        _run([*apt, "install", "-y", "--no-install-recommends", *packages])
    except (OSError, PackagesMissing) as problem:
        raise PackagesMissing(f"{advice} ({problem})") from problem


def _unpack(root: Path, release: str, packages: Sequence[str]) -> None:
    work = Path(mkdtemp(dir=CACHE))
    try:
        apt = _private_apt(work / "apt", release)
        _run([*apt, "update"])
        (work / "packages").mkdir()
        _run([*apt, "download", *packages], folder=work / "packages")
        for package in sorted((work / "packages").iterdir()):
            _run(["dpkg-deb", "-x", str(package), str(work / "root")])
        (work / "root").rename(root)
    finally:
        shutil.rmtree(work)


def _private_apt(folder: Path, release: str) -> list[str]:
    """Return an ``apt-get`` that knows one release only, and touches nothing of the machine's."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    source = f"deb [signed-by={_KEYRING}] {_archive()} {release} main\n"
    (folder / "sources.list").write_text(source)
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Sandbox::User": "",
    }
    return ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]


def _archive() -> str:
    """Return the archive from which this machine itself installs packages."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    sites = _run(command).split()
    archives = [site for site in sites if site.rstrip("/").endswith("/debian")]
    if not archives:
        raise PackagesMissing("no Debian archive is among this machine's sources of packages")
    return archives[0]


def _run(command: Sequence[str], *, folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise PackagesMissing(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout

#!/usr/bin/env python3
"""Set up everything that is needed, then do one job: `python3 dev.py demo`, `test`, `coverage`, `benchmark` or `soak`.

Needs Python 3.11 or later and a package index; keeps everything in `.venv` beside this file.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "purista-setup"
LEAST = (3, 11)
ALL_TESTS = ("-q", "-n", "3", "--dist", "loadfile", "--no-loadscope-reorder")


def main():
    jobs = {
        "demo": demo,
        "test": test,
        "coverage": coverage,
        "benchmark": benchmark,
        "soak": soak,
    }
    if len(sys.argv) < 2 or sys.argv[1] not in jobs:
        print(f"{__doc__}\nusage: python3 dev.py {'|'.join(jobs)} [arguments]", file=sys.stderr)
        return 2
    if sys.version_info < LEAST:
        return start_again_with_newer_python()
    set_up()
    return jobs[sys.argv[1]](sys.argv[2:])


def demo(arguments):
    return run(BIN / "purista", "demo", *arguments)


def test(arguments):
    steps = [
        ("lint", [BIN / "ruff", "check", "."]),
        ("format", [BIN / "ruff", "format", "--check", "."]),
        ("rings", [BIN / "lint-imports", "--no-cache"]),
        ("types", [BIN / "mypy"]),
        ("tests", [PYTHON, "-m", "pytest", *(arguments or ALL_TESTS)]),
    ]
    failed = [name for name, command in steps if run(*command, title=name)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def coverage(arguments):
    measured = ["--cov", "--cov-report=term-missing:skip-covered"]
    failed = run(PYTHON, "-m", "pytest", *ALL_TESTS, *measured, *arguments)
    return failed or run(*contract_coverage(), title="branches of the contract")


def contract_coverage():
    """Show which branches of the contract no test takes."""
    runs = ("clock", "message", "handling", "host", "worker", "local", "__main__")
    leave_out = ",".join(f"src/purista/{name}.py" for name in runs)
    report = [PYTHON, "-m", "coverage", "report", "--skip-covered"]
    return [*report, "--include=src/purista/*.py", f"--omit={leave_out}"]


def benchmark(arguments):
    files = sorted((ROOT / "benchmarks").glob("*.py"))
    wanted = [file for file in files if not arguments or file.stem in arguments]
    return max([run(PYTHON, file, title=file.stem) for file in wanted] or [2])


def soak(arguments):
    return run(PYTHON, "-m", "benchmarks.soak", *arguments)


def set_up():
    wanted = fingerprint()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    if not PYTHON.exists() or run(PYTHON, "-c", "import sys", quiet=True):
        make_venv()
    print("installing what purista needs into .venv ...", file=sys.stderr)
    constraints = ROOT / "constraints.txt"
    install = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if run(*install, "-c", constraints, "-e", f"{ROOT}[test]", constraints=constraints):
        sys.exit("the installation failed; the lines above say why")
    STAMP.write_text(wanted)


def make_venv():
    if VENV.exists():
        shutil.rmtree(VENV)
    if run(sys.executable, "-c", "import ensurepip, venv", quiet=True):
        install_venv_module()
    if run(sys.executable, "-m", "venv", VENV):
        sys.exit("could not create .venv; on Debian: apt install python3-venv")


def install_venv_module():
    """Debian leaves ensurepip out of python3; bring it where that is allowed."""
    sudo = [] if getattr(os, "geteuid", lambda: 1)() == 0 else ["sudo", "-n"]
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if shutil.which("apt-get") and (not sudo or shutil.which("sudo")):
        run(*sudo, "apt-get", "-qq", "update")
        run(*sudo, "apt-get", "-qq", "install", "-y", package)


def fingerprint():
    """What the installation depends on: when it changes, it is made again."""
    parts = [sys.version, str(ROOT)]
    parts += [(ROOT / name).read_text() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def start_again_with_newer_python():
    for minor in range(30, LEAST[1] - 1, -1):
        newer = shutil.which("python3.%d" % minor)
        if newer and not run(newer, "-c", "import venv", quiet=True):
            return run(newer, *sys.argv)
    print("purista needs Python 3.11 or later; found %s" % sys.version.split()[0], file=sys.stderr)
    return 2


def run(*command, title="", quiet=False, constraints=None):
    if title:
        print(f"== {title}", flush=True)
    environment = dict(os.environ, PIP_CONSTRAINT=str(constraints)) if constraints else None
    output = subprocess.DEVNULL if quiet else None
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=ROOT, env=environment, stdout=output, stderr=output, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())

"""The type checkers that people use see the misuse, and nothing but the misuse."""

import json
import re
import subprocess
import sys
from pathlib import Path

from mypy import api

HERE = Path(__file__).parent / "typing"
ROOT = HERE.parents[1]


def expected() -> dict[int, str]:
    lines = (HERE / "misuse.py").read_text().splitlines()
    marks = ((number, re.search(r"# E: (\S+)$", line)) for number, line in enumerate(lines, 1))
    return {number: mark[1] for number, mark in marks if mark}


def test_mypy_finds_each_misuse_and_nothing_else():
    output, errors, _ = api.run(
        ["--strict", "--no-error-summary", "--hide-error-context", str(HERE / "misuse.py")]
    )
    assert errors == ""
    found = re.findall(r"misuse\.py:(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    assert {int(line): code for line, code in found} == expected(), output


def test_mypy_accepts_the_public_face():
    output, _, status = api.run(["--strict", str(HERE / "use.py"), str(ROOT / "examples")])
    assert status == 0, output


def pyright(path: Path) -> set[int]:
    command = [sys.executable, "-m", "basedpyright", "--level", "error", "--outputjson", str(path)]
    environment = {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=HERE)
    report = json.loads(done.stdout)
    return {
        one["range"]["start"]["line"] + 1
        for one in report["generalDiagnostics"]
        if one["severity"] == "error"
    }


def test_pyright_finds_each_misuse():
    missing = set(expected()) - pyright(HERE / "misuse.py")
    assert missing == set()


def test_pyright_accepts_the_public_face():
    assert pyright(HERE / "use.py") == set()

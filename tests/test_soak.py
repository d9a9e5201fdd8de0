"""The soak in a small size: kills at random, and nothing is lost or happens twice."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("ledger", ["sqlite", "postgres", "redis"])
def test_no_trigger_is_lost_and_none_takes_effect_twice(ledger: str):
    command = [sys.executable, "-m", "benchmarks.soak", "--small", "--ledger", ledger]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 mistakes" in done.stdout
    assert ", 0 processes killed" not in done.stdout

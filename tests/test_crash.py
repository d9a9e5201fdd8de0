"""No trigger is lost and no effect doubled, wherever a process is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "programs" / "crash.py"


@pytest.mark.parametrize(("kind", "least"), [("event", 14), ("queue", 14), ("command", 12)])
def test_a_kill_at_each_step_loses_nothing_and_doubles_nothing(
    tmp_path: Path, kind: str, least: int
):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), kind, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    whole, *killed = [json.loads(line) for line in done.stdout.splitlines()]
    assert (whole["effects"], whole["calls"]) == (1, 1)
    assert len(killed) >= least
    for one in killed:
        assert one["code"] == 0, (one, done.stderr)
        assert one["effects"] == 1, one
        assert one["decisions"][-1] == "ended", one

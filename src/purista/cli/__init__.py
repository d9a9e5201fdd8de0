"""The command line: parsing and printing only."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn


def main() -> None:
    """Run the ``purista`` command."""
    try:
        from purista.cli.app import run
    except ImportError as error:
        if (error.name or "").split(".")[0] not in {"typer", "rich", "click"}:
            raise
        sys.stderr.write(
            "purista: the command line needs more packages: pip install 'purista[cli]'\n"
        )
        raise SystemExit(2) from None
    code = run()
    if "purista.sync.temporal" in sys.modules:
        _end(code)
    raise SystemExit(code)


def _end(code: int) -> NoReturn:
    """End the process at once: threads of Temporal's SDK would call into Python while it ends, and abort it."""
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = code or _NOT_FLUSHED
    os._exit(code)


_NOT_FLUSHED = 120
"""What Python itself ends with where the last of its output could not be written."""

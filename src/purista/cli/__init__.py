"""The command line: parsing and printing only."""

from __future__ import annotations

import sys


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
    raise SystemExit(run())

"""A lock that keeps other runs of purista from changing the same files."""

from __future__ import annotations

import fcntl
import random
import time
from typing import Final

from purista.sync.port import SyncError

PATIENCE: Final = 60.0
"""Seconds that another run is waited for."""


def lock(place: int, what: str) -> None:
    """Lock what a descriptor is open on, until it is closed; waits. Raises ``SyncError``."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise SyncError(f"{what} is locked by another purista; try again") from None
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - spread
        else:
            return

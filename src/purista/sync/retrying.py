"""How often a call to a scheduler is tried that fails for now, and how long is waited in between."""

from __future__ import annotations

import asyncio
import random
from typing import Final

ATTEMPTS: Final = 8
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Attempts, and the seconds before the second and between the last ones."""


async def rest(attempt: int, *, least: float = 0.0, slower: float = 1.0) -> None:
    """Wait after an attempt, counted from 1: twice as long each time, spread, with an upper bound.

    ``least`` are seconds that the scheduler asks for, up to that bound; ``slower`` multiplies pauses and bound.
    """
    longest = LONGEST_PAUSE * slower
    pause = min(FIRST_PAUSE * slower * 2 ** (attempt - 1), longest)
    await asyncio.sleep(max(min(least, longest), pause * random.uniform(0.5, 1)))  # noqa: S311 - spread

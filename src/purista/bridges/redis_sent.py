"""What a bridge has sent, by number, so that the server takes each thing once however often it is sent."""

from __future__ import annotations

from typing import Final

from purista.bridges.redis_event_names import Names

BLOCK: Final = 4096
"""How many numbers share a key."""

SENT_KEPT: Final = 600_000
"""Milliseconds for which the server knows what was sent; longer than anything is sent again."""


class Sent:
    """Gives a number to each thing that one bridge sends: a bit of a key in the server."""

    def __init__(self, names: Names, instance: str) -> None:
        self._names = names
        self._instance = instance
        self._number = 0
        self._key = names.sent(instance, 0)

    def next(self) -> tuple[bytes, int]:
        """Return the key and the bit of the next number."""
        block, bit = divmod(self._number, BLOCK)
        if bit == 0:
            self._key = self._names.sent(self._instance, block)
        self._number += 1
        return self._key, bit

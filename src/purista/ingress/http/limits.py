"""How much, and how slowly, a caller over HTTP may send before it is cut off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from purista.cloudevent import MAX_BYTES
from purista.errors import Problem, SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may take.

    - ``body``: bytes of its body, as they are counted while they come (413)
    - ``headers``, ``header_bytes``: how many headers, and their bytes, names and values (431)
    - ``header_time``: from a connection's beginning, or a request's first byte, until its headers
      are there (408); held by ``BoundedProtocol``, as no application sees a request before
    - ``body_time``: from then until its body is there (408)
    - ``time``: from then until it is answered (503, to be sent again)

    Raises ``SettingsError``.
    """

    body: int = MAX_BYTES
    headers: int = 100
    header_bytes: int = 32 * 1024
    header_time: timedelta = timedelta(seconds=10)
    body_time: timedelta = timedelta(seconds=10)
    time: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        zero = timedelta(0)
        problems = [
            Problem(f"limits: {name}", "it is not positive", "give what a request may take")
            for name in self.__slots__
            if getattr(self, name) <= (zero if name.endswith("time") else 0)
        ]
        if problems:
            raise SettingsError(problems)

"""The steps of the Redis queue bridge as Lua scripts, put together from the files of ``redis_lua``."""

from __future__ import annotations

from typing import Final

from purista.redisstore.script import Script


def _script(*parts: str) -> Script:
    return Script.read("purista.bridges", *(f"queue_{part}" for part in parts))


_JOBS: Final = ("lease", "time", "due")
_LETTERS: Final = (*_JOBS, "dead")

ENQUEUE: Final = _script("sent", *_JOBS, "enqueue")
LOOK: Final = _script(*_LETTERS, "ending", "look")
ACK: Final = _script("sent", "lease", "ack")
NACK: Final = _script("sent", *_LETTERS, "nack")
EXTEND: Final = _script(*_JOBS, "extend")
BACK: Final = _script(*_JOBS, "back")
EXPIRE: Final = _script(*_LETTERS, "ending", "expire")
LETTERS: Final = _script(*_LETTERS, "letters")
MOVE: Final = _script(*_LETTERS, "move")

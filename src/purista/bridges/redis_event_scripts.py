"""The steps of the Redis event bridge as Lua scripts, put together from the files of ``redis_lua``."""

from __future__ import annotations

from purista.redisstore.script import Script


def _script(*parts: str) -> Script:
    return Script.read("purista.bridges", *(f"event_{part}" for part in parts))


PUBLISH = _script("publish")
JOIN = _script("join")
LEAVE = _script("leave")
LOOK = _script("entries", "look")
DONE = _script("entries", "done")
AGAIN = _script("entries", "again")
BACK = _script("entries", "back")
BURY = _script("entries", "bury")
PROLONG = _script("entries", "prolong")
SWEEP = _script("entries", "sweep")
REDRIVE = _script("redrive")
REQUEST = _script("request")
REPLY = _script("reply")

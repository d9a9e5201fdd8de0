"""The steps of a Redis ledger as Lua scripts, put together from the files of ``redis_lua``."""

from __future__ import annotations

from purista.redisstore.script import Script

SCHEMA_VERSION = "1"
"""The field ``version`` of the key ``{prefix}:meta`` of the ledgers that these scripts write."""

KEYS = ("meta", "runs", "records", "skips", "latest", "contracts", "nonces", "index")
"""The keys of a ledger, in the order in which every script gets them."""


def _script(*parts: str) -> Script:
    return Script.read(__package__, "ledger", *parts)


DECIDE = _script("runs", "forgetting", "decide")
DISPATCHED = _script("runs", "dispatched")
RELEASE = _script("runs", "release")
END = _script("runs", "end")
RENEW = _script("runs", "renew")
PURGE = _script("runs", "forgetting", "nonces", "purge")
PAGE = _script("page")
NOTE_CONTRACTS = _script("note_contracts")
USE_NONCE = _script("nonces", "use_nonce")
DROP_NONCE = _script("drop_nonce")

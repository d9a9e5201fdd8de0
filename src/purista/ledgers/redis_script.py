"""The steps of a Redis ledger as Lua scripts, put together from the files of ``redis_lua``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

SCHEMA_VERSION = "1"
"""The field ``version`` of the key ``{prefix}:meta`` of the ledgers that these scripts write."""

KEYS = ("meta", "runs", "records", "skips", "latest", "contracts", "nonces", "index")
"""The keys of a ledger, in the order in which every script gets them."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script and the digest by which a server knows it."""

    text: str
    digest: str


def _script(*parts: str) -> Script:
    folder = files(__package__) / "redis_lua"
    text = "\n".join((folder / f"{part}.lua").read_text("utf-8") for part in ("ledger", *parts))
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


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

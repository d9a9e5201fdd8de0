"""Lua scripts, put together from files of a package, and the digests by which a server knows them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class Script:
    """A script and its digest: ``EVALSHA`` takes the one, ``EVAL`` the other."""

    text: str
    digest: str

    @classmethod
    def of(cls, text: str) -> Script:
        """Return a script; ``SHA1`` is what the protocol asks for (https://valkey.io/commands/evalsha/)."""
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    @classmethod
    def read(cls, package: str, *parts: str) -> Script:
        """Put files of the folder ``redis_lua`` of a package together, in this order."""
        folder = files(package) / "redis_lua"
        return cls.of("\n".join((folder / f"{part}.lua").read_text("utf-8") for part in parts))

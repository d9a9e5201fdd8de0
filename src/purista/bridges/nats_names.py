"""How names of events, queues and subscribers are written in NATS.

A subject's tokens stand between dots and hold neither spaces, ``*`` nor ``>``; names of streams and
consumers hold no dots either (https://docs.nats.io/nats-concepts/subjects).
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

from purista.errors import BridgeError

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_SAFE = "-_~$@!+,;=:()"
_ODD = re.compile(r"[^A-Za-z0-9_-]+")
_EMPTY = "%"
"""A token for what would be an empty one; no encoded text is a lone percent sign."""


def checked_prefix(prefix: str) -> str:
    """Return a prefix that can begin every name. Raises ``BridgeError``."""
    if _PREFIX.match(prefix) is None:
        raise BridgeError(
            f"NATS: prefix '{prefix}': use at most 32 letters, digits, '-' and '_', as it begins "
            "the names of streams"
        )
    return prefix


def subject(name: str) -> str:
    """Return a name as the tokens of a subject; different names give different ones.

    >>> subject("billing.due"), subject("a b..*")
    ('billing.due', 'a%20b.%.%2A')
    """
    return ".".join(quote(token, safe=_SAFE) or _EMPTY for token in name.split("."))


def short(*names: str) -> str:
    """Return a name for a consumer: words that a person knows, and a digest that no other shares."""
    digest = hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
    words = _ODD.sub("-", names[-1]).strip("-")[:60]
    return f"{words}-{digest}" if words else digest

"""How the keys and channels of the Redis event bridge are called.

Keys take any byte, so the name of an event or a command ends its key as it is; where two names share
a key, each is percent-encoded.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from purista.errors import BridgeError

_PREFIX = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class Names:
    """The keys of one deployment.

    >>> Names("purista").stream("billing.due")
    b'purista:events:billing.due'
    >>> Names("purista").letters("a:b", "c d")
    b'purista:dead:a%3Ab:c%20d'
    """

    def __init__(self, prefix: str) -> None:
        if _PREFIX.match(prefix) is None:
            raise BridgeError(
                f"Redis: prefix '{prefix}': use at most 64 letters, digits, '-', '_' and '.'"
            )
        self._prefix = prefix

    def stream(self, event: str) -> bytes:
        """Return the stream of an event."""
        return self._key("events", event)

    def own_stream(self, event: str, subscriber: str) -> bytes:
        """Return the stream of what is for this subscriber alone."""
        return self._pair("redriven", event, subscriber)

    def retries(self, event: str, subscriber: str) -> bytes:
        """Return the sorted set of what waits for its next attempt."""
        return self._pair("retries", event, subscriber)

    def letters(self, event: str, subscriber: str) -> bytes:
        """Return the stream of dead letters."""
        return self._pair("dead", event, subscriber)

    def letter_ids(self, event: str, subscriber: str) -> bytes:
        """Return the hash from message ids to dead letters."""
        return self._pair("deadids", event, subscriber)

    def requests(self, command: str) -> bytes:
        """Return the list of requests that nobody has taken yet."""
        return self._key("requests", command)

    def serving(self, command: str) -> bytes:
        """Return the channel that everybody who serves a command listens to."""
        return self._key("serving", command)

    def replies(self, instance: str) -> bytes:
        """Return the channel, and the list, of replies to one bridge."""
        return self._key("replies", instance)

    def sent(self, instance: str, block: int) -> bytes:
        """Return the bits that tell what one bridge has sent."""
        return self._key("sent", f"{instance}:{block}")

    def _pair(self, kind: str, *names: str) -> bytes:
        return self._key(kind, ":".join(quote(_checked(name), safe="") for name in names))

    def _key(self, kind: str, name: str) -> bytes:
        return f"{self._prefix}:{kind}:{_checked(name)}".encode()


def group(subscriber: str) -> bytes:
    """Return a subscriber's consumer group, which bears its name."""
    return _checked(subscriber).encode()


def _checked(name: str) -> str:
    try:
        name.encode()
    except UnicodeError:
        raise BridgeError(f"Redis: {name!a} is no Unicode text; use another name") from None
    return name

"""How exchanges, queues and routing keys of the RabbitMQ event bridge are called.

Names of AMQP have at most 255 bytes. A queue's name is made of letters, digits and few other characters,
as servers strip line ends and clients refuse more than that; the rest is encoded as in an address, with
``#`` for ``%``. What would be longer ends in a digest.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote

from purista.errors import BridgeError

LONGEST: Final = 255
"""Bytes of a name or a routing key."""

_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,32}\Z")
_SAFE = "+,/@"
_WILD = {"*": "%2A", "#": "%23"}


class Names:
    """The names of one deployment.

    >>> Names("purista").queue("billing.due", "Billing.v1.close")
    'purista.events:billing.due:Billing.v1.close'
    >>> Names("purista").requests("billing.v1.close")
    'purista.commands:billing.v1.close'
    """

    def __init__(self, prefix: str) -> None:
        if _PREFIX.match(prefix) is None:
            raise BridgeError(
                f"RabbitMQ: prefix '{prefix}': use at most 32 letters, digits, '-' and '_', as it "
                "begins the names of exchanges and queues"
            )
        self.prefix = prefix
        self.events = f"{prefix}.events"
        self.retries = f"{prefix}.retries"
        self.unclaimed = f"{prefix}.unclaimed"

    def queue(self, event: str, subscriber: str) -> str:
        """Return the queue of a subscriber."""
        return self._named("events", event, subscriber)

    def letters(self, event: str, subscriber: str) -> str:
        """Return the queue of its dead letters."""
        return self._named("dead", event, subscriber)

    def lock(self, event: str, subscriber: str) -> str:
        """Return the queue that whoever looks through dead letters has for itself."""
        return self._named("lock", event, subscriber)

    def instance(self, event: str, subscriber: str, instance: str) -> str:
        """Return the queue of one receiver that gets every event."""
        return self._named("instances", event, subscriber, instance)

    def requests(self, command: str) -> str:
        """Return the queue of a command's requests."""
        return self._named("commands", command)

    def wait(self, level: int) -> str:
        """Return the exchange, and the queue, where events wait for so many steps."""
        return f"{self.prefix}.wait-{level}"

    def _named(self, kind: str, *names: str) -> str:
        text = ":".join(_encoded(name) for name in names)
        return _fitting(f"{self.prefix}.{kind}:{text}", "##")


def routing_key(event: str) -> str:
    """Return the routing key of an event: its name, so that its words can be bound to.

    A word that a binding would take for a wildcard is percent-encoded.

    >>> routing_key("billing.due"), routing_key("a.*")
    ('billing.due', 'a.%2A')
    """
    words = (_WILD.get(word, word) for word in checked(event).replace("%", "%25").split("."))
    return _fitting(".".join(words), "%%")


def token(queue: str) -> str:
    """Return one word that stands for a queue in a routing key."""
    return hashlib.sha256(queue.encode()).hexdigest()[:24]


def checked(name: str) -> str:
    """Return a name that is Unicode text. Raises ``BridgeError``."""
    try:
        name.encode()
    except UnicodeError:
        raise BridgeError(f"RabbitMQ: {name!a} is no Unicode text; use another name") from None
    return name


def _encoded(name: str) -> str:
    return quote(checked(name), safe=_SAFE).replace("~", "%7E").replace("%", "#")


def _fitting(name: str, mark: str) -> str:
    """Return a name as it is, or what fits of it, a mark that no other name has, and a digest."""
    data = name.encode()
    if len(data) <= LONGEST:
        return name
    end = f"{mark}{hashlib.sha256(data).hexdigest()[:32]}"
    return data[: LONGEST - len(end)].decode(errors="ignore") + end

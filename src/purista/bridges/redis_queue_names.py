"""How the keys and channels of the Redis queue bridge are called."""

from __future__ import annotations

from typing import NamedTuple

from purista.bridges.redis_event_names import Names


class QueueKeys(NamedTuple):
    """The keys of one queue: those of its leases, all of them, and the channel of news.

    ``all`` begins with ``leases``: the jobs, the leases, what they hold; then what is due, the counter
    of all queues, the dead letters, what is known of them, and their message ids.
    """

    leases: tuple[bytes, ...]
    all: tuple[bytes, ...]
    news: bytes


class QueueNames(Names):
    """The keys of one deployment.

    >>> QueueNames("purista").key("reports", "2027-03")
    b'purista:keys:reports:2027-03'
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self._queues: dict[str, QueueKeys] = {}

    def of(self, queue: str) -> QueueKeys:
        """Return the keys of a queue. Raises ``BridgeError`` for a name that is no Unicode."""
        found = self._queues.get(queue)
        if found is None:
            found = self._queues[queue] = self._made(queue)
        return found

    def key(self, queue: str, key: str) -> bytes:
        """Return what says until when a job's key is a duplicate."""
        return self._pair("keys", queue, key)

    def look(self, instance: str, queue: str) -> bytes:
        """Return what one bridge's last look into a queue gave."""
        return self._key("looks", f"{instance}:{queue}")

    def moved(self, instance: str, number: int) -> bytes:
        """Return what one bridge was answered about dead letters."""
        return self._key("moved", f"{instance}:{number}")

    def _made(self, queue: str) -> QueueKeys:
        leases = tuple(self._key(kind, queue) for kind in ("jobs", "leases", "held"))
        letters = (self._key(kind, queue) for kind in ("buried", "letters", "letterids"))
        counter = f"{self._prefix}:numbers".encode()
        every = (*leases, self._key("due", queue), counter, *letters)
        return QueueKeys(leases, every, self._key("news", queue))

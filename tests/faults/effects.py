"""The effect log: what handlers in any number of processes did, one line each, in one file.

It is written as handlers with side effects would: a line that was written stays, whoever is killed
then. Instants are those of the machine's monotonic clock, which its processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

What = Literal["begun", "ended", "extended", "settled", "lost", "failed", "cancelled"]
"""``begun`` and ``ended``: the handler; ``extended``, ``settled``: the broker took it; ``lost``: it was
told that the lease is; ``failed``: the broker could not be told; ``cancelled``: the handler was."""


class Effect(NamedTuple):
    """``id``: of the message; ``attempt``: which delivery; ``who``: the worker; ``at``: when, in seconds."""

    what: What
    id: str
    attempt: int
    who: str
    at: float


class Effects:
    """Writes to the log at ``path`` and reads what everybody wrote."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.touch()

    def note(self, what: What, message_id: str, attempt: int, who: str) -> None:
        """Add a line, whole or not at all."""
        line = json.dumps([what, message_id, attempt, who, time.monotonic()]) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def all(self, *whats: What) -> list[Effect]:
        """Return what was noted so far (of some kinds, or all), in order."""
        lines = self.path.read_text().splitlines()
        found = [Effect(*json.loads(line)) for line in lines]
        return [effect for effect in found if not whats or effect.what in whats]

    def handled(self) -> Counter[str]:
        """Return how often each message was handled to the end."""
        return Counter(effect.id for effect in self.all("ended"))

    def missing(self, confirmed: Collection[str]) -> set[str]:
        """Return which of the confirmed messages nobody handled yet."""
        return set(confirmed) - set(self.handled())

    def duplicates(self) -> int:
        """Return how many messages more were handled than there are different ones."""
        handled = self.handled()
        return handled.total() - len(handled)

    def at_once(self, lease: float) -> list[str]:
        """Return where a message was begun again sooner than a lease after it was begun, and while it was.

        For what is not settled by name: a receiver that was cancelled is not at work any more.
        """
        at_work: dict[tuple[str, str], Effect] = {}
        found = []
        for effect in self.all("begun", "ended", "cancelled"):
            if effect.what == "begun":
                others = [
                    one
                    for (message_id, _), one in at_work.items()
                    if message_id == effect.id and effect.at - one.at < lease
                ]
                found += [f"{effect} beside {one}" for one in others]
                at_work[effect.id, f"{effect.who} {effect.attempt}"] = effect
            else:
                at_work.pop((effect.id, f"{effect.who} {effect.attempt}"), None)
        return found

    def wrongly_doubled(self) -> list[str]:
        """Return where a job was somebody's although it was another's by then.

        That is so where a lease was prolonged or its job settled after a later attempt had begun, and where
        an attempt began although an earlier one had been settled for good.
        """
        return list(self._wrongly_doubled())

    def _wrongly_doubled(self) -> Iterator[str]:
        begun: dict[str, list[Effect]] = defaultdict(list)
        settled: dict[str, Effect] = {}
        for effect in self.all():
            if effect.what == "begun":
                if effect.id in settled:
                    yield f"{effect} after {settled[effect.id]}"
                begun[effect.id].append(effect)
            elif effect.what in ("extended", "settled"):
                later = [one for one in begun[effect.id] if one.attempt > effect.attempt]
                if later:
                    yield f"{effect} after {later[0]}"
                if effect.what == "settled":
                    settled[effect.id] = effect

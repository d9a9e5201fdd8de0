"""The port to a live scheduler: what it holds, and changing that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, runtime_checkable

from purista.compiling import Placed, Request
from purista.errors import PuristaError
from purista.expression import Expression
from purista.plan import Desired, Observed


class SyncError(PuristaError):
    """A scheduler could not be read or changed; the message says which, why, and what to do."""


def changed_meanwhile(name: str) -> SyncError:
    """Return the error for an object that is not as it was observed any more."""
    return SyncError(f"'{name}' was changed or deleted meanwhile; plan again")


class LiveScheduler(Protocol):
    """One scheduler as it is now. A call may be repeated: what is done already is done."""

    def desired(
        self, placed: Sequence[Placed], request: Request, deployment: str
    ) -> Sequence[Desired]:
        """Return the objects that it is to hold. Raises ``SyncError``."""

    def observed(self, deployment: str, names: Collection[str]) -> AsyncIterator[Observed]:
        """Yield all that is the deployment's, and whatever has one of the names, each once.

        What else it holds may be left out. It is read in pages. Raises ``SyncError``.
        """

    async def create(self, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Make an object with these fields. Raises ``SyncError``, also where the name is taken."""

    async def update(self, observed: Observed, desired: Desired, fields: Mapping[str, Any]) -> None:
        """Give an object these fields. Raises ``SyncError``, also where it is not as observed any more."""

    async def delete(self, observed: Observed) -> None:
        """Delete an object; one that is gone is no error. Raises ``SyncError``."""


@runtime_checkable
class OneEach(Protocol):
    """A scheduler that has one object for each schedule, so that those of a few are found at once."""

    async def named(self, names: Sequence[str]) -> Sequence[Observed]:
        """Return the objects of these names that are there. Raises ``SyncError``."""


@runtime_checkable
class Pauses(Protocol):
    """A scheduler that can pause an object."""

    async def pause(self, name: str, *, reason: str) -> None:
        """Let an object not fire until it is resumed. Raises ``SyncError``."""

    async def resume(self, name: str, *, reason: str) -> None:
        """Let it fire again. Raises ``SyncError``."""


@runtime_checkable
class Triggers(Protocol):
    """A scheduler that can let an object fire at once."""

    async def trigger(self, name: str) -> None:
        """Let an object fire now, as a person does with the scheduler's tools. Raises ``SyncError``."""


@runtime_checkable
class FireTimes(Protocol):
    """A scheduler of whose objects it is known when they fire."""

    def fire_times(
        self, fields: Mapping[str, Any], start: datetime, end: datetime
    ) -> Iterable[datetime] | None:
        """Return the UTC times in [start, end] at which an object fires by itself, ascending, lazily.

        None where that cannot be told, as for fields that a person wrote. A paused one never fires.
        """


@dataclass(frozen=True, slots=True)
class Foreign:
    """A schedule that is none of ours, as a contract would say it.

    ``expression`` means what the scheduler makes of its own; None where no contract can say it.
    ``doubts`` are sentences on what the contract does not say.
    """

    name: str
    expression: Expression | None
    timezone: str = "UTC"
    enabled: bool = True
    description: str = ""
    start_at: datetime | None = None
    end_at: datetime | None = None
    jitter: timedelta = timedelta(0)
    dst_gap: str = "next"
    dst_overlap: str = "first"
    doubts: tuple[str, ...] = ()


@runtime_checkable
class Imports(Protocol):
    """A scheduler whose other schedules can be read as contracts."""

    def foreign(self) -> AsyncIterator[Foreign]:
        """Yield the schedules without our marker, by name. Raises ``SyncError``."""

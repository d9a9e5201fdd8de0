"""The DAG folder of an Airflow: which of its files are ours, and writing them whole or not at all.

Whose a file is stands in a comment of its own line. Every change is made under one lock, for all who
apply to the folder; only files directly in it are ours.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from purista.compiling import MARKER
from purista.plan import Owner
from purista.sync.filelock import lock
from purista.sync.port import SyncError

LOCK: Final = ".purista.lock"
_MARK: Final = re.compile(rf"^# {MARKER}: (\{{.*\}})\r?\n", re.MULTILINE)
_TEMPORARY: Final = ".purista.tmp"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the comment says: whose a file is, what was applied last, why it is paused."""

    name: str
    owner: Owner
    applied: Mapping[str, str]
    note: str = ""

    def line(self) -> str:
        """Return the comment."""
        said = {
            "name": self.name,
            "deployment": self.owner.deployment,
            "schedule": self.owner.schedule_id,
            "fingerprint": self.owner.fingerprint,
            "applied": dict(self.applied),
            **({"note": self.note} if self.note else {}),
        }
        return f"# {MARKER}: {json.dumps(said)}\n"


@dataclass(frozen=True, slots=True)
class DagFileThere:
    """A file with our mark. ``text`` is without it, ``digest`` of all."""

    path: Path
    mark: Mark
    text: str
    digest: str
    written: datetime

    @property
    def version(self) -> str:
        """Where it is, and what is in it."""
        return f"{self.path.name}:{self.digest}"


class DagFolder:
    """The files of one folder; ``bundle`` is what Airflow calls it."""

    def __init__(self, path: Path, bundle: str) -> None:
        self.path = path
        self.bundle = bundle
        self._turn = asyncio.Lock()

    def ours(self) -> Iterator[DagFileThere]:
        """Yield the files that have our mark, by their names. Raises ``SyncError``."""
        for path in sorted(self.path.glob("*.py")):
            found = self.look(path)
            if found is not None:
                yield found

    def named(self, name: str) -> DagFileThere | None:
        """Return our file of a DAG."""
        return next((each for each in self.ours() if each.mark.name == name), None)

    def look(self, path: Path) -> DagFileThere | None:
        """Return a file that has our mark. Raises ``SyncError``."""
        try:
            data = path.read_bytes()
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SyncError(f"Airflow: cannot read '{path}': {error.strerror}") from None
        text = data.decode(errors="surrogateescape")
        mark = _mark(text)
        if mark is None:
            return None
        digest = hashlib.sha256(data).hexdigest()
        return DagFileThere(path, mark, _MARK.sub("", text, count=1), digest, written)

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Let nobody else change our files meanwhile. Raises ``SyncError``."""
        async with self._turn:
            try:
                file = (self.path / LOCK).open("a")
            except OSError as error:
                raise _unwritable(self.path, error) from None
            with file:
                await asyncio.to_thread(lock, file.fileno(), f"Airflow's folder '{self.path}'")
                yield

    def create(self, path: Path, mark: Mark, text: str) -> None:
        """Write a file where there is none; to be called under the lock. Raises ``SyncError``."""
        temporary = self._written(mark, text)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise SyncError(f"'{mark.name}': '{path}' was made meanwhile; plan again") from None
        except OSError as error:
            raise _unwritable(self.path, error) from None
        finally:
            temporary.unlink(missing_ok=True)

    def replace(self, there: DagFileThere, mark: Mark, text: str) -> None:
        """Write a file in place of one that was looked at under the same lock. Raises ``SyncError``."""
        temporary = self._written(mark, text)
        try:
            temporary.replace(there.path)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def remove(self, there: DagFileThere) -> None:
        """Remove a file that was looked at under the same lock. Raises ``SyncError``."""
        try:
            there.path.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def _written(self, mark: Mark, text: str) -> Path:
        temporary = self.path / _TEMPORARY
        try:
            with temporary.open("wb") as file:
                file.write((mark.line() + text).encode(errors="surrogateescape"))
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(_MODE)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        return temporary


_MODE: Final = 0o644


def _mark(text: str) -> Mark | None:
    found = _MARK.search(text)
    if found is None:
        return None
    try:
        said = json.loads(found[1])
        owner = Owner(said["deployment"], said["schedule"], said["fingerprint"])
        mark = Mark(said["name"], owner, said["applied"], said.get("note", ""))
    except (ValueError, KeyError, TypeError):
        return None
    texts = (mark.name, owner.deployment, owner.schedule_id, owner.fingerprint, mark.note)
    is_whole = all(isinstance(each, str) for each in texts) and isinstance(mark.applied, dict)
    return mark if is_whole and owner.fingerprint else None


def _unwritable(folder: Path, error: OSError) -> SyncError:
    return SyncError(f"Airflow: cannot write in '{folder}': {error.strerror}")

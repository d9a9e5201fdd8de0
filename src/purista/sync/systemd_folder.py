"""The folder of a manager's units: files that are there as a whole or not at all.

One purista changes it at a time: it holds a lock on the folder meanwhile.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from purista.sync.filelock import lock
from purista.sync.port import SyncError, changed_meanwhile
from purista.sync.systemd_unit import KINDS, Marker, marker_of, with_marker

PREFIX: Final = "purista-"
"""How the names of our units begin."""

_NULL: Final = "/dev/null"


@dataclass(frozen=True, slots=True)
class Units:
    """A timer and its service, by their kinds; either may be missing.

    ``marker`` is None where a file is there that is none of ours. ``is_masked``: the timer is a link to
    ``/dev/null``. ``drop_ins`` are the texts of files that change them: by the path after the unit's name
    where they change no other unit, else by the whole path.
    """

    name: str
    texts: Mapping[str, str] = field(default_factory=dict)
    marker: Marker | None = None
    is_masked: bool = False
    drop_ins: Mapping[str, str] = field(default_factory=dict)


class UnitsFolder:
    """The files in one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def all(self) -> list[Units]:
        """Return what has a name as ours have."""
        found = (self.named(name) for name in sorted(self._names()) if name.startswith(PREFIX))
        return [each for each in found if each is not None]

    def named(self, name: str) -> Units | None:
        """Return the units of a name."""
        texts = {kind: text for kind in KINDS if (text := self._read(name, kind)) is not None}
        is_masked = _is_null(self._file(name, "timer"))
        if not texts and not is_masked:
            return None
        markers = {kind: marker_of(text) for kind, text in texts.items()}
        is_others = None in markers.values() or self._is_alias(name)
        marker = None if is_others else markers.get("service", markers.get("timer"))
        return Units(name, texts, marker, is_masked, dict(self._drop_ins(name)))

    def foreign(self) -> dict[str, dict[str, str]]:
        """Return the texts of timers without our marker, and of their services; no other names of those."""
        found: dict[str, dict[str, str]] = {}
        for name in self._names():
            timer = None if self._is_alias(name) else self._text(self._file(name, "timer"))
            if timer is not None and marker_of(timer) is None:
                service = self._text(self._file(name, "service"))
                found[name] = {"timer": timer, "service": service or ""}
        return found

    def texts(self, files: Iterable[Path]) -> dict[Path, str]:
        """Return the texts of files in this order, without those that are gone; none in ``/dev/null``."""
        texts = {file: "" if _is_null(file) else self._text(file) for file in files}
        return {file: text for file, text in texts.items() if text is not None}

    def with_drop_ins(self, units: Units, files: Iterable[Path]) -> Units:
        """Return units with more files that change them, whichever of these are not known yet."""
        beside = (f"{units.name}." * is_own(each) + each for each in units.drop_ins)
        known = {_place(self._path / each) for each in beside}
        more = self.texts(file for file in files if _place(file) not in known)
        return replace(
            units, drop_ins={**units.drop_ins, **{str(f): text for f, text in more.items()}}
        )

    def create(self, name: str, texts: Mapping[str, str]) -> None:
        """Write files that are not there; one with the same text is no harm. Raises ``SyncError``."""
        with self._alone():
            for kind, text in texts.items():
                self._put_new(name, kind, text)

    def replace(self, units: Units, texts: Mapping[str, str], unwanted: Collection[str]) -> None:
        """Write files in place of those that are there, and remove drop-ins. Raises ``SyncError``."""
        with self._alone():
            if self.named(units.name) != units:
                raise changed_meanwhile(units.name)
            for each in unwanted:
                self._remove(self._path / f"{units.name}.{each}")
            for kind, text in texts.items():
                with self._written(text) as file:
                    file.replace(self._file(units.name, kind))

    def remove(self, units: Units) -> None:
        """Remove files and drop-ins. Raises ``SyncError`` where they are others now."""
        with self._alone():
            if self.named(units.name) not in (units, None):
                raise changed_meanwhile(units.name)
            for each in filter(is_own, units.drop_ins):
                self._remove(self._path / f"{units.name}.{each}")
            for kind in KINDS:
                self._remove(self._file(units.name, kind))

    def mark(self, name: str, change: Callable[[Marker], Marker]) -> None:
        """Change the marker of a service, and nothing else: for systemd it is the same file."""
        with self._alone():
            text, marker = self._read(name, "service"), None
            if text is not None:
                marker = marker_of(text)
            if text is None or marker is None:
                raise SyncError(f"'{name}' is not there, or not ours; purista apply makes it")
            file = self._file(name, "service")
            known = file.stat()
            with self._written(with_marker(text, change(marker))) as new:
                os.utime(new, ns=(known.st_atime_ns, known.st_mtime_ns))
                new.replace(file)

    def _names(self) -> set[str]:
        try:
            files = list(os.scandir(self._path))
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise self._refusal(error) from None
        names = (_NAME.fullmatch(each.name) for each in files)
        return {found["name"] for found in names if found is not None}

    def _file(self, name: str, kind: str) -> Path:
        return self._path / f"{name}.{kind}"

    def _is_alias(self, name: str) -> bool:
        """Whether a timer is a link to another one of the folder."""
        file = Path(os.path.realpath(self._file(name, "timer")))
        return file.parent == self._path.resolve() and file.name != f"{name}.timer"

    def _read(self, name: str, kind: str) -> str | None:
        """Return the text of a unit; an empty one for what is there and is no file, and so none of ours."""
        file = self._file(name, kind)
        if _is_null(file):
            return None
        text = self._text(file)
        if text is None and os.path.lexists(file):  # it may have been written just now
            text = self._text(file) or ""
        return text

    def _text(self, file: Path) -> str | None:
        """Return what is in a regular file; None where there is none, nor a link to one."""
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                return None
            return file.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return None
            raise self._refusal(error) from None

    def _drop_ins(self, name: str) -> Iterator[tuple[str, str]]:
        """Yield the files for a unit, for all whose names begin the same, and for all (systemd.unit(5))."""
        begun = (f"{name[: dash.end()]}." for dash in re.finditer("-", name))
        for kind in KINDS:
            for of in dict.fromkeys((f"{name}.", *begun, "")):
                texts = self.texts(sorted((self._path / f"{of}{kind}.d").glob("*.conf")))
                for file, text in texts.items():
                    own = of == f"{name}."
                    yield f"{kind}.d/{file.name}" if own else str(file), text

    def _put_new(self, name: str, kind: str, text: str) -> None:
        with self._written(text) as file:
            try:
                os.link(file, self._file(name, kind))
            except FileExistsError:
                if self._read(name, kind) != text:
                    raise SyncError(f"'{name}.{kind}' is there meanwhile; plan again") from None

    @contextmanager
    def _written(self, text: str) -> Iterator[Path]:
        """Yield a new file in the folder, to be put somewhere; what is left of it is removed."""
        try:
            with NamedTemporaryFile(dir=self._path, prefix=".purista-", delete=False) as file:
                path = Path(file.name)
                file.write(text.encode(errors="surrogateescape"))
                file.flush()
                os.fsync(file.fileno())
            path.chmod(0o644)
            yield path
        except OSError as error:
            raise self._refusal(error) from None
        finally:
            with suppress(OSError, UnboundLocalError):
                path.unlink()

    def _remove(self, file: Path) -> None:
        try:
            file.unlink(missing_ok=True)
            if file.parent != self._path:
                with suppress(OSError):
                    file.parent.rmdir()
        except OSError as error:
            raise self._refusal(error) from None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            place = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise self._refusal(error) from None
        try:
            lock(place, str(self._path))
            yield
        finally:
            os.close(place)

    def _refusal(self, error: OSError) -> SyncError:
        remedy = ""
        if isinstance(error, PermissionError):
            remedy = "; be root, or say PURISTA_SYSTEMD=user for units of your own"
        return SyncError(f"units in {self._path}: {error.strerror or 'no such file'}{remedy}")


def is_own(drop_in: str) -> bool:
    """Whether a file changes the units of one name only."""
    return not drop_in.startswith("/")


def _place(file: Path) -> Path:
    """Return where a file is, whichever links lead to its folder."""
    return file.parent.resolve() / file.name


def _is_null(file: Path) -> bool:
    return file.is_symlink() and os.readlink(file) == _NULL


_NAME: Final = re.compile(
    rf"(?P<name>[\w:.\\-]+(?:@[\w:.\\@-]*)?)\.(?:{'|'.join(KINDS)})", re.ASCII
)
"""What systemd takes for a unit (systemd.unit(5))."""

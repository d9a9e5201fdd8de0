"""Another time-zone database: compiled zones (RFC 8536) in a folder, a wheel or a zip file.

Its zones are read beside those of this process, which keep their names and their rules.
"""

from __future__ import annotations

import re
import zipfile
import zlib
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from purista.cli.tzif import zone_from_bytes
from purista.errors import LoadError

Folder: TypeAlias = Path | zipfile.Path

ALWAYS = frozenset({"UTC", "Etc/UTC"})
"""Zones that no database needs to hold: they have no rules."""


class Database(NamedTuple):
    """The zones that were asked for, the names of those that are not there, and the version.

    The version is None where the database does not tell it.
    """

    zones: Mapping[str, ZoneInfo]
    missing: tuple[str, ...]
    version: str | None


def read_database(path: Path, wanted: Iterable[str]) -> Database:
    """Read the wanted zones of a database. Raises ``LoadError``.

    ``path`` is a folder of compiled zones, such as ``/usr/share/zoneinfo``, the package ``tzdata``
    unpacked or as its wheel, or a zip file of either.
    """
    names = sorted(set(wanted))
    try:
        if path.is_dir():
            return _read(path.resolve(), path, names)
        with zipfile.ZipFile(path) as archive:
            return _read(zipfile.Path(archive), path, names)
    except zipfile.BadZipFile:
        raise LoadError(f"'{path}' is no folder, wheel or zip file of time zones") from None
    except OSError as error:
        raise LoadError(f"cannot read '{path}': {error.strerror or error}") from None
    except (RuntimeError, zlib.error, EOFError) as error:
        raise LoadError(f"cannot read '{path}': {error}") from None


def own_version(names: Iterable[str]) -> str | None:
    """Return the version of the database from which this process takes the zones of these names.

    Several are joined: a zone may come from the system, and another from the package ``tzdata``.
    """
    sources = {_source(name) for name in names}
    versions = {each if isinstance(each, str) else _version(each) for each in sources}
    return ", ".join(sorted(each for each in versions if each)) or None


_LARGEST = 1 << 20
_INSIDE = ("", "zoneinfo", "tzdata/zoneinfo", "src/tzdata/zoneinfo")
_IN_SOURCE = re.compile(r"""\A# version (\S+)""")
_ALONE = re.compile(r"\A(\w+)\s*\Z")
_IN_PACKAGE = re.compile(r"""^IANA_VERSION\s*=\s*["'](\w+)["']""", re.MULTILINE)


def _read(base: Folder, path: Path, names: list[str]) -> Database:
    needed = [name for name in names if name not in ALWAYS]
    root = next((each for each in _roots(base) if any(_holds(each, name) for name in needed)), base)
    present = [name for name in names if _holds(root, name)]
    if needed and not present:
        some = ", ".join(f"'{name}'" for name in needed[:3])
        raise LoadError(
            f"'{path}' holds none of the zones that are needed ({some}{', ...' * (len(needed) > 3)}); "
            "name a folder of compiled time zones, a package tzdata, or its wheel"
        )
    zones = {name: ZoneInfo(name) for name in names if name in ALWAYS}
    zones |= {name: _zone(root.joinpath(name), name, path) for name in present}
    missing = tuple(name for name in needed if name not in zones)
    return Database(zones, missing, _version(root))


def _roots(base: Folder) -> Iterator[Folder]:
    """Yield where the zones may be: here, or in a package one level down."""
    folders = sorted((each for each in base.iterdir() if each.is_dir()), key=lambda each: each.name)
    for folder in (base, *folders):
        yield from (folder.joinpath(inside) if inside else folder for inside in _INSIDE)


def _holds(root: Folder, name: str) -> bool:
    return root.joinpath(name).is_file()


def _zone(file: Folder, name: str, path: Path) -> ZoneInfo:
    with file.open("rb") as opened:
        content: bytes = opened.read(_LARGEST)
    zone = zone_from_bytes(content, name)
    if zone is None:
        message = f"'{name}' in '{path}' is no compiled time zone (TZif), or it is damaged"
        raise LoadError(f"{message}; compile it with zic, or fetch it anew")
    return zone


def _version(root: Folder) -> str | None:
    """Return the version that a database tells, as the time-zone database's authors name it."""
    tellers = [(root.joinpath("tzdata.zi"), _IN_SOURCE), (root.joinpath("+VERSION"), _ALONE)]
    parent = root.parent
    if root.name == "zoneinfo" and isinstance(parent, Path | zipfile.Path):
        tellers.append((parent.joinpath("__init__.py"), _IN_PACKAGE))
    for file, pattern in tellers:
        if file.is_file():
            with file.open("rb") as opened:
                found = pattern.search(opened.read(_LARGEST).decode(errors="replace"))
            if found:
                return found[1]
    return None


def _source(name: str) -> Path | str:
    """Return the folder, or the package's version, from which ``zoneinfo`` takes a zone."""
    for folder in map(Path, zoneinfo.TZPATH):
        if (folder / name).is_file():
            return folder
    return str(import_module("tzdata").IANA_VERSION)

"""Find services by ``package.module:attribute``, or in a manifest file."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from purista.cli.tzdatabase import own_version
from purista.contract import near
from purista.errors import ContractError, LoadError
from purista.manifest import Manifest, export_manifest
from purista.service import Service


def load_services(names: Iterable[str]) -> tuple[Service, ...]:
    """Load every named service, each once. Raises ``LoadError`` or ``ContractError``."""
    found: dict[int, Service] = {}
    for name in names:
        for service in load(name):
            found[id(service)] = service
    return tuple(found.values())


def load(name: str) -> tuple[Service, ...]:
    """Load what one name leads to: a service, several in a list or tuple, or a manifest's."""
    if name.endswith(".json"):
        return load_manifest(Path(name)).services()
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise LoadError(
            f"'{name}' is not of the form package.module:attribute; try '{_guess(name)}'"
        )
    return _services(name, _attribute(name, _module(name, module_name), attribute))


def exported(services: Iterable[Service], *, title: str | None = None) -> Manifest:
    """Export services with the version of the time-zone database that is in use here."""
    every = tuple(services)
    zones = {one.timezone for service in every for one in service.schedules.values()}
    return export_manifest(*every, title=title, tzdata=own_version(zones))


def load_manifest(path: Path) -> Manifest:
    """Read a manifest file. Raises ``LoadError`` or ``ManifestError``."""
    try:
        return Manifest.from_json(path.read_bytes())
    except OSError as error:
        raise LoadError(f"cannot read '{path}': {error.strerror or error}") from None


def _guess(name: str) -> str:
    stem = name.removesuffix(".py").strip(":./").replace("/", ".") or "package.module"
    return f"{stem}:service"


def _module(name: str, module_name: str) -> object:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise LoadError(
                f"'{name}': there is no module '{missing}' here or among the installed packages; "
                "run purista in the folder that holds it"
            ) from None
        raise LoadError(f"'{name}': its module needs '{missing}', which is not installed") from None
    except ContractError:
        raise
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}, line {last.lineno}"
        raise LoadError(
            f"'{name}': importing failed: {type(error).__name__}: {error} ({where})"
        ) from None


def _attribute(name: str, module: object, path: str) -> object:
    value = module
    for part in path.split("."):
        if not hasattr(value, part):
            public = [one for one in dir(value) if isinstance(getattr(value, one), Service)]
            hint = near(part, public) if public else f"{_place_of(module)} holds no service"
            raise LoadError(f"'{name}': there is no '{part}'; {hint}")
        value = getattr(value, part)
    return value


def _place_of(module: object) -> str:
    """Return which module was loaded: not always that of the folder, as for a file named queue.py."""
    path = getattr(module, "__file__", None)
    return f"the module ({path})" if path else "it"


def _services(name: str, value: object) -> tuple[Service, ...]:
    if isinstance(value, Service):
        return (value,)
    if isinstance(value, list | tuple | set | frozenset):
        if value and all(isinstance(one, Service) for one in value):
            return tuple(value)
        others = {type(one).__name__ for one in value if not isinstance(one, Service)}
        found = f"holds a {', a '.join(sorted(others))}" if others else "is empty"
        raise LoadError(f"'{name}' {found}; name a Service, or a list of them alone")
    raise LoadError(f"'{name}' is a {type(value).__name__}; name a Service, or a list of them")

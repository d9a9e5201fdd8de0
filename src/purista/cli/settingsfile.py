"""The settings file of a command: ``purista.toml`` of this folder, or another one."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from purista.errors import LoadError, SettingsError
from purista.schedulers import scheduler_names
from purista.schedulers.nats import NatsSettings
from purista.settings import FILE, IngressSettings, read_settings, table_problems

SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", metavar="FILE", help=f"Deployment settings; {FILE} if not said."),
]


def read_document(path: Path | None) -> dict[str, Any]:
    """Read the settings file; without one named, that of this folder, if there is one.

    Raises ``LoadError``, and ``SettingsError`` for tables that mean nothing.
    """
    place = path or Path(FILE)
    try:
        document = tomllib.loads(place.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        if path is None:
            return {}
        raise LoadError(f"there is no settings file '{place}'") from None
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"cannot read '{place}': {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise LoadError(f"'{place}' is no TOML: {error}") from None
    wrong = list(table_problems(document, dict.fromkeys(scheduler_names())))
    if wrong:
        raise SettingsError(wrong)
    return document


def ingress_settings(path: Path | None) -> IngressSettings:
    """Return the table ``[ingress]``. Raises ``LoadError`` or ``SettingsError``."""
    found = read_settings(read_document(path), {})["ingress"]
    assert isinstance(found, IngressSettings)
    return found


def nats_settings(path: Path | None) -> NatsSettings | None:
    """Return the table ``[nats]``, None where there is none. Raises as ``ingress_settings``."""
    document = read_document(path)
    if "nats" not in document:
        return None
    found = read_settings(document, {"nats": NatsSettings})["nats"]
    assert isinstance(found, NatsSettings)
    return found

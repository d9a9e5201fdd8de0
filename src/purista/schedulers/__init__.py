"""The schedulers that purista compiles for, one file each; other packages add theirs by an entry point.

An entry point of the group ``purista.schedulers`` names a value that is a ``purista.compiling.Scheduler``.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from purista.compiling import Scheduler
from purista.contract import near
from purista.errors import LoadError

GROUP: Final = "purista.schedulers"
"""The group of entry points in which other packages name their schedulers."""

BUILT_IN: Final = {
    "cron": "purista.schedulers.cron",
    "systemd": "purista.schedulers.systemd",
    "kubernetes": "purista.schedulers.kubernetes",
    "airflow": "purista.schedulers.airflow",
    "eventbridge": "purista.schedulers.eventbridge",
    "cloud-scheduler": "purista.schedulers.cloud_scheduler",
    "temporal": "purista.schedulers.temporal",
    "nats": "purista.schedulers.nats",
}
"""The module of each scheduler of this package; its ``SCHEDULER`` is the value."""


def scheduler_names() -> tuple[str, ...]:
    """Return the names of all schedulers: this package's in the order of the docs, then others."""
    return (*BUILT_IN, *sorted(set(_entry_points()).difference(BUILT_IN)))


def scheduler_named(name: str) -> Scheduler:
    """Return a scheduler. Raises ``LoadError`` for an unknown name, or one that cannot be loaded."""
    if name in BUILT_IN:
        found: Scheduler = import_module(BUILT_IN[name]).SCHEDULER
        return found
    entry = _entry_points().get(name)
    if entry is None:
        raise LoadError(f"no scheduler '{name}'; {near(name, scheduler_names())}")
    try:
        return _checked(name, entry.load())
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(
            f"scheduler '{name}': '{entry.value}' cannot be loaded: {type(error).__name__}: {error}"
        ) from None


@lru_cache(maxsize=1)
def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _checked(name: str, value: object) -> Scheduler:
    if isinstance(value, type):
        raise LoadError(f"scheduler '{name}': its entry point is a class; name a value of it")
    wanted = [word for word in vars(Scheduler) if not word.startswith("_")]
    missing = [word for word in wanted if not hasattr(value, word)]
    if missing:
        raise LoadError(f"scheduler '{name}': its entry point is none: it has no '{missing[0]}'")
    return value  # type: ignore[return-value]

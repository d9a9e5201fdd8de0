"""What Airflow's own configuration says of its DAG folder: where it is, and which bundle.

https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/dag-bundles.html
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from pathlib import Path
from typing import Any, Final

from purista.sync.port import SyncError

DEFAULT_BUNDLE: Final = "dags-folder"
"""The bundle that the DAG folder is where nothing is said of bundles."""

BUNDLES: Final = "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"


def folder_path() -> Path:
    """Return where the DAG folder is. Raises ``SyncError``."""
    said = _said("core", "dags_folder") or str(_home() / "dags")
    path = Path(os.path.expandvars(said)).expanduser()
    if not path.is_dir():
        raise SyncError(
            f"Airflow: there is no DAG folder '{path}'; set AIRFLOW__CORE__DAGS_FOLDER or AIRFLOW_HOME"
        )
    return path


def bundle_name(folder: Path) -> str:
    """Return the bundle whose path the DAG folder is. Raises ``SyncError``."""
    said = _said("dag_processor", "dag_bundle_config_list")
    if not said:
        return DEFAULT_BUNDLE
    found = next((name for name, path in _bundles(said, folder) if _is_same(path, folder)), None)
    if found is None:
        raise SyncError(
            f"Airflow: its DAG folder '{folder}' is the path of no bundle, so that nothing in it is read; "
            f"set AIRFLOW__CORE__DAGS_FOLDER to the path of one, or {BUNDLES} as Airflow has it"
        )
    return found


def _bundles(said: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the bundles that have a path; that of a ``LocalDagBundle`` is the DAG folder, if none is said."""
    try:
        for each in json.loads(said):
            path = _path(each, folder)
            if path is not None:
                yield str(each["name"]), path
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SyncError(
            f"Airflow: dag_bundle_config_list is no JSON list of bundles; set {BUNDLES}"
        ) from None


def _path(bundle: dict[str, Any], folder: Path) -> Path | None:
    path = (bundle.get("kwargs") or {}).get("path")
    if path is None and bundle["classpath"].endswith(".LocalDagBundle"):
        return folder
    return None if path is None else Path(path)


def _is_same(path: Path, folder: Path) -> bool:
    return path.resolve() == folder.resolve()


def _said(section: str, key: str) -> str | None:
    return os.environ.get(f"AIRFLOW__{section.upper()}__{key.upper()}") or _configured(section, key)


def _configured(section: str, key: str) -> str | None:
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(os.environ.get("AIRFLOW_CONFIG") or _home() / "airflow.cfg", encoding="utf-8")
        return parser.get(section, key, fallback=None)
    except (ConfigError, UnicodeDecodeError, OSError):
        return None


def _home() -> Path:
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()

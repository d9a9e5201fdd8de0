"""Airflow's REST API, as far as a plan needs it.

https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from purista.errors import MissingExtraError
from purista.sync.port import SyncError
from purista.sync.retrying import ATTEMPTS, rest

try:
    import httpx
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for Airflow", "client") from None

TIMEOUT: Final = timedelta(seconds=30)
"""How long one answer may take."""

PAGE: Final = 100

_FOR_NOW: Final = frozenset({429, 500, 502, 503, 504})
_UNAUTHORISED: Final = frozenset({401, 403})
_ABSENT: Final = 404
_ASTRAY: Final = frozenset({301, 302, 303, 307, 308, 404, 405})
"""What a server that is no Airflow answers."""

_TOKEN: Final = "/auth/token"  # noqa: S105 - a path


@asynccontextmanager
async def open_api() -> AsyncIterator[AirflowApi]:
    """Connect as ``airflowctl`` does: ``AIRFLOW_API_URL``, ``AIRFLOW_CLI_TOKEN`` and the like.

    Without a token one is asked for with ``AIRFLOW_API_USERNAME`` and ``AIRFLOW_API_PASSWORD``, or, where
    they are not given either, without credentials. Raises ``SyncError``.
    """
    address = _address()
    async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT.total_seconds()) as http:
        api = AirflowApi(http)
        http.headers["Authorization"] = f"Bearer {await _token(api)}"
        yield api


class AirflowApi:
    """Calls that are tried again where Airflow refuses them for now. All raise ``SyncError``."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._is_reached = False
        path = http.base_url.path.rstrip("/")
        self.place = f"{http.base_url.scheme}://{http.base_url.netloc.decode()}{path}"

    async def dags(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield all DAGs that Airflow has a record of, stale ones too."""
        async for each in self._pages("/dags", "dags", exclude_stale="false", order_by="dag_id"):
            yield each

    async def import_errors(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the files that could not be imported."""
        async for each in self._pages("/importErrors", "import_errors"):
            yield each

    async def dag(self, name: str, more: str = "") -> dict[str, Any] | None:
        """Return what is known of a DAG, None for none; ``more`` is a part of it: ``/details``."""
        found: dict[str, Any] | None = await self.call("GET", f"{_path(name)}{more}", may_miss=True)
        return found

    async def source(self, name: str) -> str:
        """Return the source of a DAG, as Airflow read it last."""
        found = await self.call("GET", f"/api/v2/dagSources/{quote(name, safe='')}", may_miss=True)
        return str((found or {}).get("content") or "")

    async def set_paused(self, name: str, paused: bool) -> bool:
        """Pause a DAG or let it run; return whether there is a record of it."""
        found = await self.call("PATCH", _path(name), {"is_paused": paused}, may_miss=True)
        return found is not None

    async def run(self, name: str, run_id: str) -> None:
        """Make a run of a DAG, once, however often it is asked for."""
        body = {"logical_date": None, "dag_run_id": run_id}
        await self.call("POST", f"{_path(name)}/dagRuns", body, is_made=409)

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        may_miss: bool = False,
        is_made: int = 0,
        query: Mapping[str, str | int] | None = None,
    ) -> Any:
        """Return what is answered; None for what is not there, if it may miss, or is made already."""
        answer = await self._tried(method, path, body, query)
        if answer.is_success:
            return self._read(answer)
        if answer.status_code == is_made or (may_miss and answer.status_code == _ABSENT):
            return None
        if answer.status_code in _UNAUTHORISED or (path == _TOKEN and answer.is_client_error):
            if answer.status_code in _ASTRAY and not await self._is_airflow():
                raise self._astray()
            raise SyncError(
                f"Airflow at {self.place} refuses ({answer.status_code}); set AIRFLOW_CLI_TOKEN, or "
                "AIRFLOW_API_USERNAME and AIRFLOW_API_PASSWORD, of a user who may read and edit DAGs"
            )
        if answer.status_code in _ASTRAY and "detail" not in _object(answer):
            raise self._astray()
        raise SyncError(f"Airflow at {self.place}: {method} {path}: {_said(answer)}")

    def _read(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise self._astray() from None

    async def _is_airflow(self) -> bool:
        """Whether there is an Airflow, which tells its version to anybody."""
        answer = await self._tried("GET", "/api/v2/version", None, None)
        return answer.is_success and "version" in _object(answer)

    def _astray(self) -> SyncError:
        return SyncError(f"at {self.place} is no Airflow API; see AIRFLOW_API_URL")

    async def _pages(
        self, path: str, key: str, **query: str
    ) -> AsyncGenerator[dict[str, Any], None]:
        seen = 0
        while True:
            asked: dict[str, str | int] = {**query, "limit": PAGE, "offset": seen}
            answer = await self.call("GET", f"/api/v2{path}", query=asked, may_miss=True)
            if not isinstance(answer, dict) or not {key, "total_entries"} <= answer.keys():
                raise self._astray()
            for each in answer[key]:
                yield each
            seen += len(answer[key])
            if not answer[key] or seen >= answer["total_entries"]:
                return

    async def _tried(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str | int] | None,
    ) -> httpx.Response:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                answer = await self._http.request(method, path, json=body, params=query)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS or not self._is_reached:
                    raise SyncError(
                        f"Airflow at {self.place} does not answer ({type(error).__name__}); "
                        "AIRFLOW_API_URL says where it is"
                    ) from None
            else:
                self._is_reached = True
                if answer.status_code not in _FOR_NOW or attempt == ATTEMPTS:
                    return answer
            await rest(attempt)
        raise AssertionError


def _path(name: str) -> str:
    return f"/api/v2/dags/{quote(name, safe='')}"


def _address() -> str:
    found = (
        os.environ.get("AIRFLOW_API_URL")
        or _remembered()
        or os.environ.get("AIRFLOW__API__BASE_URL")
    )
    if not found:
        raise SyncError(
            "Airflow: nothing says where its API is; set AIRFLOW_API_URL, such as http://localhost:8080"
        )
    try:
        url = httpx.URL(found.rstrip("/").removesuffix("/api/v2"))
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise SyncError("Airflow: AIRFLOW_API_URL is no address such as http://localhost:8080")
    return str(url)


def _remembered() -> str | None:
    """Return the address that ``airflowctl auth login`` keeps."""
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    name = os.environ.get("AIRFLOW_CLI_ENVIRONMENT") or "production"
    try:
        said = json.loads((home / f"{name}.json").read_text(encoding="utf-8"))
        return str(said["api_url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _token(api: AirflowApi) -> str:
    given = os.environ.get("AIRFLOW_CLI_TOKEN")
    if given:
        return given
    user = os.environ.get("AIRFLOW_API_USERNAME")
    if user:
        body = {"username": user, "password": os.environ.get("AIRFLOW_API_PASSWORD", "")}
        answer = await api.call("POST", _TOKEN, body)
    else:
        answer = await api.call("GET", _TOKEN)
    if not isinstance(answer, dict) or "access_token" not in answer:
        raise SyncError(f"Airflow at {api.place} gives no token; set AIRFLOW_CLI_TOKEN")
    return str(answer["access_token"])


def _object(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one for anything else."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _said(answer: httpx.Response) -> str:
    detail = _object(answer).get("detail")
    return f"{answer.status_code} {detail}" if isinstance(detail, str) else str(answer.status_code)

"""Calls to a Kubernetes API server for the CronJobs of one namespace, over its own client, as JSON.

What fails for now is tried again: a lost connection, 429 (as long as the server asks for), 5xx, and a
creation that met a quota just then (https://github.com/kubernetes/kubernetes/issues/67761).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from purista.errors import MissingExtraError
from purista.sync.port import SyncError
from purista.sync.retrying import ATTEMPTS, rest

try:
    from kubernetes import config
    from kubernetes.client import ApiClient, ApiException, Configuration
    from urllib3.exceptions import HTTPError
    from yaml import YAMLError
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for Kubernetes", "kubernetes") from None

MANAGER: Final = "purista"
"""The name of our field manager."""

PAGE: Final = 500
"""CronJobs that one answer lists, as kubectl asks for."""

TIMEOUT: Final = (5.0, 30.0)
"""Seconds for a connection, and for an answer."""

GONE: Final = 410
TAKEN: Final = 409
MISSING: Final = 404
DENIED: Final = 403
UNAUTHORIZED: Final = 401
MISTAKEN: Final = 400

ALREADY_EXISTS: Final = "AlreadyExists"
"""The reason of a 409 for a name that is taken; that of a version which is none any more is ``Conflict``."""

DRY_RUN: Final = {"dryRun": "All"}
"""What a write is asked with that has no effect."""

APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"
_PLAIN: Final = "application/json"
_FOR_NOW: Final = frozenset({429, 500, 502, 503, 504})
_LACKS_RIGHT: Final = re.compile(r" cannot \w+ resource ")
_RIGHTS: Final = (
    "it needs get, list, create, patch, update and delete of cronjobs, and create of jobs"
)


class Refusal(SyncError):
    """The server said no: the HTTP status, and the reason that it gives with it.

    ``is_sure``: nothing was done, also by a try before, of which there was no answer.
    """

    def __init__(self, code: int, message: str, reason: str = "", *, is_sure: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.is_sure = is_sure


Send = Callable[[Mapping[str, Any], Mapping[str, str]], Awaitable[dict[str, Any]]]
"""A write of a document, with options."""


async def tried(send: Send, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the server would make of a CronJob; the same where a webhook runs in no dry run."""
    try:
        return await send(document, DRY_RUN)
    except Refusal as refusal:
        if refusal.code != MISTAKEN or "dry run" not in str(refusal):
            raise
    return document


def connected() -> ApiClient:
    """Return a client as kubectl has it: by ``KUBECONFIG``, ``~/.kube/config``, else as in a Pod."""
    settings = Configuration()
    try:
        _load(settings)
    except (config.ConfigException, OSError) as error:
        first, *_ = str(error).splitlines() or [""]
        raise SyncError(
            f"no Kubernetes cluster is known: {first[:200]}; set KUBECONFIG as for kubectl"
        ) from None
    except (YAMLError, ValueError, TypeError, AttributeError):
        raise SyncError("the kubeconfig is none; see KUBECONFIG, or ~/.kube/config") from None
    settings.retries = False
    return ApiClient(settings)


def _load(settings: Configuration) -> None:
    given = os.environ.get("KUBECONFIG") or None
    loads: Any = config
    if given is None and not Path("~/.kube/config").expanduser().exists():
        loads.load_incluster_config(client_configuration=settings)
    else:
        loads.load_kube_config(given or "~/.kube/config", client_configuration=settings)


class KubernetesApi:
    """The API server, for one namespace. Raises ``Refusal`` and ``SyncError``."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client: Any = client
        self._namespace = namespace
        url = urlsplit(self._client.configuration.host)
        self._host = f"{url.scheme}://{url.hostname}" + (f":{url.port}" if url.port else "")

    async def check(self) -> None:
        """Raise ``SyncError`` where no server answers; without patience."""
        try:
            code, found, _ = await asyncio.to_thread(
                self._sent, "GET", "/version", {}, None, _PLAIN
            )
        except (HTTPError, OSError):
            raise self._away() from None
        if code not in (UNAUTHORIZED, *_FOR_NOW) and found.keys().isdisjoint(
            {"gitVersion", "kind"}
        ):
            raise self._stranger(code)

    async def listed(self, selector: str) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the CronJobs that have some labels, each once, in pages.

        Where the server forgot the list in its midst (410), it is begun anew.
        """
        seen: set[str] = set()
        for _ in range(ATTEMPTS):
            try:
                async for each in self._pages(selector):
                    if each["metadata"]["name"] not in seen:
                        seen.add(each["metadata"]["name"])
                        yield each
            except Refusal as refusal:
                if refusal.code != GONE:
                    raise
            else:
                return
        raise SyncError(f"Kubernetes at {self._host} forgets lists before they are read; try again")

    async def read(self, name: str) -> dict[str, Any] | None:
        """Return a CronJob; None where there is none."""
        try:
            return await self._call("GET", self._path("cronjobs", name))
        except Refusal as refusal:
            if refusal.code == MISSING:
                return None
            raise

    async def create(
        self,
        kind: str,
        document: Mapping[str, Any],
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Make one of the ``cronjobs`` or ``jobs`` and return it; ``ALREADY_EXISTS`` where its name is taken."""
        query = {"fieldManager": MANAGER, **options}
        return await self._call("POST", self._path(kind), query, document)

    async def apply(
        self,
        name: str,
        document: Mapping[str, Any],
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Apply a CronJob on the server, also over what others manage, and return it."""
        query = {"fieldManager": MANAGER, "force": "true", **options}
        return await self._call("PATCH", self._path("cronjobs", name), query, document, APPLY)

    async def replace(
        self,
        name: str,
        document: Mapping[str, Any],
        options: Mapping[str, str] = MappingProxyType({}),
    ) -> dict[str, Any]:
        """Put a CronJob in place of one, and return it."""
        query = {"fieldManager": MANAGER, **options}
        return await self._call("PUT", self._path("cronjobs", name), query, document)

    async def merge(self, name: str, patch: Mapping[str, Any]) -> None:
        """Change some fields of a CronJob."""
        query = {"fieldManager": MANAGER}
        await self._call("PATCH", self._path("cronjobs", name), query, patch, MERGE)

    async def delete(self, name: str, uid: str, version: str) -> None:
        """Delete a CronJob in a version, and its Jobs after it."""
        options = {
            "preconditions": {"uid": uid, "resourceVersion": version},
            "propagationPolicy": "Background",
        }
        await self._call("DELETE", self._path("cronjobs", name), None, options)

    async def _pages(self, selector: str) -> AsyncGenerator[dict[str, Any], None]:
        query = {"limit": str(PAGE), "labelSelector": selector}
        while True:
            page = await self._call("GET", self._path("cronjobs"), query)
            for each in page.get("items") or ():
                yield each
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return
            query["continue"] = token

    def _path(self, kind: str, name: str = "") -> str:
        return f"/apis/batch/v1/namespaces/{self._namespace}/{kind}" + (f"/{name}" if name else "")

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content: str = _PLAIN,
    ) -> dict[str, Any]:
        is_lost = False
        for attempt in range(1, ATTEMPTS + 1):
            wanted = 0.0
            try:
                code, found, wanted = await asyncio.to_thread(
                    self._sent, method, path, query or {}, body, content
                )
            except (HTTPError, OSError):
                is_lost = True
                if attempt == ATTEMPTS:
                    raise self._away() from None
            else:
                if 200 <= code < 300 and "kind" in found:
                    return found
                if not _is_for_now(method, code, found) or attempt == ATTEMPTS:
                    raise self._refusal(code, found, is_sure=not is_lost)
                is_lost = is_lost or code >= 500
            await rest(attempt, least=wanted)
        raise AssertionError

    def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content: str,
    ) -> tuple[int, dict[str, Any], float]:
        """Send a request once; return the status, the answer, and for how long the server wants peace."""
        headers = {"Accept": _PLAIN, "Content-Type": content}
        try:
            request = self._client.param_serialize(
                method, path, {}, list(query.items()), headers, body, auth_settings=["BearerToken"]
            )
            answer = self._client.call_api(*request, _request_timeout=TIMEOUT)
        except ApiException as error:
            raise SyncError(
                f"Kubernetes at {self._host} has no TLS that is trusted: {str(error.reason)[:200]}; see "
                "server and certificate-authority in the kubeconfig"
            ) from None
        text = answer.read()
        try:
            found = json.loads(text)
        except ValueError:
            found = {}
        seconds = str(answer.headers.get("Retry-After", ""))
        known = found if isinstance(found, dict) else {}
        return answer.status, known, float(seconds) if seconds.isdecimal() else 0.0

    def _refusal(self, code: int, status: Mapping[str, Any], *, is_sure: bool) -> SyncError:
        where = f"Kubernetes at {self._host}, namespace '{self._namespace}'"
        if code == UNAUTHORIZED:
            text = f"{where}: the credentials are not taken; renew them for kubectl"
            return Refusal(code, text, is_sure=is_sure)
        if "kind" not in status and code not in _FOR_NOW:
            return self._stranger(code)
        message = str(status.get("message") or f"HTTP status {code}")[:400]
        remedy = f"; {_RIGHTS}" if _LACKS_RIGHT.search(message) else ""
        return Refusal(
            code,
            f"{where}: {message}{remedy}",
            str(status.get("reason", "")),
            is_sure=is_sure and code < 500,
        )

    def _stranger(self, code: int) -> SyncError:
        return SyncError(
            f"what answers at {self._host} (HTTP status {code}) is no Kubernetes API; see KUBECONFIG, or what is "
            "in between"
        )

    def _away(self) -> SyncError:
        return SyncError(
            f"Kubernetes at {self._host} does not answer; see KUBECONFIG, or whether it is up"
        )


def _is_for_now(method: str, code: int, status: Mapping[str, Any]) -> bool:
    is_of_quota = method == "POST" and (code, status.get("reason")) == (TAKEN, "Conflict")
    return code in _FOR_NOW or is_of_quota

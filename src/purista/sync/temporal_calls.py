"""Calls of Temporal's service, over its SDK: each has a deadline, and is tried again where that helps.

It is found, and its credentials are, as Temporal's own tools find them.
https://docs.temporal.io/develop/environment-configuration
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Final, Protocol, TypeVar

from purista.errors import MissingExtraError
from purista.sync.port import SyncError
from purista.sync.retrying import ATTEMPTS, rest

try:
    from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
    from temporalio.client import Client
    from temporalio.envconfig import ClientConfig, ClientConnectConfig
    from temporalio.service import RPCError, RPCStatusCode
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a plan for Temporal", "temporal") from None

T_co = TypeVar("T_co", covariant=True)

TIMEOUT: Final = timedelta(seconds=10)
"""How long one call may take; that of Temporal's SDK for Go."""

FOR_NOW: Final = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.ABORTED,
        RPCStatusCode.UNKNOWN,
    }
)
"""A connection that is lost in the middle of a call is ``UNKNOWN``, with the text "transport error"; a call
that took too long is ``CANCELLED``, with "Timeout expired"."""

_AWAY: Final = FOR_NOW - {RPCStatusCode.RESOURCE_EXHAUSTED, RPCStatusCode.ABORTED}
_NO_TLS: Final = "InvalidContentType"
"""What the SDK's errors say where something else than TLS answers."""


class Call(Protocol[T_co]):
    """A method of the SDK's ``WorkflowService``."""

    async def __call__(self, req: Any, /, *, timeout: timedelta) -> T_co:
        """Call the service."""


class Refusal(SyncError):
    """What the service answered instead of doing it."""

    def __init__(self, namespace: str, error: RPCError, remedy: str = "") -> None:
        super().__init__(f"Temporal, namespace '{namespace}': {error.message}{remedy}")
        self.status = error.status


class Calls:
    """The calls to one namespace. Where the service does not answer any more, no further one is tried."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.service = client.workflow_service
        self._namespace = namespace
        self._away: Refusal | None = None

    async def made(self, call: Call[T_co], request: Any) -> T_co:
        """Make a call, again where it is refused for now. Raises ``Refusal``."""
        for attempt in range(1, ATTEMPTS + 1):
            if self._away is not None:
                raise self._away
            try:
                return await call(request, timeout=TIMEOUT)
            except RPCError as error:
                if error.status not in FOR_NOW:
                    raise Refusal(self._namespace, error) from None
                refused = error
            if attempt < ATTEMPTS:
                await rest(attempt)
        raise await self._given_up(refused)

    async def _given_up(self, error: RPCError) -> Refusal:
        """Return the refusal of a call; it holds for all others where nothing is answered at all."""
        if error.status not in _AWAY or await self._answers():
            return Refusal(self._namespace, error)
        self._away = Refusal(
            self._namespace, error, "; it does not answer any more: try again later"
        )
        return self._away

    async def _answers(self) -> bool:
        try:
            await self.service.get_system_info(GetSystemInfoRequest(), timeout=TIMEOUT)
        except RPCError:
            return False
        return True


async def connected(namespace: str) -> Client:
    """Connect as Temporal's own tools do. Raises ``SyncError``, also where they would use another namespace."""
    config = _config()
    told = config.get("namespace", namespace)
    if told != namespace:
        raise SyncError(
            f"Temporal: the settings have the namespace '{namespace}', TEMPORAL_NAMESPACE or the profile "
            f"'{told}'; say the same in both"
        )
    config["namespace"] = namespace
    place = config.setdefault("target_host", "localhost:7233")
    try:
        return await Client.connect(**config)
    except (RuntimeError, ValueError, OSError) as error:
        raise SyncError(_unreachable(place, error, config)) from None


def _config() -> ClientConnectConfig:
    try:
        return ClientConfig.load_client_connect_config()
    except (RuntimeError, ValueError, OSError) as error:
        raise SyncError(
            f"Temporal's own settings cannot be read: {_first_line(error)}; mend TEMPORAL_PROFILE, "
            "TEMPORAL_CONFIG_FILE or TEMPORAL_TLS_..., or what they name"
        ) from None


def _unreachable(place: str, error: Exception, config: ClientConnectConfig) -> str:
    if _NO_TLS in str(error):
        return (
            f"Temporal at {place} does not speak TLS, which TEMPORAL_TLS, a certificate and an API key ask "
            "for; set TEMPORAL_ADDRESS to the port that does, or leave them out"
        )
    tls = "" if config.get("tls") else ", or TEMPORAL_TLS=true if it wants TLS"
    quoted = re.findall(r'"([^"]+)"', str(error))
    cause = quoted[-1] if quoted else _first_line(error)
    return (
        f"Temporal at {place} does not answer: {cause}; set TEMPORAL_ADDRESS to HOST:PORT{tls}, or "
        "start it"
    )


def _first_line(error: Exception) -> str:
    """Return what an error says, without the lines of the configuration file that it quotes."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].removeprefix("Failed client connect: ")

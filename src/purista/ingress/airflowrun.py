"""A run that Airflow waits for: where its ingress is, and the trigger that waits in Airflow's triggerer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from purista.ingress.client import IngressClient


class RunEndTrigger(BaseTrigger):  # type: ignore[misc]
    """Waits in Airflow's triggerer until a run is over.

    All it knows is in its arguments, so another triggerer goes on where one was stopped. An ingress that is
    away is asked again for as long as it takes.
    """

    def __init__(self, *, run_id: str, connection: str) -> None:
        super().__init__()
        self.run_id = run_id
        self.connection = connection

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return where the class is, and its arguments."""
        arguments = {"run_id": self.run_id, "connection": self.connection}
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield how the run ended, or why that cannot be told."""
        from purista.errors import IngressError, SettingsError

        while True:
            try:
                status, outcome = await ended(await self._address(), self.run_id)
            except SettingsError as error:
                yield TriggerEvent({"failed": str(error)})
                return
            except IngressError as error:
                if error.retry_after is None:
                    yield TriggerEvent({"failed": str(error)})
                    return
                self.log.warning("run %s: %s", self.run_id, error)
                await asyncio.sleep(max(error.retry_after, 1.0))
            else:
                yield TriggerEvent({"status": status, "outcome": outcome})
                return

    async def on_kill(self) -> None:
        """Cancel the run: a person cleared the task, or marked it as failed or successful."""
        await cancelled(await self._address(), self.run_id)

    async def _address(self) -> Address:
        return address_of(await BaseHook.aget_connection(self.connection))


@dataclass(frozen=True, slots=True)
class Address:
    """Where an ingress is, and the bearer token that opens it."""

    url: str
    token: str | None = field(repr=False)
    plain_http: bool = False

    def client(self) -> IngressClient:
        """Return a client. Raises ``SettingsError``."""
        from purista.ingress.client import IngressClient
        from purista.verifying.secret import Secret

        credentials = None if self.token is None else Secret.inline(self.token)
        return IngressClient(self.url, credentials=credentials, plain_http=self.plain_http)


def address_of(connection: Any) -> Address:
    """Return what an Airflow connection says; ``https`` where it names no schema."""
    host = connection.host or ""
    if "://" not in host:
        host = f"{connection.schema or 'https'}://{host}"
    if connection.port:
        host = f"{host}:{connection.port}"
    extra = json.loads(connection.extra or "{}")
    return Address(host, connection.password, extra.get("plain_http") is True)


async def ended(address: Address, run_id: str) -> tuple[str, str]:
    """Return the status and the outcome of a run, once it is over. Raises ``IngressError``."""
    from purista.clock import SystemClock
    from purista.ingress.runend import run_end

    async with await asyncio.to_thread(address.client) as client:  # It reads certificates.
        end = await run_end(client, run_id, clock=SystemClock())
        return str(end.status), end.outcome


async def cancelled(address: Address, run_id: str) -> bool:
    """Cancel a run; return whether it was active. Raises ``IngressError``."""
    async with await asyncio.to_thread(address.client) as client:
        return await client.cancel(run_id)

"""The client of an ingress behind an address: what another program sends triggers with, over HTTP."""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self, TypeAlias
from urllib.parse import quote, urlsplit

from purista.clock import Clock, SystemClock
from purista.errors import IngressError, MissingExtraError, Problem, SettingsError
from purista.ingress.decision import Decision
from purista.ingress.reply import SOON, Reply
from purista.ledgers import Run
from purista.telemetry import SCHEDULE, telemetry
from purista.trigger import Trigger
from purista.verifying.secret import Secret
from purista.verifying.signatures import Signer

try:
    import httpx
except ModuleNotFoundError:
    raise MissingExtraError("the client of an ingress", "client") from None

Credentials: TypeAlias = str | Secret | Callable[[], str | Awaitable[str]] | Signer
"""A bearer token, by its reference (``env:NAME``, ``file:PATH``), as a ``Secret``, or by what returns it;
or what signs each request."""

TIMEOUT: Final = timedelta(seconds=30)
"""How long a request may take, answer included."""

JSON: Final = {"Content-Type": "application/json"}
CLOUDEVENT: Final = {"Content-Type": "application/cloudevents+json"}


class IngressClient:
    """A ``TriggerIngress`` that is behind ``url``; triggers are posted to ``<url>/triggers``.

    ``credentials`` are asked for each request, so that a rotated secret needs no restart. A bearer token
    travels encrypted or not at all: over ``http://`` to another machine it is refused, unless
    ``plain_http`` says that something else protects the way (a mesh, a tunnel). Redirects are not
    followed, as the credentials are for this address alone. ``transport`` is for tests and special ways.

    Raises ``SettingsError`` for a wrong address and for a secret that is not there or empty. An open
    client belongs to one event loop; close it, or use it with ``async with``.
    """

    def __init__(
        self,
        url: str,
        *,
        credentials: Credentials | None = None,
        timeout: timedelta = TIMEOUT,
        plain_http: bool = False,
        clock: Clock | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._credentials = Secret(credentials) if isinstance(credentials, str) else credentials
        _check(self.url, self._credentials, plain_http=plain_http)
        self._clock: Clock = clock or SystemClock()
        self._telemetry = telemetry()
        self._timeout = timeout.total_seconds()
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=self._timeout,
            headers={"User-Agent": "purista", "Accept": "application/json"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. May be repeated."""
        await self._http.aclose()

    async def accept(self, trigger: Trigger) -> Decision:
        """Send a trigger; return what was decided about it.

        ``retry_after`` and ``cause`` of the decision are those of the answer, ``taken_over`` is not told.
        Raises ``IngressError`` when there is no decision: with ``retry_after`` where sending it again
        can help. It may have been decided all the same when the answer was lost; its redelivery is
        a duplicate then.
        """
        if self._telemetry is None:
            return await self._accept(trigger)
        attributes = {SCHEDULE: trigger.schedule_id, "purista.source": trigger.source}
        with self._telemetry.span(f"send {trigger.schedule_id}", attributes, kind="client"):
            return await self._accept(trigger)

    async def run(self, run_id: str) -> Run | None:
        """Return a run, or None; its ``key`` is empty, as it may hold data. Raises ``IngressError``."""
        reply = await self._ask("GET", _path(run_id))
        if reply.status == 404 and reply.is_problem:
            return None
        if not reply.is_success:
            raise self._refusal(reply)
        try:
            return reply.run()
        except ValueError as error:
            raise self._error(str(error)) from None

    async def cancel(self, run_id: str) -> bool:
        """Cancel an active run; False when it is not active (any more). Raises ``IngressError``."""
        body = json.dumps({"runId": run_id}).encode()  # So that a signature covers which run it is.
        reply = await self._ask("POST", f"{_path(run_id)}/cancel", body, JSON)
        if reply.status == 404 and reply.is_problem:
            return False
        if reply.document is None or not reply.is_success:
            raise self._refusal(reply)
        return bool(reply.document.get("cancelled"))

    async def _accept(self, trigger: Trigger) -> Decision:
        body = json.dumps(trigger.to_cloudevent(), separators=(",", ":")).encode()
        reply = await self._ask("POST", "/triggers", body, CLOUDEVENT)
        try:
            decision = reply.decision(self._clock.now())
        except ValueError as error:
            raise self._error(str(error)) from None
        if decision is None:
            raise self._refusal(reply)
        return decision

    async def _ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request. Raises ``IngressError`` where there is no answer."""
        sent = {**(headers or {}), **self._context(), **await self._proof(body)}
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._http.request(
                    method, f"{self.url}{path}", content=body, headers=sent
                )
        except TimeoutError:
            reason = f"there was no answer within {self._timeout:g} seconds"
        except httpx.HTTPError as error:
            reason = f"it cannot be reached ({type(error).__name__})"
        else:
            return Reply.of(answer.status_code, answer.headers, answer.content)
        raise self._error(reason, retry_after=SOON)

    def _context(self) -> Mapping[str, str]:
        return {} if self._telemetry is None else self._telemetry.carry() or {}

    async def _proof(self, body: bytes) -> Mapping[str, str]:
        """Return the headers that say who sends the request."""
        credentials = self._credentials
        if credentials is None:
            return {}
        try:
            if isinstance(credentials, Signer):
                return credentials.sign(body, secrets.token_hex(16), self._clock.now())
            token = await _token(credentials)
        except SettingsError as error:  # A file that is being replaced is there again soon.
            raise self._error(
                f"the credentials cannot be read: {error}", retry_after=SOON
            ) from None
        if not _TOKEN.fullmatch(token):
            raise self._error("the bearer token is empty, or has characters that no token may have")
        return {"Authorization": f"Bearer {token}"}

    def _refusal(self, reply: Reply) -> IngressError:
        """Return the error that an answer is which does not tell what was asked for."""
        again = reply.again(self._clock.now())
        return self._error(reply.said(), status=reply.status, retry_after=again)

    def _error(
        self, what: str, *, status: int | None = None, retry_after: timedelta | None = None
    ) -> IngressError:
        seconds = None if retry_after is None else retry_after.total_seconds()
        return IngressError(f"ingress {self.url}: {what}", status=status, retry_after=seconds)


_TOKEN: Final = re.compile(r"[!-~]+")
"""What stands behind ``Bearer`` (RFC 6750, section 2.1); anything else could end the header."""


def _check(
    url: str, credentials: Secret | Callable[[], Any] | Signer | None, *, plain_http: bool
) -> None:
    """Refuse an address or a secret that cannot be used. Raises ``SettingsError``."""
    problem = _address_problem(url)
    is_bearer = credentials is not None and not isinstance(credentials, Signer)
    if problem is None and is_bearer and not plain_http and _is_readable(url):
        message = "a bearer token would be sent over plain http, for everyone on the way to read"
        problem = Problem(
            "url", message, "use https, or plain_http=True where the way is protected"
        )
    if problem is not None:
        raise SettingsError([problem.within("ingress client")])
    if isinstance(credentials, Secret):
        credentials.value()


def _address_problem(url: str) -> Problem | None:
    remedy = "give one such as https://triggers.example.com"
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return Problem("url", "it is no address", remedy)
    if not is_address or not url.isprintable() or " " in url:
        return Problem("url", "it is no address", remedy)
    if parts.username is not None or parts.password is not None:
        return Problem("url", "it holds a user or a password", "give them as credentials")
    if parts.query or parts.fragment:
        return Problem("url", "it has a query or a fragment", remedy)
    return None


def _is_readable(url: str) -> bool:
    """Whether what is sent can be read on its way."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


async def _token(credentials: Secret | Callable[[], str | Awaitable[str]]) -> str:
    if isinstance(credentials, Secret):
        return credentials.value()
    found = credentials()
    return await found if inspect.isawaitable(found) else found


def _path(run_id: str) -> str:
    return f"/runs/{quote(run_id, safe='')}"

"""The connection of a NATS bridge: one client that comes back by itself, and what is wrong in words."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from purista.bridges.port import Health
from purista.errors import BridgeClosedError, BridgeError, MissingExtraError

try:
    from nats.aio.client import Client, Server
    from nats.aio.msg import Msg
    from nats.errors import (
        ConnectionClosedError,
        MaxPayloadError,
        NoRespondersError,
        OutboundBufferLimitError,
    )
    from nats.errors import Error as NatsError
except ImportError:  # pragma: no cover - the extra is installed for the tests
    raise MissingExtraError("a bridge to NATS", "nats") from None

logger = logging.getLogger("purista.bridges")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds, at first and at most, before a server that is away is looked for again."""

ATTEMPT_TIME: Final = 2.0
"""Seconds that one request may take before it is sent again."""

CONNECT_TIME: Final = 3.0
"""Seconds that connecting may take; nats-py itself would go on for ever."""

PING_INTERVAL: Final = 5
"""Seconds between two signs of life; a server that owes two is given up."""

Headers = Mapping[str, str]
Listener = Callable[[Client], Awaitable[None]]


class ApiError(BridgeError):
    """JetStream refused a request; ``code`` is its own number for the reason."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class NatsConnection:
    """One client, made when it is first needed; it looks for its server for ever.

    ``url``: ``nats://[user:password@|token@]host[:port]``, several separated by commas, ``tls://``;
    ``?credentials=FILE`` for a file of user credentials. ``timeout`` bounds every call. No message
    tells a password.
    """

    def __init__(self, url: str, *, name: str, timeout: timedelta) -> None:
        self._options, self._place = _options(url)
        self._name = name
        self._timeout = timeout.total_seconds()
        self._client: Client | None = None
        self._connecting: asyncio.Task[Client] | None = None
        self._listeners: set[Listener] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._health = Health("idle", _now())
        self._pauses = 0
        self._fatal: BridgeError | None = None
        self._closed = False

    def __str__(self) -> str:
        return self._place

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._health

    @property
    def is_up(self) -> bool:
        """Whether there is a connection now."""
        return self._client is not None and self._client.is_connected

    def join(self, listener: Listener) -> None:
        """Call ``listener`` with the client each time it is connected again."""
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Call it no more."""
        self._listeners.discard(listener)

    async def connect(self, *, patience: timedelta | None) -> None:
        """Return once the server answers; see ``Connects``."""
        now = asyncio.get_running_loop().time
        end = None if patience is None else now() + patience.total_seconds()
        failures = 0
        while True:
            try:
                client = await self._connected()
                await client.flush(timeout=5)
                return
            except (BridgeError, NatsError, OSError, TimeoutError) as error:
                if self._fatal is not None or isinstance(error, BridgeClosedError):
                    raise
                pause = _pause(failures)
                if end is not None and now() + pause >= end:
                    if isinstance(error, BridgeError):
                        raise
                    raise self.refusal("the server does not answer") from None
            failures += 1
            await asyncio.sleep(pause)

    async def client(self) -> Client:
        """Return a client that is connected. Raises ``BridgeError`` when it is not in time."""
        client = self._client
        if client is not None and client.is_connected:
            return client
        now = asyncio.get_running_loop().time
        end, failures = now() + self._timeout, 0
        while True:
            try:
                client = await self._connected()
                if client.is_connected:
                    return client
                reason = "the server is away"
            except BridgeError as error:
                if self._fatal is not None or self._closed:
                    raise
                reason = str(error)
            if now() >= end:
                raise (
                    self.refusal("the server is away") if "away" in reason else BridgeError(reason)
                )
            failures += 1
            await asyncio.sleep(min(_pause(failures), 0.2))

    async def ask(
        self, subject: str, body: bytes = b"", headers: Headers | None = None, *, seconds: float
    ) -> Msg:
        """Send a request once and return its answer.

        Raises what nats-py raises for nobody answering or an answer that is late, else ``BridgeError``.
        """
        client = await self.client()
        try:
            given = None if headers is None else dict(headers)
            return await client.request(subject, body, timeout=seconds, headers=given)
        except MaxPayloadError:
            raise self._too_large(client, body) from None
        except (ConnectionClosedError, OutboundBufferLimitError):
            raise self.refusal("the connection was lost") from None

    async def published(
        self,
        subject: str,
        body: bytes,
        headers: Headers,
        *,
        missing: Callable[[], Awaitable[None]],
    ) -> dict[str, Any]:
        """Publish to a stream and return its confirmation; try again until the time is over.

        A header ``Nats-Msg-Id`` lets the server keep one of those that it got twice. ``missing`` is
        called when no stream takes the subject. Raises ``ApiError`` for what it refuses.
        """
        now = asyncio.get_running_loop().time
        end, failures = now() + self._timeout, 0
        while True:
            left = end - now()
            try:
                answer = await self.ask(
                    subject, body, headers, seconds=max(min(left, ATTEMPT_TIME), 0.05)
                )
                return self._checked(json.loads(answer.data))
            except NoRespondersError:
                await missing()
                reason = "no stream takes it"
            except (TimeoutError, NatsError):
                reason = "it was not confirmed in time"
            if now() >= end:
                raise self.refusal(f"{reason}, whether it was stored is not known")
            await asyncio.sleep(min(_pause(failures), max(end - now(), 0.01)))
            failures += 1

    async def api(self, subject: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream's interface; try again until the time is over. Raises ``ApiError``."""
        data = b"" if body is None else json.dumps(body).encode()
        now = asyncio.get_running_loop().time
        end, failures = now() + self._timeout, 0
        while True:
            left = max(min(end - now(), ATTEMPT_TIME), 0.05)
            try:
                answer = await self.ask(f"$JS.API.{subject}", data, seconds=left)
                return self._checked(json.loads(answer.data))
            except NoRespondersError:
                reason = "JetStream does not answer; start the server with it (nats-server -js)"
            except (TimeoutError, NatsError):
                reason = "JetStream does not answer in time"
            if now() >= end:
                raise self.refusal(reason)
            await asyncio.sleep(min(_pause(failures), max(end - now(), 0.01)))
            failures += 1

    async def close(self) -> None:
        """Close the connection. May be repeated."""
        self._closed = True
        self._health = Health("closed", _now())
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()

    def refusal(self, text: str) -> BridgeError:
        """Return an error that names the server."""
        return BridgeError(f"NATS at {self._place}: {text}")

    def closed_error(self, what: str) -> BridgeClosedError:
        """Return that nothing new is taken."""
        return BridgeClosedError(
            f"{what}: the bridge to NATS at {self._place} is closed; it takes nothing new"
        )

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        error = answer.get("error")
        if error is not None:
            text = f"NATS at {self._place}: {error.get('description', 'refused')}"
            raise ApiError(text, int(error.get("err_code", 0)))
        return answer

    def _too_large(self, client: Client, body: bytes) -> BridgeError:
        return self.refusal(
            f"a body of {len(body)} bytes is more than the server takes ({client.max_payload} with "
            "headers); raise its max_payload, or send a reference"
        )

    async def _connected(self) -> Client:
        """Return the client, connected or coming back; make it where there is none."""
        client = self._client
        if client is not None and not client.is_closed:
            return client
        if self._closed:
            raise self.closed_error("connection")
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(), name="purista nats")
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Client:
        client = Client()
        try:
            async with asyncio.timeout(CONNECT_TIME):
                await client.connect(
                    **self._options,
                    name=self._name,
                    allow_reconnect=False,
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    ping_interval=PING_INTERVAL,
                    max_outstanding_pings=2,
                    error_cb=self._noted,
                    disconnected_cb=self._lost,
                    reconnected_cb=self._back,
                    closed_cb=self._ended,
                    reconnect_to_server_handler=self._next_server,
                )
        except (NatsError, OSError, TimeoutError, ssl.SSLError) as error:
            raise self._unreached(error) from None
        client.options["allow_reconnect"] = True
        self._client = client
        self._up()
        await self._tell(client)
        return client

    def _unreached(self, error: Exception) -> BridgeError:
        text = str(error).lower()
        if "authorization" in text or "authentication" in text or "nkey" in text:
            self._fatal = self.refusal("it refuses the user; check the address' credentials")
            self._down("refused")
            return self._fatal
        self._down("away")
        return self.refusal("the server is away")

    def _next_server(self, servers: list[Server], _: dict[str, Any]) -> tuple[Server | None, float]:
        """Return the server to try next, and how many seconds to wait before that."""
        delay = 0.0 if self._pauses == 0 else _pause(self._pauses)
        self._pauses += 1
        return min(servers, key=lambda one: one.reconnects), delay

    async def _noted(self, error: Exception) -> None:
        logger.debug("NATS at %s: %s", self._place, type(error).__name__)

    async def _lost(self) -> None:
        if not self._closed:
            self._down("the connection was lost")

    async def _back(self) -> None:
        self._up()
        client = self._client
        if client is not None:
            task = asyncio.create_task(self._tell(client))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ended(self) -> None:
        """The client gave up, which it does when it is refused while it comes back: make another."""
        if self._closed or self._client is None:
            return
        self._client = None
        task = asyncio.create_task(self._make_again())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make_again(self) -> None:
        failures = 0
        while not self._closed:
            self._fatal = None
            try:
                await self._connected()
                return
            except BridgeError:
                failures += 1
                await asyncio.sleep(_pause(failures))

    async def _tell(self, client: Client) -> None:
        for listener in tuple(self._listeners):
            try:
                await listener(client)
            except BridgeError as error:
                logger.warning("NATS at %s: a subscription waits: %s", self._place, error)

    def _up(self) -> None:
        self._pauses = 0
        self._fatal = None
        if self._health.state == "down":
            away = (_now() - self._health.since).total_seconds()
            logger.warning("NATS at %s: it is back after %.1f seconds", self._place, away)
        self._health = Health("up", _now())

    def _down(self, reason: str) -> None:
        if self._health.state != "down":
            logger.warning("NATS at %s: %s; it is looked for", self._place, reason)
            self._health = Health("down", _now(), f"NATS at {self._place}: {reason}")


def _now() -> datetime:
    return datetime.now(UTC)


def _pause(failures: int) -> float:
    longest: float = min(FIRST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - spread


def _options(url: str) -> tuple[dict[str, Any], str]:
    """Return what nats-py takes, and the servers as they may be shown."""
    try:
        first, *others = url.split(",")
        parts = [urlsplit(each if "://" in each else f"nats://{each}") for each in (first, *others)]
        places = [f"{each.hostname}:{each.port or 4222}" for each in parts]
        if not all(each.hostname for each in parts):
            raise ValueError
    except ValueError:
        raise BridgeError(
            "NATS: its address cannot be read; write nats://user:password@host:4222, "
            "percent-encoded where it is odd"
        ) from None
    scheme = parts[0].scheme
    options: dict[str, Any] = {"servers": [f"{scheme}://{place}" for place in places]}
    user, password = parts[0].username, parts[0].password
    if user and password is not None:
        options |= {"user": unquote(user), "password": unquote(password)}
    elif user:
        options["token"] = unquote(user)
    credentials = parse_qs(parts[-1].query).get("credentials")
    if credentials:
        options["user_credentials"] = credentials[0]
    if scheme == "tls":
        options["tls"] = ssl.create_default_context()
    return options, ",".join(places)


__all__ = ["ApiError", "Client", "Msg", "NatsConnection", "NatsError", "NoRespondersError"]

"""The connection of a NATS bridge: one client that comes back by itself, and what is wrong in words."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from purista.bridges.cancelling import cancellable
from purista.bridges.port import Health
from purista.errors import BridgeClosedError, BridgeError, MissingExtraError

try:
    from nats.aio.client import Client, Server
    from nats.aio.msg import Msg
    from nats.errors import (
        ConnectionClosedError,
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

FIRST_WORD: Final = 5.0
"""Seconds that a server may take for its first word."""

PING_INTERVAL: Final = 5
"""Seconds between two signs of life; a server that owes two is given up."""

ENDLESS: Final = 10**6
"""Seconds that stand for no limit, where nats-py wants one."""

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
    ``?credentials=FILE`` for a file of user credentials, ``?nkey=FILE`` for one of a user's seed,
    ``?replicas=N``. ``timeout`` bounds every call. No message tells a password. Raises ``BridgeError``.

    ``replicas``: on how many servers of a cluster the address wants streams; None where it does not say.
    """

    def __init__(self, url: str, *, name: str, timeout: timedelta) -> None:
        self._options, self._place, self.replicas = _options(url)
        self._name = name
        self._timeout = timeout.total_seconds()
        self._client: Client | None = None
        self._connecting: asyncio.Task[Client] | None = None
        self._listeners: set[Listener] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._health = Health("idle", _now())
        self._pauses = 0
        self._ping: asyncio.Task[float | None] | None = None
        self._pinged: Client | None = None
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
                await self._connected()
                if await self.pinged(FIRST_WORD) is None:
                    raise TimeoutError
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

    async def pinged(self, seconds: float) -> float | None:
        """Ping the server; return when the ping that it answered was sent, in the loop's time.

        None when there was no answer within ``seconds``. Calls at the same time share a ping.
        """
        client = self._client
        if client is None or not client.is_connected:
            return None
        if self._ping is None or self._ping.done() or self._pinged is not client:
            self._pinged = client
            self._ping = asyncio.create_task(_pinged(client), name="purista nats ping")
        done, _ = await asyncio.wait([self._ping], timeout=seconds)
        return next(iter(done)).result() if done and not self._ping.cancelled() else None

    async def flushed(self, seconds: float) -> bool:
        """Return whether the server is known to have all that was sent before the call."""
        now = asyncio.get_running_loop().time
        began = now()
        while (left := began + seconds - now()) > 0:
            sent = await self.pinged(left)
            if sent is None:
                return False
            if sent >= began:
                return True
        return False

    async def ask(
        self, subject: str, body: bytes = b"", headers: Headers | None = None, *, seconds: float
    ) -> Msg:
        """Send a request once and return its answer.

        Raises what nats-py raises for nobody answering or an answer that is late, else ``BridgeError``.
        """
        client = await self.client()
        self.refuse_if_too_large(client, body, headers)
        try:
            given = dict(headers) if headers else None
            answer = client.request(subject, body, timeout=seconds, headers=given)
            return await cancellable(answer)
        except (ConnectionClosedError, OutboundBufferLimitError):
            raise self.refusal("the connection was lost") from None

    async def confirmed(
        self, subject: str, body: bytes, headers: Headers, *, seconds: float
    ) -> dict[str, Any]:
        """Publish to a stream once and return its confirmation. Raises as ``ask``, and ``ApiError``."""
        answer = await self.ask(subject, body, headers, seconds=seconds)
        return self._checked(json.loads(answer.data))

    async def published(
        self,
        subject: str,
        body: bytes,
        headers: Headers,
        *,
        missing: Callable[[], Awaitable[None]],
        reserve: int = 0,
    ) -> dict[str, Any]:
        """Publish to a stream and return its confirmation; try again until the time is over.

        A header ``Nats-Msg-Id`` lets the server keep one of those that it got twice. ``missing`` is
        called when no stream takes the subject. ``reserve``: bytes that the server has to take besides,
        for what the message becomes later. Raises ``ApiError`` for what it refuses.
        """
        self.refuse_if_too_large(await self.client(), body, headers, reserve=reserve)
        now = asyncio.get_running_loop().time
        end, failures = now() + self._timeout, 0
        while True:
            left = end - now()
            try:
                seconds = max(min(left, ATTEMPT_TIME), 0.05)
                return await self.confirmed(subject, body, headers, seconds=seconds)
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
        self._drop_ping()

    def _drop_ping(self) -> None:
        """Forget a ping that the connection before this one was to answer."""
        if self._ping is not None:
            self._ping.cancel()
            self._ping = None

    def refuse_if_too_large(
        self, client: Client, body: bytes, headers: Headers | None, *, reserve: int = 0
    ) -> None:
        """Raise ``BridgeError`` for what would make the server cut the connection.

        The server counts headers, nats-py does not.
        """
        beside = size_of(headers) + reserve
        if len(body) + beside > client.max_payload:
            raise self.refusal(
                f"a body of {len(body)} bytes and {beside} for headers are more than the server takes "
                f"({client.max_payload}); raise its max_payload, or send a reference"
            )

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
            await _discard(client)
            raise self._unreached(error) from None
        except Exception as error:
            await _discard(client)
            raise self._unused(error) from None
        client.options["allow_reconnect"] = True
        self._client = client
        self._up()
        await self._tell(client)
        return client

    def _unreached(self, error: Exception) -> BridgeError:
        text = str(error).lower()
        if "authorization" in text or "authentication" in text or "nkey" in text:
            self._fatal = self.refusal("it refuses the user; check the address' credentials")
            self._refused("it refuses the user")
            return self._fatal
        if isinstance(error, ssl.SSLCertVerificationError):
            self._fatal = self.refusal(
                f"its certificate is not trusted ({error.verify_message}); name the file of its authority "
                "in the environment variable SSL_CERT_FILE"
            )
            self._refused("its certificate is not trusted")
            return self._fatal
        self._down("the server is away")
        return self.refusal("the server is away")

    def _unused(self, error: Exception) -> BridgeError:
        """Return that nobody could be asked, as with a seed that is none."""
        kind = type(error).__name__
        self._fatal = self.refusal(f"it cannot be asked ({kind}); check the address' credentials")
        self._refused(f"it cannot be asked ({kind})")
        return self._fatal

    def _next_server(self, servers: list[Server], _: dict[str, Any]) -> tuple[Server | None, float]:
        """Return the server to try next, and how many seconds to wait before that."""
        delay = 0.0 if self._pauses == 0 else _pause(self._pauses)
        self._pauses += 1
        return min(servers, key=lambda one: one.reconnects), delay

    async def _noted(self, error: Exception) -> None:
        logger.debug("NATS at %s: %s", self._place, type(error).__name__)

    async def _lost(self) -> None:
        """The client lost its connection; one that did not get through yet had none."""
        if not self._closed and self._client is not None:
            self._down("the connection was lost")

    async def _back(self) -> None:
        self._up()
        self._drop_ping()
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
            except Exception:
                logger.exception("NATS at %s: a subscription waits", self._place)

    def _up(self) -> None:
        self._pauses = 0
        self._fatal = None
        if self._health.state == "down":
            away = (_now() - self._health.since).total_seconds()
            logger.warning("NATS at %s: it is back after %.1f seconds", self._place, away)
        self._health = Health("up", _now())

    def _refused(self, reason: str) -> None:
        """It is there and takes nobody; whoever asked for the first connection is told by an error."""
        if self._health.state == "up":
            self._down(reason)
        else:
            since = self._health.since if self._health.state == "down" else _now()
            self._health = Health("down", since, f"NATS at {self._place}: {reason}")

    def _down(self, reason: str) -> None:
        if self._health.state != "down":
            logger.warning("NATS at %s: %s; it is looked for", self._place, reason)
            self._health = Health("down", _now(), f"NATS at {self._place}: {reason}")


def size_of(headers: Headers | None) -> int:
    """Return the bytes of headers as they are sent.

    >>> size_of({"a": "1"})
    18
    """
    if not headers:
        return 0
    lines = (len(key.encode()) + len(value.encode()) + 4 for key, value in headers.items())
    return _AROUND + sum(lines)


_AROUND: Final = len(b"NATS/1.0\r\n\r\n")


def _now() -> datetime:
    return datetime.now(UTC)


async def _discard(client: Client) -> None:
    """Close what a client that did not get through left open."""
    try:
        await asyncio.wait_for(client.close(), CONNECT_TIME)
    except (NatsError, OSError, TimeoutError):
        logger.debug("a connection that did not get through was not closed")


async def _pinged(client: Client) -> float | None:
    """Ping, and wait as long as it takes: nats-py breaks when an answer comes that is not awaited."""
    began = asyncio.get_running_loop().time()
    try:
        await client.flush(timeout=ENDLESS)
    except (NatsError, TimeoutError, OSError):
        return None
    return began


def _pause(failures: int) -> float:
    longest: float = min(FIRST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - spread


def _options(url: str) -> tuple[dict[str, Any], str, int | None]:
    """Return what nats-py takes, the servers as they may be shown, and on how many of them streams are wanted."""
    try:
        parts = _parts(url)
        places = [_place(each) for each in parts]
        query = _query(parts[-1].query)
        user, password = parts[0].username, parts[0].password
    except ValueError:
        raise BridgeError(
            "NATS: its address cannot be read; write nats://user:password@host:4222, "
            "percent-encoded where it is odd"
        ) from None
    _refuse_unknown(query)
    scheme = parts[0].scheme
    options: dict[str, Any] = {"servers": [f"{scheme}://{place}" for place in places]}
    if user and password is not None:
        options |= {"user": unquote(user), "password": unquote(password)}
    elif user:
        options["token"] = unquote(user)
    if "credentials" in query:
        options["user_credentials"] = _credentials(query["credentials"][-1])
    if "nkey" in query:
        options["nkeys_seed"] = _nkey(query["nkey"][-1])
    if scheme == "tls":
        options["tls"] = ssl.create_default_context()
    replicas = _replicas(query["replicas"][-1]) if "replicas" in query else None
    return options, ",".join(places), replicas


def _parts(url: str) -> list[SplitResult]:
    """Return the servers of an address; all have the scheme of the first. Raises ``ValueError``."""
    first, *others = url.split(",")
    scheme = first.split("://")[0] if "://" in first else "nats"
    parts = [urlsplit(each if "://" in each else f"{scheme}://{each}") for each in (first, *others)]
    for each in parts:
        is_odd = each.scheme != parts[0].scheme or each.path not in ("", "/") or each.fragment
        if is_odd or (each.query and each is not parts[-1]):
            raise ValueError
    return parts


def _query(text: str) -> dict[str, list[str]]:
    return parse_qs(text, keep_blank_values=True, strict_parsing=True) if text else {}


def _place(part: SplitResult) -> str:
    if not part.hostname:
        raise ValueError
    host = f"[{part.hostname}]" if ":" in part.hostname else part.hostname
    return f"{host}:{part.port or 4222}"


def _refuse_unknown(query: Mapping[str, Any]) -> None:
    if set(query) - {"credentials", "nkey", "replicas"}:
        raise BridgeError(
            "NATS: its address has an option that is none; there are credentials=FILE, nkey=FILE and "
            "replicas=N; tls:// instead of nats:// asks for TLS"
        )


def _replicas(text: str) -> int:
    if text not in ("1", "2", "3", "4", "5"):
        raise BridgeError(
            "NATS: replicas in its address is no number from 1 to 5; write replicas=3"
        )
    return int(text)


def _credentials(path: str) -> str:
    """Return the path of a file of user credentials that can be used. Raises ``BridgeError``."""
    place = f"NATS: the credentials in '{path}'"
    try:
        text = Path(path).read_text()
    except (OSError, ValueError) as error:
        raise BridgeError(
            f"{place} cannot be read ({type(error).__name__}); name a file in ?credentials=FILE"
        ) from None
    if not all(f"BEGIN {part}-" in text for part in ("NATS USER JWT", "USER NKEY SEED")):
        raise BridgeError(
            f"{place} are none; name the file that 'nsc generate creds' makes, with a JWT and a seed"
        )
    if find_spec("nkeys") is None:
        raise MissingExtraError("a file of credentials for NATS", "nats")
    return path


def _nkey(path: str) -> str:
    """Return the path of a file with a user's seed that can be used. Raises ``BridgeError``."""
    place = f"NATS: the nkey in '{path}'"
    try:
        seed = bytearray(Path(path).read_bytes().strip())
    except OSError as error:
        raise BridgeError(
            f"{place} cannot be read ({type(error).__name__}); name a file in ?nkey=FILE"
        ) from None
    if find_spec("nkeys") is None:
        raise MissingExtraError("an nkey for NATS", "nats")
    from nkeys import NkeysError, from_seed  # type: ignore[import-untyped]

    try:
        from_seed(seed).wipe()
    except (NkeysError, ValueError, IndexError):
        raise BridgeError(
            f"{place} is none; name the file of a seed, as 'nk -gen user' makes"
        ) from None
    return path


__all__ = ["ApiError", "Client", "Msg", "NatsConnection", "NatsError", "NoRespondersError"]

"""A connection to RabbitMQ: looked for while it is away, watched while it is there.

On aiormq, the client that aio-pika stands on: what aio-pika adds declares again what it remembers, and says
neither how the server is nor that a user was refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import aiormq
from aiormq import Channel
from aiormq.abc import AbstractConnection
from yarl import URL

from purista.bridges.cancelling import cancellable
from purista.bridges.port import Health
from purista.errors import BridgeClosedError, BridgeError

logger = logging.getLogger("purista.bridges")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds, at first and at most, before a server that is away is looked for again."""

STEADY: Final = 5.0
"""Seconds after which a connection that came back counts as one that stays."""

CONNECT_TIME: Final = 5.0
"""Seconds that connecting may take until the server knows who it is."""

PROBE: Final = 5.0
"""Seconds between two questions whether the server is there, and that an answer may take."""

TICK: Final = 0.25
"""Seconds after which a connection looks whether its process stood still."""

PARTING: Final = 2.0
"""Seconds that a last word may take."""

PORTS: Final = {"amqp": 5672, "amqps": 5671}

REFUSED: Final = frozenset({402, 403, 530})
"""Reply codes for which waiting is no use: no such virtual host, or no right to it."""

T = TypeVar("T")

Failure = (aiormq.AMQPError, aiormq.ChannelInvalidStateError, OSError, EOFError)
"""What aiormq raises when a step could not be taken."""


class Lost(Exception):
    """The connection or the channel was lost during a step; whether it was taken is not known."""


class Address(NamedTuple):
    """Where the server is, one of several, and who asks. ``name`` shows no password."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    user: str
    password: str
    vhost: str
    cafile: str | None

    @property
    def name(self) -> str:
        """Return the servers as they may be shown."""
        places = ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        return places if self.vhost == "/" else f"{places}/{self.vhost}"

    @classmethod
    def of(cls, url: str) -> Address:
        """Read ``amqp[s]://user:password@host[:port][,host...][/vhost][?cafile=FILE]``."""
        try:
            address = cls._read(url)
        except (KeyError, ValueError):
            raise BridgeError(
                "RabbitMQ: its address cannot be read; write amqp://user:password@host:5672/vhost, "
                "percent-encoded where it is odd"
            ) from None
        if address.cafile is not None:
            _refuse_unless_certificates(address)
        return address

    @classmethod
    def _read(cls, url: str) -> Address:
        parts = urlsplit(url)
        credentials, _, places = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        hosts = tuple(_place(place, PORTS[parts.scheme]) for place in places.split(","))
        query = parse_qs(parts.query, strict_parsing=bool(parts.query))
        vhost = parts.path[1:]
        if set(query) - {"cafile"} or "/" in vhost or parts.fragment:
            raise ValueError
        return cls(
            parts.scheme,
            hosts,
            unquote(user) or "guest",
            unquote(password) if credentials else "guest",
            unquote(vhost) or "/",
            query.get("cafile", [None])[0],
        )


class RabbitMQConnection:
    """One connection, made when it is first needed, and made again for ever.

    ``heartbeat``: seconds; after two to three of them without a sign of life the server gives this
    process up. ``probes``: also ask whether the server is there, where nothing else would show it, and drop
    the connection when this process stood still so long that the server may have. Raises ``BridgeError``, which never tells a password.
    """

    def __init__(self, address: Address, *, name: str, heartbeat: int, probes: bool) -> None:
        self.address = address
        self._name = name
        self._heartbeat = heartbeat
        self._probes = probes
        self._health = Health("idle", _now())
        self._connection: aiormq.Connection | None = None
        self._changed = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._attempts = 0
        self._failures = 0
        self._refusal: BridgeError | None = None
        self._away = "it cannot be reached"
        self._was_up = False
        self._ticking: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._health

    def has(self, connection: object) -> bool:
        """Whether that is the connection now."""
        return self._connection is connection

    async def live(self, *, until: float | None = None) -> aiormq.Connection:
        """Return the connection once it is there.

        Raises ``BridgeError`` when it is not by ``until`` (the loop's time; None: wait for ever), or at
        once when the server refuses this user.
        """
        while True:
            connection = self._connection
            if connection is not None and not connection.is_closed:
                return connection
            if self._is_closed:
                raise self.closed_error("connection")
            self._look()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                raise self.away() from None
            if self._refusal is not None:
                raise self._refusal

    async def tried(self) -> None:
        """Return once it is there; raise ``BridgeError`` when the next attempt fails."""
        attempts = self._attempts
        while self._connection is None or self._connection.is_closed:
            if self._is_closed:
                raise self.closed_error("connection")
            if self._attempts > attempts:
                raise self._refusal or self.away()
            self._look()
            await self._changed.wait()

    async def close(self) -> None:
        """Close the connection. May be repeated."""
        self._is_closed = True
        self._health = Health("closed", _now())
        self._changed.set()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    def refusal(self, text: str) -> BridgeError:
        """Return an error that names the server."""
        return BridgeError(f"RabbitMQ at {self.address.name}: {text}")

    def away(self) -> BridgeError:
        """Return that the server is away, and how that shows."""
        return self.refusal(self._away)

    def closed_error(self, place: str) -> BridgeClosedError:
        """Return that nothing new is taken."""
        return BridgeClosedError(
            f"{place}: the bridge to RabbitMQ at {self.address.name} is closed; it takes nothing new"
        )

    def _look(self) -> None:
        """Look for the server, unless that is going on."""
        self._changed.clear()
        if self._keeping is None or self._keeping.done():
            self._refusal = None
            self._keeping = asyncio.create_task(self._keep(), name="purista rabbitmq")

    async def _keep(self) -> None:
        """Connect, stay until the connection is lost, and begin anew."""
        loop = asyncio.get_running_loop()
        while not self._is_closed:
            try:
                connection, transport = await self._open()
            except BridgeError as error:
                self._attempts += 1
                self._changed.set()
                if not self._was_up:
                    self._refusal = error
                    return
                self._down("it refuses the user or the virtual host")
            except Exception as error:
                if not isinstance(error, (*Failure, TimeoutError, Lost)):
                    logger.exception("RabbitMQ at %s: connecting failed", self.address.name)
                self._attempts += 1
                self._changed.set()
                self._away = f"it cannot be reached ({type(error).__name__})"
                self._down(self._away)
            else:
                began = loop.time()
                self._up(connection)
                await self._stay(connection, transport)
                self._connection = None
                if loop.time() - began > STEADY:
                    self._failures = 0
                self._down("the connection was lost")
            await asyncio.sleep(pause(self._failures))
            self._failures += 1

    async def _open(self) -> tuple[aiormq.Connection, _Transport]:
        """Connect once. Raises ``BridgeError`` when the server refuses, else what aiormq raises."""
        async with asyncio.timeout(CONNECT_TIME):
            host, port = self.address.hosts[self._attempts % len(self.address.hosts)]
            transport = await self._transport(host, port)
            url = URL.build(
                scheme="amqp",
                host=host,
                port=port,
                user=self.address.user,
                password=self.address.password,
                query={"heartbeat": str(self._heartbeat), "name": self._name},
            )
            connection = aiormq.Connection(url, transport_factory=transport)
            connection.vhost = self.address.vhost
            try:
                await step(connection.connect())
            except BaseException as error:
                transport.abort()
                raise self._unless_refused(error) from None
            return connection, transport

    async def _transport(self, host: str, port: int) -> _Transport:
        context = None
        if self.address.scheme == "amqps":
            cafile = self.address.cafile
            context = await asyncio.to_thread(ssl.create_default_context, cafile=cafile)
        loop = asyncio.get_running_loop()
        reader = _Reader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, host, port, ssl=context)
        return _Transport(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    def _unless_refused(self, error: BaseException) -> BaseException:
        if isinstance(error, aiormq.ProbableAuthenticationError | aiormq.AuthenticationError):
            return self.refusal("it refuses the user; check the address' user and password")
        is_closed = isinstance(error, aiormq.ConnectionClosed) and error.args[:1]
        if (is_closed and error.args[0] in REFUSED) or _closes(error):
            return self.refusal(
                f"it refuses the virtual host '{self.address.vhost}'; check that it is there and that "
                "the user has a right to it"
            )
        return error

    async def _stay(self, connection: aiormq.Connection, transport: _Transport) -> None:
        """Return when the connection is lost; close it when this is cancelled."""
        closing = connection.closing
        if self._probes:
            self._watch(transport)
        try:
            while not closing.done():
                await asyncio.wait([closing], timeout=PROBE if self._probes else None)
                if not closing.done() and not await self._is_there(connection, transport.reader):
                    logger.debug("RabbitMQ at %s: no answer in time", self.address.name)
                    transport.abort()
                    await asyncio.wait([closing], timeout=PROBE)
                    return
        except asyncio.CancelledError:
            await _close(connection)
            raise
        finally:
            if self._ticking is not None:
                self._ticking.cancel()
            transport.abort()

    def _watch(self, transport: _Transport) -> None:
        """Look whether the process stood still, which it notices by a timer that is late.

        What the server sent by then and nobody has read can be another's by now.
        """
        loop = asyncio.get_running_loop()
        self._ticking = loop.call_later(TICK, self._tick, transport, loop.time() + TICK)

    def _tick(self, transport: _Transport, due: float) -> None:
        late = asyncio.get_running_loop().time() - due
        if late > 2 * self._heartbeat - max(1, self._heartbeat // 2) - TICK:
            logger.warning(
                "RabbitMQ at %s: the process stood still for %.1f seconds", self.address.name, late
            )
            self._connection = None
            transport.abort()
        else:
            self._watch(transport)

    async def _is_there(self, connection: aiormq.Connection, reader: _Reader) -> bool:
        """Whether anything came a moment ago, or comes now that the server is asked."""
        began = asyncio.get_running_loop().time()
        if reader.heard > began - PROBE:
            return True
        try:
            async with asyncio.timeout(PROBE), own_channel(connection):
                return True
        except (*Failure, Lost, TimeoutError):
            return reader.heard > began

    def _up(self, connection: aiormq.Connection) -> None:
        self._connection = connection
        self._was_up = True
        if self._health.state == "down":
            away = (_now() - self._health.since).total_seconds()
            logger.warning("RabbitMQ at %s: it is back after %.1f seconds", self.address.name, away)
        self._health = Health("up", _now())
        self._changed.set()

    def _down(self, reason: str) -> None:
        if self._is_closed:
            return
        text = f"RabbitMQ at {self.address.name}: {reason}"
        if self._health.state == "down":
            self._health = self._health._replace(reason=text)
        else:
            logger.warning("%s; it is looked for", text)
            self._health = Health("down", _now(), text)


class _Reader(asyncio.StreamReader):
    """Knows when something came; ``heard`` is in the loop's time."""

    heard = 0.0

    def feed_data(self, data: Any) -> None:
        """Take what came."""
        self.heard = asyncio.get_running_loop().time()
        super().feed_data(data)


class _Transport(aiormq.TransportFactory):
    """Gives aiormq a connection that is there already: only who opened it can cut it off."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self._writer = writer

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return both ends."""
        return self.reader, self._writer

    def abort(self) -> None:
        """Cut it off; harmless when it is."""
        self._writer.transport.abort()


async def opened(connection: AbstractConnection, *, confirms: bool = False) -> Channel:
    """Open a channel. Raises ``Lost`` on a connection that was closed meanwhile, and what aiormq raises."""
    try:
        channel = await step(connection.channel(publisher_confirms=confirms))
    except RuntimeError:
        raise Lost from None
    assert isinstance(channel, Channel)
    return channel


@contextlib.asynccontextmanager
async def own_channel(connection: AbstractConnection) -> AsyncIterator[Channel]:
    """Open a channel for the block."""
    channel = await opened(connection)
    try:
        yield channel
    finally:
        await part(channel)


async def step(work: Awaitable[T]) -> T:
    """Await a step of aiormq. Raises ``Lost`` where it would raise ``CancelledError`` for a loss.

    aiormq cancels what waits on a channel that closes, which is not this task being cancelled.
    """
    try:
        return await cancellable(work)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Lost from None


async def part(channel: Channel) -> None:
    """Close a channel, in time."""
    try:
        async with asyncio.timeout(PARTING):
            await step(channel.close())
    except (*Failure, Lost, TimeoutError):
        logger.debug("a channel was lost before it was closed")


def pause(failures: int) -> float:
    """Return the seconds to wait after so many failures."""
    longest: float = min(FIRST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - spread


async def _close(connection: aiormq.Connection) -> None:
    try:
        async with asyncio.timeout(PARTING):
            await step(connection.close())
    except (*Failure, Lost, TimeoutError):
        logger.debug("a connection was lost before it was closed")


def _closes(error: BaseException) -> bool:
    """Whether the server closed the connection when its virtual host was to be opened.

    aiormq takes that for a frame that it does not expect there.
    """
    return isinstance(error, aiormq.InvalidFrameError) and "Connection.Close" in str(error)


def _refuse_unless_certificates(address: Address) -> None:
    """Raise ``BridgeError`` for a file of certificates that is none, or that nobody would use."""
    if address.scheme != "amqps":
        raise BridgeError(
            "RabbitMQ: its address names certificates and asks for no TLS; write amqps:// for amqp://, "
            "or leave out cafile"
        )
    try:
        ssl.create_default_context(cafile=address.cafile)
    except OSError as error:
        raise BridgeError(
            f"RabbitMQ: the certificates in '{address.cafile}' cannot be read "
            f"({type(error).__name__}); name a file with those of its authority in ?cafile=FILE"
        ) from None


def _place(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path or parts.username:
        raise ValueError
    return parts.hostname, parts.port or port


def _now() -> datetime:
    return datetime.now(UTC)

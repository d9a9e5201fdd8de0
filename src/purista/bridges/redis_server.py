"""The server of a Redis bridge: asked until it answers, looked for while it is away."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from redis import exceptions
from redis.asyncio.connection import AbstractConnection as Connection

from purista.bridges.port import Health
from purista.bridges.redis_errors import bare, explanation, is_lasting
from purista.bridges.redis_line import RedisLine, Value
from purista.errors import BridgeClosedError, BridgeError
from purista.redisstore.address import Address
from purista.redisstore.script import Script

logger = logging.getLogger("purista.bridges")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds, at first and at most, before a server that is away is looked for again."""

STEADY: Final = 5.0
"""Seconds after which a server that came back counts as one that stays."""

ANSWER_TIME: Final = 5.0
"""Seconds that one answer may take at most; then the connection is given up."""

PARTING: Final = 1.0
"""Seconds that a step may take which only spares others a wait."""

CONNECT_TIME: Final = 2.0
"""Seconds that a connection may take until the server knows who it is."""

OLDEST: Final = (6, 2)
"""The first version of Redis that has what the scripts use (``XADD ... MINID``, ``XPENDING ... IDLE``)."""

_VERSION = re.compile(rb"redis_version:(\d+)\.(\d+)")

Failure = (exceptions.RedisError, OSError)
"""What redis-py raises when a step could not be taken."""


class Answer(NamedTuple):
    """What a script answered, and whether it was sent for the first time then."""

    value: Any
    is_first: bool


class NoGroupError(BridgeError):
    """The server does not know the subscriber: it lost what it had."""


class RedisServer:
    """One server, as one bridge uses it, in one event loop.

    ``timeout`` bounds a step, with all the times that it is sent. Raises ``BridgeError``, which never
    tells a password.
    """

    def __init__(self, url: str, *, timeout: timedelta) -> None:
        try:
            address = Address.of(url)
            self._make = _connections(address)
        except ValueError as error:
            raise BridgeError(f"Redis: {error}") from None
        self.name = address.name
        self.timeout = timeout.total_seconds()
        self._line: RedisLine | None = None
        self._health = Health("idle", _now())
        self._is_up = asyncio.Event()
        self._is_up.set()
        self._up_since = 0.0
        self._was_down = False
        self._failures = 0
        self._looking: asyncio.Task[None] | None = None
        self._is_checked = False
        self._is_closed = False

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._health

    @property
    def parting(self) -> float:
        """How many seconds a last word may take; none when nobody hears it."""
        return PARTING if self._is_up.is_set() else 0.0

    @property
    def is_just_back(self) -> bool:
        """Whether it came back a moment ago, so that others may still be on their way."""
        return self._was_down and asyncio.get_running_loop().time() - self._up_since < STEADY

    async def connect(self, *, patience: timedelta | None) -> None:
        """Return once the server answers; see ``Connects``."""
        now = asyncio.get_running_loop().time
        end = None if patience is None else now() + patience.total_seconds()
        failures = 0
        while True:
            try:
                await self._check()
                return
            except Failure as error:
                failures += 1
                pause = _pause(failures)
                if is_lasting(error) or (end is not None and now() + pause >= end):
                    raise self._refused(error) from None
            await asyncio.sleep(pause)

    async def run(
        self, script: Script, keys: Sequence[bytes], *values: Value, within: float | None = None
    ) -> Answer:
        """Run a script; send it again while the server is away, until the time is over.

        It has to be one that may be run again.
        """
        end = asyncio.get_running_loop().time() + (self.timeout if within is None else within)
        command = ("EVALSHA", script.digest, len(keys), *keys, *values)
        is_first = True
        while True:
            try:
                return Answer(await self._asked_by(end, command), is_first)
            except exceptions.NoScriptError:
                command = ("EVAL", script.text, len(keys), *keys, *values)
            except TimeoutError:
                raise self.refusal(
                    "it did not answer in time; whether it took the step is not known"
                ) from None
            except Failure as error:
                is_first = is_first and isinstance(error, exceptions.ResponseError)
                await self._again_or_raise(bare(error), end)

    async def ask(self, *command: Value, within: float | None = None) -> Any:
        """Send one command that may be sent again; see ``run``."""
        end = asyncio.get_running_loop().time() + (self.timeout if within is None else within)
        while True:
            try:
                return await self._asked_by(end, command)
            except TimeoutError:
                raise self.refusal("it did not answer in time") from None
            except Failure as error:
                await self._again_or_raise(error, end)

    async def open(self) -> Connection:
        """Return a connection of its own, for whoever waits on it. Raises what redis-py raises.

        Its answers may take as long as they want.
        """
        connection = self._make()
        try:
            async with asyncio.timeout(CONNECT_TIME):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise exceptions.TimeoutError("no connection in time") from None
            raise
        return connection

    def lost(self, error: Exception) -> None:
        """A connection broke, or could not be made: look for the server until it is there."""
        if self._is_closed or self._health.state == "down":
            return
        loop = asyncio.get_running_loop()
        if loop.time() - self._up_since > STEADY:
            self._failures = 0
        reason = f"Redis at {self.name}: {explanation(error)}"
        self._health = Health("down", _now(), reason)
        self._is_up.clear()
        if self._failures == 0:
            logger.warning("%s; it is looked for", reason)
        self._looking = loop.create_task(self._look(), name="purista redis events")

    async def back(self) -> None:
        """Return once the server is not known to be away."""
        await self._is_up.wait()

    async def close(self) -> None:
        """Close the connections. May be repeated."""
        self._is_closed = True
        self._health = Health("closed", _now())
        self._is_up.set()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        line, self._line = self._line, None
        if line is not None:
            await line.close()

    def refusal(self, text: str) -> BridgeError:
        """Return an error that names the server."""
        return BridgeError(f"Redis at {self.name}: {text}")

    def closed_error(self, place: str) -> BridgeClosedError:
        """Return that nothing new is taken."""
        return BridgeClosedError(
            f"{place}: the bridge to Redis at {self.name} is closed; it takes nothing new"
        )

    async def _asked_by(self, end: float, command: Sequence[Value]) -> Any:
        if self._is_closed:
            raise self.closed_error("step")
        if not self._is_up.is_set():
            async with asyncio.timeout_at(end):
                await self._is_up.wait()
        if not self._is_checked:
            await self._check()
        line = self._asking()
        if end - asyncio.get_running_loop().time() > line.silence:  # it is given up before that
            answer = await line.ask(command)
        else:
            async with asyncio.timeout_at(end):
                answer = await line.ask(command)
        self._heard()
        return answer

    async def _again_or_raise(self, error: Exception, end: float) -> None:
        """Wait until it makes sense to send a step again; raise when it does not, or not in time."""
        if isinstance(error, exceptions.ResponseError) and "NOGROUP" in str(error):
            raise NoGroupError(f"Redis at {self.name}: it lost its subscribers") from None
        if is_lasting(error):
            raise self._refused(error) from None
        if isinstance(error, exceptions.ResponseError):  # a replica that is about to be the primary
            pause = LONGEST_PAUSE / 10
        else:
            self.lost(error)
            pause = 0.0
        if asyncio.get_running_loop().time() + pause >= end:
            raise self._refused(error) from None
        await asyncio.sleep(pause)
        try:
            async with asyncio.timeout_at(end):
                await self._is_up.wait()
        except TimeoutError:
            raise self._refused(error) from None

    def _asking(self) -> RedisLine:
        if self._line is None:
            self._line = RedisLine(self.open, silence=min(self.timeout, ANSWER_TIME))
        return self._line

    async def _check(self) -> None:
        """Refuse a server that is too old; this is also the sign that it is there."""
        try:
            info = await self._asking().ask(("INFO", "server"))
        except exceptions.NoPermissionError:
            info = await self._asking().ask(("PING",))
        if isinstance(info, dict):
            version = str(info.get("redis_version", "99"))
            if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
                raise self.refusal(
                    f"it is of version {version}; this needs 6.2 or later, or Valkey"
                )
        self._is_checked = True
        self._heard()

    def _heard(self) -> None:
        """It answered."""
        if self._health.state == "idle":
            self._health = Health("up", _now())

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_pause(self._failures))
            self._failures += 1
            try:
                await self._asking().ask(("PING",))
            except Failure as error:
                self._health = self._health._replace(
                    reason=f"Redis at {self.name}: {explanation(error)}"
                )
                continue
            except Exception:
                logger.exception("Redis at %s: looking for it failed", self.name)
                continue
            break
        away = (_now() - self._health.since).total_seconds()
        logger.warning("Redis at %s: it is back after %.1f seconds", self.name, away)
        self._health = Health("up", _now())
        self._up_since = asyncio.get_running_loop().time()
        self._was_down = True
        self._is_up.set()

    def _refused(self, error: Exception) -> BridgeError:
        if isinstance(error, BridgeError):
            return error
        return self.refusal(explanation(error))


def _connections(address: Address) -> Callable[[], Connection]:
    """Return what makes a connection that is not open yet; its answers may take their time."""
    pool = address.pool(most=1, timeout=timedelta(seconds=CONNECT_TIME))
    kind, options = pool.connection_class, {**pool.connection_kwargs, "socket_timeout": None}
    return lambda: kind(**options)


def _pause(failures: int) -> float:
    longest: float = min(FIRST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311 - spread


def _now() -> datetime:
    return datetime.now(UTC)

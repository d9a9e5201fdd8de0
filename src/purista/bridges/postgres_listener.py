"""The server of a PostgreSQL queue bridge: whether it is there, and what it tells of new jobs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

import psycopg

from purista.bridges.port import Health
from purista.bridges.postgres_schema import CHANNEL
from purista.postgres.connections import Connection, Connections, Rows, Work, is_away

logger = logging.getLogger("purista.bridges")

T = TypeVar("T")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds, at first and at most, before a step is tried again, or a server that is away looked for."""

LOOK_TIME: Final = 3.0
"""Seconds that a look for the server may take."""

LISTENS_FOR: Final = 5.0
"""Seconds for which is listened when nobody waits any more."""

PARTING: Final = timedelta(seconds=2)
"""How long what is at work may take when the bridge is closed, while the server answers."""

Failure = (psycopg.Error, TimeoutError)
"""What a step raises that could not be taken; see ``is_away``."""


class Server:
    """The database as one bridge uses it: asked until it answers, looked for while it is away.

    ``place`` names it in logs. ``timeout`` bounds a step with all the times that it is tried.
    ``returned`` is called each time the server is back. Raises ``BridgeError``, which never tells a
    password.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        place: str,
        timeout: timedelta,
        returned: Callable[[], None],
    ) -> None:
        self._connections = connections
        self._place = place
        self._timeout = timeout.total_seconds()
        self._returned = returned
        self._health = Health("idle", _now())
        self._is_there = asyncio.Event()
        self._is_there.set()
        self._error: Exception = TimeoutError()
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def health(self) -> Health:
        """How the server was when it was last heard of."""
        return self._health

    @property
    def is_there(self) -> bool:
        """Whether it is not known to be away."""
        return self._is_there.is_set()

    @property
    def parting(self) -> timedelta:
        """How long a last word may take; none when nobody hears it."""
        return PARTING if self.is_there else timedelta(0)

    async def back(self) -> None:
        """Return once the server is not known to be away."""
        await self._is_there.wait()

    async def connect(self, *, patience: timedelta | None) -> None:
        """Return once the server answers; see ``Connects``."""
        now = asyncio.get_running_loop().time
        end = None if patience is None else now() + patience.total_seconds()
        failures = 0
        while True:
            try:
                await self._connections.attempt(_asked, end=now() + min(self._timeout, LOOK_TIME))
            except Failure as error:
                if not is_away(error):
                    raise self.explained(error) from None
                self._missed(error)
                pause = pause_after(failures)
                if end is not None and now() + pause >= end:
                    raise self.explained(error) from None
            else:
                self._heard()
                return
            failures += 1
            await asyncio.sleep(pause)

    async def run(
        self, statement: bytes, values: Sequence[object], *, check: Callable[[], None]
    ) -> Rows:
        """Run a statement until the server has confirmed it; it has to be such that may be run again.

        ``check`` raises when there is no sense in it (any more).
        """

        async def ask(end: float) -> Rows:
            return await self.attempt(statement, values, end=end)

        return await self._until_confirmed(ask, check)

    async def do(self, work: Work[T], *, check: Callable[[], None]) -> T:
        """Do a piece of work until the server has confirmed it; see ``run``."""

        async def attempt(end: float) -> T:
            try:
                return await self._connections.attempt(work, end=end)
            except Failure as error:
                if not is_away(error):
                    raise self.explained(error) from None
                self.lost(error)
                raise

        return await self._until_confirmed(attempt, check)

    async def _until_confirmed(
        self, attempt: Callable[[float], Awaitable[T]], check: Callable[[], None]
    ) -> T:
        end, failures = asyncio.get_running_loop().time() + self._timeout, 0
        while True:
            check()
            if not self.is_there:
                await self._there_by(end)
            try:
                return await attempt(end)
            except Failure as error:
                pause = pause_after(failures)
                if asyncio.get_running_loop().time() + pause >= end:
                    raise self.explained(error) from None
            failures += 1
            await asyncio.sleep(pause)

    async def attempt(
        self, statement: bytes, values: Sequence[object], *, end: float | None = None
    ) -> Rows:
        """Run a statement once. Raises what ``is_away``, when the server is; else ``BridgeError``."""
        if end is None:
            end = asyncio.get_running_loop().time() + self._timeout
        try:
            found = await self._connections.ask(statement, values, end=end)
        except (*Failure, UnicodeError) as error:
            if not is_away(error):
                raise self.explained(error) from None
            self.lost(error)
            raise
        if self._health.state != "up":
            self._heard()
        return found

    def lost(self, error: Exception) -> None:
        """A connection broke, or could not be made: look for the server until it is there."""
        if not self._is_closed and self.is_there:
            self._error = error
            self._is_there.clear()
            self._looking = asyncio.create_task(self._look(), name="purista postgres server")

    def explained(self, error: Exception | None = None) -> Exception:
        """Return what is raised in place of an error: of the one that the server is away for."""
        return self._connections.explained(error or self._error)

    async def close(self) -> None:
        """Look for the server no more; who waits for it tries, and fails, by himself."""
        self._is_closed = True
        self._health = Health("closed", _now())
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._is_there.set()

    async def _there_by(self, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await self._is_there.wait()
        except TimeoutError:
            raise self.explained() from None

    async def _look(self) -> None:
        """Look for the server until it takes a connection, or refuses one for good."""
        failures = 0
        try:
            while not await self._is_settled():
                await asyncio.sleep(pause_after(failures))
                failures += 1
        finally:
            self._is_there.set()
        self._returned()

    async def _is_settled(self) -> bool:
        """Whether looking further would tell no more."""
        end = asyncio.get_running_loop().time() + LOOK_TIME
        try:
            await self._connections.reach(end=end)
        except Failure as error:
            self._missed(error)
            return not is_away(error)
        self._heard()
        return True

    def _missed(self, error: Exception) -> None:
        """Note that the server is away, and why."""
        self._error = error
        reason = str(self.explained(error))
        if self._health.state == "down":
            self._health = self._health._replace(reason=reason)
        elif not self._is_closed:
            self._health = Health("down", _now(), reason)
            logger.warning("%s", reason)

    def _heard(self) -> None:
        """Note that the server answered."""
        if self._is_closed or self._health.state == "up":
            return
        if self._health.state == "down":
            away = (_now() - self._health.since).total_seconds()
            logger.info("%s: it is back after %.1f seconds", self._place, away)
        self._health = Health("up", _now())


class Listener:
    """Hears what is new on a connection of its own, while somebody waits for it and a while longer.

    A listener costs whoever enqueues: those who find jobs without waiting do without.
    """

    def __init__(
        self, connections: Connections, server: Server, heard: Callable[[str], None]
    ) -> None:
        self._connections = connections
        self._server = server
        self._heard = heard
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._waiting = 0
        self._rest: asyncio.TimerHandle | None = None

    @property
    def is_listening(self) -> bool:
        """Whether what is new is told from now on."""
        return self._task is not None

    async def start(self) -> None:
        """Return once it listens. What was told before may have been missed: look after this.

        Raises as ``Server.attempt`` does.
        """
        async with self._starting:
            if self._task is None:
                self._task = asyncio.create_task(
                    self._listen(await self._connected()), name="purista postgres listener"
                )
        self._rest_later()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Keep on listening while the block runs."""
        self._waiting += 1
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        try:
            yield
        finally:
            self._waiting -= 1
            self._rest_later()

    async def close(self) -> None:
        """Stop listening."""
        if self._rest is not None:
            self._rest.cancel()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def _rest_later(self) -> None:
        if not self._waiting and self._rest is None:
            self._rest = asyncio.get_running_loop().call_later(LISTENS_FOR, self._rest_now)

    def _rest_now(self) -> None:
        self._rest = None
        if self._task is not None:
            self._task.cancel()

    async def _connected(self) -> Connection:
        try:
            return await self._connections.listening(CHANNEL)
        except Failure as error:
            if not is_away(error):
                raise self._server.explained(error) from None
            self._server.lost(error)
            raise

    async def _listen(self, connection: Connection) -> None:
        """Pass on what is told until the connection is lost or nobody waits any more."""
        readable, loop, end = asyncio.Event(), asyncio.get_running_loop(), connection.fileno()
        loop.add_reader(end, readable.set)
        try:
            while True:
                self._tell(connection)
                await readable.wait()
                readable.clear()
        except psycopg.Error as error:
            self._server.lost(error)
        finally:
            loop.remove_reader(end)
            self._task = None
            await connection.close()
            self._heard("")

    def _tell(self, connection: Connection) -> None:
        connection.pgconn.consume_input()
        while (notification := connection.pgconn.notifies()) is not None:
            self._heard(notification.extra.decode())


def pause_after(failures: int) -> float:
    """Return how many seconds to wait after so many failures, 0 being the first."""
    longest = min(FIRST_PAUSE * 2 ** min(failures, 10), LONGEST_PAUSE)
    return float(longest * random.uniform(0.5, 1))  # noqa: S311 - spread


async def _asked(connection: Connection) -> None:
    await connection.execute(b"SELECT 1")


def _now() -> datetime:
    return datetime.now(UTC)

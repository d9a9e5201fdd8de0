"""One server as one store uses it: steps that are taken once, and errors in words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from redis import exceptions
from redis.asyncio import ConnectionPool

from purista.errors import PuristaError
from purista.redisstore.address import Address
from purista.redisstore.explanation import explanation
from purista.redisstore.link import Link
from purista.redisstore.script import Script

Value = str | bytes | int


class Server:
    """Connected by the first call, of which ``check`` is a part: it is given what sends a command.

    Whatever is wrong is raised as ``refusal`` makes it out of a text without secrets. ``what`` is kept
    there, ``rights`` is what a user needs for it, as ``ACL SETUSER`` takes it.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout: timedelta,
        connections: int,
        check: Callable[[Callable[..., Awaitable[Any]]], Awaitable[None]],
        refusal: Callable[[str], PuristaError],
        what: str,
        rights: str,
    ) -> None:
        self._address = address
        self._timeout = timeout
        self._connections = connections
        self._check = check
        self._refusal = refusal
        self._what = what
        self._rights = rights
        self._pool()
        self._link: Link | None = None
        self._checking = asyncio.Lock()
        self._is_checked = False
        self._is_closed = False

    def encoded(self, value: Value) -> bytes:
        """Return what is sent; raises when a text is no Unicode."""
        try:
            return value if isinstance(value, bytes) else str(value).encode()
        except UnicodeError as error:
            raise self._refusal(str(error)) from error

    async def run(self, script: Script, keys: Sequence[bytes], *values: Value) -> Any:
        """Run a script; when the caller is cancelled, it was run or was not."""
        arguments: list[Value] = [len(keys), *keys, *map(self.encoded, values)]
        try:
            return await self._asked("EVALSHA", script.digest, *arguments)
        except exceptions.NoScriptError:
            return await self._asked("EVAL", script.text, *arguments)

    async def ask(self, *command: Value) -> Any:
        """Send a command and return its answer."""
        return await self._asked(*command)

    async def close(self) -> None:
        """Let what was begun finish, and close the connections. May be repeated."""
        self._is_closed = True
        link, self._link = self._link, None
        if link is not None and link.loop is asyncio.get_running_loop():
            await link.close()

    async def _asked(self, *command: Value) -> Any:
        """Send a command; only that the server does not know a script is raised as it is."""
        link = self._linked()
        try:
            if not self._is_checked:
                await self._check_once(link)
            return await link.ask(command)
        except exceptions.NoScriptError:
            raise
        except (exceptions.RedisError, OSError) as error:
            text = explanation(error, timeout=self._timeout, rights=self._rights, what=self._what)
            raise self._refusal(text) from error

    def _linked(self) -> Link:
        """Return the connections of the running event loop."""
        if self._is_closed:
            self._refuse("it is closed; make a new one")
        loop = asyncio.get_running_loop()
        if self._link is None or self._link.loop is not loop:
            self._link = Link(loop, self._pool())
            self._checking = asyncio.Lock()
        return self._link

    def _pool(self) -> ConnectionPool:
        try:
            return self._address.pool(most=self._connections, timeout=self._timeout)
        except ValueError as error:
            self._refuse(str(error))

    async def _check_once(self, link: Link) -> None:
        async with self._checking:
            if not self._is_checked:
                await self._check(lambda *command: link.ask(command))
                self._is_checked = True

    def _refuse(self, text: str) -> NoReturn:
        raise self._refusal(text) from None

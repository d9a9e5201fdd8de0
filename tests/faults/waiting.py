"""Waiting for things that have to come, with a deadline; and messages to send."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from purista.errors import BridgeError
from purista.message import Message, new_message_id

PATIENCE = 25.0
"""Seconds that something that has to come may take; then the test fails."""

ASK_AGAIN = 0.1
"""Seconds after which a broker that failed is asked again."""

T = TypeVar("T")
Sent = TypeVar("Sent")


def message(name: str, body: bytes = b"0", message_id: str | None = None) -> Message:
    return Message(name, body, message_id or new_message_id())


def mark() -> bytes:
    """Return a body that can be told from all others on its way."""
    return b'"mark-%s"' % new_message_id().encode()


async def confirmed_by(send: Callable[[Sent], Awaitable[object]], what: Sent) -> None:
    """Send until it is confirmed, as a sender does that must not lose it."""
    while True:
        try:
            await send(what)
        except BridgeError:
            await asyncio.sleep(ASK_AGAIN)
        else:
            return


async def soon(awaitable: Awaitable[T], within: float = PATIENCE) -> T:
    """Return the result; fail when it takes longer."""
    try:
        async with asyncio.timeout(within):
            return await awaitable
    except TimeoutError:
        at_work = "\n".join(sorted(_where(task) for task in asyncio.all_tasks()))
        raise AssertionError(f"did not come within {within} s; tasks:\n{at_work}") from None


def _where(task: asyncio.Task[Any]) -> str:
    """Return where a task waits, as the names of its frames."""
    frames, work = [], task.get_coro()
    while (frame := getattr(work, "cr_frame", None)) is not None:
        frames.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
        work = work.cr_await  # type: ignore[union-attr]
    return f"  {task.get_name()}: {' > '.join(frames)} > {type(work).__name__}"


async def until(condition: Callable[[], object], within: float = PATIENCE) -> None:
    """Return once the condition holds; fail when that takes longer."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"did not hold within {within} s"
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running(*work: Awaitable[None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run work beside the block; it is cancelled in the end, and what it raised is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        results = await soon(asyncio.gather(*tasks, return_exceptions=True))
    for result in results:
        if isinstance(result, Exception):
            raise result


class Noise(logging.Handler):
    """Keeps what is logged while the block runs, at the level of a warning or above."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")

    def __enter__(self) -> Noise:
        logging.getLogger("purista").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("purista").removeHandler(self)

"""Cancellation that a client library swallows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def cancellable(work: Awaitable[T]) -> T:
    """Await what a library does. Raises ``CancelledError`` also where it has an outcome all the same.

    Before Python 3.12 ``asyncio.wait_for`` gives its result, or error, in place of a cancellation that comes
    at the same moment; whoever is in a loop would then go on for good. See
    https://github.com/python/cpython/issues/86296.
    """
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        return await work
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError

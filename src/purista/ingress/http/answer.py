"""An answer over HTTP: the bytes of its head and its document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from pydantic_core import to_json

from purista.ingress.answer import Answer

Send = Callable[[Any], Awaitable[None]]
Header = tuple[bytes, bytes]

CLOSE: Final[Header] = (b"connection", b"close")
"""Ends the connection with the answer."""


async def send_answer(
    send: Send,
    answer: Answer,
    *,
    headers: Sequence[Header] = (),
    closes: bool = False,
) -> None:
    """Send an answer."""
    body = to_json(answer.document)
    kind = _PROBLEM if answer.is_problem else _JSON
    head = [kind, _length(body), *_ALWAYS, *headers]
    if answer.retry_after is not None:
        head.append((b"retry-after", b"%d" % answer.retry_after))
    if closes:
        head.append(CLOSE)
    await _send(send, answer.status, head, body)


async def send_methods(send: Send, methods: bytes) -> None:
    """Answer OPTIONS: what the path takes, and nothing for other origins. Ends the connection."""
    await _send(send, 204, [(b"allow", methods), CLOSE, *_ALWAYS], b"")


_JSON: Final[Header] = (b"content-type", b"application/json")
_PROBLEM: Final[Header] = (b"content-type", b"application/problem+json")
_NOSNIFF: Final[Header] = (b"x-content-type-options", b"nosniff")
_ALWAYS: Final[Sequence[Header]] = (_NOSNIFF, (b"cache-control", b"no-store"))


def _length(body: bytes) -> Header:
    return b"content-length", b"%d" % len(body)


async def _send(send: Send, status: int, head: Sequence[Header], body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})

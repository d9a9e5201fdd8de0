"""A request over HTTP: read within limits, before anything in it is believed."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from purista.ingress.answer import Answer, problem
from purista.ingress.http.limits import Limits
from purista.verifying import Caller

Receive = Callable[[], Awaitable[Any]]

SINGLE: Final = frozenset(
    {
        "authorization",
        "content-encoding",
        "content-length",
        "content-type",
        "host",
        "traceparent",
        "transfer-encoding",
    }
)
"""The headers that are refused when they come twice, beside those with a prefix of ``SINGLE_PREFIXES``."""

SINGLE_PREFIXES: Final = ("ce-", "purista-", "webhook-", "x-cloudscheduler")


class Refusal(Exception):
    """A request that is not taken, with its answer; ``reason`` is a word for logs and metrics.

    ``closes``: what is left of the request is not read, so the connection ends with the answer.
    ``headers`` go with the answer; ``note`` is for the log alone.
    """

    def __init__(
        self,
        answer: Answer,
        reason: str,
        *,
        closes: bool = False,
        headers: Sequence[tuple[bytes, bytes]] = (),
        note: str = "",
    ) -> None:
        self.answer = answer
        self.reason = reason
        self.closes = closes
        self.headers = headers
        self.note = note
        super().__init__(reason)


class Request(NamedTuple):
    """A request that may be answered.

    ``given`` are its headers by name, of those that are there twice the last; ``part`` is what its
    path names, ``query`` as it came. ``caller`` is None where everyone may send it.
    """

    headers: Sequence[tuple[str, str]]
    given: Mapping[str, str]
    body: bytes
    part: str
    query: bytes
    caller: Caller | None = None

    def check_is_vouched_for(self, *, by_body: bool) -> None:
        """Refuse what a signature does not cover: it covers the body, and nothing else of a request.

        ``by_body``: the body alone says what the request is about. Raises ``Refusal``.
        """
        if not by_body and self.caller is not None and self.caller.method == "signature":
            detail = "the signature covers the body alone; say in it what the request is about"
            raise refusal(400, "invalid-request", "signature_covers_nothing", detail)

    def parameters(self, known: Iterable[str]) -> dict[str, str]:
        """Return the parameters of the query. Raises ``Refusal`` for unknown ones and for twins."""
        return parameters(self.query, frozenset(known))


def headers_of(raw: Iterable[tuple[bytes, bytes]], limits: Limits) -> list[tuple[str, str]]:
    """Return a request's headers, names in lower case. Raises ``Refusal``."""
    found = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]
    size = sum([len(name) + len(value) for name, value in found])
    if len(found) > limits.headers or size > limits.header_bytes:
        most = f"send at most {limits.headers} headers and {limits.header_bytes} bytes of them"
        raise refusal(431, "too-large", "headers_too_large", most, closes=True)
    return found


def by_name(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name. Raises ``Refusal`` when one is there twice that may not be."""
    given = dict(headers)
    if len(given) < len(headers):
        names = [name for name, _ in headers]
        for name in given:
            is_single = name in SINGLE or name.startswith(SINGLE_PREFIXES)
            if is_single and names.count(name) > 1:
                detail = f"the header '{name}' is there twice; send one"
                raise refusal(400, "invalid-request", "duplicate_header", detail, closes=True)
    return given


async def body_of(given: Mapping[str, str], receive: Receive, limits: Limits) -> bytes | None:
    """Return a request's body, or None when the caller went away. Raises ``Refusal``."""
    length = given.get("content-length")
    if length is not None:
        _check_length(length, limits)
    if given.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        detail = "an encoded body is not taken; send it without Content-Encoding"
        raise refusal(415, "unsupported-media-type", "content_encoding", detail, closes=True)
    message = await receive()
    if not message.get("more_body") and message["type"] == "http.request":
        return _fitting(message.get("body", b""), limits)
    return await _rest_of(message, receive, limits)


def parameters(query: bytes, known: frozenset[str]) -> dict[str, str]:
    """Return the parameters of a query. Raises ``Refusal`` for unknown ones and for twins."""
    found: dict[str, str] = {}
    for part in query.decode("latin-1").split("&") if query else ():
        if not part:
            continue
        name, _, value = (unquote_plus(each) for each in part.partition("="))
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            detail = f"the query has an unknown parameter; known here: {names}"
            raise refusal(400, "invalid-request", "unknown_parameter", detail)
        if name in found:
            detail = f"the query has the parameter '{name}' twice; send one"
            raise refusal(400, "invalid-request", "duplicate_parameter", detail)
        found[name] = _OFFSET.sub(r"\1+\2", value)
    return found


def refusal(status: int, kind: str, reason: str, detail: str, *, closes: bool = False) -> Refusal:
    """Return a refusal; ``kind`` is a word of ``answer.TITLES``."""
    return Refusal(problem(status, kind, detail), reason, closes=closes)


_OFFSET: Final = re.compile(r"(:\d\d(?:\.\d+)?) (\d\d:\d\d)\Z", re.ASCII)
"""The end of a time whose offset lost its plus: in a query it means a blank."""

_DIGITS: Final = re.compile(r"\d{1,18}\Z", re.ASCII)


def _check_length(value: str, limits: Limits) -> None:
    if not _DIGITS.match(value):
        detail = "the Content-Length is no number"
        raise refusal(400, "invalid-request", "content_length", detail, closes=True)
    if int(value) > limits.body:
        raise _too_large(limits)


def _fitting(body: bytes, limits: Limits) -> bytes:
    if len(body) > limits.body:
        raise _too_large(limits)
    return body


async def _rest_of(message: Any, receive: Receive, limits: Limits) -> bytes | None:
    body = bytearray()
    while message["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > limits.body:
            raise _too_large(limits)
        if not message.get("more_body"):
            return bytes(body)
        message = await receive()
    return None


def _too_large(limits: Limits) -> Refusal:
    detail = f"the body has more than {limits.body} bytes; send a reference in place of the data"
    return refusal(413, "too-large", "body_too_large", detail, closes=True)

"""What is done with a request over HTTP, whatever its path: read, verified, handled, answered.

Nothing of a request is parsed before it is known who sent it. Logs and metrics get reasons, never
what was sent.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from purista.errors import IngressError, LedgerError, TriggerError, VerificationError
from purista.ingress.answer import Answer, problem, unavailable
from purista.ingress.http.answer import Header, Send, send_answer, send_methods
from purista.ingress.http.deadlines import Deadlines
from purista.ingress.http.limits import Limits
from purista.ingress.http.request import (
    Receive,
    Refusal,
    Request,
    body_of,
    by_name,
    headers_of,
    refusal,
)
from purista.telemetry import Telemetry
from purista.verifying import Caller, Incoming, Verifier, verified

logger = logging.getLogger("purista.http")

Handler = Callable[[Request], Awaitable[Answer]]

_NO_PARTS: Final[Mapping[str, str]] = {}
UNDO_TIME: Final = 5.0
"""Seconds that a verifier has to take back what a failed request used up."""


class Gate:
    """Lets requests in that are within the limits and come from whom they may.

    Without a verifier everyone may.
    """

    def __init__(
        self, verifiers: Sequence[Verifier], limits: Limits, telemetry: Telemetry | None
    ) -> None:
        self.limits = limits
        self._body_seconds = limits.body_time.total_seconds()
        self._seconds = limits.time.total_seconds()
        self._deadlines = Deadlines(min(self._body_seconds, self._seconds))
        self._verifiers = tuple(verifiers)
        self._telemetry = telemetry
        schemes = dict.fromkeys(one.scheme for one in verifiers if one.scheme)
        self._challenge: Header = (b"www-authenticate", ", ".join(schemes).encode("latin-1"))

    async def handle(self, scope: Any, receive: Receive, handler: Handler) -> Answer | None:
        """Return what a handler answers, or None when the caller went away. Raises ``Refusal``."""
        limits, body = self.limits, None
        try:
            with self._deadlines.within(self._body_seconds) as deadline:
                headers = headers_of(scope["headers"], limits)
                given = by_name(headers)
                body = await body_of(given, receive, limits)
                if body is None:
                    return None
                deadline.extend(self._seconds)
                part = scope.get("path_params", _NO_PARTS).get("part", "")
                request = Request(headers, given, body, part, scope["query_string"])
                if not self._verifiers:
                    return await _handled(handler, request)
                return await self._verified(handler, request)
        except TimeoutError:
            if not deadline.has_passed:
                raise
            raise _too_late(is_read=body is not None) from None

    def report(self, scope: Any, path: str, refused: Refusal) -> None:
        """Log and count that a request was refused."""
        client = scope.get("client")
        logger.warning(
            "%s %s from %s refused: %s, %d%s",
            scope["method"],
            path,
            client[0] if client else "unknown",
            refused.reason,
            refused.answer.status,
            f" ({refused.note})" if refused.note else "",
        )
        if self._telemetry is not None:
            self._telemetry.refused("http", refused.reason)

    async def _verified(self, handler: Handler, request: Request) -> Answer:
        try:
            incoming = Incoming(request.headers, request.body)
            caller, verifier = await verified(self._verifiers, incoming)
        except VerificationError as error:
            raise self._unverified(error) from None
        try:
            answer = await _handled(handler, request._replace(caller=caller))
        except BaseException as error:
            if not isinstance(error, Refusal) or error.answer.status >= 500:
                await _undo(verifier, caller)
            raise
        if answer.status >= 500:
            await _undo(verifier, caller)
        return answer

    def _unverified(self, error: VerificationError) -> Refusal:
        if error.reason == "keys_unavailable":
            answer = unavailable("nothing can be verified at the moment")
            return Refusal(answer, error.reason, note=str(error))
        answer = problem(401, "unauthenticated", "send credentials that are known here")
        return Refusal(answer, error.reason, headers=(self._challenge,), note=str(error))


class Endpoint:
    """The ASGI application of a path: a handler for each method, behind the gate."""

    def __init__(self, path: str, gate: Gate, **handlers: Handler) -> None:
        self.path = path
        self._gate = gate
        self._handlers = dict(handlers)
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]
        self._methods = ", ".join((*self._handlers, "OPTIONS")).encode()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request."""
        method = scope["method"]
        if method == "OPTIONS":
            await send_methods(send, self._methods)
            return
        headers: Sequence[Header] = ()
        closes = False
        try:
            handler = self._handlers.get(method)
            if handler is None:
                raise _no_method(self._methods)
            answer = await self._gate.handle(scope, receive, handler)
        except Refusal as refused:
            self._gate.report(scope, self.path, refused)
            answer, headers, closes = refused.answer, refused.headers, refused.closes
        except Exception as error:
            answer = _failed(f"{method} {self.path}", error)
        if answer is not None:
            await send_answer(send, answer, headers=headers, closes=closes)


class Nowhere:
    """The ASGI application of all other paths."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer that there is nothing."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        refused = refusal(404, "not-found", "unknown_path", "see /openapi.json for what is")
        self._gate.report(scope, "an unknown path", refused)
        await send_answer(send, refused.answer, closes=True)


async def _handled(handler: Handler, request: Request) -> Answer:
    try:
        return await handler(request)
    except TriggerError as error:
        raise refusal(400, "invalid-trigger", "invalid_trigger", str(error)) from None
    except (LedgerError, IngressError) as error:
        answer = unavailable("nothing was decided; send it again")
        raise Refusal(answer, "unavailable", note=str(error)) from error


async def _undo(verifier: Verifier, caller: Caller) -> None:
    try:
        async with asyncio.timeout(UNDO_TIME):
            await verifier.undo(caller)
    except Exception as error:
        logger.error("%s could not be undone: %s", caller.method, type(error).__name__)


def _failed(what: str, error: Exception) -> Answer:
    """Log an error that nobody foresaw, without its words: they may hold what was sent."""
    lines = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s failed: %s\n%s", what, type(error).__name__, lines)
    return problem(500, "unexpected-error", "the log of the ingress has the details")


def _too_late(*, is_read: bool) -> Refusal:
    if not is_read:
        detail = "the body did not come in time"
        return refusal(408, "request-timeout", "body_timeout", detail, closes=True)
    answer = unavailable("it took too long; send it again")
    return Refusal(answer, "timeout")


def _no_method(methods: bytes) -> Refusal:
    answer = problem(405, "method-not-allowed", f"this path takes {methods.decode()}")
    return Refusal(answer, "method_not_allowed", closes=True, headers=((b"allow", methods),))

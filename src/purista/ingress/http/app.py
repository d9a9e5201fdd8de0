"""The HTTP entry point: an ASGI application over an ingress.

``POST /triggers`` takes CloudEvents, ``POST /triggers/{schedule_id}`` bare calls, ``POST /pubsub`` what
Pub/Sub pushes. It decides nothing itself. ``docs/http.md`` has the answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from purista.errors import MissingExtraError, Problem, SettingsError
from purista.ingress.http.endpoint import Endpoint, Gate, Nowhere
from purista.ingress.http.limits import Limits
from purista.ingress.http.reads import Reads
from purista.ingress.http.runs import Runs
from purista.ingress.http.triggers import Triggers
from purista.ingress.ingress import Ingress
from purista.telemetry import telemetry
from purista.verifying import Verifier

try:
    from starlette.routing import Route, Router
except ImportError as error:
    raise MissingExtraError("the HTTP entry point", "serve") from error


def ingress_app(
    ingress: Ingress,
    *,
    verifiers: Sequence[Verifier] = (),
    development: bool = False,
    limits: Limits | None = None,
    opens: Iterable[contextlib.AbstractAsyncContextManager[Any]] = (),
) -> IngressApp:
    """Return the ASGI application.

    A request is taken when one of the ``verifiers`` says who sent it. Raises ``SettingsError`` when
    there is none, but for ``development``, where everyone may then do everything. ``opens`` is what
    the application's lifespan opens, in that order, and closes again, such as a host and the ingress;
    what is not among it has to be open while requests come.
    """
    if not verifiers and not development:
        raise SettingsError([_NO_VERIFIER])
    measured = telemetry()
    bounds = limits or Limits()
    guarded, open_to_all = Gate(verifiers, bounds, measured), Gate((), bounds, measured)
    triggers, runs, reads = Triggers(ingress, measured), Runs(ingress), Reads(ingress)
    known = (
        Endpoint("/triggers", guarded, POST=triggers.event),
        Endpoint("/triggers/{part:path}", guarded, POST=triggers.bare),
        Endpoint("/pubsub", guarded, POST=triggers.pushed),
        Endpoint("/runs", guarded, GET=runs.all),
        Endpoint("/runs/{part}", guarded, GET=runs.one),
        Endpoint("/runs/{part}/cancel", guarded, POST=runs.cancel),
        Endpoint("/schedules", guarded, GET=reads.schedules),
        Endpoint("/health", open_to_all, GET=reads.health),
        Endpoint("/ready", open_to_all, GET=reads.ready),
        Endpoint("/openapi.json", open_to_all, GET=reads.document),
    )
    return IngressApp(known, Nowhere(open_to_all), _lifespan(tuple(opens)))


class IngressApp(Router):
    """A router whose fixed paths are found without a search."""

    def __init__(self, endpoints: Sequence[Endpoint], nowhere: Nowhere, lifespan: Any) -> None:
        routes = [Route(one.path, one) for one in endpoints]
        super().__init__(routes, redirect_slashes=False, default=nowhere, lifespan=lifespan)
        self._fixed = {one.path: one for one in endpoints if "{" not in one.path}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if scope["type"] == "http" and not scope.get("root_path"):
            endpoint = self._fixed.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, send)


_NO_VERIFIER = Problem(
    "the HTTP entry point",
    "it has no verifier, so that everyone could send triggers",
    "give it one, or say development=True",
)


def _lifespan(opens: Sequence[contextlib.AbstractAsyncContextManager[Any]]) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            for one in opens:
                await stack.enter_async_context(one)
            yield

    return lifespan

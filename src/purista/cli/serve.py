"""``purista serve``: the ingress over HTTP, and the services' handlers in the same process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from purista.cli.bridging import (
    Bridges,
    BridgeUrl,
    EventsUrl,
    QueuesUrl,
    Waits,
    opened_bridges,
)
from purista.cli.exitcode import AGAIN, DONE
from purista.cli.loading import load_services
from purista.cli.logline import log
from purista.cli.output import say
from purista.cli.reach import unreached
from purista.cli.running import running
from purista.cli.settingsfile import SettingsFile, ingress_settings, nats_settings
from purista.cli.shutdown import Shutdown
from purista.cli.wiring import (
    MEMORY,
    LedgerUrl,
    ledger_url,
    limits,
    opened_ledger,
    verifiers,
)
from purista.clock import Clock, SystemClock
from purista.errors import (
    BridgeError,
    ContractError,
    LedgerError,
    LoadError,
    Problem,
    SettingsError,
)
from purista.ingress import Ingress
from purista.ingress.ingress import RunStore
from purista.service import Service
from purista.settings import FILE, IngressSettings
from purista.storeaddress import scheme_of
from purista.verifying import Verifier

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger("purista.serve")

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")

BACKLOG: Final = 2048
"""How many connections may wait to be taken."""


def serve(
    services: Annotated[
        list[str],
        typer.Argument(
            metavar="PACKAGE.MODULE:SERVICE...", help="Services, or manifest files (.json)."
        ),
    ],
    settings: SettingsFile = None,
    ledger: LedgerUrl = None,
    bridge: BridgeUrl = None,
    events: EventsUrl = None,
    queues: QueuesUrl = None,
    triggers: Annotated[
        str | None,
        typer.Option(
            metavar="QUEUE", help="Take triggers from a queue, too; else as settings say."
        ),
    ] = None,
    wait: Waits = True,
    handlers: Annotated[
        bool,
        typer.Option(
            "--handlers/--no-handlers", help="Run the handlers here too, or leave it to workers."
        ),
    ] = True,
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Where to listen; else as the settings say."),
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="For development: no credentials, this machine only.")
    ] = False,
    log_level: Annotated[
        str, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")
    ] = "info",
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False,
) -> int:
    """Serve the ingress over HTTP, and the services' handlers, until SIGTERM or SIGINT.

    Then it takes nothing new and finishes what is at work; a second signal ends it at once.

    Example: purista serve billing.app:billing --settings purista.toml

    Example: purista serve billing.app:billing --dev
    """
    log(log_level, as_json=as_json)
    loaded = load_services(services)
    known = ingress_settings(settings)
    clock = SystemClock()
    store = _store(known, ledger, dev=dev)
    bridges = opened_bridges(
        known, bridge=bridge, events=events, queues=queues, nats=nats_settings(settings)
    )
    if wrong := unreached(loaded, bridges, handles=handlers):
        raise ContractError(wrong)
    serving = Serving(
        services=loaded,
        settings=known,
        ledger=store,
        bridges=bridges,
        clock=clock,
        waits=wait,
        handles=handlers,
        triggers=triggers or known.triggers,
        verifiers=() if dev else _verifiers(known, store, clock),
        is_development=dev,
        announce=logger.info if as_json else say,
    )
    address = _loopback(host) if dev else host or known.host
    listener = _listener(address, known.port if port is None else port)
    try:
        return asyncio.run(_served(serving, listener))
    except (BridgeError, LedgerError) as error:
        say(f"purista: {error}", "red")
        return AGAIN
    finally:
        listener.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What is served, and by what means."""

    services: tuple[Service, ...]
    settings: IngressSettings
    ledger: RunStore
    bridges: Bridges
    clock: Clock
    waits: bool
    handles: bool
    triggers: str | None
    verifiers: Sequence[Verifier]
    is_development: bool
    announce: Callable[[str], None]


async def _served(serving: Serving, listener: socket.socket) -> int:
    """Serve until a signal comes, then finish.

    Raises ``LedgerError`` when the ledger is away, ``BridgeError`` when a broker is.
    """
    server: uvicorn.Server | None = None

    def stop() -> None:
        if server is not None:
            server.should_exit = True

    grace = timedelta(seconds=serving.settings.grace_seconds)
    with Shutdown(grace, stop) as shutdown:
        if await shutdown.comes_before(serving.bridges.connect(waits=serving.waits)):
            await serving.bridges.close()
            return DONE
        async with running(
            serving.services,
            serving.settings,
            ledger=serving.ledger,
            bridges=serving.bridges,
            clock=serving.clock,
            handles=serving.handles,
            triggers=serving.triggers,
        ) as (ingress, host):
            server = _server(serving, ingress, lambda: _say_ready(serving, listener))
            if shutdown.is_wanted:
                stop()
            try:
                await server.serve([listener])
            finally:
                for verifier in serving.verifiers:
                    await verifier.close()
                host.grace = shutdown.left()
    logger.info("ended")
    return DONE


def _server(serving: Serving, ingress: Ingress, ready: Callable[[], None]) -> uvicorn.Server:
    """Return the server; it calls ``ready`` when it takes requests, and leaves signals alone."""
    from purista.ingress.http import ingress_app
    from purista.ingress.http.server import server_config

    bounds = limits(serving.settings)
    app = ingress_app(
        ingress,
        verifiers=serving.verifiers,
        development=serving.is_development,
        limits=bounds,
    )
    longest = serving.settings.grace_seconds
    config = server_config(app, bounds, lifespan="off", timeout_graceful_shutdown=longest)
    return _quiet_server(config, ready)


def _quiet_server(config: uvicorn.Config, ready: Callable[[], None]) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    return Server(config)


def _store(settings: IngressSettings, ledger: str | None, *, dev: bool) -> RunStore:
    """Return the ledger. Refuses one in memory, but for development."""
    url = ledger_url(settings, ledger) or (f"{MEMORY}://" if dev else None)
    if url is None or (scheme_of(url) == MEMORY and not dev):
        text = (
            "no ledger is named" if url is None else "a ledger in memory forgets with each restart"
        )
        remedy = 'write one such as ledger = "sqlite:///runs.sqlite", or give --ledger'
        raise SettingsError([Problem(f"{FILE}: ingress.ledger", text, remedy)])
    return opened_ledger(url, settings)


def _verifiers(settings: IngressSettings, ledger: RunStore, clock: Clock) -> Sequence[Verifier]:
    """Return who says that a request may be taken. Refuses that there is nobody."""
    made = verifiers(settings, ledger, clock)
    if not made:
        text = "nobody says who may send triggers, so that everyone could"
        remedy = (
            "write [ingress.bearer], [ingress.signatures] or [ingress.oidc]; "
            "--dev is for development on this machine"
        )
        raise SettingsError([Problem(f"{FILE}: ingress", text, remedy)])
    return made


def _loopback(host: str | None) -> str:
    if host is not None and host not in LOOPBACK:
        raise LoadError(
            f"--dev takes requests of this machine only, not at '{host}'; leave out --host"
        )
    return host or LOOPBACK[0]


def _listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises ``LoadError``."""
    try:
        [(family, *_), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no address"
        raise LoadError(
            f"cannot listen on {host}, port {port}: {reason}; choose another --host or --port"
        ) from None


def _say_ready(serving: Serving, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    names = ", ".join(service.id for service in serving.services)
    count = sum(len(service.schedules) for service in serving.services)
    serving.announce(f"serving {names} ({count} schedules) at http://{place}:{port}")
    if serving.is_development:
        logger.warning("development: everyone on this machine may send triggers and cancel runs")

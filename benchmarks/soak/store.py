"""The store that all processes share: a real server that can be killed, or a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class Store(NamedTuple):
    """The addresses of ledger and queues; `kill` ends the server without a warning and starts it again."""

    ledger: str
    queues: str
    kill: Callable[[], None] | None = None


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Store]:
    """Start a store."""
    if kind == "sqlite":
        address = f"sqlite:///{folder / 'runs.sqlite'}"
        yield Store(address, address)
    elif kind == "postgres":
        from tests.engines.postgres import postgres_server

        with postgres_server() as server:
            yield Store(server.url, server.url, lambda: _killed(server.kill, server.start))
    else:
        from tests.engines.valkey import valkey_server

        with valkey_server(durable=True) as server:
            jobs = f"sqlite:///{folder / 'jobs.sqlite'}"
            yield Store(server.url, jobs, lambda: _killed(server.kill, server.restart))


def _killed(kill: Callable[[], None], start: Callable[[], None]) -> None:
    kill()
    start()

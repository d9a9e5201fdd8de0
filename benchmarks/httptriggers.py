"""Triggers over HTTP, as a ratio to a bare starlette endpoint that validates the same JSON; memory.

Both applications run on the server of `purista serve`, each in a process of its own, and are asked in
turns by the same clients in this process. Every trigger is accepted and published. Floor: 0.6 of the
yardstick's requests a second. The memory of a server is flat over 200,000 triggers, once keys are
forgotten as fast as they come: its clock runs 60 times faster, and a key is kept for two minutes.

Run with `python benchmarks/httptriggers.py`; `python benchmarks/httptriggers.py --short` leaves the long run out.
"""

import asyncio
import json
import multiprocessing
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any, Literal

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from purista import (
    Every,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
)
from purista.clock import Clock, SystemClock
from purista.ingress.http import ingress_app
from purista.ingress.http.server import server_config

START = datetime.now(UTC).replace(microsecond=0) - timedelta(days=30)
SPEED = 60
MINUTE = timedelta(minutes=1)
CLIENTS = 8
ROUNDS = 25
COUNT = 1_000
LONG = 200_000
POINTS = (20_000, 50_000, 100_000, 150_000, LONG)


class Event(BaseModel):
    specversion: Literal["1.0"]
    id: str
    source: str
    type: Literal["dev.purista.schedule.trigger"]
    subject: str
    time: datetime


class Purge(BaseModel):
    older_than_days: int


class FastClock(SystemClock):
    """Runs fast."""

    def __init__(self) -> None:
        self._real, self._began = datetime.now(UTC), time.monotonic()

    def now(self) -> datetime:
        passed = (time.monotonic() - self._began) * SPEED
        return self._real + timedelta(seconds=passed)


def bare() -> Any:
    async def trigger(request: Request) -> JSONResponse:
        event = Event.model_validate(await request.json())
        answer = {
            "decision": "accepted",
            "reason": "on time",
            "scheduleId": event.subject,
            "nominalTime": event.time.isoformat(),
            "runId": event.id,
        }
        return JSONResponse(answer, status_code=202)

    return Starlette(routes=[Route("/triggers", trigger, methods=["POST"])])


def app(clock: Clock, ledger: MemoryLedger, kept: timedelta) -> Any:
    service = Service("Bench", version="1")
    service.schedule("tick").emit_event(
        service.event("due", Purge),
        expression=Every(timedelta(seconds=1)),
        payload={"older_than_days": 30},
        misfire_grace=timedelta(days=365),
        dedupe_window=kept,
        run_timeout=kept,
    )
    ingress = Ingress(
        [service],
        event_bridge=MemoryEventBridge(),
        queue_bridge=MemoryQueueBridge(),
        ledger=ledger,
        clock=clock,
    )
    return ingress_app(ingress, development=True, opens=[ingress])


def ours() -> Any:
    return app(SystemClock(), MemoryLedger(), timedelta(hours=1))


def forgetful() -> Any:
    return app(FastClock(), MemoryLedger(retention=MINUTE), MINUTE)


def serve(make: Callable[[], Any], listening: socket.socket) -> None:
    server = uvicorn.Server(server_config(make(), log_level="warning"))
    asyncio.run(server.serve([listening]))


@contextmanager
def running(make: Callable[[], Any]) -> Iterator[tuple[int, int]]:
    """Serve in a process of its own; yield its port and its process id."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(128)
        process = multiprocessing.get_context("fork").Process(target=serve, args=(make, listening))
        process.start()
        try:
            assert process.pid is not None
            yield listening.getsockname()[1], process.pid
        finally:
            process.terminate()
            process.join()


def requests(first: int, count: int) -> Iterator[bytes]:
    for number in range(first, first + count):
        at = (START + timedelta(seconds=number)).isoformat().replace("+00:00", "Z")
        event = {
            "specversion": "1.0",
            "id": f"Bench.v1.tick/{at}",
            "source": "bench",
            "type": "dev.purista.schedule.trigger",
            "subject": "Bench.v1.tick",
            "time": at,
        }
        body = json.dumps(event).encode()
        yield (
            b"POST /triggers HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: bench\r\naccept: */*\r\n"
            b"content-type: application/cloudevents+json\r\ncontent-length: %d\r\n\r\n" % len(body)
        ) + body


class Client(asyncio.Protocol):
    """Sends the next request when the answer to the last one is there."""

    def __init__(self, pending: Iterator[bytes]) -> None:
        self._pending = pending
        self._seen = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, blank, body = self._seen.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) == length:
            assert head.startswith(b"HTTP/1.1 202 "), head + body
            self._seen = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server ended the connection"))

    def _next(self) -> None:
        request = next(self._pending, None)
        if request is not None:
            self._transport.write(request)
        else:
            self.done.set_result(None)
            self._transport.close()


async def ask(port: int, pending: list[bytes]) -> float:
    """Return the seconds that all requests took."""
    loop, rest = asyncio.get_running_loop(), iter(pending)
    began = time.perf_counter()
    clients = [Client(rest) for _ in range(CLIENTS)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.gather(*(client.done for client in clients))
    return time.perf_counter() - began


def megabytes(pid: int) -> float:
    """Return the memory that a process has now."""
    found = subprocess.run(
        ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(found.stdout) / 1024


async def compare(bare_port: int, port: int) -> None:
    plain, mine = [], []
    for number in range(ROUNDS + 1):
        pending = list(requests(number * COUNT, COUNT))
        plain.append(await ask(bare_port, pending))
        mine.append(await ask(port, pending))
    pairs = sorted(one / other for one, other in zip(plain[1:], mine[1:], strict=True))
    each = 1e6 / COUNT
    print(
        f"triggers over HTTP: {median(pairs):.2f} of the yardstick (floor 0.6), the median of "
        f"{ROUNDS} pairs from {pairs[0]:.2f} to {pairs[-1]:.2f}; at best "
        f"{COUNT / min(mine):,.0f} against {COUNT / min(plain):,.0f} a second, "
        f"{min(mine) * each:.0f} against {min(plain) * each:.0f} microseconds each"
    )


async def fill(port: int, pid: int) -> None:
    asked, shown = 0, []
    for point in POINTS:
        while asked < point:
            count = min(COUNT, point - asked)
            await ask(port, list(requests(asked, count)))
            asked += count
        shown.append(f"{megabytes(pid):.1f} MB after {point:,}")
    print(f"memory of the server: {', '.join(shown)} triggers")


def main() -> None:
    with running(bare) as (bare_port, _), running(ours) as (port, _):
        asyncio.run(compare(bare_port, port))
    if "--short" not in sys.argv:
        with running(forgetful) as (port, pid):
            asyncio.run(fill(port, pid))


if __name__ == "__main__":
    main()

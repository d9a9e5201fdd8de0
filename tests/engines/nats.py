"""A real nats-server with JetStream message schedules, and the times that it computes itself.

`nats_server` starts one in a temporary folder and stops it by its process id. `next_times` asks what
follows an instant: the server's wall clock is set to it, the schedule is published, and the time that
the server computed is read from the file in which it keeps its schedules (``sched.db``, written when
it stops). `fires` asks for chains of them. No schedule has to fire for that; `pass_through` lets some.
"""

from __future__ import annotations

import asyncio
import json
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from tests.engines.wallclock import WallClock

BINARY = Path(sys.executable).with_name("nats-server")
STREAM = "SCHEDULES"
TARGET = "due.here"
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server stored the schedule, or found that it has a message of this id already."""

    sequence: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The server did not store it, and says why."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What follows ``after``, which is a whole second? Without a time zone, in UTC."""

    expression: str
    timezone: str | None
    after: datetime


@dataclass(slots=True)
class Server:
    """A running server. Its clock is real until ``clock`` is set."""

    folder: Path
    process: subprocess.Popen[bytes]
    client: Client
    clock: WallClock

    async def ask(self, subject: str, question: dict[str, Any]) -> dict[str, Any]:
        """Send a request to JetStream's own interface: ``STREAM.INFO.SCHEDULES`` and the like."""
        reply = await self.client.request(f"$JS.API.{subject}", json.dumps(question).encode(), 5)
        answer: dict[str, Any] = json.loads(reply.data)
        return answer

    async def publish(
        self,
        subject: str,
        expression: str,
        *,
        timezone: str | None = None,
        target: str = TARGET,
        body: bytes = b"",
        **headers: str,
    ) -> Accepted | Refused:
        """Publish a schedule. ``Nats_Msg_Id="x"`` is the header ``Nats-Msg-Id``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        zone = {} if timezone is None else {"Nats-Schedule-Time-Zone": timezone}
        fixed = {"Nats-Schedule": expression, "Nats-Schedule-Target": target}
        reply = await self.client.request(subject, body, 5, headers=fixed | zone | named)
        return _answer(json.loads(reply.data))

    async def produced(self, subject: str = TARGET, *, count: int = 1) -> list[dict[str, str]]:
        """Wait for ``count`` messages on ``subject``; return the headers of all, oldest first."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            found = await self._stored(subject)
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)
        raise TimeoutError(f"fewer than {count} messages on {subject}")

    async def _stored(self, subject: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = []
        sequence = 1
        while True:
            question = json.dumps({"seq": sequence, "next_by_subj": subject}).encode()
            reply = await self.client.request(f"$JS.API.DIRECT.GET.{STREAM}", question, 5)
            headers = dict(reply.headers or {})
            if "Nats-Sequence" not in headers:
                return found
            found.append(headers)
            sequence = int(headers["Nats-Sequence"]) + 1


@asynccontextmanager
async def nats_server(folder: Path | None = None) -> AsyncIterator[Server]:
    """Start a server on a free port with a stream for schedules; keep its data in ``folder``.

    The stream takes schedules under ``schedules.>`` and what they produce under ``due.>``.
    """
    with tempfile.TemporaryDirectory(prefix="purista-nats-") as temporary:
        server = await _started(folder or Path(temporary))
        try:
            await create_stream(server)
            yield server
        finally:
            await server.client.close()
            server.clock.close()
            stop(server)


async def create_stream(server: Server, **settings: object) -> None:
    """Create the stream, or find it again; raise if the server refuses it."""
    config = {"name": STREAM, "subjects": ["schedules.>", "due.>"], "allow_direct": True}
    config |= {"allow_msg_schedules": True, "allow_msg_ttl": True} | settings
    answer = await server.ask(f"STREAM.CREATE.{STREAM}", config)
    if "error" in answer:
        raise ValueError(answer["error"]["description"])


def stop(server: Server, how: int = signal.SIGTERM) -> None:
    """Stop the server; with ``SIGKILL`` it cannot write its state down."""
    server.process.send_signal(how)
    server.process.wait(10)


async def pass_through(server: Server, instant: datetime) -> None:
    """Let the server fire what is due at ``instant``, which lies ahead of its clock.

    Its timer knows nothing of the clock that was set. A schedule that is long past makes it look
    again, a quarter of a second later; then it finds the clock at ``instant``.
    """
    server.clock.set(instant - SECOND)
    await server.publish("schedules.past", "@at 2000-01-01T00:00:00Z", target="due.past")
    server.clock.set(instant)


async def next_times(questions: Iterable[Question]) -> dict[Question, datetime | Refused]:
    """Ask a server of its own what follows each instant."""
    latest_first = sorted(set(questions), key=lambda question: question.after, reverse=True)
    answers: dict[Question, datetime | Refused] = {}
    with tempfile.TemporaryDirectory(prefix="purista-nats-") as folder:
        async with nats_server(Path(folder)) as server:
            # Backwards: what was published before is never due, so that nothing fires meanwhile.
            for index, question in enumerate(latest_first):
                server.clock.set(question.after)
                reply = await server.publish(
                    f"schedules.{index}", question.expression, timezone=question.timezone
                )
                if isinstance(reply, Refused):
                    answers[question] = reply
        kept = stored_times(Path(folder)) if len(answers) < len(latest_first) else {}
        for subject, instant in kept.items():
            answers[latest_first[int(subject.removeprefix("schedules."))]] = instant
    return answers


@dataclass(frozen=True, slots=True)
class Window:
    """When does it fire from ``start`` to ``end``, both included?

    ``claimed`` instants change no answer. If they are right, all is asked in one round.
    """

    expression: str
    timezone: str | None
    start: datetime
    end: datetime
    claimed: Sequence[datetime] = field(default=(), compare=False)

    def after(self, instant: datetime) -> Question:
        return Question(self.expression, self.timezone, instant)


async def fires(windows: Sequence[Window]) -> list[list[datetime] | Refused]:
    """Return for each window the instants that the server computes, one from the other.

    A schedule that the server refuses at the start is refused: for its text, or because nothing
    follows within five years.
    """
    known: dict[Question, datetime | Refused] = {}
    asked = {
        window.after(instant)
        for window in windows
        for instant in (window.start - SECOND, *window.claimed)
    }
    while asked:
        known |= await next_times(asked)
        chains = [_chain(window, known) for window in windows]
        asked = {chain for chain in chains if isinstance(chain, Question)}
    return [chain for chain in chains if not isinstance(chain, Question)]


def _chain(
    window: Window, known: dict[Question, datetime | Refused]
) -> list[datetime] | Refused | Question:
    """Follow the answers from the start; return the first question that has none yet."""
    found: list[datetime] = []
    while (question := window.after(found[-1] if found else window.start - SECOND)) in known:
        following = known[question]
        if isinstance(following, Refused):
            return found or following
        if following > window.end:
            return found
        found.append(following)
    return question


def stored_times(folder: Path) -> dict[str, datetime]:
    """Read the next time of each schedule subject from a stopped server's folder.

    The format is that of ``MsgScheduling.encode``, nats-server 2.15.1, ``server/scheduler.go``.
    """
    (file,) = folder.glob(f"jetstream/*/streams/{STREAM}/msgs/sched.db")
    data = file.read_bytes()
    version, count = struct.unpack_from("<BQ", data)
    assert version == 1, f"a newer format of sched.db: {version}"
    found: dict[str, datetime] = {}
    at = 17
    for _ in range(count):
        begin = at + 2
        at = begin + int.from_bytes(data[at:begin], "little")
        subject = data[begin:at].decode()
        zigzag, at = _varint(data, at)
        _, at = _varint(data, at)
        nanoseconds = (zigzag >> 1) ^ -(zigzag & 1)
        found[subject] = datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at


async def _started(folder: Path) -> Server:
    command: list[str | Path] = [BINARY, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", folder]
    command += ["--ports_file_dir", folder, "-l", folder / "log"]
    process = subprocess.Popen(command)  # noqa: ASYNC220
    try:
        client = await nats.connect(await _address(folder, process))
        return Server(folder, process, client, WallClock(process.pid))
    except BaseException:
        process.kill()
        process.wait()
        raise


async def _address(folder: Path, process: subprocess.Popen[bytes]) -> str:
    """Wait for the file in which the server says which port it got."""
    file = folder / f"{BINARY.name}_{process.pid}.ports"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        if file.exists() and (text := file.read_text()):
            address: str = json.loads(text)["nats"][0]
            return address
        await asyncio.sleep(0.01)
    raise RuntimeError(f"nats-server did not start: {(folder / 'log').read_text()}")


def _answer(reply: dict[str, Any]) -> Accepted | Refused:
    if "error" in reply:
        return Refused(reply["error"]["err_code"], reply["error"]["description"])
    return Accepted(reply["seq"], reply.get("duplicate", False))

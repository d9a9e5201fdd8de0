"""The RabbitMQ event bridge under faults of processes, server and network."""

import asyncio
import contextlib
import time
from datetime import timedelta

import pytest
from tests.engines.rabbitmq import rabbitmq_server
from tests.faults.event_faults import EventFaultSuite
from tests.faults.waiting import message, soon

from purista.bridges import Reply
from purista.errors import BridgeError, CommandError


@pytest.fixture(scope="module")
def server():
    with rabbitmq_server() as started:
        yield started


class TestRabbitMQEventFaults(EventFaultSuite):
    bridge = "purista.bridges.rabbitmq_events:RabbitMQEventBridge"
    doubles = True
    leases_outlast_connections = False
    ack_mark = b"\x00\x3c\x00\x50"
    """The method Basic.Ack."""

    takeover = 4.0
    """A lease is the connection, whose heartbeat is a second at least, and is missed two or three times."""

    @contextlib.asynccontextmanager
    async def opened(self, *, url=None, timeout=30.0):
        """Open a bridge that outlasts a server which takes some seconds to start."""
        async with super().opened(url=url, timeout=timeout) as bridge:
            yield bridge

    async def test_a_command_whose_server_is_killed_meanwhile_ends_in_time(self):
        """As in the suite, but the server's start, which takes longer, is not waited for."""
        command, begun = self.name("command"), asyncio.Event()

        async def answer(_):
            begun.set()
            await asyncio.sleep(0.5)
            return Reply(b"1")

        async with self.opened() as bridge:
            await bridge.serve(command, answer)
            pending = await bridge.request(message(command), timeout=timedelta(seconds=2))
            await soon(begun.wait())
            began = time.monotonic()
            async with self.outage():
                results = await soon(asyncio.gather(pending, return_exceptions=True))
                took = time.monotonic() - began
            self.figure("ended after seconds", took)
            self.figure("ended as", type(results[0]).__name__)
            assert isinstance(results[0], Reply | CommandError | BridgeError)
            assert took < 3.5
            self.figure("answered again after seconds", await self.answered(bridge, command))

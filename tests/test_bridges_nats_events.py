"""The NATS event bridge on a real nats-server."""

import contextlib
from datetime import timedelta

import pytest
from tests.engines.nats_broker import nats_broker

from purista.bridges.nats_events import NatsEventBridge
from purista.clock import SystemClock
from purista.testing import EventBridgeSuite


@pytest.fixture(scope="module")
def server():
    with nats_broker() as server:
        yield server


class TestNatsEventBridge(EventBridgeSuite):
    unit = timedelta(seconds=0.3)

    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.url = server.url

    def clock(self):
        return SystemClock()

    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        bridge = NatsEventBridge(self.url)
        yield bridge
        await bridge.close()

"""The PostgreSQL event bridge."""

import contextlib
from datetime import timedelta

import pytest
from tests.engines.postgres import postgres_server

from purista.bridges.postgres_events import PostgresEventBridge
from purista.clock import SystemClock
from purista.testing import EventBridgeSuite


@pytest.fixture(scope="module")
def server():
    with postgres_server() as started:
        yield started


class TestPostgresEventBridge(EventBridgeSuite):
    unit = timedelta(seconds=0.3)

    @pytest.fixture(autouse=True)
    def url(self, server):
        self.url = server.url

    def clock(self):
        return SystemClock()

    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        bridge = PostgresEventBridge(self.url)
        try:
            yield bridge
        finally:
            await bridge.close()

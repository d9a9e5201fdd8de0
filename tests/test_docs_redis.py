"""The page about Redis: its commands reach the handlers."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path

from tests.engines.valkey import Server, valkey_server

from purista.bridges.redis_events import RedisEventBridge
from purista.ingress.consumer import message_trigger
from purista.testing.bridge_suite import Inbox

PAGE = Path(__file__).parents[1] / "docs" / "redis.md"


def run(server: Server, name: str) -> None:
    """Do what ``redis-cli`` does."""
    found = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    program, *arguments = shlex.split(found[1].replace("\\\n", " "))
    assert program == "redis-cli"
    with server.client() as client:
        client.execute_command(*arguments)


async def test_what_a_stranger_publishes_is_received() -> None:
    with valkey_server(durable=False) as server:
        bridge, events, triggers = RedisEventBridge(server.url), Inbox(), Inbox()
        await bridge.subscribe("billing.due", "billing.v1.bill", events)
        await bridge.subscribe("purista.triggers", "ingress", triggers)
        for name in ("event", "trigger"):
            await asyncio.to_thread(run, server, name)
        async with asyncio.timeout(10):
            await events.holds(1)
            await triggers.holds(1)
        await bridge.close()
    assert events.messages[0].id == "4711"
    assert json.loads(events.messages[0].body) == {"cycle_id": "2027-03"}
    trigger, _ = message_trigger(triggers.messages[0])
    assert trigger.schedule_id == "billing.v1.close"

"""The page about NATS: its commands reach the handlers, and its MQTT gateway does."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from tests.engines import mqtt
from tests.engines.nats_broker import Server, nats_broker
from tests.engines.ports import HOST, free_port

from purista.bridges.nats_events import NatsEventBridge
from purista.bridges.nats_queues import NatsQueueBridge
from purista.ingress.consumer import message_trigger
from purista.message import Message
from purista.testing.bridge_suite import Inbox

PAGE = Path(__file__).parents[1] / "docs" / "nats.md"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with nats_broker() as started:
        yield started


def command(name: str) -> list[str]:
    found = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return shlex.split(found[1].replace("\\\n", " "))


async def publish(server: Server, name: str) -> None:
    """Do what ``nats pub`` does."""
    program, verb, subject, body, *options = command(name)
    assert (program, verb) == ("nats", "pub")
    assert set(options[::2]) == {"-H"}
    headers = dict(one.split(": ", 1) for one in options[1::2])
    client = await nats.connect(server.url)
    await client.publish(subject, body.encode(), headers=headers)
    await client.close()


async def test_an_event_that_a_stranger_publishes_is_received(server: Server) -> None:
    bridge, inbox = NatsEventBridge(server.url), Inbox()
    await bridge.subscribe("billing.due", "billing.v1.bill", inbox)
    for _ in range(2):
        await publish(server, "event")
    async with asyncio.timeout(10):
        await inbox.holds(1)
    await asyncio.sleep(0.2)
    (message,) = inbox.messages
    assert message.id == "due-2027-03"
    assert json.loads(message.body) == {"cycle": "2027-03"}
    await bridge.close()


async def test_a_job_and_a_trigger_that_a_stranger_publishes_are_leased(server: Server) -> None:
    from datetime import timedelta

    minute = timedelta(minutes=1)
    bridge = NatsQueueBridge(server.url)
    await bridge.connect()
    await publish(server, "job")
    leased = await bridge.lease("reports", duration=minute, wait=minute)
    assert leased is not None
    assert leased.job.max_attempts == 3
    assert leased.job.message == Message("reports", b'{"cycle": "2027-03"}', "report-2027-03")
    await publish(server, "trigger")
    leased = await bridge.lease("purista.triggers", duration=minute, wait=minute)
    assert leased is not None
    trigger, _ = message_trigger(leased.job.message)
    assert trigger.schedule_id == "billing.v1.close"
    await bridge.close()


@pytest.mark.parametrize("whole", [False, True], ids=["payload", "structured event"])
async def test_a_device_publishes_an_event_over_mqtt(whole: bool) -> None:
    port, payload = free_port(), {"celsius": 21}
    event = {
        "specversion": "1.0",
        "type": "measured",
        "source": "device",
        "id": "7",
        "data": payload,
    }
    with nats_broker("server_name: gateway", f'mqtt {{ listen: "{HOST}:{port}" }}') as server:
        bridge, inbox = NatsEventBridge(server.url), Inbox()
        await bridge.subscribe("measured", "climate.v1.note", inbox)
        body = json.dumps(event if whole else payload).encode()
        await asyncio.to_thread(mqtt.publish, HOST, port, "purista/events/measured", body)
        async with asyncio.timeout(10):
            await inbox.holds(1)
        (message,) = inbox.messages
        assert json.loads(message.body) == payload
        assert message.id == "7" if whole else message.id
        await bridge.close()

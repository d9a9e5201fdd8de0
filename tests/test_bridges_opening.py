"""Bridges by their address."""

import sys
from datetime import timedelta

import pytest

from purista.bridges import Connects
from purista.bridges.opening import open_events, open_queues
from purista.cli.bridging import opened_bridges
from purista.errors import BridgeError, MissingExtraError
from purista.local import AcceleratedClock
from purista.settings import IngressSettings

SECRET = "hunter2"
EVENTS = {
    "memory://": "MemoryEventBridge",
    "sqlite:///file.sqlite": "SQLiteEventBridge",
    f"nats://u:{SECRET}@broker": "NatsEventBridge",
    f"tls://u:{SECRET}@broker": "NatsEventBridge",
    f"amqp://u:{SECRET}@broker": "RabbitMQEventBridge",
    f"amqps://u:{SECRET}@broker": "RabbitMQEventBridge",
    f"redis://u:{SECRET}@broker": "RedisEventBridge",
    f"rediss://u:{SECRET}@broker": "RedisEventBridge",
    "unix:///run/valkey.sock": "RedisEventBridge",
    f"postgresql://u:{SECRET}@db/billing": "PostgresEventBridge",
    f"postgres://u:{SECRET}@db/billing": "PostgresEventBridge",
}
QUEUES = {
    "memory://": "MemoryQueueBridge",
    "sqlite:///file.sqlite": "SQLiteQueueBridge",
    f"nats://u:{SECRET}@broker": "NatsQueueBridge",
    f"tls://u:{SECRET}@broker": "NatsQueueBridge",
    f"redis://u:{SECRET}@broker": "RedisQueueBridge",
    f"rediss://u:{SECRET}@broker": "RedisQueueBridge",
    "unix:///run/valkey.sock": "RedisQueueBridge",
    f"postgresql://u:{SECRET}@db/billing": "PostgresQueueBridge",
    f"postgres://u:{SECRET}@db/billing": "PostgresQueueBridge",
}
DRIVERS = {
    "nats": ("nats://broker", "purista.bridges.nats_events", "purista.bridges.nats_queues"),
    "rabbitmq": ("amqp://broker", "purista.bridges.rabbitmq_events", None),
    "redis": ("redis://broker", "purista.bridges.redis_events", "purista.bridges.redis_queues"),
    "postgres": (
        "postgresql://db/billing",
        "purista.bridges.postgres_events",
        "purista.bridges.postgres_queues",
    ),
}


@pytest.mark.parametrize(("url", "kind"), EVENTS.items(), ids=EVENTS.values())
async def test_an_address_leads_to_its_event_bridge(url: str, kind: str):
    bridge = open_events(url, prefix="billing")
    assert type(bridge).__name__ == kind
    assert SECRET not in repr(bridge)
    await bridge.close()


@pytest.mark.parametrize(("url", "kind"), QUEUES.items(), ids=QUEUES.values())
async def test_an_address_leads_to_its_queue_bridge(url: str, kind: str):
    bridge = open_queues(url, prefix="billing")
    assert type(bridge).__name__ == kind
    assert SECRET not in repr(bridge)
    await bridge.close()


@pytest.mark.parametrize("extra", DRIVERS)
def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch, extra: str):
    url, events, queues = DRIVERS[extra]
    for opener, module in ((open_events, events), (open_queues, queues)):
        if module is not None:
            monkeypatch.setitem(sys.modules, module, None)
            with pytest.raises(MissingExtraError, match=rf"pip install 'purista\[{extra}\]'"):
                opener(url)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"nat://u:{SECRET}@broker", "there are none at 'nat://'; did you mean 'nats'?"),
        (f"kafka://u:{SECRET}@broker", "use one of: amqp, memory, nats, postgresql, redis, sqlite"),
        (SECRET, "no scheme"),
        (f"memory://{SECRET}", "takes nothing behind it"),
        (f"sqlite://{SECRET}/x", "write sqlite:///FILE"),
        (f"redis://u:{SECRET}@broker:port", "percent-encoded where it is odd"),
        (f"nats://u:{SECRET}@broker:port", "percent-encoded where it is odd"),
        (f"amqp://u:{SECRET}@broker:port", "percent-encoded where it is odd"),
    ],
)
def test_another_address_is_refused_without_showing_it(url: str, part: str):
    with pytest.raises(BridgeError) as caught:
        open_events(url)
    assert part in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"nats://u:{SECRET}@broker?tls=true", "tls:// instead of nats:// asks for TLS"),
        (f"nats://broker?{SECRET}=1&credentials=x", "there are credentials=FILE, nkey=FILE and"),
        (f"nats://u:{SECRET}@broker?credentials", "percent-encoded where it is odd"),
        (f"nats://u:{SECRET}@broker/path", "percent-encoded where it is odd"),
        (f"nats://u:{SECRET}@broker?replicas=0", "write replicas=3"),
        (f"nats://u:{SECRET}@broker?replicas=many", "write replicas=3"),
        (f"nats://u:{SECRET}@a?credentials=x,b", "percent-encoded where it is odd"),
        (f"nats://u:{SECRET}@a,tls://b", "percent-encoded where it is odd"),
        ("nats://broker?credentials=/no/file", "'/no/file' cannot be read (FileNotFoundError)"),
        (f"nats://u:{SECRET}@broker?credentials={__file__}", "are none; name the file"),
        (f"amqps://u:{SECRET}@broker?cafile=/no/file", "'/no/file' cannot be read"),
        (f"amqps://u:{SECRET}@broker?cafile={__file__}", "cannot be read (SSLError)"),
        (f"amqp://u:{SECRET}@broker?cafile=/no/file", "amqps:// for amqp://"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_when_it_is_opened(url: str, part: str):
    with pytest.raises(BridgeError) as caught:
        open_events(url)
    assert part in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("scheme", ["nats", "amqp"])
async def test_a_host_can_be_an_ipv6_address(scheme: str):
    bridge = open_events(f"{scheme}://[::1]:1")
    assert isinstance(bridge, Connects)
    with pytest.raises(BridgeError, match=r" at \[::1\]:1: "):
        await bridge.connect(patience=timedelta(0))
    await bridge.close()


def test_rabbitmq_is_refused_for_queues_with_the_way_out():
    with pytest.raises(BridgeError, match="name another place for the queues with --queues"):
        opened_bridges(IngressSettings(bridge="amqp://broker"))
    opened = opened_bridges(IngressSettings(bridge="amqp://broker", queues="memory://"))
    assert opened.events.capabilities.name == "rabbitmq"
    assert opened.queues.capabilities.name == "memory"


def test_an_option_is_taken_before_a_setting_and_one_of_both_before_both():
    settings = IngressSettings(bridge="nats://broker", queues="redis://broker")
    names = [
        [one.capabilities.name for one in opened_bridges(settings, **options)]
        for options in (
            {},
            {"bridge": "sqlite:///x"},
            {"bridge": "nats://b", "events": "redis://b"},
        )
    ]
    assert names == [["nats", "redis"], ["sqlite", "sqlite"], ["redis", "nats"]]


def test_a_clock_that_runs_faster_is_refused_with_a_broker():
    clock = AcceleratedClock(None, speed=60)
    assert opened_bridges(IngressSettings(), clock=clock)
    with pytest.raises(BridgeError, match="leave out --speed"):
        opened_bridges(IngressSettings(), bridge="nats://broker", clock=clock)

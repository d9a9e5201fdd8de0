"""The RabbitMQ event bridge on a real server."""

import asyncio
import contextlib
import ipaddress
import itertools
import json
import subprocess
import sys
import time
from datetime import timedelta

import aiormq
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pamqp.commands import Basic
from tests.engines.ports import HOST, free_port
from tests.engines.rabbitmq import rabbitmq_server

from purista.bridges.port import ATTEMPT, Reply
from purista.bridges.rabbitmq_connection import RabbitMQConnection
from purista.bridges.rabbitmq_events import RabbitMQEventBridge
from purista.bridges.rabbitmq_message import MOST_HEADERS
from purista.bridges.rabbitmq_names import Names, routing_key
from purista.bridges.rabbitmq_sender import LARGEST
from purista.bridges.rabbitmq_subscription import heartbeat_of
from purista.bridges.rabbitmq_topology import BITS, HIGHEST, STEP, steps_of, way_of
from purista.clock import SystemClock
from purista.contract import Backoff
from purista.errors import BridgeError, PayloadError
from purista.message import Message, RunInfo, new_message_id
from purista.subscribing import SubscriptionOptions
from purista.testing import EventBridgeSuite
from purista.testing.bridge_suite import Inbox

SECOND = timedelta(seconds=1)
EVERY = SubscriptionOptions(every_instance=True)
QUICK = Backoff(initial=timedelta(milliseconds=20), factor=1, jitter=0)
LONG = "größe." * 60
ODD = ["a b/c:d", "*", "#", "a.*.b", "..", "größe>", "%2A", "A", "a", "new\nline", "nul\0", LONG]


@pytest.fixture(scope="module")
def server():
    with rabbitmq_server() as server:
        yield server


@contextlib.asynccontextmanager
async def opened(url, **options):
    bridge = RabbitMQEventBridge(url, **options)
    try:
        yield bridge
    finally:
        await bridge.close()


@contextlib.asynccontextmanager
async def channel_to(server):
    """Open a plain channel, as a stranger has one."""
    async with aiormq.connect(server.url) as connection:
        yield await connection.channel()


def name(word="event"):
    return f"{word}-{new_message_id()}"


def message(event, body=b"{}"):
    return Message(event, body, new_message_id())


def options(**changes):
    return SubscriptionOptions(**{"backoff": QUICK, **changes})


def waiting(seconds, **changes):
    backoff = Backoff(initial=timedelta(seconds=seconds), factor=1, jitter=0)
    return options(backoff=backoff, **changes)


async def soon(awaitable, seconds=30):
    async with asyncio.timeout(seconds):
        return await awaitable


async def until(condition, seconds=30):
    async with asyncio.timeout(seconds):
        while not (found := condition()):  # noqa: ASYNC110 - the server sets it
            await asyncio.sleep(0.01)
        return found


async def eventually(look, seconds=30):
    """Return what ``look`` finds, once that is something."""
    async with asyncio.timeout(seconds):
        while not (found := await look()):  # noqa: ASYNC110 - the server sets it
            await asyncio.sleep(0.05)
        return found


async def dead(bridge, event, count, subscriber="one"):
    async def look():
        found = await bridge.dead_letters(event, subscriber)
        return found if len(found) == count else None

    return await eventually(look)


async def refused(call, seconds=15):
    with pytest.raises(BridgeError) as caught:
        await soon(call, seconds)
    return str(caught.value)


async def fail(_):
    raise RuntimeError("this receiver always fails")


async def refuse(_):
    raise PayloadError("payload: it does not fit")


async def echo(one):
    return Reply(one.body)


class TestRabbitMQEventBridge(EventBridgeSuite):
    unit = timedelta(seconds=0.3)

    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.url = server.url

    def clock(self):
        return SystemClock()

    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        async with opened(self.url, clock=clock) as bridge:
            yield bridge


# -- strangers -------------------------------------------------------------------------------------


async def test_an_event_has_its_attributes_in_the_headers(server):
    event = name()
    run = RunInfo("run-1", "a.v1.b", SystemClock().now(), "Europe/Berlin", is_target=True)
    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.connect()
        await bridge.publish(message(name("other")))
        queue = (await channel.queue_declare(exclusive=True)).queue
        await channel.queue_bind(queue, "purista.events", f"{event}.#")
        sent = Message(f"{event}.due", b'{"a": 1}', "4711", run)
        await bridge.publish(sent)
        got = await channel.basic_get(queue)
    properties = got.header.properties
    assert got.body == b'{"a": 1}'
    assert (properties.content_type, properties.delivery_mode) == ("application/json", 2)
    assert properties.headers["cloudEvents:id"] == "4711"
    assert properties.headers["cloudEvents:type"] == f"{event}.due"
    assert properties.headers["cloudEvents:puristarun"] == "run-1"


@pytest.mark.parametrize("prefix", ["cloudEvents:", "cloudEvents_", "ce-"])
async def test_an_event_of_a_stranger_is_read_whatever_its_prefix_is(server, prefix):
    event, inbox = name(), Inbox()
    headers = {"specversion": "1.0", "type": event, "source": "cli", "id": "4711", "subject": "x"}
    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", inbox)
        properties = Basic.Properties(
            headers={**{f"{prefix}{key}": value for key, value in headers.items()}, "n": 7}
        )
        await channel.basic_publish(
            b"1", exchange="purista.events", routing_key=event, properties=properties
        )
        await soon(inbox.holds(1))
    assert inbox.messages[0].id == "4711"
    assert inbox.messages[0].headers == {"ce-source": "cli", "ce-subject": "x", "n": "7"}


async def test_a_bare_body_gets_an_id_that_stays_through_its_attempts(server):
    event, seen = name(), []

    async def fail_once(one):
        seen.append((one.id, ATTEMPT.get()))
        if ATTEMPT.get() == 1:
            raise RuntimeError

    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", fail_once, options=options())
        for _ in range(2):
            empty = Basic.Properties(message_id=None)
            await _published_bare(channel, event, empty)
        await until(lambda: len(seen) == 4)
    ids = {one for one, _ in seen}
    assert len(ids) == 2
    assert sorted(seen) == sorted((one, attempt) for one in ids for attempt in (1, 2))


async def _published_bare(channel, event, properties):
    """Publish as ``rabbitmqadmin`` does: aiormq itself would put in an id."""
    confirmed = await channel.basic_publish(
        b"{}",
        exchange="purista.events",
        routing_key=event,
        properties=_Without(headers={}, content_type=properties.content_type),
    )
    assert isinstance(confirmed, Basic.Ack)


class _Without(Basic.Properties):
    """Properties whose message id is never sent."""

    def marshal(self):
        self.message_id = None
        return super().marshal()


async def test_what_is_no_message_becomes_a_dead_letter(server):
    event, inbox = name(), Inbox()
    headers = {"cloudEvents:id": "1", "cloudEvents:type": event, "cloudEvents:puristarun": "r"}
    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", inbox)
        properties = Basic.Properties(headers=headers)
        await channel.basic_publish(
            b"?", exchange="purista.events", routing_key=event, properties=properties
        )
        (letter,) = await dead(bridge, event, 1)
    assert letter.message.body == b"?"
    assert "attributes of its run" in letter.reason
    assert inbox.ids == []


@pytest.mark.parametrize("kept", ["xx", "[1]"])
async def test_whatever_a_stranger_publishes_the_next_event_is_received(server, kept):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", inbox, options=options(concurrency=1))
        for body, headers in ((b"1", {"purista-headers": kept}), (b"2", {})):
            properties = Basic.Properties(headers=headers)
            await channel.basic_publish(
                body, exchange="purista.events", routing_key=event, properties=properties
            )
        await soon(inbox.holds(1))
        (letter,) = await dead(bridge, event, 1)
    assert [one.body for one in inbox.messages] == [b"2"]
    assert letter.message.body == b"1"
    assert "cannot be read" in letter.reason


async def test_an_event_whose_headers_are_too_long_to_be_sent_on_becomes_a_dead_letter(server):
    event = name()

    async def refuse(_):
        raise PayloadError("payload: wrong")

    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", refuse)
        headers = {f"x-{number}": "y" * 1000 for number in range(110)}
        properties = Basic.Properties(headers=headers, message_id="4711")
        await channel.basic_publish(
            b"1", exchange="purista.events", routing_key=event, properties=properties
        )
        (letter,) = await dead(bridge, event, 1)
    assert (letter.message.id, letter.message.body) == ("4711", b"1")
    assert letter.reason == "payload: wrong"


async def test_an_answer_that_is_too_large_is_an_error_at_once(server):
    command = name("command")

    async def answer(_):
        return Reply(b"1" * (LARGEST + 1))

    async with opened(server.url) as bridge:
        await bridge.serve(command, answer)
        reply = await soon(await bridge.request(message(command), timeout=60 * SECOND))
    assert reply.error is not None
    assert (reply.error.kind, reply.error.code) == ("unhandled", "too_large")


async def test_headers_that_mean_something_to_the_server_arrive_as_they_were_sent(server):
    event, inbox = name(), Inbox()
    headers = {
        "CC": "somebody",
        "BCC": "another",
        "x-death": "long ago",
        "x-delivery-count": "7",
        "purista-attempt": "9",
        "purista-kept-x": "y",
        "x-request-id": "1",
    }
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", inbox)
        sent = message(event)._replace(headers=headers)
        await bridge.publish(sent)
        await soon(inbox.holds(1))
    assert inbox.messages == [sent]


@pytest.mark.parametrize("odd", ODD)
async def test_any_name_can_be_that_of_an_event_a_subscriber_and_a_command(server, odd):
    inbox, other = Inbox(), Inbox()
    async with opened(server.url, prefix=f"odd-{ODD.index(odd)}") as bridge:
        await bridge.subscribe(odd, odd, inbox)
        await bridge.subscribe(f"{odd}x", odd, other)
        await bridge.serve(odd, echo)
        sent = message(odd)
        await bridge.publish(sent)
        await soon(inbox.holds(1))
        pending = await bridge.request(message(odd, b"7"), timeout=SECOND * 5)
        assert await soon(pending) == Reply(b"7")
        assert (inbox.messages, other.messages) == ([sent], [])


def test_names_are_different_and_fit():
    names = Names("purista")
    queues = [names.queue(*pair) for pair in (("a:b", "c"), ("a", "b:c"), (LONG, "a"), (LONG, "b"))]
    assert len({*queues}) == 4
    assert all(len(queue) <= 255 for queue in queues)
    assert len({routing_key(one) for one in ODD}) == len(ODD)
    assert all(len(routing_key(one).encode()) <= 255 for one in ODD)


async def test_what_no_server_takes_is_refused_before_it_is_sent(server):
    async with opened(server.url) as bridge:
        large = message("event", b"x" * (LARGEST + 1))
        assert "send a reference" in await refused(bridge.publish(large))
        assert "send a reference" in await refused(bridge.request(large, timeout=SECOND))
        wordy = message("event")._replace(headers={"a": "x" * MOST_HEADERS})
        assert "headers" in await refused(bridge.publish(wordy))
        await bridge.publish(message("event", b"x" * 1_000_000))


async def test_a_body_that_is_too_large_for_this_server_is_refused_and_nothing_else():
    event, inbox = name(), Inbox()
    with rabbitmq_server("max_message_size = 100000") as server:
        async with opened(server.url) as bridge:
            await bridge.subscribe(event, "one", inbox)
            small = [message(event) for _ in range(50)]
            refusing = asyncio.create_task(refused(bridge.publish(message(event, b"x" * 200_000))))
            await soon(asyncio.gather(*(bridge.publish(one) for one in small)))
            assert "max_message_size" in await refusing
            await until(lambda: {one.id for one in small} <= set(inbox.ids))


# -- attempts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.033, 0.5, 0.77, 1.0, 3.1, 59, 300, 86_400, 10**7])
def test_an_event_waits_as_long_as_the_backoff_says_to_one_part_in_32(seconds):
    steps = steps_of(seconds)
    top, key = way_of(seconds, "queue")
    assert abs(min(seconds, STEP * 2 ** (HIGHEST + 1)) - steps * STEP) <= max(STEP, seconds) / 32
    bits = key.split(".")[:-1]
    assert len(bits) == top + 1
    assert bits[-1] == "1"
    assert sum(2**level for level, bit in enumerate(bits) if bit == "1") == steps
    assert bits.count("1") <= BITS or steps == 2 ** (HIGHEST + 1) - 1


@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.37])
async def test_a_retry_comes_when_it_is_due(server, seconds):
    event, times = name(), []

    async def fail_twice(_):
        times.append(time.monotonic())
        if ATTEMPT.get() < 3:
            raise RuntimeError

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", fail_twice, options=waiting(seconds))
        await bridge.publish(message(event))
        await until(lambda: len(times) == 3)
    for before, after in itertools.pairwise(times):
        assert seconds * 0.96 < after - before < seconds + 2


async def test_longer_waits_do_not_hold_up_shorter_ones(server):
    event, done = name(), []

    async def fail_once(one):
        if ATTEMPT.get() == 1:
            raise RuntimeError
        done.append(one.id)

    async with opened(server.url) as bridge:
        for subscriber, seconds in (("slow", 60), ("quick", 1)):
            await bridge.subscribe(event, subscriber, fail_once, options=waiting(seconds))
        sent = message(event)
        await bridge.publish(sent)
        await until(lambda: done == [sent.id])


async def test_a_retry_waits_in_the_server_whoever_goes_meanwhile(server):
    event, inbox, attempts = name(), Inbox(), []

    async def receive(one):
        attempts.append(ATTEMPT.get())
        await inbox(one)

    async with opened(server.url) as first:
        failed = asyncio.Event()

        async def fail_here(_):
            failed.set()
            raise RuntimeError

        await first.subscribe(event, "one", fail_here, options=waiting(1.5))
        sent = message(event)
        await first.publish(sent)
        await soon(failed.wait())
    async with opened(server.url) as second:
        await second.subscribe(event, "one", receive, options=waiting(1.5))
        await soon(inbox.holds(1))
        assert (inbox.ids, attempts) == ([sent.id], [2])


async def test_what_waits_for_a_queue_that_is_gone_is_kept(server):
    event, failed = name(), asyncio.Event()

    async def fail_here(_):
        failed.set()
        raise RuntimeError

    async with opened(server.url, prefix="kept") as bridge, channel_to(server) as channel:
        subscription = await bridge.subscribe(event, "one", fail_here, options=waiting(0.7))
        await bridge.publish(message(event, b'"kept"'))
        await soon(failed.wait())
        await subscription.cancel()
        await channel.queue_delete(Names("kept").queue(event, "one"))

        async def unclaimed():
            return (await channel.basic_get("kept.unclaimed")).body

        assert await eventually(unclaimed) == b'"kept"'


async def test_a_way_that_was_deleted_is_made_again(server):
    event, inbox = name(), Inbox()

    async def fail_once(one):
        if ATTEMPT.get() == 1:
            raise RuntimeError
        await inbox(one)

    async with opened(server.url, prefix="way") as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", fail_once, options=waiting(0.7))
        level, _ = way_of(0.7, "")
        await channel.exchange_delete(Names("way").wait(level))
        await channel.queue_delete(Names("way").wait(level - 1))
        await bridge.publish(message(event))
        await soon(inbox.holds(1))


async def test_an_event_whose_receivers_never_end_becomes_a_dead_letter(server):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", inbox, options=options(max_attempts=3))
        properties = Basic.Properties(headers={"purista-attempt": 4, "cloudEvents:id": "4711"})
        await channel.basic_publish(
            b"{}", routing_key=Names("purista").queue(event, "one"), properties=properties
        )
        (letter,) = await dead(bridge, event, 1)
        assert (letter.attempts, inbox.ids) == (4, [])


async def test_an_event_goes_back_when_its_dead_letter_cannot_be_stored(server, monkeypatch):
    event, attempts = name(), []

    async def refuse_twice(_):
        attempts.append(ATTEMPT.get())
        if len(attempts) < 3:
            raise PayloadError("payload: it does not fit")

    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", refuse_twice, options=options())

        async def away(*_):
            raise BridgeError("away")

        monkeypatch.setattr(bridge._letters, "bury", away)
        began = time.monotonic()
        await bridge.publish(message(event))
        await until(lambda: len(attempts) == 3)
        assert time.monotonic() - began > 3, "it came again and again"
        assert attempts == [1, 2, 3]


# -- dead letters ----------------------------------------------------------------------------------


async def test_dead_letters_can_be_looked_through_by_many_at_once(server):
    event, sent = name(), []
    async with opened(server.url) as here, opened(server.url) as there:
        await here.subscribe(event, "one", refuse)
        for _ in range(5):
            sent.append(message(event))
            await here.publish(sent[-1])
            await dead(here, event, len(sent))
        lists = await soon(
            asyncio.gather(*(each.dead_letters(event, "one") for each in (here, there) * 3))
        )
        for found in lists:
            assert [letter.message for letter in found] == sent


async def test_looking_through_dead_letters_leaves_nothing_behind(server):
    event = name()
    async with opened(server.url) as bridge, channel_to(server) as channel:
        assert await bridge.dead_letters(event, "one") == []
        await bridge.subscribe(event, "one", refuse)
        await bridge.publish(message(event))
        for _ in range(30):  # more often than a server gives back by itself
            await dead(bridge, event, 1)
        queues = server.control("list_queues", "name").splitlines()
        mine = [queue for queue in queues if event in queue]
        names = Names("purista")
        assert sorted(mine) == sorted([names.queue(event, "one"), names.letters(event, "one")])
        found = await channel.queue_declare(names.letters(event, "one"), passive=True)
        assert found.message_count == 1


async def test_dead_letters_of_a_subscriber_that_is_gone_stay(server):
    event = name()
    async with opened(server.url) as bridge, channel_to(server) as channel:
        subscription = await bridge.subscribe(event, "one", refuse)
        await bridge.publish(message(event))
        await dead(bridge, event, 1)
        await subscription.cancel()
        await channel.queue_delete(Names("purista").queue(event, "one"))
        assert await bridge.redrive(event, "one") == 0
        assert len(await bridge.dead_letters(event, "one")) == 1


# -- the server ------------------------------------------------------------------------------------


async def test_what_was_confirmed_right_before_the_server_was_killed_is_there():
    event, inbox, sent = name(), Inbox(), []
    with rabbitmq_server() as server:
        async with opened(server.url, timeout=SECOND * 30) as bridge:
            await (await bridge.subscribe(event, "away", inbox)).cancel()
            sent = [message(event) for _ in range(20)]
            await asyncio.gather(*(bridge.publish(one) for one in sent))
            server.kill()
            await asyncio.to_thread(server.restart)
            await bridge.subscribe(event, "away", inbox)
            await soon(inbox.holds(20), 30)
            assert sorted(inbox.ids) == sorted(one.id for one in sent)


async def test_a_dead_letter_is_there_right_after_the_server_was_killed():
    event = name()
    with rabbitmq_server() as server:
        async with opened(server.url, timeout=SECOND * 30) as bridge:
            await bridge.subscribe(event, "one", refuse)
            await bridge.publish(message(event))
            await dead(bridge, event, 1)
            server.kill()
            await asyncio.to_thread(server.restart)
            assert len(await soon(bridge.dead_letters(event, "one"), 30)) == 1


async def test_a_subscriber_whose_queue_was_deleted_makes_it_again(server):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.subscribe(event, "one", inbox)
        await channel.queue_delete(Names("purista").queue(event, "one"))

        async def published():
            await bridge.publish(message(event))
            return inbox.ids

        await eventually(published)


async def test_an_exchange_that_was_deleted_is_made_again(server):
    async with opened(server.url, prefix="lost") as bridge, channel_to(server) as channel:
        await bridge.publish(message("event"))
        await channel.exchange_delete("lost.events")
        await bridge.publish(message("event"))


async def test_a_server_that_is_full_refuses_in_time_and_delivers_what_it_has():
    event, inbox, gate = name(), Inbox(), asyncio.Event()

    async def receive(one):
        await gate.wait()
        await inbox(one)

    with rabbitmq_server() as server:
        async with opened(server.url, timeout=SECOND) as bridge:
            await bridge.subscribe(event, "one", receive)
            sent = message(event)
            await bridge.publish(sent)
            await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "0.0001")
            assert "not known" in await refused(bridge.publish(message(event)))
            gate.set()
            await soon(inbox.holds(1))
            await asyncio.to_thread(server.control, "set_vm_memory_high_watermark", "0.4")

            async def published():
                with contextlib.suppress(BridgeError):
                    await bridge.publish(message(event))
                    return True

            await eventually(published, 30)


async def test_a_wrong_password_is_told_at_once_and_never_shown(server):
    url = server.url.replace("guest:guest", "guest:wrong-one")
    async with opened(url) as bridge:
        for call in (bridge.connect(), bridge.publish(message("event")), bridge.serve("c", echo)):
            text = await refused(call, 5)
            assert "password" in text
            assert "wrong-one" not in text
            assert "wrong-one" not in repr(bridge)
    async with opened(f"{server.url}nowhere") as bridge:
        assert "virtual host 'nowhere'" in await refused(bridge.connect(), 5)


async def test_a_user_needs_the_rights_that_the_docs_name(server):
    event, inbox = name(), Inbox()
    await asyncio.to_thread(server.control, "add_user", "limited", "secret")
    rights = ("^purista\\.", "^(purista\\.|amq\\.default$)", "^purista\\.")
    await asyncio.to_thread(server.control, "set_permissions", "limited", *rights)
    url = server.url.replace("guest:guest", "limited:secret")
    async with opened(url) as bridge:
        await bridge.subscribe(event, "bad", refuse)
        await bridge.subscribe(event, "good", inbox)
        await bridge.subscribe(event, "again", fail, options=waiting(0.7, max_attempts=2))
        await bridge.subscribe(event, "all", inbox, options=EVERY)
        await bridge.serve(event, echo)
        await bridge.publish(message(event))
        await soon(inbox.holds(2))
        await dead(bridge, event, 1, "bad")
        await dead(bridge, event, 1, "again")
        assert await bridge.redrive(event, "bad") == 1
        pending = await bridge.request(message(event, b"7"), timeout=SECOND * 5)
        assert await soon(pending) == Reply(b"7")
    async with opened(url, prefix="other") as bridge:
        assert "no right" in await refused(bridge.publish(message(event)), 5)
        assert "no right" in await refused(bridge.subscribe(event, "one", inbox), 5)


async def test_a_server_is_reached_over_tls_only_when_its_certificate_is_trusted(tmp_path):
    authority, certificate, key = certified(tmp_path)
    port = free_port()
    lines = (
        f"listeners.ssl.1 = {HOST}:{port}",
        f"ssl_options.cacertfile = {authority}",
        f"ssl_options.certfile = {certificate}",
        f"ssl_options.keyfile = {key}",
    )
    with rabbitmq_server(*lines):
        url = f"amqps://guest:guest@{HOST}:{port}/"
        async with opened(f"{url}?cafile={authority}") as bridge:
            await bridge.publish(message("event"))
        async with opened(url) as bridge:
            text = await refused(bridge.connect(patience=timedelta(0)))
            assert "SSLCertVerificationError" in text


def certified(folder):
    """Return the files of an authority of our own, a certificate by it for this host, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = SystemClock().now()
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, certificate, private


@pytest.mark.parametrize(
    "url", ["http://x", "amqp://", "amqp://u:secret@h:port", "amqp://h?a=1", "amqp://h/a/b", "h"]
)
def test_an_address_that_is_none_is_refused_without_its_password(url):
    with pytest.raises(BridgeError) as caught:
        RabbitMQEventBridge(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a:b", "a b", "a.b", "x" * 33])
def test_a_prefix_that_could_be_anothers_is_refused(prefix):
    with pytest.raises(BridgeError, match="prefix"):
        RabbitMQEventBridge("amqp://h", prefix=prefix)


async def test_deployments_with_other_prefixes_do_not_meet(server):
    event, inbox = name(), Inbox()
    async with opened(server.url, prefix="here") as here, opened(server.url) as there:
        await here.subscribe(event, "one", inbox)
        await there.publish(message(event))
        await asyncio.sleep(0.1)
        assert inbox.ids == []


async def test_a_server_that_is_away_at_the_start_is_waited_for_or_refused():
    url = f"amqp://{HOST}:{free_port()}/"
    async with opened(url) as bridge:
        assert bridge.health.state == "idle"
        assert "cannot be reached" in await refused(bridge.connect(patience=timedelta(0)))
        assert bridge.health.state == "down"
    async with opened(url, timeout=SECOND / 3) as bridge:
        assert "cannot be reached" in await refused(bridge.publish(message("event")))


async def test_the_first_of_several_servers_that_answers_is_taken(server):
    url = f"amqp://guest:guest@{HOST}:{free_port()},{HOST}:{server.port}/"
    async with opened(url) as bridge:
        await soon(bridge.connect(patience=SECOND * 5))
        await bridge.publish(message("event"))
        assert bridge.health.state == "up"


async def test_a_bridge_opens_as_many_connections_as_it_says(server):
    def count():
        return server.control("list_connections", "name").count("->")

    async def settles_at(expected):
        async def look():
            return await asyncio.to_thread(count) == expected

        await eventually(look, 30)

    await settles_at(0)
    async with opened(server.url) as bridge:
        for _ in range(3):
            await bridge.subscribe(name(), "one", Inbox())
            await bridge.serve(name("command"), echo)
            await bridge.publish(message(name()))
        await settles_at(2)
        await bridge.subscribe(name(), "one", Inbox(), options=options(lease=SECOND * 3))
        await settles_at(3)
    await settles_at(0)


async def test_a_receiver_can_cancel_its_own_subscription(server):
    event, inbox, later = name(), Inbox(), Inbox()

    async with opened(server.url) as bridge:

        async def once(one):
            await subscription.cancel()
            await inbox(one)

        subscription = await bridge.subscribe(event, "one", once)
        await bridge.publish(message(event))
        await soon(inbox.holds(1))
        await soon(subscription.cancel())
        await bridge.subscribe(event, "one", later)
        await asyncio.sleep(0.3)
        assert later.ids == [], "what was handled came again"


# -- instances -------------------------------------------------------------------------------------


async def test_an_instance_leaves_nothing_in_the_server(server):
    event, inbox = name(), Inbox()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "all", inbox, options=EVERY)
        await bridge.publish(message(event))
        await soon(inbox.holds(1))

    async def is_gone():
        return event not in await asyncio.to_thread(server.control, "list_queues", "name")

    await eventually(is_gone)


async def test_an_instance_tries_a_failed_event_again(server):
    event, attempts, others = name(), [], Inbox()

    async def fail_always(one):
        if one.body == b"1":
            await others(one)
            return
        attempts.append(ATTEMPT.get())
        raise RuntimeError

    every = options(every_instance=True, max_attempts=3, concurrency=1)
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "all", fail_always, options=every)
        await bridge.publish(message(event))
        await bridge.publish(message(event, b"1"))
        await until(lambda: len(attempts) == 3)
        await soon(others.holds(1))
        await asyncio.sleep(0.1)
        assert attempts == [1, 2, 3]


# -- commands --------------------------------------------------------------------------------------


async def test_requests_whose_time_is_over_are_not_begun(server):
    command, inbox = name("command"), Inbox()

    async def answer(one):
        await inbox(one)
        return Reply(one.body)

    async with opened(server.url) as bridge, channel_to(server) as channel:
        queue = Names("purista").requests(command)
        arguments = {"x-queue-type": "classic", "x-expires": 60_000}
        await channel.queue_declare(queue, durable=True, auto_delete=True, arguments=arguments)
        late = await bridge.request(message(command, b"1"), timeout=SECOND / 5)
        await asyncio.gather(late, return_exceptions=True)
        await asyncio.sleep(0.1)
        await bridge.serve(command, answer)
        valid = message(command, b"2")
        reply = await soon(await bridge.request(valid, timeout=SECOND * 5))
        assert (reply.body, inbox.ids) == (b"2", [valid.id])


async def test_a_request_waits_for_a_responder_that_is_on_its_way(server):
    command = name("command")
    async with opened(server.url) as bridge, channel_to(server) as channel:
        queue = Names("purista").requests(command)
        arguments = {"x-queue-type": "classic", "x-expires": 60_000}
        await channel.queue_declare(queue, durable=True, auto_delete=True, arguments=arguments)
        pending = await bridge.request(message(command, b"1"), timeout=SECOND * 5)
        await bridge.serve(command, echo)
        assert await soon(pending) == Reply(b"1")


async def test_a_command_whose_only_server_was_killed_is_unknown(server):
    command = name("command")
    code = (
        "import asyncio\n"
        "from purista.bridges.port import Reply\n"
        "from purista.bridges.rabbitmq_events import RabbitMQEventBridge\n"
        "async def answer(one): return Reply(one.body)\n"
        "async def main():\n"
        f"    await RabbitMQEventBridge({server.url!r}).serve({command!r}, answer)\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen(  # noqa: ASYNC220 - quick
        [sys.executable, "-c", code], stdout=subprocess.PIPE
    ) as process:
        try:
            await asyncio.to_thread(process.stdout.readline)
            async with opened(server.url) as bridge:
                pending = await bridge.request(message(command, b"1"), timeout=SECOND * 5)
                assert await soon(pending) == Reply(b"1")
                process.kill()
                process.wait()
                await asyncio.sleep(0.3)
                pending = await bridge.request(message(command, b"1"), timeout=SECOND * 5)
                reply = await soon(pending)
                assert reply.error is not None
                assert reply.error.kind == "unknown"
        finally:
            process.kill()


async def test_a_request_that_is_no_message_is_answered_by_an_error(server):
    command = name("command")
    async with opened(server.url) as bridge, channel_to(server) as channel:
        await bridge.serve(command, echo)
        replies = asyncio.Queue()
        await channel.basic_consume("amq.rabbitmq.reply-to", replies.put, no_ack=True)
        properties = Basic.Properties(
            reply_to="amq.rabbitmq.reply-to",
            correlation_id="7",
            headers={"cloudEvents:puristarun": "half"},
        )
        await channel.basic_publish(
            b"1", routing_key=Names("purista").requests(command), properties=properties
        )
        reply = await soon(replies.get())
        assert reply.header.properties.correlation_id == "7"
        assert reply.header.properties.headers["purista-error"] == "unhandled"
        assert json.loads(reply.body)["code"] == "internal"


@pytest.mark.parametrize("seconds", [0.3, 1, 2, 2.5, 5, 29, 30, 31, 3600, 86400])
def test_the_server_gives_no_connection_up_before_the_lease_is_over(seconds):
    heartbeat = heartbeat_of(timedelta(seconds=seconds))
    assert 2 * heartbeat >= seconds
    assert 3 * heartbeat <= max(1.5 * seconds + 3, 3)


async def test_what_nobody_expected_while_it_connects_is_told_and_tried_again(
    server, monkeypatch, caplog
):
    really, failures = RabbitMQConnection._open, iter([ValueError("odd"), KeyError("odd")])

    async def opens(connection):
        for failure in failures:
            raise failure
        return await really(connection)

    monkeypatch.setattr(RabbitMQConnection, "_open", opens)
    async with opened(server.url) as bridge:
        await bridge.connect(patience=5 * SECOND)
        assert bridge.health.state == "up"
    assert caplog.text.count("connecting failed") == 2

"""The NATS queue bridge on a real nats-server."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import nats
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.engines.nats_broker import nats_broker

from purista.bridges import Job
from purista.bridges.nats_jobs import Source
from purista.bridges.nats_queues import NatsQueueBridge
from purista.clock import SystemClock
from purista.errors import BridgeError, LeaseLostError
from purista.message import Message, new_message_id
from purista.testing import QueueBridgeSuite

NOW = timedelta(0)
SECOND = timedelta(seconds=1)
LONG = timedelta(minutes=1)
ODD = ["a b/c:d", "*", "..", "größe>", "%3A", "{x}", "A", "a", "new\nline", "nul\0", "x" * 300]


@pytest.fixture(scope="module")
def server():
    with nats_broker() as started:
        yield started


class TestNatsQueueBridge(QueueBridgeSuite):
    unit = timedelta(seconds=0.5)

    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.url = server.url

    def clock(self):
        return SystemClock()

    @contextlib.asynccontextmanager
    async def bridge(self, clock):
        bridge = NatsQueueBridge(self.url)
        try:
            yield bridge
        finally:
            await bridge.close()


@pytest.fixture
async def bridge(server):
    async with opened(server.url) as bridge:
        yield bridge


@contextlib.asynccontextmanager
async def opened(url, **options):
    bridge = NatsQueueBridge(url, **options)
    try:
        yield bridge
    finally:
        await bridge.close()


@contextlib.asynccontextmanager
async def bare(url):
    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


def name(word="queue"):
    return f"{word}-{new_message_id()}"


def job(queue, body=b"{}", **options):
    return Job(Message(queue, body, new_message_id()), **options)


async def take(bridge, queue, duration=LONG, wait=5 * SECOND):
    leased = await bridge.lease(queue, duration=duration, wait=wait)
    assert leased is not None
    return leased


async def test_odd_names_of_queues_and_keys_are_told_apart(bridge):
    made = name()
    for odd in ODD:
        assert await bridge.enqueue(job(made + odd, odd.encode(), key=odd)) is True
        assert await bridge.enqueue(job(made + odd, key=odd)) is False
    for odd in ODD:
        leased = await take(bridge, made + odd)
        assert leased.job.message.body == odd.encode()
        assert leased.job.key == odd
        await bridge.ack(leased)


async def test_a_lease_that_was_given_up_costs_no_attempt(bridge):
    queue = name()
    for _ in range(3):
        waiting = asyncio.create_task(bridge.lease(queue, duration=LONG))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await bridge.enqueue(job(queue))
    for _ in range(3):
        waiting = asyncio.create_task(bridge.lease(queue, duration=LONG))
        while not bridge._held:  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert (await take(bridge, queue)).attempt == 1


async def test_ten_thousand_jobs_are_worked_on_once_each(server, bridge):
    queue, count = name(), 10_000
    jobs = [job(queue) for _ in range(count)]
    for start in range(0, count, 200):
        await asyncio.gather(*(bridge.enqueue(one) for one in jobs[start : start + 200]))
    done = []

    async def work(one):
        while len(done) < count:
            leased = await one.lease(queue, duration=LONG, wait=SECOND)
            if leased is not None:
                await one.ack(leased)
                done.append(leased.job.message.id)

    async with opened(server.url) as other:
        await asyncio.gather(*(work(one) for one in (bridge, other) for _ in range(20)))
    assert sorted(done) == sorted(one.message.id for one in jobs)


async def test_a_thousand_dead_letters_are_listed_and_redriven(bridge):
    queue = name()
    for _ in range(10):
        await asyncio.gather(*(bridge.enqueue(job(queue)) for _ in range(100)))

    async def bury():
        for _ in range(100):
            await bridge.nack(await take(bridge, queue), retry_in=None, reason="no")

    await asyncio.gather(*(bury() for _ in range(10)))
    assert len(await bridge.dead_letters(queue)) == 1000
    assert await bridge.redrive(queue) == 1000
    assert await bridge.dead_letters(queue) == []
    assert (await take(bridge, queue)).attempt == 1


async def test_what_cannot_be_read_becomes_a_dead_letter(server, bridge):
    queue = name()
    async with bare(server.url) as client:
        await bridge.connect()
        headers = {"purista-max-attempts": "many"}
        await client.jetstream().publish(f"purista.jobs.{queue}", b"x", headers=headers)
    assert await bridge.lease(queue, duration=LONG, wait=SECOND / 2) is None
    (dead,) = await bridge.dead_letters(queue)
    assert "headers of a job cannot be read" in dead.reason


ODD_HEADERS = [{"purista-headers": "xx"}, {"purista-headers": "[1]"}]


@pytest.mark.parametrize("headers", ODD_HEADERS)
async def test_whatever_a_stranger_puts_into_a_queue_the_next_job_is_leased(
    server, bridge, headers
):
    queue = name()
    async with bare(server.url) as client:
        await bridge.connect()
        js = client.jetstream()
        await js.publish(f"purista.jobs.{queue}", b"1", headers=headers)
        await js.publish(f"purista.jobs.{queue}", b"2")
    leased = await take(bridge, queue)
    assert leased.job.message.body == b"2"
    (dead,) = await bridge.dead_letters(queue)
    assert dead.job.message.body == b"1"
    assert "cannot be read" in dead.reason


MOST = 1_048_576
"""Bytes of headers and body that a server takes, unless it is told otherwise."""


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_job_that_is_too_large_with_its_headers_is_refused_at_once(bridge, key):
    await bridge.connect()
    since = bridge.health.since
    for size in (MOST - 100, 2 * MOST):
        with pytest.raises(BridgeError, match="raise its max_payload"):
            async with asyncio.timeout(2):
                await bridge.enqueue(job(name(), b"1" * size, key=key))
    assert bridge.health.since == since


@pytest.mark.parametrize("key", [None, "k"])
async def test_the_largest_job_that_is_taken_can_become_a_dead_letter(bridge, key):
    queue, reason = name(), "whys" * 400
    for size in range(MOST - 3000, MOST, 150):
        try:
            await bridge.enqueue(job(queue, b"1" * size, max_attempts=1, key=key and f"{size}"))
        except BridgeError:
            break
        leased = await take(bridge, queue)
        assert await bridge.nack(leased, retry_in=NOW, reason=reason)
    assert {len(one.reason) for one in await bridge.dead_letters(queue)} == {1000}


@pytest.mark.parametrize("room", [0, 1, 30, 90, 300, 1200])
async def test_a_strangers_job_of_any_size_becomes_a_dead_letter_that_can_be_redriven(
    server, bridge, room
):
    queue, body = name(), b"1" * (MOST - room)
    await bridge.connect()
    async with bare(server.url) as client:
        await client.publish(f"purista.jobs.{queue}", body)
        leased = await take(bridge, queue)
    assert await bridge.nack(leased, retry_in=None, reason="whys" * 400)
    assert await bridge.redrive(queue) == 1
    is_whole = (await take(bridge, queue)).job.message.body == body
    assert is_whole


async def test_a_queue_can_have_its_jobs_in_another_stream(server):
    stream, subject = name("stream"), name("their.triggers")
    async with bare(server.url) as client:
        js = client.jetstream()
        await js.add_stream(name=stream, subjects=[subject], retention="workqueue")
        await js.publish(subject, b"{}", headers={"ce-type": "t", "ce-id": "1"})
        sources = {"triggers": Source(stream, subject)}
        async with opened(server.url, sources=sources) as bridge:
            leased = await take(bridge, "triggers", duration=SECOND)
            headers = leased.job.message.headers
            stored = datetime.fromisoformat(headers["nats-time-stamp"])
            assert abs(datetime.now(UTC) - stored) < LONG
            assert leased.job.max_attempts > 1_000_000
            await bridge.nack(leased, retry_in=NOW, reason="later")
            leased = await take(bridge, "triggers")
            assert leased.attempt == 2
            await bridge.ack(leased)
            assert (await js.stream_info(stream)).state.messages == 0


async def test_a_body_that_is_too_large_is_refused_with_the_remedy(bridge):
    with pytest.raises(BridgeError, match="max_payload"):
        await bridge.enqueue(job(name(), b"x" * 2_000_000))


async def test_a_wrong_password_is_refused_at_once_and_never_shown():
    options = 'authorization { user: "u", password: "right" }'
    with nats_broker(options, credentials="u:hunter2@") as server:
        async with opened(server.url) as bridge:
            with pytest.raises(BridgeError, match="refuses the user") as caught:
                await bridge.connect()
            assert "hunter2" not in str(caught.value) + repr(bridge)


def certificate(folder):
    """Write a certificate for this machine that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + 60 * LONG)
    made = made.add_extension(address, critical=False).sign(key, hashes.SHA256())
    (folder / "certificate.pem").write_bytes(made.public_bytes(Encoding.PEM))
    plain = NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, plain))


async def test_over_tls_the_certificate_has_to_be_trusted(tmp_path, monkeypatch):
    certificate(tmp_path)
    files = f'cert_file: "{tmp_path}/certificate.pem", key_file: "{tmp_path}/key.pem"'
    with nats_broker(f"tls {{ {files} }}") as server:
        url = server.url.replace("nats://", "tls://")
        async with opened(url) as bridge:
            with pytest.raises(BridgeError, match=r"not trusted .*self-signed.*SSL_CERT_FILE"):
                await bridge.connect()
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        async with opened(url) as bridge:
            await bridge.connect()
            await bridge.enqueue(job("secret"))
            await bridge.ack(await take(bridge, "secret"))


async def test_a_server_that_is_away_is_said_at_once_or_waited_for():
    with nats_broker() as server:
        async with opened(server.url) as bridge:
            server.kill()
            with pytest.raises(BridgeError, match="away"):
                await bridge.connect(patience=NOW)
            assert bridge.health.state == "down"
            waiting = asyncio.create_task(bridge.connect())
            await asyncio.sleep(0.5)
            assert not waiting.done()
            server.restart()
            await asyncio.wait_for(waiting, 10)
            assert bridge.health.state == "up"


async def test_a_lease_belongs_to_the_bridge_that_gave_it(server, bridge):
    queue = name()
    await bridge.enqueue(job(queue))
    leased = await take(bridge, queue)
    async with opened(server.url) as other:
        with pytest.raises(LeaseLostError):
            await other.ack(leased)
    await bridge.ack(leased)


async def test_a_full_server_refuses_jobs_and_keeps_those_that_it_has():
    with nats_broker(most="1MB") as server:
        async with opened(server.url, timeout=SECOND) as bridge:
            stored = []

            async def fill():
                for number in range(100):
                    await bridge.enqueue(job("reports", b"x" * 50_000))
                    stored.append(number)

            with pytest.raises(BridgeError, match=r"insufficient|maximum|resource"):
                await fill()
            assert 5 < len(stored) < 25
            for _ in stored:
                await bridge.ack(await take(bridge, "reports"))
            assert await bridge.enqueue(job("reports", b"x" * 50_000)) is True

"""The NATS event bridge on a real nats-server."""

import asyncio
import base64
import contextlib
import json
from datetime import timedelta

import nats
import nkeys
import pytest
from tests.engines.nats_broker import nats_broker

from purista.bridges import Reply
from purista.bridges.nats_connection import NatsConnection
from purista.bridges.nats_events import NatsEventBridge
from purista.clock import SystemClock
from purista.errors import BridgeError, PayloadError
from purista.message import Message, new_message_id
from purista.testing import EventBridgeSuite
from purista.testing.bridge_suite import Inbox

SECOND = timedelta(seconds=1)
LONG = timedelta(minutes=1)


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


@contextlib.asynccontextmanager
async def opened(url, **options):
    bridge = NatsEventBridge(url, **options)
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


def name(word="event"):
    return f"{word}-{new_message_id()}"


async def soon(waiting, *, seconds=10):
    async with asyncio.timeout(seconds):
        return await waiting


async def dead(bridge, event, count, *, seconds=10):
    """Return the dead letters of the subscriber ``one``, once there are so many."""
    async with asyncio.timeout(seconds):
        while len(found := await bridge.dead_letters(event, "one")) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


CUT_ID = rb'{"type":"%s","specversion":"1.0","id":"\ud83d","source":"s","data":1}'


@pytest.mark.parametrize("headers", [{"purista-headers": "xx"}, {"purista-headers": "[1]"}, None])
async def test_whatever_a_stranger_publishes_the_next_event_is_received(server, headers):
    event, inbox = name(), Inbox()
    body = b"1" if headers else CUT_ID % event.encode()
    async with opened(server.url) as bridge, bare(server.url) as client:
        await bridge.subscribe(event, "one", inbox)
        js = client.jetstream()
        await js.publish(f"purista.events.{event}", body, headers=headers)
        await js.publish(f"purista.events.{event}", b"2")
        await soon(inbox.holds(1))
        (letter,) = await dead(bridge, event, 1)
    assert [one.body for one in inbox.messages] == [b"2"]
    assert letter.message.body == body
    assert "cannot be read" in letter.reason


MOST = 1_048_576
"""Bytes of headers and body that a server takes, unless it is told otherwise."""


async def test_what_is_too_large_with_its_headers_is_refused_at_once(server):
    async with opened(server.url) as bridge:
        await bridge.connect()
        since = bridge.health.since
        for size in (MOST - 100, 2 * MOST):
            with pytest.raises(BridgeError, match="raise its max_payload"):
                await soon(bridge.publish(Message(name(), b"1" * size, "1")), seconds=2)
            message = Message("a", b"1" * size, "1", None, {"a": "b" * 100})
            with pytest.raises(BridgeError, match="raise its max_payload"):
                await soon(bridge.request(message, timeout=SECOND), seconds=2)
        assert bridge.health.since == since


async def refuse(message):
    raise PayloadError(f"payload: {'wrong ' * 300}")


async def test_the_largest_event_that_is_taken_can_become_a_dead_letter(server):
    event, taken = name(), []
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", refuse)
        for size in range(MOST - 3000, MOST, 150):
            body = b"1" * size
            try:
                await bridge.publish(Message(event, body, str(size), None, {"a": "b"}))
            except BridgeError:
                break
            taken.append(size)
        letters = await dead(bridge, event, len(taken), seconds=30)
        assert bridge.health.state == "up"
    assert [int(letter.message.id) for letter in letters] == taken
    assert all(len(letter.reason) == 1000 for letter in letters)


@pytest.mark.parametrize("room", [0, 1, 20, 60, 200, 400, 700, 1500])
@pytest.mark.parametrize("length", [0, 10, 400])
async def test_a_strangers_event_of_any_size_becomes_a_dead_letter(server, room, length):
    event = name()
    headers = {"x": "y" * length} if room > length + 20 else None
    body = b"1" * (MOST - room)
    async with opened(server.url) as bridge, bare(server.url) as client:
        await bridge.subscribe(event, "one", refuse)
        await client.publish(f"purista.events.{event}", body, headers=headers)
        (letter,) = await dead(bridge, event, 1)
        assert bridge.health.state == "up"
        is_whole = letter.message.body == body  # no assertion: it would show them
        assert is_whole


async def test_an_answer_that_is_too_large_is_an_error_at_once(server):
    command = name("command")

    async def answer(message):
        return Reply(b"1" * MOST)

    async with opened(server.url) as bridge:
        await bridge.serve(command, answer)
        pending = await bridge.request(Message(command, b"1", "1"), timeout=LONG)
        reply = await soon(pending, seconds=2)
    assert reply.error is not None
    assert (reply.error.kind, reply.error.code) == ("unhandled", "too_large")


async def test_what_fails_again_at_once_is_redriven_once(server):
    event = name()
    async with opened(server.url) as bridge:
        await bridge.subscribe(event, "one", refuse)
        for number in range(5):
            await bridge.publish(Message(event, b"1", str(number)))
        await dead(bridge, event, 5)
        assert await soon(bridge.redrive(event, "one")) == 5


CREDENTIALS = """-----BEGIN NATS USER JWT-----
{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""
ENDLESS = dict.fromkeys(["subs", "data", "payload", "imports", "exports", "conn", "leaf"], -1)
STORES = dict.fromkeys(["mem_storage", "disk_storage", "streams", "consumer"], -1)


def keys(prefix, number):
    pair = nkeys.from_seed(bytearray(nkeys.encode_seed(bytes([number] * 32), prefix)))
    return pair, pair.public_key.decode()


def jwt(issuer, subject, claims):
    """Return a JWT as ``nsc`` makes it (https://docs.nats.io/running-a-nats-service/configuration/securing_nats/jwt)."""
    pair, name = issuer
    about = {"jti": "1", "iat": 1, "iss": name, "name": "x", "sub": subject}
    parts = [{"typ": "JWT", "alg": "ed25519-nkey"}, {**about, "nats": {**claims, "version": 2}}]
    text = b".".join(_base64(json.dumps(part).encode()) for part in parts)
    return (text + b"." + _base64(pair.sign(text))).decode()


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture(scope="module")
def guarded():
    """A server that takes only users with credentials, and what stands in the file of one."""
    operator = keys(nkeys.PREFIX_BYTE_OPERATOR, 1)
    system, account = (keys(nkeys.PREFIX_BYTE_ACCOUNT, number) for number in (2, 3))
    user, user_name = keys(nkeys.PREFIX_BYTE_USER, 4)
    limits = {**ENDLESS, "wildcards": True}
    accounts = {
        system[1]: jwt(operator, system[1], {"type": "account", "limits": limits}),
        account[1]: jwt(operator, account[1], {"type": "account", "limits": {**limits, **STORES}}),
    }
    lines = [
        f"operator: {jwt(operator, operator[1], {'type': 'operator'})}",
        f"system_account: {system[1]}",
        "resolver: MEMORY",
        f"resolver_preload: {json.dumps(accounts)}",
    ]
    with nats_broker(*lines) as server:
        claims = {"type": "user", **{key: ENDLESS[key] for key in ("subs", "data", "payload")}}
        yield server, jwt(account, user_name, claims), user.seed.decode()


@pytest.mark.parametrize("is_right", [True, False])
async def test_a_file_of_credentials_is_taken(guarded, tmp_path, is_right):
    server, token, seed = guarded
    path = tmp_path / "user.creds"
    path.write_text(CREDENTIALS.format(jwt=token, seed=seed if is_right else "none"))
    async with opened(f"{server.url}?credentials={path}") as bridge:
        if is_right:
            await soon(bridge.connect())
            return
        with pytest.raises(BridgeError, match="check the address' credentials"):
            await soon(bridge.connect())


async def test_a_wrong_password_is_told_once_and_by_an_error(caplog):
    with nats_broker("authorization { user: a, password: b }") as server:
        async with opened(server.url.replace("//", "//a:wrong@")) as bridge:
            with pytest.raises(BridgeError, match="it refuses the user"):
                await soon(bridge.connect())
    assert caplog.text == ""


async def test_a_server_that_was_never_there_is_told_as_such(caplog):
    async with opened("nats://127.0.0.1:1") as bridge:
        with pytest.raises(BridgeError, match="the server is away"):
            await soon(bridge.connect(patience=timedelta(0)))
        assert bridge.health.reason == "NATS at 127.0.0.1:1: the server is away"
    assert "was lost" not in caplog.text


async def test_more_servers_than_there_are_is_refused_at_the_start(server):
    prefix = f"wide-{new_message_id()}"
    async with opened(f"{server.url}?replicas=3", prefix=prefix) as bridge:
        with pytest.raises(BridgeError, match="replicas > 1 not supported in non-clustered mode"):
            await soon(bridge.connect())


async def test_dead_letters_stay_until_somebody_acts(server):
    prefix = f"kept-{new_message_id()}"
    async with opened(server.url, prefix=prefix) as bridge, bare(server.url) as client:
        await bridge.connect()
        info = await client.jetstream().stream_info(f"{prefix}-dead-events")
        assert not info.config.max_age
        info = await client.jetstream().stream_info(f"{prefix}-events")
        assert info.config.max_age == 30 * 24 * 3600


@pytest.mark.parametrize(("age", "after"), [(30 * 24 * 3600, None), (3600, 3600)])
async def test_a_stream_of_dead_letters_of_an_earlier_version_keeps_them_from_now_on(
    server, age, after
):
    prefix = f"kept-{new_message_id()}"
    async with opened(server.url, prefix=prefix) as bridge, bare(server.url) as client:
        js = client.jetstream()
        stream = f"{prefix}-dead-events"
        await js.add_stream(name=stream, subjects=[f"{prefix}.dead-events.>"], max_age=age)
        await bridge.connect()
        assert ((await js.stream_info(stream)).config.max_age or None) == after


@pytest.mark.parametrize("failure", [RuntimeError("odd"), BridgeError("no answer")])
async def test_a_subscription_whose_consumer_is_deleted_goes_on_although_making_it_fails(
    server, monkeypatch, failure
):
    prefix, inbox, failed = f"lost-{new_message_id()}", Inbox(), asyncio.Event()
    event, stream = name(), f"{prefix}-events"
    async with opened(server.url, prefix=prefix) as bridge, bare(server.url) as client:
        await bridge.subscribe(event, "one", inbox)
        js = client.jetstream()
        async with asyncio.timeout(10):
            while not (consumer := (await js.consumers_info(stream))[0]).num_waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        api = NatsConnection.api

        async def fails(self, subject, body=None):
            if subject.startswith("CONSUMER.CREATE.") and not failed.is_set():
                failed.set()
                raise failure
            return await api(self, subject, body)

        monkeypatch.setattr(NatsConnection, "api", fails)
        monkeypatch.setattr("purista.bridges.nats_subscription.Streams.ensure", fails_with(failure))
        await js.delete_consumer(stream, consumer.name)
        await soon(failed.wait())
        monkeypatch.undo()
        async with asyncio.timeout(10):
            while not inbox.ids:
                await bridge.publish(Message(event, b"1", new_message_id()))
                await asyncio.sleep(0.1)


def fails_with(failure):
    async def fails(*_):
        raise failure

    return fails

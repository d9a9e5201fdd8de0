"""Hostile requests against a real server, each with the answer that it has to get."""

from __future__ import annotations

import base64
import gzip
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from tests.engines.ingress_server import Reply, ServedIngress, reply_of, request, served
from tests.engines.issuer import ACCOUNT, AUDIENCE, Issuer, issuer

from purista import (
    Every,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    Trigger,
)
from purista.ingress.http import ingress_app
from purista.ingress.http.limits import Limits
from purista.ingress.http.server import server_config
from purista.testing import ManualClock
from purista.verifying.bearer import BearerVerifier
from purista.verifying.oidc import OidcVerifier
from purista.verifying.secret import Secret
from purista.verifying.signatures import SignatureVerifier, Signer

NOW = datetime(2027, 3, 1, 12, 0, 5, tzinfo=UTC)
EARLIER = "2027-03-01T11:00:00Z"
NOON = "2027-03-01T12:00:00Z"
HOURLY = "Shop.v1.hourly"
WORD = "a-token-of-at-least-22-characters"
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STRUCTURED = ("content-type", "application/cloudevents+json")
JSON = ("content-type", "application/json")
LIMITS = Limits(body=100_000)
HASTY = Limits(header_time=timedelta(seconds=0.4), body_time=timedelta(seconds=0.4))


class World(NamedTuple):
    server: ServedIngress
    issuer: Issuer

    def token(self, **changes: Any) -> tuple[str, str]:
        return ("authorization", f"Bearer {self.issuer.token(**changes)}")


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with issuer(lambda: NOW) as keys, served(lambda: config(keys, LIMITS)) as server:
        yield World(server, keys)


@pytest.fixture(scope="module")
def hasty(world: World) -> Iterator[World]:
    """A server that waits for nobody."""
    with served(lambda: config(world.issuer, HASTY)) as server:
        yield World(server, world.issuer)


def config(keys: Issuer, limits: Limits) -> Any:
    clock, ledger, shop = ManualClock(NOW), MemoryLedger(), Service("Shop", version="1")
    due = shop.event("due", dict[str, Any])
    shop.schedule("hourly").emit_event(due, expression=Every(timedelta(hours=1)), payload={})
    bridges: Any = {
        "event_bridge": MemoryEventBridge(clock=clock),
        "queue_bridge": MemoryQueueBridge(clock=clock),
    }
    ingress = Ingress([shop], ledger=ledger, clock=clock, **bridges)
    verifiers = [
        OidcVerifier(keys.url, AUDIENCE, service_accounts=ACCOUNT, clock=clock),
        BearerVerifier(Secret.inline(WORD)),
        SignatureVerifier(Secret.inline(KEY), nonces=ledger, clock=clock),
    ]
    app = ingress_app(ingress, verifiers=verifiers, limits=limits, opens=[ingress])
    return server_config(app, limits)


def event(**changes: Any) -> bytes:
    slot = datetime.fromisoformat(NOON)
    made = Trigger(schedule_id=HOURLY, nominal_time=slot, source="test").to_cloudevent()
    made.update(changes)
    return json.dumps({name: value for name, value in made.items() if value is not ...}).encode()


BEARER = ("authorization", f"Bearer {WORD}")


def post(
    body: bytes | None = None, *headers: tuple[str, str], path: str = "/triggers"
) -> Callable[[World], bytes]:
    """Return what sends a body as an event, with the static token."""
    return lambda world: request(
        "POST", path, [BEARER, STRUCTURED, *headers], event() if body is None else body
    )


def with_token(**changes: Any) -> Callable[[World], bytes]:
    return lambda world: request("POST", "/triggers", [world.token(**changes), STRUCTURED], event())


def raw(text: str, body: bytes = b"") -> Callable[[World], bytes]:
    return lambda world: text.replace("\n", "\r\n").encode("latin-1") + body


def by_public_key(world: World) -> bytes:
    """Key confusion: the issuer's public key used as the secret of an HMAC."""
    head = json.dumps({"alg": "HS256", "typ": "JWT", "kid": world.issuer.key.kid}).encode()
    content = f"{base64url(head)}.{world.issuer.token().split('.')[1]}"
    secret = world.issuer.key.as_pem(private=False)
    seal = hmac.digest(secret, content.encode(), "sha256")
    value = ("authorization", f"Bearer {content}.{base64url(seal)}")
    return request("POST", "/triggers", [value, STRUCTURED], event())


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def unsigned(world: World) -> bytes:
    """``alg: none``, with a payload that is right."""
    token = world.issuer.token().split(".")
    header = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0"  # {"alg":"none","typ":"JWT"}
    value = ("authorization", f"Bearer {header}.{token[1]}.")
    return request("POST", "/triggers", [value, STRUCTURED], event())


def ago(**duration: int) -> int:
    return int((NOW - timedelta(**duration)).timestamp())


HEAD = f"POST /triggers HTTP/1.1\nhost: x\nauthorization: Bearer {WORD}\n"
BODY = event()
BINARY = [
    ("ce-specversion", "1.0"),
    ("ce-type", "dev.purista.schedule.trigger"),
    ("ce-source", "test"),
    ("ce-subject", HOURLY),
    ("ce-id", "1"),
]

CREDENTIALS: dict[str, tuple[Callable[[World], bytes], int]] = {
    "a right token": (with_token(), 202),
    "no credentials": (lambda world: request("POST", "/triggers", [STRUCTURED], event()), 401),
    "wrong audience": (with_token(aud="https://other.example.com"), 401),
    "one more audience": (with_token(aud=[AUDIENCE, "https://other.example.com"]), 401),
    "wrong issuer": (with_token(iss="https://evil.example.com"), 401),
    "expired": (with_token(iat=ago(hours=2), exp=ago(hours=1)), 401),
    "from the future": (with_token(iat=ago(hours=-2), nbf=ago(hours=-2), exp=ago(hours=-3)), 401),
    "another account": (with_token(email="mallory@evil.iam.gserviceaccount.com"), 401),
    "an unverified email": (with_token(email_verified=False), 401),
    "alg none": (unsigned, 401),
    "key confusion": (by_public_key, 401),
    "an unknown key": (lambda world: with_token(key=world.issuer.new_key(kid="mine"))(world), 401),
    "a forged key id": (
        lambda world: with_token(key=world.issuer.new_key(kid=world.issuer.key.kid))(world),
        401,
    ),
    "a token in the query": (
        lambda world: request(
            "POST", f"/triggers?access_token={world.issuer.token()}", [STRUCTURED], event()
        ),
        401,
    ),
    "a wrong static token": (
        lambda world: request(
            "POST", "/triggers", [("authorization", "Bearer " + "x" * 32), STRUCTURED], event()
        ),
        401,
    ),
    "basic": (
        lambda world: request("POST", "/triggers", [("authorization", "Basic eDp4")], event()),
        401,
    ),
    "two authorizations": (post(None, ("authorization", "Bearer x")), 400),
}

MESSAGES: dict[str, tuple[Callable[[World], bytes], int]] = {
    "wrong content type": (
        lambda world: request("POST", "/triggers", [BEARER, ("content-type", "text/html")], b"<p>"),
        415,
    ),
    "no content type": (lambda world: request("POST", "/triggers", [BEARER], event()), 415),
    "a form": (
        lambda world: request(
            "POST",
            f"/triggers/{HOURLY}",
            [BEARER, ("content-type", "application/x-www-form-urlencoded")],
            b"manual=true",
        ),
        415,
    ),
    "a gzipped body": (post(gzip.compress(BODY), ("content-encoding", "gzip")), 415),
    "two content types": (post(None, JSON), 400),
    "two ce-ids": (
        lambda world: request("POST", "/triggers", [BEARER, *BINARY, ("CE-Id", "2")]),
        400,
    ),
    "no id": (post(event(id=...)), 400),
    "an empty id": (post(event(id="")), 400),
    "no subject": (post(event(subject=...)), 400),
    "another type": (post(event(type="com.example.order")), 400),
    "an unknown schedule": (post(event(subject="Shop.v1.other")), 404),
    "a time that is none of the schedule's": (post(event(time="2027-03-01T11:30:00Z")), 422),
    "a far future": (post(event(time="9999-12-31T23:00:00Z")), 422),
    "a far past": (post(event(time="0001-01-01T00:00:00Z")), 422),
    "a far past that is a slot": (post(event(time="1970-01-01T00:00:00Z")), 200),
    "before the year 1": (post(event(time="0001-01-01T00:00:00+23:59")), 400),
    "a leap second": (post(event(time="2027-03-01T11:59:60Z")), 400),
    "a time without an offset": (post(event(time="2027-03-01T12:00:00")), 400),
    "an unknown fingerprint": (post(event(puristafingerprint="0" * 64, time=EARLIER)), 409),
    "a payload of another type": (post(event(data=[1], time=EARLIER)), 422),
    "100,000 brackets": (post(b"[" * 50_000 + b"]" * 50_000), 400),
    "deep data": (
        post(event().replace(b"{", b'{"data":' + b"[" * 20_000 + b"]" * 20_000 + b",", 1)),
        400,
    ),
    "a huge number": (post(event(data={"n": 0}).replace(b'"n": 0', b'"n": ' + b"9" * 50_000)), 400),
    "a number beyond floats": (post(event(data={"n": 0}).replace(b'"n": 0', b'"n": 1e999')), 400),
    "a key twice": (post(b'{"id":"1",' + event()[1:]), 400),
    "NaN": (post(event(data={"n": 0}).replace(b'"n": 0', b'"n": NaN')), 400),
    "invalid UTF-8": (post(event().replace(b"test", b"\xff\xfe\xfd")), 400),
    "UTF-16": (post(event().decode().encode("utf-16")), 400),
    "a byte order mark": (post(b"\xef\xbb\xbf" + event()), 200),
    "a lone surrogate": (post(event(source="\ud800")), 400),
    "a null character": (post(event(source="a\x00b")), 400),
    "no object": (post(b"[]"), 400),
    "nothing": (post(b""), 400),
    "a batch": (
        lambda world: request(
            "POST",
            "/triggers",
            [BEARER, ("content-type", "application/cloudevents-batch+json")],
            b"[]",
        ),
        415,
    ),
    "an unknown parameter": (post(None, path="/triggers?debug=1"), 400),
}

PATHS: dict[str, tuple[Callable[[World], bytes], int]] = {
    "dots": (lambda world: request("POST", "/triggers/../runs", [BEARER], b""), 404),
    "encoded dots": (lambda world: request("POST", "/triggers/%2e%2e", [BEARER], b""), 404),
    "encoded dots to elsewhere": (post(None, path="/%2e%2e/%2e%2e/etc/passwd"), 404),
    "a null character in a path": (
        lambda world: request("POST", "/triggers/a%00b", [BEARER], b""),
        400,
    ),
    "a line in a path": (lambda world: request("POST", "/triggers/a%0d%0ab", [BEARER], b""), 404),
    "encoded twice": (lambda world: request("POST", "/triggers/Shop%252Ev1", [BEARER], b""), 404),
    "not UTF-8": (lambda world: request("POST", "/triggers/%ff", [BEARER], b""), 404),
    "a slash more": (lambda world: request("POST", "//triggers", [BEARER], b""), 404),
    "another case": (lambda world: request("POST", "/TRIGGERS", [BEARER], b""), 404),
    "an absolute address": (
        lambda world: request("POST", "http://evil.example/triggers/none", [BEARER], b""),
        404,
    ),
    "a null character in a run's id": (
        lambda world: request("GET", "/runs/%00", [BEARER]),
        404,
    ),
    "a method by a header": (
        lambda world: request("GET", "/triggers", [BEARER, ("x-http-method-override", "POST")]),
        405,
    ),
    "a method by a parameter": (
        lambda world: request("GET", "/triggers?_method=POST", [BEARER]),
        405,
    ),
    "CONNECT": (raw("CONNECT evil.example:443 HTTP/1.1\nhost: x\n\n"), 400),
    "TRACE": (lambda world: request("TRACE", "/triggers", [BEARER]), 405),
    "an unknown method": (raw("HACK /triggers HTTP/1.1\nhost: x\n\n"), 400),
}

SHAPES: dict[str, tuple[Callable[[World], bytes], int]] = {
    "too large, and says so": (post(b" " * 100_001), 413),
    "too large, and only says so": (raw(f"{HEAD}content-length: 999999999999\n\n"), 413),
    "a length beyond integers": (raw(f"{HEAD}content-length: {'9' * 30}\n\n"), 400),
    "too large in chunks": (
        raw(
            f"{HEAD}transfer-encoding: chunked\n\n",
            (b"8000\r\n" + b" " * 0x8000 + b"\r\n") * 4 + b"0\r\n\r\n",
        ),
        413,
    ),
    "more than it says": (
        raw(
            f"{HEAD}content-type: application/cloudevents+json\ncontent-length: 2\n\n", b"{}" + BODY
        ),
        400,
    ),
    "a negative length": (raw(f"{HEAD}content-length: -1\n\n"), 400),
    "a length that is none": (raw(f"{HEAD}content-length: 1x\n\n"), 400),
    "two lengths": (raw(f"{HEAD}content-length: 0\ncontent-length: 5\n\nhello"), 400),
    "a list of lengths": (raw(f"{HEAD}content-length: 0, 5\n\nhello"), 400),
    "a length and chunks": (
        raw(f"{HEAD}content-length: 5\ntransfer-encoding: chunked\n\n0\n\nGET /runs HTTP/1.1\n\n"),
        400,
    ),
    "chunks that are none": (raw(f"{HEAD}transfer-encoding: xchunked\n\n0\n\n"), 400),
    "chunks, then another coding": (
        raw(f"{HEAD}transfer-encoding: chunked, identity\n\n0\n\n"),
        400,
    ),
    "a chunk of no size": (raw(f"{HEAD}transfer-encoding: chunked\n\nzz\nhello\n0\n\n"), 400),
    "a folded header": (raw(f"{HEAD}x: a\n b\ncontent-length: 0\n\n"), 400),
    "a blank before the colon": (raw(f"{HEAD}content-length : 0\n\n"), 400),
    "a bare line feed": (lambda world: b"POST /triggers HTTP/1.1\nhost: x\n\n", 400),
    "no HTTP": (lambda world: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/2 at once": (lambda world: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "a null character in a header": (raw(f"{HEAD}x: a\x00b\ncontent-length: 0\n\n"), 400),
    "many headers": (
        lambda world: request("POST", "/triggers", [(f"x-{n}", "1") for n in range(101)], b""),
        431,
    ),
    "a large header": (
        lambda world: request("POST", "/triggers", [("x", "y" * 32_768)], b""),
        431,
    ),
    "headers without an end": (lambda world: b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000, 431),
    "a websocket": (
        raw(
            "GET /triggers HTTP/1.1\nhost: x\nupgrade: websocket\nconnection: upgrade\n"
            "sec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n\n"
        ),
        405,
    ),
}


def test_tables_do_not_share_a_name():
    names = [*CREDENTIALS, *MESSAGES, *PATHS, *SHAPES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", [*CREDENTIALS, *MESSAGES, *PATHS, *SHAPES])
def test_a_hostile_request_gets_its_answer(world: World, name: str):
    make, status = {**CREDENTIALS, **MESSAGES, **PATHS, **SHAPES}[name]
    if name == "a right token":
        world.server.talk(post()(world))
        status = 200
    reply = world.server.talk(make(world))
    assert reply.status == status, reply
    if status >= 400 and reply.headers.get("content-type") == "application/problem+json":
        assert json.loads(reply.body)["status"] == status
    assert world.server.talk(request("GET", "/health")).status == 200


@pytest.mark.parametrize("name", ["wrong audience", "expired", "alg none", "a wrong static token"])
def test_who_is_refused_learns_nothing(world: World, name: str):
    reply = world.server.talk(CREDENTIALS[name][0](world))
    assert reply.headers["www-authenticate"] == "Bearer, StandardWebhooks"
    assert json.loads(reply.body) == {
        "type": "urn:purista:problem:unauthenticated",
        "title": "The caller is not known",
        "status": 401,
        "detail": "send credentials that are known here",
    }


def signed(body: bytes, message_id: str = "m", at: datetime = NOW) -> bytes:
    headers = Signer(Secret.inline(KEY)).sign(body, message_id, at)
    return request("POST", "/triggers", [STRUCTURED, *headers.items()], body)


def test_a_signed_request_is_taken_once(world: World):
    assert world.server.talk(signed(event(), "once")).status in (200, 202)
    assert world.server.talk(signed(event(), "once")).status == 401


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_signature_is_fresh(world: World, minutes: int):
    at = NOW + timedelta(minutes=minutes)
    assert world.server.talk(signed(event(), f"at{minutes}", at)).status == 401


def test_a_signed_body_is_not_changed(world: World):
    sent = signed(event(), "changed").replace(b"hourly", b"weekly")
    assert world.server.talk(sent).status == 401


def test_what_is_too_large_is_refused_before_it_is_sent(world: World):
    head = f"{HEAD}content-length: 999999\nexpect: 100-continue\n\n".replace("\n", "\r\n")
    reply = world.server.talk(head.encode())
    assert (reply.status, reply.closed) == (413, True)


def test_a_body_without_an_end_is_cut_off(world: World):
    """The connection ends: nobody keeps the server busy with what it will not take."""
    with world.server.connect() as connection:
        connection.sendall(f"{HEAD}transfer-encoding: chunked\n\n".replace("\n", "\r\n").encode())
        with pytest.raises(ConnectionError):
            send_for_ever(connection, b"8000\r\n" + b" " * 0x8000 + b"\r\n")


def send_for_ever(connection: Any, part: bytes) -> None:
    for _ in range(10_000):
        connection.sendall(part)


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (f"{HEAD}content-length: 100\n\n", 408),
        ("POST /triggers HTTP/1.1\nx-slow: ", 408),
        ("", 0),
    ],
    ids=["body", "headers", "nothing"],
)
def test_who_is_slow_is_cut_off(hasty: World, begin: str, status: int):
    """A byte now and then does not help: the whole of it has to come in time."""
    with hasty.server.connect() as connection:
        connection.sendall(begin.replace("\n", "\r\n").encode())
        stop = threading.Event()
        dripping = threading.Thread(target=drip, args=(connection, stop)) if begin else None
        began = time.monotonic()
        if dripping:
            dripping.start()
        reply = reply_of(connection)
        stop.set()
        if dripping:
            dripping.join()
    assert reply.status == status
    assert time.monotonic() - began > 0.3


def drip(connection: Any, stop: threading.Event) -> None:
    while not stop.wait(0.02):
        try:
            connection.sendall(b"x")
        except OSError:
            return


def test_headers_of_a_second_request_have_to_come_in_time_as_well(hasty: World):
    with hasty.server.connect() as connection:
        connection.sendall(request("GET", "/health"))
        assert reply_of(connection).status == 200
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert reply_of(connection).status == 408


def test_a_connection_is_kept_between_requests(world: World):
    with world.server.connect() as connection:
        for _ in range(3):
            connection.sendall(request("GET", "/health"))
            assert reply_of(connection).status == 200


def test_slow_callers_do_not_keep_others_waiting(hasty: World):
    slow = [hasty.server.connect() for _ in range(50)]
    for connection in slow:
        connection.sendall(b"POST /triggers HTTP/1.1\r\nx-slow: ")
    assert hasty.server.talk(request("GET", "/health")).status == 200
    for connection in slow:
        assert reply_of(connection).status == 408
        connection.close()


def test_a_trailer_is_no_header(world: World):
    """Credentials behind the body do not count."""
    body = event()
    text = (
        "POST /triggers HTTP/1.1\r\nhost: x\r\ncontent-type: application/cloudevents+json\r\n"
        f"transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n{body.decode()}\r\n0\r\n"
        f"authorization: Bearer {WORD}\r\n\r\n"
    )
    assert world.server.talk(text.encode()).status == 401


def test_a_smuggled_request_is_none(world: World):
    """Behind a request that is refused for its shape nothing on the connection is answered."""
    smuggled = f"GET /runs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {WORD}\r\n\r\n".encode()
    head = f"{HEAD}content-length: {len(smuggled)}\ntransfer-encoding: chunked\n\n"
    with world.server.connect() as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"0\r\n\r\n" + smuggled)
        assert reply_of(connection).status == 400
        assert reply_of(connection).status == 0


def test_a_request_without_credentials_is_not_answered_for_its_path(world: World):
    """Whether a run is there is told to nobody who may not ask."""
    answers = {world.server.talk(request("GET", f"/runs/{name}")).status for name in ("a", "%00")}
    assert answers == {401}


def last(reply: Reply) -> Any:
    return json.loads(reply.body)


def test_nothing_hostile_had_an_effect(world: World):
    """The one slot that was sent with credentials is the one run."""
    world.server.talk(post()(world))
    reply = world.server.talk(request("GET", "/runs", [BEARER]))
    assert [run["nominalTime"] for run in last(reply)["runs"]] == [NOON]

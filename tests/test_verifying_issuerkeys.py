import asyncio
import gzip
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import OctKey
from joserfc.util import int_to_base64
from tests.engines.issuer import ACCOUNT, AUDIENCE, DISCOVERY, KEYS, Issuer, issuer

from purista.errors import VerificationError
from purista.testing import ManualClock
from purista.verifying import Incoming, issuerkeys
from purista.verifying.issuerkeys import FAILURE_PAUSE, MAX_AGE, MAX_SIZE, MAX_STALE
from purista.verifying.jwt import key_set
from purista.verifying.oidc import OidcVerifier

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
ONE_FETCH = [DISCOVERY, KEYS]


class Bench:
    """An issuer, and a verifier that asks it, on one manual clock."""

    def __init__(self, running: Issuer, clock: ManualClock, client: httpx.AsyncClient) -> None:
        self.issuer = running
        self.clock = clock
        options: Any = {"service_accounts": ACCOUNT, "clock": clock, "client": client}
        self.verifier = OidcVerifier(running.url, AUDIENCE, **options)

    async def take(self, token: str | None = None) -> str:
        """Return ``ok``, or the reason of the refusal."""
        sent = token or self.token()
        try:
            await self.verifier.verify(Incoming([("authorization", f"Bearer {sent}")], b""))
        except VerificationError as error:
            return error.reason
        return "ok"

    def token(self, **changes: Any) -> str:
        return self.issuer.token(exp=int((self.clock.now() + 2 * MAX_STALE).timestamp()), **changes)

    async def take_many(self, count: int, **changes: Any) -> set[str]:
        token = self.token(**changes)
        return set(await asyncio.gather(*(self.take(token) for _ in range(count))))


@pytest.fixture
def running() -> Iterator[tuple[Issuer, ManualClock]]:
    clock = ManualClock()
    with issuer(clock.now) as started:
        yield started, clock


@pytest.fixture(scope="module")
def trust() -> ssl.SSLContext:
    """Made once: it takes longer than most of these tests."""
    return ssl.create_default_context()


@pytest.fixture
async def bench(running: tuple[Issuer, ManualClock], trust: ssl.SSLContext) -> AsyncIterator[Bench]:
    async with httpx.AsyncClient(verify=trust) as client:
        yield Bench(*running, client)


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def test_keys_are_fetched_once_for_many_requests(bench: Bench):
    assert await bench.take_many(50) == {"ok"}
    await bench.clock.advance(MAX_AGE - SECOND)
    assert await bench.take_many(50) == {"ok"}
    assert bench.issuer.asked == ONE_FETCH


async def test_requests_that_come_together_wait_for_one_fetch(bench: Bench):
    bench.issuer.lets_through.clear()
    taking = asyncio.ensure_future(bench.take_many(50))
    await until(lambda: bench.issuer.asked == [DISCOVERY])
    assert not taking.done()
    bench.issuer.lets_through.set()
    assert await taking == {"ok"}
    assert bench.issuer.asked == ONE_FETCH


async def test_keys_are_fetched_again_after_their_age(bench: Bench):
    await bench.take()
    await bench.clock.advance(MAX_AGE)
    assert await bench.take_many(50) == {"ok"}
    assert bench.issuer.asked == ONE_FETCH * 2


async def test_a_new_key_is_found_at_once(bench: Bench):
    await bench.take()
    bench.issuer.rotate()
    assert await bench.take_many(50) == {"ok"}
    assert bench.issuer.asked == ONE_FETCH * 2


async def test_a_key_that_is_withdrawn_is_refused_after_its_age(bench: Bench):
    old = bench.token()
    await bench.take(old)
    bench.issuer.rotate(keep=False)
    assert await bench.take(old) == "ok"
    await bench.clock.advance(MAX_AGE)
    assert await bench.take(old) == "unknown_key"


async def test_unknown_keys_lead_to_a_fetch_once_a_minute(bench: Bench):
    await bench.take()
    for minute in range(1, 4):
        assert await bench.take_many(100, headers={"kid": f"made-up-{minute}"}) == {"unknown_key"}
        await bench.clock.advance(MINUTE - SECOND)
        assert await bench.take_many(100, headers={"kid": "another"}) == {"unknown_key"}
        assert len(bench.issuer.asked) == len(ONE_FETCH) * (1 + minute)
        await bench.clock.advance(SECOND)


async def test_requests_go_on_while_keys_rotate(bench: Bench):
    tokens = [bench.token()]
    assert await bench.take() == "ok"
    for times in range(2, 5):
        bench.issuer.rotate()
        bench.issuer.lets_through.clear()
        new = asyncio.ensure_future(bench.take_many(20))
        await until(lambda times=times: len(bench.issuer.asked) == 2 * times - 1)
        assert [await bench.take(token) for token in tokens] == ["ok"] * len(tokens)
        assert not new.done()
        bench.issuer.lets_through.set()
        assert await new == {"ok"}
        tokens.append(bench.token())
        await bench.clock.advance(MINUTE)


async def test_an_issuer_that_was_never_reached_is_no_wrong_token(bench: Bench):
    bench.issuer.stop()
    assert await bench.take() == "keys_unavailable"


async def test_an_issuer_that_is_away_is_asked_once_in_a_while(bench: Bench):
    bench.issuer.pages.clear()
    for times in range(1, 4):
        assert await bench.take_many(50) == {"keys_unavailable"}
        await bench.clock.advance(FAILURE_PAUSE - SECOND)
        assert await bench.take_many(50) == {"keys_unavailable"}
        assert bench.issuer.asked == [DISCOVERY] * times
        await bench.clock.advance(SECOND)
    bench.issuer.publish()
    assert await bench.take_many(50) == {"ok"}


async def test_old_keys_are_kept_while_the_issuer_is_away(bench: Bench):
    token = bench.token()
    assert await bench.take(token) == "ok"
    bench.issuer.stop()
    await bench.clock.advance(MAX_AGE)
    assert await bench.take(token) == "ok"
    await bench.clock.advance(MAX_STALE - MAX_AGE - SECOND)
    assert await bench.take(token) == "ok"
    await bench.clock.advance(SECOND)
    assert await bench.take(token) == "keys_unavailable"


async def test_a_new_key_of_an_issuer_that_is_away_is_no_wrong_token(bench: Bench):
    await bench.take()
    bench.issuer.rotate()
    bench.issuer.pages.clear()
    assert await bench.take() == "keys_unavailable"
    await bench.clock.advance(FAILURE_PAUSE)
    bench.issuer.publish()
    await bench.clock.advance(MINUTE)
    assert await bench.take() == "ok"
    assert await bench.take(bench.token(headers={"kid": "made-up"})) == "unknown_key"


async def test_known_keys_do_not_wait_for_a_fetch_that_is_under_way(bench: Bench):
    await bench.take()
    await bench.clock.advance(MAX_AGE)
    bench.issuer.lets_through.clear()
    first = asyncio.ensure_future(bench.take())
    await until(lambda: len(bench.issuer.asked) == 3)
    assert await bench.take_many(20) == {"ok"}
    assert not first.done()
    bench.issuer.lets_through.set()
    assert await first == "ok"


async def test_one_who_stops_waiting_leaves_the_fetch_to_the_next(bench: Bench):
    bench.issuer.lets_through.clear()
    first, second = (asyncio.ensure_future(bench.take()) for _ in range(2))
    await until(lambda: bench.issuer.asked == [DISCOVERY])
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    bench.issuer.lets_through.set()
    assert await second == "ok"


async def test_a_fetch_that_takes_too_long_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(issuerkeys, "TIMEOUT", timedelta(seconds=0.1))
    bench.issuer.lets_through.clear()
    assert await bench.take() == "keys_unavailable"


def keys_of(running: Issuer) -> bytes:
    return running.pages[KEYS][1]


BAD: list[tuple[str, str, Callable[[Issuer], tuple[int, bytes]]]] = [
    ("discovery not found", DISCOVERY, lambda _: (404, b"")),
    ("discovery failed", DISCOVERY, lambda i: (500, document(i))),
    ("keys failed", KEYS, lambda i: (500, keys_of(i))),
    ("discovery moved", DISCOVERY, lambda i: (302, f"{i.url}{KEYS}".encode())),
    ("discovery no JSON", DISCOVERY, lambda _: (200, b"<html>")),
    ("discovery a list", DISCOVERY, lambda _: (200, b"[]")),
    ("discovery of another", DISCOVERY, lambda i: (200, document(i, issuer=i.url + "/"))),
    ("discovery of nobody", DISCOVERY, lambda i: (200, document(i, issuer=None))),
    ("discovery twice", DISCOVERY, lambda i: (200, b'{"issuer":1,' + document(i)[1:])),
    ("no address of keys", DISCOVERY, lambda i: (200, document(i, jwks_uri=None))),
    ("keys elsewhere", DISCOVERY, lambda i: (200, document(i, jwks_uri="http://example.com/"))),
    ("keys in a file", DISCOVERY, lambda i: (200, document(i, jwks_uri="file:///keys"))),
    ("keys moved", KEYS, lambda i: (302, f"{i.url}{DISCOVERY}".encode())),
    ("keys no JSON", KEYS, lambda _: (200, b"keys")),
    ("keys empty", KEYS, lambda _: (200, b"")),
    ("keys a list", KEYS, lambda i: (200, json.dumps(json.loads(keys_of(i))["keys"]).encode())),
    ("keys none", KEYS, lambda _: (200, b'{"keys":[]}')),
    ("keys a number", KEYS, lambda _: (200, b'{"keys":1}')),
    ("keys too large", KEYS, lambda i: (200, keys_of(i) + b" " * MAX_SIZE)),
    ("keys too deep", KEYS, lambda _: (200, b"[" * 100_000)),
]


def document(running: Issuer, **changes: Any) -> bytes:
    return json.dumps(
        {"issuer": running.url, "jwks_uri": f"{running.url}{KEYS}"} | changes
    ).encode()


@pytest.mark.parametrize(
    ("path", "page"), [(path, page) for _, path, page in BAD], ids=[name for name, _, _ in BAD]
)
async def test_documents_that_cannot_be_used_are_refused(
    bench: Bench,
    caplog: pytest.LogCaptureFixture,
    path: str,
    page: Callable[[Issuer], tuple[int, bytes]],
):
    caplog.set_level(logging.WARNING)
    bench.issuer.pages[path] = page(bench.issuer)
    assert await bench.take() == "keys_unavailable"
    start = f"the keys of issuer {bench.issuer.url} cannot be fetched: "
    assert caplog.messages in ([start + "ValueError"], [start + "NotJsonError"])


async def test_documents_that_could_grow_when_they_are_unpacked_are_refused(bench: Bench):
    for path, (status, body) in [*bench.issuer.pages.items()]:
        bench.issuer.pages[path] = (status, gzip.compress(body))
    bench.issuer.headers["Content-Encoding"] = "gzip"
    assert await bench.take() == "keys_unavailable"


async def test_good_keys_are_kept_when_a_bad_document_comes(bench: Bench):
    await bench.take()
    bench.issuer.pages[KEYS] = (200, b'{"keys":[]}')
    await bench.clock.advance(MAX_AGE)
    assert await bench.take() == "ok"


async def test_keys_that_cannot_verify_are_left_out(bench: Bench):
    good = bench.issuer.key.as_dict(private=False)
    modulus = rsa.generate_private_key(65537, 1024).public_key().public_numbers().n
    short = {"kty": "RSA", "kid": "short", "n": int_to_base64(modulus), "e": "AQAB"}
    secret = OctKey.generate_key(256, parameters={"kid": "secret"}).as_dict(private=True)
    bad: list[Any] = [
        secret,
        short,
        {**good, "kid": None},
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": "ops", "key_ops": ["made-up"]},
        {**good, "kid": "n", "n": 5},
        {**good, "kid": "e", "e": "!"},
        {**good, "kid": "e", "e": ""},
        {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        {"kty": "AKP", "kid": "later", "pub": "AAAA"},
        {"kty": ["RSA"], "kid": "list"},
        {"kid": "none"},
        None,
        "key",
        [],
    ]
    found = key_set(json.dumps({"keys": [*bad, good]}).encode())
    assert list(found) == [good["kid"]]


async def test_private_halves_in_a_key_set_are_not_kept(bench: Bench):
    private = bench.issuer.key.as_dict(private=True)
    ((key,),) = key_set(json.dumps({"keys": [private]}).encode()).values()
    assert not key.is_private


async def test_two_kinds_of_keys_may_have_one_id(bench: Bench):
    bench.issuer.keys = [bench.issuer.new_key("EC", kid="same"), bench.issuer.new_key(kid="same")]
    bench.issuer.publish()
    for key in bench.issuer.keys:
        assert await bench.take(bench.token(key=key)) == "ok"


async def test_a_key_that_is_for_another_algorithm_is_refused(bench: Bench):
    keys = json.loads(keys_of(bench.issuer))
    keys["keys"][0]["alg"] = "RS512"
    bench.issuer.pages[KEYS] = (200, json.dumps(keys).encode())
    assert await bench.take() == "wrong_signature"


async def test_connections_of_its_own_are_closed_and_opened_again(
    running: tuple[Issuer, ManualClock],
):
    started, clock = running
    verifier = OidcVerifier(started.url, AUDIENCE, service_accounts=ACCOUNT, clock=clock)
    for _ in range(2):
        await clock.advance(MAX_AGE)
        sent = Incoming([("authorization", f"Bearer {started.token()}")], b"")
        assert await verifier.verify(sent)
        await verifier.close()
        await verifier.close()
    assert started.asked == ONE_FETCH * 2

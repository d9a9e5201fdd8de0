"""The client of an ingress behind an address: against the real application, and against what is not one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pickle
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from purista import (
    Context,
    Cron,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    Trigger,
)
from purista.clock import SystemClock
from purista.errors import IngressError, LedgerError, SettingsError
from purista.host import Host
from purista.ingress import Decision, TriggerIngress
from purista.ingress.answer import answer
from purista.ingress.client import IngressClient
from purista.ingress.http import ingress_app
from purista.ingress.reply import Reply
from purista.ledgers import RunStatus, Verdict
from purista.testing import ManualClock
from purista.verifying.bearer import BearerVerifier
from purista.verifying.secret import Secret
from purista.verifying.signatures import SignatureVerifier, Signer

SLOT = datetime(2027, 1, 1, tzinfo=UTC)
TOKEN = secrets.token_hex(16)
SIGNING = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "http://127.0.0.1:8080"


@dataclass
class World:
    """An ingress behind its own application, and one service with a queue."""

    clock: ManualClock
    ingress: Ingress
    ledger: MemoryLedger
    started: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[dict[str, str]] = field(default_factory=list)

    def client(self, verifier: Any = None, **options: Any) -> IngressClient:
        """Return a client whose requests reach the application without a network."""
        app = ingress_app(
            self.ingress, verifiers=[verifier] if verifier else (), development=not verifier
        )

        async def noting(scope: Any, receive: Any, send: Any) -> None:
            self.seen.append({name.decode(): value.decode() for name, value in scope["headers"]})
            await app(scope, receive, send)

        transport = httpx.ASGITransport(noting)
        return IngressClient(URL, transport=transport, clock=self.clock, **options)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    clock, ledger = ManualClock(SLOT), MemoryLedger()
    parts: dict[str, Any] = {
        "event_bridge": MemoryEventBridge(clock=clock),
        "queue_bridge": MemoryQueueBridge(clock=clock),
    }
    shop = Service("Shop", version="1")
    jobs = shop.queue("jobs", str)
    for name in ("hourly", "other"):
        shop.schedule(name).enqueue(
            jobs, expression=Cron("0 * * * *"), payload="due", concurrency_policy="forbid"
        )

    @shop.worker(jobs)
    async def work(text: str, ctx: Context) -> None:
        made.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            made.stopped.set()

    async with (
        Ingress([shop], ledger=ledger, clock=clock, **parts) as ingress,
        Host(shop, clock=clock, ledger=ledger, grace=timedelta(0), **parts),
    ):
        made = World(clock, ingress, ledger)
        yield made
    for bridge in parts.values():
        await bridge.close()


def trigger(schedule_id: str = "Shop.v1.hourly", **options: Any) -> Trigger:
    return Trigger(
        **{"nominal_time": SLOT, "source": "test", **options, "schedule_id": schedule_id}
    )


# What it tells.


async def test_a_decision_comes_back_as_the_ingress_made_it(world: World) -> None:
    async with world.client() as client:
        accepted, again = await client.accept(trigger()), await client.accept(trigger())
        late = await client.accept(trigger(nominal_time=SLOT - timedelta(hours=1)))
    assert (accepted.verdict, accepted.nominal_time) == ("accepted", SLOT)
    assert not accepted.retry
    assert (again.verdict, again.run_id, again.retry_after) == ("duplicate", accepted.run_id, None)
    assert (late.verdict, late.reason[:12]) == ("late", "1:00:00 late")
    run = await world.ingress.run(str(accepted.run_id))
    assert run is not None
    assert run.schedule_id == "Shop.v1.hourly"


@pytest.mark.parametrize(
    ("wrong", "verdict", "cause"),
    [
        (trigger("Shop.v1.none"), "rejected", "unknown_schedule"),
        (trigger(data=7), "rejected", "invalid_payload"),
        (trigger(fingerprint="of-another"), "rejected", "unknown_contract"),
        (trigger(nominal_time=SLOT + timedelta(minutes=1)), "unexpected", "unexpected_time"),
    ],
)
async def test_a_refusal_is_a_decision_with_its_cause(
    world: World, wrong: Trigger, verdict: str, cause: str | None
) -> None:
    async with world.client() as client:
        decision = await client.accept(wrong)
    direct = await world.ingress.accept(wrong)
    assert (decision.verdict, decision.cause, decision.retry_after) == (verdict, cause, None)
    assert (direct.cause, direct.reason) == (decision.cause, decision.reason)


async def test_what_is_worth_another_try_says_when(world: World) -> None:
    client = world.client()
    await world.ingress.__aexit__(None, None, None)
    decision = await client.accept(trigger())
    assert (decision.verdict, decision.cause) == ("rejected", "closing")
    assert decision.retry_after == timedelta(seconds=30)


async def test_a_run_comes_back_without_its_key(world: World) -> None:
    async with world.client() as client:
        decision = await client.accept(trigger())
        run = await client.run(str(decision.run_id))
        nobody = await client.run("a/b ?")
    assert run is not None
    known = await world.ledger.run(run.run_id)
    assert known is not None
    assert (run.key, known.key) == ("", SLOT.isoformat())
    assert {name for name in run.__slots__ if getattr(run, name) != getattr(known, name)} == {"key"}
    assert nobody is None


async def test_a_cancelled_run_has_its_handler_cancelled_and_is_cancelled_once(
    world: World,
) -> None:
    async with world.client() as client:
        decision = await client.accept(trigger())
        await asyncio.wait_for(world.started.wait(), 10)
        answers = [await client.cancel(str(decision.run_id)) for _ in range(2)]
        await asyncio.wait_for(world.stopped.wait(), 10)
        run = await client.run(str(decision.run_id))
        nobody = await client.cancel("nobody")
    assert (answers, nobody) == ([True, False], False)
    assert run is not None
    assert (run.status, run.outcome) == (RunStatus.ENDED, "cancelled")


async def test_a_ledger_that_is_away_is_an_error_worth_another_try(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise LedgerError("runs.sqlite: disk I/O error")

    monkeypatch.setattr(world.ledger, "decide", away)
    async with world.client() as client:
        with pytest.raises(IngressError, match="it answered 503: Nothing could be decided") as info:
            await client.accept(trigger())
    assert (info.value.status, info.value.retry_after) == (503, 5.0)


def test_every_decision_survives_the_answer_and_its_reading() -> None:
    options: dict[str, Any] = {"reason": "r", "schedule_id": "s", "nominal_time": SLOT}
    earlier = Decision(verdict=Verdict.LATE, run_id="e", **options)
    decisions = [Decision(verdict=each, run_id="x", **options) for each in Verdict]
    decisions += [
        Decision(verdict=Verdict.ACCEPTED, run_id="x", recovered=(earlier, earlier), **options),
        Decision(verdict=Verdict.DUPLICATE, retry_after=timedelta(seconds=7), **options),
        Decision(
            verdict=Verdict.REJECTED,
            cause="dispatch_failed",
            retry_after=timedelta(seconds=1),
            **options,
        ),
        Decision(verdict=Verdict.UNEXPECTED, **options | {"nominal_time": None}),
    ]
    for decision in decisions:
        made = answer(decision)
        headers = {} if made.retry_after is None else {"Retry-After": str(made.retry_after)}
        reply = Reply.of(made.status, headers, json.dumps(made.document).encode())
        assert reply.decision(SLOT) == decision


# Who may.


async def test_a_bearer_token_opens_and_another_is_refused_for_good(world: World) -> None:
    verifier = BearerVerifier(Secret.inline(TOKEN))
    async with world.client(verifier, credentials=Secret.inline(TOKEN)) as client:
        assert (await client.accept(trigger())).accepted
    for credentials in (None, Secret.inline("not-" + TOKEN)):
        async with world.client(verifier, credentials=credentials) as client:
            with pytest.raises(IngressError, match="it answered 401") as info:
                await client.accept(trigger())
        assert (info.value.status, info.value.retry_after) == (401, None)
        assert TOKEN not in str(info.value)


async def test_a_token_is_asked_for_each_request(world: World, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    tokens = iter([TOKEN, "second-" + TOKEN])

    async def fetched() -> str:
        return next(tokens)

    async with world.client(credentials=f"file:{file}") as client:
        await client.run("x")
        file.write_text("rotated-" + TOKEN)
        await client.run("x")
    async with world.client(credentials=fetched) as client:
        await client.run("x")
    async with world.client(credentials=lambda: next(tokens)) as client:
        await client.run("x")
    sent = [each["authorization"].removeprefix("Bearer ") for each in world.seen]
    assert sent == [TOKEN, "rotated-" + TOKEN, TOKEN, "second-" + TOKEN]


async def test_a_signed_request_is_taken_again_and_again(world: World) -> None:
    secret = Secret.inline(SIGNING)
    verifier = SignatureVerifier(secret, nonces=world.ledger, clock=world.clock)
    async with world.client(verifier, credentials=Signer(secret)) as client:
        verdicts = [(await client.accept(trigger())).verdict for _ in range(3)]
        run_id = str((await client.accept(trigger())).run_id)
        run, cancelled = await client.run(run_id), await client.cancel(run_id)
    assert verdicts == ["accepted", "duplicate", "duplicate"]
    assert run is not None
    assert cancelled
    ids = [each["webhook-id"] for each in world.seen]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("token", ["", " ", "a\r\nX-Injected: yes", "a b", "tökén"])
async def test_a_token_that_is_none_is_not_sent_and_not_shown(world: World, token: str) -> None:
    async with world.client(credentials=lambda: token) as client:
        with pytest.raises(IngressError, match="the bearer token is empty, or has char") as info:
            await client.accept(trigger())
    assert world.seen == []
    assert info.value.retry_after is None
    assert len(token.strip()) < 2 or token not in str(info.value)


async def test_a_secret_that_is_gone_for_a_moment_is_worth_another_try(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    async with world.client(credentials=f"file:{file}") as client:
        file.unlink()
        with pytest.raises(IngressError, match="credentials cannot be read: file:") as info:
            await client.accept(trigger())
    assert info.value.retry_after == 5.0


def test_a_client_without_a_usable_secret_or_address_is_not_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMPTY", "")
    wrong: list[tuple[str, Any, str]] = [
        (URL, "env:EMPTY", "it is empty"),
        (URL, "env:UNSET_TOKEN", "it is not set"),
        (URL, TOKEN, "no reference to a secret"),
        (URL, Secret.inline(" "), "it is empty"),
        ("triggers.example.com", None, "it is no address"),
        ("https:///triggers", None, "it is no address"),
        ("https://[::1", None, "it is no address"),
        ("https://a:99999", None, "it is no address"),
        ("https://me:sesame@a", None, "holds a user"),
        ("https://a/?token=sesame", None, "a query or a fragment"),
        ("http://triggers.example.com", lambda: TOKEN, "over plain http"),
        ("http://10.0.0.1", Secret.inline(TOKEN), "over plain http"),
        ("http://localhost.example.com", Secret.inline(TOKEN), "over plain http"),
    ]
    for url, credentials, words in wrong:
        with pytest.raises(SettingsError, match=words) as info:
            IngressClient(url, credentials=credentials)
        assert TOKEN not in str(info.value)
        assert "sesame" not in str(info.value)


def test_a_bearer_token_may_go_to_this_machine_and_where_the_way_is_said_to_be_protected() -> None:
    for url in (URL, "http://localhost:1", "http://[::1]:1", "http://x.localhost", "https://a"):
        IngressClient(url, credentials=Secret.inline(TOKEN))
    IngressClient("http://ingress", credentials=Secret.inline(TOKEN), plain_http=True)
    IngressClient("http://ingress", credentials=Signer(Secret.inline(SIGNING)))
    assert IngressClient("https://a/base/").url == "https://a/base"


# What is no answer of an ingress.


@contextlib.asynccontextmanager
async def serving(say: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve whatever ``say`` writes, over a real socket."""

    taken: list[asyncio.Task[None]] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.append(asyncio.current_task())  # type: ignore[arg-type]
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await say(writer)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(10):
        await asyncio.gather(*taken)


def saying(status: str, *headers: str, body: str = "") -> Callable[[Any], Awaitable[None]]:
    async def say(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
        writer.write("\r\n".join(lines).encode())
        await writer.drain()

    return say


@pytest.mark.parametrize(
    ("status", "headers", "body", "words", "retry_after"),
    [
        ("302 Found", ["Location: /login"], "", "it answered 302, a redirect", None),
        ("200 OK", [], "<html>Log in", "not as an ingress does", None),
        ("200 OK", [], "[1]", "not as an ingress does", None),
        ("204 No Content", [], "", "not as an ingress does", None),
        ("404 Not Found", [], "{}", "it answered 404", None),
        ("502 Bad Gateway", [], "<html>", "it answered 502", 5.0),
        ("503 Busy", ["Retry-After: 17"], "", "it answered 503", 17.0),
        ("503 Busy", ["Retry-After: Fri, 01 Jan 2027 00:00:09 GMT"], "", "it answered 503", 9.0),
        ("503 Busy", ["Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"], "", "it answered 503", 0.0),
        ("503 Busy", ["Retry-After: soon"], "", "it answered 503", 5.0),
        ("503 Busy", [f"Retry-After: {'9' * 5000}"], "", "it answered 503", 86400.0),
        ("429 Wait", [], "", "it answered 429", 5.0),
        ("408 Slow", [], "", "it answered 408", 5.0),
        ("200 OK", [], '{"decision": "postponed"}', "is not understood|not a valid", None),
        ("200 OK", [], '{"decision": "accepted"}', "is not understood", None),
    ],
)
async def test_what_is_no_decision_is_an_error_that_says_whether_to_retry(
    status: str, headers: list[str], body: str, words: str, retry_after: float | None
) -> None:
    async with (
        serving(saying(status, *headers, body=body)) as url,
        IngressClient(url, clock=ManualClock(SLOT)) as client,
    ):
        with pytest.raises(IngressError, match=words) as info:
            await client.accept(trigger())
    assert info.value.retry_after == retry_after
    assert str(info.value).startswith(f"ingress {url}: ")


async def test_a_404_of_something_else_is_not_taken_for_a_run_that_is_not_there() -> None:
    async with serving(saying("404 Not Found", body="{}")) as url, IngressClient(url) as client:
        with pytest.raises(IngressError, match="404"):
            await client.run("x")
        with pytest.raises(IngressError, match="404"):
            await client.cancel("x")


async def test_a_redirect_takes_no_token_along() -> None:
    heads: list[str] = []

    async def note(writer: asyncio.StreamWriter) -> None:
        heads.append("arrived")

    async with (
        serving(note) as elsewhere,
        serving(saying("307 Moved", f"Location: {elsewhere}")) as url,
        IngressClient(url, credentials=Secret.inline(TOKEN)) as client,
    ):
        with pytest.raises(IngressError, match="a redirect"):
            await client.accept(trigger())
    assert heads == []


async def test_an_ingress_that_is_away_or_breaks_off_or_trickles_is_worth_another_try() -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        while True:  # Until the client has gone.
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def break_off(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{")

    soon = timedelta(milliseconds=200)
    async with serving(break_off) as url, serving(trickle) as slow:
        for address, words in ((url, "RemoteProtocolError"), (slow, "no answer within 0.2 sec")):
            async with IngressClient(address, timeout=soon) as client:
                with pytest.raises(IngressError, match=words) as info:
                    await client.accept(trigger())
                assert (info.value.status, info.value.retry_after) == (None, 5.0)
    async with IngressClient(url) as client:
        with pytest.raises(IngressError, match=r"it cannot be reached \(ConnectError\)") as info:
            await client.accept(trigger())
    assert info.value.retry_after == 5.0
    copy = pickle.loads(pickle.dumps(info.value))
    assert (str(copy), copy.retry_after) == (str(info.value), 5.0)


# The trace goes on.


async def test_the_trace_of_the_caller_reaches_the_ingress(world: World) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("caller") as span:
        async with world.client() as client:
            await client.accept(trigger())
            await client.run("x")
    wanted = trace.format_trace_id(span.get_span_context().trace_id)
    assert [each["traceparent"].split("-")[1] for each in world.seen] == [wanted, wanted]


async def test_a_client_is_an_ingress_to_whoever_sends_triggers() -> None:
    ingress: TriggerIngress = IngressClient(URL, clock=SystemClock())
    assert isinstance(ingress, IngressClient)
    await ingress.close()
    await ingress.close()

import asyncio
import contextlib
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from purista import (
    Every,
    Host,
    Ingress,
    MemoryEventBridge,
    MemoryLedger,
    MemoryQueueBridge,
    Service,
    Trigger,
)
from purista.errors import BridgeError, LedgerError, SettingsError, VerificationError
from purista.ingress.client import IngressClient
from purista.ingress.http import ingress_app
from purista.ingress.http.deadlines import Deadlines
from purista.ingress.http.limits import Limits
from purista.testing import ManualClock
from purista.verifying import Caller, Incoming

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOURLY = "Shop.v1.hourly"
STRUCTURED = {"content-type": "application/cloudevents+json"}
BINARY = {
    "ce-specversion": "1.0",
    "ce-type": "dev.purista.schedule.trigger",
    "ce-source": "test",
    "ce-subject": HOURLY,
    "ce-id": f"{HOURLY}/2027-03-01T12:00:00Z",
    "ce-time": "2027-03-01T12:00:00Z",
}


class Word:
    """A verifier that takes a word, and notes what it was told."""

    scheme = "Bearer"

    def __init__(self, word: str = "sesame", method: str = "word") -> None:
        self.word = word
        self.method = method
        self.refusal: VerificationError | None = None
        self.undone: list[str] = []

    def concerns(self, incoming: Incoming) -> bool:
        return incoming.header("authorization") is not None

    async def verify(self, incoming: Incoming) -> Caller:
        if self.refusal is not None:
            raise self.refusal
        if incoming.header("authorization") != f"Bearer {self.word}":
            raise VerificationError("unknown_token", "no token of ours")
        return Caller(self.method, "tester")

    async def undo(self, caller: Caller) -> None:
        self.undone.append(caller.name)

    async def close(self) -> None: ...


class FailingLedger(MemoryLedger):
    error: BaseException | None = None

    async def decide(self, proposal: Any) -> Any:
        await self.fail()
        return await super().decide(proposal)

    async def run(self, run_id: str) -> Any:
        await self.fail()
        return await super().run(run_id)

    async def fail(self) -> None:
        if isinstance(self.error, TimeoutError):
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error


class FailingBridge(MemoryEventBridge):
    error: BridgeError | None = None

    async def publish(self, message: Any) -> None:
        if self.error is not None:
            raise self.error
        await super().publish(message)


class World:
    """An ingress with an hourly event and a command, behind its HTTP application."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOON + timedelta(seconds=5))
        self.ledger = FailingLedger()
        self.events = FailingBridge(clock=self.clock)
        self.queues = MemoryQueueBridge(clock=self.clock)
        self.service = Service("Shop", version="1")
        self.payloads: list[Any] = []
        due = self.service.event("due", dict)
        self.service.schedule("hourly", "every hour").emit_event(
            due,
            expression=Every(timedelta(hours=1)),
            payload={"made": "by template"},
        )
        wait = self.service.command("wait", dict, returns=int)
        self.service.schedule("waits").invoke_command(
            wait, expression=Every(timedelta(hours=1)), payload={}
        )

        @self.service.subscription(due)
        async def note(payload: dict[str, Any], ctx: Any) -> None:
            self.payloads.append(payload)

        @self.service.handles(wait)
        async def work(payload: dict[str, Any], ctx: Any) -> int:
            await asyncio.Event().wait()
            return 0

        self.ingress = Ingress(
            [self.service],
            event_bridge=self.events,
            queue_bridge=self.queues,
            ledger=self.ledger,
            clock=self.clock,
        )
        self.host = Host(
            self.service,
            event_bridge=self.events,
            queue_bridge=self.queues,
            clock=self.clock,
            grace=timedelta(0),
        )

    @contextlib.asynccontextmanager
    async def served(self, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
        options = {"development": "verifiers" not in options, **options}
        app = ingress_app(self.ingress, **options)
        transport = httpx.ASGITransport(app, client=("192.0.2.7", 4711))
        async with (
            self.host,
            self.ingress,
            httpx.AsyncClient(transport=transport, base_url="http://ingress") as client,
        ):
            yield client


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.served() as client:
        yield client


def event(at: datetime = NOON, **changes: Any) -> dict[str, Any]:
    trigger = Trigger(schedule_id=HOURLY, nominal_time=at, source="test")
    made = {**trigger.to_cloudevent(), **changes}
    return {name: value for name, value in made.items() if value is not ...}


async def post_event(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    return await client.post("/triggers", content=json.dumps(event(**changes)), headers=STRUCTURED)


def problem_of(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == response.status_code
    return str(document["type"]).removeprefix("urn:purista:problem:")


async def test_an_event_in_structured_mode_is_accepted(client: httpx.AsyncClient):
    response = await post_event(client)
    assert response.status_code == 202
    assert response.json() == {
        "decision": "accepted",
        "reason": "on time",
        "scheduleId": HOURLY,
        "nominalTime": "2027-03-01T12:00:00Z",
        "runId": response.json()["runId"],
    }


async def test_an_event_in_binary_mode_is_the_same_run(client: httpx.AsyncClient):
    first = await post_event(client)
    second = await client.post("/triggers", headers=BINARY)
    assert second.status_code == 200
    assert second.json()["decision"] == "duplicate"
    assert second.json()["runId"] == first.json()["runId"]


async def test_a_bare_call_is_the_same_run(client: httpx.AsyncClient):
    await post_event(client)
    response = await client.post(f"/triggers/{HOURLY}?time=2027-03-01T12:00:00Z")
    assert (response.status_code, response.json()["decision"]) == (200, "duplicate")


async def test_a_bare_call_without_a_time_takes_the_latest_one(client: httpx.AsyncClient):
    response = await client.post(f"/triggers/{HOURLY}")
    assert response.status_code == 202
    assert response.json()["nominalTime"] == "2027-03-01T12:00:00Z"


async def test_the_body_of_a_bare_call_is_the_payload(world: World, client: httpx.AsyncClient):
    await client.post(f"/triggers/{HOURLY}", json={"made": "by the caller"})
    await world.events.drained()
    assert world.payloads == [{"made": "by the caller"}]


@pytest.mark.parametrize(
    ("path", "schedule_id"),
    [
        ("Shop%2Ev1%2Ehourly", HOURLY),
        ("Shop.v1.hourly%2f", "Shop.v1.hourly/"),
        ("Shop.v1.hourly/cancel", "Shop.v1.hourly/cancel"),
        ("Shop%252Ev1.hourly", "Shop%2Ev1.hourly"),
        ("%2e%2e", ".."),
        ("", ""),
    ],
)
async def test_a_path_is_decoded_once_and_names_one_id(
    client: httpx.AsyncClient, path: str, schedule_id: str
):
    response = await client.post(f"/triggers/{path}")
    assert response.status_code == (202 if schedule_id == HOURLY else 404 if schedule_id else 400)
    assert response.json().get("scheduleId", "") == schedule_id


async def test_what_pubsub_pushes_is_accepted(client: httpx.AsyncClient):
    message = {"messageId": "1", "publishTime": "2027-03-01T12:00:01Z", "attributes": BINARY}
    response = await client.post("/pubsub", json={"message": message, "subscription": "s"})
    assert response.status_code == 202


async def test_what_pubsub_pushes_without_a_wrapper_is_accepted(client: httpx.AsyncClient):
    slots = {"ce-puristaslots": "3600+0", "x-goog-pubsub-publish-time": "2027-03-01T12:00:01Z"}
    fixed = {name: text for name, text in BINARY.items() if name not in ("ce-id", "ce-time")}
    headers = {**fixed, **slots, "x-goog-pubsub-message-id": "1"}
    response = await client.post("/pubsub", headers=headers)
    assert response.json()["nominalTime"] == "2027-03-01T12:00:00Z"
    assert response.status_code == 202


async def test_pubsub_does_not_send_again_what_is_dropped_on_purpose(client: httpx.AsyncClient):
    attributes = {**BINARY, "ce-time": "2027-03-01T11:30:00Z"}
    pushed = {"message": {"messageId": "1", "attributes": attributes}}
    response = await client.post("/pubsub", json=pushed)
    assert (response.status_code, response.json()["decision"]) == (200, "unexpected")


@pytest.mark.parametrize(
    ("changes", "status", "kind"),
    [
        ({"subject": "Shop.v1.nothing"}, 404, "unknown-schedule"),
        ({"puristafingerprint": "of another time"}, 409, "unknown-contract"),
        ({"time": "2027-03-01T12:30:00Z"}, 422, "unexpected-time"),
        ({"data": []}, 422, "invalid-payload"),
        ({"id": ...}, 400, "invalid-trigger"),
        ({"time": "noon"}, 400, "invalid-trigger"),
    ],
)
async def test_what_no_retry_can_mend_is_a_problem(
    client: httpx.AsyncClient, changes: Any, status: int, kind: str
):
    response = await post_event(client, **changes)
    assert (response.status_code, problem_of(response)) == (status, kind)
    assert "retry-after" not in response.headers


async def test_a_failed_dispatch_is_to_be_sent_again(world: World, client: httpx.AsyncClient):
    world.events.error = BridgeError("the broker is away")
    response = await post_event(client)
    assert (response.status_code, problem_of(response)) == (503, "dispatch-failed")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_failed_ledger_is_to_be_asked_again(world: World, client: httpx.AsyncClient):
    world.ledger.error = LedgerError("ledger 'postgres://host': it is away")
    response = await post_event(client)
    assert (response.status_code, problem_of(response)) == (503, "unavailable")
    assert response.headers["retry-after"] == "5"
    assert "postgres" not in response.text


async def test_what_nobody_foresaw_is_told_without_details(
    world: World, client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
):
    world.ledger.error = RuntimeError("the payload was 4711")
    response = await post_event(client)
    assert (response.status_code, problem_of(response)) == (500, "unexpected-error")
    assert "4711" not in response.text + caplog.text
    assert "POST /triggers failed: RuntimeError" in caplog.text


async def test_what_takes_too_long_is_to_be_sent_again(world: World):
    world.ledger.error = TimeoutError()
    limits = Limits(time=timedelta(milliseconds=50))
    async with world.served(limits=limits) as client:
        response = await post_event(client)
        world.ledger.error = None
    assert (response.status_code, problem_of(response)) == (503, "unavailable")


async def test_nothing_starts_without_a_verifier(world: World):
    with pytest.raises(SettingsError, match="it has no verifier"):
        ingress_app(world.ingress)


async def test_a_verifier_counts_in_development_too(world: World):
    async with world.served(verifiers=[Word()], development=True) as client:
        assert (await post_event(client)).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/triggers"),
        ("POST", f"/triggers/{HOURLY}"),
        ("POST", "/pubsub"),
        ("GET", "/runs"),
        ("GET", "/runs/x"),
        ("HEAD", "/runs"),
        ("POST", "/runs/x/cancel"),
        ("GET", "/schedules"),
    ],
)
async def test_nobody_gets_in_without_credentials(world: World, method: str, path: str):
    async with world.served(verifiers=[Word()]) as client:
        response = await client.request(method, path, headers=BINARY)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert await world.ledger.runs() == []


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json"])
async def test_everyone_may_ask_how_it_is(world: World, path: str):
    async with world.served(verifiers=[Word()]) as client:
        assert (await client.get(path)).status_code == 200


async def test_who_is_refused_is_not_told_why(world: World, caplog: pytest.LogCaptureFixture):
    async with world.served(verifiers=[Word()]) as client:
        response = await client.post("/triggers", headers={"authorization": "Bearer guess"})
    assert "token" not in response.text
    assert "POST /triggers from 192.0.2.7 refused: unknown_token, 401" in caplog.text
    assert "guess" not in caplog.text


async def test_nothing_is_parsed_before_the_caller_is_known(world: World):
    async with world.served(verifiers=[Word()]) as client:
        response = await client.post("/triggers?what=ever", content=b"{", headers=STRUCTURED)
    assert response.status_code == 401


async def test_keys_that_cannot_be_had_are_no_reason_to_give_up(world: World):
    word = Word()
    word.refusal = VerificationError("keys_unavailable", "the issuer is away")
    async with world.served(verifiers=[word]) as client:
        response = await client.get("/runs", headers={"authorization": "Bearer sesame"})
    assert response.status_code == 503
    assert "retry-after" in response.headers


async def test_the_challenge_names_every_scheme_once(world: World):
    signed = Word()
    signed.scheme = "StandardWebhooks"
    async with world.served(verifiers=[Word(), signed, Word()]) as client:
        response = await client.get("/runs")
    assert response.headers["www-authenticate"] == "Bearer, StandardWebhooks"


@pytest.mark.parametrize(
    ("error", "undone"),
    [
        (LedgerError("away"), ["tester"]),
        (RuntimeError("broken"), ["tester"]),
        (TimeoutError(), ["tester"]),
        (None, []),
    ],
)
async def test_what_failed_may_come_again_with_the_same_credentials(
    world: World, error: BaseException | None, undone: list[str]
):
    world.ledger.error, word = error, Word()
    limits = Limits(time=timedelta(milliseconds=50))
    headers = {**BINARY, "authorization": "Bearer sesame"}
    async with world.served(verifiers=[word], limits=limits) as client:
        await client.post("/triggers", headers=headers)
        world.ledger.error = None
    assert word.undone == undone


async def test_a_mistake_of_the_caller_uses_its_credentials_up(world: World):
    word = Word()
    headers = {**STRUCTURED, "authorization": "Bearer sesame"}
    async with world.served(verifiers=[word]) as client:
        assert (await client.post("/triggers", content=b"{", headers=headers)).status_code == 400
    assert word.undone == []


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("POST", "/triggers", BINARY, b"", 400),
        ("POST", "/triggers", STRUCTURED, json.dumps(event()).encode(), 202),
        ("POST", f"/triggers/{HOURLY}", {}, b"", 400),
        ("POST", "/pubsub", {**BINARY, "x-goog-pubsub-message-id": "1"}, b"", 400),
        ("POST", "/runs/x/cancel", {}, b"", 400),
        ("POST", "/runs/x/cancel", {}, b'{"runId": "x"}', 404),
        ("GET", "/runs", {}, b"", 200),
    ],
)
async def test_a_signature_vouches_for_the_body_alone(
    world: World, method: str, path: str, headers: dict[str, str], body: bytes, status: int
):
    given = {**headers, "authorization": "Bearer sesame"}
    async with world.served(verifiers=[Word(method="signature")]) as client:
        response = await client.request(method, path, headers=given, content=body)
    assert response.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/triggers", "POST, OPTIONS"),
        ("PUT", f"/triggers/{HOURLY}", "POST, OPTIONS"),
        ("DELETE", "/runs/x", "GET, HEAD, OPTIONS"),
        ("GET", "/runs/x/cancel", "POST, OPTIONS"),
        ("POST", "/schedules", "GET, HEAD, OPTIONS"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("TRACE", "/triggers", "POST, OPTIONS"),
        ("PURGE", "/runs", "GET, HEAD, OPTIONS"),
    ],
)
async def test_another_method_is_refused(
    client: httpx.AsyncClient, method: str, path: str, allow: str
):
    response = await client.request(method, path)
    assert (response.status_code, problem_of(response)) == (405, "method-not-allowed")
    assert response.headers["allow"] == allow


async def test_options_tell_the_methods_and_let_no_other_origin_in(client: httpx.AsyncClient):
    response = await client.options("/triggers", headers={"origin": "https://evil.example"})
    assert (response.status_code, response.headers["allow"]) == (204, "POST, OPTIONS")
    assert not [name for name in response.headers if name.startswith("access-control-")]


async def test_no_header_changes_the_method(client: httpx.AsyncClient):
    response = await client.get("/triggers", headers={"x-http-method-override": "POST", **BINARY})
    assert response.status_code == 405


@pytest.mark.parametrize("path", ["/", "/trigger", "/Triggers", "/docs", "/runs/a/b"])
async def test_other_paths_are_not_there(client: httpx.AsyncClient, path: str):
    response = await client.get(path)
    assert (response.status_code, problem_of(response)) == (404, "not-found")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "text/plain", **BINARY}, b"hello"),
        ({"content-type": "application/json"}, b"{}"),
        ({"content-type": "application/cloudevents-batch+json"}, b"[]"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"a=b"),
        ({**STRUCTURED, "content-encoding": "gzip"}, b"\x1f\x8b"),
        ({}, b""),
    ],
)
async def test_other_content_is_not_taken(
    client: httpx.AsyncClient, headers: dict[str, str], body: bytes
):
    response = await client.post("/triggers", headers=headers, content=body)
    assert (response.status_code, problem_of(response)) == (415, "unsupported-media-type")


@pytest.mark.parametrize(
    "name", ["ce-id", "content-type", "authorization", "webhook-id", "host", "x-cloudscheduler"]
)
async def test_a_header_that_decides_is_there_once(client: httpx.AsyncClient, name: str):
    headers = [*BINARY.items(), (name, "a"), (name.title(), "a")]
    response = await client.post("/triggers", headers=headers)
    assert (response.status_code, problem_of(response)) == (400, "invalid-request")
    assert f"'{name}' is there twice" in response.json()["detail"]


async def test_other_headers_may_be_there_twice(client: httpx.AsyncClient):
    headers = [*BINARY.items(), ("via", "1.1 a"), ("via", "1.1 b")]
    assert (await client.post("/triggers", headers=headers)).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [[(f"x-{number}", "") for number in range(101)], [("x", "y" * 33_000)]],
    ids=["many", "large"],
)
async def test_headers_have_a_limit(client: httpx.AsyncClient, headers: Sequence[Any]):
    response = await client.post("/triggers", headers=list(headers))
    assert (response.status_code, problem_of(response)) == (431, "too-large")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_body_has_a_limit(world: World, is_streamed: bool):
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x"

    async with world.served(limits=Limits(body=10)) as client:
        content = parts() if is_streamed else b"x" * 11
        response = await client.post("/triggers", headers=STRUCTURED, content=content)
    assert (response.status_code, problem_of(response)) == (413, "too-large")
    assert response.headers["connection"] == "close"


async def test_a_body_of_the_limit_is_taken(world: World):
    body = json.dumps(event()).encode()
    async with world.served(limits=Limits(body=len(body))) as client:
        response = await client.post("/triggers", headers=STRUCTURED, content=body)
    assert response.status_code == 202


async def test_a_slow_body_is_not_waited_for(world: World):
    async def parts() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.Event().wait()

    async with world.served(limits=Limits(body_time=timedelta(milliseconds=50))) as client:
        response = await client.post("/triggers", headers=STRUCTURED, content=parts())
    assert (response.status_code, problem_of(response)) == (408, "request-timeout")
    assert response.headers["connection"] == "close"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("tiem=2027-03-01T12:00:00Z", "known here: job, manual, time"),
        ("time=2027-03-01T12:00:00Z&time=2027-03-01T12:00:00Z", "'time' twice"),
    ],
)
async def test_a_query_says_what_is_known_and_once(
    client: httpx.AsyncClient, query: str, words: str
):
    response = await client.post(f"/triggers/{HOURLY}?{query}")
    assert (response.status_code, problem_of(response)) == (400, "invalid-request")
    assert words in response.json()["detail"]


async def test_an_offset_in_a_query_keeps_its_plus(client: httpx.AsyncClient):
    response = await client.post(f"/triggers/{HOURLY}?time=2027-03-01T13:00:00+01:00")
    assert response.json()["nominalTime"] == "2027-03-01T12:00:00Z"


async def test_a_load_balancer_may_ask_with_a_query(client: httpx.AsyncClient):
    assert (await client.get("/health?probe=1")).json() == {"status": "ok"}


async def test_head_is_get_without_a_body(world: World, client: httpx.AsyncClient):
    get, head = await client.get("/schedules"), await client.head("/schedules")
    assert (head.status_code, head.headers) == (200, get.headers)


async def test_it_is_not_ready_without_its_ledger(world: World, client: httpx.AsyncClient):
    assert (await client.get("/ready")).status_code == 200
    world.ledger.error = LedgerError("away")
    assert (await client.get("/ready")).status_code == 200
    await world.clock.advance(timedelta(seconds=1))
    response = await client.get("/ready")
    assert (response.status_code, problem_of(response)) == (503, "unavailable")
    assert (await client.get("/health")).status_code == 200


async def test_schedules_are_listed_with_their_next_time(client: httpx.AsyncClient):
    found = (await client.get("/schedules")).json()["schedules"]
    assert [one["scheduleId"] for one in found] == [HOURLY, "Shop.v1.waits"]
    assert found[0]["nextTime"] == "2027-03-01T13:00:00Z"
    assert found[0]["expression"]["kind"] == "interval"


async def test_runs_are_listed_newest_first(world: World, client: httpx.AsyncClient):
    for hour in (10, 12, 11):
        at = f"2027-03-01T{hour}:00:00Z"
        await client.post(f"/triggers/{HOURLY}?manual=true&time={at}")
    found = (await client.get(f"/runs?schedule={HOURLY}&limit=2")).json()["runs"]
    assert [run["nominalTime"][11:13] for run in found] == ["12", "11"]
    found = (await client.get("/runs?since=2027-03-01T11:00:00Z&until=2027-03-01T12:00:00Z")).json()
    assert [run["nominalTime"][11:13] for run in found["runs"]] == ["11"]


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "limit=-1", "unfinished=yes", "since=today", "schedule="],
)
async def test_what_cannot_be_asked_of_runs_is_refused(client: httpx.AsyncClient, query: str):
    response = await client.get(f"/runs?{query}")
    assert (response.status_code, problem_of(response)) == (400, "invalid-request")


async def test_a_run_is_shown_without_its_key(client: httpx.AsyncClient):
    run_id = (await post_event(client)).json()["runId"]
    run = (await client.get(f"/runs/{run_id}")).json()
    assert (run["runId"], run["scheduleId"], run["status"]) == (run_id, HOURLY, "ended")
    assert "key" not in run


@pytest.mark.parametrize("run_id", ["nothing", "%00", "a%0Ab", "x" * 2000])
async def test_a_run_that_is_not_there_is_not_found(client: httpx.AsyncClient, run_id: str):
    for response in (
        await client.get(f"/runs/{run_id}"),
        await client.post(f"/runs/{run_id}/cancel"),
    ):
        assert (response.status_code, problem_of(response)) == (404, "not-found")


async def test_a_run_is_cancelled_once(world: World, client: httpx.AsyncClient):
    run_id = (await client.post("/triggers/Shop.v1.waits")).json()["runId"]
    first = await client.post(f"/runs/{run_id}/cancel", json={"runId": run_id})
    second = await client.post(f"/runs/{run_id}/cancel")
    assert first.json() == {"runId": run_id, "cancelled": True}
    assert second.json() == {"runId": run_id, "cancelled": False}
    assert (await client.get(f"/runs/{run_id}")).json()["outcome"] == "cancelled"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"runId": "another"}'])
async def test_a_body_that_names_another_run_cancels_nothing(
    client: httpx.AsyncClient, body: bytes
):
    run_id = (await client.post("/triggers/Shop.v1.waits")).json()["runId"]
    response = await client.post(f"/runs/{run_id}/cancel", content=body)
    assert response.status_code == 400
    assert (await client.get(f"/runs/{run_id}")).json()["status"] == "active"


async def test_every_answer_is_kept_from_caches_and_guesses(client: httpx.AsyncClient):
    for path in ("/runs", "/nowhere", "/triggers"):
        headers = (await client.get(path)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


async def test_logs_hold_no_payload(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    await post_event(client, data={"card": "4111-1111"})
    await post_event(client, data=["4111-1111"], time="2027-03-01T11:00:00Z")
    await client.post("/triggers", content=b'{"card": 4111-1111', headers=STRUCTURED)
    assert "4111" not in caplog.text


async def test_the_application_opens_what_it_is_asked_to(world: World):
    app = ingress_app(world.ingress, development=True, opens=[world.host, world.ingress])
    messages: asyncio.Queue[Any] = asyncio.Queue()
    sent: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan"}, messages.get, sent.put))
    await messages.put({"type": "lifespan.startup"})
    assert (await sent.get())["type"] == "lifespan.startup.complete"
    trigger = Trigger(schedule_id=HOURLY, nominal_time=NOON, source="test")
    assert (await world.ingress.accept(trigger)).accepted
    await messages.put({"type": "lifespan.shutdown"})
    assert (await sent.get())["type"] == "lifespan.shutdown.complete"
    await task
    assert (await world.ingress.accept(trigger)).cause == "closing"


async def test_it_can_be_mounted_below_a_path(world: World):
    from starlette.routing import Mount, Router

    app = Router([Mount("/below", ingress_app(world.ingress, development=True))])
    async with (
        world.ingress,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client,
    ):
        assert (await client.post(f"/below/triggers/{HOURLY}")).status_code == 202


async def test_a_caller_that_goes_away_gets_no_answer(world: World):
    app = ingress_app(world.ingress, development=True)
    sent: list[Any] = []

    async def gone() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/triggers",
        "headers": [],
        "query_string": b"",
    }
    await app(scope, gone, send)
    assert sent == []


async def test_a_websocket_is_closed(world: World):
    app = ingress_app(world.ingress, development=True)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/nowhere", "headers": []}, asyncio.Event().wait, send)
    assert sent == [{"type": "websocket.close", "code": 1000}]


@pytest.mark.parametrize("name", ["body", "headers", "header_bytes", "time", "body_time"])
def test_a_limit_is_positive(name: str):
    value = timedelta(0) if name.endswith("time") else 0
    with pytest.raises(SettingsError, match=f"limits: {name}: it is not positive"):
        Limits(**{name: value})


async def test_the_client_speaks_with_it(world: World):
    app = ingress_app(world.ingress, verifiers=[Word()])
    trigger = Trigger(schedule_id="Shop.v1.waits", nominal_time=NOON, source="test")
    async with (
        world.host,
        world.ingress,
        IngressClient(
            "http://localhost",
            credentials=lambda: "sesame",
            transport=httpx.ASGITransport(app),
            clock=world.clock,
        ) as client,
    ):
        decision = await client.accept(trigger)
        assert decision == decision._replace(verdict="accepted", reason="on time")
        run_id = str(decision.run_id)
        run = await client.run(run_id)
        assert run is not None
        assert (run.schedule_id, run.nominal_time, run.status) == (
            trigger.schedule_id,
            NOON,
            "active",
        )
        assert [await client.cancel(run_id), await client.cancel(run_id)] == [True, False]
        assert await client.run("nothing") is None


COUNTED = """
import asyncio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
import httpx
from tests.test_ingress_http import World, Word

async def main():
    async with World().served(verifiers=[Word()]) as client:
        await client.post("/triggers")
        await client.get("/triggers")
        await client.get("/runs", headers={"authorization": "Bearer sesame"})

asyncio.run(main())
(metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
print(metric.name, sorted((*p.attributes.values(), p.value) for p in metric.data.data_points))
"""


def test_every_refusal_is_counted_with_its_reason():
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", COUNTED], cwd=root, capture_output=True, text=True, check=True
    )
    counted = "[('http', 'method_not_allowed', 1), ('http', 'no_credentials', 1)]"
    assert done.stdout == f"purista.refusals {counted}\n"


async def test_a_deadline_cancels_what_is_overdue_and_nothing_else():
    deadlines = Deadlines(0.01)
    with pytest.raises(TimeoutError), deadlines.within(0.01):
        await asyncio.Event().wait()
    with deadlines.within(60):
        await asyncio.sleep(0.02)


async def test_a_deadline_lets_another_cancellation_through():
    async def wait() -> None:
        with Deadlines(60).within(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_deadlines_hold_in_one_event_loop_after_another():
    deadlines = Deadlines(0.01)

    async def wait() -> None:
        with deadlines.within(0.01):
            await asyncio.Event().wait()

    for _ in range(2):
        with pytest.raises(TimeoutError):
            asyncio.run(wait())

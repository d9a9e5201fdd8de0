"""``purista dead-letters`` over a file and over a broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.engines.nats_broker import nats_broker

from purista.bridges import Job
from purista.bridges.opening import open_events, open_queues
from purista.cli.app import run
from purista.contract import Backoff
from purista.message import Message
from purista.subscribing import SubscriptionOptions

APP = """
from pydantic import BaseModel
from purista import Context, Service

class Order(BaseModel):
    number: int

shop = Service("Shop", version="1")
paid = shop.event("shop.paid", Order)
jobs = shop.queue("jobs", Order)

@shop.subscription(paid)
async def bill(order: Order, ctx: Context) -> None: ...

@shop.worker(jobs)
async def work(order: Order, ctx: Context) -> None: ...
"""
SECRET = b'{"number": 4711}'
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "letters_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "letters_app", raising=False)
    return tmp_path


@pytest.fixture(params=["sqlite", "nats"])
def url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    with nats_broker() if request.param == "nats" else contextlib.nullcontext() as server:
        yield "sqlite:///shop.sqlite" if server is None else server.url


async def bury(url: str) -> None:
    """Leave a dead letter in the queue, and one at the subscriber."""
    events, queues = open_events(url), open_queues(url)

    async def fail(_: Message) -> None:
        raise RuntimeError("no")

    options = SubscriptionOptions(max_attempts=1, backoff=Backoff(jitter=0))
    await events.subscribe("shop.paid", "Shop.v1.bill", fail, options=options)
    await events.publish(Message("shop.paid", SECRET, "event-1"))
    await queues.enqueue(Job(Message("jobs", SECRET, "job-1")))
    leased = await queues.lease("jobs", duration=timedelta(minutes=1))
    assert leased is not None
    await queues.nack(leased, retry_in=None, reason="ValueError in the handler")
    async with asyncio.timeout(10):
        while not await events.dead_letters("shop.paid", "Shop.v1.bill"):  # type: ignore[attr-defined] # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await events.close()
    await queues.close()


def call(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = run(["dead-letters", "letters_app:shop", *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def listed(capsys: Capture, url: str, *arguments: str) -> list[dict[str, object]]:
    code, out, _ = call(capsys, "--bridge", url, "--json", *arguments)
    assert code == 0
    found: list[dict[str, object]] = json.loads(out)
    return found


def test_they_are_listed_redriven_and_purged(url: str, capsys: Capture):
    asyncio.run(bury(url))
    code, out, err = call(capsys, "--bridge", url)
    assert code == 0
    assert "4711" not in out + err
    for text in ("event-1", "job-1", "ValueError in the handler"):
        assert text in out
    by_id = {one["messageId"]: one for one in listed(capsys, url)}
    assert by_id["event-1"]["subscriber"] == "Shop.v1.bill"
    assert by_id["event-1"]["attempts"] == 1
    assert by_id["job-1"]["name"] == "jobs"
    assert [one["messageId"] for one in listed(capsys, url, "--of", "bill")] == ["event-1"]
    code, out, err = call(capsys, "--bridge", url, "--of", "jobs", "--redrive", "--yes")
    assert (code, out.strip()) == (0, "jobs: 1")
    assert "1 dead letters sent again" in err
    assert [one["messageId"] for one in listed(capsys, url)] == ["event-1"]
    code, _, err = call(capsys, "--bridge", url, "--purge", "--yes", "--id", "other")
    assert (code, "no dead letter has the id 'other'; list them without --purge" in err) == (
        2,
        True,
    )
    assert len(listed(capsys, url)) == 1
    assert call(capsys, "--bridge", url, "--purge", "--yes")[0] == 0
    assert listed(capsys, url) == []


@pytest.mark.usefixtures("folder")
def test_what_makes_no_sense_is_refused(capsys: Capture):
    file = "sqlite:///shop.sqlite"
    for arguments, part in (
        ((), "name the broker with --bridge"),
        (("--bridge", file, "--redrive", "--purge"), "choose one"),
        (("--bridge", file, "--of", "job"), "did you mean 'jobs'?"),
        (("--bridge", file, "--purge"), "give --yes"),
        (("--bridge", file), "there is no file 'shop.sqlite'"),
        (("--bridge", file, "--purge", "--yes"), "there is no file 'shop.sqlite'"),
    ):
        code, _, err = call(capsys, *arguments)
        assert code == 2
        assert part in err


@pytest.mark.usefixtures("folder")
def test_a_broker_that_is_away_is_told_by_the_exit_code(capsys: Capture):
    code, _, err = call(capsys, "--bridge", "nats://127.0.0.1:1")
    assert code == 75
    assert "the server is away" in err

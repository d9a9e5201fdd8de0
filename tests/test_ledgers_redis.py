import asyncio
import contextlib
import dataclasses
import gc
import logging
import random
import signal
import time
import traceback
import uuid
import warnings
from datetime import UTC, datetime, timedelta

import pytest
from redis.crc import key_slot
from tests.engines.ports import HOST, free_port
from tests.engines.valkey import valkey_server

from purista.errors import LedgerError
from purista.ledgers import Verdict
from purista.ledgers.memory import MemoryLedger
from purista.ledgers.redis import RedisLedger
from purista.testing import LedgerSuite
from purista.testing.ledger_suite import LEASE, SECOND, START, proposal

SHORT = timedelta(milliseconds=300)


@pytest.fixture(scope="module")
def server():
    with valkey_server() as server:
        yield server


@pytest.fixture
def prefix():
    return f"test {uuid.uuid4().hex}"


class TestRedisLedger(LedgerSuite):
    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.url = server.url

    @contextlib.asynccontextmanager
    async def ledger(self):
        async with opened(self.url, prefix=uuid.uuid4().hex) as ledger:
            yield ledger


@contextlib.asynccontextmanager
async def opened(url, **options):
    ledger = RedisLedger(url, **options)
    try:
        yield ledger
    finally:
        await ledger.close()


async def refusal(url, **options):
    """Return what the first call says."""
    async with opened(url, **options) as ledger:
        with pytest.raises(LedgerError) as caught:
            await ledger.decide(proposal())
    return str(caught.value)


def sizes(server, prefix):
    """Return how many rows and places there are of each kind."""
    with server.client() as client:
        rows = {name: client.hlen(f"{{{prefix}}}:{name}") for name in ("runs", "records", "skips")}
        places = client.zcard(f"{{{prefix}}}:index")
    return rows | {"index": places}


def kill_and_restart(server):
    server.kill()
    server.restart()


async def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def decide_about(ledger, count):
    """Let so many triggers be accepted, a second from each other, side by side."""
    times = [START + number * SECOND for number in range(count)]
    triggers = [proposal(nominal_time=at, run_id=str(n)) for n, at in enumerate(times)]
    await asyncio.gather(*(ledger.decide(one) for one in triggers))


# The rules


async def test_the_script_rules_as_the_book_does_word_for_word(server, prefix):
    draw = random.Random(7)
    memory = MemoryLedger(retention=timedelta(0))
    async with opened(server.url, prefix=prefix, retention=timedelta(0)) as ledger:
        claims, now = [], START
        for _ in range(300):
            now += draw.choice((-2, 0, 1, 2, 7)) * SECOND
            trigger = any_proposal(draw, now)
            theirs, ours = await memory.decide(trigger), await ledger.decide(trigger)
            assert ours._replace(token=theirs.token) == theirs
            claims += [(theirs, ours)] if ours.token else []
            await take_a_step(draw.choice(claims[-4:]), draw.randrange(4), memory, ledger, now)
            for one in (memory, ledger):
                await one.purge(now)
            wanted = {"schedule_id": draw.choice((None, *"abc")), "unfinished": draw.random() < 0.5}
            theirs, ours = await memory.runs(**wanted), await ledger.runs(**wanted)
            assert [dataclasses.replace(run, token=0) for run in ours] == [
                dataclasses.replace(run, token=0) for run in theirs
            ]
        assert await ledger.records(limit=1000) == await memory.records(limit=1000)


def any_proposal(draw, now):
    schedule, slot = draw.choice("abc"), draw.randrange(4)
    return proposal(
        schedule_id=schedule,
        nominal_time=START + slot * SECOND,
        key=f"{slot // 2}{draw.choice(('', '', 'changed'))}",
        run_id=f"{schedule}{slot}",
        owner=draw.choice("pq"),
        now=now,
        verdict=draw.choice([Verdict.ACCEPTED] * 8 + list(Verdict)[3:]),
        concurrency_policy=draw.choice(("allow", "forbid", "replace")),
        dedupe_window=draw.choice((0, 5, 25)) * SECOND,
        run_timeout=draw.choice((1, 10)) * SECOND,
        lease=draw.choice((0, 3)) * SECOND,
        manual=draw.random() < 0.15,
    )


async def take_a_step(claim, step, memory, ledger, now):
    """Do the same in both ledgers, each with its own token."""
    answers = []
    for one, ruling in zip((memory, ledger), claim, strict=True):
        run = ruling.run_id, ruling.token
        if step == 0:
            answers.append(await one.dispatched(*run, lease_until=None))
        elif step == 1:
            answers.append(await one.dispatched(*run, lease_until=now + 3 * SECOND))
        elif step == 2:
            answers.append(await one.release(*run))
        else:
            answers.append(await one.end(ruling.run_id, outcome="acked", now=now))
    assert answers[0] == answers[1]


async def test_cancelled_runs_are_told_in_the_order_of_their_claims(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        for number, hours in enumerate((3, 2, 1, 4)):
            timeout = timedelta(hours=hours)
            await ledger.decide(proposal(key=str(number), run_id=str(number), run_timeout=timeout))
        later = START + timedelta(hours=2)
        ruling = await ledger.decide(proposal(now=later, concurrency_policy="replace"))
        assert ruling.cancelled == ("1", "2", "0", "3")


@pytest.mark.parametrize("year", [1, 1969, 2255, 9999])
async def test_instants_of_any_year_are_exact(server, prefix, year):
    month = timedelta(days=30)
    first = datetime(year, 6, 1, 12, 0, 0, 1, tzinfo=UTC)
    small = timedelta(microseconds=1)
    async with opened(server.url, prefix=prefix) as ledger:
        times = [first + number * small for number in range(3)]
        for at in times:
            odd = proposal(nominal_time=at, now=at, run_id=str(at), dedupe_window=month)
            assert (await ledger.decide(odd)).verdict == "accepted"
            await ledger.end(str(at), outcome="acked", now=at)
            last = odd._replace(now=at + month - small)
            assert (await ledger.decide(last)).verdict == "duplicate"
        assert [run.nominal_time for run in await ledger.runs()] == times[::-1]
        anew = odd._replace(now=first + 2 * small + month)
        assert (await ledger.decide(anew)).verdict == "accepted"


async def test_the_first_and_the_last_instant_are_kept(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        for number, at in enumerate((datetime.min, datetime.max)):
            at = at.replace(tzinfo=UTC)
            await ledger.decide(proposal(nominal_time=at, run_id=str(number)))
            assert (await ledger.run(str(number))).nominal_time == at


async def test_many_leases_are_renewed_in_several_steps(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        await decide_about(ledger, 250)
        await ledger.renew("first", lease_until=START + 9 * LEASE)
        runs = await ledger.runs(limit=1000)
        assert {run.lease_until for run in runs} == {START + 9 * LEASE}
        assert len(runs) == 250


async def test_a_long_history_comes_in_pages(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        await decide_about(ledger, 600)
        newest_first = [str(number) for number in reversed(range(600))]
        assert [run.run_id for run in await ledger.runs(limit=550)] == newest_first[:550]
        records = await ledger.records(until=START + 2 * SECOND)
        assert {record.run_id for record in records} == {"1", "0"}
        assert await ledger.runs(limit=0) == []
        assert await ledger.records(limit=0) == []


# What is kept


async def test_all_keys_are_in_one_slot_and_never_expire(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        await ledger.decide(proposal())
        await ledger.decide(proposal(key="late", run_id="late", verdict=Verdict.LATE))
        await ledger.note_contracts({"a": "1"}, now=START)
        await ledger.use_nonce("n", now=START, kept_until=START + SECOND)
    with server.client() as client:
        keys = list(client.scan_iter(f"*{prefix}*"))
        assert len(keys) == 8
        assert {key_slot(key.encode()) for key in keys} == {key_slot(prefix.encode())}
        assert {client.ttl(key) for key in keys} == {-1}


async def test_ledgers_under_other_prefixes_know_nothing_of_each_other(server, prefix):
    longer = f"{prefix}:"
    async with opened(server.url, prefix=prefix) as one, opened(server.url, prefix=longer) as other:
        await one.decide(proposal(run_id="r"))
        assert await other.run("r") is None
        assert (await other.decide(proposal(run_id="r"))).verdict == "accepted"


async def test_of_many_nonces_that_are_due_each_may_be_used_again(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        names = [str(number) for number in range(10)]
        for until in (START + SECOND, START + 2 * SECOND):
            for name in reversed(names):
                assert await ledger.use_nonce(name, now=until - SECOND, kept_until=until)
            assert not await ledger.use_nonce(names[0], now=until - SECOND, kept_until=until)
    assert sizes(server, prefix)["index"] == 10


async def test_a_purge_forgets_nonces_that_it_does_not_count(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        uses = (ledger.use_nonce(str(n), now=START, kept_until=START + SECOND) for n in range(250))
        await asyncio.gather(*uses)
        assert await ledger.purge(START + SECOND) == 0
    assert sizes(server, prefix)["index"] == 0


async def test_a_dropped_nonce_that_is_used_again_is_kept_anew(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        await ledger.use_nonce("n", now=START, kept_until=START + SECOND)
        await ledger.drop_nonce("n")
        await ledger.use_nonce("n", now=START, kept_until=START + 9 * SECOND)
        again = START + 2 * SECOND
        assert not await ledger.use_nonce("n", now=again, kept_until=START + 9 * SECOND)


async def test_a_ledger_does_not_grow_for_ever(server, prefix):
    async with opened(server.url, prefix=prefix, retention=timedelta(days=1)) as ledger:
        for day in range(200):
            now = START + timedelta(days=day)
            verdict = Verdict.LATE if day % 2 else Verdict.ACCEPTED
            await ledger.decide(
                proposal(nominal_time=now, now=now, verdict=verdict, dedupe_window=SECOND)
            )
            await ledger.use_nonce(str(day), now=now, kept_until=now + SECOND)
    assert all(count <= 20 for count in sizes(server, prefix).values()), sizes(server, prefix)
    with server.client() as client:
        assert client.hlen(f"{{{prefix}}}:nonces") == 1


async def test_nothing_leads_to_what_was_purged(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        for number, verdict in enumerate((Verdict.ACCEPTED, Verdict.LATE, Verdict.DISABLED)):
            await ledger.decide(proposal(key=str(number), run_id=str(number), verdict=verdict))
            await ledger.decide(proposal(key=str(number), run_id=str(number), verdict=verdict))
        await ledger.use_nonce("n", now=START, kept_until=START + SECOND)
        assert await ledger.purge(START + timedelta(days=40)) == 8
    assert sizes(server, prefix) == {"runs": 0, "records": 0, "skips": 0, "index": 0}


async def test_a_skip_that_is_seen_again_is_kept_anew(server, prefix):
    async with opened(server.url, prefix=prefix, retention=timedelta(0)) as ledger:
        late = {"verdict": Verdict.LATE, "dedupe_window": 10 * SECOND}
        await ledger.decide(proposal(**late))
        await ledger.decide(proposal(**late, now=START + 12 * SECOND))
        await ledger.purge(START + 15 * SECOND)
        again = proposal(dedupe_window=10 * SECOND, now=START + 15 * SECOND)
        assert (await ledger.decide(again)).verdict == "duplicate"


async def test_a_run_that_counts_anew_is_kept_anew(server, prefix):
    async with opened(server.url, prefix=prefix, retention=timedelta(0)) as ledger:
        brief = {
            "run_id": "r",
            "dedupe_window": 10 * SECOND,
            "run_timeout": SECOND,
            "lease": SECOND,
        }
        for seconds in (0, 10):
            await ledger.decide(proposal(**brief, now=START + seconds * SECOND))
        assert await ledger.purge(START + 11 * SECOND) == 0
        assert await ledger.run("r") is not None


async def test_tokens_grow_even_when_the_server_forgot_all(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        tokens = []
        for number in range(3):
            ruling = await ledger.decide(proposal(now=START + number * SECOND))
            tokens.append(ruling.token)
            with server.client() as client:
                client.delete(*client.scan_iter(f"*{prefix}*"))
    assert tokens == sorted(set(tokens))


async def test_a_ledger_of_a_newer_version_is_left_as_it_is(server, prefix):
    with server.client() as client:
        client.hset(f"{{{prefix}}}:meta", "version", "2")
        text = await refusal(server.url, prefix=prefix)
        assert "its schema has version 2, this purista knows 1; use the purista" in text
        assert list(client.scan_iter(f"*{prefix}*")) == [f"{{{prefix}}}:meta"]


async def test_a_newer_version_is_noticed_while_the_ledger_is_in_use(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        await ledger.decide(proposal())
        with server.client() as client:
            client.hset(f"{{{prefix}}}:meta", "version", "2")
        with pytest.raises(LedgerError, match="its schema has version 2"):
            await ledger.decide(proposal())
    assert sizes(server, prefix)["records"] == 1


# What survives


async def test_no_decision_that_was_answered_is_lost_when_the_server_is_killed(prefix):
    with valkey_server(durable=True) as server:
        async with opened(server.url, prefix=prefix) as ledger:
            answered = {}

            async def send(sender):
                for number in range(10_000):
                    run_id = f"{sender} {number}"
                    ruling = await ledger.decide(proposal(key=run_id, run_id=run_id))
                    answered[run_id] = ruling.token

            senders = [asyncio.create_task(send(number)) for number in range(8)]
            await wait_for(lambda: len(answered) > 200)
            server.kill()
            ends = await asyncio.gather(*senders, return_exceptions=True)
            assert {type(end) for end in ends} == {LedgerError}
            server.restart()
            known = {run.run_id: run.token for run in await ledger.runs(limit=100_000)}
    assert answered.items() <= known.items()
    assert len(known) <= len(answered) + 8


async def test_everything_is_there_again_after_a_restart(prefix):
    with valkey_server(durable=True) as server:
        async with opened(server.url, prefix=prefix) as ledger:
            first = await ledger.decide(proposal(run_id="r"))
            await ledger.decide(proposal(key="late", verdict=Verdict.LATE))
            before = (await ledger.runs(), await ledger.records())
            await asyncio.to_thread(kill_and_restart, server)
            assert (await ledger.runs(), await ledger.records()) == before
            again = await ledger.decide(proposal(run_id="r", now=START + LEASE))
            assert again.taken_over
            assert again.token > first.token


async def warnings_of(server, prefix, caplog, count=1):
    """Return what is logged at the first calls of a ledger."""
    with caplog.at_level(logging.WARNING, "purista.ledgers"):
        async with opened(server.url, prefix=prefix) as ledger:
            await asyncio.gather(*(ledger.latest("x") for _ in range(count)))
    return [record.getMessage() for record in caplog.records]


async def test_a_server_that_forgets_is_warned_of_once(server, prefix, caplog):
    assert await warnings_of(server, prefix, caplog, count=5) == [
        f"ledger '{server.url}' can forget what ran: "
        "it keeps no append-only file; set 'appendonly yes'"
    ]


async def test_a_server_that_evicts_keys_is_warned_of(prefix, caplog):
    evicting = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    with valkey_server(*evicting, durable=True) as server:
        (text,) = await warnings_of(server, prefix, caplog)
    assert "it evicts keys when it is full (allkeys-lru)" in text


async def test_a_server_that_leaves_writing_to_the_kernel_is_warned_of(prefix, caplog):
    with valkey_server("--appendfsync", "no", durable=True) as server:
        (text,) = await warnings_of(server, prefix, caplog)
    assert "set 'appendfsync always'" in text


async def test_a_server_that_keeps_everything_is_not_warned_of(prefix, caplog):
    policy = ("--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru")
    with valkey_server(*policy, durable=True) as server:
        assert await warnings_of(server, prefix, caplog) == []


@pytest.mark.parametrize("refused", ["-config", "-info"])
async def test_a_server_that_does_not_tell_its_settings_is_used_all_the_same(
    server, prefix, refused
):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">secret", "~*", "+@all", refused)
    url = server.url.replace("//", "//app:secret@")
    async with opened(url, prefix=prefix) as ledger:
        assert (await ledger.decide(proposal())).verdict == "accepted"


# What is wrong with a server


async def test_a_server_that_is_away_is_named_and_then_found(prefix):
    with valkey_server() as server:
        async with opened(server.url, prefix=prefix) as ledger:
            server.kill()
            for _ in range(2):
                with pytest.raises(LedgerError, match=r"cannot be reached: .*; start it") as caught:
                    await ledger.decide(proposal())
            assert str(caught.value).startswith(f"ledger '{server.url}': ")
            server.restart()
            assert (await ledger.decide(proposal())).verdict == "accepted"


async def test_after_a_restart_every_connection_is_made_anew(prefix):
    with valkey_server(durable=True) as server:
        async with opened(server.url, prefix=prefix) as ledger:
            for life in range(2):
                keys = [f"{life} {number}" for number in range(30)]
                rulings = await asyncio.gather(
                    *(ledger.decide(proposal(key=key, run_id=key)) for key in keys)
                )
                assert {ruling.verdict for ruling in rulings} == {"accepted"}
                await asyncio.to_thread(kill_and_restart, server)


async def test_a_server_that_hangs_is_not_asked_twice(prefix):
    with valkey_server() as server:
        async with opened(server.url, prefix=prefix, timeout=SHORT) as ledger:
            await ledger.decide(proposal(key="before"))
            server.process.send_signal(signal.SIGSTOP)
            with pytest.raises(LedgerError, match=r"did not answer within 0:00:00.3"):
                await ledger.decide(proposal(run_id="r"))
            server.process.send_signal(signal.SIGCONT)
            other = await ledger.decide(proposal(key="other", run_id="other"))
            assert (other.verdict, other.run_id) == ("accepted", "other")
            await wait_for(lambda: sizes(server, prefix)["records"] == 3)


@contextlib.asynccontextmanager
async def answering(lines):
    """Listen on a port; answer each line with what ``lines`` gives, or close at None."""

    async def serve(reader, writer):
        while await reader.readline() and (answer := lines()) is not None:
            writer.write(answer)
        writer.close()

    listener = await asyncio.start_server(serve, HOST, 0)
    async with listener:
        yield f"redis://{HOST}:{listener.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"]
)
async def test_what_is_no_redis_is_told_apart(answer):
    async with answering(lambda: answer) as url:
        assert "what answers there is no Redis" in await refusal(url)


async def test_who_hangs_up_is_not_asked_twice():
    asked = []
    async with answering(lambda: asked.append(1)) as url:
        assert "the connection broke; whether it took the step is not known" in await refusal(url)
    assert asked == [1]


@contextlib.asynccontextmanager
async def losing(server, what):
    """Pass everything on to the server, but hang up in place of the answer to ``what``."""

    async def serve(reader, writer):
        to_server = await asyncio.open_connection(HOST, server.port)
        while request := await reader.read(65_536):
            to_server[1].write(request)
            answer = await to_server[0].read(65_536)
            if what in request:
                break
            writer.write(answer)
        writer.close()
        to_server[1].close()

    listener = await asyncio.start_server(serve, HOST, 0)
    async with listener:
        yield f"redis://{HOST}:{listener.sockets[0].getsockname()[1]}"


async def test_a_decision_whose_answer_was_lost_is_not_sent_again(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger, losing(server, b"lost") as url:
        assert (await ledger.decide(proposal())).verdict == "accepted"
        async with opened(url, prefix=prefix) as other:
            with pytest.raises(LedgerError, match="whether it took the step is not known"):
                await other.decide(proposal(key="lost", run_id="r"))
            again = await other.decide(proposal(key="found", run_id="other"))
            assert again.verdict == "accepted"
        assert [record.key for record in await ledger.records()][:2] == ["found", "lost"]
        assert sizes(server, prefix)["records"] == 3


async def test_a_server_that_lost_the_scripts_gets_them_again(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        for number in range(3):
            with server.client() as client:
                client.script_flush()
            rulings = await asyncio.gather(
                *(ledger.decide(proposal(key=f"{number}", run_id="r")) for _ in range(20))
            )
            accepted = [ruling for ruling in rulings if ruling.verdict == "accepted"]
            assert len(accepted) == (number == 0)


SECRET = "hunter2/#?@ä"
ENCODED = "hunter2%2F%23%3F%40%C3%A4"


async def test_a_wrong_password_is_told_but_never_shown():
    with valkey_server(password="another") as server:
        url = server.url.replace("//", f"//:{ENCODED}@")
        async with opened(url) as ledger:
            with pytest.raises(LedgerError) as caught:
                await ledger.decide(proposal())
            shown = "".join(traceback.format_exception(caught.value)) + repr(ledger)
    assert "it wants another user name or password" in shown
    assert "hunter2" not in shown


async def test_a_password_may_hold_anything():
    with valkey_server(password=SECRET) as server:
        assert "it wants another user name" in await refusal(server.url)
        async with opened(server.url.replace("//", f"//:{ENCODED}@")) as ledger:
            assert (await ledger.decide(proposal())).verdict == "accepted"


async def test_a_user_that_may_too_little_is_told_what_it_needs(server):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "few", "on", ">secret", "~x", "+@all")
    text = await refusal(server.url.replace("//", "//few:secret@"))
    assert "its user may not do that; allow +hget" in text
    assert text.endswith("on ~{purista}:*")


async def test_a_user_that_may_what_is_told_can_do_everything(server, prefix):
    text = f"~{{{prefix.replace(' ', '?')}}}:*"
    needed = "+hget +hset +hdel +zadd +zrem +zrangebylex +zrevrangebylex +eval +evalsha +info"
    with server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "enough", "on", ">secret", "resetkeys", text, *needed.split()
        )
    url = server.url.replace("//", "//enough:secret@")
    async with opened(url, prefix=prefix) as ledger:
        ruling = await ledger.decide(proposal(run_id="r"))
        await ledger.dispatched("r", ruling.token, lease_until=None)
        await ledger.use_nonce("n", now=START, kept_until=START)
        await ledger.note_contracts({"a": "1"}, now=START)
        assert len(await ledger.runs()) == 1
        assert await ledger.purge(START + timedelta(days=40)) == 2


async def test_a_replica_is_told_apart_and_can_be_read(prefix):
    with valkey_server() as server:
        async with opened(server.url, prefix=prefix) as ledger:
            await ledger.decide(proposal(run_id="r"))
            with server.client() as client:
                client.replicaof(HOST, free_port())
            with pytest.raises(LedgerError, match="it is a replica that may only be read"):
                await ledger.decide(proposal(run_id="r"))
            assert [run.run_id for run in await ledger.runs()] == ["r"]


async def test_a_server_without_memory_decides_nothing_by_halves(prefix):
    with valkey_server() as server:
        async with opened(server.url, prefix=prefix) as ledger:
            await ledger.decide(proposal(key="other", run_id="other", run_timeout=SECOND))
            before = sizes(server, prefix)
            with server.client() as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(LedgerError, match="it is out of memory; raise its maxmemory"):
                    await ledger.decide(proposal(run_id="r", now=START + SECOND))
                assert sizes(server, prefix) == before
                client.config_set("maxmemory", 0)
            assert (await ledger.decide(proposal(run_id="r"))).verdict == "accepted"


async def test_a_database_that_is_not_there_is_told(server):
    text = await refusal(server.url.removesuffix("0") + "99")
    assert text.endswith("it answers: DB index is out of range")


async def test_what_the_server_says_otherwise_is_passed_on(server, prefix):
    with server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        try:
            text = await refusal(server.url, prefix=prefix)
        finally:
            client.config_set("min-replicas-to-write", 0)
    assert "it answers: NOREPLICAS Not enough good replicas to write" in text


async def test_in_a_cluster_the_node_that_has_the_ledger_is_named(prefix):
    with valkey_server(*a_node()) as server, valkey_server(*a_node()) as empty:
        with server.client() as client, empty.client() as other:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            bus = server.options[-1]
            other.execute_command("CLUSTER", "MEET", HOST, server.port, bus)
            for one in (client, other):
                await wait_for(lambda one=one: is_whole(one))
        async with opened(server.url, prefix=prefix) as ledger:
            assert (await ledger.decide(proposal())).verdict == "accepted"
            assert len(await ledger.runs()) == 1
        text = await refusal(empty.url, prefix=prefix)
    assert f"this ledger is on its node {HOST}:{server.port}; name that one" in text


def a_node():
    return ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))


def is_whole(client):
    """Whether a node knows who has the slots."""
    info = str(client.execute_command("CLUSTER", "INFO"))
    return "cluster_state:ok" in info and "cluster_slots_ok:16384" in info


# Its address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://:hunter2/@host",
        "redis://:12/hunter2@host/0",
        "redis://user:hunter2#@host",
        "redis://[hunter2",
        "redis://host/hunter2",
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_it(url):
    with pytest.raises(LedgerError, match=r"its URL is none; write redis://") as caught:
        RedisLedger(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("option", ["retry_on_timeout=yes", "decode_responses=yes", "password=x"])
def test_an_option_that_is_the_ledgers_own_is_refused(option):
    with pytest.raises(LedgerError, match=f"has the option '{option.partition('=')[0]}'"):
        RedisLedger(f"redis://host?{option}")


@pytest.mark.parametrize("option", ["db=hunter2", "ssl_min_version=x", "ssl_hunter2=x"])
def test_an_option_without_a_meaning_is_refused_without_showing_it(option):
    with pytest.raises(LedgerError, match="an option of its URL has no meaning") as caught:
        RedisLedger(f"rediss://host?{option}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b"])
def test_a_prefix_that_is_no_hash_tag_is_refused(prefix):
    with pytest.raises(LedgerError, match="write a name without braces"):
        RedisLedger("redis://host", prefix=prefix)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://me:secret@Host", "redis://host:6379/0"),
        ("rediss://host:7000/3?ssl_cert_reqs=none", "rediss://host:7000/3"),
        ("redis://[::1]:7000", "redis://[::1]:7000/0"),
        ("unix://me:secret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_a_ledger_is_known_by_its_address_alone(url, name):
    assert repr(RedisLedger(url)) == f"RedisLedger('{name}')"


async def test_a_socket_in_the_file_system_will_do(tmp_path, prefix):
    path = tmp_path / "s"
    with valkey_server("--unixsocket", str(path)):
        async with opened(f"unix://{path}", prefix=prefix) as ledger:
            assert (await ledger.decide(proposal())).verdict == "accepted"
    assert "cannot be reached" in await refusal(f"unix://{path}")


# Callers, event loops, closing


async def test_cancelled_callers_leave_each_step_done_or_not_begun(server, prefix):
    async with opened(server.url, prefix=prefix, connections=4) as ledger:
        tasks = [
            asyncio.create_task(ledger.decide(proposal(key=str(one), run_id=str(one))))
            for one in range(60)
        ]
        for task in tasks:
            await asyncio.sleep(0)
            task.cancel()
        rulings = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(one) for one in rulings} & {asyncio.CancelledError}
        for one in range(60):
            run = await ledger.run(str(one))
            ruling = await ledger.decide(proposal(key=str(one), run_id=str(one)))
            assert ruling.run_id == str(one)
            assert ruling.verdict == "duplicate" or run is None


async def test_of_several_ledgers_exactly_one_accepts_a_key(server, prefix):
    async with contextlib.AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(opened(server.url, prefix=prefix)) for _ in range(4)
        ]
        asked = [one.decide(proposal(key=str(key))) for key in range(20) for one in ledgers]
        rulings = await asyncio.gather(*asked)
    assert sum(ruling.verdict == "accepted" for ruling in rulings) == 1
    assert {ruling.verdict for ruling in rulings} == {"accepted", "duplicate"}


async def test_more_callers_than_connections_wait_for_their_turn(server, prefix):
    async with opened(server.url, prefix=prefix, connections=2) as ledger:
        keys = [str(number) for number in range(200)]
        await asyncio.gather(*(ledger.decide(proposal(key=key, run_id=key)) for key in keys))
        assert {run.key for run in await ledger.runs(limit=200)} == set(keys)
        with server.client() as client:
            assert len(client.client_list()) <= 4


@pytest.mark.parametrize("clients", [1, 20])
async def test_one_connection_serves_call_after_call(server, prefix, clients):
    async with opened(server.url, prefix=prefix, connections=1) as ledger:

        async def client(name):
            for number in range(10):
                run_id = f"{name} {number}"
                ruling = await ledger.decide(proposal(key=run_id, run_id=run_id))
                assert ruling.run_id == run_id

        async with asyncio.timeout(20):
            await asyncio.gather(*(client(name) for name in range(clients)))
        assert sizes(server, prefix)["runs"] == 10 * clients


async def test_closing_waits_for_what_was_begun(server, prefix):
    ledger = RedisLedger(server.url, prefix=prefix)
    pending = [asyncio.create_task(ledger.decide(proposal(key=str(one)))) for one in range(20)]
    await asyncio.sleep(0)
    await ledger.close()
    assert len(await asyncio.gather(*pending)) == 20


async def test_a_closed_ledger_says_so(server):
    ledger = RedisLedger(server.url)
    await ledger.close()
    with pytest.raises(LedgerError, match="it is closed; make a new one"):
        await ledger.decide(proposal())


def test_a_ledger_serves_one_event_loop_after_another(server, prefix):
    ledger = RedisLedger(server.url, prefix=prefix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert asyncio.run(ledger.decide(proposal(run_id="r"))).verdict == "accepted"
        assert asyncio.run(ledger.decide(proposal(run_id="r"))).verdict == "duplicate"
        asyncio.run(ledger.close())
        gc.collect()


async def test_text_that_is_no_unicode_is_an_error_and_changes_nothing(server, prefix):
    async with opened(server.url, prefix=prefix) as ledger:
        for call in (
            ledger.decide(proposal(source="\ud800")),
            ledger.run("\ud800"),
            ledger.runs(schedule_id="\ud800"),
        ):
            with pytest.raises(LedgerError, match="surrogates not allowed"):
                await call
        assert await ledger.runs() == []
        assert (await ledger.decide(proposal())).verdict == "accepted"

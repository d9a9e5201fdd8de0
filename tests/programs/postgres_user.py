"""Use a PostgreSQL ledger from a process of its own: `postgres_user.py <url> <schema> <what> [...]`.

Every line of stdout is one JSON value. Lines of stdin say when to go on.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import sys
from datetime import timedelta

import psycopg

from purista.bridges import Job
from purista.bridges.postgres_queues import PostgresQueueBridge
from purista.ledgers.postgres import PostgresLedger
from purista.message import Message
from purista.testing.ledger_suite import LEASE, START, proposal


def tell(value):
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def wait():
    sys.stdin.readline()


async def race(ledger, name, count):
    """Send the same triggers as others do; tell which were accepted here."""
    keys = [f"key {number}" for number in range(int(count))]
    random.Random(name).shuffle(keys)
    tell("ready")
    wait()
    accepted = []
    for key in keys:
        ruling = await ledger.decide(proposal(key=key, run_id=f"run {key}", owner=name))
        if ruling.verdict == "accepted":
            accepted.append(key)
            await ledger.dispatched(ruling.run_id, ruling.token, lease_until=None)
            await ledger.end(ruling.run_id, outcome="acked", now=START)
    tell(accepted)


async def forbid(ledger, name, count, file):
    """Send triggers of one schedule; tell how many ran, and how often another one ran meanwhile."""
    tell("ready")
    wait()
    ran = overlaps = 0
    for number in range(int(count)):
        one = f"{name} {number}"
        trigger = proposal(key=one, run_id=one, owner=name, concurrency_policy="forbid")
        if (await ledger.decide(trigger)).verdict != "accepted":
            continue
        ran += 1
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL))
            await asyncio.sleep(0)
            os.unlink(file)
        except FileExistsError:
            overlaps += 1
        await ledger.end(one, outcome="acked", now=START)
    tell([ran, overlaps])


async def first(ledger):
    """Be among the first who use a schema."""
    tell("ready")
    wait()
    tell((await ledger.decide(proposal(run_id="r"))).verdict)


async def claim(ledger, step):
    """Claim one run, go on to a step, and wait there."""
    ruling = await ledger.decide(proposal(run_id="r", owner="killed"))
    if step == "dispatched":
        await ledger.dispatched("r", ruling.token, lease_until=START + LEASE)
    tell(ruling.token)
    wait()


async def claim_without_end(ledger):
    """Claim run after run; tell each one once the ledger has it."""
    for number in itertools.count():
        nominal_time = START + timedelta(seconds=number)
        ruling = await ledger.decide(proposal(nominal_time=nominal_time, run_id=str(number)))
        tell(ruling.run_id)


async def wait_for_job(ledger, queue):
    """Tell what is enqueued by others, as soon as it is there."""
    bridge = PostgresQueueBridge(sys.argv[1], schema=sys.argv[2])
    tell("ready")
    leased = await bridge.lease(queue, duration=timedelta(minutes=1))
    tell([leased.job.message.id, leased.attempt])
    wait()


def enlist_and_be_killed(url, schema):
    """For each step of the conversation with the server: kill a child there, and tell so."""
    for kill_at in itertools.count(1):
        child = os.fork()
        if not child:
            asyncio.run(enlisted(url, schema, kill_at))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        tell([kill_at, os.WIFSIGNALED(status)])
        wait()
        if not os.WIFSIGNALED(status):
            return


async def enlisted(url, schema, kill_at):
    """Decide, enqueue and dispatch in one transaction; be killed at a step of the conversation."""
    ledger, bridge = PostgresLedger(url, schema=schema), PostgresQueueBridge(url, schema=schema)
    await ledger.latest("connect")
    await bridge.dead_letters("connect")
    steps = itertools.count(1)
    ordinary = psycopg.AsyncConnection.wait

    def step():
        if next(steps) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def sent(conversation):
        try:
            wanted = next(conversation)
            step()
            while True:
                wanted = conversation.send((yield wanted))
        except StopIteration as end:
            return end.value

    async def wait_and_count(connection, conversation, *args, **options):
        step()
        result = await ordinary(connection, sent(conversation), *args, **options)
        step()
        return result

    psycopg.AsyncConnection.wait = wait_and_count
    name = f"run {kill_at}"
    message = Message("reports", b"{}", name)
    await ledger.decide_and_enlist(
        proposal(key=name, run_id=name), lambda ruling: bridge.enlisted(Job(message, key=name))
    )
    await ledger.close()
    await bridge.close()


async def main():
    url, schema, what, *arguments = sys.argv[1:]
    ledger = PostgresLedger(url, schema=schema)
    await globals()[what](ledger, *arguments)
    await ledger.close()


if sys.argv[3] == "enlist_and_be_killed":
    enlist_and_be_killed(*sys.argv[1:3])
else:
    asyncio.run(main())

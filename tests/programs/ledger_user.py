"""Use a SQLite ledger from a process of its own: `ledger_user.py <path> <what> [<argument>...]`.

Every line of stdout is one JSON value. Lines of stdin say when to go on.
"""

import asyncio
import itertools
import json
import os
import random
import resource
import signal
import sys
from datetime import timedelta

from purista.bridges import Job
from purista.bridges.sqlite_queues import SQLiteQueueBridge
from purista.errors import LedgerError
from purista.ledgers.sqlite import SQLiteLedger
from purista.ledgers.sqlite_schema import LedgerTables
from purista.message import Message
from purista.testing.ledger_suite import LEASE, START, proposal

NOBODY = 65534


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


def kill_at(connection, step):
    """End this process as if by a power failure before the statement of that number."""
    steps = itertools.count(1)

    def trace(_):
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    connection.set_trace_callback(trace)


async def migrate(ledger, step):
    """Open an older file, and be killed at one of the statements that migrate it."""
    make = LedgerTables.make

    def killed(tables, connection):
        kill_at(connection, int(step))
        make(tables, connection)

    LedgerTables.make = killed
    await ledger.runs()


async def enlist(ledger, step):
    """Decide and enqueue in one transaction, and be killed at one of its statements, or after it."""
    queues = SQLiteQueueBridge(sys.argv[1])
    job = Job(Message("reports", b"{}", "id-1"))

    def work(ruling):
        enqueue = queues.enlisted(job)

        def enlisted(connection):
            kill_at(connection, int(step))
            enqueue(connection)

        return enlisted

    await ledger.decide_and_enlist(proposal(run_id="r"), work)
    tell("returned")
    wait()


async def write_to_read_only(ledger, *others):
    """Tell what goes wrong for a user who may only read."""
    os.chmod(others[0], 0o444)
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        await ledger.decide(proposal())
    except LedgerError as error:
        tell(str(error))


async def write_to_full_disk(ledger):
    """Tell what goes wrong when no file may grow any more, and that nothing is lost by it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    await ledger.decide(proposal(run_id="before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
    try:
        await ledger.decide(proposal(key="during", run_id="during"))
    except LedgerError as error:
        tell(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    tell(await ledger.run("before") is not None)
    tell((await ledger.decide(proposal(key="during", run_id="during"))).verdict)


async def main():
    path, what, *arguments = sys.argv[1:]
    ledger = SQLiteLedger(path)
    await globals()[what](ledger, *arguments)
    await ledger.close()


asyncio.run(main())

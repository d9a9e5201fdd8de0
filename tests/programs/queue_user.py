"""Use SQLite queues from a process of its own: `queue_user.py <path> <what> [<argument>...]`.

Every line of stdout is one JSON value. Lines of stdin say when to go on.
"""

import asyncio
import itertools
import json
import os
import resource
import signal
import sys
from datetime import timedelta

from purista.bridges import Job
from purista.bridges.sqlite_queues import SQLiteQueueBridge
from purista.errors import BridgeError
from purista.message import Message, new_message_id

NOBODY = 65534
NOW = timedelta(0)
LONG = timedelta(minutes=10)


def tell(value):
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


def wait():
    sys.stdin.readline()


def job(queue="reports", message_id=None, body=b"{}"):
    return Job(Message(queue, body, message_id or new_message_id()))


async def work(bridge):
    """Work on jobs, as others do, until there are none; tell which."""
    tell("ready")
    wait()
    done = []
    while (leased := await bridge.lease("reports", duration=LONG, wait=NOW)) is not None:
        done.append(leased.job.message.id)
        await bridge.ack(leased)
    tell(done)


async def lease(bridge, seconds):
    """Lease a job for a while and keep it."""
    leased = await bridge.lease("reports", duration=timedelta(seconds=float(seconds)))
    tell(leased.job.message.id)
    await asyncio.to_thread(wait)


async def enqueue(bridge, message_id):
    """Enqueue a job when told to."""
    tell("ready")
    await asyncio.to_thread(wait)
    tell(await bridge.enqueue(job(message_id=message_id)))


async def enqueue_without_end(bridge):
    """Enqueue job after job; tell each one once the bridge has it."""
    for number in itertools.count():
        await bridge.enqueue(job(message_id=str(number)))
        tell(str(number))


async def write_to_read_only(bridge, path):
    """Tell what goes wrong for a user who may only read."""
    os.chmod(path, 0o444)
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    try:
        await bridge.enqueue(job())
    except BridgeError as error:
        tell(str(error))


async def write_to_full_disk(bridge):
    """Tell what goes wrong when no file may grow any more, and that nothing is lost by it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    await bridge.enqueue(job(message_id="before"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
    for call in (bridge.enqueue(job()), bridge.lease("reports", duration=LONG)):
        try:
            await call
        except BridgeError as error:
            tell(str(error))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    await bridge.enqueue(job(message_id="after"))
    for _ in range(2):
        leased = await bridge.lease("reports", duration=LONG, wait=NOW)
        tell(leased.job.message.id)


async def main():
    path, what, *arguments = sys.argv[1:]
    bridge = SQLiteQueueBridge(path)
    await globals()[what](bridge, *arguments)
    await bridge.close()


asyncio.run(main())

"""Use a bridge from a process of its own: `fault_user <access> <what> [<argument>...]`.

Every line of stdout is one JSON value. Lines of stdin say when to go on.
"""

import asyncio
import contextlib
import itertools
import json
import resource
import signal
import sys
import time
from datetime import timedelta
from functools import partial

from tests.faults.access import Access
from tests.faults.effects import Effect, Effects
from tests.faults.receiving import receiver, subscription_options
from tests.faults.waiting import Noise, confirmed_by, message, until
from tests.faults.working import service_of, work

from purista import Host
from purista.bridges import Job
from purista.bridges.memory_events import MemoryEventBridge
from purista.errors import BridgeError
from purista.message import Message, new_message_id


def tell(value):
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()


async def told():
    await asyncio.to_thread(sys.stdin.readline)


async def works(bridge, queue, effects, who, lease, seconds):
    """Work on jobs until it is killed."""
    tell("ready")
    await work(bridge, queue, Effects(effects), who, lease=float(lease), seconds=float(seconds))


async def hold(bridge, queue, lease):
    """Lease a job; when told to, try all that its holder may do; tell how that went."""
    leased = await bridge.lease(queue, duration=timedelta(seconds=float(lease)))
    tell([leased.job.message.id, leased.attempt])
    await told()
    duration = timedelta(seconds=60)
    for attempt in (
        bridge.extend(leased, duration=duration),
        bridge.ack(leased),
        bridge.nack(leased, retry_in=timedelta(0), reason="late"),
        bridge.nack(leased, retry_in=None, reason="late"),
    ):
        try:
            await attempt
            tell("done")
        except BridgeError as error:
            tell(type(error).__name__)


async def host(bridge, queue, effects, who, lease):
    """Run a host until it is told to stop by SIGTERM; it has two seconds then."""
    service, _ = service_of(queue, Effects(effects), who, lease=float(lease))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    events = MemoryEventBridge()
    async with Host(service, event_bridge=events, queue_bridge=bridge, grace=timedelta(seconds=2)):
        tell("ready")
        await stop.wait()
    await events.close()
    tell("stopped")


async def enqueue_without_end(bridge, queue):
    """Enqueue job after job; tell each one once the bridge has it."""
    for _ in itertools.count():
        message_id = new_message_id()
        await bridge.enqueue(Job(Message(queue, b"0", message_id)))
        tell(message_id)


async def publish_without_end(bridge, event):
    """Publish event after event; tell each one once the bridge has it."""
    for _ in itertools.count():
        message_id = new_message_id()
        await bridge.publish(Message(event, b"0", message_id))
        tell(message_id)


async def receives(bridge, event, subscriber, effects, who, lease, seconds):
    """Receive events until it is killed."""
    receive = receiver(Effects(effects), who, seconds=float(seconds))
    await bridge.subscribe(event, subscriber, receive, options=subscription_options(float(lease)))
    tell("ready")
    await asyncio.Event().wait()


class Kept(Effects):
    """An effect log that is in memory: where no file may grow."""

    def __init__(self):
        self.kept = []

    def note(self, what, message_id, attempt, who):
        self.kept.append(Effect(what, message_id, attempt, who, time.monotonic()))

    def all(self, *whats):
        return [effect for effect in self.kept if not whats or effect.what in whats]


async def outlast_refused_writes(bridge, queue, lease, seconds):
    """Work while no file may grow for some seconds; tell what that cost, and what was lost."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    effects, noise, confirmed = Kept(), Noise(), []

    async def produce(count):
        for _ in range(count):
            job = Job(message(queue))
            await confirmed_by(bridge.enqueue, job)
            confirmed.append(job.message.id)

    works = partial(work, bridge, queue, effects, lease=float(lease), seconds=0.01)
    workers = [asyncio.create_task(works(f"{number}")) for number in range(2)]
    await produce(50)
    with noise:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        spent, before = time.process_time(), len(confirmed)
        producing = asyncio.create_task(produce(50))
        await asyncio.sleep(float(seconds))
        spent, during = time.process_time() - spent, len(confirmed) - before
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    over = time.monotonic()
    await producing
    await until(lambda: not effects.missing(confirmed))
    tell(
        {
            "confirmed while refused": during,
            "failed while refused": len(effects.all("failed")),
            "handled again after seconds": min(e.at for e in effects.all("ended") if e.at > over)
            - over,
            "CPU seconds": spent,
            "warnings": len(noise.lines),
            "duplicates": effects.duplicates(),
            "wrongly doubled": effects.wrongly_doubled(),
        }
    )
    for worker in workers:
        worker.cancel()
    await asyncio.wait(workers)


async def main():
    access, what, *arguments = sys.argv[1:]
    bridge = Access.of(access).open()
    await globals()[what](bridge, *arguments)
    with contextlib.suppress(BrokenPipeError):
        await bridge.close()


if __name__ == "__main__":
    asyncio.run(main())

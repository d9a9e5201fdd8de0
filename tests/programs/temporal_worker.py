"""A worker that waits for runs, for tests that kill it: address of Temporal, of the ingress, task queue."""

import asyncio
import sys
from datetime import timedelta

from temporalio.client import Client

from purista.ingress import temporal
from purista.ingress.client import IngressClient


async def main(address: str, url: str, task_queue: str) -> None:
    temporal.HEARTBEAT = timedelta(seconds=2)
    client = await Client.connect(address)
    soon = timedelta(seconds=1)  # Where its workflow tasks go that it does not take.
    async with IngressClient(url) as ingress:
        await temporal.temporal_worker(
            client,
            ingress,
            task_queue=task_queue,
            sticky_queue_schedule_to_start_timeout=soon,
        ).run()


asyncio.run(main(*sys.argv[1:]))

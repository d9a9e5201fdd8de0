"""What a subscription has in hand, over a broker that takes its time."""

import asyncio
from datetime import timedelta

from purista.bridges.deliveries import BEATS, Deliveries
from purista.clock import SystemClock
from purista.message import Message, new_message_id
from purista.subscribing import SubscriptionOptions

LEASE = timedelta(seconds=0.6)
MANY = 20


class SlowDelivery:
    """One that a lease is prolonged for in most of the time between two beats."""

    attempt = 1

    def __init__(self):
        self.message = Message("event", b"1", new_message_id())
        self.prolonged = [asyncio.get_running_loop().time()]
        self.is_done = False

    async def prolong(self):
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(0.6 * LEASE.total_seconds() / BEATS)
        self.prolonged.append(began)

    async def done(self):
        self.is_done = True


async def test_a_broker_that_takes_its_time_costs_none_of_many_its_lease():
    async def receive(_):
        await asyncio.sleep(3 * LEASE.total_seconds())

    options = SubscriptionOptions(concurrency=MANY, lease=LEASE)
    deliveries = Deliveries("event", "one", receive, options=options, clock=SystemClock())
    given = [SlowDelivery() for _ in range(MANY)]
    for each in given:
        deliveries.take(each)
    await deliveries.drained()
    deliveries.close()
    assert all(each.is_done for each in given)
    # Each beat prolongs all: one after the other, a round would take four leases.
    assert min(len(each.prolonged) for each in given) > BEATS

"""The scheduler of the soak: sends each trigger once or more, out of order, until it has an answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import datetime

import httpx
from benchmarks.soak.contract import Plan, due, kind_of
from benchmarks.soak.fleet import Fleet

from purista import Schedule, Trigger

OVER = ("ended", "expired", "replaced", "failed")


class Sender:
    """Sends triggers to the processes of a fleet; a retry goes to another one, as any may die."""

    def __init__(self, fleet: Fleet, plan: Plan, chance: random.Random, token: str) -> None:
        self._fleet = fleet
        self._plan = plan
        self._chance = chance
        self._headers = {"Authorization": f"Bearer {token}"}
        self._slots = asyncio.Semaphore(32)
        self.answers: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.sent = 0

    async def send_all(self, schedules: list[Schedule], *, copies: float) -> None:
        """Send all triggers; of each, further copies with that chance."""
        timeout, limits = httpx.Timeout(15), httpx.Limits(max_connections=64)
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=timeout, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            for schedule in schedules:
                group.create_task(self._send_schedule(client, schedule, copies))

    async def _send_schedule(
        self, client: httpx.AsyncClient, schedule: Schedule, copies: float
    ) -> None:
        times = due(self._plan, schedule)
        if kind_of(schedule) == "alone":
            for nominal in times:
                await self._copies(client, schedule, nominal, copies)
            return
        deliveries = [one for one in times for _ in range(1 + (self._chance.random() < copies))]
        self._chance.shuffle(deliveries)
        for start in range(0, len(deliveries), 8):
            batch = deliveries[start : start + 8]
            await asyncio.gather(*(self._send(client, schedule, one) for one in batch))

    async def _copies(
        self, client: httpx.AsyncClient, schedule: Schedule, nominal: datetime, copies: float
    ) -> None:
        """Send a trigger, perhaps twice at once, and wait until its run is over."""
        count = 1 + (self._chance.random() < copies)
        found = await asyncio.gather(*(self._send(client, schedule, nominal) for _ in range(count)))
        for run_id in {run_id for run_id in found if run_id}:
            await self._over(client, run_id)

    async def _send(
        self, client: httpx.AsyncClient, schedule: Schedule, nominal: datetime
    ) -> str | None:
        """Send a trigger until something is decided; return its run."""
        event = Trigger(
            schedule_id=schedule.id, nominal_time=nominal, source="soak"
        ).to_cloudevent()
        headers = {"Content-Type": "application/cloudevents+json"}
        while True:
            async with self._slots:
                said = await self._ask(client, "POST", "/triggers", json=event, headers=headers)
            self.sent += 1
            if said is None:
                self.retries["no answer"] += 1
                await asyncio.sleep(0.2)
            elif said.status_code == 503:
                self.retries[said.json()["type"].rpartition(":")[2]] += 1
                await asyncio.sleep(min(float(said.headers["Retry-After"]), 2.0))
            else:
                assert said.status_code in (200, 202), (said.status_code, said.text)
                self.answers[said.json()["decision"]] += 1
                run_id = said.json()["runId"]
                return None if run_id is None else str(run_id)

    async def _over(self, client: httpx.AsyncClient, run_id: str) -> None:
        """Wait until a run is over. A time-out that nobody noticed ends with the next trigger."""
        async with asyncio.timeout(120):
            while True:
                said = await self._ask(client, "GET", f"/runs/{run_id}")
                if said is not None and said.status_code == 200:
                    run = said.json()
                    expires = datetime.fromisoformat(run["expiresAt"])
                    if run["status"] in OVER or datetime.now(expires.tzinfo) > expires:
                        return
                await asyncio.sleep(0.03)

    async def _ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        **options: object,
    ) -> httpx.Response | None:
        address = f"http://127.0.0.1:{self._chance.choice(self._fleet.ports)}{path}"
        try:
            return await client.request(method, address, **options)  # type: ignore[arg-type]
        except httpx.HTTPError:
            return None

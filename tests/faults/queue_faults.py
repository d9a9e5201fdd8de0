"""The fault suites of queue bridges: processes, servers and networks that die, stand still and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.faults.fault_suite import (
    JOBS,
    OUTAGE,
    PRODUCERS,
    FaultSuite,
    Load,
    Process,
    ServerFaultSuite,
)
from tests.faults.waiting import (
    ASK_AGAIN,
    Noise,
    confirmed_by,
    mark,
    message,
    running,
    soon,
    until,
)
from tests.faults.working import service_of, work

from purista import Host
from purista.bridges import Connects, Job, LeasedJob
from purista.bridges.memory_events import MemoryEventBridge
from purista.errors import BridgeError, LeaseLostError

NOW = timedelta(0)
LONG = timedelta(minutes=1)


class QueueProcessFaultSuite(FaultSuite):
    """Workers and producers that die or stand still; the broker is well."""

    async def take(self, bridge: Any, queue: str, duration: timedelta = LONG) -> LeasedJob:
        """Lease a job as workers do: ask again when the broker failed."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                leased: LeasedJob | None = await soon(
                    bridge.lease(queue, duration=duration, wait=timedelta(seconds=5))
                )
            except BridgeError:
                await asyncio.sleep(ASK_AGAIN)
                continue
            if leased is not None:
                return leased
        raise AssertionError("no job came within 20 s")

    async def all_left(self, bridge: Any, queue: str, *, wait: float = 0.3) -> list[str]:
        """Return the ids of what can be leased now or within a moment, and ack it."""
        found = []
        while (
            leased := await soon(bridge.lease(queue, duration=LONG, wait=timedelta(seconds=wait)))
        ) is not None:
            found.append(leased.job.message.id)
            await bridge.ack(leased)
        return found

    def stand_still(self, child: Process) -> None:
        """Let a process stand still, but not while it holds up all others."""
        child.freeze()

    async def test_a_worker_that_stood_still_longer_than_its_lease_settles_nothing(self) -> None:
        queue = self.name("queue")
        async with self.opened() as bridge:
            await bridge.enqueue(Job(message(queue)))
            with self.process("hold", queue, self.lease) as holder:
                held = await holder.told()
                self.stand_still(holder)
                taken = await self.take(bridge, queue)
                holder.thaw()
                holder.go_on()
                assert [held[1], taken.attempt] == [1, 2]
                assert [await holder.told() for _ in range(4)] == ["LeaseLostError"] * 4
            await bridge.extend(taken, duration=LONG)
            await bridge.ack(taken)
            assert await self.all_left(bridge, queue) == []

    async def test_a_handler_whose_worker_stood_still_longer_than_its_lease_is_cancelled(
        self,
    ) -> None:
        queue = self.name("queue")
        async with self.opened() as bridge:
            with self.process("host", queue, self.effects.path, "child", self.lease) as worker:
                await bridge.enqueue(Job(message(queue, b"30")))
                await until(lambda: self.effects.all("begun"))
                self.stand_still(worker)
                taken = await self.take(bridge, queue)
                worker.thaw()
                woken = time.monotonic()
                await until(lambda: self.effects.all("cancelled"))
                self.figure("woken worker told after seconds", time.monotonic() - woken)
                assert taken.attempt == 2
                await bridge.ack(taken)
                assert await self.all_left(bridge, queue) == []

    async def test_a_job_whose_worker_was_killed_goes_to_another_once_the_lease_ran_out(
        self,
    ) -> None:
        queue = self.name("queue")
        async with self.opened() as bridge:
            with self.process("host", queue, self.effects.path, "child", self.lease) as worker:
                await bridge.enqueue(Job(message(queue, b"30")))
                await until(lambda: self.effects.all("begun"))
                worker.kill()
                killed = time.monotonic()
                taken = await self.take(bridge, queue)
            took = time.monotonic() - killed
            self.figure("killed worker's job taken after leases", took / self.lease)
            assert taken.attempt == 2
            assert took > self.lease / 2, "it was taken while its lease lasted"
            assert took < self.lease + 2

    async def test_what_a_killed_producer_was_told_is_there_is_there(self) -> None:
        queue = self.name("queue")
        async with self.opened() as bridge:
            with self.process("enqueue_without_end", queue) as producer:
                told = [await producer.told() for _ in range(50)]
                producer.kill()
                told += producer.rest()
            found = await self.all_left(bridge, queue)
        assert len(found) == len(set(found))
        assert set(told) <= set(found)
        assert len(found) - len(told) <= 1, "more than the one that was not told yet"

    async def test_a_host_that_is_told_to_stop_drains_acks_and_takes_nothing_new(self) -> None:
        queue = self.name("queue")
        async with self.opened() as bridge:
            with self.process("host", queue, self.effects.path, "child", self.lease) as worker:
                assert await worker.told() == "ready"
                jobs = [Job(message(queue, b"1")) for _ in range(6)]
                for job in jobs:
                    await bridge.enqueue(job)
                await until(lambda: len(self.effects.all("begun")) == 3)
                worker.terminate()
                asked = time.monotonic()
                assert await worker.told() == "stopped"
                assert await worker.ended() == 0
                took = time.monotonic() - asked
            left = await self.all_left(bridge, queue)
        handled = set(self.effects.handled())
        self.figure("stopped after seconds", took)
        assert took < 2.5
        assert len(handled) == 3, "those at work were not finished, or others were begun"
        assert sorted(left) == sorted({job.message.id for job in jobs} - handled)

    async def test_no_confirmed_job_is_lost_when_a_worker_is_killed_under_load(self) -> None:
        queue, confirmed = self.name("load"), list[str]()
        arguments = queue, self.effects.path, "child", self.lease, 0.02
        async with self.opened() as bridge:
            worker = work(bridge, queue, self.effects, "here", lease=self.lease, seconds=0.02)
            with self.process("works", *arguments) as child:
                assert await child.told() == "ready"
                async with running(worker):
                    for _ in range(JOBS // 3):
                        job = Job(message(queue))
                        await bridge.enqueue(job)
                        confirmed.append(job.message.id)
                        if len(confirmed) == JOBS // 6:
                            await until(lambda: "child" in self.at_work())
                            child.kill()
                    await until(lambda: not self.effects.missing(confirmed))
            left = await self.all_left(bridge, queue)
        self.figure("duplicates", str(self.effects.duplicates()))
        assert left == []
        assert self.effects.wrongly_doubled() == []
        assert self.effects.duplicates() <= 1, "more than the one that it had in hand"

    def at_work(self) -> set[str]:
        """Return who has a job in hand right now."""
        latest = {effect.who: effect.what for effect in self.effects.all()}
        return {who for who, what in latest.items() if what in ("begun", "extended")}


class QueueFaultSuite(QueueProcessFaultSuite, ServerFaultSuite):
    """The same, and a broker that is killed or stands still, and a network that is cut or stalls."""

    ack_mark = b""
    """What the request that acks holds; empty: the next request is it."""

    lease_mark = b""
    """What the request that leases holds; empty: the next request is it."""

    # -- under load ------------------------------------------------------------------------------

    async def load(self, fault: Callable[[], Awaitable[None]]) -> Load:
        """Let producers and workers, one of them another process, be at work while the fault happens."""
        queue, confirmed = self.name("load"), dict[str, float]()
        jobs = iter(range(JOBS))
        async with self.opened() as bridge:

            async def produce() -> None:
                for _ in jobs:
                    job = Job(message(queue))
                    await confirmed_by(bridge.enqueue, job)
                    confirmed[job.message.id] = time.monotonic()
                    await asyncio.sleep(0.005)

            workers = [
                work(bridge, queue, self.effects, f"here {n}", lease=self.lease, seconds=0.01)
                for n in range(2)
            ]
            arguments = queue, self.effects.path, "child", self.lease, 0.01
            with self.process("works", *arguments) as child:
                assert await child.told() == "ready"
                producers = [asyncio.create_task(produce()) for _ in range(PRODUCERS)]
                async with running(*workers):
                    await until(lambda: len(confirmed) > JOBS // 4)
                    await fault()
                    over = time.monotonic()
                    await soon(asyncio.gather(*producers))
                    await until(lambda: not self.effects.missing(confirmed))
                    await until(lambda: "child" in self.workers_since(over))
                    await until(lambda: {"here 0", "here 1"} & self.workers_since(over))
            left = await self.all_left(bridge, queue, wait=2 * self.lease)
        assert not set(left) & {one.id for one in self.effects.all("settled")}
        return Load(confirmed, over)

    async def test_no_confirmed_job_is_lost_when_the_server_is_killed_under_load(self) -> None:
        load = await self.load(self.killed_and_restarted)
        self.check(load)
        self.figure("leases lost", str(len(self.effects.all("lost"))))
        assert self.effects.wrongly_doubled() == []

    async def test_no_confirmed_job_is_lost_when_the_server_stands_still_longer_than_a_lease(
        self,
    ) -> None:
        load = await self.load(self.standing_still)
        self.check(load)
        self.figure("leases lost", str(len(self.effects.all("lost"))))
        assert self.effects.wrongly_doubled() == []

    # -- the network -----------------------------------------------------------------------------

    @pytest.mark.parametrize("key", [None, "key"])
    @pytest.mark.parametrize("lost", ["request", "answer"])
    async def test_an_enqueue_that_is_cut_off_stores_its_job_once(
        self, lost: str, key: str | None
    ) -> None:
        queue, body = self.name("queue"), mark()
        async with self.opened() as direct, self.proxied() as (way, bridge):
            await bridge.enqueue(Job(message(f"{queue}-other")))
            trap = way.drop_request(body) if lost == "request" else way.drop_answer_to(body)
            job = Job(message(queue, body), key=key)
            assert await soon(bridge.enqueue(job)) is True
            assert trap.sprung.is_set()
            assert await self.all_left(direct, queue) == [job.message.id]

    @pytest.mark.parametrize("lost", ["request", "answer"])
    async def test_a_job_whose_lease_is_cut_off_comes_within_a_lease(self, lost: str) -> None:
        queue, body = self.name("queue"), mark()
        duration = timedelta(seconds=self.lease)
        async with self.proxied() as (way, bridge):
            job = Job(message(queue, body))
            await bridge.enqueue(Job(message(f"{queue}-other")))
            await self.take(bridge, f"{queue}-other")
            await bridge.enqueue(job)
            trap = way.drop_request(self.lease_mark) if lost == "request" else way.drop_answer(body)
            began = time.monotonic()
            taken = await self.take(bridge, queue, duration)
            assert trap.sprung.is_set()
            self.figure("taken after seconds", time.monotonic() - began)
            assert time.monotonic() - began < self.lease + self.recovery
            assert taken.job.message == job.message
            await bridge.ack(taken)
            assert await self.all_left(bridge, queue, wait=2 * self.lease) == []

    @pytest.mark.parametrize("lost", ["request", "answer"])
    async def test_an_ack_that_is_cut_off_is_made_again(self, lost: str) -> None:
        queue = self.name("queue")
        async with self.opened() as direct, self.proxied() as (way, bridge):
            await bridge.enqueue(Job(message(queue)))
            taken = await self.take(bridge, queue, timedelta(seconds=2))
            trap = (
                way.drop_request(self.ack_mark)
                if lost == "request"
                else way.drop_answer_to(self.ack_mark)
            )
            await soon(bridge.ack(taken))
            assert trap.sprung.is_set()
            assert await self.all_left(direct, queue, wait=2.5) == []

    @pytest.mark.parametrize("lost", ["request", "answer"])
    async def test_a_nack_that_is_cut_off_lets_the_job_come_again_once(self, lost: str) -> None:
        queue = self.name("queue")
        async with self.opened() as direct, self.proxied() as (way, bridge):
            await bridge.enqueue(Job(message(queue)))
            taken = await self.take(bridge, queue)
            trap = (
                way.drop_request(self.ack_mark)
                if lost == "request"
                else way.drop_answer_to(self.ack_mark)
            )
            assert await soon(bridge.nack(taken, retry_in=NOW, reason="not now")) is False
            assert trap.sprung.is_set()
            again = await self.take(direct, queue)
            assert again.attempt == 2
            assert await self.all_left(direct, queue) == []
            await direct.ack(again)

    async def test_a_stalled_network_is_an_error_in_time_and_then_forgotten(self) -> None:
        queue, timeout = self.name("queue"), 1.0
        async with self.proxied(timeout=timeout) as (way, bridge):
            await bridge.enqueue(Job(message(f"{queue}-other")))
            leased = await self.take(bridge, f"{queue}-other")
            way.stall()
            began = time.monotonic()
            results = await soon(
                asyncio.gather(
                    bridge.enqueue(Job(message(queue))),
                    bridge.extend(leased, duration=LONG),
                    bridge.ack(leased),
                    return_exceptions=True,
                )
            )
            took = time.monotonic() - began
            way.resume()
            self.figure("stalled calls failed after time-outs", took / timeout)
            assert [isinstance(one, BridgeError) for one in results] == [True] * 3, results
            assert not any(isinstance(one, LeaseLostError) for one in results)
            assert took < 2 * timeout + 2
            job = Job(message(queue))
            await confirmed_by(bridge.enqueue, job)
            assert job.message.id in await self.all_left(bridge, queue)

    async def test_a_worker_that_waits_is_found_again_after_its_network_stalled(self) -> None:
        queue = self.name("queue")
        async with self.opened() as direct, self.proxied(timeout=1.0) as (way, bridge):
            waiting = work(bridge, queue, self.effects, "here", lease=self.lease, seconds=0)
            async with running(waiting):
                await direct.enqueue(Job(message(queue)))
                await until(lambda: self.effects.all("settled"))
                way.stall()
                await asyncio.sleep(2 * self.lease)
                await direct.enqueue(Job(message(queue)))
                way.resume()
                began = time.monotonic()
                await until(lambda: len(self.effects.all("settled")) == 2)
                self.figure("taken after seconds", time.monotonic() - began)
                assert time.monotonic() - began < self.recovery

    # -- a broker that is away -------------------------------------------------------------------

    async def test_an_outage_is_outlasted_cheaply_and_quietly(self) -> None:
        queue = self.name("queue")
        async with self.opened() as bridge, self.opened(timeout=1.0) as brief:
            await brief.enqueue(Job(message(f"{queue}-other")))
            workers = [
                work(bridge, queue, self.effects, f"{n}", lease=self.lease, seconds=0)
                for n in range(3)
            ]
            async with running(*workers):
                await bridge.enqueue(Job(message(queue)))
                await until(lambda: self.effects.all("settled"))
                with Noise() as noise:
                    async with self.outage():
                        began, spent = time.monotonic(), time.process_time()
                        job = Job(message(queue))
                        patient = asyncio.create_task(bridge.enqueue(job))
                        with pytest.raises(BridgeError) as caught:
                            await soon(brief.enqueue(Job(message(f"{queue}-other"))))
                        gave_up = time.monotonic() - began
                        state = bridge.health.state if isinstance(bridge, Connects) else "?"
                        await asyncio.sleep(OUTAGE - gave_up)
                        spent = time.process_time() - spent
                    back = time.monotonic()
                    assert await soon(patient) is True
                    confirmed = time.monotonic() - back
                    await until(lambda: len(self.effects.all("settled")) == 2)
                    handled = time.monotonic() - back
            self.figure("CPU seconds of the outage", spent)
            self.figure("warnings", str(len(noise.lines)))
            self.figure("gave up after seconds, of 1", gave_up)
            self.figure("confirmed again after seconds", confirmed)
            self.figure("handled again after seconds", handled)
            assert spent < 0.2 * OUTAGE
            assert len(noise.lines) <= self.quiet, noise.lines
            assert 0.9 < gave_up < 2.5
            assert not isinstance(caught.value, LeaseLostError)
            assert handled < self.recovery
            assert state == "down"
            assert bridge.health.state == "up"
            assert self.effects.handled()[job.message.id] == 1

    async def test_a_server_that_is_away_at_the_start_is_refused_or_waited_for(self) -> None:
        async with self.opened(timeout=1.0) as refusing, self.opened() as waiting:
            assert isinstance(waiting, Connects)
            async with self.outage():
                began = time.monotonic()
                with pytest.raises(BridgeError):
                    await soon(refusing.connect(patience=NOW), 5)
                assert time.monotonic() - began < 4
                with pytest.raises(BridgeError):
                    await soon(refusing.enqueue(Job(message(self.name("queue")))), 5)
                connecting = asyncio.create_task(waiting.connect())
                await asyncio.sleep(0.5)
                assert not connecting.done()
            began = time.monotonic()
            await soon(connecting)
            self.figure("connected after seconds", time.monotonic() - began)
            assert time.monotonic() - began < self.recovery
            assert waiting.health.state == "up"

    async def test_a_bridge_can_be_closed_while_the_server_is_away(self) -> None:
        queue = self.name("queue")
        bridge = self.access(timeout=2.0).open()
        await bridge.enqueue(Job(message(f"{queue}-other")))
        waiting = work(bridge, queue, self.effects, "here", lease=self.lease, seconds=0)
        async with running(waiting):
            async with self.outage():
                trying = asyncio.create_task(bridge.enqueue(Job(message(queue))))
                await asyncio.sleep(0.3)
                began = time.monotonic()
                await soon(bridge.close())
                took = time.monotonic() - began
                await asyncio.wait([trying])
            assert isinstance(trying.exception(), BridgeError)
        self.figure("closed after seconds", took)
        assert took < 4

    # -- hosts -----------------------------------------------------------------------------------

    async def test_handlers_go_on_through_an_outage_and_their_jobs_are_settled_or_come_again(
        self,
    ) -> None:
        queue = self.name("queue")
        service, _ = service_of(queue, self.effects, "host", lease=1.0)
        events = MemoryEventBridge()
        async with self.opened() as bridge:
            jobs = [Job(message(queue, b"0.8")) for _ in range(6)]
            for job in jobs:
                await bridge.enqueue(job)
            async with Host(service, event_bridge=events, queue_bridge=bridge):
                await until(lambda: len(self.effects.all("begun")) == 3)
                async with self.outage():
                    await until(lambda: len(self.effects.all("ended")) == 3)
                    first = self.effects.handled()
                back = time.monotonic()
                await until(lambda: not self.effects.missing([job.message.id for job in jobs]))
                took = time.monotonic() - back
            left = await self.all_left(bridge, queue, wait=1.2)
        await events.close()
        self.figure("the others handled after seconds", took)
        self.figure("duplicates", str(self.effects.duplicates()))
        assert len(first) == 3, "a handler was cut off by the outage"
        assert took < 2 * 0.8 + self.recovery
        assert self.effects.duplicates() + len(left) <= 3
        assert set(left) <= set(first), "what was settled came again"

    async def test_a_host_stops_within_its_grace_while_the_server_is_away(self) -> None:
        queue = self.name("queue")
        service, _ = service_of(queue, self.effects, "host", lease=1.0)
        events = MemoryEventBridge()
        grace = timedelta(seconds=1)
        async with self.opened() as bridge:
            await bridge.enqueue(Job(message(queue, b"30")))
            host = Host(service, event_bridge=events, queue_bridge=bridge, grace=grace)
            await host.start()
            await until(lambda: self.effects.all("begun"))
            async with self.outage():
                began = time.monotonic()
                await soon(host.stop())
                took = time.monotonic() - began
            taken = await self.take(bridge, queue)
            await bridge.ack(taken)
        await events.close()
        self.figure("stopped after seconds, with a grace of 1", took)
        assert self.effects.all("cancelled"), "its handler was not cut off"
        assert took < 3

"""The fault suites of event bridges: processes, servers and networks that die, stand still and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.faults.effects import Effects
from tests.faults.fault_suite import (
    JOBS,
    OUTAGE,
    PRODUCERS,
    FaultSuite,
    Load,
    ServerFaultSuite,
)
from tests.faults.receiving import receiver, service_of, subscription_options
from tests.faults.waiting import Noise, confirmed_by, mark, message, soon, until

from purista import Host
from purista.bridges import Connects, EventDeadLetters, Reply
from purista.bridges.memory_queues import MemoryQueueBridge
from purista.errors import BridgeError, CommandError
from purista.message import Message
from purista.testing.bridge_suite import Inbox

NOW = timedelta(0)


class EventProcessFaultSuite(FaultSuite):
    """Receivers and publishers that die or stand still; the broker is well."""

    takeover = 2.0
    """Seconds after the lease of a receiver that is gone within which another has its event."""

    leases_outlast_connections = True
    """Whether an event waits for its lease although the connection of its receiver is gone."""

    def receiver(self, who: str = "here", seconds: float = 0.0) -> Any:
        return receiver(self.effects, who, seconds=seconds)

    async def dead(self, bridge: Any, event: str, subscriber: str) -> list[Any]:
        assert isinstance(bridge, EventDeadLetters)
        return list(await bridge.dead_letters(event, subscriber))

    async def test_an_event_whose_receiver_was_killed_goes_to_another(self) -> None:
        event, options = self.name("event"), subscription_options(self.lease)
        arguments = event, "one", self.effects.path, "child", self.lease, 30
        async with self.opened() as bridge:
            with self.process("receives", *arguments) as child:
                assert await child.told() == "ready"
                sent = message(event)
                await bridge.publish(sent)
                await until(lambda: self.effects.all("begun"))
                await bridge.subscribe(event, "one", self.receiver(), options=options)
                child.kill()
                killed = time.monotonic()
                await until(lambda: self.effects.handled()[sent.id])
            took = time.monotonic() - killed
            self.figure("killed receiver's event taken after leases", took / self.lease)
            assert took < self.lease + self.takeover
            assert self.leases_outlast_connections == (took > self.lease / 2)
            assert self.effects.all("ended")[0].attempt == 2
            assert await self.dead(bridge, event, "one") == []

    async def test_a_receiver_that_stood_still_longer_than_its_lease_is_cancelled(self) -> None:
        event, options = self.name("event"), subscription_options(self.lease)
        arguments = event, "one", self.effects.path, "child", self.lease, 30
        async with self.opened() as bridge:
            with self.process("receives", *arguments) as child:
                assert await child.told() == "ready"
                sent = message(event)
                await bridge.publish(sent)
                await until(lambda: self.effects.all("begun"))
                await bridge.subscribe(event, "one", self.receiver(), options=options)
                child.freeze()
                frozen = time.monotonic()
                await until(lambda: self.effects.handled()[sent.id])
                took = time.monotonic() - frozen
                child.thaw()
                woken = time.monotonic()
                await until(lambda: self.effects.all("cancelled"))
                told = time.monotonic() - woken
                await asyncio.sleep(2 * self.lease)
            self.figure("frozen receiver's event taken after leases", took / self.lease)
            self.figure("woken receiver told after seconds", told)
            assert took < self.lease + self.takeover
            assert told < self.recovery
            assert len(self.effects.all("begun", "cancelled", "ended")) % 2 == 0, "one is at work"
            assert self.effects.duplicates() == 0
            assert await self.dead(bridge, event, "one") == []

    async def test_what_a_killed_publisher_was_told_is_there_is_there(self) -> None:
        event, inbox = self.name("event"), Inbox()
        async with self.opened() as bridge:
            await bridge.subscribe(event, "one", inbox)
            with self.process("publish_without_end", event) as publisher:
                told = [await publisher.told() for _ in range(50)]
                publisher.kill()
                told += publisher.rest()
            await until(lambda: set(told) <= set(inbox.ids))
            await asyncio.sleep(0.3)
        assert len(inbox.ids) == len(set(inbox.ids))
        assert len(inbox.ids) - len(told) <= 1, "more than the one that was not told yet"


class EventFaultSuite(EventProcessFaultSuite, ServerFaultSuite):
    """The same, and a broker that is killed or stands still, and a network that is cut or stalls."""

    ack_mark = b""
    """What the request that acks holds; empty: the next request after the receiver began is it."""

    doubles = False
    """Whether an event is doubled that was published again because its confirmation was lost."""

    doubles_acks = False
    """Whether an event comes again whose ack was taken, when the connection is lost right then."""

    # -- under load ------------------------------------------------------------------------------

    async def load(self, fault: Callable[[], Awaitable[None]], others: Effects) -> Load:
        """Let publishers and receivers, one of them another process, be at work while it happens."""
        event, confirmed = self.name("load"), dict[str, float]()
        events = iter(range(JOBS))
        options = subscription_options(self.lease)
        async with self.opened() as bridge:

            async def produce() -> None:
                for _ in events:
                    sent = message(event)
                    await confirmed_by(bridge.publish, sent)
                    confirmed[sent.id] = time.monotonic()
                    await asyncio.sleep(0.005)

            arguments = event, "one", self.effects.path, "child", self.lease, 0.01
            with self.process("receives", *arguments) as child:
                assert await child.told() == "ready"
                await bridge.subscribe(event, "one", self.receiver("here", 0.01), options=options)
                await bridge.subscribe(
                    event, "other", receiver(others, "other", seconds=0), options=options
                )
                producers = [asyncio.create_task(produce()) for _ in range(PRODUCERS)]
                await until(lambda: len(confirmed) > JOBS // 4)
                await fault()
                over = time.monotonic()
                await soon(asyncio.gather(*producers))
                await until(lambda: not self.effects.missing(confirmed))
                await until(lambda: not others.missing(confirmed))
                for who in ("here", "child"):
                    await self.is_at_work_since(over, who, bridge, event, confirmed)
            assert await self.dead(bridge, event, "one") == []
        return Load(confirmed, over)

    async def is_at_work_since(
        self, instant: float, who: str, bridge: Any, event: str, confirmed: dict[str, float]
    ) -> None:
        """Publish more until a receiver has had one; brokers need not be fair."""
        deadline = time.monotonic() + 20
        while who not in self.workers_since(instant):
            assert time.monotonic() < deadline, f"the receiver '{who}' has got nothing"
            for _ in range(10):
                sent = message(event)
                await confirmed_by(bridge.publish, sent)
                confirmed[sent.id] = time.monotonic()
            await asyncio.sleep(0.05)
        await until(lambda: not self.effects.missing(confirmed))

    async def test_no_confirmed_event_is_lost_when_the_server_is_killed_under_load(
        self, tmp_path: Any
    ) -> None:
        others = Effects(tmp_path / "others")
        load = await self.load(self.killed_and_restarted, others)
        self.figure("duplicates of another subscriber", str(others.duplicates()))
        self.check(load)
        assert others.missing(load.confirmed) == set()

    async def test_no_confirmed_event_is_lost_when_the_server_stands_still_longer_than_a_lease(
        self, tmp_path: Any
    ) -> None:
        others = Effects(tmp_path / "others")
        load = await self.load(self.standing_still, others)
        self.figure("duplicates of another subscriber", str(others.duplicates()))
        self.check(load)
        assert others.missing(load.confirmed) == set()

    async def test_no_event_is_handled_twice_at_once_while_its_connections_are_cut(self) -> None:
        event, options = self.name("event"), subscription_options(self.lease, concurrency=10)
        async with self.opened() as direct, self.proxied() as (way, bridge):
            receive = self.receiver("cut", 2 * self.lease)
            await bridge.subscribe(event, "one", receive, options=options)
            sent = [message(event) for _ in range(5)]
            for one in sent:
                await direct.publish(one)
            await until(lambda: len(self.effects.all("begun")) == len(sent))
            way.cut()
            await until(lambda: not self.effects.missing([one.id for one in sent]))
            await asyncio.sleep(2 * self.lease)
        self.figure("duplicates", str(self.effects.duplicates()))
        self.figure("cancelled", str(len(self.effects.all("cancelled"))))
        assert self.effects.at_once(0.9 * self.lease) == []

    # -- the network -----------------------------------------------------------------------------

    @pytest.mark.parametrize("lost", ["request", "answer"])
    async def test_a_publish_that_is_cut_off_is_confirmed_in_the_end(self, lost: str) -> None:
        event, inbox, body = self.name("event"), Inbox(), mark()
        async with self.opened() as direct, self.proxied() as (way, bridge):
            await direct.subscribe(event, "one", inbox)
            await bridge.publish(message(event))
            await soon(inbox.holds(1))
            trap = way.drop_request(body) if lost == "request" else way.drop_answer_to(body)
            sent = message(event, body)
            await soon(bridge.publish(sent))
            assert trap.sprung.is_set()
            await soon(inbox.holds(2))
            await asyncio.sleep(0.3)
            self.figure("deliveries", str(inbox.ids.count(sent.id)))
            most = 2 if lost == "answer" and self.doubles else 1
            assert 1 <= inbox.ids.count(sent.id) <= most

    async def test_an_event_whose_delivery_is_cut_off_comes_within_a_lease(self) -> None:
        event, inbox, body = self.name("event"), Inbox(), mark()
        async with self.opened() as direct, self.proxied() as (way, bridge):
            await bridge.subscribe(event, "one", inbox, options=subscription_options(self.lease))
            await direct.publish(message(event))
            await soon(inbox.holds(1))
            trap = way.drop_answer(body)
            sent = message(event, body)
            await direct.publish(sent)
            published = time.monotonic()
            await soon(inbox.holds(2))
            took = time.monotonic() - published
            await asyncio.sleep(2 * self.lease)
            self.figure("delivered after seconds", took)
            assert trap.sprung.is_set()
            assert inbox.ids.count(sent.id) == 1
            assert took < self.lease + self.recovery

    @pytest.mark.parametrize("lost", ["request", "answer"])
    async def test_an_ack_that_is_cut_off_costs_at_most_a_second_delivery(self, lost: str) -> None:
        event, options = self.name("event"), subscription_options(self.lease)
        inbox, gate = Inbox(), asyncio.Event()

        async def receive(received: Message) -> None:
            await inbox(received)
            await gate.wait()

        async with self.opened() as direct, self.proxied() as (way, bridge):
            await bridge.subscribe(event, "one", receive, options=options)
            sent = message(event)
            await direct.publish(sent)
            await soon(inbox.holds(1))
            trap = (
                way.drop_request(self.ack_mark)
                if lost == "request"
                else way.drop_answer_to(self.ack_mark)
            )
            gate.set()
            await until(trap.sprung.is_set)
            await direct.publish(message(event))
            await until(lambda: len(set(inbox.ids)) == 2)
            await asyncio.sleep(3 * self.lease)
            self.figure("deliveries", str(inbox.ids.count(sent.id)))
            most = 2 if lost == "request" or self.doubles_acks else 1
            assert inbox.ids.count(sent.id) <= most
            assert await self.dead(direct, event, "one") == []

    async def test_a_stalled_network_is_an_error_in_time_and_then_forgotten(self) -> None:
        event, inbox, timeout = self.name("event"), Inbox(), 1.0
        async with self.opened() as direct, self.proxied(timeout=timeout) as (way, bridge):
            await direct.subscribe(event, "one", inbox)
            await bridge.publish(message(event))
            way.stall()
            began = time.monotonic()
            with pytest.raises(BridgeError):
                await soon(bridge.publish(message(event)))
            took = time.monotonic() - began
            way.resume()
            self.figure("stalled publish failed after time-outs", took / timeout)
            assert 0.9 * timeout < took < 2 * timeout + 2
            sent = message(event)
            await confirmed_by(bridge.publish, sent)
            await until(lambda: sent.id in inbox.ids)

    async def test_a_subscription_goes_on_after_its_network_stalled(self) -> None:
        event, inbox = self.name("event"), Inbox()
        options = subscription_options(self.lease)
        async with self.opened() as direct, self.proxied(timeout=1.0) as (way, bridge):
            await bridge.subscribe(event, "one", inbox, options=options)
            await direct.publish(message(event))
            await soon(inbox.holds(1))
            way.stall()
            await asyncio.sleep(2 * self.lease)
            sent = message(event)
            await direct.publish(sent)
            way.resume()
            began = time.monotonic()
            await until(lambda: sent.id in inbox.ids)
            self.figure("delivered after seconds", time.monotonic() - began)
            assert time.monotonic() - began < self.recovery

    async def test_what_could_not_begin_while_the_network_stalled_is_not_there_afterwards(
        self,
    ) -> None:
        event, command, inbox = self.name("event"), self.name("command"), Inbox()

        async def answer(_: Message) -> Reply:
            return Reply(b"1")

        async with self.opened() as direct, self.proxied(timeout=1.0) as (way, bridge):
            other = await bridge.subscribe(self.name("other"), "one", Inbox())
            way.stall()
            with pytest.raises(BridgeError):
                await soon(bridge.subscribe(event, "one", inbox))
            if bridge.capabilities.commands:
                with pytest.raises(BridgeError):
                    await soon(bridge.serve(command, answer))
            way.resume()
            await confirmed_by(bridge.publish, message(self.name("back")))
            await direct.publish(message(event))
            if bridge.capabilities.commands:
                await self.answered_by_nobody(direct, command)
            await asyncio.sleep(self.lease)
            assert inbox.ids == []
            await other.cancel()

    async def answered_by_nobody(self, bridge: Any, command: str) -> None:
        """Return when the broker says that nobody serves a command; what it has of before may time out."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            reply = await bridge.request(message(command), timeout=timedelta(seconds=1))
            try:
                said = await reply
            except CommandError:
                continue
            assert said.error is not None, "somebody answers"
            assert said.error.kind == "unknown"
            return
        raise AssertionError("it never became known that nobody serves the command")

    # -- a broker that is away -------------------------------------------------------------------

    async def test_an_outage_is_outlasted_cheaply_and_quietly(self) -> None:
        event, command, inbox = self.name("event"), self.name("command"), Inbox()

        async def answer(_: Message) -> Reply:
            return Reply(b"1")

        async with self.opened() as bridge, self.opened(timeout=1.0) as brief:
            await brief.publish(message(f"{event}-other"))
            for subscriber in ("one", "two", "three"):
                await bridge.subscribe(event, subscriber, inbox)
            if bridge.capabilities.commands:
                await bridge.serve(command, answer)
            await bridge.publish(message(event))
            await soon(inbox.holds(3))
            with Noise() as noise:
                async with self.outage():
                    began, spent = time.monotonic(), time.process_time()
                    sent = message(event)
                    patient = asyncio.create_task(bridge.publish(sent))
                    late = asyncio.create_task(bridge.subscribe(f"{event}-late", "one", inbox))
                    with pytest.raises(BridgeError):
                        await soon(brief.publish(message(f"{event}-other")))
                    gave_up = time.monotonic() - began
                    state = bridge.health.state if isinstance(bridge, Connects) else "?"
                    await asyncio.sleep(OUTAGE - gave_up)
                    spent = time.process_time() - spent
                back = time.monotonic()
                await soon(patient)
                confirmed = time.monotonic() - back
                await until(lambda: inbox.ids.count(sent.id) == 3)
                delivered = time.monotonic() - back
            await soon(late)
            afterwards = message(f"{event}-late")
            await bridge.publish(afterwards)
            await until(lambda: afterwards.id in inbox.ids)
            if bridge.capabilities.commands:
                self.figure("answered again after seconds", await self.answered(bridge, command))
            self.figure("CPU seconds of the outage", spent)
            self.figure("warnings", str(len(noise.lines)))
            self.figure("gave up after seconds, of 1", gave_up)
            self.figure("confirmed again after seconds", confirmed)
            self.figure("delivered again after seconds", delivered)
            assert spent < 0.2 * OUTAGE
            assert len(noise.lines) <= self.quiet, noise.lines
            assert 0.9 < gave_up < 2.5
            assert delivered < self.recovery
            assert state == "down"
            assert bridge.health.state == "up"
            assert inbox.ids.count(sent.id) == 3

    async def answered(self, bridge: Any, command: str) -> float:
        """Return after how many seconds a command is answered."""
        began = time.monotonic()
        while time.monotonic() < began + self.recovery:
            try:
                pending = await bridge.request(message(command), timeout=timedelta(seconds=1))
                if (await pending).error is None:
                    break
            except (BridgeError, CommandError):
                await asyncio.sleep(0.05)
        else:
            raise AssertionError("the command is not answered any more")
        return time.monotonic() - began

    async def test_a_command_whose_server_is_killed_meanwhile_ends_in_time(self) -> None:
        command, begun = self.name("command"), asyncio.Event()

        async def answer(_: Message) -> Reply:
            begun.set()
            await asyncio.sleep(0.5)
            return Reply(b"1")

        async with self.opened() as bridge:
            if not bridge.capabilities.commands:
                with pytest.raises(BridgeError):
                    await bridge.serve(command, answer)
                return
            await bridge.serve(command, answer)
            pending = await bridge.request(message(command), timeout=timedelta(seconds=2))
            await soon(begun.wait())
            began = time.monotonic()
            async with self.outage():
                pass
            results = await soon(asyncio.gather(pending, return_exceptions=True))
            self.figure("ended after seconds", time.monotonic() - began)
            self.figure("ended as", type(results[0]).__name__)
            assert isinstance(results[0], Reply | CommandError | BridgeError)
            assert time.monotonic() - began < 3.5
            self.figure("answered again after seconds", await self.answered(bridge, command))

    async def test_a_server_that_is_away_at_the_start_is_refused_or_waited_for(self) -> None:
        async with self.opened(timeout=1.0) as refusing, self.opened() as waiting:
            assert isinstance(waiting, Connects)
            async with self.outage():
                began = time.monotonic()
                with pytest.raises(BridgeError):
                    await soon(refusing.connect(patience=NOW), 5)
                assert time.monotonic() - began < 4
                with pytest.raises(BridgeError):
                    await soon(refusing.publish(message(self.name("event"))), 5)
                connecting = asyncio.create_task(waiting.connect())
                await asyncio.sleep(0.5)
                assert not connecting.done()
            began = time.monotonic()
            await soon(connecting)
            self.figure("connected after seconds", time.monotonic() - began)
            assert time.monotonic() - began < self.recovery
            assert waiting.health.state == "up"

    async def test_a_bridge_can_be_closed_while_the_server_is_away(self) -> None:
        event, inbox = self.name("event"), Inbox()
        bridge = self.access(timeout=2.0).open()
        await bridge.subscribe(event, "one", inbox)
        await bridge.publish(message(event))
        await soon(inbox.holds(1))
        async with self.outage():
            trying = asyncio.create_task(bridge.publish(message(event)))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            await soon(bridge.close())
            took = time.monotonic() - began
            await soon(asyncio.wait([trying]))
        assert isinstance(trying.exception(), BridgeError)
        self.figure("closed after seconds", took)
        assert took < 4

    # -- hosts -----------------------------------------------------------------------------------

    async def test_handlers_go_on_through_an_outage_and_their_events_come_again_at_most_once(
        self,
    ) -> None:
        name = self.name("event")
        service, _ = service_of(name, self.effects, "host", lease=1.0)
        queues = MemoryQueueBridge()
        async with (
            self.opened() as bridge,
            Host(service, event_bridge=bridge, queue_bridge=queues),
        ):
            sent = [message(name, b"0.8") for _ in range(6)]
            for one in sent:
                await bridge.publish(one)
            await until(lambda: len(self.effects.all("begun")) == 3)
            async with self.outage():
                await until(lambda: len(self.effects.all("ended", "cancelled")) == 3)
            back = time.monotonic()
            await until(lambda: not self.effects.missing([one.id for one in sent]))
            took = time.monotonic() - back
        await queues.close()
        self.figure("all handled after seconds", took)
        self.figure("duplicates", str(self.effects.duplicates()))
        self.figure("cancelled", str(len(self.effects.all("cancelled"))))
        assert took < 2 * 0.8 + 1.0 + self.recovery
        assert self.effects.duplicates() <= 3

    async def test_a_host_stops_within_its_grace_while_the_server_is_away(self) -> None:
        name = self.name("event")
        service, _ = service_of(name, self.effects, "host", lease=1.0)
        queues, grace = MemoryQueueBridge(), timedelta(seconds=1)
        async with self.opened() as bridge:
            host = Host(service, event_bridge=bridge, queue_bridge=queues, grace=grace)
            await host.start()
            await bridge.publish(message(name, b"30"))
            await until(lambda: self.effects.all("begun"))
            async with self.outage():
                began = time.monotonic()
                await soon(host.stop())
                took = time.monotonic() - began
            inbox = Inbox()
            await bridge.subscribe(
                name, "Faults.v1.handle", inbox, options=subscription_options(1.0)
            )
            await soon(inbox.holds(1))
        await queues.close()
        self.figure("stopped after seconds, with a grace of 1", took)
        assert self.effects.all("cancelled"), "its handler was not cut off"
        assert took < 3

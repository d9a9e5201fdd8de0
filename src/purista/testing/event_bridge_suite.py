"""The conformance suite of event bridges: what the port promises, one test for each promise."""
# ruff: noqa: D102 - the names of tests say what they test

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

from purista.bridges.port import ErrorReply, EventBridge, Reply
from purista.clock import Clock
from purista.errors import BridgeClosedError, CommandTimeoutError
from purista.message import Message, RunInfo
from purista.testing.bridge_suite import BridgeSuite, Gate, Inbox

HEADERS = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x": "Zoë"}
RUN = RunInfo(
    run_id="run-1",
    schedule_id="billing.v1.monthlyBillingCycle",
    nominal_time=datetime(2027, 3, 1, 1, 0, 0, 250_000, tzinfo=UTC),
    timezone="Europe/Berlin",
    is_target=True,
)


class EventBridgeSuite(BridgeSuite):
    """Every event bridge passes this; a subclass whose name begins with ``Test`` says how to open one.

    ::

        class TestMyEventBridge(EventBridgeSuite):
            @contextlib.asynccontextmanager
            async def bridge(self, clock):
                async with MyEventBridge(URL, clock=clock) as bridge:
                    yield bridge

    The tests are coroutines: set ``asyncio_mode = "auto"`` for pytest-asyncio, or mark the class with
    ``pytest.mark.asyncio``. For values in failures, call
    ``pytest.register_assert_rewrite("purista.testing")`` in ``conftest.py``. ``BridgeSuite`` tells
    how to run a broker that measures its own time.
    """

    def bridge(self, clock: Clock) -> AbstractAsyncContextManager[EventBridge]:
        """Open a bridge to the broker, and close it in the end. Some tests open two.

        What is in the broker stays there: no two tests use one name.
        """
        raise NotImplementedError(f"{type(self).__name__}.bridge opens the bridge to be tested")

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[EventBridge, Clock]]:
        """Open a bridge and its clock."""
        clock = self.clock()
        async with self.bridge(clock) as bridge:
            yield bridge, clock

    async def test_the_capabilities_have_a_name_and_do_not_change(self) -> None:
        async with self.opened() as (bridge, _):
            assert bridge.capabilities.name
            assert bridge.capabilities == bridge.capabilities

    async def test_an_event_reaches_every_subscriber_name_once(self) -> None:
        first, second, event = Inbox(), Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            await bridge.subscribe(event, "first", first)
            await bridge.subscribe(event, "second", second)
            message = self.message(event)
            await bridge.publish(message)
            await self.soon(first.holds(1))
            await self.soon(second.holds(1))
            await self.silence(clock)
            assert (first.ids, second.ids) == ([message.id], [message.id])

    async def test_receivers_of_one_name_share_the_events(self) -> None:
        inbox, event = Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            for _ in range(2):
                await bridge.subscribe(event, "shared", inbox)
            messages = [self.message(event) for _ in range(10)]
            for message in messages:
                await bridge.publish(message)
            await self.soon(inbox.holds(10))
            await self.silence(clock)
            assert sorted(inbox.ids) == sorted(message.id for message in messages)

    async def test_a_message_arrives_as_it_was_sent(self) -> None:
        inbox, event = Inbox(), self.name("event")
        sent = [
            Message(event, '{"name": "Zoë \U0001f4e7 \\u0000"}'.encode(), "id-1", RUN, HEADERS),
            Message(event, b'"%s"' % (b"x" * 200_000), "id-2", RUN._replace(is_target=False)),
            Message(event, b"null", "id-3"),
        ]
        async with self.opened() as (bridge, _):
            await bridge.subscribe(event, "subscriber", inbox)
            for message in sent:
                await bridge.publish(message)
            await self.soon(inbox.holds(3))
            received = sorted(inbox.messages, key=lambda message: message.id)
            assert received == sent, "name, body, id, run and headers stay the same"

    async def test_an_event_that_nobody_subscribes_to_is_no_error(self) -> None:
        async with self.opened() as (bridge, _):
            await self.soon(bridge.publish(self.message(self.name("event"))))

    async def test_events_of_other_names_are_not_received(self) -> None:
        inbox, event = Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            await bridge.subscribe(event, "subscriber", inbox)
            await bridge.publish(self.message(event + ".more"))
            await bridge.publish(self.message(event.upper()))
            await bridge.publish(self.message(event.removesuffix(event[-1])))
            await self.silence(clock)
            assert inbox.messages == []

    async def test_publish_does_not_wait_until_the_event_is_handled(self) -> None:
        begun, event = Inbox(), self.name("event")
        async with self.opened() as (bridge, _):
            with Gate() as gate:

                async def receive(message: Message) -> None:
                    await begun(message)
                    await gate.wait()

                await bridge.subscribe(event, "slow", receive)
                await self.soon(bridge.publish(self.message(event)))
                await self.soon(begun.holds(1))

    async def test_a_slow_subscriber_does_not_hold_up_another(self) -> None:
        inbox, event = Inbox(), self.name("event")
        async with self.opened() as (bridge, _):
            with Gate() as gate:

                async def receive(_: Message) -> None:
                    await gate.wait()

                await bridge.subscribe(event, "slow", receive)
                await bridge.subscribe(event, "quick", inbox)
                await bridge.publish(self.message(event))
                await self.soon(inbox.holds(1))

    async def test_a_receiver_that_fails_does_not_keep_the_event_from_others(self) -> None:
        inbox, event = Inbox(), self.name("event")

        async def fail(_: Message) -> None:
            raise RuntimeError("this receiver always fails")

        async with self.opened() as (bridge, _):
            await bridge.subscribe(event, "failing", fail)
            await bridge.subscribe(event, "working", inbox)
            await bridge.publish(self.message(event))
            await bridge.publish(self.message(event))
            await self.soon(inbox.holds(2))

    async def test_a_receiver_that_failed_sees_the_event_again_if_the_bridge_says_so(self) -> None:
        inbox, event = Inbox(), self.name("event")

        async def fail_once(message: Message) -> None:
            await inbox(message)
            if len(inbox.messages) == 1:
                raise RuntimeError("this receiver fails once")

        async with self.opened() as (bridge, clock):
            await bridge.subscribe(event, "subscriber", fail_once)
            message = self.message(event)
            await bridge.publish(message)
            expected = [message.id] * (2 if bridge.capabilities.redelivers else 1)
            await self.soon(inbox.holds(len(expected)))
            await self.silence(clock)
            assert inbox.ids == expected

    async def test_a_receiver_can_publish_and_request(self) -> None:
        inbox, event, command = Inbox(), self.name("event"), self.name("command")

        async with self.opened() as (bridge, _):

            async def receive(_: Message) -> None:
                pending = await bridge.request(self.message(command), timeout=self.unit * 10)
                await bridge.publish(self.message(event + ".next", (await pending).body))

            await bridge.serve(command, _echo)
            await bridge.subscribe(event + ".next", "second", inbox)
            await bridge.subscribe(event, "first", receive)
            await bridge.publish(self.message(event))
            await self.soon(inbox.holds(1))

    async def test_a_cancelled_subscription_takes_nothing_new(self) -> None:
        inbox, other, event = Inbox(), Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            subscription = await bridge.subscribe(event, "subscriber", inbox)
            await bridge.subscribe(event, "other", other)
            await bridge.publish(self.message(event))
            await self.soon(inbox.holds(1))
            await self.soon(subscription.cancel())
            await bridge.publish(self.message(event))
            await self.soon(other.holds(2))
            await self.silence(clock)
            assert len(inbox.messages) == 1

    async def test_cancelling_a_subscription_waits_for_what_is_being_handled(self) -> None:
        begun, done, event = Inbox(), Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            with Gate() as gate:

                async def receive(message: Message) -> None:
                    await begun(message)
                    await gate.wait()
                    await done(message)

                subscription = await bridge.subscribe(event, "subscriber", receive)
                await bridge.publish(self.message(event))
                await self.soon(begun.holds(1))
                cancelling = asyncio.ensure_future(subscription.cancel())
                await self.silence(clock)
                assert not cancelling.done(), "cancel returned while an event was being handled"
                gate.open()
                await self.soon(cancelling)
                assert done.ids == begun.ids

    async def test_a_subscription_may_be_cancelled_again(self) -> None:
        async with self.opened() as (bridge, _):
            for subscription in (
                await bridge.subscribe(self.name("event"), "subscriber", Inbox()),
                await bridge.serve(self.name("command"), _echo),
            ):
                await self.soon(subscription.cancel())
                await self.soon(subscription.cancel())

    async def test_a_subscriber_name_can_be_used_again(self) -> None:
        inbox, event = Inbox(), self.name("event")
        async with self.opened() as (bridge, _):
            gone = await bridge.subscribe(event, "subscriber", Inbox())
            await gone.cancel()
            await bridge.subscribe(event, "subscriber", inbox)
            await bridge.publish(self.message(event))
            await self.soon(inbox.holds(1))

    async def test_a_command_is_answered(self) -> None:
        command = self.name("command")
        message = Message(command, '{"days": 30, "to": "Zoë"}'.encode(), "id-1", RUN, HEADERS)
        inbox = Inbox()

        async def answer(request: Message) -> Reply:
            await inbox(request)
            return Reply(request.body)

        async with self.opened() as (bridge, _):
            await bridge.serve(command, answer)
            pending = await bridge.request(message, timeout=self.unit * 10)
            assert await self.soon(pending) == Reply(message.body)
            assert inbox.messages == [message], "name, body, id and run stay the same"

    async def test_an_error_reply_arrives_as_it_was_given(self) -> None:
        command = self.name("command")
        errors = [
            ErrorReply("handled", "no_drafts", "there is nothing to purge", {"left": [1, None]}),
            ErrorReply("unhandled", "internal", "the command failed"),
            ErrorReply("invalid", "invalid_payload", "days: not a number"),
        ]

        async def answer(request: Message) -> Reply:
            return Reply(error=errors[int(request.body)])

        async with self.opened() as (bridge, _):
            await bridge.serve(command, answer)
            for number, error in enumerate(errors):
                message = self.message(command, str(number).encode())
                pending = await bridge.request(message, timeout=self.unit * 10)
                assert (await self.soon(pending)).error == error

    async def test_a_command_that_nobody_handles_gives_an_error_that_says_so(self) -> None:
        command = self.name("command")
        async with self.opened() as (bridge, _):
            pending = await bridge.request(self.message(command), timeout=self.unit * 10)
            error = (await self.soon(pending)).error
            assert error is not None
            assert error.kind == "unknown"
            assert command in error.message, "the message names the command"

    async def test_a_command_that_is_handled_no_longer_is_unknown(self) -> None:
        command = self.name("command")
        async with self.opened() as (bridge, _):
            subscription = await bridge.serve(command, _echo)
            await subscription.cancel()
            pending = await bridge.request(self.message(command), timeout=self.unit * 10)
            error = (await self.soon(pending)).error
            assert error is not None
            assert error.kind == "unknown"

    async def test_a_request_returns_before_the_reply(self) -> None:
        command = self.name("command")
        async with self.opened() as (bridge, clock):
            with Gate() as gate:

                async def answer(message: Message) -> Reply:
                    await gate.wait()
                    return await _echo(message)

                await bridge.serve(command, answer)
                message = self.message(command, b"7")
                pending = await self.soon(bridge.request(message, timeout=self.unit * 10))
                reply = asyncio.ensure_future(pending)
                await self.silence(clock)
                assert not reply.done(), "there was a reply before the responder gave one"
                gate.open()
                assert await self.soon(reply) == Reply(b"7")

    async def test_a_request_without_a_reply_ends_with_its_time_out(self) -> None:
        command = self.name("command")
        async with self.opened() as (bridge, clock):
            with Gate() as gate:

                async def answer(message: Message) -> Reply:
                    if message.body == b"0":
                        await gate.wait()
                    return await _echo(message)

                await bridge.serve(command, answer)
                pending = await bridge.request(self.message(command, b"0"), timeout=self.unit * 2)
                reply = asyncio.ensure_future(pending)
                await self.let_pass(clock, 1)
                assert not reply.done(), "the time-out came too early"
                await self.let_pass(clock, 1)
                assert await self.soon(_is_timeout(reply, command))
            pending = await bridge.request(self.message(command, b"1"), timeout=self.unit * 2)
            assert await self.soon(pending) == Reply(b"1"), "a late reply is not another's reply"

    async def test_nobody_has_to_wait_for_a_reply(self) -> None:
        command = self.name("command")
        async with self.opened() as (bridge, clock):
            with Gate() as gate:

                async def answer(message: Message) -> Reply:
                    await gate.wait()
                    return await _echo(message)

                await bridge.serve(command, answer)
                await bridge.request(self.message(command), timeout=self.unit)
                given_up = asyncio.ensure_future(
                    await bridge.request(self.message(command), timeout=self.unit * 10)
                )
                await self.silence(clock)
                given_up.cancel()
                await self.let_pass(clock, 2)
            pending = await bridge.request(self.message(command, b"1"), timeout=self.unit * 10)
            assert await self.soon(pending) == Reply(b"1")

    async def test_each_of_many_requests_gets_its_own_reply(self) -> None:
        command = self.name("command")
        async with self.opened() as (bridge, _):
            for _ in range(3):
                await bridge.serve(command, _echo)
            bodies = [str(number).encode() for number in range(100)]
            pending = [
                await bridge.request(self.message(command, body), timeout=self.unit * 10)
                for body in bodies
            ]
            replies = await self.soon(asyncio.gather(*pending))
            assert [reply.body for reply in replies] == bodies

    async def test_responders_of_one_command_share_its_requests(self) -> None:
        inbox, command = Inbox(), self.name("command")

        async def answer(message: Message) -> Reply:
            await inbox(message)
            return await _echo(message)

        async with self.opened() as (bridge, clock):
            for _ in range(2):
                await bridge.serve(command, answer)
            messages = [self.message(command) for _ in range(10)]
            for message in messages:
                await self.soon(await bridge.request(message, timeout=self.unit * 10))
            await self.silence(clock)
            assert inbox.ids == [message.id for message in messages]

    async def test_a_responder_that_raises_gives_an_error_without_details(self) -> None:
        command = self.name("command")

        async def fail(_: Message) -> Reply:
            raise RuntimeError("a secret")

        async with self.opened() as (bridge, _):
            await bridge.serve(command, fail)
            pending = await bridge.request(self.message(command), timeout=self.unit * 10)
            error = (await self.soon(pending)).error
            assert error is not None
            assert error.kind == "unhandled"
            assert "secret" not in repr(error)

    async def test_close_lets_what_was_accepted_finish(self) -> None:
        begun, done, event = Inbox(), Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            with Gate() as gate:

                async def receive(message: Message) -> None:
                    await begun(message)
                    await gate.wait()
                    await done(message)

                await bridge.subscribe(event, "subscriber", receive)
                messages = [self.message(event) for _ in range(3)]
                for message in messages:
                    await bridge.publish(message)
                await self.soon(begun.holds(1))
                closing = asyncio.ensure_future(bridge.close())
                await self.silence(clock)
                assert not closing.done(), "close returned while an event was being handled"
                gate.open()
                await self.soon(closing)
            assert sorted(done.ids) == sorted(begun.ids)
            if not bridge.capabilities.durable:
                assert len(done.ids) == len(messages), "an accepted event was lost"

    async def test_close_lets_a_command_be_answered(self) -> None:
        command, begun = self.name("command"), Inbox()
        async with self.opened() as (bridge, _):
            with Gate() as gate:

                async def answer(message: Message) -> Reply:
                    await begun(message)
                    await gate.wait()
                    return await _echo(message)

                await bridge.serve(command, answer)
                message = self.message(command, b"7")
                pending = await bridge.request(message, timeout=self.unit * 10)
                await self.soon(begun.holds(1))
                closing = asyncio.ensure_future(bridge.close())
                gate.open()
                await self.soon(closing)
                assert await self.soon(pending) == Reply(b"7")

    async def test_a_closed_bridge_takes_nothing_new(self) -> None:
        event, command = self.name("event"), self.name("command")
        async with self.opened() as (bridge, _):
            await bridge.close()
            refused = [
                _is_refused(bridge.publish(self.message(event))),
                _is_refused(bridge.subscribe(event, "subscriber", Inbox())),
                _is_refused(bridge.serve(command, _echo)),
                _is_refused(bridge.request(self.message(command), timeout=self.unit)),
            ]
            assert all(await self.soon(asyncio.gather(*refused))), "a closed bridge took something"

    async def test_close_may_be_repeated(self) -> None:
        async with self.opened() as (bridge, _):
            subscription = await bridge.subscribe(self.name("event"), "subscriber", Inbox())
            await self.soon(bridge.close())
            await self.soon(bridge.close())
            await self.soon(subscription.cancel())

    async def test_another_bridge_is_reached_if_the_bridge_says_so(self) -> None:
        inbox, event, clock = Inbox(), self.name("event"), self.clock()
        async with self.bridge(clock) as here, self.bridge(clock) as there:
            await there.subscribe(event, "subscriber", inbox)
            await here.publish(self.message(event))
            reached = here.capabilities.across_processes
            await self.soon(inbox.holds(1 if reached else 0))
            await self.silence(clock)
            assert len(inbox.messages) == (1 if reached else 0)

    async def test_a_subscriber_gets_what_it_missed_if_the_bridge_is_durable(self) -> None:
        inbox, event, clock = Inbox(), self.name("event"), self.clock()
        async with self.bridge(clock) as bridge:
            await bridge.subscribe(event, "subscriber", Inbox())
        async with self.bridge(clock) as bridge:
            await bridge.publish(self.message(event))
        async with self.bridge(clock) as bridge:
            await bridge.subscribe(event, "subscriber", inbox)
            expected = 1 if bridge.capabilities.durable else 0
            await self.soon(inbox.holds(expected))
            await self.silence(clock)
            assert len(inbox.messages) == expected


async def _echo(message: Message) -> Reply:
    return Reply(message.body)


async def _is_timeout(reply: Awaitable[Reply], command: str) -> bool:
    try:
        await reply
    except CommandTimeoutError as error:
        return command in str(error)
    return False


async def _is_refused(call: Awaitable[object]) -> bool:
    try:
        await call
    except BridgeClosedError:
        return True
    return False

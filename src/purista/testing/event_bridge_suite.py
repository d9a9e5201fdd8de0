"""The conformance suite of event bridges: what the port promises, one test for each promise."""
# ruff: noqa: D102 - the names of tests say what they test

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from purista.bridges.port import (
    ATTEMPT,
    DeadEvent,
    ErrorReply,
    EventBridge,
    EventDeadLetters,
    Reply,
)
from purista.clock import Clock
from purista.contract import Backoff
from purista.errors import BridgeClosedError, BridgeError, CommandTimeoutError, PayloadError
from purista.message import Message, RunInfo
from purista.subscribing import SubscriptionOptions
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

    def options(self, **changes: Any) -> SubscriptionOptions:
        """Return options with a backoff of one unit."""
        quick = {"backoff": Backoff(initial=self.unit, factor=1, jitter=0)}
        return SubscriptionOptions(**{**quick, **changes})

    async def dead(
        self, bridge: EventBridge, event: str, subscriber: str, count: int
    ) -> list[DeadEvent]:
        """Return a subscriber's dead letters once there are so many."""
        async with asyncio.timeout(self.patience.total_seconds()):
            while True:
                found = list(await _letters(bridge).dead_letters(event, subscriber))
                if len(found) == count:
                    return found
                await asyncio.sleep(0.01)

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
        attempts: list[int] = []

        async def fail_once(message: Message) -> None:
            attempts.append(ATTEMPT.get())
            await inbox(message)
            if len(inbox.messages) == 1:
                raise RuntimeError("this receiver fails once")

        async with self.opened() as (bridge, clock):
            await bridge.subscribe(event, "subscriber", fail_once, options=self.options())
            message = self.message(event)
            await bridge.publish(message)
            await self.soon(inbox.holds(1))
            await self.let_pass(clock, 2)
            expected = 2 if bridge.capabilities.redelivers else 1
            await self.soon(inbox.holds(expected))
            await self.let_pass(clock, 2)
            assert inbox.ids == [message.id] * expected
            assert attempts == list(range(1, expected + 1))

    async def test_an_event_waits_for_its_next_attempt_as_long_as_the_backoff_says(self) -> None:
        inbox, event = Inbox(), self.name("event")

        async def fail(message: Message) -> None:
            await inbox(message)
            raise RuntimeError("this receiver always fails")

        async with self.opened() as (bridge, clock):
            if not bridge.capabilities.redelivers:
                return
            slow = self.options(backoff=Backoff(initial=self.unit * 3, jitter=0))
            await bridge.subscribe(event, "subscriber", fail, options=slow)
            await bridge.publish(self.message(event))
            await self.soon(inbox.holds(1))
            await self.let_pass(clock, 2)
            assert len(inbox.ids) == 1, "the event came again too early"
            await self.let_pass(clock, 1)
            await self.soon(inbox.holds(2))

    async def test_an_event_that_always_fails_becomes_a_dead_letter_of_its_subscriber(self) -> None:
        failing, working, event = Inbox(), Inbox(), self.name("event")

        async def fail(message: Message) -> None:
            await failing(message)
            raise RuntimeError("a secret")

        async with self.opened() as (bridge, clock):
            if not bridge.capabilities.dead_letters:
                return
            await bridge.subscribe(event, "failing", fail, options=self.options(max_attempts=2))
            await bridge.subscribe(event, "working", working)
            message = Message(event, b'{"a": "Zo\xc3\xab"}', "id-1", RUN, HEADERS)
            await bridge.publish(message)
            await self.soon(failing.holds(1))
            await self.let_pass(clock, 2)
            await self.soon(failing.holds(2))
            (letter,) = await self.dead(bridge, event, "failing", 1)
            assert letter[:4] == (event, "failing", message, 2)
            assert letter.reason, "a dead letter says why"
            assert "secret" not in letter.reason
            assert letter.died_at.utcoffset() == timedelta(0), "died_at is an instant in UTC"
            assert await _letters(bridge).dead_letters(event, "working") == []
            assert working.ids == [message.id]
            await self.let_pass(clock, 2)
            assert len(failing.ids) == 2, "a dead letter came again"

    async def test_an_event_that_does_not_fit_its_schema_becomes_a_dead_letter_at_once(
        self,
    ) -> None:
        inbox, event = Inbox(), self.name("event")

        async def refuse(message: Message) -> None:
            await inbox(message)
            raise PayloadError("payload: days: not a number")

        async with self.opened() as (bridge, clock):
            if not bridge.capabilities.dead_letters:
                return
            await bridge.subscribe(event, "subscriber", refuse, options=self.options())
            await bridge.publish(self.message(event))
            (letter,) = await self.dead(bridge, event, "subscriber", 1)
            assert letter.attempts == 1
            assert "days: not a number" in letter.reason
            await self.let_pass(clock, 2)
            assert len(inbox.ids) == 1

    async def test_redriven_events_reach_their_subscriber_alone_with_all_attempts(self) -> None:
        seen, other, event = Inbox(), Inbox(), self.name("event")
        attempts: list[int] = []
        mended = False

        async def fail_at_first(message: Message) -> None:
            attempts.append(ATTEMPT.get())
            await seen(message)
            if not mended:
                raise PayloadError("payload: it does not fit")

        async with self.opened() as (bridge, clock):
            if not bridge.capabilities.dead_letters:
                return
            await bridge.subscribe(event, "failing", fail_at_first, options=self.options())
            await bridge.subscribe(event, "other", other)
            messages = [self.message(event) for _ in range(3)]
            for number, message in enumerate(messages):
                await bridge.publish(message)
                await self.dead(bridge, event, "failing", number + 1)
            letters = await self.dead(bridge, event, "failing", 3)
            assert [letter.message for letter in letters] == messages, "oldest first"
            mended = True
            redrive = _letters(bridge).redrive
            assert await redrive(event, "failing", message_id="no-such-id") == 0
            assert await redrive(event, "failing", message_id=messages[1].id) == 1
            await self.soon(seen.holds(4))
            assert await redrive(event, "failing") == 2
            await self.soon(seen.holds(6))
            assert seen.ids[3] == messages[1].id
            assert sorted(seen.ids[3:]) == sorted(message.id for message in messages)
            assert attempts == [1] * 6
            await self.silence(clock)
            assert await self.dead(bridge, event, "failing", 0) == []
            assert len(other.ids) == 3, "another subscriber saw a redriven event"

    async def test_purged_events_are_gone(self) -> None:
        event = self.name("event")

        async def refuse(_: Message) -> None:
            raise PayloadError("payload: it does not fit")

        async with self.opened() as (bridge, clock):
            if not bridge.capabilities.dead_letters:
                return
            await bridge.subscribe(event, "subscriber", refuse, options=self.options())
            messages = [self.message(event) for _ in range(3)]
            for number, message in enumerate(messages):
                await bridge.publish(message)
                await self.dead(bridge, event, "subscriber", number + 1)
            purge = _letters(bridge).purge
            assert await purge(event, "subscriber", message_id="no-such-id") == 0
            assert await purge(event, "subscriber", message_id=messages[1].id) == 1
            left = await self.dead(bridge, event, "subscriber", 2)
            assert [letter.message for letter in left] == [messages[0], messages[2]]
            assert await purge(event, "subscriber") == 2
            assert await self.dead(bridge, event, "subscriber", 0) == []
            assert await _letters(bridge).redrive(event, "subscriber") == 0
            await self.silence(clock)

    async def test_every_instance_gets_every_event_if_it_asks_for_that(self) -> None:
        first, second, event = Inbox(), Inbox(), self.name("event")
        every = SubscriptionOptions(every_instance=True)
        async with self.opened() as (bridge, clock):
            if not bridge.capabilities.every_instance:
                assert await _is_unfit(bridge.subscribe(event, "all", first, options=every))
                return
            for inbox in (first, second):
                await bridge.subscribe(event, "all", inbox, options=every)
            message = self.message(event)
            await bridge.publish(message)
            await self.soon(first.holds(1))
            await self.soon(second.holds(1))
            await self.silence(clock)
            assert (first.ids, second.ids) == ([message.id], [message.id])

    async def test_nothing_is_kept_for_an_instance_that_is_away(self) -> None:
        inbox, event, clock = Inbox(), self.name("event"), self.clock()
        every = SubscriptionOptions(every_instance=True)
        async with self.bridge(clock) as bridge:
            if not bridge.capabilities.every_instance:
                return
            subscription = await bridge.subscribe(event, "all", Inbox(), options=every)
            await subscription.cancel()
            await bridge.publish(self.message(event))
            await bridge.subscribe(event, "all", inbox, options=every)
            await self.silence(clock)
            assert inbox.ids == []

    async def test_a_receiver_gets_no_more_events_at_once_than_it_asks_for(self) -> None:
        begun, done, event = Inbox(), Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            with Gate() as gate:

                async def receive(message: Message) -> None:
                    await begun(message)
                    await gate.wait()
                    await done(message)

                options = self.options(concurrency=2)
                await bridge.subscribe(event, "subscriber", receive, options=options)
                for _ in range(5):
                    await bridge.publish(self.message(event))
                await self.soon(begun.holds(2))
                await self.silence(clock)
                assert len(begun.ids) == 2
                gate.open()
                await self.soon(done.holds(5))

    async def test_an_ordered_subscriber_gets_one_event_after_another(self) -> None:
        inbox, event = Inbox(), self.name("event")
        at_work = 0

        async def fail_once(message: Message) -> None:
            nonlocal at_work
            at_work += 1
            assert at_work == 1, "two at once"
            await asyncio.sleep(0)
            at_work -= 1
            await inbox(message)
            if len(inbox.ids) == 1:
                raise RuntimeError("the first one fails")

        async with self.opened() as (bridge, clock):
            options = self.options(ordered=True)
            if not bridge.capabilities.ordered:
                subscribe = bridge.subscribe(event, "subscriber", fail_once, options=options)
                assert await _is_unfit(subscribe)
                return
            for _ in range(2):
                await bridge.subscribe(event, "subscriber", fail_once, options=options)
            messages = [self.message(event) for _ in range(10)]
            for message in messages:
                await bridge.publish(message)
            await self.soon(inbox.holds(1))
            await self.let_pass(clock, 2)
            await self.soon(inbox.holds(11))
            assert inbox.ids == [messages[0].id, *(message.id for message in messages)]

    async def test_an_event_whose_receiver_is_at_work_is_nobody_elses(self) -> None:
        begun, done, event = Inbox(), Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):
            with Gate() as gate:

                async def receive(message: Message) -> None:
                    await begun(message)
                    await gate.wait()
                    await done(message)

                for _ in range(2):
                    options = self.options(lease=self.unit)
                    await bridge.subscribe(event, "subscriber", receive, options=options)
                message = self.message(event)
                await bridge.publish(message)
                await self.soon(begun.holds(1))
                for _ in range(4):
                    await self.let_pass(clock, 1)
                gate.open()
                await self.soon(done.holds(1))
                await self.let_pass(clock, 2)
                assert begun.ids == [message.id], "its lease was not prolonged"

    async def test_what_is_cut_off_comes_again_if_the_bridge_redelivers(self) -> None:
        begun, again, event = Inbox(), Inbox(), self.name("event")
        async with self.opened() as (bridge, clock):

            async def receive(message: Message) -> None:
                await begun(message)
                await asyncio.Event().wait()

            first = await bridge.subscribe(event, "subscriber", receive, options=self.options())
            message = self.message(event)
            await bridge.publish(message)
            await self.soon(begun.holds(1))
            await bridge.subscribe(event, "subscriber", again, options=self.options())
            cancelling = asyncio.ensure_future(first.cancel())
            await self.silence(clock)
            cancelling.cancel()
            await self.soon(asyncio.wait([cancelling]))
            await self.let_pass(clock, 2)
            expected = 1 if bridge.capabilities.redelivers else 0
            await self.soon(again.holds(expected))
            assert again.ids == [message.id] * expected

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


def _letters(bridge: EventBridge) -> EventDeadLetters:
    assert isinstance(bridge, EventDeadLetters), "a bridge with dead letters implements them"
    return bridge


async def _echo(message: Message) -> Reply:
    return Reply(message.body)


async def _is_timeout(reply: Awaitable[Reply], command: str) -> bool:
    try:
        await reply
    except CommandTimeoutError as error:
        return command in str(error)
    return False


async def _is_unfit(call: Awaitable[object]) -> bool:
    try:
        await call
    except BridgeError as error:
        return not isinstance(error, BridgeClosedError)
    return False


async def _is_refused(call: Awaitable[object]) -> bool:
    try:
        await call
    except BridgeClosedError:
        return True
    return False

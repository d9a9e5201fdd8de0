"""The suite fails for bridges that break the port: each of its tests is shown to."""

import asyncio
import contextlib
import dataclasses
from datetime import timedelta

import pytest

from purista.bridges import Reply
from purista.bridges.memory import MemoryEventBridge
from purista.errors import PayloadError
from purista.subscribing import DEFAULT, SubscriptionOptions
from purista.testing import EventBridgeSuite


class Boastful(MemoryEventBridge):
    @property
    def capabilities(self):
        truth = super().capabilities
        return dataclasses.replace(truth, durable=True, across_processes=True)


class Nameless(MemoryEventBridge):
    @property
    def capabilities(self):
        return dataclasses.replace(super().capabilities, name="")


class LosesEvents(MemoryEventBridge):
    async def publish(self, message):
        pass


class DoublesEvents(MemoryEventBridge):
    async def publish(self, message):
        await super().publish(message)
        await super().publish(message)


class MindsSilence(MemoryEventBridge):
    async def publish(self, message):
        self._events[message.name]
        await super().publish(message)


class IgnoresCase(MemoryEventBridge):
    async def publish(self, message):
        await super().publish(message._replace(name=message.name.lower()))

    async def subscribe(self, event, subscriber, receive, **options):
        return await super().subscribe(event.lower(), subscriber, receive, **options)


class ForgetsTheRun(MemoryEventBridge):
    async def publish(self, message):
        await super().publish(message._replace(run=None))

    async def request(self, message, *, timeout):
        return await super().request(message._replace(run=None), timeout=timeout)


class WaitsForReceivers(MemoryEventBridge):
    async def publish(self, message):
        await super().publish(message)
        await self.drained()


class GoesOneByOne(MemoryEventBridge):
    def __init__(self, **options):
        super().__init__(**options)
        self._one = asyncio.Lock()

    async def subscribe(self, event, subscriber, receive, **options):
        async def one_by_one(message):
            async with self._one:
                await receive(message)

        return await super().subscribe(event, subscriber, one_by_one, **options)


class StopsAtAFailure(MemoryEventBridge):
    async def publish(self, message):
        for subscriber in self._events[message.name].values():
            try:
                await subscriber.members[0].receive(message)
            except RuntimeError:
                return


class GivesUp(MemoryEventBridge):
    """Delivers an event once, whatever becomes of it."""

    def later(self, delay, call):
        pass


class DropsWhatIsCutOff(MemoryEventBridge):
    async def cut_off(self, member):
        if member is not None:
            member.is_cut_off = False
        await super().cut_off(member)


class TriesAtOnce(MemoryEventBridge):
    def later(self, delay, call):
        super().later(timedelta(0), call)


class ForgetsAttempts(MemoryEventBridge):
    def start(self, subscriber, member, message, attempt):
        super().start(subscriber, member, message, 1)


class NeverGivesUp(MemoryEventBridge):
    async def subscribe(self, event, subscriber, receive, *, options=DEFAULT):
        endless = dataclasses.replace(options, max_attempts=10**6)
        return await super().subscribe(event, subscriber, receive, options=endless)


class TriesInVain(MemoryEventBridge):
    async def subscribe(self, event, subscriber, receive, **options):
        async def fail_otherwise(message):
            try:
                await receive(message)
            except PayloadError as error:
                raise RuntimeError from error

        return await super().subscribe(event, subscriber, fail_otherwise, **options)


class RedrivesToAll(MemoryEventBridge):
    async def redrive(self, event, subscriber, *, message_id=None):
        letters = await self.dead_letters(event, subscriber)
        await self.purge(event, subscriber, message_id=message_id)
        gone = [letter for letter in letters if message_id in (None, letter.message.id)]
        for letter in gone:
            await self.publish(letter.message)
        return len(gone)


class PurgesNothing(MemoryEventBridge):
    async def purge(self, event, subscriber, *, message_id=None):
        return 0


class IgnoresOptions(MemoryEventBridge):
    async def subscribe(self, event, subscriber, receive, *, options=DEFAULT):
        quick = SubscriptionOptions(backoff=options.backoff)
        return await super().subscribe(event, subscriber, receive, options=quick)


class KeepsForInstances(MemoryEventBridge):
    """What was published before an instance came reaches it, too."""

    def __init__(self, **options):
        super().__init__(**options)
        self._published = []

    async def publish(self, message):
        self._published.append(message)
        await super().publish(message)

    async def subscribe(self, event, subscriber, receive, **options):
        subscription = await super().subscribe(event, subscriber, receive, **options)
        for message in self._published:
            await super().publish(message)
        return subscription


class LetsLeasesRunOut(MemoryEventBridge):
    async def subscribe(self, event, subscriber, receive, *, options=DEFAULT):
        async def double(message):
            lease = options.lease.total_seconds()
            timer = self._clock.call_later(
                options.lease, lambda: asyncio.ensure_future(receive(message)) if lease < 2 else 0
            )
            await receive(message)
            timer.cancel()

        return await super().subscribe(event, subscriber, double, options=options)


class HoldsOnToSubscribers(MemoryEventBridge):
    async def subscribe(self, event, subscriber, receive, **options):
        await super().subscribe(event, subscriber, receive, **options)
        return await super().subscribe("nothing", subscriber, receive, **options)

    async def serve(self, command, answer):
        await super().serve(command, answer)
        return await super().serve("nothing", answer)


class DoesNotWait(MemoryEventBridge):
    async def _finished(self, member):
        for task in self._at_work:
            task.cancel()


class CannotRepeat(MemoryEventBridge):
    async def subscribe(self, event, subscriber, receive, **options):
        return OnlyOnce(await super().subscribe(event, subscriber, receive, **options))

    async def close(self):
        if self._closing:
            raise RuntimeError("closed already")
        await super().close()


class OnlyOnce:
    def __init__(self, subscription):
        self._subscription = subscription

    async def cancel(self):
        await self._subscription.cancel()
        del self._subscription


class KeepsNames(MemoryEventBridge):
    def __init__(self, **options):
        super().__init__(**options)
        self._names = set()

    async def subscribe(self, event, subscriber, receive, **options):
        if (event, subscriber) in self._names:
            event = "nothing"
        self._names.add((event, subscriber))
        return await super().subscribe(event, subscriber, receive, **options)


class FlattensErrors(MemoryEventBridge):
    async def serve(self, command, answer):
        async def flatten(message):
            reply = await answer(message)
            return reply if reply.error is None else Reply(error=reply.error._replace(data=None))

        return await super().serve(command, flatten)


class AnswersUnknown(MemoryEventBridge):
    async def request(self, message, *, timeout):
        if message.name not in self._commands:
            return done(Reply())
        return await super().request(message, timeout=timeout)


class WaitsForReplies(MemoryEventBridge):
    async def request(self, message, *, timeout):
        return done(await (await super().request(message, timeout=timeout)))


class HasNoTimeOut(MemoryEventBridge):
    async def request(self, message, *, timeout):
        return await super().request(message, timeout=timedelta(days=1))


class GivesEmptyReplies(MemoryEventBridge):
    async def request(self, message, *, timeout):
        pending = await super().request(message, timeout=timeout)
        replying = asyncio.get_running_loop().create_future()
        pending.add_done_callback(
            lambda done: replying.set_result(Reply() if done.exception() else done.result())
        )
        return replying


class TimesOutEarly(MemoryEventBridge):
    async def request(self, message, *, timeout):
        return await super().request(message, timeout=timeout / 4)


class MindsImpatience(MemoryEventBridge):
    def __init__(self, **options):
        super().__init__(**options)
        self._pending = []

    async def request(self, message, *, timeout):
        if any(pending.cancelled() for pending in self._pending):
            raise RuntimeError("somebody stopped waiting")
        self._pending.append(await super().request(message, timeout=timeout))
        return self._pending[-1]


class MixesUpReplies(MemoryEventBridge):
    last = Reply()

    async def serve(self, command, answer):
        async def mix(message):
            reply, self.last = self.last, await answer(message)
            return reply

        return await super().serve(command, mix)


class AsksEverybody(MemoryEventBridge):
    async def request(self, message, *, timeout):
        for responder in self._commands[message.name].members[1:]:
            await responder.answer(message)
        return await super().request(message, timeout=timeout)


class TellsDetails(MemoryEventBridge):
    async def serve(self, command, answer):
        async def tell(message):
            try:
                return await answer(message)
            except RuntimeError as error:
                return Reply(repr(error).encode())

        return await super().serve(command, tell)


class IsAlwaysOpen(MemoryEventBridge):
    async def close(self):
        await self.drained()


def done(reply):
    future = asyncio.get_running_loop().create_future()
    future.set_result(reply)
    return future


BROKEN = {
    Boastful: [
        "another_bridge_is_reached_if_the_bridge_says_so",
        "a_subscriber_gets_what_it_missed_if_the_bridge_is_durable",
    ],
    Nameless: ["the_capabilities_have_a_name_and_do_not_change"],
    LosesEvents: [
        "an_event_reaches_every_subscriber_name_once",
        "receivers_of_one_name_share_the_events",
        "a_receiver_can_publish_and_request",
    ],
    DoublesEvents: [
        "an_event_reaches_every_subscriber_name_once",
        "receivers_of_one_name_share_the_events",
        "a_receiver_that_failed_sees_the_event_again_if_the_bridge_says_so",
    ],
    MindsSilence: ["an_event_that_nobody_subscribes_to_is_no_error"],
    IgnoresCase: ["events_of_other_names_are_not_received"],
    ForgetsTheRun: ["a_message_arrives_as_it_was_sent", "a_command_is_answered"],
    WaitsForReceivers: ["publish_does_not_wait_until_the_event_is_handled"],
    GoesOneByOne: ["a_slow_subscriber_does_not_hold_up_another"],
    StopsAtAFailure: ["a_receiver_that_fails_does_not_keep_the_event_from_others"],
    GivesUp: ["a_receiver_that_failed_sees_the_event_again_if_the_bridge_says_so"],
    DropsWhatIsCutOff: ["what_is_cut_off_comes_again_if_the_bridge_redelivers"],
    TriesAtOnce: ["an_event_waits_for_its_next_attempt_as_long_as_the_backoff_says"],
    ForgetsAttempts: ["a_receiver_that_failed_sees_the_event_again_if_the_bridge_says_so"],
    NeverGivesUp: ["an_event_that_always_fails_becomes_a_dead_letter_of_its_subscriber"],
    TriesInVain: ["an_event_that_does_not_fit_its_schema_becomes_a_dead_letter_at_once"],
    RedrivesToAll: ["redriven_events_reach_their_subscriber_alone_with_all_attempts"],
    PurgesNothing: ["purged_events_are_gone"],
    IgnoresOptions: [
        "every_instance_gets_every_event_if_it_asks_for_that",
        "a_receiver_gets_no_more_events_at_once_than_it_asks_for",
        "an_ordered_subscriber_gets_one_event_after_another",
    ],
    KeepsForInstances: ["nothing_is_kept_for_an_instance_that_is_away"],
    LetsLeasesRunOut: ["an_event_whose_receiver_is_at_work_is_nobody_elses"],
    HoldsOnToSubscribers: [
        "a_cancelled_subscription_takes_nothing_new",
        "a_command_that_is_handled_no_longer_is_unknown",
    ],
    DoesNotWait: [
        "cancelling_a_subscription_waits_for_what_is_being_handled",
        "close_lets_what_was_accepted_finish",
        "close_lets_a_command_be_answered",
    ],
    CannotRepeat: ["a_subscription_may_be_cancelled_again", "close_may_be_repeated"],
    KeepsNames: ["a_subscriber_name_can_be_used_again"],
    FlattensErrors: ["an_error_reply_arrives_as_it_was_given"],
    AnswersUnknown: ["a_command_that_nobody_handles_gives_an_error_that_says_so"],
    WaitsForReplies: ["a_request_returns_before_the_reply"],
    HasNoTimeOut: ["a_request_without_a_reply_ends_with_its_time_out"],
    GivesEmptyReplies: ["a_request_without_a_reply_ends_with_its_time_out"],
    TimesOutEarly: ["a_request_without_a_reply_ends_with_its_time_out"],
    MindsImpatience: ["nobody_has_to_wait_for_a_reply"],
    MixesUpReplies: ["a_command_is_answered", "each_of_many_requests_gets_its_own_reply"],
    AsksEverybody: ["responders_of_one_command_share_its_requests"],
    TellsDetails: ["a_responder_that_raises_gives_an_error_without_details"],
    IsAlwaysOpen: ["a_closed_bridge_takes_nothing_new"],
}


@pytest.mark.parametrize(
    ("broken", "test"),
    [
        pytest.param(broken, test, id=broken.__name__)
        for broken in BROKEN
        for test in BROKEN[broken]
    ],
)
async def test_the_suite_fails_for_a_bridge_that_breaks_the_port(broken, test):
    with pytest.raises((AssertionError, LookupError, AttributeError, RuntimeError, TimeoutError)):
        await getattr(suite_of(broken), f"test_{test}")()


def test_every_test_of_the_suite_is_shown_to_fail():
    tests = {
        name.removeprefix("test_") for name in dir(EventBridgeSuite) if name.startswith("test_")
    }
    assert {test for broken in BROKEN.values() for test in broken} == tests


def test_a_suite_that_opens_no_bridge_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="NoBridge"):
        type("NoBridge", (EventBridgeSuite,), {})().bridge(None)


def suite_of(broken):
    class Suite(EventBridgeSuite):
        patience = timedelta(seconds=0.1)

        @contextlib.asynccontextmanager
        async def bridge(self, clock):
            bridge = broken(clock=clock)
            try:
                yield bridge
            finally:
                bridge._closing = True
                await bridge._abandon()

    return Suite()

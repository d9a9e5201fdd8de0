"""What the in-memory event bridge promises beyond the port."""

import asyncio
import contextvars
import logging
from datetime import UTC, datetime, timedelta

import pytest

from purista.bridges import ATTEMPT, Drains, Reply
from purista.bridges.memory import MemoryEventBridge
from purista.contract import Backoff
from purista.errors import BridgeClosedError, CommandTimeoutError, PayloadError
from purista.message import Message, RunInfo
from purista.subscribing import SubscriptionOptions
from purista.testing import ManualClock

SECOND = timedelta(seconds=1)
START = datetime(2027, 1, 1, tzinfo=UTC)
RUN = RunInfo("run-1", "billing.v1.monthly", START, "UTC", is_target=True)
QUICK = SubscriptionOptions(max_attempts=2, backoff=Backoff(initial=SECOND, factor=1, jitter=0))
EVENT = Message("billing.due", b'{"secret": "hunter2"}', "id-1", RUN)


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def bridge(clock):
    return MemoryEventBridge(clock=clock)


def command(name, body=b"null"):
    return Message(name, body, f"id-{name}")


async def echo(message):
    return Reply(message.body)


async def until_cancelled(_):
    await asyncio.Event().wait()


async def test_receivers_of_one_name_take_turns(bridge):
    seen = []
    for receiver in ("a", "b", "c"):

        async def receive(message, receiver=receiver):
            seen.append(receiver)

        await bridge.subscribe(EVENT.name, "shared", receive)
    for _ in range(7):
        await bridge.publish(EVENT)
    await bridge.drained()
    assert seen == ["a", "b", "c", "a", "b", "c", "a"]


async def test_turns_go_on_when_a_receiver_leaves(bridge):
    seen = []
    subscriptions = {}
    for receiver in ("a", "b", "c"):

        async def receive(message, receiver=receiver):
            seen.append(receiver)

        subscriptions[receiver] = await bridge.subscribe(EVENT.name, "shared", receive)
    await bridge.publish(EVENT)
    await bridge.publish(EVENT)
    await subscriptions["b"].cancel()
    for _ in range(4):
        await bridge.publish(EVENT)
    await bridge.drained()
    assert sorted(seen[2:]) == ["a", "a", "c", "c"]


async def test_deliveries_begin_in_the_order_of_publication(bridge):
    seen = []

    async def receive(message):
        seen.append(message.id)

    await bridge.subscribe(EVENT.name, "subscriber", receive)
    for number in range(100):
        await bridge.publish(EVENT._replace(id=str(number)))
    await bridge.drained()
    assert seen == [str(number) for number in range(100)]


async def test_a_failing_receiver_is_logged_with_its_run_and_without_the_body(bridge, caplog):
    async def fail(_):
        raise RuntimeError("no printer")

    await bridge.subscribe(EVENT.name, "printing", fail)
    await bridge.publish(EVENT)
    await bridge.publish(EVENT._replace(run=None))
    await bridge.drained()
    of_run, of_none = caplog.records
    assert of_run.name == "purista.bridges"
    assert of_run.levelno == logging.WARNING
    assert of_run.message == (
        "event billing.due: subscriber printing failed in attempt 1, message id-1, run run-1"
    )
    assert of_none.message.endswith("message id-1, run id-1")
    assert "no printer" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_cancelled_receiver_is_logged(bridge, clock, caplog):
    await bridge.subscribe(EVENT.name, "printing", until_cancelled)
    await bridge.publish(EVENT)
    await asyncio.sleep(0)
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    await bridge.drained()
    await clock.advance(SECOND)
    assert caplog.messages == [
        "event billing.due: subscriber printing was cancelled, message id-1, run run-1"
    ]
    assert not bridge._at_work


async def test_what_waits_behind_a_cancelled_receiver_begins_with_the_next_event(bridge, caplog):
    seen = []

    async def receive(message):
        seen.append(message.id)
        if message.id == "0":
            await asyncio.Event().wait()

    options = SubscriptionOptions(concurrency=1)
    await bridge.subscribe(EVENT.name, "printing", receive, options=options)
    for number in range(3):
        await bridge.publish(EVENT._replace(id=str(number)))
    await asyncio.sleep(0)
    (task,) = asyncio.all_tasks() - {asyncio.current_task()}
    task.cancel()
    await bridge.drained()
    await bridge.publish(EVENT._replace(id="3"))
    await bridge.drained()
    assert seen == ["0", "1", "2", "3"]


async def test_a_receiver_that_cancels_itself_has_failed(bridge, clock, caplog):
    attempts = []

    async def receive(_):
        attempts.append(ATTEMPT.get())
        raise asyncio.CancelledError

    await bridge.subscribe(EVENT.name, "printing", receive, options=QUICK)
    await bridge.publish(EVENT)
    await clock.advance(SECOND * 3)
    assert attempts == [1, 2]
    (letter,) = await bridge.dead_letters(EVENT.name, "printing")
    assert letter.reason == "CancelledError in the receiver"


async def test_what_waits_to_be_tried_again_is_not_waited_for(bridge, caplog):
    async def fail(_):
        raise RuntimeError

    await bridge.subscribe(EVENT.name, "printing", fail, options=QUICK)
    await bridge.publish(EVENT)
    await bridge.drained()
    await bridge.close()
    assert caplog.messages[-1] == "memory event bridge: 1 events were not tried again"


async def test_events_wait_while_a_receiver_has_all_that_it_asked_for(bridge):
    seen, gate = [], asyncio.Event()

    async def receive(message):
        seen.append(message.id)
        await gate.wait()

    options = SubscriptionOptions(concurrency=1)
    for _ in range(2):
        await bridge.subscribe(EVENT.name, "printing", receive, options=options)
    for number in range(5):
        await bridge.publish(EVENT._replace(id=str(number)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == ["0", "1"]
    gate.set()
    await bridge.drained()
    assert seen == ["0", "1", "2", "3", "4"]


async def test_dead_letters_are_kept_while_nobody_is_subscribed(bridge):
    async def refuse(_):
        raise PayloadError("payload: it does not fit")

    subscription = await bridge.subscribe(EVENT.name, "printing", refuse)
    await bridge.publish(EVENT)
    await bridge.drained()
    await subscription.cancel()
    assert await bridge.redrive(EVENT.name, "printing") == 0
    assert len(await bridge.dead_letters(EVENT.name, "printing")) == 1


async def test_an_instance_of_its_own_leaves_no_dead_letter(bridge, caplog):
    async def refuse(_):
        raise PayloadError("payload: it does not fit")

    every = SubscriptionOptions(every_instance=True)
    await bridge.subscribe(EVENT.name, "printing", refuse, options=every)
    await bridge.publish(EVENT)
    await bridge.drained()
    assert await bridge.dead_letters(EVENT.name, "printing") == []
    assert "a dead letter, message id-1, run run-1: payload: it does not fit" in caplog.text


async def test_a_failing_responder_is_logged_with_its_run_and_without_the_body(bridge, caplog):
    async def fail(_):
        raise RuntimeError("no printer")

    await bridge.serve("printing.v1.print", fail)
    request = EVENT._replace(name="printing.v1.print")
    await (await bridge.request(request, timeout=SECOND))
    (record,) = caplog.records
    assert record.message == (
        "command printing.v1.print: its responder failed, message id-1, run run-1"
    )
    assert "hunter2" not in caplog.text


async def test_a_responder_that_returns_nothing_gives_an_error(bridge):
    async def forget(_):
        pass

    await bridge.serve("forget", forget)
    reply = await (await bridge.request(command("forget"), timeout=SECOND))
    assert reply.error.kind == "unhandled"


async def test_a_cancelled_responder_gives_an_error(bridge, clock):
    tasks = []

    async def answer(message):
        tasks.append(asyncio.current_task())
        await until_cancelled(message)

    await bridge.serve("slow", answer)
    pending = await bridge.request(command("slow"), timeout=SECOND)
    await clock.settle()
    tasks[0].cancel()
    assert (await pending).error.kind == "unhandled"


async def test_an_unknown_command_is_told_the_nearest_known_one(bridge):
    await bridge.serve("Billing.v1.purgeDrafts", echo)
    pending = await bridge.request(command("Billing.v1.purgeDraft"), timeout=SECOND)
    error = (await pending).error
    assert error.code == "unknown_command"
    assert error.message == (
        "nobody handles command 'Billing.v1.purgeDraft'; did you mean 'Billing.v1.purgeDrafts'?"
    )


async def test_an_unknown_command_that_is_like_no_other_gets_no_list_of_them(bridge):
    for number in range(100):
        await bridge.serve(f"Billing.v1.command{number}", echo)
    error = (await (await bridge.request(command("x"), timeout=SECOND))).error
    assert error.message == "nobody handles command 'x'; start a service that does"


async def test_the_answer_about_an_unknown_command_is_there_at_once(bridge):
    pending = await bridge.request(command("unknown"), timeout=SECOND)
    assert pending.done()


async def test_a_time_out_passes_at_its_instant(bridge, clock):
    await bridge.serve("slow", until_cancelled)
    pending = await bridge.request(command("slow"), timeout=5 * SECOND)
    await clock.advance(5 * SECOND - timedelta(microseconds=1))
    assert not pending.done()
    await clock.advance(timedelta(microseconds=1))
    with pytest.raises(CommandTimeoutError, match="'slow' gave no answer within 0:00:05") as raised:
        await pending
    assert raised.value.code == "timeout"


@pytest.mark.parametrize("timeout", [timedelta(0), -SECOND])
async def test_a_time_out_that_is_not_positive_passes_at_once(bridge, clock, timeout):
    await bridge.serve("slow", until_cancelled)
    pending = await bridge.request(command("slow"), timeout=timeout)
    await clock.settle()
    with pytest.raises(CommandTimeoutError):
        await pending


async def test_the_longest_time_out_never_passes(bridge, clock):
    await bridge.serve("slow", until_cancelled)
    pending = await bridge.request(command("slow"), timeout=timedelta.max)
    await clock.advance(timedelta(days=3660))
    assert not pending.done()


async def test_setting_the_wall_clock_ends_no_time_out(bridge, clock):
    await bridge.serve("slow", until_cancelled)
    pending = await bridge.request(command("slow"), timeout=5 * SECOND)
    clock.jump(timedelta(days=1))
    await clock.advance(4 * SECOND)
    assert not pending.done()
    clock.jump(-timedelta(days=2))
    await clock.advance(SECOND)
    assert pending.done()


async def test_a_reply_can_be_awaited_more_than_once(bridge):
    await bridge.serve("echo", echo)
    pending = await bridge.request(command("echo", b"1"), timeout=SECOND)
    assert await pending == await pending == Reply(b"1")


async def test_a_command_goes_on_when_its_caller_gives_up(bridge, clock):
    done = []

    async def answer(message):
        await clock.sleep(SECOND)
        done.append(message.id)
        return Reply()

    async def call():
        await (await bridge.request(command("slow"), timeout=5 * SECOND))

    await bridge.serve("slow", answer)
    calling = asyncio.create_task(call())
    await clock.settle()
    calling.cancel()
    await clock.advance(SECOND)
    assert done == ["id-slow"]


async def test_context_variables_are_the_subscribers_not_the_senders(bridge):
    variable = contextvars.ContextVar("variable")
    seen = []

    async def receive(_):
        seen.append(variable.get())
        variable.set("a receiver's own")

    variable.set("subscriber")
    await bridge.subscribe(EVENT.name, "subscriber", receive)
    variable.set("sender")
    await bridge.publish(EVENT)
    await bridge.publish(EVENT)
    await bridge.drained()
    assert seen == ["subscriber", "subscriber"]


async def test_drained_waits_for_all_that_deliveries_send_on(bridge, clock):
    assert isinstance(bridge, Drains)
    seen = []

    async def receive(message):
        seen.append(message.id)
        await clock.sleep(SECOND)
        if len(seen) < 5:
            await bridge.publish(message)

    await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.publish(EVENT)
    draining = asyncio.create_task(bridge.drained())
    await clock.advance(4 * SECOND)
    assert not draining.done()
    await clock.advance(SECOND)
    await draining
    assert len(seen) == 5


async def test_drained_returns_at_once_when_nothing_is_at_work(bridge):
    await bridge.subscribe(EVENT.name, "subscriber", until_cancelled)
    await bridge.drained()


async def test_a_delivery_that_was_cancelled_before_it_began_is_not_waited_for(bridge):
    await bridge.subscribe(EVENT.name, "subscriber", until_cancelled)
    await bridge.publish(EVENT)
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await bridge.drained()


async def test_a_receiver_can_cancel_its_own_subscription(bridge):
    seen = []

    async def receive(message):
        seen.append(message.id)
        await subscription.cancel()

    subscription = await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.publish(EVENT)
    await bridge.drained()
    await bridge.publish(EVENT)
    await bridge.drained()
    assert seen == ["id-1"]


async def test_a_receiver_can_close_the_bridge(bridge):
    closed = asyncio.Event()

    async def receive(_):
        await bridge.close()
        closed.set()

    await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.publish(EVENT)
    await closed.wait()


async def test_cancelling_a_subscription_does_not_wait_for_others(bridge):
    await bridge.subscribe(EVENT.name, "slow", until_cancelled)
    subscription = await bridge.subscribe(EVENT.name, "quick", echo)
    await bridge.publish(EVENT)
    await subscription.cancel()
    assert len(bridge._at_work) == 1


async def test_names_that_nobody_uses_any_more_are_forgotten(bridge):
    for number in range(100):
        subscription = await bridge.subscribe(f"event-{number}", "subscriber", echo)
        await subscription.cancel()
        responder = await bridge.serve(f"command-{number}", echo)
        await responder.cancel()
    assert (bridge._events, bridge._commands) == ({}, {})


async def test_time_outs_that_did_not_pass_leave_nothing_behind(bridge, clock):
    await bridge.serve("echo", echo)
    for number in range(1000):
        timeout = SECOND * (1 + number % 10)
        await (await bridge.request(command("echo"), timeout=timeout))
    assert sum(len(bridge._timeouts[SECOND * each].keys) for each in range(1, 11)) == 0
    await clock.advance(10 * SECOND)
    assert (len(bridge._timeouts), clock.next_timer) == (0, None)


async def test_while_it_closes_deliveries_can_send_on_and_others_cannot(bridge, clock):
    seen = []

    async def first(message):
        await clock.sleep(SECOND)
        async with asyncio.TaskGroup() as group:
            group.create_task(bridge.publish(message._replace(name="second")))
            pending = await bridge.request(command("echo", b"1"), timeout=SECOND)
        seen.append((await pending).body)

    async def second(message):
        await clock.sleep(SECOND)
        seen.append(message.name)

    await bridge.subscribe("first", "subscriber", first)
    await bridge.subscribe("second", "subscriber", second)
    await bridge.serve("echo", echo)
    await bridge.publish(EVENT._replace(name="first"))
    closing = asyncio.create_task(bridge.close())
    await clock.settle()
    with pytest.raises(BridgeClosedError, match="event 'second': the memory bridge is closed"):
        await bridge.publish(EVENT._replace(name="second"))
    with pytest.raises(BridgeClosedError, match="command 'echo'"):
        await bridge.request(command("echo"), timeout=SECOND)
    await clock.advance(2 * SECOND)
    await closing
    assert seen == [b"1", "second"]


async def test_a_task_that_a_delivery_left_behind_cannot_send_after_close(bridge):
    begun = []

    async def later():
        await go.wait()
        await bridge.publish(EVENT)

    async def receive(_):
        begun.append(asyncio.create_task(later()))

    go = asyncio.Event()
    await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.publish(EVENT)
    await bridge.close()
    go.set()
    with pytest.raises(BridgeClosedError):
        await begun[0]


async def test_cancelling_close_cancels_what_is_left_and_leaves_no_task(bridge, clock, caplog):
    await bridge.subscribe(EVENT.name, "subscriber", until_cancelled)
    await bridge.serve("slow", until_cancelled)
    await bridge.publish(EVENT)
    pending = await bridge.request(command("slow"), timeout=SECOND)
    closing = asyncio.create_task(bridge.close())
    await clock.settle()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert (await pending).error.kind == "unhandled"
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert "memory event bridge: 2 deliveries were cancelled" in caplog.messages
    with pytest.raises(BridgeClosedError):
        await bridge.publish(EVENT)


async def test_closing_within_a_time_limit_ends_deliveries_that_never_would(bridge):
    await bridge.subscribe(EVENT.name, "subscriber", until_cancelled)
    await bridge.publish(EVENT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await bridge.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_command_that_had_not_begun_when_close_was_cancelled_gets_an_error(bridge, clock):
    pending = []

    async def receive(_):
        await go.wait()
        closing.cancel()
        pending.append(await bridge.request(command("slow"), timeout=SECOND))

    go = asyncio.Event()
    await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.serve("slow", until_cancelled)
    await bridge.publish(EVENT)
    closing = asyncio.create_task(bridge.close())
    await clock.settle()
    go.set()
    await asyncio.wait([closing])
    assert (await pending[0]).error.kind == "unhandled"


async def test_a_time_out_that_nobody_waits_for_any_more_passes_quietly(bridge, clock):
    await bridge.serve("slow", until_cancelled)
    pending = await bridge.request(command("slow"), timeout=SECOND)
    pending.cancel()
    await clock.advance(SECOND)
    assert pending.cancelled()


async def test_cancelling_close_when_nothing_is_left_is_quiet(bridge, caplog):
    async def receive(_):
        await finish.wait()

    finish = asyncio.Event()
    await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.publish(EVENT)
    closing = asyncio.create_task(bridge.close())
    for _ in range(3):
        await asyncio.sleep(0)
    finish.set()
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert caplog.messages == []


async def test_a_delivery_that_will_not_be_cancelled_cannot_hold_up_a_second_cancel(bridge, clock):
    async def stubborn(_):
        while not finish.is_set():
            try:
                await finish.wait()
            except asyncio.CancelledError:
                continue

    finish = asyncio.Event()
    await bridge.subscribe(EVENT.name, "subscriber", stubborn)
    await bridge.publish(EVENT)
    closing = asyncio.create_task(bridge.close())
    for _ in range(2):
        await clock.settle()
        assert not closing.done()
        closing.cancel()
    await asyncio.wait([closing])
    finish.set()
    assert closing.cancelled()


async def test_two_calls_of_close_both_wait(bridge, clock):
    async def receive(_):
        await clock.sleep(SECOND)

    await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.publish(EVENT)
    closing = [asyncio.create_task(bridge.close()) for _ in range(2)]
    await clock.settle()
    assert not any(task.done() for task in closing)
    await clock.advance(SECOND)
    await asyncio.gather(*closing)


async def test_deliveries_that_an_eager_task_factory_ran_to_their_end_are_not_kept(bridge):
    """As ``asyncio.eager_task_factory`` of Python 3.12, for a coroutine that does not wait."""

    def eager(loop, coroutine, context=None):
        done = loop.create_future()
        with pytest.raises(StopIteration):
            context.run(coroutine.send, None)
        done.set_result(None)
        return done

    seen = []

    async def receive(message):
        seen.append(message.id)
        await subscription.cancel()

    subscription = await bridge.subscribe(EVENT.name, "subscriber", receive)
    await bridge.serve("echo", echo)
    asyncio.get_running_loop().set_task_factory(eager)
    await bridge.publish(EVENT)
    pending = await bridge.request(command("echo", b"1"), timeout=SECOND)
    asyncio.get_running_loop().set_task_factory(None)
    assert (seen, await pending, bridge._at_work) == (["id-1"], Reply(b"1"), {})


async def test_a_thousand_events_each_reach_their_own_subscriber(bridge):
    counts = [0] * 1000
    for number in range(1000):

        async def receive(_, number=number):
            counts[number] += 1

        await bridge.subscribe(f"event-{number}", "subscriber", receive)
    for number in range(1000):
        for _ in range(10):
            await bridge.publish(EVENT._replace(name=f"event-{number}"))
    await bridge.close()
    assert counts == [10] * 1000


async def test_it_tells_what_is_left_to_do_and_what_is_dead(bridge, clock):
    async def fail(_):
        raise RuntimeError

    await bridge.subscribe(EVENT.name, "s", fail, options=QUICK)
    counts = [(bridge.left, bridge.buried)]
    await bridge.publish(EVENT)
    counts.append((bridge.left, bridge.buried))
    await bridge.drained()
    counts.append((bridge.left, bridge.buried))
    await clock.advance(2 * SECOND)
    await bridge.drained()
    counts.append((bridge.left, bridge.buried))
    assert counts == [(0, 0), (1, 0), (1, 0), (0, 1)]

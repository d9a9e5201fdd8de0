import functools
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from purista import Context, ContractError, Cron, Event, Schedule, Service, advice, check
from purista.service import problems


class Cycle(BaseModel):
    cycle_id: str


class Purge(BaseModel):
    older_than_days: int = 30


CRON = Cron("0 2 1 * *")
PAYLOAD = {"cycle_id": "{nominal_time:%Y-%m}"}


def service() -> Service:
    return Service("Billing", version="1")


def texts(error: ContractError) -> list[str]:
    return [str(problem) for problem in error.problems]


async def handler(payload: Any, ctx: Context) -> None: ...


def test_the_builder_registers_and_returns_the_schedule():
    billing = service()
    due = billing.event("due", Cycle)
    one = billing.schedule("monthly", "on the 1st").emit_event(
        due, expression=CRON, payload=PAYLOAD
    )
    assert billing.schedules == {"monthly": one}
    assert (one.id, one.description, one.target) == ("Billing.v1.monthly", "on the 1st", due)


def test_a_target_can_be_a_name_with_a_schema():
    billing = service()
    one = billing.schedule("a").emit_event(
        "due", payload_schema=Cycle, expression=CRON, payload=PAYLOAD
    )
    assert one.target.name == "due"
    assert one.target.service_name == "Billing"
    two = billing.schedule("b").invoke_command(
        "purge",
        payload_schema=Purge,
        expression=CRON,
        target_service_name="Other",
        target_service_version="3",
    )
    assert two.target.address == "Other.v3.purge"  # type: ignore[union-attr]


def test_a_name_alone_finds_the_declared_message():
    billing = service()
    queue = billing.queue("reports", Cycle)
    one = billing.schedule("a").enqueue("reports", expression=CRON, payload=PAYLOAD)
    assert one.target is queue


def test_every_mistake_of_a_declaration_is_reported_at_once():
    billing = service()
    queue = billing.queue("reports", Cycle)
    options: dict[str, Any] = {"time_zone": "UTC", "jitter": 5, "missed_run_policy": "later"}
    with pytest.raises(ContractError) as caught:
        billing.schedule("a/b").emit_event(queue, **options)  # type: ignore[call-overload]
    found = texts(caught.value)
    assert len(found) == len(set(found)) == 7
    place = "schedule 'Billing.v1.a/b': "
    assert all(text.startswith(place) for text in found)
    parts = [text.removeprefix(place).split(":")[0] for text in found]
    assert sorted(parts) == [
        "event",
        "expression",
        "jitter",
        "missed_run_policy",
        "name",
        "payload",
        "time_zone",
    ]
    assert "did you mean 'timezone'?" in str(caught.value)
    assert billing.schedules == {}


def test_a_name_that_cannot_be_a_message_is_reported_with_the_rest():
    with pytest.raises(ContractError) as caught:
        service().schedule("a").emit_event("a/b", expression=CRON, max_catch_up=0)
    assert len(caught.value.problems) == 2


def test_a_wrong_kind_of_target_names_what_it_is():
    billing = service()
    due = billing.event("due", Cycle)
    with pytest.raises(ContractError, match="'due' is an event, not a queue"):
        billing.schedule("a").enqueue(due, expression=CRON)  # type: ignore[call-overload]
    with pytest.raises(ContractError, match="int is no command"):
        billing.schedule("a").invoke_command(5, expression=CRON)  # type: ignore[call-overload]


def test_a_name_is_declared_once():
    billing = service()
    due = billing.event("due", Cycle)
    billing.schedule("a").emit_event(due, expression=CRON, payload=PAYLOAD)
    with pytest.raises(ContractError, match="schedule 'a' is declared twice"):
        billing.schedule("a").emit_event(due, expression=CRON, payload=PAYLOAD)
    with pytest.raises(ContractError, match="event 'due' is declared twice"):
        billing.event("due", Cycle)


def test_a_schedule_built_elsewhere_becomes_the_services_own():
    library = Service("Library", version="7")
    one = library.schedule("a").emit_event(
        library.event("due", Cycle), expression=CRON, payload=PAYLOAD
    )
    billing = service()
    added = billing.add_schedule(one)
    assert added.id == "Billing.v1.a"
    assert billing.schedules["a"] is added
    assert added.target is one.target
    assert library.add_schedule.__doc__


def test_an_unfinished_schedule_cannot_be_added():
    billing = service()
    with pytest.raises(ContractError, match="finish the builder"):
        billing.add_schedule(billing.schedule("a"))  # type: ignore[arg-type]


def test_decorators_return_the_function_unchanged():
    billing = service()
    due = billing.event("due", Cycle)
    assert billing.subscription(due)(handler) is handler
    assert billing.worker(billing.queue("q", Cycle))(handler) is handler
    assert billing.handles(billing.command("c", Cycle))(handler) is handler


class Callable:
    async def __call__(self, payload: Any, ctx: Context) -> None: ...


def test_a_callable_object_and_a_partial_can_be_handlers():
    billing = service()
    due = billing.event("due", Cycle)
    billing.subscription(due)(Callable())
    billing.subscription(due, name="second")(functools.partial(handler))
    assert list(billing.subscriptions) == ["Callable", "second"]


def test_a_handler_that_is_not_async_or_takes_other_arguments_is_refused():
    billing = service()
    due = billing.event("due", Cycle)

    def plain(payload: Any, ctx: Context) -> None: ...

    async def one(payload: Any) -> None: ...

    with pytest.raises(ContractError, match="is not an async function"):
        billing.subscription(due)(plain)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="does not take two arguments"):
        billing.subscription(due)(one)  # type: ignore[arg-type]


def test_each_handler_has_its_place():
    billing = service()
    due, queue = billing.event("due", Cycle), billing.queue("q", Cycle)
    command = billing.command("c", Cycle)
    billing.subscription(due)(handler)
    billing.worker(queue)(handler)
    billing.handles(command)(handler)
    for register in (
        billing.subscription(due),
        billing.worker(queue),
        billing.handles(command),
    ):
        with pytest.raises(ContractError, match="is taken"):
            register(handler)


def test_a_handler_of_the_wrong_thing_is_refused():
    billing = service()
    due, queue = billing.event("due", Cycle), billing.queue("q", Cycle)
    with pytest.raises(ContractError, match="'q' is a queue"):
        billing.subscription(queue)(handler)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="'due' is an event") as caught:
        billing.worker(due, concurrency=0)(handler)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 2
    foreign = Service("Other").command("c", Cycle)
    with pytest.raises(ContractError, match=r"'Other\.v1\.c' is not declared by this service"):
        billing.handles(foreign)(handler)
    with pytest.raises(ContractError, match="str is no command"):
        billing.handles("c")(handler)  # type: ignore[arg-type]


def test_a_binding_needs_an_event_a_queue_and_a_key_that_exists():
    billing = service()
    due, queue = billing.event("due", Cycle), billing.queue("q", Cycle)
    with pytest.raises(ContractError) as caught:
        billing.bind(queue, due)  # type: ignore[arg-type]
    assert len(caught.value.problems) == 2
    with pytest.raises(ContractError) as caught:
        billing.bind(due, queue, map=5, idempotency_key="payload.nope")  # type: ignore[call-overload]
    assert len(caught.value.problems) == 2
    billing.bind(due, queue, idempotency_key="payload.cycle_id")
    assert list(billing.bindings) == ["due-to-q"]
    with pytest.raises(ContractError, match="is taken"):
        billing.bind(due, queue)


def declare(kind: str, billing: Service, **options: Any) -> Schedule:
    builder = billing.schedule(f"a-{kind}")
    if kind == "event":
        return builder.emit_event("due", payload_schema=Purge, expression=CRON, **options)
    if kind == "queue":
        return builder.enqueue("reports", payload_schema=Purge, expression=CRON, **options)
    return builder.invoke_command("purge", payload_schema=Purge, expression=CRON, **options)


@pytest.mark.parametrize("kind", ["event", "queue", "command"])
def test_a_target_that_no_handler_serves_is_refused_by_the_check(kind: str):
    billing = service()
    declare(kind, billing)
    with pytest.raises(ContractError, match=f"no handler serves {kind} "):
        billing.check()
    assert len(billing.problems()) == 1


@pytest.mark.parametrize("kind", ["event", "queue", "command"])
def test_an_external_target_needs_no_handler(kind: str):
    billing = service()
    declare(kind, billing, external=True)
    billing.check()


def test_all_unserved_targets_are_reported_at_once_with_a_near_match():
    billing = service()
    for kind in ("event", "queue", "command"):
        declare(kind, billing)
    billing.subscription(Event("duo", Purge))(handler)
    with pytest.raises(ContractError) as caught:
        billing.check()
    assert len(caught.value.problems) == 3
    assert "did you mean 'duo'?" in str(caught.value)


def test_a_handler_in_another_checked_service_counts():
    billing, other = service(), Service("Other")
    one = declare("event", billing)
    other.subscription(one.target)(handler)  # type: ignore[arg-type]
    check(billing, other)


def test_a_binding_serves_its_event_and_needs_a_worker_for_its_queue():
    billing = service()
    queue = billing.queue("q", Purge)
    billing.bind(Event("due", Purge), queue)
    declare("event", billing)
    assert [str(problem) for problem in problems(billing)] == [
        "service 'Billing.v1': binding 'due-to-q': no handler serves queue 'q'; decorate a function "
        "with @service.worker(...), check the serving service as well, or declare it with "
        "external=True"
    ]
    billing.worker(queue)(handler)
    billing.check()


def test_the_same_service_twice_is_a_problem():
    with pytest.raises(ContractError, match="is given twice"):
        check(service(), service())


def test_advice_recommends_saying_the_missed_run_policy():
    billing = service()
    declare("event", billing)
    declare("queue", billing, missed_run_policy="skip")
    assert [problem.place for problem in advice(billing)] == [
        "schedule 'Billing.v1.a-event': missed_run_policy"
    ]


def test_advice_sees_windows_and_policies_that_work_against_each_other():
    billing = service()
    declare(
        "queue",
        billing,
        missed_run_policy="catchUp",
        concurrency_policy="forbid",
        catch_up_window=timedelta(days=8),
    )
    assert [problem.place.split(": ")[1] for problem in advice(billing)] == [
        "dedupe_window",
        "concurrency_policy",
    ]


@pytest.mark.parametrize(("name", "version"), [("a.b", "1"), ("", "1"), ("a/b", "1"), ("a", "1.0")])
def test_a_service_name_or_version_with_other_characters_is_refused(name: str, version: str):
    with pytest.raises(ContractError):
        Service(name, version=version)


def test_reprs_help_in_a_shell():
    billing = service()
    assert repr(billing) == "<Service Billing.v1: 0 schedules>"
    assert repr(billing.schedule("a")) == "<unfinished schedule Billing.v1.a>"


def test_a_description_in_the_wrong_place_is_told_where_it_belongs():
    service = Service("Billing", version="1")
    event = service.event("due", str)
    with pytest.raises(ContractError, match=r"description: unknown option; write schedule\(name, "):
        service.schedule("x").emit_event(
            event, expression=Cron("0 2 * * *"), payload="x", description="Nightly"
        )


def test_a_schedule_without_a_target_is_a_problem():
    service = Service("Shop")
    service.schedule("never")
    with pytest.raises(ContractError, match=r"schedule 'Shop.v1.never': it has no target"):
        service.check()


def test_a_schedule_that_was_begun_and_built_is_none():
    service = Service("Shop")
    builder = service.schedule("nightly")
    builder.emit_event("due", expression=Cron("0 2 * * *"), external=True)
    assert service.problems() == ()

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

from purista import (
    Backoff,
    Command,
    ContractError,
    Cron,
    Event,
    Every,
    Once,
    Queue,
    Schedule,
    Service,
)
from purista.contract import ConcurrencyPolicy, MissedRunPolicy


class Cycle(BaseModel):
    cycle_id: str


DUE = Event("billing.due", Cycle, service_name="Billing", service_version="1")


def schedule(**options: Any) -> Schedule:
    defaults: dict[str, Any] = {
        "name": "monthly",
        "service_name": "Billing",
        "service_version": "1",
        "target": DUE,
        "expression": Cron("0 2 1 * *"),
        "payload": {"cycle_id": "{nominal_time:%Y-%m}"},
    }
    return Schedule(**(defaults | options))


def mistakes(**options: Any) -> list[str]:
    with pytest.raises(ContractError) as caught:
        schedule(**options)
    return [str(problem) for problem in caught.value.problems]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def test_a_schedule_has_the_documented_defaults():
    one = schedule()
    assert one.id == "Billing.v1.monthly"
    assert one.target_kind == "event"
    assert (one.timezone, one.enabled, one.jitter) == ("UTC", True, timedelta(0))
    assert one.concurrency_policy is ConcurrencyPolicy.ALLOW
    assert one.missed_run_policy is MissedRunPolicy.SKIP
    assert one.misfire_grace == timedelta(minutes=10)
    assert (one.catch_up_window, one.max_catch_up) == (timedelta(days=1), 100)
    assert (one.dedupe_window, one.run_timeout) == (timedelta(days=7), timedelta(hours=1))
    assert (one.dst_gap, one.dst_overlap) == ("skip", "first")


def test_policy_words_become_members_that_equal_them():
    one = schedule(concurrency_policy="forbid", missed_run_policy="runOnce")
    assert one.concurrency_policy is ConcurrencyPolicy.FORBID
    assert one.missed_run_policy == "runOnce"


def test_all_mistakes_are_reported_at_once_with_place_and_remedy():
    found = mistakes(
        timezone="Europe/Berln",
        concurrency_policy="forbidd",
        missed_run_policy="catchup",
        max_catch_up=0,
        jitter=30,
        start_at=datetime(2027, 1, 1),
        dst_gap="jump",
        payload={"cycle_id": "{nominal_tme}"},
        idempotency_key="payload.cycle",
    )
    assert len(found) == 9
    assert any("payload.cycle_id: " in text and "nominal_time" in text for text in found)
    assert any("idempotency_key: " in text for text in found)
    assert all(text.startswith("schedule 'Billing.v1.monthly': ") for text in found)
    assert any("timezone: unknown time zone 'Europe/Berln'" in text for text in found)
    assert any("did you mean 'Europe/Berlin'?" in text for text in found)
    assert any("did you mean 'catchUp'?" in text for text in found)
    assert any("start_at: 2027-01-01 00:00:00 is naive" in text for text in found)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"name": "a/b"}, "is no name that every scheduler can carry"),
        ({"name": ""}, "is no name that every scheduler can carry"),
        ({"name": "x" * 201}, "201 characters"),
        ({"name": "x" * 195}, "the id has 206 characters"),
        ({"name": "monatliche Läufe"}, "is no name that every scheduler can carry"),
        ({"service_name": "a.b"}, "service name: 'a.b'"),
        ({"service_version": "1.2"}, "service version: '1.2'"),
        ({"service_version": 1}, "service version: 1"),
        ({"description": 5}, "description: 5 is no text"),
        ({"target": "billing.due"}, "target: 'billing.due' is no event, queue or command"),
        ({"expression": "0 2 1 * *"}, "expression: '0 2 1 * *' is no expression"),
        ({"timezone": None}, "timezone:"),
        ({"catch_up_window": timedelta(-1)}, "catch_up_window: -1 day"),
        ({"run_timeout": timedelta(0)}, "run_timeout: 0:00:00 is too short"),
        ({"max_catch_up": True}, "max_catch_up: True is no count"),
        ({"end_at": "2027"}, "end_at: str is no instant"),
        ({"start_at": utc(2027, 2, 1), "end_at": utc(2027, 1, 1)}, "is before start_at"),
        ({"enabled": "yes"}, "enabled: 'yes' is no True or False"),
        ({"provider_hints": {1: 2}}, "provider_hints: not a mapping"),
        ({"provider_hints": {"a": {1, 2}}}, "provider_hints: holds what JSON cannot say"),
        ({"tags": "nightly"}, "tags: 'nightly' is no list of texts"),
        ({"tags": ["a b"]}, "tags: "),
        ({"tags": [1]}, "tags: "),
        ({"completed_by": "billing.due"}, "the event that starts the run cannot end it"),
        ({"completed_by": "a b"}, "completed_by: 'a b' is no name"),
        ({"target": Queue("q", Cycle), "completed_by": "x"}, "only an event needs it"),
        ({"payload": {"cycle": "x"}}, "payload"),
        ({"payload": None}, "payload"),
        ({"idempotency_key": "payload.cycle"}, "idempotency_key"),
        ({"idempotency_key": "cycle_id"}, "idempotency_key"),
    ],
)
def test_each_wrong_option_is_refused_in_its_place(options: dict[str, Any], part: str):
    found = mistakes(**options)
    assert any(part in text for text in found), found


def test_bounds_that_hold_no_nominal_time_are_refused():
    found = mistakes(start_at=utc(2027, 1, 2), end_at=utc(2027, 1, 31))
    assert found == [
        "schedule 'Billing.v1.monthly': expression: no nominal time is left between start_at, end_at "
        "and exclude; widen the bounds or exclude less"
    ]


def test_bounds_are_inclusive_in_both_directions():
    one = schedule(start_at=utc(2027, 2, 1, 2), end_at=utc(2027, 4, 1, 2))
    february, april = utc(2027, 2, 1, 2), utc(2027, 4, 1, 2)
    assert list(one.between(utc(2026, 1, 1), utc(2028, 1, 1))) == [
        february,
        utc(2027, 3, 1, 2),
        april,
    ]
    assert one.count_between(utc(2026, 1, 1), utc(2028, 1, 1)) == 3
    assert one.next_after(utc(2026, 1, 1)) == february
    assert one.next_after(april) is None
    assert one.previous_before(utc(2028, 1, 1)) == april
    assert one.previous_before(february) is None
    assert one.contains(february)
    assert not one.contains(utc(2027, 1, 1, 2))
    assert not one.contains(utc(2027, 5, 1, 2))


def test_bounds_between_nominal_times_do_not_become_nominal_times():
    one = schedule(start_at=utc(2027, 1, 15), end_at=utc(2027, 3, 15))
    assert one.next_after(utc(2026, 1, 1)) == utc(2027, 2, 1, 2)
    assert one.previous_before(utc(2028, 1, 1)) == utc(2027, 3, 1, 2)


def test_a_schedule_without_bounds_asks_the_expression():
    one = schedule()
    assert one.next_after(utc(2027, 1, 1, 2)) == utc(2027, 2, 1, 2)
    assert one.previous_before(utc(2027, 1, 1, 2)) == utc(2026, 12, 1, 2)
    assert one.contains(utc(2027, 1, 1, 2))


def test_the_first_run_after_start_at_has_a_previous_slot():
    one = schedule(
        start_at=utc(2027, 2, 1, 2), payload={"cycle_id": "{previous_nominal_time:%Y-%m}"}
    )
    slot = one.slot(utc(2027, 2, 1, 2), "run")
    assert slot.previous_nominal_time == utc(2027, 1, 1, 2)
    assert one.previous_before(utc(2027, 2, 1, 2)) is None


def test_a_template_that_is_too_deep_is_refused():
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert any("payload" in text for text in mistakes(payload={"cycle_id": deep}))


def test_a_zone_object_is_taken_by_its_name():
    assert schedule(timezone=ZoneInfo("Europe/Berlin")).timezone == "Europe/Berlin"


def test_a_schedule_keeps_its_own_copy_of_what_it_was_given():
    template = {"cycle_id": "{nominal_time:%Y-%m}"}
    one = schedule(payload=template, provider_hints={"a": [1]})
    template["cycle_id"] = "changed"
    assert one.payload == {"cycle_id": "{nominal_time:%Y-%m}"}


def test_a_frozen_schedule_can_be_replaced_and_hashed():
    one = schedule()
    assert replace(one) == one
    assert len({one, replace(one)}) == 1


def test_an_event_in_completed_by_counts_by_its_name():
    assert schedule(completed_by=Event("billing.done", Cycle)).completed_by == "billing.done"


def test_a_one_shot_in_the_past_has_a_sample_to_try_its_payload():
    one = schedule(expression=Once(utc(2020, 1, 1)), payload={"cycle_id": "{nominal_time:%Y}"})
    assert one.previous_before(utc(2027, 1, 1)) == utc(2020, 1, 1)


def test_backoff_grows_up_to_its_maximum_and_spreads():
    backoff = Backoff(initial=timedelta(seconds=2), maximum=timedelta(seconds=10), jitter=0.5)
    assert backoff.delay(1, 0.5) == timedelta(seconds=2)
    assert backoff.delay(2, 0.5) == timedelta(seconds=4)
    assert backoff.delay(1000, 0.5) == timedelta(seconds=10)
    assert backoff.delay(1, 0.0) == timedelta(seconds=1)
    assert backoff.delay(1, 1.0) == timedelta(seconds=3)


def test_a_wrong_backoff_is_refused_with_all_mistakes():
    with pytest.raises(ContractError) as caught:
        Backoff(initial=timedelta(-1), factor=0.5, maximum=5, jitter=2)  # type: ignore[arg-type]
    assert [problem.place for problem in caught.value.problems] == [
        "backoff: initial",
        "backoff: maximum",
        "backoff: factor",
        "backoff: jitter",
    ]
    with pytest.raises(ContractError, match="bool is no number"):
        Backoff(factor=True)


def test_a_command_has_an_address_on_the_bridge():
    command = Command("purge", Cycle, returns=int, service_name="Billing", service_version="2")
    assert command.address == "Billing.v2.purge"


def test_a_message_with_a_wrong_name_or_schema_is_refused():
    with pytest.raises(ContractError, match="event 'a/b': name"):
        Event("a/b", Cycle)
    with pytest.raises(ContractError, match="queue 'q': max_attempts: 0 is no count"):
        Queue("q", Cycle, max_attempts=0)
    with pytest.raises(ContractError, match="command 'c': returns"):
        Command("c", Cycle, returns=5)  # type: ignore[type-var]
    with pytest.raises(ContractError, match="event 'e': schema"):
        Event("e", 5)  # type: ignore[arg-type]


def test_a_service_declares_what_it_is_told():
    service = Service("Billing", version="2")
    one = service.schedule("hourly").emit_event(
        service.event("e", int), expression=Every(timedelta(hours=1)), payload=5
    )
    assert one.id == "Billing.v2.hourly"

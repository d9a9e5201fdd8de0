import dataclasses
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, create_model

from purista.contract import Backoff, Command, Event, Queue, Schedule
from purista.exclusion import DateRange, HolidayCalendar
from purista.expression import EPOCH, Cron, Every, Once
from purista.meaning import fingerprint, meaning_of_schema
from purista.payload import Schema


class Cycle(BaseModel):
    """A billing cycle."""

    cycle_id: str
    other_id: str = "x"


class Renamed(BaseModel):
    """The same fields, said with other words."""

    model_config = ConfigDict(title="Cycle of billing")
    cycle_id: str = Field(description="the month", examples=["2027-03"])
    other_id: str = Field(default="x", title="Another")


class Longer(BaseModel):
    cycle_id: str
    other_id: str = "x"
    more: int = 0


WHO = {"service_name": "Billing", "service_version": "1"}
EVENT: Event[Any] = Event("due", Cycle, **WHO)  # type: ignore[arg-type]
QUEUE: Queue[Any] = Queue("due", Cycle, **WHO)  # type: ignore[arg-type]
COMMAND: Command[Any, Any] = Command("due", Cycle, returns=int, **WHO)  # type: ignore[arg-type]

BASE = Schedule(
    name="monthly",
    service_name="Billing",
    service_version="1",
    target=EVENT,
    expression=Cron("0 2 1 * *"),
    payload={"cycle_id": "{nominal_time:%Y-%m}"},
    idempotency_key="payload.cycle_id",
)

CHANGES: dict[str, Any] = {
    "name": "yearly",
    "service_name": "Shop",
    "service_version": "2",
    "target": Event("over", Cycle, **WHO),  # type: ignore[arg-type]
    "expression": Cron("1 2 1 * *"),
    "timezone": "Europe/Berlin",
    "concurrency_policy": "forbid",
    "missed_run_policy": "runOnce",
    "max_catch_up": 5,
    "catch_up_window": timedelta(days=2),
    "misfire_grace": timedelta(minutes=5),
    "jitter": timedelta(seconds=1),
    "start_at": datetime(2027, 1, 1, tzinfo=UTC),
    "end_at": datetime(2028, 1, 1, tzinfo=UTC),
    "exclude": (DateRange(date(2027, 3, 1), date(2027, 3, 1)),),
    "idempotency_key": "payload.other_id",
    "payload": {"cycle_id": "{nominal_time:%Y}"},
    "completed_by": "done",
    "run_timeout": timedelta(minutes=1),
    "dedupe_window": timedelta(days=1),
    "enabled": False,
    "dst_gap": "next",
    "dst_overlap": "both",
}
"""Another value for each field that is meant."""

NOT_MEANT: dict[str, Any] = {
    "description": "Other words",
    "provider_hints": {"temporal": {"taskQueue": "x"}},
    "tags": ("nightly",),
    "stated": frozenset({"timezone"}),
}
"""Another value for each field that is not."""


def test_every_field_of_a_schedule_is_known_here():
    names = {field.name for field in dataclasses.fields(Schedule)}
    assert names == CHANGES.keys() | NOT_MEANT.keys()


@pytest.mark.parametrize("field", CHANGES)
def test_the_fingerprint_changes_with_the_meaning(field: str):
    assert fingerprint(dataclasses.replace(BASE, **{field: CHANGES[field]})) != fingerprint(BASE)


@pytest.mark.parametrize("field", NOT_MEANT)
def test_the_fingerprint_stays_where_the_meaning_does(field: str):
    assert fingerprint(dataclasses.replace(BASE, **{field: NOT_MEANT[field]})) == fingerprint(BASE)


def test_all_changes_have_their_own_fingerprint():
    found = {fingerprint(dataclasses.replace(BASE, **{each: CHANGES[each]})) for each in CHANGES}
    assert len(found) == len(CHANGES)


def test_a_fingerprint_has_16_hexadecimal_digits():
    assert len(fingerprint(BASE)) == 16
    assert int(fingerprint(BASE), 16) >= 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Cron("0 2 1 * *"), Cron("00 02 1 * *")),
        (Cron("0 9 * * MON-FRI"), Cron("0 9 * * 1,2,3,4,5")),
        (Cron("@monthly"), Cron("0 0 1 * *")),
        (Cron("0 0 13 * 5"), Cron("0 0 13 * FRI", day_rule="or")),
        (Cron("0 0 2 1 * *", seconds=True), Cron("0 2 1 * *")),
        (Every(timedelta(hours=1)), Every(timedelta(minutes=60), anchor=EPOCH)),
    ],
)
def test_the_spelling_of_an_expression_is_not_meant(one: Any, other: Any):
    assert with_expression(one) == with_expression(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Cron("0 0 13 * 5"), Cron("0 0 13 * 5", day_rule="and")),
        (Every(timedelta(hours=1)), Every(timedelta(hours=2))),
        (Every(timedelta(hours=1)), Every(timedelta(hours=1), anchor=EPOCH.replace(minute=1))),
        (Every(timedelta(seconds=1)), Every(timedelta(seconds=1, microseconds=1))),
        (Once(datetime(2027, 1, 1, tzinfo=UTC)), Once(datetime(2027, 1, 2, tzinfo=UTC))),
        (Cron("0 * * * *"), Every(timedelta(hours=1))),
    ],
)
def test_other_times_are_meant(one: Any, other: Any):
    assert with_expression(one) != with_expression(other)


def test_excluded_days_are_meant_and_not_how_they_are_said():
    first, second = date(2027, 3, 1), date(2027, 3, 2)
    days = (DateRange(first, first), DateRange(second, second))
    calendar = HolidayCalendar("X", date(2027, 1, 1), date(2027, 12, 31), (first, second))
    found = [dataclasses.replace(BASE, exclude=each) for each in (days, (calendar,))]
    found.append(dataclasses.replace(BASE, exclude=(DateRange(first, second),)))
    assert len({fingerprint(each) for each in found}) == 1
    assert fingerprint(found[0]) != fingerprint(BASE)


def with_expression(expression: Any) -> str:
    return fingerprint(dataclasses.replace(BASE, expression=expression))


def with_target(target: Any) -> str:
    return fingerprint(dataclasses.replace(BASE, target=target))


def test_the_kind_of_a_target_is_meant():
    assert len({with_target(each) for each in (EVENT, QUEUE, COMMAND)}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"max_attempts": 6},
        {"lease": timedelta(minutes=1)},
        {"backoff": Backoff(factor=3)},
        {"backoff": Backoff(initial=timedelta(seconds=2))},
        {"backoff": Backoff(maximum=timedelta(seconds=2))},
        {"backoff": Backoff(jitter=0)},
        {"service_name": "Other"},
        {"service_version": "2"},
    ],
)
def test_the_options_of_a_target_are_meant(change: dict[str, Any]):
    assert with_target(Queue("due", Cycle, **(WHO | change))) != with_target(QUEUE)


def test_a_commands_timeout_is_meant_and_what_it_returns_is_not():
    other = Command("due", Cycle, returns=str, **WHO)  # type: ignore[arg-type]
    slow = Command("due", Cycle, returns=int, timeout=timedelta(1), **WHO)  # type: ignore[arg-type]
    assert with_target(other) == with_target(COMMAND)
    assert with_target(slow) != with_target(COMMAND)


def test_a_message_from_another_code_base_is_the_same_message():
    assert with_target(Event("due", Cycle, external=True, **WHO)) == with_target(EVENT)


def test_the_payloads_schema_is_meant_without_its_words():
    assert with_target(Event("due", Renamed, **WHO)) == with_target(EVENT)  # type: ignore[arg-type]
    assert with_target(Event("due", Longer, **WHO)) != with_target(EVENT)  # type: ignore[arg-type]


def test_a_schema_known_as_a_document_has_the_same_meaning():
    document = Schema.from_json_schema(Schema(Cycle).json_schema())
    assert with_target(Event("due", document, **WHO)) == with_target(EVENT)  # type: ignore[arg-type]


def test_the_order_of_keys_and_tuples_for_lists_are_not_meant():
    schema: dict[str, Any] = {"target": Event("due", object, **WHO), "idempotency_key": None}  # type: ignore[arg-type]
    one = dataclasses.replace(BASE, payload={"a": [1, 2], "b": 1}, **schema)
    other = dataclasses.replace(BASE, payload={"b": 1, "a": (1, 2)}, **schema)
    assert fingerprint(one) == fingerprint(other)
    listed = dataclasses.replace(BASE, payload=[1], **schema)
    assert fingerprint(listed) == fingerprint(dataclasses.replace(BASE, payload=(1,), **schema))
    empty = dataclasses.replace(BASE, payload=(), **schema)
    assert fingerprint(empty) == fingerprint(dataclasses.replace(BASE, payload=[], **schema))
    assert fingerprint(empty) != fingerprint(dataclasses.replace(BASE, payload=None, **schema))


@pytest.mark.parametrize(("one", "other"), [(1, True), ("1", 1), (1.5, "1.5"), (None, False)])
def test_values_of_other_types_are_meant(one: object, other: object):
    schema: dict[str, Any] = {"target": Event("due", object, **WHO), "idempotency_key": None}  # type: ignore[arg-type]
    first = dataclasses.replace(BASE, payload={"a": one}, **schema)
    second = dataclasses.replace(BASE, payload={"a": other}, **schema)
    assert fingerprint(first) != fingerprint(second)


def test_words_and_enumerations_are_the_same_policy():
    from purista.contract import ConcurrencyPolicy

    plain = dataclasses.replace(BASE, concurrency_policy="forbid")
    typed = dataclasses.replace(BASE, concurrency_policy=ConcurrencyPolicy.FORBID)
    assert fingerprint(plain) == fingerprint(typed)


def test_an_instant_is_meant_and_not_its_zone():
    berlin = datetime.fromisoformat("2027-01-01T01:00:00+01:00")
    one = dataclasses.replace(BASE, start_at=berlin)
    other = dataclasses.replace(BASE, start_at=datetime(2027, 1, 1, tzinfo=UTC))
    assert fingerprint(one) == fingerprint(other)


def test_half_a_millisecond_is_meant():
    one = dataclasses.replace(BASE, jitter=timedelta(microseconds=500))
    assert fingerprint(one) != fingerprint(BASE)


PROGRAM = """
from datetime import timedelta
from pydantic import BaseModel
from purista.contract import Event, Schedule
from purista.expression import Cron
from purista.meaning import fingerprint

class Cycle(BaseModel):
    tags: set[str] = set("abcdefgh")

print(fingerprint(Schedule(name="a", service_name="S", service_version="1",
    target=Event("e", Cycle), expression=Cron("0 2 1 * *"), payload={"tags": ["x", "y"]})))
"""


def test_a_fingerprint_is_the_same_in_every_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(3)
    }
    assert len(found) == 1


def test_a_fingerprint_is_what_it_was_in_the_last_release():
    # Changing this value makes every deployed trigger look stale: do it knowingly.
    assert fingerprint(BASE) == "7831fa2162b5c721"


def meaning(annotation: Any) -> Any:
    return meaning_of_schema(Schema(annotation).document)


def model(title: str, /, **fields: Any) -> type[BaseModel]:
    made: type[BaseModel] = create_model(title, **fields)
    return made


def test_names_of_classes_are_not_meant():
    one = model("A", inner=(model("B", id=(str, ...)), ...), other=(model("C", n=(int, ...)), ...))
    two = model("X", inner=(model("Z", id=(str, ...)), ...), other=(model("Y", n=(int, ...)), ...))
    assert meaning(one) == meaning(two)


def test_a_tree_has_a_meaning():
    class Tree(BaseModel):
        id: str
        children: "list[Tree]" = []

    class Oak(BaseModel):
        id: str
        children: "list[Oak]" = []

    assert meaning(Tree) == meaning(Oak)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (int, str),
        (int, int | None),
        (Annotated[int, Field(gt=1)], Annotated[int, Field(gt=2)]),
        (Literal["a"], Literal["b"]),
        (list[int], set[int]),
        (model("A", title=(str, ...)), model("A", name=(str, ...))),
        (model("A", title=(str, ...)), model("A", title=(int, ...))),
        (model("A", a=(int, 1)), model("A", a=(int, 2))),
        (model("A", a=(int, ...)), model("A", a=(int, 1))),
    ],
)
def test_what_a_schema_demands_is_meant(one: Any, other: Any):
    assert meaning(one) != meaning(other)


def test_the_order_of_fields_and_words_is_not_meant():
    one = model("A", a=(int, ...), b=(Literal["x", "y"], ...))
    other = model("A", b=(Literal["y", "x"], ...), a=(int, ...))
    assert meaning(one) == meaning(other)


@pytest.mark.parametrize(
    "document",
    [
        {"title": "a", "properties": {"title": {"description": "b", "type": "string"}}},
        {"properties": {"title": {"type": "string"}}, "$defs": {"Unused": {"type": "null"}}},
        {"properties": {"title": {"type": "string", "examples": ["x"]}}, "$comment": "c"},
    ],
)
def test_words_for_people_are_not_meant_and_fields_of_their_names_are(document: Any):
    assert meaning_of_schema(document) == [{"properties": {"title": {"type": "string"}}}]


def test_a_default_keeps_its_words():
    document = {"default": {"title": "x"}, "const": {"description": "y"}}
    assert meaning_of_schema(document) == [document]

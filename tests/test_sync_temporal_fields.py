"""A schedule of Temporal as fields, and back, whatever its workflow is given."""

import json

import pytest
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.schedule.v1 import Schedule

from purista.plan import Desired, Owner
from purista.sync.temporal_fields import fields_of, schedule_of

JSON = {"encoding": b"json/plain"}


def given(metadata: dict[str, bytes], data: bytes) -> Payload:
    return Payload(metadata=metadata, data=data)


def there_and_back(*payloads: Payload) -> tuple[object, Payloads]:
    """Return the field, and what a schedule with such a field gives to its workflow."""
    schedule = Schedule()
    schedule.action.start_workflow.input.CopyFrom(Payloads(payloads=payloads))
    fields = fields_of(schedule)
    desired = Desired("a", Owner("default", "S.v1.a", "1"), fields)
    back = schedule_of(desired, fields, "write")
    return fields["action.input"], back.action.start_workflow.input


@pytest.mark.parametrize(
    "values", [[{"schedule": "größe", "seconds": 1.5}], [1, "x", [True]], [{}, 0, ""]]
)
def test_arguments_in_json_are_shown_as_they_are(values):
    payloads = [given(JSON, json.dumps(each, indent=1).encode()) for each in values]
    field, back = there_and_back(*payloads)
    assert field == values
    assert [json.loads(each.data) for each in back.payloads] == values
    assert {each.metadata["encoding"] for each in back.payloads} == {b"json/plain"}


@pytest.mark.parametrize(
    "payload",
    [
        given({"encoding": b"binary/plain"}, b"\xff\0"),
        given({"encoding": b"json/plain", "messageType": b"x"}, b"{}"),
        given({"encoding": b"binary/null"}, b""),
        given(JSON, b"null"),
        given(JSON, b"{no json"),
        given({}, b"{}"),
    ],
)
def test_what_is_no_plain_json_stays_to_the_byte(payload):
    field, back = there_and_back(given(JSON, b"1"), payload)
    assert isinstance(field, dict)
    assert list(back.payloads) == [given(JSON, b"1"), payload]


def test_a_workflow_without_arguments_has_none():
    field, back = there_and_back()
    assert (field, list(back.payloads)) == (None, [])

import json
import math
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from purista.errors import TriggerError
from purista.trigger import UNSET, Trigger, run_id_of

SLOT = datetime(2027, 3, 1, 1, tzinfo=UTC)

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cn"]), min_size=1)
triggers = st.builds(
    Trigger,
    schedule_id=words,
    nominal_time=st.none() | st.datetimes(timezones=st.just(UTC)),
    source=words,
    id=words,
    fingerprint=st.none() | words,
    data=st.just(UNSET) | json_values,
    manual=st.booleans(),
)


def trigger(**changes):
    return Trigger(
        **{"schedule_id": "billing.v1.close", "nominal_time": SLOT, "source": "cron"} | changes
    )


def refused(**changes):
    with pytest.raises(TriggerError) as caught:
        trigger(**changes)
    return str(caught.value)


def test_the_nominal_time_is_kept_in_utc():
    berlin = datetime(2027, 3, 1, 2, tzinfo=ZoneInfo("Europe/Berlin"))
    assert trigger(nominal_time=berlin) == trigger()
    assert trigger(nominal_time=berlin).nominal_time.tzinfo is UTC


def test_both_passes_of_an_overlap_are_two_nominal_times():
    first = datetime(2027, 10, 31, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert trigger(nominal_time=first).id != trigger(nominal_time=first.replace(fold=1)).id


def test_a_trigger_cannot_be_changed():
    with pytest.raises(AttributeError):
        trigger().manual = True


def test_data_is_a_private_copy():
    data = {"list": [1]}
    made = trigger(data=data)
    data["list"].append(2)
    made.to_cloudevent()["data"]["list"].append(3)
    assert made.data == {"list": [1]}


def test_null_is_data_and_no_data_is_not():
    assert trigger(data=None).has_data
    assert not trigger().has_data
    assert trigger(data=None) != trigger()


def test_a_trigger_with_data_can_be_hashed():
    assert len({trigger(data={"a": 1}), trigger(data={"a": 1}), trigger()}) == 2


def test_a_trigger_shows_no_data():
    assert "secret" not in repr(trigger(data="secret"))
    assert repr(UNSET) == "UNSET"


def test_an_id_that_is_not_given_is_that_of_the_run():
    assert trigger().id == run_id_of("billing.v1.close", SLOT)
    assert trigger(data=1).id == run_id_of("billing.v1.close", SLOT, 1)
    assert trigger(nominal_time=None).id == run_id_of("billing.v1.close", None)
    assert trigger(id="own").id == "own"


@pytest.mark.parametrize("name", ["schedule_id", "source"])
@pytest.mark.parametrize("value", ["", None, 1, "x" * 1025, "a\nb", "a\x7fb", "\ud800", "\uffff"])
def test_a_text_that_no_event_can_carry_is_refused(name: str, value: object):
    attribute = {"schedule_id": "subject"}.get(name, name)
    assert refused(**{name: value}).startswith(f"trigger: attribute '{attribute}': it ")


def test_ids_and_fingerprints_are_texts_too():
    assert refused(id="\0") == (
        "trigger: attribute 'id': it has control characters or broken Unicode; send plain text"
    )
    assert refused(fingerprint="") == (
        "trigger: attribute 'puristafingerprint': it is missing; send the one of the manifest, or None"
    )


def test_everything_that_is_wrong_is_said_at_once():
    text = refused(schedule_id="", source=7, nominal_time=datetime(2027, 3, 1), data={1})
    assert text.splitlines() == [
        "trigger: attribute 'subject': it is missing; send the schedule's id",
        "trigger: attribute 'source': it is a number; send text",
        "trigger: attribute 'time': it has no offset from UTC; "
        "end it with Z or an offset such as +01:00",
        "trigger: attribute 'data': set is no JSON value; send JSON",
    ]


@pytest.mark.parametrize("value", ["2027-03-01T01:00:00Z", 0, date(2027, 3, 1)])
def test_a_nominal_time_is_a_datetime(value: object):
    assert "send an aware datetime" in refused(nominal_time=value)


def test_a_nominal_time_outside_of_the_calendar_is_refused():
    east = timezone(timedelta(hours=1))
    assert "it is out of range" in refused(nominal_time=datetime.min.replace(tzinfo=east))


@pytest.mark.parametrize(
    "data",
    [
        math.nan,
        math.inf,
        b"secret",
        {1: "secret"},
        {"secret"},
        SLOT,
        "\ud800",
        {"\ud800": 1},
        object,
    ],
)
def test_data_that_is_no_json_is_refused_without_being_told(data: object):
    text = refused(data=data)
    assert text.startswith("trigger: attribute 'data': ")
    assert "secret" not in text


def test_data_that_is_nested_too_deep_is_refused():
    data: list = []
    for _ in range(100_000):
        data = [data]
    assert "nested deeper than 100 levels" in refused(data=data)


def test_data_with_a_number_that_python_does_not_write_is_refused():
    assert "a number with too many digits" in refused(data=10**5000)


# The run id


def test_a_run_id_is_a_uuid_of_version_8():
    made = uuid.UUID(run_id_of("billing.v1.close", SLOT))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)


def test_a_run_id_never_changes_between_versions_of_this_package():
    assert run_id_of("billing.v1.close", SLOT) == "9ce3111b-65d5-8ce0-bcc5-2486c4c93b6c"
    data = {"b": [1, 2.5, None, True], "a": "é"}
    assert run_id_of("billing.v1.close", SLOT, data) == "34226c82-eb3e-87ad-a161-299afb52e351"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", SLOT), ("b", SLOT)),
        (("a", SLOT), ("a", SLOT + timedelta(microseconds=1))),
        (("a", SLOT), ("a", None)),
        (("a", SLOT), ("a", SLOT, None)),
        (("a", SLOT, None), ("a", SLOT, "null")),
        (("a", SLOT, 1), ("a", SLOT, "1")),
        (("a", SLOT, 1), ("a", SLOT, True)),
        (("a", SLOT, [1, 2]), ("a", SLOT, [2, 1])),
        (("a", SLOT, 0.5), ("a", SLOT, 0.25)),
        (("a", SLOT, 2**53), ("a", SLOT, 2**53 + 1)),
    ],
)
def test_what_differs_has_another_run_id(one: tuple, other: tuple):
    assert run_id_of(*one) != run_id_of(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (1, 1.0),
        ({"a": [0]}, {"a": [-0.0]}),
        ([1, 2], (1, 2)),
    ],
)
def test_the_same_data_has_the_same_run_id(one: object, other: object):
    assert run_id_of("a", SLOT, one) == run_id_of("a", SLOT, other)


def test_the_same_instant_has_the_same_run_id():
    tokyo = SLOT.astimezone(ZoneInfo("Asia/Tokyo"))
    assert run_id_of("a", tokyo) == run_id_of("a", SLOT)


# Events and back


def test_an_event_is_what_the_docs_say():
    made = trigger(fingerprint="f1", manual=True, data={"cycle_id": "2027-03"})
    assert made.to_cloudevent() == {
        "specversion": "1.0",
        "id": made.id,
        "source": "cron",
        "type": "dev.purista.schedule.trigger",
        "subject": "billing.v1.close",
        "time": "2027-03-01T01:00:00Z",
        "puristafingerprint": "f1",
        "puristamanual": "true",
        "datacontenttype": "application/json",
        "data": {"cycle_id": "2027-03"},
    }


def test_an_event_has_nothing_that_the_trigger_has_not():
    bare = trigger(nominal_time=None).to_cloudevent()
    assert list(bare) == ["specversion", "id", "source", "type", "subject"]


def test_the_names_of_extensions_are_ones_that_every_binding_can_carry():
    event = trigger(fingerprint="f1", manual=True).to_cloudevent()
    assert all(name.isalnum() and name.islower() and len(name) <= 20 for name in event)


@given(triggers)
def test_a_trigger_comes_back_from_its_event(made: Trigger):
    assert Trigger.from_cloudevent(made.to_cloudevent()) == made


@given(triggers)
def test_a_trigger_comes_back_from_json(made: Trigger):
    back = Trigger.from_json(json.dumps(made.to_cloudevent()).encode())
    assert back == made
    assert back.has_data == made.has_data

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from purista.errors import PayloadError
from purista.payload import (
    Schema,
    Slot,
    key_of,
    key_problems,
    render,
    template_problems,
    uses_previous,
)

NOMINAL = datetime(2027, 3, 1, 1, tzinfo=UTC)
PREVIOUS = datetime(2027, 2, 1, 1, tzinfo=UTC)
SLOT = Slot(NOMINAL, PREVIOUS, "Europe/Berlin", "billing.v1.monthly", "run-1")
FIRST = Slot(NOMINAL, None, "Europe/Berlin", "billing.v1.monthly", "run-1")


class Customer(BaseModel):
    id: str
    age: int = 3
    nick: str | None = None


class Cycle(BaseModel):
    cycle_id: str
    year: int = 2000
    share: float | None = None
    customer: Customer | None = None
    items: list[Customer] = []


ANY: Schema[Any] = Schema(object)


def rendered(template: object, schema: Schema[Any] = ANY, slot: Slot = SLOT) -> Any:
    return render(template, slot, schema)


def problems(template: object, schema: Schema[Any] = ANY, slot: Slot = SLOT) -> list[str]:
    return [str(each) for each in template_problems(template, schema, [slot], "payload")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{nominal_time}", "2027-03-01T01:00:00Z"),
        ("{nominal_time:%Y-%m}", "2027-03"),
        ("{nominal_time:%H:%M %Z}", "02:00 CET"),
        ("{previous_nominal_time}", "2027-02-01T01:00:00Z"),
        ("{previous_nominal_time:%B %Y}", "February 2027"),
        ("{schedule_id}/{run_id}", "billing.v1.monthly/run-1"),
        ("{{nominal_time}} is {{}}", "{nominal_time} is {}"),
        ("100 % {nominal_time:%d%%}", "100 % 01%"),
        ("", ""),
        ("plain", "plain"),
        ("{nominal_time:}", "2027-03-01T01:00:00Z"),
    ],
)
def test_placeholders_in_a_text_are_filled(text: str, expected: str):
    assert problems(text) == []
    assert rendered(text) == expected


def test_everything_but_the_texts_of_a_template_passes_through():
    template = {"{nominal_time}": [1, 2.5, True, None, {"deep": ("{run_id}",)}]}
    assert rendered(template) == {"{nominal_time}": [1, 2.5, True, None, {"deep": ["run-1"]}]}


def test_a_fraction_of_a_second_is_written_only_where_there_is_one():
    slot = Slot(NOMINAL.replace(microsecond=250000), None, "UTC", "a", "b")
    assert rendered("{nominal_time}", slot=slot) == "2027-03-01T01:00:00.250000Z"


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (int, 3),
        (float, 3),
        (int | None, 3),
        (str, "03"),
        (int | str, "03"),
        (object, "03"),
        (Decimal, "03"),
        (Literal[3], 3),
        (Literal["03"], "03"),
        (bool, "03"),
    ],
)
def test_a_lone_placeholder_is_a_number_where_the_schema_wants_only_that(
    annotation: Any, expected: object
):
    found = rendered("{nominal_time:%m}", Schema(annotation))
    assert (found, type(found)) == (expected, type(expected))


def test_numbers_are_found_through_references_lists_maps_and_unions():
    class Inner(BaseModel):
        month: int

    class Outer(BaseModel):
        one: Inner | None
        many: list[Inner]
        named: dict[str, int]
        pair: tuple[str, int]

    template = {
        "one": {"month": "{nominal_time:%m}"},
        "many": [{"month": "{nominal_time:%m}"}],
        "named": {"x": "{nominal_time:%m}"},
        "pair": ["{nominal_time:%m}", "{nominal_time:%m}"],
    }
    assert problems(template, Schema(Outer)) == []
    assert rendered(template, Schema(Outer)) == {
        "one": {"month": 3},
        "many": [{"month": 3}],
        "named": {"x": 3},
        "pair": ["03", 3],
    }


def test_text_around_a_placeholder_keeps_it_a_text():
    class Year(BaseModel):
        year: int

    template = {"year": "{nominal_time:%Y}{nominal_time:%m}"}
    assert rendered(template, Schema(Year)) == {"year": "202703"}


def test_what_is_no_number_stays_a_text_and_is_refused():
    class Year(BaseModel):
        year: int

    found = problems({"year": "{schedule_id}"}, Schema(Year))
    assert found == ["payload.year: must be an integer"]


def test_a_strict_model_takes_what_a_template_gives():
    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        at: datetime
        month: int

    template = {"at": "{nominal_time}", "month": "{nominal_time:%m}"}
    assert problems(template, Schema(Strict)) == []
    body = Schema(Strict).check(rendered(template, Schema(Strict)))
    assert json.loads(body) == {"at": "2027-03-01T01:00:00Z", "month": 3}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{nominal_tim}", "unknown placeholder '{nominal_tim}'; did you mean '{nominal_time}'"),
        ("{nominal_time.year}", "did you mean '{nominal_time}', or with a format"),
        ("{run_id[0]}", "did you mean '{run_id}'?"),
        ("{cycle}", "use one of '{nominal_time}'"),
        ("{}", "unknown placeholder '{}'"),
        ("{0}", "unknown placeholder '{0}'"),
        ('{"a": 1}', "'{{' and '}}' for plain braces"),
        ("{nominal_time!r}", "'!r' after 'nominal_time' is not taken; write '{nominal_time}'"),
        ("{run_id:>5}", "'run_id' takes no format"),
        ("{nominal_time", "a brace is not closed or not opened; write '{{' and '}}'"),
        ("nominal_time}", "a brace is not closed or not opened"),
        ("{nominal_time:%s}", "'%s' differs between platforms"),
        ("{nominal_time:%-d}", "'%-d' differs between platforms; use %d"),
        ("{nominal_time:%Q}", "unknown directive '%Q'; use one of %%,"),
        ("{nominal_time:YYYY}", "the format 'YYYY' has no directive; write it as in %Y-%m-%d"),
        ("{nominal_time:%Y{run_id}}", "a brace inside a format"),
        ("{nominal_time:%Y%}", "write %% for a percent sign"),
    ],
)
def test_a_bad_placeholder_is_named_with_its_path_and_a_remedy(text: str, part: str):
    found = problems({"a": ["x", text]})
    assert len(found) == 1
    assert found[0].startswith("payload.a.1: ")
    assert part in found[0]


def test_attributes_are_out_of_reach():
    found = problems("{nominal_time.__class__.__init__.__globals__}")
    assert "did you mean '{nominal_time}'" in found[0]


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (NOMINAL, "payload.x: datetime is no JSON value"),
        ({1, 2}, "payload.x: set is no JSON value"),
        (float("nan"), "payload.x: NaN is no JSON number"),
        (float("-inf"), "payload.x: infinity is no JSON number"),
        ({1: 2}, "payload.x: a key is int"),
        (b"x", "payload.x: bytes is no JSON value"),
        ("\ud800", "payload.x: is a text that UTF-8 cannot say"),
    ],
)
def test_a_template_holds_json_only(value: object, part: str):
    assert part in problems({"x": value})[0]


def test_a_template_without_bottom_is_refused():
    endless: list[object] = []
    endless.append(endless)
    assert "is nested deeper than 100 levels" in problems(endless)[0]


def test_all_mistakes_of_a_template_are_told_at_once():
    found = problems({"cycle_id": "{a}{run_id!s}", "yeer": "{b}"}, Schema(Cycle))
    assert len(found) == 4
    assert "payload.yeer: is not a field of the payload schema; did you mean 'year'?" in found


def test_a_field_that_the_schema_would_drop_in_silence_is_refused():
    found = problems({"cycle_id": "x", "customer": {"id": "1", "zzz": 1}}, Schema(Cycle))
    remedy = "use: age, id, nick"
    assert found == [
        f"payload.customer.zzz: is not a field of the payload schema; {remedy}",
    ]


def test_more_fields_are_fine_where_the_schema_takes_them():
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        a: int

    assert problems({"a": 1, "b": 2}, Schema(Open)) == []
    assert problems({"b": 2}, Schema(dict[str, int])) == []


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({"cycle_id": 5}, "payload.cycle_id: is integer, and the payload schema wants string"),
        ({"cycle_id": "x", "year": "5"}, "payload.year: is string, and the payload schema wants"),
        ({"cycle_id": "x", "items": {}}, "payload.items: is object, and the payload schema wants"),
        ([], "payload: is array, and the payload schema wants object"),
        ({}, "payload.cycle_id: is required"),
    ],
)
def test_a_literal_of_the_wrong_type_is_refused_although_pydantic_might_convert_it(
    template: object, expected: str
):
    assert problems(template, Schema(Cycle))[0].startswith(expected)


def test_a_whole_float_is_an_integer_and_an_integer_is_a_number():
    class Numbers(BaseModel):
        whole: int
        real: float

    assert problems({"whole": 5.0, "real": 5}, Schema(Numbers)) == []
    assert problems({"whole": 5.5, "real": 5}, Schema(Numbers)) != []


def test_the_rule_that_a_sample_breaks_is_named():
    class Bounded(BaseModel):
        day: int = Field(gt=15)

    found = problems({"day": "{nominal_time:%d}"}, Schema(Bounded))
    assert found == ["payload.day: must be greater than 15"]


def test_the_previous_time_is_refused_where_there_is_none():
    template = {"cycle_id": "{previous_nominal_time:%Y-%m}"}
    assert uses_previous(template)
    assert not uses_previous(["{nominal_time}", 5])
    found = problems(template, Schema(Cycle), FIRST)
    assert found == [
        "payload: uses '{previous_nominal_time}', and the schedule has no earlier time; "
        "use '{nominal_time}'"
    ]
    with pytest.raises(PayloadError, match="no earlier nominal time"):
        rendered(template, Schema(Cycle), FIRST)


def test_a_brace_that_is_wrong_uses_no_previous_time():
    assert not uses_previous("{previous_nominal_time")


class AllDefaults(BaseModel):
    days: int = 30


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [(AllDefaults, {}), (dict, {}), (object, {}), (None, None), (int | None, None)],
)
def test_without_a_template_the_payload_is_empty_or_null(annotation: Any, expected: object):
    assert problems(None, Schema(annotation)) == []
    assert rendered(None, Schema(annotation)) == expected


@pytest.mark.parametrize(
    ("annotation", "wants"),
    [(Cycle, "the fields cycle_id"), (int, "integer"), (list[int], "array")],
)
def test_without_a_template_required_fields_are_named(annotation: Any, wants: str):
    found = problems(None, Schema(annotation))
    assert found == [
        f"payload: missing, and the payload schema wants {wants}; give a payload template"
    ]


def test_the_trigger_may_bring_the_payload_where_the_schema_says_so():
    document = Schema(Cycle).json_schema()
    assert problems(None, Schema.from_json_schema(document)) != []
    schema = Schema.from_json_schema(document, template_optional=True)
    assert problems(None, schema) == []
    assert rendered(None, schema) is None


@dataclass
class Plain:
    a: str


class Typed(TypedDict):
    there: str
    maybe: NotRequired[str]


class Tree(BaseModel):
    id: int
    children: "list[Tree]" = []


class Card(BaseModel):
    kind: Literal["card"]
    number: str


class Cash(BaseModel):
    kind: Literal["cash"]
    number: int


class Payment(BaseModel):
    method: Card | Cash = Field(discriminator="kind")
    other: Card | int


@pytest.mark.parametrize(
    ("annotation", "path"),
    [
        (Cycle, "payload.cycle_id"),
        (Cycle, "payload.year"),
        (Cycle, "payload.items.0.id"),
        (Cycle, "payload.items.0.age"),
        (Plain, "payload.a"),
        (Typed, "payload.there"),
        (Tree, "payload.children.0.children.3.id"),
        (Payment, "payload.method.number"),
        (Payment, "payload.method.kind"),
        (str, "payload"),
        (int, "payload"),
        (bool, "payload"),
        (Literal["a", 1], "payload"),
        (tuple[int, str], "payload.1"),
        (list[str], "payload.0"),
    ],
)
def test_a_path_to_a_value_that_is_always_there_is_a_key(annotation: Any, path: str):
    assert key_problems(path, Schema(annotation), "idempotency_key") == []


@pytest.mark.parametrize(
    ("annotation", "path", "part"),
    [
        (
            Cycle,
            "payload.cycel_id",
            "has no field 'cycel_id' there; did you mean 'payload.cycle_id'",
        ),
        (Cycle, "payload.items.0.ide", "did you mean 'payload.items.0.id'?"),
        (Cycle, "payload.zzz", "use one of: payload.customer, payload.cycle_id, payload.items"),
        (Cycle, "payload.cycle_id.x", "declare the field in the payload schema"),
        (Cycle, "payload.customer.id", "the field 'id' is not there in every payload"),
        (Cycle, "payload.share", "'payload.share' may be null"),
        (Cycle, "payload.items", "'payload.items' is no single value but array"),
        (Cycle, "payload.items.first", "has no field 'first' there"),
        (Cycle, "payload.items.0.nick", "may be null"),
        (Cycle, "payload", "'payload' is no single value but object"),
        (Cycle, "payload.", "has no field '' there"),
        (Cycle, "cycle_id", "'cycle_id' is no path; write it as 'payload.field'"),
        (Cycle, "", "'' is no path"),
        (Cycle, 5, "int is no path"),
        (Typed, "payload.maybe", "is not required and has no default"),
        (Payment, "payload.other.number", "the field 'number' is not there in every payload"),
        (dict[str, str], "payload.x", "is not required and has no default"),
        (tuple[int, str], "payload.2", "has no field '2' there"),
        (object, "payload", "the payload schema does not say what 'payload' is"),
        (object, "payload.x", "has no field 'x' there"),
        (None, "payload", "may be null"),
    ],
)
def test_a_path_that_is_no_key_is_refused_with_a_remedy(annotation: Any, path: Any, part: str):
    found = key_problems(path, Schema(annotation), "idempotency_key")
    assert len(found) == 1
    assert found[0].place == "idempotency_key"
    assert part in str(found[0])


def test_a_default_that_only_code_can_make_is_no_key():
    class Made(BaseModel):
        id: str = Field(default_factory=lambda: "x")

    found = key_problems("payload.id", Schema(Made), "idempotency_key")
    assert "has no default in the schema" in str(found[0])


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("payload.a", '{"a": "x"}', "x"),
        ("payload.a.b", '{"a": {"b": 5}}', "5"),
        ("payload.a.1", '{"a": ["x", "ü"]}', "ü"),
        ("payload", "true", "true"),
        ("payload", "false", "false"),
        ("payload", "7.0", "7"),
        ("payload", "7.5", "7.5"),
        ("payload", "-0.0", "0"),
        ("payload", "1e3", "1000"),
        ("payload", '"7"', "7"),
        ("payload", '""', ""),
        ("payload.0", '{"0": "digit"}', "digit"),
    ],
)
def test_a_key_has_one_text_however_it_is_written(path: str, body: str, expected: str):
    assert key_of(path, body.encode()) == expected


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("payload.a", '{"b": "secret"}'),
        ("payload.a", '{"a": null}'),
        ("payload.a", '{"a": ["secret"]}'),
        ("payload.1", '["secret"]'),
        ("payload.x", '["secret"]'),
        ("payload.a", '"secret"'),
        ("payload", "secret"),
        ("payload", "1e999"),
        ("payload", "NaN"),
        ("payload", "[" * 100_000),
        ("payload", "9" * 5000),
    ],
)
def test_where_there_is_no_key_the_error_holds_no_payload(path: str, body: str):
    with pytest.raises(PayloadError) as caught:
        key_of(path, body.encode())
    assert str(caught.value) == f"{path}: no string, number or boolean is there, so there is no key"
    assert caught.value.__context__ is None


def test_a_key_that_the_schema_promises_is_in_every_payload_it_takes():
    schema = Schema(Cycle)
    body = schema.check({"cycle_id": "2027-03"})
    assert key_of("payload.year", body) == "2000"


@given(st.text())
def test_any_text_is_a_template_or_is_refused_with_reason(text: str):
    found = problems({"a": text})
    if found:
        assert all(each.startswith("payload.a: ") for each in found)
    else:
        assert isinstance(rendered({"a": text})["a"], str)


@given(st.text(alphabet="ab{}:!%Y."))
def test_escaped_braces_come_back_as_they_were(text: str):
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert problems(escaped) == []
    assert rendered(escaped) == text


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(json_data)
def test_a_template_without_texts_is_its_own_payload(template: object):
    if template is None:
        return
    assert problems(template) == []
    assert rendered(template) == template
